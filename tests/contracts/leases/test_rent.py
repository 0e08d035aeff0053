# SPDX-License-Identifier: Apache-2.0
"""Rent: the rate times the seconds in which the provider was alive, and never above the deposit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import boa
import pytest

from teraproof.protocol.lease_terms import Ending, LeaseTerms
from tests.contracts.actions import Provider, consent, event, go_to, now, pass_time
from tests.contracts.deploy import DAY, Contract, Parameters, Suite, account_of, address_of
from tests.contracts.lease_actions import (
    ORDER,
    RATE,
    active,
    by_operator,
    call,
    fund,
    heartbeat,
    live_for,
    net,
    order,
    state,
)

pytestmark = pytest.mark.invariant("I-6")


def due(leases: Contract, terms: LeaseTerms) -> int:
    """Seconds that rent is due for."""
    return int(leases.account(terms.abi_tuple())[0])


# ------------------------------------------------------------------------------ liveness


def test_heartbeat__counts_for_every_lease_of_the_provider(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    several = [active(suite, tenant, provider, order(nonce=n)) for n in range(3)]
    live_for(suite, provider, 1_000)
    assert event(leases, "Heartbeat") == {"provider": provider.owner}
    assert [due(leases, terms) for terms in several] == [1_000] * 3


def test_heartbeat__a_gap_is_paid_up_to_its_limit(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    pass_time(p.max_gap)
    assert due(leases, running) == p.max_gap
    pass_time(1)
    assert due(leases, running) == p.max_gap
    pass_time(999)
    heartbeat(suite, provider)
    assert due(leases, running) == p.max_gap
    pass_time(10)
    assert due(leases, running) == p.max_gap + 10


def test_heartbeat__how_often_does_not_matter(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider
) -> None:
    for _ in range(5):
        heartbeat(suite, provider)
    live_for(suite, provider, 100, every=7)
    assert due(leases, running) == 100


def test_heartbeat__live_seconds_never_go_back_and_never_run_ahead(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    seen, times = [], []
    for step in (0, 1, p.max_gap, 5, p.max_gap + 1, 10 * p.max_gap, 0, 3):
        pass_time(step)
        seen.append(leases.live_seconds(provider.owner))
        times.append(now())
        heartbeat(suite, provider)
        assert leases.live_seconds(provider.owner) == seen[-1]
    for (a, b), (s, t) in zip(pairwise(seen), pairwise(times), strict=True):
        assert 0 <= b - a <= t - s


def test_heartbeat__by_the_operator_alone(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, stranger: str
) -> None:
    number = leases.number_of(provider.owner)
    for sender in (stranger, provider.owner, provider.payout):
        with boa.reverts("leases: caller is not the operator"):
            leases.heartbeat(number, sender=sender)
    for other in (0, number + 1):
        with boa.reverts("leases: caller is not the operator"):
            leases.heartbeat(other, sender=provider.operator.address)


def test_heartbeat__a_key_that_was_let_go_is_refused(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider
) -> None:
    other = account_of("the next operator")
    suite.staking.set_operator(
        other.address, *consent(suite.staking, provider.owner, other), sender=provider.owner
    )
    with boa.reverts("leases: caller is not the operator"):
        heartbeat(suite, provider)
    leases.heartbeat(leases.number_of(provider.owner), sender=other.address)


def test_heartbeat__a_provider_without_a_lease_has_none(leases: Contract) -> None:
    nobody = address_of("nobody")
    assert leases.number_of(nobody) == 0 == leases.last_heartbeat(nobody)


def test_heartbeat__one_provider_is_not_alive_for_another(
    suite: Suite,
    leases: Contract,
    tenant: str,
    make_provider: Callable[..., Provider],
    p: Parameters,
) -> None:
    one, two = make_provider("one"), make_provider("two")
    first = active(suite, tenant, one, order(nonce=1))
    second = active(suite, tenant, two, order(nonce=2))
    live_for(suite, one, 1_000)
    assert (due(leases, first), due(leases, second)) == (1_000, p.max_gap)


# -------------------------------------------------------------------------------- settle


def test_settle__by_anyone_pays_what_is_due(
    suite: Suite,
    leases: Contract,
    running: LeaseTerms,
    provider: Provider,
    stranger: str,
    p: Parameters,
) -> None:
    live_for(suite, provider, 1_000)
    call(suite, "settle", running, stranger)
    assert event(leases, "Settled") == {
        "lease": running.lease_id(),
        "seconds": 1_000,
        "paid": net(RATE, 1_000, p),
    }
    assert leases.credit_of(provider.payout) == net(RATE, 1_000, p)
    assert state(leases, running).paid == 1_000
    with boa.reverts("leases: nothing is due"):
        call(suite, "settle", running, stranger)


def test_settle__how_often_changes_nothing(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, p: Parameters
) -> None:
    """The fee is that of the whole rent: pieces too small for a fee avoid none."""
    cheap = order(start_rate=1, max_rate=1, deposit=DAY, nonce=1)
    terms = active(suite, tenant, provider, cheap)
    for _ in range(100):
        pass_time(7)
        heartbeat(suite, provider)
        leases.settle(terms.abi_tuple())
    assert leases.credit_of(provider.payout) == net(1, 700, p) == 700 - 17
    leases.close(terms.abi_tuple(), sender=tenant)
    assert leases.credit_of(provider.payout) == 700 - 17
    assert leases.accrued_fees() == 17
    assert leases.credit_of(tenant) == DAY - 700


def test_settle__never_more_than_the_deposit(
    suite: Suite, leases: Contract, tenant: str, provider: Provider, p: Parameters
) -> None:
    small = order(start_rate=RATE, max_rate=RATE, deposit=RATE * 1_000 + RATE - 1, nonce=1)
    terms = active(suite, tenant, provider, small)
    live_for(suite, provider, 2_000)
    assert leases.account(terms.abi_tuple())[:3] == (1_000, 0, 1_000)
    leases.settle(terms.abi_tuple())
    assert leases.credit_of(provider.payout) == net(RATE, 1_000, p)
    leases.close(terms.abi_tuple(), sender=address_of("anybody"))
    assert leases.credit_of(tenant) == RATE - 1


def test_settle__only_an_active_lease(
    suite: Suite, leases: Contract, taken: LeaseTerms, tenant: str
) -> None:
    with boa.reverts("leases: not active"):
        leases.settle(taken.abi_tuple())


def test_settle__to_the_payout_address_of_that_moment(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    live_for(suite, provider, 100)
    other = address_of("another payout")
    suite.staking.set_payout(other, sender=provider.owner)
    leases.settle(running.abi_tuple())
    assert leases.credit_of(other) == net(RATE, 100, p)
    assert leases.withdraw(sender=other) == net(RATE, 100, p)
    assert suite.payment.balanceOf(other) == net(RATE, 100, p)


# --------------------------------------------------------------------------- suspensions


def test_suspend__stops_the_rent_and_resume_starts_it(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider
) -> None:
    live_for(suite, provider, 500)
    by_operator(suite, provider, "suspend", running)
    assert event(leases, "Suspended") == {"lease": running.lease_id()}
    live_for(suite, provider, 400)
    assert due(leases, running) == 500
    by_operator(suite, provider, "resume", running)
    assert event(leases, "Resumed") == {"lease": running.lease_id()}
    assert due(leases, running) == 500
    live_for(suite, provider, 50)
    assert due(leases, running) == 550


def test_suspend__what_was_earned_is_paid_meanwhile(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    live_for(suite, provider, 500)
    by_operator(suite, provider, "suspend", running)
    live_for(suite, provider, 400)
    leases.settle(running.abi_tuple())
    by_operator(suite, provider, "resume", running)
    with boa.reverts("leases: nothing is due"):
        leases.settle(running.abi_tuple())
    live_for(suite, provider, 100)
    leases.settle(running.abi_tuple())
    assert leases.credit_of(provider.payout) == net(RATE, 600, p)


def test_suspend__one_lease_of_several(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    one, two = (active(suite, tenant, provider, order(nonce=n)) for n in (1, 2))
    by_operator(suite, provider, "suspend", one)
    live_for(suite, provider, 100)
    assert (due(leases, one), due(leases, two)) == (0, 100)


def test_suspend__again_and_again(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider
) -> None:
    for _ in range(4):
        live_for(suite, provider, 10)
        by_operator(suite, provider, "suspend", running)
        with boa.reverts("leases: suspended already"):
            by_operator(suite, provider, "suspend", running)
        live_for(suite, provider, 1_000)
        by_operator(suite, provider, "resume", running)
        with boa.reverts("leases: not suspended"):
            by_operator(suite, provider, "resume", running)
    assert due(leases, running) == 40


def test_suspend__over_a_gap_without_heartbeats(
    suite: Suite, leases: Contract, running: LeaseTerms, provider: Provider, p: Parameters
) -> None:
    pass_time(100)
    by_operator(suite, provider, "suspend", running)
    pass_time(1_000)
    by_operator(suite, provider, "resume", running)
    # Silent since `ready`: MAX_GAP is used up while it was suspended.
    assert due(leases, running) == 100
    pass_time(50)
    assert due(leases, running) == 100
    heartbeat(suite, provider)
    pass_time(20)
    assert due(leases, running) == 120


@pytest.mark.parametrize("name", ["suspend", "resume", "give_notice", "leave"])
def test_operators_calls__by_the_operator_alone(
    suite: Suite, running: LeaseTerms, provider: Provider, tenant: str, stranger: str, name: str
) -> None:
    for sender in (tenant, provider.owner, provider.payout, stranger):
        with boa.reverts("leases: caller is not the operator"):
            call(suite, name, running, sender)


@pytest.mark.parametrize("name", ["suspend", "resume", "give_notice", "leave"])
def test_operators_calls__only_of_an_active_lease(
    suite: Suite, taken: LeaseTerms, provider: Provider, name: str
) -> None:
    with boa.reverts("leases: not active"):
        by_operator(suite, provider, name, taken)


# -------------------------------------------------------------------------------- top-up


def test_top_up__by_anyone__the_end_stays(
    suite: Suite, leases: Contract, running: LeaseTerms, stranger: str, p: Parameters
) -> None:
    before = leases.account(running.abi_tuple())
    fund(suite, stranger, RATE * 100)
    leases.top_up(running.abi_tuple(), RATE * 100, sender=stranger)
    assert event(leases, "ToppedUp") == {
        "lease": running.lease_id(),
        "account": stranger,
        "amount": RATE * 100,
        "deposited": ORDER.deposit + RATE * 100,
    }
    after = leases.account(running.abi_tuple())
    assert (after[2] - before[2], after[3]) == (100, before[3])
    assert suite.payment.balanceOf(leases.address) == ORDER.deposit + RATE * 100


def test_top_up__what_is_left_is_the_requesters(
    suite: Suite, leases: Contract, running: LeaseTerms, tenant: str, stranger: str
) -> None:
    fund(suite, stranger, 5)
    leases.deposit(5, sender=stranger)
    leases.top_up(running.abi_tuple(), 5, True, sender=stranger)
    leases.close(running.abi_tuple(), sender=tenant)
    assert leases.credit_of(tenant) == ORDER.deposit + 5
    assert leases.credit_of(stranger) == 0


def test_top_up__no_more_than_the_term_costs__exact(
    suite: Suite, leases: Contract, running: LeaseTerms, tenant: str
) -> None:
    room = RATE * ORDER.term - ORDER.deposit
    fund(suite, tenant, room + 1)
    with boa.reverts("leases: more than the term costs"):
        leases.top_up(running.abi_tuple(), room + 1, sender=tenant)
    leases.top_up(running.abi_tuple(), room, sender=tenant)


def test_top_up__no_more_than_a_lease_can_hold__exact(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    """Where the term costs more than that. A single unit is enough for a top-up."""
    dear = order(start_rate=2**80 - 1, max_rate=2**80 - 1, deposit=2**96 - 2, nonce=1)
    terms = active(suite, tenant, provider, dear)
    fund(suite, tenant, 2)
    leases.top_up(terms.abi_tuple(), 1, sender=tenant)
    assert state(leases, terms).deposited == 2**96 - 1
    with boa.reverts("leases: more than the term costs"):
        leases.top_up(terms.abi_tuple(), 1, sender=tenant)


def test_top_up__nothing(leases: Contract, running: LeaseTerms, tenant: str) -> None:
    with boa.reverts("leases: zero amount"):
        leases.top_up(running.abi_tuple(), 0, sender=tenant)


def test_top_up__only_an_active_lease(leases: Contract, taken: LeaseTerms, tenant: str) -> None:
    with boa.reverts("leases: not active"):
        leases.top_up(taken.abi_tuple(), 1, sender=tenant)


def test_top_up__no_lease_that_has_ended_comes_back(
    suite: Suite, leases: Contract, tenant: str, provider: Provider
) -> None:
    """A provider that has stopped a dry lease cannot be accused of it afterwards."""
    small = order(start_rate=RATE, max_rate=RATE, deposit=RATE * 1_000, nonce=1)
    terms = active(suite, tenant, provider, small)
    live_for(suite, provider, 999)
    fund(suite, tenant, 2 * RATE)
    leases.top_up(terms.abi_tuple(), RATE, sender=tenant)
    pass_time(2)
    assert leases.account(terms.abi_tuple())[::2] == (1_001, 1_001)
    with boa.reverts("leases: has ended"):
        leases.top_up(terms.abi_tuple(), RATE, sender=tenant)
    for name in ("suspend", "resume", "give_notice"):
        with boa.reverts("leases: has ended"):
            by_operator(suite, provider, name, terms)
    go_to(now() + DAY)
    with boa.reverts("leases: has ended"):
        leases.accuse(terms.abi_tuple(), sender=tenant)
    leases.close(terms.abi_tuple(), sender=tenant)
    assert event(leases, "Closed")["reason"] == Ending.DRY
    assert event(leases, "Closed")["seized"] == 0
