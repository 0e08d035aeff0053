# SPDX-License-Identifier: Apache-2.0
"""Accusations: a provider that is silent, or suspends, for too long has left without notice."""

from __future__ import annotations

import boa
import pytest

from teraproof.protocol.lease_terms import Ending, LeaseTerms
from tests.contracts.actions import Provider, event, go_to, now, pass_time
from tests.contracts.deploy import TPF, Contract, Parameters, Suite
from tests.contracts.lease_actions import (
    ORDER,
    RATE,
    active,
    by_operator,
    call,
    heartbeat,
    live_for,
    marks,
    net,
    order,
)


def accuse(suite: Suite, terms: LeaseTerms, sender: str) -> None:
    call(suite, "accuse", terms, sender)


@pytest.fixture
def silent(suite: Suite, running: LeaseTerms, stranger: str, p: Parameters) -> LeaseTerms:
    """A lease whose provider is accused: nothing was heard of it since `ready`."""
    pass_time(p.abandon + 1)
    accuse(suite, running, stranger)
    return running


def test_accuse__a_silent_provider__exact(
    suite: Suite, leases: Contract, running: LeaseTerms, stranger: str, p: Parameters
) -> None:
    pass_time(p.abandon)
    with boa.reverts("leases: no reason to accuse"):
        accuse(suite, running, stranger)
    pass_time(1)
    accuse(suite, running, stranger)
    assert event(leases, "Accused") == {"lease": running.lease_id(), "account": stranger}
    assert marks(leases, running).accused_at == now()


@pytest.mark.invariant("I-15")
def test_accuse__it_closes_after_a_further_gap__exact(
    suite: Suite,
    leases: Contract,
    silent: LeaseTerms,
    provider: Provider,
    tenant: str,
    stranger: str,
    p: Parameters,
) -> None:
    pass_time(p.max_gap)
    with boa.reverts("leases: still running"):
        leases.close(silent.abi_tuple(), sender=stranger)
    pass_time(1)
    leases.close(silent.abi_tuple(), sender=stranger)
    assert event(leases, "Closed") == {
        "lease": silent.lease_id(),
        "provider": provider.owner,
        "reason": Ending.ABANDONED,
        # Of all the silence a gap is paid.
        "seconds": p.max_gap,
        "refund": ORDER.deposit - RATE * p.max_gap,
        "seized": 100 * TPF,
    }
    assert leases.credit_of(provider.payout) == net(RATE, p.max_gap, p)
    victim = 100 * TPF * p.victim_bps // 10_000
    assert suite.staking.credit_of(tenant) == victim
    assert suite.staking.credit_of(stranger) == (100 * TPF - victim) * p.bounty_bps // 10_000


