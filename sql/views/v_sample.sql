-- Every sample as a plain row. Unordered (add ORDER BY at_unix_ms); give namespace and name, or see
-- v_sample_recent.
CREATE VIEW v_sample AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       s.metric_name,
       iif(typeof(r.value) = 'text', NULL, CAST(r.value AS REAL)) AS value,
       iif(typeof(r.value) = 'text', r.value, 'ok') AS outcome,
       s.threshold,
       s.activation_threshold,
       s.trigger_index,
       r.series_id,
       r.at_unix_ms
FROM scaled_object o
CROSS JOIN series s ON s.object_id = o.id
CROSS JOIN v_sample_raw r ON r.series_id = s.id;
