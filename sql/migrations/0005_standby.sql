-- While it stood by, another instance decided, polled and wrote, and that one's history has it. NULL: it never stood by.
-- The largest integer: it still does.
ALTER TABLE process_run ADD COLUMN stood_by_until_unix_ms INTEGER;
