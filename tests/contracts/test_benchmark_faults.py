# SPDX-License-Identifier: Apache-2.0
"""`fail` and `release_bond`: a proof not opened costs the bond (I-4); all others return."""

from __future__ import annotations

from typing import Any

import boa
import pytest

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
from tests.contracts.proofs import DRAW, Work

pytestmark = pytest.mark.invariant("I-4")

BOND = 1_000 * TPF
BOND_ID = bytes(32)
NO_FAULT = "benchmark: no proof to fail"
NOT_OVER = "benchmark: epoch has not ended"
PROOF_OPEN = "benchmark: a proof is open"
SAMPLES = 4


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
    """A proof of the first epoch, drawn and not opened."""
    proofs.open_epoch(suite)
    work = proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    return work


@pytest.fixture
def missed(suite: Suite, provider: Provider, done: Work) -> Work:
    """The same, and the epoch has just ended."""
    go_to(proofs.end_of(suite))
    return done


def bond_of(suite: Suite, provider: Provider) -> Any:
    return suite.staking.lock_of(suite.benchmark.address, provider.owner, BOND_ID)


# ------------------------------------------------------------------------ fail


def test_fail__slashes_the_bond_and_unlocks_it(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work, stranger: str
) -> None:
    supply = suite.token.totalSupply()
    benchmark.fail(provider.owner, sender=stranger)
    assert event(benchmark, "Failed") == {
        "epoch": 1,
        "provider": provider.owner,
        "slashed": BOND,
        "reporter": stranger,
    }
    assert suite.token.totalSupply() == supply - BOND
    assert suite.staking.pool(provider.owner)[:2] == (4_000 * TPF, 0)
    assert bond_of(suite, provider) == (0, 0)
    proof = benchmark.proof_of(provider.owner)
    assert (proof.epoch, proof.rounds, proof.verified) == (1, 0, 0)
    assert (proof.stake, proof.bond_until, proof.settled) == (0, 0, True)
    assert not benchmark.is_open(provider.owner)
    assert not suite.staking.is_unsettled(provider.owner)


@pytest.mark.invariant("I-4")
def test_fail__nobody_profits(
    suite: Suite, benchmark: Contract, missed: Work, provider: Provider, stranger: str
) -> None:
    """I-4: what is slashed is burned whole, whoever reports."""
    holders = (stranger, suite.owner, suite.treasury, suite.benchmark.address)
    before = [suite.token.balanceOf(holder) for holder in holders]
    benchmark.fail(provider.owner, sender=stranger)
    assert [suite.token.balanceOf(holder) for holder in holders] == before
    assert suite.staking.credit_of(stranger) == 0


def test_fail__by_the_provider_itself(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work
) -> None:
    benchmark.fail(provider.owner, sender=provider.operator.address)
    assert suite.staking.pool(provider.owner)[0] == 4_000 * TPF


