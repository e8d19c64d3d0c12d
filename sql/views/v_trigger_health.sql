-- Each trigger of a living object: its newest sample of the last hour, that sample's age, and since when what is wrong;
-- triggers without a value come first.
CREATE VIEW v_trigger_health AS
WITH newest (series_id, at_unix_ms, value) AS (
    -- With a bare max() SQLite takes the other columns from the row that has the maximum.
    SELECT series_id, max(at_unix_ms), value
    FROM (
        SELECT h.series_id, h.at_unix_ms, h.value FROM sample_head h
        UNION ALL
        -- The last sample of a chunk is its newest.
        SELECT (c.id >> 12) & 16777215,
               c.base_unix_ms + (json_array_length(c.samples) - 1) * c.step_ms
                   + iif(c.stride = 0, c.samples ->> '$[#-1]', (c.samples ->> '$[#-1]') / c.stride),
               iif(c.stride = 0, c.value_list ->> '$[#-1]',
                   c.value_list ->> ((c.samples ->> '$[#-1]') % c.stride))
        FROM sample_block b
        CROSS JOIN sample_chunk c ON c.id BETWEEN b.id << 36 AND (b.id << 36) + 68719476735
        WHERE b.until_unix_ms >= CAST(strftime('%s', 'now') AS INTEGER) * 1000 - 3600000
    )
    GROUP BY series_id
)
SELECT o.namespace,
       o.name,
       s.metric_name,
       CASE WHEN e.id IS NOT NULL THEN e.outcome WHEN n.series_id IS NULL THEN 'no sample' ELSE 'ok' END AS health,
       iif(typeof(n.value) = 'text', NULL, CAST(n.value AS REAL)) AS value,
       s.threshold,
       s.activation_threshold,
       strftime('%Y-%m-%dT%H:%M:%fZ', n.at_unix_ms / 1000.0, 'unixepoch') AS sampled_at,
       CAST(strftime('%s', 'now') AS INTEGER) - n.at_unix_ms / 1000 AS age_s,
       strftime('%Y-%m-%dT%H:%M:%fZ', e.from_unix_ms / 1000.0, 'unixepoch') AS failing_since,
       e.polls AS failing_polls,
       e.message
FROM series s
JOIN scaled_object o ON o.id = s.object_id
LEFT JOIN newest n ON n.series_id = s.id
LEFT JOIN error_period e ON e.id = (SELECT max(x.id) FROM error_period x
                                     WHERE x.series_id = s.id AND x.until_unix_ms IS NULL)
WHERE s.until_unix_ms IS NULL
ORDER BY health = 'ok', o.namespace, o.name, s.trigger_index;
