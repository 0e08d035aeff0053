# SPDX-License-Identifier: Apache-2.0
"""How far event feeds have read, and what they have handed out."""

from __future__ import annotations

from provider_agent.store.database import Database
from provider_agent.store.rows import Mark, SeenLog


class Feeds(Database):
    """How far event feeds have read, and what they have handed out."""

    def cursor(self, feed: str) -> int | None:
        """The last block that the feed has read, or None at the first start."""
        row = self._db().execute("SELECT number FROM cursors WHERE feed = ?", (feed,)).fetchone()
        return None if row is None else int(row[0])

    def set_cursor(self, feed: str, number: int, block_hash: bytes, keep: int) -> None:
        """Move the cursor; forget marks and seen logs more than `keep` blocks behind it."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (feed, number))
            # What lies above the cursor belongs to a chain that is no longer there.
            db.execute("DELETE FROM marks WHERE feed = ? AND number > ?", (feed, number))
            db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (feed, number, block_hash))
            oldest = number - keep
            db.execute("DELETE FROM marks WHERE feed = ? AND number < ?", (feed, oldest))
            db.execute("DELETE FROM seen_logs WHERE feed = ? AND block_number < ?", (feed, oldest))

    def marks(self, feed: str) -> list[Mark]:
        """Blocks the feed has read up to, newest first."""
        rows = self._db().execute(
            "SELECT number, hash FROM marks WHERE feed = ? ORDER BY number DESC", (feed,)
        )
        return [Mark(row["number"], row["hash"]) for row in rows]

    def seen_logs(self, feed: str, first: int) -> list[SeenLog]:
        """Logs handed out by the feed from block `first` on."""
        rows = self._db().execute(
            "SELECT block_hash, log_index, block_number, object_id FROM seen_logs "
            "WHERE feed = ? AND block_number >= ? ORDER BY block_number, log_index",
            (feed, first),
        )
        return [SeenLog(*row) for row in rows]

    def add_seen_log(self, feed: str, log: SeenLog) -> None:
        """Remember that the feed has handed out a log."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO seen_logs VALUES (?, ?, ?, ?, ?)",
                (feed, log.block_hash, log.log_index, log.block_number, log.object_id),
            )

    def drop_seen_log(self, feed: str, log: SeenLog) -> None:
        """Forget a log that is no longer in the chain."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM seen_logs WHERE feed = ? AND block_hash = ? AND log_index = ?",
                (feed, log.block_hash, log.log_index),
            )
