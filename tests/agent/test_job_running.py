# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: what becomes of a job that is assigned to this provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provider_agent.core.attempts import MAX_ATTEMPTS
from provider_agent.modules.jobs.book import RunName
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.runners.base import Phase, Reason, RunState
from provider_agent.store import IntentState
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Outcome
from teraproof.protocol.terms import Status
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OTHER, START, TENANT
from tests.agent.duty_rig import Rig, assigned

REVERTED = (IntentState.REVERTED,)


# ---------------------------------------------------------------------- running


def test_assigned_job__is_run_collected_and_attested(rig: Rig) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    assert rig.runs() == [("1-0", "running")]
    (request,) = rig.runner.started
    assert request.command == ("python", "job.py")
    assert request.inputs["job.py"].read_bytes() == b"print(1)"
    assert request.limits.timeout_seconds == 60
    rig.runner.end(request.run_id)
    rig.cycle(2)
    assert rig.runs() == [("1-0", "collected")]
    assert rig.runner.list() == ()
    assert rig.intents() == [("attest", "planned")]
    (intent,) = rig.store.intents_of(terms.job_id().hex())
    result = rig.machine.results.get(terms.job_id())
    assert result is not None
    assert intent.data.startswith(b"attest" + result.result_digest + result.receipt_digest)
    assert intent.deadline == START + 600


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.MEMORY, Reason.PIDS, Reason.OUTPUTS])
def test_job_fails_by_its_own_fault__failure_is_attested(rig: Rig, reason: Reason) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    rig.runner.end(rig.runner.started[0].run_id, reason, None)
    rig.cycle(2)
    result = rig.machine.results.get(terms.job_id())
    assert result is not None
    assert (result.files / "failure.json").exists()
    assert rig.intents() == [("attest", "planned")]
    wanted = Outcome.TIMED_OUT if reason is Reason.TIMEOUT else Outcome.FAILED
    assert (rig.status(terms)["outcome"], rig.blocked(terms)) == (wanted, None)


@pytest.mark.parametrize(
    "state",
    [
        RunState(Phase.LOST, started=START, detail="its supervisor died"),
        RunState(Phase.EXITED, Reason.SANDBOX_FAILED, None, START, START),
        RunState(Phase.EXITED, Reason.KILLED, None, START, START),
    ],
)
def test_run_fails_by_our_fault__is_repeated_and_never_attested(rig: Rig, state: RunState) -> None:
    assigned(rig)
    rig.cycle(2)
    rig.runner.states[rig.runner.started[0].run_id] = state
    rig.cycle(3)
    assert rig.runs() == [("1-0", "failed"), ("2-0", "running")]
    assert rig.intents() == []
    rig.runner.end(rig.runner.started[1].run_id)
    rig.cycle(2)
    assert rig.intents() == [("attest", "planned")]


def test_runner_cannot_start__attempts_get_slower(rig: Rig) -> None:
    terms = assigned(rig)
    rig.runner.refuses = "no sandbox"
    rig.cycle(20)
    assert len(rig.runs()) == 3
    assert rig.blocked(terms) is Code.RUN_FAILED
    rig.next_block(16)
    rig.cycle(20)
    assert len(rig.runs()) == 4
    rig.runner.refuses = ""
    rig.next_block(29)
    rig.cycle(4)
    assert len(rig.runs()) == 4
    rig.next_block(2)
    rig.cycle(4)
    assert rig.runs()[-1] == ("5-0", "running")


@pytest.mark.parametrize(
    "pass_time",
    [lambda rig: rig.next_block(541), lambda rig: setattr(rig, "now", rig.now + 541)],
    ids=["the chain's", "the chain stands still"],
)
def test_too_little_time__is_tried_with_what_is_left(
    rig: Rig, pass_time: Callable[[Rig], None]
) -> None:
    rig.cycle()
    assigned(rig)
    pass_time(rig)
    rig.cycle()
    (request,) = rig.runner.started
    assert request.limits.timeout_seconds == 59


def test_no_time__no_run(rig: Rig) -> None:
    terms = assigned(rig)
    rig.next_block(600)
    rig.cycle()
    assert rig.runs() == []
    assert rig.blocked(terms) is Code.TIME_EXHAUSTED
    assert rig.status(terms)["outcome"] is Outcome.PROVIDER_FAULT


def test_deadline_passed__run_is_ended(rig: Rig) -> None:
    assigned(rig)
    rig.cycle(2)
    rig.next_block(601)
    rig.cycle()
    assert rig.runs() == [("1-0", "running")]  # one answer kills no work
    rig.next_block()
    rig.cycle()
    assert rig.runs() == [("1-0", "removed")]
    assert rig.runner.list() == ()
    assert rig.intents() == []


def test_slots__next_job_runs_when_one_is_free(rig: Rig) -> None:
    first, second = assigned(rig), assigned(rig)
    rig.cycle(3)
    assert [state for _, state in rig.runs()] == ["running"]
    assert {rig.blocked(first), rig.blocked(second)} == {None, Code.SLOTS_TAKEN}
    rig.runner.end(rig.runner.started[0].run_id)
    rig.cycle(3)
    assert sorted(state for _, state in rig.runs()) == ["collected", "running"]


def test_job_that_rests_between_attempts__keeps_nobody_waiting(rig: Rig) -> None:
    """One slot: a job that fails on this machine must not cost the next one its deadline."""
    first = assigned(rig)
    rig.runner.refuses = "no sandbox"
    rig.cycle(20)
    rig.runner.refuses = ""
    second = assigned(rig)
    rig.cycle(3)
    assert [run.state for run in rig.records.runs_of(second.job_id())] == [RunStage.RUNNING]
    (run,) = [run for run in rig.runner.started if run.run_id.startswith(second.job_id().hex())]
    rig.runner.end(run.run_id)
    rig.next_block(300)
    rig.cycle(5)
    assert rig.records.runs_of(first.job_id())[-1].state is RunStage.RUNNING


