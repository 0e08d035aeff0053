# SPDX-License-Identifier: Apache-2.0
"""`accept`: the price of the moment, collateral locked, eligibility, exact time bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol.terms import Assignment, Judged, Order, assignment_of
from tests.contracts import actions
from tests.contracts.actions import (
    ORDER,
    Provider,
    accept,
    attest,
    event,
    go_to,
    now,
    order,
    pass_time,
    post,
    register,
)
from tests.contracts.deploy import (
    DAY,
    TPF,
    USD,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
)

MARGIN = 3_600


def test_accept__assigns_locks_and_refunds_the_difference(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    pass_time(500)
    assert accept(suite, provider, terms) == 25 * USD
    assert event(jobs, "Accepted") == {
        "job": terms.job_id(),
        "provider": provider.owner,
        "operator": provider.operator.address,
        "price": 25 * USD,
    }
    job = terms.job_id()
    assert jobs.state(job) == Assignment(provider.owner, now()).state_word()
    assert jobs.credit_of(requester) == 15 * USD
    expires_at = now() + ORDER.duration + DAY + 7 * DAY
    assert staking.lock_of(jobs.address, provider.owner, job) == (100 * TPF, expires_at)


def test_accept__same_block__start_price(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    assert accept(suite, provider, terms) == 10 * USD


def test_accept__at_the_maximum__no_refund(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    pass_time(1_000)
    assert accept(suite, provider, terms) == 40 * USD
    assert jobs.credit_of(requester) == 0


def test_accept__without_collateral(
    suite: Suite,
    jobs: Contract,
    staking: Contract,
    requester: str,
    make_provider: Callable[..., Provider],
) -> None:
    unstaked = make_provider("unstaked", stake=0)
    terms = post(suite, requester, order(collateral=0))
    accept(suite, unstaked, terms)
    assert staking.lock_of(jobs.address, unstaked.owner, terms.job_id()) == (0, 0)


def test_accept__in_the_last_second(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    go_to(terms.open_until(MARGIN) + 1)
    with boa.reverts("jobs: no longer open"):
        accept(suite, provider, terms)
    go_to(terms.open_until(MARGIN))
    accept(suite, provider, terms)


def test_accept__twice__reverts(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    make_provider: Callable[..., Provider],
) -> None:
    terms = post(suite, requester)
    accept(suite, provider, terms)
    for late in (provider, make_provider("late")):
        with boa.reverts("jobs: not open"):
            accept(suite, late, terms)


def test_accept__cancelled__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    with boa.reverts("jobs: not open"):
        accept(suite, provider, terms)


@pytest.mark.parametrize("caller", ["stranger", "provider", "provider's payout"])
def test_accept__not_an_operator__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, caller: str
) -> None:
    terms = post(suite, requester)
    with boa.reverts("staking: unknown operator"):
        jobs.accept(terms.abi_tuple(), sender=address_of(caller))


def test_accept__changed_terms__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    for forged in (
        replace(terms, posted_at=terms.posted_at - 1),
        replace(terms, challenge_window=terms.challenge_window - 1),
        replace(terms, fee_bps=0),
        replace(terms, paused=1),
        replace(terms, order=order(max_price=80 * USD)),
        replace(terms, order=order(collateral=0)),
        replace(terms, order=order(judged=Judged.REFUSABLE)),
    ):
        with boa.reverts("jobs: not open"):
            accept(suite, provider, forged)


def test_accept__removed_manager__reverts_and_the_money_leaves(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    staking.remove_manager(jobs.address, sender=suite.owner)
    with boa.reverts("staking: caller lacks the permission"):
        accept(suite, provider, terms)
    jobs.cancel(terms.abi_tuple(), sender=requester)
    assert jobs.withdraw(sender=requester) == ORDER.max_price


def test_accept__owner_stake_too_low__reverts(
    suite: Suite, requester: str, make_provider: Callable[..., Provider]
) -> None:
    poor = make_provider("poor", stake=99 * TPF)
    terms = post(suite, requester)
    with boa.reverts("staking: own stake too low"):
        accept(suite, poor, terms)


# ---------------------------------------------------------------- eligibility


def test_accept__min_stake__exact(
    suite: Suite, requester: str, provider: Provider, delegator: str
) -> None:
    terms = post(suite, requester, order(min_stake=1_000 * TPF + 1))
    with boa.reverts("staking: stake too low"):
        accept(suite, provider, terms)
    suite.staking.delegate(provider.owner, 1, sender=delegator)
    accept(suite, provider, terms)


def leaf(address: str) -> bytes:
    """The leaf of an allow-list."""
    return keccak(keccak(encode(["address"], [address])))


def node(a: bytes, b: bytes) -> bytes:
    """The parent of two nodes, in sorted order."""
    return keccak(min(a, b) + max(a, b))


def test_accept__allow_list(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    make_provider: Callable[..., Provider],
) -> None:
    excluded = make_provider("excluded")
    others = [leaf(address_of(f"listed {n}")) for n in range(3)]
    mine = leaf(provider.owner)
    left, right = node(mine, others[0]), node(others[1], others[2])
    terms = post(suite, requester, order(allow_root=node(left, right)))
    proof = [others[0], right]
    for caller, wrong in ((excluded, proof), (provider, []), (provider, proof[:1])):
        with boa.reverts("eligibility: provider not allowed"):
            accept(suite, caller, terms, wrong)
    accept(suite, provider, terms, proof)


def test_accept__allow_list_of_one(suite: Suite, requester: str, provider: Provider) -> None:
    terms = post(suite, requester, order(allow_root=leaf(provider.owner)))
    accept(suite, provider, terms, [])


def test_accept__allow_list__longest_proof(
    suite: Suite, requester: str, provider: Provider
) -> None:
    root, proof = leaf(provider.owner), []
    for n in range(32):
        proof.append(keccak(bytes([n])))
        root = node(root, proof[-1])
    terms = post(suite, requester, order(allow_root=root))
    accept(suite, provider, terms, proof)


def test_accept__no_list__proof_is_ignored(
    suite: Suite, requester: str, provider: Provider
) -> None:
    accept(suite, provider, post(suite, requester), [bytes(32)])


# --------------------------------------------------------------------- scores


@pytest.fixture
def scored(scored_suite: Suite) -> Provider:
    """A provider with a score of 100."""
    provider = register(scored_suite, "scored")
    scored_suite.scores.set_score(provider.owner, 100)
    return provider


@pytest.fixture
def tenant(scored_suite: Suite) -> str:
    return address_of("requester")


def wanting(points: int, nonce: int = 0) -> Order:
    return order(min_score=points, nonce=nonce, collateral=0)


def test_accept__min_score__reserved_by_open_work(
    scored_suite: Suite, scored: Provider, tenant: str
) -> None:
    jobs = scored_suite.jobs
    first = post(scored_suite, tenant, wanting(60))
    second = post(scored_suite, tenant, wanting(41, 1))
    third = post(scored_suite, tenant, wanting(40, 2))
    accept(scored_suite, scored, first)
    assert jobs.reserved_score(scored.owner) == 60
    with boa.reverts("eligibility: score too low"):
        accept(scored_suite, scored, second)
    accept(scored_suite, scored, third)
    assert jobs.reserved_score(scored.owner) == 100


def test_accept__min_score__too_low__reverts(
    scored_suite: Suite, scored: Provider, tenant: str
) -> None:
    with boa.reverts("eligibility: score too low"):
        accept(scored_suite, scored, post(scored_suite, tenant, wanting(101)))


def test_accept__min_score__beyond_256_bits__reverts(
    scored_suite: Suite, scored: Provider, tenant: str
) -> None:
    accept(scored_suite, scored, post(scored_suite, tenant, wanting(1)))
    with boa.reverts():
        accept(scored_suite, scored, post(scored_suite, tenant, wanting(2**256 - 1, 1)))


def test_accept__no_min_score__reserves_nothing(scored_suite: Suite, tenant: str) -> None:
    unproven = register(scored_suite, "unproven")
    accept(scored_suite, unproven, post(scored_suite, tenant, wanting(0)))
    assert scored_suite.jobs.reserved_score(unproven.owner) == 0


def test_attest__frees_the_score(scored_suite: Suite, scored: Provider, tenant: str) -> None:
    """Work that is done blocks no other work, however long its settlement takes."""
    jobs = scored_suite.jobs
    first, second = (post(scored_suite, tenant, wanting(100, nonce)) for nonce in range(2))
    accept(scored_suite, scored, first)
    with boa.reverts("eligibility: score too low"):
        accept(scored_suite, scored, second)
    record = attest(scored_suite, scored, first)
    assert jobs.reserved_score(scored.owner) == 0
    accept(scored_suite, scored, second)
    assert jobs.reserved_score(scored.owner) == 100
    # The settlement frees nothing a second time.
    jobs.approve(first.abi_tuple(), record.abi_tuple(), sender=tenant)
    assert jobs.reserved_score(scored.owner) == 100


def test_attest__frees_its_own_part_only(
    scored_suite: Suite, scored: Provider, tenant: str
) -> None:
    jobs = scored_suite.jobs
    terms = [post(scored_suite, tenant, wanting(points, points)) for points in (60, 40)]
    for each in terms:
        accept(scored_suite, scored, each)
    attest(scored_suite, scored, terms[0])
    assert jobs.reserved_score(scored.owner) == 40


def test_refuse__frees_no_score_again(scored_suite: Suite, scored: Provider, tenant: str) -> None:
    jobs = scored_suite.jobs
    refusable = post(scored_suite, tenant, replace(wanting(60), judged=Judged.REFUSABLE))
    other = post(scored_suite, tenant, wanting(40, 1))
    for terms in (refusable, other):
        accept(scored_suite, scored, terms)
    record = attest(scored_suite, scored, refusable)
    jobs.refuse(refusable.abi_tuple(), record.abi_tuple(), sender=tenant)
    assert jobs.reserved_score(scored.owner) == 40


def test_expire__frees_the_score(scored_suite: Suite, scored: Provider, tenant: str) -> None:
    terms = post(scored_suite, tenant, wanting(60))
    accept(scored_suite, scored, terms)
    # The score may fall meanwhile: the exit does not look at it.
    scored_suite.scores.set_score(scored.owner, 0)
    pass_time(ORDER.duration + 1)
    scored_suite.jobs.expire(terms.abi_tuple())
    assert scored_suite.jobs.reserved_score(scored.owner) == 0


def test_scores__source_is_fixed(scored_suite: Suite, suite: Suite) -> None:
    assert scored_suite.jobs.SCORES() == scored_suite.scores.address
    assert suite.jobs.SCORES() == ZERO_ADDRESS


def test_accept__new_operator_only(
    suite: Suite, jobs: Contract, staking: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    successor = account_of("successor")
    staking.set_operator(
        successor.address,
        *actions.consent(staking, provider.owner, successor),
        sender=provider.owner,
    )
    with boa.reverts("staking: unknown operator"):
        accept(suite, provider, terms)
    jobs.accept(terms.abi_tuple(), sender=successor.address)
    taken = assignment_of(jobs.state(terms.job_id()))
    assert taken is not None and taken.provider == provider.owner
