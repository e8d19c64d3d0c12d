-- Every write that carried out a decision, newest first.
CREATE VIEW v_action AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', a.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       a.from_replicas,
       a.to_replicas,
       iif(a.error IS NULL, 'done', 'failed') AS outcome,
       a.error,
       d.reason,
       d.detail,
       a.at_unix_ms
FROM action a
JOIN scaled_object o ON o.id = a.object_id
LEFT JOIN decision d ON d.id = a.decision_id
ORDER BY a.at_unix_ms DESC, a.id DESC;
