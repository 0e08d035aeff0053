# SPDX-License-Identifier: Apache-2.0
"""A second jury, an appeal, and what silence costs: rounds after the first."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tests.contracts.actions import Provider, go_to, now, pass_time
from tests.contracts.court import (
    DRAWING,
    FAILED,
    FINAL,
    MANIFEST,
    NO_RULING,
    RIGHT,
    RULED,
    WITHHELD,
    WRONG,
    Case,
    Court,
    result_of,
    seal_of,
)
from tests.contracts.court_room import locked, wait
from tests.contracts.deploy import Contract

OTHER_MANIFEST = b"the manifest of another result"


# ------------------------------------------------------------------------- redraw


def test_redraw__not_drawn__anyone_asks_for_a_larger_jury(
    court: Court, disputes: Contract, case: Case, stranger: str
) -> None:
    end = court.standing(case)[2]
    go_to(end)
    with boa.reverts("court: not the time"):
        disputes.redraw(case.abi_tuple())
    go_to(end + 1)
    assert court.standing(case) == (0, FAILED, end + court.p.redraw_time, NO_RULING)
    with boa.reverts("court: the requester's turn"):
        disputes.redraw(case.abi_tuple(), sender=stranger)
    go_to(end + court.p.redraw_time // 2)
    with boa.reverts("court: the requester's turn"):
        disputes.redraw(case.abi_tuple(), sender=stranger)
    go_to(end + court.p.redraw_time // 2 + 1)
    disputes.redraw(case.abi_tuple(), sender=stranger)
    assert court.standing(case) == (1, DRAWING, now() + court.p.draw_time, NO_RULING)
    court.spread(case, 1)
    assert len(court.jury(case, 1)) == 5
    court.vote(case, [RIGHT] * 5)
    assert court.standing(case)[3] == RIGHT


def test_redraw__last_second__exact__then_final(
    court: Court, disputes: Contract, case: Case
) -> None:
    end = court.standing(case)[2] + court.p.redraw_time
    with boa.env.anchor():
        go_to(end)
        disputes.redraw(case.abi_tuple())
    go_to(end + 1)
    assert court.standing(case) == (0, FINAL, 0, NO_RULING)
    with boa.reverts("court: not the time"):
        disputes.redraw(case.abi_tuple())
    assert court.close(case) == (False, court.bond(case), 0, [])


def test_redraw__with_a_ruling__reverts(court: Court, disputes: Contract, drawn: Case) -> None:
    court.vote(drawn, [RIGHT] * 3)
    with boa.reverts("court: not the time"):
        disputes.redraw(drawn.abi_tuple())


def test_redraw__who_sat_before_sits_no_more__and_who_spoke_is_paid(
    court: Court, disputes: Contract, drawn: Case
) -> None:
    first = {leaf for leaf, _ in court.jury(drawn)}
    speaker, silent = court.who(drawn, 0), court.who(drawn, 1)
    court.vote(drawn, [RIGHT, None, None])
    disputes_end = court.standing(drawn)
    assert disputes_end[1] == FAILED
    disputes.redraw(drawn.abi_tuple(), sender=drawn.requester)
    court.spread(drawn, 1)
    assert not first & {leaf for leaf, _ in court.jury(drawn, 1)}
    court.vote(drawn, [RIGHT] * 5)
    wait(court, drawn)
    won, to_tenant, _, pays = court.close(drawn)
    assert not won
    # Six votes: the most that the bond must cover.
    assert [amount for _, amount in pays] == [court.fee(drawn)] * 6
    assert pays[0][0] == speaker.payout
    assert to_tenant == drawn.price == court.bond(drawn) - 6 * court.fee(drawn)
    assert locked(court, silent) == court.p.seat - court.big(drawn)


def test_redraw__fails_as_well__can_be_appealed(
    court: Court, disputes: Contract, case: Case
) -> None:
    wait(court, case)
    disputes.redraw(case.abi_tuple(), sender=case.requester)
    court.draw(case, b"", 1)
    wait(court, case)
    # Twice without a quorum: the requester may appeal, else it stays at that.
    assert court.standing(case)[1::2] == (RULED, NO_RULING)
    with boa.env.anchor():
        with boa.reverts("court: caller is not the loser"):
            appeal(court, case, case.provider)
        appeal(court, case, case.requester)
        court.spread(case, 2)
        court.vote(case, [(WRONG, OTHER_MANIFEST)] * 9)
        assert court.standing(case) == (2, FINAL, 0, WRONG)
    wait(court, case)
    assert court.standing(case) == (1, FINAL, 0, NO_RULING)
    assert court.close(case)[:3] == (False, court.bond(case), 0)


# ------------------------------------------------------------------------- appeal


def appeal(court: Court, case: Case, sender: Any) -> Any:
    return court.client.appeal(case.abi_tuple(), sender=sender)


def test_appeal__by_the_loser_alone(
    court: Court, drawn: Case, accused: Provider, tenant: str, stranger: str
) -> None:
    court.vote(drawn, [RIGHT] * 3)
    for account in (stranger, accused.owner, accused.operator.address):
        with boa.reverts("court: caller is not the loser"):
            appeal(court, drawn, account)
    assert appeal(court, drawn, tenant) == 9 * court.fee(drawn) > court.bond(drawn)
    assert court.standing(drawn)[:2] == (2, DRAWING)
    with boa.reverts("court: not the time"):
        appeal(court, drawn, tenant)


def test_appeal__against_the_provider__by_its_owner_or_operator(
    court: Court, drawn: Case, accused: Provider, tenant: str, stranger: str
) -> None:
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 3)
    for account in (stranger, tenant, accused.payout):
        with boa.reverts("court: caller is not the loser"):
            appeal(court, drawn, account)
    with boa.env.anchor():
        appeal(court, drawn, accused.owner)
    appeal(court, drawn, accused.operator.address)


def test_appeal__last_second__exact(court: Court, drawn: Case, tenant: str) -> None:
    court.vote(drawn, [RIGHT] * 3)
    end = court.standing(drawn)[2]
    with boa.env.anchor():
        go_to(end)
        with boa.reverts("court: not final"):
            court.close(drawn)
        appeal(court, drawn, tenant)
    go_to(end + 1)
    with boa.reverts("court: not the time"):
        appeal(court, drawn, tenant)
    court.close(drawn)


def test_appeal__without_a_ruling__reverts(court: Court, case: Case, tenant: str) -> None:
    with boa.reverts("court: not the time"):
        appeal(court, case, tenant)
    wait(court, case)
    with boa.reverts("court: not the time"):
        appeal(court, case, tenant)


def test_appeal__turns_the_ruling__first_jury_loses_a_little(
    court: Court, disputes: Contract, drawn: Case, accused: Provider
) -> None:
    """A jury was bought: the appeal takes the fee from it, and stake."""
    court.vote(drawn, [(WRONG, OTHER_MANIFEST), (WRONG, OTHER_MANIFEST), RIGHT])
    liars = [court.who(drawn, place) for place in (0, 1)]
    honest = court.who(drawn, 2)
    appeal(court, drawn, accused.owner)
    court.spread(drawn, 2)
    sat = {leaf for leaf, _ in court.jury(drawn, 0)}
    assert not sat & {leaf for leaf, _ in court.jury(drawn, 2)}
    court.vote(drawn, [RIGHT] * 8 + [(WRONG, OTHER_MANIFEST)])
    assert court.standing(drawn) == (2, FINAL, 0, RIGHT)
    fee = court.fee(drawn)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert not won
    assert pays[0] == (honest.payout, fee)
    assert [amount for _, amount in pays] == [fee] * 9
    # The tenant has lost, so its bond pays all nine; the provider gets its own back whole.
    assert to_tenant == 0 if court.bond(drawn) <= 9 * fee else court.bond(drawn) - 9 * fee
    assert to_tenant + to_provider == court.bond(drawn) + 9 * fee - 9 * fee
    for liar in liars:
        assert locked(court, liar) == court.p.seat - court.small(drawn)


def test_appeal__same_vote_in_both_rounds__paid_in_both(
    court: Court, drawn: Case, tenant: str, accused: Provider
) -> None:
    """A WRONG of round 0 and one of round 2 show different seals of the same other result."""
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 3)
    appeal(court, drawn, accused.owner)
    court.spread(drawn, 2)
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 9)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert won
    assert [amount for _, amount in pays] == [court.fee(drawn)] * 12
    # Nine of the fees come out of the appeal's bond, the others out of the tenant's.
    assert (to_tenant, to_provider) == (court.bond(drawn) - 3 * court.fee(drawn), 0)


def test_appeal__seals_of_earlier_rounds__are_not_enough(
    court: Court, disputes: Contract, drawn: Case, tenant: str
) -> None:
    """The first jury has shown its seal to everybody: the next one must show a deeper one."""
    court.vote(drawn, [RIGHT] * 3)
    appeal(court, drawn, tenant)
    court.spread(drawn, 2)
    assert result_of(MANIFEST) == drawn.result
    juror = court.who(drawn, 0)
    known = seal_of(MANIFEST, 0)
    kinds = ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"]
    salt = bytes(32)
    digest = keccak(encode(kinds, [drawn.job, 2, juror.owner, RIGHT, known, salt]))
    disputes.commit(drawn.abi_tuple(), 0, digest, sender=juror.operator.address)
    court.commit(drawn, 1, RIGHT)
    wait(court, drawn)
    with boa.reverts("court: not the result's seal"):
        disputes.reveal(drawn.abi_tuple(), 0, RIGHT, known, salt)
    court.reveal(drawn, 1, RIGHT)


def test_appeal__without_a_quorum__the_earlier_ruling_stays(
    court: Court, drawn: Case, tenant: str
) -> None:
    court.vote(drawn, [RIGHT] * 3)
    appeal(court, drawn, tenant)
    court.spread(drawn, 2)
    # Four of nine: no quorum. Nobody is fined for a vote, who votes with the ruling is paid.
    against = court.who(drawn, 3)
    court.vote(drawn, [RIGHT] * 3 + [(WRONG, OTHER_MANIFEST)] + [None] * 5)
    assert court.standing(drawn) == (2, FINAL, 0, RIGHT)
    won, to_tenant, to_provider, pays = court.close(drawn)
    fee = court.fee(drawn)
    assert (won, to_provider) == (False, 0)
    assert [amount for _, amount in pays] == [fee] * 6
    assert to_tenant == court.bond(drawn) - 3 * fee + (9 - 3) * fee
    assert locked(court, against) == court.p.seat


def test_appeal__undecided__the_earlier_ruling_stays(
    court: Court, drawn: Case, accused: Provider
) -> None:
    """An appeal must convince. Nobody is fined for a vote against what stays but by it."""
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 3)
    appeal(court, drawn, accused.owner)
    court.spread(drawn, 2)
    court.vote(drawn, [RIGHT] * 4 + [(WRONG, b"%d" % place) for place in range(5)])
    assert court.standing(drawn) == (2, FINAL, 0, WRONG)
    assert court.close(drawn)[0]


def test_appeal__never_drawn__the_earlier_ruling_stays(
    court: Court, drawn: Case, accused: Provider
) -> None:
    court.vote(drawn, [WITHHELD] * 3)
    appeal(court, drawn, accused.owner)
    wait(court, drawn)
    assert court.standing(drawn) == (2, FINAL, 0, WITHHELD)
    won, to_tenant, to_provider, _ = court.close(drawn)
    assert won
    # Who has lost pays those who came.
    assert to_provider == 9 * court.fee(drawn) - 3 * court.p.attendance
    assert to_tenant == court.bond(drawn)


@pytest.mark.invariant("I-12")
def test_appeal__turns_withheld__each_side_pays_half(
    court: Court, drawn: Case, accused: Provider
) -> None:
    """Served late, or never asked: two juries have met different things, and nobody knows why.

    A provider that serves nobody until its appeal thus loses more than the price.
    """
    court.vote(drawn, [WITHHELD, WITHHELD, RIGHT])
    appeal(court, drawn, accused.owner)
    court.spread(drawn, 2)
    court.vote(drawn, [RIGHT] * 9)
    fee = court.fee(drawn)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert not won
    assert [amount for _, amount in pays] == [fee] * 10
    assert to_tenant == court.bond(drawn) - 5 * fee
    assert to_provider == 9 * fee - 5 * fee


@pytest.mark.invariant("I-12")
@pytest.mark.parametrize("first", [WITHHELD, (WRONG, OTHER_MANIFEST)])
def test_appeal__of_a_provider_that_loses_again__pays_by_itself(
    court: Court, drawn: Case, accused: Provider, first: Any
) -> None:
    court.vote(drawn, [first] * 3)
    appeal(court, drawn, accused.owner)
    court.spread(drawn, 2)
    court.vote(drawn, [(WRONG, OTHER_MANIFEST)] * 9)
    won, to_tenant, to_provider, pays = court.close(drawn)
    paid = sum(amount for _, amount in pays)
    assert won
    assert to_provider == max(0, 9 * court.fee(drawn) - paid)
    assert to_tenant == court.bond(drawn) - max(0, paid - 9 * court.fee(drawn))


# -------------------------------------------------------------------------- fines


def test_fines__until_half_of_the_seat_is_gone__then_it_goes(
    court: Court, disputes: Contract, accused: Provider, tenant: str
) -> None:
    alone = b"\x09" * 32
    juror = court.juror("often silent", 1, alone)
    court.next_period()
    left = court.p.seat
    while 2 * left >= court.p.seat:
        assert disputes.seats(alone) == 1
        case = court.open(accused, tenant, capability=alone)
        assert court.draw(case) == [(1, 3)]
        wait(court, case)
        wait(court, case)
        court.close(case)
        left -= 3 * court.big(case)
        lock = court.suite.staking.lock_of(disputes.address, juror.owner, alone)
        assert lock[0] == left
    assert disputes.seats(alone) == 0
    assert court.member(1, alone)[1::2] == (0, now() // court.p.period)
    # It fills up what is missing, and sits again, once nothing can find the old seat.
    court.next_period(2)
    court.enlist(juror, 1, alone)
    assert court.suite.staking.lock_of(disputes.address, juror.owner, alone)[0] == court.p.seat


def test_close__conserves_whatever_is_voted(court: Court, drawn: Case, tenant: str) -> None:
    pass_time(1)
    court.vote(drawn, [WITHHELD, None, RIGHT])
    wait(court, drawn)
    _, to_tenant, to_provider, pays = court.close(drawn)
    assert to_tenant + to_provider + sum(amount for _, amount in pays) == court.bond(drawn)
