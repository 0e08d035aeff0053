# SPDX-License-Identifier: Apache-2.0
"""What anybody may ask: health, metrics, the offer."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.metrics import CONTENT_TYPE
from provider_agent.http.deps import ApiDeps
from provider_agent.http.errors import answer
from provider_agent.http.operation import Operation
from teraproof.errors import Refused
from teraproof.protocol.errors import Code


class PublicRoutes:
    """See the module."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    def operations(self) -> list[Operation]:
        """What it answers."""
        return [
            Operation("GET", "/healthz", self.healthz, public=True),
            Operation("GET", "/readyz", self.readyz, public=True),
            Operation("GET", "/metrics", self.metrics, answer="text/plain", public=True),
            Operation("GET", "/v1/provider", self.provider, public=True),
        ]

    async def healthz(self, request: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether it is fit to take work: 503 when it is not, with the same report."""
        ready, checks = await run_in_threadpool(self._deps.health.report)
        lines = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        report = {"ready": ready, "checks": lines}
        if ready:
            return JSONResponse(report)
        return answer(
            Refused(Code.AGENT_NOT_READY, "not ready to take work; see the checks"), report
        )

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        text = await run_in_threadpool(self._deps.metrics.exposition)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def provider(self, request: Request) -> Response:
        """What the provider offers."""
        return JSONResponse(await run_in_threadpool(self._deps.provider))