def test_accuse__a_heartbeat_in_time_saves_the_lease(
    suite: Suite,
    leases: Contract,
    silent: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    pass_time(p.max_gap)
    heartbeat(suite, provider)
    pass_time(p.max_gap)
    with boa.reverts("leases: still running"):
        leases.close(silent.abi_tuple(), sender=stranger)
    with boa.reverts("leases: no reason to accuse"):
        accuse(suite, silent, stranger)
    # Silent again: from the start.
    pass_time(p.abandon)
    accuse(suite, silent, stranger)


def test_accuse__a_heartbeat_in_the_same_block_saves_it(
    suite: Suite,
    leases: Contract,
    silent: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    heartbeat(suite, provider)
    pass_time(p.max_gap + 1)
    with boa.reverts("leases: still running"):
        leases.close(silent.abi_tuple(), sender=stranger)


def test_accuse__a_late_heartbeat_saves_what_nobody_has_closed(
    suite: Suite,
    leases: Contract,
    silent: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    pass_time(10 * p.max_gap)
    heartbeat(suite, provider)
    with boa.reverts("leases: still running"):
        leases.close(silent.abi_tuple(), sender=stranger)


@pytest.mark.invariant("I-15")
def test_accuse__a_chain_that_stood_still_seizes_nobody(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, stranger: str
) -> None:
    """The first block after a day without one: the accuser may come first, and gains nothing."""
    pass_time(86_400)
    accuse(suite, running, stranger)
    with boa.reverts("leases: still running"):
        leases.close(running.abi_tuple(), sender=stranger)
    pass_time(12)
    heartbeat(suite, provider)
    pass_time(86_400)
    with boa.reverts("leases: still running"):
        leases.close(running.abi_tuple(), sender=stranger)


def test_accuse__nobody_can_put_it_off_by_accusing_again(
    suite: Suite, leases: Contract, silent: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    pass_time(p.max_gap)
    with boa.reverts("leases: accused already"):
        accuse(suite, silent, provider.operator.address)


def test_accuse__each_lease_by_itself(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    one, two = (active(suite, tenant, provider, order(nonce=n)) for n in (1, 2))
    pass_time(p.abandon + 1)
    accuse(suite, one, stranger)
    pass_time(p.max_gap + 1)
    with boa.reverts("leases: still running"):
        leases.close(two.abi_tuple(), sender=stranger)
    leases.close(one.abi_tuple(), sender=stranger)


@pytest.mark.parametrize("name", ["suspend", "resume", "give_notice"])
def test_accuse__a_provider_that_has_left_does_nothing_but_live_again(
    suite: Suite, silent: LeaseTerms, provider: Provider, p: Parameters, name: str
) -> None:
    pass_time(p.max_gap + 1)
    with boa.reverts("leases: has ended"):
        by_operator(suite, provider, name, silent)


def test_accuse__leaving_then_costs_the_same(
    suite: Suite, leases: Contract, silent: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    pass_time(p.max_gap + 1)
    by_operator(suite, provider, "leave", silent)
    closed = event(leases, "Closed")
    assert (closed["reason"], closed["seized"]) == (Ending.ABANDONED, 100 * TPF)


@pytest.mark.invariant("I-15")
def test_accuse__whoever_closes_the_reason_is_the_same(
    suite: Suite, leases: Contract, silent: LeaseTerms, tenant: str, p: Parameters
) -> None:
    pass_time(p.max_gap + 1)
    leases.close(silent.abi_tuple(), sender=tenant)
    assert event(leases, "Closed")["reason"] == Ending.ABANDONED


def test_accuse__the_tenant_may_close_before_and_seizes_nothing(
    suite: Suite, leases: Contract, silent: LeaseTerms, tenant: str
) -> None:
    leases.close(silent.abi_tuple(), sender=tenant)
    closed = event(leases, "Closed")
    assert (closed["reason"], closed["seized"]) == (Ending.BY_TENANT, 0)


@pytest.mark.invariant("I-15")
@pytest.mark.parametrize("late", [0, 1])
def test_accuse__counts_if_it_was_due_before_the_end__exact(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    stranger: str,
    p: Parameters,
    late: int,
) -> None:
    """Who closes, and how long after the end, changes nothing."""
    term = p.abandon + 1 + p.max_gap + 1 - late
    wanted = order(
        term=term, notice=term, start_rate=RATE, max_rate=RATE, deposit=RATE * term, nonce=8
    )
    terms = active(suite, tenant, provider, wanted)
    pass_time(p.abandon + 1)
    accuse(suite, terms, stranger)
    pass_time(5 * term)
    leases.close(terms.abi_tuple(), sender=provider.operator.address)
    closed = event(leases, "Closed")
    assert closed["reason"] == (Ending.OVER if late else Ending.ABANDONED)
    assert closed["seized"] == (0 if late else 100 * TPF)


# --------------------------------------------------------------------------- suspensions


@pytest.fixture
def suspended(suite: Suite, running: LeaseTerms, provider: Provider) -> LeaseTerms:
    live_for(suite, provider, 100)
    by_operator(suite, provider, "suspend", running)
    return running


def test_accuse__a_long_suspension__exact(
    suite: Suite,
    leases: Contract,
    suspended: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, p.max_suspension)
    with boa.reverts("leases: no reason to accuse"):
        accuse(suite, suspended, stranger)
    live_for(suite, provider, 1)
    accuse(suite, suspended, stranger)
    live_for(suite, provider, p.max_gap)
    with boa.reverts("leases: still running"):
        leases.close(suspended.abi_tuple(), sender=stranger)
    live_for(suite, provider, 1)
    leases.close(suspended.abi_tuple(), sender=stranger)
    closed = event(leases, "Closed")
    assert (closed["reason"], closed["seconds"]) == (Ending.ABANDONED, 100)


def test_accuse__resuming_in_time_saves_the_lease(
    suite: Suite,
    leases: Contract,
    suspended: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, p.max_suspension + 1)
    accuse(suite, suspended, stranger)
    live_for(suite, provider, p.max_gap)
    by_operator(suite, provider, "resume", suspended)
    live_for(suite, provider, 1)
    with boa.reverts("leases: still running"):
        leases.close(suspended.abi_tuple(), sender=stranger)
    # Another suspension is another one.
    by_operator(suite, provider, "suspend", suspended)
    live_for(suite, provider, p.max_gap + 1)
    with boa.reverts("leases: still running"):
        leases.close(suspended.abi_tuple(), sender=stranger)


def test_accuse__a_heartbeat_does_not_excuse_a_suspension(
    suite: Suite,
    leases: Contract,
    suspended: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    pass_time(p.max_suspension + 1)
    accuse(suite, suspended, stranger)
    heartbeat(suite, provider)
    with boa.reverts("leases: accused already"):
        accuse(suite, suspended, stranger)
    pass_time(p.max_gap + 1)
    with boa.reverts("leases: has ended"):
        by_operator(suite, provider, "resume", suspended)
    leases.close(suspended.abi_tuple(), sender=stranger)
    assert event(leases, "Closed")["reason"] == Ending.ABANDONED


def test_accuse__silent_while_suspended(
    suite: Suite, leases: Contract, suspended: LeaseTerms, stranger: str, p: Parameters
) -> None:
    pass_time(p.abandon + 1)
    accuse(suite, suspended, stranger)
    pass_time(p.max_gap + 1)
    leases.close(suspended.abi_tuple(), sender=stranger)
    assert event(leases, "Closed")["seconds"] == 100


def test_accuse__a_notice_of_before_ends_it_without_a_penalty(
    suite: Suite,
    leases: Contract,
    suspended: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    """The notice was promised to be as short as that; what is suspended earns nothing."""
    by_operator(suite, provider, "give_notice", suspended)
    go_to(now() + ORDER.notice)
    accuse(suite, suspended, stranger)
    pass_time(p.max_gap + 1)
    leases.close(suspended.abi_tuple(), sender=stranger)
    closed = event(leases, "Closed")
    assert (closed["reason"], closed["seized"]) == (Ending.OVER, 0)
