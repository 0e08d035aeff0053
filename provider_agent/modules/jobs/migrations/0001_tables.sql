-- Schema 1.
CREATE TABLE jobs (
    job_id BLOB PRIMARY KEY,
    terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, provider TEXT, price TEXT,
    assigned_at INTEGER, attested_at INTEGER,
    result BLOB, receipt BLOB, started INTEGER, finished INTEGER,
    state_block INTEGER, note TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0, retry_at INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE TABLE specs (
    digest BLOB PRIMARY KEY, body BLOB NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE inputs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE quotes (
    digest BLOB PRIMARY KEY, nonce TEXT NOT NULL UNIQUE,
    spec BLOB NOT NULL, requester TEXT NOT NULL,
    price TEXT NOT NULL, collateral TEXT NOT NULL, duration INTEGER NOT NULL,
    expires INTEGER NOT NULL, signature BLOB NOT NULL, created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, job_id BLOB NOT NULL, state TEXT NOT NULL,
    exit_code INTEGER, reason TEXT NOT NULL DEFAULT '',
    started INTEGER, finished INTEGER, result BLOB, receipt BLOB,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_job ON runs (job_id);
