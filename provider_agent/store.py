# SPDX-License-Identifier: Apache-2.0
"""The agent's memory: one SQLite file in its data directory.

What must survive a power cut is here and nowhere else: intents and every transaction ever signed
for them, runs, the event cursor, what is known about jobs, specifications, quotes, sessions.

Rules that the rest of the agent relies on:

- Every method is one transaction by itself, or part of the caller's `with store.transaction():`.
- An intent or a run changes its state in `set_intent_state` and `set_run_state` only, along the
  edges drawn below. Both are durable on return (WAL, synchronous=FULL) unless the caller has a
  transaction open.
- A thread has its own connection. Rows come back as frozen dataclasses.

Times are unix seconds, addresses are text as the caller wrote them, digests and ids are bytes,
and everything that strangers choose (amounts, times of jobs and quotes, deadlines) is text in the
file because SQLite's integers have 63 bits: any uint256 fits, and no event can break a write.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

from provider_agent.errors import AgentError

SCHEMA_VERSION = 2
APPLICATION_ID = 0x54504641  # "TPFA": tells our file from anybody else's database

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The event feed: where it has read to, some (number, hash) pairs on the way to find a fork with,
-- and the logs already handed out, by the pair that names a log for ever.
CREATE TABLE cursors (feed TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (
    feed TEXT NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (feed, number)
) WITHOUT ROWID;
CREATE TABLE seen_logs (
    feed TEXT NOT NULL, block_hash BLOB NOT NULL, log_index INTEGER NOT NULL,
    block_number INTEGER NOT NULL, object_id BLOB NOT NULL,
    PRIMARY KEY (feed, block_hash, log_index)
) WITHOUT ROWID;
CREATE INDEX seen_logs_by_block ON seen_logs (feed, block_number);

CREATE TABLE intents (
    id INTEGER PRIMARY KEY,
    contract TEXT NOT NULL, object_id TEXT NOT NULL, action TEXT NOT NULL,
    target TEXT NOT NULL, data BLOB NOT NULL, value TEXT NOT NULL,
    state TEXT NOT NULL,
    deadline TEXT, cancel INTEGER NOT NULL DEFAULT 0,
    nonce INTEGER UNIQUE, reason TEXT NOT NULL DEFAULT '',
    tx_hash BLOB, block_number INTEGER, block_hash BLOB, status INTEGER,
    gas_used INTEGER, gas_price INTEGER,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    UNIQUE (contract, object_id, action)
);
CREATE INDEX intents_by_state ON intents (state);
CREATE INDEX intents_by_object ON intents (object_id);
CREATE TABLE transactions (
    hash BLOB PRIMARY KEY,
    intent_id INTEGER NOT NULL REFERENCES intents (id),
    nonce INTEGER NOT NULL, kind TEXT NOT NULL, raw BLOB NOT NULL,
    gas INTEGER NOT NULL, max_fee INTEGER NOT NULL, priority_fee INTEGER NOT NULL,
    signed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX transactions_by_intent ON transactions (intent_id);
CREATE INDEX transactions_by_nonce ON transactions (nonce);

CREATE TABLE jobs (
    job_id BLOB PRIMARY KEY,
    terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, provider TEXT, price TEXT,
    assigned_at TEXT, attested_at TEXT,
    result BLOB, receipt BLOB, started TEXT, finished TEXT,
    state_block INTEGER, note TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0, retry_at INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_requester ON jobs (requester, status);
CREATE INDEX jobs_by_spec ON jobs (spec);
CREATE TABLE specs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL, body BLOB NOT NULL
);
-- So that counting reads no bodies.
CREATE INDEX specs_by_uploader ON specs (uploader, digest, size);
CREATE INDEX specs_by_age ON specs (stored_at);
CREATE TABLE inputs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE quotes (
    digest BLOB PRIMARY KEY, nonce TEXT NOT NULL UNIQUE,
    spec BLOB NOT NULL, requester TEXT NOT NULL,
    price TEXT NOT NULL, collateral TEXT NOT NULL, duration TEXT NOT NULL,
    expires INTEGER NOT NULL, signature BLOB NOT NULL, created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, job_id BLOB NOT NULL, state TEXT NOT NULL,
    exit_code INTEGER, reason TEXT NOT NULL DEFAULT '',
    started INTEGER, finished INTEGER, result BLOB, receipt BLOB,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_job ON runs (job_id);

CREATE TABLE login_nonces (value TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY, address TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
"""


