# SPDX-License-Identifier: Apache-2.0
"""The smallest that there can be of a court: a juror alone, a unit of pay, a wei of a fine."""

from __future__ import annotations

import pytest

from tests.contracts.actions import Provider, go_to
from tests.contracts.court import (
    NO_RULING,
    REVEALING,
    RIGHT,
    RULED,
    WRONG,
    Case,
    Court,
    deploy_court,
)
from tests.contracts.court_room import locked, wait
from tests.contracts.deploy import Parameters

OTHER_MANIFEST = b"the manifest of another result"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_reveal__who_committed_alone__has_its_time(court: Court, drawn: Case, place: int) -> None:
    court.commit(drawn, place, RIGHT)
    end = court.standing(drawn)[2]
    go_to(end + 1)
    assert court.standing(drawn) == (0, REVEALING, end + court.p.reveal_time, NO_RULING)


def test_vote__a_juror_alone__has_all_the_votes(
    court: Court, accused: Provider, tenant: str
) -> None:
    rare = b"\x0b" * 32
    juror = court.juror("alone", 1, rare)
    court.next_period()
    case = court.open(accused, tenant, capability=rare)
    assert court.draw(case) == [(1, 3)]
    court.vote(case, [RIGHT])
    assert court.standing(case)[1::2] == (RULED, RIGHT)
    wait(court, case)
    assert court.close(case)[3] == [(juror.payout, 3 * court.fee(case))]


def test_vote__the_smallest_fee__a_unit_is_paid_and_a_wei_is_burned(tenant: str) -> None:
    p = Parameters(min_fee=1, attendance=1, hourly_fee=0, small_fine=1, big_fine=1)
    court = deploy_court(p)
    for number in range(4):
        court.juror(f"cheap juror {number}", 1)
    court.next_period()
    case = court.open(court.juror("accused", 0), tenant, price=1)
    court.spread(case)
    court.vote(case, [RIGHT, RIGHT, (WRONG, OTHER_MANIFEST)])
    paid, fined = [court.who(case, place).payout for place in (0, 1)], court.who(case, 2)
    wait(court, case)
    assert court.close(case)[3] == [(payout, 1) for payout in paid]
    assert locked(court, fined) == p.seat - 1
