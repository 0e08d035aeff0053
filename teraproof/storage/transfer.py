# SPDX-License-Identifier: Apache-2.0
"""Fetching and sending one object: resumed after any break, and trusted only by its sha256."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.access import Access
from teraproof.storage.file_store import FileStore
from teraproof.storage.http_store import HttpStore
from teraproof.storage.limits import Limits
from teraproof.storage.objects import Body, Named, Source, Store
from teraproof.storage.parts import Part, part_of
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
    with part_of(target.with_name(target.name + ".part"), named, target) as part:
        receive(store, key, named, part, limits)


def receive(store: Store, key: str, named: Named, part: Part, limits: Limits) -> None:
    """Have an object in its place, verified. LocalError as `fetch` says: then what has come stays
    in `part`.
    """
    if named.size > limits.most_bytes:
        raise LocalError(
            f"{store.uri}: has {named.size} bytes, more than the {limits.most_bytes} allowed",
            Code.LIMIT_EXCEEDED,
        )
    state = _Receiving(part, named, f"{store.uri}")
    attempts(lambda: state.go_on(store, key), limits, lambda: part.at, named.size)
    part.finish()


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


class _Receiving:
    """What is known of a part while the rest of it comes."""

    def __init__(self, part: Part, named: Named, shown: str) -> None:
        self._part, self._named, self._shown = part, named, shown
        self._doubted = part.at > 0  # left by an earlier call, perhaps of other bytes
        self._again = False

    def go_on(self, store: Store, key: str) -> None:
        """Fetch what is missing. Where old and new bytes are not what they should be together, all
        of it is fetched again, once.
        """
        while True:
            if self._part.at < self._named.size or self._named.size == 0:
                with store.read(key, self._part.at) as body:
                    self._take(body)
            if self._part.is_right():
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
        if body.start != self._part.at:
            self._restart()
            if body.start:
                raise LocalError(
                    f"{self._shown}: answers with another part than was asked for",
                    Code.STORE_REFUSED,
                )
        if self._part.at:
            self._doubted = True  # the object may have changed since its first bytes came
        for piece in body.pieces:
            if self._part.at + len(piece) > self._named.size:
                self._restart()
                raise LocalError(
                    f"{self._shown}: goes on after {self._named.size} bytes", Code.DIGEST_MISMATCH
                )
            self._part.add(piece)
        if self._part.at < self._named.size:
            raise LocalError(
                f"{self._shown}: the connection broke; try again", Code.STORE_UNREACHABLE
            )

    def _restart(self) -> None:
        self._doubted = False
        self._part.restart()
