# SPDX-License-Identifier: Apache-2.0
"""Seats of jurors: taken, renewed, given up, lost; who is drawn follows from what stood before."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.actions import Provider, event, events, go_to, now, pass_time
from tests.contracts.court import CAPABILITY, Court, deploy_court
from tests.contracts.deploy import DAY, TPF, USD, Contract, Parameters, address_of

OTHER = b"\x07" * 32


@pytest.fixture(scope="module")
def made() -> Any:
    return deploy_court()


@pytest.fixture
def court(made: Court) -> Any:
    made.jurors.clear()
    return made


@pytest.fixture
def disputes(court: Court) -> Any:
    return court.disputes


@pytest.fixture
def juror(court: Court) -> Any:
    """A provider that is not a juror yet, with stake for dozens of seats."""
    return court.juror("juror", 0)


@pytest.fixture
def staking(court: Court) -> Any:
    return court.suite.staking


def lock_of(court: Court, juror: Provider, capability: Any = CAPABILITY) -> Any:
    return court.suite.staking.lock_of(court.disputes.address, juror.owner, capability)


# --------------------------------------------------------------------- enlisting


def test_enlist__locks_the_seats_for_the_term(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    p = court.p
    expires_at = now() + p.term
    last = (expires_at - disputes.longest(p.max_duration)) // p.period - 1
    disputes.enlist(CAPABILITY, 5, sender=juror.operator.address)
    assert event(disputes, "Enlisted") == {
        "juror": juror.owner,
        "capability": CAPABILITY,
        "leaf": 1,
        "seats": 5,
        "expires_at": expires_at,
        "last_period": last,
    }
    assert lock_of(court, juror) == (500 * TPF, expires_at)
    assert disputes.seats(CAPABILITY) == 5
    assert disputes.seats(OTHER) == 0
    assert disputes.leaf_of(juror.owner, CAPABILITY) == 1
    assert court.member(1) == (juror.owner, 5, last, 0)


def test_enlist__last_jury_ends_within_the_lock(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    """Asked for in the last second of its last period, with all that may follow."""
    p = court.p
    disputes.enlist(CAPABILITY, 1, sender=juror.operator.address)
    last = court.member(1)[2]
    last_second = (last + 1) * p.period - 1
    assert last_second + disputes.longest(p.max_duration) < lock_of(court, juror)[1]
    # And the period after that one would not do.
    assert last_second + p.period + disputes.longest(p.max_duration) >= lock_of(court, juror)[1]


def test_enlist__only_operators(
    court: Court, disputes: Contract, juror: Provider, stranger: str
) -> None:
    for sender in (stranger, juror.owner, juror.payout):
        with boa.reverts("jurors: unknown operator"):
            disputes.enlist(CAPABILITY, 1, sender=sender)


def test_enlist__no_seats_or_too_many__reverts(disputes: Contract, juror: Provider) -> None:
    for seats in (0, 2**32):
        with boa.reverts("jurors: seats out of bounds"):
            disputes.enlist(CAPABILITY, seats, sender=juror.operator.address)
    with boa.reverts("tree: too many seats"):
        disputes.enlist(CAPABILITY, 2**32 - 1, sender=juror.operator.address)


def test_enlist__above_the_owners_limits__reverts(
    court: Court, disputes: Contract, staking: Contract, juror: Provider
) -> None:
    staking.set_lock_limits(300 * TPF, 10**27, sender=juror.owner)
    with boa.reverts("staking: above the owner's limit per order"):
        disputes.enlist(CAPABILITY, 4, sender=juror.operator.address)
    disputes.enlist(CAPABILITY, 3, sender=juror.operator.address)


def test_enlist__more_than_the_own_stake__reverts(disputes: Contract, juror: Provider) -> None:
    with boa.reverts("staking: own stake too low"):
        disputes.enlist(CAPABILITY, 11, sender=juror.operator.address)


def test_enlist__again__adds_seats_and_renews(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    pass_time(5 * DAY)
    disputes.enlist(CAPABILITY, 3, sender=juror.operator.address)
    assert lock_of(court, juror) == (300 * TPF, now() + court.p.term)
    assert disputes.seats(CAPABILITY) == 3
    assert disputes.leaf_of(juror.owner, CAPABILITY) == 1
    # The same number renews alone.
    pass_time(DAY)
    disputes.enlist(CAPABILITY, 3, sender=juror.operator.address)
    assert lock_of(court, juror) == (300 * TPF, now() + court.p.term)


def test_enlist__fewer__reverts(disputes: Contract, juror: Provider) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    with boa.reverts("jurors: fewer seats than before"):
        disputes.enlist(CAPABILITY, 1, sender=juror.operator.address)


def test_enlist__other_capability__a_lock_of_its_own(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    disputes.enlist(OTHER, 3, sender=juror.operator.address)
    assert lock_of(court, juror)[0] == 200 * TPF
    assert lock_of(court, juror, OTHER)[0] == 300 * TPF
    assert (disputes.seats(CAPABILITY), disputes.seats(OTHER)) == (2, 3)


@pytest.mark.invariant("I-14")
def test_enlist__term_over__not_renewed_but_left_and_taken_again(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    """A renewal cannot bring a juror back into a jury that was asked for when its term was over."""
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    last = court.member(1)[2]
    with boa.env.anchor():
        go_to((last + 1) * court.p.period - 1)
        disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    go_to((last + 1) * court.p.period)
    with boa.reverts("jurors: term is over"):
        disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    disputes.evict(juror.owner, CAPABILITY)
    with boa.reverts("jurors: went too recently"):
        disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    go_to((last + 3) * court.p.period - 1)
    with boa.reverts("jurors: went too recently"):
        disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    go_to((last + 3) * court.p.period)
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    assert disputes.leaf_of(juror.owner, CAPABILITY) == 1
    assert disputes.seats(CAPABILITY) == 2


def test_enlist__after_resigning__never_less_than_is_locked(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    """What the old seats still answer for is not taken away from under them."""
    disputes.enlist(CAPABILITY, 5, sender=juror.operator.address)
    disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    court.next_period(2)
    with boa.reverts("jurors: fewer seats than before"):
        disputes.enlist(CAPABILITY, 4, sender=juror.operator.address)
    disputes.enlist(CAPABILITY, 5, sender=juror.operator.address)


def test_enlist__after_resigning__until_the_lock_has_expired__exact(
    court: Court, disputes: Contract, juror: Provider
) -> None:
    disputes.enlist(CAPABILITY, 5, sender=juror.operator.address)
    disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    go_to(lock_of(court, juror)[1])
    with boa.reverts("jurors: fewer seats than before"):
        disputes.enlist(CAPABILITY, 1, sender=juror.operator.address)
    pass_time(1)
    disputes.enlist(CAPABILITY, 1, sender=juror.operator.address)
    assert lock_of(court, juror) == (100 * TPF, now() + court.p.term)


# ----------------------------------------------------------------------- leaving


def test_resign__by_owner_or_operator(
    court: Court, disputes: Contract, juror: Provider, stranger: str
) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    disputes.enlist(OTHER, 1, sender=juror.operator.address)
    for sender in (stranger, juror.payout):
        with boa.reverts("jurors: caller is not the juror"):
            disputes.resign(juror.owner, CAPABILITY, sender=sender)
    disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    assert event(disputes, "SeatsLost") == {
        "juror": juror.owner,
        "capability": CAPABILITY,
        "seats": 0,
    }
    disputes.resign(juror.owner, OTHER, sender=juror.operator.address)
    assert disputes.seats(CAPABILITY) == disputes.seats(OTHER) == 0
    with boa.reverts("jurors: no seats"):
        disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)


@pytest.mark.invariant("I-2")
def test_leave__when_no_jury_can_be_at_work__by_anyone(
    court: Court, disputes: Contract, staking: Contract, juror: Provider, stranger: str
) -> None:
    p = court.p
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    with boa.reverts("jurors: not without seats"):
        disputes.leave(juror.owner, CAPABILITY, sender=stranger)
    disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    went = now() // p.period
    end = (went + 1) * p.period + disputes.longest(p.max_duration)
    go_to(end)
    with boa.reverts("jurors: may still sit in a jury"):
        disputes.leave(juror.owner, CAPABILITY, sender=stranger)
    go_to(end + 1)
    disputes.leave(juror.owner, CAPABILITY, sender=stranger)
    assert event(disputes, "Left") == {"juror": juror.owner, "capability": CAPABILITY}
    assert lock_of(court, juror) == (0, 0)
    assert staking.pool(juror.owner)[1] == 0
    # From then on, as few seats as it likes.
    disputes.enlist(CAPABILITY, 1, sender=juror.operator.address)


def test_leave__never_enlisted__reverts(disputes: Contract, juror: Provider, stranger: str) -> None:
    with boa.reverts("jurors: not without seats"):
        disputes.leave(juror.owner, CAPABILITY, sender=stranger)


@pytest.mark.invariant("I-2")
def test_lock__expired__released_by_anyone_without_the_court(
    court: Court, disputes: Contract, staking: Contract, juror: Provider, stranger: str
) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    go_to(lock_of(court, juror)[1] + 1)
    staking.release(disputes.address, juror.owner, CAPABILITY, sender=stranger)
    assert staking.pool(juror.owner)[1] == 0
    disputes.evict(juror.owner, CAPABILITY, sender=stranger)
    assert disputes.seats(CAPABILITY) == 0


def test_evict__whose_term_is_over__exact(
    court: Court, disputes: Contract, juror: Provider, stranger: str
) -> None:
    disputes.enlist(CAPABILITY, 2, sender=juror.operator.address)
    last = court.member(1)[2]
    go_to((last + 1) * court.p.period - 1)
    with boa.reverts("jurors: nothing to evict"):
        disputes.evict(juror.owner, CAPABILITY, sender=stranger)
    go_to((last + 1) * court.p.period)
    disputes.evict(juror.owner, CAPABILITY, sender=stranger)
    assert court.member(1) == (juror.owner, 0, last, last + 1)
    with boa.reverts("jurors: nothing to evict"):
        disputes.evict(juror.owner, CAPABILITY, sender=stranger)


def test_evict__nobody__reverts(disputes: Contract, stranger: str) -> None:
    with boa.reverts("jurors: nothing to evict"):
        disputes.evict(stranger, CAPABILITY, sender=stranger)
    assert events(disputes) == []


# -------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seat": 10 * TPF - 1}, "jurors: seat out of bounds"),
        ({"small_fine": 0}, "court: fines out of bounds"),
        ({"small_fine": TPF // USD + 1}, "court: fines out of bounds"),
        ({"price_per_seat": 0}, "court: zero price per seat"),
        ({"term": 60 * DAY + 1}, "jurors: term above MAX_LOCK"),
        ({"term": 7 * DAY}, "jurors: term too short"),
        ({"period": 1_799}, "court: draw time above the period"),
        ({"panel": 4}, "court: even panel"),
        ({"redraw_panel": 6}, "court: even panel"),
        ({"appeal_panel": 10, "panel_min": 10}, "court: even panel"),
        ({"panel": 1}, "court: panel out of bounds"),
        ({"redraw_panel": 3}, "court: panel out of bounds"),
        ({"appeal_panel": 33, "panel_min": 33}, "court: panel out of bounds"),
        ({"panel_min": 8}, "court: too few seats for an appeal"),
        ({"appeal_panel": 7, "panel_min": 7}, "court: appeal too cheap"),
        ({"juror_fee_bps": 3_333}, "court: appeal too cheap"),
        ({"juror_fee_bps": 10_001}, "court: fee above the price"),
        ({"attendance": 10**6 + 1}, "court: attendance above the fee"),
        ({"draw_delay": 1}, "court: draw delay out of bounds"),
        ({"reveal_time": 0}, "court: time out of bounds"),
        ({"max_duration": 0}, "court: time out of bounds"),
        ({"reveal_time": 366 * DAY + 1}, "court: time out of bounds"),
        ({"draw_delay": 2**32 + 1}, "court: draw delay out of bounds"),
        ({"seat": 2**128}, "jurors: seat out of bounds"),
    ],
)
def test_parameters__out_of_bounds__reverts(changes: Any, reason: Any) -> None:
    with boa.reverts(reason):
        deploy_court(Parameters(**changes))


def test_parameters__at_their_bounds() -> None:
    p = Parameters(
        seat=10 * TPF,
        draw_delay=2**32,
        draw_time=3_600,
        panel=5,
        redraw_panel=7,
        appeal_panel=31,
        panel_min=31,
        juror_fee_bps=10_000,
        attendance=10**6,
        small_fine=TPF // USD,
    )
    made = deploy_court(p)
    assert made.disputes.SEAT() == 10 * TPF
    # The second jury's votes, and those of a first one that is short of a quorum.
    assert made.disputes.costs_of(10 * USD, 600) == (10 * USD, (1 + 7 + 2) * 10 * USD, 310 * USD)


def test_set_client__once__by_the_deployer(court: Court, disputes: Contract, stranger: str) -> None:
    assert disputes.client() == court.client.address
    with boa.reverts("court: not the deployer"):
        disputes.set_client(stranger, sender=stranger)
    with boa.reverts("court: client is named"):
        disputes.set_client(stranger, sender=address_of("deployer"))
