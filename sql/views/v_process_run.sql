-- Starts and stops of hpalite itself, newest first.
CREATE VIEW v_process_run AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', p.started_at_unix_ms / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', p.stopped_at_unix_ms / 1000.0, 'unixepoch') AS stopped_at,
       p.state,
       p.version,
       -- Until then another instance decided. The year 9999: it still does. Empty: it never stood by.
       strftime('%Y-%m-%dT%H:%M:%fZ', min(p.stood_by_until_unix_ms, 253402300799999) / 1000.0, 'unixepoch') AS stood_by_until
FROM process_run p
ORDER BY p.id DESC;
