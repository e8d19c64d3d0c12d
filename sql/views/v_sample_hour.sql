-- Hours of every series: what was rolled up and the samples that are not yet. Unordered.
CREATE VIEW v_sample_hour AS
SELECT strftime('%Y-%m-%dT%H:%M:%SZ', p.hour * 3600, 'unixepoch') AS at,
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
       p.hour * 3600000 AS at_unix_ms
FROM (
    SELECT o.namespace, o.name, s.metric_name, s.id AS series_id, r.hour_unix_ms / 3600000 AS hour,
           h.count, h.errors, h.min, h.max, h.sum, h.last, h.last_at_unix_ms
    FROM scaled_object o
    CROSS JOIN series s ON s.object_id = o.id
    CROSS JOIN rolled_hour r
    CROSS JOIN sample_hour h ON h.hour_unix_ms = r.hour_unix_ms AND h.series_id = s.id
    UNION ALL
    SELECT u.namespace, u.name, u.metric_name, u.series_id,
           u.at_unix_ms / 3600000 - (u.at_unix_ms % 3600000 < 0),
           typeof(u.value) <> 'text',
           typeof(u.value) = 'text',
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           iif(typeof(u.value) = 'text', NULL, CAST(u.value AS REAL)),
           u.at_unix_ms
    FROM v_sample_unrolled u
) p
GROUP BY p.namespace, p.name, p.metric_name, p.series_id, p.hour;
