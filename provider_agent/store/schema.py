# SPDX-License-Identifier: Apache-2.0
"""The tables of the agent's database."""

from __future__ import annotations

SCHEMA_VERSION = 4
APPLICATION_ID = 0x54504641  # "TPFA": tells our file from anybody else's database

SCHEMA = """
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
    assigned_at TEXT, attested_at TEXT, paused TEXT,
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

-- Who has committed to a proof in which epoch: whom to look at when the epoch is over.
CREATE TABLE proofs (
    epoch INTEGER NOT NULL, provider TEXT NOT NULL, PRIMARY KEY (epoch, provider)
) WITHOUT ROWID;

CREATE TABLE login_nonces (value TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY, address TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
"""
