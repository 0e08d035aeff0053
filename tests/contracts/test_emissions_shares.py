# SPDX-License-Identifier: Apache-2.0
"""The formula of a reward, the scale by epoch, and what a claim settles; numbers set by hand."""

from __future__ import annotations

import random
from fractions import Fraction
from math import floor
from typing import Any

import boa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.actions import Provider, event, events, register
from tests.contracts.deploy import TPF, Contract, Parameters, Suite, address_of
from tests.contracts.epochs import deploy_by_hand, run_epoch

NOT_OWNER = "ownable: caller is not the owner"
MUCH = 10**27  # TPF wei of stake that backs any score here
SOME = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
P = Parameters(target=1_000, ops_per_tpf=10**6, halving=100 * 86_400)
PART = 8_000 * TPF


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


@pytest.fixture
def prover(suite: Suite) -> Provider:
    return register(suite)


def scored(
    by_hand: Contract,
    provider: Provider,
    epoch: int,
    effective: int,
    total: int,
    *,
    score: int | None = None,
    stake: int = MUCH,
) -> None:
    by_hand.set_result(provider.owner, epoch, score or effective, effective, stake, total)


# ---------------------------------------------------------------------- formula


@pytest.mark.invariant("I-8")
@SOME
@given(
    scores=st.lists(st.one_of(st.integers(1, 10), st.integers(1, 2**75)), min_size=1, max_size=6),
    target=st.one_of(st.integers(1, 10), st.integers(1, 10**22)),
)
def test_reward_of__formula__sums_within_the_part(
    suite: Suite, by_hand: Contract, scores: Any, target: Any
) -> None:
    """I-8: whatever the scores are, rounding never makes more of a part than there is."""
    with boa.env.anchor():
        p = Parameters(target=target, halving=100 * 86_400)
        _, emissions, by_hand = deploy_by_hand(p)
        epoch, total, paid = run_epoch(by_hand), sum(scores), 0
        for n, effective in enumerate(scores):
            who = address_of(f"holder {n}")
            by_hand.set_result(who, epoch, effective, effective, 2**95, total)
            backed = min(effective, 2**95 * p.ops_per_tpf // 10**18)
            reward = emissions.reward_of(who, epoch)
            assert reward == floor(PART * Fraction(backed, max(total, target)))
            paid += reward
        assert paid <= emissions.part_of(0, epoch) == PART


@pytest.mark.parametrize(
    ("effective", "total", "thousandths"),
    [
        (1, 1, 1),  # alone, with a thousandth of the target
        (1_000, 1_000, 1_000),  # alone, at the target
        (500, 999, 500),
        (500, 1_000, 500),
        (500, 2_000, 250),
        (5_000, 5_000, 1_000),
        (0, 5_000, 0),
    ],
)
def test_reward_of__target_stands_for_a_smaller_sum(
    by_hand: Contract,
    emissions: Contract,
    prover: Provider,
    effective: int,
    total: int,
    thousandths: int,
) -> None:
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, effective, total)
    assert emissions.reward_of(prover.owner, epoch) == PART * thousandths // 1_000
    assert emissions.claim(prover.owner) == PART * thousandths // 1_000


def test_reward_of__rounds_down(by_hand: Contract, emissions: Contract, prover: Provider) -> None:
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 1_000, 3_000)
    assert emissions.reward_of(prover.owner, epoch) == PART // 3


def test_reward_of__largest_numbers(
    by_hand: Contract, emissions: Contract, prover: Provider
) -> None:
    """Sums of 128 bits overflow nothing."""
    epoch, most = run_epoch(by_hand), 2**128 - 1
    by_hand.set_result(prover.owner, epoch, most, most, 2**96 - 1, most)
    backed = (2**96 - 1) * P.ops_per_tpf // 10**18
    assert emissions.reward_of(prover.owner, epoch) == PART * backed // most


def test_reward_of__as_far_as_the_stake_of_now_backs_it(
    by_hand: Contract, emissions: Contract, prover: Provider
) -> None:
    """1,000 operations per second need 0.001 TPF; with a fifth of that left, a fifth is paid."""
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 1_000, 2_000, score=9_999, stake=TPF // 5_000)
    assert emissions.reward_of(prover.owner, epoch) == PART // 10
    assert emissions.claim(prover.owner) == PART // 10


