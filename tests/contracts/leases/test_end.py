# SPDX-License-Identifier: Apache-2.0
"""How a lease ends: the term, the notice, the tenant, the provider; and what is paid then."""

from __future__ import annotations

import boa
import pytest

from teraproof.protocol.lease_terms import Ending, LeaseStatus, LeaseTerms
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

HOUR = 3_600
TERM = 2 * HOUR
SHORT = order(term=TERM, start_rate=RATE, max_rate=RATE, deposit=RATE * TERM, nonce=77)


@pytest.fixture
def short(suite: Suite, tenant: str, provider: Provider) -> LeaseTerms:
    """A confirmed lease of two hours, paid in full."""
    return active(suite, tenant, provider, SHORT)


def closed(leases: Contract) -> tuple[int, int, int]:
    """Reason, seconds and collateral seized."""
    found = event(leases, "Closed")
    return found["reason"], found["seconds"], found["seized"]


def test_close__by_the_tenant_at_any_time(
    suite: Suite,
    leases: Contract,
    running: LeaseTerms,
    provider: Provider,
    tenant: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, 1_000)
    leases.close(running.abi_tuple(), sender=tenant)
    rent = RATE * 1_000
    assert event(leases, "Closed") == {
        "lease": running.lease_id(),
        "provider": provider.owner,
        "reason": Ending.BY_TENANT,
        "seconds": 1_000,
        "refund": ORDER.deposit - rent,
        "seized": 0,
    }
    assert leases.credit_of(provider.payout) == net(RATE, 1_000, p)
    assert leases.credit_of(tenant) == ORDER.deposit - rent
    assert leases.accrued_fees() == rent * p.fee_bps // 10_000
    assert suite.staking.lock_of(leases.address, provider.owner, running.lease_id()) == (0, 0)
    assert leases.status(running.lease_id()) == LeaseStatus.NONE


def test_close__nobody_else_while_it_runs(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, stranger: str
) -> None:
    for sender in (stranger, provider.owner, provider.operator.address):
        with boa.reverts("leases: still running"):
            leases.close(running.abi_tuple(), sender=sender)


def test_close__once(suite: Suite, leases: Contract, running: LeaseTerms, tenant: str) -> None:
    leases.close(running.abi_tuple(), sender=tenant)
    for name in ("close", "settle", "reject", "confirm", "accuse", "leave", "suspend"):
        with boa.reverts("leases: not active"):
            call(suite, name, running, tenant)
    for name in ("ready", "expire"):
        with boa.reverts("leases: not assigned"):
            call(suite, name, running, tenant)
    with boa.reverts("leases: not open"):
        leases.cancel(running.abi_tuple(), sender=tenant)


@pytest.mark.parametrize("name", ["close", "settle", "accuse"])
def test_close__only_an_active_lease(
    suite: Suite, taken: LeaseTerms, tenant: str, name: str
) -> None:
    with boa.reverts("leases: not active"):
        call(suite, name, taken, tenant)


# ------------------------------------------------------------------------------ the term


@pytest.mark.invariant("I-2", "I-15")
def test_term__ends__exact(
    suite: Suite,
    leases: Contract,
    short: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, TERM)
    # Paid to the last second: it is dry and over.
    pass_time(1)
    leases.close(short.abi_tuple(), sender=stranger)
    assert closed(leases) == (Ending.OVER, TERM, 0)
    assert leases.credit_of(provider.payout) == net(RATE, TERM, p)
    assert leases.credit_of(stranger) == 0


def test_term__its_last_second_is_not_over(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str
) -> None:
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    live_for(suite, provider, TERM)
    with boa.reverts("leases: still running"):
        leases.close(terms.abi_tuple(), sender=stranger)
    pass_time(1)
    leases.close(terms.abi_tuple(), sender=stranger)
    assert closed(leases) == (Ending.OVER, TERM, 0)


