# SPDX-License-Identifier: Apache-2.0
"""What has ended, in a file of its own: found by key, never scanned, forgotten in time.

Nothing that is owed follows from it. So it is not checked at the start, and a damaged one is set
aside and begun again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from provider_agent.store import migration
from provider_agent.store.connections import Connections
from provider_agent.store.errors import StoreError, explain
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_DAMAGED = "-damaged"  # a file next to it: set it aside at the next start
_TABLES = ("jobs", "runs", "intents")
# Rows of a table that belong to one job or one intent, to replace what an earlier move wrote.
_KEYS = {"jobs": ("job_id",), "runs": ("run_id",), "intents": ("contract", "object_id", "action")}


class History(Connections):
    """See the module. `owner` is the agent; others only look."""

    def __init__(self, path: Path, clock: Callable[[], float], *, owner: bool) -> None:
        super().__init__(path, clock)
        self._owner = owner
        if not owner:
            return
        marker = Path(f"{path}{_DAMAGED}")
        if marker.exists():
            self._set_aside("it was damaged")
            marker.unlink()
        try:
            self._open()
        except StoreError as error:
            if error.code not in (
                Code.DATABASE_DAMAGED,
                Code.DATABASE_UNKNOWN,
                Code.DATABASE_FOREIGN,
            ):
                raise
            self._set_aside(str(error))
            self._open()

    def _open(self) -> None:
        try:
            self.path.touch(mode=0o600)
            migration.upgrade(self._db(), self.path, (migration.HISTORY,), self._clock())
        except (OSError, sqlite3.Error, ValueError) as error:
            self.close()
            raise explain(self.path, error) from error

    def _set_aside(self, why: str) -> None:
        self.close()
        aside = self.path.with_name(f"{self.path.name}.{self._now()}.damaged")
        log.warning("the history of ended jobs is begun again (%s); the old file is %s", why, aside)
        for side in ("-wal", "-shm"):
            Path(f"{self.path}{side}").unlink(missing_ok=True)
        if self.path.exists():
            self.path.rename(aside)

    # ------------------------------------------------------------------ looking

    def job(self, job_id: bytes) -> sqlite3.Row | None:
        """An ended job."""
        rows = self._rows("SELECT * FROM jobs WHERE job_id = ?", (job_id,))
        return rows[0] if rows else None

    def newest_jobs(self, number: int) -> list[sqlite3.Row]:
        """The jobs that ended last, the last one first."""
        return self._rows("SELECT * FROM jobs ORDER BY settled_at DESC LIMIT ?", (number,))

    def runs_of(self, job_id: bytes) -> list[sqlite3.Row]:
        """The runs of an ended job, oldest first."""
        query = "SELECT * FROM runs WHERE job_id = ? ORDER BY created_at, run_id"
        return self._rows(query, (job_id,))

    def intents_of(self, object_id: str) -> list[sqlite3.Row]:
        """The ended intents about an object, oldest first."""
        return self._rows("SELECT * FROM intents WHERE object_id = ? ORDER BY id", (object_id,))

    def totals(self, table: str) -> dict[str, int]:
        """How many rows of a table are here, by state."""
        rows = self._rows("SELECT state, number FROM totals WHERE name = ?", (table,))
        return {str(row[0]): int(row[1]) for row in rows}

    def _rows(self, query: str, values: Sequence[object]) -> list[sqlite3.Row]:
        """What a query finds. A history that cannot be read is as good as an empty one."""
        if not self.path.exists():
            return []
        try:
            return self._db().execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._note(error)
            return []

    def _note(self, error: sqlite3.Error) -> None:
        why = explain(self.path, error)
        log.warning("%s", why)
        if self._owner and why.code is Code.DATABASE_DAMAGED:
            Path(f"{self.path}{_DAMAGED}").touch(mode=0o600)

    # ------------------------------------------------------------------ coming and going

    def add(self, rows: dict[str, list[sqlite3.Row]]) -> None:
        """Keep rows by table, instead of any with the same keys. Raises sqlite3.Error."""
        with self.transaction() as db:
            for table in _TABLES:
                for row in rows.get(table, ()):
                    keys = " AND ".join(f"{key} = ?" for key in _KEYS[table])
                    values = [row[key] for key in _KEYS[table]]
                    db.execute(f"DELETE FROM {table} WHERE {keys}", values)  # noqa: S608 - ours
                    names, marks = ", ".join(row.keys()), ", ".join("?" * len(row.keys()))
                    insert = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - ours
                    db.execute(insert, tuple(row))

    def forget(self, before: int, limit: int) -> list[bytes]:
        """Delete jobs that ended before a time, the oldest first, and what belongs to them; their
        ids. Other ended intents go with their age.
        """
        with self.transaction() as db:
            found = db.execute(
                "SELECT job_id FROM jobs WHERE settled_at < ? ORDER BY settled_at LIMIT ?",
                (before, limit),
            )
            gone = [bytes(row[0]) for row in found]
            _delete(db, gone)
            db.execute(
                "DELETE FROM intents WHERE (contract, object_id, action) IN (SELECT contract, "
                "object_id, action FROM intents WHERE updated_at < ? LIMIT ?)",
                (before, limit),
            )
        return gone


def _delete(db: sqlite3.Connection, jobs: Iterable[bytes]) -> None:
    for job_id in jobs:
        db.execute("DELETE FROM runs WHERE job_id = ?", (job_id,))
        db.execute("DELETE FROM intents WHERE object_id = ?", (job_id.hex(),))
        db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
