-- The history of hpalite. Times are milliseconds since 1970-01-01T00:00:00Z and say so in their
-- names. People read the views (sql/views), which spell everything out.

-- One row for each ScaledObject that was ever seen. Deleting one and creating it anew gives it a new
-- uid, hence a new row.
CREATE TABLE scaled_object (
    id                 INTEGER PRIMARY KEY,
    api_group          TEXT NOT NULL,
    namespace          TEXT NOT NULL,
    name               TEXT NOT NULL,
    -- Empty while only records about it, not its definition, were seen.
    uid                TEXT NOT NULL,
    added_at_unix_ms   INTEGER NOT NULL,
    -- NULL while it exists.
    removed_at_unix_ms INTEGER
) STRICT;
CREATE INDEX scaled_object_by_name ON scaled_object (namespace, name, api_group);
-- At most one living object of a name.
CREATE UNIQUE INDEX scaled_object_living ON scaled_object (namespace, name, api_group)
    WHERE removed_at_unix_ms IS NULL;

-- Every version of a definition that came into force; at most one of an object is open.
CREATE TABLE definition (
    id            INTEGER PRIMARY KEY,
    object_id     INTEGER NOT NULL REFERENCES scaled_object (id),
    generation    INTEGER NOT NULL,
    from_unix_ms  INTEGER NOT NULL,
    -- NULL while in force.
    until_unix_ms INTEGER,
    spec_json     TEXT NOT NULL,
    -- What is wrong with it; NULL when it is valid.
    invalid       TEXT
) STRICT;
CREATE INDEX definition_by_object ON definition (object_id, from_unix_ms);

-- What is measured: one trigger of one object. Whatever of it changes, thresholds too, starts a new
-- series, so that a sample is always read against the query and the threshold of its time.
CREATE TABLE series (
    id                   INTEGER PRIMARY KEY,
    object_id            INTEGER NOT NULL REFERENCES scaled_object (id),
    trigger_index        INTEGER NOT NULL,
    kind                 TEXT NOT NULL,
    name                 TEXT,
    metric_name          TEXT NOT NULL,
    -- Who is asked and what, without anything that may be secret.
    server               TEXT NOT NULL,
    query                TEXT NOT NULL,
    threshold            REAL NOT NULL,
    activation_threshold REAL NOT NULL,
    from_unix_ms         INTEGER NOT NULL,
    -- NULL while it is measured.
    until_unix_ms        INTEGER
) STRICT;
CREATE INDEX series_by_object ON series (object_id, trigger_index);

-- Samples, stage one: appended as they come, so that a commit touches the last page only.
-- `value` is a number, or the outcome's name when there was none (`timeout`, `empty`, ...).
CREATE TABLE sample_head (
    id         INTEGER PRIMARY KEY,
    series_id  INTEGER NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    value      ANY NOT NULL,
    latency_ms INTEGER NOT NULL
) STRICT;

-- Samples, stage two: a block holds the chunks of all series over one stretch of time. Blocks are
-- appended, never changed in place; blocks of small chunks are merged into one of the next level.
CREATE TABLE sample_block (
    id            INTEGER PRIMARY KEY,
    level         INTEGER NOT NULL,
    from_unix_ms  INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL,
    samples       INTEGER NOT NULL,
    chunks        INTEGER NOT NULL,
    -- The block that this one is being merged into; NULL when none.
    merging_into  INTEGER,
    -- Samples of series up to this one are in the roll-ups, the others not yet. 0: none of them,
    -- 16777215: all. Only blocks that are rolled up whole or not at all are merged, so that each
    -- sample is counted once.
    rolled_series INTEGER NOT NULL DEFAULT 0,
    -- Where their minutes went; NULL before the first.
    minute_block  INTEGER
) STRICT;
CREATE INDEX sample_block_by_until ON sample_block (until_unix_ms);

-- Consecutive samples of one series. The id says where they belong:
--     id = (block_id << 36) + (series_id << 12) + number within block and series
-- so that the table is appended to, needs no index, and a series is found in a block by a range:
--     id BETWEEN (block_id << 36) + (series_id << 12) AND (block_id << 36) + (series_id << 12) + 4095
-- Entry number i (from 0) of `samples` is an integer n; with stride > 0 the sample is
--     at     base_unix_ms + i * step_ms + n / stride
--     value  value_list[n % stride]
-- and with stride = 0 (values rarely repeat)
--     at     base_unix_ms + i * step_ms + n
--     value  value_list[i]
-- where a value is a number or an outcome's name. v_sample does this arithmetic.
-- Not WITHOUT ROWID: there a row above 1,002 bytes spills to a page of its own, here above 4,061.
CREATE TABLE sample_chunk (
    id               INTEGER PRIMARY KEY,
    base_unix_ms     INTEGER NOT NULL,
    step_ms          INTEGER NOT NULL,
    stride           INTEGER NOT NULL,
    samples          TEXT NOT NULL,
    value_list       TEXT NOT NULL,
    latency_ms_total INTEGER NOT NULL,
    latency_ms_max   INTEGER NOT NULL
) STRICT;

