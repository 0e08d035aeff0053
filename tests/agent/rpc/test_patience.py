# SPDX-License-Identifier: Apache-2.0
"""An endpoint that keeps us waiting while another could be asked is not waited for to the end.

The time-out is ten minutes here: a request that waited for it would never come back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from teraproof.rpc.client import RpcPool
from teraproof.rpc.endpoint import Endpoint
from tests.agent.stub_node import CHAIN, Raw, Result, StubNode, block

SOMEBODY = "0x" + "11" * 20
ENDLESS = 600.0
DRIP = Raw(b" " * 10_000, every=0.2)
DRIPPING_HEADERS = Raw(b"{}", every=0.2, drip_headers=True)
ASKED: dict[str, Callable[[RpcPool], object]] = {
    "head": lambda pool: pool.head().number == 100,
    "balance": lambda pool: pool.balance(SOMEBODY) == 10**18,
    "block": lambda pool: pool.block(99, fresh=True).number == 99,
    "logs": lambda pool: pool.logs([SOMEBODY], 1, 50) == [],
    "broadcast": lambda pool: pool.broadcast(b"\x02").accepted,
    "receipt": lambda pool: pool.knows_transaction(b"\x01" * 32) is False,
}


@pytest.fixture
def well() -> Iterator[threading.Event]:
    """Set when the endpoint has become well again, and at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    "asked, answer", [*((asked, DRIP) for asked in ASKED), ("head", DRIPPING_HEADERS)]
)
def test_another_could_answer__it_is_asked(asked: str, answer: Raw, well: threading.Event) -> None:
    with (
        StubNode(lambda method, params: None if well.is_set() else answer) as bad,
        StubNode() as good,
    ):
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=ENDLESS, max_wait=0.2)
        for _ in range(2):
            assert ASKED[asked](pool)
            pool.endpoints[0].not_before = 0.0
        pool.renew()  # what is under way in other threads ends
        pool.close()


@pytest.mark.parametrize("asked", ASKED)
def test_it_begins_to_drip_when_it_was_trusted__another_is_asked(
    asked: str, well: threading.Event
) -> None:
    well.set()
    with (
        StubNode(lambda method, params: None if well.is_set() else DRIP) as bad,
        StubNode() as good,
    ):
        pool = RpcPool([bad.url, good.url], CHAIN, timeout=ENDLESS, max_wait=0.2)
        assert ASKED[asked](pool)
        well.clear()
        assert ASKED[asked](pool)
        pool.renew()
        pool.close()


def test_one_that_is_slow_and_right__is_waited_for_though_another_is_quick() -> None:
    """Whoever answers at once and lies does not teach us to give up on the others."""
    slow, quick = Endpoint("rpc1", "http://a"), Endpoint("rpc2", "http://b")
    for _ in range(50):
        quick.took("eth_call", 0.001)
    waits = []
    while slow.patience("eth_call") < 3.0:  # what it takes
        waits.append(slow.patience("eth_call"))
        slow.kept_waiting(waits[-1])
    assert len(waits) <= 3
    for _ in range(50):
        slow.took("eth_call", 3.0)
        assert slow.patience("eth_call") > 2 * 3.0


def test_patience__more_than_the_usual_wait__and_it_comes_back() -> None:
    endpoint = Endpoint("rpc1", "http://a")
    endpoint.took("eth_getLogs", 0.4)
    usual = endpoint.patience("eth_getLogs")
    assert usual > 4 * 0.4
    endpoint.kept_waiting(usual)
    assert endpoint.patience("eth_getLogs") > usual
    for _ in range(50):
        endpoint.took("eth_getLogs", 0.4)
    assert endpoint.patience("eth_getLogs") == pytest.approx(usual, rel=0.01)
    assert endpoint.patience("eth_call") < usual, "methods differ"


class Slept:
    """A clock that stands; how long somebody wanted to sleep."""

    def __init__(self) -> None:
        self.now, self.seconds = 100.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += seconds


READS: dict[str, Callable[[RpcPool], object]] = {
    **ASKED,
    "agreed": lambda pool: pool.agreed_block(99).number == 99,
    "estimate": lambda pool: pool.fees() is not None,
}


@pytest.mark.parametrize("asked", sorted(set(READS) - {"broadcast", "receipt"}))
def test_one_has_used_up_our_budget__nobody_waits_for_it(asked: str) -> None:
    """Each node may say that we ask too often. It must not set the pace of the others."""
    clock = Slept()
    with StubNode() as scarce, StubNode() as first, StubNode() as second:
        pool = RpcPool([scarce.url, first.url, second.url], CHAIN, clock=clock, sleep=clock.sleep)
        pool.head()
        for _ in range(5):
            pool.endpoints[0].budget.limited()
            pool.endpoints[0].budget.take(owed=True, wait=1.0)
            clock.seconds = 0.0
            assert READS[asked](pool)
            assert clock.seconds == 0.0
        pool.close()


@pytest.mark.parametrize("asked", READS)
def test_all_have_used_up_our_budget__it_is_waited_for(asked: str) -> None:
    clock = Slept()
    with StubNode() as one, StubNode() as other:
        pool = RpcPool([one.url, other.url], CHAIN, clock=clock, sleep=clock.sleep)
        pool.head()
        for _ in range(5):
            for endpoint in pool.endpoints:
                endpoint.budget.limited()
                endpoint.budget.take(owed=True, wait=1.0)
            assert READS[asked](pool)
        assert clock.seconds > 0.0
        pool.close()


def test_two_do_not_agree__the_third_is_waited_for() -> None:
    """Who has a say on what the chain is: to save a wait must not cost the vote that decides."""
    clock = Slept()

    def fork(method: str, params: list[Any]) -> Result | None:
        return Result(block(99) | {"hash": "0x" + "ee" * 32}) if params[:1] == [hex(99)] else None

    with StubNode() as scarce, StubNode(fork) as liar, StubNode() as honest:
        pool = RpcPool([scarce.url, liar.url, honest.url], CHAIN, clock=clock, sleep=clock.sleep)
        pool.head()
        pool.endpoints[0].budget.limited()
        pool.endpoints[0].budget.take(owed=True, wait=1.0)
        assert pool.agreed_block(99).hash == (99).to_bytes(32, "big")
        pool.close()
