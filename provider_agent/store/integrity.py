# SPDX-License-Identifier: Apache-2.0
"""Whether a database is what the agent wrote: SQLite's own check, then what the rows must say.

SQLite has no checksums: a flipped bit inside a value passes its check. So what moves money is
compared with what is known of it: signed bytes with their hash, terms with the id of their job.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eth_utils.crypto import keccak

from provider_agent.store.errors import damaged
from provider_agent.store.rows import IntentState, RunStage

_TAKEN = (2, 3)  # assigned, attested
_NUMBERS = {
    "jobs": ("price", "assigned_at", "attested_at", "paused", "started", "finished"),
    "quotes": ("nonce", "price", "collateral", "duration"),
    "intents": ("value", "deadline"),
}
_META_NUMBERS = ("nonce_floor", "quotes.last_nonce")


def check_file(db: sqlite3.Connection, path: Path) -> None:
    """SQLite's check of all pages and indexes. Raises StoreError, sqlite3.Error."""
    said = db.execute("PRAGMA integrity_check(1)").fetchone()
    if said is None or said[0] != "ok":
        first = "its check says nothing" if said is None else str(said[0]).splitlines()[-1]
        raise damaged(path, first)


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """What the rows of today's schema must say. Raises StoreError, sqlite3.Error."""
    if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise damaged(path, "a transaction belongs to no intent")
    for table, states in (("intents", IntentState), ("runs", RunStage)):
        marks = ", ".join("?" * len(states))
        query = f"SELECT count(*) FROM {table} WHERE state NOT IN ({marks})"  # noqa: S608 - ours
        if db.execute(query, tuple(states)).fetchone()[0]:
            raise damaged(path, f"a state in {table} is unknown")
    for table, columns in _NUMBERS.items():
        bad = " OR ".join(f"{name} GLOB '*[^0-9]*' OR {name} = ''" for name in columns)
        if db.execute(f"SELECT count(*) FROM {table} WHERE {bad}").fetchone()[0]:  # noqa: S608 - ours
            raise damaged(path, f"a number in {table} is none")
    for key in _META_NUMBERS:
        row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is not None and not str(row[0]).isdecimal():
            raise damaged(path, f"{key} is not a number")
    wrong = db.execute(
        "SELECT count(*) FROM transactions JOIN intents ON intents.id = intent_id "
        "WHERE transactions.nonce IS NOT intents.nonce"
    ).fetchone()[0]
    unsigned = db.execute(
        "SELECT count(*) FROM intents WHERE nonce IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM transactions WHERE intent_id = intents.id)"
    ).fetchone()[0]
    if wrong or unsigned:
        raise damaged(path, "a nonce is not that of its transaction")
    for tx_hash, raw in db.execute("SELECT hash, raw FROM transactions"):
        if keccak(raw) != tx_hash:
            raise damaged(path, "a signed transaction does not have its hash")
    for job_id, terms in db.execute(
        "SELECT job_id, terms FROM jobs WHERE status IN (?, ?)", _TAKEN
    ):
        if keccak(terms) != job_id:
            raise damaged(path, "the terms of a job do not have its id")
