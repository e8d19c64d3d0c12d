-- When as many pods were ready as a scale-out asked for: how long pods take to start. NULL for a scale-in, for pods that
-- were not ready before the next scale-in or within an hour, where no watch shows it, and until this version.
ALTER TABLE replica_change ADD COLUMN ready_at_unix_ms INTEGER;
