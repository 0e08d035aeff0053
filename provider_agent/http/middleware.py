# SPDX-License-Identifier: Apache-2.0
"""What happens around every request."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provider_agent.core.metrics import Metrics
from provider_agent.core.operation import Handler
from provider_agent.http.clients import SHARES, RateLimit, networks_of
from provider_agent.http.door import too_often
from provider_agent.http.errors import answer, told
from provider_agent.http.limits import HEADER_BYTES, ApiLimits
from teraproof.errors import Refused
from teraproof.protocol.errors import Code


class Headers:
    """Headers that every answer carries: nothing here is for caches, frames or guessing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        app: ASGIApp = self._app
        # h11 limits only a head that comes in several pieces.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            app = answer(Refused(Code.HEADERS_TOO_LONG, "the headers are too long"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await app(scope, receive, with_headers)


class RequestsPerAddress:
    """Refuses what one client asks beyond its share, at once or per second.

    It stands behind the reading of X-Forwarded-For, so clients of a trusted proxy are told apart.
    """

    def __init__(self, app: ASGIApp, limits: ApiLimits) -> None:
        self._app, self._most = app, limits.requests_per_address
        rate = limits.requests_per_second
        self._rate = RateLimit(60 * rate, 10 * rate)
        # Only touched on the event loop.
        self._now: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        client = scope["client"][0] if scope.get("client") else "unknown"
        networks = networks_of(client)
        full = any(
            self._now[network] >= self._most * share
            for network, share in zip(networks, SHARES, strict=False)
        )
        if full or not self._rate.allow(client):
            pause = 1 if full else self._rate.pause(client)
            busy = too_often("requests of yours", pause)
            await answer(busy)(scope, receive, send)
            return
        self._now.update(networks)
        try:
            await self._app(scope, receive, send)
        finally:
            for network in networks:
                self._now[network] -= 1
                if not self._now[network]:
                    del self._now[network]


def counted(metrics: Metrics, route: str, handler: Handler) -> Handler:
    """The handler, its answers counted."""

    async def with_count(request: Request) -> Response:
        status = 500
        try:
            response = await handler(request)
            status = response.status_code
            return response
        except Exception as error:
            status = told(error).code.status
            raise
        finally:
            metrics.http_requests.labels(route, str(status)).inc()

    return with_count
