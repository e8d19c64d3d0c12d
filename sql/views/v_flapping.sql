-- Hours in which an object's replicas changed direction at least twice, worst first.
CREATE VIEW v_flapping AS
SELECT strftime('%Y-%m-%dT%H:00:00Z', f.hour * 3600, 'unixepoch') AS hour,
       o.namespace,
       o.name,
       f.ups,
       f.downs,
       f.turns,
       f.least,
       f.most,
       f.hour * 3600000 AS hour_unix_ms
FROM (
    SELECT c.object_id,
           c.at_unix_ms / 3600000 AS hour,
           sum(c.direction > 0) AS ups,
           sum(c.direction < 0) AS downs,
           sum(c.direction <> c.before) AS turns,
           min(c.to_replicas) AS least,
           max(c.to_replicas) AS most
    FROM (
        SELECT r.object_id,
               r.at_unix_ms,
               r.to_replicas,
               sign(r.to_replicas - r.from_replicas) AS direction,
               lag(sign(r.to_replicas - r.from_replicas))
                   OVER (PARTITION BY r.object_id ORDER BY r.at_unix_ms) AS before
        FROM replica_change r
        WHERE r.from_replicas <> r.to_replicas
    ) c
    GROUP BY c.object_id, hour
    HAVING turns >= 2
) f
JOIN scaled_object o ON o.id = f.object_id
ORDER BY f.turns DESC, f.hour DESC, o.namespace, o.name;
