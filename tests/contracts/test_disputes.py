# SPDX-License-Identifier: Apache-2.0
"""A dispute from its opening to its ruling: juries, votes, appeals, and what each of them pays."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tests.contracts import headers
from tests.contracts.actions import Provider, event, go_to, now
from tests.contracts.court import (
    CAPABILITY,
    COMMITTING,
    DRAWING,
    FAILED,
    FINAL,
    MANIFEST,
    NO_RULING,
    REVEALING,
    RIGHT,
    RULED,
    UNDECIDED,
    WITHHELD,
    WRONG,
    Case,
    Court,
    commitment,
    expected_places,
    salt_of,
    seal_of,
    seed_of,
)
from tests.contracts.court_room import JURORS, locked, wait
from tests.contracts.deploy import USD, Contract, address_of

OTHER_MANIFEST = b"the manifest of another result"


def payouts(court: Court, case: Case, places: Any) -> Any:
    return sorted(court.who(case, place).payout for place in places)


# ------------------------------------------------------------------------ opening


def test_open__names_a_block_and_asks_for_the_bond(
    court: Court, disputes: Contract, accused: Provider, tenant: str
) -> None:
    number, time = headers.block_number(), now()
    case = court.open(accused, tenant, price=10 * USD)
    found = event(court.client, "Opened")
    assert found["bond"] == court.bond(case) == 10 * USD + 6 * 5 * USD
    assert tuple(found["case"]) == case.abi_tuple()
    assert event(court.client, "Named") == {
        "job": case.job,
        "round": 0,
        "target": number + court.p.draw_delay,
    }
    assert court.standing(case) == (0, DRAWING, time + court.p.draw_time, NO_RULING)
    assert disputes.costs_of(case.price, case.duration) == (
        5 * USD,
        court.bond(case),
        9 * 5 * USD,
    )


def test_open__small_price__the_least_fee(
    court: Court, disputes: Contract, accused: Provider, tenant: str
) -> None:
    case = court.open(accused, tenant, price=1)
    assert event(court.client, "Opened")["bond"] == 1 + 6 * USD
    assert disputes.costs_of(1, 600)[0] == court.fee(case) == USD
    # An hour of a juror's machine is worth something, whatever the price.
    assert disputes.costs_of(1, 10 * 3_600)[0] == 5 * USD
    # What is less than a unit is not paid.
    assert disputes.costs_of(10 * USD + 1, 600)[0] == 5 * USD
    assert disputes.costs_of(1, 10 * 3_600 + 1)[0] == 5 * USD + 138


def test_open__only_the_client__once(
    court: Court, disputes: Contract, case: Case, stranger: str
) -> None:
    arguments = case.abi_tuple()[:3] + case.abi_tuple()[5:]
    with boa.reverts("court: caller is not the client"):
        disputes.open(*arguments, sender=stranger)
    with boa.reverts("court: dispute exists"):
        court.client.open(*arguments)
    for call in (disputes.close, lambda c: disputes.appeal(c, stranger)):
        with boa.reverts("court: caller is not the client"):
            call(case.abi_tuple())


# ------------------------------------------------------------------------ drawing


def test_draw__by_anyone__commits_begin(
    court: Court, disputes: Contract, case: Case, stranger: str
) -> None:
    block = court.mine(case, b"", 0)
    disputes.draw(case.abi_tuple(), block.header, sender=stranger)
    places = event(disputes, "Drawn")["places"]
    jury = court.jury(case)
    assert [(place & 2**27 - 1, place >> 27) for place in places] == jury
    assert sum(votes for _, votes in jury) == court.p.panel
    end = now() + court.p.commit_time + case.duration
    assert court.standing(case) == (0, COMMITTING, end, NO_RULING)


@pytest.mark.invariant("I-14")
def test_draw__before_the_block__reverts(court: Court, disputes: Contract, case: Case) -> None:
    target = court.word(case, 0) >> 40 & (2**48 - 1)
    headers.go_to_block(target)
    with boa.reverts("randomness: no hash of the block"):
        disputes.draw(case.abi_tuple(), b"")


@pytest.mark.invariant("I-14")
def test_draw__of_another_block__reverts(court: Court, disputes: Contract, case: Case) -> None:
    target = court.word(case, 0) >> 40 & (2**48 - 1)
    headers.go_to_block(target)
    headers.mine(b"\x01" * 32)
    later = headers.mine(b"\x02" * 32)
    with boa.reverts("header: not of that block"):
        disputes.draw(case.abi_tuple(), later.header)


@pytest.mark.invariant("I-14")
def test_draw__follows_from_the_named_block_alone(
    court: Court, disputes: Contract, case: Case
) -> None:
    """Whoever calls and whenever, and whatever jurors do meanwhile; as a plain list says."""
    block = court.mine(case, b"a value", 0)
    expected = expected_places([1] * JURORS, set(), seed_of(case, block.prevrandao, 0), 3)
    with boa.env.anchor():
        disputes.draw(case.abi_tuple(), block.header)
        assert court.jury(case) == expected
    leaf = expected[0][0]
    juror = court.jurors[CAPABILITY][leaf]
    disputes.resign(juror.owner, CAPABILITY, sender=juror.owner)
    court.juror("late comer", 9)
    go_to(court.standing(case)[2])
    disputes.draw(case.abi_tuple(), block.header)
    assert court.jury(case) == expected


def test_draw__twice__reverts(court: Court, case: Case) -> None:
    court.draw(case)
    with boa.reverts("court: already drawn"):
        court.draw(case)


def test_draw__last_second__exact(court: Court, disputes: Contract, case: Case) -> None:
    end = court.standing(case)[2]
    block = court.mine(case, b"", 0)
    go_to(end + 1)
    with boa.reverts("court: not the time"):
        disputes.draw(case.abi_tuple(), block.header)
    go_to(end)
    disputes.draw(case.abi_tuple(), block.header)


def test_calls__another_case__revert(court: Court, disputes: Contract, case: Case) -> None:
    false = (case.job, address_of("stranger"), *case.abi_tuple()[2:])
    with boa.reverts("court: not the case"):
        disputes.draw(false, b"")
    with boa.reverts("court: not the case"):
        disputes.commit(false, 0, bytes(32))
    with boa.reverts("court: not the case"):
        disputes.reveal(false, 0, RIGHT, bytes(32), bytes(32))
    with boa.reverts("court: not the case"):
        disputes.redraw(false)
    with boa.reverts("court: not the case"):
        court.client.close(false)
    with boa.reverts("court: no such dispute"):
        disputes.draw((bytes(32), *case.abi_tuple()[1:]), b"")


# ------------------------------------------------------------------------- voting


def test_vote__all_right__the_provider_wins_at_once(
    court: Court, disputes: Contract, drawn: Case, accused: Provider
) -> None:
    court.vote(drawn, [RIGHT] * 3)
    ended = now()
    assert court.standing(drawn) == (0, RULED, ended - 1 + court.p.appeal_time, RIGHT)
    pays = payouts(court, drawn, range(3))
    wait(court, drawn)
    assert court.standing(drawn) == (0, FINAL, 0, RIGHT)
    fee = court.fee(drawn)
    won, to_tenant, to_provider, paid = court.close(drawn)
    assert (won, to_provider) == (False, 0)
    assert sorted(paid) == [(account, fee) for account in pays]
    assert to_tenant == court.bond(drawn) - 3 * fee
    with boa.reverts("court: no such dispute"):
        court.client.close(drawn.abi_tuple())


def test_vote__two_wrong_alike__the_tenant_wins__the_third_loses_a_little(
    court: Court, drawn: Case, disputes: Contract
) -> None:
    court.vote(drawn, [(WRONG, OTHER_MANIFEST), RIGHT, (WRONG, OTHER_MANIFEST)])
    assert court.standing(drawn)[3] == WRONG
    losing, paid = court.who(drawn, 1), payouts(court, drawn, (0, 2))
    wait(court, drawn)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert (won, to_provider) == (True, 0)
    assert sorted(pays) == [(account, court.fee(drawn)) for account in paid]
    assert to_tenant == court.bond(drawn) - 2 * court.fee(drawn)
    assert locked(court, losing) == court.p.seat - court.small(drawn)


def test_vote__wrong_in_different_ways__undecided__nobody_is_fined(
    court: Court, drawn: Case
) -> None:
    """A job that never comes out the same does not justify robbing its provider."""
    court.vote(drawn, [(WRONG, b"a"), (WRONG, b"b"), RIGHT])
    assert court.standing(drawn)[3] == UNDECIDED
    jurors = [court.who(drawn, place) for place in range(3)]
    wait(court, drawn)
    won, to_tenant, _, pays = court.close(drawn)
    assert not won
    # Half a fee, so that two votes of nothing never earn more than one that was worked for.
    assert [amount for _, amount in pays] == [court.fee(drawn) // 2] * 3
    assert to_tenant == court.bond(drawn) - 3 * (court.fee(drawn) // 2)
    assert [locked(court, juror) for juror in jurors] == [court.p.seat] * 3


def test_vote__two_of_three_withheld__the_tenant_wins__who_was_served_loses_nothing(
    court: Court, drawn: Case
) -> None:
    court.vote(drawn, [WITHHELD, RIGHT, WITHHELD])
    assert court.standing(drawn)[3] == WITHHELD
    jurors = [court.who(drawn, place) for place in range(3)]
    wait(court, drawn)
    won, _, _, pays = court.close(drawn)
    assert won
    assert [amount for _, amount in pays] == [court.p.attendance] * 3
    assert [locked(court, juror) for juror in jurors] == [court.p.seat] * 3


def test_vote__served_to_friends_alone__does_not_win(court: Court, drawn: Case) -> None:
    """Where jurors need the provider's bytes: half of the votes are RIGHT, the others got none."""
    court.vote(drawn, [RIGHT, WITHHELD, (WRONG, OTHER_MANIFEST)])
    assert court.standing(drawn)[3] == WITHHELD


