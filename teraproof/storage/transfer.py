# SPDX-License-Identifier: Apache-2.0
"""Fetching and sending one object: resumed after any break, and trusted only by its sha256."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.disk import faults, sync_names
from teraproof.storage.file_store import FileStore
from teraproof.storage.http_store import HttpStore
from teraproof.storage.limits import PIECE, Limits
from teraproof.storage.objects import Body, Named, Source, Store
from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri
from teraproof.storage.web import Web

_PASSES = (Code.STORE_UNREACHABLE, Code.TOO_SLOW)
_Found = TypeVar("_Found")


def open_store(
    uri: Uri,
    reach: Reach,
    limits: Limits | None = None,
    access: Access | None = None,
    ca_file: Path | None = None,
) -> Store:
    """The store at a URI, for one thread. LocalError when `reach` does not admit it. `access` is
    for s3 alone.
    """
    limits = limits or Limits()
    if reach.check(uri).scheme == "file":
        return FileStore(uri, reach, limits)
    web = Web(reach, limits, ca_file)
    if uri.scheme != "s3":
        return HttpStore(uri, web)
    from teraproof.storage.s3_store import S3Store

    return S3Store(uri, web, access or Access())


def fetch(store: Store, key: str, named: Named, target: Path, limits: Limits) -> None:
    """Have an object as the file `target`, which appears when it is verified and on the disk.

    What a broken or killed call has got is kept in `<target>.part`, and the next one goes on from
    there. LocalError: the object is not what it should be, too large, away, or too slow.
    """
    if named.size > limits.most_bytes:
        raise LocalError(
            f"{store.uri}: has {named.size} bytes, more than the {limits.most_bytes} allowed",
            Code.LIMIT_EXCEEDED,
        )
    part = target.with_name(target.name + ".part")
    with faults(part), _held(part) as file:
        state = _Part(file, named, f"{store.uri}")
        attempts(lambda: state.go_on(store, key), limits, lambda: state.at, named.size)
        os.fsync(file.fileno())
        part.replace(target)
        sync_names(target.parent)


def send(store: Store, key: str, source: Source, limits: Limits, *, new: bool = False) -> bool:
    """Put an object in its place; see `Store.write`. What fails in passing is tried again."""
    return attempts(lambda: store.write(key, source, new=new), limits, lambda: 0, source.named.size)


def attempts(
    once: Callable[[], _Found],
    limits: Limits,
    progress: Callable[[], int] = lambda: 0,
    size: int = 0,
) -> _Found:
    """Do something until it works. It is given up after `tries` without progress in a row, and when
    `size` bytes should have come at the least rate.
    """
    until, left = time.monotonic() + limits.seconds(size), limits.tries
    while True:
        before = progress()
        try:
            return once()
        except LocalError as error:
            left = limits.tries if progress() > before else left - 1
            pause = 0.25 * 2.0 ** (limits.tries - left)
            if error.code not in _PASSES or left <= 0 or time.monotonic() + pause > until:
                raise
            time.sleep(pause)


class _Part:
    """The beginning of an object, on the disk."""

    def __init__(self, file: IO[bytes], named: Named, shown: str) -> None:
        self._file, self._named, self._shown = file, named, shown
        self._digest = hashlib.sha256()
        #: Bytes that are there.
        self.at = 0
        self._doubted = self._again = False
        if os.fstat(file.fileno()).st_size <= named.size:
            file.seek(0)
            while piece := file.read(PIECE):
                self._digest.update(piece)
                self.at += len(piece)
            self._doubted = self.at > 0  # left by an earlier call, perhaps of other bytes
        self._cut()

    def go_on(self, store: Store, key: str) -> None:
        """Fetch what is missing. Where old and new bytes are not what they should be together, all
        of it is fetched again, once.
        """
        while True:
            if self.at < self._named.size or self._named.size == 0:
                with store.read(key, self.at) as body:
                    self._take(body)
            if self._digest.hexdigest() == self._named.sha256:
                return
            again = self._doubted and not self._again
            self._restart()
            self._again = True
            if not again:
                raise LocalError(
                    f"{self._shown}: the bytes there do not have the sha256 that was named",
                    Code.DIGEST_MISMATCH,
                )

    def _take(self, body: Body) -> None:
        if body.size is not None and body.size != self._named.size:
            raise LocalError(
                f"{self._shown}: has {body.size} bytes instead of {self._named.size}",
                Code.DIGEST_MISMATCH,
            )
        if body.start != self.at:
            self._restart()
            if body.start:
                raise LocalError(
                    f"{self._shown}: answers with another part than was asked for",
                    Code.STORE_REFUSED,
                )
        if self.at:
            self._doubted = True  # the object may have changed since its first bytes came
        for piece in body.pieces:
            if self.at + len(piece) > self._named.size:
                self._restart()
                raise LocalError(
                    f"{self._shown}: goes on after {self._named.size} bytes", Code.DIGEST_MISMATCH
                )
            _write(self._file, piece)
            self._digest.update(piece)
            self.at += len(piece)
        if self.at < self._named.size:
            raise LocalError(
                f"{self._shown}: the connection broke; try again", Code.STORE_UNREACHABLE
            )

    def _restart(self) -> None:
        self._digest, self.at, self._doubted = hashlib.sha256(), 0, False
        self._cut()

    def _cut(self) -> None:
        self._file.truncate(self.at)
        self._file.seek(self.at)


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
