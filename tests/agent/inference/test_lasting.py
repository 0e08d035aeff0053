# SPDX-License-Identifier: Apache-2.0
"""The model's server works while a voucher is made durable, and no answer leaves before it is."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.store import Store
from teraproof.protocol import x402
from teraproof.protocol.inference import PATHS
from tests.agent.api_rig import wait_until
from tests.agent.inference.rig import Rig, request_of, serve


class Disk:
    """Holds up every commit that has to last until a test says what becomes of it."""

    def __init__(self) -> None:
        self.asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.fates: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = Journal._commit

        def slow(journal: Journal, parts: list[Any]) -> None:
            if any(part.lasting for part in parts):
                self.asked.put(None)
                if not self.fates.get(timeout=30):
                    journal = Journal(_Full())  # type: ignore[arg-type]  # all that is used
            commit(journal, parts)

        monkeypatch.setattr(Journal, "_commit", slow)

    def turn(self, fate: bool = True) -> None:
        """The next commit that has to last succeeds, or fails."""
        self.asked.get(timeout=30)
        self.fates.put(fate)


class _Full:
    def transaction(self, **_: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path) as found:
        yield found


class Reader(threading.Thread):
    """A payer, and what it gets: `status` and `pieces` of the answer, as they come."""

    def __init__(self, rig: Rig, stream: bool) -> None:
        super().__init__(daemon=True)
        self.wallet = rig.fund()
        asked: dict[str, Any] = {"stream": stream, "max_tokens": 4}
        terms = rig.terms(**asked)
        self._url, self._body = rig.url + PATHS["chat"], request_of("chat", **asked)
        self._headers = {x402.SIGNATURE_HEADER: self.wallet.pay(terms.amount, terms).encode()}
        self.status, self.pieces = 0, bytearray()
        self.start()

    def run(self) -> None:
        with (
            httpx.Client(timeout=60) as client,
            client.stream("POST", self._url, json=self._body, headers=self._headers) as answer,
        ):
            self.status = answer.status_code
            for piece in answer.iter_raw():
                self.pieces += piece

    def has_nothing(self) -> bool:
        self.join(0.2)
        return (self.status, bytes(self.pieces)) == (0, b"")


@pytest.mark.parametrize("stream", [False, True])
def test_answer__waits_for_the_disk_and_the_servers_work_does_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    disk = Disk()
    disk.install(monkeypatch)
    reader = Reader(rig, stream)
    disk.asked.get(timeout=30)  # the commit that makes the voucher durable
    wait_until(lambda: bool(rig.server.asked), 30)
    assert reader.has_nothing()
    disk.fates.put(True)
    if stream:
        disk.turn()  # the receipt
    reader.join(30)
    assert reader.status == 200
    assert reader.wallet.row.charged > 0


@pytest.mark.parametrize("stream", [False, True])
def test_disk_is_full__no_answer_leaves_and_nothing_is_charged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    disk = Disk()
    disk.install(monkeypatch)
    reader = Reader(rig, stream)
    disk.turn(False)
    disk.turn(True)  # the request is open no more
    reader.join(30)
    assert reader.status == 500
    assert b"word" not in reader.pieces
    row = reader.wallet.row
    assert (row.charged, row.is_open) == (0, False)


@pytest.mark.parametrize(
    ("stream", "wanted"),
    [
        (False, [("begin", 1), ("end", 2)]),
        (True, [("begin", 1), ("hold", 2), ("end", 2)]),
    ],
)
def test_begin__does_not_wait_for_the_disk_and_the_next_write_does(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, stream: bool, wanted: list[tuple[str, int]]
) -> None:
    """1 is SQLite's NORMAL, 2 its FULL."""
    levels: list[tuple[str, int]] = []
    for name in ("begin", "hold", "end", "abandon"):
        method = getattr(ChannelBook, name)

        def noted(book: Any, *args: Any, name: str = name, method: Any = method) -> Any:
            found = method(book, *args)
            levels.append((name, book._db().execute("PRAGMA synchronous").fetchone()[0]))
            return found

        monkeypatch.setattr(ChannelBook, name, noted)
    reader = Reader(rig, stream)
    reader.join(30)
    assert (reader.status, levels) == (200, wanted)


def test_transaction__lasts_unless_it_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "agent.sqlite")

    def level(**said: bool) -> int:
        with store.transaction(**said) as db:
            return int(db.execute("PRAGMA synchronous").fetchone()[0])

    try:
        assert [level(), level(lasting=False), level(), level(lasting=False)] == [2, 1, 2, 1]
        with store.transaction(lasting=False), store.transaction() as db:  # the outer one decides
            assert db.execute("PRAGMA synchronous").fetchone()[0] == 1
        assert level(lasting=True) == 2
    finally:
        store.close()
