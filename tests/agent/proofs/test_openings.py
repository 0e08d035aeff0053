# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty after the window: close, draw, samples, others' faults, what it keeps."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.proofs.epochs import ProofReport
from provider_agent.modules.proofs.repository import ProofsRepository
from provider_agent.store import IntentState
from teraproof.pog import format as pog
from teraproof.pog.opening import Opening, verify
from teraproof.rpc.errors import ChainError
from tests.agent.duty_parts import OTHER, OWNER
from tests.agent.proof_rig import (
    CLOSED,
    DRAW,
    END,
    EPOCH,
    FIRST,
    OPENED,
    RULES,
    SHAPE,
    WINDOW_END,
    Rig,
    committed_rig,
)

# ---------------------------------------------------------------------- close and draw


@pytest.mark.parametrize("has_committed", [True, False])
def test_close__after_a_delay_of_our_own__with_a_commitment_or_without(
    tmp_path: Path, has_committed: bool
) -> None:
    rig = committed_rig(tmp_path) if has_committed else Rig(tmp_path)
    rig.open_epoch()
    said = rig.cycle(at=WINDOW_END, waited=0)
    assert said == ("waiting for the draw" if has_committed else "the window was missed")
    assert rig.intents("close") == []
    rig.cycle(at=CLOSED, times=2)
    (intent,) = rig.intents("close")
    assert rig.arguments(intent) == (EPOCH,)
    assert intent.deadline == WINDOW_END + RULES.draw_period


def test_close__by_a_stranger__only_the_draw_is_left(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.close_epoch()
    rig.cycle(at=CLOSED, times=2)
    assert rig.intents("close") == []


@pytest.mark.parametrize("has_committed", [True, False])
def test_draw__once_the_named_block_is_there(tmp_path: Path, has_committed: bool) -> None:
    rig = committed_rig(tmp_path) if has_committed else Rig(tmp_path)
    rig.open_epoch()
    target = rig.close_epoch()
    rig.cycle(at=target, times=2)
    assert rig.intents("draw") == []
    rig.cycle(at=target + 1 + RULES.read_delay(OWNER, EPOCH), times=2)
    (intent,) = rig.intents("draw")
    assert rig.arguments(intent) == (EPOCH, rig.contract.header(target).data)
    assert intent.deadline == WINDOW_END + RULES.draw_period + RULES.reach


def test_draw__value_is_the_hash__no_header_is_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.contract, "source", lambda block: 1)
    rig.open_epoch()
    rig.cycle(at=rig.close_epoch() + 100)
    assert rig.arguments(rig.intents("draw")[0]) == (EPOCH, b"")


def _out_of_reach(number: int) -> Any:
    raise ChainError("no endpoint has this block any more")


@pytest.mark.parametrize("closed", [False, True])
def test_void__proof_is_settled(tmp_path: Path, closed: bool) -> None:
    rig = committed_rig(tmp_path)
    until = RULES.close_until(OPENED)
    if closed:
        rig.close_epoch()
        until = RULES.draw_until(OPENED)
        rig.contract.header = _out_of_reach  # type: ignore[method-assign]
        rig.contract.block = _out_of_reach  # type: ignore[method-assign]
    with contextlib.suppress(ChainError):
        rig.cycle(at=until)
    assert rig.intents("settle") == [] and rig.outcomes == []
    said = rig.cycle(at=until + 1, times=2)
    assert said == "nobody has drawn in time: the epoch is void"
    assert len(rig.intents("settle")) == 1 and rig.outcomes == ["void"]
    assert rig.arguments(rig.intents("settle")[0])[0].lower() == OWNER.lower()


def test_void__nothing_committed__nothing_to_settle(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=RULES.close_until(OPENED) + 1, times=2)
    assert rig.actions() == [] and rig.outcomes == ["void"]


