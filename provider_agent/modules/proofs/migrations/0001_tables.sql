-- Schema 3. Who has committed to a proof in which epoch: whom to look at when the epoch is over.
CREATE TABLE proofs (
    epoch INTEGER NOT NULL, provider TEXT NOT NULL, PRIMARY KEY (epoch, provider)
) WITHOUT ROWID;
