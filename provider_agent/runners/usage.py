# SPDX-License-Identifier: Apache-2.0
"""What a run's processes and files take up, measured from outside by its supervisor."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512  # of st_blocks, whatever the file system uses
_ENTRY = 4096  # what a name and an inode count for: empty files fill a disk, too

# A job that makes more entries, or nests deeper, fills the disk by other means than bytes.
MAX_ENTRIES = 200_000
MAX_DEPTH = 64  # twice what an input or output may have


@dataclass(frozen=True)
class Process:
    """One process as the kernel describes it. `rss` in bytes, `cpu_ms` with its waited children."""

    pid: int
    parent: int
    zombie: bool
    threads: int
    rss: int
    cpu_ms: int
    start_ticks: int


def read_process(pid: int) -> Process | None:
    """The process, or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = sum(int(fields[i]) for i in (11, 12, 13, 14))
    return Process(
        pid=pid,
        parent=int(fields[1]),
        zombie=fields[0] in (b"Z", b"X"),
        threads=int(fields[17]),
        rss=int(fields[21]) * _PAGE,
        cpu_ms=ticks * 1000 // _TICKS,
        start_ticks=int(fields[19]),
    )


def descendants(root: int) -> list[Process]:
    """All processes below `root`, itself excluded, zombies included.

    Costs what these processes cost to look at, not what this machine has, where the kernel lists
    children (CONFIG_PROC_CHILDREN, which distributions set).
    """
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return _descendants_by_scan(root)
    found: list[Process] = []
    open_parents = [root]
    while open_parents:
        for pid in _children(open_parents.pop()):
            process = read_process(pid)
            if process is not None:
                found.append(process)
                open_parents.append(pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{task}/children").read_bytes()
            found += [int(word) for word in text.split()]
    except OSError:
        pass  # it ended meanwhile
    return found


def _descendants_by_scan(root: int) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            process = read_process(int(name))
            if process is not None:
                children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    open_parents = [root]
    while open_parents:
        below = children.get(open_parents.pop(), [])
        found += below
        open_parents += [process.pid for process in below]
    return found


def shared_fairly(processes: list[Process]) -> int:
    """Bytes of memory with shared pages counted once; slower than the sum of `rss`."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            total += process.rss  # gone, or hidden from us: the larger figure is the safe one
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


@dataclass(frozen=True)
class Nameless:
    """Bytes in files that only descriptors keep alive: on disk, and in memory (memfd)."""

    disk: int
    memory: int


def nameless_files(processes: list[Process], disk_device: int) -> Nameless:
    """What the processes keep in files that no directory shows; each file counts once."""
    seen: dict[tuple[int, int], int] = {}
    for process in processes:
        directory = f"/proc/{process.pid}/fd"
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(f"{directory}/{name}")
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                seen[(status.st_dev, status.st_ino)] = status.st_blocks * _BLOCK
    disk = sum(size for (device, _), size in seen.items() if device == disk_device)
    return Nameless(disk=disk, memory=sum(seen.values()) - disk)


@dataclass(frozen=True)
class Tree:
    """Bytes that a directory takes up, and whether it has more entries or depth than is allowed."""

    size: int
    unbounded: bool


def tree_size(path: Path) -> Tree:
    """Measures a directory that a job writes to at the same time. Follows no links.

    A file with several names takes its bytes once: names that a job deletes free nothing. A
    directory that the job has closed to its own user is opened again: it could hide files there.
    """
    total = entries = 0
    linked: set[tuple[int, int]] = set()
    root = _open_directory(str(path), None)
    stack = [(root, os.scandir(root))]
    try:
        while stack:
            directory, listing = stack[-1]
            try:
                entry = next(listing, None)
            except OSError:
                entry = None  # the job removed it under our hands
            if entry is None:
                listing.close()
                os.close(directory)
                stack.pop()
                continue
            entries += 1
            if entries > MAX_ENTRIES:
                return Tree(total, unbounded=True)
            try:
                status = entry.stat(follow_symlinks=False)
                total += _ENTRY
                is_directory = entry.is_dir(follow_symlinks=False)
                if status.st_nlink > 1 and not is_directory:
                    if (status.st_dev, status.st_ino) in linked:
                        continue
                    linked.add((status.st_dev, status.st_ino))
                total += status.st_blocks * _BLOCK
                if not is_directory:
                    continue
                child = _open_directory(entry.name, directory)
            except OSError:
                continue
            if len(stack) >= MAX_DEPTH:
                os.close(child)
                return Tree(total, unbounded=True)
            stack.append((child, os.scandir(child)))
    finally:
        for directory, listing in stack:
            listing.close()
            os.close(directory)
    return Tree(total, unbounded=False)


def _open_directory(name: str, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        # Through a descriptor of the directory itself: the job may put a link in its place now.
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
            return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            os.close(handle)
