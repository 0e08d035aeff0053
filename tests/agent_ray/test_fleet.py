# SPDX-License-Identifier: Apache-2.0
"""Where leases of a fleet are put, and how an agent reaches them there."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Port
from provider_agent.runners.ray import keys
from provider_agent.runners.ray.addresses import own_addresses
from provider_agent.runners.ray.cluster import Cluster
from provider_agent.runners.ray.link import Link
from provider_agent.runners.ray.rooms import Machine
from provider_agent.runners.ray.runner import RayRunner
from teraproof.protocol.errors import Code
from tests.agent_ray.fleet import GIB, Fleet, eventually, lease, service
from tests.agent_ray.processes import running


def run(runner: RayRunner, lease_id: str, **more: object) -> None:
    wanted = lease(lease_id, **more)
    runner.prepare(wanted)
    runner.start(lease_id)


def machine_of(runner: RayRunner, lease_id: str) -> str:
    return runner._fleet.look().holds[lease_id]


def test_two_leases__each_takes_most_of_a_machine__two_machines(runner: RayRunner) -> None:
    run(runner, "big-1", cpu=3000)
    run(runner, "big-2", cpu=1500)
    assert {machine_of(runner, "big-1"), machine_of(runner, "big-2")} == {"a", "b"}
    assert set(runner.keep(["big-1", "big-2"])) == {"big-1", "big-2"}
    for lease_id in ("big-1", "big-2"):
        assert runner.state(lease_id).running
        assert len(running("agent one", lease_id)) == 1


def test_each_machine__hears_the_addresses_of_all_and_of_ray(
    runner: RayRunner, fleet: Fleet
) -> None:
    hosts = {one.host for one in runner._fleet.survey.contacts.values()}
    wanted = {*hosts, fleet.address.rpartition(":")[0], *own_addresses()}

    def heard() -> bool:
        runner.keep([])
        said = [set(path.read_text().split()) for path in fleet.place.rglob("shut-off")]
        return len(said) >= len(runner._fleet.links) and all(wanted <= one for one in said)

    eventually(heard)


def test_lease__larger_than_any_machine__refused_and_nothing_is_left(runner: RayRunner) -> None:
    # Both together would have room for it.
    for more in ({"cpu": 5000}, {"memory": 5 * GIB}, {"storage": 1500 << 20}):
        with pytest.raises(RunnerError, match="no single machine"):
            runner.prepare(lease("whale", **more))
    assert runner.list() == ()
    assert not runner._fleet.look().holds


def test_machine_that_is_full__takes_another_lease_once_one_is_gone(runner: RayRunner) -> None:
    run(runner, "first", cpu=4000)
    with pytest.raises(RunnerError, match="no single machine"):
        runner.prepare(lease("second", cpu=3000))
    runner.remove("first")
    run(runner, "second", cpu=3000)
    assert runner.state("second").running
    assert runner.list() == ("second",)


def test_lease__prepared_and_started_again__is_there_once(runner: RayRunner) -> None:
    for _ in range(3):
        run(runner, "once")
    assert len(running("agent one", "once")) == 1
    with pytest.raises(RunnerError, match="asks for something else"):
        runner.prepare(lease("once", cpu=200))
    runner.stop("once")
    assert not runner.state("once").wanted
    assert not running("agent one", "once")


def test_room__is_told_by_machine_and_shrinks_by_what_a_lease_holds(runner: RayRunner) -> None:
    def nothing_held() -> bool:  # Ray says so a moment later
        return all(one.free.cpu == one.there.cpu for one in runner.machines())

    eventually(nothing_held)
    before = {one.name: one for one in runner.machines()}
    assert {name: one.there.cpu for name, one in before.items()} == {"a": 4000, "b": 2000}
    assert len(before["b"].there.devices) == 1
    assert before["a"].there.devices == ()
    run(runner, "tenant", cpu=2500, memory=GIB)

    def after() -> dict[str, Machine]:
        return {one.name: one for one in runner.machines()}

    eventually(lambda: after()["a"].free.cpu == 1500)
    assert after()["a"].free.memory == before["a"].free.memory - GIB


def test_gpu__asked_for_by_its_kind__is_one_that_the_machine_itself_has(
    runner: RayRunner,
) -> None:
    wish = Device("cuda", 0, "Test GPU", "", 4 << 30)
    run(runner, "gpu", script="echo $GPUS; sleep 600", devices=(wish,))
    assert machine_of(runner, "gpu") == "b"
    assert eventually(lambda: b"".join(data for _, data in runner.logs("gpu", "app"))) == (
        b"GPU-test\n"
    )
    with pytest.raises(RunnerError, match="no single machine"):  # it is given once
        runner.prepare(lease("more", devices=(wish,)))
    with pytest.raises(RunnerError, match="no Other GPU is free"):
        runner.prepare(lease("other", devices=(replace(wish, name="Other GPU"),)))
    runner.remove("gpu")
    run(runner, "more", devices=(wish,))


def test_logs_and_shell__of_any_machine__come_as_they_are(runner: RayRunner) -> None:
    for lease_id, cpu in (("left", 3000), ("right", 1500)):
        run(runner, lease_id, script="echo begins; sleep 600", cpu=cpu)
        printed = runner.logs(lease_id, "app", follow=True)
        assert next(printed) == (1, b"begins\n")
        printed.close()  # while the container goes on
        assert list(printed) == []
        shell = runner.exec(lease_id, "app", ("sh", "-c", "cat; exit 7"), tty=False)
        sent = bytes(range(256)) * 2000
        shell.write(sent)
        shell.finish()
        said = b""
        while piece := shell.read()[1]:
            said += piece
        assert said == sent
        assert shell.exit_code() == 7
        shell.close()
    with pytest.raises(RunnerError, match="there is no lease"):
        runner.exec("nobody", "app", ("true",), tty=False)


def test_port_of_a_container__is_reached_from_the_agent(runner: RayRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        number = found.getsockname()[1]
    code = (
        "import socket;s=socket.create_server(('127.0.0.1',PORT))\n"
        "while True:\n c,_=s.accept();d=b''\n"
        " while p:=c.recv(9999):d+=p\n"
        " c.sendall(d[::-1]);c.close()"
    ).replace("PORT", str(number))
    wanted = lease(
        "web", service(command=("python3", "-c", code), ports=(Port(number), Port(9, "udp")))
    )
    runner.prepare(wanted)
    with pytest.raises(RunnerError, match="does not run"):
        runner.address("web", "app", Port(number))
    runner.start("web")
    place = runner.address("web", "app", Port(number))
    assert place == runner.address("web", "app", Port(number))

    def answer() -> bytes:
        with socket.create_connection(place, timeout=20) as guest:
            try:
                guest.sendall(b"abc" * 100_000)
                guest.shutdown(socket.SHUT_WR)
                said = b""
                while piece := guest.recv(65_536):
                    said += piece
            except OSError:  # it does not listen yet
                return b""
            return said

    assert eventually(answer) == b"cba" * 100_000
    with pytest.raises(RunnerError, match="TCP alone"):
        runner.address("web", "app", Port(9, "udp"))
    runner.remove("web")
    with pytest.raises(OSError):
        socket.create_connection(place, timeout=5)


def test_machine__asked_by_a_stranger__answers_nothing(runner: RayRunner, tmp_path: Path) -> None:
    run(runner, "mine")
    contact = runner._fleet.look().contacts[machine_of(runner, "mine")]
    stranger = keys.identity(tmp_path, "agent")
    with pytest.raises(RunnerError) as caught:
        Link(contact, stranger, 10).ask("remove", lease="mine")
    assert caught.value.code is Code.CONTAINERS_AWAY
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((contact.host, contact.port)) as opened,
        pytest.raises(OSError),
        bare.wrap_socket(opened) as safe,
    ):
        safe.sendall(b"\0\0\0\0\2{}")
        assert safe.recv(1) == b""
        raise ConnectionResetError
    # And the agent talks to no machine but the one that Ray has named.
    other = keys.identity(tmp_path / "other", "machine")
    mine = keys.identity(runner._fleet._place, "agent")
    with pytest.raises(RunnerError, match="not ours"):
        Link(replace(contact, certificate=other.pem), mine, 10).ask("list")
    assert runner.state("mine").running


def test_two_agents__of_one_fleet__do_not_see_each_other(runner: RayRunner, agents: object) -> None:
    other: RayRunner = agents("two")  # type: ignore[operator]
    run(runner, "same-name", cpu=300)
    assert other.list() == ()
    run(other, "same-name", cpu=400)
    other.keep(["same-name"])
    runner.keep([])
    assert runner.list() == ()
    assert other.state("same-name").running
    assert len(running("agent two", "same-name")) == 1
    assert not running("agent one", "same-name")
    # What one holds, the other has not.
    with pytest.raises(RunnerError, match="no single machine"):
        runner.prepare(lease("wide", cpu=4000, memory=3 * GIB, storage=900 << 20))
    other.remove("same-name")
    assert other.list() == ()


def test_token__missing_empty_readable_or_wrong__one_line_and_nothing_runs(
    fleet: Fleet, tmp_path: Path
) -> None:
    good = fleet.terms("agent three", tmp_path)
    token = tmp_path / "token"
    for write, words in (
        (lambda: None, "holds no token"),
        (lambda: token.write_text(" \n"), "holds no token"),
        (lambda: token.write_text("x" * 64), "chmod 600"),
    ):
        write()
        if token.exists():
            token.chmod(0o644)
        runner = RayRunner(tmp_path / "agent", replace(good, token_file=token))
        with pytest.raises(RunnerError, match=words) as caught:
            runner.prepare(lease("lease-1"))
        assert caught.value.code is Code.SETTINGS_INVALID
        assert "\n" not in str(caught.value)
    token.chmod(0o600)
    cluster = Cluster(replace(good, token_file=token), tmp_path / "agent")
    with pytest.raises(RunnerError, match="refuses the token") as caught:
        cluster.survey("", 5)
    assert caught.value.code is Code.SETTINGS_INVALID
    assert "\n" not in str(caught.value)
    cluster.close()


def test_settings__of_the_owner_change__our_part_has_the_new_ones_and_its_leases(
    fleet: Fleet, agents: object
) -> None:
    before: RayRunner = agents("changed")  # type: ignore[operator]
    run(before, "stays", cpu=300)
    found = running("agent changed", "stays")
    assert sum(len(one.there.devices) for one in before.machines()) == 1
    before.close()
    less = "tests.agent_ray.processes:no_gpus"
    after: RayRunner = agents("changed", look=less)  # type: ignore[operator]
    assert sum(len(one.there.devices) for one in after.machines()) == 0
    assert eventually(lambda: after.keep(["stays"]).get("stays")).running
    assert running("agent changed", "stays") == found
    after.remove("stays")
    assert after.list() == ()


def test_images__are_fetched_to_every_machine_that_is_large_enough__and_hold_nothing(
    runner: RayRunner, fleet: Fleet
) -> None:
    def there(lease_id: str) -> set[str]:
        said = runner._fleet.each(lambda link: link.ask("list"))
        return {name for name, ids in said.items() if lease_id in ids}

    runner.bound("wish", {"a": 7, "b": 9})
    runner.fetch(lease("wish", cpu=1500), most=8, seconds=60)
    runner.bound("wish", None)
    most = {path.parts[-4]: path.read_text() for path in fleet.place.rglob("wish/most")}
    assert most == {"a": "7", "b": "8"}
    assert runner.having("wish") == frozenset("ab") and runner.having("other") is None
    runner.fetch(lease("wide", cpu=3000), most=1, seconds=60)
    assert runner.having("wide") == frozenset("a")
    with pytest.raises(RunnerError, match="no single machine"):
        runner.fetch(lease("whale", cpu=5000), most=1, seconds=60)
    assert (there("wish"), there("wide"), there("whale")) == ({"a", "b"}, {"a"}, set())
    assert not runner._fleet.look().holds
    arrival = runner.arrival("wish")
    assert arrival is not None
    assert arrival.whole
    runner.keep(["wish"])
    eventually(lambda: there("wide") == set())
    # Once it has its machine, the others need its images no more.
    run(runner, "wish", cpu=1500)
    eventually(lambda: runner.keep(["wish"]) and there("wish") == {machine_of(runner, "wish")})
    assert runner.image_room().held == 0  # nothing of the agent's own disk


def test_machine__that_is_preferred__is_taken_while_it_has_room(runner: RayRunner) -> None:
    for name in ("a", "b"):
        runner.prefer({f"on-{name}": name})
        run(runner, f"on-{name}", cpu=1500)
        assert machine_of(runner, f"on-{name}") == name
    runner.prefer({"more": "b"})
    run(runner, "more", cpu=1500)
    assert machine_of(runner, "more") == "a"
    seen = {one.name: one for one in runner.machines()}
    # What this agent has and may have: its own leases are taken off nowhere but in its promises.
    assert {name: one.ours.cpu for name, one in seen.items()} == {"a": 4000, "b": 2000}
    # Of a disk there is no more than it really has.
    assert all(0 < one.ours.disk <= one.there.disk and one.inodes > 0 for one in seen.values())
