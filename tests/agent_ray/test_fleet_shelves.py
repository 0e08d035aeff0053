# SPDX-License-Identifier: Apache-2.0
"""What leases on a fleet save: a program loses its machine and goes on, on another one and under
another provider, to the same bits; and a machine that dies in the middle saves nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.devices import Device
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from provider_agent.runners.ray.runner import RayRunner
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.file_store import FileStore
from teraproof.storage.layout import Destination
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse
from tests.agent.leases.documents import service, spec, volume
from tests.agent.leases.saving import stored
from tests.agent_ray.conftest import Agents
from tests.agent_ray.fleet import Fleet, eventually, lease
from tests.agent_ray.processes import running
from tests.agent_ray.test_fleet import machine_of
from tests.agent_ray.test_fleet_kill import ours

FIRST, SECOND = "1" * 64, "2" * 64
STEPS = 300
HALF = STEPS // 2
# Each step depends on all before it. One that begins at 0 waits half way, to be killed there.
PROGRAM = f"""
d=$VOLUMES/data/data/run
mkdir -p $d
n=0 h=begin stop={HALF}
if [ -f $d/state ]; then read n h <$d/state; stop=none; fi
echo "begins at $n"
while [ $n -lt {STEPS} ]; do
  h=$(printf %s $h | sha256sum | cut -c1-64)
  n=$((n + 1))
  echo "$n $h" >$d/../state.new
  mv $d/../state.new $d/state
  if [ $n = $stop ]; then exec sleep 600; fi
done
exec sleep 600
"""
GPU = Device("cuda", 0, "Test GPU", "", 4 << 30)

Savers = Callable[[str, RayRunner], LeaseCheckpoints]


def undisturbed() -> list[str]:
    """What the program ends with when nobody disturbs it."""
    found = "begin"
    for _ in range(STEPS):
        found = hashlib.sha256(found.encode()).hexdigest()
    return [f"{STEPS}", found]


@pytest.fixture
def asked(tmp_path: Path) -> LeaseSpec:
    wanted = Checkpoints("web", "/data/run", f"file://{tmp_path}/store", every_seconds=1)
    return replace(spec(service(volumes=(volume(),))), checkpoints=wanted)


@pytest.fixture
def savers(tmp_path: Path) -> Iterator[Savers]:
    """Makes the part of an agent that saves, by its name."""
    made: list[LeaseCheckpoints] = []

    def saver(name: str, runner: RayRunner) -> LeaseCheckpoints:
        made.append(LeaseCheckpoints(runner, tmp_path / name, Reach.own(), wanted=True))
        return made[-1]

    yield saver
    for one in made:
        one.close()


def begins(
    work: LeaseCheckpoints, runner: RayRunner, name: str, asked: LeaseSpec, **more: Any
) -> None:
    """A lease from its preparation on, as the agent does it."""
    work.give(name, {})
    runner.prepare(lease(name, name="web", script=PROGRAM, **more))
    work.begin(name, asked)
    runner.start(name)
    work.keep({name: asked}, {name})


def state_of(fleet: Fleet, name: str) -> list[str]:
    """The step that a program has reached, and what it has there."""
    found = list(fleet.place.rglob(f"{name}/volumes/web/data/data/run/state"))
    return found[0].read_text().split() if found else []


def saved_files(asked: LeaseSpec) -> list[str]:
    """What the newest checkpoint has."""
    assert asked.checkpoints is not None
    there = Destination(open_store(parse(asked.checkpoints.uri), Reach.own()))
    listed = there.listed()
    return [one.path for one in there.files(listed[-1])] if listed else []


def test_machine_is_lost_half_way__the_next_provider_goes_on_elsewhere_to_the_same_bits(
    runner: RayRunner, agents: Agents, fleet: Fleet, savers: Savers, asked: LeaseSpec
) -> None:
    one, other = savers("one", runner), agents("two")
    assert one.offered == (importlib.util.find_spec("boto3") is not None)
    two = savers("two", other)
    begins(one, runner, FIRST, asked, devices=(GPU,))
    assert machine_of(runner, FIRST) == "b"
    eventually(lambda: saved_files(asked) == ["state"])
    eventually(lambda: state_of(fleet, FIRST)[:1] == [f"{HALF}"])
    # All of the machine, its containers too.
    fleet.kill("b")
    for pid in (*ours("b"), *running("agent one", FIRST)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        eventually(lambda: "does not answer" in one.kept(FIRST).trouble)
        assert one.kept(FIRST).checkpoint == stored(asked)[-1]

        begins(two, other, SECOND, asked, cpu=2500)
        assert machine_of(other, SECOND) == "a"
        (line,) = eventually(lambda: list(other.logs(SECOND, "web")))
        assert 0 < int(line[1].split()[-1]) <= HALF
        eventually(lambda: state_of(fleet, SECOND) == undisturbed())
        eventually(lambda: two.kept(SECOND).checkpoint.startswith("2."))
        two.forget(SECOND)
        other.remove(SECOND)
        assert not list(fleet.place.rglob(f"shelves/{SECOND}"))
    finally:
        fleet.start("b")
    # Whoever was thought dead finds out, and adds nothing.
    eventually(lambda: "taken over" in one.kept(FIRST).trouble)
    assert all(name.startswith("2.") for name in stored(asked)[-1:])
    one.forget(FIRST)


def test_our_part_dies_while_it_is_read__nothing_half_is_saved_and_the_lease_goes_on(
    runner: RayRunner,
    fleet: Fleet,
    savers: Savers,
    asked: LeaseSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send, killed = FileStore.write, list[int]()

    def dying(self: FileStore, key: str, *rest: Any, **more: Any) -> bool:
        if key.startswith("objects/") and not killed:
            killed.extend(ours(machine_of(runner, FIRST)))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return send(self, key, *rest, **more)

    work = savers("one", runner)
    monkeypatch.setattr(FileStore, "write", dying)
    begins(work, runner, FIRST, asked)
    eventually(lambda: "does not answer" in work.kept(FIRST).trouble)
    assert killed and stored(asked) == []
    eventually(lambda: work.kept(FIRST).checkpoint)
    assert runner.keep([FIRST])[FIRST].running
    assert len(running("agent one", FIRST)) >= 1
    work.forget(FIRST)
    runner.keep([])
    assert not list(fleet.place.rglob(f"shelves/{FIRST}"))
