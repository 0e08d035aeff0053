# SPDX-License-Identifier: Apache-2.0
"""Strangers with many channels and accounts cost a bounded amount of gas, on the real contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.modules.inference.gas import DEPOSIT_GAS
from provider_agent.modules.inference.rows import Asked
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.channel_rig import ChannelRig, channel_rig

MOST = 4


@pytest.fixture
def rig(market: Deployment, tmp_path: Path) -> Iterator[ChannelRig]:
    with channel_rig(
        market, tmp_path, coin_price="1000", claim_hours=10**6, newcomer_deposits=MOST
    ) as made:
        made.cycle(2)
        yield made


def test_newcomers__sent_up_to_the_budget_and_then_held_until_it_has_come_back(
    rig: ChannelRig,
) -> None:
    regular = rig.payer().open(10 * USD)
    cost = rig.side._house._costs.of(DEPOSIT_GAS)
    regular.serve(4 * cost)
    before = rig.sent("deposit")
    payers = [rig.payer() for _ in range(MOST + 3)]
    asked = [payer.deposit(USD) for payer in payers]
    rig.until(
        lambda: all(
            payer.state(one) in (Asked.DONE, Asked.HELD)
            for payer, one in zip(payers, asked, strict=True)
        ),
        "deposits",
    )
    states = [payer.state(one) for payer, one in zip(payers, asked, strict=True)]
    assert states.count(Asked.DONE) == rig.sent("deposit") - before == MOST
    held = [n for n, state in enumerate(states) if state is Asked.HELD]
    found = rig.book.deposit(asked[held[0]].nonce)
    assert found is not None and (found.reason, found.tx_hash) == ("", b"")
    assert [check().ok for check in rig.side.checks()] == [False]

    # Who has paid goes on, and who is held can send it: its word counts all the same.
    again = regular.deposit(USD)
    rig.until(lambda: regular.state(again) is Asked.DONE, "a known payer's deposit")
    alone = payers[held[0]]
    alone.salt -= 1
    same = alone.deposit(USD)
    rig.channels.send(
        alone.account, "deposit", alone.config.abi_tuple(), USD,
        "0x4020806089470a89826cB9fB1f4059150b550004",
        same.deposit.authorization.collector_data(same.deposit.signature),
    )  # fmt: skip
    rig.until(lambda: alone.state(same) is Asked.DONE, "its own deposit")
    assert alone.row.balance == USD

    # What was held is sent when a newcomer has brought the gas of its deposit.
    served = next(n for n, state in enumerate(states) if state is Asked.DONE)
    other = payers[held[1]]
    payers[served].serve(2 * cost)
    other.salt -= 1
    once_more = other.deposit(USD)
    assert once_more.nonce == asked[held[1]].nonce
    rig.until(lambda: other.state(once_more) is Asked.DONE, "the deposit that was held")


def test_one_payer_with_many_channels__has_a_part_of_the_budget(rig: ChannelRig) -> None:
    first = rig.payer().open(USD)
    second = type(first)(rig, first.account, first.config)
    second.config = type(first.config)(**{**first.config.__dict__, "salt": (1).to_bytes(32, "big")})
    second.salt = 50
    asked = second.deposit(USD)
    rig.until(lambda: second.state(asked) is Asked.HELD, "refusal")
    rig.payer().open(USD)
