-- What ended is found by its end, so that it can go with the rest of the history.
CREATE INDEX scaled_object_by_removed ON scaled_object (removed_at_unix_ms) WHERE removed_at_unix_ms IS NOT NULL;
CREATE INDEX definition_by_until ON definition (until_unix_ms) WHERE until_unix_ms IS NOT NULL;
CREATE INDEX series_by_until ON series (until_unix_ms) WHERE until_unix_ms IS NOT NULL;
CREATE INDEX process_run_by_started ON process_run (started_at_unix_ms);

-- Until this version what users wrote was stored as it was, passwords in it included. Rows of before are masked in the
-- background, a slice at a time; a table is listed here until all of its are.
CREATE TABLE unmasked (
    name     TEXT PRIMARY KEY,
    -- Rows up to this one are masked.
    after_id INTEGER NOT NULL,
    -- Rows after this one were written masked.
    last_id  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO unmasked (name, after_id, last_id)
SELECT name, 0, last_id FROM (
    SELECT 'definition' AS name, (SELECT max(id) FROM definition) AS last_id
    UNION ALL SELECT 'condition_change', (SELECT max(id) FROM condition_change)
    UNION ALL SELECT 'error_period', (SELECT max(id) FROM error_period)
    UNION ALL SELECT 'decision', (SELECT max(id) FROM decision)
    UNION ALL SELECT 'action', (SELECT max(id) FROM action)
) WHERE last_id IS NOT NULL;
