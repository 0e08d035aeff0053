# SPDX-License-Identifier: Apache-2.0
"""One agent's sender on a real node, behind a proxy that can spoil every answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provider_agent.errors import KeyInUse
from provider_agent.store import Intent, IntentKey
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from tests.agent import counter
from tests.agent.faulty_rpc import FaultyRpc
from tests.agent.stores import fresh_store
from tests.support.anvil import Anvil

CONFIRMATIONS = 2
MAX_FEE = 500 * 10**9
SEND = "eth_sendRawTransaction"


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
        self.store = fresh_store(self.path)
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


def ticked(desk: Desk, slot: int) -> IntentKey:
    """A new intent after its first tick."""
    key = desk.submit(slot)
    desk.tick()
    return key
