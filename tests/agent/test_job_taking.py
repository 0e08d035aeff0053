# SPDX-License-Identifier: Apache-2.0
"""The jobs duty: which open jobs it accepts, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.core import means
from provider_agent.core.capacity import Amounts, Hold, Kind
from provider_agent.store import IntentState
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Judged, Status
from tests.agent.duty_parts import OTHER, OWNER, START, TENANT, TPF
from tests.agent.duty_rig import Rig

REVERTED = (IntentState.REVERTED,)


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
    rig.post(spec, duration=150)
    late = rig.post(spec, duration=150)
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
