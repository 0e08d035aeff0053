# SPDX-License-Identifier: Apache-2.0
"""The end of a lease, as its stores hear it: what is under way breaks off, and nothing begins."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.objects import Store
from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri


class Ending(threading.Event):
    """Whether a lease has ended. What its stores are doing is broken off at that moment."""

    def __init__(self) -> None:
        super().__init__()
        self._stores: set[Store] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """It has."""
        super().set()
        with self._lock:
            stores = list(self._stores)
        for store in stores:
            store.cut_off()

    @contextmanager
    def breaks_off(self, store: Store) -> Iterator[None]:
        """Have it break off a store in here. After its end the leash lets nothing begin."""
        with self._lock:
            self._stores.add(store)
        try:
            yield
        finally:
            with self._lock:
                self._stores.discard(store)


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
