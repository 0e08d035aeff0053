# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: what it wants for each state of the chain and of the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provider_agent.core import means
from provider_agent.core.attempts import MAX_ATTEMPTS
from provider_agent.core.capacity import Amounts, Hold, Kind
from provider_agent.modules.jobs.book import RunName
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.runners.base import Phase, Reason, RunState
from provider_agent.store import IntentKey, IntentState, Mined, Transaction
from teraproof.contracts.jobs import Cancelled, Expired, Refused
from teraproof.protocol import allow_list, messages, outcome
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Ending, Outcome
from teraproof.protocol.terms import Judged, Record, Status, Terms
from teraproof.rpc.types import BlockRef
from tests.agent.duty_rig import OTHER, OWNER, START, TENANT, TPF, Rig

REVERTED = (IntentState.REVERTED,)


def assigned(rig: Rig) -> Terms:
    """A job of ours with everything here."""
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.assign(terms)
    return terms


def attested(rig: Rig) -> Terms:
    """A job of ours that ran and whose attestation is on chain."""
    terms = assigned(rig)
    rig.cycle(2)
    rig.runner.end(f"{terms.job_id().hex()}-1-0")
    rig.cycle(2)
    (run,) = rig.records.runs_of(terms.job_id())
    assert run.result is not None and run.receipt is not None
    attestation = messages.Attestation(
        terms.job_id(), terms.order.spec, run.result, run.receipt, START, START + 5
    )
    job = rig.records.job(terms.job_id())
    assert job is not None and job.assigned_at is not None
    record = Record(
        OWNER, job.assigned_at, rig.block.timestamp, job.paused or 0, attestation.struct_hash()
    )
    rig.next_block()
    rig.attest(terms, record, run.result, run.receipt)
    return terms


# ---------------------------------------------------------------------- taking jobs


def test_open_job__default_behavior(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle(3)
    assert rig.intents() == [("accept", "planned")]
    (intent,) = rig.store.intents_of(terms.job_id().hex())
    assert intent.deadline == START + 60 + 600


def test_open_job__waits_for_specification_and_inputs(rig: Rig) -> None:
    spec = rig.spec()
    terms = rig.post(spec)
    rig.cycle()
    assert rig.blocked(terms) is Code.SPEC_MISSING
    rig.records.put_spec(spec.digest(), spec.canonical(), OTHER)
    rig.cycle()
    assert rig.blocked(terms) is Code.INPUTS_MISSING
    assert rig.intents() == []
    rig.upload(spec)
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]


def test_open_job__on_its_list__accepted_with_the_path(rig: Rig) -> None:
    spec = rig.spec(allow=list(allow_list.ordered([OWNER, OTHER])))
    rig.upload(spec)
    terms = rig.post(spec, allow_root=allow_list.root(spec.allow))
    rig.cycle()
    (intent,) = rig.store.intents_of(terms.job_id().hex())
    assert intent.data == b"accept" + terms.job_id() + allow_list.leaf(OTHER)


def test_open_job__list_of_others__told_once_the_specification_is_here(rig: Rig) -> None:
    spec = rig.spec(allow=[OTHER])
    terms = rig.post(spec, allow_root=allow_list.root(spec.allow))
    rig.cycle()
    assert rig.blocked(terms) is Code.SPEC_MISSING
    rig.upload(spec)
    rig.cycle()
    assert rig.blocked(terms) is Code.NOT_LISTED
    assert rig.intents() == []


def test_open_job__refusable__only_if_the_owner_says_so(tmp_path: Path) -> None:
    for taken in (False, True):
        folder = tmp_path / str(taken)
        folder.mkdir()
        rig = Rig(folder, jobs={"accept_refusable": taken})
        spec = rig.spec()
        rig.upload(spec)
        terms = rig.post(spec, judged=Judged.REFUSABLE)
        rig.cycle()
        assert bool(rig.intents()) is taken
        assert rig.blocked(terms) is (None if taken else Code.NOT_REFUSABLE)
        rig.duty.close()
        rig.store.close()