@pytest.mark.parametrize("stake", [TPF // 1_000, TPF, 10**9 * TPF])
def test_reward_of__stake_beyond_the_score__changes_nothing(
    by_hand: Contract, emissions: Contract, prover: Provider, stake: Any
) -> None:
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 1_000, 4_000, stake=stake)
    assert emissions.reward_of(prover.owner, epoch) == PART // 4


def test_reward_of__another_epoch_or_settled__zero(
    by_hand: Contract, emissions: Contract, prover: Provider, stranger: str
) -> None:
    first, second = run_epoch(by_hand), run_epoch(by_hand)
    scored(by_hand, prover, second, 1_000, 1_000)
    assert emissions.reward_of(prover.owner, second) == PART
    assert [emissions.reward_of(prover.owner, epoch) for epoch in (0, first, 3)] == [0, 0, 0]
    assert emissions.reward_of(stranger, second) == 0
    emissions.claim(prover.owner)
    assert emissions.reward_of(prover.owner, second) == 0


# ------------------------------------------------------------------------ claim


def test_claim__what_it_moves(
    suite: Suite,
    by_hand: Contract,
    emissions: Contract,
    token: Contract,
    staking: Contract,
    prover: Provider,
    stranger: str,
) -> None:
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 250, 500)
    supply, pool = token.totalSupply(), staking.pool(prover.owner)[0]
    assert emissions.claim(prover.owner, sender=stranger) == PART // 4
    claimed = {"provider": prover.owner, "epoch": epoch, "amount": PART // 4}
    assert event(emissions, "Claimed") == claimed
    assert token.totalSupply() == supply + PART // 4
    assert emissions.minted() == PART // 4
    paid = staking.credit_of(prover.payout) + staking.pool(prover.owner)[0] - pool
    assert paid == PART // 4
    assert token.balanceOf(emissions.address) == token.balanceOf(stranger) == 0


def test_claim__nothing_due__settles_and_mints_nothing(
    by_hand: Contract, emissions: Contract, token: Contract, prover: Provider
) -> None:
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 0, 500)
    supply = token.totalSupply()
    assert emissions.claim(prover.owner) == 0
    assert event(emissions, "Claimed") == {"provider": prover.owner, "epoch": epoch, "amount": 0}
    rewarded = event(emissions, "Rewarded")
    assert (rewarded["provider"], rewarded["to_pool"]) == (prover.owner, 0)
    assert (token.totalSupply(), emissions.minted()) == (supply, 0)
    with boa.reverts("epochs: nothing due"):
        emissions.claim(prover.owner)


def test_claim__twice__reverts(by_hand: Contract, emissions: Contract, prover: Provider) -> None:
    scored(by_hand, prover, run_epoch(by_hand), 1_000, 1_000)
    emissions.claim(prover.owner)
    with boa.reverts("epochs: nothing due"):
        emissions.claim(prover.owner)
    assert emissions.minted() == PART


def test_claim__score_of_somebody_not_registered__reverts(
    by_hand: Contract, emissions: Contract, stranger: str
) -> None:
    """Benchmark scores registered providers only; if it did not, nothing would be minted."""
    by_hand.set_result(stranger, run_epoch(by_hand), 1, 1, MUCH, 1)
    with boa.reverts("staking: not registered"):
        emissions.claim(stranger)
    assert emissions.minted() == 0


def test_claim__many_halvings_later(
    by_hand: Contract, emissions: Contract, prover: Provider
) -> None:
    """The amount is that of its epoch, whenever it is claimed."""
    epoch = run_epoch(by_hand)
    scored(by_hand, prover, epoch, 1_000, 1_000)
    boa.env.time_travel(seconds=1_000 * P.halving)
    assert emissions.claim(prover.owner) == PART


def test_claim__after_the_schedule_has_run_out__nothing(
    by_hand: Contract, emissions: Contract, prover: Provider
) -> None:
    epoch = run_epoch(by_hand, seconds=1_000 * P.halving)
    scored(by_hand, prover, epoch, 1_000, 1_000)
    assert emissions.emission(epoch) == 0
    assert emissions.claim(prover.owner) == 0


