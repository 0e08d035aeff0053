# SPDX-License-Identifier: Apache-2.0
"""Looks for events that the nodes have not shown: reads again what was read long ago.

Nodes lose logs, and serve them late. Most of what is owed follows from state, but a job that was
hired by a quote of ours is known by its event alone, and holds our collateral.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from provider_agent.core.feed import EventFeed
from provider_agent.modules.jobs.book import JobBook
from provider_agent.modules.jobs.promises import Promises
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

_EVERY = 300.0  # seconds between two looks back when nothing is missed
_HURRY = 20.0  # while a quote was used and its job is not known
_WINDOWS = 4  # of the feed, that a look back covers at least


class Backfill:
    """Sends the feed back. `window` is blocks that the feed reads again at each poll."""

    def __init__(
        self,
        book: JobBook,
        promises: Promises,
        feed: EventFeed,
        pace: Pace,
        window: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._promises, self._feed, self._pace = book, promises, feed, pace
        self._window, self._clock = window, clock
        self._looked: float | None = None

    def look(self, block: BlockRef, owner: str | None) -> None:
        """Have the feed read from further back, if it is time. Call before each poll; `owner` is
        whose jobs are ours.
        """
        missing = self._promises.unseen
        pause = _HURRY if missing else _EVERY
        if self._looked is not None and self._clock() - self._looked < pause:
            return
        self._looked = self._clock()
        for quote in missing:
            log.warning(
                "quote %s of %s was used and its job is not known: reading old events again",
                quote.digest.hex()[:12],
                quote.requester,
            )
        first = block.number - _WINDOWS * self._window
        oldest = self._oldest(owner)
        if oldest is not None:
            passed = max(0, block.timestamp - oldest)
            # Blocks may have been faster than they are now.
            first = min(first, block.number - int(1.5 * passed / self._pace.seconds) - self._window)
        self._feed.look_back(max(0, first))

    def _oldest(self, owner: str | None) -> int | None:
        """The time, as the chain has it, of the oldest thing whose event may be missed."""
        quotes = [*self._promises.quotes, *self._promises.unseen]
        times = [quote.created_at for quote in quotes]
        unread = None if owner is None else self._book.store.unread_since(owner)
        return min([*times, *([] if unread is None else [unread])], default=None)
