-- Every sample as a plain row, however it is stored; sql/migrations/0001_init.sql explains the arithmetic. Unordered,
-- because ordering would decode everything first: give namespace and name and add ORDER BY at_unix_ms, or use
-- v_sample_recent. The second part uses CROSS JOIN to fix the join order: a chunk is found by block and series.
CREATE VIEW v_sample AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', h.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       s.metric_name,
       iif(typeof(h.value) = 'text', NULL, CAST(h.value AS REAL)) AS value,
       iif(typeof(h.value) = 'text', h.value, 'ok') AS outcome,
       s.threshold,
       s.activation_threshold,
       s.trigger_index,
       s.id AS series_id,
       h.at_unix_ms
FROM sample_head h
JOIN series s ON s.id = h.series_id
JOIN scaled_object o ON o.id = s.object_id
UNION ALL
SELECT strftime('%Y-%m-%dT%H:%M:%fZ',
                (c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride)) / 1000.0,
                'unixepoch'),
       o.namespace,
       o.name,
       s.metric_name,
       iif(typeof(c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)) = 'text', NULL,
           CAST(c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride) AS REAL)),
       iif(typeof(c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)) = 'text',
           c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride), 'ok'),
       s.threshold,
       s.activation_threshold,
       s.trigger_index,
       s.id,
       c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride)
FROM scaled_object o
-- A larger number would be found as another series of the next block.
CROSS JOIN series s ON s.object_id = o.id AND s.id <= 16777215
CROSS JOIN sample_block b
CROSS JOIN sample_chunk c ON c.id BETWEEN (b.id << 36) + (s.id << 12) AND (b.id << 36) + (s.id << 12) + 4095
CROSS JOIN json_each(c.samples) n;
