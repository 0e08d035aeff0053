# SPDX-License-Identifier: Apache-2.0
"""Serves a request that is paid for: asks the owner's server, and writes the receipt.

A server that does not answer, or refuses the request, costs the payer nothing. A payer that goes
away pays for what the model has made for it. Of a stream that is what went by. Of an answer in one
piece no server says how far it is, so it is made to its end, and charged as if it had been read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from provider_agent.http.errors import answer
from provider_agent.modules.inference import events
from provider_agent.modules.inference.billing import Bill, Desk
from provider_agent.modules.inference.cashier import Cashier
from provider_agent.modules.inference.memory import Room
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.modules.inference.streaming import PaidStream, Steps, gone
from provider_agent.modules.inference.upstream import (
    Answer,
    TooLong,
    UpstreamLost,
    Upstreams,
    away,
    refusal,
    whole,
)
from teraproof import nesting
from teraproof.errors import Refused
from teraproof.protocol.inference import RECEIPT_HEADER, Model
from teraproof.protocol.inference_request import ModelRequest
from teraproof.protocol.payments import Payment
from teraproof.protocol.x402 import RESPONSE_HEADER, SignedVoucher

log = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_TEXT_BYTES = 4  # of a token, where a server says nothing of its usage
_LEFT = 499  # nobody reads this status
_PIECE = 64 << 10  # bytes


@dataclass(frozen=True)
class Order:
    """A request with its payment, opened in the book. `made` is the hash of a deposit's
    transaction, `step` completion tokens, `ceiling` units. `longest` are the bytes that an answer
    in one piece can have, and `room` is the memory for it.
    """

    model: Model
    asked: ModelRequest
    body: bytes
    payment: Payment
    row: ChannelRow
    made: bytes
    step: int | None
    ceiling: int
    room: Room
    longest: int


class Service:
    """See the module. Used on the event loop of the listener."""

    def __init__(
        self, desk: Desk, cashier: Cashier, upstreams: Upstreams, step_wait: float
    ) -> None:
        self._desk, self._cashier, self._upstreams = desk, cashier, upstreams
        self._step_wait = step_wait
        self._open: dict[bytes, Steps] = {}
        #: How requests have ended, by model and by how.
        self.ended: Counter[tuple[str, str]] = Counter()

    def is_up(self, model: str) -> bool:
        """Whether the model's server answers."""
        return self._upstreams[model].is_up

    def awaits(self, voucher: SignedVoucher) -> bool:
        """Whether a stream that runs can go on to its next step by such a voucher."""
        steps = self._open.get(voucher.channel)
        return steps is not None and steps.is_paid_by(voucher.amount)

    async def raise_voucher(self, payment: Payment) -> ChannelRow:
        """Take a voucher for a stream that runs; the channel. PaymentUnfit."""
        steps = self._open.get(payment.voucher.channel)
        row = self._cashier.standing(payment)
        if steps is not None and (row is None or payment.voucher.amount > row.voucher):
            row = await self._cashier.raised(payment)
            steps.raised(row.voucher)
        if row is None:
            row = await self._cashier.raised(payment)  # says that it is unknown
        return row

    async def serve(self, order: Order, receive: Receive, held: AsyncExitStack) -> Response:
        """The answer; `held` ends with it."""
        bill = Bill(
            self._desk,
            order.row,
            order.model,
            order.asked,
            hashlib.sha256(order.body).digest(),
            len(order.body),
        )
        try:
            if order.asked.stream:
                return await self._stream(order, bill, receive, held)
            async with held:
                return await self._json(order, bill, receive)
        except (UpstreamLost, Refused) as error:
            refused = error if isinstance(error, Refused) else away()
            if isinstance(error, UpstreamLost):
                log.warning("a request was not served: %s", error)
            await bill.abandon()
            self._count(order, refused.code.value)
            settled = bill.settlement(order.payment, 0, order.made)
            return answer(refused, headers={RESPONSE_HEADER: settled.encode()})
        except _Gone:
            await bill.end(None, 0, hashlib.sha256(b"").digest())
            self._count(order, "gone")
            return Response(status_code=_LEFT)
        except BaseException:
            await asyncio.shield(bill.abandon())
            raise

    # ------------------------------------------------------------------ in one piece

    async def _json(self, order: Order, bill: Bill, receive: Receive) -> Response:
        left = asyncio.create_task(gone(receive))
        try:
            body = await self._asked(order)
        except TooLong:
            order.room.overflowed(order.asked, len(order.body))
            raise
        finally:
            left.cancel()
        body, prompt, completion = _read(body, order.model.name)
        signed = await bill.end(prompt, completion, hashlib.sha256(body).digest())
        settled = bill.settlement(order.payment, signed.receipt.charged, order.made)
        self._count(order, "gone" if left.done() and not left.cancelled() else "whole")
        order.room.keep()
        headers = {RECEIPT_HEADER: signed.to_header(), RESPONSE_HEADER: settled.encode()}
        return _Whole(body, headers, order.room)

    async def _asked(self, order: Order) -> bytes:
        upstream = self._upstreams[order.model.name]
        body = body_of(order.asked, upstream.model)
        async with upstream.ask(order.asked.kind, body, order.longest) as found:
            if found.status != 200:
                raise await refusal(found)
            return await whole(found)

    # ------------------------------------------------------------------ streams

    async def _stream(
        self, order: Order, bill: Bill, receive: Receive, held: AsyncExitStack
    ) -> Response:
        upstream, channel = self._upstreams[order.model.name], order.row.channel
        asked = order.asked
        steps = None if order.step is None else Steps(bill, order.step, self._step_wait)
        if steps is not None:
            self._open[channel] = steps
            held.callback(self._open.pop, channel, None)

        async def begin() -> Answer:
            found = await held.enter_async_context(
                upstream.ask(asked.kind, body_of(asked, upstream.model))
            )
            if found.status != 200:
                raise await refusal(found)
            return found

        holding = asyncio.create_task(bill.hold())  # the disk works while the server does
        try:
            found = await _unless_gone(begin(), receive)
            await holding
        except BaseException:
            holding.cancel()
            await held.aclose()
            raise
        meter = events.Meter(
            asked.kind, order.model.name, upstream.model, shows_usage=asked.wants_usage
        )
        settled = bill.settlement(order.payment, order.ceiling, order.made)
        return PaidStream(
            found,
            meter,
            bill,
            steps,
            held,
            {RESPONSE_HEADER: settled.encode()},
            lambda end: self._count(order, end),
        )

    def _count(self, order: Order, end: str) -> None:
        self.ended[order.model.name, end] += 1


