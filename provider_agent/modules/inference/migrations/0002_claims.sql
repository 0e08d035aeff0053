-- What was claimed together: the rows of each transaction, named by its number in the key of its
-- intent. `total` is the channel's sum of all claims after it, as decimal text.
CREATE TABLE channel_claims (
    number INTEGER NOT NULL, channel BLOB NOT NULL, total TEXT NOT NULL,
    created_at INTEGER NOT NULL, PRIMARY KEY (number, channel)
) WITHOUT ROWID;
-- A cycle reads the channels that owe most, those that owe and are left, and those that were not looked
-- at for longest. A difference of numbers is good enough to sort by.
CREATE INDEX paid_channels_by_credit ON paid_channels (CAST(charged AS REAL) - CAST(total_claimed AS REAL))
    WHERE charged <> total_claimed;
CREATE INDEX paid_channels_left ON paid_channels (withdraw_requested_at)
    WHERE withdraw_requested_at <> 0 AND charged <> total_claimed;
CREATE INDEX paid_channels_by_look ON paid_channels (seen_block)
    WHERE balance <> total_claimed OR charged <> total_claimed;
