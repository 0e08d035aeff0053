# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty from the boundary to the window's end: what it does, and never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.prover.folder import ProofFolder
from provider_agent.store import IntentState
from teraproof import headers
from teraproof.headers import Header, HeaderError
from teraproof.pog import merkle
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OWNER, TPF
from tests.agent.proof_rig import (
    BEACON,
    EPOCH,
    FIRST,
    LAST,
    MIDDLE,
    OPENED,
    RULES,
    WINDOW_END,
    WINS_TOO,
    Rig,
    committed_rig,
)

# ---------------------------------------------------------------------- the boundary


def test_no_window__a_worker_is_ready(rig: Rig) -> None:
    assert rig.cycle(at=OPENED + 5) == "waiting for a window"
    assert rig.prover.works == "wait" and rig.actions() == []
    rig.busy = True
    assert rig.cycle(at=OPENED + 17) == "waiting for a window; paused while a job runs"
    assert rig.prover.works == ""


def test_no_window__last_one_is_not_long_ago__not_before_the_next_may_come(rig: Rig) -> None:
    rig.open_epoch()
    rig.win(boundary=25_000)
    said = rig.cycle(at=25_005)
    assert said == f"waiting for a window, not before {OPENED + RULES.spacing}"
    assert rig.actions() == [] and rig.prover.works == "wait"


def test_winner__rounds_begin_before_it_is_on_chain(rig: Rig) -> None:
    rig.open_epoch(epoch=EPOCH - 1, at=OPENED - 6_000)
    rig.win()
    assert rig.cycle(at=OPENED + 1, waited=0).startswith("proving; the window is not on chain")
    assert rig.prover.works == "prove" and rig.actions() == []
    assert (rig.duty.report.epoch, rig.duty.report.stage) == (EPOCH, "window")
    done = rig.duty.report.rounds
    assert done == rig.prover.rounds
    # On chain it is the same challenge: nothing of it is lost.
    rig.open_epoch()
    rig.cycle(at=OPENED + 24)
    assert len(rig.proof.roots()) == done + rig.prover.rounds


def test_winner__is_presented_after_a_delay_of_our_own(rig: Rig) -> None:
    delay = RULES.open_delay(OWNER, OPENED)
    assert delay > 1
    rig.win()
    rig.cycle(at=OPENED + 1, waited=delay - 2)
    assert rig.actions() == []
    rig.cycle(at=OPENED + 1, waited=delay, times=3)
    (intent,) = rig.intents()
    number, header, parent = rig.arguments(intent)
    assert number == OPENED
    assert header == rig.contract.header(OPENED).data
    assert parent == rig.contract.header(OPENED - 1).data
    assert intent.deadline == OPENED + RULES.open_period
    rig.restart()
    rig.cycle()
    assert rig.actions() == ["open"]


def test_winner__cannot_prove__is_presented_all_the_same(rig: Rig) -> None:
    rig.win()
    rig.with_standing(active_stake=0)
    assert "the stake is below the bond" in rig.cycle(at=OPENED + 60)
    assert rig.actions() == ["open"] and rig.prover.works == ""


def test_winner__is_the_newest_block__is_presented_when_there_is_another(rig: Rig) -> None:
    rig.win()
    winner = rig.contract.block(OPENED)
    rig.pace.see(winner)
    rig.seconds = RULES.open_delay(OWNER, OPENED) + 1.0
    rig.duty.reconcile(winner, winner, rig.standing)
    assert rig.duty.report.note.startswith("proving") and rig.actions() == []
    rig.cycle(at=OPENED + 1, waited=rig.seconds)
    assert rig.actions() == ["open"]


def test_winner__is_not_presented_when_that_comes_too_late(rig: Rig) -> None:
    rig.win()
    # Somebody's call may be in the next block, but ours would come after it.
    assert rig.cycle(at=OPENED + RULES.open_period - 11).startswith("proving")
    assert rig.cycle(at=OPENED + RULES.open_period) == "waiting for a window"
    assert rig.actions() == []


def test_winner__nobody_presents_it__said_once(rig: Rig) -> None:
    rig.win()
    rig.cycle(at=OPENED + 60)
    assert rig.cycle(at=OPENED + RULES.open_period, times=3) == "waiting for a window"
    assert rig.outcomes == ["unopened"] and rig.prover.works == "wait"


def test_winner__open_came_to_nothing__tried_again_later(rig: Rig) -> None:
    rig.win()
    rig.cycle(at=OPENED + 60)
    rig.set(rig.intents()[0], IntentState.ABANDONED)
    rig.cycle()
    assert rig.actions() == ["open"]
    rig.cycle(at=OPENED + 160)
    assert rig.actions() == ["open", "open#2"]


