# SPDX-License-Identifier: Apache-2.0
"""The data plane in front of real containers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.dataplane.holders import Phase
from provider_agent.runners.lease import Port
from teraproof.client import dataplane as client
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.dataplane import Frame, What, parse_exit_code
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import Port as NamedPort
from tests.agent.dataplane.conftest import LEASE, Rig, asking, bare, run, service, spec
from tests.agent.docker.conftest import WAITS, Yard
from tests.agent.docker.test_docker_network import soon

PORT = Port(8080)
ECHOES = "exec nc -ll -p 8080 -e cat"
NAMED = NamedPort(8080, 80, "tcp", public=True)


@pytest.fixture
def rig(yard: Yard, tmp_path: Path) -> Iterator[Rig]:
    """A data plane on the engine's machine; its thread is where the engine's networks are."""
    made = Rig(tmp_path / "state")
    made.runner = yard.runner  # type: ignore[assignment]  # the real one
    made.settings = {"containers_here": False, "outer": (28_080, 28_082)}
    made.hold(said=spec(service("app", 1, NAMED)))
    made.start()
    yield made
    made.stop()


def told(rig: Rig, text: bytes) -> bytes:
    async def work() -> bytes:
        stream = await client.connect(rig.place(), asking(service="app"), rig.key())
        try:
            await stream.write(text)
            return (await stream.read())[1]
        finally:
            await stream.close()

    return bytes(run(work()))


def answers(rig: Rig) -> bool:
    with contextlib.suppress(LocalError):
        return told(rig, b"hello") == b"hello"
    return False


def test_service__answers_over_tls__its_tenant_and_the_public(yard: Yard, rig: Rig) -> None:
    yard.run(yard.service(script=ECHOES, ports=(PORT,)))
    assert soon(lambda: answers(rig))
    assert rig.plane is not None
    rig.plane.sweep()
    (outer,) = rig.plane.public_ports(LEASE)
    with bare(outer.outer, None) as link:
        link.sendall(b"hello")
        assert link.recv(100) == b"hello"


def test_stranger_and_grace__nothing_reaches_the_container(yard: Yard, rig: Rig) -> None:
    yard.run(yard.service(script="while true; do nc -l -p 8080; echo came; done", ports=(PORT,)))
    with pytest.raises(RemoteError) as caught:
        run(client.connect(rig.place(), asking(service="app"), rig.key(account=rig.other)))
    assert caught.value.code is Code.NOT_TENANT
    rig.holders.move(LEASE, Phase.GRACE)
    with pytest.raises(RemoteError) as caught:
        run(client.connect(rig.place(), asking(service="app"), rig.key()))
    assert caught.value.code is Code.LEASE_UNCONFIRMED
    assert list(yard.runner.logs("lease-1", "app")) == []


def test_logs__of_a_container_that_has_said_nothing_yet__come_when_it_does(
    yard: Yard, rig: Rig
) -> None:
    yard.run(yard.service(script=f"mkfifo /tmp/f; cat /tmp/f; {WAITS}"))

    async def work() -> tuple[Frame, bytes]:
        request = asking(What.LOGS, service="app", follow=True)
        stream = await client.connect(rig.place(), request, rig.key())
        reading = asyncio.create_task(stream.read())
        await asyncio.to_thread(yard.say, "echo late >/tmp/f")
        try:
            return await reading
        finally:
            await stream.close()

    assert run(work(), 60) == (Frame.DATA, b"late\n")


def test_logs__to_their_end(yard: Yard, rig: Rig) -> None:
    yard.run(yard.service(script=f"echo out; echo err >&2; {WAITS}"))
    out, errors = io.BytesIO(), io.BytesIO()

    def whole() -> bool:
        out.seek(0), errors.seek(0)
        client.logs(rig.place(), rig.key(), asking(What.LOGS, service="app"), out, errors)
        return (out.getvalue(), errors.getvalue()) == (b"out\n", b"err\n")

    assert soon(whole)


def test_shell__with_a_terminal__its_size_and_its_exit_code(yard: Yard, rig: Rig) -> None:
    yard.run()

    async def work() -> tuple[bytes, int]:
        request = asking(What.SHELL, service="app", tty=True, rows=33, columns=99)
        stream = await client.connect(rig.place(), request, rig.key())
        await stream.write(b"stty size; exit 7\n")
        said = b""
        while True:
            kind, data = await stream.read()
            if kind is Frame.EXIT:
                return said, parse_exit_code(data)
            said += data

    said, code = run(work(), 60)
    assert b"33 99" in said
    assert code == 7


def test_container_killed__all_its_streams_end(yard: Yard, rig: Rig) -> None:
    yard.run(yard.service(script=ECHOES, ports=(PORT,)))
    assert soon(lambda: answers(rig))

    async def ended(stream: client.Stream) -> bool:
        with contextlib.suppress(LocalError):
            while (await stream.read())[0] not in (Frame.END, Frame.EXIT):
                pass
        return True

    async def work() -> list[bool]:
        wanted = (
            asking(service="app"),
            asking(What.LOGS, service="app", follow=True),
            asking(What.SHELL, service="app", command=("/bin/cat",)),
        )
        streams = [await client.connect(rig.place(), one, rig.key()) for one in wanted]
        await streams[0].write(b"x")
        await streams[0].read()
        name = yard.runner._names.container("lease-1", "app", 0)
        await asyncio.to_thread(yard.runner.engine.post, f"/containers/{name}/kill")
        return await asyncio.gather(*(ended(stream) for stream in streams))

    assert run(work(), 60) == [True] * 3
    with pytest.raises(RemoteError) as caught:
        told(rig, b"x")
    assert caught.value.code is Code.SERVICE_AWAY


def test_engine_away__said_so__and_no_word_of_this_machine(yard: Yard, rig: Rig) -> None:
    yard.run(yard.service(script=ECHOES, ports=(PORT,)))
    yard.runner.engine._seconds, before = 1.0, yard.runner.engine._seconds
    yard.daemon.hang()
    try:
        with pytest.raises(RemoteError) as caught:
            told(rig, b"x")
    finally:
        yard.daemon.go_on()
        yard.runner.engine._seconds = before
    assert caught.value.code is Code.CONTAINERS_AWAY
    assert str(yard.daemon.place) not in str(caught.value)


def test_port_of_the_machine__not_reached_by_any_request(yard: Yard, rig: Rig) -> None:
    """The port is named by the file, and the machine listens at it: the container does not."""
    yard.run(yard.service(ports=(PORT,)))
    with socket.create_server(("0.0.0.0", 8080)), pytest.raises(RemoteError) as caught:
        told(rig, b"x")
    assert caught.value.code is Code.SERVICE_AWAY
