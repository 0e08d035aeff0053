-- The channels whose receiver this provider is. `config` is ABI-encoded. Amounts are decimal text,
-- for they have 128 bits. `balance` to `refund_nonce` are the chain's, as seen at block `seen_block`.
-- `voucher` is the highest sum that the payer has signed, `signature` the one over it. `charged` is
-- the sum of all that was served: never more than `voucher`, which was covered when it was taken.
-- `number` counts requests. While one is open, `reserved` is what its next step can cost, and
-- `opened_charged` what `charged` was before it. `receipt` is the last one, as JSON.
CREATE TABLE paid_channels (
    channel BLOB PRIMARY KEY, config BLOB NOT NULL, payer TEXT NOT NULL,
    balance TEXT NOT NULL, total_claimed TEXT NOT NULL DEFAULT '0',
    withdraw_requested_at INTEGER NOT NULL DEFAULT 0, refund_nonce TEXT NOT NULL DEFAULT '0',
    seen_block INTEGER NOT NULL DEFAULT 0,
    voucher TEXT NOT NULL DEFAULT '0', signature BLOB NOT NULL DEFAULT x'',
    charged TEXT NOT NULL DEFAULT '0', number INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 0, reserved TEXT NOT NULL DEFAULT '0',
    opened_charged TEXT NOT NULL DEFAULT '0', opened_at INTEGER,
    receipt TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX paid_channels_open ON paid_channels (open) WHERE open = 1;
CREATE INDEX paid_channels_used ON paid_channels (updated_at);
-- Deposits that payers have signed: `new` until the duty has an intent for it, `sent` until that
-- has ended, then `done`, or `refused` with an error word of x402 in `reason`.
CREATE TABLE channel_deposits (
    nonce BLOB PRIMARY KEY, channel BLOB NOT NULL, config BLOB NOT NULL, payer TEXT NOT NULL,
    amount TEXT NOT NULL, valid_after TEXT NOT NULL, valid_before TEXT NOT NULL,
    salt BLOB NOT NULL, signature BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'new',
    reason TEXT NOT NULL DEFAULT '', tx_hash BLOB NOT NULL DEFAULT x'',
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX channel_deposits_by_state ON channel_deposits (state, created_at);
CREATE INDEX channel_deposits_of ON channel_deposits (channel);
-- Refunds that payers have asked for, one of a channel at a time; states as above. While one is
-- `new` or `sent` no request of the channel is served. `amount` is what goes back.
CREATE TABLE channel_refunds (
    channel BLOB PRIMARY KEY, amount TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'new',
    reason TEXT NOT NULL DEFAULT '', tx_hash BLOB NOT NULL DEFAULT x'',
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX channel_refunds_by_state ON channel_refunds (state);
