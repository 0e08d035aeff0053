# SPDX-License-Identifier: Apache-2.0
"""What a transaction offers for gas, and how much gas it may use: the only place that says so.

All prices are wei per gas. An offer is made from what the chain asks today: the base fee, and a tip
that is the most of what the last blocks paid, what the nodes ask for, what the last refusal named,
and 1 wei; each within the owner's caps. A replacement starts from today's offer, too, and raises
both parts by what nodes want for a replacement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from teraproof.rpc.errors import TxFault, TxRefused
from teraproof.rpc.types import Fees

MIN_GAS = 21_000  # what any transaction uses
_FLOOR_SECONDS = 900.0  # for which a floor that a refusal named is remembered
_STEEPEST = 4  # times today's price that a replacement may offer when price is not the reason


class Offer(NamedTuple):
    """What a transaction offers, in wei per gas. `legacy` is one price for all, in both fields."""

    max_fee: int
    priority_fee: int
    legacy: bool = False


class Pricer:
    """Makes offers. `fees` reads what gas costs now; caps are wei per gas, None for without."""

    def __init__(
        self,
        fees: Callable[[], Fees],
        *,
        max_fee: int | None = None,
        max_tip: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fees, self._clock = fees, clock
        self._max_fee, self._max_tip = max_fee, max_tip
        self._floor_tip = self._floor_fee = 0
        self._floor_at = clock()
        self._legacy = False
        #: Why the last offer was not made, or "".
        self.trouble = ""

    def offer(self) -> Offer | None:
        """What a new transaction should offer; None, and `trouble`, while a cap is below it.

        Raises ChainError.
        """
        self.trouble = ""
        fees = self._fees()
        if self._clock() - self._floor_at > _FLOOR_SECONDS:
            self._floor_tip = self._floor_fee = 0
        if fees.base is None:
            # The price of the moment, and an eighth so that it lasts for some blocks.
            return self._legacy_offer(fees.tip + fees.tip // 8)
        lowest = fees.base if fees.lowest_base is None else fees.lowest_base
        if self._max_fee is not None and lowest >= self._max_fee:
            self.trouble = (
                f"the base fee of {_gwei(lowest)} gwei is above chain.max_fee_gwei; waiting"
            )
            return None
        tip = max(fees.tip, self._floor_tip, 1)
        if self._max_tip is not None and tip > self._max_tip:
            if self._floor_tip > self._max_tip:
                self.trouble = (
                    f"nodes want a tip of {_gwei(self._floor_tip)} gwei, which is above "
                    "chain.max_tip_gwei; raise it"
                )
            tip = self._max_tip
        # Twice the base fee lasts for six full blocks in a row.
        max_fee = max(2 * fees.base + tip, self._floor_fee)
        if self._legacy:
            return self._legacy_offer(max_fee)
        if self._max_fee is not None:
            max_fee = min(max_fee, self._max_fee)
        return Offer(max_fee, min(tip, max_fee))

    def _legacy_offer(self, price: int) -> Offer | None:
        price = max(price, self._floor_tip, self._floor_fee, 1)
        if self._max_fee is not None and price > self._max_fee:
            self.trouble = (
                f"the gas price of {_gwei(price)} gwei is above chain.max_fee_gwei; waiting"
            )
            return None
        return Offer(price, price, legacy=True)

    def replacement(self, before: Offer, *, waits: bool = True) -> Offer | None:
        """What the same nonce should offer after `before`, or None (`trouble` says why, "" when
        waiting is better). `waits` says that a node has the transaction, so that it is not the
        price alone that may be wrong. Raises ChainError.
        """
        today = self.offer()
        if today is None or not waits:
            return today
        least = Offer(raised(before.max_fee), raised(before.priority_fee))
        max_fee = max(today.max_fee, least.max_fee)
        tip = max(today.priority_fee, least.priority_fee)
        if today.legacy or before.legacy:
            max_fee = tip = max(max_fee, tip)
        if self._max_fee is not None and max_fee > self._max_fee:
            self.trouble = "a replacement would cost more than chain.max_fee_gwei; raise it"
            return None
        if max_fee > max(_STEEPEST * today.max_fee, 1) or tip > max(
            _STEEPEST * today.priority_fee, 1
        ):
            return None  # the price is not what it waits for
        if self._max_tip is not None and not today.legacy and tip > self._max_tip:
            self.trouble = "a replacement would cost more than chain.max_tip_gwei; raise it"
            return None
        return Offer(max_fee, tip, today.legacy)

    def refused(self, refusal: TxRefused, offered: Offer) -> None:
        """Learn from what a node has against a transaction with this offer."""
        if refusal.fault is TxFault.TYPE:
            self._legacy = True
        elif refusal.fault is TxFault.UNDERPRICED:
            named = refusal.least or 0
            # Without a number: twice as much. A floor is of the tip, or of all on legacy chains.
            floor = named if named > offered.priority_fee else 2 * offered.priority_fee + 1
            self._floor_tip = max(self._floor_tip, floor)
        elif refusal.fault is TxFault.FEE_CAP:
            self._floor_fee = max(self._floor_fee, 2 * offered.max_fee)
        else:
            return
        self._floor_at = self._clock()


def raised(fee: int) -> int:
    """What nodes want for a replacement: at least 12.5 % more, and at least 1 wei."""
    return max((fee * 9 + 7) // 8, fee + 1)


def gas_limit(estimate: int, most: int | None = None) -> int:
    """The gas limit for an estimate: a quarter more, since the state may change before the block,
    and on a layer 2 the price of layer 1; within `most`.
    """
    limit = estimate + estimate // 4
    return limit if most is None else min(limit, most)


def intrinsic_gas(data: bytes) -> int:
    """Gas that a transaction with this calldata uses before any code runs."""
    zeros = data.count(0)
    return MIN_GAS + 4 * zeros + 16 * (len(data) - zeros)


def _gwei(wei: int) -> str:
    return f"{wei / 1e9:.2f}" if wei >= 10**7 else f"{wei / 1e9:g}"
