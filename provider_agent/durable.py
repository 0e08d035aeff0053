# SPDX-License-Identifier: Apache-2.0
"""What outlives a loss of power."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

#: Above that number of files and directories the whole file system is synced once. The disk has to
#: answer for each that is synced by itself, and strangers choose how many there are.
FEW = 64

_LIBC = ctypes.CDLL(None, use_errno=True)


def sync(path: Path) -> None:
    """Has a file, or the names in a directory, on the disk. A link is refused. Raises OSError."""
    _sync(path, os.O_NOFOLLOW)


def sync_directory(path: Path) -> None:
    """Has the names in a directory on the disk; the path to it may be a link. Raises OSError."""
    _sync(path, os.O_DIRECTORY)


def sync_tree(top: Path) -> None:
    """Has a directory and all below it on the disk, on one file system. Raises OSError."""
    found = list(islice(_walk(top), FEW + 1))
    if len(found) > FEW:
        _sync_file_system(top)
    else:
        for path in found:
            sync(path)


def _walk(top: Path) -> Iterator[Path]:
    """What is below, a directory after all that is in it."""

    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(top, topdown=False, onerror=fail):
        yield from (Path(parent) / name for name in names)
        yield Path(parent)


def _sync_file_system(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))
    finally:
        os.close(handle)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
