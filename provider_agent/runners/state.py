# SPDX-License-Identifier: Apache-2.0
"""The files of a run's directory that the runner and the supervisor share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provider_agent.durable import sync_directory
from provider_agent.runners.base import Phase, RunRequest, RunState
from provider_agent.runners.disk import DIRECTORY, Room, room_for

RUN = "run.json"
STATE = "state.json"
LOCK = "lock"
STOP = "stop"
WORK = "work"
TMP = "tmp"
OUTPUTS = "outputs"
LOG = "log"
SUPERVISOR_LOG = "supervisor.log"
GROUPS = "groups"


@dataclass(frozen=True)
class Plan:
    """What the runner decided for a run besides the request: walls, processors, user id, disk.

    `unlimited` is True where the owner has accepted that limits of memory and disk do not hold.
    """

    request: RunRequest
    sandbox: str  # "bubblewrap" or "none"
    cpu_list: tuple[int, ...]
    uid: int | None
    private: tuple[str, ...]  # paths that no job may ever see
    disk: str  # see `runners.disk`
    room: Room
    unlimited: bool

    def write(self, directory: Path) -> None:
        """Writes run.json."""
        value = asdict(self)
        value["request"] = self.request.to_json()
        write_json(directory / RUN, value)

    @classmethod
    def read(cls, directory: Path) -> Plan:
        """Reads run.json."""
        value = json.loads((directory / RUN).read_bytes())
        request = RunRequest.from_json(value["request"])
        # Runs of earlier versions, which may still go on, had a directory.
        room = value.get("room")
        return cls(
            request=request,
            sandbox=value["sandbox"],
            cpu_list=tuple(value["cpu_list"]),
            uid=value["uid"],
            private=tuple(value["private"]),
            disk=value.get("disk", DIRECTORY),
            room=room_for(request.limits, ()) if room is None else Room(**room),
            unlimited=value.get("unlimited", True),
        )


@dataclass(frozen=True)
class Saved:
    """state.json: the state, and which process wrote it (pid and start time in clock ticks)."""

    state: RunState
    supervisor_pid: int = 0
    supervisor_start: int = 0

    def write(self, directory: Path) -> None:
        """Replaces state.json."""
        value = self.state.to_json()
        value["supervisor"] = [self.supervisor_pid, self.supervisor_start]
        write_json(directory / STATE, value)

    @classmethod
    def read(cls, directory: Path) -> Saved:
        """Reads state.json; PENDING where it is not there yet."""
        try:
            value = json.loads((directory / STATE).read_bytes())
        except FileNotFoundError:
            return cls(RunState(Phase.PENDING))
        pid, start = value.pop("supervisor")
        return cls(RunState.from_json(value), pid, start)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a file so that a reader, or a crash, meets the old or the new one, never a half."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_directory(path.parent)
