# SPDX-License-Identifier: Apache-2.0
"""`ready`, `expire`, and the grace: `confirm` and `reject`."""

from __future__ import annotations

import boa
import pytest

from teraproof.protocol.lease_terms import Ending, LeaseMarks, LeaseStatus, LeaseTerms
from tests.contracts.actions import Provider, event, go_to, now, pass_time
from tests.contracts.deploy import TPF, Contract, Parameters, Suite
from tests.contracts.lease_actions import (
    ORDER,
    RATE,
    TERM,
    active,
    assigned,
    by_operator,
    call,
    heartbeat,
    live_for,
    marks,
    net,
    open_lease,
    order,
    state,
)

READY_WITHIN = ORDER.ready_within


def test_ready__starts_the_rent_and_is_a_heartbeat(
    suite: Suite, leases: Contract, taken: LeaseTerms, provider: Provider
) -> None:
    pass_time(100)
    by_operator(suite, provider, "ready", taken)
    assert event(leases, "Ready") == {
        "lease": taken.lease_id(),
        "provider": provider.owner,
    }
    kept = state(leases, taken)
    assert (kept.status, kept.since, kept.paid) == (LeaseStatus.ACTIVE, now(), 0)
    assert leases.last_heartbeat(provider.owner) == now()
    assert kept.base == leases.live_seconds(provider.owner)
    assert leases.account(taken.abi_tuple())[3] == now() + TERM


@pytest.mark.invariant("I-15")
def test_ready__deadline__exact(
    suite: Suite, leases: Contract, taken: LeaseTerms, provider: Provider, stranger: str
) -> None:
    go_to(now() + READY_WITHIN)
    with boa.env.anchor():
        with boa.reverts("leases: can still be ready"):
            leases.expire(taken.abi_tuple(), sender=stranger)
        by_operator(suite, provider, "ready", taken)
    pass_time(1)
    with boa.reverts("leases: too late to be ready"):
        by_operator(suite, provider, "ready", taken)
    leases.expire(taken.abi_tuple(), sender=stranger)


def test_ready__by_the_present_operator_alone(
    suite: Suite, leases: Contract, taken: LeaseTerms, provider: Provider, tenant: str
) -> None:
    for sender in (tenant, provider.owner, provider.payout):
        with boa.reverts("leases: caller is not the operator"):
            leases.ready(taken.abi_tuple(), sender=sender)


def test_ready__only_what_is_assigned(
    suite: Suite, running: LeaseTerms, provider: Provider, tenant: str
) -> None:
    for terms in (running, open_lease(suite, tenant, order(nonce=1))):
        with boa.reverts("leases: not assigned"):
            by_operator(suite, provider, "ready", terms)


def test_expire__refunds_and_seizes(
    suite: Suite,
    leases: Contract,
    taken: LeaseTerms,
    provider: Provider,
    tenant: str,
    stranger: str,
    p: Parameters,
) -> None:
    pass_time(READY_WITHIN + 1)
    leases.expire(taken.abi_tuple(), sender=stranger)
    assert event(leases, "Closed") == {
        "lease": taken.lease_id(),
        "provider": provider.owner,
        "reason": Ending.NOT_READY,
        "seconds": 0,
        "refund": ORDER.deposit,
        "seized": 100 * TPF,
    }
    assert leases.credit_of(tenant) == ORDER.deposit
    assert leases.credit_of(provider.payout) == 0
    victim = 100 * TPF * p.victim_bps // 10_000
    assert suite.staking.credit_of(tenant) == victim
    assert suite.staking.credit_of(stranger) == (100 * TPF - victim) * p.bounty_bps // 10_000
    assert leases.status(taken.lease_id()) == LeaseStatus.NONE
    with boa.reverts("leases: not assigned"):
        leases.expire(taken.abi_tuple(), sender=stranger)


def test_expire__the_provider_itself_earns_no_bounty(
    suite: Suite, leases: Contract, taken: LeaseTerms, provider: Provider
) -> None:
    pass_time(READY_WITHIN + 1)
    leases.expire(taken.abi_tuple(), sender=provider.operator.address)
    assert suite.staking.credit_of(provider.operator.address) == 0


# --------------------------------------------------------------------------------- grace


@pytest.fixture
def fresh(suite: Suite, taken: LeaseTerms, provider: Provider) -> LeaseTerms:
    """A lease that is ready and not confirmed."""
    by_operator(suite, provider, "ready", taken)
    return taken


def test_reject__all_goes_back_on_both_sides(
    suite: Suite, leases: Contract, fresh: LeaseTerms, provider: Provider, tenant: str
) -> None:
    live_for(suite, provider, 200)
    leases.reject(fresh.abi_tuple(), sender=tenant)
    closed = event(leases, "Closed")
    assert (closed["reason"], closed["seconds"], closed["seized"]) == (Ending.REJECTED, 0, 0)
    assert leases.credit_of(tenant) == ORDER.deposit
    assert leases.credit_of(provider.payout) == 0 == leases.accrued_fees()
    lock = suite.staking.lock_of(leases.address, provider.owner, fresh.lease_id())
    assert lock == (0, 0)
    assert suite.staking.credit_of(tenant) == 0


