# SPDX-License-Identifier: Apache-2.0
"""One connection: uvicorn's protocol with an end to every wait for a client.

uvicorn alone waits without end for a request that does not come, for a body that does not, and for
a client that does not read. While it waits, a newcomer may take its place (see `crowd`).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from provider_agent.http.crowd import Crowd
from provider_agent.http.errors import answer
from provider_agent.http.limits import ApiLimits
from provider_agent.http.pace import Pace
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

#: The part of the time for a body that a client may be late without losing its place.
_GRACE = 0.1


class _Counting:
    """A transport that knows how many bytes it was given."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.given = 0

    def write(self, data: bytes) -> None:
        self.given += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """Closes itself when its client sends no request, or does not read the answer."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        limits: ApiLimits,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._idle_since: float | None = self.loop.time()
        self._limits, self._crowd = limits, crowd
        self._counting: _Counting | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._sending = Pace(limits.upload_rate, self.loop.time())
        self._reading = Pace(limits.download_rate, self.loop.time())
        self._dropped = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It begins. uvicorn narrows the type in the same way."""
        self._counting = _Counting(transport)
        super().connection_made(self._counting)  # type: ignore[arg-type]  # all that it uses
        if self._dropped:
            transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        super().connection_lost(exc)
        self._crowd.leave(self)
        if self._timer is not None:
            self._timer.cancel()

    def drop(self) -> None:
        """End it at once, whatever is still to be sent."""
        self._dropped = True
        if self._counting is not None:
            self._counting.abort()

    def owed_for(self, now: float) -> float | None:
        """Seconds for which the client has kept us waiting for a head, for bytes of a body beyond
        what the least rate grants, or for its reading; None while it waits for us.
        """
        self._look(now)
        idle = 0.0 if self._idle_since is None else now - self._idle_since
        late = max(self._sending.late, self._reading.late)
        if late > _GRACE * self._limits.body_seconds:
            return max(idle, late)
        return None if self._idle_since is None else idle

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._received += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        """Bytes came, or those that came before have their turn."""
        super().handle_events()
        # None before the first request, whatever uvicorn's annotation says.
        cycle = getattr(self, "cycle", None)
        if cycle is not None and not cycle.response_complete:
            self._idle_since = None

    def on_response_complete(self) -> None:
        """The client's turn again."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Not HTTP. Nothing of the request is repeated."""
        refused = answer(Refused(Code.BAD_REQUEST, "not a valid HTTP request"))
        body = bytes(refused.body)
        headers = [*refused.raw_headers, (b"connection", b"close")]
        reason = HTTPStatus(refused.status_code).phrase.encode()
        head = h11.Response(status_code=refused.status_code, headers=headers, reason=reason)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        now, patience = self.loop.time(), self._limits.header_seconds
        idle = self._idle_since
        if idle is not None and now - idle > patience and not self.transport.is_closing():
            self.transport.close()
        self._look(now)
        slow = self._limits.body_seconds
        # Also after a close, which first sends what is left. A route that reads the body says that
        # it is too slow; here is the end for those that do not read it.
        if self._reading.late > slow or self._sending.late > 2 * slow:
            self.transport.abort()
            return
        self._timer = self.loop.call_later(max(0.05, patience / 4), self._watch)

    def _look(self, now: float) -> None:
        """See how far the client has come since the last look."""
        cycle = getattr(self, "cycle", None)
        if cycle is None or cycle.response_complete or not cycle.more_body:
            self._sending.rest(now, self._received)
        else:
            # Bytes that we do not take yet, and a body that we have not asked for, are ours.
            ours = self.flow.read_paused or cycle.waiting_for_100_continue
            self._sending.look(now, self._received, owed=not ours)
        counting = self._counting
        if counting is None:
            return
        unsent = counting.get_write_buffer_size()
        if unsent:
            self._reading.look(now, counting.given - unsent)
        else:
            self._reading.rest(now, counting.given)