@pytest.mark.invariant("I-6")
def test_term__no_second_after_it_is_paid(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    live_for(suite, provider, TERM + HOUR)
    leases.settle(terms.abi_tuple())
    assert event(leases, "Settled")["seconds"] == TERM


@pytest.mark.invariant("I-6")
def test_term__an_outage_is_not_made_good_after_it(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, p: Parameters
) -> None:
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    ends_at = now() + TERM
    pass_time(HOUR)  # silent: MAX_GAP of it is paid
    heartbeat(suite, provider)
    live_for(suite, provider, ends_at - now() + HOUR)
    leases.settle(terms.abi_tuple())
    assert event(leases, "Settled")["seconds"] == TERM - HOUR + p.max_gap


@pytest.mark.invariant("I-15")
def test_term__who_delivered_and_died_is_paid_however_late(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str
) -> None:
    """The last heartbeat before the end tells the live seconds at the end."""
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    live_for(suite, provider, TERM)
    pass_time(30 * 24 * HOUR)
    leases.close(terms.abi_tuple(), sender=stranger)
    assert closed(leases) == (Ending.OVER, TERM, 0)


@pytest.mark.invariant("I-6")
def test_term__a_silence_after_it_that_ends_counts_against_the_provider(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, p: Parameters
) -> None:
    """Live seconds of the end are a lower bound: as if the silence had been before it."""
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    live_for(suite, provider, TERM)
    pass_time(1_000)
    heartbeat(suite, provider)
    assert leases.account(terms.abi_tuple())[0] == TERM - (1_000 - p.max_gap)
    pass_time(100)
    heartbeat(suite, provider)
    assert leases.account(terms.abi_tuple())[0] == TERM - (1_000 - p.max_gap)


def test_term__what_was_paid_stays_paid(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    terms = active(suite, tenant, provider, order(term=TERM, nonce=3, deposit=2 * RATE * TERM))
    live_for(suite, provider, TERM)
    leases.settle(terms.abi_tuple())
    pass_time(3 * TERM)
    heartbeat(suite, provider)
    assert leases.account(terms.abi_tuple())[:2] == (TERM, TERM)
    leases.close(terms.abi_tuple(), sender=tenant)
    assert closed(leases) == (Ending.OVER, TERM, 0)


def test_term__calls_of_a_running_lease_are_refused_after_it(
    suite: Suite, leases: Contract, short: LeaseTerms, provider: Provider, tenant: str
) -> None:
    go_to(now() + TERM + 1)
    for name in ("suspend", "resume", "give_notice"):
        with boa.reverts("leases: has ended"):
            by_operator(suite, provider, name, short)
    with boa.reverts("leases: has ended"):
        leases.accuse(short.abi_tuple(), sender=tenant)
    with boa.reverts("leases: has ended"):
        leases.top_up(short.abi_tuple(), 1, sender=tenant)


# ---------------------------------------------------------------------------- the notice


def test_notice__ends_the_lease_in_time__exact(
    suite: Suite,
    leases: Contract,
    running: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, 600)
    by_operator(suite, provider, "give_notice", running)
    leaves_at = now() + ORDER.notice
    assert event(leases, "NoticeGiven") == {"lease": running.lease_id(), "leaves_at": leaves_at}
    assert marks(leases, running).leaves_at == leaves_at
    assert leases.account(running.abi_tuple())[3] == leaves_at
    live_for(suite, provider, ORDER.notice)
    with boa.reverts("leases: still running"):
        leases.close(running.abi_tuple(), sender=stranger)
    live_for(suite, provider, 500)
    leases.close(running.abi_tuple(), sender=stranger)
    assert closed(leases) == (Ending.OVER, 600 + ORDER.notice, 0)
    assert leases.credit_of(provider.payout) == net(RATE, 600 + ORDER.notice, p)


def test_notice__once(suite: Suite, running: LeaseTerms, provider: Provider) -> None:
    by_operator(suite, provider, "give_notice", running)
    pass_time(10)
    with boa.reverts("leases: notice is given"):
        by_operator(suite, provider, "give_notice", running)


def test_notice__does_not_move_the_end_of_the_term(
    suite: Suite, leases: Contract, short: LeaseTerms, provider: Provider
) -> None:
    ends_at = leases.account(short.abi_tuple())[3]
    live_for(suite, provider, 100)
    by_operator(suite, provider, "give_notice", short)
    assert leases.account(short.abi_tuple())[3] == ends_at


def test_notice__the_tenant_may_still_close(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, tenant: str
) -> None:
    by_operator(suite, provider, "give_notice", running)
    leases.close(running.abi_tuple(), sender=tenant)
    assert closed(leases) == (Ending.BY_TENANT, 0, 0)


# -------------------------------------------------------------------------- leaving early


def test_leave__costs_the_collateral(
    suite: Suite,
    leases: Contract,
    running: LeaseTerms,
    provider: Provider,
    tenant: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, 1_000)
    by_operator(suite, provider, "leave", running)
    assert closed(leases) == (Ending.BY_PROVIDER, 1_000, 100 * TPF)
    assert leases.credit_of(provider.payout) == net(RATE, 1_000, p)
    assert leases.credit_of(tenant) == ORDER.deposit - RATE * 1_000
    assert suite.staking.credit_of(tenant) == 100 * TPF * p.victim_bps // 10_000
    assert suite.staking.credit_of(provider.operator.address) == 0


def test_leave__within_the_notice_costs_it_too(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider
) -> None:
    by_operator(suite, provider, "give_notice", running)
    pass_time(ORDER.notice)
    by_operator(suite, provider, "leave", running)
    assert closed(leases)[0] == Ending.BY_PROVIDER


@pytest.mark.parametrize("way", ["notice", "term", "dry"])
def test_leave__costs_nothing_once_the_lease_has_ended(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, way: str
) -> None:
    """A call that comes too late does no harm."""
    deposit = RATE * (1_000 if way == "dry" else TERM)
    wanted = order(start_rate=RATE, max_rate=RATE, term=TERM, notice=60, nonce=5, deposit=deposit)
    terms = active(suite, tenant, provider, wanted)
    if way == "notice":
        by_operator(suite, provider, "give_notice", terms)
        live_for(suite, provider, 61)
    else:
        live_for(suite, provider, 1_000 if way == "dry" else TERM + 1)
    by_operator(suite, provider, "leave", terms)
    reason, _, seized = closed(leases)
    assert reason == (Ending.DRY if way == "dry" else Ending.OVER)
    assert seized == 0


@pytest.mark.invariant("I-3")
def test_leave__after_a_slash_no_more_than_there_is(
    suite: Suite,
    leases: Contract,
    running: LeaseTerms,
    provider: Provider,
    manager: str,
    tenant: str,
) -> None:
    suite.staking.slash(provider.owner, bytes(32), 950 * TPF, sender=manager)
    by_operator(suite, provider, "leave", running)
    assert 49 * TPF < closed(leases)[2] <= 50 * TPF
    assert leases.credit_of(tenant) == ORDER.deposit


@pytest.mark.invariant("I-2")
def test_close__after_the_lock_was_released(
    suite: Suite,
    leases: Contract,
    short: LeaseTerms,
    provider: Provider,
    stranger: str,
    tenant: str,
) -> None:
    """Nobody closes for weeks: the lock ends by itself, the money is still there."""
    live_for(suite, provider, HOUR)
    _, expires_at = suite.staking.lock_of(leases.address, provider.owner, short.lease_id())
    go_to(expires_at + 1)
    suite.staking.release(leases.address, provider.owner, short.lease_id(), sender=stranger)
    leases.close(short.abi_tuple(), sender=stranger)
    assert leases.credit_of(tenant) > 0
    assert leases.withdraw(sender=provider.payout) > 0
