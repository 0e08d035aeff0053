# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: how it is paid, what it says about a job, what it keeps."""

from __future__ import annotations

import pytest

from provider_agent.modules.jobs.repository import RunStage
from provider_agent.runners.base import Reason
from provider_agent.store import IntentKey, IntentState, Mined, Transaction
from teraproof.contracts.jobs import Cancelled, Expired, Refused
from teraproof.protocol import messages, outcome
from teraproof.protocol.digests import Origin
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Ending, Outcome
from teraproof.protocol.terms import Record, Status, Terms
from tests.agent.duty_parts import OTHER, OWNER, START, TENANT, TPF
from tests.agent.duty_rig import Rig, assigned, attested

REVERTED = (IntentState.REVERTED,)


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


@pytest.mark.parametrize("ending", [Status.SETTLED, Status.REFUNDED])
def test_attested_job__disputed__the_note_says_so_until_it_ends(rig: Rig, ending: Status) -> None:
    terms = attested(rig)
    rig.cycle(2)
    for status in (Status.DISPUTED, ending):
        rig.chain.words[terms.job_id()] = status
        rig.duty._dirty.add(terms.job_id())
        rig.next_block()
        rig.cycle(2)
        assert ("window" not in rig.note(terms)) and rig.note(terms)
        assert ("disputed" in rig.note(terms)) is (status is Status.DISPUTED)


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
    assert rig.records.jobs() == []
    assert rig.records.runs_in(*RunStage) == []
    assert rig.store.intents_in(*IntentState) == []
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
    assert outcome.of_result(result.result_digest, Origin(terms.job_id(), OWNER)) == Ending(
        "exited", 3
    )


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
