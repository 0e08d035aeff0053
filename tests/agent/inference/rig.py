# SPDX-License-Identifier: Apache-2.0
"""The provider's front on a real port, in front of a model server that is played.

The chain is played, too: a deposit is confirmed by the test's own thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from provider_agent.core.metrics import Metrics
from provider_agent.modules.inference.front import Front
from provider_agent.modules.inference.offers import Payee
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import Asked, ChannelRow
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from provider_agent.tx.keys import OperatorKey
from teraproof.protocol import x402
from teraproof.protocol.channels import ChannelConfig, channel_id
from teraproof.protocol.inference import PATHS, STEP_HEADER, InferenceOffer, SignedReceipt
from teraproof.protocol.payments import Kind, Payment
from tests.agent.inference.parts import (
    CHAIN,
    OPERATOR,
    PAYER,
    RECEIVER,
    TOKEN_DOMAIN,
    a_config,
    signed_deposit,
    voucher,
)
from tests.support.model_server import ModelServer, running

MODEL = "tiny"
#: Units of the token that has six decimals: a completion token costs 60, one of a prompt 15.
PROMPT_PRICE, COMPLETION_PRICE = "15", "60"


@dataclass
class Rig:
    """See the module."""

    front: Front
    book: ChannelBook
    server: ModelServer
    http: httpx.Client

    @property
    def url(self) -> str:
        """The base URL of the front."""
        return f"http://127.0.0.1:{self.front.port}"

    @property
    def offer(self) -> InferenceOffer:
        """As `GET /v1/provider` says it."""
        return InferenceOffer.from_json(self.front.offer()["inference"])

    def fund(self, balance: int = 10**7, payer: LocalAccount = PAYER, salt: int = 0) -> Wallet:
        """A channel that the chain has."""
        found = new_wallet(self, payer, salt)
        self.book.see(found.config, x402.ChannelState(found.channel, balance, 0), 1)
        return found

    def ask(
        self,
        payment: Payment | None,
        kind: str = "chat",
        step: int | None = None,
        **body: Any,
    ) -> httpx.Response:
        """One request; `body` on top of a small one."""
        headers = {} if payment is None else {x402.SIGNATURE_HEADER: payment.encode()}
        if step is not None:
            headers[STEP_HEADER] = str(step)
        return self.http.post(
            self.url + PATHS[kind], json=request_of(kind, **body), headers=headers
        )

    def terms(self, kind: str = "chat", step: int | None = None, **body: Any) -> x402.Terms:
        """What it wants for a request."""
        answer = self.ask(None, kind, step, **body)
        assert answer.status_code == 402, answer.text
        return x402.Required.decode(answer.headers[x402.REQUIRED_HEADER]).accepts[0]


@dataclass
class Wallet:
    """A payer with a channel: signs what it is asked to."""

    rig: Rig
    config: ChannelConfig
    channel: bytes
    payer: LocalAccount

    def pay(self, total: int, terms: x402.Terms | None = None, deposit: int = 0) -> Payment:
        """A voucher over a sum; with a deposit if that is not zero."""
        return Payment(
            Kind.DEPOSIT if deposit else Kind.VOUCHER,
            self.config,
            voucher(self.channel, total, self.payer),
            signed_deposit(self.channel, deposit, self.payer) if deposit else None,
            None,
            {} if terms is None else terms.to_json(),
        )

    @property
    def row(self) -> ChannelRow:
        """As the provider's book has it."""
        found = self.rig.book.channel(self.channel)
        assert found is not None
        return found


def new_wallet(rig: Rig, payer: LocalAccount = PAYER, salt: int = 0) -> Wallet:
    """A payer without a channel yet."""
    config = a_config(payer, salt)
    return Wallet(rig, config, channel_id(CHAIN, config), payer)


