# SPDX-License-Identifier: Apache-2.0
"""Accepts connections at one port, and bounds what all of them together can hold."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

from provider_agent.http.clients import RateLimit
from provider_agent.http.crowd import Crowd
from teraproof.protocol.dataplane import PIECE

log = logging.getLogger(__name__)

_FULL_PAUSE = 0.05  # seconds until a full port looks again
_BATCH, _BUSY_PAUSE = 64, 0.02  # what a flood of connections can cost is bounded
_OUT_PAUSE = 1.0  # without descriptors or memory
_CLOSING = 2.0  # seconds for the end of a TLS connection


class Guest:
    """One connection: a member of the crowd at its port."""

    def __init__(
        self, link: socket.socket, address: str, dropped: Callable[[], None] = lambda: None
    ) -> None:
        self.link, self.address, self._dropped = link, address, dropped
        self.task: asyncio.Task[None] | None = None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self._idle: float | None = time.monotonic()

    def busy(self) -> None:
        """It has what it came for: no newcomer takes its place."""
        self._idle = None

    def moved(self) -> None:
        """A byte of it came or went; it may still have to make room."""
        self._idle = time.monotonic()

    def owed_for(self, now: float) -> float | None:
        """See `crowd.Member`."""
        return None if self._idle is None else now - self._idle

    def drop(self) -> None:
        """See `crowd.Member`."""
        self._dropped()
        if self.task is not None:
            self.task.cancel()

    async def secure(self, context: ssl.SSLContext | None, seconds: float) -> None:
        """Makes its streams, over TLS where there is a context. OSError or TimeoutError else."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=PIECE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            self.link,
            ssl=context,
            ssl_handshake_timeout=seconds if context else None,
            ssl_shutdown_timeout=_CLOSING if context else None,
        )
        transport.set_write_buffer_limits(high=PIECE)
        self.reader = reader
        self.writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def leave(self) -> None:
        """Sends what is left, for a moment, and closes."""
        if self.writer is None:
            self.link.close()
            return
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    self.writer.close()
                    await self.writer.wait_closed()
        finally:
            self.writer.transport.abort()


class Places:
    """What several entrances share: no more than `most` connections at all of them together. When
    all are taken, the entrance with the most gives one up that is late.
    """

    def __init__(self, most: int) -> None:
        self._most, self._crowds = most, set[Crowd]()

    def join(self, crowd: Crowd) -> None:
        """Counts an entrance's connections until `leave`."""
        self._crowds.add(crowd)

    def leave(self, crowd: Crowd) -> None:
        """The entrance is closed."""
        self._crowds.discard(crowd)

    def make_room(self) -> bool:
        """Whether one more may come."""
        if sum(map(len, self._crowds)) < self._most:
            return True
        largest = sorted(self._crowds, key=len, reverse=True)
        return any(crowd.give_way() for crowd in largest)


class Entrance:
    """A listening socket on the running loop. `serve` has one guest from its connection to its
    end; what it raises ends that guest alone. `turned_away` is called for each connection that
    has no place, or loses it to a newcomer.
    """

    def __init__(
        self,
        listener: socket.socket,
        crowd: Crowd,
        rate: RateLimit,
        serve: Callable[[Guest], Awaitable[None]],
        places: Places,
        turned_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._listener, self._crowd, self._rate, self._serve = listener, crowd, rate, serve
        self._places, self._turned_away = places, turned_away
        places.join(crowd)
        self._guests: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Accepts no more, and ends all that were accepted."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self._places.leave(self._crowd)
        guests = list(self._guests)
        for guest in guests:
            guest.cancel()
        await asyncio.gather(*guests, return_exceptions=True)

    async def _accept(self) -> None:
        loop, taken = asyncio.get_running_loop(), 0
        while True:
            while not self._crowd.has_room():
                await asyncio.sleep(_FULL_PAUSE)
            try:
                link, peer = await loop.sock_accept(self._listener)
            except (ConnectionAbortedError, InterruptedError):
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._crowd.shed()
                log.warning("data plane: cannot accept connections: %s", error.strerror)
                await asyncio.sleep(_OUT_PAUSE)
                continue
            try:
                self._take(link, str(peer[0]))
            except OSError:  # it has gone already
                link.close()
            taken = (taken + 1) % _BATCH
            if not taken:
                await asyncio.sleep(_BUSY_PAUSE)

    def _take(self, link: socket.socket, address: str) -> None:
        crowd, welcome = self._crowd, self._rate.allow(address)
        if not (welcome and crowd.admits(address) and self._places.make_room()):
            self._turned_away()
            link.close()
            return
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        crowd.make_room()
        guest = Guest(link, address, self._turned_away)
        crowd.join(guest, address)
        task = asyncio.get_running_loop().create_task(self._host(guest))
        guest.task = task
        self._guests.add(task)
        task.add_done_callback(self._guests.discard)
        task.add_done_callback(lambda _: self._part(guest))

    async def _host(self, guest: Guest) -> None:
        try:
            await self._serve(guest)
        except asyncio.CancelledError:
            self._abort(guest)
            raise
        except (OSError, EOFError, TimeoutError):
            return  # it has gone, or was too slow
        except Exception:
            log.exception("data plane: a connection ended by a bug")
        finally:
            await guest.leave()

    def _part(self, guest: Guest) -> None:
        """Also where its task was cancelled before it began."""
        self._crowd.leave(guest)
        self._abort(guest)

    @staticmethod
    def _abort(guest: Guest) -> None:
        if guest.writer is None:
            guest.link.close()
        else:
            guest.writer.transport.abort()
