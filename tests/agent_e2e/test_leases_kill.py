# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step of a lease: the agent that is started next goes on with it, once."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from teraproof.protocol.lease_terms import LeaseStatus
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.leasehold import LeaseWorld, passed
from tests.agent_e2e.nursery import Nursery
from tests.agent_ray import processes
from tests.agent_ray.processes import RUN, Processes, running
from tests.support import budget

ACTIONS = (
    "accept",
    "ready",
    "heartbeat",
    "settle",
    "suspend",
    "resume",
    "give_notice",
    "close",
)
STATES = ("planned", "signed", "broadcast", "sent", "mined", "final")
CONTAINERS = ("resolve", "fetch", "prepare", "start", "begin", "remove")
STEPS = (
    "events.consume",  # of jobs, which see all orders
    "lease.kept",
    "lease_spec.stored",
    "lease.ended",
    "lease_events.consume",
    *(f"{action}.{state}" for action in ACTIONS for state in STATES),
    *(f"containers.{step}" for step in CONTAINERS),
)
POINTS = {f"{step}.{side}" for step in STEPS for side in ("before", "after")}
MOST_LEASES = 12
PLAYED = str(Path(processes.__file__))


@dataclass
class PlayedYard:
    """Processes instead of containers."""

    world: LeaseWorld

    @property
    def agent(self) -> str:
        """What the runner calls the agent."""
        return str(self.world.operator.address).lower()

    def end(self, lease: str) -> None:
        """See `leasehold.Yard`."""
        Processes(self.world.data / "containers", self.agent).stop(lease)

    def begin(self, lease: str) -> None:
        """See `leasehold.Yard`."""
        with contextlib.suppress(RunnerError):  # the agent removes it at this moment
            Processes(self.world.data / "containers", self.agent).start(lease)

    def left(self) -> list[str]:
        """See `leasehold.Yard`."""
        place = self.world.data / "containers"
        return [*map(str, running(self.agent, "")), *(path.name for path in place.glob("*/"))]


@pytest.fixture
def world(
    tmp_path: Path, busy_market: Deployment, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LeaseWorld]:
    run = secrets.token_hex(8)
    monkeypatch.setenv(RUN, run)
    made = LeaseWorld(tmp_path, busy_market, {RUN: run}).set_up()
    yield made
    for pid in running(PlayedYard(made).agent, ""):
        os.kill(pid, 9)
    made.close()


def test_kill_at_every_point_of_a_lease__each_call_once_and_nothing_twice(
    tmp_path: Path, world: LeaseWorld, nursery: Nursery
) -> None:
    diary, yard, leases = tmp_path / "diary", PlayedYard(world), 0
    # All of them in `make test-deep`; the others count as passed.
    tried = set(budget.every(5, sorted(POINTS)))
    diary.write_text("".join(f"{point}\n" for point in POINTS - tried))
    # What happens once in a lease has several points: an agent that dies at the first of them may
    # leave nothing to do for those after it.
    while not passed(diary) >= POINTS:
        assert leases < MOST_LEASES, POINTS - passed(diary)
        world.open(spec(service(**world.life(tmp_path / f"lock-{leases}"))))
        world.live_and_die(nursery, yard, diary, tried, containers=PLAYED)
        leases += 1
    assert passed(diary) == POINTS

    world.rest(nursery, yard, containers=PLAYED)
    assert world.state().status is LeaseStatus.NONE
    assert not list(tmp_path.glob("*.twice"))
    made = world.check_sent_once()
    for once in ("accept", "ready", "give_notice", "close"):
        assert made[once] == leases
    assert made["suspend"] == made["resume"] >= int(budget.deep())
    world.check_paid()
    assert world.left_processes() == []
