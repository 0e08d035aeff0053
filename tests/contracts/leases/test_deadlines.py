# SPDX-License-Identifier: Apache-2.0
"""The table of time-outs in docs/specification.md, row by row (I-2, I-15).

In each row everybody is dead but one party that does its duty, or nobody at all; then a stranger
makes the calls that the table names. The money goes to the party that did its duty, all of it.
"""

from __future__ import annotations

import pytest

from teraproof.protocol.lease_terms import Ending, LeaseOrder, LeaseStatus
from tests.contracts.actions import Provider, events, go_to, now, pass_time
from tests.contracts.deploy import TPF, Contract, Parameters, Suite
from tests.contracts.lease_actions import (
    RATE,
    active,
    assigned,
    by_operator,
    call,
    live_for,
    net,
    open_lease,
    order,
)

pytestmark = pytest.mark.invariant("I-1", "I-2", "I-10", "I-15")

TERM = 7_200
DEPOSIT = RATE * TERM
ORDER = order(term=TERM, start_rate=RATE, max_rate=RATE, deposit=DEPOSIT, notice=1_800)


class Ended:
    """What everybody has once a lease has ended."""

    def __init__(self, suite: Suite, provider: Provider, tenant: str) -> None:
        leases = suite.leases
        closed = events(leases, "Closed")
        self.reason = Ending(closed[0].reason) if closed else None
        self.tenant = leases.credit_of(tenant)
        self.provider = leases.credit_of(provider.payout)
        self.fees = leases.accrued_fees()
        self.compensation = suite.staking.credit_of(tenant)
        assert self.tenant + self.provider + self.fees == DEPOSIT
        assert suite.payment.balanceOf(leases.address) == DEPOSIT
        assert leases.reserved_score(provider.owner) == 0


@pytest.fixture
def compensation(p: Parameters) -> int:
    return 100 * TPF * p.victim_bps // 10_000


def test_deadline__open__nobody_takes_it(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str
) -> None:
    terms = open_lease(suite, tenant, ORDER)
    go_to(terms.open_until(suite.parameters.open_margin) + 1)
    call(suite, "cancel", terms, stranger)
    assert Ended(suite, provider, tenant).tenant == DEPOSIT
    assert leases.status(terms.lease_id()) == LeaseStatus.NONE


def test_deadline__assigned__the_provider_dies(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    stranger: str,
    compensation: int,
) -> None:
    terms = assigned(suite, tenant, provider, ORDER)
    pass_time(ORDER.ready_within + 1)
    call(suite, "expire", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.tenant, ended.compensation) == (DEPOSIT, compensation)


def test_deadline__grace__the_tenant_dies(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    """Who says nothing in the grace has taken the lease as it is: rent from `ready` on."""
    terms = assigned(suite, tenant, provider, ORDER)
    by_operator(suite, provider, "ready", terms)
    live_for(suite, provider, p.grace + 1)
    call(suite, "settle", terms, stranger)
    assert leases.credit_of(provider.payout) == net(RATE, p.grace + 1, p)


def test_deadline__active__the_tenant_dies(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    terms = active(suite, tenant, provider, ORDER)
    live_for(suite, provider, TERM)
    pass_time(1)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.provider, ended.tenant) == (Ending.OVER, net(RATE, TERM, p), 0)
    assert ended.compensation == 0


def test_deadline__active__the_tenant_stops_paying(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    wanted = order(term=2 * TERM, start_rate=RATE, max_rate=RATE, deposit=DEPOSIT)
    terms = active(suite, tenant, provider, wanted)
    live_for(suite, provider, TERM)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.provider) == (Ending.DRY, net(RATE, TERM, p))


def test_deadline__active__the_provider_dies(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    stranger: str,
    compensation: int,
    p: Parameters,
) -> None:
    terms = active(suite, tenant, provider, ORDER)
    live_for(suite, provider, 1_000)
    pass_time(p.abandon + 1)
    call(suite, "accuse", terms, stranger)
    pass_time(p.max_gap + 1)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.compensation) == (Ending.ABANDONED, compensation)
    # It is paid for what it did, and a gap.
    assert ended.provider == net(RATE, 1_000 + p.max_gap, p)