# Columns of a job that bear what strangers put on the chain: text in the file.
_WIDE = ("price", "assigned_at", "attested_at", "started", "finished")


class IntentState(StrEnum):
    """Where the transaction of an intent stands; see `chain/sender.py`."""

    PLANNED = "planned"  # wanted, nothing signed
    SIGNED = "signed"  # has its nonce and a signed transaction, perhaps broadcast
    SENT = "sent"  # some node has taken a transaction of ours for it
    MINED = "mined"  # in a block, not deep enough yet
    FINAL = "final"  # executed, deep enough
    REVERTED = "reverted"  # would fail or has failed on chain; nothing happened
    ABANDONED = "abandoned"  # given up, and the call can no longer land


_DONE = (IntentState.FINAL, IntentState.REVERTED, IntentState.ABANDONED)
# Edges out of a final state exist for one reason: a reorg deeper than the confirmations.
_INTENT_EDGES: dict[IntentState, tuple[IntentState, ...]] = {
    IntentState.PLANNED: (IntentState.SIGNED, IntentState.REVERTED, IntentState.ABANDONED),
    IntentState.SIGNED: (
        IntentState.SIGNED,
        IntentState.SENT,
        IntentState.MINED,
        IntentState.ABANDONED,
    ),
    IntentState.SENT: (IntentState.SIGNED, IntentState.MINED, IntentState.ABANDONED),
    IntentState.MINED: (IntentState.MINED, IntentState.SENT, *_DONE),
    IntentState.FINAL: (IntentState.SENT, IntentState.MINED),
    IntentState.REVERTED: (IntentState.SENT, IntentState.MINED),
    IntentState.ABANDONED: (IntentState.SENT, IntentState.MINED),
}


class RunStage(StrEnum):
    """Where the run of a job stands, as the agent has recorded it."""

    PLANNED = "planned"  # the row exists, the runner may or may not have been asked
    RUNNING = "running"  # the supervisor was started
    EXITED = "exited"  # ended by itself or by a limit; exit_code and reason are set
    COLLECTED = "collected"  # outputs moved to results, digests are set
    FAILED = "failed"  # no result will come of it
    REMOVED = "removed"  # nothing of it is left on the disk


_RUN_EDGES: dict[RunStage, tuple[RunStage, ...]] = {
    RunStage.PLANNED: (RunStage.RUNNING, RunStage.FAILED, RunStage.REMOVED),
    RunStage.RUNNING: (RunStage.EXITED, RunStage.FAILED, RunStage.REMOVED),
    RunStage.EXITED: (RunStage.COLLECTED, RunStage.FAILED, RunStage.REMOVED),
    RunStage.COLLECTED: (RunStage.FAILED, RunStage.REMOVED),
    RunStage.FAILED: (RunStage.REMOVED,),
    RunStage.REMOVED: (),
}


class IntentKey(NamedTuple):
    """What makes an intent unique. A second try after a revert is another `action` ("accept#2")."""

    contract: str
    object_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction. Fees are wei per gas, `raw` is what goes to the network."""

    hash: bytes
    nonce: int
    kind: str  # "call", or "cancel" for the self-transfer that frees a nonce
    raw: bytes
    gas: int
    max_fee: int
    priority_fee: int
    signed_at: int


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction of an intent was found in the chain; `status` 1 is success."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    gas_used: int
    gas_price: int


@dataclass(frozen=True, slots=True)
class Intent:
    """One call the agent wants executed once. `mined` is what was last seen on chain."""

    id: int
    key: IntentKey
    to: str
    data: bytes
    value: int
    state: IntentState
    deadline: int | None
    cancel: bool
    nonce: int | None
    reason: str
    mined: Mined | None
    created_at: int
    updated_at: int

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it (short of a reorg)."""
        return self.state in _DONE


