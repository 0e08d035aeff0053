# SPDX-License-Identifier: Apache-2.0
"""The agent's half of the talk with Ray: a process of its own that has joined the cluster.

Ray ends a process that has joined when its control store is gone for a minute, and takes over its
signals. The agent has more to do than leases, so it does not join itself.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.ray.node import DOCKER, NEEDS
from provider_agent.runners.ray.wire import Line
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_JOIN_SECONDS = 120.0
_RAY_SECONDS = 30.0  # for what Ray itself does; to end the process and join again takes as long
_PAUSE = 15.0  # seconds between two tries to join
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Terms:
    """How an agent joins a cluster, and what its part on each machine is made of.

    `address` is Ray's (HOST:PORT), `token_file` holds Ray's token, `agent` is text that no other
    agent of the cluster has. Machines keep their data in `node_data_dir`, listen on `node_port` (0
    for any), and run leases by what `make` names, which gets `engine` (JSON values); `needs` says
    what a lease takes there, and `look` gives their GPUs.
    """

    address: str
    token_file: Path
    agent: str
    node_data_dir: Path
    node_port: int = 0
    make: str = DOCKER
    engine: Mapping[str, Any] = field(default_factory=dict)
    needs: str = NEEDS
    look: str = "provider_agent.runners.ray.node:gpus"

    def check(self) -> None:
        """Raises RunnerError where there is no token that only the agent can read."""
        help_ = (
            "make one with `ray get-auth-token --generate`, start all of Ray with "
            "RAY_AUTH_MODE=token, and name its file"
        )
        try:
            found = self.token_file.stat()
            empty = not self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            found, empty = None, True
        if found is None or empty:
            raise RunnerError(
                f"{self.token_file} holds no token of Ray; {help_}", Code.SETTINGS_INVALID
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise RunnerError(
                f"others can read Ray's token; run chmod 600 {self.token_file}",
                Code.SETTINGS_INVALID,
            )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **asdict(self),
            "token_file": str(self.token_file),
            "node_data_dir": str(self.node_data_dir),
        }


@dataclass(frozen=True)
class Contact:
    """One machine of the fleet, as Ray knows it. `fault` says why it is not reached, or is "".

    `there` and `free` are amounts of Ray's resources by their names; `addresses` are all that the
    machine itself has.
    """

    machine: str
    fault: str
    host: str = ""
    port: int = 0
    certificate: str = ""
    there: Mapping[str, float] | None = None
    free: Mapping[str, float] | None = None
    addresses: Sequence[str] = ()


@dataclass(frozen=True)
class Survey:
    """All machines that Ray has ever had, and which machine holds what for a lease. `addresses` are
    those of Ray and of its nodes, also of those that are away.
    """

    contacts: Mapping[str, Contact]
    holds: Mapping[str, str]
    addresses: Sequence[str] = ()


class Cluster:
    """See the module. `place` is a directory for what the process has to say."""

    def __init__(self, terms: Terms, place: Path) -> None:
        self._terms, self._place = terms, place
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Line | None = None
        self._again, self._why = 0.0, ""

    def survey(self, certificate: str, seconds: float) -> Survey:
        """Looks at all machines, and has our part run on each. Raises RunnerError."""
        found = self._ask(
            "survey", seconds + _RAY_SECONDS, certificate=certificate, seconds=seconds
        )
        contacts = {one["machine"]: Contact(**one) for one in found["machines"]}
        return Survey(contacts, found["holds"], found["addresses"])

    def hold(
        self, lease_id: str, resources: Mapping[str, float], machines: list[str], seconds: float
    ) -> str:
        """Has Ray choose one of the machines for a lease, and hold these resources there until
        `release`. The machine, also where one was chosen before; "" where there is no room.
        """
        return str(
            self._ask(
                "hold",
                2 * seconds + _RAY_SECONDS,
                lease=lease_id,
                resources=dict(resources),
                machines=machines,
                seconds=seconds,
            )
        )

    def release(self, lease_id: str) -> None:
        """Gives back what is held for a lease."""
        self._ask("release", _RAY_SECONDS, lease=lease_id)

    def close(self) -> None:
        """Leaves the cluster; all that runs there stays. Who waits for Ray is woken."""
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()
        with self._lock:
            self._end()

    # ------------------------------------------------------------------ the process

    def _ask(self, what: str, within: float, /, **given: Any) -> Any:
        with self._lock:
            line = self._joined()
            line.until = time.monotonic() + within
            try:
                line.tell({"do": what, **given})
                answer = line.hear()
            except (OSError, ValueError) as error:
                self._end()
                raise self._away(f"it does not answer ({type(error).__name__})") from None
        if "error" in answer:
            raise RunnerError(f"Ray at {self._terms.address}: {answer['error']}")
        return answer.get("value")

    def _joined(self) -> Line:
        """The line to a process that has joined. Raises RunnerError."""
        if self._line is not None and self._process is not None and self._process.poll() is None:
            return self._line
        self._end()
        if time.monotonic() < self._again:
            raise self._away(self._why)
        self._terms.check()
        ours, theirs = socket.socketpair()
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Ray's own settings of the agent's surroundings would decide otherwise.
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        surroundings |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._terms.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with theirs, open(self._place / "ray.log", "wb") as said:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "provider_agent.runners.ray.gateway",
                    str(theirs.fileno()),
                ],
                env=surroundings,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        line = Line(ours, time.monotonic() + _JOIN_SECONDS)
        self._line = line
        try:
            line.tell(self._terms.to_json())
            answer = line.hear()
        except (OSError, ValueError) as error:
            answer = {"error": f"the process that joins it ended ({type(error).__name__})"}
        if "error" in answer:
            self._end()
            self._again = time.monotonic() + _PAUSE
            self._why = str(answer["error"])
            if answer.get("settings"):
                raise RunnerError(self._why, Code.SETTINGS_INVALID)
            raise self._away(self._why)
        return line

    def _end(self) -> None:
        if self._line is not None:
            self._line.socket.close()
            self._line = None
        if self._process is not None:
            # It ends by itself when nobody listens.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _away(self, why: str) -> RunnerError:
        return RunnerError(
            f"Ray at {self._terms.address} is away: {why}; see `ray status` on its head machine",
            Code.CONTAINERS_AWAY,
        )
