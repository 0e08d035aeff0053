# SPDX-License-Identifier: Apache-2.0
"""What has ended, in a file of its own: found by key, never scanned, forgotten in time.

Intents are the agent's own. The modules hand over the rows of their tables, and know them alone.
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

    def find(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What a query finds. A history that cannot be read is as good as an empty one."""
        if not self.path.exists():
            return []
        try:
            return self._db().execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._note(error)
            return []

    def intents_of(self, object_id: str) -> list[sqlite3.Row]:
        """The ended intents about an object, oldest first."""
        return self.find("SELECT * FROM intents WHERE object_id = ? ORDER BY id", object_id)

    def totals(self, table: str) -> dict[str, int]:
        """How many rows of a table are here, by state."""
        rows = self.find("SELECT state, number FROM totals WHERE name = ?", table)
        return {str(row[0]): int(row[1]) for row in rows}

    def _note(self, error: sqlite3.Error) -> None:
        why = explain(self.path, error)
        log.warning("%s", why)
        if self._owner and why.code is Code.DATABASE_DAMAGED:
            Path(f"{self.path}{_DAMAGED}").touch(mode=0o600)

    # ------------------------------------------------------------------ coming and going

    def keep(self, table: str, keys: Sequence[str], rows: Iterable[sqlite3.Row]) -> None:
        """Keep rows of a table, instead of any with the same keys. Raises sqlite3.Error."""
        with self.transaction() as db:
            for row in rows:
                marks = " AND ".join(f"{key} = ?" for key in keys)
                found = [row[key] for key in keys]
                db.execute(f"DELETE FROM {table} WHERE {marks}", found)  # noqa: S608 - ours
                names, values = ", ".join(row.keys()), ", ".join("?" * len(row.keys()))
                insert = f"INSERT INTO {table} ({names}) VALUES ({values})"  # noqa: S608 - ours
                db.execute(insert, tuple(row))

    def keep_intents(self, rows: Iterable[sqlite3.Row]) -> None:
        """Keep ended intents. Raises sqlite3.Error."""
        self.keep("intents", ("contract", "object_id", "action"), rows)

    def forget_intents(self, before: int, limit: int, about: Iterable[str] = ()) -> None:
        """Delete the intents about some objects, and others that ended before a time."""
        with self.transaction() as db:
            for object_id in about:
                db.execute("DELETE FROM intents WHERE object_id = ?", (object_id,))
            db.execute(
                "DELETE FROM intents WHERE (contract, object_id, action) IN (SELECT contract, "
                "object_id, action FROM intents WHERE updated_at < ? LIMIT ?)",
                (before, limit),
            )
