# SPDX-License-Identifier: Apache-2.0
"""The schedule: accrual by the second, halvings, what an epoch has of it, and the cap (I-8)."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import boa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.contracts.actions import Provider, now, pass_time, register
from tests.contracts.deploy import (
    DAY,
    TPF,
    ZERO_ADDRESS,
    Contract,
    Parameters,
    Suite,
    address_of,
    deployer_of,
)
from tests.contracts.epochs import deploy_by_hand, run_epoch

pytestmark = pytest.mark.invariant("I-8")

P = Parameters(rate=TPF // 5 + 7, halving=4 * DAY, max_accrual=DAY)
WHOLE = 2 * P.rate * P.halving
SOME = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def world() -> tuple[Suite, Contract, Contract]:
    return deploy_by_hand(P)


@pytest.fixture(scope="module")
def suite(world: tuple[Suite, Contract, Contract]) -> Suite:
    return world[0]


@pytest.fixture
def emissions(world: tuple[Suite, Contract, Contract]) -> Contract:
    return world[1]


@pytest.fixture
def by_hand(world: tuple[Suite, Contract, Contract]) -> Contract:
    return world[2]


def plain(elapsed: int, p: Parameters = P) -> Any:
    """The schedule as the specification has it, period by period, in fractions."""
    total, rate = Fraction(0), Fraction(p.rate)
    for _ in range(400):
        if elapsed <= 0:
            break
        total += min(elapsed, p.halving) * rate
        elapsed -= p.halving
        rate /= 2
    return total


# --------------------------------------------------------------------- accrued


@pytest.mark.parametrize(
    "elapsed",
    [
        *(0, 1, 2, 1_000, P.halving - 1, P.halving, P.halving + 1, 2 * P.halving),
        *(7 * P.halving + 12_345, 77 * P.halving + 1, 300 * P.halving),
    ],
)
def test_accrued__period_by_period(emissions: Contract, elapsed: Any) -> None:
    assert emissions.accrued(emissions.START() + elapsed) == ceil(plain(elapsed))


def test_accrued__before_the_start__zero(emissions: Contract) -> None:
    start = emissions.START()
    assert [emissions.accrued(time) for time in (0, 1, start - 1, start)] == [0, 0, 0, 0]
    assert emissions.accrued(start + 1) == P.rate


@pytest.mark.parametrize("periods", [100, 255, 256, 257, 10**6])
def test_accrued__comes_to_twice_the_first_period(emissions: Contract, periods: int) -> None:
    assert emissions.accrued(emissions.START() + periods * P.halving) == WHOLE
    assert emissions.accrued(2**256 - 1) == WHOLE


@SOME
@given(
    elapsed=st.one_of(st.integers(0, 20 * P.halving), st.integers(0, 2**41)),
    more=st.one_of(st.integers(0, 10), st.integers(0, 3 * P.halving)),
)
def test_accrued__never_falls_and_never_runs_ahead(
    emissions: Contract, elapsed: int, more: Any
) -> None:
    time = emissions.START() + elapsed
    before, after = emissions.accrued(time), emissions.accrued(time + more)
    assert before <= after <= min(WHOLE, before + more * P.rate)
    assert before == ceil(plain(elapsed))


# -------------------------------------------------------------------- emission


def test_emission__since_the_epoch_before(emissions: Contract, by_hand: Contract) -> None:
    """From the start, and then from one opening to the next; what is not opened has nothing."""
    assert emissions.START() == by_hand.GENESIS()
    times = [emissions.START() + after for after in (0, 1, 3_600, 3_600 + DAY)]
    for time in times:
        by_hand.open_epoch(time, time + 60)
    assert [emissions.emission(epoch) for epoch in range(6)] == [
        *(0, 0, P.rate, 3_599 * P.rate, DAY * P.rate),
        0,
    ]


@pytest.mark.parametrize(
    ("gap", "counted"),
    [(DAY - 1, DAY - 1), (DAY, DAY), (DAY + 1, DAY), (3 * DAY, DAY)],
)
def test_emission__at_most_of_the_last_max_accrual(
    emissions: Contract, by_hand: Contract, gap: Any, counted: Any
) -> None:
    start = emissions.START()
    by_hand.open_epoch(start + 5, start + 6)
    by_hand.open_epoch(start + 5 + gap, start + 6 + gap)
    assert emissions.emission(2) == P.rate * counted


def test_emission__first_epoch__at_most_of_the_last_max_accrual(
    emissions: Contract, by_hand: Contract
) -> None:
    opened_at = emissions.START() + 3 * DAY
    by_hand.open_epoch(opened_at, opened_at)
    assert emissions.emission(1) == DAY * P.rate


def test_emission__over_a_halving(emissions: Contract, by_hand: Contract) -> None:
    middle = emissions.START() + P.halving
    for time in (middle - 10_000, middle + 10_000):
        by_hand.open_epoch(time, time)
    assert emissions.emission(2) == 10_000 * P.rate + 10_000 * P.rate // 2


@pytest.mark.parametrize("epoch", [1, 2, 2**40, 2**256 - 1])
def test_emission__not_opened__zero(emissions: Contract, epoch: int) -> None:
    assert emissions.emission(epoch) == 0
    assert emissions.part_of(0, epoch) == 0


def test_part_of__rounds_down(emissions: Contract, by_hand: Contract) -> None:
    opened_at = emissions.START() + 1
    by_hand.open_epoch(opened_at, opened_at)
    assert P.rate * 8 % 10 != 0
    assert emissions.part_of(0, 1) == P.rate * 8 // 10


# ----------------------------------------------------------------- constructor


def deploy(world: tuple[Suite, Contract, Contract], **changes: Any) -> Contract:
    """Deploy Emissions with some arguments changed, by name of the constructor's parameter."""
    suite, _, by_hand = world
    arguments = {
        "token": suite.token.address,
        "staking": suite.staking.address,
        "benchmark": by_hand.address,
        "owner": suite.owner,
        "rate": P.rate,
        "halving": P.halving,
        "max_accrual": P.max_accrual,
        "ops_per_tpf": P.ops_per_tpf,
        "target": P.target,
        "capacity_bps": P.capacity_bps,
    } | changes
    return deployer_of("Emissions").deploy(*arguments.values())


