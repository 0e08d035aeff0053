# SPDX-License-Identifier: Apache-2.0
"""The one clock of what is owed: the chain's time, carried on by the monotonic clock.

Deadlines are the chain's. The machine's own clock may be hours off, or be set while jobs run. It is
compared with the chain's, because something is wrong with one of them when they differ.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from provider_agent.core.health import Check
from teraproof.rpc.types import BlockRef

_SAMPLES = 5  # blocks


def elapsed() -> float:
    """Seconds since the machine was started, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ChainClock:
    """See the module. `monotonic` gives seconds that never run back."""

    def __init__(self, monotonic: Callable[[], float] = elapsed) -> None:
        self._monotonic = monotonic
        self._seen: int | None = None
        self._at = 0.0
        self._looked: float | None = None

    def see(self, timestamp: int) -> int:
        """Take a block's time, unix seconds, and say what the time is. A block that is seen again
        is not news: while the chain stands still, time goes on.
        """
        self._looked = self._monotonic()
        if timestamp != self._seen:
            self._seen, self._at = timestamp, self._looked
        return self.now()

    def now(self) -> int:
        """The time; 0 before the first block."""
        return 0 if self._seen is None else self._seen + int(self._monotonic() - self._at)

    def age(self) -> float:
        """Seconds since the chain was looked at: the machine may have been stopped meanwhile."""
        return float("inf") if self._looked is None else self._monotonic() - self._looked


class Drift:
    """How far the machine's clock is from the chain's. `margin` is in seconds, `wall` the machine's
    clock (unix seconds). Told by the loop, asked from any thread.
    """

    def __init__(self, margin: float, wall: Callable[[], float] = time.time) -> None:
        self._margin, self._wall = margin, wall
        self._head: bytes | None = None
        # How far the chain was ahead when each block was seen. One that is seen late seems to be
        # behind, and none seems to be ahead that is not: the most of some blocks is about right.
        self._ahead: deque[float] = deque(maxlen=_SAMPLES)

    def see(self, head: BlockRef) -> None:
        """Take the newest block."""
        if head.hash == self._head:
            return
        first, self._head = self._head is None, head.hash
        ahead = head.timestamp - self._wall()
        # Nobody knows how long the first one has been there: a chain may be quiet.
        if not first or ahead > 0:
            self._ahead.append(ahead)

    @property
    def seconds(self) -> float:
        """How far the chain is ahead of the machine; below 0 when it is behind."""
        return max(tuple(self._ahead), default=0.0)

    @property
    def is_off(self) -> bool:
        """Whether the two differ by more than the margin."""
        return abs(self.seconds) > self._margin

    def check(self) -> Check:
        """For the readiness report."""
        if not self.is_off:
            return Check("clock", True)
        way = "behind" if self.seconds > 0 else "ahead of"
        return Check(
            "clock",
            False,
            f"the machine's clock is {abs(self.seconds):.0f} s {way} the chain's; set it",
        )