-- Roll-ups by minute: a minute block has the minutes of one sample block, so a minute at the edge of
-- two blocks, or one that late samples fell into, has several parts, which v_sample_minute adds up.
CREATE TABLE minute_block (
    id            INTEGER PRIMARY KEY,
    from_unix_ms  INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX minute_block_by_until ON minute_block (until_unix_ms);

-- Consecutive minutes of one series; the id is made as that of sample_chunk, with the minute block.
-- An entry of `parts` is a list, shortened where the rest says nothing new:
--     [minute, last_ms, count, last]                                  all values alike, none missing
--     [minute, last_ms, count, last, min, max, sum]                   none missing
--     [minute, last_ms, count, last, min, max, sum, errors]
-- minute: minutes after base_minute (itself minutes since 1970); last_ms: time of the last value
-- within the minute; count: samples with a value; errors: samples without. Without any value count
-- is 0 and last, min, max and sum are null.
CREATE TABLE sample_minute (
    id          INTEGER PRIMARY KEY,
    base_minute INTEGER NOT NULL,
    parts       TEXT NOT NULL
) STRICT;

-- Roll-ups by hour. The hour comes first: those of one roll-up are neighbours, and so are those that
-- expire together.
CREATE TABLE sample_hour (
    hour_unix_ms    INTEGER NOT NULL,
    series_id       INTEGER NOT NULL,
    -- Samples with a value, and without.
    count           INTEGER NOT NULL,
    errors          INTEGER NOT NULL,
    -- NULL while count is 0.
    min             REAL,
    max             REAL,
    sum             REAL,
    last            REAL,
    last_at_unix_ms INTEGER,
    PRIMARY KEY (hour_unix_ms, series_id)
) STRICT, WITHOUT ROWID;

-- The hours that sample_hour has rows of: one series is found through them by key.
CREATE TABLE rolled_hour (
    hour_unix_ms INTEGER PRIMARY KEY
) STRICT;

-- A stretch in which every poll of a series ended the same way without a value.
CREATE TABLE error_period (
    id              INTEGER PRIMARY KEY,
    series_id       INTEGER NOT NULL REFERENCES series (id),
    -- As in a sample: `timeout`, `status`, `empty`, ...
    outcome         TEXT NOT NULL,
    message         TEXT NOT NULL,
    from_unix_ms    INTEGER NOT NULL,
    -- Last poll that ended so; written about once a minute while the period lasts.
    last_at_unix_ms INTEGER NOT NULL,
    -- When a poll ended otherwise; NULL while it lasts.
    until_unix_ms   INTEGER,
    polls           INTEGER NOT NULL
) STRICT;
CREATE INDEX error_period_by_series ON error_period (series_id, from_unix_ms);
CREATE INDEX error_period_open ON error_period (id) WHERE until_unix_ms IS NULL;
CREATE INDEX error_period_by_from ON error_period (from_unix_ms);

CREATE TABLE decision (
    id            INTEGER PRIMARY KEY,
    object_id     INTEGER NOT NULL REFERENCES scaled_object (id),
    at_unix_ms    INTEGER NOT NULL,
    -- Stable identifier, e.g. `Activated`.
    reason        TEXT NOT NULL,
    -- The same as a sentence.
    detail        TEXT NOT NULL,
    from_replicas INTEGER NOT NULL,
    to_replicas   INTEGER NOT NULL,
    -- [{"metric": text, "value": number or null, "active": bool, "error": text or null, "target": number,
    --   "metric_type": "AverageValue" or "Value", "proposal": replicas that the HPA makes of it or null,
    --   "exact": the same without tolerance, "fallback": whether the value is the fallback's, "formula": text}]
    -- where only the composite metric has a formula: with the triggers' values put in, and its result.
    triggers_json TEXT NOT NULL,
    -- What was in force. NULL: max while the spec is invalid, idle where there is none.
    min_replicas  INTEGER NOT NULL,
    max_replicas  INTEGER,
    idle_replicas INTEGER,
    -- Annotations in force, comma-joined: `paused`, `paused-replicas=5`, `paused-scale-in`, `paused-scale-out`.
    pause         TEXT,
    force_activation INTEGER NOT NULL,
    -- End of the cooldown, past or to come; NULL where it was not asked for.
    cooldown_until_unix_ms INTEGER,
    -- The most that a trigger asks for, before any limit.
    proposal      INTEGER,
    -- What kept the count from it: `min`, `max`, `tolerance`, `cooldown`, `initial-cooldown`, `pause`, `error`,
    -- `fallback-threshold`. Policies and stabilization are the HPA's, see hpa_observation.
    limited_by    TEXT
) STRICT;
CREATE INDEX decision_by_object ON decision (object_id, at_unix_ms);
CREATE INDEX decision_by_at ON decision (at_unix_ms);

-- How carrying out a decision went.
CREATE TABLE action (
    id            INTEGER PRIMARY KEY,
    object_id     INTEGER NOT NULL REFERENCES scaled_object (id),
    -- NULL when no recent decision has the same replicas.
    decision_id   INTEGER REFERENCES decision (id) ON DELETE SET NULL,
    at_unix_ms    INTEGER NOT NULL,
    from_replicas INTEGER NOT NULL,
    to_replicas   INTEGER NOT NULL,
    -- NULL when carried out.
    error         TEXT
) STRICT;
CREATE INDEX action_by_object ON action (object_id, at_unix_ms);
CREATE INDEX action_by_decision ON action (decision_id);
CREATE INDEX action_by_at ON action (at_unix_ms);

CREATE TABLE replica_change (
    id            INTEGER PRIMARY KEY,
    object_id     INTEGER NOT NULL REFERENCES scaled_object (id),
    at_unix_ms    INTEGER NOT NULL,
    -- NULL when first seen.
    from_replicas INTEGER,
    to_replicas   INTEGER NOT NULL,
    -- Field manager of spec.replicas, when the API server told.
    manager       TEXT,
    actor         TEXT NOT NULL CHECK (actor IN ('hpalite', 'hpa', 'other')),
    -- 'observed': by the field manager. 'inferred': from what was done or wanted shortly before.
    source        TEXT NOT NULL CHECK (source IN ('observed', 'inferred'))
) STRICT;
CREATE INDEX replica_change_by_object ON replica_change (object_id, at_unix_ms);
CREATE INDEX replica_change_by_at ON replica_change (at_unix_ms);

-- What HPAs said in their conditions. The same few texts come again and again, so each is kept once.
CREATE TABLE hpa_conditions (
    id              INTEGER PRIMARY KEY,
    -- [{"type": text, "status": text, "reason": text, "message": text}]
    conditions_json TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE hpa_observation (
    id               INTEGER PRIMARY KEY,
    object_id        INTEGER NOT NULL REFERENCES scaled_object (id),
    at_unix_ms       INTEGER NOT NULL,
    current_replicas INTEGER NOT NULL,
    desired_replicas INTEGER NOT NULL,
    conditions_id    INTEGER NOT NULL REFERENCES hpa_conditions (id),
    -- status.currentMetrics as the API server has it.
    metrics_json     TEXT NOT NULL
) STRICT;
CREATE INDEX hpa_observation_by_object ON hpa_observation (object_id, at_unix_ms);
CREATE INDEX hpa_observation_by_at ON hpa_observation (at_unix_ms);
CREATE INDEX hpa_observation_by_conditions ON hpa_observation (conditions_id);

CREATE TABLE condition_change (
    id         INTEGER PRIMARY KEY,
    object_id  INTEGER NOT NULL REFERENCES scaled_object (id),
    at_unix_ms INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    status     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    message    TEXT NOT NULL
) STRICT;
CREATE INDEX condition_change_by_object ON condition_change (object_id, at_unix_ms);
-- The newest of a kind, however often the others change.
CREATE INDEX condition_change_by_kind ON condition_change (object_id, kind, at_unix_ms);
CREATE INDEX condition_change_by_at ON condition_change (at_unix_ms);

-- What of an object must survive a restart.
CREATE TABLE object_state (
    object_id              INTEGER PRIMARY KEY REFERENCES scaled_object (id),
    last_active_at_unix_ms INTEGER NOT NULL
) STRICT;

-- hpalite's own starts and stops.
CREATE TABLE process_run (
    id                 INTEGER PRIMARY KEY,
    version            TEXT NOT NULL,
    started_at_unix_ms INTEGER NOT NULL,
    -- NULL while it runs, or when it did not get to say.
    stopped_at_unix_ms INTEGER,
    -- 'running', 'orderly', or 'lost': it ended without a word.
    state              TEXT NOT NULL CHECK (state IN ('running', 'orderly', 'lost'))
) STRICT;

-- What could not be written, told once writing works again.
CREATE TABLE loss (
    id            INTEGER PRIMARY KEY,
    from_unix_ms  INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL,
    -- Samples, and other records, that were lost.
    samples       INTEGER NOT NULL,
    others        INTEGER NOT NULL,
    cause         TEXT NOT NULL
) STRICT;
CREATE INDEX loss_by_from ON loss (from_unix_ms);

-- Small state of the daemon itself, such as its own CA. May hold private keys, as does no other
-- table: the file is readable by its owner alone.
CREATE TABLE kv (
    name               TEXT PRIMARY KEY,
    value              TEXT NOT NULL,
    changed_at_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
