# SPDX-License-Identifier: Apache-2.0
"""What the chain is, most endpoints say: not the first one, the quickest, or the one ahead."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import Reverted, Transport
from tests.agent.stub_node import CHAIN, Refusal, Result, Rule, StubNode, block

FAR = 10**6  # seconds
SOMEBODY = "0x" + "11" * 20


@contextlib.contextmanager
def pool_of(*nodes: StubNode, timeout: float = 10.0) -> Iterator[RpcPool]:
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        pool = RpcPool([node.url for node in nodes], CHAIN, timeout=timeout)
        try:
            yield pool
        finally:
            pool.close()


def blocks(ahead: int = 0, fork: bool = False) -> Rule:
    """A node whose blocks have another time, or another hash."""

    def rule(method: str, params: list[Any]) -> Result | None:
        if method != "eth_getBlockByNumber":
            return None
        number = 100 if params[0] == "latest" else int(params[0], 16)
        told = block(number, when=int(time.time()) + ahead)
        return Result(told | {"hash": "0x" + "ee" * 32} if fork else told)

    return rule


@pytest.mark.parametrize("place", range(3))
def test_right_hash_and_false_time__the_time_of_most(place: int) -> None:
    now = int(time.time())
    honest = blocks()
    nodes = [StubNode(honest), StubNode(honest)]
    nodes.insert(place, StubNode(blocks(FAR)))
    with pool_of(*nodes) as pool:
        head = pool.head()
        assert pool.agreed_block(98).timestamp < now + FAR // 2
        assert pool.sure_time(head) < now + FAR // 2
        assert head.timestamp < now + FAR // 2, "juries and windows go by it"


@pytest.mark.parametrize("places", [(0, 1), (0, 4), (3, 4)])
def test_two_of_five_in_league__the_three_decide_and_stay(places: tuple[int, int]) -> None:
    nodes = [StubNode(blocks(fork=n in places)) for n in range(5)]
    with pool_of(*nodes) as pool:
        for _ in range(2):
            pool.head()
            assert pool.agreed_block(98).hash == (98).to_bytes(32, "big")
        for n, endpoint in enumerate(pool.endpoints):
            assert bool(endpoint.fault) == (n in places)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("ahead", [1, 60])
def test_one_of_three_is_ahead__others_are_asked_as_well(ahead: int, place: int) -> None:
    """Who alone has a block would be the only one to ask about it."""

    def lie(method: str, params: list[Any]) -> Result | Refusal | None:
        if method == "eth_estimateGas":
            return Refusal(3, "execution reverted: jobs: not yours")
        return None

    nodes = [StubNode(), StubNode()]
    nodes.insert(place, StubNode(lie, head=100 + ahead))
    with pool_of(*nodes) as pool:
        for step in range(3):
            for node in nodes:
                node.head += 1
            head = pool.head()
            assert head.number == 101 + step
            try:
                gas = pool.estimate_gas(SOMEBODY, SOMEBODY, b"", at=head.number)
            except Reverted:
                pytest.fail("one endpoint of three has said that it reverts")
            assert gas > 0


def tells(value: int) -> Rule:
    """A node with a balance of its own."""
    return lambda method, params: Result(hex(value)) if method == "eth_getBalance" else None


@pytest.mark.parametrize("place", range(3))
def test_agreed__one_of_three_lies__what_two_say(place: int) -> None:
    nodes = [StubNode(tells(5)), StubNode(tells(5))]
    nodes.insert(place, StubNode(tells(7)))
    with pool_of(*nodes) as pool:
        head = pool.head()
        with pool.agreed():
            assert pool.balance(SOMEBODY, head) == 5
            nodes[place].rule = lambda method, params: Refusal(-32000, "no")
            assert pool.balance(SOMEBODY, head) == 5
        pool.balance(SOMEBODY, head)  # outside, the first one that answers


def test_agreed__two_that_differ__nothing_is_known() -> None:
    with pool_of(StubNode(tells(5)), StubNode(tells(7))) as pool:
        head = pool.head()
        with pool.agreed(), pytest.raises(Transport, match="do not agree"):
            pool.balance(SOMEBODY, head)


def test_agreed__one_that_is_alone__its_word() -> None:
    dead = StubNode(lambda method, params: Refusal(-32000, "no"))
    for nodes in ([StubNode(tells(5))], [StubNode(tells(5)), dead]):
        with pool_of(*nodes) as pool, pool.agreed():
            assert pool.balance(SOMEBODY) == 5


def test_one_lags__the_two_others_go_on() -> None:
    slow, nodes = StubNode(head=90), [StubNode(), StubNode()]
    with pool_of(slow, *nodes) as pool:
        assert pool.head().number == 100


@pytest.mark.parametrize("honest", [1, 2])
def test_delay_of_all__nobody_loses_its_vote(honest: int) -> None:
    """One is slow on purpose, and waited for. Then all are late, the quick ones as well."""
    late = [0.0]

    def quick(method: str, params: list[Any]) -> None:
        time.sleep(late[0])

    fork = blocks(FAR, fork=True)

    def evil(method: str, params: list[Any]) -> Any:
        time.sleep(0.1 + late[0])
        return fork(method, params) if late[0] else None

    now = int(time.time())
    nodes = [StubNode(quick) for _ in range(honest)]
    with pool_of(*nodes, StubNode(evil)) as pool:
        for _ in range(3):
            pool.head()
            pool.agreed_block(99)
        late[0] = 0.8
        for _ in range(2):
            head = pool.head()
            assert pool.sure_time(head) < now + FAR // 2
            with contextlib.suppress(Exception):  # that they do not agree is an answer
                assert pool.agreed_block(98).hash == (98).to_bytes(32, "big")
