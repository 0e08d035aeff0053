# SPDX-License-Identifier: Apache-2.0
"""The benchmark duty: what it does in each stage of an epoch, and what it never does."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.proofs.epochs import ProofReport
from provider_agent.modules.proofs.repository import ProofsRepository
from provider_agent.prover.folder import ProofFolder
from provider_agent.store import IntentState
from teraproof import headers
from teraproof.headers import Header, HeaderError
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.opening import Opening, verify
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef
from tests.agent.duty_rig import OTHER, OWNER, TPF
from tests.agent.proof_rig import (
    BEACON,
    DRAW,
    END,
    EPOCH,
    OPENED,
    RULES,
    SHAPE,
    WINDOW_END,
    WINS_TOO,
    Rig,
)

FIRST = OPENED + RULES.window // 8
MIDDLE = OPENED + RULES.window // 2
LAST = [WINDOW_END - 48, WINDOW_END - 36, WINDOW_END - 24]  # blocks before the last three
CLOSED = WINDOW_END + RULES.close_delay(OWNER, EPOCH)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def committed_rig(tmp_path: Path, **settings: Any) -> Rig:
    """A rig whose commit has landed in an open epoch."""
    rig = Rig(tmp_path, **settings)
    rig.open_epoch()
    rig.cycle(at=FIRST)
    rig.land(rig.intents("commit-1")[0])
    return rig


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
    assert rig.duty.look_again is not None and rig.duty.look_again > 900


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
    assert not old.exists()


@pytest.mark.parametrize("error", [ChainError("no endpoint"), ZeroDivisionError()])
def test_error__goes_up_to_the_one_place_that_decides(rig: Rig, error: Exception) -> None:
    rig.contract.fails = error
    with pytest.raises(type(error)):
        rig.cycle()
