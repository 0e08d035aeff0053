# SPDX-License-Identifier: Apache-2.0
"""A lock for each lease: what is done to one never waits for what is done to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Locks:
    """See the module. A thread may take the same one again."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str, tuple[threading.RLock, int]] = {}

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Waits for it."""
        lock = self._lend(name)
        try:
            with lock:
                yield
        finally:
            self._return(name)

    @contextmanager
    def tried(self, name: str) -> Iterator[bool]:
        """Whether it was free; does not wait."""
        lock = self._lend(name)
        taken = lock.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                lock.release()
            self._return(name)

    def _lend(self, name: str) -> threading.RLock:
        with self._guard:
            lock, users = self._known.get(name) or (threading.RLock(), 0)
            self._known[name] = lock, users + 1
            return lock

    def _return(self, name: str) -> None:
        with self._guard:
            lock, users = self._known.pop(name)
            if users > 1:
                self._known[name] = lock, users - 1
