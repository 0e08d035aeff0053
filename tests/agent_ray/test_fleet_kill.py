# SPDX-License-Identifier: Apache-2.0
"""Machines, our part on them, and the agent die: nothing runs twice, nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners.ray.runner import RayRunner
from teraproof.protocol.errors import Code
from tests.agent_ray.fleet import ROOT, Fleet, eventually, lease
from tests.agent_ray.processes import alive, running
from tests.agent_ray.test_fleet import machine_of, run

SEED = 20261129


def is_away(runner: RayRunner, lease_id: str) -> bool:
    """Whether nothing is known of a lease; any other error is a fault."""
    try:
        runner.state(lease_id)
    except RunnerError as error:
        assert error.code is Code.CONTAINERS_AWAY, error
        return True
    return False


def held(runner: RayRunner, wanted: list[str]) -> set[str]:
    """For which leases Ray holds something, after another cycle."""
    runner.keep(wanted)
    return set(runner._fleet.look().holds)


def ours(name: str) -> list[int]:
    """The processes of our part on a machine: those that hold its lock."""
    found = []
    for path in Path("/proc").glob("[0-9]*/fd"):
        try:
            held = [os.readlink(one) for one in path.iterdir()]
        except OSError:
            continue
        if any(one.endswith(f"/{name}/lock") for one in held):
            found.append(int(path.parent.name))
    return found


def test_machine__killed_and_back__its_leases_are_unknown_then_the_same(
    runner: RayRunner, fleet: Fleet
) -> None:
    run(runner, "stays", cpu=3500)
    run(runner, "lost", cpu=600)
    run(runner, "ended", cpu=600)
    where = {name: machine_of(runner, name) for name in ("stays", "lost", "ended")}
    assert where == {"stays": "a", "lost": "b", "ended": "b"}
    before = {name: running("agent one", name) for name in where}

    fleet.kill("b")
    eventually(lambda: is_away(runner, "lost"))
    wanted = ["stays", "lost"]
    kept = runner.keep(wanted)
    assert "lost" not in kept
    assert kept["stays"].running
    for ask in (
        lambda: runner.prepare(lease("lost", cpu=600)),
        lambda: runner.start("lost"),
        lambda: runner.remove("ended"),
        lambda: runner.exec("lost", "app", ("true",), tty=False),
        lambda: next(runner.logs("lost", "app")),
    ):
        with pytest.raises(RunnerError) as caught:
            ask()
        assert caught.value.code is Code.CONTAINERS_AWAY
        assert "\n" not in str(caught.value)
    assert {"lost", "ended"} <= set(runner.list())
    # What Ray held there it holds nowhere else, and it ran on all the while.
    assert running("agent one", "lost") == before["lost"]
    run(runner, "new", cpu=10)
    assert machine_of(runner, "new") == "a"

    fleet.start("b")
    eventually(lambda: runner.keep([*wanted, "new"]).get("lost"))
    eventually(lambda: "ended" not in runner.list())
    runner.keep([*wanted, "new"])
    assert runner.state("lost").running
    for name in ("stays", "lost"):
        assert running("agent one", name) == before[name]
    assert running("agent one", "ended") == [], before
    eventually(lambda: held(runner, [*wanted, "new"]) == {*wanted, "new"})
    assert machine_of(runner, "lost") == "b"


def test_our_part_on_a_machine__killed__is_back_and_finds_its_leases(runner: RayRunner) -> None:
    run(runner, "held", cpu=3000)
    before = running("agent one", "held")
    machine = machine_of(runner, "held")
    found = [one for one in ours(machine) if alive(one)]
    assert found
    # Ray's own programs give way to whatever a tenant computes.
    assert all(os.getpriority(os.PRIO_PROCESS, pid) == 0 for pid in found)
    for pid in found:
        os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return runner.state("held").running
        except RunnerError as error:
            assert error.code is Code.CONTAINERS_AWAY
            return False

    eventually(is_back)
    assert runner.keep(["held"])["held"].running
    assert running("agent one", "held") == before


def test_agent__killed_while_it_makes_leases__goes_on_by_its_name(
    fleet: Fleet, agents: object
) -> None:
    chance = random.Random(SEED)
    command = [
        *(sys.executable, "-m", "tests.agent_ray.agent_process", fleet.address),
        *(str(fleet.token_file), "killed", str(fleet.place)),
    ]
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            time.sleep(chance.uniform(0.1, 2))
            process.kill()
    again: RayRunner = agents("killed")  # type: ignore[operator]
    wanted = ["lease-0"]

    # As if it had died before it wrote down what Ray has chosen.
    gone = again._fleet.cluster
    gone.hold("lease-2", {"CPU": 0.01}, ["a"], 5)

    def settled() -> bool:
        again.keep(wanted)
        return set(again.list()) <= set(wanted)

    eventually(settled)
    again.prepare(lease("lease-0", cpu=1000))
    again.start("lease-0")
    before = running("agent killed", "lease-0")
    assert len(before) == 1
    eventually(lambda: held(again, wanted) == {"lease-0"})
    for lease_id in ("lease-1", "lease-2"):
        assert not running("agent killed", lease_id)
    # Its disk is lost: the machine still has the lease, and it is not started a second time.
    again.close()
    shutil.rmtree(fleet.place / "killed")
    anew: RayRunner = agents("killed")  # type: ignore[operator]
    anew.prepare(lease("lease-0", cpu=1000))
    anew.start("lease-0")
    assert running("agent killed", "lease-0") == before
    assert anew.keep(wanted)["lease-0"].running
    anew.keep([])
    assert anew.list() == ()
    assert not running("agent killed", "lease-0")
    eventually(lambda: held(anew, []) == set())


def test_the_way_to_ray__killed__leases_are_kept_without_it(runner: RayRunner) -> None:
    run(runner, "kept")
    process = runner._fleet.cluster._process
    assert process is not None
    process.kill()
    process.wait()
    assert runner.state("kept").running
    assert runner.keep(["kept"])["kept"].running


def test_news__of_what_dies__comes_from_every_machine(runner: RayRunner) -> None:
    run(runner, "left", cpu=3000)
    run(runner, "right", cpu=1500)
    heard: set[str] = set()

    def listen() -> None:
        for lease_id in runner.changes():
            heard.add(lease_id)

    threading.Thread(target=listen, daemon=True).start()

    def all_heard() -> bool:
        # News of what died before anybody listened are missed, as they may be.
        for lease_id in ("left", "right"):
            for pid in running("agent one", lease_id):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        runner.keep(["left", "right"])
        return heard == {"left", "right"}

    eventually(all_heard)
