-- Every ScaledObject, living ones first, with its newest definition.
CREATE VIEW v_scaled_object AS
SELECT o.namespace,
       o.name,
       o.api_group,
       CASE WHEN o.removed_at_unix_ms IS NOT NULL THEN 'removed'
            WHEN d.invalid IS NOT NULL THEN 'invalid'
            ELSE 'valid' END AS state,
       d.generation,
       (SELECT r.to_replicas FROM replica_change r WHERE r.object_id = o.id
         ORDER BY r.at_unix_ms DESC, r.id DESC LIMIT 1) AS replicas,
       (SELECT count(*) FROM series s WHERE s.object_id = o.id AND s.until_unix_ms IS NULL) AS triggers,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.last_active_at_unix_ms / 1000.0, 'unixepoch') AS last_active_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.added_at_unix_ms / 1000.0, 'unixepoch') AS added_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.removed_at_unix_ms / 1000.0, 'unixepoch') AS removed_at,
       d.invalid,
       d.spec_json,
       o.uid
FROM scaled_object o
LEFT JOIN definition d ON d.id = (SELECT x.id FROM definition x WHERE x.object_id = o.id
                                   ORDER BY x.from_unix_ms DESC, x.id DESC LIMIT 1)
LEFT JOIN object_state a ON a.object_id = o.id
ORDER BY o.removed_at_unix_ms IS NOT NULL, o.namespace, o.name, o.id DESC;
