# SPDX-License-Identifier: Apache-2.0
"""From a drawn proof to a score: `open_sample(s)`, how long it lasts, what it is good for (I-7)."""

from __future__ import annotations

import boa
import pytest

from teraproof.pog import format as pog
from tests.contracts import proofs
from tests.contracts.actions import Provider, delegate, event, events, go_to, now, pass_time
from tests.contracts.deploy import (
    DAY,
    LOCK,
    REWARD,
    SLASH,
    TPF,
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_suite,
)
from tests.contracts.proofs import BEACON, DRAW, Work

pytestmark = pytest.mark.invariant("I-7")

NO_PROOF = "benchmark: no proof to open"
WRONG_NUMBER = "benchmark: number of openings"
OPENING_OVER = "benchmark: epoch has ended"
SAMPLES = 4
BOND = 1_000 * TPF


@pytest.fixture(scope="module")
def suite() -> Suite:
    return deploy_suite(
        managers={address_of("manager"): LOCK | SLASH | REWARD}, with_benchmark=True
    )


@pytest.fixture
def provider(suite: Suite) -> Provider:
    return proofs.prover(suite)


@pytest.fixture
def done(suite: Suite, provider: Provider) -> Work:
    """Three rounds of the first epoch, committed."""
    proofs.open_epoch(suite)
    return proofs.committed(suite, provider, 3)


@pytest.fixture
def openings(suite: Suite, done: Work) -> list[list[bytes]]:
    """The epoch is drawn: what the samples ask for."""
    proofs.draw_epoch(suite)
    return done.openings(DRAW, SAMPLES)


def points_of(suite: Suite, rounds: int) -> int:
    return pog.score(proofs.shape_of(suite), rounds, suite.parameters.window)


# --------------------------------------------------------------------- opening


def test_open_samples__by_anyone_makes_the_score(
    suite: Suite,
    benchmark: Contract,
    provider: Provider,
    openings: list[list[bytes]],
    stranger: str,
) -> None:
    points = points_of(suite, 3)
    assert benchmark.open_samples(provider.owner, openings, sender=stranger) == SAMPLES
    assert event(benchmark, "Scored") == {
        "epoch": 1,
        "provider": provider.owner,
        "rounds": 3,
        "score": points,
        "stake": 5_000 * TPF,
        "effective": points,
    }
    assert benchmark.score(provider.owner) == points == 2 * 256 * 256 * 480 * 3 // 300
    assert benchmark.share_of(provider.owner, 1) == (points, points, points)
    assert not benchmark.is_open(provider.owner)


@pytest.mark.invariant("I-7")
def test_open_samples__score_only_with_the_last(
    suite: Suite, benchmark: Contract, provider: Provider, openings: list[list[bytes]]
) -> None:
    """I-7: three of four samples make no score."""
    assert benchmark.open_sample(provider.owner, openings[0]) == 1
    assert benchmark.open_samples(provider.owner, openings[1:3]) == 3
    assert events(benchmark) == []
    assert benchmark.score(provider.owner) == 0
    assert benchmark.share_of(provider.owner, 1) == (0, 0, 0)
    assert benchmark.is_open(provider.owner)
    assert benchmark.open_sample(provider.owner, openings[3]) == SAMPLES
    assert benchmark.score(provider.owner) > 0


def test_open_samples__before_the_draw__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    openings = done.openings(DRAW, SAMPLES)
    for seconds in (0, p.window, p.draw_period):
        pass_time(seconds)
        with boa.reverts("benchmark: not drawn"):
            benchmark.open_sample(provider.owner, openings[0])


def test_open_samples__nothing_committed__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, stranger: str
) -> None:
    proofs.open_epoch(suite)
    proofs.draw_epoch(suite)
    for account in (provider.owner, stranger, provider.operator.address):
        with boa.reverts(NO_PROOF):
            benchmark.open_sample(account, [bytes(32)])


def test_open_samples__wrong_number__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, openings: list[list[bytes]]
) -> None:
    for wrong in ([], [*openings, openings[0]], openings * 2):
        with boa.reverts(WRONG_NUMBER):
            benchmark.open_samples(provider.owner, wrong)
    benchmark.open_samples(provider.owner, openings[:3])
    with boa.reverts(WRONG_NUMBER):
        benchmark.open_samples(provider.owner, [openings[3], openings[3]])
    benchmark.open_sample(provider.owner, openings[3])


