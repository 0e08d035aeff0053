-- A file of its own: what has ended, until it is forgotten. Losing it costs nothing that is owed.
CREATE TABLE jobs (
    job_id BLOB PRIMARY KEY,
    terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, provider TEXT, price TEXT,
    assigned_at TEXT, attested_at TEXT, paused TEXT,
    result BLOB, receipt BLOB, started TEXT, finished TEXT,
    state_block INTEGER, note TEXT NOT NULL DEFAULT '',
    settled_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_by_end ON jobs (settled_at);
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, job_id BLOB NOT NULL, state TEXT NOT NULL,
    exit_code INTEGER, reason TEXT NOT NULL DEFAULT '',
    started INTEGER, finished INTEGER, result BLOB, receipt BLOB,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_job ON runs (job_id);
CREATE TABLE intents (
    id INTEGER NOT NULL,
    contract TEXT NOT NULL, object_id TEXT NOT NULL, action TEXT NOT NULL,
    target TEXT NOT NULL, data BLOB NOT NULL, value TEXT NOT NULL,
    state TEXT NOT NULL,
    deadline TEXT, cancel INTEGER NOT NULL DEFAULT 0,
    nonce INTEGER, reason TEXT NOT NULL DEFAULT '',
    tx_hash BLOB, block_number INTEGER, block_hash BLOB, status INTEGER,
    gas_used INTEGER, gas_price INTEGER,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    PRIMARY KEY (contract, object_id, action)
) WITHOUT ROWID;
CREATE INDEX intents_by_object ON intents (object_id);
CREATE INDEX intents_by_age ON intents (updated_at);
-- How many rows are here, by table and state: nobody counts them one by one.
CREATE TABLE totals (
    name TEXT NOT NULL, state TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, state)
) WITHOUT ROWID;
CREATE TRIGGER job_came AFTER INSERT ON jobs BEGIN
    INSERT INTO totals VALUES ('jobs', new.status, 1)
    ON CONFLICT (name, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER job_went AFTER DELETE ON jobs BEGIN
    UPDATE totals SET number = number - 1 WHERE name = 'jobs' AND state = old.status;
END;
CREATE TRIGGER run_came AFTER INSERT ON runs BEGIN
    INSERT INTO totals VALUES ('runs', new.state, 1)
    ON CONFLICT (name, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER run_went AFTER DELETE ON runs BEGIN
    UPDATE totals SET number = number - 1 WHERE name = 'runs' AND state = old.state;
END;
CREATE TRIGGER intent_came AFTER INSERT ON intents BEGIN
    INSERT INTO totals VALUES ('intents', new.state, 1)
    ON CONFLICT (name, state) DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER intent_went AFTER DELETE ON intents BEGIN
    UPDATE totals SET number = number - 1 WHERE name = 'intents' AND state = old.state;
END;