def test_slots__two_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, agent={"slots": 2})
    assigned(rig)
    assigned(rig)
    rig.cycle(3)
    assert sorted(rig.runs()) == [("1-0", "running"), ("1-1", "running")]
    rig.duty.close()


def lost_by_its_deadline(rig: Rig) -> None:
    """Assigned, and the agent was away until it was too late; nobody has called `expire`."""
    assigned(rig)
    rig.next_block(601)


def lost_by_attempts(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec, duration=10**6)
    rig.assign(terms)
    rig.runner.refuses = "no"
    while rig.blocked(terms) is not Code.ATTEMPTS_EXHAUSTED:
        rig.next_block(600)
        rig.cycle()
    assert len(rig.records.runs_of(terms.job_id())) == MAX_ATTEMPTS
    rig.runner.refuses = ""


def lost_without_specification(rig: Rig) -> None:
    rig.assign(rig.post(rig.spec(name="elsewhere")))


def lost_without_inputs(rig: Rig) -> None:
    spec = rig.spec(b"print(2)")
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.assign(rig.post(spec))


@pytest.mark.parametrize(
    "lose",
    [lost_by_its_deadline, lost_by_attempts, lost_without_specification, lost_without_inputs],
)
def test_job_that_cannot_be_delivered__costs_no_other_its_slot(
    rig: Rig, lose: Callable[[Rig], None]
) -> None:
    lose(rig)
    rig.cycle(2)
    terms = assigned(rig)
    rig.cycle(3)
    assert [run.state for run in rig.records.runs_of(terms.job_id())] == [RunStage.RUNNING]


@pytest.mark.parametrize("lose", [lost_by_its_deadline, lost_by_attempts])
def test_job_that_cannot_be_delivered__takes_no_room(rig: Rig, lose: Callable[[Rig], None]) -> None:
    lose(rig)
    rig.cycle(2)
    assert rig.promises.load().committed == 0


@pytest.mark.parametrize("ahead", [-3_600, 3_600])
def test_clock_of_the_machine_is_wrong__the_chains_time_counts(rig: Rig, ahead: int) -> None:
    """An hour ahead it gave up a job with time left; an hour behind it ran one in vain."""
    terms = assigned(rig)
    rig.now += ahead
    rig.cycle(3)
    (run,) = rig.records.runs_of(terms.job_id())
    assert (run.state, RunName.parse(run.run_id).seconds) == (RunStage.RUNNING, None)
    late = assigned(rig)
    rig.block = BlockRef(rig.block.number + 1, b"\x02" * 32, rig.block.timestamp + 601)
    rig.cycle(3)
    assert rig.records.runs_of(late.job_id()) == []


def test_restart_in_a_run__goes_on(rig: Rig) -> None:
    assigned(rig)
    rig.cycle(2)
    rig.restart()
    rig.cycle(2)
    assert rig.runs() == [("1-0", "running")]
    assert len(rig.runner.started) == 1


def test_run_never_began__is_started_under_the_same_name(rig: Rig) -> None:
    assigned(rig)
    rig.cycle(2)
    (request,) = rig.runner.started
    rig.runner.states[request.run_id] = RunState(Phase.PENDING)
    rig.cycle()
    assert rig.runs() == [("1-0", "running")]


@pytest.mark.parametrize("takes_it_again", [True, False])
def test_assignment_reorged_away__run_goes_on_only_if_accepted_again(
    rig: Rig, takes_it_again: bool
) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    rig.chain.words[terms.job_id()] = Status.OPEN
    rig.chain.paused_until_ = 0 if takes_it_again else START + 1000
    rig.next_block(121)  # after which it is seen that orders are paused
    rig.duty.consume([], [terms.job_id()])
    rig.cycle()
    rig.next_block()
    rig.cycle()
    assert rig.runs() == [("1-0", "running" if takes_it_again else "removed")]
    assert rig.intents() == ([("accept", "planned")] if takes_it_again else [])


def test_back_after_a_reorg__runs_again_although_a_result_lies_there(rig: Rig) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    run_id = rig.runner.started[0].run_id
    word = rig.chain.words[terms.job_id()]
    # Killed between the result and its row; then the assignment is gone, then it is back.
    rig.runner.end(run_id)
    rig.machine.results.keep(
        terms.job_id(), rig.runner.poll(run_id), rig.runner.outputs(run_id),
        rig.runner.log(run_id), b"old",
    )  # fmt: skip
    rig.runner.states[run_id] = RunState(Phase.RUNNING, started=START)
    rig.chain.words[terms.job_id()] = 0
    for _ in range(2):
        rig.next_block()
        rig.duty.consume([], [terms.job_id()])
        rig.cycle()
    assert rig.runs() == [("1-0", "removed")]
    rig.chain.words[terms.job_id()] = word
    rig.next_block()
    rig.duty.consume([], [terms.job_id()])
    rig.cycle(3)
    assert rig.runs() == [("1-0", "removed"), ("2-0", "running")]
    rig.runner.end(rig.runner.started[1].run_id)
    rig.cycle(2)
    assert rig.intents() == [("attest", "planned")]


def test_operator_replaced__run_is_ended(rig: Rig) -> None:
    assigned(rig)
    rig.cycle(2)
    rig.chain.operator = OTHER
    rig.restart()
    for _ in range(2):
        rig.next_block()
        rig.cycle()
    assert rig.runs() == [("1-0", "removed")]
