# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 to a model server: h11 over asyncio, with connections that are used again.

A general client does the same and more, for several times the processor time. Here that time is the
payer's: it waits for it in front of each answer.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import h11

_READ = 1 << 16
#: What ends a connection, and is nobody's bug.
FAILURES = (OSError, h11.ProtocolError)  # a time-out is an OSError


class Reply:
    """The beginning of an answer; `pieces` are the bytes of its body."""

    def __init__(self, link: Link, status: int, wait: float) -> None:
        self._link, self._wait, self.status = link, wait, status
        #: Whether all of it was read.
        self.is_whole = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises FAILURES when it breaks off, or pauses for too long."""
        while True:
            event = await self._link.event(self._wait)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.is_whole = True
                return


class Link:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._state = h11.Connection(h11.CLIENT)
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
    """A server by its base URL. Used on one event loop. `connect` and `wait` are seconds, for a
    connection and for whatever is read next.
    """

    def __init__(
        self, base: str, headers: Mapping[str, str], *, connect: float, wait: float, idle: float
    ) -> None:
        place = urlsplit(base)
        self._host, self._path = place.hostname or "", place.path.rstrip("/")
        self._tls = ssl.create_default_context() if place.scheme == "https" else None
        self._port = place.port or (443 if self._tls else 80)
        self._headers = [("host", place.netloc.rpartition("@")[2]), *headers.items()]
        self._connect, self._wait, self._idle = connect, wait, idle
        self._free: list[Link] = []

    @asynccontextmanager
    async def ask(self, method: str, path: str, body: bytes = b"") -> AsyncIterator[Reply]:
        """Send a request to a path behind the base. Raises FAILURES when no answer begins."""
        headers = [*self._headers, ("content-length", str(len(body)))]
        head = h11.Request(method=method, target=self._path + path, headers=headers)
        link, status = await self._begin(head, body)
        reply = Reply(link, status, self._wait)
        try:
            yield reply
        finally:
            if reply.is_whole and link.again():
                link.since = time.monotonic()
                self._free.append(link)
            else:
                link.abort()

    async def _begin(self, head: h11.Request, body: bytes) -> tuple[Link, int]:
        """The connection, and the status of the answer that begins on it."""
        while True:
            link = await self._link()
            try:
                await link.send(head, body, self._wait)
                while True:
                    event = await link.event(self._wait)
                    if isinstance(event, h11.Response):
                        return link, event.status_code
                    if not isinstance(event, h11.InformationalResponse):
                        raise h11.RemoteProtocolError("no answer")
            except TimeoutError:
                link.abort()
                raise
            except FAILURES:
                link.abort()
                if not link.used:
                    raise
                # It had waited for its next request, and the server has given it up: a new one.
            except BaseException:
                link.abort()
                raise

    async def _link(self) -> Link:
        while self._free:
            link = self._free.pop()
            if link.is_open and time.monotonic() - link.since < self._idle:
                return link
            link.abort()
        async with asyncio.timeout(self._connect):
            return Link(*await asyncio.open_connection(self._host, self._port, ssl=self._tls))
