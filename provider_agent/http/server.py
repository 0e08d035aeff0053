# SPDX-License-Identifier: Apache-2.0
"""The thread that serves the API, and what is refused before any route is looked at."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from provider_agent.http.errors import answer
from provider_agent.http.limits import HEADER_BYTES, ApiLimits
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code


class ApiServer:
    """The API in a background thread. The socket is bound in `start`, so its errors are seen."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: ApiLimits | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._limits = limits or ApiLimits()
        self._app, self._host, self._port = app, host, port
        self._proxies = list(trusted_proxies)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for; valid after `start`."""
        return self._port

    @property
    def running(self) -> bool:
        """Whether the thread is serving."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Bind, then serve. LocalError when the address is taken or not ours."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            bound = socket.create_server((self._host, self._port), family=family, backlog=256)
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise LocalError(
                    f"port {self._port} of {self._host} is in use; change api.port or stop the "
                    "other program",
                    Code.SETTINGS_INVALID,
                ) from None
            raise LocalError(
                f"api: cannot listen on {self._host} port {self._port} ({error}); change [api]",
                Code.SETTINGS_INVALID,
            ) from None
        self._port = int(bound.getsockname()[1])
        limits = self._limits

        class Protocol(_Impatient):
            header_seconds = limits.header_seconds
            most = limits.connections

        config = uvicorn.Config(
            self._app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(self._proxies),
            forwarded_allow_ips=self._proxies,
            timeout_keep_alive=int(limits.header_seconds),
            timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), name="api", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise LocalError("api: the server ended while starting; see the log")
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish open requests for a few seconds, then end the thread."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=15)
            self._server = self._thread = None


class _Impatient(H11Protocol):
    """Closes connections that send no request; uvicorn alone waits for ever. What it refuses before
    the application sees it has the shape of all errors.
    """

    header_seconds: float = 10
    most: int = 256
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn narrows the type in the same way.
        super().connection_made(transport)
        self.app = self._unless_crowded(self.app)
        self._idle_since = self.loop.time()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()

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

    def _unless_crowded(self, app: ASGIApp) -> ASGIApp:
        busy = answer(Refused(Code.SERVER_BUSY, "too many connections; try later"))

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            crowded = len(self.connections) >= self.most
            await (busy if crowded else app)(scope, receive, send)

        return guarded

    def _watch(self) -> None:
        if self.transport.is_closing():
            return
        # None before the first request, whatever uvicorn's annotation says.
        cycle = getattr(self, "cycle", None)
        idle = cycle is None or cycle.response_complete
        if idle and self.loop.time() - self._idle_since > self.header_seconds:
            self.transport.close()
            return
        self.loop.call_later(max(0.05, self.header_seconds / 4), self._watch)
