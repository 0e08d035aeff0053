-- Schema 2: a deadline is a stranger's number, and SQLite's integers have 63 bits.
CREATE TABLE new_intents (
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
INSERT INTO new_intents SELECT * FROM intents;
DROP TABLE intents;
ALTER TABLE new_intents RENAME TO intents;
CREATE INDEX intents_by_state ON intents (state);
CREATE INDEX intents_by_object ON intents (object_id);
