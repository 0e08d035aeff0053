# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP API.

Answers are JSON unless they are files. Errors have the shape of `teraproof.protocol.errors`, each
with a code of its own; what they tell of this machine is said in `errors.py`.

    GET  /healthz /readyz /v1/provider /v1/openapi.json
    POST /v1/auth/nonce                     -> nonce, domain, uri, chain_id, expires
    POST /v1/auth/login {message, signature}-> token, address, expires

The modules bring the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from provider_agent.core.operation import Operation
from provider_agent.http.assembly import assemble
from provider_agent.http.deps import ApiDeps
from provider_agent.http.door import Door
from provider_agent.http.openapi import document
from provider_agent.http.routes.public import PublicRoutes
from provider_agent.http.routes.sign_in import SignInRoutes
from provider_agent.http.status import StatusRoutes


def create_app(
    deps: ApiDeps, parts: Iterable[Callable[[Door], Iterable[Operation]]] = ()
) -> ASGIApp:
    """The ASGI application. Each of `parts` gives the operations of one module."""
    door = Door(deps)
    operations = [
        *StatusRoutes(deps.health, deps.metrics).operations(),
        *PublicRoutes(deps).operations(),
        *SignInRoutes(deps, door).operations(),
        *(operation for part in parts for operation in part(door)),
    ]

    async def openapi(request: Request) -> Response:
        """This document."""
        return JSONResponse(description)

    operations.append(Operation("GET", "/v1/openapi.json", openapi, public=True))
    description = document(operations)
    return assemble(operations, deps.metrics, deps.origins)
