# SPDX-License-Identifier: Apache-2.0
"""Rent that is collected while a lease runs: at intervals, all of it, and never for more gas than
it brings.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from teraproof.protocol.lease_terms import LeaseStatus
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig

GWEI = 10**9
EVERY = 300  # seconds
TERM = 3_600
# 85,000 gas at 200 gwei are worth the rent of some 700 seconds.
COIN_PRICE = "20"


def collecting(market: Deployment, folder: Path, coin_price: str) -> Any:
    return rig(market, folder, settle_hours=EVERY / 3_600, coin_price=coin_price)


def collected(agent: LeaseRig) -> int:
    """Units of the payment token that the provider can withdraw."""
    return int(agent.leases.read("credit_of", agent.owner.address))


def cost(agent: LeaseRig, coin_price: str) -> Decimal:
    """Units of the payment token that all calls of `settle` have cost at that price of a coin."""
    wei = sum(
        intent.mined.gas_used * intent.mined.gas_price
        for intent in agent.store.mined_lately(1_000)
        if intent.key.action.startswith("settle") and intent.mined is not None
    )
    return Decimal(wei) * Decimal(coin_price) * USD / 10**18


def live(agent: LeaseRig, seconds: int, base_fee: int | None = None) -> None:
    for _ in range(seconds // 28):
        if base_fee is not None:
            agent.anvil.set_next_base_fee(base_fee)
        agent.anvil.step(27)
        agent.cycle()


def test_rent__collected_while_it_runs_and_no_oftener_than_it_is_worth(
    market: Deployment, tmp_path: Path
) -> None:
    with collecting(market, tmp_path, COIN_PRICE) as agent:
        agent.cycle(2)
        agent.active(term=TERM)
        live(agent, 560)
        assert (collected(agent), agent.sent("settle")) == (0, 0)
        live(agent, 2_240)
        assert agent.status() is LeaseStatus.ACTIVE
        assert 2 <= agent.sent("settle") <= 4
        assert collected(agent) > cost(agent, COIN_PRICE)


def test_rent__worth_the_most_that_gas_may_cost__collected_at_every_interval(
    market: Deployment, tmp_path: Path
) -> None:
    with collecting(market, tmp_path, "0") as agent:
        agent.cycle(2)
        agent.active(term=TERM)
        live(agent, 1_400)
        assert 3 <= agent.sent("settle") <= 4


@pytest.mark.parametrize("base_fee", [1 * GWEI, 60 * GWEI, 150 * GWEI])
def test_gas_gets_dearer__each_collection_brings_more_than_it_costs(
    market: Deployment, tmp_path: Path, base_fee: int
) -> None:
    with collecting(market, tmp_path, COIN_PRICE) as agent:
        agent.cycle(2)
        agent.active(term=TERM)
        live(agent, 560)
        before, spent, number = collected(agent), cost(agent, COIN_PRICE), agent.sent("settle")
        # A machine that is busy beats less often, and rent takes longer to be worth its gas.
        for _ in range(50):
            if number == 2:
                break
            live(agent, 112, base_fee)
            if agent.sent("settle") > number:
                agent.cycle(2)
                brought, now_spent = collected(agent) - before, cost(agent, COIN_PRICE)
                assert brought > now_spent - spent
                before, spent, number = before + brought, now_spent, agent.sent("settle")
        assert number > 0


def test_rent_that_is_never_worth_its_gas__paid_by_the_end(
    market: Deployment, tmp_path: Path
) -> None:
    with collecting(market, tmp_path, "1000000") as agent:
        agent.cycle(2)
        terms = agent.active(term=600)
        live(agent, 588)
        agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
        agent.cycle(2)
        assert agent.sent("settle") == 0
        row = agent.row()
        assert row is not None and row.seconds > 0
        assert collected(agent) > row.seconds * terms.order.max_rate * 0.9  # all but the fee


def test_collected_or_not__the_whole_rent_is_the_same(market: Deployment, tmp_path: Path) -> None:
    parts, rent = [], 0
    for number, price in enumerate(("0", "1000000")):
        with collecting(market, tmp_path / str(number), price) as agent:
            agent.cycle(2)
            terms = agent.active(term=900)
            live(agent, 868)
            agent.until(lambda: agent.status() is LeaseStatus.NONE, "end")
            agent.cycle(2)
            row = agent.row()
            assert row is not None
            rent = row.seconds * terms.order.max_rate
            parts.append(Fraction(collected(agent), rent))
    # The fee of the whole rent is taken once, however often it was collected.
    assert abs(parts[0] - parts[1]) * rent <= 20


def test_within_the_grace_or_suspended__nothing_is_collected(
    market: Deployment, tmp_path: Path
) -> None:
    with rig(market, tmp_path, settle_hours=1 / 3_600, coin_price="0") as agent:
        agent.cycle(2)
        agent.active(term=TERM)
        agent.cycle(5)
        assert agent.sent("settle") == 0  # the tenant may still reject it
        agent.runner.dead.add(agent.name)
        agent.until(lambda: agent.marks().suspended_at > 0, "suspension")
        live(agent, 100)
        assert agent.sent("settle") == 0
