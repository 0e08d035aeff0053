# SPDX-License-Identifier: Apache-2.0
"""A control group for a run, where the machine lets the agent make one (cgroup v2, delegated).

systemd gives a service such a group with `Delegate=yes` and `DelegateSubgroup=agent`. Elsewhere
(containers, cgroup v1) there is none, and limits are kept by resource limits and the supervisor's
watch instead.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_NEEDED = {"memory", "pids"}
_CPU_PERIOD_US = 100_000


class Group:
    """One run's control group. The kernel enforces memory and pids exactly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int) -> None:
        """Moves a process into the group; what it starts from then on is in the group, too."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def peak_memory(self) -> int:
        """Bytes at the highest point, 0 where the kernel does not say (before 5.19)."""
        with suppress(OSError, ValueError):
            return int((self.path / "memory.peak").read_text())
        return 0

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed the group for its memory."""
        return self._event("memory.events", "oom_kill") > 0

    def hit_pids_limit(self) -> bool:
        """Whether a fork was refused."""
        return self._event("pids.events", "max") > 0

    def remove(self) -> None:
        """Kills what is left in the group and deletes it."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        for _ in range(50):
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.02)
            else:
                return

    def _event(self, file: str, name: str) -> int:
        with suppress(OSError, ValueError):
            for line in (self.path / file).read_text().splitlines():
                key, _, count = line.partition(" ")
                if key == name:
                    return int(count)
        return 0


def create(
    name: str, memory_bytes: int, pids: int, cpus: int, mount: Path = _MOUNT
) -> Group | None:
    """A group with these limits, or None where the agent may not make one."""
    parent = _delegated(mount)
    if parent is None:
        return None
    group = Group(parent / name)
    try:
        group.path.mkdir()
        (group.path / "memory.max").write_text(str(memory_bytes))
        (group.path / "pids.max").write_text(str(pids))
        with suppress(OSError):  # no swap accounting
            (group.path / "memory.swap.max").write_text("0")
        with suppress(OSError):
            (group.path / "memory.oom.group").write_text("1")
        with suppress(OSError):  # the cpu controller may not be delegated
            (group.path / "cpu.max").write_text(f"{cpus * _CPU_PERIOD_US} {_CPU_PERIOD_US}")
    except OSError:
        group.remove()
        return None
    return group


def _delegated(mount: Path) -> Path | None:
    """The directory in which groups may be made: above the agent's own, handed to its user."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        parent = (mount / own.lstrip("/")).parent
        enabled = set((parent / "cgroup.subtree_control").read_text().split())
        if parent == mount or not enabled >= _NEEDED or not os.access(parent, os.W_OK):
            return None
        # root may write everywhere; only what systemd has marked is the agent's to divide.
        if os.geteuid() == 0 and os.getxattr(parent, "user.delegate") != b"1":
            return None
    except (OSError, StopIteration):
        return None
    return parent
