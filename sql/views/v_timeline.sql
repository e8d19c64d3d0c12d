-- All changes in one list, newest first; samples and decisions without a change are left out.
CREATE VIEW v_timeline AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', t.at_unix_ms / 1000.0, 'unixepoch') AS at,
       t.namespace,
       t.name,
       t.what,
       t.text,
       t.at_unix_ms
FROM (
    SELECT d.from_unix_ms AS at_unix_ms, o.namespace, o.name, 'definition' AS what,
           'generation ' || d.generation || iif(d.invalid IS NULL, '', ' is invalid: ' || d.invalid) AS text
    FROM definition d JOIN scaled_object o ON o.id = d.object_id
    UNION ALL
    SELECT o.removed_at_unix_ms, o.namespace, o.name, 'removed', 'the ScaledObject is gone'
    FROM scaled_object o WHERE o.removed_at_unix_ms IS NOT NULL
    UNION ALL
    SELECT d.at_unix_ms, o.namespace, o.name, 'decision',
           d.from_replicas || ' to ' || d.to_replicas || ': ' || d.detail
    FROM decision d JOIN scaled_object o ON o.id = d.object_id
    WHERE d.from_replicas <> d.to_replicas
    UNION ALL
    SELECT a.at_unix_ms, o.namespace, o.name, 'action',
           a.from_replicas || ' to ' || a.to_replicas || iif(a.error IS NULL, ' done', ' failed: ' || a.error)
    FROM action a JOIN scaled_object o ON o.id = a.object_id
    UNION ALL
    SELECT r.at_unix_ms, o.namespace, o.name, 'replicas',
           iif(r.from_replicas IS NULL, 'seen: ' || r.to_replicas, r.from_replicas || ' to ' || r.to_replicas || ' by '
               || CASE r.actor WHEN 'hpa' THEN 'the HPA' WHEN 'hpalite' THEN 'hpalite' ELSE coalesce(r.manager, 'someone else') END
               || iif(r.source = 'inferred', ' (inferred)', ''))
               -- A scale-in while metrics had no number says so.
               || iif(r.to_replicas < r.from_replicas, coalesce((
                   SELECT '; ' || group_concat((t.value ->> 'metric') || ' has ' || (t.value ->> 'absence'), '; ')
                   FROM json_each((SELECT d.triggers_json FROM decision d WHERE d.object_id = r.object_id
                       AND d.at_unix_ms <= r.at_unix_ms ORDER BY d.at_unix_ms DESC, d.id DESC LIMIT 1)) t
                   WHERE t.value ->> 'absence' IS NOT NULL), ''), '')
    FROM replica_change r JOIN scaled_object o ON o.id = r.object_id
    UNION ALL
    SELECT c.at_unix_ms, o.namespace, o.name, 'condition',
           c.kind || ' ' || c.status || ' ' || c.reason || ': ' || c.message
    FROM condition_change c JOIN scaled_object o ON o.id = c.object_id
    UNION ALL
    SELECT e.from_unix_ms, o.namespace, o.name, 'error began', s.metric_name || ' ' || e.outcome || ' ' || e.message
    FROM error_period e JOIN series s ON s.id = e.series_id JOIN scaled_object o ON o.id = s.object_id
    UNION ALL
    SELECT e.until_unix_ms, o.namespace, o.name, 'error ended', s.metric_name || ' after ' || e.polls || ' polls'
    FROM error_period e JOIN series s ON s.id = e.series_id JOIN scaled_object o ON o.id = s.object_id
    WHERE e.until_unix_ms IS NOT NULL
    UNION ALL
    SELECT p.started_at_unix_ms, NULL, NULL, 'start', 'hpalite ' || p.version
    FROM process_run p
    UNION ALL
    SELECT l.from_unix_ms, NULL, NULL, 'loss',
           l.samples || ' samples and ' || l.others || ' other records not written: ' || l.cause
    FROM loss l
    UNION ALL
    SELECT i.from_unix_ms, NULL, NULL, 'interruption',
           i.kind || ' for ' || ((i.until_unix_ms - i.from_unix_ms + 500) / 1000) || ' s' || iif(i.times > 1, ', ' || i.times || ' times', '')
    FROM interruption i
    UNION ALL
    SELECT p.stopped_at_unix_ms, NULL, NULL, 'stop', 'hpalite ' || p.version
    FROM process_run p WHERE p.stopped_at_unix_ms IS NOT NULL
    -- Here, not outside: the parts are then merged in the order of their indexes, and the newest come at once.
    ORDER BY at_unix_ms DESC
) t;
