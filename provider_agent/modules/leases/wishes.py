# SPDX-License-Identifier: Apache-2.0
"""What the owner wants of single leases: files that a command writes and the agent reads.

So the command needs neither the key nor the database, and what it has said outlives both programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path

from teraproof.protocol.digests import is_hex_digest

FOLDER = "lease-wishes"
_MOST = 10_000


class Wish(StrEnum):
    """What the owner wants."""

    NOTICE = "notice"  # leave after the notice that was promised
    LEAVE = "leave"  # leave at once, and lose the collateral


def wish(data_dir: Path, lease: bytes, wanted: Wish) -> None:
    """Write down what is wanted of a lease. Raises OSError."""
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f".{lease.hex()}"
    made.write_text(wanted.value)
    made.replace(folder / lease.hex())


def wishes(data_dir: Path) -> Iterator[tuple[bytes, Wish]]:
    """What is wanted, by lease."""
    with suppress(FileNotFoundError):
        for path in islice((data_dir / FOLDER).iterdir(), _MOST):
            if is_hex_digest(path.name):
                with suppress(ValueError, OSError):
                    yield bytes.fromhex(path.name), Wish(path.read_text()[:16])


def forget(data_dir: Path, lease: bytes) -> None:
    """It was done, or the lease has ended."""
    (data_dir / FOLDER / lease.hex()).unlink(missing_ok=True)
