-- What a payer's channels have brought, and what all its channels owe.
CREATE INDEX paid_channels_of ON paid_channels (payer);
