# SPDX-License-Identifier: Apache-2.0
"""What the transactions of channels cost now, in the channels' token, and when that is worth it.

A claim cannot wait for the end of a deal that pays it, as rent can: there is none. So its cost is
reckoned at the price that a transaction offers today, which bears a doubled base fee.
"""

from __future__ import annotations

from collections.abc import Callable

from provider_agent.core.worth import GasWorth

#: Gas of a claim of one channel, the first of its receiver, and of each further one (docs/gas.md).
CLAIM_GAS, ROW_GAS = 65_000, 20_000
#: The first deposit into a channel, and a refund with a claim.
DEPOSIT_GAS, REFUND_GAS = 150_000, 110_000
SETTLE_GAS = 65_000
_SHARE = 20  # gas is at most this part of what a call brings, if that can be had by waiting


class Costs:
    """See the module. `offered` gives wei per gas, 0 while nothing can be sent; `every` are the
    seconds after which what brings more than its gas is not put off any more.
    """

    def __init__(self, worth: GasWorth, offered: Callable[[], int], every: float) -> None:
        self._worth, self._offered, self._every = worth, offered, every

    @property
    def can_send(self) -> bool:
        """Whether gas has a price that this agent pays."""
        return self._offered() > 0

    def of(self, gas: int) -> int:
        """Units of the token that so much gas costs now; at the highest price if none is known."""
        offered = self._offered()
        return self._worth.at(gas, offered) if offered else self._worth.most(gas)

    def is_worth_it(self, brings: int, gas: int, waited: float) -> bool:
        """Whether something that brings so much is to be done now."""
        cost = self.of(gas)
        return brings > cost and (brings >= _SHARE * cost or waited >= self._every)
