# SPDX-License-Identifier: Apache-2.0
"""When rent is worth its gas: by what the call has been measured to take."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.settings import ChainSettings
from provider_agent.core.worth import GasWorth
from provider_agent.modules.leases.collecting import Collecting
from provider_agent.modules.leases.repository import LeaseRow
from teraproof.contracts.leases import LeasesContract
from teraproof.rpc.errors import ChainError

ROOT = Path(__file__).parents[3]
GWEI, UNIT = 10**9, 10**6


def measured() -> int:
    """Gas of the first collection of a provider, as the gas tests have it."""
    lines = dict(
        line.partition(":")[::2] for line in (ROOT / ".gas-snapshot").read_text().splitlines()
    )
    return int(lines["leases_settle_first"])


def row(rate: int, fee_bps: int = 0) -> LeaseRow:
    return cast("LeaseRow", SimpleNamespace(rate=rate, terms=SimpleNamespace(fee_bps=fee_bps)))


def collecting(estimate: int | None, coin_price: str, max_fee: int, every: float = 0) -> Collecting:
    def estimate_gas(*_: Any) -> int:
        if estimate is None:
            raise ChainError("no node answers")
        return estimate

    leases = SimpleNamespace(
        address="0x1", settle=lambda terms: b"", rpc=SimpleNamespace(estimate_gas=estimate_gas)
    )
    chain = SimpleNamespace(coin_price=Decimal(coin_price), max_fee_gwei=Decimal(max_fee) / GWEI)
    return Collecting(
        cast("LeasesContract", leases),
        "0x2",
        every=every,
        worth=GasWorth(cast("ChainSettings", chain), UNIT),
    )


@given(
    seconds=st.integers(0, 10**7),
    rate=st.integers(1, 10**6),
    fee=st.integers(0, 1_000),
    estimate=st.one_of(st.none(), st.integers(21_000, 10**6)),
    price=st.integers(0, 10**5),
    max_fee=st.integers(1, 500).map(lambda gwei: gwei * GWEI),
)
def test_collected__only_what_is_more_than_its_gas_can_cost(
    seconds: int, rate: int, fee: int, estimate: int | None, price: int, max_fee: int
) -> None:
    made = collecting(estimate, str(price), max_fee)
    if made.is_worth_it(row(rate, fee), seconds):
        brings = seconds * rate * (10_000 - fee) // 10_000
        gas = max(measured(), estimate or 0)
        assert brings > Decimal(gas * max_fee) * price * UNIT / 10**18


@pytest.mark.parametrize(("seconds", "expected"), [(3_599, False), (3_600, True)])
def test_collected__no_oftener_than_the_owner_wants(seconds: int, expected: bool) -> None:
    assert collecting(50_000, "0", GWEI, every=3_600).is_worth_it(row(10), seconds) is expected
