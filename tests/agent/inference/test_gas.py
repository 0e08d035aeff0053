# SPDX-License-Identifier: Apache-2.0
"""When a claim is worth its gas: by what the calls have been measured to take."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.settings import ChainSettings
from provider_agent.core.worth import GasWorth
from provider_agent.modules.inference import gas
from provider_agent.modules.inference.gas import Costs

GWEI, UNIT = 10**9, 10**6


def measured(name: str) -> int:
    """Gas of a transaction, as the gas tests have it."""
    lines = (Path(__file__).parents[3] / ".gas-snapshot").read_text().splitlines()
    return int(dict(line.partition(":")[::2] for line in lines)[name])


def test_what_is_reckoned_with__is_not_below_what_was_measured() -> None:
    one, ten = measured("channels_claim_one_first"), measured("channels_claim_ten_first")
    assert one <= gas.CLAIM_GAS and ten <= gas.CLAIM_GAS + 9 * gas.ROW_GAS
    assert measured("channels_deposit_first") <= gas.DEPOSIT_GAS
    assert measured("channels_settle_first") <= gas.SETTLE_GAS
    assert measured("channels_refund_relayed_first") <= gas.REFUND_GAS


@given(
    brings=st.integers(0, 10**12),
    used=st.integers(21_000, 10**7),
    offered=st.integers(0, 500 * GWEI),
    price=st.integers(0, 10**5),
    waited=st.floats(0, 10**6),
)
def test_worth_it__never_for_less_than_its_gas_and_sooner_only_for_twenty_times_it(
    brings: int, used: int, offered: int, price: int, waited: float
) -> None:
    chain = cast(
        "ChainSettings", SimpleNamespace(coin_price=Decimal(price), max_fee_gwei=Decimal(200))
    )
    costs = Costs(GasWorth(chain, UNIT), lambda: offered, every=3_600)
    if costs.is_worth_it(brings, used, waited):
        cost = Decimal(used) * (offered or 200 * GWEI) * price * UNIT / 10**18
        assert brings > cost
        assert waited >= 3_600 or brings >= 20 * cost