def test_winner__its_block_leaves_the_chain__nothing_is_committed(rig: Rig) -> None:
    rig.win()
    rig.cycle(at=OPENED + 60)
    assert rig.prover.works == "prove"
    rig.contract.branch, rig.contract.values = b"other", {}
    assert rig.cycle(at=OPENED + 72) == "waiting for a window"
    assert rig.prover.works == "wait" and rig.actions() == ["open"]
    # And another block that wins: the old call is taken back.
    rig.contract.branch = b"third"
    rig.win(value=WINS_TOO)
    rig.cycle(at=OPENED + 84)
    first, second = rig.intents()
    assert first.state is IntentState.ABANDONED and second.key.action == "open"
    assert rig.place(headers.beacon(WINS_TOO)).exists()


def test_winner__head_of_a_node_that_is_behind__goes_on(rig: Rig) -> None:
    rig.win()
    rig.cycle(at=OPENED + 60)
    rig.cycle(at=OPENED - 12)
    assert rig.prover.works == "prove"
    assert len(ProofFolder(rig.place(BEACON, epoch=1)).roots()) == 2 * rig.prover.rounds


def test_boundary_is_lost__looked_up_once(rig: Rig) -> None:
    rig.cycle(at=OPENED + 1)
    reads = rig.contract.reads
    rig.cycle(at=OPENED + 13, times=5)
    assert rig.contract.reads - reads <= 5  # whether its block is still there
    reads = rig.contract.reads
    rig.cycle(at=OPENED + 600, times=5)
    assert rig.contract.reads - reads <= 5


def test_before_the_genesis__waits(rig: Rig) -> None:
    said = rig.cycle(at=RULES.genesis - 60)
    assert said == f"waiting for a window, not before {RULES.genesis}"


