-- Claims are looked for by what they bring.
DROP INDEX paid_channels_by_credit;
CREATE INDEX paid_channels_by_credit ON paid_channels
    (min(CAST(charged AS REAL), CAST(balance AS REAL)) - CAST(total_claimed AS REAL))
    WHERE charged <> total_claimed;
