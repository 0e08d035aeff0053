# SPDX-License-Identifier: Apache-2.0
"""The end of a window with the real agent: nobody closes it, or a stranger does."""

from __future__ import annotations

from pathlib import Path

from teraproof.pog.schedule import Stage
from tests.agent_e2e.chain import TPF
from tests.agent_proofs.epochs import (
    WAIT,
    Epochs,
    committed,
    in_stage,
    pool,
    prover,
    scored,
)


def test_nobody_closes__epoch_is_void_and_settled__next_one_is_proven(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        void = committed(walking, world)
        world.kill_agent()
        world.until(lambda: not world.left_processes(), "end of the worker")
        walking.waits_for.clear()
        assert in_stage(walking, world, Stage.VOID) == void
        walking.waits_for.append(world)
        world.start_agent()
        world.until(lambda: walking.is_settled(world, void), "settlement", WAIT)
        assert walking.epoch == void  # by itself, not by the next commit

        scored(walking, world, after=void)

        assert walking.score_in(world, void) == 0
        assert pool(world) == 10**6 * TPF


def test_draw_is_out_of_reach__epoch_is_void(walking: Epochs, tmp_path: Path) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        void = committed(walking, world)
        world.kill_agent()
        walking.waits_for.clear()
        in_stage(walking, world, Stage.CLOSE)
        with walking.held():
            world.deployment.anvil.set_automine(True)
            walking.benchmark.send(world.stranger, "close", void)
            world.deployment.anvil.set_automine(False)
        world.until(lambda: walking.stage() is Stage.VOID, "void", WAIT)
        assert walking.record(void).target > 0
        walking.waits_for.append(world)
        world.start_agent()
        world.until(lambda: walking.is_settled(world, void), "settlement", WAIT)
        assert walking.score_in(world, void) == 0
        assert pool(world) == 10**6 * TPF


def test_stranger_closes_at_once__draw_and_score_all_the_same(
    walking: Epochs, tmp_path: Path
) -> None:
    with prover(walking, tmp_path) as world:
        walking.waits_for.append(world)
        world.start_agent()
        epoch = in_stage(walking, world, Stage.WINDOW)
        stranger = world.stranger

        def close() -> bool:
            if walking.stage() is Stage.WINDOW:
                return False
            with walking.held():
                data = walking.benchmark.abi.encode("close", epoch)
                world.anvil.send(stranger.address, walking.benchmark.address, data)
            return True

        world.until(close, "end of the window", WAIT)
        assert scored(walking, world) == epoch
        sent = world.deployment.sent_by(world.operator.address)
        assert sent["draw", True] == 1 and sent["close", True] <= 1
