-- Ended jobs and runs move to the history; what a cycle asks for is found by an index.
CREATE TABLE new_jobs (
    job_id BLOB PRIMARY KEY,
    terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, provider TEXT, price TEXT,
    assigned_at TEXT, attested_at TEXT, paused TEXT,
    result BLOB, receipt BLOB, started TEXT, finished TEXT,
    state_block INTEGER, note TEXT NOT NULL DEFAULT '',
    settled_at INTEGER, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO new_jobs SELECT
    job_id, terms, requester, spec, status, provider, price, assigned_at, attested_at, paused,
    result, receipt, started, finished, state_block, note, settled_at, updated_at
FROM jobs;
DROP TABLE jobs;
ALTER TABLE new_jobs RENAME TO jobs;
CREATE INDEX jobs_by_status ON jobs (status, updated_at);
CREATE INDEX jobs_by_provider ON jobs (provider, status);
CREATE INDEX jobs_by_requester ON jobs (requester, status);
CREATE INDEX jobs_by_spec ON jobs (spec);

-- The bodies are files; `named` says that a job has named the specification.
CREATE TABLE new_specs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, uploader TEXT NOT NULL,
    stored_at INTEGER NOT NULL, named INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO new_specs SELECT
    digest, size, uploader, stored_at, EXISTS (SELECT 1 FROM jobs WHERE jobs.spec = specs.digest)
FROM specs;
DROP TABLE specs;
ALTER TABLE new_specs RENAME TO specs;
CREATE INDEX specs_unnamed ON specs (uploader, size) WHERE named = 0;
CREATE INDEX specs_by_age ON specs (stored_at);
CREATE TABLE spec_totals (bytes INTEGER NOT NULL);
INSERT INTO spec_totals SELECT coalesce(sum(size), 0) FROM specs;
CREATE TRIGGER spec_added AFTER INSERT ON specs BEGIN
    UPDATE spec_totals SET bytes = bytes + new.size;
END;
CREATE TRIGGER spec_dropped AFTER DELETE ON specs BEGIN
    UPDATE spec_totals SET bytes = bytes - old.size;
END;
CREATE TRIGGER spec_named AFTER INSERT ON jobs BEGIN
    UPDATE specs SET named = 1 WHERE digest = new.spec;
END;

DROP TABLE inputs;
CREATE INDEX quotes_by_expiry ON quotes (expires);
CREATE INDEX runs_by_state ON runs (state);
