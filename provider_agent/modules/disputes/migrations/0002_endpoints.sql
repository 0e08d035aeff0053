-- Where the agents of providers are, by the events of Staking: a juror asks them for evidence.
CREATE TABLE endpoints (owner TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
