-- Leases of this provider, and open orders. `terms` are ABI-encoded; words of the chain are decimal
-- text, for they have 256 bits. `devices` (UUIDs by service) and `images` (by service) are JSON.
-- `suspends` numbers the suspensions; `seconds` are those that rent is due for.
CREATE TABLE leases (
    lease_id BLOB PRIMARY KEY, terms BLOB NOT NULL, requester TEXT NOT NULL, spec BLOB NOT NULL,
    status INTEGER NOT NULL, is_ours INTEGER NOT NULL DEFAULT 0, word TEXT NOT NULL DEFAULT '0',
    marks TEXT NOT NULL DEFAULT '0', state_block INTEGER NOT NULL DEFAULT 0,
    outcome TEXT, code TEXT, note TEXT NOT NULL DEFAULT '',
    images TEXT NOT NULL DEFAULT '{}', devices TEXT NOT NULL DEFAULT '{}',
    was_up INTEGER NOT NULL DEFAULT 0, suspends INTEGER NOT NULL DEFAULT 0,
    seconds TEXT NOT NULL DEFAULT '0',
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL DEFAULT 0, ended_at INTEGER
) WITHOUT ROWID;
CREATE INDEX leases_of_ours ON leases (status) WHERE is_ours = 1;
CREATE INDEX open_leases ON leases (spec) WHERE status = 1;
CREATE INDEX leases_by_spec ON leases (spec, requester);
CREATE INDEX ended_leases ON leases (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE lease_quotes (
    digest BLOB PRIMARY KEY, nonce TEXT NOT NULL UNIQUE, requester TEXT NOT NULL,
    spec BLOB NOT NULL, rate TEXT NOT NULL, collateral TEXT NOT NULL, ready_within INTEGER NOT NULL,
    term INTEGER NOT NULL, notice INTEGER NOT NULL, expires INTEGER NOT NULL,
    asked TEXT NOT NULL, signature BLOB NOT NULL, images TEXT NOT NULL, devices TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'live', created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lease_quotes_by_end ON lease_quotes (expires);
CREATE TABLE lease_specs (
    digest BLOB PRIMARY KEY, body BLOB NOT NULL, account TEXT NOT NULL, size INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lease_specs_of ON lease_specs (account);
