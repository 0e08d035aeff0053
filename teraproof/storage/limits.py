# SPDX-License-Identifier: Apache-2.0
"""How much a transfer may take: bytes, time, redirects, and the share of the line."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Bytes that are held in memory at once, of each transfer.
PIECE = 1 << 18


@dataclass(frozen=True)
class Limits:
    """Bounds of one transfer."""

    most_bytes: int = 1 << 40
    """Of an object, and of a whole checkpoint."""
    least_rate: int = 16 << 10
    """Bytes per second: a transfer that falls behind by `grace_seconds` is broken off."""
    grace_seconds: float = 30.0
    """For a connection, an answer's headers, and pauses; not for bytes that flow."""
    most_rate: int | None = None
    """Bytes per second that we take or send; None: as many as the line carries."""
    most_names: int = 100_000
    """That one list of what there is may have."""
    redirects: int = 5
    tries: int = 4
    """Of a request that fails in a way that may pass."""

    def seconds(self, size: int) -> float:
        """The longest that `size` bytes may take, with all tries."""
        return self.grace_seconds * self.tries + size / self.least_rate


class Meter:
    """Counts the bytes of one request. `start` is the time (monotonic) when it began."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limits, self._clock, self._sleep = limits, clock, sleep
        self._start, self._moved, self._held = clock(), 0, 0.0

    @property
    def deadline(self) -> float:
        """When the next bytes must have come (monotonic): the later, the more have come."""
        earned = self._moved / self._limits.least_rate
        return self._start + self._held + self._limits.grace_seconds + earned

    def moved(self, count: int) -> None:
        """`count` bytes came or went. Waits where that was faster than it may be; such a wait is
        not the other side's time.
        """
        self._moved += count
        if self._limits.most_rate is None:
            return
        ahead = self._start + self._moved / self._limits.most_rate - self._clock()
        if ahead > 0:
            self._sleep(ahead)
            self._held += ahead
