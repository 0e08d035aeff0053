# SPDX-License-Identifier: Apache-2.0
"""The clients `x402` and `openai` as they are on PyPI pay an agent's process and stream from it, on
a local chain; and what payers can do wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from eth_account import Account
from openai import AsyncOpenAI
from x402 import x402Client
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.batch_settlement.client import (
    BatchSettlementDepositPolicy,
    BatchSettlementEvmScheme,
    RefundOptions,
)

from teraproof.protocol import x402 as wire
from teraproof.protocol.payments import Kind
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.inference_world import MODEL, Buyer, InferenceWorld, timely_world
from tests.support.model_server import running

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def timely(tmp_path: Path) -> Iterator[InferenceWorld]:
    with timely_world(tmp_path) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, busy_market: Deployment) -> Iterator[InferenceWorld]:
    with running() as server:
        made = InferenceWorld(tmp_path, busy_market, server=server)
        made.set_up()
        made.start_agent()
        yield made
        made.close()


def at_rest(world: InferenceWorld, charged: int) -> bool:
    """Whether just that is claimed and paid out, and nothing is under way."""
    return world.received() == (charged, charged) and not world.waiting()


def charged_of(world: InferenceWorld) -> int:
    """What the agent's book says was served."""
    return sum(int(row[0]) for row in world.rows("SELECT charged FROM paid_channels"))


def test_clients_of_pypi__pay_and_stream__and_get_the_rest_back(timely: InferenceWorld) -> None:
    world = timely
    account = Account.create()
    world.deployment.transact(world.payment.call(world.tenant, "mint", account.address, 10 * USD))
    scheme = BatchSettlementEvmScheme(account, BatchSettlementDepositPolicy(deposit_multiplier=20))
    paying = x402Client().set_spend_controls(
        {
            "max_amount_per_payment": False,
            "allowed_assets": [
                {
                    "network": wire.network(world.anvil.chain_id),
                    "asset": world.payment.address,
                    "max_amount_per_payment": str(USD),
                }
            ],
        }
    )
    paying.register(wire.network(world.anvil.chain_id), scheme)

    async def talk() -> tuple[list[str], list[str]]:
        whole, streamed = [], []
        async with x402HttpxClient(paying, timeout=120, trust_env=False) as http:
            client = AsyncOpenAI(
                base_url=f"{world.paid_url}/v1",
                api_key="none",
                http_client=cast("Any", http),
                max_retries=0,
            )
            for _ in range(3):
                said = await client.chat.completions.create(
                    model=MODEL, messages=MESSAGES, max_tokens=8
                )
                whole.append(said.choices[0].message.content or "")
            stream = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=8, stream=True
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    streamed.append(chunk.choices[0].delta.content)
            said = await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=8
            )
            whole.append(said.choices[0].message.content or "")
        return whole, streamed

    whole, streamed = asyncio.run(talk())
    assert whole == [" word" * 8] * 4 and streamed == [" word"] * 8
    charged = charged_of(world)
    assert charged == 5 * (7 * 15 + 8 * 60)
    world.until(lambda: at_rest(world, charged), "payout", 90)

    told = scheme.refund(f"{world.paid_url}/v1/chat/completions", RefundOptions())
    assert told.success, told
    assert world.balance(account.address) == 10 * USD - charged
    world.until(lambda: at_rest(world, charged), "rest", 90)
    assert world.balance(world.owner.address) == charged
    made = world.check_sent_once()
    assert (made["deposit"], made["refund"]) == (1, 1)


def answer(buyer: Buyer, voucher: wire.SignedVoucher, **changed: Any) -> httpx.Response:
    found = buyer.post(buyer.payment(voucher, **changed))
    assert found is not None
    return found


def fault(found: httpx.Response) -> str:
    assert found.status_code == 402, found.text
    return wire.Required.decode(found.headers[wire.REQUIRED_HEADER]).error


