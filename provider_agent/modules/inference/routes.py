# SPDX-License-Identifier: Apache-2.0
"""The HTTP API of paid inference: OpenAI's paths, and x402 in front of them.

POST /v1/chat/completions /v1/completions /v1/embeddings /v1/responses
GET  the same                                -> 402 with terms; with a refund, what it gave
POST /v1/vouchers {payment}                  -> state of the channel, last receipt
GET  /v1/models                              -> models with prices
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.operation import Handler, Operation
from provider_agent.http import requests
from provider_agent.http.errors import answer
from provider_agent.modules.inference.cashier import Cashier
from provider_agent.modules.inference.memory import Memory
from provider_agent.modules.inference.offers import Offers
from provider_agent.modules.inference.service import Order, Service
from provider_agent.modules.inference.unpaid import UnpaidTime
from provider_agent.modules.inference.upstream import away
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import PATHS, STEP_HEADER, VOUCHERS_PATH
from teraproof.protocol.inference_request import ModelRequest, parse
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import (
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    SIGNATURE_HEADER,
    Fault,
    PaymentUnfit,
    Required,
    Settlement,
)

_BODY_SECONDS = 60.0
_VOUCHER_BYTES = 16 << 10
_BODIES = 256 << 20  # bytes of all requests that are being read or served
_CHECK = 0.001  # seconds that a look at a payment takes
_DESCRIPTION = "inference by the request"

_BODY = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
_PAYMENT = {"type": "object", "required": ["x402Version", "payload"]}
_HEADERS = {SIGNATURE_HEADER: {"type": "string"}}


class InferenceRoutes:
    """See the module. Used on the event loop of the listener alone."""

    def __init__(
        self,
        offers: Offers,
        cashier: Cashier,
        service: Service,
        *,
        body_bytes: int,
        memory: Memory,
        max_parallel: int,
        parallel: dict[str, int],
    ) -> None:
        """`parallel` are the requests of each model at once, `max_parallel` those of all."""
        self._offers, self._cashier, self._service = offers, cashier, service
        self._most_body, self._most, self._parallel = body_bytes, max_parallel, parallel
        self._running: Counter[str] = Counter()
        self._bytes, self._memory = 0, memory
        self._unpaid = UnpaidTime()
        self._since = int(time.time())

    @property
    def running(self) -> int:
        """Requests that are being served."""
        return self._running.total()

    def operations(self) -> Sequence[Operation]:
        """All of them."""
        found = []
        for kind, path in PATHS.items():
            found.append(Operation(
                "POST", path, self._ask(kind), body=_BODY, public=True,
                headers={**_HEADERS, STEP_HEADER: {"type": "string"}},
            ))  # fmt: skip
            found.append(Operation("GET", path, self._look(kind), headers=_HEADERS, public=True))
        found.append(
            Operation("POST", VOUCHERS_PATH, self.take_voucher, body=_PAYMENT, public=True)
        )
        found.append(Operation("GET", "/v1/models", self.list_models, public=True))
        return found

    # ------------------------------------------------------------------ requests

    def _ask(self, kind: str) -> Handler:
        async def ask(request: Request) -> Response:
            """Ask a model; without a payment the answer is 402 with terms."""
            held = AsyncExitStack()
            try:
                return await self._answer(kind, request, held)
            except BaseException:
                await held.aclose()
                raise

        ask.__name__ = f"ask_{kind}"
        return ask

    async def _answer(self, kind: str, request: Request, held: AsyncExitStack) -> Response:
        """`held` ends with the answer; a stream takes it along."""
        self._hold_bytes(requests.content_length(request), held)
        header = request.headers.get(SIGNATURE_HEADER)
        if self._unpaid.is_used_up and not self._cashier.knows(header):
            raise _too_many()
        body = await requests.read_body(request, self._most_body, _BODY_SECONDS)
        began = self._unpaid.busy()
        try:
            document = parse(body)
            model = self._offers.model(document.get("model"))
            asked = ModelRequest.of(kind, document, len(body), model)
        finally:
            took = self._unpaid.busy() - began + (0 if header is None else _CHECK)
            self._unpaid.take(took)
        step = _step_of(request, asked, self._offers.min_step)
        ceiling = asked.ceiling(model, step)
        terms = self._offers.terms(ceiling)
        url = self._offers.url + PATHS[kind]
        if header is None:
            await held.aclose()
            return _pay(Required((terms,), url, _DESCRIPTION))
        if not self._service.is_up(model.name):
            raise away()
        self._check_place(model.name)
        self._memory.room(asked, len(body)).end()  # before a deposit is made for it
        payment, made = None, b""
        try:
            payment = Payment.decode(header)
            if payment.kind is Kind.REFUND:
                raise PaymentUnfit(Fault.PAYLOAD_TYPE, "a refund is asked for by GET")
            made = await self._cashier.deposit(payment, ceiling)
            if made and await request.is_disconnected():
                raise requests.broken_off()
            self._check_place(model.name)  # others came while the deposit was on its way
            self._hold_place(model.name, held)
            room = self._memory.room(asked, len(body))
            held.callback(room.leave)
            row = await self._cashier.open(payment, ceiling)
            self._unpaid.take(-took)
        except PaymentUnfit as error:
            await held.aclose()
            if payment is not None:
                terms = self._cashier.corrected(terms, payment, error.fault)
            found = _pay(Required((terms,), url, _DESCRIPTION, error.fault.value), error)
            return self._with_deposit(found, payment, made)
        except Refused as refused:
            await held.aclose()
            return self._with_deposit(answer(refused), payment, made)
        longest = self._memory.longest(asked, len(body))
        order = Order(model, asked, body, payment, row, made, step, ceiling, room, longest)
        return await self._service.serve(order, request.receive, held)

    def _with_deposit(self, found: Response, payment: Payment | None, made: bytes) -> Response:
        """The answer to a request that was not served: a deposit that was made is named."""
        settled = None if payment is None else self._cashier.unserved(payment, made)
        if settled is not None:
            found.headers[RESPONSE_HEADER] = settled.encode()
        return found

    def _hold_bytes(self, size: int, held: AsyncExitStack) -> None:
        if size > self._most_body:
            raise Refused(
                Code.BODY_TOO_LARGE,
                f"the body is larger than {self._most_body} bytes",
                limit=self._most_body,
            )
        if self._bytes + size > _BODIES:
            raise _too_many()
        self._bytes += size
        held.callback(self._give_bytes, size)

    def _give_bytes(self, size: int) -> None:
        self._bytes -= size

    def _check_place(self, model: str) -> None:
        full = self._running[model] >= self._parallel[model]
        if full or self._running.total() >= self._most:
            raise Refused(Code.MODEL_BUSY, "the model serves as many requests as it can; try later")

    def _hold_place(self, model: str, held: AsyncExitStack) -> None:
        self._running[model] += 1
        held.callback(self._running.subtract, [model])

    # ------------------------------------------------------------------ refunds

    def _look(self, kind: str) -> Handler:
        async def look(request: Request) -> Response:
            """The terms of payments; with a refund as the payment, what is left of its channel."""
            terms, url = self._offers.terms(1), self._offers.url + PATHS[kind]
            header = request.headers.get(SIGNATURE_HEADER)
            if header is None:
                return _pay(Required((terms,), url, _DESCRIPTION))
            payment = None
            try:
                payment = Payment.decode(header)
                if payment.kind is not Kind.REFUND:
                    raise PaymentUnfit(Fault.PAYLOAD_TYPE, "only a refund is taken by GET")
                row, refund = await self._cashier.refund(payment)
            except PaymentUnfit as error:
                if payment is not None:
                    terms = self._cashier.corrected(terms, payment, error.fault)
                return _pay(Required((terms,), url, _DESCRIPTION, error.fault.value), error)
            settled = Settlement(
                success=True,
                network=terms.network,
                payer=row.config.payer,
                transaction=f"0x{refund.tx_hash.hex()}",
                amount=refund.amount,
                state=row.state,
            )
            return JSONResponse(
                {"refunded": str(refund.amount), "channelState": row.state.to_json()},
                headers={RESPONSE_HEADER: settled.encode()},
            )

        look.__name__ = f"look_{kind}"
        return look

    # ------------------------------------------------------------------ vouchers

    async def take_voucher(self, request: Request) -> Response:
        """A voucher for the next step of a stream. With any voucher that was signed, also a lower
        one, the state of the channel and its last receipt.
        """
        body = await requests.read_body(request, _VOUCHER_BYTES, _BODY_SECONDS)
        try:
            payment = Payment.from_json(parse(body))
            if payment.kind is not Kind.VOUCHER:
                raise PaymentUnfit(Fault.PAYLOAD_TYPE, "only a voucher is taken here")
            is_awaited = self._service.awaits(payment.voucher)
            if self._unpaid.is_used_up and not is_awaited:
                raise _too_many()
            self._unpaid.take(_CHECK)  # unless it pays for a step
            row = await self._service.raise_voucher(payment)
            if is_awaited:
                self._unpaid.take(-_CHECK)
        except PaymentUnfit as error:
            return answer(_unfit(error))
        except Refused:
            raise
        except LocalError as error:
            return answer(_unfit(PaymentUnfit(Fault.VOUCHER_PAYLOAD, str(error))))
        found: dict[str, Any] = {"open": row.is_open, "channelState": row.state.to_json()}
        if row.receipt is not None:
            found |= row.receipt.to_json()
        return JSONResponse(found)

    # ------------------------------------------------------------------ models

    async def list_models(self, request: Request) -> Response:
        """The models with their prices."""
        payee = self._offers.payee
        rows = [
            model.listed(self._since, payee.operator, payee.decimals)
            for model in self._offers.models.values()
        ]
        return JSONResponse({"object": "list", "data": rows})


def _too_many() -> Refused:
    return Refused(Code.SERVER_BUSY, "too many requests at once; try later")


def _step_of(request: Request, asked: ModelRequest, least: int) -> int | None:
    """The size of a step, where the payer of a stream wants some. Refused."""
    said = request.headers.get(STEP_HEADER)
    if said is None or not asked.stream:
        return None
    if not (said.isascii() and said.isdecimal() and len(said) <= 9 and int(said) > 0):
        raise requests.field_invalid(STEP_HEADER, "a number of tokens")
    if int(said) < least:
        line = f"{STEP_HEADER}: a step has at least {least} tokens here"
        raise Refused(Code.FIELD_INVALID, line, field=STEP_HEADER, least=least)
    return int(said) if int(said) < asked.limit else None


def _pay(required: Required, error: PaymentUnfit | None = None) -> Response:
    """402."""
    refused = Refused(Code.PAYMENT_REQUIRED, "pay as PAYMENT-REQUIRED says, and send it again")
    if error is not None:
        refused = _unfit(error)
    return answer(refused, headers={REQUIRED_HEADER: required.encode()})


def _unfit(error: PaymentUnfit) -> Refused:
    return Refused(Code.PAYMENT_UNFIT, str(error), fault=error.fault.value)
