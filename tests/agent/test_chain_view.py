# SPDX-License-Identifier: Apache-2.0
"""How long what was read from the chain is good, and what makes it be read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from unittest import mock

import pytest

from provider_agent.core.capacity import Capacity
from provider_agent.core.standing import Provider, Standing
from provider_agent.modules.jobs.chain_view import ChainView
from provider_agent.modules.jobs.windows import Windows
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.staking import StakingContract
from teraproof.protocol.terms import Record, Status
from teraproof.rpc.errors import BlockUnknown
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OPERATOR, OWNER, TPF, PlainChain
from tests.agent.duty_rig import Rig

JOB, OTHER_JOB = b"\1" * 32, b"\2" * 32


def block(number: int, fork: int = 0) -> BlockRef:
    return BlockRef(number, bytes([fork]) * 28 + number.to_bytes(4, "big"), 1000 + 12 * number)


@dataclass
class Counted(PlainChain):
    """Counts what is asked; its blocks are those of `forked` above that number."""

    forked: int | None = None
    asked: list[str] = field(default_factory=list)

    def block(self, number: int) -> BlockRef:
        if number > 110:
            raise BlockUnknown("not yet")
        return block(number, int(self.forked is not None and number >= self.forked))

    def states(self, jobs: Sequence[bytes], at: BlockRef) -> tuple[int, ...]:
        self.asked.append("state")
        return super().states(jobs, at)

    def provider_of(self, operator: str, at: BlockRef) -> str:
        self.asked.append("provider_of")
        return super().provider_of(operator, at)

    def pool(self, owner: str, at: BlockRef) -> Any:
        self.asked.append("pool")
        return super().pool(owner, at)


class Desk:
    def __init__(self) -> None:
        self.now = 0.0
        self.chain = Counted(words={JOB: Status.OPEN, OTHER_JOB: Status.OPEN})
        self.entry = Standing(cast(StakingContract, self.chain), OPERATOR.address, lambda: self.now)
        capacity = mock.Mock(spec=Capacity, held_by_others=lambda *_: 0)
        self.view = ChainView(cast(JobsContract, self.chain), capacity, lambda: self.now)

    def at(self, number: int, fork: int = 0, seconds: float = 12.0) -> BlockRef:
        """The next pinned block."""
        self.now += seconds
        found = block(number, fork)
        self.view.begin(found)
        return found

    def look(self, at: BlockRef, *, news: bool = True) -> Provider | None:
        return self.entry.look(at, idle=not news)

    def asked(self, what: str) -> int:
        return self.chain.asked.count(what)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_word__chain_goes_on_and_no_news__read_once(desk: Desk) -> None:
    for number in range(100, 110):
        assert desk.view.word(JOB, desk.at(number)) == Status.OPEN
    assert desk.asked("state") == 1


def test_word__news__read_again(desk: Desk) -> None:
    desk.view.word(JOB, desk.at(100))
    desk.view.word(OTHER_JOB, desk.at(101))
    desk.chain.words[JOB] = Status.CANCELLED
    desk.view.forget(JOB)
    assert desk.view.word(JOB, desk.at(102)) == Status.CANCELLED
    desk.view.word(OTHER_JOB, desk.at(103))
    assert desk.asked("state") == 3


@pytest.mark.parametrize("forked", [95, 99, 100])
@pytest.mark.parametrize("number", [98, 100, 101, 105])
def test_word__last_block_left_the_chain__nothing_is_believed(
    desk: Desk, forked: int, number: int
) -> None:
    desk.view.word(JOB, desk.at(100))
    desk.look(block(100))
    desk.chain.forked = forked
    desk.chain.words[JOB] = Status.NONE
    desk.chain.locked = 7 * TPF
    now = desk.at(number, fork=int(number >= forked))
    assert desk.view.word(JOB, now) == Status.NONE
    standing = desk.look(now, news=False)
    assert standing is not None and standing.available == 493 * TPF


def test_word__chain_cut_back__nothing_is_believed(desk: Desk) -> None:
    desk.view.word(JOB, desk.at(100))
    desk.chain.words[JOB] = Status.NONE
    assert desk.view.word(JOB, desk.at(97)) == Status.NONE


def test_standing__no_news__few_reads(desk: Desk) -> None:
    for number in range(50, 110):  # 12 minutes
        assert desk.look(desk.at(number), news=False) is not None
    assert desk.asked("provider_of") <= 13
    assert desk.asked("pool") <= 21


def test_standing__a_job_of_ours_moved__locks_are_read_at_that_block(desk: Desk) -> None:
    desk.look(desk.at(100))
    desk.chain.locked = 450 * TPF
    now = desk.at(101)
    first = desk.look(now, news=True)
    assert first is not None and first.available == 50 * TPF
    desk.look(now, news=True)
    assert desk.asked("pool") == 2, "not twice at one block"


def test_standing__a_transaction_of_ours_was_mined__read_once_from_its_block_on(
    desk: Desk,
) -> None:
    """A proof raises the score: who asks for it must not wait until the next look by the clock."""
    first = desk.look(desk.at(100), news=False)
    desk.chain.locked = 450 * TPF
    early = desk.entry.look(desk.at(101, seconds=1), idle=True, last_mined=102)
    assert early is first, "it is not in the blocks that are looked at yet"
    seen = desk.entry.look(desk.at(103, seconds=1), idle=True, last_mined=102)
    assert seen is not None and seen is not first and seen.available == 50 * TPF
    assert desk.entry.look(desk.at(104, seconds=1), idle=True, last_mined=102) is seen
    assert desk.asked("pool") == 2


def test_standing__what_people_set__seen_within_two_minutes(desk: Desk) -> None:
    desk.look(desk.at(100))
    desk.view.standing(desk.at(101), desk.entry.provider)
    desk.chain.paused_until_, desk.chain.consent = 10**10, 9
    for number in range(102, 113):
        provider = desk.look(desk.at(number), news=False)
        found = desk.view.standing(block(number), provider)
    assert found is not None and found.orders_paused and found.consent == 9


@pytest.mark.parametrize("missing", ["provider", "operator", "stake"])
def test_standing__incomplete__looked_at_in_each_block(desk: Desk, missing: str) -> None:
    """An owner who registers or adds stake is served at once."""
    whole = {"provider": OWNER, "operator": OPERATOR.address, "stake": 1000 * TPF}
    none = "0x" + "00" * 20
    if missing == "provider":
        desk.chain.owner = none
    elif missing == "operator":
        desk.chain.operator_of = lambda owner, block: OWNER  # type: ignore[method-assign]  # another
    else:
        desk.chain.own_stake = 0
    desk.look(desk.at(100), news=False)
    desk.chain.owner, desk.chain.own_stake = str(whole["provider"]), 1000 * TPF
    desk.chain.operator_of = lambda owner, block: OPERATOR.address  # type: ignore[method-assign]  # ours
    found = desk.look(desk.at(101), news=False)
    assert found is not None and found.operator_is_ours and found.available == 500 * TPF


# ---------------------------------------------------------------------- windows


def attested(rig: Rig, at: int) -> bytes:
    """A job of ours whose attestation the chain shows."""
    terms = rig.post(rig.spec())
    rig.assign(terms)
    record = Record(OWNER, rig.block.timestamp, at, 0, bytes(32))
    rig.attest(terms, record, bytes(32), bytes(32))
    return terms.job_id()


def test_windows__each_job_at_its_time_and_not_before(tmp_path: Any) -> None:
    rig = Rig(tmp_path)
    windows, start = Windows(), rig.block.timestamp
    ids = [attested(rig, start + n) for n in range(5)]
    for job_id in ids:
        job = rig.records.job(job_id)
        assert job is not None
        windows.keep(job)
    ends = start + 3600
    assert windows.over(ends) == set()
    assert all(windows.rests(job_id, ends) for job_id in ids)
    assert windows.over(ends + 1) == {ids[0]}
    assert windows.over(ends + 3) == set(ids[:3])
    windows.drop(ids[1])
    assert windows.over(ends + 9) == {ids[0], *ids[2:]}


def test_windows__attested_again_after_a_reorg__the_new_end_counts(tmp_path: Any) -> None:
    rig = Rig(tmp_path)
    windows, start = Windows(), rig.block.timestamp
    job_id = attested(rig, start)
    job = rig.records.job(job_id)
    assert job is not None
    windows.load([job])
    assert windows.over(start + 3601) == {job_id}
    rig.records.update_job(job_id, attested_at=start + 100)
    job = rig.records.job(job_id)
    assert job is not None
    windows.keep(job)
    assert windows.over(start + 3601) == set()
    assert windows.over(start + 3701) == {job_id}


def test_many_jobs_in_their_windows__no_read_until_one_ends(tmp_path: Any) -> None:
    """As many as a day brings, and an agent that has just started."""
    rig = Rig(tmp_path)
    for _ in range(40):
        attested(rig, rig.block.timestamp)
    rig.cycle()
    rig.restart()
    rig.cycle()
    before = rig.chain.reads
    for _ in range(50):
        rig.next_block()
        rig.cycle()
    assert rig.chain.reads == before
    rig.next_block(3600)
    rig.cycle()
    assert rig.chain.reads == before + 1


def test_news_of_more_jobs_than_one_reading_holds__few_requests(
    tmp_path: Any,
) -> None:
    """Each word once; and what ends work of ours once more, as two endpoints have it."""
    rig = Rig(tmp_path)
    ids = [attested(rig, rig.block.timestamp) for _ in range(150)]
    rig.cycle()
    for job_id in ids[::2]:
        rig.chain.words[job_id] = Status.REFUSED
    rig.next_block()
    rig.duty.consume([], ids)
    before = rig.chain.reads
    rig.cycle()
    assert rig.chain.reads - before <= 2 * 3
    found = [Status(job.status) for job_id in ids if (job := rig.records.job(job_id))]
    assert found == [Status.REFUSED, Status.ATTESTED] * 75


def test_no_time_is_left_in_a_reading__the_rest_is_fresh_in_the_next_cycle(tmp_path: Any) -> None:
    rig = Rig(tmp_path)
    ids = [attested(rig, rig.block.timestamp) for _ in range(10)]
    rig.cycle()
    rig.next_block()
    rig.duty.consume([], ids)
    rig.duty.reconcile(rig.block, rig.standing.look(rig.block), lambda: 0.0)
    for job_id in ids:
        rig.chain.words[job_id] = Status.REFUSED
    rig.next_block()
    rig.cycle()
    found = [Status(job.status) for job_id in ids if (job := rig.records.job(job_id))]
    assert sorted(found) == [Status.ATTESTED] + [Status.REFUSED] * 9
