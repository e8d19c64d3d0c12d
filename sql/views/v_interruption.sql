-- When hpalite stood still, had no answer from the API server or no Lease, or the clock was stepped, newest first.
CREATE VIEW v_interruption AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', i.from_unix_ms / 1000.0, 'unixepoch') AS since,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.until_unix_ms / 1000.0, 'unixepoch') AS until,
       i.kind,
       i.times,
       i.from_unix_ms,
       i.until_unix_ms
FROM interruption i
ORDER BY i.from_unix_ms DESC, i.id DESC;
