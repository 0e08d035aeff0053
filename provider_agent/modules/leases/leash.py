# SPDX-License-Identifier: Apache-2.0
"""The end of a lease, as its stores hear it: what is under way breaks off, and nothing begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri


class Breakable(Protocol):
    """A store, or a directory on another machine."""

    def cut_off(self) -> None:
        """Break off what is under way. Any thread."""
        ...


class Ending(threading.Event):
    """Whether a lease has ended. What is done for it is broken off at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self._open: set[Breakable] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """It has."""
        super().set()
        with self._lock:
            left = list(self._open)
        for one in left:
            one.cut_off()

    @contextmanager
    def breaks_off(self, one: Breakable) -> Iterator[None]:
        """Have it break off a store or a directory in here, at once where it has come already."""
        with self._lock:
            self._open.add(one)
        if self.is_set():
            one.cut_off()
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(one)


@dataclass(frozen=True)
class Leash(Reach):
    """Reaches nothing any more once the lease has ended."""

    ended: threading.Event = field(default_factory=threading.Event)

    def check(self, uri: Uri) -> Uri:
        """See Reach. Asked before each request and each piece."""
        self._hold(uri.host)
        return super().check(uri)

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """See Reach."""
        self._hold(host)
        return super().resolve(host, port, seconds)

    def _hold(self, host: str) -> None:
        if self.ended.is_set():
            raise LocalError(f"{host}: the lease has ended", Code.URI_REFUSED)