class _Whole(Response):
    """An answer in one piece. Its memory is given back when it was sent, or nobody reads it."""

    def __init__(self, body: bytes, headers: dict[str, str], room: Room) -> None:
        super().__init__(body, media_type="application/json", headers=headers)
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it piece by piece: the server waits for the client in front of a piece, and not
        behind the last one.
        """
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        body = memoryview(self.body)
        try:
            await send(start)
            for at in range(0, max(1, len(body)), _PIECE):
                piece, more = bytes(body[at : at + _PIECE]), at + _PIECE < len(body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self._room.end()


def _read(body: bytes, model: str) -> tuple[bytes, int | None, int]:
    """An answer with the model's name as tenants know it, and its tokens. UpstreamLost.

    The document takes many times its bytes, so it does not outlive this.
    """
    try:
        found = nesting.loads(body)
    except (ValueError, RecursionError):
        raise UpstreamLost("the answer is not JSON") from None
    if not isinstance(found, dict):
        raise UpstreamLost("the answer is not a JSON object")
    usage = events.Usage()
    usage.see(found.get("usage"))
    completion = usage.completion
    if completion is None:
        completion = -(-events.text_bytes(found) // _TEXT_BYTES)
    if found.get("model", model) != model:
        found["model"] = model
        body = json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    return body, usage.prompt, completion


class _Gone(Exception):
    """The client has gone away."""


async def _unless_gone(work: Coroutine[Any, Any, _Found], receive: Receive) -> _Found:
    """What `work` gives. _Gone when the client goes away first; the work has ended then."""
    task, left = asyncio.create_task(work), asyncio.create_task(gone(receive))
    try:
        await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        task.cancel()
        await asyncio.wait((task,))
    if task.cancelled():
        raise _Gone
    return task.result()


def body_of(asked: ModelRequest, upstream_model: str) -> bytes:
    """What the server is sent: the payer's request with the limits that it is sold with."""
    found: dict[str, Any] = {**asked.document, "model": upstream_model}
    found |= dict.fromkeys(asked.limits, asked.each)
    found.pop("stream_options", None)
    if asked.kind == "responses":
        found["store"] = False
    elif asked.stream:
        # Nothing of the payer's: a second name for it would count more with some servers.
        found["stream_options"] = {"include_usage": True}
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
