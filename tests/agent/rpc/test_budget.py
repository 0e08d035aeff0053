# SPDX-License-Identifier: Apache-2.0
"""Requests within a budget: below the provider's rate, what we owe first, strangers apart."""

from __future__ import annotations

import time
from typing import Any

import pytest

from teraproof.rpc.budget import Budget
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BudgetSpent
from tests.agent.stub_node import CHAIN, Raw, StubNode

SOMEBODY = "0x" + "11" * 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_take__no_second_sees_more_than_the_rate() -> None:
    clock = Clock()
    budget = Budget(20, clock=clock, sleep=clock.sleep)
    taken = []
    while clock.now < 110:
        assert budget.take(owed=True, wait=5)
        taken.append(clock.now)
    for start in taken:
        assert sum(start <= at < start + 1 for at in taken) <= 21
    assert len(taken) > 10 * 12


def test_take__what_we_owe_finds_tokens_when_others_wait() -> None:
    clock = Clock()
    budget = Budget(20, clock=clock, sleep=clock.sleep)
    while budget.take(owed=False, wait=0):
        pass
    assert budget.take(owed=True, wait=0)
    assert budget.take(owed=True, wait=0)
    assert not budget.take(owed=False, wait=0)


def test_limited__rate_is_learnt_and_grows_again() -> None:
    clock = Clock()
    budget = Budget(None, clock=clock, sleep=clock.sleep)
    for _ in range(50):
        assert budget.take(owed=True, wait=0)
        clock.now += 0.02
    budget.limited()
    assert budget.rate is not None and 30 < budget.rate < 45
    learnt = budget.rate
    clock.now += 10
    budget.take(owed=True, wait=0)
    assert budget.rate > learnt


def limiting(rate: float) -> Any:
    """A provider with a limit of requests per second."""
    seen: list[float] = []
    state = {"hits": 0}

    def rule(method: str, params: list[Any]) -> Raw | None:
        now = time.monotonic()
        seen[:] = [at for at in seen if now - at < 1]
        if len(seen) >= rate:
            state["hits"] += 1
            return Raw(b"slow down", 429)
        seen.append(now)
        return None

    return rule, state


def test_budget_below_the_providers_limit__never_limited() -> None:
    rule, state = limiting(25)
    with StubNode(rule) as node:
        pool = RpcPool([node.url], CHAIN, 2.0, rate=lambda url: 20.0)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pool.balance(SOMEBODY)
        pool.close()
    assert state["hits"] == 0
    assert len(node.calls) > 35


def test_limited_provider__learnt__reads_go_on() -> None:
    rule, state = limiting(25)
    with StubNode(rule) as node:
        pool = RpcPool([node.url], CHAIN, 2.0)
        end, done = time.monotonic() + 5, 0
        while time.monotonic() < end:
            pool.balance(SOMEBODY)
            done += 1
        pool.close()
    assert done > 50
    assert state["hits"] <= 6


def test_strangers__a_budget_and_a_pool_of_their_own() -> None:
    """However often strangers ask, the loop's endpoint is well, and they get what is theirs."""
    with StubNode() as node:
        ours = RpcPool([node.url], CHAIN, 2.0)
        theirs = RpcPool(
            [node.url], CHAIN, 2.0, max_wait=0, rounds=1, rate=lambda url: 2.0, burst=8
        )
        spent = 0
        begin = time.monotonic()
        while time.monotonic() - begin < 2:
            try:
                theirs.balance(SOMEBODY)
            except BudgetSpent:
                spent += 1
                time.sleep(0.001)
        assert spent > 100
        assert node.count("eth_getBalance") <= 8 + 2 * 2 + 1
        assert theirs.endpoints[0].failures == 0
        ours.balance(SOMEBODY)
        assert ours.endpoints[0].failures == 0
        ours.close()
        theirs.close()


@pytest.mark.parametrize("owed", [True, False])
def test_owed__is_of_the_thread_and_ends(owed: bool) -> None:
    with StubNode() as node:
        pool = RpcPool([node.url], CHAIN, 2.0)
        if owed:
            with pool.owed():
                assert pool._is_owed()
        assert not pool._is_owed()
        pool.close()
