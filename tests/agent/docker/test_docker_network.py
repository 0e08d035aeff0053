# SPDX-License-Identifier: Apache-2.0
"""What a lease reaches, tried from inside its containers, and who reaches it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.docker.walls import PRIVATE, Walls
from provider_agent.runners.docker.walls import Yard as Ground
from provider_agent.runners.lease import Lease, Port
from teraproof.errors import Refused
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import ELSEWHERE, OUTSIDE, Namespace, ip
from tests.agent.docker.neighbours import HELLO, got_anything, greeting, listening, naming
from tools.engine import TOOLS

SERVES = "exec nc -ll -p 8080 -e echo hello"
PORT = Port(8080)


def reached(
    yard: Yard, *targets: tuple[str, int], lease_id: str = "lease-1", service: str = "app"
) -> set[tuple[str, int]]:
    """Which of these say hello to a container; all are tried at once."""
    tries = [
        f"(nc -w 2 {host} {port} </dev/null 2>/dev/null | grep -q hello && echo {host} {port}) &"
        for host, port in targets
    ]
    said = yard.say(" ".join([*tries, "wait"]), lease_id=lease_id, service=service)
    return {(line.split()[0], int(line.split()[1])) for line in said.splitlines()}


def reaches(
    yard: Yard, host: str, port: int, lease_id: str = "lease-1", service: str = "app"
) -> bool:
    return bool(reached(yard, (host, port), lease_id=lease_id, service=service))


def greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2) as link:
            return link.recv(10) == HELLO
    except OSError:
        return False


def soon(look: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it comes to be so: a program that was just started does not listen yet."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def gateway_of(yard: Yard, lease_id: str = "lease-1") -> str:
    name = yard.runner._names.network(lease_id)
    return str(yard.runner.engine.get(f"/networks/{name}")["IPAM"]["Config"][0]["Gateway"])


@pytest.fixture
def neighbours(internet: Namespace) -> Iterator[int]:
    """Everybody outside and next door says hello at this port."""
    with internet.entered(), contextlib.ExitStack() as stack:
        stack.enter_context(greeting("0.0.0.0", 8090))
        for address in (OUTSIDE, *ELSEWHERE):
            assert greets(address, 8090)
        yield 8090


def test_outbound__bought__the_internet_and_nobody_else(
    neighbours: int, internet: Namespace, yard: Yard
) -> None:
    yard.run(outbound=True)
    assert reaches(yard, OUTSIDE, neighbours)
    with yard.daemon.namespace.entered():
        assert all(greets(address, neighbours) for address in ELSEWHERE)  # the owner does
    assert reached(yard, *((address, neighbours) for address in ELSEWHERE)) == set()


def test_outbound__not_bought__nobody(neighbours: int, yard: Yard) -> None:
    yard.run()
    assert reached(yard, *((address, neighbours) for address in (OUTSIDE, *ELSEWHERE))) == set()


@pytest.mark.parametrize("outbound", [False, True])
def test_machine__each_of_its_addresses_and_ports__not_reached(yard: Yard, outbound: bool) -> None:
    yard.run(outbound=outbound)
    gateway = gateway_of(yard)
    with (
        greeting("0.0.0.0") as everywhere,
        greeting("127.0.0.1") as loopback,
        greeting(gateway) as bridge,
    ):
        assert greets("127.0.0.1", loopback) and greets(gateway, bridge)
        assert greets("203.0.113.1", everywhere)
        hosts = (gateway, "203.0.113.1", "172.17.0.1", "127.0.0.1", "0.0.0.0")
        ports = (everywhere, loopback, bridge)
        assert reached(yard, *((host, port) for host in hosts for port in ports)) == set()


@pytest.mark.parametrize("outbound", [False, True])
def test_machine__datagrams__also_to_everybody__not_received(yard: Yard, outbound: bool) -> None:
    yard.run(outbound=outbound)
    gateway = gateway_of(yard)
    subnet = IPv4Network(f"{gateway}/26", strict=False)
    with listening("0.0.0.0") as server:
        port = server.getsockname()[1]
        for host in (gateway, "203.0.113.1", "255.255.255.255", str(subnet[-1]), "224.0.0.1"):
            yard.say(f"echo x | nc -u -w 1 {host} {port} 2>/dev/null")
        assert not got_anything(server)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.sendto(b"x", (gateway, port))
        assert got_anything(server)


def test_owner__a_port_that_another_container_publishes__not_reached(yard: Yard) -> None:
    yard.run(outbound=True)
    engine = yard.runner.engine
    body = {
        "Image": yard.image,
        "Cmd": ["/bin/sh", "-c", SERVES],
        "HostConfig": {"PortBindings": {"8080/tcp": [{"HostPort": "8099"}]}},
        "ExposedPorts": {"8080/tcp": {}},
    }
    made = engine.post("/containers/create", body)["Id"]
    try:
        engine.post(f"/containers/{made}/start")
        place = engine.get(f"/containers/{made}/json")["NetworkSettings"]["IPAddress"]
        assert soon(lambda: greets("203.0.113.1", 8099))
        targets = (("203.0.113.1", 8099), (gateway_of(yard), 8099), (place, 8080))
        assert reached(yard, *targets) == set()
        yard.runner.keep(["lease-1"])
        assert engine.get(f"/containers/{made}/json")["State"]["Running"]
    finally:
        engine.delete(f"/containers/{made}", force=True)


def test_leases__two_on_one_machine__do_not_reach_each_other(yard: Yard) -> None:
    yard.run(yard.service(script=SERVES, ports=(PORT,)), lease_id="lease-1", outbound=True)
    yard.run(yard.service("other"), lease_id="lease-2", outbound=True)
    host, port = yard.runner.address("lease-1", "app", PORT)
    assert soon(lambda: greets(host, port))
    targets = ((host, port), ("app", port), (gateway_of(yard), port))
    assert reached(yard, *targets, lease_id="lease-2", service="other") == set()


def test_leases__of_two_agents__do_not_reach_each_other(yard: Yard, tmp_path: Path) -> None:
    yard.run(yard.service(script=SERVES, ports=(PORT,)))
    other = DockerRunner(tmp_path / "other", "another agent", socket=yard.daemon.socket, reserve=1)
    theirs = Yard(other, yard.daemon, tmp_path / "other", yard.image)
    try:
        theirs.run(outbound=True)
        host, port = yard.runner.address("lease-1", "app", PORT)
        assert soon(lambda: greets(host, port))
        assert not reaches(theirs, host, port)
        other.keep(())  # what it keeps is its own
        assert yard.runner.state("lease-1").running
        assert soon(lambda: greets(host, port))
    finally:
        for lease_id in other.list():
            other.remove(lease_id)


def test_services__of_one_lease__find_each_other_by_name(yard: Yard) -> None:
    yard.run(yard.service("web", SERVES, count=2), yard.service("app"))
    assert soon(lambda: reaches(yard, "web", 8080))
    found = yard.say("nslookup web 127.0.0.11 | grep -c 'Address.*198.19'")
    assert found == "2"


def test_port__reached_by_the_agent__and_by_nobody_outside(internet: Namespace, yard: Yard) -> None:
    yard.run(yard.service(script=SERVES, ports=(PORT,)), outbound=True)
    host, port = yard.runner.address("lease-1", "app", PORT)
    assert soon(lambda: greets(host, port))
    with internet.entered():
        ip(f"route replace {host}/32 via 203.0.113.1")
        try:
            assert not greets(host, port)
        finally:
            ip(f"route del {host}/32")


def test_port__that_is_not_named__not_given(yard: Yard) -> None:
    yard.run(yard.service(ports=(PORT,)))
    for port in (Port(22), Port(8080, "udp")):
        with pytest.raises(RunnerError, match="has no port"):
            yard.runner.address("lease-1", "app", port)
    yard.runner.stop("lease-1")
    with pytest.raises(RunnerError, match="does not run"):
        yard.runner.address("lease-1", "app", PORT)


def test_names__of_the_internet__by_the_owners_name_server(
    internet: Namespace, daemon: object, inside: None, yard: Yard, tmp_path: Path
) -> None:
    """Even where that server is at an address that leases reach at no other port."""
    runner = DockerRunner(
        tmp_path / "named",
        "agent with names",
        socket=yard.daemon.socket,
        reserve=1,
        resolvers=(ELSEWHERE[0],),
    )
    with contextlib.ExitStack() as stack:
        with internet.entered():
            stack.enter_context(naming(ELSEWHERE[0], OUTSIDE))
            stack.enter_context(greeting("0.0.0.0", 8091))
        other = Yard(runner, yard.daemon, tmp_path / "named", yard.image)
        try:
            other.run(outbound=True)
            assert reaches(other, "somewhere.example", 8091)
            assert not reaches(other, ELSEWHERE[0], 8091)
        finally:
            runner.remove("lease-1")


def test_names__without_outbound__not_asked_for(internet: Namespace, yard: Yard) -> None:
    yard.run()
    with internet.entered(), listening("0.0.0.0", 53) as server:
        said = yard.say("nslookup secret.example 127.0.0.11 >/dev/null 2>&1 || echo none")
        assert said == "none"
        assert not got_anything(server)


def test_ipv6__is_not_there(yard: Yard) -> None:
    yard.run(outbound=True)
    assert yard.say("cat /proc/net/if_inet6 2>/dev/null | grep -v ' lo$'") == ""


def test_walls__taken_down_by_somebody__are_put_back(yard: Yard) -> None:
    yard.run()
    with greeting("0.0.0.0") as port:
        subprocess.run(["iptables", "-t", "mangle", "-F"], env={"PATH": TOOLS}, check=True)
        assert reaches(yard, gateway_of(yard), port)  # so it is the walls that stop it
        yard.runner.keep(["lease-1"])
        assert not reaches(yard, gateway_of(yard), port)


def test_rules__a_bridge_that_nobody_listed__reaches_nothing() -> None:
    grounds = [
        Ground("tpabcde00000001", IPv4Network("198.19.0.0/26"), True),
        Ground("tpabcde00000002", IPv4Network("198.19.0.64/26"), False),
    ]
    lines = Walls("tpabcde", "abcde", ["9.9.9.9"]).rules(grounds).splitlines()
    for chain in ("OUT", "IN"):
        mine = [line for line in lines if line.startswith(f"-A TP-abcde-{chain} ")]
        assert mine[-1].endswith(f"{chain} -j DROP")
    lets = [line for line in lines if "-j RETURN" in line and "-OUT" in line and "-i " in line]
    assert all("-s 198.19.0." in line for line in lets)
    assert not any("00000002" in line and "-d" not in line for line in lets)
    free = next(at for at, line in enumerate(lines) if line.endswith("-s 198.19.0.0/26 -j RETURN"))
    assert all(lines.index(f"-A TP-abcde-OUT -d {one} -j DROP") < free for one in PRIVATE)


def order_of(walls: Walls, targets: list[str]) -> dict[str, str]:
    """What the first rule that speaks of an address alone does with it, or the yard's last word."""
    lines = walls.rules([Ground("tpabcde00000001", IPv4Network("198.19.0.0/26"), True)])
    free = "-A TP-abcde-OUT -i tpabcde00000001 -s 198.19.0.0/26 -j RETURN"
    before = lines.splitlines()[: lines.splitlines().index(free)]
    return {
        one: "drop" if f"-A TP-abcde-OUT -d {one}/32 -j DROP" in before else "pass"
        for one in targets
    }


