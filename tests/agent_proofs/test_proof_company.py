# SPDX-License-Identifier: Apache-2.0
"""Two providers with the real agent: late, absent, on one machine."""

from __future__ import annotations

from pathlib import Path

from teraproof.pog.schedule import Stage
from tests.agent_proofs.epochs import (
    WAIT,
    Epochs,
    committed,
    in_stage,
    pool,
    prover,
    scored,
)


def test_agent_is_late__window_is_missed__next_epoch_is_proven(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path / "other") as other, prover(walking, tmp_path / "late") as late:
        walking.waits_for.append(other)
        other.start_agent()
        missed = in_stage(walking, other, Stage.SAMPLES)
        with walking.held():
            late.start_agent()
            late.until(lambda: "the window was missed" in late.log(), "the line in the log", WAIT)
        walking.waits_for.append(late)

        epoch = scored(walking, late, after=missed)

        assert walking.score_in(late, missed) == 0
        assert epoch > missed


def test_agent_comes_in_the_window__what_is_left_of_it_is_proven(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path / "other") as other, prover(walking, tmp_path / "late") as late:
        walking.waits_for.append(other)
        other.start_agent()
        epoch = committed(walking, other)
        with walking.held():
            late.start_agent()
            walking.waits_for.append(late)
            walking.expected.append(late)
        assert scored(walking, late) == epoch


def test_proof_is_not_opened__another_agent_reports_it(walking: Epochs, tmp_path: Path) -> None:
    with (
        prover(walking, tmp_path / "gone") as gone,
        prover(walking, tmp_path / "other") as other,
    ):
        walking.waits_for += [gone, other]
        gone.start_agent()
        other.start_agent()
        epoch = committed(walking, gone, other)
        gone.kill_agent()
        walking.waits_for.remove(gone)
        before = pool(gone)

        other.until(lambda: walking.proof(gone).rounds == 0, "report", WAIT)

        assert walking.score_in(gone, epoch) == 0
        assert before - pool(gone) == walking.rules.bond
        assert gone.benchmark is not None
        assert gone.benchmark.read("score", gone.owner.address) == 0


def test_two_agents_on_one_machine__both_are_scored(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path / "one") as one, prover(walking, tmp_path / "two") as two:
        walking.waits_for += [one, two]
        one.start_agent()
        two.start_agent()
        one.until(
            lambda: all(walking.score_in(world, walking.epoch) for world in (one, two)),
            "two scores in an epoch",
            WAIT,
        )
        epoch = walking.epoch
        shares = [
            walking.benchmark.read("share_of", world.owner.address, epoch) for world in (one, two)
        ]
        assert shares[0][2] == sum(effective for _, effective, _ in shares)
        assert all(effective == score for score, effective, _ in shares)
