# SPDX-License-Identifier: Apache-2.0
"""Locks that all processes of one machine share, whatever user they run as."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

# "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF", as Linux lists them.
_FLOCK = re.compile(
    r"\bFLOCK\s+ADVISORY\s+WRITE\s+(?P<pid>\d+)\s"
    r"(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s"
)


class MachineLock:
    """A lock by name, held until `release` or until the process ends in whatever way.

    The lock is a flock on a file in a directory that all users share. It does not reach other
    machines or containers with a private /tmp.
    """

    def __init__(self, name: str, directory: Path | None = None) -> None:
        self.path = (directory or shared_directory()) / f"teraproof-{name}.lock"
        self._handle: int | None = None

    def take(self, *, wait: bool = False) -> bool:
        """Take the lock; False when somebody else has it and we do not `wait`."""
        while self._handle is None:
            handle = self._open()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:
                os.close(handle)
                return False
            if self._is_current(handle):
                self._handle = handle
            else:
                os.close(handle)  # somebody removed the file in between: lock the new one
        return True

    def holder(self) -> int | None:
        """The process that holds the lock, as far as this machine tells."""
        try:
            there = self.path.stat()
            held = Path("/proc/locks").read_text()
        except OSError:
            return None
        place = (os.major(there.st_dev), os.minor(there.st_dev), there.st_ino)
        for line in held.splitlines():
            found = _FLOCK.search(line)
            if found is None:
                continue
            major, minor, inode = found["major"], found["minor"], found["inode"]
            if (int(major, 16), int(minor, 16), int(inode)) == place:
                return int(found["pid"]) or None
        return None

    def release(self) -> None:
        """Give the lock back. The file stays: removing it would let two lock two files."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            # Created by another user, the file may only be opened for reading; that is enough.
            with contextlib.suppress(FileNotFoundError):
                return os.open(self.path, os.O_RDONLY | flags)
            return os.open(self.path, os.O_RDONLY | os.O_CREAT | flags, 0o644)
        except OSError as error:
            raise LocalError(
                f"cannot open the lock {self.path}: {error.strerror}", Code.SETTINGS_INVALID
            ) from error

    def _is_current(self, handle: int) -> bool:
        ours = os.fstat(handle)
        try:
            there = self.path.lstat()
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def shared_directory() -> Path:
    """A directory that every user of the machine can write to and that a reboot empties."""
    for place in (Path("/run/lock"), Path("/var/lock")):
        with contextlib.suppress(OSError):
            if place.stat().st_mode & stat.S_IWOTH:
                return place
    return Path("/tmp")  # noqa: S108 - shared on purpose; O_NOFOLLOW and the inode check guard it
