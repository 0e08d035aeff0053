# SPDX-License-Identifier: Apache-2.0
"""What anybody may ask: the offer."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Operation
from provider_agent.http.deps import ApiDeps


class PublicRoutes:
    """See the module."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    def operations(self) -> list[Operation]:
        """What it answers."""
        return [Operation("GET", "/v1/provider", self.provider, public=True)]

    async def provider(self, request: Request) -> Response:
        """What the provider offers."""
        return JSONResponse(await run_in_threadpool(self._deps.provider))
