-- Every version of every definition, newest first.
CREATE VIEW v_definition AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', d.from_unix_ms / 1000.0, 'unixepoch') AS in_force_from,
       strftime('%Y-%m-%dT%H:%M:%fZ', d.until_unix_ms / 1000.0, 'unixepoch') AS in_force_until,
       o.namespace,
       o.name,
       d.generation,
       d.invalid,
       d.spec_json,
       d.from_unix_ms,
       d.until_unix_ms
FROM definition d
JOIN scaled_object o ON o.id = d.object_id
ORDER BY d.from_unix_ms DESC, d.id DESC;
