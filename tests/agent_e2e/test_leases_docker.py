# SPDX-License-Identifier: Apache-2.0
"""A lease from its quote to its end, with the real contracts and real containers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome
from tests.agent.docker.conftest import (
    WAITS,
    Yard,
    daemon,
    inside,
    registry,
    shell,
    yard,
)
from tests.agent.leases.documents import MIB, service, spec, volume
from tests.agent_e2e.chain import deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig
from tests.support.anvil import Anvil

__all__ = ["daemon", "inside", "registry", "shell", "yard"]


@pytest.fixture
def agent(yard: Yard, tmp_path: Path) -> Iterator[LeaseRig]:
    # The chain is where the engine's networks are, and so is this thread.
    with deployment(Anvil()) as market, rig(market, tmp_path / "agent-2", yard.runner) as made:
        made.cycle(2)
        yield made


def started_at(yard: Yard, name: str) -> str:
    """When the container of a lease began to run, as the engine says it."""
    said = yard.inspect(name, "web")["State"]
    assert isinstance(said, dict)
    return str(said["StartedAt"])


def soon(agent: LeaseRig, holds: Callable[[], object], what: str) -> None:
    """Cycles while real containers take their time."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, f"no {what}: {agent.row()}"
        agent.cycle()
        time.sleep(0.1)


def test_lease__real_containers__paid_while_they_run_and_gone_afterwards(
    yard: Yard, agent: LeaseRig
) -> None:
    wanted = spec(
        service(
            image=yard.image,
            command=("/bin/sh", "-c", WAITS),
            env={"GREETING": "hello"},
            volumes=(volume(),),
        )
    )
    agent.hire(agent.quote(wanted))
    soon(agent, lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    name = agent.name
    assert (
        yard.say("echo $GREETING > /data/a; cat /data/a", lease_id=name, service="web") == "hello"
    )
    limits = yard.inspect(name, "web")["HostConfig"]
    assert isinstance(limits, dict)
    given = wanted.services[0].resources
    assert limits["Memory"] == given.memory_bytes == 64 * MIB
    assert limits["NanoCpus"] == given.cpu_millis * 10**6

    # What dies is started again, and keeps what it has written.
    container = yard.runner._names.container(name, "web", 0)
    yard.runner.engine.post(f"/containers/{container}/kill")
    agent.cycle()
    soon(agent, lambda: yard.runner.state(name).running, "new life")
    assert yard.say("cat /data/a", lease_id=name, service="web") == "hello"

    yard.runner.stop(name)
    soon(agent, lambda: agent.marks().suspended_at > 0, "suspension")
    yard.runner.start(name)
    soon(agent, lambda: agent.marks().suspended_at == 0, "resumption")

    agent.restart()
    agent.cycle(3)
    assert agent.marks().suspended_at == 0
    agent.call(agent.tenant, "close")
    soon(agent, lambda: name not in yard.runner.list(), "removal")
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.BY_TENANT
    assert agent.locked() == 0


def test_no_node_answers__what_dies_is_started_again(yard: Yard, agent: LeaseRig) -> None:
    wanted = spec(service(image=yard.image, command=("/bin/sh", "-c", WAITS)))
    agent.hire(agent.quote(wanted))
    soon(agent, lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    name = agent.name
    container = yard.runner._names.container(name, "web", 0)
    before = started_at(yard, name)
    yard.runner.engine.post(f"/containers/{container}/kill")
    end = time.monotonic() + 60
    while not yard.runner.state(name).running:
        assert time.monotonic() < end, "nobody has started it"
        agent.module.keep_up()
        time.sleep(0.1)
    assert started_at(yard, name) != before
    agent.cycle(2)
    agent.call(agent.tenant, "close")
    soon(agent, lambda: name not in yard.runner.list(), "removal")


def test_engine_hangs__rent_stops_and_the_same_container_goes_on(
    yard: Yard, agent: LeaseRig
) -> None:
    wanted = spec(service(image=yard.image, command=("/bin/sh", "-c", WAITS)))
    agent.hire(agent.quote(wanted))
    soon(agent, lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    name, made = agent.name, yard.inspect(agent.name, "web")["Id"]
    yard.daemon.hang()
    try:
        soon(agent, lambda: agent.marks().suspended_at > 0, "suspension")
        # A busy engine was down before it hung, and a look from then may resume the rent once.
        agent.cycle(2)
        soon(agent, lambda: agent.marks().suspended_at > 0, "suspension by what was seen since")
        due, beats = agent.seconds(), agent.sent("heartbeat")
        for _ in range(5):
            agent.anvil.step(60)
            agent.cycle()
        assert agent.seconds() == due
        assert agent.sent("heartbeat") - beats <= 5  # it is heard of, so that nobody closes it
    finally:
        yard.daemon.go_on()
    soon(agent, lambda: agent.marks().suspended_at == 0, "resumption")
    assert yard.inspect(name, "web")["Id"] == made
    agent.call(agent.tenant, "close")
    soon(agent, lambda: name not in yard.runner.list(), "removal")
