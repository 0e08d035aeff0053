# SPDX-License-Identifier: Apache-2.0
"""The beginnings of objects that are on their way here."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.disk import faults, sync_names
from teraproof.storage.limits import PIECE
from teraproof.storage.objects import Named


class Part(Protocol):
    """The beginning of an object, here or on another machine. LocalError when it is not kept."""

    @property
    def at(self) -> int:
        """Bytes that are there."""
        ...

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        ...

    def restart(self) -> None:
        """Nothing of it is there."""
        ...

    def is_right(self) -> bool:
        """Whether what is there has the sha256 of the object."""
        ...

    def finish(self) -> None:
        """It is right: put it in its place, on the disk."""
        ...


@contextmanager
def part_of(place: Path, named: Named, target: Path) -> Iterator[Part]:
    """The beginning of the file `target`, kept at `place`. Nobody else writes there meanwhile."""
    with faults(place), _held(place) as file:
        yield _FilePart(file, named, place, target)


class _FilePart:
    """See `part_of`."""

    def __init__(self, file: IO[bytes], named: Named, place: Path, target: Path) -> None:
        self._file, self._named, self._place, self._target = file, named, place, target
        self._digest, self._at = hashlib.sha256(), 0
        if os.fstat(file.fileno()).st_size <= named.size:
            file.seek(0)
            while piece := file.read(PIECE):
                self._digest.update(piece)
                self._at += len(piece)
        self._cut()

    @property
    def at(self) -> int:
        """See `Part`."""
        return self._at

    def add(self, piece: bytes) -> None:
        """See `Part`."""
        _write(self._file, piece)
        self._digest.update(piece)
        self._at += len(piece)

    def restart(self) -> None:
        """See `Part`."""
        self._digest, self._at = hashlib.sha256(), 0
        self._cut()

    def is_right(self) -> bool:
        """See `Part`."""
        return self._digest.hexdigest() == self._named.sha256

    def finish(self) -> None:
        """See `Part`."""
        os.fsync(self._file.fileno())
        self._place.replace(self._target)
        sync_names(self._target.parent)

    def _cut(self) -> None:
        self._file.truncate(self._at)
        self._file.seek(self._at)


@contextmanager
def _held(part: Path) -> Iterator[IO[bytes]]:
    """The file, which no other program writes to meanwhile. Unbuffered: what came is kept."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with open(os.open(part, flags, 0o600), "r+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError(
                    f"{part}: another program is fetching it", Code.COMMAND_RUNNING
                ) from None
            # Another program may have moved it to its place between the opening and the lock.
            if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
                yield file
                return


def _write(file: IO[bytes], piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
