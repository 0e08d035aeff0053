# SPDX-License-Identifier: Apache-2.0
"""What is at risk: served or being served, and not claimed. Bounded in a channel, for a payer, and
in total.

Channels are free to open, so a bound for each of them is none for their payer; and payers are free
to invent, so there is one for all. A claim makes room again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Self

from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.store import Store

_KEPT = "inference.bounds"  # in the store's meta
_OF_PAYER, _OF_ALL = 4, 20  # channels' worth, where the settings say nothing
_LOOK, _PART = 0.25, 20  # seconds between two looks, and 20 times what one takes


@dataclass(frozen=True)
class Bounds:
    """The most that may be at risk, in units of the token."""

    channel: int
    payer: int
    total: int

    @classmethod
    def of(cls, settings: InferenceSettings, unit: int) -> Self:
        """As they are set; `unit` is units of a whole token."""
        one = settings.max_unclaimed
        payer, total = settings.max_unclaimed_payer, settings.max_unclaimed_total
        return cls(
            int(one * unit),
            int((_OF_PAYER * one if payer is None else payer) * unit),
            int((_OF_ALL * one if total is None else total) * unit),
        )

    def is_half(self, at_risk: dict[str, int]) -> bool:
        """Whether half of what one payer may owe, or all together, is at risk."""
        if 2 * sum(at_risk.values()) >= self.total:
            return True
        return 2 * max(at_risk.values(), default=0) >= self.payer

    def keep(self, store: Store) -> None:
        """Note it for `kept`."""
        store.set_meta(_KEPT, json.dumps({name: str(n) for name, n in asdict(self).items()}))

    @classmethod
    def kept(cls, store: Store) -> Self | None:
        """What was set when the agent ran last; None before."""
        text = store.meta(_KEPT)
        return None if text is None else cls(**{k: int(n) for k, n in json.loads(text).items()})


class Credit:
    """See the module. Used by the thread that writes the channel book, in its transactions.

    The sums are read now and then. Between two looks what begins is added, and what ends without a
    charge is taken off: else requests that cost nothing would use up everybody's credit.
    """

    def __init__(
        self, store: Store, bounds: Bounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book, self._bounds, self._clock = ClaimBook(store), bounds, clock
        self._own: dict[str, int] = {}
        self._all, self._next = 0, float("-inf")

    def take(self, row: ChannelRow, stands: int) -> bool:
        """Whether a channel may come to have `stands` units at risk. They are counted then."""
        began = self._clock()
        if began >= self._next:
            self._own = self._book.at_risk()
            self._all = sum(self._own.values())
            now = self._clock()
            self._next = now + max(_LOOK, _PART * (now - began))
        more, own = max(0, stands - row.at_risk), self._own.get(row.config.payer, 0)
        if stands > self._bounds.channel or own + more > self._bounds.payer:
            return False
        if self._all + more > self._bounds.total:
            return False
        self._own[row.config.payer], self._all = own + more, self._all + more
        return True

    def give(self, row: ChannelRow, stands: int) -> None:
        """A request of a channel has ended, and left `stands` units at risk."""
        less, own = max(0, row.at_risk - stands), self._own.get(row.config.payer, 0)
        self._own[row.config.payer] = max(0, own - less)
        self._all = max(0, self._all - less)