def test_vote__one_withheld__the_others_decide__it_costs_nothing(court: Court, drawn: Case) -> None:
    court.vote(drawn, [WITHHELD, RIGHT, RIGHT])
    assert court.standing(drawn)[3] == RIGHT
    abstaining = court.who(drawn, 0)
    wait(court, drawn)
    _, _, _, pays = court.close(drawn)
    assert [amount for _, amount in pays] == [court.fee(drawn)] * 2
    assert locked(court, abstaining) == court.p.seat


def test_vote__a_silent_juror__loses_most(court: Court, drawn: Case, disputes: Contract) -> None:
    court.vote(drawn, [RIGHT, None, RIGHT])
    silent = court.who(drawn, 1)
    wait(court, drawn)
    court.close(drawn)
    assert locked(court, silent) == court.p.seat - court.big(drawn)


def test_vote__committed_and_not_revealed__is_silent(
    court: Court, drawn: Case, disputes: Contract
) -> None:
    for place in range(3):
        court.commit(drawn, place, RIGHT)
    court.reveal(drawn, 0, RIGHT)
    court.reveal(drawn, 2, RIGHT)
    hidden = court.who(drawn, 1)
    wait(court, drawn)
    assert court.standing(drawn)[1:] == (RULED, now() - 1 + court.p.appeal_time, RIGHT)
    wait(court, drawn)
    court.close(drawn)
    assert locked(court, hidden) == court.p.seat - court.big(drawn)


