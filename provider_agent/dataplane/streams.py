# SPDX-License-Identifier: Apache-2.0
"""What a tenant's stream carries: a port, the output of a container, or a program in it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from provider_agent.dataplane.link import Link
from provider_agent.dataplane.relay import Meter, to_container, until
from provider_agent.errors import RunnerError
from provider_agent.runners.lease import LeaseRunner, Output, Port, Shell
from teraproof.errors import Refused
from teraproof.protocol import dataplane
from teraproof.protocol.dataplane import PIECE, Frame, Request
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_COMMAND = ("/bin/sh",)
_ENDING = 5.0  # seconds for a program that has closed its output to end
_LOOK = 0.1
_HALF_CLOSED = 30.0  # seconds for which a tenant may go on where the container has ended its half


class Streams:
    """Serves streams of one agent. `threads` are for what waits in the runner: two a program, and
    some for its short answers.
    """

    def __init__(
        self,
        runner: LeaseRunner,
        threads: ThreadPoolExecutor,
        connect_seconds: float,
        *,
        local: bool,
    ) -> None:
        self._runner, self._threads = runner, threads
        self._connect_seconds, self._local = connect_seconds, local

    async def place(self, lease_id: str, service: str, port: int, number: int) -> tuple[str, int]:
        """Where a port of a container is. Refused (service_away) where it does not run."""
        return await self._ask(lambda: self._runner.address(lease_id, service, Port(port), number))

    async def connect(
        self, place: tuple[str, int]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection there. Refused (service_away) where nobody takes it."""
        return await to_container(place, self._connect_seconds, local=self._local)

    async def port(self, link: Link, lease_id: str, request: Request, meter: Meter) -> None:
        """The bytes of a port, until both ends have said their last."""
        place = await self.place(lease_id, request.service, request.port, request.number)
        reader, writer = await self.connect(place)

        said_all = asyncio.Event()

        async def inward() -> None:
            while True:
                kind, data = await link.read(Frame.DATA, Frame.END)
                if kind is Frame.END:
                    break
                await meter.take(len(data))
                # Where the container hears no more, what it has said decides how this ends.
                with contextlib.suppress(OSError):
                    writer.write(data)
                    await writer.drain()
            said_all.set()
            with contextlib.suppress(OSError):
                writer.write_eof()
            await link.read()

        async def outward() -> None:
            while piece := await _of_container(reader.read(PIECE)):
                await meter.take(len(piece))
                await link.send(Frame.DATA, piece)
            await link.send(Frame.END)
            # A dead container looks like one that has said its last and still listens.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HALF_CLOSED):
                    await said_all.wait()

        try:
            await link.send(Frame.READY, b"{}")
            await until(outward(), inward(), link.keep())
        finally:
            writer.transport.abort()

    async def logs(self, link: Link, lease_id: str, request: Request, meter: Meter) -> None:
        """What a container prints."""
        output: Output = await self._ask(
            lambda: self._runner.logs(
                lease_id,
                request.service,
                request.number,
                follow=request.follow,
                tail=request.tail,
            )
        )

        async def outward() -> None:
            await self._carry(iter(output), link, meter)
            await link.send(Frame.END)

        try:
            await link.send(Frame.READY, b"{}")
            await until(outward(), link.read(), link.keep())
        finally:
            output.close()

    async def shell(self, link: Link, lease_id: str, request: Request, meter: Meter) -> None:
        """A program, until it ends or the tenant goes."""
        command = request.command or DEFAULT_COMMAND
        shell: Shell = await self._ask(
            lambda: self._runner.exec(
                lease_id, request.service, command, request.number, tty=request.tty
            )
        )

        async def inward() -> None:
            while True:
                kind, data = await link.read(Frame.DATA, Frame.END, Frame.SIZE)
                work: Callable[[], None] = shell.finish
                if kind is Frame.DATA:
                    await meter.take(len(data))
                    work = partial(shell.write, data)
                elif kind is Frame.SIZE:
                    work = partial(shell.resize, *dataplane.parse_size(data))
                # A program that hears no more has often ended, and its exit code is still to come.
                if request.tty or kind is not Frame.SIZE:
                    with contextlib.suppress(Refused):
                        await self._ask(work)

        async def outward() -> None:
            await self._carry(_output(shell), link, meter)
            code = await self._exit_code(shell)
            if code is None:
                raise Refused(Code.SERVICE_AWAY, "the program has closed its output and goes on")
            await link.send(Frame.EXIT, dataplane.exit_code(code))

        try:
            if request.tty:
                with contextlib.suppress(Refused):
                    await self._ask(lambda: shell.resize(request.rows, request.columns))
            await link.send(Frame.READY, b"{}")
            await until(outward(), inward(), link.keep())
        finally:
            shell.close()

    async def _exit_code(self, shell: Shell) -> int | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _ENDING
        while (code := await self._ask(shell.exit_code)) is None and loop.time() < end:
            await asyncio.sleep(_LOOK)
        return code

    async def _carry(self, pieces: Iterator[tuple[int, bytes]], link: Link, meter: Meter) -> None:
        """Output as it comes; the next piece is fetched when the last one has left."""
        while True:
            kind, piece = await self._ask(lambda: next(pieces, (0, b"")))
            if not piece:
                return
            await meter.take(len(piece))
            await link.send(Frame.STDERR if kind == 2 else Frame.DATA, piece)

    async def _ask(self, work: Callable[[], T]) -> T:
        """What the runner says, from a thread. Refused where it does not do it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RunnerError as error:
            raise _as_tenants_see(error) from error


def _output(shell: Shell) -> Iterator[tuple[int, bytes]]:
    while True:
        kind, piece = shell.read()
        if not piece:
            return
        yield kind, piece


async def _of_container(work: Coroutine[Any, Any, T]) -> T:
    """An error of this connection is the container's, and not the tenant's."""
    try:
        return await work
    except OSError:
        raise Refused(Code.SERVICE_AWAY, "the container broke the connection off") from None


def _as_tenants_see(error: RunnerError) -> Refused:
    """What the engine says stays in the log."""
    log.debug("data plane: %s", error)
    if error.code is Code.CONTAINERS_AWAY:
        return Refused(error.code, "the provider's container engine does not answer; try again")
    return Refused(Code.SERVICE_AWAY, "the container does not run now, or does not take this")
