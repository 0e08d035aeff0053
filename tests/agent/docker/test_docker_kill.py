# SPDX-License-Identifier: Apache-2.0
"""The agent, the engine and the machine die at any moment: no orphan, no double start."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners import linux
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Engine, EngineAway
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import Lease, Status
from teraproof.protocol.errors import Code
from tests.agent.docker import agent_process
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import busybox
from tests.agent.docker.test_docker_life import containers, wait_for
from tests.support.processes import with_argument
from tools.engine import ROOT, TOOLS

SEED = 20261129
STRIDE = int(os.environ.get("TERAPROOF_KILL_STRIDE", "5"))
"""One of this number of steps of the agent is tried; 1 tries all, which takes minutes."""


class Killed(BaseException):
    """Where the agent died; nothing catches it."""


def again(yard: Yard) -> Yard:
    """The agent after its restart: a new one, with what is on the disk."""
    runner = DockerRunner(
        yard.data,
        yard.runner._names.agent,
        socket=yard.daemon.socket,
        reserve=MIB,
        log_bytes=64 * 1024,
    )
    return Yard(runner, yard.daemon, yard.data, yard.image)


def dies_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The agent dies after its step number `count`: a request that changes something, or a tool.

    Between two such steps it only asks, so these are all the states that it can leave.
    """
    ask, tool, left = Engine._open, subprocess.run, [count]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    def open_(self: Engine, method: str, *given: Any) -> Any:
        found = ask(self, method, *given)
        if method != "GET":
            if left[0] == 1:
                found[0].read()  # so the engine has done it
                found[1].close()
            step()
        return found

    def run(*given: Any, **named: Any) -> Any:
        done = tool(*given, **named)
        step()
        return done

    monkeypatch.setattr(Engine, "_open", open_)
    monkeypatch.setattr(subprocess, "run", run)