def test_vote__all_silent__no_ruling_and_all_fined(court: Court, drawn: Case) -> None:
    jurors = [court.who(drawn, place) for place in range(3)]
    end = court.standing(drawn)[2]
    go_to(end + 1)
    # Nobody has committed, so there is nothing to wait for.
    assert court.standing(drawn) == (0, FAILED, end + court.p.redraw_time, NO_RULING)
    wait(court, drawn)
    won, to_tenant, to_provider, pays = court.close(drawn)
    assert (won, to_tenant, to_provider, pays) == (False, court.bond(drawn), 0, [])
    assert [locked(court, j) for j in jurors] == [court.p.seat - court.big(drawn)] * 3


def test_commit__by_the_jurors_operator_alone__once(
    court: Court, disputes: Contract, drawn: Case, stranger: str
) -> None:
    juror = court.who(drawn, 0)
    digest = commitment(drawn, 0, juror, RIGHT)
    for sender in (stranger, juror.owner, court.who(drawn, 1).operator.address):
        with boa.reverts("court: not the juror's operator"):
            disputes.commit(drawn.abi_tuple(), 0, digest, sender=sender)
    court.commit(drawn, 0, RIGHT)
    with boa.reverts("court: has committed"):
        court.commit(drawn, 0, RIGHT)
    with boa.reverts("court: no such place"):
        disputes.commit(drawn.abi_tuple(), 3, digest, sender=juror.operator.address)


