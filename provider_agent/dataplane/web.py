# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 at a public port whose lease names `http_options`: a reverse proxy that keeps them.

Bodies are streamed, never kept whole. A request goes to the next container only as long as its
body is known here, and once a container has had it, only where doing it twice is doing it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import h11

from provider_agent.dataplane.entrance import Guest
from provider_agent.dataplane.relay import Meter, pump, until
from provider_agent.dataplane.streams import Streams
from teraproof.errors import Refused
from teraproof.protocol.dataplane import PIECE
from teraproof.protocol.leasespec import Http

Headers = list[tuple[bytes, bytes]]
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_HEAD_BYTES = 32 << 10
_IDLE = 60.0  # seconds between two requests, and for a head
_KEPT = 64 << 10  # bytes of a body that are kept for another try
_SAFE = (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE")  # twice is once (RFC 9110)
_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect")
)
_OURS = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip", b"forwarded"))


class _Next(Exception):
    """This container does not do: `case` of the specification."""

    def __init__(self, case: str, *, sent: bool) -> None:
        super().__init__(case)
        self.case, self.sent = case, sent


class _ClientGone(Exception):
    """The client broke off, or is too slow."""


class _TooLong(Exception):
    """The body has more bytes than the lease lets through."""


class Exchange:
    """All requests of one connection."""

    def __init__(
        self,
        guest: Guest,
        http: Http,
        places: Callable[[], Awaitable[list[tuple[str, int]]]],
        meter: Meter,
        streams: Streams,
    ) -> None:
        assert guest.reader is not None and guest.writer is not None
        self._guest, self._reader, self._writer = guest, guest.reader, guest.writer
        self._http, self._places, self._meter, self._streams = http, places, meter, streams
        self._conn = h11.Connection(h11.SERVER, _HEAD_BYTES)
        self._body = 0

    async def serve(self) -> None:
        """Answers until the client or an error ends it."""
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    event = await self._event()
                if not isinstance(event, h11.Request):
                    return
                await self._one(event)
                if self._conn.our_state is h11.MUST_CLOSE or self._conn.their_state is not h11.DONE:
                    return
                self._conn.start_next_cycle()
                self._guest.moved()
        except h11.RemoteProtocolError:
            await self._answer(400, "not a valid HTTP request")
        except (h11.LocalProtocolError, _ClientGone):
            return

    async def _one(self, request: h11.Request) -> None:
        self._body = 0
        try:
            if _length(request) > self._http.max_body_bytes:
                raise _TooLong
            if self._conn.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._send(go_on)
            await self._tries(request)
        except _TooLong:
            await self._answer(413, f"the body is longer than {self._http.max_body_bytes} bytes")

    async def _tries(self, request: h11.Request) -> None:
        http, loop = self._http, asyncio.get_running_loop()
        kept, whole = await self._begin()
        since, places = loop.time(), await self._places()
        last = _Next("error", sent=False)
        for number in range(http.next_tries if places else 0):
            if number and http.next_timeout_ms and loop.time() - since > http.next_timeout_ms / 1e3:
                break
            try:
                await self._try(request, places[number % len(places)], kept, whole)
                return
            except _Next as failed:
                last = failed
                again = whole and (not failed.sent or request.method in _SAFE)
                if failed.case not in http.next_cases or not again or len(places) == 1:
                    break
        if last.case.isdigit():
            await self._answer(int(last.case), "the service says so")
        else:
            status = 504 if last.case == "timeout" else 502
            await self._answer(status, "the service does not answer as it should")

    async def _begin(self) -> tuple[bytes, bool]:
        """The beginning of the body, and whether that is all of it."""
        kept = b""
        while len(kept) < _KEPT:
            piece = await self._piece()
            if piece is None:
                return kept, True
            kept += piece
        return kept, False

    async def _try(
        self, request: h11.Request, place: tuple[str, int], kept: bytes, whole: bool
    ) -> None:
        try:
            far = await self._streams.connect(place)
        except Refused:
            raise _Next("error", sent=False) from None
        theirs = h11.Connection(h11.CLIENT, _HEAD_BYTES)
        try:
            await self._forward(theirs, far, request, kept, whole)
        except (OSError, EOFError, h11.RemoteProtocolError) as error:
            if self._conn.our_state is not h11.SEND_RESPONSE:
                raise OSError("broken off within an answer") from None
            case = "timeout" if isinstance(error, TimeoutError) else "error"
            raise _Next(case, sent=True) from None
        finally:
            far[1].transport.abort()

    async def _forward(
        self, theirs: h11.Connection, far: Pair, request: h11.Request, kept: bytes, whole: bool
    ) -> None:
        switch = _upgrades(request)
        head = h11.Request(
            method=request.method,
            target=request.target,
            headers=self._headers(request, switch),
        )
        await self._to(far, theirs.send(head) or b"")
        if kept:
            await self._to(far, theirs.send(h11.Data(data=kept)) or b"")
        while not whole:
            piece = await self._piece()
            if piece is None:
                break
            await self._to(far, theirs.send(h11.Data(data=piece)) or b"")
        await self._to(far, theirs.send(h11.EndOfMessage()) or b"")
        await self._back(theirs, far, switch)

    async def _back(self, theirs: h11.Connection, far: Pair, switch: bool) -> None:
        """The container's answer."""
        while True:
            event = await self._from(theirs, far[0])
            if isinstance(event, h11.InformationalResponse):
                if event.status_code == 101 and switch:
                    await self._switch(event, theirs, far)
                    return
                continue
            if isinstance(event, h11.Response):
                case = str(event.status_code)
                if case in self._http.next_cases:
                    raise _Next(case, sent=True)
                await self._send(
                    h11.Response(
                        status_code=event.status_code,
                        reason=event.reason,
                        headers=[pair for pair in _plain(event.headers) if pair[0] not in _HOP],
                    )
                )
            elif isinstance(event, h11.Data):
                await self._send(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await self._send(h11.EndOfMessage())
                return
            else:
                raise EOFError

    async def _switch(
        self, event: h11.InformationalResponse, theirs: h11.Connection, far: Pair
    ) -> None:
        """Another protocol from here on, such as WebSocket: bytes both ways."""
        await self._send(h11.InformationalResponse(status_code=101, headers=_plain(event.headers)))
        for found, writer in (
            (theirs.trailing_data, self._writer),
            (self._conn.trailing_data, far[1]),
        ):
            writer.write(found[0])
        self._guest.busy()
        moved = self._guest.moved

        async def inward() -> None:
            await pump(self._reader, far[1], self._meter, moved)

        await until(pump(far[0], self._writer, self._meter, moved), inward())
        raise EOFError

    # ------------------------------------------------------------------ bytes

    async def _event(self) -> Any:
        """The client's next event."""
        while (event := self._conn.next_event()) is h11.NEED_DATA:
            self._conn.receive_data(await self._reader.read(PIECE))
        return event

    async def _piece(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        try:
            async with asyncio.timeout(_IDLE):
                event = await self._event()
        except (OSError, h11.RemoteProtocolError):
            raise _ClientGone from None
        if isinstance(event, h11.EndOfMessage):
            return None
        if not isinstance(event, h11.Data):
            raise _ClientGone
        data = bytes(event.data)
        self._body += len(data)
        if self._body > self._http.max_body_bytes:
            raise _TooLong
        await self._meter.take(len(data))
        self._guest.moved()
        return data

    async def _to(self, far: Pair, data: bytes) -> None:
        async with asyncio.timeout(self._http.send_timeout_ms / 1e3):
            far[1].write(data)
            await far[1].drain()

    async def _from(self, theirs: h11.Connection, reader: asyncio.StreamReader) -> Any:
        while (event := theirs.next_event()) is h11.NEED_DATA:
            self._guest.busy()  # who waits for a container keeps its place
            async with asyncio.timeout(self._http.read_timeout_ms / 1e3):
                theirs.receive_data(await reader.read(PIECE))
            self._guest.moved()
        return event

    async def _send(self, event: Any) -> None:
        data = self._conn.send(event) or b""
        await self._meter.take(len(data))
        try:
            async with asyncio.timeout(_IDLE):
                self._writer.write(data)
                await self._writer.drain()
        except OSError:
            raise _ClientGone from None
        self._guest.moved()

    async def _answer(self, status: int, line: str) -> None:
        """An answer of the agent's own, and the end of the connection."""
        if self._conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise OSError("broken off within an answer")
        body = json.dumps({"error": {"message": line}}).encode()
        head = h11.Response(
            status_code=status,
            reason=HTTPStatus(status).phrase.encode(),
            headers=[
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ],
        )
        with contextlib.suppress(h11.LocalProtocolError):
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                await self._send(event)

    def _headers(self, request: h11.Request, switch: bool) -> Headers:
        """What a container gets of the client's headers, and what it may believe of the agent."""
        found = [pair for pair in _plain(request.headers) if pair[0] not in _HOP | _OURS]
        address = self._guest.address.encode()
        found += [(b"x-forwarded-for", address), (b"x-real-ip", address)]
        found.append((b"x-forwarded-proto", b"https"))
        names = dict(found)
        if b"transfer-encoding" in names:  # the one that counts (RFC 9112)
            found = [pair for pair in found if pair[0] != b"content-length"]
        if switch:
            names = dict(_plain(request.headers))
            return [*found, (b"connection", b"upgrade"), (b"upgrade", names[b"upgrade"])]
        return [*found, (b"connection", b"close")]


def _plain(headers: Any) -> Headers:
    return [(bytes(name).lower(), bytes(value)) for name, value in headers]


def _length(request: h11.Request) -> int:
    named = dict(_plain(request.headers)).get(b"content-length", b"0")
    return int(named)  # h11 has checked that it is a number


def _upgrades(request: h11.Request) -> bool:
    named = dict(_plain(request.headers))
    return b"upgrade" in named and b"upgrade" in named.get(b"connection", b"").lower()
