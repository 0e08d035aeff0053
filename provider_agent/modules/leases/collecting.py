# SPDX-License-Identifier: Apache-2.0
"""Collects rent while a lease runs: no oftener than the owner wants, and never for more gas than it
brings.

What a transaction costs is known when it is mined. So the most that it may cost is what counts: all
its gas at the highest price that the agent ever pays. Rent that is not worth that waits in the
contract, and the end of the lease pays it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from provider_agent.core.worth import GasWorth
from provider_agent.modules.leases.repository import LeaseRow
from teraproof.contracts.leases import LeasesContract
from teraproof.rpc.errors import ChainError
from teraproof.rpc.fees import gas_limit

_LEAST_GAS = 85_000  # the first one of a provider, by .gas-snapshot, and a quarter more
_ASK_EVERY = 3_600.0  # seconds
_BPS = 10_000


class Collecting:
    """See the module. Used by the loop's thread.

    `every` is in seconds.
    """

    def __init__(
        self,
        leases: LeasesContract,
        operator: str,
        *,
        every: float,
        worth: GasWorth,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases, self._operator, self._every = leases, operator, every
        self._worth, self._clock = worth, clock
        self._gas, self._asked = _LEAST_GAS, -_ASK_EVERY

    def is_worth_it(self, row: LeaseRow, seconds: int) -> bool:
        """Whether rent for a number of seconds is to be collected now."""
        if seconds < self._every:
            return False
        rent = seconds * row.rate
        brings = rent - -(-rent * row.terms.fee_bps // _BPS)
        most = self._worth.most
        return brings > most(_LEAST_GAS) and brings > most(self._gas_of(row))

    def _gas_of(self, row: LeaseRow) -> int:
        """Gas that a call takes. Layer 2 counts the price of layer 1 as gas, so it changes."""
        if self._clock() - self._asked >= _ASK_EVERY:
            self._asked = self._clock()
            leases, data = self._leases, self._leases.settle(row.terms)
            # Without an answer the last one is good: the sender estimates once more.
            with suppress(ChainError):
                found = leases.rpc.estimate_gas(self._operator, leases.address, data)
                self._gas = max(_LEAST_GAS, gas_limit(found))
        return self._gas
