# SPDX-License-Identifier: Apache-2.0
"""How many requests an endpoint gets from us: fewer than its provider admits.

A bucket of tokens. A part of it is kept for what we owe: reads of less weight wait until there is
more in the bucket than that. Where no rate is set, one is learnt from the first "too many requests"
and raised slowly afterwards.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_BURST = 0.3  # part of a second's requests that may go at once; the rest flows in
_KEPT = 0.5  # part of the bucket that is kept for what we owe
_CAREFUL = 0.8  # of what we asked for in the second before we were limited
_LEAST = 5.0  # requests per second; with fewer no cycle ends
_ROUNDING = 0.001  # seconds; a shorter sleep may end before its time
_GROWTH = 0.05  # a second, of a rate that was learnt


class Budget:
    """Requests per second to one endpoint; `rate` None means no limit until one is learnt.

    `burst` is how many may go at once; without it no second sees more than `rate` of them.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        burst: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ceiling, self._burst, self._clock, self._sleep = rate, burst, clock, sleep
        self._learnt: float | None = None
        self._lock = threading.Lock()
        self._asked: deque[float] = deque(maxlen=1000)
        self._at = clock()
        self._limited_at = self._at - 1.0
        self._tokens = 1.0 if rate is None else self._room(rate)

    @property
    def rate(self) -> float | None:
        """Requests per second that are admitted now."""
        known = [rate for rate in (self._ceiling, self._learnt) if rate is not None]
        return min(known, default=None)

    def take(self, *, owed: bool, wait: float) -> bool:
        """Take the right to one request, waiting `wait` seconds at most; False when it takes
        longer.
        """
        while True:
            with self._lock:
                missing = self._missing(owed)
                if missing <= 0:
                    self._tokens -= 1.0
                    self._asked.append(self._at)
                    return True
            if missing > wait:
                return False
            wait -= missing
            self._sleep(missing + _ROUNDING)

    def limited(self) -> None:
        """The endpoint has said that we ask too often."""
        with self._lock:
            now = self._clock()
            if now - self._limited_at < 1.0:
                return  # the same burst
            self._limited_at = now
            recent = sum(1 for at in self._asked if now - at <= 1.0)
            self._learnt = max(_LEAST, _CAREFUL * min(recent, self.rate or recent))
            self._tokens = min(self._tokens, 1.0)

    def _missing(self, owed: bool) -> float:
        """Seconds until a token is there; adds what has flowed in."""
        now = self._clock()
        passed, self._at = max(0.0, now - self._at), now
        if self._learnt is not None:
            self._learnt *= (1 + _GROWTH) ** min(passed, 60.0)
            if self._learnt > 1000:
                self._learnt = None
        rate = self.rate
        if rate is None:
            self._tokens = 1.0
            return 0.0
        room = self._room(rate)
        flow = rate * (1 - _BURST) if self._burst is None else rate
        self._tokens = min(room, self._tokens + passed * flow)
        wanted = 1.0 if owed else min(room, 1.0 + _KEPT * (room - 1.0))
        return (wanted - self._tokens) / flow if self._tokens < wanted else 0.0

    def _room(self, rate: float) -> float:
        return max(1.0, rate * _BURST if self._burst is None else self._burst)
