-- Orders that a court may judge: what a call about their dispute needs. `terms`, `record` and
-- `dispute` are ABI encodings, empty where the chain has not told them yet.
CREATE TABLE judged_orders (
    job_id BLOB PRIMARY KEY, terms BLOB NOT NULL DEFAULT x'', record BLOB NOT NULL DEFAULT x'',
    dispute BLOB NOT NULL DEFAULT x'', note TEXT NOT NULL DEFAULT '',
    is_over INTEGER NOT NULL DEFAULT 0, updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX open_disputes ON judged_orders (job_id) WHERE is_over = 0 AND dispute <> x'';
