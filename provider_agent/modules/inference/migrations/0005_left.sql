-- What was taken out of a channel is at risk no more.
DROP INDEX paid_channels_risk;
CREATE INDEX paid_channels_risk ON paid_channels (payer, charged, total_claimed, reserved, open, balance)
    WHERE charged <> total_claimed OR open = 1;
