# SPDX-License-Identifier: Apache-2.0
"""What a tenant gets through the data plane."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from provider_agent.dataplane.holders import Phase
from provider_agent.dataplane.relay import Meter
from teraproof.client import dataplane as client
from teraproof.errors import LocalError, RemoteError
from teraproof.market.signers import KeySigner
from teraproof.protocol.dataplane import Frame, What, parse_exit_code
from teraproof.protocol.errors import Code
from tests.agent.dataplane.conftest import LEASE, Rig, asking, echo, run, service, spec


async def said(rig: Rig, text: bytes, **more: Any) -> bytes:
    stream = await client.connect(rig.place(), asking(**more), rig.key())
    try:
        await stream.write(text)
        await stream.finish()
        return b"".join([piece async for piece in stream.pieces()])
    finally:
        await stream.close()


def test_port__bytes_both_ways__and_each_end_says_its_last(rig: Rig) -> None:
    rig.start().serve()
    text = os.urandom(3_000_000)
    found = run(said(rig, text))
    assert found == text


def test_port__of_the_container_that_was_named(rig: Rig) -> None:
    rig.hold(said=spec(service("web", 3)))
    rig.start()

    def saying(number: int) -> Callable[[socket.socket], None]:
        return lambda link: link.sendall(b"%d" % number)

    for number in range(3):
        rig.serve(saying(number), number=number)
    assert [run(said(rig, b"", number=number)) for number in range(3)] == [b"0", b"1", b"2"]


def test_one_signature__serves_many_streams(rig: Rig) -> None:
    rig.start().serve()
    asked = []

    class Counting:
        address = str(rig.tenant.address)

        def sign_typed(self, document: dict[str, object]) -> bytes:
            asked.append(document["primaryType"])
            return KeySigner(rig.tenant, "test").sign_typed(document)

    key: client.Prover = client.session_key(rig.place(), Counting())

    async def work() -> None:
        for _ in range(5):
            stream = await client.connect(rig.place(), asking(), key)
            await stream.close()

    run(work())
    assert asked == ["LeaseDelegate"]
    key = client.Signed(Counting())
    run(work())
    assert asked == ["LeaseDelegate", *["LeaseStream"] * 5]


def test_forward__many_connections_at_once__each_its_own(rig: Rig) -> None:
    rig.start().serve()

    async def one(port: int, number: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        text = b"%d " % number * 20_000
        writer.write(text)
        writer.write_eof()
        found = await reader.read(-1)
        writer.close()
        return found == text

    async def work() -> list[bool]:
        server = await client.forwarding(rig.place(), rig.key(), asking())
        port = server.sockets[0].getsockname()[1]
        try:
            return await asyncio.gather(*(one(port, number) for number in range(20)))
        finally:
            server.close()

    assert all(run(work()))


def test_forward__a_reason_for_each_connection_that_fails(rig: Rig) -> None:
    rig.start()
    heard: list[Code] = []

    async def work() -> bytes:
        server = await client.forwarding(
            rig.place(), rig.key(), asking(), say=lambda error: heard.append(error.code)
        )
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await reader.read(-1)
        finally:
            writer.close()
            server.close()

    assert run(work()) == b""
    assert heard == [Code.SERVICE_AWAY]


def test_logs__both_streams_and_the_end(rig: Rig) -> None:
    rig.start()
    out, errors = io.BytesIO(), io.BytesIO()
    client.logs(rig.place(), rig.key(), asking(What.LOGS, tail=7), out, errors)
    assert (out.getvalue(), errors.getvalue()) == (b"one\n", b"two\n")
    assert rig.runner.asked[-1] == ("logs", "lease-1", "web", 0, 7)
    assert rig.runner.outputs[-1].closed.wait(10)


def test_logs__followed__come_as_they_are_printed__until_the_tenant_goes(rig: Rig) -> None:
    rig.start()

    async def work() -> list[tuple[Frame, bytes]]:
        stream = await client.connect(rig.place(), asking(What.LOGS, follow=True), rig.key())
        found = [await stream.read(), await stream.read()]
        rig.runner.outputs[-1].print(1, b"later\n")
        found.append(await stream.read())
        await stream.close()
        return found

    assert run(work())[2] == (Frame.DATA, b"later\n")
    assert rig.runner.outputs[-1].closed.wait(10)


@pytest.mark.parametrize("code", [0, 3])
def test_shell__input_output_errors_and_exit_code(rig: Rig, code: int) -> None:
    rig.start()
    command = ("/bin/sh", "-c", f"read line; echo out $line; echo err >&2; exit {code}")

    async def work() -> dict[Frame, bytes]:
        stream = await client.connect(
            rig.place(), asking(What.SHELL, command=command, tty=True, rows=7), rig.key()
        )
        await stream.resize(40, 132)
        await stream.write(b"hello\n")
        found: dict[Frame, bytes] = {}
        while Frame.EXIT not in found:
            kind, data = await stream.read()
            found[kind] = found.get(kind, b"") + data
        await stream.close()
        return found

    found = run(work())
    assert found[Frame.DATA] == b"out hello\n"
    assert found[Frame.STDERR] == b"err\n"
    assert parse_exit_code(found[Frame.EXIT]) == code
    assert rig.runner.programs[-1].sizes == [(7, 80), (40, 132)]


def test_shell__ends_while_input_comes__its_last_words_and_its_exit_code(rig: Rig) -> None:
    rig.start()
    command = ("/bin/sh", "-c", "head -c 1 >/dev/null; exec <&-; sleep 0.5; echo enough; exit 4")

    async def work() -> tuple[bytes, int]:
        stream = await client.connect(
            rig.place(), asking(What.SHELL, command=command, tty=True), rig.key()
        )

        async def flood() -> None:
            with contextlib.suppress(LocalError):
                while True:
                    await stream.write(bytes(65_536))
                    await stream.resize(1, 1)

        writing = asyncio.create_task(flood())
        said = b""
        while True:
            kind, data = await stream.read()
            if kind is Frame.EXIT:
                writing.cancel()
                await stream.close()
                return said, parse_exit_code(data)
            said += data

    assert run(work()) == (b"enough\n", 4)


def test_port__a_container_that_answers_before_it_has_heard_all__is_heard(rig: Rig) -> None:
    def refuses(link: socket.socket) -> None:
        link.recv(10)
        link.sendall(b"too much")
        link.shutdown(socket.SHUT_WR)
        time.sleep(0.5)

    rig.start().serve(refuses)

    async def work() -> bytes:
        stream = await client.connect(rig.place(), asking(), rig.key())

        async def flood() -> None:
            with contextlib.suppress(LocalError):
                while True:
                    await stream.write(bytes(65_536))

        writing = asyncio.create_task(flood())
        found = b"".join([piece async for piece in stream.pieces()])
        writing.cancel()
        await stream.close()
        return found

    assert run(work()) == b"too much"


def test_shell__tenant_goes__its_streams_are_let_go(rig: Rig) -> None:
    rig.start()

    async def work() -> None:
        stream = await client.connect(
            rig.place(), asking(What.SHELL, command=("/bin/cat",)), rig.key()
        )
        await stream.close()

    run(work())
    assert rig.runner.programs[-1].closed.wait(10)


def test_container_killed__its_streams_end(rig: Rig) -> None:
    container = rig.start().serve()

    async def work() -> bytes:
        stream = await client.connect(rig.place(), asking(), rig.key())
        await stream.write(b"x")
        assert (await stream.read())[1] == b"x"
        container.kill()
        left = b"".join([piece async for piece in stream.pieces()])
        await stream.close()
        return left

    assert run(work()) == b""


def test_lease_ends__its_streams_end_and_say_so__and_others_go_on(rig: Rig) -> None:
    rig.hold(bytes([3]) * 32)
    rig.start().serve()
    rig.serve(lease=bytes([3]) * 32)

    async def work() -> Code:
        ending = await client.connect(rig.place(), asking(), rig.key())
        lease = bytes([3]) * 32
        staying = await client.connect(rig.place(lease), asking(lease=lease), rig.key(lease))
        rig.holders.move(LEASE, Phase.ENDED)
        with pytest.raises(RemoteError) as caught:
            await ending.read()
        await staying.write(b"still here")
        assert (await staying.read())[1] == b"still here"
        await staying.close()
        return caught.value.code

    assert run(work()) is Code.LEASE_OVER


def test_what_the_agent_knows_is_away__open_streams_go_on__new_ones_are_refused(rig: Rig) -> None:
    rig.start().serve()

    async def work() -> None:
        stream = await client.connect(rig.place(), asking(), rig.key())
        rig.holders.broken = True
        await asyncio.to_thread(rig.plane.sweep)  # type: ignore[union-attr]  # it was started
        await stream.write(b"x")
        assert (await stream.read())[1] == b"x"
        with pytest.raises(RemoteError) as caught:
            await client.connect(rig.place(), asking(), rig.key())
        assert caught.value.code is Code.INTERNAL
        assert "database" not in str(caught.value)
        await stream.close()

    run(work())


def test_agent_restarts__streams_end__and_the_same_session_key_opens_new_ones(rig: Rig) -> None:
    rig.start().serve()
    key = rig.key()

    async def work() -> None:
        stream = await client.connect(rig.place(), asking(), key)
        await asyncio.to_thread(rig.stop)
        with pytest.raises(LocalError):
            await stream.read()
        await asyncio.to_thread(rig.start)
        again = await client.connect(rig.place(), asking(), key)
        await again.write(b"x")
        assert (await again.read())[1] == b"x"
        await again.close()

    run(work())


def test_slow_reader__holds_no_other__and_little_memory(rig: Rig) -> None:
    sent = []

    def flood(link: socket.socket) -> None:
        while True:
            sent.append(link.send(bytes(65_536)))

    rig.start().serve(flood)
    rig.hold(said=spec(service(), service("echo")))
    rig.serve(echo, name="echo")

    async def work() -> None:
        slow = await client.connect(rig.place(), asking(), rig.key())
        await slow.read()
        full = asyncio.get_running_loop().time() + 20
        before = -1
        while before != len(sent) and asyncio.get_running_loop().time() < full:
            before = len(sent)
            await asyncio.sleep(0.5)
        assert before == len(sent)  # the flood stands: nobody keeps what is not read
        quick = await client.connect(rig.place(), asking(service="echo"), rig.key())
        await quick.write(b"x")
        assert (await quick.read())[1] == b"x"
        await quick.close()
        await slow.close()

    run(work())
    assert sum(sent) < 32 << 20


def test_bandwidth__who_asks_first_goes_first__at_the_rate() -> None:
    clock = [0.0]
    meter = Meter(1_000, lambda: clock[0])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def work() -> None:
        original, asyncio.sleep = asyncio.sleep, sleep  # type: ignore[assignment]
        try:
            for _ in range(3):
                await meter.take(500)
            clock[0] = 100
            await meter.take(500)  # half a second is saved up
            await meter.take(500)
        finally:
            asyncio.sleep = original

    run(work())
    assert waits == [0.5, 1.0, 1.5, 0.5]


def test_threads__left_after_all_streams_have_ended(rig: Rig) -> None:
    rig.start()
    for _ in range(3):
        client.logs(rig.place(), rig.key(), asking(What.LOGS), io.BytesIO(), io.BytesIO())
    rig.stop()
    assert not [one for one in threading.enumerate() if one.name == "data plane"]
