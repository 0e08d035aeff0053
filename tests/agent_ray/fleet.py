# SPDX-License-Identifier: Apache-2.0
"""A real cluster of Ray on this machine: two nodes with names, and a token."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.lease import Lease, Service
from provider_agent.runners.ray.cluster import Terms
from provider_agent.runners.ray.gateway import LABEL
from provider_agent.runners.ray.node import DISK
from provider_agent.runners.ray.runner import RayRunner
from tests.agent_ray.processes import IMAGE, RUN, running

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests-" + "0" * 40
GIB = 1 << 30
_TRIES = 2
_SIZES: dict[str, dict[str, Any]] = {
    "a": {"num_cpus": 4, "memory": 4 * GIB, "resources": {DISK: 1000}},
    "b": {"num_cpus": 2, "num_gpus": 1, "memory": 2 * GIB, "resources": {DISK: 1000}},
}
_QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 4,
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
}
"""Ray notices a node's death in seconds, where an owner's would take half a minute; and it starts
no process before one is asked for.
"""


class Fleet:
    """See the module. `place` is an empty directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.token_file = place / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(TOKEN)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(place),
            "PYTHONPATH": str(ROOT),
            RUN: place.name,
        }
        self._kind = importlib.import_module("ray.cluster_utils").Cluster
        self._cluster = self._kind()
        self._nodes: dict[str, Any] = {}
        self._add("a", include_dashboard=False, _system_config=_QUICK)
        self._add("b")

    def restart(self) -> None:
        """All of Ray ends, and begins at the same address from nothing."""
        port = int(self.address.rpartition(":")[2])
        self._cluster.shutdown()
        self._cluster = self._kind()
        self._add("a", include_dashboard=False, _system_config=_QUICK, gcs_server_port=port)
        self._add("b")

    @property
    def address(self) -> str:
        """Ray's."""
        return str(self._cluster.address)

    def start(self, name: str) -> None:
        """A machine joins again."""
        self._add(name)

    def _add(self, name: str, **more: Any) -> None:
        """Ray gives up where a node takes half a minute, as on a machine that is very busy."""
        for left in reversed(range(_TRIES)):
            try:
                self._nodes[name] = self._cluster.add_node(
                    wait=False, **_SIZES[name], **more, labels={LABEL: name}
                )
            except Exception:  # of no kind of its own
                if not left:
                    raise
            else:
                return

    def kill(self, name: str) -> None:
        """A machine loses Ray's daemon, as by a crash."""
        os.kill(self._nodes[name].all_processes["raylet"][0].process.pid, signal.SIGKILL)

    def signal_head(self, number: signal.Signals) -> None:
        """Stops Ray's head, or has it go on."""
        os.kill(self._cluster.head_node.all_processes["gcs_server"][0].process.pid, number)

    def end(self) -> None:
        """Ends what this fleet has started, and nothing else of Ray."""
        self._cluster.shutdown()
        for pid in running("agent", ""):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terms(self, agent: str, place: Path, **more: Any) -> Terms:
        """How an agent joins."""
        given: dict[str, Any] = {
            "make": "tests.agent_ray.processes:make",
            "needs": "tests.agent_ray.processes:needs",
            "look": "tests.agent_ray.processes:gpus",
            **more,
        }
        return Terms(self.address, self.token_file, agent, place / "nodes", **given)


def service(name: str = "app", script: str = "exec sleep 600", **more: Any) -> Service:
    """A small service that runs a script."""
    given: dict[str, Any] = {
        "image": IMAGE,
        "cpu": 100,
        "memory": 16 * MIB,
        "storage": MIB,
        "command": ("sh", "-c", script),
        **more,
    }
    return Service(name=name, **given)


def lease(lease_id: str, *services: Service, **more: Any) -> Lease:
    """A lease of one service, or of those given."""
    return Lease(lease_id, services or (service(**more),))


def joined(runner: RayRunner) -> None:
    """Waits until both machines answer an agent."""

    def both() -> bool:
        with contextlib.suppress(RunnerError):  # a busy machine takes its time
            runner._fleet.look()
        return set(runner._fleet.links) == {"a", "b"}

    eventually(both)


def eventually(look: Callable[[], Any], seconds: float = 180.0) -> Any:
    """What `look` gives, once that is anything."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.1)
    return found
