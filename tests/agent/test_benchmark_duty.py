# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty: what it does in each stage of an epoch, and what it never does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provider_agent.benchmark import format as pog
from provider_agent.benchmark import merkle
from provider_agent.benchmark.opening import Opening, verify
from provider_agent.benchmark.schedule import stagger
from provider_agent.duties.epochs import ProofReport
from provider_agent.errors import ChainError
from provider_agent.store import IntentState
from tests.agent.duty_rig import OTHER, OWNER, TPF
from tests.agent.proof_rig import DRAW, EPOCH, OPENED, RULES, SHAPE, START, Rig

FIRST_SLOT = OPENED + RULES.window // 8
WINDOW_END = OPENED + RULES.window


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def committed_rig(tmp_path: Path, **settings: Any) -> Rig:
    """A rig whose commit has landed in an open epoch."""
    rig = Rig(tmp_path, **settings)
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    rig.land(rig.intents("commit-1")[0])
    return rig


# ---------------------------------------------------------------------- opening the epoch


def test_unopened__opens_after_its_own_delay(rig: Rig) -> None:
    delay = stagger(OWNER, EPOCH, "open", RULES.open_period)
    assert delay > 0
    rig.cycle(at=START)
    rig.cycle(at=START + delay - 1)
    assert rig.actions() == []
    rig.cycle(at=START + delay, times=3)
    (intent,) = rig.intents()
    assert rig.arguments(intent) == (EPOCH,)
    assert intent.deadline == START + RULES.open_period - 1
    rig.restart()
    rig.cycle()
    assert rig.actions() == ["open"]


def test_unopened__somebody_was_faster__no_second_try_in_an_open_epoch(rig: Rig) -> None:
    rig.cycle(at=START + 200)
    rig.set(rig.intents()[0], IntentState.REVERTED)
    rig.open_epoch()
    rig.cycle(at=START + 400, times=3)
    assert rig.intents("open") == rig.intents()[:1]


def test_unopened__open_came_to_nothing__tried_again_later(rig: Rig) -> None:
    rig.cycle(at=START + 200)
    rig.set(rig.intents()[0], IntentState.ABANDONED)
    rig.cycle()
    assert rig.actions() == ["open"]
    rig.cycle(at=START + 300)
    assert rig.actions() == ["open", "open#2"]


def test_skipped__says_so_once_and_does_nothing(rig: Rig) -> None:
    assert "nobody has opened" in rig.cycle(at=START + RULES.open_period, times=3)
    assert rig.actions() == [] and rig.outcomes == ["unopened"]


def test_before_the_first_epoch__waits(rig: Rig) -> None:
    assert rig.cycle(at=RULES.genesis - 60) == "the first epoch begins in 60 s"


def test_operator_of_nobody__does_nothing(rig: Rig) -> None:
    rig.open_epoch()
    rig.standing = None
    assert "works for no provider" in rig.cycle(at=FIRST_SLOT)
    assert rig.actions() == [] and rig.prover.works == ""


# ---------------------------------------------------------------------- the window


def test_window__commits_by_schedule__each_time_to_more_rounds(rig: Rig) -> None:
    rig.open_epoch()
    times = RULES.commit_times(OPENED, 4, 48)
    rig.cycle(at=OPENED)
    assert rig.actions() == [] and rig.prover.works == "prove"
    for slot, time in enumerate(times, 1):
        rig.cycle(at=time, times=2)
        assert rig.actions() == [f"commit-{n}" for n in range(1, slot + 1)]
    seen = 0
    for intent in rig.intents():
        epoch, rounds, commitment = rig.arguments(intent)
        assert (epoch, intent.deadline) == (EPOCH, WINDOW_END - 1)
        assert rounds > seen
        assert commitment == merkle.commitment(rig.proof.roots()[:rounds])
        seen = rounds
    assert rig.cycle() == "waiting for the window to end"
    assert rig.prover.works == ""  # more rounds are of no use


