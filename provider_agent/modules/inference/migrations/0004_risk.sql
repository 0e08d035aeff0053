-- What is at risk is summed up some times a second: from here alone, without the rows.
CREATE INDEX paid_channels_risk ON paid_channels (payer, charged, total_claimed, reserved, open)
    WHERE charged <> total_claimed OR open = 1;
