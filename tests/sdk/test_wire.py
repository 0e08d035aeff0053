# SPDX-License-Identifier: Apache-2.0
"""HTTP to one server, over connections that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest

from teraproof.gateway.faults import HostFailed
from teraproof.gateway.lines import Lines
from teraproof.storage.reach import Reach
from teraproof.wire import FAILURES, Wire

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-One: a\r\n\r\nhi"


class Server:
    """Answers `answers` of each connection's requests, and closes it at the next one."""

    def __init__(self, answers: int, answer: bytes = ANSWER) -> None:
        self.answers, self.answer = answers, answer
        self.connections = self.requests = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.answers):
                await self._request(reader)
                writer.write(self.answer)
            await self._request(reader)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)
        await reader.readexactly(int(length.split(b":")[1]))
        self.requests += 1


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def lines() -> Lines:
    return Lines(Reach.of_strangers((ip_network("127.0.0.0/8"),), plain=True), kept_seconds=30)


def wire(server: Server) -> Wire:
    return Wire(server.url, {}, connect=5, idle=30)


async def by_lines(found: Lines, server: Server) -> bytes:
    answer = await found.post(f"{server.url}/x", b"{}", {}, wait=5)
    try:
        assert (answer.status, answer.header("x-ONE"), answer.header("y")) == (200, "a", None)
        return b"".join([piece async for piece in answer.pieces()])
    finally:
        answer.close()
        answer.close()


async def by_wire(found: Wire) -> bytes:
    async with found.ask("POST", "/x", b"{}", wait=5) as reply:
        return b"".join([piece async for piece in reply.pieces()])


def run(server: Server, work: Callable[[], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        async with running(server):
            await work()

    asyncio.run(all_of_it())


def test_connection__is_used_again() -> None:
    server = Server(answers=9)

    async def work() -> None:
        found = lines()
        assert [await by_lines(found, server) for _ in range(3)] == [b"hi"] * 3
        found.close()

    run(server, work)
    assert (server.connections, server.requests) == (1, 3)


def test_kept_connection_breaks__a_paid_request_is_not_sent_twice() -> None:
    server = Server(answers=1)

    async def work() -> None:
        found = lines()
        assert await by_lines(found, server) == b"hi"
        with pytest.raises(HostFailed, match="broke"):
            await by_lines(found, server)
        assert await by_lines(found, server) == b"hi"
        found.close()

    run(server, work)
    assert (server.connections, server.requests) == (2, 3)


def test_kept_connection_breaks__a_model_server_is_asked_again() -> None:
    server = Server(answers=1)

    async def work() -> None:
        found = wire(server)
        assert [await by_wire(found) for _ in range(2)] == [b"hi"] * 2
        found.close()

    run(server, work)
    assert (server.connections, server.requests) == (2, 3)


@pytest.mark.parametrize("answers", [0, 1])
def test_answer_that_is_none__is_the_hosts_failure(answers: int) -> None:
    server = Server(answers, b"nonsense\r\n\r\n")

    async def work() -> None:
        found = lines()
        with pytest.raises(HostFailed, match="broke"):
            await found.post(f"{server.url}/x", b"{}", {}, wait=5)
        found.close()

    run(server, work)


def test_answer_that_was_not_read__its_connection_is_not_used_again() -> None:
    server = Server(answers=9)

    async def work() -> None:
        found = wire(server)
        async with found.ask("POST", "/x", b"{}", wait=5) as reply:
            assert reply.status == 200
        assert await by_wire(found) == b"hi"
        found.close()

    run(server, work)
    assert server.connections == 2


def test_first_address_cannot_be_reached__the_next_one_is_tried() -> None:
    """As with an address of IPv6 on a machine without it. No connection leads to a group."""
    server = Server(answers=1)

    async def places(host: str, port: int, seconds: float) -> list[str]:
        return ["224.0.0.1", "127.0.0.1"]

    async def work() -> None:
        found = Wire(server.url, {}, connect=5, idle=30, resolve=places)
        assert await by_wire(found) == b"hi"
        found.close()

    run(server, work)
    assert server.connections == 1


def test_nobody_listens__a_failure() -> None:
    async def work() -> None:
        found = Wire("http://127.0.0.1:1", {}, connect=5, idle=30)
        with pytest.raises(FAILURES):
            await by_wire(found)

    asyncio.run(work())


def test_silent_server__is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def work() -> None:
        listener = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x"
        found = lines()
        with pytest.raises(HostFailed, match="silent"):
            await found.post(url, b"{}", {}, wait=0.1)
        found.close()
        listener.close()

    asyncio.run(work())
