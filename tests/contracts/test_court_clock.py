# SPDX-License-Identifier: Apache-2.0
"""I-15: what a dispute comes to when everybody is dead from some moment on.

Each row is a moment that the contract's own view knows. From there on nobody does anything; the
clock alone goes from phase to phase, and a stranger concludes. Who has done its part does not lose.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.actions import go_to, now
from tests.contracts.court import (
    COMMITTING,
    DRAWING,
    FAILED,
    FINAL,
    NO_RULING,
    REVEALING,
    RIGHT,
    RULED,
    WITHHELD,
    WRONG,
    Case,
    Court,
)
from tests.contracts.court_room import locked, wait

pytestmark = pytest.mark.invariant("I-15", "I-2", "I-10")

OTHER = b"another manifest"


def opened(court: Court, case: Case) -> None:
    """Nobody draws."""


def drawn(court: Court, case: Case) -> None:
    """Nobody commits."""
    court.spread(case)


def committed_once(court: Court, case: Case) -> None:
    """One of three commits; the others are dead."""
    court.spread(case)
    court.commit(case, 0, RIGHT)


def all_committed(court: Court, case: Case) -> None:
    """Nobody reveals."""
    court.spread(case)
    for place in range(3):
        court.commit(case, place, RIGHT)


def revealed_once(court: Court, case: Case) -> None:
    """One of three votes is known: no quorum."""
    all_committed(court, case)
    court.reveal(case, 0, RIGHT)


def two_of_three(court: Court, case: Case) -> None:
    """The third is dead before it commits."""
    court.spread(case)
    for place in (0, 1):
        court.commit(case, place, WRONG, OTHER)
    wait(court, case)
    for place in (0, 1):
        court.reveal(case, place, WRONG, OTHER)


def failed(court: Court, case: Case) -> None:
    """Nobody asks for a second jury."""
    wait(court, case)


def redrawn(court: Court, case: Case) -> None:
    """Nobody draws the second jury."""
    wait(court, case)
    court.disputes.redraw(case.abi_tuple(), sender=case.requester)


def second_jury(court: Court, case: Case) -> None:
    """Drawn, and dead."""
    redrawn(court, case)
    court.spread(case, 1)


def ruled_right(court: Court, case: Case) -> None:
    """The tenant does not appeal."""
    court.spread(case)
    court.vote(case, [RIGHT] * 3)


def ruled_withheld(court: Court, case: Case) -> None:
    """The provider does not appeal."""
    court.spread(case)
    court.vote(case, [WITHHELD] * 3)


def appealed(court: Court, case: Case) -> None:
    """The provider appeals; nobody draws."""
    ruled_withheld(court, case)
    court.client.appeal(case.abi_tuple(), sender=case.provider)


def appeal_drawn(court: Court, case: Case) -> None:
    """The jury of the appeal is dead."""
    appealed(court, case)
    court.spread(case, 2)


def appeal_committed(court: Court, case: Case) -> None:
    """It dies between commit and reveal."""
    appeal_drawn(court, case)
    for place in range(9):
        court.commit(case, place, RIGHT)


# The moment; the phases that the clock goes through; the ruling; whether the tenant wins.
TABLE = [
    (opened, [DRAWING, FAILED], NO_RULING, False),
    (drawn, [COMMITTING, FAILED], NO_RULING, False),
    (committed_once, [COMMITTING, REVEALING, FAILED], NO_RULING, False),
    (all_committed, [REVEALING, FAILED], NO_RULING, False),
    (revealed_once, [REVEALING, FAILED], NO_RULING, False),
    (two_of_three, [RULED], WRONG, True),
    (failed, [FAILED], NO_RULING, False),
    (redrawn, [DRAWING, RULED], NO_RULING, False),
    (second_jury, [COMMITTING, RULED], NO_RULING, False),
    (ruled_right, [RULED], RIGHT, False),
    (ruled_withheld, [RULED], WITHHELD, True),
    (appealed, [DRAWING], WITHHELD, True),
    (appeal_drawn, [COMMITTING], WITHHELD, True),
    (appeal_committed, [REVEALING], WITHHELD, True),
]


@pytest.mark.parametrize(
    ("moment", "phases", "ruling", "tenant_wins"), TABLE, ids=[row[0].__name__ for row in TABLE]
)
def test_everybody_dead__the_clock_ends_it(
    court: Court, case: Case, moment: Any, phases: Any, ruling: Any, tenant_wins: Any
) -> None:
    began = now()
    moment(court, case)
    passed = []
    while (standing := court.standing(case))[1] != FINAL:
        passed.append(standing[1])
        assert standing[2] >= now(), "a phase that is over is not the present one"
        # In its last second it is still the same phase.
        go_to(standing[2])
        assert court.standing(case)[:3] == standing[:3]
        go_to(standing[2] + 1)
    assert passed == phases
    assert court.standing(case)[3] == ruling
    assert now() - began <= court.disputes.longest(case.duration) - court.p.close_time
    won, to_tenant, to_provider, pays = court.close(case)
    assert won == tenant_wins
    bonds = court.bond(case)
    if court.word(case, 2):
        bonds += 9 * court.fee(case)
    assert to_tenant + to_provider + sum(amount for _, amount in pays) == bonds
    # No jury, and nobody to pay: everything goes back.
    if ruling == NO_RULING and not pays:
        assert to_tenant == court.bond(case)


def test_everybody_dead__only_who_was_silent_is_fined(court: Court, case: Case) -> None:
    """Of three, one has revealed, one has only committed, one has done nothing."""
    court.spread(case)
    jurors = [court.who(case, place) for place in range(3)]
    court.commit(case, 0, RIGHT)
    court.commit(case, 1, RIGHT)
    wait(court, case)
    court.reveal(case, 0, RIGHT)
    while court.standing(case)[1] != FINAL:
        wait(court, case)
    _, _, _, pays = court.close(case)
    assert pays == [(jurors[0].payout, court.p.attendance)]
    seat, big = court.p.seat, court.big(case)
    assert [locked(court, juror) for juror in jurors] == [seat, seat - big, seat - big]
