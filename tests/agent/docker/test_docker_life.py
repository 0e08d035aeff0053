# SPDX-License-Identifier: Apache-2.0
"""The life of a lease: how it is, what it says, and that each container is there exactly once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from provider_agent.cli.sandbox import sandbox
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import ContainerState, Lease, LeaseState, Status
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import Namespace


def containers(yard: Yard) -> list[str]:
    return [one["Id"] for one in yard.runner._containers()]


def statuses(state: LeaseState) -> set[Status]:
    return {one.status for one in state.containers}


def wait_for(yard: Yard, status: Status, seconds: float = 30) -> ContainerState:
    """The first container of the lease, once it is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = yard.runner.state("lease-1").containers[0]
        if found.status is status:
            return found
        time.sleep(0.05)
    raise AssertionError(f"the container is {found.status}, not {status}")


def test_states__from_nothing_to_the_end(yard: Yard) -> None:
    with pytest.raises(RunnerError, match="no lease"):
        yard.runner.state("lease-1")
    yard.runner.prepare(Lease("lease-1", (yard.service(script="sleep 1; exit 7"),)))
    state = yard.runner.state("lease-1")
    assert statuses(state) == {Status.CREATED} and not state.wanted and not state.running
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running
    ended = wait_for(yard, Status.EXITED)
    assert ended.exit_code == 7
    assert ended.started is not None and ended.finished is not None
    assert abs(time.time() - ended.finished) < 60
    yard.runner.remove("lease-1")
    yard.runner.remove("lease-1")
    assert yard.runner.list() == ()


def test_start__many_times_at_once__one_container_each(yard: Yard) -> None:
    lease = Lease("lease-1", (yard.service(), yard.service("other", count=2)))

    def go(_: int) -> None:
        yard.runner.prepare(lease)
        yard.runner.start("lease-1")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(go, range(6)))
    made = containers(yard)
    assert len(made) == 3
    assert yard.runner.state("lease-1").running
    began = str(yard.inspect()["State"])
    go(0)
    assert containers(yard) == made
    assert str(yard.inspect()["State"]) == began


def test_start__two_agents_with_one_memory__one_container_each(yard: Yard) -> None:
    lease = Lease("lease-1", (yard.service(count=2),))
    twin = DockerRunner(yard.data, yard.runner._names.agent, socket=yard.daemon.socket, reserve=MIB)
    yard.runner.prepare(lease)

    def go(runner: DockerRunner) -> None:
        runner.prepare(lease)
        runner.start("lease-1")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(go, (yard.runner, twin)))
    assert len(containers(yard)) == 2
    assert yard.runner.state("lease-1").running


def test_prepare__another_lease_under_the_same_name__refused(yard: Yard) -> None:
    yard.run()
    with pytest.raises(RunnerError, match="something else"):
        yard.runner.prepare(Lease("lease-1", (yard.service(memory=128 * MIB),)))
    assert yard.runner.state("lease-1").running


def test_stop__with_a_moment_to_end__and_stays_so(yard: Yard) -> None:
    yard.run(yard.service(script="trap 'echo bye; exit 0' TERM; sleep 600 & wait"))
    yard.runner.stop("lease-1")
    assert yard.runner.keep(["lease-1"])["lease-1"].containers[0].status is Status.EXITED
    assert [piece for _, piece in yard.runner.logs("lease-1", "app")] == [b"bye\n"]
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running


def test_keep__what_died__is_started_again_and_counted(yard: Yard) -> None:
    yard.run(yard.service(script="test -e /root/once && sleep 600; touch /root/once; exit 3"))
    wait_for(yard, Status.EXITED)
    state = yard.runner.keep(["lease-1"])["lease-1"]
    assert state.running
    assert state.containers[0].deaths == 1
    assert yard.runner.keep(["lease-1"])["lease-1"].containers[0].deaths == 1


