# SPDX-License-Identifier: Apache-2.0
"""The few Linux calls that Python's standard library does not offer."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS = 0x20000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

# struct flock: type, whence, start, length, pid, padded to the size that 64-bit kernels expect.
_FLOCK = struct.Struct("@hhqqi4x")

_FICLONE = 0x40049409
_LOOP_CLR_FD = 0x4C01
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """This process is killed when `parent` dies; at once, if it already has."""
    _call(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Processes whose parents die become children of this one, instead of init's."""
    _call(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def private_mounts() -> None:
    """Gives this process its own mount table; what it mounts, nobody else sees."""
    _call(_libc.unshare(_CLONE_NEWNS), "unshare")
    _call(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount")


def mount_tmpfs(target: Path, options: str) -> None:
    """An empty file system in memory over `target`."""
    _call(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, options.encode()), "mount")


def mount_bind(source_fd: int, target: Path) -> None:
    """Shows the directory that `source_fd` names at `target`, with what is mounted in it."""
    source = f"/proc/self/fd/{source_fd}".encode()
    _call(_libc.mount(source, os.fsencode(target), None, _MS_BIND | _MS_REC, None), "mount")


def unmount(target: Path) -> None:
    """Takes a mount away, now for new users and wholly when the last one lets go."""
    _call(_libc.umount2(os.fsencode(target), _MNT_DETACH), "umount")


def detach_loop(device: Path) -> None:
    """Takes the file away from a loop device, when its last user lets go."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    finally:
        os.close(fd)


def clone_file(source_fd: int, target_fd: int) -> bool:
    """Lets the target share the source's blocks until one of them is written; False if it cannot.

    Btrfs, XFS and others can, within one file system. What is written to one never shows in the
    other.
    """
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True


def take_lock(fd: int) -> bool:
    """Takes the lock of an open file for as long as the open file, or a copy of it, lives.

    An open file description lock: children that inherit the descriptor hold it too.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):  # held by somebody else
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of `path`. Looks without touching it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _call(result: int, name: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