def test_deadline__suspended__the_operator_never_resumes(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    stranger: str,
    compensation: int,
    p: Parameters,
) -> None:
    terms = active(suite, tenant, provider, ORDER)
    live_for(suite, provider, 1_000)
    by_operator(suite, provider, "suspend", terms)
    live_for(suite, provider, p.max_suspension + 1)
    call(suite, "accuse", terms, stranger)
    live_for(suite, provider, p.max_gap + 1)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.compensation) == (Ending.ABANDONED, compensation)
    assert ended.provider == net(RATE, 1_000, p)


def test_deadline__notice__everybody_dies(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    terms = active(suite, tenant, provider, ORDER)
    by_operator(suite, provider, "give_notice", terms)
    live_for(suite, provider, ORDER.notice)
    pass_time(TERM)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.provider) == (Ending.OVER, net(RATE, ORDER.notice, p))


@pytest.mark.parametrize("wait", [1, 10**6])
def test_deadline__active__everybody_dies(
    suite: Suite,
    leases: Contract,
    tenant: str,
    provider: Provider,
    stranger: str,
    wait: int,
    p: Parameters,
) -> None:
    """Nobody even accuses: the end of the term comes, and a gap was paid at most."""
    terms = active(suite, tenant, provider, ORDER)
    pass_time(TERM + wait)
    call(suite, "close", terms, stranger)
    ended = Ended(suite, provider, tenant)
    assert (ended.reason, ended.provider) == (Ending.OVER, net(RATE, p.max_gap, p))


def test_deadline__the_lock_ends_by_itself(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str
) -> None:
    terms = active(suite, tenant, provider, ORDER)
    _, expires_at = suite.staking.lock_of(leases.address, provider.owner, terms.lease_id())
    assert expires_at >= leases.account(terms.abi_tuple())[3]
    go_to(expires_at + 1)
    suite.staking.release(leases.address, provider.owner, terms.lease_id(), sender=stranger)
    call(suite, "close", terms, stranger)
    assert Ended(suite, provider, tenant).compensation == 0


def cheap(number: int) -> LeaseOrder:
    """An order like the usual one, six of which a provider has collateral for."""
    return order(collateral=10 * TPF, nonce=number)


@pytest.mark.invariant("I-2")
def test_pause__no_exit_looks_at_it(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, stranger: str, p: Parameters
) -> None:
    """The guardian stops what is new, and nothing else."""
    lives, leaves, waits = (active(suite, tenant, provider, cheap(n)) for n in range(3))
    late, fresh = (assigned(suite, tenant, provider, cheap(n)) for n in (3, 4))
    unopened = open_lease(suite, tenant, cheap(5))
    leases.pause(7 * 86_400, sender=suite.guardian)
    by_operator(suite, provider, "ready", fresh)
    call(suite, "reject", fresh, tenant)
    by_operator(suite, provider, "suspend", lives)
    by_operator(suite, provider, "resume", lives)
    by_operator(suite, provider, "give_notice", lives)
    leases.top_up(lives.abi_tuple(), 1, True, sender=tenant)
    by_operator(suite, provider, "leave", leaves)
    call(suite, "cancel", unopened, tenant)
    live_for(suite, provider, ORDER.ready_within + 1)
    call(suite, "expire", late, stranger)
    call(suite, "settle", lives, stranger)
    pass_time(p.abandon + 1)
    call(suite, "accuse", waits, stranger)
    pass_time(p.max_gap + 1)
    call(suite, "close", waits, stranger)
    call(suite, "close", lives, tenant)
    assert leases.withdraw(sender=tenant) > 0
    assert leases.withdraw(sender=provider.payout) > 0
    assert leases.collect_fees() > 0
    assert now() < leases.paused_until()