@pytest.mark.parametrize("sender", ["owner", "deployer"])
def test_claim__no_manager_any_more__reverts(
    suite: Suite,
    by_hand: Contract,
    emissions: Contract,
    staking: Contract,
    prover: Provider,
    sender: str,
) -> None:
    scored(by_hand, prover, run_epoch(by_hand), 1_000, 1_000)
    staking.remove_manager(emissions.address, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        emissions.claim(prover.owner, sender=getattr(suite, sender))
    assert emissions.minted() == 0


# ------------------------------------------------------------------------ scale


@pytest.mark.invariant("I-11")
def test_set_scale__for_epochs_that_have_not_begun(
    suite: Suite, by_hand: Contract, emissions: Contract
) -> None:
    """I-11. The next one may have begun: its block may be out, though nobody has shown it."""
    for _ in range(5):
        run_epoch(by_hand)
    emissions.set_scale(2 * 10**6, 500, sender=suite.owner)
    changed = {"from_epoch": 7, "ops_per_tpf": 2 * 10**6, "target": 500}
    assert event(emissions, "ScaleChanged") == changed
    assert [emissions.ops_per_tpf(epoch) for epoch in (0, 5, 6)] == [10**6] * 3
    assert [emissions.target(epoch) for epoch in (0, 5, 6)] == [1_000] * 3
    assert [emissions.ops_per_tpf(epoch) for epoch in (7, 8, 10**9)] == [2 * 10**6] * 3
    assert [emissions.target(epoch) for epoch in (7, 8, 10**9)] == [500] * 3


def test_set_scale__an_epoch_that_has_begun__is_paid_as_it_was(
    suite: Suite, by_hand: Contract, emissions: Contract, prover: Provider
) -> None:
    """Opened, ended, and claimed after the change; the epoch after next is paid by the new."""
    first = run_epoch(by_hand)
    emissions.set_scale(10**6, 2_000, sender=suite.owner)
    rewards = []
    for epoch in (first, run_epoch(by_hand), run_epoch(by_hand)):
        scored(by_hand, prover, epoch, 1_000, 1_000)
        rewards.append(emissions.claim(prover.owner))
    assert rewards == [PART, PART, PART // 2]


def test_set_scale__again_before_it_is_in_force__replaces(
    suite: Suite, by_hand: Contract, emissions: Contract
) -> None:
    for target in (2_000, 600, 1_500):
        emissions.set_scale(10**6, target, sender=suite.owner)
    assert [emissions.target(epoch) for epoch in (0, 1, 2, 3)] == [1_000, 1_000, 1_500, 1_500]
    run_epoch(by_hand)
    # From epoch 3 on, against what epoch 2 has.
    emissions.set_scale(10**6, 3_000, sender=suite.owner)
    assert [emissions.target(epoch) for epoch in (1, 2, 3)] == [1_000, 1_500, 3_000]


@pytest.mark.parametrize(
    ("ops_per_tpf", "target", "good"),
    [
        (2 * 10**6, 2_000, True),
        (5 * 10**5, 500, True),
        (2 * 10**6 + 1, 1_000, False),
        (5 * 10**5 - 1, 1_000, False),
        (10**6, 2_001, False),
        (10**6, 499, False),
    ],
)
def test_set_scale__at_most_doubled_or_halved(
    suite: Suite, emissions: Contract, ops_per_tpf: int, target: int, good: bool
) -> None:
    if good:
        emissions.set_scale(ops_per_tpf, target, sender=suite.owner)
        assert (emissions.ops_per_tpf(2), emissions.target(2)) == (ops_per_tpf, target)
        # Not against what it replaces: two calls do not double twice.
        with boa.reverts("emissions: more than doubled or halved"):
            emissions.set_scale(
                ops_per_tpf * ops_per_tpf // 10**6, target * target // 1_000, sender=suite.owner
            )
    else:
        with boa.reverts("emissions: more than doubled or halved"):
            emissions.set_scale(ops_per_tpf, target, sender=suite.owner)


@pytest.mark.parametrize(
    ("ops_per_tpf", "target", "what"),
    [
        (999, 1_000, "ops_per_tpf"),
        (10**18 + 1, 1_000, "ops_per_tpf"),
        (2**256 - 1, 1_000, "ops_per_tpf"),
        (10**6, 0, "target"),
        (10**6, 10**22 + 1, "target"),
        (10**6, 2**256 - 1, "target"),
    ],
)
def test_set_scale__outside_the_hard_bounds__reverts(
    suite: Suite, emissions: Contract, ops_per_tpf: int, target: int, what: str
) -> None:
    with boa.reverts(f"emissions: {what} out of bounds"):
        emissions.set_scale(ops_per_tpf, target, sender=suite.owner)


@pytest.mark.parametrize("sender", ["guardian", "deployer", "treasury"])
def test_set_scale__not_the_owner__reverts(suite: Suite, emissions: Contract, sender: str) -> None:
    with boa.reverts(NOT_OWNER):
        emissions.set_scale(10**6, 1_000, sender=getattr(suite, sender))


def test_set_scale__many_checkpoints__as_a_plain_table(
    suite: Suite, by_hand: Contract, emissions: Contract
) -> None:
    """Each epoch finds its scale by bisection, however many changes there were."""
    repeats = random.Random(11)
    table, epoch, values = {0: (10**6, 1_000)}, 0, (10**6, 1_000)
    for _ in range(30):
        for _ in range(repeats.choice([0, 1, 1, 2, 5])):
            epoch = run_epoch(by_hand, seconds=60, length=0)
        before = table[max(first for first in table if first <= epoch + 1)]
        ops, target = (repeats.randint(value // 2 + 1, 2 * value) for value in before)
        values = (max(ops, 1_000), target)
        emissions.set_scale(*values, sender=suite.owner)
        table[epoch + 2] = values
    for probe in range(epoch + 5):
        wanted = table[max(first for first in table if first <= probe)]
        assert (emissions.ops_per_tpf(probe), emissions.target(probe)) == wanted


def test_set_scale__and_weights__series_of_their_own(
    suite: Suite, by_hand: Contract, emissions: Contract
) -> None:
    run_epoch(by_hand)
    emissions.set_weights([7_000], sender=suite.owner)
    assert (emissions.ops_per_tpf(3), emissions.target(3)) == (10**6, 1_000)
    emissions.set_scale(10**6, 999, sender=suite.owner)
    assert emissions.weights_at(3) == [7_000]
    assert len(events(emissions, "WeightsChanged")) == 0