def test_open_samples__nine_do_not_fit_a_transaction(
    provider: Provider, benchmark: Contract, openings: list[list[bytes]]
) -> None:
    with boa.reverts():
        benchmark.open_samples(provider.owner, (openings * 3)[:9])


def test_open_samples__after_the_last__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, openings: list[list[bytes]]
) -> None:
    benchmark.open_samples(provider.owner, openings)
    shares = benchmark.share_of(provider.owner, 1)
    for again in (openings, openings[:1], []):
        with boa.reverts(NO_PROOF):
            benchmark.open_samples(provider.owner, again)
    assert benchmark.share_of(provider.owner, 1) == shares


def test_open_samples__until_the_epoch_ends__exact(
    suite: Suite, benchmark: Contract, provider: Provider, openings: list[list[bytes]]
) -> None:
    end = proofs.end_of(suite)
    go_to(end)
    with boa.reverts(OPENING_OVER):
        benchmark.open_samples(provider.owner, openings)
    with boa.reverts(OPENING_OVER):
        benchmark.open_sample(provider.owner, openings[0])
    go_to(end - 1)
    benchmark.open_samples(provider.owner, openings)
    assert benchmark.score(provider.owner) > 0


def test_open_samples__the_rest_too_late__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, openings: list[list[bytes]]
) -> None:
    benchmark.open_samples(provider.owner, openings[:3])
    go_to(proofs.end_of(suite))
    with boa.reverts(OPENING_OVER):
        benchmark.open_sample(provider.owner, openings[3])
    assert benchmark.score(provider.owner) == 0


@pytest.mark.parametrize("samples", [1, 9, 64])
def test_open_samples__other_numbers_of_samples(samples: int) -> None:
    """More than fit into one transaction, too."""
    suite = deploy_suite(Parameters(samples=samples), with_benchmark=True)
    provider = proofs.prover(suite)
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider, 2)
    proofs.draw_epoch(suite)
    openings = done.openings(DRAW, samples)
    for start in range(0, samples, 8):
        assert suite.benchmark.score(provider.owner) == 0
        found = suite.benchmark.open_samples(provider.owner, openings[start : start + 8])
        assert found == min(start + 8, samples)
    assert suite.benchmark.score(provider.owner) == points_of(suite, 2)


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 5, 7, 8, 9])
def test_open_samples__any_number_of_rounds(
    suite: Suite, benchmark: Contract, provider: Provider, rounds: int
) -> None:
    """Trees that are full, and trees with padding of every kind."""
    proofs.scored(suite, provider, rounds)
    assert benchmark.score(provider.owner) == points_of(suite, rounds)


@pytest.mark.parametrize(("n", "blocks"), [(512, 2), (1024, 1)])
def test_open_samples__other_dimensions(n: int, blocks: int) -> None:
    suite = deploy_suite(Parameters(n=n, blocks=blocks), with_benchmark=True)
    provider = proofs.prover(suite)
    proofs.scored(suite, provider, 2)
    assert suite.benchmark.score(provider.owner) == points_of(suite, 2)


# ------------------------------------------------------------- stake and sums


@pytest.fixture(scope="module")
def scarce() -> Suite:
    """A TPF backs a tenth of an operation a second per 1,000: stake is what limits the scores."""
    managers = {address_of("manager"): LOCK | SLASH | REWARD}
    p = Parameters(ops_per_tpf=1_000, bond=10 * TPF)
    return deploy_suite(p, managers=managers, with_benchmark=True)


@pytest.fixture
def small(scarce: Suite) -> Provider:
    """A provider whose stake backs 100,000 operations per second, a sixth of its three rounds."""
    return proofs.prover(scarce, "small", stake=100 * TPF)


def effective_of(suite: Suite, provider: Provider) -> int:
    return int(suite.benchmark.share_of(provider.owner, suite.benchmark.current_epoch())[1])


def drawn(suite: Suite, provider: Provider, rounds: int = 3) -> Work:
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider, rounds)
    proofs.draw_epoch(suite)
    return done


def test_effective__is_what_the_stake_backs(scarce: Suite, small: Provider) -> None:
    proofs.show(scarce, small, drawn(scarce, small))
    points, backed = points_of(scarce, 3), 100 * 1_000
    assert event(scarce.benchmark, "Scored")["effective"] == backed < points
    assert scarce.benchmark.share_of(small.owner, 1) == (points, backed, backed)
    assert scarce.benchmark.proven(small.owner)[0] == points


