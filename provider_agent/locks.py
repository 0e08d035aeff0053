# SPDX-License-Identifier: Apache-2.0
"""Locks that all processes of one machine share, whatever user they run as."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from provider_agent.errors import SettingsError


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
            raise SettingsError(f"cannot open the lock {self.path}: {error.strerror}") from error

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
