-- The contribution of each trigger to each decision, newest first. Of a decision about many only those that decided are
-- kept, and its triggers_json says how many more there were.
CREATE VIEW v_decision_trigger AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', d.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       d.reason,
       t.value ->> 'metric' AS metric_name,
       t.value ->> 'value' AS value,
       t.value ->> 'target' AS target,
       t.value ->> 'proposal' AS proposal,
       t.value ->> 'fallback' AS fallback,
       t.value ->> 'active' AS active,
       t.value ->> 'error' AS error,
       t.value ->> 'formula' AS formula,
       t.value ->> 'absence' AS absence,
       d.at_unix_ms
FROM decision d
JOIN scaled_object o ON o.id = d.object_id
JOIN json_each(d.triggers_json) t ON t.value ->> 'metric' IS NOT NULL
ORDER BY d.at_unix_ms DESC, d.id DESC, t.key;
