# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of a job: the agent that is started next finishes it, once."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from teraproof.protocol.terms import Status
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.together import together
from tests.agent_e2e.world import Job, World
from tests.support import budget

ACTIONS = ("accept", "attest", "finalize")
STATES = ("planned", "signed", "broadcast", "sent", "mined", "final")
RUN = ("planned", "running", "exited", "collected")
STEPS = (
    "spec.stored",
    "events.consume",
    "runner.start",
    "runner.launch",
    "result.keep",
    "statement.kept",
    "runner.remove",
    *(f"{action}.{state}" for action in ACTIONS for state in STATES),
    *(f"run.{state}" for state in RUN),
)
POINTS = [f"{step}.{side}" for step in STEPS for side in ("before", "after")]
# The number of pairs of deaths in one job that are tried as well, for a long sweep.
PAIRS = int(os.environ.get("E2E_KILL_PAIRS", "0"))


def two_points() -> list[str]:
    """Some pairs of different points, the same in each run of the suite."""
    chosen = random.Random(2)
    return [",".join(chosen.sample(POINTS, 2)) for _ in range(PAIRS)]


def live_and_die(world: World, job: Job) -> None:
    """Be the tenant of an agent until it is dead."""
    process = world.process
    assert process is not None
    uploaded = False

    def over() -> bool:
        nonlocal uploaded
        uploaded = uploaded or job.try_upload()
        return process.poll() is not None

    world.until(over, "death", 90)
    assert process.poll() == -9, world.log()


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    busy_market: Deployment,
    nursery: Nursery,
) -> Iterator[dict[str, Future[None]]]:
    # Made by one thread: pytest's factory is not made for several.
    base = tmp_path_factory.mktemp("cases")

    def run(case: str) -> None:
        world = World(base / case, busy_market).set_up()
        try:
            job = world.quick_job()
            for point in case.split(","):
                world.fork_agent(nursery, die_at=point)
                live_and_die(world, job)
            world.fork_agent(nursery)
            world.until(job.try_upload, "upload", 60)
            world.settled(job)
            world.check_clean(accept=1, attest=1, finalize=1)
        finally:
            world.close()

    with together(request, "test_kill__job_is_finished_once", run) as made:
        yield made


# All of them in `make test-deep`; the test below dies at each of them in either.
@pytest.mark.parametrize("case", [*budget.every(5, POINTS), *two_points()])
def test_kill__job_is_finished_once(case: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[case].result()


def test_kill_at_every_point_of_one_job__job_is_finished_once(
    tmp_path: Path, busy_market: Deployment, nursery: Nursery
) -> None:
    diary = tmp_path / "diary"
    world = World(tmp_path, busy_market).set_up()
    try:
        job = world.quick_job()
        lives = 0
        # Its agent dies at each point that no agent before it has passed.
        while job.status is not Status.SETTLED and lives < 2 * len(POINTS):
            world.fork_agent(nursery, die_at="each", diary=str(diary))
            live_and_die(world, job)
            lives += 1
        world.fork_agent(nursery)
        world.settled(job)
        world.check_clean(accept=1, attest=1, finalize=1)
        # The sweep above would miss a step that is not in its list.
        assert set(diary.read_text().split()) <= set(POINTS)
    finally:
        world.close()
