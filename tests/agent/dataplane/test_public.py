# SPDX-License-Identifier: Apache-2.0
"""Ports that a lease opens to everybody."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from provider_agent.dataplane import certificate
from provider_agent.dataplane.holders import Phase
from provider_agent.dataplane.limits import PlaneLimits, fitting
from provider_agent.dataplane.outer import Key, OuterPorts
from provider_agent.dataplane.public import OuterPort
from provider_agent.http.descriptors import RESERVED
from teraproof.client import dataplane as client
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.dataplane import What
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec, Port
from tests.agent.dataplane.conftest import (
    LEASE,
    OTHER,
    Rig,
    asking,
    bare,
    descriptors,
    echo,
    run,
    service,
    spec,
)


def public(*hosts: str, count: int = 1) -> LeaseSpec:
    """One service with a port that is public, and one that is not."""
    ports = (Port(8080, 80, "tcp", public=True, hosts=hosts), Port(9000, 9000, "tcp", public=False))
    return spec(service("web", count, *ports))


def free(count: int = 3) -> tuple[int, int]:
    """A range of ports that nobody has now."""
    for first in range(20_000 + os.getpid() % 20_000, 60_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first, first + count - 1
    raise AssertionError("no ports are free")


def opened(rig: Rig, lease: bytes = LEASE) -> OuterPort:
    assert rig.plane is not None
    rig.plane.sweep()
    (found,) = rig.plane.public_ports(lease)
    return found


def greeted(port: int, name: str | None = None, text: bytes = b"hello") -> bytes:
    """What a port answers over TLS, whatever it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as link,
        context.wrap_socket(link, server_hostname=name) as secured,
    ):
        secured.sendall(text)
        return secured.recv(100)


def shown(port: int, name: str | None = None) -> bytes:
    with bare_named(port, name) as link:
        return link.getpeercert(binary_form=True) or b""


