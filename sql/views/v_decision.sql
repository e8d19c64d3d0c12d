-- Every decision with its reason and its outcome, newest first.
CREATE VIEW v_decision AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', d.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       d.reason,
       d.detail,
       d.from_replicas,
       d.to_replicas,
       CASE WHEN a.id IS NOT NULL AND a.error IS NULL THEN 'done'
            WHEN a.id IS NOT NULL THEN 'failed: ' || a.error
            WHEN d.detail LIKE 'would have: %' THEN 'shadow'
            WHEN d.from_replicas = d.to_replicas THEN 'nothing to do'
            ELSE 'open' END AS outcome,
       d.proposal,
       d.limited_by,
       d.pause,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.cooldown_until_unix_ms / 1000.0, 'unixepoch') AS cooldown_until,
       d.min_replicas,
       d.max_replicas,
       d.triggers_json,
       d.at_unix_ms
FROM decision d
JOIN scaled_object o ON o.id = d.object_id
LEFT JOIN action a ON a.id = (SELECT max(x.id) FROM action x WHERE x.decision_id = d.id)
ORDER BY d.at_unix_ms DESC, d.id DESC;
