# SPDX-License-Identifier: Apache-2.0
"""One endpoint's word about a job of ours ends no work: what cannot be undone, two have to say."""

from __future__ import annotations

import pytest

from teraproof.protocol.terms import Assignment, Status
from tests.agent.duty_parts import OTHER, START
from tests.agent.duty_rig import Rig, assigned

ENDINGS = (
    Status.NONE,
    Status.OPEN,
    Status.ATTESTED,
    Status.DISPUTED,
    Status.EXPIRED,
    Status.CANCELLED,
    Status.REFUNDED,
    Status.SETTLED,
    Assignment(OTHER, START).state_word(),
)


@pytest.mark.parametrize("begun", [False, True], ids=["before the run", "in the run"])
@pytest.mark.parametrize("lie", ENDINGS)
def test_one_endpoint_tells_of_an_end__the_job_is_done_all_the_same(
    rig: Rig, lie: int, begun: bool
) -> None:
    terms = assigned(rig)
    job = terms.job_id()
    if begun:
        rig.cycle(2)
    rig.chain.lies[job] = int(lie)
    for _ in range(3):
        rig.next_block()
        rig.news(job)
        rig.cycle()
    rig.chain.lies.clear()
    rig.next_block()
    rig.news(job)
    rig.cycle(2)
    assert rig.runs() == [("1-0", "running")]
    rig.runner.end(rig.runner.started[0].run_id)
    rig.cycle(2)
    assert len(rig.runner.started) == 1, "it was not begun twice"
    assert rig.intents() == [("attest", "planned")]


@pytest.mark.parametrize("truth", [Status.EXPIRED, Status.REFUNDED])
def test_all_tell_of_an_end__the_run_ends(rig: Rig, truth: Status) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    rig.chain.words[terms.job_id()] = int(truth)
    for _ in range(3):
        rig.next_block()
        rig.news(terms.job_id())
        rig.cycle()
    assert rig.runs() == [("1-0", "removed")]


@pytest.mark.parametrize("lie", ENDINGS)
def test_two_endpoints_differ__work_goes_on_and_the_job_is_looked_at_again(
    rig: Rig, lie: int
) -> None:
    job = assigned(rig).job_id()
    rig.cycle(2)
    rig.chain.lies[job] = int(lie)
    rig.chain.quarrels = True
    for _ in range(3):
        rig.next_block()
        rig.news(job)
        rig.cycle()
    assert rig.runs() == [("1-0", "running")]
    # The same was true at last: no event tells of it again.
    rig.chain.quarrels = False
    rig.chain.words[job] = int(Status.EXPIRED)
    rig.next_block()
    rig.cycle()
    row = rig.records.job(job)
    assert row is not None and Status(row.status) is Status.EXPIRED
