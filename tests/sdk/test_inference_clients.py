# SPDX-License-Identifier: Apache-2.0
"""The clients that everybody has, as they are on PyPI: `x402` pays our provider's front, and
`openai` reads its answers. The chain is played here; `tests/agent_e2e` has a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI
from x402 import x402Client
from x402.http.clients.httpx import x402AsyncTransport
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.client.refund import RefundOptions, _RefundResponse
from x402.mechanisms.evm.signers import EthAccountSigner

from teraproof.protocol.inference import RECEIPT_HEADER, SignedReceipt, receipt_domain
from tests.agent.inference.parts import CHAIN, OPERATOR, PAYER
from tests.agent.inference.rig import MODEL, Rig, Wallet, chain, new_wallet, serve
from tests.support.model_server import Faults

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path) as found, chain(found):
        yield found


class Person:
    """Somebody with a key and the two packages."""

    def __init__(self, rig: Rig) -> None:
        self.scheme = BatchSettlementEvmScheme(EthAccountSigner(PAYER))
        payer = x402Client()
        # By itself it pays in the dollars that it knows, and in no other token.
        payer.set_spend_controls({"allowed_assets": True})
        payer.register(f"eip155:{CHAIN}", self.scheme)
        self.http = httpx.AsyncClient(transport=x402AsyncTransport(payer), timeout=60)
        self.openai = AsyncOpenAI(
            base_url=f"{rig.url}/v1",
            api_key="none",
            http_client=self.http,  # type: ignore[arg-type]  # typed as its own fork; it takes both
            max_retries=0,
        )


def spend(wallet: Wallet) -> tuple[int, int]:
    row = wallet.row
    return row.charged, row.balance


def test_the_clients_of_pypi__open_a_channel_pay_and_stream(rig: Rig) -> None:
    async def talk() -> None:
        person = Person(rig)
        raw = await person.openai.chat.completions.with_raw_response.create(
            model=MODEL, messages=HELLO, max_tokens=5
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == " word" * 5
        assert answer.usage is not None and answer.usage.completion_tokens == 5
        signed = SignedReceipt.from_header(raw.headers[RECEIPT_HEADER])
        signed.check(receipt_domain(CHAIN), OPERATOR.address)
        charged, balance = spend(new_wallet(rig))
        assert charged == signed.receipt.charged == 7 * 15 + 5 * 60
        assert balance >= 50_000

        stream = await person.openai.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=9, stream=True
        )
        said = [chunk.choices[0].delta.content async for chunk in stream]
        assert said == [" word"] * 9
        for _ in range(3):  # after a stream the client counts ahead: it is put right by and by
            await person.openai.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=5)
        charged, _ = spend(new_wallet(rig))
        assert charged == 4 * (7 * 15 + 5 * 60) + 7 * 15 + 9 * 60

    asyncio.run(talk())


def test_the_clients_of_pypi__top_up_when_the_deposit_is_used(rig: Rig) -> None:
    async def talk() -> None:
        person = Person(rig)
        before = 0
        for _ in range(12):
            await person.openai.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=64)
            charged, balance = spend(new_wallet(rig))
            assert charged <= balance
            before = max(before, balance)
        assert before > 50_000
        charged, _ = spend(new_wallet(rig))
        assert charged == 12 * (7 * 15 + 64 * 60)

    asyncio.run(talk())


def test_the_clients_of_pypi__tools_embeddings_completions_responses(rig: Rig) -> None:
    async def talk() -> None:
        person = Person(rig)
        tool: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}
        answer = await person.openai.chat.completions.create(
            model=MODEL, messages=HELLO, tools=[tool], logprobs=True
        )
        calls = answer.choices[0].message.tool_calls
        assert calls is not None and calls[0].type == "function"
        assert calls[0].function.name == "look"
        assert rig.server.asked[-1]["tools"] == [tool]
        vectors = await person.openai.embeddings.create(model=MODEL, input="hello")
        assert list(vectors.data[0].embedding) == [0.5, 0.25]
        text = await person.openai.completions.create(model=MODEL, prompt="hello", max_tokens=3)
        assert text.choices[0].text == " word" * 3
        response = await person.openai.responses.create(model=MODEL, input="hello")
        assert response.output_text.startswith(" word")
        names = [one.id async for one in await person.openai.models.list()]
        assert names == [MODEL]

    asyncio.run(talk())


def test_the_clients_of_pypi__see_one_clean_error_when_a_stream_breaks_off(rig: Rig) -> None:
    async def talk() -> None:
        person = Person(rig)
        rig.server.faults = Faults(dies_after=3)
        stream = await person.openai.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=9, stream=True
        )
        got = 0
        with pytest.raises(APIError, match="does not answer"):
            async for _ in stream:
                got += 1
        assert got == 3
        rig.server.faults = Faults()
        again = await person.openai.chat.completions.create(model=MODEL, messages=HELLO)
        assert again.choices[0].message.content

    asyncio.run(talk())


def test_the_clients_of_pypi__get_the_rest_back(rig: Rig) -> None:
    async def talk() -> Person:
        person = Person(rig)
        await person.openai.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=5)
        return person

    person = asyncio.run(talk())
    charged, balance = spend(new_wallet(rig))

    def fetch(url: str, headers: dict[str, str]) -> _RefundResponse:
        found = httpx.get(url, headers=headers, timeout=60)
        return _RefundResponse(found.status_code, dict(found.headers))

    settled = person.scheme.refund(f"{rig.url}/v1/chat/completions", RefundOptions(fetch=fetch))
    assert settled.success and settled.amount == str(balance - charged)
    assert spend(new_wallet(rig)) == (charged, charged)
