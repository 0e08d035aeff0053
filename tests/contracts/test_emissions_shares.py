# SPDX-License-Identifier: Apache-2.0
"""The formula of a reward, and many epochs in one claim; epochs and shares are set by hand."""

from fractions import Fraction
from math import floor

import boa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.actions import events, register
from tests.contracts.deploy import TPF, Parameters, address_of
from tests.contracts.epochs import deploy_by_hand

BPS = 10_000
SOME = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
AMOUNTS = st.one_of(st.integers(0, 10), st.integers(0, 10**6), st.integers(0, 10**28))
SCORES = st.one_of(st.integers(1, 10), st.integers(10**9, 2**75))


@pytest.fixture(scope="module")
def world():
    return deploy_by_hand(Parameters(halving_epochs=100))


@pytest.fixture(scope="module")
def suite(world):
    return world[0]


@pytest.fixture
def emissions(world):
    return world[1]


@pytest.fixture
def numbers(world):
    return world[2]


def plain(p, epoch, score, stake, scores, stakes):
    """The formula of docs/specification.md, in fractions."""
    part = p.initial_emission // 2 ** (epoch // p.halving_epochs) * p.capacity_bps // BPS
    if not score or not stake:
        return 0
    cap = Fraction(p.stake_cap_bps * stake, BPS * stakes)
    return floor(part * min(Fraction(score, scores), cap))


@SOME
@given(parts=st.lists(st.tuples(SCORES, AMOUNTS), min_size=1, max_size=6))
def test_reward_of__formula__sums_within_the_part(suite, emissions, numbers, parts):
    """I-8: whatever the shares are, rounding never makes more of a part than there is."""
    scores, stakes = sum(s for s, _ in parts), sum(t for _, t in parts)
    paid = 0
    for n, (score, stake) in enumerate(parts):
        who = address_of(f"holder {n}")
        numbers.set_share(who, 0, score, stake, scores, stakes)
        reward = emissions.reward_of(who, 0)
        assert reward == plain(suite.parameters, 0, score, stake, scores, stakes)
        paid += reward
    assert paid <= emissions.part_of(0, 0)


@pytest.mark.parametrize(
    ("score", "stake", "thousandths"),
    [
        (500, 500, 500),  # by score
        (500, 250, 500),  # score and cap meet: twice the part of the stake
        (500, 249, 498),  # by stake
        (1_000, 1, 2),
        (1, 1_000, 1),
        (0, 1_000, 0),
        (1_000, 0, 0),
    ],
)
def test_reward_of__cap_by_stake(suite, emissions, numbers, score, stake, thousandths):
    who = address_of("holder")
    numbers.set_share(who, 0, score, stake, 1_000, 1_000)
    assert emissions.reward_of(who, 0) == 8 * TPF * thousandths


def test_reward_of__no_stake_at_all__pays_nothing(emissions, numbers):
    who = address_of("holder")
    numbers.set_share(who, 0, 7, 0, 7, 0)
    assert emissions.reward_of(who, 0) == 0


def test_reward_of__largest_numbers(suite, emissions, numbers):
    """Sums of 128 bits overflow nothing."""
    who, most = address_of("holder"), 2**128 - 1
    numbers.set_share(who, 0, most, most, most, most)
    assert emissions.reward_of(who, 0) == emissions.part_of(0, 0)


def test_reward_of__rounds_down(emissions, numbers):
    who = address_of("holder")
    numbers.set_share(who, 0, 1, 1, 3, 3)
    assert emissions.reward_of(who, 0) == 8_000 * TPF // 3


# ------------------------------------------------------------------ many epochs


@pytest.fixture
def prover(suite):
    return register(suite, stake=1_000 * TPF)


def earn(numbers, provider, epochs, score=1, scores=1):
    for epoch in epochs:
        numbers.set_share(provider.owner, epoch, score, 1, scores, 1)


def test_claim__sixty_four_epochs_in_any_order(suite, emissions, numbers, token, prover):
    """Over the border of a word of bits, and over a halving; void epochs between them."""
    numbers.go_to(300)
    epochs = [*range(290, 240, -1), *range(92, 106)]
    earned = [epoch for epoch in epochs if epoch % 5]
    earn(numbers, prover, earned, score=1, scores=3)
    supply = token.totalSupply()
    due = sum(plain(suite.parameters, epoch, 1, 1, 3, 1) for epoch in earned)
    assert len(epochs) == 64
    assert emissions.claim(prover.owner, epochs) == due
    logs = events(emissions)
    # What is passed over pays nothing into the pool, not even zero.
    names = [type(log).__name__ for log in logs]
    assert names.count("Claimed") == names.count("Rewarded") == len(earned)
    assert [log.epoch for log in logs if type(log).__name__ == "Claimed"] == earned
    assert token.totalSupply() == supply + due
    assert emissions.minted() == due
    assert token.balanceOf(emissions.address) == 0
    for epoch in range(90, 300):
        assert emissions.claimed(prover.owner, epoch) == (epoch in earned)
    with boa.reverts("emissions: nothing to claim"):
        emissions.claim(prover.owner, epochs[::-1])


def test_claim__sixty_five_epochs__reverts(emissions, numbers, prover):
    numbers.go_to(100)
    earn(numbers, prover, range(65))
    data = emissions.claim.prepare_calldata(prover.owner, list(range(64)))
    # Selector, provider and offset; then the length, and 64 words.
    longer = data[:68] + (65).to_bytes(32, "big") + data[100:] + (64).to_bytes(32, "big")
    assert boa.env.execute_code(to_address=emissions.address, data=longer).is_error
    assert emissions.claim(prover.owner, list(range(64))) > 0
    assert emissions.claim(prover.owner, [64]) > 0


@pytest.mark.parametrize("epoch", [0, 1, 255, 256, 257, 511, 512])
def test_claim__marks_its_epoch_alone(emissions, numbers, prover, epoch):
    numbers.go_to(600)
    earn(numbers, prover, [epoch])
    emissions.claim(prover.owner, [epoch])
    near = {0, 1, 2, 254, 255, 256, 257, 258, 510, 511, 512, 513} | {epoch + 256}
    assert [e for e in sorted(near) if emissions.claimed(prover.owner, e)] == [epoch]


def test_claim__marks_its_provider_alone(suite, emissions, numbers, prover):
    other = register(suite, "other")
    numbers.go_to(1)
    earn(numbers, prover, [0], scores=2)
    earn(numbers, other, [0], scores=2)
    emissions.claim(prover.owner, [0])
    assert not emissions.claimed(other.owner, 0)
    assert emissions.claim(other.owner, [0]) == 4_000 * TPF


def test_claim__after_the_schedule_has_run_out__reverts(emissions, numbers, prover):
    """With nothing left of the emission there is nothing to mint; nothing breaks."""
    numbers.go_to(10**6)
    earn(numbers, prover, [99_999])
    with boa.reverts("emissions: nothing to claim"):
        emissions.claim(prover.owner, [99_999])
    earn(numbers, prover, [99])
    assert emissions.claim(prover.owner, [99_999, 99]) == 8_000 * TPF


def test_claim__score_of_somebody_not_registered__reverts(emissions, numbers, stranger):
    """Benchmark scores registered providers only; if it did not, nothing would be minted."""
    numbers.go_to(1)
    numbers.set_share(stranger, 0, 1, 1, 1, 1)
    with boa.reverts("staking: not registered"):
        emissions.claim(stranger, [0])
    assert emissions.minted() == 0
