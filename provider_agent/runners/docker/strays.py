# SPDX-License-Identifier: Apache-2.0
"""Programs of containers that the engine does not know to run.

An engine that is killed while it starts a container leaves the program and its supervisor behind.
Afterwards it says that the container never ran. It refuses to start it, and deletes it without
ending the program. The kernel knows better: every program of a container is in a control group
that is named after the container, and its supervisor's arguments name it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners import usage

_SECONDS = 20.0
_PAUSE = 0.02


def end(containers: Collection[str]) -> None:
    """Kills every program of these containers, by their whole ids, and waits until none is left.

    Raises RunnerError where one does not die: it waits for a device or a disk.
    """
    until = time.monotonic() + _SECONDS
    while containers and _kill(lambda process: _is_of(process, containers)):
        if time.monotonic() > until:
            raise RunnerError("a program of a container does not die; see: dmesg")
        time.sleep(_PAUSE)


def end_supervisors(containers: Collection[str]) -> None:
    """Kills what waits for programs of containers that did not run, as far as the engine knew, and
    that it has deleted. containerd clears up after it.
    """
    if containers:
        _kill(lambda process: _supervises(process, containers))


def _kill(wanted: Callable[[Path], bool]) -> bool:
    """Whether there was any. A handle names no other process, whatever happens meanwhile."""
    found = False
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError):
            handle = os.pidfd_open(int(name))
            try:
                if wanted(Path("/proc", name)):
                    process = usage.read_process(int(name))
                    found |= process is not None and not process.zombie
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return found


def _supervises(process: Path, containers: Collection[str]) -> bool:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return os.path.basename(words[0]).startswith(b"containerd-shim") and any(
        name.encode() in words for name in containers
    )


def _is_of(process: Path, containers: Collection[str]) -> bool:
    """Whether one of its groups is a container's: `<id>`, or `<name>-<id>.scope` with systemd. A
    container may have groups of its own below.
    """
    parts = {
        part.removesuffix(".scope").rpartition("-")[2]
        for line in (process / "cgroup").read_text().splitlines()
        for part in line.split(":", 2)[-1].split("/")
    }
    return not parts.isdisjoint(containers)
