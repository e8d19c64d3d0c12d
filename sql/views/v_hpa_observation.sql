-- The observed status of each HPA, newest first.
CREATE VIEW v_hpa_observation AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', h.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       h.current_replicas,
       h.desired_replicas,
       c.conditions_json,
       h.metrics_json,
       h.at_unix_ms
FROM hpa_observation h
JOIN scaled_object o ON o.id = h.object_id
JOIN hpa_conditions c ON c.id = h.conditions_id
ORDER BY h.at_unix_ms DESC, h.id DESC;
