-- Schema 4: seconds that orders were paused between the post and the assignment.
ALTER TABLE jobs ADD COLUMN paused TEXT;
