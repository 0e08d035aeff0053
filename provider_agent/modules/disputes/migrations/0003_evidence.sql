-- What the requester of a dispute says: its sha256, empty where the chain has not told it yet.
ALTER TABLE judged_orders ADD COLUMN evidence BLOB NOT NULL DEFAULT x'';
