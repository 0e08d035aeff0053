# SPDX-License-Identifier: Apache-2.0
"""What our transactions may use and offer: limits of gas by `tx.gas`, prices from
`teraproof.rpc.fees`, read once per block.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_agent.store import Intent, Store, Transaction
from provider_agent.tx.gas import MOST, GasLimits
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError, Malformed, TxRefused
from teraproof.rpc.fees import Offer, Pricer, gas_limit
from teraproof.rpc.types import BlockRef, Fees

_GENEROUS_GAS = 3_000_000  # where no node makes an estimate that can be true; unused gas is free
_PLAIN_GAS = 100_000  # a self-transfer, with room for rollups
_FEES_AGE = 15.0  # seconds; a chain that stands still may get dearer all the same


class Prices:
    """Offers and gas limits for one account. Caps are wei per gas."""

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        address: str,
        max_fee: int,
        max_tip: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._address, self._clock = pool, address, clock
        self._pricer = Pricer(self._read_fees, max_fee=max_fee, max_tip=max_tip, clock=clock)
        self._head = b""
        self._fees: tuple[bytes, float, Fees] | None = None  # of which head, when read
        #: What calls have used.
        self.limits = GasLimits(store)

    def begin(self, head: BlockRef) -> None:
        """Price by this head from now on."""
        self._head = head.hash

    def _read_fees(self) -> Fees:
        known, now = self._fees, self._clock()
        if known is not None and known[0] == self._head and now - known[1] < _FEES_AGE:
            return known[2]
        found = self._pool.fees(head_known=bool(self._head))
        self._fees = (self._head, now, found)
        return found

    @property
    def trouble(self) -> str:
        """Why the last offer was not made, or ""."""
        return self._pricer.trouble

    def gas(self, intent: Intent, head: BlockRef) -> int:
        """The gas limit of an intent's call. Raises Reverted, TxRefused, ChainError."""
        most = _most(head)
        try:
            estimate = self._pool.estimate_gas(
                self._address,
                intent.to,
                intent.data,
                intent.value,
                at=head.number,
                least=self.limits.least(intent),
                likely=self.limits.likely(intent),
                most=most,
            )
        except Malformed:
            # The call itself is tried, so that none is sent that would fail.
            self._pool.eth_call(intent.to, intent.data, head, self._address)
            estimate = _GENEROUS_GAS
        return self.limits.limit(intent, estimate, most)

    def plain_gas(self, head: BlockRef) -> int:
        """The gas limit of a transfer of nothing to ourselves. Raises TxRefused."""
        most = _most(head)
        try:
            estimate = self._pool.estimate_gas(
                self._address, self._address, b"", likely=_PLAIN_GAS, most=most
            )
        except TxRefused:
            raise
        except ChainError:
            return _PLAIN_GAS
        return gas_limit(estimate, most)

    def offer(self) -> Offer | None:
        """What a new transaction offers; None, and `trouble`, while a cap forbids it."""
        return self._pricer.offer()

    def replacement(self, made: list[Transaction], *, waits: bool) -> Offer | None:
        """What the same nonce offers after all that was signed for it; see `Pricer.replacement`."""
        before = Offer(max(one.max_fee for one in made), max(one.priority_fee for one in made))
        return self._pricer.replacement(before, waits=waits)

    def refused(self, refusal: TxRefused, current: Transaction) -> None:
        """Learn from a node's refusal of signed bytes."""
        self._pricer.refused(refusal, Offer(current.max_fee, current.priority_fee))


def _most(head: BlockRef) -> int:
    return min(MOST, head.gas_limit or MOST)
