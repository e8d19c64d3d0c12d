-- Minutes of every series: what was rolled up (sql/migrations/0001_init.sql explains the entries) and the samples
-- that are not yet. Unordered: give namespace and name, and at_unix_ms where a day will do.
CREATE VIEW v_sample_minute AS
SELECT strftime('%Y-%m-%dT%H:%M:%SZ', p.minute * 60, 'unixepoch') AS at,
       p.namespace,
       p.name,
       p.metric_name,
       sum(p.count) AS count,
       sum(p.errors) AS errors,
       min(p.min) AS min,
       max(p.max) AS max,
       sum(p.sum) / nullif(sum(p.count), 0) AS mean,
       json_group_array(p.last ORDER BY p.last_at_unix_ms DESC) FILTER (WHERE p.last IS NOT NULL) ->> 0 AS last,
       p.series_id,
       p.minute * 60000 AS at_unix_ms
FROM (
    SELECT o.namespace, o.name, s.metric_name, s.id AS series_id,
           m.base_minute + (e.value ->> 0) AS minute,
           e.value ->> 2 AS count,
           coalesce(e.value ->> 7, 0) AS errors,
           CAST(coalesce(e.value ->> 4, e.value ->> 3) AS REAL) AS min,
           CAST(coalesce(e.value ->> 5, e.value ->> 3) AS REAL) AS max,
           CAST(coalesce(e.value ->> 6, (e.value ->> 3) * (e.value ->> 2)) AS REAL) AS sum,
           CAST(e.value ->> 3 AS REAL) AS last,
           (m.base_minute + (e.value ->> 0)) * 60000 + (e.value ->> 1) AS last_at_unix_ms
    FROM scaled_object o
    CROSS JOIN series s ON s.object_id = o.id
    CROSS JOIN minute_block b
    CROSS JOIN sample_minute m ON m.id BETWEEN (b.id << 36) + (s.id << 12) AND (b.id << 36) + (s.id << 12) + 4095
    CROSS JOIN json_each(m.parts) e
    UNION ALL
    SELECT u.namespace, u.name, u.metric_name, u.series_id,
           u.at_unix_ms / 60000 - (u.at_unix_ms % 60000 < 0),
           typeof(u.value) <> 'text',
           typeof(u.value) = 'text',
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           u.at_unix_ms
    FROM v_sample_unrolled u
) p
GROUP BY p.namespace, p.name, p.metric_name, p.series_id, p.minute;
