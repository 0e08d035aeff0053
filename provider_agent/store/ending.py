# SPDX-License-Identifier: Apache-2.0
"""Moves what has ended out of the tables that a cycle reads, into the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from provider_agent.store.database import Database
from provider_agent.store.rows import DONE


class Ending(Database):
    """Moves ended intents into the history.

    A row goes in two steps, first into the history and then from here, so that it is never
    nowhere; one that is in both counts as here. The newest nonce never goes: the next one follows
    from it, whatever becomes of the history.
    """

    def end_intents(self, deep: int, before: int, limit: int, apart: str = "") -> int:
        """Move ended intents; how many went. Those of the contract `apart` go with rows of its own
        module.
        """
        with self.transaction() as db:
            top = db.execute("SELECT max(nonce) FROM intents").fetchone()[0]
            marks = ", ".join("?" * len(DONE))
            query = (
                f"SELECT * FROM intents WHERE state IN ({marks}) "  # noqa: S608 - marks only
                "AND contract <> ? AND updated_at < ? LIMIT ?"
            )
            found = [
                row
                for row in db.execute(query, (*DONE, apart, before, limit)).fetchall()
                if is_settled(row, deep, top)
            ]
            self.history.keep_intents(found)
            drop_intents(db, found)
        return len(found)

    def give_back_room(self) -> None:
        """Make the file small again when most of it is empty, as after an upgrade."""
        db = self._db()
        pages = int(db.execute("PRAGMA page_count").fetchone()[0])
        free = int(db.execute("PRAGMA freelist_count").fetchone()[0])
        if free > 4096 and free > pages // 2:
            db.execute("VACUUM")


def is_settled(intent: sqlite3.Row, deep: int, top: int | None) -> bool:
    """Whether nothing more will happen to an intent, in any reorg that is followed."""
    block = intent["block_number"]
    newest = top is not None and intent["nonce"] == top
    return intent["state"] in DONE and (block is None or block < deep) and not newest


def drop_intents(db: sqlite3.Connection, intents: Iterable[sqlite3.Row]) -> None:
    """Delete intents and what was signed for them."""
    for intent in intents:
        db.execute("DELETE FROM transactions WHERE intent_id = ?", (intent["id"],))
        db.execute("DELETE FROM intents WHERE id = ?", (intent["id"],))
