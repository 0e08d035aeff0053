# SPDX-License-Identifier: Apache-2.0
"""What a run may write to: a file system of its own size, or a plain directory that is watched.

image       an ext4 file system in a file that is allocated at once, mounted by a root agent's
            supervisor in its own mount table. When the last process of the run is dead, so are the
            mount and the loop device; only the file is left, in the run's directory.
memory      a tmpfs of a fixed size, for an agent that is not root (or root without loop devices).
            What it holds is charged to the run's control group.
directory   the run's directory on the agent's disk. Files that no name shows are not counted, so it
            is used only where the owner has accepted that (`runner.allow_unlimited`).

In the first two every byte counts, whether a name, a descriptor, a mapping or a message on its way
keeps it, and so does every inode. Nothing has to walk through the job's files.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners import linux
from provider_agent.runners.base import MIB, Limits

IMAGE, MEMORY, DIRECTORY = "image", "memory", "directory"

IMAGE_FILE = "disk.img"
PLACE = "disk"  # where the file system is mounted, in the supervisor's mount table alone

_TOOLS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_BLOCK = 4096
_INODE = 256
_CAP_SYS_ADMIN = 21
# ext4 keeps this share of its blocks back for itself, up to a maximum.
_EXT4_SHARE, _EXT4_MOST = 50, 4096 * _BLOCK
_TOOL_SECONDS = 120


@dataclass(frozen=True)
class Room:
    """How much a run's file system holds: bytes of data, inputs included, and inodes."""

    data: int
    inodes: int

    @property
    def slack(self) -> int:
        """Bytes above the limit, so that a run is seen to cross it before a write fails."""
        return max(MIB, self.data // 64)

    @property
    def size(self) -> int:
        """Bytes that the job can fill."""
        return self.data + self.slack

    @property
    def image_bytes(self) -> int:
        """Bytes that the image takes on the agent's disk."""
        used = self.size + self.inodes * _INODE + 2 * MIB
        own = min(used // _EXT4_SHARE, _EXT4_MOST)
        # Bitmaps and group tables: two blocks and a bit in each 128 MiB.
        total = used + own + used // 4096
        return -(-total // MIB) * MIB


def room_for(limits: Limits, inputs: Iterable[int]) -> Room:
    """What a run needs with inputs of these sizes in bytes."""
    sizes = list(inputs)
    copied = sum(-(-size // _BLOCK) * _BLOCK + _BLOCK for size in sizes)
    inodes = min(limits.inodes, max(4096, limits.disk_bytes // 8192))
    return Room(limits.disk_bytes + copied, inodes + 2 * len(sizes))


@dataclass(frozen=True)
class Taken:
    """What of this machine a run takes while it lives: bytes of memory and disk, and files."""

    memory: int
    disk: int
    inodes: int


def taken(kind: str, limits: Limits, inputs: Iterable[int]) -> Taken:
    """What a run with inputs of these sizes takes, its outputs and its log not counted."""
    sizes = list(inputs)
    room = room_for(limits, sizes)
    if kind == IMAGE:
        return Taken(limits.memory_bytes, room.image_bytes, 1)
    if kind == MEMORY:
        return Taken(limits.memory_bytes + room.size, 0, 0)
    return Taken(limits.memory_bytes, room.size, limits.inodes + 2 * len(sizes))


def choose(sandboxed: bool, grouped: bool) -> str:
    """The best kind that this machine offers to a run with or without walls and control group."""
    if os.geteuid() == 0 and _may_mount():
        if _has_loop_devices():
            return IMAGE
        return MEMORY if grouped else DIRECTORY
    return MEMORY if sandboxed and grouped else DIRECTORY


def _may_mount() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _has_loop_devices() -> bool:
    return os.access("/dev/loop-control", os.R_OK | os.W_OK) and all(
        shutil.which(tool, path=_TOOLS_PATH) for tool in ("mkfs.ext4", "mount")
    )


def allocated(directory: Path) -> int:
    """Bytes that the image of a run takes; 0 where there is none."""
    try:
        return (directory / IMAGE_FILE).stat().st_blocks * 512
    except OSError:
        return 0


def make_image(directory: Path, room: Room) -> None:
    """Writes the image into a run's directory. Raises OSError where there is no room for it."""
    path = directory / IMAGE_FILE
    with open(path, "xb") as file:
        os.fchmod(file.fileno(), 0o600)
        os.posix_fallocate(file.fileno(), 0, room.image_bytes)
    _tool(
        *("mkfs.ext4", "-q", "-F", "-b", str(_BLOCK), "-I", str(_INODE), "-m", "0"),
        *("-N", str(room.inodes + 16), "-O", "^has_journal,^resize_inode"),
        # Discarding would give the blocks back that were just allocated.
        *("-E", "nodiscard,lazy_itable_init=1", str(path)),
    )


def _tool(*command: str, worst: int = 0) -> None:
    try:
        done = subprocess.run(
            command,
            env={"PATH": _TOOLS_PATH, "MKE2FS_CONFIG": "/dev/null"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise RunnerError(f"cannot make the file system of a run: {error}") from error
    if not 0 <= done.returncode <= worst:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise RunnerError(f"cannot make the file system of a run: {command[0]}: {said[-1]}")


class Space:
    """The file system of a live run, as its supervisor sees it. `work` and `tmp` are the job's.

    `tops` are open directories, one in each file system that is counted.
    """

    def __init__(self, work: Path, tmp: Path, room: Room, tops: Sequence[int]) -> None:
        self.work, self.tmp, self._room, self._tops = work, tmp, room, list(tops)
        self._before = 0

    def settle(self) -> None:
        """What is there now is not the job's: its inputs."""
        self._before = self._taken()

    def used(self) -> int:
        """Bytes that the job has written and that something still holds."""
        return self._taken() - self._before

    def fault(self, limit: int) -> str:
        """Why the job has to end, in words, or "". `limit` is in bytes."""
        if self.used() > limit + self._room.slack // 2:
            return f"wrote more than {limit} bytes"
        found = [os.fstatvfs(top) for top in self._tops]
        if any(system.f_bavail == 0 for system in found):
            return f"wrote more than {limit} bytes"
        if any(system.f_files > 0 and system.f_ffree == 0 for system in found):
            return f"made more than {self._room.inodes} files"
        return ""

    def close(self) -> None:
        """Lets go of the file systems."""
        while self._tops:
            os.close(self._tops.pop())

    def _taken(self) -> int:
        found = [os.fstatvfs(top) for top in self._tops]
        return sum((system.f_blocks - system.f_bfree) * system.f_frsize for system in found)


def repair(directory: Path) -> None:
    """Puts the file system of an image in order, which is at once done where it was let go of well.

    There is no journal: a loss of power may leave it out of order. Raises RunnerError where that
    cannot be done without a person.
    """
    try:
        _tool("e2fsck", "-p", str(directory / IMAGE_FILE), worst=1)  # 1: it was mended
    except RunnerError as error:
        raise RunnerError(
            f"the files in {directory} are damaged beyond what e2fsck mends by itself ({error})"
        ) from None


def attach(directory: Path) -> Path:
    """Mounts the image of a directory in this process's mount table; the place of it.

    The loop device goes by itself when the last mount of it is gone. Raises RunnerError.
    """
    place = directory / PLACE
    place.mkdir(mode=0o700, exist_ok=True)
    options = "loop,nodev,nosuid,noatime"
    _tool("mount", "-t", "ext4", "-o", options, str(directory / IMAGE_FILE), str(place))
    return place


def mount(directory: Path, kind: str, room: Room, uid: int | None) -> Space:
    """Mounts the file system of a run in this process's own mount table, with empty directories.

    For root: call `linux.private_mounts` before. Raises OSError and RunnerError.
    """
    place = directory / PLACE
    if kind == IMAGE:
        attach(directory)
    else:
        place.mkdir(mode=0o700, exist_ok=True)
        options = f"size={room.size},nr_inodes={room.inodes + 16},mode=755"
        linux.mount_tmpfs(place, options)
    work, tmp = place / "work", place / "tmp"
    for path in (work, tmp):
        path.mkdir(mode=0o700)
        if uid is not None:
            os.chown(path, uid, uid)
    return Space(work, tmp, room, [os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)])


def hold(inner: int, room: Room, seconds: float) -> Space:
    """The file systems in memory that a sandbox has mounted, kept alive beyond its end.

    `inner` is the first process of the sandbox, which waits before it begins the job. Raises
    RunnerError where they are not there in time.
    """
    root = Path(f"/proc/{inner}/root/newroot")  # bubblewrap's name, until it enters it
    end = time.monotonic() + seconds
    while not _mounted(root / "job", root):  # the last of the two
        if time.monotonic() > end:
            raise RunnerError("the sandbox does not mount its file systems")
        time.sleep(0.002)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    tops = [os.open(root / name, flags) for name in ("job", "tmp")]
    work, tmp = (Path(f"/proc/self/fd/{top}") for top in tops)
    return Space(work, tmp, room, tops)


def _mounted(place: Path, above: Path) -> bool:
    try:
        return os.stat(place).st_dev != os.stat(above).st_dev
    except OSError:
        return False


def release(directory: Path) -> None:
    """Gives the room of a run's image back to the disk; its data is gone."""
    place = directory / PLACE
    with suppress(OSError):
        linux.unmount(place)
    with suppress(FileNotFoundError):
        (directory / IMAGE_FILE).unlink()
    with suppress(OSError):
        place.rmdir()


def sweep(runs: Path, alive: Iterable[str]) -> None:
    """Takes away mounts and loop devices below `runs` of runs that are not alive.

    They go by themselves with the last process; this is for what a crash of the machine's tools
    or a mount that somebody copied has left. Needs root, and does nothing without.
    """
    if os.geteuid() != 0:
        return
    kept = {runs / name for name in alive}
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            place = Path(line.split()[4].encode().decode("unicode_escape"))
            if place.name == PLACE and place.parent.parent == runs and place.parent not in kept:
                with suppress(OSError):
                    linux.unmount(place)
    for loop in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            image = Path(loop.read_text().strip().removesuffix(" (deleted)"))
            run = image.parent
            if image.name == IMAGE_FILE and run.parent == runs and run not in kept:
                linux.detach_loop(Path("/dev") / loop.parts[3])


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