@dataclass(frozen=True, slots=True)
class Mark:
    """A block that a feed has read up to."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class SeenLog:
    """A log that a feed has handed out; `object_id` is what to look at again when it vanishes."""

    block_hash: bytes
    log_index: int
    block_number: int
    object_id: bytes


@dataclass(frozen=True, slots=True)
class JobRow:
    """What is known about a job. `terms` is the ABI encoding; the chain has the last word on all
    of `status`, `provider`, `assigned_at` and `attested_at`.
    """

    job_id: bytes
    terms: bytes
    requester: str
    spec: bytes
    status: int
    provider: str | None
    price: int | None
    assigned_at: int | None
    attested_at: int | None
    result: bytes | None
    receipt: bytes | None
    started: int | None
    finished: int | None
    state_block: int | None
    note: str
    failures: int
    retry_at: int
    settled_at: int | None
    updated_at: int


class JobUpdate(TypedDict, total=False):
    """Columns of a job that `update_job` may set."""

    status: int
    provider: str | None
    price: int | None
    assigned_at: int | None
    attested_at: int | None
    result: bytes | None
    receipt: bytes | None
    started: int | None
    finished: int | None
    state_block: int | None
    note: str
    failures: int
    retry_at: int
    settled_at: int | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded input: where it lies on the disk follows from its digest."""

    digest: bytes
    size: int
    uploader: str
    stored_at: int


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """A price this agent has signed; `digest` is the EIP-712 struct hash."""

    digest: bytes
    nonce: int
    spec: bytes
    requester: str
    price: int
    collateral: int
    duration: int
    expires: int
    signature: bytes
    created_at: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of a job."""

    run_id: str
    job_id: bytes
    state: RunStage
    exit_code: int | None
    reason: str
    started: int | None
    finished: int | None
    result: bytes | None
    receipt: bytes | None
    created_at: int
    updated_at: int


class RunUpdate(TypedDict, total=False):
    """Columns of a run that go with a change of its state."""

    exit_code: int | None
    reason: str
    started: int | None
    finished: int | None
    result: bytes | None
    receipt: bytes | None


class _Connections(threading.local):
    """A thread's connection and how deep it is in nested `transaction()` blocks."""

    connection: sqlite3.Connection | None = None
    depth: int = 0