@pytest.mark.invariant("I-4")
def test_fail__takes_from_delegators_and_from_what_is_leaving(
    suite: Suite, benchmark: Contract, delegator: str
) -> None:
    """I-4: pro rata from every share, active or unbonding, that was at stake at the commit."""
    staking, provider = suite.staking, proofs.prover(suite)
    delegate(suite, provider.owner, delegator, 4_000 * TPF)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    proofs.draw_epoch(suite)
    shares = staking.shares_of(provider.owner, delegator)
    staking.undelegate(provider.owner, shares // 4, sender=delegator)

    def holdings() -> Any:
        return (
            staking.owner_assets(provider.owner),
            staking.assets_of(provider.owner, delegator),
            staking.ticket(provider.owner, delegator, 0)[1],
        )

    before = holdings()
    assert sum(before) == pytest.approx(9_000 * TPF, abs=10)
    go_to(proofs.end_of(suite))
    benchmark.fail(provider.owner)
    for left, had in zip(holdings(), before, strict=True):
        assert left == pytest.approx(had * 8 // 9, abs=10)


def test_fail__touches_nobody_who_came_after_the_commit(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work, delegator: str
) -> None:
    """Their stake waits outside the pool until the fault is paid for, and can leave at any time."""
    staking = suite.staking
    assert delegate(suite, provider.owner, delegator, 9_000 * TPF) == 0
    go_to(proofs.end_of(suite))
    assert delegate(suite, provider.owner, delegator, 1_000 * TPF) == 0
    benchmark.fail(provider.owner)
    assert event(benchmark, "Failed")["slashed"] == BOND
    assert staking.pool(provider.owner)[0] == 4_000 * TPF
    assert staking.entry_of(provider.owner, delegator) == 10_000 * TPF
    staking.take_back(provider.owner, sender=delegator)
    assert suite.token.balanceOf(delegator) == 20_000 * TPF


def test_fail__nobody_reports__the_proof_binds_nothing_any_more(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work, delegator: str
) -> None:
    """No score, no reward, no further epoch meanwhile; then the stake is free again."""
    end = proofs.end_of(suite)
    delegate(suite, provider.owner, delegator, TPF)
    for time in (end, end + p.fault_period - 1):
        go_to(time)
        with boa.reverts("benchmark: not yet settled"):
            benchmark.settle(provider.owner)
        with boa.reverts("staking: epoch is unsettled"):
            suite.staking.activate(provider.owner, delegator)
    go_to(end + p.fault_period)
    suite.staking.activate(provider.owner, delegator)
    assert suite.staking.pool(provider.owner)[0] == 5_001 * TPF
    assert benchmark.proof_of(provider.owner).settled
    assert benchmark.score(provider.owner) == 0


def test_fail__pool_smaller_than_the_bond(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work, manager: str
) -> None:
    suite.staking.slash(provider.owner, BOND_ID, 4_400 * TPF, sender=manager)
    benchmark.fail(provider.owner)
    assert event(benchmark, "Failed")["slashed"] == 600 * TPF
    assert suite.staking.pool(provider.owner)[:2] == (0, 0)


def test_fail__too_early__exact(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    end = proofs.end_of(suite)
    for second in (now(), end - 1):
        go_to(second)
        with boa.reverts(NOT_OVER):
            benchmark.fail(provider.owner)
    go_to(end)
    benchmark.fail(provider.owner)


def test_fail__fault_period__exact(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    end = proofs.end_of(suite) + p.fault_period
    go_to(end)
    with boa.reverts(NO_FAULT):
        benchmark.fail(provider.owner)
    go_to(end - 1)
    benchmark.fail(provider.owner)
    assert event(benchmark, "Failed")["slashed"] == BOND


def test_fail__one_sample_short(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    benchmark.open_samples(provider.owner, done.openings(DRAW, SAMPLES)[:3])
    go_to(proofs.end_of(suite))
    benchmark.fail(provider.owner)
    assert suite.staking.pool(provider.owner)[0] == 4_000 * TPF


def test_fail__verified__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    proofs.show(suite, provider, done)
    for _ in range(2):
        with boa.reverts(NO_FAULT):
            benchmark.fail(provider.owner)
        go_to(proofs.end_of(suite))


def test_fail__void_epoch__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider
) -> None:
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    for seconds in (0, p.window, p.draw_period + 1, p.length, p.fault_period):
        pass_time(seconds)
        with boa.reverts(NO_FAULT):
            benchmark.fail(provider.owner)
    assert suite.staking.pool(provider.owner)[0] == 5_000 * TPF


def test_fail__nothing_committed__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, stranger: str
) -> None:
    for account in (provider.owner, stranger, provider.operator.address):
        with boa.reverts(NO_FAULT):
            benchmark.fail(account)


def test_fail__twice__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work
) -> None:
    benchmark.fail(provider.owner)
    with boa.reverts(NO_FAULT):
        benchmark.fail(provider.owner)
    assert suite.staking.pool(provider.owner)[0] == 4_000 * TPF


def test_fail__then_no_opening(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work
) -> None:
    benchmark.fail(provider.owner)
    with boa.reverts("benchmark: no proof to open"):
        benchmark.open_samples(provider.owner, missed.openings(DRAW, SAMPLES))


def test_fail__earlier_score_is_lost(suite: Suite, benchmark: Contract, provider: Provider) -> None:
    """However long it would have lasted."""
    proofs.scored(suite, provider, 3)
    go_to(proofs.end_of(suite))
    benchmark.settle(provider.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)
    proofs.draw_epoch(suite)
    go_to(proofs.end_of(suite) - 1)
    assert benchmark.score(provider.owner) > 0
    pass_time(1)
    stake = suite.staking.pool(provider.owner)[0]
    benchmark.fail(provider.owner)
    assert benchmark.score(provider.owner) == 0
    assert benchmark.proven(provider.owner) == (0, 0, 0)
    # What was earned before stays earned: it was paid before the commit.
    assert suite.staking.pool(provider.owner)[0] == stake - BOND
    assert benchmark.share_of(provider.owner, 2) == (0, 0, 0)


def test_fail__a_new_proof_makes_a_new_score(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, missed: Work
) -> None:
    benchmark.fail(provider.owner)
    proofs.scored(suite, provider, 2)
    assert benchmark.score(provider.owner) > 0
    assert bond_of(suite, provider) == (BOND, benchmark.proof_of(provider.owner).bond_until)


def test_fail__unrelated_provider_untouched(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    other = proofs.prover(suite, "other provider")
    proofs.scored(suite, other, 1)
    points = benchmark.score(other.owner)
    benchmark.fail(provider.owner)
    assert benchmark.score(other.owner) == points
    assert suite.staking.pool(other.owner)[:2] == (5_000 * TPF, BOND)


def test_fail__the_owner_cannot_leave_before(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    """What is unbonding is slashed too: the unbonding lasts longer than a fault can be reported."""
    staking = suite.staking
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares * 4 // 5, sender=provider.owner)
    go_to(proofs.end_of(suite) + p.fault_period - 1)
    with boa.reverts("staking: still unbonding"):
        staking.withdraw_unbonded(provider.owner, 0, sender=provider.owner)
    benchmark.fail(provider.owner)
    assert event(benchmark, "Failed")["slashed"] == BOND
    assert staking.pool(provider.owner)[0] == 800 * TPF


# ---------------------------------------------------------------- release_bond


def test_release_bond__after_a_proof(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    for caller in (provider.owner, provider.operator.address):
        with boa.env.anchor():
            proofs.show(suite, provider, done)
            points = benchmark.score(provider.owner)
            benchmark.release_bond(provider.owner, sender=caller)
            assert event(benchmark, "BondReleased") == {"provider": provider.owner}
            assert bond_of(suite, provider) == (0, 0)
            assert suite.staking.pool(provider.owner)[:2] == (5_000 * TPF, 0)
            assert benchmark.proof_of(provider.owner).bond_until == 0
            assert benchmark.score(provider.owner) == points > 0


def test_release_bond__by_a_stranger__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work, stranger: str
) -> None:
    proofs.show(suite, provider, done)
    other = proofs.prover(suite, "other provider")
    for caller in (stranger, provider.payout, other.owner, other.operator.address, suite.owner):
        with boa.reverts("benchmark: not the provider"):
            benchmark.release_bond(provider.owner, sender=caller)


def test_release_bond__proof_open__reverts(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider
) -> None:
    """From the commit to the last sample, or until a fault can no longer be reported."""
    proofs.open_epoch(suite)
    done = proofs.committed(suite, provider)

    def refused() -> None:
        with boa.reverts(PROOF_OPEN):
            benchmark.release_bond(provider.owner, sender=provider.owner)

    refused()
    pass_time(p.window)
    refused()
    proofs.draw_epoch(suite)
    refused()
    benchmark.open_samples(provider.owner, done.openings(DRAW, SAMPLES)[:3])
    refused()
    go_to(proofs.end_of(suite))
    refused()
    go_to(proofs.end_of(suite) + p.fault_period - 1)
    refused()
    pass_time(1)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert suite.staking.pool(provider.owner)[:2] == (5_000 * TPF, 0)


def test_release_bond__none__reverts(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    newcomer = proofs.prover(suite, "newcomer")
    with boa.reverts("benchmark: no bond"):
        benchmark.release_bond(newcomer.owner, sender=newcomer.owner)
    proofs.show(suite, provider, done)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    with boa.reverts("benchmark: no bond"):
        benchmark.release_bond(provider.owner, sender=provider.owner)


def test_release_bond__after_a_failure__none_left(
    suite: Suite, benchmark: Contract, provider: Provider, missed: Work
) -> None:
    benchmark.fail(provider.owner)
    with boa.reverts("benchmark: no bond"):
        benchmark.release_bond(provider.owner, sender=provider.owner)


def test_release_bond__then_the_next_commit_locks_again(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    proofs.show(suite, provider, done)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    proofs.open_epoch(suite)
    proofs.committed(suite, provider, 1)
    assert event(benchmark, "BondLocked") == {
        "provider": provider.owner,
        "until": now() + p.bond_life,
    }
    assert bond_of(suite, provider) == (BOND, now() + p.bond_life)


@pytest.mark.invariant("I-2")
def test_release_bond__of_a_released_lock__only_forgets_it(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work, stranger: str
) -> None:
    """I-2: an expired bond is released by anyone, in Staking; nothing can block it."""
    proofs.show(suite, provider, done)
    until = bond_of(suite, provider)[1]
    go_to(until)
    with boa.reverts("staking: lock has not expired"):
        suite.staking.release(benchmark.address, provider.owner, BOND_ID, sender=stranger)
    go_to(until + 1)
    suite.staking.release(benchmark.address, provider.owner, BOND_ID, sender=stranger)
    assert suite.staking.pool(provider.owner)[:2] == (5_000 * TPF, 0)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert events(suite.staking, "Unlocked") == []
    assert benchmark.proof_of(provider.owner).bond_until == 0


def test_release_bond__not_by_anyone_while_a_fault_can_be_told(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    """The lock outlives the last second of a report."""
    go_to(proofs.end_of(suite) + p.fault_period - 1)
    with boa.reverts("staking: lock has not expired"):
        suite.staking.release(benchmark.address, provider.owner, BOND_ID)
    assert bond_of(suite, provider)[1] >= now()
    assert p.bond_life >= p.length + p.fault_period > 2 * DAY


# ------------------------------------------------------------ removed manager


@pytest.mark.invariant("I-2")
def test_removed__the_bond_still_leaves(
    suite: Suite, benchmark: Contract, provider: Provider, done: Work
) -> None:
    """I-2: when the timelock drops Benchmark, bonds can be released and stake settled all the
    same, and no new proof begins."""
    proofs.show(suite, provider, done)
    suite.staking.remove_manager(benchmark.address, sender=suite.owner)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert suite.staking.pool(provider.owner)[1] == 0
    go_to(proofs.end_of(suite))
    benchmark.settle(provider.owner)
    assert not suite.staking.is_unsettled(provider.owner)
    proofs.open_epoch(suite)
    with boa.reverts("staking: caller lacks the permission"):
        proofs.committed(suite, provider)


def test_removed__a_pending_failure_is_not_lost(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, done: Work
) -> None:
    """The timelock cannot save a cheat by dropping Benchmark before the failure is reported."""
    suite.staking.remove_manager(benchmark.address, sender=suite.owner)
    go_to(proofs.end_of(suite) + p.fault_period - 1)
    benchmark.fail(provider.owner)
    assert event(benchmark, "Failed")["slashed"] == BOND
    assert suite.staking.pool(provider.owner)[:2] == (4_000 * TPF, 0)
    assert not suite.staking.is_unsettled(provider.owner)


def test_removed__the_owner_can_still_withdraw_its_proof(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.open_epoch(suite)
    proofs.committed(suite, provider)
    suite.staking.remove_manager(benchmark.address, sender=suite.owner)
    benchmark.withdraw_proof(sender=provider.owner)
    assert not suite.staking.is_unsettled(provider.owner)