def test_settle__failure_that_nobody_has_reported__when_it_is_too_old(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.draw_epoch()
    rig.cycle(at=END + RULES.fault_period - 1)
    assert rig.intents("settle") == []
    rig.cycle(at=END + RULES.fault_period)
    assert len(rig.intents("settle")) == 1


def test_settle__scored__claimed_here_only_where_nobody_else_does(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.draw_epoch()
    rig.verified(RULES.samples)
    rig.cycle(at=END, times=2)
    assert rig.intents("settle") == []
    rig.settles = True
    rig.restart()
    rig.cycle(at=END - 1)
    assert rig.intents("settle") == []
    rig.cycle(at=END, times=2)
    assert len(rig.intents("settle")) == 1
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(settled=True)
    rig.set(rig.intents("settle")[0], IntentState.ABANDONED)
    rig.cycle(at=END + 500)
    assert len(rig.intents("settle")) == 1


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
    assert {i.deadline for i in rig.intents("samples")} == {END - 1}
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
    rig.prover.open = lambda folder: None  # type: ignore[method-assign]  # it fails
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
    rig.committed(EPOCH)
    rig.open_epoch()
    rig.draw_epoch()
    delay = RULES.fault_delay(OWNER, EPOCH, OTHER)
    rig.cycle(at=END + delay - 1)
    assert rig.intents("fail") == []
    rig.cycle(at=END + delay, times=3)
    (intent,) = rig.intents("fail")
    assert rig.arguments(intent)[0].lower() == OTHER.lower()
    assert intent.deadline == RULES.fault_until(END)
    # The report has landed: there is no proof any more.
    rig.set(intent, IntentState.FINAL)
    rig.contract.proofs[OTHER] = rig.contract.proofs[OTHER]._replace(rounds=0)
    rig.cycle(times=2)
    assert len(rig.intents("fail")) == 1
    assert ProofsRepository(rig.store).proofs_before(EPOCH + 1) == []


@pytest.mark.parametrize(
    ("changes", "drawn", "provider"),
    [
        ({"verified": RULES.samples}, True, OTHER),
        ({"epoch": EPOCH + 1}, True, OTHER),  # it has committed again
        ({"rounds": 0}, True, OTHER),
        ({}, False, OTHER),  # void
        ({}, True, OWNER),  # nobody reports itself
    ],
)
def test_faults__nothing_to_report__forgotten(
    rig: Rig, changes: dict[str, int], drawn: bool, provider: str
) -> None:
    rig.committed(EPOCH, provider, **changes)
    rig.open_epoch()
    if drawn:
        rig.draw_epoch()
    rig.cycle(at=END + 599)
    assert rig.intents("fail") == []
    assert ProofsRepository(rig.store).proofs_before(EPOCH + 1) == []


def test_faults__too_old__forgotten(rig: Rig) -> None:
    rig.committed(EPOCH)
    rig.open_epoch()
    rig.draw_epoch()
    rig.cycle(at=RULES.fault_until(END) + 1)
    assert rig.intents("fail") == [] and ProofsRepository(rig.store).proofs_before(EPOCH + 1) == []


def test_faults__switched_off__nothing_is_kept(tmp_path: Path) -> None:
    rig = Rig(tmp_path, report_faults=False)
    rig.committed(EPOCH)
    assert ProofsRepository(rig.store).proofs_before(EPOCH + 1) == []


# ---------------------------------------------------------------------- around it


def test_report__is_kept_for_status(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.cycle(at=FIRST + 12)
    kept = ProofReport.from_text(str(rig.store.meta("benchmark.report")))
    assert (kept.epoch, kept.stage, kept.note) == (EPOCH, "window", "proving")
    assert kept.committed_rounds == rig.contract.proofs[OWNER].rounds > 0
    assert (kept.score, kept.proven, kept.proven_until) == (7, 9, 10**6)
    assert kept.device == "cpu"
    assert rig.duty.report.to_json()["score"] == "7"


def test_report__nothing_new__nothing_is_written(rig: Rig) -> None:
    rig.cycle(at=OPENED + 5)
    written = rig.store.changes()
    rig.cycle(times=5)
    assert rig.store.changes() == written


def test_folders_of_other_epochs__are_deleted(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    old = rig.proof.path
    assert old.exists()
    rig.cycle(at=END + 1)
    rig.open_epoch(epoch=EPOCH + 1, at=END + 2)
    rig.lag = 5
    rig.contract.known_from[EPOCH + 1] = END + 2
    rig.cycle(at=END + 2)
    assert old.exists(), "a reorg may take the new epoch away"
    rig.cycle(at=END + 10)
    assert not old.exists()


def test_one_endpoint_tells_of_a_later_epoch__what_opens_the_proof_stays(tmp_path: Path) -> None:
    """Without it the bond is lost: that is not for one endpoint to decide."""
    rig = committed_rig(tmp_path)
    mine = rig.proof.path
    rig.contract.lie = EPOCH + 9
    for second in range(5):
        rig.cycle(at=FIRST + second)
    assert mine.exists()
    rig.contract.lie = 0
    rig.cycle(at=FIRST + 12)
    assert rig.proof.path == mine and mine.exists()


@pytest.mark.parametrize("error", [ChainError("no endpoint"), ZeroDivisionError()])
def test_error__goes_up_to_the_one_place_that_decides(rig: Rig, error: Exception) -> None:
    rig.contract.fails = error
    with pytest.raises(type(error)):
        rig.cycle()
