# SPDX-License-Identifier: Apache-2.0
"""The front of paid inference: its parts put together, and a listener of its own.

A thousand streams hold a thousand connections. So they have a listener, a thread and limits apart
from the agent's API, which stays as quick as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.health import Check
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Context
from provider_agent.core.operation import Operation
from provider_agent.http.assembly import assemble
from provider_agent.http.descriptors import fitting, open_files
from provider_agent.http.limits import ApiLimits
from provider_agent.http.openapi import document
from provider_agent.http.server import ApiServer
from provider_agent.modules.inference.billing import Desk
from provider_agent.modules.inference.cashier import Cashier
from provider_agent.modules.inference.credit import Bounds, Credit
from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.memory import Memory
from provider_agent.modules.inference.money import Money
from provider_agent.modules.inference.offers import Offers, Payee
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.routes import InferenceRoutes
from provider_agent.modules.inference.service import Service
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.upstream import Upstreams
from provider_agent.tx.keys import OperatorKey
from teraproof.protocol.inference import receipt_domain

log = logging.getLogger(__name__)
_UNPAID = 256  # connections besides those that are served
_PER_SECOND = 2_000  # requests and connections of one address


class Front:
    """See the module. `public_url` is where tenants reach the agent's API, `files` how many may be
    open.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        book: ChannelBook,
        payee: Payee,
        key: OperatorKey,
        metrics: Metrics,
        *,
        public_url: str,
        files: int,
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        floor: Callable[[], int] = lambda: 0,
        has_record: Callable[[str], bool] = lambda payer: False,
    ) -> None:
        self._public_url, self._settings = public_url, settings
        self._upstreams = Upstreams(settings)
        self._journal = Journal(book)
        self._offers = offers = Offers(settings, payee, self._url)
        credit = Credit(book.core, Bounds.of(settings, payee.unit))
        cashier = Cashier(
            book,
            self._journal,
            offers,
            max_deposits=settings.max_deposits,
            deposit_wait=float(settings.deposit_wait),
            floor=floor,
            has_record=has_record,
            credit=credit,
        )
        desk = Desk(
            book,
            self._journal,
            receipt_domain(payee.chain_id),
            key.account,
            payee.chain_id,
            credit=credit,
        )
        self._service = Service(desk, cashier, self._upstreams, float(settings.step_wait))
        self._routes = InferenceRoutes(
            offers,
            cashier,
            self._service,
            body_bytes=settings.body_mb << 20,
            memory=Memory(settings.answers_mb << 20, settings.answer_mb << 20),
            max_parallel=settings.max_parallel,
            parallel={name: one.max_parallel for name, one in settings.models.items()},
        )
        most = settings.max_parallel + _UNPAID
        limits = replace(
            ApiLimits(),
            connections=most,
            connections_per_address=min(most, settings.per_address),
            requests_per_address=min(most, settings.per_address),
            new_connections_per_second=_PER_SECOND,
            requests_per_second=_PER_SECOND,
        )
        self._server = ApiServer(
            assemble(_with_document(self._routes.operations()), metrics, origins),
            settings.host,
            settings.port,
            fitting(limits, files),
            trusted_proxies=proxies,
            name="inference",
            settings="inference.port",
        )
        self._running = metrics.gauge("inference_running", "Paid requests that are served now.")
        self._ended = metrics.gauge(
            "inference_requests",
            "Paid requests since the start, by how they ended.",
            "model",
            "end",
        )

    @property
    def port(self) -> int:
        """The port in use; valid after `start`."""
        return self._server.port

    def start(self) -> None:
        """Listen. LocalError when the port is taken."""
        self._journal.start()
        self._upstreams.start()
        self._server.start()
        log.info(
            "serves %s for pay on port %s, at %s",
            ", ".join(self._settings.models),
            self.port,
            self._url(),
        )

    def close(self) -> None:
        """End what is served, and write what is left."""
        self._server.stop()
        self._upstreams.close()
        self._journal.close()

    def offer(self) -> dict[str, Any]:
        """Its part of `GET /v1/provider`."""
        found = self._offers.offer()
        return {} if found is None else {"inference": found.to_json()}

    def checks(self) -> Sequence[Callable[[], Check]]:
        """Its part of the readiness report."""
        return self._upstreams.checks()

    def measure(self) -> None:
        """Set its metrics."""
        self._running.set(self._routes.running)
        for (model, end), number in list(self._service.ended.items()):
            self._ended.labels(model, end).set(number)

    def _url(self) -> str:
        if self._settings.public_url is not None:
            return self._settings.public_url
        host = urlsplit(self._public_url).hostname or "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def _with_document(operations: Sequence[Operation]) -> list[Operation]:
    async def openapi(request: Request) -> Response:
        """This document."""
        return JSONResponse(description)

    found = [*operations, Operation("GET", "/v1/openapi.json", openapi, public=True)]
    description = document(found)
    return found


def make_front(
    context: Context,
    book: ChannelBook,
    money: Money,
    *,
    floor: Callable[[], int],
    has_record: Callable[[str], bool],
) -> Front:
    """The front of an agent; see the cashier for what is asked. Raises KeyFileError."""
    settings, standing = context.settings, context.standing
    wanted, api = settings.section(InferenceSettings), settings.api

    def receiver() -> str | None:
        owner = None if standing.provider is None else standing.provider.owner
        return wanted.receiver or owner

    return Front(
        wanted,
        book,
        Payee(
            settings.chain.chain_id,
            context.key.address,
            money.domain,
            money.pay.decimals,
            receiver,
        ),
        context.key,
        context.metrics,
        public_url=api.public_url,
        files=open_files(),
        origins=api.allowed_origins,
        proxies=api.trusted_proxies,
        floor=floor,
        has_record=has_record,
    )
