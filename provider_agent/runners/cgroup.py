# SPDX-License-Identifier: Apache-2.0
"""A control group for a run, where the machine lets the agent make one.

The kernel then counts all memory that a run causes: files in memory, socket buffers, descriptors
on their way between processes, the pages of its files. Version 2 is used where the machine has it:
systemd gives a service a part of the tree with `Delegate=`, and root makes a branch of its own
otherwise. Where there is only version 1, groups are made below the
agent's own, one in each hierarchy.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_NEEDED = ("memory", "pids")
_USEFUL = ("cpu", "cpuacct")  # of version 1; a run does without them
_CPU_PERIOD_US = 100_000
# Of a processor that a run uses, while a process outside wants it too: a tenth of what that gets.
# The agent, which attests for all runs, does not wait for them.
_WEIGHT, _SHARES = 10, 102
_BRANCH = "teraproof"
_ASIDE = "agent"  # as `DelegateSubgroup` in the unit would call it
_SELF = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Group:
    """One run's control group. Memory in bytes; processes and threads count as tasks.

    `paths` are its directories, one in each hierarchy. `files` says where a figure is read: a file,
    and the name of its line where it has several.
    """

    paths: tuple[Path, ...]
    files: Mapping[str, tuple[Path, str]]

    def add(self, pid: int) -> None:
        """Moves a process into the group; what it starts from then on is in the group, too."""
        for path in self.paths:
            (path / "cgroup.procs").write_text(str(pid))

    def tasks(self) -> int:
        """How many processes and threads are in the group."""
        return self._read("tasks")

    def memory(self) -> int:
        """Bytes in use, page cache included."""
        return self._read("memory")

    def peak_memory(self) -> int:
        """Bytes at the highest point, 0 where the kernel does not say (before 5.19)."""
        return self._read("peak")

    def cpu_ms(self) -> int:
        """Processor time so far, 0 where it is not counted."""
        return self._read("cpu_us") // 1000 or self._read("cpu_ns") // 1_000_000

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process of the group because the group met its limit."""
        return self._killed() and self._met_limit()

    def starved(self) -> bool:
        """Whether the kernel killed a process of the group for want of memory elsewhere: of the
        whole machine, or of the service that the agent is.
        """
        return self._killed() and not self._met_limit()

    def _met_limit(self) -> bool:
        # Version 1 no longer counts this on newer kernels: there the peak says it.
        at_limit = self._read("peak") >= self._read("limit") > 0
        return self._read("limit_met") > 0 or at_limit

    def _killed(self) -> bool:
        # Any killer counts here, the machine's, too.
        return self._read("oom_kill") > 0

    def hit_pids_limit(self) -> bool:
        """Whether a fork was refused."""
        return self._read("refused") > 0

    def end(self) -> None:
        """Kills what is in the group and deletes it."""
        for path in self.paths:
            with suppress(OSError):
                (path / "cgroup.kill").write_text("1")
            for _ in range(100):
                if _removed(path):
                    break
                # Version 1, and kernels before 5.14, have no cgroup.kill.
                for pid in _numbers(path / "cgroup.procs"):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)

    def _read(self, figure: str) -> int:
        if figure not in self.files:
            return 0
        path, name = self.files[figure]
        return _field(path, name) if name else next(iter(_numbers(path)), 0)


def version(mount: Path = _MOUNT, own: Path = _SELF) -> int:
    """Which version of control groups a run would get: 2, 1, or 0 for none."""
    if _parent_v2(mount, own) is not None:
        return 2
    return 1 if _parents_v1(mount, own) is not None else 0


def create(
    name: str,
    memory_bytes: int,
    pids: int,
    cpus: int,
    mount: Path = _MOUNT,
    own: Path = _SELF,
) -> Group | None:
    """A group with these limits, or None where the agent may not make one.

    `own` is the file that says in which groups this process is.
    """
    parent = _parent_v2(mount, own)
    if parent is not None:
        return _create_v2(parent, name, memory_bytes, pids, cpus)
    parents = _parents_v1(mount, own)
    if parents is not None:
        return _create_v1(parents, name, memory_bytes, pids, cpus)
    return None


def remove(paths: Iterable[Path]) -> None:
    """Deletes the group at these directories if it is there and nothing lives in it.

    Waits a moment for what is dying.
    """
    for path in paths:
        for _ in range(50):
            if _removed(path):
                break
            time.sleep(0.02)


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


# ------------------------------------------------------------------------ version 2


def _create_v2(parent: Path, name: str, memory: int, pids: int, cpus: int) -> Group | None:
    path = parent / name
    files = {
        "tasks": (path / "pids.current", ""),
        "memory": (path / "memory.current", ""),
        "peak": (path / "memory.peak", ""),
        "cpu_us": (path / "cpu.stat", "usage_usec"),
        "oom_kill": (path / "memory.events", "oom_kill"),
        "limit_met": (path / "memory.events", "oom"),
        "refused": (path / "pids.events", "max"),
    }
    try:
        path.mkdir(exist_ok=True)
        (path / "memory.max").write_text(str(memory))
        (path / "pids.max").write_text(str(pids))
        with suppress(OSError):  # no swap accounting
            (path / "memory.swap.max").write_text("0")
        with suppress(OSError):
            (path / "memory.oom.group").write_text("1")
        with suppress(OSError):  # the cpu controller may not be delegated
            (path / "cpu.max").write_text(f"{cpus * _CPU_PERIOD_US} {_CPU_PERIOD_US}")
            (path / "cpu.weight").write_text(str(min(10_000, cpus * _WEIGHT)))
    except OSError:
        remove([path])
        return None
    return Group((path,), files)