def test_rules__hosts_that_are_shut_off__are_dropped_before_the_internet_is_open() -> None:
    walls = Walls("tpabcde", "abcde", ["9.9.9.9"])
    walls.shut_off(["8.8.4.4", "8.8.8.8", "10.0.0.7", "a-name", "::1", ""])
    both = order_of(walls, ["8.8.4.4", "8.8.8.8", "8.8.8.9"])
    assert both == {"8.8.4.4": "drop", "8.8.8.8": "drop", "8.8.8.9": "pass"}
    assert not any(word in walls.rules([]) for word in ("a-name", "::1", "10.0.0.7"))
    walls.shut_off(["8.8.8.9"])
    after = order_of(walls, ["8.8.4.4", "8.8.8.8", "8.8.8.9"])
    assert after == {"8.8.4.4": "pass", "8.8.8.8": "pass", "8.8.8.9": "drop"}


def test_hosts_that_are_shut_off__stay_so_when_the_runner_starts_again(tmp_path: Path) -> None:
    before = DockerRunner(tmp_path, "an agent", socket=tmp_path / "none")
    before.shut_off(["8.8.8.8"])
    after = DockerRunner(tmp_path, "an agent", socket=tmp_path / "none")
    assert "-d 8.8.8.8/32 -j DROP" in after._walls.rules([])
    after.shut_off([])
    assert "8.8.8.8" not in after._walls.rules([])