def test_commit__last_second__exact(court: Court, drawn: Case) -> None:
    end = court.standing(drawn)[2]
    go_to(end)
    court.commit(drawn, 0, RIGHT)
    go_to(end + 1)
    with boa.reverts("court: not the time"):
        court.commit(drawn, 1, RIGHT)


def test_commit__before_the_draw__reverts(
    court: Court, disputes: Contract, case: Case, stranger: str
) -> None:
    with boa.reverts("court: not the time"):
        disputes.commit(case.abi_tuple(), 0, bytes(32), sender=stranger)


def test_reveal__while_others_can_commit__reverts(court: Court, drawn: Case) -> None:
    """Else who commits last would see what the others have shown."""
    court.commit(drawn, 0, RIGHT)
    with boa.reverts("court: not the time"):
        court.reveal(drawn, 0, RIGHT)


def test_reveal__last_second__exact(court: Court, drawn: Case) -> None:
    court.commit(drawn, 0, RIGHT)
    court.commit(drawn, 1, RIGHT)
    wait(court, drawn)
    end = court.standing(drawn)[2]
    assert court.standing(drawn)[1] == REVEALING
    go_to(end)
    court.reveal(drawn, 0, RIGHT)
    go_to(end + 1)
    with boa.reverts("court: not the time"):
        court.reveal(drawn, 1, RIGHT)


def test_reveal__when_all_have_committed__ends_after_the_reveal_time(
    court: Court, drawn: Case
) -> None:
    for place in range(3):
        court.commit(drawn, place, RIGHT)
    end = now() + court.p.reveal_time
    assert court.standing(drawn)[1:3] == (REVEALING, end)
    go_to(end)
    court.reveal(drawn, 0, RIGHT)
    go_to(end + 1)
    with boa.reverts("court: not the time"):
        court.reveal(drawn, 1, RIGHT)


def test_reveal__by_anyone_who_knows__once(
    court: Court, disputes: Contract, drawn: Case, stranger: str
) -> None:
    for place in range(3):
        court.commit(drawn, place, RIGHT)
    juror = court.who(drawn, 0)
    call = (drawn.abi_tuple(), 0, RIGHT, seal_of(MANIFEST, 0), salt_of(drawn, 0, juror))
    disputes.reveal(*call, sender=stranger)
    assert event(disputes, "Revealed") == {
        "job": drawn.job,
        "juror": juror.owner,
        "round": 0,
        "kind": RIGHT,
        "seal": seal_of(MANIFEST, 0),
    }
    with boa.reverts("court: nothing to reveal"):
        disputes.reveal(*call, sender=stranger)


