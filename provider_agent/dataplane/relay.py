# SPDX-License-Identifier: Apache-2.0
"""Bytes between two connections: never more of them in hand than a piece each way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from teraproof.errors import Refused
from teraproof.protocol.dataplane import PIECE
from teraproof.protocol.errors import Code

# A container that is killed may take its network with it: nobody says that it has gone.
_KEEPALIVE = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, 1),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, 5),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, 5),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, 3),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, 30_000),
}


class Meter:
    """The bandwidth of one lease, bytes per second; 0 for no bound. Used on the loop alone."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock, self._free_at = rate, clock, clock()

    async def take(self, size: int) -> None:
        """Waits until `size` bytes may go. Who asks first goes first."""
        if self._rate == 0:
            return
        now = self._clock()
        # Half a second may be saved up.
        start = max(self._free_at, now - 0.5)
        self._free_at = start + size / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)


async def to_container(
    place: tuple[str, int], seconds: float, *, local: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a container's port. Refused (service_away) where nobody takes it in time.

    Unless `local` says that containers share this machine's addresses, a connection that would end
    at this machine itself is refused: the agent's own ports are not a lease's.
    """
    host, port = place
    if not local and ip_address(host).is_loopback:
        raise _away(port)
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=PIECE)
    except (OSError, TimeoutError):
        raise _away(port) from None
    ours, theirs = (writer.get_extra_info(name)[0] for name in ("sockname", "peername"))
    if not local and ours == theirs:
        writer.transport.abort()
        raise _away(port)
    link = writer.get_extra_info("socket")
    for name, (level, value) in _KEEPALIVE.items():
        with contextlib.suppress(OSError, AttributeError):  # not on every system
            link.setsockopt(level, getattr(socket, name), value)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.transport.set_write_buffer_limits(high=PIECE)
    return reader, writer


async def pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    meter: Meter,
    moved: Callable[[], None],
) -> None:
    """Bytes one way until there are no more. OSError where one of the two breaks."""
    while piece := await reader.read(PIECE):
        await meter.take(len(piece))
        writer.write(piece)
        await writer.drain()
        moved()


async def until(work: Coroutine[Any, Any, None], *meanwhile: Coroutine[Any, Any, Any]) -> None:
    """Runs all together until `work` ends; the first that fails ends it with its error."""
    loop = asyncio.get_running_loop()
    main, *others = [loop.create_task(each) for each in (work, *meanwhile)]
    try:
        done, _ = await asyncio.wait([main, *others], return_when=asyncio.FIRST_COMPLETED)
        while main not in done:
            for task in done:
                task.result()  # raises
            left = [task for task in (main, *others) if not task.done()]
            done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        main.result()
    finally:
        for task in (main, *others):
            task.cancel()
        await asyncio.gather(main, *others, return_exceptions=True)


def _away(port: int) -> Refused:
    return Refused(
        Code.SERVICE_AWAY, f"nothing listens at port {port} of the container; see its logs"
    )
