# SPDX-License-Identifier: Apache-2.0
"""What every module that sells something does alike: clocks, devices, its duty, tidying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from provider_agent.core.business import Business
from provider_agent.core.clock import ChainClock, Drift
from provider_agent.core.fleet import Fleet
from provider_agent.core.following import Following
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle
from provider_agent.core.pay import Pay
from provider_agent.devices import Survey
from provider_agent.modules.all import open_store
from teraproof.contracts.base import Event
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef

BLOCK = BlockRef(1, b"1" * 32, 1_000_000)


class Duty:
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.is_idle = False

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        self.heard.append((events, again))


class Shop(Business):
    """A module that sells nothing."""

    name = "shop"

    def __init__(self, following: Following) -> None:
        self.duty, self.now, self.done = Duty(), 50.0, list[str]()
        self.fails = False
        fleet = Fleet(0, lambda: Survey(()), lambda path: True)
        self.set_up(self.duty, following, fleet, lambda: self.now)

    @classmethod
    def build(cls, context: Context) -> Self | None:
        return None

    def work(self, cycle: Cycle) -> None:
        self.done.append("work")
        if self.fails:
            raise ChainError("no node answers")

    def tidy(self) -> None:
        self.done.append("tidy")

    def checks_of_its_own(self) -> Sequence[Callable[[], Check]]:
        return [lambda: Check("shelf", False, "empty")]


@pytest.fixture
def wall() -> list[float]:
    return [1_000_000.0]


@pytest.fixture
def following(wall: list[float]) -> Following:
    return Following(ChainClock(lambda: wall[0]), Drift(120, lambda: wall[0]), stale=30)


@pytest.fixture
def shop(following: Following) -> Shop:
    return Shop(following)


def test_cycle__does_what_is_owed_and_tidies_now_and_then(shop: Shop) -> None:
    for _ in range(3):
        shop.reconcile(Cycle(BLOCK, BLOCK, None))
        shop.now += 299
    assert shop.done == ["work", "tidy", "work", "work"]
    shop.now += 10
    shop.reconcile(Cycle(BLOCK, BLOCK, None))
    assert shop.done[-2:] == ["work", "tidy"]


def test_cycle_that_fails__tidies_the_next_time(shop: Shop) -> None:
    shop.fails = True
    with pytest.raises(ChainError):
        shop.reconcile(Cycle(BLOCK, BLOCK, None))
    shop.fails = False
    shop.reconcile(Cycle(BLOCK, BLOCK, None))
    assert shop.done == ["work", "work", "tidy"]


def test_news__is_the_dutys(shop: Shop) -> None:
    shop.consume([], [b"1"])
    assert shop.duty.heard == [([], [b"1"])]
    assert not shop.is_idle
    shop.duty.is_idle = True
    assert shop.is_idle


@pytest.mark.parametrize(("off", "ok"), [(0, True), (-119, True), (121, False), (-121, False)])
def test_clock_that_is_wrong__not_ready_and_nothing_is_promised(
    shop: Shop, following: Following, wall: list[float], off: int, ok: bool
) -> None:
    following.clock.see(BLOCK.timestamp)
    for number in range(2):
        head = BlockRef(number, bytes([number]) * 32, int(wall[0]) + off)
        shop.reconcile(Cycle(BLOCK, head, None))
    clock, own = (check() for check in shop.ready())
    assert (clock.name, clock.ok) == ("clock", ok)
    assert (own.name, own.ok) == ("shelf", False)
    refusal = following.refuse()
    assert (refusal is None) is ok
    assert refusal is None or refusal.code is Code.AGENT_NOT_READY


def test_chain_that_was_not_looked_at__nothing_is_promised(
    following: Following, wall: list[float]
) -> None:
    refusal = following.refuse()
    assert refusal is not None and refusal.code is Code.AGENT_NOT_READY
    following.clock.see(BLOCK.timestamp)
    assert following.refuse() is None
    wall[0] += 31
    assert following.refuse() is not None
    following.clock.see(BLOCK.timestamp)
    assert following.refuse() is None


def test_pay__known_without_a_node_and_each_module_has_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path / "agent.sqlite")
    try:
        assert Pay.kept(store, "jobs") is None
        Pay(6, "USD").keep(store, "jobs")
        Pay(18, "").keep(store, "leases")
        assert Pay.kept(store, "jobs") == Pay(6, "USD")
        assert Pay.kept(store, "leases") == Pay(18, "")
    finally:
        store.close()
