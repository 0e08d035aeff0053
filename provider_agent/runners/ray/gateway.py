# SPDX-License-Identifier: Apache-2.0
"""The process that has joined Ray's cluster for an agent; the only place that imports Ray.

gateway.py DESCRIPTOR: requests come and answers go over that socket, one at a time. When the other
end is gone, so is this process. What it has made in the cluster is detached, and stays.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

from provider_agent.runners.ray.node import Node, terms_digest
from provider_agent.runners.ray.wire import Line

LABEL = "teraproof.io/machine"
"""The label of a Ray node with the owner's name for the machine. A node's own id changes whenever
Ray is started again.
"""

_PROBE_SECONDS = 45
_PROBE = """
import sys
try:
    from ray._raylet import GcsClient
    from ray.exceptions import AuthenticationError
except ImportError:
    sys.stdout.write("missing")
    sys.exit()
try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
except AuthenticationError:
    sys.stdout.write("closed")
else:
    sys.stdout.write("open")
"""


class _Ray(Protocol):
    """What is used of Ray; it is not there where mypy runs."""

    def init(self, **named: Any) -> Any: ...
    def nodes(self) -> list[dict[str, Any]]: ...
    def remote(self, actor: type) -> Any: ...
    def wait(self, refs: list[Any], **named: Any) -> tuple[list[Any], list[Any]]: ...
    def get(self, ref: Any, **named: Any) -> Any: ...
    def kill(self, actor: Any, **named: Any) -> None: ...


class _Away(Exception):
    """One line for the agent; `settings` where only the owner can mend it."""

    def __init__(self, line: str, *, settings: bool = False) -> None:
        super().__init__(line)
        self.settings = settings


class Gateway:
    """See the module."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        self._terms = terms
        self._tag = hashlib.sha256(str(terms["agent"]).encode()).hexdigest()[:16]
        self._probe()
        self._ray = cast("_Ray", importlib.import_module("ray"))
        self._show_token()
        try:
            self._ray.init(
                address=terms["address"],
                namespace=self._namespace,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:  # noqa: BLE001  # whatever Ray says
            raise _Away(_words(error)) from None
        # Ray takes signals over; this process ends like any other.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._groups = importlib.import_module("ray.util.placement_group")
        self._remove = importlib.import_module("ray.util").remove_placement_group
        self._state = importlib.import_module("ray._private.state").state
        self._pinned = importlib.import_module(
            "ray.util.scheduling_strategies"
        ).NodeAffinitySchedulingStrategy
        self._actor = self._ray.remote(Node)

    @property
    def _namespace(self) -> str:
        return f"teraproof-{self._tag}"

    def _probe(self) -> None:
        """Whether Ray's head turns away who has no token. Raises _Away."""
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        try:
            done = subprocess.run(
                [sys.executable, "-c", _PROBE, str(self._terms["address"])],
                env=surroundings | {"RAY_AUTH_MODE": "disabled"},
                capture_output=True,
                text=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _Away("its head does not answer") from None
        if done.stdout == "open":
            raise _Away(
                f"Ray at {self._terms['address']} lets in whoever comes; start all of it again "
                "with RAY_AUTH_MODE=token",
                settings=True,
            )
        if done.stdout == "missing":
            raise _Away("Ray is not installed; install the extra `ray`", settings=True)
        if done.stdout != "closed":
            raise _Away("its head does not answer")

    def _show_token(self) -> None:
        """Whether Ray's head takes the token: Ray itself would try for half a minute."""
        client = importlib.import_module("ray._raylet").GcsClient
        refused = importlib.import_module("ray.exceptions").AuthenticationError
        try:
            client(address=str(self._terms["address"])).get_all_node_info(timeout=10)
        except refused:
            raise _Away(
                f"Ray at {self._terms['address']} refuses the token; copy the file of its head",
                settings=True,
            ) from None
        except Exception as error:  # noqa: BLE001  # whatever Ray says
            raise _Away(_words(error)) from None

    def do(self, asked: Mapping[str, Any]) -> Any:
        """Answers one request."""
        what = str(asked["do"])
        if what == "survey":
            return self._survey(str(asked["certificate"]), float(asked["seconds"]))
        if what == "hold":
            return self._hold(
                str(asked["lease"]),
                asked["resources"],
                list(asked["machines"]),
                float(asked["seconds"]),
            )
        if what == "release":
            return self._release(str(asked["lease"]))
        raise ValueError(what)

    # ------------------------------------------------------------------ machines

    def _nodes(self) -> list[tuple[str, dict[str, Any]]]:
        """Ray's nodes that are alive and have a name, by name."""
        found = self._ray.nodes()
        return [
            (str(node["Labels"][LABEL]), node)
            for node in found
            if node["Alive"] and node["Labels"].get(LABEL)
        ]

    def _survey(self, certificate: str, seconds: float) -> dict[str, Any]:
        nodes = self._nodes()
        often = Counter(name for name, _ in nodes)
        machines: dict[str, dict[str, Any]] = {}
        asked: dict[Any, str] = {}
        actors: dict[str, Any] = {}
        free = self._state.available_resources_per_node()
        for name, node in nodes:
            facts = {
                "machine": name,
                "fault": "Ray has two nodes of this name" if often[name] > 1 else "",
                "there": _amounts(node["Resources"]),
                "free": _amounts(free.get(node["NodeID"], {})),
            }
            machines[name] = facts
            if not facts["fault"]:
                actors[name] = self._node(name, node)
                asked[actors[name].contact.remote(certificate)] = name
        ready, late = (
            self._ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
            if (asked)
            else ([], [])
        )
        for ref in late:
            machines[asked[ref]]["fault"] = "its process has not begun"
        for ref in ready:
            facts = machines[asked[ref]]
            try:
                found = dict(self._ray.get(ref, timeout=1))
            except Exception as error:  # noqa: BLE001  # whatever Ray or the machine says
                facts["fault"] = _words(error)
            else:
                if found.pop("terms") != terms_digest(self._terms):
                    # Its successor begins at the next look; what runs there goes on.
                    self._ray.kill(actors[asked[ref]], no_restart=True)
                    facts["fault"] = "its process begins again, with new settings"
                elif not found.pop("token"):
                    facts["fault"] = "Ray runs there without RAY_AUTH_MODE=token"
                else:
                    facts |= found
        self._sweep()
        holds = {lease: machine for lease, (machine, _) in self._holds().items()}
        return {"machines": list(machines.values()), "holds": holds, "addresses": self._addresses()}

    def _addresses(self) -> list[str]:
        """Where Ray is, and all nodes that it has had: one that is away may listen all the same."""
        found = {str(node["NodeManagerAddress"]) for node in self._ray.nodes()}
        host = str(self._terms["address"]).rpartition(":")[0]
        with suppress(OSError):
            found |= {str(one[4][0]) for one in socket.getaddrinfo(host, None, socket.AF_INET)}
        return sorted(found)

    def _node(self, name: str, node: Mapping[str, Any]) -> Any:
        """Our actor on a node of Ray, made where it is not there."""
        return self._actor.options(
            name=f"{name} {node['NodeID']}",
            namespace=self._namespace,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=4,
            scheduling_strategy=self._pinned(node["NodeID"], soft=False),
        ).remote(dict(self._terms), name, node["NodeManagerAddress"])

    # ------------------------------------------------------------------ resources

    def _groups_of_mine(self) -> dict[str, Any]:
        """Placement groups of this agent that are not gone, by name without the tag."""
        found = self._groups.placement_group_table()
        start = f"{self._namespace}/"
        return {
            group["name"].removeprefix(start): group
            for group in found.values()
            if group["name"].startswith(start) and group["state"] != "REMOVED"
        }

    def _holds(self) -> dict[str, tuple[str, Any]]:
        """Machine and group of each lease for which resources are held."""
        parts = ((*name.split("/", 1), group) for name, group in self._groups_of_mine().items())
        return {lease: (machine, group) for machine, lease, group in parts if machine}

    def _hold(
        self, lease: str, resources: Mapping[str, float], machines: list[str], seconds: float
    ) -> str:
        held = self._holds().get(lease)
        if held is not None:
            return held[0]
        if not machines:
            return ""
        machine = machines[0]
        if len(machines) > 1:
            machine = self._choice(lease, resources, machines, seconds)
        if not machine:
            return ""
        group = self._group(f"{machine}/{lease}", resources, machine)
        if self._made(group, seconds):
            return machine
        self._remove(group)
        return ""

    def _choice(
        self, lease: str, resources: Mapping[str, float], machines: list[str], seconds: float
    ) -> str:
        """Where Ray would put a lease. A group that may be anywhere does not stay: when its node
        dies, Ray moves it to another one, and the lease is where it was.
        """
        self._sweep()
        # A name of its own: that of a group that is gone is free some time after it.
        trial = f"/{lease}/{secrets.token_hex(4)}"
        group = self._group(trial, resources, f"in({','.join(machines)})")
        try:
            if not self._made(group, seconds):
                return ""
            where = self._groups.placement_group_table(group)["bundles_to_node_id"][0]
            names = {node["NodeID"]: name for name, node in self._nodes()}
            return names.get(where, "")
        finally:
            self._remove(group)

    def _group(self, name: str, resources: Mapping[str, float], machines: str) -> Any:
        return self._groups.placement_group(
            [dict(resources)],
            strategy="STRICT_PACK",
            name=f"{self._namespace}/{name}",
            lifetime="detached",
            bundle_label_selector=[{LABEL: machines}],
        )

    def _made(self, group: Any, seconds: float) -> bool:
        """Whether Ray finds room. What fits no machine at all is known at once."""
        until = time.monotonic() + seconds
        while True:
            table = self._groups.placement_group_table(group)
            if table.get("state") == "CREATED":
                return True
            if (
                table.get("stats", {}).get("scheduling_state") == "INFEASIBLE"
                or time.monotonic() > until
            ):
                return False
            time.sleep(0.02)

    def _sweep(self) -> None:
        """Remove what an agent that died in `_choice` has left; one thing is asked at a time."""
        for name, group in self._groups_of_mine().items():
            if name.startswith("/"):
                self._drop(group)

    def _drop(self, group: Mapping[str, Any]) -> None:
        self._remove(self._groups.PlacementGroup(_group_id(group["placement_group_id"])))

    def _release(self, lease: str) -> None:
        for name, group in self._groups_of_mine().items():
            if name.split("/", 1)[1] == lease:
                self._drop(group)


def _group_id(text: str) -> Any:
    kind = importlib.import_module("ray._raylet").PlacementGroupID
    return kind(bytes.fromhex(text))


def _amounts(resources: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(amount)
        for name, amount in resources.items()
        if not name.startswith("node:") and "_group_" not in name
    }


def _words(error: Exception) -> str:
    """The last line of what Ray says: the machine's own error, where there is one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


def main(descriptor: int) -> None:
    """Serves one agent until it is gone."""
    opened = socket.socket(fileno=descriptor)
    line = Line(opened)
    try:
        gateway = Gateway(line.hear())
    except _Away as error:
        line.tell({"error": str(error), "settings": error.settings})
        return
    line.tell({"value": None})
    asks: list[dict[str, Any]] = []
    come = threading.Semaphore(0)

    def listen() -> None:
        # Apart from the work, so that the agent's end is noticed while Ray makes us wait.
        with suppress(OSError, ValueError):
            while True:
                asks.append(line.hear())
                come.release()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        come.acquire()
        try:
            answer = {"value": gateway.do(asks.pop(0))}
        except Exception as error:  # noqa: BLE001  # the agent has to hear whatever Ray says
            answer = {"error": _words(error)}
        line.tell(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
