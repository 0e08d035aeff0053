# SPDX-License-Identifier: Apache-2.0
"""Share arithmetic by itself: nothing overflows unseen, shares keep to what they stand for."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.contracts.deploy import Contract, deployer_of

pytestmark = pytest.mark.invariant("I-12")

FULL = 2**128 - 1
STEP = 10**6
HALVES = st.integers(min_value=0, max_value=FULL)


@pytest.fixture(scope="module")
def shares() -> Contract:
    return deployer_of("mocks/Shares").deploy()


@given(low=HALVES, high=HALVES)
@example(low=FULL, high=FULL)
@example(low=0, high=FULL)
@example(low=FULL, high=0)
def test_pack__gives_both_back(shares: Contract, low: Any, high: Any) -> None:
    assert shares.pack(low, high) == (low, high)


@pytest.mark.parametrize(
    ("low", "high"),
    [(FULL + 1, 0), (0, FULL + 1), (FULL + 1, FULL), (2**256 - 1, 1), (1, 2**256 - 1)],
)
def test_pack__number_that_has_no_room__reverts(shares: Contract, low: int, high: Any) -> None:
    with boa.reverts("shares: number above 128 bits"):
        shares.pack(low, high)


@given(assets=HALVES, pool_shares=HALVES)
@example(assets=0, pool_shares=FULL)
@example(assets=0, pool_shares=1)
@example(assets=1, pool_shares=FULL)
@example(assets=1, pool_shares=1)
@example(assets=1, pool_shares=10**10)
@example(assets=1, pool_shares=10**10 + 1)
@example(assets=FULL, pool_shares=FULL)
def test_divisions__the_fewest_that_do(shares: Contract, assets: Any, pool_shares: Any) -> None:
    """No wei has more than 10^10 shares then, but with one fewer; none is left of nothing."""
    times, left = shares.divisions(assets, pool_shares), shares.divided(assets, pool_shares)
    assert left <= assets * 10**10
    if assets == 0:
        assert left == 0
    else:
        assert left == pool_shares // STEP**times
        assert times == 0 or pool_shares // STEP ** (times - 1) > assets * 10**10


@pytest.mark.parametrize("assets", [0, 1, FULL])
def test_divisions__no_shares__nothing_to_do(shares: Contract, assets: Any) -> None:
    """An empty pool's holders keep their generation, whatever is slashed."""
    assert shares.divisions(assets, 0) == 0


@given(assets=HALVES, pool_shares=st.integers(min_value=1, max_value=FULL))
@example(assets=FULL, pool_shares=1)
@example(assets=0, pool_shares=1)
@example(assets=0, pool_shares=10**9)
@example(assets=0, pool_shares=10**9 - 1)
def test_multiplications__the_fewest_that_do(
    shares: Contract, assets: Any, pool_shares: Any
) -> None:
    """No share is worth more than a wei, nor are there fewer than 10^9 of them."""
    times, enough = shares.multiplications(assets, pool_shares), max(assets, 10**9)
    assert pool_shares * STEP**times >= enough
    assert times == 0 or pool_shares * STEP ** (times - 1) < enough


@given(
    assets=st.integers(min_value=0, max_value=2**96),
    pool_assets=st.integers(min_value=0, max_value=2**96),
    pool_shares=HALVES,
)
@example(assets=1, pool_assets=2, pool_shares=0)
def test_to_shares__never_worth_more_than_what_came_in(
    shares: Contract, assets: Any, pool_assets: Any, pool_shares: Any
) -> None:
    """At the price before the deposit, with the virtual shares and the wei that nobody owns."""
    got = shares.to_shares(assets, pool_assets, pool_shares)
    assert got * (pool_assets + 1) <= assets * (pool_shares + 1_000)
    assert (got + 1) * (pool_assets + 1) > assets * (pool_shares + 1_000)
