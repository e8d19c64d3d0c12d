-- Records that could not be written and why, newest first.
CREATE VIEW v_loss AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', l.from_unix_ms / 1000.0, 'unixepoch') AS since,
       strftime('%Y-%m-%dT%H:%M:%fZ', l.until_unix_ms / 1000.0, 'unixepoch') AS until,
       l.samples,
       l.others,
       l.cause,
       l.from_unix_ms,
       l.until_unix_ms
FROM loss l
ORDER BY l.from_unix_ms DESC, l.id DESC;
