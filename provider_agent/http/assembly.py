# SPDX-License-Identifier: Apache-2.0
"""An ASGI application from operations: what happens around all of them is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers as RequestHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from provider_agent.core.metrics import Metrics
from provider_agent.core.operation import Handler, Operation
from provider_agent.http.errors import HANDLERS, answer
from provider_agent.http.middleware import Headers, counted
from teraproof.errors import Refused
from teraproof.protocol.errors import CODE_HEADER, Code

_PREFLIGHT_SECONDS = 600


def assemble(
    operations: Sequence[Operation], metrics: Metrics, origins: Sequence[str] = ()
) -> ASGIApp:
    """An application that answers these and nothing else, each answer counted.

    Web pages of `origins` may call it; a session is a header, so no cookie is ever involved.
    """
    paths: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        handler = counted(metrics, operation.path, operation.handler)
        paths.setdefault(operation.path, {})[operation.method] = handler
    app = Starlette(
        routes=[
            Route(path, _dispatch(handlers), methods=list(handlers))
            for path, handlers in paths.items()
        ],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False
    # Outermost: errors of the application carry these headers, too.
    return Headers(_Pages(app, origins) if origins else app)


def _dispatch(handlers: Mapping[str, Handler]) -> Handler:
    """One route for all methods of a path, so that 405 names all of them."""

    async def by_method(request: Request) -> Response:
        # Starlette lets HEAD in wherever GET is; the server leaves the body out.
        method = request.method if request.method in handlers else "GET"
        return await handlers[method](request)

    return by_method


class _Pages(CORSMiddleware):
    """CORS, its refusal in the shape of all errors."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "PUT", "POST"),
            allow_headers=("authorization", "content-type", "range"),
            expose_headers=(CODE_HEADER, "retry-after", "content-range", "accept-ranges"),
            max_age=_PREFLIGHT_SECONDS,
        )

    def preflight_response(self, request_headers: RequestHeaders) -> Response:
        """What a browser asks before it sends a request."""
        found = super().preflight_response(request_headers)
        if found.status_code == 200:
            return found
        return answer(
            Refused(Code.BAD_REQUEST, "this page, method or header is not allowed here"),
            headers={"vary": "Origin"},
        )
