-- Quotes say how the result is judged.
ALTER TABLE quotes ADD COLUMN judged TEXT NOT NULL DEFAULT 0;