LEFT = P.cap - P.genesis_supply
CENTURY = 100 * 366 * DAY


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"token": ZERO_ADDRESS}, "emissions: zero token"),
        ({"staking": ZERO_ADDRESS}, "emissions: zero staking"),
        ({"benchmark": ZERO_ADDRESS}, "emissions: zero benchmark"),
        ({"owner": ZERO_ADDRESS}, "emissions: zero owner"),
        ({"halving": 0}, "emissions: halving out of bounds"),
        ({"halving": CENTURY + 1, "rate": 0}, "emissions: halving out of bounds"),
        ({"halving": 2**256 - 1, "rate": 2}, "emissions: halving out of bounds"),
        ({"rate": LEFT // (2 * P.halving) + 1}, "emissions: schedule above the cap"),
        ({"rate": LEFT // 2 + 1, "halving": 1}, "emissions: schedule above the cap"),
        ({"rate": 2**256 - 1}, "emissions: schedule above the cap"),
        ({"max_accrual": 0}, "emissions: accrual out of bounds"),
        ({"max_accrual": 366 * DAY + 1}, "emissions: accrual out of bounds"),
        ({"ops_per_tpf": 999}, "emissions: ops_per_tpf out of bounds"),
        ({"ops_per_tpf": 10**18 + 1}, "emissions: ops_per_tpf out of bounds"),
        ({"target": 0}, "emissions: target out of bounds"),
        ({"target": 10**22 + 1}, "emissions: target out of bounds"),
        ({"capacity_bps": 10_001}, "emissions: weights above 100 %"),
    ],
)
def test_constructor__out_of_bounds__reverts(
    world: tuple[Suite, Contract, Contract], changes: Any, reason: str
) -> None:
    with boa.reverts(reason):
        deploy(world, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": LEFT // (2 * P.halving)},
        {"rate": LEFT // 2, "halving": 1},
        {"rate": 0, "halving": CENTURY},
        {"max_accrual": 1},
        {"max_accrual": 366 * DAY},
        {"ops_per_tpf": 10**3, "target": 10**22},
        {"ops_per_tpf": 10**18, "target": 1},
        {"capacity_bps": 0},
        {"capacity_bps": 10_000},
    ],
)
def test_constructor__at_the_bounds(world: tuple[Suite, Contract, Contract], changes: Any) -> None:
    made = deploy(world, **changes)
    assert made.accrued(2**256 - 1) <= LEFT


def test_constructor__parameters(world: tuple[Suite, Contract, Contract]) -> None:
    suite, emissions, by_hand = world
    assert (emissions.TOKEN(), emissions.STAKING()) == (suite.token.address, suite.staking.address)
    assert (emissions.BENCHMARK(), emissions.owner()) == (by_hand.address, suite.owner)
    assert (emissions.RATE(), emissions.HALVING()) == (P.rate, P.halving)
    assert (emissions.MAX_ACCRUAL(), emissions.START()) == (P.max_accrual, by_hand.GENESIS())
    assert emissions.weights_at(0) == emissions.weights_at(10**6) == [8_000]
    assert emissions.ops_per_tpf(0) == emissions.ops_per_tpf(10**6) == P.ops_per_tpf
    assert emissions.target(0) == emissions.target(10**6) == P.target
    assert (emissions.use_count(), emissions.distributor_of(0)) == (1, emissions.address)
    logs = {type(log).__name__: log for log in deploy(world).get_logs()}
    weights, scale = logs["WeightsChanged"], logs["ScaleChanged"]
    assert (weights.from_epoch, weights.weights) == (0, [8_000])
    assert (scale.from_epoch, scale.ops_per_tpf, scale.target) == (0, P.ops_per_tpf, P.target)


# -------------------------------------------------------------------- the token


def score(
    by_hand: Contract, provider: Provider, epoch: int, effective: int = 1, total: int = 1
) -> None:
    by_hand.set_result(provider.owner, epoch, effective, effective, 10**27, total)


def test_mint__emissions_that_are_not_the_minter__reverts(
    world: tuple[Suite, Contract, Contract],
) -> None:
    """Next to the one minter another Emissions pays nothing out."""
    suite, _, by_hand = world
    second = deploy(world)
    provider = register(suite)
    score(by_hand, provider, run_epoch(by_hand))
    with boa.reverts("token: caller is not the minter"):
        second.claim(provider.owner)


@pytest.mark.parametrize("sender", ["owner", "deployer"])
def test_set_minter__once_for_ever(suite: Suite, emissions: Contract, sender: str) -> None:
    assert suite.token.minter() == emissions.address
    with boa.reverts("token: minter is set"):
        suite.token.set_minter(address_of("usurper"), sender=getattr(suite, sender))


@pytest.mark.invariant("I-8")
def test_minted__numbers_that_are_too_large__above_the_schedule(
    emissions: Contract, by_hand: Contract, suite: Suite
) -> None:
    """I-8 holds whatever Benchmark says. Twice a part of 80 seconds, when 150 have accrued."""
    provider = register(suite)
    epoch = run_epoch(by_hand, seconds=100, length=50)
    score(by_hand, provider, epoch, effective=2)
    with boa.reverts("emissions: above the schedule"):
        emissions.claim(provider.owner)
    assert emissions.minted() == 0
    pass_time(10)
    assert emissions.claim(provider.owner) == emissions.accrued(now())


@pytest.mark.invariant("I-8")
@SOME
@given(
    gaps=st.lists(
        st.one_of(st.integers(1, 100), st.integers(1, 3 * DAY), st.integers(1, 40 * DAY)),
        min_size=1,
        max_size=8,
    ),
    weights=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).filter(
        lambda pair: sum(pair) <= 10_000
    ),
)
@example(gaps=[1] * 8, weights=(5_000, 5_000))
def test_minted__whatever_the_opening_times__at_most_what_has_accrued(
    world: tuple[Suite, Contract, Contract], gaps: Any, weights: Any
) -> None:
    """I-8: all that can be minted is minted, by claims and by another use."""
    suite, emissions, by_hand = world
    room = P.cap - P.genesis_supply
    with boa.env.anchor():
        provider = register(suite)
        use = deployer_of("mocks/Distributor").deploy(emissions.address)
        emissions.add_use(use.address, sender=suite.owner)
        emissions.set_weights(list(weights), sender=suite.owner)
        parts = 0
        for gap in gaps:
            epoch = run_epoch(by_hand, seconds=gap, length=0)
            score(by_hand, provider, epoch)
            emissions.claim(provider.owner)
            if emissions.part_of(1, epoch):
                use.share_out(epoch, [provider.owner], [emissions.part_of(1, epoch)])
            parts += emissions.emission(epoch)
            assert emissions.minted() <= parts <= emissions.accrued(now()) <= WHOLE <= room
        assert suite.token.balanceOf(emissions.address) == 0
        assert suite.token.total_minted() == P.genesis_supply + emissions.minted()


def test_minted__whole_schedule__within_the_cap() -> None:
    """Every second is paid out until nothing is left; the cap has room for it to the wei."""
    genesis = 10**24
    p = Parameters(
        cap=genesis + 2 * 1_000 * DAY,
        genesis_supply=genesis,
        rate=1_000,
        halving=DAY,
        max_accrual=DAY,
        capacity_bps=10_000,
    )
    suite, emissions, by_hand = deploy_by_hand(p)
    provider = register(suite)
    for _ in range(30):
        epoch = run_epoch(by_hand, length=0)
        score(by_hand, provider, epoch)
        emissions.claim(provider.owner)
        assert emissions.minted() == emissions.accrued(now())
        assert suite.token.balanceOf(emissions.address) == 0
    assert suite.token.total_minted() == p.cap
    epoch = run_epoch(by_hand)
    assert emissions.emission(epoch) == 0
