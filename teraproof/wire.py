# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 to one server: h11 over asyncio, with connections that are used again.

A general client does the same and more, for several times the processor time. Here that time is
waited for in front of each answer: by the gateway for a provider, and by it for its model server.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11

_READ = 1 << 16
_HEAD = 64 << 10  # bytes of the longest head of an answer
#: What ends a connection, and is nobody's bug.
FAILURES = (OSError, h11.ProtocolError)  # a time-out is an OSError

#: The addresses of a host that may be connected to, within some seconds. It raises for none.
Resolve = Callable[[str, int, float], Awaitable[Sequence[str]]]


class Reply:
    """The beginning of an answer; `pieces` are the bytes of its body. `end` is called once, whether
    all of it was read or not.
    """

    def __init__(
        self, link: Link, head: h11.Response, wait: float, ended: Callable[[Link, bool], None]
    ) -> None:
        self._link, self._head, self._wait, self._ended = link, head, wait, ended
        self._is_whole = False

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self._head.status_code

    def header(self, name: str) -> str | None:
        """The value of a header; None without it."""
        wanted = name.lower().encode("ascii")
        for found, value in self._head.headers:
            if found == wanted:
                return bytes(value).decode("latin-1")
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises FAILURES when it breaks off, or pauses for too long."""
        while True:
            event = await self._link.event(self._wait)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._is_whole = True
                return

    def end(self) -> None:
        """Let go of the connection: it is used again when all was read."""
        self._ended(self._link, self._is_whole)


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._state = h11.Connection(h11.CLIENT, _HEAD)
        self.used = False
        self.since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return not (self._reader.at_eof() or self._writer.is_closing())

    async def send(self, head: h11.Request, body: bytes, wait: float) -> None:
        """Send a request."""
        data = [self._state.send(head)]
        if body:
            data.append(self._state.send(h11.Data(data=body)))
        data.append(self._state.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in data if part))
        async with asyncio.timeout(wait):
            await self._writer.drain()

    async def event(self, wait: float) -> h11.Event | type[h11.PAUSED]:
        """What comes next of the answer."""
        while True:
            found = self._state.next_event()
            if found is not h11.NEED_DATA:
                return found  # type: ignore[return-value]  # the rest of its union
            async with asyncio.timeout(wait):
                self._state.receive_data(await self._reader.read(_READ))

    def again(self) -> bool:
        """Make it ready for the next request; whether it is."""
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()
            self.used = True
            return self.is_open
        return False

    def abort(self) -> None:
        """End it at once."""
        self._writer.transport.abort()


class Wire:
    """A server by its base URL. Used on one event loop. `connect` and `idle` are seconds, for a
    connection, and for which one is kept.

    `resolve` names the addresses that may be connected to. With `resends` a request is sent a
    second time when a kept connection breaks before the answer begins.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        connect: float,
        idle: float,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        resends: bool = True,
    ) -> None:
        place = urlsplit(base)
        self._host, self._path = place.hostname or "", place.path.rstrip("/")
        is_secure = place.scheme == "https"
        self._tls = (tls or ssl.create_default_context()) if is_secure else None
        self._port = place.port or (443 if is_secure else 80)
        self._headers = [("host", place.netloc.rpartition("@")[2]), *headers.items()]
        self._connect, self._idle = connect, idle
        self._resolve, self._resends = resolve, resends
        self._free: deque[Link] = deque()

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, body: bytes = b"", *, wait: float
    ) -> AsyncIterator[Reply]:
        """Send a request, as `send` does; the answer ends with the block."""
        reply = await self.send(method, path, body, wait=wait)
        try:
            yield reply
        finally:
            reply.end()

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        wait: float,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request to a path behind the base. Raises FAILURES when no answer begins, and what
        `resolve` raises. `wait` is in seconds, for whatever is read next.
        """
        fields = [*self._headers, *(headers or {}).items(), ("content-length", str(len(body)))]
        head = h11.Request(method=method, target=self._path + path, headers=fields)
        link, found = await self._begin(head, body, wait)
        return Reply(link, found, wait, self._give)

    def close(self) -> None:
        """End the connections that nobody uses."""
        while self._free:
            self._free.pop().abort()

    def _give(self, link: Link, is_whole: bool) -> None:
        self._drop_old()
        if is_whole and link.again():
            link.since = time.monotonic()
            self._free.append(link)
        else:
            link.abort()

    def _drop_old(self) -> None:
        """The newest ones are used first, so the oldest are at the left end."""
        least = time.monotonic() - self._idle
        while self._free and self._free[0].since < least:
            self._free.popleft().abort()

    async def _begin(
        self, head: h11.Request, body: bytes, wait: float
    ) -> tuple[Link, h11.Response]:
        """The connection, and the head of the answer that begins on it."""
        while True:
            link = await self._link()
            try:
                await link.send(head, body, wait)
                while True:
                    event = await link.event(wait)
                    if isinstance(event, h11.Response):
                        return link, event
                    if not isinstance(event, h11.InformationalResponse):
                        raise h11.RemoteProtocolError("no answer")
            except TimeoutError:
                link.abort()
                raise
            except FAILURES:
                link.abort()
                if not (link.used and self._resends):
                    raise
                # It had waited for its next request, and the server has given it up: a new one.
            except BaseException:
                link.abort()
                raise

    async def _link(self) -> Link:
        self._drop_old()
        while self._free:
            link = self._free.pop()
            if link.is_open:
                return link
            link.abort()
        async with asyncio.timeout(self._connect):
            return await self._open()

    async def _open(self) -> Link:
        places = [self._host]
        if self._resolve is not None:
            places = [*await self._resolve(self._host, self._port, self._connect)]
        name = self._host if self._tls is not None else None
        for number, place in enumerate(places, 1):
            try:
                return Link(
                    *await asyncio.open_connection(
                        place, self._port, ssl=self._tls, server_hostname=name
                    )
                )
            except OSError:  # refused, no way there, another certificate
                if number == len(places):
                    raise
        raise ConnectionError("no address")
