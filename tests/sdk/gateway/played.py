# SPDX-License-Identifier: Apache-2.0
"""A provider of models that is played: real HTTP, real signatures, a book of its own, no chain.

It holds the payer to the rules as a provider must: a voucher that is lower than the one before,
above the deposit, or not signed by the payer is refused, and nothing is served beyond it. `Habit`
says how it misbehaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from eth_account import Account
from eth_account.signers.local import LocalAccount
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from teraproof.gateway.hosts import Host
from teraproof.listening import listener
from teraproof.protocol.channels import CHANNELS, Voucher, channel_id, channels_domain
from teraproof.protocol.inference import (
    PATHS,
    RECEIPT_HEADER,
    STEP_HEADER,
    VOUCHERS_PATH,
    InferenceOffer,
    Model,
    Prices,
    Receipt,
    SignedReceipt,
    Transcript,
    prompt_bound,
    receipt_domain,
)
from teraproof.protocol.messages import recover
from teraproof.protocol.payments import Kind, Payment
from teraproof.protocol.x402 import (
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    SIGNATURE_HEADER,
    ChannelState,
    Fault,
    Required,
    Settlement,
    SignedVoucher,
    Terms,
    network,
)
from tests.sdk.gateway.habits import Habit as Habit

CHAIN = 31337
TOKEN = "0x" + "70" * 20
USD = 10**6
DIGEST = "ab" * 32


@dataclass
class Kept:
    """A channel in the provider's book."""

    balance: int = 0
    charged: int = 0
    signed: int = 0
    signature: bytes = b""
    number: int = 0
    busy: bool = False
    receipt: SignedReceipt | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class Played:
    """See the module."""

    def __init__(
        self,
        name: str = "model-a",
        *,
        price: tuple[int, int, int] = (1_000_000, 2_000_000, 0),
        habit: Habit | None = None,
        models: tuple[Model, ...] = (),
        min_deposit: int = 1_000,
    ) -> None:
        self.operator: LocalAccount = Account.create()
        self.owner = str(Account.create().address)
        self.habit = habit or Habit()
        self.min_deposit = min_deposit
        self.models = models or (model(name, price),)
        self.book: dict[bytes, Kept] = {}
        #: What was served: (channel, number, bytes of the request).
        self.served: list[tuple[bytes, int, bytes]] = []
        self.vouchers: list[SignedVoucher] = []
        self.deposits: dict[int, int] = {}
        self.asked = 0
        self.most_unpaid = self.flooded = 0
        self._socket = listener("127.0.0.1", 0, 128)
        self.port = self._socket.getsockname()[1]
        routes = [Route(path, self._answer, methods=["POST"]) for path in PATHS.values()]
        routes.append(Route(VOUCHERS_PATH, self._voucher, methods=["POST"]))
        routes.append(Route("/v1/provider", self._document, methods=["GET"]))
        config = uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: self._server.run(sockets=[self._socket]), daemon=True
        )

    def __enter__(self) -> Played:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def offer(self) -> InferenceOffer:
        return InferenceOffer(
            url=self.url,
            network=network(CHAIN),
            channels=CHANNELS,
            token=TOKEN,
            token_name="Test USD",
            token_version="1",
            decimals=6,
            receiver=self.owner,
            authorizer=str(self.operator.address),
            withdraw_delay=86_400,
            min_deposit=self.min_deposit,
            step_wait=30,
            models=self.models,
        )

    @property
    def host(self) -> Host:
        return Host(self.owner, str(self.operator.address), self.offer)

    @property
    def charged(self) -> int:
        return sum(kept.charged for kept in self.book.values())

    # ------------------------------------------------------------------ payments

    def _terms(self, amount: int, held: Kept | None = None, channel: bytes = b"") -> Terms:
        offer = self.offer
        state = voucher = None
        if held is not None:
            state = ChannelState(channel, held.balance, 0, charged=held.charged)
            if held.signature:
                voucher = SignedVoucher(channel, held.signed, held.signature)
        return Terms(
            network=offer.network,
            asset=offer.token,
            amount=amount,
            pay_to=offer.receiver,
            max_timeout_seconds=60,
            receiver_authorizer=offer.authorizer,
            withdraw_delay=offer.withdraw_delay,
            name=offer.token_name,
            version=offer.token_version,
            min_deposit=self.min_deposit,
            state=state,
            voucher=voucher,
        )

    def _refuse(
        self, amount: int, fault: str, held: Kept | None = None, channel: bytes = b""
    ) -> Response:
        required = Required((self._terms(amount, held, channel),), self.url, error=fault)
        return JSONResponse(
            {"error": {"message": fault}}, 402, headers={REQUIRED_HEADER: required.encode()}
        )

    def _check(self, payment: Payment) -> bytes:
        """The id of the channel that a payment is for."""
        config = payment.config
        assert config.receiver_authorizer == self.operator.address
        assert config.payer_authorizer == config.payer
        found = channel_id(CHAIN, config)
        assert payment.voucher.channel == found
        signed = Voucher(found, payment.voucher.amount)
        signer = recover(channels_domain(CHAIN), signed, payment.voucher.signature)
        assert signer == config.payer_authorizer
        return found

    def _admit(self, kept: Kept, voucher: SignedVoucher) -> None:
        kept.signed, kept.signature = voucher.amount, voucher.signature
        self.vouchers.append(voucher)
        kept.arrived.set()

    async def _voucher(self, request: Request) -> Response:
        payment = Payment.decode(request.headers[SIGNATURE_HEADER])
        channel = self._check(payment)
        kept = self.book.get(channel)
        if kept is not None and not kept.busy and kept.receipt and self.habit.remembers:
            return JSONResponse({"open": False, **kept.receipt.to_json()})
        if kept is None or not kept.busy:
            return JSONResponse({"error": {"message": "no stream"}}, 409)
        if payment.voucher.amount < kept.signed or payment.voucher.amount > kept.balance:
            return self._refuse(0, Fault.AMOUNT_MISMATCH)
        self._admit(kept, payment.voucher)
        if self.habit.floods_vouchers:
            return StreamingResponse(self._without_end(65_536, 0.0))
        return JSONResponse({})

    async def _without_end(self, size: int, pause: float) -> AsyncIterator[bytes]:
        while True:
            self.flooded += size
            yield bytes(size)
            await asyncio.sleep(pause)

    async def _document(self, request: Request) -> Response:
        return JSONResponse({"inference": self.offer.to_json()})

    # ------------------------------------------------------------------ answers

    async def _answer(self, request: Request) -> Response:
        self.asked += 1
        habit = self.habit
        body = await request.body()
        asked = json.loads(body)
        assert "provider" not in asked and "models" not in asked
        found = next((one for one in self.models if one.name == asked["model"]), None)
        if found is None:
            return JSONResponse({"error": {"message": "no such model"}}, 404)
        tokens = asked.get("max_tokens", found.max_completion)
        if request.url.path == PATHS["embeddings"]:
            tokens = 0
        step = int(request.headers.get(STEP_HEADER, 0)) if asked.get("stream") else 0
        amount = found.ceiling(body, min(step or tokens, tokens))
        said = request.headers.get(SIGNATURE_HEADER)
        if said is None:
            return self._refuse(amount, "payment required")
        payment = Payment.decode(said)
        channel = self._check(payment)
        kept = self.book.setdefault(channel, Kept())
        await asyncio.sleep(habit.refuses_after)
        if kept.busy or habit.busy:
            return self._refuse(amount, Fault.CHANNEL_BUSY, kept, channel)
        if payment.kind is Kind.DEPOSIT:
            made = payment.deposit
            assert made is not None
            if not habit.takes_deposits:
                return self._refuse(amount, Fault.DEPOSIT_TRANSACTION)
            if made.amount < self.min_deposit:
                return self._refuse(amount, Fault.DEPOSIT_BELOW_MIN)
            if made.authorization.salt not in self.deposits:
                self.deposits[made.authorization.salt] = made.amount
                kept.balance += made.amount
        base = kept.charged + habit.says_charged
        if payment.voucher.amount > kept.balance:
            return self._refuse(amount, Fault.EXCEEDS_BALANCE, kept, channel)
        if payment.voucher.amount < base + amount or payment.voucher.amount < kept.signed:
            shown = Kept(kept.balance, base, kept.signed, kept.signature)
            return self._refuse(amount, Fault.AMOUNT_MISMATCH, shown, channel)
        self._admit(kept, payment.voucher)
        if habit.drips:
            return StreamingResponse(self._without_end(1, 0.05), habit.status)
        if habit.status:
            return JSONResponse({"error": {"message": "as it likes"}}, habit.status)
        kept.number += 1
        self.served.append((channel, kept.number, body))
        answer = Answering(self, found, asked, body, channel, kept, step, tokens)
        settled = Settlement(
            True,
            network(CHAIN),
            payment.config.payer,
            charged=amount,
            state=ChannelState(channel, kept.balance, 0, charged=base + amount),
        )
        headers = {RESPONSE_HEADER: settled.encode()}
        kept.busy = True
        if asked.get("stream"):
            return StreamingResponse(
                answer.stream(), media_type="text/event-stream", headers=headers
            )
        try:
            return await answer.json(headers)
        finally:
            kept.busy = False