def test_reveal__nothing_committed_or_no_place__reverts(
    court: Court, disputes: Contract, drawn: Case
) -> None:
    court.commit(drawn, 0, RIGHT)
    wait(court, drawn)
    for place in (1, 3, 2**255):
        with boa.reverts("court: nothing to reveal"):
            disputes.reveal(drawn.abi_tuple(), place, RIGHT, bytes(32), bytes(32))


@pytest.mark.parametrize(
    ("kind", "manifest"), [(WRONG, MANIFEST), (RIGHT, OTHER_MANIFEST), (WITHHELD, MANIFEST)]
)
def test_reveal__another_vote_than_committed__reverts(
    court: Court, drawn: Case, kind: int, manifest: bytes
) -> None:
    for place in range(3):
        court.commit(drawn, place, RIGHT)
    with boa.reverts("court: not what was committed"):
        court.reveal(drawn, 0, kind, manifest)


def test_reveal__a_copied_commitment__opens_to_nothing(
    court: Court, disputes: Contract, drawn: Case
) -> None:
    """The seal in the commitment is worth nothing to another juror: it is bound to its juror."""
    first, copier = court.who(drawn, 0), court.who(drawn, 1)
    digest = commitment(drawn, 0, first, RIGHT)
    disputes.commit(drawn.abi_tuple(), 0, digest, sender=first.operator.address)
    disputes.commit(drawn.abi_tuple(), 1, digest, sender=copier.operator.address)
    court.commit(drawn, 2, RIGHT)
    court.reveal(drawn, 0, RIGHT)
    with boa.reverts("court: not what was committed"):
        disputes.reveal(drawn.abi_tuple(), 1, RIGHT, seal_of(MANIFEST, 0), salt_of(drawn, 0, first))


def test_reveal__right_without_the_bytes__reverts(court: Court, drawn: Case) -> None:
    """What the chain shows of the result is not enough to vote for it."""
    court.commit(drawn, 0, RIGHT, OTHER_MANIFEST)
    wait(court, drawn)
    with boa.reverts("court: not the result's seal"):
        court.reveal(drawn, 0, RIGHT, OTHER_MANIFEST)


def test_reveal__unknown_kind__reverts(court: Court, disputes: Contract, drawn: Case) -> None:
    for place, kind in ((0, 0), (1, 4), (2, 2**255)):
        court.commit(drawn, place, kind)
    for place, kind in ((0, 0), (1, 4), (2, 2**255)):
        with boa.reverts("court: unknown vote"):
            court.reveal(drawn, place, kind)


def test_reveal__withheld_with_a_seal__reverts(
    court: Court, disputes: Contract, drawn: Case
) -> None:
    juror, salt = court.who(drawn, 0), bytes(32)
    kinds = ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"]
    digest = keccak(encode(kinds, [drawn.job, 0, juror.owner, WITHHELD, b"\x01" * 32, salt]))
    disputes.commit(drawn.abi_tuple(), 0, digest, sender=juror.operator.address)
    wait(court, drawn)
    with boa.reverts("court: seal of nothing"):
        disputes.reveal(drawn.abi_tuple(), 0, WITHHELD, b"\x01" * 32, salt)


def test_vote__drawn_twice__commits_once_and_counts_twice(
    court: Court, disputes: Contract, case: Case
) -> None:
    for number in range(200):
        with boa.env.anchor():
            jury = court.draw(case, b"%d" % number)
        if sorted(votes for _, votes in jury) == [1, 2]:
            break
    jury = court.draw(case, b"%d" % number)
    votes = [(WRONG, OTHER_MANIFEST) if count == 2 else RIGHT for _, count in jury]
    court.vote(case, votes)
    assert court.standing(case)[3] == WRONG
    heavy = [count for _, count in jury].index(2)
    accounts = {place: court.who(case, place).payout for place in range(2)}
    light = court.who(case, 1 - heavy)
    wait(court, case)
    won, _, _, pays = court.close(case)
    assert won
    assert pays == [(accounts[heavy], 2 * court.fee(case))]
    assert locked(court, light) == court.p.seat - court.small(case)
