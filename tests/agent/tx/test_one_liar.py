# SPDX-License-Identifier: Apache-2.0
"""One endpoint of two or three, at the same height as the others, ahead, or behind: its word alone
keeps nothing of ours from being sent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from provider_agent.store import Store
from provider_agent.tx.nonces import Nonces
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import Reverted
from tests.agent.stub_node import CHAIN, Refusal, Result, StubNode, block

US = "0x" + "11" * 20


def says(count: int) -> Any:
    """A node that counts otherwise, and by which all that we send would revert."""

    def rule(method: str, params: list[Any]) -> Result | Refusal | None:
        if method == "eth_getTransactionCount":
            return Result(hex(count))
        if method == "eth_estimateGas":
            return Refusal(3, "execution reverted: jobs: not yours")
        return None

    return rule


@contextlib.contextmanager
def pool_of(*nodes: StubNode) -> Iterator[RpcPool]:
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        yield stack.enter_context(
            closing(RpcPool([node.url for node in nodes], CHAIN, timeout=2, max_wait=0.2))
        )


@pytest.mark.parametrize("ahead", [-2, 0, 1, 60])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("honest", [1, 2])
def test_one_says_that_more_was_sent__we_go_on(
    tmp_path: Path, honest: int, place: int, ahead: int
) -> None:
    nodes = [StubNode() for _ in range(honest)]
    nodes.insert(place, StubNode(says(10**6), head=100 + ahead))
    with pool_of(*nodes) as pool, closing(Store(tmp_path / "agent.sqlite")) as store:
        store.set_meta("nonce_floor", "0")
        nonces = Nonces(pool, store, US, 2, lambda *_: True)
        for _ in range(4):
            for node in nodes:
                node.head += 1
            head = pool.head()
            assert nonces.check_ahead(head, nonces.count(head)), nonces.trouble
            try:
                assert pool.estimate_gas(US, "0x" + "22" * 20, b"", at=head.number) > 0
            except Reverted:
                pytest.fail("one endpoint alone has said that it reverts")


def test_all_say_that_more_was_sent__nothing_is_sent(tmp_path: Path) -> None:
    with (
        pool_of(*(StubNode(says(5)) for _ in range(2))) as pool,
        closing(Store(tmp_path / "agent.sqlite")) as store,
    ):
        store.set_meta("nonce_floor", "0")
        nonces = Nonces(pool, store, US, 2, lambda *_: True)
        head = pool.head()
        assert not nonces.check_ahead(head, nonces.count(head))
        assert "nothing is sent" in nonces.trouble


@pytest.mark.parametrize("place", [0, 1])
def test_later_one_of_two_is_far_behind__the_other_is_gone_by(place: int) -> None:
    """One that stands still must not hold the market up for us."""

    def stands(method: str, params: list[Any]) -> Result | None:
        if method != "eth_getBlockByNumber":
            return None
        number = 90 if params[0] == "latest" else int(params[0], 16)
        return Result(block(number, when=int(time.time()) - 120))

    nodes = [StubNode()]
    nodes.insert(place, StubNode(stands))
    with pool_of(*nodes) as pool:
        assert pool.head().number == 100


@pytest.mark.parametrize("place", [0, 1])
def test_later_one_of_two_is_near__the_block_that_both_have(place: int) -> None:
    nodes = [StubNode()]
    nodes.insert(place, StubNode(head=98))
    with pool_of(*nodes) as pool:
        assert pool.head().number == 98
