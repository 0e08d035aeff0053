# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of an epoch: nothing is lost, nothing is sent twice, no process is left."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.world import World
from tests.agent_proofs.epochs import Epochs, epochs, prover

ACTIONS = (
    "open",
    "commit-1",
    "commit-last-3",
    "commit-last-1",
    "close",
    "draw",
    "samples-0",
    "samples-2",
    "claim",
)
STATES = ("planned", "signed", "broadcast", "sent", "mined", "final")
STEPS = (
    *(f"{action}.{state}" for action in ACTIONS for state in STATES),
    "proof.folder",
    "proof.request",
    "prover.wait",
    "prover.prove",
    "prover.open",
)
POINTS = {f"{step}.{side}" for step in STEPS for side in ("before", "after")}
DEATH = 240.0  # seconds that an agent may live before it passes a new point or all is done


def passed(diary: Path) -> set[str]:
    """The points that an agent has died at."""
    return set(diary.read_text().split()) if diary.exists() else set()


def landed(world: World) -> Counter[tuple[str, str]]:
    """Successful calls by what they were about, from the agent's own record of its intents."""
    rows = world.rows("SELECT object_id, action FROM intents WHERE state = 'final'")
    return Counter((str(about), re.sub(r"#\d+$", "", str(action))) for about, action in rows)


def test_kill_at_every_point_of_an_epoch__is_proven_and_nothing_is_sent_twice(
    tmp_path: Path, nursery: Nursery
) -> None:
    diary = tmp_path / "diary"
    with (
        epochs() as walking,
        prover(walking, tmp_path, openings_per_transaction="2") as world,
    ):
        walking.waits_for.append(world)
        lives = 0
        while not passed(diary) >= POINTS and lives < 2 * len(POINTS):
            world.fork_agent(nursery, die_at="each", diary=str(diary))
            _await_death(world, diary)
            # One that had only begun sees it when it has loaded its modules.
            world.until(lambda: not world.left_processes(), "end of the worker", DEATH)
            lives += 1
        assert passed(diary) >= POINTS, POINTS - passed(diary)

        world.fork_agent(nursery)
        whole = walking.epoch + 1
        _claimed(walking, world, whole)
        assert world.stop_agent() == 0, world.log()

        assert world.left_processes() == []
        _check_sent(world)


def _await_death(world: World, diary: Path) -> None:
    """Wait until the agent has killed itself, or has nothing new to pass."""
    process = world.process
    assert process is not None
    world.until(lambda: process.poll() is not None or passed(diary) >= POINTS, "death", DEATH)
    world.kill_agent()


def _claimed(walking: Epochs, world: World, whole: int) -> None:
    """Wait until an epoch without a death is proven and its reward is paid."""
    world.until(lambda: walking.score_in(world, whole) > 0, "score", DEATH)
    world.until(lambda: walking.is_settled(world, whole), "claim", DEATH)
    waiting = "SELECT 1 FROM intents WHERE state NOT IN ('final', 'reverted', 'abandoned')"
    world.until(lambda: not world.rows(waiting), "rest", DEATH)


def _check_sent(world: World) -> None:
    """The chain has what the record says, each call once, and none that failed."""
    known = landed(world)
    assert max(known.values()) == 1, known
    sent = world.deployment.sent_by(world.operator.address)
    by_function = Counter(_function(action) for _, action in known)
    expected = {(name, True): count for name, count in by_function.items()}
    assert sent == expected, _came_to_nothing(world)
    assert world.anvil.nonce(world.operator.address) == sum(sent.values())


def _came_to_nothing(world: World) -> str:
    """What did not end well, with its story in the log."""
    rows = world.rows(
        "SELECT object_id, action, state, deadline, reason FROM intents WHERE state != 'final'"
    )
    lines = (world.directory / "agent.log").read_text().splitlines()
    names = [f"{action} of {about}" for about, action, *_ in rows]
    return "\n".join([*map(str, rows), *(x for x in lines if any(name in x for name in names))])


def _function(action: str) -> str:
    """The contract's function behind an action."""
    name = action.partition("-")[0]
    return {"samples": "open_samples"}.get(name, name)