def test_open_job__paused_meanwhile__open_for_as_much_longer(rig: Rig) -> None:
    rig.chain.paused_seconds_ = 50
    spec = rig.spec()
    terms = rig.post(spec)
    rig.chain.paused_seconds_ += 1_000
    rig.next_block(1_600)
    rig.upload(spec)
    rig.cycle()
    (intent,) = rig.store.intents_of(terms.job_id().hex())
    assert intent.deadline == START + 60 + 600 + 1_000


@pytest.mark.parametrize(("held", "accepted"), [(450 * TPF, False), (0, True)])
def test_open_job__room_for_the_bond_is_kept(rig: Rig, held: int, accepted: bool) -> None:
    """Jobs never eat the part of the owner's limit that the next proof needs."""

    def need(wei: int) -> None:
        bond = Hold(Kind.OWED, Amounts(collateral=wei), by="proofs")
        rig.capacity.put("bond", bond)

    need(held)
    rig.chain.locked = 45 * TPF
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec, collateral=10 * TPF)
    rig.cycle()
    assert bool(rig.intents()) is accepted
    if not accepted:
        assert rig.blocked(terms) is Code.COLLATERAL_TAKEN
    need(0)  # the bond is locked now, or no longer needed
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]


@pytest.mark.parametrize(("inodes", "accepted"), [(1, False), (1 << 40, True)])
def test_open_job__no_inodes_for_its_files__not_taken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, inodes: int, accepted: bool
) -> None:
    """A disk has room for a number of files, whatever their size."""
    room = Amounts(disk=1 << 40, inodes=rig.settings.runner.inode_reserve + inodes)
    monkeypatch.setattr(means, "free_on", lambda _: room)
    spec = rig.spec(inputs=[])
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    terms = rig.post(spec)
    rig.cycle()
    assert bool(rig.intents()) is accepted
    if not accepted:
        assert rig.blocked(terms) is Code.DISK_TAKEN