def test_vouchers__replayed_forked_lower_forged_or_of_another_chain__cost_the_provider_nothing(
    world: InferenceWorld,
) -> None:
    buyer = Buyer(world)
    assert buyer.ask() and buyer.ask()
    charged, full = buyer.charged, buyer.charged + buyer.ceiling
    served = len(world.server.asked)
    # Replayed: the sum of the last request does not cover another one. The provider shows where
    # the channel stands.
    replayed = answer(buyer, buyer.voucher(charged))
    assert fault(replayed) == wire.Fault.AMOUNT_MISMATCH.value
    state = wire.Required.decode(replayed.headers[wire.REQUIRED_HEADER]).accepts[0].state
    assert state is not None and state.charged == charged
    # Forked: another one below, as if the last had never been.
    assert fault(answer(buyer, buyer.voucher(1))) == wire.Fault.AMOUNT_MISMATCH.value
    # For another chain, or by another key.
    elsewhere = buyer.voucher(full, chain_id=1)
    assert fault(answer(buyer, elsewhere)) == wire.Fault.VOUCHER_SIGNATURE.value
    other = Buyer(world)
    forged = wire.SignedVoucher(buyer.channel, full, other.voucher(full).signature)
    assert fault(answer(buyer, forged)) == wire.Fault.VOUCHER_SIGNATURE.value
    stolen = wire.SignedVoucher(other.channel, full, other.voucher(full).signature)
    assert fault(answer(buyer, stolen)) == wire.Fault.CHANNEL_ID_MISMATCH.value
    # Above the deposit.
    assert fault(answer(buyer, buyer.voucher(2 * USD))) == wire.Fault.EXCEEDS_BALANCE.value
    assert len(world.server.asked) == served and charged_of(world) == charged
    assert buyer.ask()
    assert buyer.paid == buyer.charged == charged_of(world)
    world.until(lambda: at_rest(world, buyer.charged), "payout", 90)


def test_payer_withdraws_while_requests_run__what_was_served_is_claimed_and_no_more_is_served(
    world: InferenceWorld,
) -> None:
    buyer = Buyer(world)
    world.server.faults.pause = 0.5
    world.until(buyer.ask, "an answer", 60)
    buyer.faults.clear()
    buyer.begin_withdrawal(USD // 2)
    used_up = wire.Fault.EXCEEDS_BALANCE.value
    world.until(lambda: not buyer.ask() and buyer.faults[used_up], "an end of the balance", 120)
    # On a busy machine an agent that has not seen the chain for a while serves nobody.
    del buyer.faults[used_up]
    assert set(buyer.faults) <= {wire.Fault.STATE_UNAVAILABLE.value}
    world.until(lambda: at_rest(world, buyer.paid), "claim", 90)
    world.anvil.increase_time(86_400)
    buyer.end_withdrawal()
    assert buyer.on_chain() == (USD - USD // 2, buyer.paid)
    assert world.balance(world.owner.address) == buyer.paid == charged_of(world)
    # What is left of the channel is good for more, and the payer is not charged twice.
    world.until(buyer.ask, "another answer", 60)
    world.until(lambda: at_rest(world, buyer.paid), "claim", 90)


def test_refund_of_a_channel_that_owes__by_the_payers_wish_alone(world: InferenceWorld) -> None:
    buyer = Buyer(world)
    assert buyer.ask()
    stranger = Buyer(world)
    forged = wire.SignedVoucher(
        buyer.channel, buyer.charged, stranger.voucher(buyer.charged).signature
    )
    refused = answer(buyer, forged, kind=Kind.REFUND)
    assert fault(refused) == wire.Fault.VOUCHER_SIGNATURE.value
    world.until(buyer.give_back, "refund", 60)
    assert buyer.on_chain() == (buyer.paid, buyer.paid)
    assert world.balance(buyer.account.address) == 10 * USD - buyer.paid