def _parent_v2(mount: Path, own: Path) -> Path | None:
    """The directory in which groups may be made: the part handed to us, or root's own branch."""
    try:
        if not (mount / "cgroup.controllers").exists():
            return None
        place = _own(own).get("")
        if place is None:
            return None
        here = mount / place.lstrip("/")
        above = here.parent
        if place != "/" and above != mount and _is_ours(above) and _enable(above):
            return above
        if _is_ours(here) and _move_aside(here):
            return here
        return _branch(mount) if os.geteuid() == 0 else None
    except OSError:
        return None


def _divides(directory: Path) -> bool:
    """Whether groups below a directory have the limits that a run needs."""
    with suppress(OSError):
        enabled = (directory / "cgroup.subtree_control").read_text().replace("+", "").split()
        return set(_NEEDED) <= set(enabled)
    return False


def _enable(directory: Path) -> bool:
    """Have groups below a directory limited; False where it was given too few controllers.

    systemd gives them to a service, and leaves it to the service to hand them on.
    """
    if _divides(directory):
        return True
    if not set(_NEEDED) <= set((directory / "cgroup.controllers").read_text().split()):
        return False
    (directory / "cgroup.subtree_control").write_text("+memory +pids")
    with suppress(OSError):  # a run does without a share of the processors
        (directory / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    return True


def _is_ours(directory: Path) -> bool:
    if not os.access(directory, os.W_OK):
        return False
    if os.geteuid() != 0:
        return True
    # Root may write everywhere; only what systemd has marked is the agent's to divide.
    with suppress(OSError):
        return os.getxattr(directory, "user.delegate") == b"1"
    return False


def _move_aside(here: Path) -> bool:
    """Makes room for other groups in our own: a group with processes in it can have none below it.

    As systemd before version 254 hands it over, and containers with a writable tree.
    """
    if not (here / "cgroup.type").exists():
        return False  # the top of the machine's tree
    try:
        aside = here / _ASIDE
        aside.mkdir(exist_ok=True)
        for pid in _numbers(here / "cgroup.procs"):
            with suppress(ProcessLookupError):
                (aside / "cgroup.procs").write_text(str(pid))
        (here / "cgroup.subtree_control").write_text("+memory +pids")
        with suppress(OSError):
            (here / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        return _divides(here)
    except OSError:
        return False


def _branch(mount: Path) -> Path | None:
    """A branch of our own at the top of the tree; None where the machine does not allow it."""
    branch = mount / _BRANCH
    try:
        for directory in (mount, branch):
            if directory == branch:
                branch.mkdir(exist_ok=True)
            if not _divides(directory):
                wanted = "+memory +pids"
                (directory / "cgroup.subtree_control").write_text(wanted)
            with suppress(OSError):  # a run does without a share of the processors
                (directory / "cgroup.subtree_control").write_text("+cpu")
    except OSError:
        return None
    return branch


# ------------------------------------------------------------------------ version 1


def _create_v1(
    parents: Mapping[str, Path], name: str, memory: int, pids: int, cpus: int
) -> Group | None:
    paths = {controller: parent / name for controller, parent in parents.items()}
    # cpu and cpuacct are often one hierarchy.
    distinct = tuple(dict.fromkeys(paths.values()))
    files = {
        "tasks": (paths["pids"] / "pids.current", ""),
        "memory": (paths["memory"] / "memory.usage_in_bytes", ""),
        "peak": (paths["memory"] / "memory.max_usage_in_bytes", ""),
        "oom_kill": (paths["memory"] / "memory.oom_control", "oom_kill"),
        "limit": (paths["memory"] / "memory.limit_in_bytes", ""),
        "refused": (paths["pids"] / "pids.events", "max"),
    }
    if "cpuacct" in paths:
        files["cpu_ns"] = (paths["cpuacct"] / "cpuacct.usage", "")
    try:
        for path in distinct:
            path.mkdir(exist_ok=True)
        (paths["memory"] / "memory.limit_in_bytes").write_text(str(memory))
        with suppress(OSError):  # no swap accounting; memory and swap together
            (paths["memory"] / "memory.memsw.limit_in_bytes").write_text(str(memory))
        (paths["pids"] / "pids.max").write_text(str(pids))
        if "cpu" in paths:
            with suppress(OSError):
                (paths["cpu"] / "cpu.cfs_period_us").write_text(str(_CPU_PERIOD_US))
                (paths["cpu"] / "cpu.cfs_quota_us").write_text(str(cpus * _CPU_PERIOD_US))
                (paths["cpu"] / "cpu.shares").write_text(str(cpus * _SHARES))
    except OSError:
        remove(distinct)
        return None
    return Group(distinct, files)


def _parents_v1(mount: Path, own: Path) -> dict[str, Path] | None:
    """In each hierarchy the agent's own group, below which it may make others."""
    try:
        places = _own(own)
    except OSError:
        return None
    found = {}
    for controller in (*_NEEDED, *_USEFUL):
        place = places.get(controller)
        if place is None:
            continue
        top = mount / controller
        directory = top / place.lstrip("/")
        if not directory.is_dir():
            directory = top  # in a container the mount begins at its own group
        if (directory / "cgroup.procs").exists() and os.access(directory, os.W_OK):
            found[controller] = directory
    return found if set(_NEEDED) <= set(found) else None


# ------------------------------------------------------------------------ files


def _own(file: Path) -> dict[str, str]:
    """The group of this process by controller; under "" that of version 2."""
    found = {}
    for line in file.read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = place
    return found


def _numbers(path: Path) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(word) for word in path.read_text().split()]
    return []


def _field(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
