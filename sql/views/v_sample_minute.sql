-- Every series by minute: the roll-ups (sql/migrations/0001_init.sql explains the entries), and the samples that are
-- not rolled up yet. Unordered: give namespace and name. Each series is aggregated in a subquery that refers to it, so
-- that one object is found by keys; an aggregate around all of them would be computed for all first.
CREATE VIEW v_sample_minute AS
SELECT strftime('%Y-%m-%dT%H:%M:%SZ', (e.value ->> 0) * 60, 'unixepoch') AS at,
       o.namespace,
       o.name,
       s.metric_name,
       e.value ->> 1 AS count,
       e.value ->> 2 AS errors,
       CAST(e.value ->> 3 AS REAL) AS min,
       CAST(e.value ->> 4 AS REAL) AS max,
       CAST(e.value ->> 5 AS REAL) / nullif(e.value ->> 1, 0) AS mean,
       CAST(e.value ->> 6 AS REAL) AS last,
       s.threshold,
       s.trigger_index,
       s.id AS series_id,
       (e.value ->> 0) * 60000 AS at_unix_ms
FROM scaled_object o
-- A larger number would be found as another series of the next block.
CROSS JOIN series s ON s.object_id = o.id AND s.id <= 16777215
CROSS JOIN json_each((
    SELECT json_group_array(json_array(t.minute, t.count, t.errors, t.min, t.max, t.sum, t.last))
    FROM (
        SELECT p.minute,
               sum(p.count) AS count,
               sum(p.errors) AS errors,
               min(p.min) AS min,
               max(p.max) AS max,
               sum(p.sum) AS sum,
               json_group_array(p.last ORDER BY p.last_at_unix_ms DESC) FILTER (WHERE p.last IS NOT NULL) ->> 0 AS last
        FROM (
            SELECT m.base_minute + (q.value ->> 0) AS minute,
                   q.value ->> 2 AS count,
                   coalesce(q.value ->> 7, 0) AS errors,
                   CAST(coalesce(q.value ->> 4, q.value ->> 3) AS REAL) AS min,
                   CAST(coalesce(q.value ->> 5, q.value ->> 3) AS REAL) AS max,
                   CAST(coalesce(q.value ->> 6, (q.value ->> 3) * (q.value ->> 2)) AS REAL) AS sum,
                   CAST(q.value ->> 3 AS REAL) AS last,
                   (m.base_minute + (q.value ->> 0)) * 60000 + (q.value ->> 1) AS last_at_unix_ms
            FROM minute_block b
            CROSS JOIN sample_minute m
                ON m.id BETWEEN (b.id << 36) + (s.id << 12) AND (b.id << 36) + (s.id << 12) + 4095
            CROSS JOIN json_each(m.parts) q
            UNION ALL
            SELECT (r.at_unix_ms - (r.at_unix_ms % 60000 + 60000) % 60000) / 60000,
                   r.value IS NOT NULL, r.value IS NULL, r.value, r.value, r.value, r.value, r.at_unix_ms
            FROM (
                SELECT h.at_unix_ms, iif(typeof(h.value) = 'text', NULL, CAST(h.value AS REAL)) AS value
                FROM sample_head h
                WHERE h.series_id = s.id
                UNION ALL
                SELECT c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride),
                       iif(typeof(c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)) = 'text', NULL,
                           CAST(c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride) AS REAL))
                FROM sample_block b
                CROSS JOIN sample_chunk c
                    ON c.id BETWEEN (b.id << 36) + (s.id << 12) AND (b.id << 36) + (s.id << 12) + 4095
                CROSS JOIN json_each(c.samples) n
                WHERE b.rolled_series < s.id
            ) r
        ) p
        GROUP BY p.minute
    ) t
)) e;