def test_boundary__header_cannot_be_had__said_and_nothing_else_stops(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> Header:
        raise HeaderError("the header of block 5 cannot be rebuilt")

    monkeypatch.setattr(rig.contract, "header", fail)
    monkeypatch.setattr(rig.contract, "block", lambda number: BlockRef(number, bytes(32), number))
    assert rig.cycle(at=OPENED + 5) == "the header of block 5 cannot be rebuilt"
    assert rig.actions() == []


def test_operator_of_nobody__does_nothing(rig: Rig) -> None:
    rig.open_epoch()
    rig.standing = None
    assert "works for no provider" in rig.cycle(at=FIRST)
    assert rig.actions() == [] and rig.prover.works == ""


def test_boundary_is_near__looks_more_often(rig: Rig) -> None:
    rig.cycle(at=OPENED - 12, waited=11.5)
    assert rig.duty.look_again == pytest.approx(0.5)
    rig.cycle(at=OPENED - 12, waited=13)
    assert rig.duty.look_again == 1.0
    rig.cycle(at=OPENED + 12)
    assert rig.duty.look_again > 900


# ---------------------------------------------------------------------- the window


def test_window__commits_early_and_for_each_of_the_last_blocks(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=OPENED)
    assert rig.actions() == [] and rig.prover.works == "prove"
    for time in (FIRST, MIDDLE, *LAST):
        rig.cycle(at=time, times=2)
        for intent in rig.intents("commit"):
            if intent.state is IntentState.PLANNED:
                rig.land(intent)
    rig.cycle(at=WINDOW_END - 12)
    assert rig.actions() == [
        "commit-1",
        "commit-2",
        "commit-last-3",
        "commit-last-2",
        "commit-last-1",
    ]
    seen = 0
    for intent in rig.intents():
        epoch, rounds, commitment = rig.arguments(intent)
        assert (epoch, intent.deadline) == (EPOCH, WINDOW_END - 1)
        assert rounds > seen
        assert commitment == merkle.commitment(rig.proof.roots()[:rounds])
        seen = rounds
    # Nobody knows which block is the last: the work goes on to the end.
    assert rig.cycle(at=WINDOW_END - 1) == "proving" and rig.prover.works == "prove"
    rig.cycle(at=WINDOW_END)
    assert rig.prover.works == ""


def test_window__commit_for_the_last_block__waits_until_shortly_before_it(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=LAST[2], waited=7.5)
    assert rig.actions() == [] and rig.duty.look_again == pytest.approx(0.5)
    rig.cycle(at=LAST[2], waited=8.5)
    assert rig.actions() == ["commit-last-1"]


def test_window__commits_do_not_land__no_more_are_sent(rig: Rig) -> None:
    rig.open_epoch()
    for time in (MIDDLE, *LAST):
        rig.cycle(at=time)
    assert rig.actions() == ["commit-2", "commit-last-3"]


def test_window__pinned_block_does_not_have_it__nothing_is_committed(rig: Rig) -> None:
    rig.open_epoch()
    rig.contract.known_from[EPOCH] = FIRST
    rig.lag = 24
    assert rig.cycle(at=FIRST + 12) == "proving"
    assert rig.actions() == []
    rig.cycle(at=FIRST + 24)
    assert rig.actions() == ["commit-1"]


def test_window__restart__commits_to_nothing_twice_and_goes_on(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST)
    done = len(rig.proof.roots())
    rig.restart()
    rig.cycle(times=2)
    assert rig.actions() == ["commit-1"]
    assert len(rig.proof.roots()) == done + 2 * rig.prover.rounds
    assert rig.duty.report.rounds == len(rig.proof.roots())


def test_window__slots_slept_through__one_commit(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=MIDDLE + 50, times=3)
    assert rig.actions() == ["commit-2"]


def test_window__no_more_rounds_than_committed__no_commit(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST)
    rig.prover.rounds = 0
    rig.cycle(at=MIDDLE, times=2)
    assert rig.actions() == ["commit-1"]


def test_window__fewer_rounds_than_are_worth_it__no_commit(tmp_path: Path) -> None:
    rig = Rig(tmp_path, min_rounds=4)
    rig.open_epoch()
    rig.cycle(at=FIRST)
    assert rig.actions() == []
    rig.cycle()
    assert rig.actions() == ["commit-1"]


def test_window__too_late_for_a_commit__none(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=WINDOW_END - 12)
    assert rig.actions() == []


def test_window__commit_reverts__another_attempt_with_the_rounds_of_then(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST)
    rig.set(rig.intents()[0], IntentState.REVERTED)
    rig.cycle(at=FIRST + 20)
    first, second = rig.intents()
    assert second.key.action == "commit-1#2"
    assert rig.arguments(second)[1] > rig.arguments(first)[1]


def test_window__jobs_run__paused_and_resumed(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=OPENED)
    done = len(rig.proof.roots())
    rig.busy = True
    assert rig.cycle(at=FIRST, times=2) == "paused while a job runs"
    assert rig.prover.works == "" and rig.duty.report.paused
    assert len(rig.proof.roots()) == done
    assert rig.actions() == ["commit-1"]  # to what was done before
    rig.busy = False
    assert rig.cycle() == "proving"
    assert len(rig.proof.roots()) == done + 3 and not rig.duty.report.paused


def test_window__jobs_run_all_the_time__missed_because_of_them(rig: Rig) -> None:
    rig.open_epoch()
    rig.busy = True
    rig.cycle(at=FIRST)
    said = rig.cycle(at=WINDOW_END)
    assert said == "the window was missed: paused while a job runs"
    assert rig.outcomes == ["missed"]


def test_window__jobs_run_and_may__proves(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_jobs=True)
    rig.open_epoch()
    rig.busy = True
    assert rig.cycle(at=FIRST) == "proving"


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
    assert reason in rig.cycle(at=OPENED - 300)
    rig.open_epoch()
    assert reason in rig.cycle(at=FIRST)
    assert rig.actions() == [] and rig.prover.works == ""
    assert reason in rig.cycle(at=WINDOW_END)


def test_bond__free_stake_of_just_one__is_enough(rig: Rig) -> None:
    """The duty is given what is free; what it needs of that itself is held back from others."""
    rig.with_standing(available=RULES.bond)
    rig.open_epoch()
    assert rig.cycle(at=FIRST) == "proving"
    assert rig.duty.bond_to_come == RULES.bond
    rig.standing = None
    rig.cycle()
    assert rig.duty.bond_to_come == 0


def test_window__bond_is_locked_already__no_free_stake_needed(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.with_standing(available=0, per_order=0)
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(
        epoch=EPOCH - 1, verified=RULES.samples
    )
    assert rig.cycle(at=FIRST + 12) == "proving"


def test_window__earlier_proof_was_not_opened__waits_for_its_end(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(epoch=EPOCH - 1)
    rig.open_epoch(epoch=EPOCH - 1, at=OPENED - 5_000)
    rig.draw_epoch(epoch=EPOCH - 1)
    said = rig.cycle(at=FIRST + 12)
    assert f"the proof of epoch {EPOCH - 1} was not opened" in said
    assert rig.prover.works == "" and "failed" in rig.outcomes
    assert rig.intents("settle") == []
    # Without a draw it was void, and binds nothing.
    rig.open_epoch(epoch=EPOCH - 1, at=OPENED - 5_000)
    assert rig.cycle(at=FIRST + 24) == "proving"


def test_window__opened_anew_by_a_reorg__old_commit_is_given_up(rig: Rig) -> None:
    rig.open_epoch()
    rig.cycle(at=FIRST)
    old = rig.proof
    rig.open_epoch(beacon=b"\x77" * 32)
    rig.cycle(at=FIRST + 12)
    first, second = rig.intents()
    assert first.state is IntentState.ABANDONED
    assert second.key.action == "commit-1" and second.key.object_id != first.key.object_id
    assert rig.proof.path != old.path
    assert rig.arguments(second)[2] == merkle.commitment(rig.proof.roots())


def test_window__commitment_of_a_thief__the_owner_is_told(tmp_path: Path) -> None:
    rig = committed_rig(tmp_path)
    assert rig.cycle(at=FIRST + 12) == "proving"
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(rounds=10**6)
    assert "let the owner take the commitment back" in rig.cycle()
    # An old copy of the database knows nothing of a commit; the rounds on the disk tell.
    roots = rig.proof.roots()[:2]
    rig.contract.proofs[OWNER] = rig.contract.proofs[OWNER]._replace(
        rounds=2, commitment=merkle.commitment(roots)
    )
    assert rig.cycle() == "proving"
