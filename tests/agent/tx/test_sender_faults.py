# SPDX-License-Identifier: Apache-2.0
"""Nodes that misbehave, processes that die, chains that go back: each intent lands once."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from provider_agent.store import IntentState, Store
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from tests.agent import counter
from tests.agent.faulty_rpc import Mode
from tests.agent.tx.desk import SEND, Desk, ticked
from tests.support import budget

MINING = (True, False)  # each transaction at once, or when the test says so


class Crash(BaseException):
    """The process dies here."""


def _name(case: object) -> str:
    """Of a case, in the name of its test."""
    if isinstance(case, tuple):
        return "-".join(getattr(part, "__name__", str(part)) for part in case)
    return "automine" if case else "manual"


# ---------------------------------------------------------------------- nodes that misbehave

_SUBMIT_FAULTS: list[tuple[Mode, str | None, int]] = [
    (mode, method, times)
    for mode in (
        Mode.HANG,
        Mode.DROP,
        Mode.DROP_RESPONSE,
        Mode.ERROR_500,
        Mode.RATE_LIMIT,
        Mode.RATE_LIMIT_RPC,
        Mode.GARBAGE,
        Mode.NONCE_TOO_LOW,
        Mode.UNDERPRICED,
        Mode.KNOWN,
        Mode.KNOWN_AFTER,
        Mode.NONCE_TOO_LOW_AFTER,
    )
    for method, times in ((SEND, 1), (SEND, 3))
] + [
    (mode, None, 4)
    for mode in (Mode.HANG, Mode.DROP, Mode.ERROR_500, Mode.RATE_LIMIT, Mode.GARBAGE)
]


@pytest.mark.parametrize(("fault", "automine"), budget.crossed(_SUBMIT_FAULTS, MINING), ids=_name)
def test_fault__each_mode__lands_once(
    desk: Desk, fault: tuple[Mode, str | None, int], automine: bool
) -> None:
    mode, method, times = fault
    desk.anvil.set_automine(automine)
    desk.options = {"replace_after": 1.0}
    desk.restart()
    rule = desk.proxy.fault(mode, method, times=times)
    first, second = desk.submit(1), desk.submit(2)
    for _ in range(3):
        desk.tick()
        for endpoint in desk.pool.endpoints:
            endpoint.not_before = 0.0
    # "Known" without having it is the one lie that only time uncovers.
    desk.skew += 120.0
    desk.settle()
    assert rule.applied > 0
    assert {desk.intent(key).state for key in (first, second)} == {IntentState.FINAL}
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (1, 1, 2)


@pytest.mark.parametrize(
    "method",
    [
        "eth_getTransactionReceipt",
        "eth_getTransactionCount",
        "eth_getBlockByNumber",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_getTransactionByHash",
    ],
)
@pytest.mark.parametrize("mode", [Mode.ERROR_500, Mode.GARBAGE, Mode.NULL])
def test_fault__reads__lands_once(desk: Desk, method: str, mode: Mode) -> None:
    desk.proxy.fault(Mode.DROP_RESPONSE, SEND, times=1)
    desk.proxy.fault(mode, method, times=2)
    desk.submit(1)
    desk.submit(2)
    desk.settle()
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (1, 1, 2)


@pytest.mark.parametrize("behind", [1, 3, 8])
def test_fault__node_lags__lands_once(desk: Desk, behind: int) -> None:
    desk.anvil.mine(10)
    desk.options = {"replace_after": 0.0}
    desk.restart()
    desk.submit(1)
    desk.submit(2)
    rule = desk.proxy.fault(Mode.LAG, blocks=behind)
    for _ in range(6):
        desk.tick()
        desk.anvil.mine()
    desk.proxy.clear()
    desk.settle()
    assert rule.applied > 0
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (1, 1, 2)


def test_fault__wrong_chain__nothing_is_sent(desk: Desk) -> None:
    desk.proxy.fault(Mode.WRONG_CHAIN)
    desk.submit(1)
    with pytest.raises(ChainError, match="no RPC endpoint is on chain"):
        desk.sender.tick()
    assert desk.proxy.count(SEND) == 0


# ---------------------------------------------------------------------- the process dies


def _crash(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, at: int, after: bool) -> None:
    """Die before or after the call number `at` (from 0) of a method."""
    real = getattr(owner, name)
    calls = itertools.count()

    def dying(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if number == at and not after:
            raise Crash
        result = real(*args, **kwargs)
        if number == at:
            raise Crash
        return result

    monkeypatch.setattr(owner, name, dying)


_CRASHES = [
    *((Store, "set_intent_state", n, after) for n in range(8) for after in (False, True)),
    *((Store, "add_intent", n, after) for n in range(2) for after in (False, True)),
    *((RpcPool, "broadcast", n, after) for n in range(2) for after in (False, True)),
]


@pytest.mark.parametrize(("crash", "automine"), budget.crossed(_CRASHES, MINING), ids=_name)
def test_crash__at_every_transition__lands_once(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    crash: tuple[type, str, int, bool],
    automine: bool,
) -> None:
    desk.anvil.set_automine(automine)
    died = False
    with monkeypatch.context() as patch:
        _crash(patch, *crash)
        try:
            desk.submit(1)
            desk.submit(2)
            desk.settle()
        except Crash:
            died = True
    assert died
    desk.restart()
    desk.submit(1)
    desk.submit(2)
    desk.settle()
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (1, 1, 2)
    assert [i.nonce for i in desk.store.intents_in(IntentState.FINAL)] == [0, 1]


# ---------------------------------------------------------------------- the chain changes its mind


@pytest.mark.parametrize("how", ["reorg", "rollback"])
@pytest.mark.parametrize("depth", range(1, 11))
def test_reorg__any_depth__lands_once(desk: Desk, depth: int, how: str) -> None:
    desk.anvil.mine(12)
    first, second = desk.submit(1), desk.submit(2)
    desk.settle()
    desk.anvil.mine(depth - 1)
    third = ticked(desk, 3)
    desk.wait(third)
    desk.tick()
    raws = {key: desk.store.transactions_of(desk.intent(key).id) for key in desk.keys}
    getattr(desk.anvil, how)(depth)
    desk.tick()
    desk.settle()
    desk.tick()
    desk.settle()
    for key in (first, second, third):
        assert desk.intent(key).state is IntentState.FINAL
        assert desk.store.transactions_of(desk.intent(key).id) == raws[key]
    assert [desk.landed(slot) for slot in (1, 2, 3)] == [1, 1, 1]
    assert desk.mined() == 3


def test_reorg__while_the_process_is_down__lands_once(desk: Desk) -> None:
    desk.anvil.mine(12)
    key = desk.submit(1)
    desk.settle()
    desk.close()
    desk.anvil.reorg(6)
    desk.restart()
    assert desk.landed(1) == 0
    desk.tick()
    assert desk.intent(key).state is IntentState.SENT
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_reorg__result_of_a_revert__is_watched_too(desk: Desk) -> None:
    desk.anvil.mine(12)
    desk.anvil.set_automine(False)
    desk.submit(1, counter.COUNT)
    second = desk.submit(1, counter.ONCE)
    desk.settle()
    assert desk.intent(second).state is IntentState.REVERTED
    desk.anvil.reorg(5)
    desk.tick()
    assert not desk.intent(second).done
    desk.settle()
    assert desk.intent(second).state is IntentState.REVERTED
    assert (desk.landed(1), desk.mined()) == (1, 2)


def test_reorg__earlier_transactions_never_return__gap_is_filled(desk: Desk) -> None:
    desk.anvil.mine(5)
    # The key was used by hand before the agent's first start; a reorg takes that away.
    desk.anvil.wait(desk.anvil.send(desk.key.address, desk.key.address))
    desk.wait(ticked(desk, 1))
    desk.anvil.reorg(4)
    assert desk.mined() == 0
    # The reorg came before the sender saw its transaction mined: it is due for a reminder.
    desk.skew += 20.0
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 2)
