# SPDX-License-Identifier: Apache-2.0
"""The transaction sender against a real node: whatever goes wrong, each intent lands once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.errors import KeyInUse
from provider_agent.modules.all import open_store
from provider_agent.store import Intent, IntentKey, IntentState, Store
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from tests.agent import counter
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.support.anvil import Anvil

CONFIRMATIONS = 2
MAX_FEE = 500 * 10**9
SEND = "eth_sendRawTransaction"


class Crash(BaseException):
    """The process dies here."""


class Desk:
    """One agent's view: a database, a proxied node, a sender; `restart` is a new process."""

    def __init__(self, anvil: Anvil, proxy: FaultyRpc, folder: Path, account: int = 0) -> None:
        self.anvil = anvil
        self.proxy = proxy
        self.key = OperatorKey(anvil.accounts[account])
        self.path = folder / f"agent{account}.sqlite"
        self.contract = counter.deploy(anvil)
        self.skew = 0.0
        self.options: dict[str, Any] = {}
        self.keys: list[IntentKey] = []
        self._open: list[Callable[[], None]] = []
        self.restart()

    def restart(self) -> None:
        self.close()
        self.store = open_store(self.path)
        self.pool = RpcPool([self.proxy.url], self.anvil.chain_id, timeout=0.4, max_wait=0.3)
        self._open = [self.store.close, self.pool.close]
        self.sender = Sender(
            self.pool,
            self.store,
            self.key,
            confirmations=CONFIRMATIONS,
            clock=lambda: time.time() + self.skew,
            **{"max_fee": MAX_FEE, **self.options},
        )

    def close(self) -> None:
        for end in self._open:
            end()
        self._open = []

    def submit(
        self, slot: int, mode: int = counter.COUNT, deadline: int | None = None
    ) -> IntentKey:
        key = IntentKey(self.contract, str(slot), f"count{mode}")
        self.sender.submit(key, self.contract, counter.calldata(slot, mode), deadline=deadline)
        if key not in self.keys:
            self.keys.append(key)
        return key

    def tick(self) -> None:
        """One tick; nodes that do not answer are what the agent's loop shrugs off, too."""
        try:
            self.sender.tick()
        except KeyInUse:
            raise
        except ChainError:
            pass

    def settle(self, ticks: int = 40) -> None:
        """Tick and mine until nothing is open."""
        for _ in range(ticks):
            self.tick()
            if all(self.intent(key).done for key in self.keys):
                return
            self.anvil.mine()
            for endpoint in self.pool.endpoints:
                endpoint.not_before = 0.0  # no waiting for back-off in tests
        states = {key: self.intent(key) for key in self.keys}
        raise AssertionError(f"not settled: {states} {self.sender.trouble}")

    def intent(self, key: IntentKey) -> Intent:
        found = self.store.intent(key)
        assert found is not None
        return found

    def wait(self, key: IntentKey) -> None:
        """Until the chain has mined what was sent last; even automatic mining takes a moment."""
        made = self.store.transactions_of(self.intent(key).id)[-1]
        self.anvil.wait("0x" + made.hash.hex())

    def landed(self, slot: int) -> int:
        return counter.count(self.anvil, self.contract, slot)

    def mined(self) -> int:
        return self.anvil.nonce(self.key.address)


@pytest.fixture
def proxy(anvil: Anvil) -> Iterator[FaultyRpc]:
    with FaultyRpc(anvil.url) as server:
        yield server


