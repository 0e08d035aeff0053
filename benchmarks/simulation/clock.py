# SPDX-License-Identifier: Apache-2.0
"""Time that passes only when somebody waits.

`begin` replaces `time.time`, `time.monotonic` and `time.sleep` of this process. Call it before the
code under test is imported: a default argument may hold the function of that moment.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Clock:
    """Virtual time for one thread; the sleeps of all others stay real."""

    def __init__(self) -> None:
        self._time, self._monotonic, self._sleep = time.time, time.monotonic, time.sleep
        self._owner = threading.current_thread()
        self._offset: float | None = None  # None: real time
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def install(self) -> None:
        """Replace the functions; time is still the machine's."""
        time.time = lambda: self._time() if self._offset is None else self._offset + self._now
        time.monotonic = lambda: self._monotonic() if self._offset is None else self._now
        time.sleep = self._wait  # type: ignore[assignment]  # nobody sleeps for an index

    def begin(self, now: float) -> None:
        """From here on it is `now`, unix seconds, and time passes only by waits."""
        self._now = self._monotonic()
        self._offset = now - self._now

    def end(self) -> None:
        """Give the machine's time back."""
        self._offset = None

    @property
    def real(self) -> float:
        """Seconds by the machine's monotonic clock."""
        return self._monotonic()

    def at(self, when: float, deed: Callable[[], None]) -> None:
        """Have something done at a time, unix seconds."""
        heapq.heappush(self._due, (when, next(self._order), deed))

    def advance(self, seconds: float) -> None:
        """Let time pass, and do on the way what falls due."""
        assert self._offset is not None, "not begun"
        until = self._now + max(0.0, seconds)
        while self._due and self._due[0][0] - self._offset <= until:
            when, _, deed = heapq.heappop(self._due)
            self._now = max(self._now, when - self._offset)
            deed()
            until = max(until, self._now)
        self._now = until

    def _wait(self, seconds: float) -> None:
        if self._offset is None or threading.current_thread() is not self._owner:
            self._sleep(seconds)
        else:
            self.advance(seconds)