def bare_named(port: int, name: str | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(link, server_hostname=name)


def own() -> certificate.Pair:
    return certificate.make(int(time.time()) - 60, int(time.time()) + 3_600)


def published(rig: Rig, mode: str = "tls", **more: Any) -> dict[str, Any]:
    request = asking(What.PUBLISH, port=80, mode=mode, **more)
    return client.asked(rig.place(), rig.key(), request)


@pytest.fixture
def door(rig: Rig) -> Rig:
    """A data plane that offers public ports."""
    rig.settings = {"outer": free(), "names_port": 0}
    rig.hold(said=public())
    return rig


def test_public_port__anybody__over_tls_with_the_certificate_that_the_operator_signed_for(
    door: Rig,
) -> None:
    door.start().serve()
    outer = opened(door).outer
    assert greeted(outer) == b"hello"
    with bare(door.port) as link:
        assert shown(outer) == link.getpeercert(binary_form=True)


def test_confirmed_a_moment_ago__whoever_asks_does_not_wait_for_the_next_look(door: Rig) -> None:
    lease = door.holders.leases.pop(LEASE)
    pair = own()
    door.start(sweep_seconds=3_600).serve()
    door.holders.leases[LEASE] = lease
    (said,) = published(door, certificate=pair.certificate, key=pair.key)["ports"]
    assert shown(said["outer"]) == pair.der
    assert client.asked(door.place(), door.key(), asking(What.PORTS))["ports"] == [said]


def test_port_that_is_not_public__has_no_outer_one(door: Rig) -> None:
    door.start().serve(port=9000)
    assert opened(door).port == 8080


@pytest.mark.parametrize("phase", [Phase.GRACE, Phase.ENDED])
def test_phase__no_public_port_but_of_confirmed_leases(door: Rig, phase: Phase) -> None:
    door.start().serve()
    outer = opened(door).outer
    link = bare(outer, None)
    link.sendall(b"x")
    assert link.recv(1) == b"x"
    door.holders.move(LEASE, phase)
    assert door.plane is not None
    door.plane.sweep()
    assert door.plane.public_ports(LEASE) == ()
    with contextlib.suppress(OSError):
        assert link.recv(1) == b""  # what went on is over
    with pytest.raises(OSError):
        bare(outer, None)


def test_outer_port__of_a_lease_that_is_not_known_to_be_confirmed_yet__stays(door: Rig) -> None:
    """As after a start of the agent, before it has looked at the chain."""
    door.hold(OTHER, account=door.other, said=public())
    door.start()
    before = opened(door).outer, opened(door, OTHER).outer
    door.stop()
    door.holders.move(LEASE, Phase.GRACE)
    door.start()
    assert door.plane is not None
    door.plane.sweep()
    door.holders.move(LEASE, Phase.CONFIRMED)
    assert (opened(door).outer, opened(door, OTHER).outer) == before


def test_own_certificate__shown_from_the_next_connection_on(door: Rig) -> None:
    pair = own()
    door.start().serve()
    outer = opened(door).outer
    said = published(door, certificate=pair.certificate, key=pair.key)
    assert said["ports"][0]["own_certificate"]
    assert shown(outer) == pair.der
    assert greeted(outer) == b"hello"
    published(door)
    assert shown(outer) != pair.der


def test_own_certificate__that_does_not_fit__refused_and_nothing_changes(door: Rig) -> None:
    pair = own()
    door.start().serve()
    outer = opened(door).outer
    for more in (
        {"certificate": pair.certificate},
        {"key": pair.key},
        {"certificate": pair.certificate, "key": own().key},
        {"certificate": "-----BEGIN", "key": "x" * 1_000},
    ):
        with pytest.raises(RemoteError) as caught:
            published(door, **more)
        assert caught.value.code is Code.CERTIFICATE_UNFIT
    assert greeted(outer) == b"hello"


def test_plain__the_container_ends_tls_itself(door: Rig) -> None:
    pair = own()
    context = certificate.context(pair.certificate, pair.key, ssl.TLSVersion.TLSv1_3)

    def secure(link: socket.socket) -> None:
        with context.wrap_socket(link, server_side=True) as secured:
            secured.sendall(secured.recv(100))

    door.start().serve(secure)
    outer = opened(door).outer
    published(door, mode="plain")
    assert shown(outer) == pair.der
    assert greeted(outer) == b"hello"


def test_publish__a_port_that_is_not_public__refused(door: Rig) -> None:
    door.start()
    opened(door)
    for port in (8080, 9000, 22):
        request = asking(What.PUBLISH, port=port, mode="plain")
        with pytest.raises(RemoteError) as caught:
            client.asked(door.place(), door.key(), request)
        assert caught.value.code is Code.PORT_UNKNOWN


def test_names__lead_to_the_lease_that_accepts_them(door: Rig) -> None:
    door.hold(said=public("a.example", "www.a.example"))
    door.hold(OTHER, account=door.other, said=public("b.example"))
    door.start()
    for lease in (LEASE, OTHER):
        door.serve(lambda link, lease=lease: link.sendall(lease[:1]), lease)  # type: ignore[misc]
    port = opened(door).names_port
    assert greeted(port, "www.a.example") == LEASE[:1]
    assert greeted(port, "A.example") == LEASE[:1]
    assert greeted(port, "b.example") == OTHER[:1]
    for name in ("c.example", "b.example.", "example", None):
        with pytest.raises(OSError):
            greeted(port, name)


def test_names__each_with_its_own_certificate(door: Rig) -> None:
    pair = own()
    door.hold(said=public("a.example"))
    door.hold(OTHER, account=door.other, said=public("b.example"))
    door.start().serve()
    port = opened(door).names_port
    published(door, certificate=pair.certificate, key=pair.key)
    assert shown(port, "a.example") == pair.der
    assert shown(port, "b.example") != pair.der


def test_names__of_another_lease__stay_that_leases(door: Rig) -> None:
    door.hold(said=public("a.example"))
    door.start().serve()
    port = opened(door).names_port
    door.hold(OTHER, account=door.other, said=public("a.example"))
    door.serve(lambda link: link.sendall(b"stolen"), OTHER)
    assert opened(door, OTHER).hosts == ()
    assert greeted(port, "a.example") == b"hello"
    door.holders.move(LEASE, Phase.ENDED)
    door.stop()
    door.start()
    assert opened(door, OTHER).hosts == ("a.example",)


def test_containers__in_turn__and_those_that_do_not_answer_are_passed_over(door: Rig) -> None:
    door.hold(said=public(count=3))
    door.start()
    made = [
        door.serve(lambda link, number=number: link.sendall(b"%d" % number), number=number)  # type: ignore[misc]
        for number in range(3)
    ]
    outer = opened(door).outer
    assert {greeted(outer) for _ in range(3)} == {b"0", b"1", b"2"}
    made[1].kill()
    del door.runner.places["lease-1", "web", 8080, 2]
    assert {greeted(outer) for _ in range(3)} == {b"0"}


def test_outer_ports__all_given__said_as_none__and_the_others_go_on(rig: Rig) -> None:
    rig.settings = {"outer": free(1)}
    rig.hold(said=public())
    rig.hold(OTHER, account=rig.other, said=public())
    rig.start().serve()
    rig.serve(lease=OTHER)
    found = [opened(rig, lease).outer for lease in (LEASE, OTHER)]
    assert sorted(map(bool, found)) == [False, True]
    assert greeted(max(found)) == b"hello"


def test_outer_ports__another_program_has_one__another_is_given(rig: Rig) -> None:
    first, last = free(2)
    rig.settings = {"outer": (first, last)}
    rig.hold(said=public())
    with socket.create_server(("127.0.0.1", first)):
        rig.start().serve()
        assert opened(rig).outer == last
        assert greeted(last) == b"hello"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ports": {"x": 1}, "hosts": {}}', "null"])
def test_outer_ports__a_file_that_cannot_be_read__begun_again(tmp_path: Path, text: str) -> None:
    place = tmp_path / "outer-ports.json"
    place.write_text(text)
    made = OuterPorts(place, (100, 101))
    key = Key(LEASE, "web", 80)
    assert made.number(key) == 100
    assert OuterPorts(place, (100, 101)).number(key) == 100
    assert json.loads(place.read_text())["ports"]
    made.keep([])
    assert OuterPorts(place, (100, 101)).number(Key(OTHER, "web", 80)) == 100


def test_flood__at_one_public_port__others_and_tenants_get_in(door: Rig) -> None:
    door.hold(OTHER, account=door.other, said=public())
    door.start(public_connections=16, public_per_address=16).serve()
    door.serve(lease=OTHER)
    outer, theirs = opened(door).outer, opened(door, OTHER).outer
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", outer)))
        assert greeted(theirs) == b"hello"
        assert greeted(outer) == b"hello"  # who says nothing makes room

        async def work() -> None:
            stream = await client.connect(door.place(), asking(), door.key())
            await stream.close()

        run(work())


def test_flood__at_all_public_ports__takes_no_more_than_their_places(door: Rig) -> None:
    door.hold(OTHER, account=door.other, said=public())
    door.start(public_places=12).serve()
    door.serve(lease=OTHER)
    outer, theirs = opened(door).outer, opened(door, OTHER).outer
    before = descriptors()
    with contextlib.ExitStack() as stack:
        held = 0
        for _ in range(40):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", outer)))
                held += 1
        assert greeted(theirs) == b"hello"  # the flooded port gives way
        assert descriptors() - before - held <= 2 * 12 + 4


@pytest.mark.parametrize(("files", "tenants", "public_"), [(1_024, 42, 86), (65_536, 512, 4_096)])
def test_places__leave_open_files_for_the_rest_of_the_agent(
    files: int, tenants: int, public_: int
) -> None:
    found = fitting(PlaneLimits(), files)
    assert (found.connections, found.public_places) == (tenants, public_)
    assert 2 * (found.connections + found.public_places) + RESERVED <= files
    assert fitting(PlaneLimits(), resource.RLIM_INFINITY) == PlaneLimits()


def test_silence__ends_a_connection(door: Rig) -> None:
    door.start(public_idle_seconds=0.3).serve()
    with bare(opened(door).outer, None) as link:
        link.sendall(b"x")
        assert link.recv(1) == b"x"
        assert link.recv(1) == b""


def test_strangers_reading_nothing__hold_no_other(door: Rig) -> None:
    def flood(link: socket.socket) -> None:
        while True:
            link.sendall(bytes(65_536))

    door.hold(OTHER, account=door.other, said=public())
    door.start().serve(flood)
    door.serve(echo, OTHER)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(bare(opened(door).outer, None))
        assert greeted(opened(door, OTHER).outer) == b"hello"


def test_ports__asked_by_the_tenant__as_the_agent_has_them(door: Rig) -> None:
    door.start()
    outer = opened(door).outer
    (found,) = client.asked(door.place(), door.key(), asking(What.PORTS))["ports"]
    assert (found["service"], found["port"], found["as_port"]) == ("web", 8080, 80)
    assert (found["outer"], found["mode"], found["own_certificate"]) == (outer, "tls", False)
    with pytest.raises(LocalError):
        client.asked(door.place(), door.key(account=door.other), asking(What.PORTS))