def test_host_that_is_shut_off__not_reached_by_a_lease_that_reached_it(
    neighbours: int, yard: Yard
) -> None:
    yard.run(outbound=True)
    assert reaches(yard, OUTSIDE, neighbours)
    yard.runner.shut_off([OUTSIDE])
    yard.runner.keep(["lease-1"])
    assert not reaches(yard, OUTSIDE, neighbours)
    yard.runner.shut_off([])
    yard.runner.keep(["lease-1"])
    assert reaches(yard, OUTSIDE, neighbours)


def test_addresses__all_taken__said_and_nothing_left(yard: Yard, tmp_path: Path) -> None:
    runner = DockerRunner(
        tmp_path / "small",
        "small agent",
        socket=yard.daemon.socket,
        reserve=1,
        pool="198.19.255.0/26",
    )
    small = Yard(runner, yard.daemon, tmp_path / "small", yard.image)
    try:
        small.run()
        with pytest.raises(RunnerError, match="another range"):
            runner.prepare(Lease("lease-2", (small.service(),)))
        runner.remove("lease-2")
        assert runner.list() == ("lease-1",)
        assert small.say("echo fine") == "fine"
        runner.remove("lease-1")
        small.run(lease_id="lease-2")
    finally:
        for lease_id in runner.list():
            runner.remove(lease_id)


def test_addresses__more_containers_than_fit__refused(yard: Yard) -> None:
    with pytest.raises(Refused, match="fit"):
        yard.runner.prepare(Lease("lease-1", (yard.service(count=62),)))
    assert yard.runner.list() == ()
