# SPDX-License-Identifier: Apache-2.0
"""A score counts as far as the stake of now backs it, and jobs reserve it."""

from __future__ import annotations

import boa
import pytest

from teraproof.pog import format as pog
from teraproof.protocol.terms import Order
from tests.contracts import actions, proofs
from tests.contracts.actions import Provider, delegate, go_to, order, pass_time, post
from tests.contracts.deploy import TPF, Contract, Parameters, Suite
from tests.contracts.test_benchmark_score import drawn, points_of, provider, scarce, small, suite

__all__ = ["provider", "scarce", "small", "suite"]  # fixtures

pytestmark = pytest.mark.invariant("I-7")


# ---------------------------------------------------------------------- backing


def test_score__only_what_the_stake_of_now_backs(
    scarce: Suite, small: Provider, manager: str
) -> None:
    """A score does not outlive its stake."""
    benchmark, staking = scarce.benchmark, scarce.staking
    proofs.show(scarce, small, drawn(scarce, small))
    points = points_of(scarce, 3)
    assert benchmark.score(small.owner) == 100_000 < points
    staking.slash(small.owner, bytes(32), 40 * TPF, sender=manager)
    assert benchmark.score(small.owner) == 60_000
    go_to(proofs.end_of(scarce))
    delegate(scarce, small.owner, small.owner, 40 * TPF)
    assert benchmark.score(small.owner) == 100_000 + backed_by_rewards(scarce, small, 100)
    delegate(scarce, small.owner, small.owner, 10_000 * TPF)
    assert benchmark.score(small.owner) == points
    assert benchmark.proven(small.owner)[0] == points


def backed_by_rewards(suite: Suite, provider: Provider, stake: int) -> int:
    """Operations per second that a pool backs beyond `stake` TPF."""
    return int((suite.staking.pool(provider.owner)[0] - stake * TPF) * 1_000 // TPF)


def test_score__of_an_owner_who_has_left__is_zero(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    proofs.scored(suite, provider)
    staking = suite.staking
    benchmark.release_bond(provider.owner, sender=provider.owner)
    shares = staking.shares_of(provider.owner, provider.owner)
    staking.undelegate(provider.owner, shares, sender=provider.owner)
    assert staking.pool(provider.owner)[0] == 0
    assert benchmark.score(provider.owner) == 0
    assert benchmark.proven(provider.owner)[0] > 0


def test_score__backing_follows_the_scale_of_its_epoch(
    suite: Suite, benchmark: Contract, provider: Provider
) -> None:
    """A new scale is for epochs to come."""
    emissions = suite.emissions
    proofs.scored(suite, provider)
    epoch, points = benchmark.current_epoch(), benchmark.score(provider.owner)
    scale = emissions.ops_per_tpf(epoch)
    emissions.set_scale(scale // 2, 1, sender=suite.owner)
    assert emissions.ops_per_tpf(epoch) == scale
    assert benchmark.score(provider.owner) == points


# ------------------------------------------------------------------------ Jobs


def wanting(points: int, nonce: int = 0) -> Order:
    return order(min_score=points, nonce=nonce, collateral=0)


def test_jobs__scores_come_from_the_benchmark(suite: Suite, benchmark: Contract) -> None:
    assert suite.jobs.SCORES() == benchmark.address


def test_jobs__min_score_is_what_was_proven__exact(
    suite: Suite, provider: Provider, requester: str
) -> None:
    points = points_of(suite, 3)
    with boa.reverts("eligibility: score too low"):
        actions.accept(suite, provider, post(suite, requester, wanting(1)))
    proofs.scored(suite, provider, 3)
    with boa.reverts("eligibility: score too low"):
        actions.accept(suite, provider, post(suite, requester, wanting(points + 1, 1)))
    actions.accept(suite, provider, post(suite, requester, wanting(points, 2)))


def test_jobs__score_is_reserved_by_open_work(
    suite: Suite, provider: Provider, requester: str
) -> None:
    proofs.scored(suite, provider, 3)
    points = points_of(suite, 3)
    first = post(suite, requester, wanting(points - 10))
    actions.accept(suite, provider, first)
    assert suite.jobs.reserved_score(provider.owner) == points - 10
    with boa.reverts("eligibility: score too low"):
        actions.accept(suite, provider, post(suite, requester, wanting(11, 1)))
    actions.accept(suite, provider, post(suite, requester, wanting(10, 2)))
    assert suite.jobs.reserved_score(provider.owner) == points


def test_jobs__expired_score_takes_no_work(
    suite: Suite, benchmark: Contract, p: Parameters, provider: Provider, requester: str
) -> None:
    proofs.scored(suite, provider, 3)
    go_to(proofs.end_of(suite) + p.score_life)
    last = post(suite, requester, wanting(1))
    actions.accept(suite, provider, last)
    late = post(suite, requester, wanting(1, 1))
    pass_time(1)
    with boa.reverts("eligibility: score too low"):
        actions.accept(suite, provider, late)
    # Work that was taken while the score held goes on and frees what it reserved.
    actions.attest(suite, provider, last)


def test_jobs__lost_score_takes_no_work(
    suite: Suite, benchmark: Contract, provider: Provider, requester: str
) -> None:
    proofs.scored(suite, provider, 3)
    proofs.open_epoch(suite, proofs.beacon_of(pog.keccak(b"another beacon")))
    proofs.committed(suite, provider, 1)
    proofs.draw_epoch(suite)
    go_to(proofs.end_of(suite) - 1)
    terms = post(suite, requester, wanting(1))
    actions.accept(suite, provider, terms)
    pass_time(1)
    benchmark.fail(provider.owner)
    with boa.reverts("eligibility: score too low"):
        actions.accept(suite, provider, post(suite, requester, wanting(1, 1)))
