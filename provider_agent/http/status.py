# SPDX-License-Identifier: Apache-2.0
"""Health and metrics, for the provider's own machines: a listener of their own.

Whatever strangers do to the API, these answer. Metrics are here alone: balances and load are nobody
else's business. Health is on both: there it says that the API's own door is open.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from provider_agent.core.health import Health
from provider_agent.core.metrics import CONTENT_TYPE, Metrics
from provider_agent.core.operation import Operation
from provider_agent.http.assembly import assemble
from provider_agent.http.errors import answer
from provider_agent.http.schemas import TEXT, TRUTH, list_of, object_of
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

_READINESS = object_of(ready=TRUTH, checks=list_of(object_of(name=TEXT, ok=TRUTH, detail=TEXT)))


class StatusRoutes:
    """See the module."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health, self._metrics = health, metrics

    def operations(self) -> list[Operation]:
        """What anybody may ask."""
        return [
            Operation("GET", "/healthz", self.healthz, result=object_of(status=TEXT), public=True),
            Operation("GET", "/readyz", self.readyz, result=_READINESS, public=True),
        ]

    def own_operations(self) -> list[Operation]:
        """What the provider's own machines may ask as well."""
        return [Operation("GET", "/metrics", self.metrics, answer="text/plain", public=True)]

    async def healthz(self, request: Request) -> Response:
        """Whether the agent's loop moves: 503 when it hangs."""
        if self._health.alive:
            return JSONResponse({"status": "ok"})
        return answer(Refused(Code.AGENT_HANGS, "the agent's loop hangs; see its log"))

    async def readyz(self, request: Request) -> Response:
        """Whether it is fit to take work: 503 when it is not, with the same report."""
        ready, checks = await run_in_threadpool(self._health.report)
        lines = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        report = {"ready": ready, "checks": lines}
        if ready:
            return JSONResponse(report)
        return answer(
            Refused(Code.AGENT_NOT_READY, "not ready to take work; see the checks"), report
        )

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        text = await run_in_threadpool(self._exposition)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    def _exposition(self) -> bytes:
        _, checks = self._health.report()
        self._metrics.set_checks({check.name: check.ok for check in checks})
        return self._metrics.exposition()


def create_status_app(health: Health, metrics: Metrics) -> ASGIApp:
    """The application of the listener for health and metrics."""
    routes = StatusRoutes(health, metrics)
    return assemble([*routes.operations(), *routes.own_operations()], metrics)
