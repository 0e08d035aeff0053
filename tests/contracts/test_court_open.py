# SPDX-License-Identifier: Apache-2.0
"""What the court leaves open, as docs/threat-model.md and docs/courts-economics.md name it.

A rule that closes one of these lets its test fail: then the docs are to be changed with it.
"""

from __future__ import annotations

from tests.contracts.court import FINAL, RIGHT, WITHHELD, WRONG, Case, Court
from tests.contracts.court_room import locked, wait
from tests.contracts.test_appeals import appeal


def test_disagreement__and_one_friend_of_the_tenant__an_honest_provider_loses(
    court: Court, drawn: Case
) -> None:
    """A job that gives another result at each run: two honest jurors, each with its own."""
    court.vote(drawn, [WITHHELD, (WRONG, b"one result"), (WRONG, b"another result")])
    assert court.standing(drawn)[3] == WITHHELD
    # The provider appeals: nine honest jurors disagree, and that leaves the ruling.
    appeal(court, drawn, drawn.provider)
    court.spread(drawn, 2)
    court.vote(drawn, [(WRONG, b"result %d" % number) for number in range(9)])
    wait_if_open(court, drawn)
    won, *_ = court.close(drawn)
    assert won


def test_disagreement__without_a_friend__the_provider_is_paid(court: Court, drawn: Case) -> None:
    court.vote(drawn, [(WRONG, b"result %d" % number) for number in range(3)])
    wait_if_open(court, drawn)
    won, *_ = court.close(drawn)
    assert not won


def test_jurors_in_league__say_withheld_of_a_right_result__and_are_paid_by_the_appeal(
    court: Court, drawn: Case
) -> None:
    """Never fined: so a block of seats lengthens a dispute, and earns in the larger jury."""
    league = [court.who(drawn, place) for place in (0, 1)]
    court.vote(drawn, [WITHHELD, WITHHELD, RIGHT])
    assert court.standing(drawn)[3] == WITHHELD
    appeal(court, drawn, drawn.provider)
    court.spread(drawn, 2)
    court.vote(drawn, [RIGHT] * 9)
    wait_if_open(court, drawn)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert not won
    fee = court.fee(drawn)
    assert [amount for _, amount in pays] == [fee] * 10
    assert [locked(court, juror) for juror in league] == [court.p.seat] * 2
    # The provider pays half, though it was right: a jury cannot tell that from serving late.
    assert to_tenant == court.bond(drawn) - 5 * fee
    assert to_provider == 9 * fee - 5 * fee


def test_a_served_minority__its_seal_is_not_the_only_one__honest_jurors_are_fined(
    court: Court, drawn: Case
) -> None:
    """A liar serves one honest juror of three; the others say WITHHELD and have no claim.

    In a larger jury friends with one seal of garbage are more than those that were served.
    """
    court.vote(drawn, [WITHHELD, WITHHELD, (WRONG, b"the truth")])
    appeal(court, drawn, drawn.provider)
    court.spread(drawn, 2)
    served = court.who(drawn, 0)
    votes = [(WRONG, b"the truth"), *[WITHHELD] * 4, *[(WRONG, b"garbage")] * 4]
    court.vote(drawn, votes)
    wait_if_open(court, drawn)
    won, *_ = court.close(drawn)
    assert won
    assert locked(court, served) == court.p.seat - court.small(drawn)


def wait_if_open(court: Court, case: Case) -> None:
    if court.standing(case)[1] != FINAL:
        wait(court, case)
