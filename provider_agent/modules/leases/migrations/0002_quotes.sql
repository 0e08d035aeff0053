-- A cycle reads the quotes that are live, and those that were used for leases it has not seen.
CREATE INDEX quotes_by_state ON lease_quotes (state, expires, digest);
