# SPDX-License-Identifier: Apache-2.0
"""One connection: uvicorn's protocol with an end to every wait for a client.

uvicorn alone waits without end for a request that does not come, and for a client that does not
read.
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
from teraproof.errors import Refused
from teraproof.protocol.errors import Code


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
        self.idle_since: float | None = self.loop.time()
        self._limits, self._crowd = limits, crowd
        self._counting: _Counting | None = None
        self._timer: asyncio.TimerHandle | None = None
        # What the client has taken at the last look, and for how long it has been too slow.
        self._taken, self._late, self._looked, self._waiting = 0, 0.0, 0.0, False
        self._dropped = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It begins. uvicorn narrows the type in the same way."""
        self._counting = _Counting(transport)
        super().connection_made(self._counting)  # type: ignore[arg-type]  # all that it uses
        self._looked = self.loop.time()
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

    def handle_events(self) -> None:
        """Bytes came."""
        super().handle_events()
        # None before the first request, whatever uvicorn's annotation says.
        cycle = getattr(self, "cycle", None)
        if cycle is not None and not cycle.response_complete:
            self.idle_since = None

    def on_response_complete(self) -> None:
        """The client's turn again."""
        self.idle_since = self.loop.time()
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
        idle = self.idle_since
        if idle is not None and now - idle > patience and not self.transport.is_closing():
            self.transport.close()
        # Also after a close, which first sends what is left.
        if self._is_too_slow(now):
            self.transport.abort()
            return
        self._timer = self.loop.call_later(max(0.05, patience / 4), self._watch)

    def _is_too_slow(self, now: float) -> bool:
        """Whether the client has let us wait too long. Reading at the least rate it never does."""
        assert self._counting is not None
        unsent = self._counting.get_write_buffer_size()
        taken = self._counting.given - unsent
        progress, passed = taken - self._taken, now - self._looked
        self._taken, self._looked = taken, now
        if not unsent:
            self._late, self._waiting = 0.0, False
            return False
        if self._waiting:
            self._late = max(0.0, self._late + passed - progress / self._limits.download_rate)
        self._waiting = True
        return self._late > self._limits.body_seconds
