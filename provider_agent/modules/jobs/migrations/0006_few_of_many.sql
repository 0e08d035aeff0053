-- A cycle looks at few of many open jobs: those that pay most, new ones, and others by turns.
-- The seventh word of the terms, counted from 0, is `max_price`: big-endian, so it sorts by itself.
CREATE INDEX jobs_by_pay ON jobs (status, substr(terms, 225, 32) DESC);
CREATE INDEX jobs_by_turn ON jobs (status, job_id);
CREATE INDEX jobs_unseen ON jobs (status, (note = ''), substr(terms, 225, 32) DESC);

-- What our settings (`rules`) say of a specification: the least price, or why it cannot be run.
CREATE TABLE verdicts (
    digest BLOB PRIMARY KEY, rules BLOB NOT NULL, least TEXT NOT NULL,
    code TEXT NOT NULL, line TEXT NOT NULL, details TEXT NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER verdict_dropped AFTER DELETE ON specs BEGIN
    DELETE FROM verdicts WHERE digest = old.digest;
END;
