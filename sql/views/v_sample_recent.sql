-- Samples of the last 15 minutes, newest first. Reads only blocks that overlap that time.
CREATE VIEW v_sample_recent AS
WITH recent (since_unix_ms) AS (SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 - 900000),
raw (series_id, at_unix_ms, value) AS (
    SELECT h.series_id, h.at_unix_ms, h.value
    FROM sample_head h
    UNION ALL
    SELECT (c.id >> 12) & 16777215,
           c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride),
           c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)
    FROM sample_block b
    CROSS JOIN sample_chunk c ON c.id BETWEEN b.id << 36 AND (b.id << 36) + 68719476735
    CROSS JOIN json_each(c.samples) n
    WHERE b.until_unix_ms >= (SELECT since_unix_ms FROM recent)
)
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       s.metric_name,
       iif(typeof(r.value) = 'text', NULL, CAST(r.value AS REAL)) AS value,
       iif(typeof(r.value) = 'text', r.value, 'ok') AS outcome,
       s.threshold,
       s.activation_threshold,
       r.at_unix_ms
FROM raw r
JOIN series s ON s.id = r.series_id
JOIN scaled_object o ON o.id = s.object_id
WHERE r.at_unix_ms >= (SELECT since_unix_ms FROM recent)
ORDER BY r.at_unix_ms DESC;
