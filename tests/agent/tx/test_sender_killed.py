# SPDX-License-Identifier: Apache-2.0
"""The process dies behind any write to the disk, or any sending: whatever a node has of ours is
known to the next process, and nothing lands twice.

Between two of them there is nothing that another process could see.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from provider_agent.store import connections
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import Broadcast
from tests.agent.faulty_rpc import FaultyRpc
from tests.agent.tx.desk import Desk
from tests.support.anvil import Anvil

_MOST = 1_000  # steps of one life; far more than there are
_WRITES = ("INSERT", "UPDATE", "DELETE")


class Killed(BaseException):
    """The process dies here."""


class Life:
    """Counts what a process has written and sent, and ends it behind the step of number `last`."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        """Something is on the disk, or with the node."""
        if self._left == 0:
            raise Killed
        self._left -= 1


class Written:
    """A database connection. What is written in a transaction is on the disk with its COMMIT."""

    def __init__(self, real: sqlite3.Connection, life: Life) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, statement: str, *values: Any) -> Any:
        """Run a statement."""
        alone = statement.startswith(_WRITES) and not self._real.in_transaction
        done = self._real.execute(statement, *values)
        if alone or statement == "COMMIT":
            self._life.step()
        return done


def born(patch: pytest.MonkeyPatch, desk: Desk, life: Life) -> None:
    """A new process; its steps count from here on."""
    real = connections.connect
    desk.restart()
    desk.store.close()  # each thread connects again, by the counted way
    patch.setattr(connections, "connect", lambda path: Written(real(path), life))
    broadcast = RpcPool.broadcast

    def sent(pool: RpcPool, raw: bytes) -> Broadcast:
        answer = broadcast(pool, raw)
        life.step()
        return answer

    patch.setattr(RpcPool, "broadcast", sent)


def work(desk: Desk) -> None:
    """Calls that land, wait for a dearer replacement, are given up, and leave the tables."""
    desk.submit(1)
    given_up = desk.submit(2)
    desk.tick()
    for _ in range(2):
        desk.anvil.set_next_base_fee(20 * 10**9)  # it cannot be mined at its price
        desk.anvil.mine()
        desk.tick()
    desk.skew += 61
    desk.tick()
    desk.sender.abandon(given_up, "not wanted")
    desk.settle()
    desk.anvil.mine(3)
    desk.store.end_intents(desk.anvil.number(), 2**40, 9)
    desk.submit(3)
    desk.settle()


def test_killed_between_any_two_steps__no_call_of_ours_is_a_strangers(
    anvil: Anvil, proxy: FaultyRpc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for last in range(_MOST):
        anvil.reset()
        place = tmp_path / str(last)
        place.mkdir()
        desk = Desk(anvil, proxy, place)
        anvil.set_automine(False)
        died = False
        with monkeypatch.context() as patch:
            born(patch, desk, Life(last))
            try:
                work(desk)
            except Killed:
                died = True
        desk.restart()
        desk.sender.start()  # raises KeyInUse where a nonce was lost
        desk.keys.clear()
        for slot in (1, 3, 4):
            desk.submit(slot)
        desk.settle()
        assert [desk.landed(slot) for slot in (1, 3, 4)] == [1, 1, 1], last
        assert desk.landed(2) <= 1
        assert desk.mined() == desk.store.next_nonce(), last
        desk.close()
        if not died:
            assert last > 20
            return
    raise AssertionError("a life without end")
