# SPDX-License-Identifier: Apache-2.0
"""The gateway's memory: channels, vouchers, deposits, what keys have spent, and the activity log.

One SQLite file, written by one thread. Writes that wait at the same time are made durable
together. What money depends on is awaited before it leaves the machine, so `kill -9` at any
instruction leaves the file at or ahead of what others have of us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from teraproof.errors import LocalError, of_file
from teraproof.locks import MachineLock
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Write = Callable[[sqlite3.Connection], _T]

FILE = "gateway.sqlite"
_VERSION = 2
_AT_ONCE = 256  # writes that one commit makes durable
_BUSY_MS = 10_000

# Amounts are decimal text: SQLite's integers end at 2**63.
_SCHEMA = """
CREATE TABLE channels (
    id BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    operator TEXT NOT NULL,
    url TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    config TEXT NOT NULL,
    balance TEXT NOT NULL DEFAULT '0',
    signed TEXT NOT NULL DEFAULT '0',
    charged TEXT NOT NULL DEFAULT '0',
    unclear TEXT NOT NULL DEFAULT '0',
    number INTEGER NOT NULL DEFAULT 0,
    receipt TEXT,
    state TEXT NOT NULL DEFAULT 'open',
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX channels_owner ON channels (owner);
CREATE TABLE deposits (
    channel BLOB NOT NULL REFERENCES channels (id),
    salt TEXT NOT NULL,
    amount TEXT NOT NULL,
    before TEXT NOT NULL,
    valid_before INTEGER NOT NULL,
    signature BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    created INTEGER NOT NULL,
    PRIMARY KEY (channel, salt)
) STRICT;
CREATE TABLE activity (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    owner TEXT NOT NULL,
    channel BLOB,
    reserved TEXT NOT NULL,
    cost TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    latency_ms INTEGER,
    total_ms INTEGER,
    outcome TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    receipt TEXT
) STRICT;
CREATE INDEX activity_time ON activity (time);
CREATE TABLE spending (
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    cost TEXT NOT NULL,
    PRIMARY KEY (key, day)
) STRICT;
CREATE TABLE dropped (
    owner TEXT PRIMARY KEY,
    why TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

# Of version 2: what was learned of hosts.
_LEARNED = """
CREATE TABLE evidence (
    model TEXT NOT NULL,
    owner TEXT NOT NULL,
    at_fault INTEGER NOT NULL,
    said TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (model, owner)
) STRICT;
CREATE TABLE comparisons (
    model TEXT NOT NULL,
    first TEXT NOT NULL,
    second TEXT NOT NULL,
    at_fault INTEGER NOT NULL,
    said TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (model, first, second)
) STRICT;
CREATE TABLE failures (
    owner TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    left_out INTEGER NOT NULL,
    seen INTEGER NOT NULL
) STRICT;
"""


# SQLite's words for a disk that is full or cannot be written: nothing is wrong with the file.
_UNWRITABLE = frozenset(
    (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    )
)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary code of an error; 0: it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@dataclass
class _Job:
    write: Write[Any]
    done: Future[Any]
    lasts: bool = False


class Store:
    """See the module. `read_only` looks while a gateway runs; otherwise there is one at a time.

    Raises LocalError: COMMAND_RUNNING when another one has it, DATABASE_* when it cannot be used.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / FILE
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._late: list[Write[Any]] = []  # of the thread
        self._thread: threading.Thread | None = None
        self._lock: MachineLock | None = None
        try:
            if read_only and not self.path.exists():
                raise LocalError(
                    f"{self.path} is not there; a gateway makes it at its first start",
                    Code.INPUT_INVALID,
                    path=str(self.path),
                )
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._hold(folder)
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = self._open(read_only)
        except OSError as error:
            self._release()
            raise of_file(error, self.path, "cannot use") from None
        except sqlite3.Error as error:
            self._release()
            if _code(error) in _UNWRITABLE:
                raise self._unwritable(error) from None
            raise LocalError(
                f"{self.path} cannot be used ({error}); restore a backup, or move it away",
                Code.DATABASE_DAMAGED,
                path=str(self.path),
            ) from None
        except LocalError:
            self._release()
            raise
        if not read_only:
            self._thread = threading.Thread(target=self._work, name="gateway-store", daemon=True)
            self._thread.start()

    def _hold(self, folder: Path) -> None:
        lock = MachineLock("gateway", folder)
        if not lock.take():
            holder = lock.holder()
            which = "" if holder is None else f" (process {holder})"
            raise LocalError(
                f"a gateway or a command works with {folder}{which}; stop it first",
                Code.COMMAND_RUNNING,
            )
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _open(self, read_only: bool) -> sqlite3.Connection:
        where = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
        db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            db.close()
            raise LocalError(
                f"{self.path} was written by a later version; use that one",
                Code.DATABASE_NEWER,
                path=str(self.path),
            )
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a voucher survives a power cut, too
            db.execute("PRAGMA foreign_keys = ON")
            if version < _VERSION:
                made = _LEARNED if version else _SCHEMA + _LEARNED
                db.executescript(f"BEGIN; {made} PRAGMA user_version = {_VERSION}; COMMIT;")
        return db

    def close(self) -> None:
        """Finish what waits, and close the file."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self._db.close()
        self._release()

    def read(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Rows, as far as they are written. Not on the event loop: it waits for the disk."""
        return self.run(lambda db: db.execute(sql, values).fetchall())

    def run(self, write: Write[_T]) -> _T:
        """Do it, and wait until it is durable."""
        if self._thread is None:
            return write(self._db)
        return self._submit(write).result()

    async def write(self, write: Write[_T]) -> _T:
        """The same for the event loop. It is done to its end, also if the caller is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(write)))

    async def lasting(self, write: Write[_T]) -> _T | None:
        """The same for what has happened already. Where the disk does not take it, it is written
        before anything else when the disk does, and the answer is None.
        """
        try:
            return await asyncio.shield(asyncio.wrap_future(self._submit(write, lasts=True)))
        except LocalError as error:
            log.error("%s; what a request has cost is written when there is room", error)
            return None

    def _submit(self, write: Write[_T], *, lasts: bool = False) -> Future[_T]:
        done: Future[_T] = Future()
        self._jobs.put(_Job(write, done, lasts))
        return done

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [first]
            ended = False
            while len(jobs) < _AT_ONCE:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                jobs.append(more)
            self._together(jobs)
            if ended:
                break
        if self._late:
            self._together([])

    def _together(self, jobs: list[_Job]) -> None:
        """One transaction; what fails by itself is undone by itself."""
        results: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for write in self._late:
                self._write_late(write)
            for job in jobs:
                self._db.execute("SAVEPOINT one")
                try:
                    results.append((job, job.write(self._db), None))
                except Exception as error:  # noqa: BLE001 - it is handed to the caller
                    self._db.execute("ROLLBACK TO one")
                    told = self._unwritable(error) if isinstance(error, sqlite3.Error) else error
                    results.append((job, None, told))
                self._db.execute("RELEASE one")
            self._commit()
            self._late = []
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            results = [(job, None, self._unwritable(error)) for job in jobs]
        for job, value, failed in results:
            if job.lasts and isinstance(failed, LocalError):
                self._late.append(job.write)
            if failed is None:
                job.done.set_result(value)
            else:
                job.done.set_exception(failed)

    def _write_late(self, write: Write[Any]) -> None:
        """What the disk did not take before. sqlite3.Error where it still does not."""
        self._db.execute("SAVEPOINT one")
        try:
            write(self._db)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and _code(error) in _UNWRITABLE:
                raise
            self._db.execute("ROLLBACK TO one")
            log.exception("what a request has cost cannot be written")
        self._db.execute("RELEASE one")

    def _unwritable(self, error: sqlite3.Error) -> LocalError:
        line = f"{self.path} cannot be written ({error}); make room, and see to its permissions"
        return LocalError(line, Code.DATABASE_UNWRITABLE, path=str(self.path))

    def _commit(self) -> None:
        self._db.execute("COMMIT")
