# SPDX-License-Identifier: Apache-2.0
"""Whether the operator's account can pay for what the next job needs, also when gas gets dearer.

A job that is accepted and cannot be attested costs its collateral.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from provider_agent.tx.fees import Prices
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef

_JOB_GAS = 250_000  # accept, attest and finalize, the first of a provider (docs/gas.md)
_RISE = 3  # an offer bears a doubled base fee already
_SECONDS = 15.0  # from one look to the next
_PLENTY, _SELDOM = 200, 60.0  # jobs that can be paid, from which on it is looked at less often


class GasReserve:
    """Looked at by the loop, asked from any thread. `cap` is the most wei per gas ever offered."""

    def __init__(
        self,
        pool: RpcPool,
        address: str,
        prices: Prices,
        cap: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._address, self._prices = pool, address, prices
        self._cap, self._clock = cap, clock
        self._looked: float | None = None
        self._at = b""  # hash of the block at which it was looked
        #: How many jobs can be paid for.
        self.jobs = 0
        #: Wei of the account at the last look.
        self.balance = 0
        #: Wei per gas that a transaction offered then; 0 while a cap forbids to send any.
        self.offered = 0

    def look(self, block: BlockRef, *, promises: bool = False) -> None:
        """Read the balance and the price, unless that was just done. Raises ChainError.

        `promises` says that something is promised now: then it must have been at this block, for
        the money may be gone since.
        """
        now = self._clock()
        if promises:
            if self._at == block.hash:
                return
        elif self._looked is not None:
            pause = _SECONDS if self.jobs < _PLENTY else _SELDOM
            if now - self._looked < pause:
                return
        offer = self._prices.offer()
        self.offered = 0 if offer is None else offer.max_fee
        if offer is None:
            self.jobs = 0  # a cap forbids to send anything
        else:
            price = max(1, min(self._cap, _RISE * offer.max_fee))
            self.balance = self._pool.balance(self._address, block)
            self.jobs = self.balance // (_JOB_GAS * price)
        self._looked, self._at = now, block.hash