@pytest.mark.parametrize("number", [1, 2, 3])
def test_open_jobs__each_fits_alone__no_more_than_the_disk_has(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spec = rig.spec(inputs=[])
    needs = rig.policy.needs(spec)
    room = Amounts(disk=2 * needs.disk, inodes=1 << 40)
    monkeypatch.setattr(means, "free_on", lambda _: room)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    for _ in range(number):
        rig.post(spec, duration=3600, collateral=0)
    rig.cycle(2)
    assert len(rig.intents()) == min(2, number)


def test_run_has_allocated_its_disk__counts_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = rig.spec(inputs=[])
    needs = rig.policy.needs(spec)
    free = 2 * needs.disk
    monkeypatch.setattr(means, "free_on", lambda _: Amounts(disk=free, inodes=1 << 40))
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.assign(rig.post(spec, duration=3600))
    rig.cycle(2)
    rig.runner.takes = needs.disk // 2
    free -= rig.runner.takes
    second = rig.post(spec, duration=3600)
    rig.cycle()
    assert [i.key.action for i in rig.store.intents_of(second.job_id().hex())] == ["accept"]
    third = rig.post(spec, duration=7200)
    rig.cycle()
    assert rig.blocked(third) in (Code.SLOTS_TAKEN, Code.DISK_TAKEN)


def test_open_job__no_gas_money_to_attest_it__not_taken(rig: Rig) -> None:
    """What is accepted and cannot be attested costs its collateral."""
    rig.reserve.jobs = 0
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    assert (rig.intents(), rig.blocked(terms)) == ([], Code.AGENT_NOT_READY)
    rig.reserve.jobs = 1
    rig.cycle()
    assert rig.intents() == [("accept", "planned")]


def test_open_job__gas_money_gone_since_the_last_look__not_taken(rig: Rig) -> None:
    rig.reserve.left = 0
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    assert (rig.intents(), rig.blocked(terms)) == ([], Code.AGENT_NOT_READY)


def test_open_jobs__no_more_than_slots_and_one_ahead(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    for _ in range(5):
        rig.post(spec)
    rig.cycle(3)
    assert rig.intents() == [("accept", "planned")] * 2
    blocked = [rig.book.blocked_by(job.job_id) for job in rig.records.jobs()]
    assert (blocked.count(None), blocked.count(Code.SLOTS_TAKEN)) == (2, 3)


@pytest.mark.parametrize("full", [False, True])
def test_open_job__specification_is_refused__note_before_any_input(rig: Rig, full: bool) -> None:
    if full:
        good = rig.spec()
        rig.upload(good)
        for _ in range(2):
            rig.post(good)
        rig.cycle()
    # Too cheap as well, but a price may rise.
    spec = rig.spec(runtime="nope")
    terms = rig.post(spec, start_price=0, collateral=0)
    rig.cycle()
    assert rig.blocked(terms) is Code.SPEC_MISSING
    rig.records.put_spec(spec.digest(), spec.canonical(), OTHER)
    rig.cycle()
    assert rig.blocked(terms) is Code.RUNTIME_NOT_OFFERED


def test_open_jobs__no_more_collateral_than_there_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, agent={"slots": 8})
    rig.chain.own_stake = 25 * TPF
    spec = rig.spec()
    rig.upload(spec)
    for _ in range(5):
        rig.post(spec)
    rig.cycle()
    rig.next_block()
    rig.cycle()
    assert rig.intents() == [("accept", "planned")] * 2
    rig.duty.close()


def test_open_job__second_wave_needs_time_for_the_first(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.post(spec, duration=130)
    late = rig.post(spec, duration=130)
    rig.cycle()
    codes = {rig.blocked(late)} | {rig.book.blocked_by(job.job_id) for job in rig.records.jobs()}
    assert Code.DURATION_TOO_SHORT in codes
    assert rig.intents() == [("accept", "planned")]


def test_open_job__not_registered(rig: Rig) -> None:
    rig.chain.operator = OTHER
    spec = rig.spec()
    rig.upload(spec)
    rig.post(spec)
    rig.cycle()
    assert rig.intents() == []


def test_open_job__acceptance_reverted__tried_again_after_a_pause(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    rig.set_intent(terms, "accept", *REVERTED)
    rig.cycle()
    assert rig.intents() == [("accept", "reverted")]
    rig.next_block(16)
    rig.cycle()
    assert rig.intents() == [("accept", "reverted"), ("accept#2", "planned")]
    rig.set_intent(terms, "accept#2", *REVERTED)
    rig.next_block(16)
    rig.cycle()
    assert len(rig.intents()) == 2
    rig.next_block(16)
    rig.cycle()
    assert rig.intents()[-1] == ("accept#3", "planned")


def test_open_job__taken_by_another__no_run(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    rig.set_intent(terms, "accept", *REVERTED)
    rig.assign(terms, OTHER)
    rig.next_block(100)
    rig.cycle(2)
    assert rig.runs() == []
    assert rig.intents() == [("accept", "reverted")]


def test_posting_reorged_away__job_is_forgotten(rig: Rig) -> None:
    terms = rig.post(rig.spec())
    rig.cycle()
    del rig.chain.words[terms.job_id()]
    rig.next_block()
    rig.duty.consume([], [terms.job_id()])
    rig.cycle()
    assert rig.records.jobs() == []


def test_posting_reorged_away_after_acceptance__job_rests_until_it_is_back(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    word = rig.chain.words.pop(terms.job_id())
    rig.next_block()
    rig.duty.consume([], [terms.job_id()])
    rig.cycle(2)
    job = rig.records.job(terms.job_id())
    assert job is not None and job.status == Status.NONE
    rig.chain.words[terms.job_id()] = word
    rig.next_block()
    rig.duty.consume([], [terms.job_id()])
    rig.cycle()
    job = rig.records.job(terms.job_id())
    assert job is not None and job.status == Status.OPEN


def test_posted_event__terms_of_another_job__ignored(rig: Rig) -> None:
    from teraproof.contracts.jobs import Posted

    terms = rig.post(rig.spec())
    rig.duty.consume([Posted(rig.entry(), b"\x09" * 32, OTHER, terms)], [])
    assert [job.job_id for job in rig.records.jobs()] == [terms.job_id()]


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
    rig.next_block(61)  # after which it is seen that orders are paused
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


# ---------------------------------------------------------------------- getting paid


def test_attested_job__finalized_after_the_window(rig: Rig) -> None:
    terms = attested(rig)
    rig.cycle(2)
    assert rig.note(terms) == "in the challenge window"
    rig.next_block(3600 - 12)
    rig.cycle()
    assert rig.intents() == [("attest", "planned")]
    rig.next_block(1)
    rig.cycle()
    assert rig.intents()[1:] == [("finalize", "planned")]


def test_attested_job__paused_while_it_was_open__finalized_all_the_same(rig: Rig) -> None:
    """The seconds of the pause are part of the record."""
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.chain.paused_seconds_ += 77
    rig.assign(terms)
    rig.cycle(2)
    rig.runner.end(f"{terms.job_id().hex()}-1-0")
    rig.cycle(2)
    (run,) = rig.records.runs_of(terms.job_id())
    job = rig.records.job(terms.job_id())
    assert job is not None and job.paused == 77
    assert job.assigned_at is not None and run.result is not None and run.receipt is not None
    said = messages.Attestation(
        terms.job_id(), terms.order.spec, run.result, run.receipt, START, START + 5
    )
    record = Record(OWNER, job.assigned_at, rig.block.timestamp, 77, said.struct_hash())
    rig.next_block()
    rig.attest(terms, record, run.result, run.receipt)
    rig.next_block(3600)
    rig.cycle()
    assert rig.intents()[1:] == [("finalize", "planned")]


def test_attested_job__refused__ends_and_says_so(rig: Rig) -> None:
    terms = attested(rig)
    rig.chain.words[terms.job_id()] = Status.REFUSED
    rig.next_block()
    rig.duty.consume([Refused(rig.entry(), terms.job_id(), OWNER, 10**6, 10 * TPF)], [])
    rig.cycle()
    assert rig.note(terms) == "refused by the requester; price and collateral are burned"
    rig.next_block(3601)
    rig.cycle()
    assert rig.intents() == [("attest", "planned")]


def test_attested_job__reads_nothing_while_the_window_is_open(rig: Rig) -> None:
    terms = attested(rig)
    rig.set_intent(terms, "attest", IntentState.ABANDONED)
    rig.cycle()
    before = rig.chain.reads
    for _ in range(5):
        rig.next_block()
        rig.cycle()
    assert rig.chain.reads == before


def test_attested_job__another_record_on_chain__not_finalized(rig: Rig) -> None:
    terms = attested(rig)
    rig.chain.words[terms.job_id()] = Record(OWNER, 1, 2, 0, bytes(32)).state_word()
    rig.next_block(3601)
    rig.cycle()
    assert rig.intents() == [("attest", "planned")]


@pytest.mark.parametrize(
    ("status", "note"), [(Status.EXPIRED, "expired"), (Status.CANCELLED, "cancelled")]
)
def test_ended_job__its_note_says_how(rig: Rig, status: Status, note: str) -> None:
    """Of a job that waits for its tenant, and of one that events alone tell about."""
    ours, others = attested(rig), rig.post(rig.spec(name="other"))
    rig.cycle()
    assert rig.note(ours) == "in the challenge window"
    rig.chain.words[ours.job_id()] = status
    args = (rig.entry(), others.job_id())
    if status is Status.EXPIRED:
        rig.duty.consume([Expired(*args, OTHER, 1, 1)], [])
    else:
        rig.duty.consume([Cancelled(*args, TENANT, 1)], [])
    rig.restart()
    rig.cycle()
    assert (rig.note(ours), rig.note(others)) == (note, note)


def test_settled_job__nothing_is_wanted(rig: Rig) -> None:
    terms = attested(rig)
    rig.chain.words[terms.job_id()] = Status.SETTLED
    rig.next_block(3601)
    rig.cycle(2)
    job = rig.records.job(terms.job_id())
    assert job is not None and job.status == Status.SETTLED and job.settled_at is not None
    assert job.note == "paid"
    assert rig.intents() == [("attest", "planned")]


# ---------------------------------------------------------------------- keeping house


def test_prune__results_stay_for_their_time(rig: Rig) -> None:
    terms = attested(rig)
    rig.chain.words[terms.job_id()] = Status.SETTLED
    rig.next_block(3601)
    rig.cycle()
    states = (IntentState.SIGNED, IntentState.SENT, IntentState.MINED, IntentState.FINAL)
    rig.set_intent(terms, "attest", *states)
    rig.housekeeper.see(rig.block.number, OWNER)
    rig.housekeeper.move()
    assert [job.job_id for job in rig.records.jobs()] == [terms.job_id()]
    rig.now += 166 * 3600
    rig.housekeeper.move()
    # It has left the tables that a cycle reads, and is still told of.
    assert (
        rig.records.jobs()
        == rig.records.runs_in(*RunStage)
        == rig.store.intents_in(*IntentState)
        == []
    )
    job = rig.records.job(terms.job_id())
    assert job is not None and job.note == "paid"
    assert [run.state for run in rig.records.runs_of(terms.job_id())] == [RunStage.COLLECTED]
    assert [i.state for i in rig.store.intents_of(terms.job_id().hex())] == [IntentState.FINAL]
    assert (rig.records.count_jobs(), rig.records.count_runs()) == (
        {Status.SETTLED: 1},
        {RunStage.COLLECTED: 1},
    )
    assert rig.machine.results.get(terms.job_id()) is not None
    rig.cycle(2)  # nothing comes back of it
    assert rig.records.jobs() == []
    rig.now += 7200
    rig.housekeeper.move()
    assert rig.machine.results.get(terms.job_id()) is None
    assert rig.records.job(terms.job_id()) is None


def test_prune__job_nobody_took__forgotten(rig: Rig) -> None:
    terms = rig.post(rig.spec())
    rig.cycle()
    rig.housekeeper.prune(600)
    assert rig.records.job(terms.job_id()) is not None
    rig.now += 169 * 3600
    rig.housekeeper.prune(600)
    assert rig.records.job(terms.job_id()) is None


def test_standing__registered_without_stake__the_stake_is_seen_in_its_block(rig: Rig) -> None:
    rig.chain.own_stake = 0
    rig.cycle()
    rig.chain.own_stake = 100 * TPF
    rig.next_block()
    rig.cycle()
    assert rig.duty.standing is not None and rig.duty.standing.active_stake == 100 * TPF


def test_attested_event_never_comes__finalized_by_our_own_run_and_transaction(rig: Rig) -> None:
    """Nodes lose logs: what we did ourselves is enough to collect the pay."""
    terms = assigned(rig)
    rig.duty.consume = lambda events, again: None  # type: ignore[method-assign]  # logs are lost
    rig.cycle(2)
    rig.runner.end(f"{terms.job_id().hex()}-1-0")
    rig.cycle(2)
    (run,) = rig.records.runs_of(terms.job_id())
    assert run.result is not None and run.receipt is not None
    job = rig.records.job(terms.job_id())
    assert job is not None and job.assigned_at is not None
    rig.next_block()
    said = messages.Attestation(
        terms.job_id(),
        terms.order.spec,
        run.result,
        run.receipt,
        run.started or 0,
        run.finished or 0,
    )
    record = Record(
        OWNER, job.assigned_at, rig.block.timestamp, job.paused or 0, said.struct_hash()
    )
    rig.attest(terms, record, run.result, run.receipt)
    rig.chain.times[rig.block.number] = rig.block.timestamp
    mine(rig, terms)
    rig.next_block()
    rig.cycle()
    assert rig.note(terms) == "in the challenge window"
    rig.next_block(3600)
    rig.cycle()
    assert rig.intents()[1:] == [("finalize", "planned")]


def mine(rig: Rig, terms: Terms) -> None:
    """The attestation's transaction is in this block, for good."""
    intent = rig.store.intent(IntentKey("jobs", terms.job_id().hex(), "attest"))
    assert intent is not None

    def sign(nonce: int) -> Transaction:
        return Transaction(b"h" * 32, nonce, "call", b"raw", 1, 1, 1, int(rig.now))

    mined = Mined(b"h" * 32, rig.block.number, rig.block.hash, 1, 40_000, 1)
    rig.store.set_intent_state(intent.id, IntentState.SIGNED, sign=sign)
    rig.store.set_intent_state(intent.id, IntentState.SENT)
    rig.store.set_intent_state(intent.id, IntentState.MINED, mined=mined)
    rig.store.set_intent_state(intent.id, IntentState.FINAL)


def test_status__outcome__null_while_it_runs_then_what_became_of_it(rig: Rig) -> None:
    terms = assigned(rig)
    assert (rig.status(terms)["outcome"], rig.blocked(terms)) == (None, None)
    rig.cycle(2)
    assert (rig.status(terms)["outcome"], rig.blocked(terms)) == (None, None)
    rig.runner.end(rig.runner.started[0].run_id)
    rig.cycle(2)
    assert rig.status(terms)["outcome"] is Outcome.SUCCEEDED
    # Without the result on the disk, the row knows.
    rig.machine.results.remove(terms.job_id())
    assert rig.status(terms)["outcome"] is Outcome.SUCCEEDED


def test_status__exit_code_of_the_job__failed(rig: Rig) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    rig.runner.end(rig.runner.started[0].run_id, Reason.EXITED, 3)
    rig.cycle(2)
    assert rig.status(terms)["outcome"] is Outcome.FAILED
    result = rig.machine.results.get(terms.job_id())
    assert result is not None
    assert outcome.of_result(result.result_digest) == Ending("exited", 3)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (Status.CANCELLED, Outcome.CANCELLED),
        (Status.EXPIRED, Outcome.EXPIRED),
        (Status.REFUSED, Outcome.REFUSED),
        (Status.SETTLED, None),
    ],
)
def test_status__ended_on_chain__no_code_of_before_is_left(
    rig: Rig, status: Status, wanted: Outcome | None
) -> None:
    """A job settled by another provider ended in a way that this agent does not know."""
    terms = rig.post(rig.spec())
    rig.cycle()
    assert rig.blocked(terms) is Code.SPEC_MISSING
    rig.records.update_job(terms.job_id(), status=status)
    assert (rig.status(terms)["outcome"], rig.blocked(terms)) == (wanted, None)


def test_status__deadline_missed__provider_fault(rig: Rig) -> None:
    terms = assigned(rig)
    rig.cycle(2)
    rig.next_block(601)
    rig.cycle()
    assert rig.blocked(terms) is Code.DEADLINE_MISSED
    assert rig.status(terms)["outcome"] is Outcome.PROVIDER_FAULT


def test_blocked_by__after_a_restart__known_again_with_the_next_look(rig: Rig) -> None:
    terms = rig.post(rig.spec())
    rig.cycle()
    rig.duty.close()
    rig.restart()
    assert rig.blocked(terms) is None
    rig.cycle()
    assert rig.blocked(terms) is Code.SPEC_MISSING


def test_blocked_by__junk_orders__memory_is_bounded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_agent.modules.jobs.book._MOST_BLOCKED", 3)
    spec = rig.spec()
    listed = [rig.post(spec) for _ in range(6)]
    rig.cycle()
    assert [rig.blocked(terms) for terms in listed].count(Code.SPEC_MISSING) == 3
