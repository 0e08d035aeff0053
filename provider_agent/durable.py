# SPDX-License-Identifier: Apache-2.0
"""What outlives a loss of power."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Has a file, or the names in a directory, on the disk. A link is refused. Raises OSError."""
    _sync(path, os.O_NOFOLLOW)


def sync_directory(path: Path) -> None:
    """Has the names in a directory on the disk; the path to it may be a link. Raises OSError."""
    _sync(path, os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