def request_of(kind: str, **body: Any) -> dict[str, Any]:
    """A small request."""
    found: dict[str, Any] = {"model": MODEL}
    if kind == "chat":
        found |= {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
    elif kind == "completions":
        found |= {"prompt": "hello", "max_tokens": 10}
    elif kind == "responses":
        found |= {"input": "hello", "max_output_tokens": 10}
    else:
        found["input"] = "hello"
    return {**found, **body}


def receipt_of(answer: httpx.Response) -> SignedReceipt:
    """The receipt of an answer: its header, or the last one of a stream."""
    header = answer.headers.get("Teraproof-Receipt")
    if header is not None:
        return SignedReceipt.from_header(header)
    found = [SignedReceipt.from_comment(line + b"\n") for line in answer.content.split(b"\n\n")]
    return [one for one in found if one is not None][-1]


def settled(answer: httpx.Response) -> x402.Settlement:
    """What an answer says of its payment."""
    return x402.Settlement.decode(answer.headers[x402.RESPONSE_HEADER])


def required(answer: httpx.Response) -> x402.Required:
    """What an answer 402 says."""
    assert answer.status_code == 402, answer.text
    return x402.Required.decode(answer.headers[x402.REQUIRED_HEADER])


@contextlib.contextmanager
def serve(folder: Path, server: ModelServer | None = None, **changed: Any) -> Iterator[Rig]:
    """The front with one model, `model` of `changed` on top of it; the rest are settings."""
    model = {
        "upstream_model": "weights/of-tiny",
        "prompt_price": PROMPT_PRICE,
        "completion_price": COMPLETION_PRICE,
        "kinds": ["chat", "completions", "embeddings", "responses"],
        "max_completion": 64,
        "digest": "ab" * 32,
        **changed.pop("model", {}),
    }
    with running(server) as stub, contextlib.ExitStack() as stack:
        settings = InferenceSettings.model_validate(
            {
                "host": "127.0.0.1",
                "port": 0,
                "deposit_wait": 20,
                "step_wait": 10,
                "min_step": 1,
                "models": {MODEL: {"upstream": stub.url, **model}},
                **changed,
            }
        )
        store = Store(folder / "agent.sqlite", tables=(TABLES,))
        stack.callback(store.close)
        book = ChannelBook(store)
        payee = Payee(CHAIN, OPERATOR.address, TOKEN_DOMAIN, 6, lambda: RECEIVER)
        front = Front(
            settings, book, payee, OperatorKey(OPERATOR), Metrics(),
            public_url="http://127.0.0.1:8700", files=4_096,
        )  # fmt: skip
        front.start()
        stack.callback(front.close)
        http = stack.enter_context(httpx.Client(timeout=30))
        yield Rig(front, book, stub, http)


@contextlib.contextmanager
def chain(rig: Rig, refuse: str = "", state: Asked = Asked.REFUSED) -> Iterator[None]:
    """Confirm deposits and refunds as they are asked for, or end deposits otherwise."""
    ends = threading.Event()

    def work() -> None:
        while not ends.wait(0.02):
            for row in rig.book.deposits(Asked.NEW):
                if refuse or state is Asked.HELD:
                    rig.book.set_deposit(row.nonce, state=state, reason=refuse)
                    continue
                known = rig.book.channel(row.channel)
                before, claimed = (known.balance, known.total_claimed) if known else (0, 0)
                seen = x402.ChannelState(row.channel, before + row.deposit.amount, claimed)
                with rig.book.transaction():
                    rig.book.see(row.config, seen, 2)
                    rig.book.set_deposit(row.nonce, state=Asked.DONE, tx_hash=b"\x77" * 32)
            for refund in rig.book.refunds(Asked.NEW):
                known = rig.book.channel(refund.channel)
                assert known is not None
                left = x402.ChannelState(
                    refund.channel, known.balance - refund.amount, known.charged, 0, 1
                )
                with rig.book.transaction():
                    rig.book.see(known.config, left, 3)
                    rig.book.set_refund(refund.channel, state=Asked.DONE, tx_hash=b"\x78" * 32)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
