# SPDX-License-Identifier: Apache-2.0
"""Has old events read again when the chain knows a lease of ours and no event has told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from provider_agent.core.feed import EventFeed
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef

_EVERY, _HURRY, _FROM_THE_BEGINNING = 300.0, 20.0, 600.0  # seconds between two looks back
_WINDOWS = 4  # of the feed, that a look back covers at least


class Backfill:
    """Sends the feed back. `window` is blocks that the feed reads again at each poll."""

    def __init__(
        self,
        feed: EventFeed,
        pace: Pace,
        window: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed, self._pace, self._window, self._clock = feed, pace, window, clock
        self._looked: float | None = None

    def look(self, block: BlockRef, since: Sequence[int], *, lost: bool) -> None:
        """Call in each cycle: `since` are times (unix seconds) of what was promised and whose
        events are missed; `lost` whether a lease of unknown age is ours.
        """
        pause = _HURRY if since else _FROM_THE_BEGINNING if lost else _EVERY
        if self._looked is not None and self._clock() - self._looked < pause:
            return
        first_look, self._looked = self._looked is None, self._clock()
        if lost:
            self._feed.look_back(0)
            return
        if first_look and not since:
            return  # the start has just read what is new
        first = block.number - _WINDOWS * self._window
        if since:
            passed = max(0, block.timestamp - min(since))
            # Blocks may have been faster than they are now.
            first = min(first, block.number - int(1.5 * passed / self._pace.seconds) - self._window)
        self._feed.look_back(max(0, first))
