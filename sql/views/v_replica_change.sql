-- Every change of a target's replicas and who made it, newest first.
CREATE VIEW v_replica_change AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       r.from_replicas,
       r.to_replicas,
       r.actor,
       r.source,
       r.manager,
       -- How long the pods of a scale-out took until all were ready; NULL where that is not known.
       round((r.ready_at_unix_ms - r.at_unix_ms) / 1000.0, 1) AS ready_after_s,
       -- The change may be as old as this: the watch had been interrupted. NULL where it was seen as it happened.
       strftime('%Y-%m-%dT%H:%M:%fZ', r.unseen_since_unix_ms / 1000.0, 'unixepoch') AS unseen_since,
       r.at_unix_ms
FROM replica_change r
JOIN scaled_object o ON o.id = r.object_id
ORDER BY r.at_unix_ms DESC, r.id DESC;
