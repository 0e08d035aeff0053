# SPDX-License-Identifier: Apache-2.0
"""`open` and `cancel`: what a lease may ask for, the deposit, and the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boa
import pytest

from teraproof.protocol.lease_terms import LeaseStatus, LeaseTerms
from tests.contracts.actions import Provider, event, go_to, now, pass_time
from tests.contracts.deploy import DAY, Contract, Parameters, Suite, address_of
from tests.contracts.lease_actions import ORDER, RATE, accept, fund, open_lease, order, state

LONGEST = 60 * DAY - 7 * DAY


def test_open__escrows_the_deposit_and_names_the_terms(
    suite: Suite, leases: Contract, tenant: str, p: Parameters
) -> None:
    terms = open_lease(suite, tenant)
    assert terms == LeaseTerms(tenant, now(), p.grace, p.fee_bps, 0, ORDER)
    assert suite.payment.balanceOf(leases.address) == ORDER.deposit
    assert suite.payment.balanceOf(tenant) == 0
    assert leases.status(terms.lease_id()) == LeaseStatus.OPEN
    assert leases.lease_id(terms.abi_tuple()) == terms.lease_id()
    assert list(leases.states([terms.lease_id(), bytes(32)])) == [LeaseStatus.OPEN, 0]


def test_states__no_more_than_64_in_one_reading(leases: Contract) -> None:
    assert list(leases.states([bytes(32)] * 64)) == [0] * 64
    with boa.reverts():
        leases.states([bytes(32)] * 65)


def test_open__from_credit(suite: Suite, leases: Contract, tenant: str) -> None:
    fund(suite, tenant, ORDER.deposit + 7)
    leases.deposit(ORDER.deposit + 7, sender=tenant)
    open_lease(suite, tenant, from_credit=True, funded=False)
    assert leases.credit_of(tenant) == 7


def test_open__without_the_money(suite: Suite, leases: Contract, tenant: str) -> None:
    with boa.reverts("ledger: credit too low"):
        leases.open(ORDER.abi_tuple(), True, sender=tenant)
    with pytest.raises(boa.BoaError):
        leases.open(ORDER.abi_tuple(), sender=tenant)


def test_open__equal_orders_need_another_nonce(suite: Suite, leases: Contract, tenant: str) -> None:
    first = open_lease(suite, tenant)
    fund(suite, tenant, ORDER.deposit)
    with boa.reverts("leases: exists"):
        leases.open(ORDER.abi_tuple(), sender=tenant)
    assert open_lease(suite, tenant, order(nonce=1)).lease_id() != first.lease_id()


GRACE = 600
BAD: list[tuple[dict[str, Any], str]] = [
    ({"start_rate": 2 * RATE + 1}, "leases: rate out of bounds"),
    ({"start_rate": 0}, "leases: rate out of bounds"),
    ({"auction": 30 * DAY + 1}, "leases: auction too long"),
    ({"ready_within": 0}, "leases: no time to be ready"),
    ({"term": GRACE, "notice": 0}, "leases: term within the grace"),
    ({"notice": 10 * DAY + 1}, "leases: notice above the term"),
    ({"term": LONGEST - 900 + 1}, "leases: term too long"),
    ({"deposit": 2 * RATE * (GRACE + 1) - 1}, "leases: deposit too low"),
    ({"deposit": 2 * RATE * 10 * DAY + 1}, "leases: more than the term costs"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD)
def test_open__refused(
    suite: Suite, leases: Contract, tenant: str, changes: dict[str, Any], reason: str
) -> None:
    fund(suite, tenant, 2**100)
    wanted = order()
    # What the package would refuse is tried as well.
    wanted.__dict__.update(changes)
    with boa.reverts(reason):
        leases.open(wanted.abi_tuple(), sender=tenant)


@pytest.mark.parametrize(
    "changes",
    [
        {"start_rate": 2 * RATE},
        {"auction": 30 * DAY},
        {"start_rate": 1},
        {"collateral": 2**88 - 1},
        {"ready_within": 1},
        {"term": GRACE + 1, "deposit": 2 * RATE * (GRACE + 1), "notice": GRACE + 1},
        {"term": LONGEST - 900},
        {"deposit": 2 * RATE * (GRACE + 1)},
        {"deposit": 2 * RATE * 10 * DAY},
        {"notice": 0},
        {"min_score": 2**80 - 1},
        {"min_stake": 2**88 - 1},
        {"notice": 10 * DAY},
    ],
)
def test_open__at_each_bound(suite: Suite, tenant: str, changes: dict[str, Any]) -> None:
    open_lease(suite, tenant, order(**changes))


def test_open__as_much_as_a_lease_can_hold(suite: Suite, tenant: str) -> None:
    most = order(start_rate=2**80 - 1, max_rate=2**80 - 1, deposit=2**96 - 1, term=DAY)
    assert state(suite.leases, open_lease(suite, tenant, most)).status is LeaseStatus.OPEN


@pytest.mark.invariant("I-11")
def test_open__later_fee_and_grace_do_not_reach_it(
    suite: Suite, leases: Contract, tenant: str, owner: str
) -> None:
    before = open_lease(suite, tenant)
    leases.set_fee(1_000, sender=owner)
    leases.set_challenge_window(900, sender=owner)
    after = open_lease(suite, tenant, order(nonce=1))
    assert (before.fee_bps, before.grace) == (250, GRACE)
    assert (after.fee_bps, after.grace) == (1_000, 900)


def test_open__in_a_pause(suite: Suite, leases: Contract, tenant: str) -> None:
    fund(suite, tenant, ORDER.deposit)
    leases.pause(DAY, sender=suite.guardian)
    with boa.reverts("guardian: orders are paused"):
        leases.open(ORDER.abi_tuple(), sender=tenant)
    pass_time(DAY)
    leases.open(ORDER.abi_tuple(), sender=tenant)


# -------------------------------------------------------------------------------- cancel


def test_cancel__by_the_requester_at_any_time(
    suite: Suite, leases: Contract, tenant: str, opened: LeaseTerms
) -> None:
    leases.cancel(opened.abi_tuple(), sender=tenant)
    assert event(leases, "Cancelled") == {
        "lease": opened.lease_id(),
        "requester": tenant,
        "refund": ORDER.deposit,
    }
    assert leases.credit_of(tenant) == ORDER.deposit
    assert leases.status(opened.lease_id()) == LeaseStatus.NONE


@pytest.mark.invariant("I-2")
def test_cancel__by_anyone_after_the_open_time__exact(
    suite: Suite, leases: Contract, tenant: str, opened: LeaseTerms, stranger: str
) -> None:
    go_to(opened.open_until(3_600))
    with boa.reverts("leases: still open"):
        leases.cancel(opened.abi_tuple(), sender=stranger)
    pass_time(1)
    leases.cancel(opened.abi_tuple(), sender=stranger)
    assert leases.credit_of(tenant) == ORDER.deposit
    assert leases.credit_of(stranger) == 0


def test_cancel__a_pause_stops_the_clock_for_strangers(
    suite: Suite, leases: Contract, tenant: str, opened: LeaseTerms, stranger: str
) -> None:
    leases.pause(5_000, sender=suite.guardian)
    go_to(opened.open_until(3_600, 5_000))
    with boa.reverts("leases: still open"):
        leases.cancel(opened.abi_tuple(), sender=stranger)
    pass_time(1)
    leases.cancel(opened.abi_tuple(), sender=stranger)


def test_cancel__twice(leases: Contract, tenant: str, opened: LeaseTerms) -> None:
    leases.cancel(opened.abi_tuple(), sender=tenant)
    with boa.reverts("leases: not open"):
        leases.cancel(opened.abi_tuple(), sender=tenant)


def test_cancel__not_once_it_is_taken(leases: Contract, tenant: str, taken: LeaseTerms) -> None:
    assert state(leases, taken).status is LeaseStatus.ASSIGNED
    with boa.reverts("leases: not open"):
        leases.cancel(taken.abi_tuple(), sender=tenant)


def test_cancel__unknown_terms(leases: Contract, opened: LeaseTerms) -> None:
    other = replace(opened, requester=address_of("other"))
    with boa.reverts("leases: not open"):
        leases.cancel(other.abi_tuple(), sender=address_of("other"))


def test_rate__rises_in_a_straight_line(
    suite: Suite, tenant: str, provider: Provider, opened: LeaseTerms
) -> None:
    rates = []
    for wait in (0, 1, 500, 999, 1_000, 5_000 - 400):
        with boa.env.anchor():
            pass_time(wait)
            rates.append(accept(suite, provider, opened))
    assert rates == [300, 300, 450, 599, 600, 600]
    assert [opened.rate_after(t) for t in (0, 1, 500, 999, 1_000, 5_000)] == rates