@pytest.fixture
def desk(anvil: Anvil, proxy: FaultyRpc, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(anvil, proxy, tmp_path)
    yield made
    made.close()


def _ticked(desk: Desk, slot: int) -> IntentKey:
    """A new intent after its first tick."""
    key = desk.submit(slot)
    desk.tick()
    return key


# ---------------------------------------------------------------------- the plain way


def test_submit__default_behavior(desk: Desk) -> None:
    key = desk.submit(1)
    assert desk.intent(key).state is IntentState.PLANNED
    desk.tick()
    assert desk.intent(key).state is IntentState.SENT
    desk.wait(key)
    desk.tick()
    assert desk.intent(key).state is IntentState.MINED
    desk.anvil.mine(CONFIRMATIONS - 1)
    desk.tick()
    assert desk.intent(key).state is IntentState.MINED
    desk.anvil.mine()
    desk.tick()
    final = desk.intent(key)
    assert final.state is IntentState.FINAL
    assert final.mined is not None
    assert final.mined.gas_used > 21_000
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_submit__twice__is_one_intent(desk: Desk) -> None:
    assert desk.submit(1) == desk.submit(1)
    desk.settle()
    desk.submit(1)
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_submit__many__keeps_several_in_flight(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    for slot in range(1, 41):
        desk.submit(slot)
    desk.tick()
    assert desk.store.count_intents()[IntentState.SENT] == 16
    desk.settle()
    assert [desk.landed(slot) for slot in range(1, 41)] == [1] * 40
    assert desk.mined() == 40


def test_tick__call_would_revert__costs_nothing(desk: Desk) -> None:
    key = desk.submit(1, counter.REFUSE)
    desk.tick()
    intent = desk.intent(key)
    assert (intent.state, intent.reason) == (IntentState.REVERTED, counter.REASON)
    assert intent.nonce is None
    assert desk.mined() == 0


def test_tick__reverts_when_mined__reason_is_found(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    first = desk.submit(1, counter.COUNT)
    second = desk.submit(1, counter.ONCE)
    desk.settle()
    assert desk.intent(first).state is IntentState.FINAL
    reverted = desk.intent(second)
    assert (reverted.state, reverted.reason) == (IntentState.REVERTED, counter.REASON)
    assert (desk.landed(1), desk.mined()) == (1, 2)


def test_tick__no_gas_money__waits_and_says_so(desk: Desk) -> None:
    desk.anvil.set_balance(desk.key.address, 0)
    key = desk.submit(1)
    desk.tick()
    assert not desk.intent(key).done
    assert "too little gas money" in desk.sender.trouble
    desk.anvil.set_balance(desk.key.address, 10**18)
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- nodes that misbehave

_SUBMIT_FAULTS = [
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


@pytest.mark.parametrize("automine", [True, False], ids=["automine", "manual"])
@pytest.mark.parametrize(("mode", "method", "times"), _SUBMIT_FAULTS)
def test_fault__each_mode__lands_once(
    desk: Desk, mode: Mode, method: str | None, times: int, automine: bool
) -> None:
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


@pytest.mark.parametrize("automine", [True, False], ids=["automine", "manual"])
@pytest.mark.parametrize(("owner", "name", "at", "after"), _CRASHES)
def test_crash__at_every_transition__lands_once(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    at: int,
    after: bool,
    automine: bool,
) -> None:
    desk.anvil.set_automine(automine)
    died = False
    with monkeypatch.context() as patch:
        _crash(patch, owner, name, at, after)
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
    third = _ticked(desk, 3)
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
    desk.wait(_ticked(desk, 1))
    desk.anvil.reorg(4)
    assert desk.mined() == 0
    # The reorg came before the sender saw its transaction mined: it is due for a reminder.
    desk.skew += 20.0
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 2)


# ---------------------------------------------------------------------- fees


def test_fees__stuck__replaced_by_at_least_an_eighth_more(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    raised = 20 * 10**9
    for _ in range(3):
        desk.anvil.set_next_base_fee(raised)
        desk.anvil.mine()
        desk.tick()
    assert desk.intent(key).state is IntentState.SENT
    desk.skew += 61.0
    desk.tick()
    cheap, dear = desk.store.transactions_of(desk.intent(key).id)
    assert cheap.nonce == dear.nonce
    assert dear.max_fee * 8 >= cheap.max_fee * 9
    assert dear.priority_fee * 8 >= cheap.priority_fee * 9
    assert dear.max_fee >= raised
    desk.settle()
    assert desk.intent(key).mined.tx_hash == dear.hash  # type: ignore[union-attr]  # it is FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_fees__stuck_at_the_cap__waits_and_says_so(desk: Desk) -> None:
    desk.options = {"max_fee": 3 * 10**9}
    desk.restart()
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    for _ in range(3):
        desk.anvil.set_next_base_fee(20 * 10**9)
        desk.anvil.mine()
        desk.tick()
    desk.skew += 61.0
    desk.tick()
    assert len(desk.store.transactions_of(desk.intent(key).id)) == 1
    assert "max_fee_gwei" in desk.sender.trouble
    # The node has dropped what it could not mine; the sender reminds it after a while.
    desk.skew += 20.0
    desk.anvil.set_next_base_fee(10**9)
    desk.anvil.mine()
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_fees__base_fee_above_cap__nothing_is_signed(desk: Desk) -> None:
    desk.options = {"max_fee": 10**6}
    desk.restart()
    key = desk.submit(1)
    desk.tick()
    assert desk.intent(key).state is IntentState.PLANNED
    assert "above chain.max_fee_gwei" in desk.sender.trouble


def test_fees__transaction_dropped_by_the_node__broadcast_again(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    made = desk.store.transactions_of(desk.intent(key).id)
    desk.anvil.drop_all_transactions()
    desk.skew += 20.0
    desk.settle()
    assert desk.store.transactions_of(desk.intent(key).id) == made
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- giving up


def test_abandon__planned__never_sent(desk: Desk) -> None:
    key = desk.submit(1)
    assert desk.sender.abandon(key, "not wanted") is IntentState.ABANDONED
    desk.settle()
    assert (desk.landed(1), desk.mined()) == (0, 0)


def test_abandon__waiting__nonce_is_freed(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key, other = desk.submit(1), desk.submit(2)
    desk.tick()
    desk.sender.abandon(key, "not wanted")
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert desk.intent(key).reason == "not wanted"
    assert desk.intent(other).state is IntentState.FINAL
    assert (desk.landed(1), desk.landed(2), desk.mined()) == (0, 1, 2)


def test_abandon__mined_already__the_call_counts(desk: Desk) -> None:
    key = _ticked(desk, 1)
    desk.wait(key)
    desk.sender.abandon(key, "too late")
    desk.settle()
    assert desk.intent(key).state is IntentState.FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


def test_deadline__passed_while_planned__never_sent(desk: Desk) -> None:
    key = desk.submit(1, deadline=desk.anvil.timestamp() - 1)
    desk.tick()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert desk.mined() == 0


def test_deadline__passed_while_waiting__cancelled(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    key = desk.submit(1, deadline=desk.anvil.timestamp() + 30)
    desk.tick()
    sent = desk.store.transactions_of(desk.intent(key).id)[0]
    desk.anvil.drop_transaction("0x" + sent.hash.hex())
    desk.anvil.increase_time(60)
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert (desk.landed(1), desk.mined()) == (0, 1)


def test_abandon__reorg_lets_the_call_win__is_seen(desk: Desk) -> None:
    desk.anvil.mine(12)
    desk.anvil.set_automine(False)
    key = desk.submit(1)
    desk.tick()
    call = desk.store.transactions_of(desk.intent(key).id)[0]
    desk.sender.abandon(key, "not wanted")
    desk.settle()
    assert desk.intent(key).state is IntentState.ABANDONED
    desk.anvil.reorg(6)
    desk.anvil.rpc(SEND, "0x" + call.raw.hex())
    desk.anvil.mine()
    desk.settle()
    assert desk.intent(key).state is IntentState.FINAL
    assert (desk.landed(1), desk.mined()) == (1, 1)


# ---------------------------------------------------------------------- two agents, one key


def test_two_senders__other_takes_the_nonce__key_in_use(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    desk.proxy.fault(Mode.DROP, SEND, times=3)  # ours does not get out
    key = desk.submit(1)
    desk.tick()
    desk.anvil.send(desk.key.address, desk.key.address)
    with pytest.raises(KeyInUse, match="another program sends with the key"):
        for _ in range(12):
            desk.anvil.mine()
            desk.tick()
    assert desk.intent(key).state is IntentState.ABANDONED
    assert (desk.landed(1), desk.mined()) == (0, 1)


def test_two_senders__other_goes_ahead__key_in_use_until_adopted(desk: Desk) -> None:
    desk.submit(1)
    desk.settle()
    desk.anvil.wait(desk.anvil.send(desk.key.address, desk.key.address))
    with pytest.raises(KeyInUse):
        desk.sender.tick()
    key = desk.submit(2)
    with pytest.raises(KeyInUse):
        desk.sender.tick()
    assert desk.intent(key).state is IntentState.PLANNED
    desk.restart()
    with pytest.raises(KeyInUse):
        desk.sender.start()
    desk.sender.start(adopt=True)
    desk.settle()
    assert (desk.landed(2), desk.mined()) == (1, 3)


def test_start__others_transactions_waiting__key_in_use(desk: Desk) -> None:
    desk.anvil.set_automine(False)
    desk.anvil.send(desk.key.address, desk.key.address)
    with pytest.raises(KeyInUse, match="did not send"):
        desk.sender.start()


def test_two_senders__racing__one_stops_and_nothing_lands_twice(
    desk: Desk, proxy: FaultyRpc, tmp_path: Path
) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    rival = Desk(desk.anvil, proxy, other_folder)
    try:
        stopped = 0
        for round_ in range(8):
            for one in (desk, rival):
                try:
                    one.submit(100 * (one is rival) + round_)
                    one.sender.tick()
                except KeyInUse:
                    stopped += 1
                except ChainError:
                    pass
            desk.anvil.mine()
        assert stopped > 0
        for one in (desk, rival):
            for key in one.keys:
                assert one.landed(int(key.object_id)) <= 1
    finally:
        rival.close()


def test_two_senders__other_chain_or_key__database_is_refused(desk: Desk, tmp_path: Path) -> None:
    desk.sender.start()
    desk.key = OperatorKey(desk.anvil.accounts[3])
    desk.restart()
    with pytest.raises(Exception, match="belongs to operator"):
        desk.sender.start()
