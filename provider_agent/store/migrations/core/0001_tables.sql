-- Schema 1.
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
    deadline INTEGER, cancel INTEGER NOT NULL DEFAULT 0,
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

CREATE TABLE login_nonces (value TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY, address TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