def test_reject__until_the_grace_ends__exact(
    suite: Suite,
    leases: Contract,
    fresh: LeaseTerms,
    provider: Provider,
    tenant: str,
    p: Parameters,
) -> None:
    go_to(now() + p.grace)
    with boa.env.anchor():
        leases.reject(fresh.abi_tuple(), sender=tenant)
    pass_time(1)
    with boa.reverts("leases: grace is over"):
        leases.reject(fresh.abi_tuple(), sender=tenant)


def test_reject__not_once_confirmed(
    suite: Suite, leases: Contract, fresh: LeaseTerms, tenant: str
) -> None:
    leases.confirm(fresh.abi_tuple(), sender=tenant)
    assert event(leases, "Confirmed") == {"lease": fresh.lease_id()}
    with boa.reverts("leases: grace is over"):
        leases.reject(fresh.abi_tuple(), sender=tenant)
    with boa.reverts("leases: grace is over"):
        leases.confirm(fresh.abi_tuple(), sender=tenant)


@pytest.mark.parametrize("name", ["confirm", "reject"])
def test_grace__is_the_requesters(
    suite: Suite, fresh: LeaseTerms, provider: Provider, stranger: str, name: str
) -> None:
    for sender in (stranger, provider.owner, provider.operator.address):
        with boa.reverts("leases: caller is not the requester"):
            call(suite, name, fresh, sender)


@pytest.mark.parametrize("name", ["confirm", "reject"])
def test_grace__only_of_an_active_lease(
    suite: Suite, taken: LeaseTerms, tenant: str, name: str
) -> None:
    with boa.reverts("leases: not active"):
        call(suite, name, taken, tenant)


def test_grace__no_rent_is_paid_while_it_is_open(
    suite: Suite, leases: Contract, fresh: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    live_for(suite, provider, p.grace)
    assert leases.account(fresh.abi_tuple())[0] == 0
    with boa.reverts("leases: nothing is due"):
        leases.settle(fresh.abi_tuple())
    pass_time(1)
    # Then all of it, from `ready` on.
    leases.settle(fresh.abi_tuple())
    assert leases.credit_of(provider.payout) == net(RATE, p.grace + 1, p)


def test_confirm__rent_is_due_from_ready_on(
    suite: Suite,
    leases: Contract,
    fresh: LeaseTerms,
    provider: Provider,
    tenant: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, 60)
    leases.confirm(fresh.abi_tuple(), sender=tenant)
    leases.settle(fresh.abi_tuple())
    assert leases.credit_of(provider.payout) == net(RATE, 60, p)


def test_grace__closing_in_it_costs_no_rent(
    suite: Suite, leases: Contract, fresh: LeaseTerms, provider: Provider, tenant: str
) -> None:
    live_for(suite, provider, 60)
    leases.close(fresh.abi_tuple(), sender=tenant)
    assert event(leases, "Closed")["reason"] == Ending.BY_TENANT
    assert leases.credit_of(tenant) == ORDER.deposit


def test_grace__who_leaves_in_it_loses_its_collateral_and_gets_no_rent(
    suite: Suite, leases: Contract, fresh: LeaseTerms, provider: Provider, tenant: str
) -> None:
    live_for(suite, provider, 60)
    by_operator(suite, provider, "leave", fresh)
    closed = event(leases, "Closed")
    assert (closed["seconds"], closed["seized"]) == (0, 100 * TPF)
    assert leases.credit_of(provider.payout) == 0
    assert leases.credit_of(tenant) == ORDER.deposit


def test_grace__the_smallest_deposit_is_not_dry_in_it(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, p: Parameters, stranger: str
) -> None:
    least = order(start_rate=RATE, max_rate=RATE, deposit=RATE * (p.grace + 1), nonce=9)
    terms = assigned(suite, tenant, provider, least)
    by_operator(suite, provider, "ready", terms)
    live_for(suite, provider, p.grace)
    with boa.reverts("leases: still running"):
        leases.close(terms.abi_tuple(), sender=stranger)
    pass_time(1)
    heartbeat(suite, provider)
    leases.close(terms.abi_tuple(), sender=stranger)
    assert event(leases, "Closed")["reason"] == Ending.DRY
    assert leases.credit_of(provider.payout) == net(RATE, p.grace + 1, p)


def test_second_word__announced_by_the_first_where_there_is_one_and_only_there(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str
) -> None:
    running = active(suite, tenant, provider)
    live_for(suite, provider, 600)
    call(suite, "settle", running, stranger)
    assert not state(leases, running).marked
    assert marks(leases, running) == LeaseMarks(0, 0, 0)
    by_operator(suite, provider, "suspend", running)
    assert state(leases, running).marked
    assert marks(leases, running) == LeaseMarks(0, now(), 0)
