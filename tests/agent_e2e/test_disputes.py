# SPDX-License-Identifier: Apache-2.0
"""Disputes with real agents on both sides: right rulings, whoever lies, is away or is killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from teraproof.client.jobs import AgentClient
from teraproof.courts.docket import Phase
from teraproof.courts.votes import Opinion, Ruling, Vote, commitment
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Status
from tests.agent_e2e.courtroom import CAPABILITY, COURT, KEY, SEAT, SEATS, Courtroom, courtroom
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.world import World
from tests.support.codes import fails_as

APPEAL_PANEL = 9  # of the plan for a local chain
SEATS_HELD = json.dumps({str(CAPABILITY): SEATS})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Courtroom]:
    with courtroom(tmp_path_factory.mktemp("court"), nursery) as made:
        yield made


@pytest.fixture
def room(built: Courtroom) -> Iterator[Courtroom]:
    """The same court for each test, with nobody at work."""
    settings = [juror.settings for juror in built.jurors]
    yield built
    built.provider.close()
    for juror, before in zip(built.jurors, settings, strict=True):
        juror.kill_agent()
        juror.settings = before
    built.jump(2 * COURT["period"])


def several(votes: Sequence[int]) -> bool:
    """Two jurors at least, one of them with a single vote that the others do not need."""
    return len(votes) > 1 and 1 in votes


def is_dead(world: World) -> bool:
    assert world.process is not None
    return world.process.poll() is not None


def is_ruled(room: Courtroom, case: Case) -> bool:
    return room.look(case).phase is Phase.RULED


def alone(votes: Sequence[int]) -> bool:
    return len(votes) == 1


def sent(world: World) -> Counter[str]:
    """What the operator of a world has done in the court, by the first word of its intents."""
    rows = world.rows(
        "SELECT action FROM intents WHERE contract IN ('disputes', 'court') AND status = 1"
    )
    return Counter(str(row[0]).partition("#")[0] for row in rows)


def asked(jurors: Sequence[World]) -> int:
    """How often these have asked for a second jury, as far as the chain has it."""
    return sum(sent(one)["redraw"] for one in jurors)


def test_juror_by_its_settings__takes_seats__and_gives_them_up(room: Courtroom) -> None:
    capability = str(CAPABILITY)
    juror = room.world("newcomer", room.honest, seats=json.dumps({capability: 2}))
    room.provider = juror
    leaf = partial(room.deployment.disputes.read, "leaf_of", juror.owner.address, KEY)
    juror.fork_agent(room.nursery)
    with room.going():
        juror.until(lambda: leaf() or None, "a leaf of its own", 30)
        word = int(room.deployment.disputes.read("juror_of", KEY, leaf()))
        assert word >> 160 & (2**32 - 1) == 2 and room.locked(juror) == 2 * SEAT
        assert juror.stop_agent() == 0
        juror.settings = {
            **juror.settings,
            "TERAPROOF_DISPUTES__SEATS": json.dumps({capability: 0}),
        }
        juror.fork_agent(room.nursery)
        word_of = partial(room.deployment.disputes.read, "juror_of", KEY, leaf())
        juror.until(lambda: not int(word_of()) >> 160 & (2**32 - 1), "its seats to go", 30)


def test_tenant_lies__the_result_stands_and_all_are_paid(room: Courtroom) -> None:
    job = room.accuse(room.honest)
    case = room.dispute(job)
    jury = room.draw(case, several)
    before = {one.owner.address: room.credit(one.owner.address) for one in jury}
    fee = room.look(case).costs.fee
    votes = {place.juror: place.votes for place in room.look(case).current.places}
    room.seat(jury)
    with room.going():
        found = room.wait(case, Phase.RULED, Phase.FINAL)
        assert found.ruling is Ruling.RIGHT, [one.log() for one in jury]
        room.pass_over(case)
        # The provider's own agent carries it out.
        job.wait(Status.SETTLED, seconds=60)
        room.provider.until(lambda: sent(room.provider)["conclude"], "its own transaction", 30)
    for one in jury:
        address = one.owner.address
        assert room.credit(address) - before[address] == votes[address] * fee


def test_liar_by_one_byte__convicted__though_a_juror_is_away(room: Courtroom) -> None:
    job = room.accuse(room.lying, appeal_up_to="0")
    case = room.dispute(job)
    jury = room.draw(case, several)
    places = room.look(case).current.places
    away = next(room.juror(place.juror) for place in places if place.votes == 1)
    here = [one for one in jury if one is not away]
    locks = {one.owner.address: room.locked(one) for one in jury}
    room.seat(here)
    with room.going():
        room.provider.until(
            lambda: (
                sum(place.has_committed for place in room.look(case).current.places) == len(here)
            ),
            "commits",
            60,
        )
        room.pass_over(case)
        found = room.wait(case, Phase.RULED, Phase.FINAL)
        assert found.ruling is Ruling.WRONG
        room.pass_over(case)
        # A juror carries it out: its fee comes of it.
        job.wait(Status.REFUNDED, seconds=90)
    assert room.locked(away) < locks[away.owner.address]
    assert all(room.locked(one) == locks[one.owner.address] for one in here)
    lock = room.deployment.staking.read("lock_of", room.jobs.address, case.provider, job.id)
    assert lock[0] == 0, "its collateral is gone"


def test_wrong_jury__the_provider_appeals_and_wins(room: Courtroom) -> None:
    job = room.accuse(room.honest)
    operator = room.provider.operator.address
    room.deployment.payment.send(room.deployment.stranger, "mint", operator, 10**9)
    case = room.dispute(job)
    jury = room.draw(case, alone)
    by_hand(room, case, Opinion(Vote.WRONG, b"\1" * 32))
    found = room.look(case)
    assert (found.phase, found.ruling) == (Phase.RULED, Ruling.WRONG)

    def appealed() -> bool:
        return room.look(case).current.number == 2

    # The block that draws the next jury must still be to come.
    with room.going(until=appealed):
        room.provider.until(appealed, "an appeal of the provider's agent", 60)
    # It would draw as well. The jury is to have a quorum: votes of those that sat are nobody's.
    room.provider.kill_agent()
    others = room.draw(case, lambda votes: sum(votes) > APPEAL_PANEL // 2)
    assert not set(map(id, others)) & set(map(id, jury))
    room.seat([*others, room.provider])
    with room.going():
        assert room.wait(case, Phase.FINAL).ruling is Ruling.RIGHT
        job.wait(Status.SETTLED, seconds=60)
    assert sent(room.provider)["appeal"] == 1


def by_hand(room: Courtroom, case: Case, opinion: Opinion) -> None:
    """Vote for a whole jury without agents, and let these know that it was their owner."""
    found = room.look(case)
    places, number, salt = found.current.places, found.current.number, b"\7" * 32
    for place in places:
        digest = commitment(case.job, number, place.juror, opinion, salt)
        operator = room.juror(place.juror).operator
        room.deployment.disputes.send(operator, "commit", case.abi_tuple(), place.number, digest)
    for place in places:
        opened = (place.number, int(opinion.vote), opinion.seal, salt)
        room.deployment.disputes.send(room.deployment.stranger, "reveal", case.abi_tuple(), *opened)
    for place in places:
        room.juror(place.juror).own_up(room.nursery)


def test_provider_is_away__withheld_and_nobody_is_fined(room: Courtroom) -> None:
    job = room.accuse(room.honest)
    case = room.dispute(job)
    jury = room.draw(case, alone)
    room.provider.kill_agent()
    locks = {one.owner.address: room.locked(one) for one in jury}
    room.seat(jury)
    with room.going():
        room.provider.until(lambda: "judging" in note(jury[0]), "try to fetch", 30)
        left = room.look(case).until - room.anvil.timestamp()
        room.jump(left - COURT["commit_time"] // 5)
        found = room.wait(case, Phase.RULED, Phase.FINAL)
        assert found.ruling is Ruling.WITHHELD
        room.pass_over(case)
        job.wait(Status.REFUNDED, seconds=90)
    assert all(room.locked(one) == locks[one.owner.address] for one in jury)


def note(world: World) -> str:
    return " ".join(str(row[0]) for row in world.rows("SELECT note FROM judged_orders"))


def test_evidence_of_the_tenant__its_jurors_agent_has_it(room: Courtroom) -> None:
    job = room.accuse(room.lying, appeal_up_to="0")
    said = b"the answer should be 42"
    case = room.dispute(job, said)
    (juror,) = room.draw(case, alone)
    room.provider.kill_agent()  # until it serves the inputs, no vote ends the time for evidence
    room.seat([juror])
    with room.going():
        room.hand_over(case, juror, said)
        file = juror.directory / "agent" / "data" / "juror" / case.job.hex() / "evidence"
        assert file.read_bytes() == said
        client = AgentClient(f"http://127.0.0.1:{juror.api_port}", room.provider.operator)
        with client, fails_as(Code.NOT_DRAWN):
            client.give_evidence(case.job, said)
        room.seat([room.provider])
        assert room.wait(case, Phase.RULED, Phase.FINAL).ruling is Ruling.WRONG


def test_first_jury_is_silent__the_agents_of_others_ask_for_a_second_one(room: Courtroom) -> None:
    job = room.accuse(room.lying, appeal_up_to="0")
    case = room.dispute(job)
    silent = room.draw(case, alone)
    while room.look(case).phase is not Phase.FAILED:
        room.pass_over(case)
    others = [one for one in room.jurors if one not in silent]
    for one in others:
        one.settings = {**one.settings, "TERAPROOF_DISPUTES__SEATS": SEATS_HELD}
    room.seat(others)
    left = room.look(case).until - room.anvil.timestamp()
    room.jump(left - COURT["redraw_time"] // 2)
    with room.going():
        room.provider.until(lambda: room.look(case).current.number == 1, "a second jury", 60)
        count = partial(asked, others)
        room.provider.until(lambda: count() or None, "the transaction of a juror's agent", 30)
        assert count() == 1


def test_reorg_between_commit_and_reveal__the_same_vote_again(room: Courtroom) -> None:
    job = room.accuse(room.honest)
    case = room.dispute(job)
    (juror,) = room.draw(case, alone)
    room.seat([juror])
    with room.going():
        room.wait(case, Phase.REVEALING)
    kept = room.look(case).current.places[0].kept
    room.anvil.reorg(2)
    assert room.look(case).phase is Phase.COMMITTING
    with room.going():
        room.provider.until(lambda: room.look(case).phase is Phase.REVEALING, "commit", 60)
        assert room.look(case).current.places[0].kept == kept
        assert room.wait(case, Phase.RULED).ruling is Ruling.RIGHT
    room.pass_over(case)
    with room.going():
        job.wait(Status.SETTLED, seconds=60)


def test_kill_at_every_step_of_a_juror__one_vote(
    room: Courtroom, tmp_path: Path, nursery: Nursery
) -> None:
    job = room.accuse(room.honest)
    case = room.dispute(job)
    (juror,) = room.draw(case, alone)
    diary, lives = tmp_path / "diary", 0
    failed = partial(room.deployment.sent_by, juror.operator.address)
    before = failed()["other", False]  # two agents may have asked for one jury
    with room.going():
        while not is_ruled(room, case) and lives < 150:
            juror.fork_agent(nursery, die_at="each", diary=str(diary))
            juror.until(lambda: is_dead(juror) or is_ruled(room, case), "death", 60)
            juror.kill_agent()
            lives += 1
    assert room.look(case).ruling is Ruling.RIGHT, (lives, room.look(case), juror.log())
    points = set(diary.read_text().split())
    steps = {"juror.own.after", "juror.finding.after", "vote.kept.before", "vote.kept.after"}
    steps |= {"commit-0.signed.after", "commit-0.sent.before", "reveal-0.sent.before"}
    assert steps <= points
    assert lives > 10
    assert failed()["other", False] == before
    room.pass_over(case)
    with room.going():
        job.wait(Status.SETTLED, seconds=60)
