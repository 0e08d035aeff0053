# SPDX-License-Identifier: Apache-2.0
"""The SDK reads disputes as the contract has them, and casts votes that the contract takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import boa
import pytest
from eth.exceptions import Revert
from eth_account.signers.local import LocalAccount

from teraproof.contracts.disputes import DisputesContract
from teraproof.courts import docket, votes
from teraproof.courts.docket import Dispute, Phase, Place
from teraproof.courts.votes import Opinion, Ruling, Vote
from teraproof.protocol.messages import Domain
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import Reverted
from tests.contracts.actions import Provider, go_to
from tests.contracts.court import CAPABILITY, MANIFEST, Case, Court, seal_of
from tests.contracts.court_room import wait
from tests.contracts.deploy import Contract

PRESENT = 0  # a block's number, which the node does not look at
OTHER = b"the manifest of what comes out of it here"


class Node:
    """A node that knows the present state alone."""

    def eth_call(self, to: str, data: bytes, _block: object) -> bytes:
        try:
            return bytes(boa.env.raw_call(to, data=data).output)
        except Revert:
            raise Reverted("refused") from None


@pytest.fixture
def sdk(disputes: Contract) -> DisputesContract:
    return DisputesContract(cast(RpcPool, Node()), disputes.address)


def look(sdk: DisputesContract, case: Case) -> Dispute:
    found = docket.read(sdk, case, PRESENT)
    assert found is not None
    return found


def domain(disputes: Contract) -> Domain:
    return Domain(31_337, disputes.address)


def secret(court: Court, place: Place, case: Case, number: int) -> bytes:
    return votes.salt(key(court, place), domain(court.disputes), case.job, number)


def key(court: Court, place: Place) -> LocalAccount:
    return court.jurors[CAPABILITY][place.leaf].operator


def cast_all(sdk: DisputesContract, court: Court, case: Case, opinions: list[Opinion]) -> None:
    """Commit and reveal by what the SDK makes of it."""
    places = look(sdk, case).current.places
    number = look(sdk, case).current.number
    for place, opinion in zip(places, opinions, strict=True):
        digest = votes.commitment(
            case.job, number, place.juror, opinion, secret(court, place, case, number)
        )
        send(key(court, place).address, sdk, sdk.commit(case, place.number, digest))
    for place, opinion in zip(places, opinions, strict=True):
        opened = (int(opinion.vote), opinion.seal, secret(court, place, case, number))
        send(court.client.address, sdk, sdk.reveal(case, place.number, *opened))


def send(sender: str, sdk: DisputesContract, data: bytes) -> None:
    boa.env.raw_call(sdk.address, sender=sender, data=data)


def opinion(vote: Vote, number: int = 0, manifest: bytes = MANIFEST) -> Opinion:
    """As the rig of the court seals: there the manifest stands for job and provider as well."""
    return Opinion(vote) if vote is Vote.WITHHELD else Opinion(vote, seal_of(manifest, number))


# ------------------------------------------------------------------------- reading


def test_opened__waits_for_its_block(court: Court, case: Case, sdk: DisputesContract) -> None:
    found = look(sdk, case)
    assert found.phase is Phase.DRAWING and found.ruling is Ruling.NONE
    assert found.until == court.standing(case)[2]
    assert found.current.places == () and found.current.number == 0
    assert found.current.target == court.word(case, 0) >> 40 & (2**48 - 1)
    assert found.costs.fee == court.fee(case)
    assert found.costs.dispute_bond == court.bond(case)


def test_drawn__each_place_names_its_juror(
    court: Court, drawn: Case, sdk: DisputesContract
) -> None:
    found = look(sdk, drawn)
    assert found.phase is Phase.COMMITTING
    seats = [(place.leaf, place.votes) for place in found.current.places]
    assert seats == court.jury(drawn)
    for place in found.current.places:
        juror = court.jurors[CAPABILITY][place.leaf]
        assert place.juror == juror.owner
        assert found.current.of(juror.owner) == place
        assert not place.has_committed and place.vote is None
    assert found.current.of(court.client.address) is None


def test_votes_of_all_kinds__taken_and_read_back(
    court: Court, drawn: Case, sdk: DisputesContract
) -> None:
    cast_all(
        sdk,
        court,
        drawn,
        [opinion(Vote.RIGHT), opinion(Vote.WRONG, 0, OTHER), opinion(Vote.WITHHELD)],
    )
    places = look(sdk, drawn).current.places
    assert [place.vote for place in places] == [Vote.RIGHT, Vote.WRONG, Vote.WITHHELD]
    assert all(place.has_committed for place in places)


@pytest.mark.parametrize(
    "vote, for_requester", [(Vote.RIGHT, False), (Vote.WRONG, True), (Vote.WITHHELD, True)]
)
def test_ruling_and_loser(
    court: Court, drawn: Case, sdk: DisputesContract, vote: Vote, for_requester: bool
) -> None:
    cast_all(sdk, court, drawn, [opinion(vote, 0, MANIFEST if vote is Vote.RIGHT else OTHER)] * 3)
    found = look(sdk, drawn)
    assert found.phase is Phase.RULED and found.ruling == int(vote)
    assert found.ruling.is_for_requester is for_requester
    assert found.loser() == (drawn.provider if for_requester else drawn.requester)


def test_appeal__three_rounds_of_seals(
    court: Court, drawn: Case, sdk: DisputesContract, tenant: str
) -> None:
    cast_all(sdk, court, drawn, [opinion(Vote.RIGHT)] * 3)
    court.client.appeal(drawn.abi_tuple(), sender=tenant)
    court.spread(drawn, 2)
    found = look(sdk, drawn)
    assert [round.number for round in found.rounds] == [0, 2]
    assert found.ruling is Ruling.RIGHT and found.phase is Phase.COMMITTING
    cast_all(sdk, court, drawn, [opinion(Vote.RIGHT, 2)] * court.p.appeal_panel)
    assert look(sdk, drawn).phase is Phase.FINAL


def test_no_quorum__who_can_ask_for_a_larger_jury(
    court: Court, drawn: Case, sdk: DisputesContract, tenant: str
) -> None:
    wait(court, drawn)
    found = look(sdk, drawn)
    assert found.phase is Phase.FAILED
    half = found.until - court.p.redraw_time // 2
    anyone = court.client.address
    for account, now, can in [
        (tenant, half, True),
        (anyone, half, False),
        (anyone, half + 1, True),
        (tenant, found.until + 1, False),
    ]:
        assert found.can_redraw(account, now, court.p.redraw_time) is can
        with boa.env.anchor():
            go_to(now)
            if can:
                court.disputes.redraw(drawn.abi_tuple(), sender=account)
            else:
                with pytest.raises(boa.BoaError):
                    court.disputes.redraw(drawn.abi_tuple(), sender=account)


def test_another_case__none(drawn: Case, sdk: DisputesContract) -> None:
    other = replace(drawn, duration=drawn.duration + 1)
    assert docket.read(sdk, other, PRESENT) is None


def test_member(court: Court, sdk: DisputesContract, accused: Provider) -> None:
    leaf, juror = next(iter(court.jurors[CAPABILITY].items()))
    found = docket.member(sdk, juror.owner, CAPABILITY, "latest")
    assert found is not None
    assert (found.owner, found.seats, found.last_period, found.went) == court.member(leaf)
    assert docket.member(sdk, accused.owner, CAPABILITY, "latest") is None


# --------------------------------------------------------------------------- votes


def test_lost_notes__the_chain_and_the_key_tell_the_vote(
    court: Court, drawn: Case, sdk: DisputesContract
) -> None:
    candidates = [opinion(Vote.RIGHT), opinion(Vote.WRONG, 0, OTHER), opinion(Vote.WITHHELD)]
    for place, given in zip(look(sdk, drawn).current.places, candidates, strict=True):
        salt = secret(court, place, drawn, 0)
        digest = votes.commitment(drawn.job, 0, place.juror, given, salt)
        send(
            key(court, place).address,
            sdk,
            sdk.commit(drawn, place.number, digest),
        )
        kept = look(sdk, drawn).current.places[place.number].kept
        assert votes.committed(drawn.job, 0, place.juror, salt, kept, candidates) == given
        assert votes.committed(drawn.job, 0, place.juror, salt, kept, []) is None


def test_salt__the_same_each_time__another_for_each_key_round_and_dispute(
    court: Court, drawn: Case
) -> None:
    one, other = (p.operator for p in list(court.jurors[CAPABILITY].values())[:2])
    where = domain(court.disputes)
    made: list[Any] = [(one, drawn.job, 0), (other, drawn.job, 0), (one, drawn.job, 1)]
    made.append((one, bytes(32), 0))
    salts = [votes.salt(account, where, job, number) for account, job, number in made]
    assert len(set(salts)) == 4
    assert votes.salt(one, where, drawn.job, 0) == salts[0]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_seal_of_a_round__is_attested_as_the_result(case: Case, number: int) -> None:
    assert votes.attested(opinion(Vote.RIGHT, number).seal, number) == case.result


def test_seal_that_does_not_fit_its_vote__refused() -> None:
    with pytest.raises(ValueError, match="shows"):
        Opinion(Vote.RIGHT)
    with pytest.raises(ValueError, match="shows"):
        Opinion(Vote.WITHHELD, b"\1" * 32)
