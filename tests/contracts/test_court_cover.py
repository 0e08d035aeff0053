# SPDX-License-Identifier: Apache-2.0
"""Which jobs the court judges, and who is too near to a party to judge its case."""

from __future__ import annotations

import boa
import pytest

from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.actions import Provider, consent, go_to, now
from tests.contracts.court import CAPABILITY, Court, expected_places, seed_of, value_of
from tests.contracts.deploy import USD, Contract, account_of


def test_cover__enough_seats_and_short_enough(court: Court, disputes: Contract) -> None:
    p = court.p
    assert disputes.cover(CAPABILITY, p.max_duration, 0, ZERO_ADDRESS) == disputes.longest(
        p.max_duration
    )
    assert disputes.longest(600) == (
        3 * (p.draw_time + p.commit_time + 600 + p.reveal_time)
        + p.redraw_time
        + p.appeal_time
        + p.close_time
    )
    with boa.reverts("court: job too long"):
        disputes.cover(CAPABILITY, p.max_duration + 1, 0, ZERO_ADDRESS)
    few = b"\x05" * 32
    with boa.reverts("court: too few jurors"):
        disputes.cover(few, 600, 0, ZERO_ADDRESS)
    juror = court.juror("of a rare kind", 8, few)
    with boa.reverts("court: too few jurors"):
        disputes.cover(few, 600, 0, ZERO_ADDRESS)
    court.enlist(juror, 9, few)
    disputes.cover(few, 600, 0, ZERO_ADDRESS)


def test_cover__dear_jobs__more_seats_with_enough_behind_each(
    court: Court, disputes: Contract
) -> None:
    """Nine seats, and one more for each ten dollars; two whole fines for silence in a seat."""
    few = b"\x07" * 32
    court.juror("of fifteen seats", 15, few)
    disputes.cover(few, 600, 70 * USD - 1, ZERO_ADDRESS)
    with boa.reverts("court: too few jurors"):
        disputes.cover(few, 600, 70 * USD, ZERO_ADDRESS)
    many = b"\x06" * 32
    court.juror("of many seats", 100, many)
    # A fee of 50 dollars: 50 TPF are due for silence, 100 are behind a seat.
    disputes.cover(many, 600, 100 * USD, ZERO_ADDRESS)
    with boa.reverts("court: job too dear"):
        disputes.cover(many, 600, 100 * USD + 2, ZERO_ADDRESS)


def test_cover__the_takers_own_seats__do_not_count(court: Court, disputes: Contract) -> None:
    """A provider with most of the seats would be judged by nobody, and paid for anything."""
    few = b"\x08" * 32
    large, other = court.juror("of eight seats", 8, few), court.juror("of nine seats", 9, few)
    anyone = court.juror("without seats", 0)
    for taker in (ZERO_ADDRESS, account_of("nobody's key").address, anyone.operator.address):
        disputes.cover(few, 600, 0, taker)
    # Seventeen seats: nine are left without the one, eight without the other.
    disputes.cover(few, 600, 0, large.operator.address)
    with boa.reverts("court: too few jurors"):
        disputes.cover(few, 600, 0, other.operator.address)
    # Its key counts, not its owner address, which takes no job; and its seats elsewhere do not.
    disputes.cover(few, 600, 0, other.owner)
    court.enlist(large, 16, b"\x09" * 32)
    disputes.cover(few, 600, 0, large.operator.address)


# ------------------------------------------------------------------- near to a party


def without(court: Court, requester: str, near: Provider) -> None:
    """No jury of a dispute by that requester has this juror; without the rule one would."""
    leaf = int(court.disputes.leaf_of(near.owner, CAPABILITY))
    accused = court.juror("accused of a friend", 0)
    seats = [court.member(one)[1] for one in range(1, len(court.jurors[CAPABILITY]) + 1)]
    found = 0
    case = court.open(accused, requester)
    assert case.principal == near.owner
    for number in range(60):
        value = b"%d" % number
        seed = seed_of(case, value_of(value), 0)
        found += leaf in dict(expected_places(seats, set(), seed, 3))
        with boa.env.anchor():
            jury = court.draw(case, value)
        assert jury == expected_places(seats, {leaf}, seed, 3)
    assert found > 0


@pytest.mark.invariant("I-14")
@pytest.mark.parametrize("renews", [False, True])
def test_draw__requester_is_a_jurors_later_key__the_juror_never_sits(
    court: Court, renews: bool
) -> None:
    """It was named after the juror took its seats, and the juror's words do not have it."""
    staking = court.suite.staking
    juror = court.jurors[CAPABILITY][3]
    key = account_of("a later key")
    staking.set_operator(key.address, *consent(staking, juror.owner, key), sender=juror.owner)
    if renews:
        court.disputes.enlist(CAPABILITY, 1, sender=key.address)
    go_to(now() + 1)
    without(court, key.address, juror)


@pytest.mark.invariant("I-14")
def test_draw__key_bound_or_let_go_after_the_dispute__changes_nothing(court: Court) -> None:
    """What is done once the block is named bars nobody, and frees nobody."""
    staking = court.suite.staking
    juror, other = court.jurors[CAPABILITY][3], court.jurors[CAPABILITY][4]
    key, later = account_of("a later key"), account_of("the key after it")
    staking.set_operator(key.address, *consent(staking, juror.owner, key), sender=juror.owner)
    case = court.open(court.juror("accused", 0), key.address)
    seats = [court.member(one)[1] for one in range(1, len(court.jurors[CAPABILITY]) + 1)]
    value = next(
        b"%d" % number
        for number in range(1_000)
        if len(dict(expected_places(seats, {3}, seed_of(case, value_of(b"%d" % number), 0), 3)))
        == 3
    )
    wanted = expected_places(seats, {3}, seed_of(case, value_of(value), 0), 3)
    with boa.env.anchor():
        assert court.draw(case, value) == wanted
    staking.set_operator(later.address, *consent(staking, juror.owner, later), sender=juror.owner)
    staking.set_operator(key.address, *consent(staking, other.owner, key), sender=other.owner)
    assert court.draw(case, value) == wanted


def test_opened__requester_without_a_provider__names_nobody(court: Court, tenant: str) -> None:
    assert court.open(court.juror("accused", 0), tenant).principal == ZERO_ADDRESS
