# SPDX-License-Identifier: Apache-2.0
"""The inference duty: what channels need of the chain.

What is owed follows from the channel book and from the channels' state at the pinned block:

    a payer has signed a deposit            -> intent `deposit`, and its balance in the book
    more served than claimed, worth its gas -> intent `claim`, for many channels
    the same, and a withdrawal has begun    -> intent `claim` at once
    a payer asks for the rest               -> intent `refund`, with a claim of what is owed
    claimed and not paid out, worth its gas -> intent `settle`

Events only save waiting: all channels with money in them are looked at in turn, some at a time. So
a lost event delays a claim by minutes, and a withdrawal takes a day at least.

After a long gap, because the agent or its node was down, withdrawals may have begun and ended of
which nothing is known here. So each channel is looked at again before anything is served on it:
`floor` is the block that it has to have been seen at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from provider_agent.core.module import Cycle
from provider_agent.core.policy import contained
from provider_agent.modules.inference.chain_view import AT_ONCE, ChannelView
from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.claims import Claims
from provider_agent.modules.inference.deposits import Deposits
from provider_agent.modules.inference.refunds import Refunds
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.modules.inference.settling import Settling
from teraproof.contracts.base import Event
from teraproof.contracts.channels import (
    Claimed,
    Deposited,
    Refunded,
    WithdrawFinalized,
    WithdrawInitiated,
)
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

EVENTS: tuple[type[Event], ...] = (
    Deposited,
    Claimed,
    Refunded,
    WithdrawInitiated,
    WithdrawFinalized,
)
_QUICK = 0.5  # seconds to the next look while somebody waits for a deposit or a refund
EVERY = 15.0  # seconds between two rounds over channels of which nothing is new
_MOST_NEWS = 4 * AT_ONCE  # channels with news that a cycle reads
_AFTER_GAP = 4 * AT_ONCE  # and others, after a long gap
_SEEN, _NOTE_EVERY = "inference.seen", 60  # in the store's meta; seconds of the chain


class InferenceDuty:
    """See the module. `consume` and `reconcile` are called from one thread."""

    def __init__(
        self,
        *,
        book: ChannelBook,
        claim_book: ClaimBook,
        view: ChannelView,
        deposits: Deposits,
        claims: Claims,
        refunds: Refunds,
        settling: Settling,
        patience: float,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._claim_book, self._view = book, claim_book, view
        self._deposits, self._claims = deposits, claims
        self._refunds, self._settling = refunds, settling
        self._clock = clock
        self._dirty: dict[bytes, None] = {}  # in the order in which they became so
        self._every, self._round = every, -every
        self._patience = patience  # seconds of the chain
        self._seen = int(claim_book.core.meta(_SEEN) or 0)
        self._noted = self._seen
        #: What is served must have been seen at this block or later.
        self.floor = 0
        self._has_gap = False
        #: Seconds until the next cycle is wanted; None when nothing is in a hurry.
        self.look_again: float | None = None

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what events tell, in the feed's transaction; state is read in `reconcile`."""
        named = [*again]
        for event in events:
            if isinstance(event, EVENTS):
                named.append(getattr(event, "channel_id"))  # noqa: B009 - each of them has it
        for channel in named:
            # Anybody can open channels to anybody: only those in the book count.
            with contained("inference: an event was skipped"):
                if self._book.channel(channel) is not None:
                    self._dirty[channel] = None

    def reconcile(self, cycle: Cycle) -> None:
        """Do what is owed at this block. Raises ChainError; what was written stays right."""
        block, head = cycle.block, cycle.head
        if block.timestamp - self._seen > self._patience:
            self.floor, self._has_gap = block.number, True
        self._seen = block.timestamp
        under_way = self._claims.look(block)
        self._dirty.update(dict.fromkeys(self._claims.ended()))
        self._look(block)
        wanted = self._refunds.reconcile(block, under_way)
        self._claims.claim(block, head, under_way | wanted)
        self._deposits.reconcile(block, head, cycle.time_left)
        self._settling.reconcile(block, self._claim_book.receivers())
        waits = self._deposits.waiting or self._refunds.waiting
        self.look_again = _QUICK if waits or self._has_gap else None
        if not self._has_gap and self._seen - self._noted >= _NOTE_EVERY:
            self._claim_book.core.set_meta(_SEEN, str(self._seen))
            self._noted = self._seen

    def _look(self, block: BlockRef) -> None:
        """Bring channels in line with the chain: those with news, and some others in their turn."""
        news = list(self._dirty)[:_MOST_NEWS]
        rows = [row for one in news if (row := self._book.channel(one)) is not None]
        now = self._clock()
        if now - self._round >= self._every:
            self._round = now
            rows += self._claim_book.unseen(block.number, AT_ONCE)
        others = self._claim_book.unseen(self.floor, _AFTER_GAP) if self._has_gap else []
        self._see([*rows, *others], block)
        self._has_gap = len(others) == _AFTER_GAP  # when they were seen
        for one in news:
            self._dirty.pop(one, None)

    def _see(self, rows: Sequence[ChannelRow], block: BlockRef) -> None:
        known = {row.channel: row for row in rows}
        states = self._view.read(known, block)
        # More than was known is believed when two endpoints have it: it will be served for.
        more = [one for one, state in states.items() if state.balance > known[one].balance]
        if more:
            states |= self._view.sure(more, block)
        with self._book.transaction():
            for one, state in states.items():
                was = known[one]
                self._book.see(was.config, state, block.number)
                if state.withdraw_requested_at and not was.withdraw_requested_at:
                    log.warning(
                        "channel %s: its payer withdraws; %s units are owed",
                        was.name[:12],
                        was.unclaimed,
                    )
