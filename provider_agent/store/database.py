# SPDX-License-Identifier: Apache-2.0
"""The file, its connections and its transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provider_agent.store import integrity, migration
from provider_agent.store.connections import Connections, connect
from provider_agent.store.errors import StoreError, damaged, explain
from provider_agent.store.history import History
from provider_agent.store.tables import Tables
from teraproof.protocol.errors import Code

_LEAST = 512  # bytes of the smallest page
_IN_USE = "-in-use"  # a file next to the database: it was not closed yet
_LOST = "rows_lost"  # in meta, until the agent has made good for it
# What only an agent that has worked here leaves in its data directory.
_TRACES = ("runs", "results", "specs")


class Database(Connections):
    """The database. Safe to use from several threads; made for one process.

    Its `owner` is the agent: it checks the file and brings it up to date. Others only look, also
    while the agent runs. `tables` are those of the modules. Raises StoreError when the file cannot
    be used, with a code for why.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        *,
        owner: bool = True,
        tables: Sequence[Tables] = (),
    ) -> None:
        super().__init__(path, clock)
        self._tables = (migration.CORE, *tables)
        # A program that only looks must not hide a loss from the owner.
        self._forgets = owner or not _log_is_lost(path)
        try:
            if owner:
                self._take()
            else:
                self._look()
            self._inode = path.stat().st_ino
            #: What has ended, in a file of its own.
            self.history = History(path.with_name("history.sqlite"), clock, owner=owner)
        except (OSError, sqlite3.Error, ValueError) as error:
            self.close()
            raise explain(path, error) from error
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections of all threads."""
        super().close()
        if self._forgets:
            _forget_use(self.path)
        history: History | None = getattr(self, "history", None)
        if history is not None:
            history.close()

    def check_there(self) -> None:
        """StoreError when the file in use is no longer the one at its path."""
        try:
            same = self.path.stat().st_ino == self._inode
        except OSError:
            same = False
        if not same:
            raise StoreError(
                Code.DATABASE_GONE,
                f"{self.path} was moved or deleted while the agent ran; start the agent again: "
                "it finds its jobs on the disk and on chain",
            )

    def _look(self) -> None:
        if not self.path.exists():
            raise StoreError(
                Code.DATABASE_UNWRITABLE, f"{self.path} is not there; start the agent first"
            )
        db = self._db()
        if migration.pending(
            migration.applied(db, self.path, self._tables), self._tables, self.path
        ):
            raise StoreError(
                Code.DATABASE_OLD,
                f"{self.path} is of an older version; start the agent to upgrade it",
            )

    def _take(self) -> None:
        path, marker = self.path, Path(f"{self.path}{_IN_USE}")
        # Signed transactions and session hashes are nobody else's business; SQLite gives its
        # side files the mode of the main file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        fresh = _is_empty(path)
        lost = _log_is_lost(path)
        if fresh:
            lost = marker.exists() or any(_has_entries(path.parent / name) for name in _TRACES)
            for side in ("-wal", "-shm"):
                Path(f"{path}{side}").unlink(missing_ok=True)
        db = self._db()
        migration.applied(
            db, path, self._tables
        )  # whose file it is, before anything is said about its state
        integrity.check_file(db, path)
        db.execute("PRAGMA foreign_keys = OFF")
        migration.upgrade(db, path, self._tables, self._clock())
        db.execute("PRAGMA foreign_keys = ON")
        for part in self._tables:
            part.check(db, path)
        if lost:
            self.mark_lost()
        marker.touch(mode=0o600)

    def _update(self, table: str, key: str, value: object, columns: dict[str, Any]) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        with self.transaction() as db:
            db.execute(
                f"UPDATE {table} SET {names}{', ' if names else ''}"  # noqa: S608 - our own names
                f"updated_at = ? WHERE {key} = ?",
                (*columns.values(), self._now(), value),
            )

    # ------------------------------------------------------------------ meta

    def meta(self, key: str) -> str | None:
        """A single remembered value."""
        row = self._db().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Remember a single value."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @property
    def rows_lost(self) -> bool:
        """Whether rows that an agent wrote here are gone: the file was lost, or its log."""
        return self.meta(_LOST) == "1"

    def mark_lost(self) -> None:
        """Rows are missing: the next start of the agent finds again what they said."""
        self.set_meta(_LOST, "1")

    def made_good(self) -> None:
        """What the lost rows said has been found again."""
        self.set_meta(_LOST, "0")

    def bind(self, **identity: str) -> None:
        """Tie the file to what it is about (chain, operator, contracts) at the first call.

        Raises StoreError when it was tied to something else: its nonces and jobs would be wrong.
        """
        with self.transaction():
            for name, value in identity.items():
                known = self.meta(f"identity.{name}")
                if known is None:
                    self.set_meta(f"identity.{name}", value)
                elif known != value:
                    raise StoreError(
                        Code.DATABASE_OTHER,
                        f"{self.path} belongs to {name} {known}, the settings say {value}; "
                        "use another agent.data_dir",
                    )


def inspect(path: Path, tables: Sequence[Tables] = ()) -> str:
    """One line about a file, whose check it has passed; nothing is changed. Raises StoreError."""
    if not path.exists() or _is_empty(path):
        return f"{path.name} will be made at the start"
    everything = (migration.CORE, *tables)
    forgets = not _log_is_lost(path)
    try:
        db = connect(path)
        try:
            had = migration.applied(db, path, everything)
            integrity.check_file(db, path)
            schema = migration.label(had, db)
            if migration.pending(had, everything, path):
                return f"{path.name}, {schema}: the start upgrades it, after a backup"
            for part in everything:
                part.check(db, path)
            return f"{path.name}, {schema}"
        finally:
            db.close()
            if forgets:
                _forget_use(path)
    except (sqlite3.Error, OSError, ValueError) as error:
        raise explain(path, error) from error


def _log_is_lost(path: Path) -> bool:
    """A process that dies leaves the log behind; one that closes the file removes its marker."""
    return Path(f"{path}{_IN_USE}").exists() and not Path(f"{path}-wal").exists()


def _forget_use(path: Path) -> None:
    """Remove the marker of use when nobody has the file open any more: all of it is in there."""
    if not Path(f"{path}-wal").exists():
        with contextlib.suppress(OSError):
            Path(f"{path}{_IN_USE}").unlink(missing_ok=True)


def _is_empty(path: Path) -> bool:
    """Whether the file has no content yet. SQLite takes the stump of one for an empty one, too."""
    size = path.stat().st_size
    if 0 < size < _LEAST:
        raise damaged(path, f"only {size} bytes are left of it")
    return size == 0


def _has_entries(folder: Path) -> bool:
    try:
        return any(not name.startswith(".") for name in os.listdir(folder))
    except OSError:
        return False