@dataclass
class Answering:
    """One answer of a played provider."""

    provider: Played
    model: Model
    asked: dict[str, Any]
    body: bytes
    channel: bytes
    kept: Kept
    step: int
    tokens: int
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def prompt(self) -> int:
        return min(len(str(self.asked.get("messages", "")).split()), prompt_bound(self.body, 0))

    def receipt(self, response: bytes, tokens: int, base: int) -> SignedReceipt | None:
        habit, operator = self.provider.habit, self.provider.operator
        if habit.receipt == "none":
            return None
        charged = self.model.prices.cost(self.prompt, tokens)
        if habit.receipt == "overcharged":
            charged += 1
        jumped = 5 if habit.receipt == "jumped" else 0
        made = Receipt(
            channel=self.channel,
            number={"repeated": 1, "endless": 2**64 - 1}.get(habit.receipt, self.kept.number),
            request=hashlib.sha256(
                b"x" if habit.receipt == "other_request" else self.body
            ).digest(),
            response=bytes(32) if habit.receipt == "other_answer" else response,
            model=self.model.word,
            prompt_tokens=self.prompt,
            completion_tokens=tokens,
            charged=charged,
            cumulative=base + charged + jumped,
            started=self.started,
            finished=int(time.time()),
        )
        if habit.receipt == "forged":
            operator = Account.create()
        self.kept.charged = base + charged
        self.kept.receipt = SignedReceipt.make(receipt_domain(CHAIN), made, operator)
        return self.kept.receipt

    async def json(self, headers: dict[str, str]) -> Response:
        habit = self.provider.habit
        await asyncio.sleep(habit.first_wait)
        count = min(habit.words, self.tokens)
        text = " ".join(word(number) for number in range(count))
        if habit.invalid_json:
            text = "{not json"
        text += habit.last_word
        document: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "model": self.model.name,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": habit.finish,
                }
            ],
            "usage": {"prompt_tokens": self.prompt, "completion_tokens": count},
        }
        count = min(self.tokens, round(count * (1 + habit.bills_more)))
        if "input" in self.asked and "messages" not in self.asked:
            count = 0
            document = {"object": "list", "data": [], "usage": {"prompt_tokens": self.prompt}}
        data = json.dumps(document).encode()
        receipt = self.receipt(hashlib.sha256(data).digest(), count, self.kept.charged)
        if receipt is not None:
            headers[RECEIPT_HEADER] = receipt.to_header()
        return Response(data, media_type="application/json", headers=headers)

    async def stream(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream():
                yield piece
        finally:
            self.kept.busy = False

    async def _stream(self) -> AsyncIterator[bytes]:
        habit, kept, base = self.provider.habit, self.kept, self.kept.charged
        transcript = Transcript()
        count = min(habit.words, self.tokens)

        def event(document: dict[str, Any]) -> bytes:
            data = b"data: " + json.dumps(document).encode() + b"\n\n"
            transcript.feed(data)
            return data

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            document: dict[str, Any] = {"id": "x", "model": self.model.name, "choices": [choice]}
            if habit.usage_early:
                document["usage"] = {"prompt_tokens": self.prompt, "completion_tokens": number}
            return event(document)

        number = 0

        yield chunk({"role": "assistant", "content": ""})
        if habit.begins_with:
            transcript.feed(habit.begins_with)
            yield habit.begins_with
        await asyncio.sleep(habit.first_wait)
        for number in range(count):
            if habit.dies_at == number:
                if habit.remembers:
                    self.receipt(transcript.digest(), number, base)
                raise ConnectionResetError
            if habit.errors_at == number:
                receipt = self.receipt(transcript.digest(), number, base)
                yield b"" if receipt is None else receipt.to_comment()
                yield event({"error": {"message": "the model's server is gone"}})
                return
            if self.step and number and number % self.step == 0:
                receipt = self.receipt(transcript.digest(), number, base)
                if receipt is not None:
                    yield receipt.to_comment()
                more = min(number + self.step, self.tokens)
                needed = base + self.model.prices.cost(self.prompt, more)
                while kept.signed < needed:
                    kept.arrived.clear()
                    await asyncio.wait_for(kept.arrived.wait(), 30)
            unpaid = base + self.model.prices.cost(self.prompt, number + 1) - kept.signed
            self.provider.most_unpaid = max(self.provider.most_unpaid, unpaid)
            yield chunk({"content": f"{word(number)} "})
        yield chunk({}, "stop")
        usage = {"prompt_tokens": self.prompt, "completion_tokens": count}
        for _ in range(habit.usages):
            yield event({"id": "x", "model": self.model.name, "choices": [], "usage": usage})
        if habit.ends_with:
            transcript.feed(habit.ends_with)
            yield habit.ends_with
        receipt = self.receipt(transcript.digest(), count, base)
        if receipt is not None:
            yield receipt.to_comment() * habit.receipts
        yield b"data: [DONE]\n\n"
        while habit.lingers:
            yield b": still here\n\n"
            await asyncio.sleep(0.05)


def word(number: int) -> str:
    return f"w{number}"


def model(
    name: str = "model-a",
    price: tuple[int, int, int] = (1_000_000, 2_000_000, 0),
    **more: Any,
) -> Model:
    """Prices are units for a million tokens, and for a request."""
    values: dict[str, Any] = {
        "context": 4_096,
        "max_completion": 64,
        "overhead": 16,
        "kinds": tuple(PATHS),
        "digest": DIGEST,
        "parameters": ("temperature", "tools"),
        **more,
    }
    return Model(name=name, prices=Prices(*price), **values)
