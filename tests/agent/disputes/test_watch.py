# SPDX-License-Identifier: Apache-2.0
"""Anybody may open disputes: those of others cost a cycle little, and never keep us from ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teraproof.contracts.disputes import Committed, Drawn, Enlisted, Opened, Revealed
from teraproof.contracts.jobs import Posted
from teraproof.courts.docket import Phase
from teraproof.protocol.dispute import Case
from tests.agent.disputes.court import COMMIT, JURORS
from tests.agent.disputes.duty_rig import JOB, LOG, NOW, TERMS, Rig
from tests.agent.duty_parts import OTHER, OWNER, TENANT

MANY = 100
ELSEWHERE = b"\xcc" * 32
OURS = 1  # our leaf


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A juror; its own first dispute is over."""
    made = Rig(tmp_path)
    made.court.standing = (0, int(Phase.COMMITTING), NOW + COMMIT, 0)
    made.sit(2, 3)
    made.court.elsewhere = {ELSEWHERE}
    return made


def opened(rig: Rig, count: int, start: int = 0, **changes: Any) -> list[Case]:
    """Disputes of strangers that begin now."""
    cases = []
    for n in range(start, start + count):
        terms = replace(TERMS, posted_at=TERMS.posted_at - n - 1)
        case = replace(rig.case, job=terms.job_id(), **changes)
        opening = Opened(LOG, case.job, case.provider, case.requester, case, 50)
        rig.duty.consume([Posted(LOG, case.job, TENANT, terms), opening], [])
        cases.append(case)
    return cases


def reads(rig: Rig, cycles: int = 1) -> int:
    before = rig.court.reads
    for _ in range(cycles):
        rig.cycle()
    return rig.court.reads - before


def test_capabilities_of_which_we_have_no_seats__never_read(rig: Rig) -> None:
    rig.cycle()
    quiet = reads(rig)
    opened(rig, MANY, capability=ELSEWHERE)
    assert reads(rig) <= quiet + 1, "whether we have seats there, once"
    assert reads(rig, 5) <= 5 * quiet
    assert rig.duty.is_idle


def test_disputes_where_we_do_not_sit__a_few_in_a_cycle__all_in_the_end(rig: Rig) -> None:
    rig.cycle()
    one = reads_of_one(rig)
    opened(rig, MANY)
    assert reads(rig) <= 10 * one
    reads(rig, MANY)
    assert rig.duty.is_idle, "each was read"
    assert reads(rig, 5) == 0, "and none is read again without news"


def reads_of_one(rig: Rig) -> int:
    opened(rig, 1, start=10_000)
    return max(1, reads(rig))


def test_others_vote__nothing_is_read(rig: Rig) -> None:
    cases = opened(rig, 5)
    reads(rig, 5)
    juror = JURORS[0].address
    for case in cases:
        votes = [
            Committed(LOG, case.job, juror, 0),
            Revealed(LOG, case.job, juror, 0, 1, bytes(32)),
        ]
        rig.duty.consume(votes, [])
    assert reads(rig, 3) == 0 and rig.duty.is_idle


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_drawn_among_many__judged_in_the_next_cycle(rig: Rig, known: bool) -> None:
    rig.cycle()
    opened(rig, MANY)
    mine = opened(rig, 1, start=MANY)[0]
    if known:
        reads(rig, MANY)
    opened(rig, MANY, start=2 * MANY)
    rig.duty.consume([Drawn(LOG, mine.job, 0, (OURS | 1 << 27, 2 | 2 << 27))], [])
    rig.sit(OURS, 2)
    rig.cycle()
    assert mine.job in {task.case.job for task in rig.bench.asked}


def test_result_of_ours_among_many__served_in_the_first_cycle(tmp_path: Path) -> None:
    rig = Rig(tmp_path, who=TENANT)
    rig.court.members.append(type(rig.court.members[0])(TENANT, 5))
    rig.court.standing = (0, int(Phase.COMMITTING), NOW + COMMIT, 0)
    rig.sit(2, 3)
    opened(rig, MANY, provider=OTHER)
    rig.restart()
    rig.cycle()
    assert rig.panels.until(JOB, f"operator of {JURORS[0].address}") == NOW + COMMIT


def test_restart__what_is_ours_is_found_again(rig: Rig) -> None:
    rig.sit(OURS)
    rig.cycle()
    rig.sit(2, 3)
    opened(rig, MANY)
    reads(rig, MANY)
    rig.sit(OURS)
    rig.bench.asked.clear()
    rig.restart()
    rig.cycle()
    assert JOB in {task.case.job for task in rig.bench.asked}


def test_strangers_enlist__nothing_is_looked_through_again(rig: Rig) -> None:
    opened(rig, 5)
    reads(rig, 5)
    for n in range(20):
        rig.duty.consume([Enlisted(LOG, OTHER, rig.case.capability, 9, n, 0, 5)], [])
        assert reads(rig) == 0


def test_we_enlist__disputes_of_that_capability_concern_us_from_then_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    ours, rig.court.members = rig.court.members[0], rig.court.members[1:]
    rig.court.standing = (0, int(Phase.COMMITTING), NOW + COMMIT, 0)
    rig.sit(5)
    rig.cycle()
    assert rig.bench.asked == []
    rig.court.members.append(ours)
    rig.duty.consume([Enlisted(LOG, OWNER, rig.case.capability, 4, 5, 0, 5)], [])
    rig.cycle()
    assert [task.case.job for task in rig.bench.asked] == [JOB]
