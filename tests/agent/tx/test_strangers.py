# SPDX-License-Identifier: Apache-2.0
"""Somebody else on our key is shown by its transaction; a missing receipt shows nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from provider_agent.errors import KeyInUse
from provider_agent.store import IntentState, Store
from provider_agent.tx.nonces import Nonces
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.agent.tx.desk import CONFIRMATIONS, SEND, Desk
from tests.support.anvil import Anvil

RECEIPT = "eth_getTransactionReceipt"


def test_receipts_null_for_minutes__ours_waits_and_lands(desk: Desk) -> None:
    rule = desk.proxy.fault(Mode.NULL, RECEIPT)
    key = desk.submit(1)
    for _ in range(30):
        desk.tick()
        desk.anvil.mine()
        desk.skew += 12.0
    assert rule.applied > 10
    assert desk.intent(key).state is IntentState.SENT
    assert "waiting for its receipt" in desk.sender.trouble
    assert desk.landed(1) == 1
    other = desk.submit(2)  # and others go on meanwhile
    desk.tick()
    assert desk.intent(other).nonce == 1
    desk.proxy.clear()
    desk.settle()
    assert desk.intent(key).state is desk.intent(other).state is IntentState.FINAL
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (1, 1, 2)


def test_receipts_null_and_blocks_refused__never_a_stranger(desk: Desk) -> None:
    desk.proxy.fault(Mode.NULL, RECEIPT)
    key = desk.submit(1)
    desk.tick()
    desk.wait(key)
    for _ in range(10):
        desk.tick()
        desk.anvil.mine()
    assert not desk.intent(key).done
    desk.proxy.clear()
    desk.settle()
    assert desk.landed(1) == 1


def test_stranger_in_a_block__is_shown_even_when_receipts_are_late(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    desk.proxy.fault(Mode.NULL, RECEIPT)
    desk.proxy.fault(Mode.DROP, SEND, times=3)  # ours does not get out
    key = desk.submit(1)
    desk.tick()
    desk.anvil.send(desk.key.address, desk.key.address)
    desk.anvil.mine()
    with pytest.raises(KeyInUse, match="nonce 0 is not ours"):
        for _ in range(CONFIRMATIONS + 10):
            desk.anvil.mine()
            desk.tick()
            for endpoint in desk.pool.endpoints:
                endpoint.not_before = 0.0
    assert desk.intent(key).state is IntentState.ABANDONED


def test_more_transactions_than_ours_said__nothing_sent_and_no_end_until_shown(
    desk: Desk, anvil: Anvil, proxy: FaultyRpc
) -> None:
    desk.submit(1)
    desk.settle()
    count = desk.pool.nonce

    def too_many(address: str, block: object = "latest") -> int:
        return count(address, block) + 1  # type: ignore[arg-type]  # a block

    desk.pool.nonce = too_many  # type: ignore[method-assign]  # a node that is wrong
    told, desk.pool.told_nonces = desk.pool.told_nonces, lambda *asked: [too_many(*asked)]  # type: ignore[method-assign]
    anvil.mine()
    key = desk.submit(2)
    for _ in range(5):
        desk.tick()
        anvil.mine()
    assert desk.intent(key).state is IntentState.PLANNED
    assert "nothing is sent until it is clear" in desk.sender.trouble
    desk.pool.nonce = count  # type: ignore[method-assign]  # it has found its way back
    desk.pool.told_nonces = told  # type: ignore[method-assign]
    desk.settle()
    assert desk.landed(2) == 1


def test_one_hash_for_two_blocks__counted_at_both(tmp_path: Path) -> None:
    """A node that lies about its head must not end the cycle."""

    class Node:
        def nonce(self, address: str, at: BlockRef) -> int:
            return at.number

    with closing(Store(tmp_path / "agent.sqlite")) as store:
        nonces = Nonces(cast(RpcPool, Node()), store, "0x" + "11" * 20, 2, lambda *_: True)
        assert [nonces.count(BlockRef(n, b"h" * 32, 1_000 + n)) for n in (5, 6, 5)] == [5, 6, 5]


@pytest.mark.parametrize("told", [0, 1, 2])
def test_node_tells_too_few_transactions__no_nonce_is_given_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    """A gap is what nobody of ours has filled. One that lies, or is behind, makes none."""
    for slot in range(1, 4):
        desk.submit(slot)
        desk.settle()
    desk.anvil.set_automine(False)
    key = desk.submit(9)
    desk.tick()
    assert desk.intent(key).nonce == 3
    with monkeypatch.context() as lie:
        lie.setattr(desk.pool, "nonce", lambda address, block="latest": told)
        for _ in range(8):
            desk.sender._nonces._counted = b""  # as if there were a new head
            desk.tick()
    desk.anvil.set_automine(True)
    desk.anvil.mine()
    desk.settle()
    assert desk.intent(key).state is IntentState.FINAL
    assert (desk.landed(9), desk.mined()) == (1, 4)
