# SPDX-License-Identifier: Apache-2.0
"""What gas can cost in the payment token: never less than a node can make us pay."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.settings import ChainSettings
from provider_agent.core.worth import GasWorth


@given(
    gas=st.integers(0, 10**8),
    price=st.decimals(0, 10**6, places=6),
    gwei=st.decimals(0, 10**4, places=9),
    decimals=st.integers(0, 18),
)
def test_most__covers_all_gas_at_the_highest_price(
    gas: int, price: Decimal, gwei: Decimal, decimals: int
) -> None:
    chain = SimpleNamespace(coin_price=price, max_fee_gwei=gwei)
    found = GasWorth(cast("ChainSettings", chain), 10**decimals).most(gas)
    coins = Fraction(gas) * Fraction(gwei) / 10**9
    exact = coins * Fraction(price) * 10**decimals
    assert exact <= found < exact + 1
