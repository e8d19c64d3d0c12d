-- Samples that are not in the roll-ups yet, the tail that v_sample_minute and v_sample_hour add to them.
CREATE VIEW v_sample_unrolled AS
SELECT o.namespace, o.name, s.metric_name, s.id AS series_id, h.at_unix_ms, h.value
FROM sample_head h
JOIN series s ON s.id = h.series_id
JOIN scaled_object o ON o.id = s.object_id
UNION ALL
SELECT o.namespace,
       o.name,
       s.metric_name,
       s.id,
       c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride),
       c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)
FROM scaled_object o
CROSS JOIN series s ON s.object_id = o.id
CROSS JOIN sample_block b ON b.rolled_series < s.id
CROSS JOIN sample_chunk c ON c.id BETWEEN (b.id << 36) + (s.id << 12) AND (b.id << 36) + (s.id << 12) + 4095
CROSS JOIN json_each(c.samples) n;
