-- Periods without a value, ongoing ones first, then newest first.
CREATE VIEW v_error_period AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', e.from_unix_ms / 1000.0, 'unixepoch') AS since,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.until_unix_ms / 1000.0, 'unixepoch') AS until,
       o.namespace,
       o.name,
       s.metric_name,
       e.outcome,
       e.message,
       e.polls,
       -- One that ended before it began is of an older version, whose wall clock was set back meanwhile.
       round(max(coalesce(e.until_unix_ms, e.last_at_unix_ms) - e.from_unix_ms, 0) / 1000.0, 1) AS lasted_s,
       e.from_unix_ms,
       e.until_unix_ms
FROM error_period e
JOIN series s ON s.id = e.series_id
JOIN scaled_object o ON o.id = s.object_id
ORDER BY e.until_unix_ms IS NOT NULL, e.from_unix_ms DESC, e.id DESC;
