# SPDX-License-Identifier: Apache-2.0
"""Objects in a directory of this machine, or on what is mounted there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.disk import faults, sync_names
from teraproof.storage.limits import PIECE, Limits, Meter
from teraproof.storage.objects import Body, Source, too_many
from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri

# What a killed writer leaves has this beginning. No key begins with it.
_UNFINISHED = ".unfinished-"
_LEFT_SECONDS = 60  # between making such a file and locking it


class FileStore:
    """See `Store`. An object has its name only when all of it is on the disk."""

    def __init__(self, uri: Uri, reach: Reach, limits: Limits) -> None:
        self.uri, self._limits = reach.check(uri), limits

    def close(self) -> None:
        """Nothing is open."""

    def cut_off(self) -> None:
        """Nothing waits for another side here."""

    def size(self, key: str) -> int | None:
        """As the file system says."""
        with self._faults(key):
            try:
                return self._at(key).stat().st_size
            except FileNotFoundError:
                return None

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[Body]:
        """Open a file and begin at `start`."""
        with self._faults(key):
            try:
                file = self._at(key).open("rb")
            except FileNotFoundError:
                raise LocalError(f"{self._at(key)}: is not there", Code.OBJECT_MISSING) from None
        with file:
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
            yield Body(start, size, self._pieces(iter(lambda: file.read(PIECE), b"")))

    def write(self, key: str, source: Source, *, new: bool = False) -> bool:
        """Write next to the place, then move there."""
        target = self._at(key)
        part = target.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        with self._faults(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._clear(target.parent)
            try:
                with part.open("xb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    for piece in self._pieces(source.pieces()):
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    try:
                        os.link(part, target)
                    except FileExistsError:
                        return False
                else:
                    part.replace(target)
                sync_names(target.parent)
            finally:
                part.unlink(missing_ok=True)
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """The files in one directory."""
        most = self._limits.most_names
        with self._faults(prefix):
            try:
                with os.scandir(self._at(prefix)) as found:
                    names = sorted(each.name for each in islice(found, most + 1))
            except FileNotFoundError:
                return
        if len(names) > most:
            raise too_many(self.uri, most)
        yield from (name for name in names if not name.startswith(_UNFINISHED))

    def delete(self, key: str) -> None:
        """Unlink it."""
        with self._faults(key):
            self._at(key).unlink(missing_ok=True)

    def _at(self, key: str) -> Path:
        return self.uri.file / key if key else self.uri.file

    def _pieces(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        meter = Meter(self._limits)
        for piece in pieces:
            yield piece
            meter.moved(len(piece))

    def _clear(self, folder: Path) -> None:
        """Remove what killed writers have left: a living one holds a lock."""
        for path in folder.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)

    def _faults(self, key: str) -> AbstractContextManager[None]:
        return faults(self._at(key), Code.STORE_REFUSED)
