# SPDX-License-Identifier: Apache-2.0
"""From the first commit until an epoch is settled: hold, `take`, `settle`, free; and what follows.

I-13: nobody joins for a reward already earned, nobody pays for a fault already done.
"""

from __future__ import annotations

import boa
import pytest

from teraproof.pog import format as pog
from tests.contracts import actions, proofs
from tests.contracts.actions import Provider, delegate, event, events, go_to, now, pass_time
from tests.contracts.deploy import (
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
from tests.contracts.proofs import DRAW

pytestmark = pytest.mark.invariant("I-13")

NOT_YET = "benchmark: not yet settled"
NOTHING = "benchmark: nothing to settle"
NOTHING_TO_TAKE = "benchmark: nothing to take"
ROOT = pog.keccak(b"a commitment")
SAMPLES = 4


@pytest.fixture(scope="module")
def suite() -> Suite:
    """The first boundary is a day after genesis' own, so that every epoch has an emission."""
    managers = {address_of("manager"): LOCK | SLASH | REWARD}
    return deploy_suite(managers=managers, with_benchmark=True)


@pytest.fixture
def provider(suite: Suite) -> Provider:
    pass_time(6_000)
    return proofs.prover(suite)


@pytest.fixture
def ended(suite: Suite, provider: Provider) -> int:
    """An epoch in which the provider has scored, and which has just ended; its number."""
    proofs.scored(suite, provider)
    go_to(proofs.end_of(suite))
    return int(suite.benchmark.current_epoch())


def is_held(suite: Suite, provider: Provider) -> bool:
    return bool(suite.staking.is_unsettled(provider.owner))


def due(suite: Suite, provider: Provider) -> int:
    return int(suite.emissions.reward_of(provider.owner, suite.benchmark.current_epoch()))


# ------------------------------------------------------------------------ held


def test_hold__from_the_first_commit_to_the_claim(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider
) -> None:
    proofs.open_epoch(suite)
    assert not is_held(suite, provider)
    done = proofs.committed(suite, provider)
    assert is_held(suite, provider)
    proofs.draw_epoch(suite)
    assert is_held(suite, provider)
    proofs.show(suite, provider, done)
    assert is_held(suite, provider)
    go_to(proofs.end_of(suite) + p.fault_period + p.spacing)
    assert is_held(suite, provider)  # until somebody settles it, however late
    suite.emissions.claim(provider.owner)
    assert not is_held(suite, provider)


def test_hold__stake_that_comes_in_waits__and_gets_nothing_of_the_epoch(
    suite: Suite, benchmark: Contract, provider: Provider, delegator: str
) -> None:
    """It comes between the commit and the claim, with 1,000 times the stake that has earned."""
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider)
    assert delegate(suite, provider.owner, delegator, 2_500_000 * TPF) == 0
    proofs.draw_epoch(suite)
    proofs.show(suite, provider, done)
    go_to(proofs.end_of(suite) - 1)
    assert delegate(suite, provider.owner, delegator, 2_500_000 * TPF) == 0
    pass_time(1)
    reward = due(suite, provider)
    assert reward > 0
    # The claim is part of the activation.
    suite.staking.activate(provider.owner, delegator)
    owner = suite.staking.assets_of(provider.owner, provider.owner)
    assert owner - 5_000 * TPF == pytest.approx(reward * 9 // 10, rel=1e-6)
    got = suite.staking.assets_of(provider.owner, delegator)
    assert 5_000_000 * TPF - 2 <= got <= 5_000_000 * TPF


def test_hold__a_later_commit_counts_the_stake_of_then(
    suite: Suite, benchmark: Contract, provider: Provider, delegator: str
) -> None:
    """Stake that has come in between two epochs earns in the second."""
    proofs.scored(suite, provider)
    go_to(proofs.end_of(suite))
    delegate(suite, provider.owner, delegator, 5_000 * TPF)
    assert not is_held(suite, provider)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    stake = benchmark.proof_of(provider.owner).stake
    assert stake == suite.staking.pool(provider.owner)[0] > 10_000 * TPF


# ------------------------------------------------------------------------ take


def test_take__hands_the_part_out_once(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int
) -> None:
    score, effective, total = benchmark.share_of(provider.owner, ended)
    stake = benchmark.proof_of(provider.owner).stake
    opened_at = benchmark.epoch_of(ended).opened_at
    rewards = suite.emissions.address
    due = benchmark.take(provider.owner, sender=rewards)
    assert due == (ended, score, stake, total, opened_at, benchmark.GENESIS())
    assert not benchmark.get_logs()  # Emissions tells it
    assert benchmark.proof_of(provider.owner).settled
    for _ in range(2):
        with boa.reverts(NOTHING_TO_TAKE):
            benchmark.take(provider.owner, sender=rewards)
        pass_time(10**6)
    assert benchmark.share_of(provider.owner, ended) == (score, effective, total)


def test_take__by_emissions_only(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int, stranger: str
) -> None:
    for caller in (stranger, provider.owner, provider.operator.address, suite.owner):
        with boa.reverts("benchmark: not the rewards"):
            benchmark.take(provider.owner, sender=caller)


def test_take__when_the_epoch_has_ended__exact(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.scored(suite, provider)
    end, rewards = proofs.end_of(suite), suite.emissions.address
    for time in (now(), end - 1):
        go_to(time)
        with boa.reverts("benchmark: epoch has not ended"):
            benchmark.take(provider.owner, sender=rewards)
        with boa.reverts("benchmark: epoch has not ended"):
            suite.emissions.claim(provider.owner)
        with boa.reverts(NOT_YET):
            benchmark.settle(provider.owner)
    go_to(end)
    benchmark.take(provider.owner, sender=rewards)


def test_take__nothing_scored__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, stranger: str
) -> None:
    rewards = suite.emissions.address
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    benchmark.open_samples(provider.owner, done.openings(DRAW, SAMPLES)[:3])
    go_to(proofs.end_of(suite))
    for account in (provider.owner, stranger):
        with boa.reverts(NOTHING_TO_TAKE):
            benchmark.take(account, sender=rewards)


@pytest.fixture
def scarce(manager: str) -> Suite:
    """A network in which a TPF backs 1,000 operations per second; `manager` has all permissions."""
    managers = {manager: LOCK | SLASH | REWARD}
    p = Parameters(ops_per_tpf=1_000, bond=10 * TPF)
    return deploy_suite(p, managers=managers, with_benchmark=True)


def stake_taken(suite: Suite, provider: Provider) -> int:
    due = suite.benchmark.take(provider.owner, sender=suite.emissions.address)
    assert due.score == suite.benchmark.share_of(provider.owner, 1)[0]
    assert due.total == 100_000
    return int(due.stake)


def test_take__counts_the_stake_that_is_still_there(scarce: Suite, manager: str) -> None:
    """Of what counted when the proof was scored, what has left since gets no reward."""
    provider = proofs.prover(scarce, stake=100 * TPF)
    proofs.scored(scarce, provider)
    assert scarce.benchmark.share_of(provider.owner, 1)[1:] == (100_000, 100_000)
    # Never more than at the scoring, whatever comes in: it waits outside.
    delegate(scarce, provider.owner, provider.owner, 1_000 * TPF)
    go_to(proofs.end_of(scarce))
    with boa.env.anchor():
        assert stake_taken(scarce, provider) == 100 * TPF
    scarce.staking.slash(provider.owner, bytes(32), 40 * TPF, sender=manager)
    with boa.env.anchor():
        assert stake_taken(scarce, provider) == 60 * TPF
    scarce.staking.slash(provider.owner, bytes(32), 10**30, sender=manager)
    assert stake_taken(scarce, provider) == 0


def test_take__never_counts_more_than_the_score_did(scarce: Suite, manager: str) -> None:
    """Stake leaves before the scoring; more comes after, since another has ended the hold."""
    provider, benchmark = proofs.prover(scarce, stake=140 * TPF), scarce.benchmark
    proofs.open_epoch(scarce)
    done = proofs.committed(scarce, provider)
    scarce.staking.undelegate(provider.owner, 40_000 * TPF, sender=provider.owner)
    proofs.draw_epoch(scarce)
    proofs.show(scarce, provider, done)
    assert benchmark.share_of(provider.owner, 1)[1] == 100_000
    assert benchmark.proof_of(provider.owner).stake == 100 * TPF
    scarce.staking.reward(provider.owner, 0, sender=manager)
    assert delegate(scarce, provider.owner, provider.owner, 1_000 * TPF) > 0
    go_to(proofs.end_of(scarce))
    assert benchmark.proof_of(provider.owner).stake == 100 * TPF
    assert stake_taken(scarce, provider) == 100 * TPF


# ---------------------------------------------------------------------- settle


def test_settle__claims_for_anyone(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int, stranger: str
) -> None:
    reward = due(suite, provider)
    benchmark.settle(provider.owner, sender=stranger)
    assert event(benchmark, "Claimed")["amount"] == reward > 0
    assert suite.staking.pool(provider.owner)[0] > 5_000 * TPF
    assert not is_held(suite, provider)
    with boa.reverts(NOTHING):
        benchmark.settle(provider.owner)


def test_settle__through_staking_within_its_gas(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int
) -> None:
    """Staking gives 500,000 gas and ignores failures: the whole claim must fit."""
    suite.staking.settle(provider.owner)
    assert benchmark.proof_of(provider.owner).settled
    assert not is_held(suite, provider)
    assert suite.staking.pool(provider.owner)[0] > 5_000 * TPF


def test_settle__by_whoever_leaves(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int
) -> None:
    """`undelegate` takes the share of the reward along."""
    reward = due(suite, provider)
    shares = suite.staking.shares_of(provider.owner, provider.owner)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    suite.staking.undelegate(provider.owner, shares, sender=provider.owner)
    left = suite.staking.ticket(provider.owner, provider.owner, 0)[1]
    assert left == pytest.approx(5_000 * TPF + reward * 9 // 10, rel=1e-6)


def test_settle__nothing_ever_committed__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, stranger: str
) -> None:
    for account in (provider.owner, stranger):
        with boa.reverts(NOTHING):
            benchmark.settle(account)


def test_settle__in_every_state(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider
) -> None:
    """Not before the epoch is over for this proof; void and past its fault period it is free."""

    def refused() -> None:
        with boa.reverts(NOT_YET):
            benchmark.settle(provider.owner)
        suite.staking.settle(provider.owner)
        assert is_held(suite, provider)

    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider)
    refused()
    proofs.draw_epoch(suite)
    refused()
    benchmark.open_samples(provider.owner, done.openings(DRAW, SAMPLES)[:3])
    refused()
    with boa.env.anchor():
        benchmark.open_sample(provider.owner, done.openings(DRAW, SAMPLES)[3])
        refused()
    end = proofs.end_of(suite)
    for time in (end - 1, end, end + p.fault_period - 1):
        go_to(time)
        refused()
    pass_time(1)
    benchmark.settle(provider.owner)
    assert event(benchmark, "Settled")["provider"] == provider.owner
    assert events(benchmark, "Claimed") == []
    assert not is_held(suite, provider)
    assert suite.staking.pool(provider.owner)[0] == 5_000 * TPF
    with boa.reverts("benchmark: no proof to fail"):
        benchmark.fail(provider.owner)


