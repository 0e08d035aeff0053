# SPDX-License-Identifier: Apache-2.0
"""The tables of leases: every schema that was shipped opens, and its rows say what they said."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from provider_agent.app import DATABASE
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.repository import LeasesRepository
from provider_agent.store import StoreError
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome
from tests.agent.leases.schema import BODY, MARKS, NOW, OPERATOR, TENANT, WORD, quote, terms

SCHEMAS = Path(__file__).parent / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.sql"))


def lay(folder: Path, name: str, change: str = "") -> Path:
    """The committed file of a schema as a database."""
    path = folder / DATABASE
    with sqlite3.connect(path) as db:
        db.executescript((SCHEMAS / f"{name}.sql").read_text() + change)
    db.close()
    return path


def test_schemas__each_one_is_kept() -> None:
    assert NAMES == ["1", "2"]


@pytest.mark.parametrize("name", NAMES)
def test_rows__of_an_older_agent__say_what_they_said(tmp_path: Path, name: str) -> None:
    store = open_store(lay(tmp_path, name), clock=lambda: float(NOW))
    try:
        leases = LeasesRepository(store)
        by_status = {row.status: row for row in leases.ours()}
        assigned, active = by_status[LeaseStatus.ASSIGNED], by_status[LeaseStatus.ACTIVE]
        assert active.terms == terms("active")
        assert (active.word, active.marks_word, active.seconds) == (WORD, MARKS, 2**70)
        assert (active.was_up, active.suspends, active.code) == (True, 2, Code.LEASE_DOWN)
        assert active.devices == {"web": ("GPU-1", "GPU-2")}
        assert assigned.images == {"web": "a@sha256:" + "0" * 64}
        ended = leases.lease(terms("ended").lease_id())
        assert ended is not None
        assert (ended.outcome, ended.ended_at) == (LeaseOutcome.DRY, NOW)
        (order,) = leases.takeable(8)
        assert (order.terms, order.is_ours) == (terms("open"), False)
        (kept,) = leases.quotes(OPERATOR, "live")
        assert (kept.quote, kept.devices) == (quote(), {"web": ("GPU-3",)})
        assert leases.spec(b"\x06" * 32) == BODY
        assert leases.spec_usage(TENANT) == (1, len(BODY))
        assert len(leases.names_spec(b"\x06" * 32, TENANT)) == 4
    finally:
        store.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE leases SET word = 'x';",
        "UPDATE leases SET terms = x'00' WHERE is_ours = 1;",
        "UPDATE lease_quotes SET rate = '-1';",
        "UPDATE meta SET value = 'x' WHERE key = 'leases.last_nonce';",
    ],
)
def test_rows__that_nobody_wrote__damage_is_found_at_the_start(tmp_path: Path, change: str) -> None:
    path = lay(tmp_path, "1", change)
    with pytest.raises(StoreError) as caught:
        open_store(path)
    assert caught.value.code is Code.DATABASE_DAMAGED


def test_old_rows__leave_the_tables(tmp_path: Path) -> None:
    store = open_store(lay(tmp_path, "1"), clock=lambda: float(NOW))
    try:
        leases = LeasesRepository(store)
        leases.forget_ended(NOW + 61)
        assert leases.lease(terms("ended").lease_id()) is None
        assert leases.quotes(OPERATOR, "live") == []
        assert leases.spec(b"\x06" * 32) is not None, "leases name it"
        leases.drop_open(NOW + 1)
        assert leases.lease(terms("open").lease_id()) is None
        assert len(leases.ours()) == 2
    finally:
        store.close()