def test_window__restart__commits_to_nothing_twice_and_goes_on(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    done = len(rig.proof.roots())
    rig.restart()
    rig.cycle(times=2)
    assert rig.actions() == ["commit-1"]
    assert len(rig.proof.roots()) == done + 2 * rig.prover.rounds
    assert rig.duty.report.rounds == len(rig.proof.roots())


def test_window__slots_slept_through__one_commit(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=RULES.commit_times(OPENED, 4, 48)[2], times=3)
    assert rig.actions() == ["commit-3"]


def test_window__no_more_rounds_than_committed__no_commit(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    rig.prover.rounds = 0
    rig.cycle(at=RULES.commit_times(OPENED, 4, 48)[1], times=2)
    assert rig.actions() == ["commit-1"]


def test_window__fewer_rounds_than_are_worth_it__no_commit(tmp_path: Path) -> None:
    rig = Rig(tmp_path, min_rounds=4)
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    assert rig.actions() == []
    rig.cycle()
    assert rig.actions() == ["commit-1"]


def test_window__too_late_for_a_commit__none(rig: Rig) -> None:
    rig.open_epoch()
    assert rig.cycle(at=WINDOW_END - 12) == "waiting for the window to end"
    assert rig.actions() == [] and rig.prover.works == ""


def test_window__commit_reverts__another_attempt_with_the_rounds_of_then(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    rig.set(rig.intents()[0], IntentState.REVERTED)
    rig.cycle(at=FIRST_SLOT + 20)
    first, second = rig.intents()
    assert second.key.action == "commit-1#2"
    assert rig.arguments(second)[1] > rig.arguments(first)[1]


def test_window__jobs_run__paused_and_resumed(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=OPENED)
    done = len(rig.proof.roots())
    rig.busy = True
    assert rig.cycle(at=FIRST_SLOT, times=2) == "paused while a job runs"
    assert rig.prover.works == "" and rig.duty.report.paused
    assert len(rig.proof.roots()) == done
    assert rig.actions() == ["commit-1"]  # to what was done before
    rig.busy = False
    assert rig.cycle() == "proving"
    assert len(rig.proof.roots()) == done + 3 and not rig.duty.report.paused


def test_window__jobs_run_all_the_time__missed_because_of_them(rig: Rig) -> None:
    rig.open_epoch()
    rig.busy = True
    rig.cycle(at=FIRST_SLOT)
    said = rig.cycle(at=RULES.draw_from(OPENED))
    assert said == "the window was missed: paused while a job runs"
    assert rig.outcomes == ["missed"]


def test_window__jobs_run_and_may__proves(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_jobs=True)
    rig.open_epoch()
    rig.busy = True
    assert rig.cycle(at=FIRST_SLOT) == "proving"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active_stake": 99 * TPF}, "the stake is below the bond of 100 TPF"),
        ({"per_order": 99 * TPF}, "the owner's limit for one order is below the bond"),
        ({"available": 99 * TPF}, "own free stake, within its limits, is below the bond"),
    ],
)
def test_window__no_bond__proves_nothing_and_says_why(
    rig: Rig, changes: dict[str, int], reason: str
) -> None:
    rig.with_standing(**changes)
    assert reason in rig.cycle(at=START + 300)
    rig.open_epoch()
    assert reason in rig.cycle(at=FIRST_SLOT)
    assert rig.actions() == [] and rig.prover.works == ""
    assert reason in rig.cycle(at=RULES.draw_from(OPENED))


def test_window__bond_is_locked_already__no_free_stake_needed(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.with_standing(available=0, per_order=0)
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(
        epoch=EPOCH - 1, verified=RULES.samples
    )
    assert rig.cycle(at=FIRST_SLOT + 12) == "proving"


def test_window__earlier_proof_was_not_opened__waits_for_its_end(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(epoch=EPOCH - 1)
    rig.open_epoch(epoch=EPOCH - 1)
    rig.draw_epoch(epoch=EPOCH - 1)
    said = rig.cycle(at=FIRST_SLOT + 12)
    assert f"the proof of epoch {EPOCH - 1} was not opened" in said
    assert rig.prover.works == "" and "failed" in rig.outcomes
    # Without a draw it was void, and binds nothing.
    record = rig.contract.epochs[EPOCH - 1]
    rig.contract.epochs[EPOCH - 1] = record._replace(draw=bytes(32), drawn_at=0)
    assert rig.cycle(at=FIRST_SLOT + 24) == "proving"


def test_window__opened_anew_by_a_reorg__old_commit_is_given_up(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST_SLOT)
    old = rig.proof
    rig.open_epoch(beacon=b"\x77" * 32)
    rig.cycle(at=FIRST_SLOT + 12)
    first, second = rig.intents()
    assert first.state is IntentState.ABANDONED
    assert second.key.action == "commit-1" and second.key.object_id != first.key.object_id
    assert rig.proof.path != old.path
    assert rig.arguments(second)[2] == merkle.commitment(rig.proof.roots())


def test_window__commitment_of_a_thief__the_owner_is_told(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    assert rig.cycle(at=FIRST_SLOT + 12) == "proving"
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(rounds=10**6)
    assert "let the owner take the commitment back" in rig.cycle()
    # An old copy of the database knows nothing of a commit; the rounds on the disk tell.
    roots = rig.proof.roots()[:2]
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(
        rounds=2, commitment=merkle.commitment(roots)
    )
    assert rig.cycle() == "proving"


# ---------------------------------------------------------------------- the draw


def test_draw__as_soon_as_it_may(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    first = RULES.draw_from(OPENED)
    assert rig.cycle(at=WINDOW_END) == "waiting for the draw"
    rig.cycle(at=first - 1)
    assert rig.intents("draw") == []
    rig.cycle(at=first, times=2)
    (intent,) = rig.intents("draw")
    assert rig.arguments(intent) == (EPOCH,)
    assert intent.deadline == RULES.draw_until(OPENED)


def test_draw__nothing_committed__draws_all_the_same(rig: Rig) -> None:
    """Or who is alone with a commitment could look at each block and draw what passes."""
    rig.open_epoch()
    said = rig.cycle(at=RULES.draw_from(OPENED), times=2)
    assert said == "the window was missed"
    assert len(rig.intents("draw")) == 1 and rig.outcomes == ["missed"]


def test_void__says_so_and_sends_nothing(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    said = rig.cycle(at=RULES.draw_until(OPENED) + 1, times=2)
    assert said == "nobody has drawn in time: the epoch is void"
    assert rig.actions() == ["commit-1"] and rig.outcomes == ["void"]


# ---------------------------------------------------------------------- samples


def openings_of(rig: Rig) -> list[tuple[int, int]]:
    """Which samples the intents open, as (first, number), each checked as on chain."""
    proof = rig.contract.proofs[OWNER]
    task = rig.proof.task()
    wanted = pog.samples(DRAW, proof.rounds, proof.commitment, task.challenge, SHAPE, RULES.samples)
    found = []
    for intent in rig.intents("samples"):
        provider, given = rig.arguments(intent)
        assert provider.lower() == OWNER.lower()
        openings = [given] if isinstance(given[0], bytes) else given
        first = int(intent.key.action.split("-")[1].partition("#")[0])
        for words, sample in zip(openings, wanted[first:], strict=False):
            opening = Opening.decode(b"".join(words), SHAPE, proof.rounds)
            verify(opening, sample, task.challenge, SHAPE, proof.rounds, proof.commitment)
        found.append((first, len(openings)))
    return found


def test_samples__opened_in_parts__from_the_first_not_verified(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path, openings_per_transaction=2)
    drawn = rig.draw_epoch()
    assert rig.cycle(at=drawn + 1) == "computing the openings"
    assert rig.cycle(times=3) == "opening samples, 0 of 5 verified"
    assert openings_of(rig) == [(0, 2)]
    rig.verified(2)
    rig.cycle(times=2)
    # Somebody else may open samples of ours: the next ones follow from the chain.
    rig.verified(4)
    rig.cycle(times=2)
    assert openings_of(rig) == [(0, 2), (2, 2), (4, 1)]
    assert {i.deadline for i in rig.intents("samples")} == {RULES.end(EPOCH) - 1}
    rig.verified(5)
    assert rig.cycle(times=2) == "all samples verified"
    assert rig.outcomes == ["scored"] and rig.prover.works == ""


def test_samples__restart_at_any_point__computed_and_sent_once(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    drawn = rig.draw_epoch()
    rig.cycle(at=drawn + 1)
    written = (rig.proof.path / "openings.json").stat().st_mtime_ns
    for _ in range(3):
        rig.restart()
        rig.cycle()
    assert openings_of(rig) == [(0, 5)]
    assert (rig.proof.path / "openings.json").stat().st_mtime_ns == written


def test_samples__everything_is_lost_but_the_chain__computed_again(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    drawn = rig.draw_epoch()
    rig.proof.remove()
    rig.restart()
    rig.cycle(at=drawn + 1, times=2)
    assert openings_of(rig) == [(0, 5)]


def test_samples__jobs_run__opened_all_the_same(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.busy = True
    rig.cycle(at=rig.draw_epoch() + 1, times=2)
    assert openings_of(rig) == [(0, 5)]


def test_samples__device_fails_again_and_again__the_cpu_opens_them(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path, device="numpy")
    rig.prover.failures = 2
    rig.prover.open = lambda folder: None  # it fails
    rig.cycle(at=rig.draw_epoch() + 1)
    assert rig.proof.task().device == "numpy"
    rig.prover.failures = 3
    rig.cycle()
    assert rig.proof.task().device == "cpu"
    rig.restart()
    rig.cycle(times=2)
    assert openings_of(rig) == [(0, 5)]


def test_samples__wrong_opening_on_the_disk__never_sent(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.cycle(at=rig.draw_epoch() + 1)
    path = rig.proof.path / "openings.json"
    kept = json.loads(path.read_text())
    text = kept["openings"][3]
    kept["openings"][3] = text[:200] + ("0" if text[200] != "0" else "1") + text[201:]
    path.write_text(json.dumps(kept))
    said = rig.cycle()
    assert "the leaf is not in the root" in said
    assert rig.intents("samples") == []
    rig.cycle(times=2)
    assert openings_of(rig) == [(0, 5)]


def test_samples__commitment_is_not_ours__nothing_is_sent(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    proof = rig.contract.proofs[OWNER]
    rig.contract.proofs[OWNER] = proof._replace(commitment=b"\x55" * 32)
    said = rig.cycle(at=rig.draw_epoch() + 1, times=2)
    assert "not to rounds of ours" in said
    assert rig.intents("samples") == []


def test_samples__other_draw_after_a_reorg__its_samples_are_opened(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.cycle(at=rig.draw_epoch(draw=b"\x66" * 32) + 1, times=2)
    rig.set(rig.intents("samples")[0], IntentState.REVERTED)
    rig.draw_epoch()
    rig.cycle(times=2)
    first, second = rig.intents("samples")
    assert first.key.object_id != second.key.object_id
    rig.store._update("intents", "id", first.id, {"action": "other"})
    assert openings_of(rig) == [(0, 5)]


# ---------------------------------------------------------------------- others


def test_faults__unopened_proof_of_another__is_reported_once(rig: Rig) -> None:
    rig.committed(EPOCH - 1)
    rig.open_epoch(epoch=EPOCH - 1)
    rig.draw_epoch(epoch=EPOCH - 1)
    delay = stagger(OWNER, EPOCH - 1, f"fail {OTHER}", RULES.fault_period)
    rig.cycle(at=START + delay - 1)
    assert rig.intents("fail") == []
    rig.cycle(at=START + delay, times=3)
    (intent,) = rig.intents("fail")
    assert rig.arguments(intent)[0].lower() == OTHER.lower()
    assert intent.deadline == RULES.fault_until(EPOCH - 1)
    # The report has landed: there is no proof any more.
    rig.set(intent, IntentState.FINAL)
    rig.contract.proofs[OTHER] = rig.contract.proofs[OTHER]._replace(rounds=0)
    rig.cycle(times=2)
    assert len(rig.intents("fail")) == 1 and rig.store.proofs_before(EPOCH) == []


@pytest.mark.parametrize(
    ("changes", "drawn", "provider"),
    [
        ({"verified": RULES.samples}, True, OTHER),
        ({"epoch": EPOCH}, True, OTHER),  # it has committed again
        ({"rounds": 0}, True, OTHER),
        ({}, False, OTHER),  # void
        ({}, True, OWNER),  # nobody reports itself
    ],
)
def test_faults__nothing_to_report__forgotten(
    rig: Rig, changes: dict[str, int], drawn: bool, provider: str
) -> None:
    rig.committed(EPOCH - 1, provider, **changes)
    rig.open_epoch(epoch=EPOCH - 1)
    if drawn:
        rig.draw_epoch(epoch=EPOCH - 1)
    rig.cycle(at=START + 599)
    assert rig.intents("fail") == []
    assert rig.store.proofs_before(EPOCH) == []


def test_faults__too_old__forgotten(rig: Rig) -> None:
    rig.committed(EPOCH - 1)
    rig.open_epoch(epoch=EPOCH - 1)
    rig.draw_epoch(epoch=EPOCH - 1)
    rig.cycle(at=RULES.fault_until(EPOCH - 1) + 1)
    assert rig.intents("fail") == [] and rig.store.proofs_before(EPOCH) == []


def test_faults__switched_off__nothing_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path, report_faults=False)
    rig.committed(EPOCH - 1)
    assert rig.store.proofs_before(EPOCH) == []


# ---------------------------------------------------------------------- around it


def test_report__is_kept_for_status(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.cycle(at=FIRST_SLOT + 12)
    kept = ProofReport.from_text(str(rig.store.meta("benchmark.report")))
    assert (kept.epoch, kept.stage, kept.note) == (EPOCH, "window", "proving")
    assert kept.committed_rounds == rig.contract.proofs[OWNER].rounds > 0
    assert kept.score == 7 and kept.device == "cpu"
    assert rig.duty.report.to_json()["score"] == "7"


def test_report__nothing_new__nothing_is_written(rig: Rig) -> None:
    rig.cycle(at=START)
    written = rig.store.changes()
    rig.cycle(times=5)
    assert rig.store.changes() == written


def test_folders_of_other_epochs__are_deleted(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    old = rig.proof.path
    assert old.exists()
    rig.cycle(at=RULES.end(EPOCH) + 1)
    assert not old.exists()


def test_chain_error__is_raised__other_faults_stay_here(rig: Rig) -> None:
    rig.contract.fails = ChainError("no endpoint")
    with pytest.raises(ChainError):
        rig.cycle()
    rig.contract.fails = ZeroDivisionError()
    rig.cycle()
