# SPDX-License-Identifier: Apache-2.0
"""The one clock of what is owed: the chain's time, carried on by the monotonic clock.

Deadlines are the chain's. The machine's own clock may be hours off, or be set while jobs run.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class ChainClock:
    """See the module. `monotonic` gives seconds that never run back."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: int | None = None
        self._at = 0.0

    def see(self, timestamp: int) -> int:
        """Take a block's time, unix seconds, and say what the time is. A block that is seen again
        is not news: while the chain stands still, time goes on.
        """
        if timestamp != self._seen:
            self._seen, self._at = timestamp, self._monotonic()
        return self.now()

    def now(self) -> int:
        """The time; 0 before the first block."""
        return 0 if self._seen is None else self._seen + int(self._monotonic() - self._at)