def test_effective__is_at_most_the_score(scarce: Suite) -> None:
    points = points_of(scarce, 3)
    stake = -(-points * TPF // 1_000)  # what backs it, to the wei
    for role, missing in (("enough", 0), ("a wei short", 1)):
        with boa.env.anchor():
            provider = proofs.prover(scarce, role, stake=stake - missing)
            proofs.show(scarce, provider, drawn(scarce, provider))
            assert effective_of(scarce, provider) == points - missing


def test_effective__stake_that_came_after_the_commit_does_not_count(
    scarce: Suite, small: Provider
) -> None:
    done = drawn(scarce, small)
    delegate(scarce, small.owner, small.owner, 1_000 * TPF)
    proofs.show(scarce, small, done)
    assert effective_of(scarce, small) == 100_000


def test_effective__stake_that_a_manager_let_in_after_the_commit_does_not_count(
    scarce: Suite, small: Provider, manager: str
) -> None:
    """A hold keeps entries out until the score; one that another ends early does not."""
    done = drawn(scarce, small)
    scarce.staking.reward(small.owner, 0, sender=manager)
    delegate(scarce, small.owner, small.owner, 1_000 * TPF)
    assert scarce.staking.stake_of(small.owner)[0] == 1_100 * TPF
    proofs.show(scarce, small, done)
    assert effective_of(scarce, small) == 100_000


def test_effective__stake_that_left_does_not_count(scarce: Suite, small: Provider) -> None:
    done = drawn(scarce, small)
    shares = scarce.staking.shares_of(small.owner, small.owner)
    scarce.staking.undelegate(small.owner, shares // 5, sender=small.owner)
    proofs.show(scarce, small, done)
    assert event(scarce.benchmark, "Scored")["stake"] == 80 * TPF
    assert effective_of(scarce, small) == 80_000


def test_effective__stake_that_was_slashed_does_not_count(
    scarce: Suite, small: Provider, manager: str
) -> None:
    done = drawn(scarce, small)
    scarce.staking.slash(small.owner, bytes(32), 40 * TPF, sender=manager)
    proofs.show(scarce, small, done)
    assert effective_of(scarce, small) == 60_000


def test_effective__stake_seized_earlier_is_no_loss(scarce: Suite, manager: str) -> None:
    """What was seized before the commit is not counted off the stake of the commit."""
    provider = proofs.prover(scarce, "seized", stake=200 * TPF, in_all=60 * TPF, per_order=50 * TPF)
    seize(scarce, provider, manager, 50 * TPF)
    proofs.show(scarce, provider, drawn(scarce, provider))
    assert effective_of(scarce, provider) == 150_000
    assert scarce.benchmark.proof_of(provider.owner).stake == 150 * TPF


def test_effective__stake_seized_since_does_not_count(scarce: Suite, manager: str) -> None:
    """It may count behind another provider already, and come back as an entry does not help."""
    provider = proofs.prover(scarce, "seized", stake=200 * TPF, in_all=60 * TPF, per_order=50 * TPF)
    done = drawn(scarce, provider)
    seize(scarce, provider, manager, 50 * TPF)
    delegate(scarce, provider.owner, provider.owner, 50 * TPF)
    proofs.show(scarce, provider, done)
    assert effective_of(scarce, provider) == 150_000


def seize(suite: Suite, provider: Provider, manager: str, amount: int) -> None:
    victim, hunter = address_of("victim"), address_of("hunter")
    order_id = b"\x01" * 32
    arguments = (provider.operator.address, order_id, amount, now() + DAY, 0)
    suite.staking.lock(*arguments, sender=manager)
    suite.staking.seize(provider.owner, order_id, victim, hunter, 10_000, 0, sender=manager)


def test_score__total_is_that_of_everybody(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    other = proofs.prover(suite, "other provider", stake=2_000 * TPF)
    missing = proofs.prover(suite, "third provider")
    theirs = proofs.committed(suite, other, 2)
    proofs.committed(suite, missing, 1)
    proofs.draw_epoch(suite)
    proofs.show(suite, provider, done)
    proofs.show(suite, other, theirs)
    ours, others = points_of(suite, 3), points_of(suite, 2)
    assert benchmark.share_of(provider.owner, 1) == (ours, ours, ours + others)
    assert benchmark.share_of(other.owner, 1) == (others, others, ours + others)
    assert benchmark.share_of(missing.owner, 1) == (0, 0, ours + others)
    assert benchmark.share_of(provider.owner, 2) == (0, 0, 0)
    # The total shares a word with what the epoch is about.
    found = benchmark.epoch_of(1)
    assert (found.beacon, found.draw) == (BEACON, DRAW)
    assert found.ends_at == found.opened_at + suite.parameters.length


def test_score__of_many_identities_is_no_more_than_of_one(
    suite: Suite, benchmark: Contract
) -> None:
    """One GPU does seven rounds in the window: as one provider, or shared out among three."""
    alone = proofs.prover(suite, "alone")
    proofs.scored(suite, alone, 7)
    whole = benchmark.score(alone.owner)
    epoch = proofs.open_epoch(suite)
    parts = []
    for number, rounds in enumerate((4, 2, 1)):
        identity = proofs.prover(suite, f"identity {number}")
        parts.append((identity, proofs.committed(suite, identity, rounds)))
    proofs.draw_epoch(suite)
    for identity, done in parts:
        proofs.show(suite, identity, done)
    together = sum(benchmark.score(identity.owner) for identity, _ in parts)
    assert whole - len(parts) < together <= whole
    assert benchmark.share_of(parts[0][0].owner, epoch)[2] == together


def test_score__of_identities_cannot_share_a_round(suite: Suite, benchmark: Contract) -> None:
    """The work of one identity is worth nothing to another: its challenge is not the same."""
    first, second = (proofs.prover(suite, role) for role in ("first", "second"))
    proofs.open_epoch(suite)
    done = proofs.committed(suite, first, 2)
    proofs.commit_work(suite, second, done)
    proofs.draw_epoch(suite)
    proofs.show(suite, first, done)
    its_samples = proofs.Work(
        proofs.challenge_of(suite, second), done.shape, done.roots, done.leaves, done.trees
    ).openings(DRAW, SAMPLES)
    with boa.reverts("benchmark: wrong value"):
        benchmark.open_samples(second.owner, its_samples)
    assert benchmark.score(second.owner) == 0


# -------------------------------------------------------------------- lifetime


def test_score__lasts_score_life_after_its_epoch__exact(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider
) -> None:
    proofs.scored(suite, provider)
    points, last = benchmark.score(provider.owner), proofs.end_of(suite) + p.score_life
    assert benchmark.proven(provider.owner) == (points, 1, last)
    go_to(last)
    assert benchmark.score(provider.owner) == points > 0
    go_to(last + 1)
    assert benchmark.score(provider.owner) == 0
    assert benchmark.proven(provider.owner) == (points, 1, last)
    assert benchmark.share_of(provider.owner, 1)[0] == points


@pytest.mark.parametrize("life", [1, 40 * DAY])
def test_score__other_lives(life: int) -> None:
    suite = deploy_suite(Parameters(score_life=life), with_benchmark=True)
    provider = proofs.prover(suite)
    proofs.scored(suite, provider, 1)
    go_to(proofs.end_of(suite) + life)
    assert suite.benchmark.score(provider.owner) > 0
    pass_time(1)
    assert suite.benchmark.score(provider.owner) == 0


def test_score__the_next_proof_replaces_it(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.scored(suite, provider, 3)
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider, 1)
    proofs.draw_epoch(suite)
    openings = done.openings(DRAW, SAMPLES)
    benchmark.open_samples(provider.owner, openings[:3])
    assert benchmark.score(provider.owner) == points_of(suite, 3)
    benchmark.open_sample(provider.owner, openings[3])
    assert benchmark.score(provider.owner) == points_of(suite, 1)
    assert benchmark.share_of(provider.owner, 1) == (0, 0, points_of(suite, 3))
    assert benchmark.share_of(provider.owner, 2)[0] == points_of(suite, 1)


def test_score__of_nobody(benchmark: Contract, stranger: str) -> None:
    assert benchmark.score(stranger) == 0
    assert benchmark.proven(stranger) == (0, 0, 0)


def test_score__missed_epoch_costs_nothing_else(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    """Missing a window is not a fault: the bond stays, nothing can be reported."""
    proofs.scored(suite, provider)
    for _ in range(3):
        proofs.open_epoch(suite)
        proofs.draw_epoch(suite)
        with boa.reverts("benchmark: no proof to fail"):
            benchmark.fail(provider.owner)
    assert suite.staking.pool(provider.owner)[:2] == (5_000 * TPF, BOND)


def test_beacon__another_one_another_challenge(suite: Suite, provider: Provider) -> None:
    """What was computed ahead of the beacon is worth nothing."""
    with boa.env.anchor():
        proofs.open_epoch(suite, BEACON)
        first = proofs.challenge_of(suite, provider)
    proofs.open_epoch(suite, DRAW)
    assert proofs.challenge_of(suite, provider) != first
