# SPDX-License-Identifier: Apache-2.0
"""The database is lost or damaged while a job of ours is under way: the job is done and paid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from provider_agent.modules.all import open_store
from provider_agent.store import backup
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.test_kill import live_and_die
from tests.agent_e2e.test_life import SLOW, running, start_job, supervisors
from tests.agent_e2e.world import World


@pytest.fixture
def world(tmp_path: Path, busy_market: Deployment) -> Iterator[World]:
    """A provider whose agent has not been started."""
    made = World(tmp_path, busy_market).set_up()
    yield made
    made.close()


def data(world: World) -> Path:
    return world.directory / "agent" / "data"


def lose_all(world: World) -> None:
    for path in data(world).glob("agent.sqlite*"):
        path.unlink()


def lose_file(world: World) -> None:
    (data(world) / "agent.sqlite").unlink()


def lose_log(world: World) -> None:
    (data(world) / "agent.sqlite-wal").unlink()


def lose_history_too(world: World) -> None:
    for path in data(world).glob("*.sqlite*"):
        path.unlink()


def ended_with(world: World) -> str:
    """The last words of an agent that does not go on."""
    assert world.process is not None
    world.until(lambda: world.process is not None and world.process.poll() is not None, "end", 60)
    assert world.process.poll() == 1
    return world.log().strip().splitlines()[-1]


@pytest.mark.parametrize("lose", [lose_all, lose_file, lose_log, lose_history_too])
def test_lost_in_a_run__same_run_is_attested_and_paid(
    world: World, nursery: Nursery, lose: Callable[[World], None]
) -> None:
    job = start_job(world, nursery, SLOW)
    supervisor = running(world)
    world.kill_agent()
    lose(world)
    world.fork_agent(nursery)
    world.until(lambda: world.log().count("listens on") == 2, "start", 60)
    assert supervisors(world) in ([supervisor], [])
    world.settled(job)
    assert "rows of the database are lost" in world.log()
    assert world.rows("SELECT run_id FROM runs") == [(f"{job.id.hex()}-1-0",)]
    world.check_clean(accept=1, attest=1, finalize=1)


@pytest.mark.parametrize("point", ["run.collected.after", "result.keep.after"])
def test_lost_before_the_attestation__result_on_the_disk_is_attested(
    world: World, nursery: Nursery, point: str
) -> None:
    job = world.quick_job()
    world.fork_agent(nursery, die_at=point)
    live_and_die(world, job)
    lose_all(world)
    world.fork_agent(nursery)
    world.settled(job)
    assert world.rows("SELECT run_id, state FROM runs") == [(f"{job.id.hex()}-1-0", "collected")]
    world.check_clean(accept=1, attest=1, finalize=1)


@pytest.mark.parametrize("action", ["accept", "attest", "finalize"])
def test_lost_with_a_transaction_on_its_way__nonces_come_from_the_chain(
    world: World, nursery: Nursery, action: str
) -> None:
    job = world.quick_job()
    world.fork_agent(nursery, die_at=f"{action}.broadcast.after")
    live_and_die(world, job)
    lose_all(world)
    world.fork_agent(nursery)
    world.settled(job)
    sent = world.deployment.sent_by(world.operator.address)
    done = {name: number for (name, good), number in sent.items() if good}
    assert done == {"accept": 1, "attest": 1, "finalize": 1}


def test_set_back_to_a_backup_of_before_the_job__the_run_is_attested_once_and_paid(
    world: World, nursery: Nursery, tmp_path: Path
) -> None:
    first = world.quick_job()
    world.fork_agent(nursery)
    world.until(first.try_upload, "upload", 60)
    world.settled(first)
    backup.make(tmp_path / "copy", data(world))  # the agent runs, and knows of no other job
    job = world.quick_job(SLOW)
    world.until(job.try_upload, "upload", 60)
    supervisor = running(world)
    world.kill_agent()
    lose_history_too(world)
    backup.restore(backup.read(tmp_path / "copy"), data(world), open_store)
    world.fork_agent(nursery)
    assert supervisors(world) in ([supervisor], [])
    world.settled(job)
    world.check_clean(accept=2, attest=2, finalize=2)


def test_deleted_under_a_live_agent__it_ends_with_one_line_and_the_next_goes_on(
    world: World, nursery: Nursery
) -> None:
    job = start_job(world, nursery, SLOW)
    running(world)
    lose_all(world)
    assert "was moved or deleted while the agent ran; start the agent again" in ended_with(world)
    world.fork_agent(nursery)
    world.settled(job)
    world.check_clean(accept=1, attest=1, finalize=1)


def test_damaged_in_a_run__says_what_to_do__and_that_helps(world: World, nursery: Nursery) -> None:
    job = start_job(world, nursery, SLOW)
    running(world)
    assert world.stop_agent() == 0  # all is in the one file now
    path = data(world) / "agent.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)
    world.fork_agent(nursery)
    said = ended_with(world)
    assert "is damaged" in said and "move the file away" in said
    assert "Traceback" not in world.log() and "another program" not in world.log()
    path.rename(path.with_suffix(".old"))
    world.fork_agent(nursery)
    world.settled(job)
    world.check_clean(accept=1, attest=1, finalize=1)
