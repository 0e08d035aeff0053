# SPDX-License-Identifier: Apache-2.0
"""What has outlived the supervisor of its run, and is ended."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from provider_agent.runners import state, usage
from provider_agent.runners.state import Saved


def is_supervised(saved: Saved) -> bool:
    """Whether the process that wrote the state is alive."""
    process = usage.read_process(saved.supervisor_pid)
    return (
        process is not None and not process.zombie and process.start_ticks == saved.supervisor_start
    )


def end_orphans(directory: Path) -> None:
    """Kills what of a sandbox has outlived its supervisor.

    Bubblewrap dies with its parent, but for a moment while it sets up: its first process then waits
    without end for one that is dead, and holds the run's lock. It is known by that.
    """
    lock = os.stat(directory / state.LOCK)
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            handle = os.pidfd_open(int(name))
            try:
                if not os.path.basename(os.readlink(f"/proc/{name}/exe")).startswith("bwrap"):
                    continue
                for fd in os.listdir(f"/proc/{name}/fd"):
                    held = os.stat(f"/proc/{name}/fd/{fd}")
                    if (held.st_dev, held.st_ino) == (lock.st_dev, lock.st_ino):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        break
            finally:
                os.close(handle)


def end_strays(directory: Path) -> None:
    """Kills what an unsandboxed run left when its supervisor was killed.

    A sandbox dies with its supervisor; without one, grandchildren live on. They are known by the
    variable that names their temporary directory.
    """
    mark = f"TMPDIR={directory}/".encode()
    found = True
    while found:
        found = False
        for name in os.listdir("/proc"):
            if not name.isdecimal():
                continue
            with suppress(OSError):
                handle = os.pidfd_open(int(name))
                try:
                    said = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                    if any(variable.startswith(mark) for variable in said):
                        found = True
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
