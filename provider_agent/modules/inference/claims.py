# SPDX-License-Identifier: Apache-2.0
"""Claims what was served and not paid out, of many channels in one transaction (I-9).

- Each row is tried on the newest state before it is sent. One bad row would fail all others, so bad
  ones are found by halving, left out for a while, and counted.
- A channel is in one transaction at a time. What was claimed is known by the chain's own sum, so a
  claim that comes twice brings nothing the second time.
- A claim waits until it is worth its gas, or until half of what a channel, a payer or all together
  may owe is owed.
- **A withdrawal has begun: what is owed is claimed at once**, if it brings more than its gas. When
  it has ended, an unclaimed voucher is worth nothing. The sender gets that moment as the deadline,
  and so pays more the nearer it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider_agent.core.attempts import MAX_PAUSE, PAUSE, UNDECIDED
from provider_agent.modules.inference.claim_book import (
    ClaimBook,
    brings,
    claim_key,
    claim_of,
)
from provider_agent.modules.inference.credit import Bounds
from provider_agent.modules.inference.gas import CLAIM_GAS, ROW_GAS, Costs
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.store import IntentState
from provider_agent.tx.sender import Sender
from teraproof.contracts.channels import ChannelsContract
from teraproof.rpc.errors import Reverted
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

#: A file in the data directory: the owner wants all claimed now.
CLAIM_ALL = "claim-all"
MOST_ROWS = 100  # of one transaction: below two million gas
_MOST_READ = 4 * MOST_ROWS  # channels that a cycle considers
_TRIALS = 64  # calls of one search for bad rows
_LEFT_OUT = 600.0  # seconds until a bad row is tried again


@dataclass(slots=True)
class _Fault:
    until: float
    times: int


class Claims:
    """See the module. Used by the loop's thread. `window` are blocks after which no reorg is
    followed; `now` is a file by which the owner has all claimed at once.
    """

    def __init__(
        self,
        *,
        book: ClaimBook,
        channels: ChannelsContract,
        sender: Sender,
        costs: Costs,
        bounds: Bounds,
        window: int,
        now: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book, self._channels, self._sender = book, channels, sender
        self._costs, self._bounds = costs, bounds
        self._window, self._now, self._clock = window, now, clock
        self._bad: dict[bytes, _Fault] = {}
        self._failed, self._not_before = 0, 0.0
        #: Rows that were left out of a claim because they would have failed it.
        self.left_out = 0
        self._over: set[int] = set()  # batches whose intents have ended
        self._ended: set[bytes] = set()  # their channels, until `ended` names them
        self._met: set[bytes] = set()  # claimed since the owner has wanted all claimed

    # ------------------------------------------------------------------ what is under way

    def look(self, block: BlockRef) -> set[bytes]:
        """The channels that a transaction under way claims; batches that ended are put away."""
        waiting: set[bytes] = set()
        for number, channels in self._book.batches().items():
            intent = self._book.core.intent(claim_key(number))
            mined = None if intent is None else intent.mined
            if intent is not None and (
                intent.state in UNDECIDED
                # The pinned block does not show it yet.
                or (mined is not None and mined.block_number > block.number)
            ):
                waiting.update(channels)
                self._over.discard(number)
                continue
            if number not in self._over:
                self._over.add(number)
                self._ended.update(channels)
                state = None if intent is None else intent.state
                if state is not IntentState.FINAL:
                    self._met.difference_update(channels)
                self._slow_down(state)
            if mined is None or mined.block_number + self._window < block.number:
                self._book.forget(number)
                self._over.discard(number)
        return waiting

    def ended(self) -> set[bytes]:
        """Channels to look at again; each is named once."""
        found, self._ended = self._ended, set()
        return found

    # ------------------------------------------------------------------ what is due

    def claim(self, block: BlockRef, head: BlockRef, busy: set[bytes]) -> None:
        """Write the intent of a claim, if one is due; `busy` are channels that must wait.

        Raises ChainError.
        """
        if self._clock() < self._not_before:
            return
        least, me = self._costs.of(ROW_GAS), self._sender.address
        urgent = self._candidates(self._book.left(_MOST_READ, least, me), busy)
        due = urgent if urgent and self._pays(urgent) else self._due(busy)
        if not due:
            return
        sound = self._sound(due[:MOST_ROWS], head)
        if not sound or (len(sound) < len(due) and not self._pays(sound)):
            return
        data = self._channels.claim([claim_of(row) for row in sound])
        with self._book.transaction():
            number = self._book.add(sound)
            self._sender.submit(
                claim_key(number), self._channels.address, data, deadline=_deadline(sound, head)
            )
        if self._now.exists():
            self._met.update(row.channel for row in sound)
        total = sum(map(brings, sound))
        log.info("claim %s: %s units of %s channels", number, total, len(sound))

    def _candidates(self, rows: Sequence[ChannelRow], busy: set[bytes]) -> list[ChannelRow]:
        """Those that can be claimed and bring more than they add to the gas."""
        now, least = self._clock(), self._costs.of(ROW_GAS)
        return [
            row
            for row in rows
            if row.channel not in busy
            and brings(row) > least
            and (row.channel not in self._bad or now >= self._bad[row.channel].until)
        ]

    def _pays(self, rows: Sequence[ChannelRow]) -> bool:
        gas = CLAIM_GAS + ROW_GAS * (min(len(rows), MOST_ROWS) - 1)
        return sum(map(brings, rows[:MOST_ROWS])) > self._costs.of(gas)

    def _due(self, busy: set[bytes]) -> Sequence[ChannelRow]:
        """All that can be claimed, when it is time."""
        rows = self._candidates(self._book.unclaimed(_MOST_READ, self._sender.address), busy)
        if not self._costs.can_send:
            return ()
        wanted = self._wanted(rows, busy)
        rows = wanted or rows
        if not rows or not self._pays(rows):
            return ()
        part = rows[:MOST_ROWS]
        total, gas = sum(map(brings, part)), CLAIM_GAS + ROW_GAS * (len(part) - 1)
        waited = float(self._book.waited())
        is_half = 2 * brings(part[0]) >= self._bounds.channel
        if is_half or wanted or self._bounds.is_half(self._book.at_risk()):
            waited = float("inf")  # soon it would not be served any more
        return part if self._costs.is_worth_it(total, gas, waited) else ()

    def _wanted(self, rows: Sequence[ChannelRow], busy: set[bytes]) -> list[ChannelRow]:
        """What the owner wants claimed now: each channel once, or it would not end while models are
        served. Without any it is done.
        """
        if not self._now.exists():
            return []
        found = [row for row in rows if row.channel not in self._met]
        if found and self._pays(found):
            return found
        if not busy:
            log.info("all is claimed that brings more than its gas")
            self._now.unlink(missing_ok=True)
            self._met.clear()
        return []

    # ------------------------------------------------------------------ trying

    def _sound(self, rows: Sequence[ChannelRow], head: BlockRef) -> list[ChannelRow]:
        """Those of the rows that can be claimed together now."""
        sound: list[ChannelRow] = []
        left, parts = _TRIALS, [list(rows)]
        while parts and left:
            part, left = parts.pop(), left - 1
            try:
                self._try(part, head)
            except Reverted as error:
                if len(part) == 1:
                    self._leave_out(part[0], error.reason)
                else:
                    half = len(part) // 2
                    parts += [part[half:], part[:half]]
            else:
                sound += part
                for row in part:
                    self._bad.pop(row.channel, None)
        return sound

    def _try(self, rows: Sequence[ChannelRow], head: BlockRef) -> None:
        data = self._channels.claim([claim_of(row) for row in rows])
        self._channels.rpc.eth_call(self._channels.address, data, head, self._sender.address)

    def _leave_out(self, row: ChannelRow, reason: str) -> None:
        self.left_out += 1
        times = self._bad[row.channel].times + 1 if row.channel in self._bad else 1
        pause = _LEFT_OUT * 2 ** min(times - 1, 6)
        self._bad[row.channel] = _Fault(self._clock() + pause, times)
        log.warning("channel %s cannot be claimed: %s", row.name[:12], reason)

    def _slow_down(self, state: IntentState | None) -> None:
        """What failed on chain is not repeated at once: its gas is lost."""
        if state is IntentState.FINAL:
            self._failed, self._not_before = 0, 0.0
        elif state is IntentState.REVERTED:
            pause = min(MAX_PAUSE, PAUSE << min(self._failed, 10))
            self._failed, self._not_before = self._failed + 1, self._clock() + pause


def _deadline(rows: Sequence[ChannelRow], head: BlockRef) -> int | None:
    """Until when a claim must be in a block; None without a withdrawal, or when it can end now."""
    ends = [
        row.withdraw_requested_at + row.config.withdraw_delay
        for row in rows
        if row.withdraw_requested_at
    ]
    ahead = [end for end in ends if end > head.timestamp]
    return min(ahead, default=None)