def test_keep__what_dies_at_each_start__is_not_started_at_each_look(yard: Yard) -> None:
    yard.run(yard.service(script="exit 1"))
    for _ in range(12):
        yard.runner.keep(["lease-1"])
    state = yard.runner.state("lease-1").containers[0]
    assert state.status is Status.EXITED
    assert 1 <= state.deaths <= 3


def test_keep__what_nobody_wants__goes(yard: Yard) -> None:
    yard.run(lease_id="lease-1")
    yard.run(lease_id="lease-2")
    assert set(yard.runner.keep(["lease-2"])) == {"lease-2"}
    assert yard.runner.list() == ("lease-2",)


def test_keep__the_files_of_a_lease_are_lost__it_goes_all_the_same(
    yard: Yard, tmp_path: Path
) -> None:
    yard.run()
    blank = DockerRunner(
        tmp_path / "blank", yard.runner._names.agent, socket=yard.daemon.socket, reserve=MIB
    )
    assert blank.list() == ("lease-1",)
    assert blank.keep(()) == {}
    assert blank.list() == ()


def test_keep__the_containers_were_removed_by_hand__they_come_back(yard: Yard) -> None:
    yard.run()
    yard.say("echo kept >/root/note; sync")
    yard.runner.engine.delete(f"/containers/{containers(yard)[0]}", force=True)
    assert statuses(yard.runner.state("lease-1")) == {Status.MISSING}
    assert yard.runner.keep(["lease-1"])["lease-1"].running
    assert yard.say("cat /root/note") == "kept"


def test_changes__a_death__names_its_lease(yard: Yard) -> None:
    changes = yard.runner.changes()
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(next(changes)))
    thread.start()
    time.sleep(0.5)
    yard.run(yard.service(script="exit 1"))
    thread.join(20)
    assert seen == ["lease-1"]


def test_twenty_containers__all_run__each_at_an_address_of_its_own(yard: Yard) -> None:
    yard.run(yard.service(count=20, memory=16 * MIB, storage=2 * MIB, cpu=100, pids=8))
    assert yard.runner.state("lease-1").running
    assert len(containers(yard)) == 20
    network = yard.runner.engine.get(f"/networks/{yard.runner._names.network('lease-1')}")
    places = {one["IPv4Address"] for one in network["Containers"].values()}
    assert len(places) == 20


# ---------------------------------------------------------------------- output


def test_logs__both_streams__apart_and_in_order(yard: Yard) -> None:
    yard.run(yard.service(script="echo out; sleep 0.2; echo err >&2; sleep 0.2; echo out again"))
    wait_for(yard, Status.EXITED)
    assert list(yard.runner.logs("lease-1", "app")) == [
        (1, b"out\n"),
        (2, b"err\n"),
        (1, b"out again\n"),
    ]
    assert list(yard.runner.logs("lease-1", "app", tail=1)) == [(1, b"out again\n")]


def test_logs__followed__as_they_come_until_the_end(yard: Yard) -> None:
    yard.run(yard.service(script="for i in 1 2 3; do echo $i; sleep 0.3; done"))
    said = b"".join(piece for _, piece in yard.runner.logs("lease-1", "app", follow=True))
    assert said == b"1\n2\n3\n"


def test_logs__a_line_without_end__in_pieces(yard: Yard) -> None:
    yard.run(yard.service(script="head -c 300000 /dev/zero"))
    wait_for(yard, Status.EXITED)
    pieces = [piece for _, piece in yard.runner.logs("lease-1", "app")]
    assert max(map(len, pieces)) <= 65_536
    assert set(b"".join(pieces)) == {0}


def test_logs__of_what_is_not_there__refused(yard: Yard) -> None:
    yard.run()
    for service, number in (("nobody", 0), ("app", 1), ("app", -1)):
        with pytest.raises(RunnerError):
            next(yard.runner.logs("lease-1", service, number))


