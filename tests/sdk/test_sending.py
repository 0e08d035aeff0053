# SPDX-License-Identifier: Apache-2.0
"""Transactions of a command that wait: dearer with the same nonce, and mined once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from teraproof.market.chain import chain_at
from teraproof.market.sending import Call, Sender
from teraproof.market.signers import KeySigner
from teraproof.protocol.errors import Code
from teraproof.rpc.types import Receipt
from tests.support.anvil import Anvil
from tests.support.codes import fails_as

GWEI = 10**9


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    with Anvil() as running:
        yield running


def sender_on(anvil: Anvil, *, replace_seconds: float, receipt_seconds: float = 30.0) -> Sender:
    chain = chain_at(anvil.url, anvil.chain_id, "test", 1)
    chain = replace(chain, replace_seconds=replace_seconds, receipt_seconds=receipt_seconds)
    return Sender(chain, KeySigner(anvil.accounts[0], "account 0"))


def test_send__nobody_mines__offers_more_and_is_mined_once(anvil: Anvil) -> None:
    sender = sender_on(anvil, replace_seconds=0.3)
    anvil.set_automine(False)
    nonce, found = anvil.nonce(sender.address), list[Receipt]()
    call = Call("give", str(anvil.accounts[1].address), b"", value=1)
    waiting = threading.Thread(target=lambda: found.append(sender.send(call)))
    waiting.start()

    def offered() -> list[int]:
        pools = anvil.rpc("txpool_content")["pending"].values()
        return [int(one["maxFeePerGas"], 16) for pool in pools for one in pool.values()]

    end = time.monotonic() + 20
    while not offered() and time.monotonic() < end:
        time.sleep(0.05)
    (first,) = offered()
    while offered() == [first] and time.monotonic() < end:
        time.sleep(0.05)
    (second,) = offered()
    assert second >= first * 9 // 8
    anvil.mine()
    waiting.join(20)
    (receipt,) = found
    assert receipt.status == 1 and anvil.nonce(sender.address) == nonce + 1
    assert [sent.label for sent in sender.sent] == ["give"]


def test_send__patience_is_over__says_so_and_keeps_no_receipt(anvil: Anvil) -> None:
    sender = sender_on(anvil, replace_seconds=60, receipt_seconds=0.3)
    anvil.set_automine(False)
    with fails_as(Code.CHAIN_UNAVAILABLE):
        sender.send(Call("give", str(anvil.accounts[1].address), b"", value=1))
    assert sender.sent == []


def test_send__estimate_that_cannot_be__nothing_is_signed(
    anvil: Anvil, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = sender_on(anvil, replace_seconds=60)
    limit = sender.chain.gas_limit()
    whole = sender.chain.pool.estimate_gas(
        sender.address, str(anvil.accounts[1].address), b"", 1, most=limit, state=None
    )
    assert whole <= limit
    asked: list[int | None] = []

    def estimate(*_: object, most: int | None = None, **__: object) -> int:
        asked.append(most)
        return 21_000

    monkeypatch.setattr(sender.chain.pool, "estimate_gas", estimate)
    sender.send(Call("give", str(anvil.accounts[1].address), b"", value=1))
    assert asked == [limit]  # a node cannot make a command buy more than a block holds
