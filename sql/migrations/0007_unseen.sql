-- Since when the watch that showed the change had been interrupted, so that the change may be as old as that. NULL: it was seen
-- as it happened, or that is not known.
ALTER TABLE replica_change ADD COLUMN unseen_since_unix_ms INTEGER;