class Store:
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

    # ------------------------------------------------------------------ connections

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
                for statement in _statements(_SCHEMA):
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

    # ------------------------------------------------------------------ event cursor

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

    # ------------------------------------------------------------------ intents

    def add_intent(
        self,
        key: IntentKey,
        to: str,
        data: bytes,
        value: int = 0,
        deadline: int | None = None,
    ) -> Intent:
        """The intent with this key, made now if it is new.

        Raises AgentError when the key is taken by a different call: keys name one call for ever.
        """
        with self.transaction() as db:
            known = self.intent(key)
            if known is None:
                now = self._now()
                db.execute(
                    "INSERT INTO intents (contract, object_id, action, target, data, value, state, "
                    "deadline, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *key,
                        to,
                        data,
                        str(value),
                        IntentState.PLANNED,
                        None if deadline is None else str(deadline),
                        now,
                        now,
                    ),
                )
                known = self.intent(key)
                assert known is not None  # inserted above, in the same transaction
            elif (known.to, known.data, known.value) != (to, data, value):
                raise AgentError(
                    f"intent {'/'.join(key)} exists with another call; a new try needs a new action"
                )
            return known

    def intent(self, key: IntentKey) -> Intent | None:
        """The intent with this key."""
        row = (
            self._db()
            .execute(
                "SELECT * FROM intents WHERE contract = ? AND object_id = ? AND action = ?", key
            )
            .fetchone()
        )
        return None if row is None else _intent(row)

    def intent_by_id(self, intent_id: int) -> Intent:
        """The intent with this row number; KeyError when there is none."""
        row = self._db().execute("SELECT * FROM intents WHERE id = ?", (intent_id,)).fetchone()
        if row is None:
            raise KeyError(intent_id)
        return _intent(row)

    def intents_of(self, object_id: str) -> list[Intent]:
        """All intents about an object (a job), oldest first."""
        rows = self._db().execute(
            "SELECT * FROM intents WHERE object_id = ? ORDER BY id", (object_id,)
        )
        return [_intent(row) for row in rows]

    def intents_in(self, *states: IntentState) -> list[Intent]:
        """Intents in any of the states: by nonce, those without one last and oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._db().execute(
            f"SELECT * FROM intents WHERE state IN ({marks}) "  # noqa: S608 - question marks only
            "ORDER BY nonce IS NULL, nonce, id",
            states,
        )
        return [_intent(row) for row in rows]

    def intents_mined_since(self, block: int) -> list[Intent]:
        """Finished intents whose transaction is in this block or a later one, by nonce."""
        rows = self._db().execute(
            "SELECT * FROM intents WHERE state IN (?, ?, ?) AND block_number >= ? ORDER BY nonce",
            (*_DONE, block),
        )
        return [_intent(row) for row in rows]

    def count_intents(self) -> dict[IntentState, int]:
        """How many intents are in each state."""
        counts = dict.fromkeys(IntentState, 0)
        for row in self._db().execute("SELECT state, count(*) FROM intents GROUP BY state"):
            counts[IntentState(row[0])] = int(row[1])
        return counts

    def next_nonce(self) -> int | None:
        """One more than the highest nonce ever given out, or None when none was."""
        row = self._db().execute("SELECT max(nonce) FROM intents").fetchone()
        return None if row[0] is None else int(row[0]) + 1

    def request_cancel(self, intent_id: int, reason: str) -> None:
        """Mark an intent as no longer wanted; the sender frees its nonce."""
        with self.transaction() as db:
            db.execute(
                "UPDATE intents SET cancel = 1, reason = ?, updated_at = ? WHERE id = ?",
                (reason, self._now(), intent_id),
            )

    def set_intent_state(
        self,
        intent_id: int,
        state: IntentState,
        *,
        reason: str | None = None,
        first_nonce: int = 0,
        exact_nonce: int | None = None,
        sign: Callable[[int], Transaction] | None = None,
        mined: Mined | None = None,
    ) -> Intent:
        """The one place where an intent changes its state.

        `sign` makes the transaction that comes with SIGNED: it is called with the intent's nonce,
        and the nonce is given out here, in the same database transaction, as one more than the
        highest one in the file and at least `first_nonce` (or as `exact_nonce`, to fill a gap; no
        nonce is given out twice). `mined` comes with MINED; leaving the
        chain again (-> SENT) clears it. Raises AgentError for an edge that is not drawn.
        """
        with self.transaction() as db:
            intent = self.intent_by_id(intent_id)
            if state not in _INTENT_EDGES[intent.state]:
                raise AgentError(
                    f"intent {'/'.join(intent.key)} cannot go from {intent.state} to {state}"
                )
            nonce = intent.nonce
            if sign is not None:
                if nonce is None and exact_nonce is not None:
                    nonce = exact_nonce
                elif nonce is None:
                    nonce = max(self.next_nonce() or 0, first_nonce)
                self._add_transaction(db, intent_id, nonce, sign(nonce))
            if state in (IntentState.SIGNED, IntentState.SENT):
                mined = None
            elif mined is None:
                mined = intent.mined
            db.execute(
                "UPDATE intents SET state = ?, reason = ?, nonce = ?, tx_hash = ?, "
                "block_number = ?, block_hash = ?, status = ?, gas_used = ?, gas_price = ?, "
                "updated_at = ? WHERE id = ?",
                (
                    state,
                    intent.reason if reason is None else reason,
                    nonce,
                    *(
                        (None,) * 6
                        if mined is None
                        else (
                            mined.tx_hash,
                            mined.block_number,
                            mined.block_hash,
                            mined.status,
                            mined.gas_used,
                            mined.gas_price,
                        )
                    ),
                    self._now(),
                    intent_id,
                ),
            )
            return self.intent_by_id(intent_id)

    @staticmethod
    def _add_transaction(
        db: sqlite3.Connection, intent_id: int, nonce: int, made: Transaction
    ) -> None:
        if made.nonce != nonce:
            raise AgentError(f"a transaction with nonce {made.nonce} was signed for nonce {nonce}")
        db.execute(
            "INSERT OR IGNORE INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                made.hash,
                intent_id,
                made.nonce,
                made.kind,
                made.raw,
                made.gas,
                made.max_fee,
                made.priority_fee,
                made.signed_at,
            ),
        )

    def transactions_of(self, intent_id: int) -> list[Transaction]:
        """Everything ever signed for an intent, the cheapest first; the last one is current."""
        rows = self._db().execute(
            "SELECT hash, nonce, kind, raw, gas, max_fee, priority_fee, signed_at "
            "FROM transactions WHERE intent_id = ? ORDER BY max_fee, priority_fee",
            (intent_id,),
        )
        return [Transaction(*row) for row in rows]

    # ------------------------------------------------------------------ jobs

    def add_job(
        self, job_id: bytes, terms: bytes, requester: str, spec: bytes, status: int
    ) -> JobRow:
        """The job with this id, made now if it is new."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO jobs (job_id, terms, requester, spec, status, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, terms, requester, spec, status, self._now()),
            )
            job = self.job(job_id)
            assert job is not None  # inserted above, in the same transaction
            return job

    def job(self, job_id: bytes) -> JobRow | None:
        """The job with this id."""
        row = self._db().execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        return None if row is None else _job(row)

    def jobs(self, *statuses: int) -> list[JobRow]:
        """Jobs with any of the statuses (all when none is named), oldest change first."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE status IN ({marks})" if statuses else ""
        rows = self._db().execute(
            f"SELECT * FROM jobs {where} "  # noqa: S608 - question marks only
            "ORDER BY updated_at, job_id",
            statuses,
        )
        return [_job(row) for row in rows]

    def jobs_of(self, requester: str, *statuses: int) -> list[JobRow]:
        """An account's jobs with any of the statuses, oldest change first."""
        marks = ", ".join("?" * len(statuses))
        rows = self._db().execute(
            f"SELECT * FROM jobs WHERE requester = ? AND status IN ({marks}) "  # noqa: S608 - marks
            "ORDER BY updated_at, job_id",
            (requester, *statuses),
        )
        return [_job(row) for row in rows]

    def has_open_jobs(self) -> bool:
        """Whether any job is on the market, as far as is known."""
        row = self._db().execute("SELECT 1 FROM jobs WHERE status = 1 LIMIT 1").fetchone()
        return row is not None

    def count_jobs(self) -> dict[int, int]:
        """How many jobs have each status."""
        rows = self._db().execute("SELECT status, count(*) FROM jobs GROUP BY status")
        return {int(row[0]): int(row[1]) for row in rows}

    def update_job(self, job_id: bytes, **columns: Unpack[JobUpdate]) -> None:
        """Set columns of a job; unknown jobs are left alone."""
        values: dict[str, Any] = dict(columns)
        for name in _WIDE:
            if values.get(name) is not None:
                values[name] = str(values[name])
        self._update("jobs", "job_id", job_id, values)

    def drop_job(self, job_id: bytes) -> None:
        """Forget a job, for instance one whose posting was reorganised away."""
        with self.transaction() as db:
            db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))

    def _update(self, table: str, key: str, value: object, columns: dict[str, Any]) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        with self.transaction() as db:
            db.execute(
                f"UPDATE {table} SET {names}{', ' if names else ''}"  # noqa: S608 - our own names
                f"updated_at = ? WHERE {key} = ?",
                (*columns.values(), self._now(), value),
            )

    # ------------------------------------------------------------------ specifications, inputs

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        """Keep a job specification under the sha256 of its bytes."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO specs VALUES (?, ?, ?, ?, ?)",
                (digest, len(body), uploader, self._now(), body),
            )

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification."""
        row = self._db().execute("SELECT body FROM specs WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        """How many specifications that no job names one account (or all) has here, and how many
        bytes they take.
        """
        where, values = ("uploader = ? AND", (uploader,)) if uploader else ("", ())
        row = (
            self._db()
            .execute(
                "SELECT count(*), coalesce(sum(size), 0) "  # noqa: S608 - our own words
                f"FROM specs WHERE {where} digest NOT IN (SELECT spec FROM jobs)",
                values,
            )
            .fetchone()
        )
        return int(row[0]), int(row[1])

    def spec_bytes(self) -> int:
        """How many bytes all specifications take."""
        row = self._db().execute("SELECT coalesce(sum(size), 0) FROM specs").fetchone()
        return int(row[0])

    def is_named(self, digest: bytes) -> bool:
        """Whether a job on record names a specification."""
        row = self._db().execute("SELECT 1 FROM jobs WHERE spec = ? LIMIT 1", (digest,)).fetchone()
        return row is not None

    def prune_specs(self, keep: set[bytes], older_than: int) -> int:
        """Drop specifications stored before `older_than` (unix time) whose digest is not in
        `keep`; how many were dropped.
        """
        with self.transaction() as db:
            rows = db.execute("SELECT digest FROM specs WHERE stored_at < ?", (older_than,))
            gone = [row[0] for row in rows if bytes(row[0]) not in keep]
            db.executemany("DELETE FROM specs WHERE digest = ?", [(digest,) for digest in gone])
        return len(gone)

    def put_input(self, digest: bytes, size: int, uploader: str) -> None:
        """Record that an input lies complete and verified on the disk."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?)",
                (digest, size, uploader, self._now()),
            )

    def input(self, digest: bytes) -> StoredFile | None:
        """The record of an input."""
        row = self._db().execute("SELECT * FROM inputs WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else StoredFile(*row)

    def inputs(self) -> list[StoredFile]:
        """All inputs on record, oldest first."""
        rows = self._db().execute("SELECT * FROM inputs ORDER BY stored_at, digest")
        return [StoredFile(*row) for row in rows]

    def drop_input(self, digest: bytes) -> None:
        """Forget an input."""
        with self.transaction() as db:
            db.execute("DELETE FROM inputs WHERE digest = ?", (digest,))

    def uploaded(self, uploader: str) -> tuple[int, int]:
        """How many inputs an account has here, and how many bytes."""
        row = (
            self._db()
            .execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM inputs WHERE uploader = ?",
                (uploader,),
            )
            .fetchone()
        )
        return int(row[0]), int(row[1])

    # ------------------------------------------------------------------ quotes

    def put_quote(self, quote: QuoteRow) -> None:
        """Keep a signed quote; sqlite3.IntegrityError when its nonce was used before."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO quotes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    quote.digest,
                    str(quote.nonce),
                    quote.spec,
                    quote.requester,
                    str(quote.price),
                    str(quote.collateral),
                    str(quote.duration),
                    quote.expires,
                    quote.signature,
                    quote.created_at,
                ),
            )

    def quote(self, digest: bytes) -> QuoteRow | None:
        """The quote with this struct hash (the nonce of a hired job's order)."""
        row = self._db().execute("SELECT * FROM quotes WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else _quote(row)

    def live_quotes(self, now: int) -> list[QuoteRow]:
        """Quotes that a tenant could still use, the first to expire first."""
        rows = self._db().execute(
            "SELECT * FROM quotes WHERE expires >= ? ORDER BY expires, digest", (now,)
        )
        return [_quote(row) for row in rows]

    # ------------------------------------------------------------------ runs

    def add_run(self, run_id: str, job_id: bytes) -> RunRow:
        """The run with this id, made now if it is new."""
        with self.transaction() as db:
            now = self._now()
            db.execute(
                "INSERT OR IGNORE INTO runs (run_id, job_id, state, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (run_id, job_id, RunStage.PLANNED, now, now),
            )
            run = self.run(run_id)
            assert run is not None  # inserted above, in the same transaction
            return run

    def run(self, run_id: str) -> RunRow | None:
        """The run with this id."""
        row = self._db().execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else _run(row)

    def runs_of(self, job_id: bytes) -> list[RunRow]:
        """The runs of a job, oldest first."""
        rows = self._db().execute(
            "SELECT * FROM runs WHERE job_id = ? ORDER BY created_at, run_id", (job_id,)
        )
        return [_run(row) for row in rows]

    def runs_in(self, *states: RunStage) -> list[RunRow]:
        """Runs in any of the states, oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._db().execute(
            f"SELECT * FROM runs WHERE state IN ({marks}) "  # noqa: S608 - question marks only
            "ORDER BY created_at, run_id",
            states,
        )
        return [_run(row) for row in rows]

    def count_runs(self) -> dict[RunStage, int]:
        """How many runs are in each state."""
        rows = self._db().execute("SELECT state, count(*) FROM runs GROUP BY state")
        return {RunStage(row[0]): int(row[1]) for row in rows}

    def set_run_state(self, run_id: str, state: RunStage, **columns: Unpack[RunUpdate]) -> RunRow:
        """The one place where a run changes its state; AgentError for an edge that is not drawn."""
        with self.transaction():
            run = self.run(run_id)
            if run is None:
                raise AgentError(f"there is no run {run_id}")
            if state not in _RUN_EDGES[run.state]:
                raise AgentError(f"run {run_id} cannot go from {run.state} to {state}")
            self._update("runs", "run_id", run_id, {"state": state, **columns})
            changed = self.run(run_id)
            assert changed is not None  # it was there above, in the same transaction
            return changed

    # ------------------------------------------------------------------ log-in

    def create_nonce(self, value: str, expires: int) -> None:
        """Remember a log-in nonce until `expires`."""
        with self.transaction() as db:
            db.execute("DELETE FROM login_nonces WHERE expires < ?", (self._now(),))
            db.execute("INSERT INTO login_nonces VALUES (?, ?)", (value, expires))

    def consume_nonce(self, value: str, now: int) -> bool:
        """Use up a log-in nonce; False when it is unknown, used or expired."""
        with self.transaction() as db:
            row = db.execute(
                "DELETE FROM login_nonces WHERE value = ? RETURNING expires", (value,)
            ).fetchone()
            return row is not None and int(row[0]) >= now

    def create_session(self, token_hash: bytes, address: str, expires: int) -> None:
        """Remember a session; only the hash of its token is kept."""
        with self.transaction() as db:
            db.execute("DELETE FROM sessions WHERE expires < ?", (self._now(),))
            db.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", (token_hash, address, expires)
            )

    def session(self, token_hash: bytes, now: int) -> str | None:
        """The address that a session belongs to, or None when it is unknown or expired."""
        row = (
            self._db()
            .execute(
                "SELECT address FROM sessions WHERE token_hash = ? AND expires >= ?",
                (token_hash, now),
            )
            .fetchone()
        )
        return None if row is None else str(row[0])


def _statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, one by one."""
    text = ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


def _intent(row: sqlite3.Row) -> Intent:
    mined = None
    if row["tx_hash"] is not None:
        mined = Mined(
            row["tx_hash"],
            row["block_number"],
            row["block_hash"],
            row["status"],
            row["gas_used"],
            row["gas_price"],
        )
    return Intent(
        id=row["id"],
        key=IntentKey(row["contract"], row["object_id"], row["action"]),
        to=row["target"],
        data=row["data"],
        value=int(row["value"]),
        state=IntentState(row["state"]),
        deadline=None if row["deadline"] is None else int(row["deadline"]),
        cancel=bool(row["cancel"]),
        nonce=row["nonce"],
        reason=row["reason"],
        mined=mined,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _job(row: sqlite3.Row) -> JobRow:
    columns = dict(row)
    for name in _WIDE:
        if columns[name] is not None:
            columns[name] = int(columns[name])
    return JobRow(**columns)


def _quote(row: sqlite3.Row) -> QuoteRow:
    columns = dict(row)
    for name in ("nonce", "price", "collateral", "duration"):
        columns[name] = int(columns[name])
    return QuoteRow(**columns)


def _run(row: sqlite3.Row) -> RunRow:
    columns = dict(row)
    columns["state"] = RunStage(columns["state"])
    return RunRow(**columns)
