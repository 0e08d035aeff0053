# SPDX-License-Identifier: Apache-2.0
"""Processor time for requests that nobody has paid for.

A request is read before its price is known, and reading holds up all streams of the listener. So
all strangers together have a share of its thread. When that is used up, only payers go on whose
channel is known.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SHARE = 0.25  # of the thread's time
_AT_ONCE = 2.0  # seconds of it that may be taken in one go


class UnpaidTime:
    """See the module. Used on the event loop. `clock` and `busy` are in seconds: what has passed,
    and what this thread has worked.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock, self.busy = clock, busy
        self._left, self._at = _AT_ONCE, clock()

    @property
    def is_used_up(self) -> bool:
        """Whether strangers have to wait."""
        now = self._clock()
        self._left = min(_AT_ONCE, self._left + (now - self._at) * _SHARE)
        self._at = now
        return self._left <= 0

    def take(self, seconds: float) -> None:
        """A request has taken so much; negative once it is paid for."""
        self._left -= seconds
