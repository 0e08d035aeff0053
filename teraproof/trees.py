# SPDX-License-Identifier: Apache-2.0
"""Directories that become what a manifest says."""

from __future__ import annotations

from pathlib import Path

from teraproof.protocol.digests import Entry, file_digest


def keep_only(files: Path, wanted: set[str]) -> None:
    """Clear what an earlier, other tree left below `files`: all but the paths `wanted`."""
    if not files.exists():
        return
    for path in sorted(files.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(files).as_posix() not in wanted:
            path.unlink()


def is_entry(place: Path, entry: Entry) -> bool:
    """Whether a regular file with these bytes is there."""
    if not place.is_file() or place.is_symlink() or place.stat().st_size != entry.size:
        return False
    return file_digest(place).hex() == entry.sha256
