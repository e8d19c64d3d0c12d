-- Every change of a ScaledObject's conditions, newest first.
CREATE VIEW v_condition_change AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', c.at_unix_ms / 1000.0, 'unixepoch') AS at,
       o.namespace,
       o.name,
       c.kind,
       c.status,
       c.reason,
       c.message,
       c.at_unix_ms
FROM condition_change c
JOIN scaled_object o ON o.id = c.object_id
ORDER BY c.at_unix_ms DESC, c.id DESC;
