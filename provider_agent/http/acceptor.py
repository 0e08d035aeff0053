# SPDX-License-Identifier: Apache-2.0
"""Accepts connections for uvicorn. asyncio's own loop accepts without end, and without descriptors
it writes a traceback for each try.

Above the limit nothing is accepted: newcomers wait in the kernel's queue, which is bounded too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable

from provider_agent.http.clients import RateLimit
from provider_agent.http.connection import Connection
from provider_agent.http.crowd import Crowd
from provider_agent.http.errors import answer
from provider_agent.http.limits import ApiLimits
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_BATCH = 64  # accepted before other work of the loop has its turn
_FULL_PAUSE = 0.05  # seconds until a full server looks again
_BUSY_PAUSE = 0.02  # after a batch: what a flood of connections can cost is bounded
_OUT_PAUSE = 1.0  # without descriptors or memory
_OUT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Bytes that the kernel takes for a client which does not read; more than that stay with us.
_UNSENT = 128 << 10


class Acceptor:
    """Stands where uvicorn keeps its asyncio server."""

    def __init__(
        self,
        listener: socket.socket,
        crowd: Crowd,
        limits: ApiLimits,
        make: Callable[[], Connection],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener, self._crowd, self._make = listener, crowd, make
        self._rate = RateLimit(
            60 * limits.new_connections_per_second, 4 * limits.new_connections_per_second
        )
        self._starting: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._closed = False
        self._refusal = _refusal()
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Nothing of it is left to wait for."""

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            if not self._crowd.has_room():
                return self._pause(_FULL_PAUSE)
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            except OSError as error:
                if error.errno in _OUT:
                    self._crowd.shed()
                log.warning("api: cannot accept connections: %s", error.strerror)
                return self._pause(_OUT_PAUSE)
            self._take(connection, str(peer[0]))
        return self._pause(_BUSY_PAUSE)

    def _take(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        crowd = self._crowd
        if not crowd.is_proxy(address) and not self._rate.allow(address):
            connection.close()
            return
        if not crowd.admits(address):
            with contextlib.suppress(OSError):
                connection.send(self._refusal)
            connection.close()
            return
        with contextlib.suppress(OSError, AttributeError):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        crowd.make_room()
        made = self._make()
        crowd.join(made, address)
        task = self._loop.create_task(self._serve(connection, made))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _serve(self, connection: socket.socket, made: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: made, connection)
        except OSError:  # it has gone already
            self._crowd.leave(made)
            connection.close()


def _refusal() -> bytes:
    """For an address all of whose connections are at work."""
    refused = answer(Refused(Code.RATE_LIMITED, "too many connections of yours; end one first"))
    headers = [*refused.headers.items(), ("connection", "close")]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    status = f"HTTP/1.1 {refused.status_code} Too Many Requests\r\n"
    return f"{status}{head}\r\n".encode() + bytes(refused.body)
