# SPDX-License-Identifier: Apache-2.0
"""A file's connections, one a thread, and transactions over them."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_PATIENCE = 30.0  # seconds to wait for another writer


class _Connections(threading.local):
    """A thread's connection, how deep it is in nested `transaction()` blocks, and whether what it
    commits is durable.
    """

    connection: sqlite3.Connection | None = None
    depth: int = 0
    lasting: bool = True


class Connections:
    """A file's connections, one a thread, and transactions over them."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self.path = path
        self._clock = clock
        self._local = _Connections()
        self._all: list[sqlite3.Connection] = []
        self._all_lock = threading.Lock()
        # SQLite lets threads that want to write sleep, up to 100 ms at a time, and look again: the
        # loop would wait for long after a stranger's request has let go. Here they are woken.
        self._writing = threading.Lock()

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
            connection = connect(self.path)
            self._local.connection = connection
            with self._all_lock:
                self._all.append(connection)
        return connection

    @contextlib.contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing for what the block writes; nested blocks join the outer one.

        Without `lasting` a power cut may take it back, until the next transaction that lasts: that
        one makes all before it durable, too.
        """
        db = self._db()
        local = self._local
        if local.depth == 0:
            self._begin(db, lasting)
        local.depth += 1
        try:
            yield db
            if local.depth == 1:
                db.execute("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if local.depth == 1 and db.in_transaction:
                db.execute("ROLLBACK")
            raise
        finally:
            local.depth -= 1
            if local.depth == 0:
                self._writing.release()

    def _begin(self, db: sqlite3.Connection, lasting: bool) -> None:
        if not self._writing.acquire(timeout=_PATIENCE):
            raise sqlite3.OperationalError("database is locked")
        try:
            if lasting != self._local.lasting:
                db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
                self._local.lasting = lasting
            db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._writing.release()
            raise

    def changes(self) -> int:
        """How many rows this thread has written so far: to see whether something was written."""
        return self._db().total_changes

    def _now(self) -> int:
        return int(self._clock())


def connect(path: Path) -> sqlite3.Connection:
    """A connection as all of ours are: durable at commit, foreign keys on."""
    # Connections are used by the thread that made them; only `close` crosses threads.
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=_PATIENCE, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection
