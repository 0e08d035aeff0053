# SPDX-License-Identifier: Apache-2.0
"""The thread that serves the API."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Sequence
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp

from provider_agent.http.acceptor import Acceptor
from provider_agent.http.connection import Connection
from provider_agent.http.crowd import Crowd
from provider_agent.http.limits import HEADER_BYTES, ApiLimits
from provider_agent.http.middleware import RequestsPerAddress
from teraproof.errors import LocalError
from teraproof.listening import listener
from teraproof.protocol.errors import Code


class AddressInUse(LocalError):
    """Another program listens there."""

    default: ClassVar[Code] = Code.SETTINGS_INVALID


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. LocalError names the setting; AddressInUse when the port is taken."""
    try:
        return listener(host, port, 256)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {port} of {host} is in use; change {setting} or stop the other program"
            ) from None
        raise LocalError(
            f"cannot listen on {host} port {port} ({error}); change {setting}",
            Code.SETTINGS_INVALID,
        ) from None


class ApiServer:
    """An application in a background thread. The socket is bound in `start`, so its errors are
    seen; they name the setting of the port.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: ApiLimits | None = None,
        trusted_proxies: Sequence[str] = (),
        name: str = "api",
        settings: str = "api.port",
    ) -> None:
        self._limits = limits or ApiLimits()
        self._name, self._settings = name, settings
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
        bound = listen(self._host, self._port, self._settings)
        self._port = int(bound.getsockname()[1])
        limits = self._limits
        crowd = Crowd(limits.connections, limits.connections_per_address, self._proxies)
        config = uvicorn.Config(
            RequestsPerAddress(self._app, limits),
            # The protocol that `Connection` is made from; the acceptor makes them.
            http="h11",
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
        self._server = _Server(config, limits, crowd)
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), name=self._name, daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise LocalError(f"{self._name}: the server ended while starting; see the log")
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish open requests for a few seconds, then end the thread."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=15)
            self._server = self._thread = None


def status_server(app: ASGIApp, host: str, port: int) -> ApiServer:
    """The listener for health and metrics: few connections, its own thread."""
    limits = ApiLimits(connections=32, connections_per_address=16, requests_per_address=8)
    return ApiServer(app, host, port, limits, name="status", settings="api.status_port")


class _Server(uvicorn.Server):
    """uvicorn's server with an acceptor of our own."""

    def __init__(self, config: uvicorn.Config, limits: ApiLimits, crowd: Crowd) -> None:
        super().__init__(config)
        self._limits, self._crowd = limits, crowd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()

        def make() -> Connection:
            return Connection(
                self.config, self.server_state, self.lifespan.state, self._limits, self._crowd
            )

        self.servers = [
            Acceptor(listener, self._crowd, self._limits, make)  # type: ignore[misc]  # the same ends
            for listener in sockets or ()
        ]
        self.started = True