def test_exec__input_output_and_exit_code(yard: Yard) -> None:
    yard.run()
    words = ("/bin/sh", "-c", "read line; echo got $line; echo bad >&2; exit 5")
    shell = yard.runner.exec("lease-1", "app", words, tty=False)
    shell.write(b"words\n")
    said = [shell.read(), shell.read()]
    assert sorted(said) == [(1, b"got words\n"), (2, b"bad\n")]
    assert shell.read() == (1, b"")
    assert shell.exit_code() == 5
    shell.close()


def test_exec__with_a_terminal__of_the_size_that_is_said(yard: Yard) -> None:
    yard.run()
    shell = yard.runner.exec("lease-1", "app", ("/bin/sh",), tty=True)
    shell.resize(33, 77)
    shell.write(b"busybox stty size; exit\n")
    said = b""
    while piece := shell.read()[1]:
        said += piece
    assert b"33 77" in said
    shell.close()


def test_exec__a_flood__waits_for_its_reader(yard: Yard) -> None:
    yard.run()
    shell = yard.runner.exec("lease-1", "app", ("/bin/yes",), tty=False)
    for _ in range(20):
        kind, piece = shell.read()
        assert kind == 1 and 0 < len(piece) <= 65_536
    shell.close()
    assert shell.read()[1] == b""


def test_exec__closed_by_another_thread__the_reader_wakes(yard: Yard) -> None:
    yard.run()
    shell = yard.runner.exec("lease-1", "app", ("/bin/sleep", "600"), tty=False)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(shell.read()[1]))
    thread.start()
    time.sleep(0.3)
    shell.close()
    thread.join(10)
    assert read == [b""]


def test_exec__where_nothing_runs__refused(yard: Yard) -> None:
    yard.run()
    yard.runner.stop("lease-1")
    with pytest.raises(RunnerError, match="nothing can be started"):
        yard.runner.exec("lease-1", "app", ("/bin/sh",), tty=False)


def test_exec__what_is_not_there__says_so_by_its_code(yard: Yard) -> None:
    yard.run()
    shell = yard.runner.exec("lease-1", "app", ("/bin/nothing",), tty=False)
    while shell.read()[1]:
        pass
    assert shell.exit_code() in (126, 127)
    shell.close()


# ---------------------------------------------------------------------- the check


def test_check__says_what_contains_leases__and_leaves_nothing(yard: Yard) -> None:
    yard.run()
    line = yard.runner.check()
    assert line.startswith("Docker Engine ") and "\n" not in line
    assert not (yard.data / "check").exists()
    assert yard.runner.state("lease-1").running
    images = yard.runner.engine.get("/images/json", filters={"reference": ["teraproof-check"]})
    assert images == []


def test_check__without_walls__fails_and_says_so(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_agent.runners.docker.walls.Walls.build", lambda *_: None)
    with pytest.raises(RunnerError, match="walls do not hold"):
        yard.runner.check()


def test_check__addresses_that_lead_elsewhere__named(internet: Namespace, yard: Yard) -> None:
    yard.runner._pool = "203.0.113.0/24"
    with pytest.raises(RunnerError, match="another range"):
        yard.runner.check()


def test_check__no_engine__says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="install") as away:
        DockerRunner(tmp_path, "agent", socket=tmp_path / "none").check()
    assert away.value.code.value == "containers_away"


def test_command__tries_the_engine__one_line(yard: Yard) -> None:
    said = CliRunner().invoke(sandbox, ["--docker", "--docker-socket", str(yard.daemon.socket)])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("Docker Engine ") and said.output.count("\n") == 1


def test_command__no_engine__an_error_that_says_what_to_do(tmp_path: Path) -> None:
    said = CliRunner().invoke(sandbox, ["--docker", "--docker-socket", str(tmp_path / "none")])
    assert isinstance(said.exception, RunnerError)
    assert "apt-get install docker.io" in str(said.exception)