def test_settle__withdrawn__is_settled_already(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    benchmark.withdraw_proof(sender=provider.owner)
    assert not is_held(suite, provider)
    with boa.reverts(NOTHING):
        benchmark.settle(provider.owner)
    proofs.commit(suite, provider, 1, ROOT)
    assert is_held(suite, provider)
    assert not benchmark.proof_of(provider.owner).settled


def test_settle__failed__is_settled_already(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    go_to(proofs.end_of(suite))
    benchmark.fail(provider.owner)
    assert not is_held(suite, provider)
    with boa.reverts(NOTHING):
        benchmark.settle(provider.owner)


def test_settle__nobody_holds_another_up(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int
) -> None:
    """A failure, an unopened proof and a newcomer next to it change nothing."""
    cheat = proofs.prover(suite, "cheat")
    proofs.open_epoch(suite)
    proofs.committed(suite, cheat, 1)
    benchmark.settle(provider.owner)
    proofs.committed(suite, provider, 1)
    with boa.reverts(NOT_YET):
        benchmark.settle(cheat.owner)
    assert is_held(suite, provider)


def test_claim__long_after_benchmark_was_removed__by_the_commission_of_then(
    suite: Suite, p: Parameters, provider: Provider, ended: int
) -> None:
    """The hold counts no more, but what it has kept is still that of the epoch."""
    staking = suite.staking
    staking.set_commission(0, sender=provider.owner)
    staking.remove_manager(suite.benchmark.address, sender=suite.owner)
    pass_time(p.unbonding)
    assert not is_held(suite, provider)
    before = staking.credit_of(provider.payout)
    amount = suite.emissions.claim(provider.owner)
    paid = staking.credit_of(provider.payout) - before
    assert paid == pytest.approx(amount // 10, abs=1_000) and amount > 0


def test_settle__emissions_removed__stake_is_free_all_the_same(
    suite: Suite, benchmark: Contract, provider: Provider, ended: int
) -> None:
    """Nobody can be paid any more; nobody's stake waits for it without end."""
    suite.staking.remove_manager(suite.emissions.address, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        suite.emissions.claim(provider.owner)
    benchmark.settle(provider.owner)
    assert not is_held(suite, provider)
    assert suite.staking.pool(provider.owner)[0] == 5_000 * TPF
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)


def test_settle__emissions_removed__the_next_commit_is_not_held_up(
    suite: Suite, provider: Provider, ended: int
) -> None:
    suite.staking.remove_manager(suite.emissions.address, sender=suite.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)
    assert is_held(suite, provider)


@pytest.mark.parametrize(("early", "paid"), [(1, False), (0, True)])
def test_settle__emissions_named_again__pays_from_the_second_in_which_it_is_active(
    suite: Suite,
    p: Parameters,
    benchmark: Contract,
    provider: Provider,
    ended: int,
    early: int,
    paid: bool,
) -> None:
    staking = suite.staking
    staking.remove_manager(suite.emissions.address, sender=suite.owner)
    pass_time(p.unbonding)
    staking.announce_manager(suite.emissions.address, REWARD, sender=suite.owner)
    go_to(now() + staking.MANAGER_DELAY() - early)
    benchmark.settle(provider.owner)
    assert not is_held(suite, provider)
    assert (staking.pool(provider.owner)[0] > 5_000 * TPF) is paid


def test_undelegate__with_any_gas__is_paid_first_or_undone(
    suite: Suite, provider: Provider, delegator: str
) -> None:
    """Who could have the claim run out of gas would have the others take the leaver's part."""
    pass_time(86_400)
    shares = delegate(suite, provider.owner, delegator, 5_000 * TPF)
    proofs.scored(suite, provider)
    go_to(proofs.end_of(suite))
    part = due(suite, provider) * 9 // 20
    assert part > TPF
    staking = suite.staking
    data = staking.undelegate.prepare_calldata(provider.owner, shares)
    undone = paid = 0
    # From what no call can do with to more than enough.
    for gas in range(40_000, 240_000, 4_000):
        with boa.env.anchor():
            made = boa.env.execute_code(
                to_address=staking.address, sender=delegator, data=data, gas=gas
            )
            if made.is_error:
                undone += 1
                assert is_held(suite, provider)
                continue
            paid += 1
            assert not is_held(suite, provider), f"left unpaid with {gas} gas"
            leaving = staking.ticket(provider.owner, delegator, 0)[1]
            assert leaving - 5_000 * TPF == pytest.approx(part, rel=1e-6)
    assert undone > 0
    assert paid > 0


# -------------------------------------------------------------------- together


def test_life_cycle__epoch_after_epoch(
    suite: Suite, benchmark: Contract, provider: Provider, delegator: str
) -> None:
    """Commit, score, claim by the next commit; failures and void epochs between."""
    total = 0
    for turn in range(3):
        proofs.scored(suite, provider)
        go_to(proofs.end_of(suite))
        total += due(suite, provider)
        if turn == 1:  # by hand, and not by the commit that follows
            suite.emissions.claim(provider.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)  # and void
    assert suite.emissions.minted() == total > 0
    go_to(proofs.end_of(suite))
    actions.delegate(suite, provider.owner, delegator, TPF)
    assert not is_held(suite, provider)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)
    proofs.draw_epoch(suite)
    go_to(proofs.end_of(suite))
    benchmark.fail(provider.owner)
    assert not is_held(suite, provider)
    proofs.scored(suite, provider, 1)
    assert benchmark.score(provider.owner) > 0
