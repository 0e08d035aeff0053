# SPDX-License-Identifier: Apache-2.0
"""Faults of a disk as errors, and names that outlive a loss of power."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def faults(place: Path, otherwise: Code = Code.INPUT_INVALID) -> Iterator[None]:
    """LocalError instead of OSError: DISK_FULL, or `otherwise`."""
    try:
        yield
    except OSError as error:
        code = Code.DISK_FULL if error.errno in _FULL else otherwise
        raise LocalError(f"{place}: {error.strerror}", code) from None


def sync_names(folder: Path) -> None:
    """Have the names in a directory on the disk, where the file system can do that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(handle)


def write_whole(place: Path, data: bytes) -> None:
    """Write a small file, so that after any end there is the old one or the new one."""
    part = place.with_name(f"{place.name}.new")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(place)
    sync_names(place.parent)