def test_agent__dies_after_any_step__ends_with_each_container_once(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease("lease-1", (yard.service(memory=16 * MIB, storage=2 * MIB),))
    for count in range(1, 100, STRIDE):
        with monkeypatch.context() as patch:
            dies_after(patch, count)
            try:
                agent = again(yard)
                agent.runner.prepare(lease)
                agent.runner.start("lease-1")
                agent.runner.remove("lease-1")
            except Killed:
                pass
            else:
                break
        agent = again(yard)
        agent.runner.prepare(lease)
        agent.runner.start("lease-1")
        assert agent.runner.state("lease-1").running, count
        assert len(containers(agent)) == 1, count
        assert len(agent.runner._networks.yards()) == 1, count
        agent.runner.remove("lease-1")
        assert agent.runner.list() == (), count
    else:
        raise AssertionError("it never came to the end")
    assert count > 12


def test_agent__killed_while_it_makes_leases__nothing_is_left_and_nothing_twice(
    yard: Yard,
) -> None:
    chance = random.Random(SEED)
    agent = yard.runner._names.agent
    command = [
        *(sys.executable, "-m", "tests.agent.docker.agent_process"),
        *(str(yard.daemon.socket), str(yard.data), agent, yard.image),
    ]
    for _ in range(4):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            time.sleep(chance.uniform(0.2, 5))
            process.kill()
        # The engine may still be at what the dead one has asked for: some cycles clear it away.
        for _ in range(20):
            yard.runner.keep(["lease-0"])
            if set(yard.runner.list()) <= {"lease-0"}:
                break
            time.sleep(0.25)
        assert set(yard.runner.list()) <= {"lease-0"}
        assert len(containers(yard)) <= 3
        lease = agent_process.lease("lease-0", yard.image)
        yard.runner.prepare(lease)
        yard.runner.start("lease-0")
        assert yard.runner.state("lease-0").running
        assert len(containers(yard)) == 3


@pytest.fixture
def revived(yard: Yard) -> Iterator[Yard]:
    """An engine that is up again after the test, whatever happened to it."""
    yield yard
    process = yard.daemon.process
    assert process is not None
    yard.daemon.go_on() if process.poll() is None else yard.daemon.start()


def test_engine__killed__unknown_meanwhile_and_all_is_back_after_it(revived: Yard) -> None:
    yard = revived
    yard.run(yard.service(), yard.service("other"))
    yard.say("echo kept >/root/note; sync")
    yard.daemon.kill()
    for ask in (
        lambda: yard.runner.state("lease-1"),
        lambda: yard.runner.keep(["lease-1"]),
        lambda: yard.runner.keep(()),
        lambda: yard.runner.start("lease-1"),
        lambda: yard.runner.remove("lease-1"),
    ):
        with pytest.raises(EngineAway) as away:
            ask()
        assert away.value.code is Code.CONTAINERS_AWAY
    yard.daemon.start()
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert len(containers(yard)) == 2
    assert yard.say("cat /root/note") == "kept"


def test_engine__killed_while_it_makes_eight__each_is_there_once(revived: Yard) -> None:
    yard, chance = revived, random.Random(SEED)
    more: dict[str, Any] = {"memory": 16 * MIB, "storage": 2 * MIB, "cpu": 100, "pids": 8}
    lease = Lease("lease-1", (yard.service(count=8, **more),))

    def make() -> None:
        with suppress(RunnerError):
            yard.runner.prepare(lease)
            yard.runner.start("lease-1")

    for _ in range(2):
        thread = threading.Thread(target=make)
        thread.start()
        time.sleep(chance.uniform(0.5, 4))
        yard.daemon.kill()
        thread.join()
        yard.daemon.start()
    yard.runner.prepare(lease)
    yard.runner.start("lease-1")
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert len(containers(yard)) == 8
    yard.runner.remove("lease-1")
    assert containers(yard) == []
    assert not _programs(yard)


def _left_behind(yard: Yard, tmp_path: Path, group: str = "") -> int:
    """An engine is killed just after it started a program and before it knew; the program's number.

    The engine stands still meanwhile: its own parts do what it would have asked them for.
    """
    (container,) = containers(yard)
    ctr = shutil.which("ctr", path=TOOLS) or pytest.skip("ctr of containerd is missing")
    root = tmp_path / "left"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(busybox(), root / "bin")
    there = [str(ctr), "-a", f"{yard.daemon.place}/exec/containerd/containerd.sock", "-n", "moby"]
    yard.daemon.hang()
    known = subprocess.run([*there, "c", "ls", "-q"], capture_output=True, text=True, check=True)
    if container in known.stdout.split():
        subprocess.run([*there, "c", "rm", container], check=True)
    group = f"{yard.daemon.cgroup}/{group or container}"
    more = ["run", "-d", "--cgroup", group, "--rootfs", str(root), container]
    subprocess.run([*there, *more, "/bin/busybox", "sleep", "600"], check=True)
    yard.daemon.kill()
    yard.daemon.start()
    (program,) = _programs(yard)
    assert not yard.runner.state("lease-1").running
    return int(program)


def test_engine__killed_after_it_started_a_program__it_runs_once(
    revived: Yard, tmp_path: Path
) -> None:
    yard = revived
    yard.runner.prepare(Lease("lease-1", (yard.service(),)))
    left = _left_behind(yard, tmp_path)
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running
    assert len(containers(yard)) == 1
    assert not Path(f"/proc/{left}").exists()
    state: Any = yard.inspect()["State"]
    assert str(state["Pid"]) in _programs(yard)


def test_engine__killed_as_it_started_what_had_died__it_runs_with_its_files(
    revived: Yard, tmp_path: Path
) -> None:
    yard = revived
    script = "test -e /root/note || { echo kept >/root/note; sync; exit 3; }; sleep 600"
    yard.run(yard.service(script=script))
    wait_for(yard, Status.EXITED)
    left = _left_behind(yard, tmp_path)
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert len(containers(yard)) == 1
    assert not Path(f"/proc/{left}").exists()
    assert yard.say("cat /root/note") == "kept"


@pytest.mark.parametrize("call", ["remove", "stop"])
def test_engine__killed_after_it_started_a_program__it_ends_with_its_lease(
    revived: Yard, tmp_path: Path, call: str
) -> None:
    yard = revived
    yard.runner.prepare(Lease("lease-1", (yard.service(),)))
    _left_behind(yard, tmp_path)
    (container,) = containers(yard)
    getattr(yard.runner, call)("lease-1")
    assert not _programs(yard)
    yard.runner.remove("lease-1")
    end = time.monotonic() + 20
    while with_argument(container):  # its supervisor
        assert time.monotonic() < end
        time.sleep(0.05)


def test_engine__can_never_start_a_container_again__another_one_has_its_limits_and_files(
    revived: Yard, tmp_path: Path
) -> None:
    yard = revived
    yard.runner.prepare(Lease("lease-1", (yard.service(),)))
    before = yard.inspect()
    left = _left_behind(yard, tmp_path, group="elsewhere")  # so it is not known whose it is
    try:
        yard.runner.start("lease-1")
    finally:
        with suppress(ProcessLookupError):  # it may have ended with its supervisor
            os.kill(left, 9)
    after = yard.inspect()
    assert yard.runner.state("lease-1").running
    assert after["Id"] != before["Id"]
    assert after["HostConfig"] == before["HostConfig"]
    assert len(containers(yard)) == 1


def test_program__that_is_not_in_the_image__is_not_made_again_and_again(yard: Yard) -> None:
    yard.runner.prepare(Lease("lease-1", (yard.service(command=("/bin/nothing",)),)))
    made = containers(yard)
    with pytest.raises(RunnerError):
        yard.runner.start("lease-1")
    for _ in range(3):
        assert not yard.runner.keep(["lease-1"])["lease-1"].running
    assert containers(yard) == made


def test_container__that_does_not_start__keeps_no_other_from_it(yard: Yard) -> None:
    bad = yard.service("a-bad", command=("/bin/nothing",))
    with pytest.raises(RunnerError):
        yard.run(bad, yard.service("good"))
    for state in (yard.runner.state("lease-1"), yard.runner.keep(["lease-1"])["lease-1"]):
        assert [one.service for one in state.down] == ["a-bad"]


def test_engine__takes_requests_and_answers_none__known_in_time(revived: Yard) -> None:
    yard = revived
    yard.run()
    quick = DockerRunner(
        yard.data, yard.runner._names.agent, socket=yard.daemon.socket, reserve=MIB, seconds=1
    )
    yard.daemon.hang()
    try:
        with pytest.raises(EngineAway):
            quick.state("lease-1")
        with pytest.raises(EngineAway):
            quick.keep(["lease-1"])
    finally:
        yard.daemon.go_on()
    assert yard.runner.keep(["lease-1"])["lease-1"].running


def test_machine__restarted__nothing_starts_without_walls_and_files(revived: Yard) -> None:
    """What a restart leaves: containers that have ended, no mount, no rule."""
    yard = revived
    yard.run()
    yard.say("echo kept >/root/note; sync")
    (name,) = containers(yard)
    yard.daemon.kill()
    _reboot(yard)
    yard.daemon.start()
    time.sleep(1)
    assert yard.runner.state("lease-1").containers[0].status is Status.EXITED
    with pytest.raises(RunnerError):  # somebody else tries
        yard.runner.engine.post(f"/containers/{name}/start")
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert yard.say("cat /root/note") == "kept"
    assert len(containers(yard)) == 1


def test_owner__with_containers_of_its_own__keeps_them(yard: Yard) -> None:
    made = yard.runner.engine.post(
        "/containers/create", {"Image": yard.image, "Cmd": ["sleep", "600"]}, name="mine"
    )["Id"]
    try:
        yard.run()
        yard.runner.keep(())
        assert yard.runner.engine.find(f"/containers/{made}/json") is not None
        assert yard.runner._images.find(yard.image) is not None
    finally:
        yard.runner.engine.delete(f"/containers/{made}", force=True)


def _programs(yard: Yard) -> list[str]:
    """What still runs of the leases."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            if yard.daemon.cgroup in path.read_text():
                found.append(path.parent.name)
    return found


def _reboot(yard: Yard) -> None:
    for pid in [*yard.daemon.left(), *map(int, _programs(yard))]:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    end = time.monotonic() + 20
    while _programs(yard) and time.monotonic() < end:
        time.sleep(0.05)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        place = Path(line.split()[4])
        if place.is_relative_to(yard.data) or place.is_relative_to(yard.daemon.place):
            linux.unmount(place)
    for chain in ("-F", "-X"):
        subprocess.run(["iptables", "-t", "mangle", chain], check=True)
