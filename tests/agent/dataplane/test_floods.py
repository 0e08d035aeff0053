# SPDX-License-Identifier: Apache-2.0
"""Nonsense and floods: what they cost, and that others get in."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import Any

import pytest

from teraproof.client import dataplane as client
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol import dataplane
from teraproof.protocol.dataplane import (
    Frame,
    What,
)
from teraproof.protocol.errors import Code
from tests.agent.dataplane.attempts import HEAD, code_of, opened, opens, proof_for, refused, take
from tests.agent.dataplane.conftest import (
    OTHER,
    Rig,
    asking,
    bare,
    run,
)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 5_000,
        dataplane.frame(Frame.KEEP) * 3,
        dataplane.frame(Frame.OPEN, b"[]") + dataplane.frame(Frame.PROOF, b"{}"),
        dataplane.frame(Frame.OPEN, b"{" * 60_000) + dataplane.frame(Frame.PROOF, b"{}"),
        dataplane.frame(Frame.OPEN, asking().encoded()) + dataplane.frame(Frame.PROOF, b"{}"),
        HEAD.pack(Frame.OPEN, 2**32 - 1),
        HEAD.pack(77, 1),
    ],
    ids=range(9),
)
def test_nonsense__ends_the_connection_and_nothing_else(rig: Rig, sent: bytes) -> None:
    rig.start(opening_seconds=1).serve()
    with contextlib.suppress(OSError), bare(rig.port) as link:
        take(link)
        link.sendall(sent)
        with contextlib.suppress(EOFError):
            kind, data = take(link)
            assert kind is Frame.REFUSED
            assert code_of(data) in ("field_invalid", "body_invalid", "bad_request")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", rig.port)) as plain:
        plain.sendall(sent)
    opens(rig)


def test_tls__older_than_1_3__refused(rig: Rig) -> None:
    rig.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", rig.port)) as link, pytest.raises(OSError):
        context.wrap_socket(link)


def test_alpn__another_protocol__nothing_is_said(rig: Rig) -> None:
    rig.start()
    for name in (None, "http/1.1"):
        with contextlib.suppress(OSError), bare(rig.port, name) as link:
            assert link.recv(100) == b""


@pytest.mark.parametrize("wait", ["before TLS", "after TLS"])
def test_flood__of_connections_that_say_nothing__tenants_get_in(rig: Rig, wait: str) -> None:
    rig.start(connections=24, connections_per_address=24).serve()
    held: list[Any] = []
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(OSError):
                link: Any = (
                    bare(rig.port)
                    if wait == "after TLS"
                    else socket.create_connection(("127.0.0.1", rig.port))
                )
                held.append(stack.enter_context(link))
        assert len(held) > 24
        opens(rig)


def test_who_gets_nothing__is_counted(rig: Rig) -> None:
    rig.start(connections=4, connections_per_address=3).serve()
    assert rig.plane is not None
    assert rig.plane.refused == {"tenants": 0, "public": 0, "streams": 0}
    opens(rig)
    assert rig.plane.refused["streams"] == 0
    assert refused(client.connect(rig.place(), asking(), rig.key(OTHER, rig.other))) is not None
    assert rig.plane.refused["streams"] == 1
    with contextlib.ExitStack() as held:
        for _ in range(12):
            place = ("127.0.0.1", rig.port)
            held.enter_context(socket.create_connection(place, timeout=20))
        end = time.monotonic() + 30
        while rig.plane.refused["tenants"] < 9:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_flood__of_one_lease__others_get_in(rig: Rig) -> None:
    rig.start(streams_per_lease=8).serve()
    rig.serve(lease=OTHER)

    async def work() -> None:
        streams = [await client.connect(rig.place(), asking(), rig.key()) for _ in range(8)]
        with pytest.raises(RemoteError) as caught:
            await client.connect(rig.place(), asking(), rig.key())
        assert caught.value.code is Code.RATE_LIMITED
        key = rig.key(OTHER, rig.other)
        other = await client.connect(rig.place(OTHER), asking(lease=OTHER), key)
        await other.write(b"x")
        assert (await other.read())[1] == b"x"
        for stream in (other, *streams):
            await stream.close()

    run(work())


def test_flood__of_logs_and_shells__bounded_for_one_and_for_all(rig: Rig) -> None:
    rig.start(programs_per_lease=2, programs=3)
    wanted = asking(What.LOGS, follow=True)

    async def work() -> list[Code]:
        opened = [await client.connect(rig.place(), wanted, rig.key()) for _ in range(2)]
        found = []
        with pytest.raises(RemoteError) as caught:
            await client.connect(rig.place(), asking(What.SHELL), rig.key())
        found.append(caught.value.code)
        key, place = rig.key(OTHER, rig.other), rig.place(OTHER)
        theirs = asking(What.LOGS, lease=OTHER, follow=True)
        opened.append(await client.connect(place, theirs, key))
        with pytest.raises(RemoteError) as caught:
            await client.connect(place, theirs, key)
        found.append(caught.value.code)
        for stream in opened:
            await stream.close()
        return found

    assert run(work()) == [Code.RATE_LIMITED, Code.SERVER_BUSY]
    assert all(output.closed.wait(10) for output in rig.runner.outputs)


def test_proofs__of_keys_that_nobody_knows__counted__and_known_keys_go_on(rig: Rig) -> None:
    rig.start(keys_per_minute=2).serve()
    known = rig.key()
    run(opened(rig, known))

    async def work() -> None:
        stranger = rig.key(account=rig.other)
        for _ in range(2):
            with contextlib.suppress(LocalError):
                await client.connect(rig.place(), asking(), stranger)
        await client.connect(rig.place(), asking(), stranger)

    assert refused(work()) is Code.RATE_LIMITED
    run(opened(rig, known))


def test_tenant__silent_and_gone__its_stream_ends(rig: Rig) -> None:
    rig.start(idle_seconds=0.3).serve()
    opened = asking().encoded()
    with bare(rig.port) as link:
        _, hello = take(link)
        link.sendall(dataplane.frame(Frame.OPEN, opened))
        link.sendall(dataplane.frame(Frame.PROOF, proof_for(rig, hello, opened)))
        assert take(link)[0] is Frame.READY
        assert link.recv(1) == b""  # no KEEP came from here
