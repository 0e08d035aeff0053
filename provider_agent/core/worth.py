# SPDX-License-Identifier: Apache-2.0
"""What gas can cost, in the token that this agent is paid in.

What a transaction costs is known when it is mined. So the most that it may cost is what counts: all
its gas at the highest price that the agent ever pays, and a coin of the chain at its owner's price.
"""

from __future__ import annotations

from decimal import ROUND_CEILING

from provider_agent.core.settings import ChainSettings

_COIN = 10**18  # wei of a coin


class GasWorth:
    """See the module. `unit` is the units of a whole payment token."""

    def __init__(self, chain: ChainSettings, unit: int) -> None:
        self._max_fee = int(chain.max_fee_gwei * 10**9)
        self._units = chain.coin_price * unit / _COIN  # for a wei

    def most(self, gas: int) -> int:
        """Units of the payment token that an amount of gas costs at most, rounded up."""
        return self.at(gas, self._max_fee)

    def at(self, gas: int, price: int) -> int:
        """What it costs at a price in wei per gas, rounded up."""
        return int((gas * price * self._units).to_integral_value(ROUND_CEILING))
