# SPDX-License-Identifier: Apache-2.0
"""Whether a database is what the agent wrote: SQLite's own check, then what the rows must say.

SQLite has no checksums: a flipped bit inside a value passes its check. So what moves money is
compared with what is known of it: signed bytes with their hash, terms with the id of their job.
"""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from pathlib import Path

from eth_utils.crypto import keccak

from provider_agent.store.errors import damaged
from provider_agent.store.rows import DONE, IntentState

_NEWEST = 1_000  # signed transactions, which a reorg may throw out


def check_file(db: sqlite3.Connection, path: Path) -> None:
    """SQLite's check of all pages and indexes. Raises StoreError, sqlite3.Error."""
    said = db.execute("PRAGMA integrity_check(1)").fetchone()
    if said is None or said[0] != "ok":
        first = "its check says nothing" if said is None else str(said[0]).splitlines()[-1]
        raise damaged(path, first)


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """What the rows of intents and transactions must say. Raises StoreError, sqlite3.Error."""
    if db.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise damaged(path, "a transaction belongs to no intent")
    check_states(db, path, "intents", IntentState)
    check_numbers(db, path, "intents", "value", "deadline")
    check_meta(db, path, "nonce_floor")
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
    # What may be sent once more: all that waits, and the newest.
    waiting = [state for state in IntentState if state not in DONE]
    marks = ", ".join("?" * len(waiting))
    for tx_hash, raw in db.execute(
        "SELECT hash, raw FROM transactions WHERE intent_id IN "  # noqa: S608 - marks only
        f"(SELECT id FROM intents WHERE state IN ({marks})) UNION SELECT * FROM "
        "(SELECT hash, raw FROM transactions ORDER BY nonce DESC LIMIT ?)",
        (*waiting, _NEWEST),
    ):
        if keccak(raw) != tx_hash:
            raise damaged(path, "a signed transaction does not have its hash")


def check_states(db: sqlite3.Connection, path: Path, table: str, states: type[StrEnum]) -> None:
    """Every row of a table has a state that is known."""
    marks = ", ".join("?" * len(states))
    query = f"SELECT count(*) FROM {table} WHERE state NOT IN ({marks})"  # noqa: S608 - our names
    if db.execute(query, tuple(states)).fetchone()[0]:
        raise damaged(path, f"a state in {table} is unknown")


def check_numbers(db: sqlite3.Connection, path: Path, table: str, *columns: str) -> None:
    """Numbers that are kept as text are numbers."""
    bad = " OR ".join(f"{name} GLOB '*[^0-9]*' OR {name} = ''" for name in columns)
    query = f"SELECT count(*) FROM {table} WHERE {bad}"  # noqa: S608 - our own names
    if db.execute(query).fetchone()[0]:
        raise damaged(path, f"a number in {table} is none")


def check_meta(db: sqlite3.Connection, path: Path, key: str) -> None:
    """A single remembered value is a number, if it is there."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is not None and not str(row[0]).isdecimal():
        raise damaged(path, f"{key} is not a number")
