-- Schema 2: strangers' numbers are text; counting specifications reads no bodies.
CREATE TABLE new_jobs (
    job_id BLOB PRIMARY KEY,
    terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, provider TEXT, price TEXT,
    assigned_at TEXT, attested_at TEXT,
    result BLOB, receipt BLOB, started TEXT, finished TEXT,
    state_block INTEGER, note TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0, retry_at INTEGER NOT NULL DEFAULT 0,
    settled_at INTEGER, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO new_jobs SELECT * FROM jobs;
DROP TABLE jobs;
ALTER TABLE new_jobs RENAME TO jobs;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_requester ON jobs (requester, status);
CREATE INDEX jobs_by_spec ON jobs (spec);

CREATE TABLE new_specs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL, body BLOB NOT NULL
);
INSERT INTO new_specs SELECT digest, length(body), uploader, stored_at, body FROM specs;
DROP TABLE specs;
ALTER TABLE new_specs RENAME TO specs;
CREATE INDEX specs_by_uploader ON specs (uploader, digest, size);
CREATE INDEX specs_by_age ON specs (stored_at);

CREATE TABLE new_quotes (
    digest BLOB PRIMARY KEY, nonce TEXT NOT NULL UNIQUE,
    spec BLOB NOT NULL, requester TEXT NOT NULL,
    price TEXT NOT NULL, collateral TEXT NOT NULL, duration TEXT NOT NULL,
    expires INTEGER NOT NULL, signature BLOB NOT NULL, created_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO new_quotes SELECT * FROM quotes;
DROP TABLE quotes;
ALTER TABLE new_quotes RENAME TO quotes;
