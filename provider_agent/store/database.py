# SPDX-License-Identifier: Apache-2.0
"""The file, its connections and its transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from provider_agent.errors import AgentError
from provider_agent.store.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION


class _Connections(threading.local):
    """A thread's connection and how deep it is in nested `transaction()` blocks."""

    connection: sqlite3.Connection | None = None
    depth: int = 0


class Database:
    """The database. Safe to use from several threads; made for one process.

    Raises AgentError when the file cannot be used: not ours, newer than this program, damaged,
    or in a place that cannot be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._local = _Connections()
        self._all: list[sqlite3.Connection] = []
        self._all_lock = threading.Lock()
        try:
            # Signed transactions and session hashes are nobody else's business; SQLite gives its
            # side files the mode of the main file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._set_up()
        except OSError as error:
            raise AgentError(
                f"cannot open the database {path}: {error.strerror}; check agent.data_dir"
            ) from error
        except sqlite3.DatabaseError as error:
            raise AgentError(
                f"cannot use the database {path}: {error}; restore it from a backup"
            ) from error

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = _Connections()

    def _db(self) -> sqlite3.Connection:
        connection = self._local.connection
        if connection is None:
            # Connections are used by the thread that made them; only `close` crosses threads.
            connection = sqlite3.connect(
                self.path, isolation_level=None, timeout=30.0, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
            with self._all_lock:
                self._all.append(connection)
        return connection

    def _set_up(self) -> None:
        with self.transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            owner = int(db.execute("PRAGMA application_id").fetchone()[0])
            tables = int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
            if tables and owner != APPLICATION_ID:
                raise AgentError(
                    f"{self.path} is a database of another program; choose another agent.data_dir"
                )
            if version > SCHEMA_VERSION:
                raise AgentError(
                    f"{self.path} was written by a newer agent (schema {version}, this one knows "
                    f"{SCHEMA_VERSION}); install the newer version again"
                )
            if 0 < version < SCHEMA_VERSION:
                raise AgentError(
                    f"{self.path} was written by an older agent (schema {version}, this one needs "
                    f"{SCHEMA_VERSION}); finish its jobs with that version, then use another "
                    "agent.data_dir"
                )
            if version == 0:
                # Statement by statement: executescript would commit the transaction first.
                for statement in _statements(SCHEMA):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing for what the block writes; nested blocks join the outer one."""
        db = self._db()
        local = self._local
        if local.depth == 0:
            db.execute("BEGIN IMMEDIATE")
        local.depth += 1
        try:
            yield db
        except BaseException:
            local.depth -= 1
            if local.depth == 0:
                db.execute("ROLLBACK")
            raise
        local.depth -= 1
        if local.depth == 0:
            db.execute("COMMIT")

    def changes(self) -> int:
        """How many rows this thread has written so far: to see whether something was written."""
        return self._db().total_changes

    def _now(self) -> int:
        return int(self._clock())

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

    def bind(self, **identity: str) -> None:
        """Tie the file to what it is about (chain, operator, contracts) at the first call.

        Raises AgentError when it was tied to something else: its nonces and jobs would be wrong.
        """
        with self.transaction():
            for name, value in identity.items():
                known = self.meta(f"identity.{name}")
                if known is None:
                    self.set_meta(f"identity.{name}", value)
                elif known != value:
                    raise AgentError(
                        f"{self.path} belongs to {name} {known}, the settings say {value}; "
                        "use another agent.data_dir"
                    )


def _statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, one by one."""
    text = ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""
