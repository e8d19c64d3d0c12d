//! All SQL of the program: the migrations, the views, and one constant per statement.
//!
//! Owns the texts only; the other files of this folder run them. Statements are numbered so that the writer keeps each
//! one prepared, and so that tests can prepare all of them on a migrated database and check their query plans.

/// Applied in order, each once; the position (from 1) is the schema's version. Append only.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../../sql/migrations/0001_init.sql"),
    include_str!("../../sql/migrations/0002_retention.sql"),
    include_str!("../../sql/migrations/0003_ready.sql"),
    include_str!("../../sql/migrations/0004_bounds.sql"),
    include_str!("../../sql/migrations/0005_standby.sql"),
    include_str!("../../sql/migrations/0006_interruption.sql"),
    include_str!("../../sql/migrations/0007_unseen.sql"),
];

/// Dropped and recreated if they changed, at each start.
pub(crate) const VIEWS: &[(&str, &str)] = &[
    ("v_scaled_object", include_str!("../../sql/views/v_scaled_object.sql")),
    ("v_definition", include_str!("../../sql/views/v_definition.sql")),
    ("v_decision", include_str!("../../sql/views/v_decision.sql")),
    ("v_decision_trigger", include_str!("../../sql/views/v_decision_trigger.sql")),
    ("v_action", include_str!("../../sql/views/v_action.sql")),
    ("v_replica_change", include_str!("../../sql/views/v_replica_change.sql")),
    ("v_hpa_observation", include_str!("../../sql/views/v_hpa_observation.sql")),
    ("v_condition_change", include_str!("../../sql/views/v_condition_change.sql")),
    ("v_error_period", include_str!("../../sql/views/v_error_period.sql")),
    ("v_process_run", include_str!("../../sql/views/v_process_run.sql")),
    ("v_sample", include_str!("../../sql/views/v_sample.sql")),
    ("v_sample_recent", include_str!("../../sql/views/v_sample_recent.sql")),
    ("v_sample_minute", include_str!("../../sql/views/v_sample_minute.sql")),
    ("v_sample_hour", include_str!("../../sql/views/v_sample_hour.sql")),
    ("v_flapping", include_str!("../../sql/views/v_flapping.sql")),
    ("v_interruption", include_str!("../../sql/views/v_interruption.sql")),
    ("v_loss", include_str!("../../sql/views/v_loss.sql")),
    ("v_trigger_health", include_str!("../../sql/views/v_trigger_health.sql")),
    ("v_timeline", include_str!("../../sql/views/v_timeline.sql")),
];

/// Lists the schema's tables and views, for `.tables` and `.schema`.
pub(crate) const LIST_TABLES: &str = "SELECT name, type FROM sqlite_schema \
     WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY type DESC, name";
pub(crate) const LIST_SCHEMA: &str =
    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND (?1 = '' OR tbl_name = ?1) ORDER BY type DESC, name";

/// Selects when something was last measured, if there is anything to measure.
pub(crate) const LAST_SAMPLE: &str = "SELECT max(coalesce((SELECT at_unix_ms FROM sample_head ORDER BY id DESC LIMIT 1), 0), \
     coalesce((SELECT max(until_unix_ms) FROM sample_block), 0)) \
     WHERE EXISTS (SELECT 1 FROM series JOIN scaled_object AS o ON o.id = object_id \
                   WHERE until_unix_ms IS NULL AND o.removed_at_unix_ms IS NULL)";

/// Counts the processes that ended without a word and began after `?1`; the one that runs has not ended.
pub(crate) const RUNS_LOST: &str = "SELECT count(*) FROM process_run WHERE state = 'lost' AND started_at_unix_ms > ?1";

/// Selects the newest loss that ended after `?1`.
pub(crate) const LAST_LOSS: &str = "SELECT until_unix_ms, samples + others, cause FROM loss WHERE until_unix_ms > ?1 \
     ORDER BY until_unix_ms DESC, id DESC LIMIT 1";

/// Copies the write-ahead log into the database and empties it, as far as readers allow.
pub(crate) const FOLD: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Begins reading a snapshot.
pub(crate) const TOUCH: &str = "SELECT count(*) FROM sqlite_schema";

/// How often a statement runs, which decides what its query plan may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heat {
    /// Runs for each record or slice of compaction: no full scan.
    Hot,
    /// Runs at start, or over a table whose size is bounded (the head, the list of blocks).
    Cold,
}

macro_rules! statements {
    ($($name:ident $heat:ident $text:expr;)*) => {
        /// Identifies a prepared statement.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Sql { $($name,)* }

        impl Sql {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub(crate) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            #[cfg_attr(not(test), expect(dead_code, reason = "what tests judge plans by"))]
            pub(crate) fn heat(self) -> Heat {
                match self { $(Self::$name => Heat::$heat,)* }
            }
        }
    };
}

/// Matches a row `x` of a table that may be deleted: a newer one of its object says what lasts, or the object is gone.
macro_rules! superseded {
    ($table:literal $(, $alike:literal)?) => {
        concat!(
            "(EXISTS (SELECT 1 FROM ",
            $table,
            " n WHERE n.object_id = x.object_id",
            $($alike,)?
            " AND n.at_unix_ms > x.at_unix_ms) OR (SELECT removed_at_unix_ms FROM scaled_object WHERE id = x.object_id) IS NOT NULL)"
        )
    };
}

statements! {
    // Loaded at start.
    LoadObjects Cold "SELECT id, api_group, namespace, name, uid FROM scaled_object WHERE removed_at_unix_ms IS NULL";
    LoadSeries Cold "SELECT id, object_id, trigger_index, kind, name, metric_name, server, query, threshold, \
        activation_threshold FROM series WHERE until_unix_ms IS NULL";
    LoadErrorPeriods Cold "SELECT id, series_id, outcome, message, last_at_unix_ms, polls \
        FROM error_period WHERE until_unix_ms IS NULL";
    Restore Cold "SELECT o.api_group, o.namespace, o.name, o.uid, a.last_active_at_unix_ms, \
        (SELECT d.generation FROM definition d WHERE d.object_id = o.id AND d.until_unix_ms IS NULL ORDER BY d.from_unix_ms DESC LIMIT 1), \
        (SELECT r.to_replicas FROM replica_change r WHERE r.object_id = o.id ORDER BY r.at_unix_ms DESC, r.id DESC LIMIT 1), \
        (SELECT iif(r.to_replicas = 0 AND r.actor = 'hpalite' AND o.api_group = 'autoscaling', \
            (SELECT d.spec_json FROM definition d WHERE d.object_id = o.id AND d.from_unix_ms <= r.at_unix_ms \
                ORDER BY d.from_unix_ms DESC, d.id DESC LIMIT 1), NULL) \
            FROM replica_change r WHERE r.object_id = o.id ORDER BY r.at_unix_ms DESC, r.id DESC LIMIT 1) \
        FROM scaled_object o LEFT JOIN object_state a ON a.object_id = o.id WHERE o.removed_at_unix_ms IS NULL";

    // A definition that has the word elsewhere costs a look at its samples.
    HeldSeries Cold "SELECT s.id, o.api_group, o.namespace, o.name, d.generation, s.trigger_index \
        FROM definition d JOIN scaled_object o ON o.id = d.object_id JOIN series s ON s.object_id = o.id \
        WHERE d.until_unix_ms IS NULL AND o.removed_at_unix_ms IS NULL AND s.until_unix_ms IS NULL \
        AND instr(d.spec_json, '\"hold\"') > 0";

    // Objects, definitions, series.
    InsertObject Hot "INSERT INTO scaled_object (api_group, namespace, name, uid, added_at_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    NameObject Hot "UPDATE scaled_object SET uid = ?2 WHERE id = ?1";
    RemoveObject Hot "UPDATE scaled_object SET removed_at_unix_ms = max(?2, added_at_unix_ms) WHERE id = ?1";
    OpenDefinition Hot "SELECT id, generation, spec_json, invalid FROM definition \
        WHERE object_id = ?1 AND until_unix_ms IS NULL ORDER BY from_unix_ms DESC LIMIT 1";
    CloseDefinitions Hot "UPDATE definition SET until_unix_ms = max(?2, from_unix_ms) WHERE object_id = ?1 AND until_unix_ms IS NULL";
    InsertDefinition Hot "INSERT INTO definition (object_id, generation, from_unix_ms, spec_json, invalid) VALUES (?1, ?2, ?3, ?4, ?5)";
    // Deletes ended definitions except the newest ?2, in limited steps.
    TrimDefinitions Hot "DELETE FROM definition WHERE id IN (SELECT id FROM definition WHERE object_id = ?1 AND until_unix_ms IS NOT NULL \
        ORDER BY from_unix_ms DESC, id DESC LIMIT 100 OFFSET ?2)";
    // The same of an object's series, and before them their errors, at most ?3 series at once.
    TrimSeriesErrors Hot "DELETE FROM error_period WHERE series_id IN (SELECT id FROM series \
        WHERE object_id = ?1 AND until_unix_ms IS NOT NULL ORDER BY until_unix_ms DESC, id DESC LIMIT ?3 OFFSET ?2)";
    TrimSeries Hot "DELETE FROM series WHERE id IN (SELECT id FROM series \
        WHERE object_id = ?1 AND until_unix_ms IS NOT NULL ORDER BY until_unix_ms DESC, id DESC LIMIT ?3 OFFSET ?2)";
    // Numbers of series, up to the largest that the id of a chunk has room for.
    LastSeries Hot "SELECT coalesce(max(id), 0) FROM series WHERE id <= ?1";
    // The first number after ?1 that no series has, and the next one that one has; ?2 is the largest.
    FreeSeries Cold "SELECT x.id + 1, min(coalesce((SELECT min(n.id) FROM series n WHERE n.id > x.id), ?2 + 1), ?2 + 1) \
        FROM (SELECT ?1 AS id UNION ALL SELECT s.id FROM (SELECT id FROM series WHERE id > ?1 ORDER BY id) s) x \
        WHERE x.id < ?2 AND NOT EXISTS (SELECT 1 FROM series n WHERE n.id = x.id + 1) LIMIT 1";
    // What is left of the numbers from ?1 to ?2.
    ClearHeadOf Cold "DELETE FROM sample_head WHERE series_id BETWEEN ?1 AND ?2";
    ClearChunksOf Cold "DELETE FROM sample_chunk WHERE id IN (SELECT c.id FROM sample_block b \
        CROSS JOIN sample_chunk c ON c.id BETWEEN (b.id << 36) + (?1 << 12) AND (b.id << 36) + (?2 << 12) + 4095)";
    ClearMinutesOf Cold "DELETE FROM sample_minute WHERE id IN (SELECT m.id FROM minute_block b \
        CROSS JOIN sample_minute m ON m.id BETWEEN (b.id << 36) + (?1 << 12) AND (b.id << 36) + (?2 << 12) + 4095)";
    ClearHoursOf Cold "DELETE FROM sample_hour WHERE (hour_unix_ms, series_id) IN (SELECT y.hour_unix_ms, y.series_id FROM rolled_hour x \
        CROSS JOIN sample_hour y ON y.hour_unix_ms = x.hour_unix_ms AND y.series_id BETWEEN ?1 AND ?2)";
    InsertSeries Hot "INSERT INTO series (id, object_id, trigger_index, kind, name, metric_name, server, query, threshold, \
        activation_threshold, from_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    CloseSeries Hot "UPDATE series SET until_unix_ms = max(?2, from_unix_ms) WHERE id = ?1";

    // History.
    InsertDecision Hot "INSERT INTO decision (object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, \
        min_replicas, max_replicas, idle_replicas, pause, force_activation, cooldown_until_unix_ms, proposal, limited_by) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    // The newest decision of the object within ?3 ms with the same change of replicas.
    FindDecision Hot "SELECT id FROM decision WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 - ?3 AND ?2 \
        AND from_replicas = ?4 AND to_replicas = ?5 ORDER BY at_unix_ms DESC, id DESC LIMIT 1";
    InsertAction Hot "INSERT INTO action (object_id, decision_id, at_unix_ms, from_replicas, to_replicas, error) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    InsertReplicaChange Hot "INSERT INTO replica_change (object_id, at_unix_ms, from_replicas, to_replicas, manager, actor, source, \
        unseen_since_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    AttributeReplicaChange Hot "UPDATE replica_change SET actor = ?4 WHERE object_id = ?1 AND at_unix_ms = ?2 \
        AND to_replicas = ?3 AND source = 'inferred'";
    ReadyReplicaChange Hot "UPDATE replica_change SET ready_at_unix_ms = ?4 WHERE object_id = ?1 AND at_unix_ms = ?2 \
        AND to_replicas = ?3";
    InsertHpaConditions Hot "INSERT INTO hpa_conditions (conditions_json) VALUES (?1) ON CONFLICT DO NOTHING";
    InsertHpa Hot "INSERT INTO hpa_observation (object_id, at_unix_ms, current_replicas, desired_replicas, conditions_id, metrics_json) \
        SELECT ?1, ?2, ?3, ?4, id, ?6 FROM hpa_conditions WHERE conditions_json = ?5";
    InsertCondition Hot "INSERT INTO condition_change (object_id, at_unix_ms, kind, status, reason, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    UpsertLastActive Hot "INSERT INTO object_state (object_id, last_active_at_unix_ms) VALUES (?1, ?2) \
        ON CONFLICT (object_id) DO UPDATE SET last_active_at_unix_ms = max(last_active_at_unix_ms, excluded.last_active_at_unix_ms)";
    InsertErrorPeriod Hot "INSERT INTO error_period (series_id, outcome, message, from_unix_ms, last_at_unix_ms, polls) \
        VALUES (?1, ?2, ?3, ?4, ?4, 1)";
    // It lasts while ?4 is null.
    UpdateErrorPeriod Hot "UPDATE error_period SET last_at_unix_ms = ?2, polls = ?3, until_unix_ms = max(?4, from_unix_ms) WHERE id = ?1";

    // Deletes what happened to an object except the newest ?2 of a kind, and except what lasts, in limited steps.
    TrimActions Hot "DELETE FROM action WHERE id IN (SELECT id FROM action WHERE object_id = ?1 ORDER BY at_unix_ms DESC, id DESC LIMIT 512 OFFSET ?2)";
    TrimDecisions Hot "DELETE FROM decision WHERE id IN (SELECT id FROM decision WHERE object_id = ?1 ORDER BY at_unix_ms DESC, id DESC LIMIT 512 OFFSET ?2)";
    TrimReplicaChanges Hot "DELETE FROM replica_change WHERE id IN (SELECT id FROM replica_change \
        WHERE object_id = ?1 ORDER BY at_unix_ms DESC, id DESC LIMIT 512 OFFSET ?2)";
    TrimHpas Hot "DELETE FROM hpa_observation WHERE id IN (SELECT id FROM hpa_observation \
        WHERE object_id = ?1 ORDER BY at_unix_ms DESC, id DESC LIMIT 512 OFFSET ?2)";
    TrimConditions Hot concat!("DELETE FROM condition_change WHERE id IN (SELECT x.id FROM condition_change x WHERE x.id IN (SELECT id FROM condition_change \
        WHERE object_id = ?1 ORDER BY at_unix_ms DESC, id DESC LIMIT 512 OFFSET ?2) AND ", superseded!("condition_change", " AND n.kind = x.kind"), ")");
    TrimErrorPeriods Cold "DELETE FROM error_period WHERE until_unix_ms IS NOT NULL AND id IN (SELECT e.id FROM series s \
        CROSS JOIN error_period e ON e.series_id = s.id WHERE s.object_id = ?1 ORDER BY e.id DESC LIMIT 512 OFFSET ?2)";

    // Interruptions. One of ?1 from ?2 until ?3 grows into one of the last day that is within ?4 ms of it.
    GrowInterruption Hot "UPDATE interruption SET times = times + (until_unix_ms < ?2), from_unix_ms = min(from_unix_ms, ?2), \
        until_unix_ms = max(until_unix_ms, ?3) WHERE id = (SELECT id FROM interruption \
        WHERE from_unix_ms BETWEEN ?2 - 86400000 AND ?3 + ?4 AND kind = ?1 AND until_unix_ms >= ?2 - ?4 ORDER BY from_unix_ms DESC LIMIT 1)";
    InsertInterruption Hot "INSERT INTO interruption (kind, from_unix_ms, until_unix_ms, times) VALUES (?1, ?2, ?3, 1)";

    // From the start of the process that runs until ?2, if that is more than ?3 ms.
    InsertWait Cold "INSERT INTO interruption (kind, from_unix_ms, until_unix_ms, times) \
        SELECT ?1, started_at_unix_ms, ?2, 1 FROM process_run WHERE state = 'running' AND started_at_unix_ms < ?2 - ?3";

    // Losses, and what is saved from a corrupt file.
    InsertLoss Hot "INSERT INTO loss (from_unix_ms, until_unix_ms, samples, others, cause) VALUES (?1, ?2, ?3, ?4, ?5)";
    GrowLoss Hot "UPDATE loss SET until_unix_ms = ?2, samples = samples + ?3, others = others + ?4 WHERE id = ?1";
    SaveKv Cold "SELECT name, value FROM kv";

    // The process and its small state.
    LoseProcessRuns Cold "UPDATE process_run SET state = 'lost' WHERE state = 'running'";
    InsertProcessRun Hot "INSERT INTO process_run (version, started_at_unix_ms, state) VALUES (?1, ?2, 'running')";
    StandBy Cold "UPDATE process_run SET stood_by_until_unix_ms = ?1 WHERE state = 'running'";
    StopProcessRun Hot "UPDATE process_run SET state = 'orderly', stopped_at_unix_ms = ?2 WHERE id = ?1";
    ReadKv Hot "SELECT value FROM kv WHERE name = ?1";
    WriteKv Hot "INSERT INTO kv (name, value, changed_at_unix_ms) VALUES (?1, ?2, ?3) \
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_at_unix_ms = excluded.changed_at_unix_ms";

    // Samples.
    InsertHead Hot "INSERT INTO sample_head (series_id, at_unix_ms, value, latency_ms) VALUES (?1, ?2, ?3, ?4)";
    HeadStats Cold "SELECT count(*), coalesce(min(at_unix_ms), 0) FROM sample_head";
    ReadHead Cold "SELECT series_id, at_unix_ms, value, latency_ms FROM sample_head ORDER BY series_id, at_unix_ms, id";
    ClearHead Cold "DELETE FROM sample_head";
    InsertBlock Hot "INSERT INTO sample_block (level, from_unix_ms, until_unix_ms, samples, chunks, rolled_series) VALUES (?1, ?2, ?3, 0, 0, ?4)";
    GrowBlock Hot "UPDATE sample_block SET samples = samples + ?2, chunks = chunks + ?3 WHERE id = ?1";
    DeleteBlock Hot "DELETE FROM sample_block WHERE id = ?1";
    InsertChunk Hot "INSERT INTO sample_chunk (id, base_unix_ms, step_ms, stride, samples, value_list, \
        latency_ms_total, latency_ms_max) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

    // Merging. ?1 is the minimum number of samples per chunk.
    MergeUnderWay Cold "SELECT merging_into FROM sample_block WHERE merging_into IS NOT NULL LIMIT 1";
    // Only blocks that are rolled up alike are merged: completely (16777215) or not at all (0).
    MergeCandidates Cold "SELECT level, rolled_series, count(*) FROM sample_block WHERE merging_into IS NULL AND samples < ?1 * chunks \
        AND level < ?3 AND rolled_series IN (0, 16777215) GROUP BY level, rolled_series HAVING count(*) >= ?2 ORDER BY level LIMIT 1";
    MergeFirst Cold "SELECT id, samples, chunks FROM sample_block WHERE level = ?1 AND rolled_series = ?2 AND merging_into IS NULL \
        AND samples < ?3 * chunks ORDER BY id LIMIT 1";
    MergeTexts Cold "SELECT coalesce(sum(length(samples) + length(value_list)), 0), coalesce(sum(json_array_length(samples)), 0) \
        FROM (SELECT samples, value_list FROM sample_chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
    MergeSpan Cold "SELECT min(from_unix_ms), max(until_unix_ms) FROM (SELECT from_unix_ms, until_unix_ms FROM sample_block \
        WHERE level = ?1 AND rolled_series = ?2 AND merging_into IS NULL AND samples < ?3 * chunks ORDER BY id LIMIT ?4)";
    MergeBegin Cold "UPDATE sample_block SET merging_into = ?1 WHERE id IN (SELECT id FROM sample_block \
        WHERE level = ?2 AND rolled_series = ?3 AND merging_into IS NULL AND samples < ?4 * chunks AND id <> ?1 ORDER BY id LIMIT ?5)";
    MergeSources Cold "SELECT id, samples, chunks FROM sample_block WHERE merging_into = ?1 ORDER BY id";
    // Chunks between the ids ?1 and ?2, which encode block and series (see the migration).
    MergeReach Hot "SELECT id FROM sample_chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1 OFFSET ?3";
    MergeRead Hot "SELECT id, base_unix_ms, step_ms, stride, samples, value_list, latency_ms_total, latency_ms_max \
        FROM sample_chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
    MergeDelete Hot "DELETE FROM sample_chunk WHERE id BETWEEN ?1 AND ?2";
    HasNoChunk Hot "SELECT NOT EXISTS (SELECT 1 FROM sample_chunk WHERE id BETWEEN ?1 AND ?2)";

    // Roll-ups. Blocks are ready if they need no merging first (?1 as above), or are older than ?2.
    RollReady Cold "SELECT id, rolled_series, minute_block, from_unix_ms, until_unix_ms, samples, chunks FROM sample_block \
        WHERE rolled_series < 16777215 AND merging_into IS NULL AND (samples >= ?1 * chunks OR until_unix_ms < ?2 OR level >= ?3) \
        ORDER BY id LIMIT 1";
    RollBlock Hot "SELECT id, rolled_series, minute_block, from_unix_ms, until_unix_ms, samples, chunks FROM sample_block WHERE id = ?1";
    RollAdvance Hot "UPDATE sample_block SET rolled_series = ?2, minute_block = ?3 WHERE id = ?1";
    InsertMinuteBlock Hot "INSERT INTO minute_block (from_unix_ms, until_unix_ms) VALUES (?1, ?2)";
    InsertMinute Hot "INSERT INTO sample_minute (id, base_minute, parts) VALUES (?1, ?2, ?3)";
    InsertRolledHour Hot "INSERT INTO rolled_hour (hour_unix_ms) VALUES (?1) ON CONFLICT DO NOTHING";
    UpsertHour Hot "INSERT INTO sample_hour (hour_unix_ms, series_id, count, errors, min, max, sum, last, last_at_unix_ms) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO UPDATE SET count = count + excluded.count, \
        errors = errors + excluded.errors, \
        min = min(coalesce(min, excluded.min), coalesce(excluded.min, min)), \
        max = max(coalesce(max, excluded.max), coalesce(excluded.max, max)), \
        sum = coalesce(sum + excluded.sum, sum, excluded.sum), \
        last = iif(excluded.last_at_unix_ms >= coalesce(last_at_unix_ms, excluded.last_at_unix_ms), excluded.last, last), \
        last_at_unix_ms = max(coalesce(last_at_unix_ms, excluded.last_at_unix_ms), coalesce(excluded.last_at_unix_ms, last_at_unix_ms))";

    // Retention: ?1 is the time before which rows are deleted, the last parameter the number of rows at once. What is only
    // recorded when it changes is kept while it lasts, however old: the newest row of an object that lives.
    ExpiredBlock Hot "SELECT id, rolled_series FROM sample_block WHERE until_unix_ms < ?1 AND merging_into IS NULL ORDER BY until_unix_ms LIMIT 1";
    ExpireChunks Hot "DELETE FROM sample_chunk WHERE id IN (SELECT id FROM sample_chunk WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
    ExpiredMinuteBlock Hot "SELECT id FROM minute_block WHERE until_unix_ms < ?1 ORDER BY until_unix_ms LIMIT 1";
    ExpireMinutes Hot "DELETE FROM sample_minute WHERE id IN (SELECT id FROM sample_minute WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)";
    DeleteMinuteBlock Hot "DELETE FROM minute_block WHERE id = ?1";
    ExpiredHour Hot "SELECT hour_unix_ms FROM rolled_hour WHERE hour_unix_ms < ?1 ORDER BY hour_unix_ms LIMIT 1";
    ExpireHours Hot "DELETE FROM sample_hour WHERE hour_unix_ms = ?1 AND series_id IN (SELECT series_id FROM sample_hour WHERE hour_unix_ms = ?1 LIMIT ?2)";
    DeleteRolledHour Hot "DELETE FROM rolled_hour WHERE hour_unix_ms = ?1";
    ExpireLosses Hot "DELETE FROM loss WHERE id IN (SELECT id FROM loss WHERE from_unix_ms < ?1 ORDER BY from_unix_ms LIMIT ?2)";
    ExpireInterruptions Hot "DELETE FROM interruption WHERE id IN (SELECT id FROM interruption WHERE from_unix_ms < ?1 ORDER BY from_unix_ms LIMIT ?2)";
    ExpireActions Hot "DELETE FROM action WHERE id IN (SELECT id FROM action WHERE at_unix_ms < ?1 ORDER BY at_unix_ms LIMIT ?2)";
    ExpireDecisions Hot concat!("DELETE FROM decision WHERE id IN (SELECT x.id FROM decision x WHERE x.at_unix_ms < ?1 AND ", superseded!("decision"),
        " ORDER BY x.at_unix_ms LIMIT ?2)");
    ExpireReplicaChanges Hot concat!("DELETE FROM replica_change WHERE id IN (SELECT x.id FROM replica_change x WHERE x.at_unix_ms < ?1 AND ", superseded!("replica_change"),
        " ORDER BY x.at_unix_ms LIMIT ?2)");
    ExpireHpas Hot concat!("DELETE FROM hpa_observation WHERE id IN (SELECT x.id FROM hpa_observation x WHERE x.at_unix_ms < ?1 AND ", superseded!("hpa_observation"),
        " ORDER BY x.at_unix_ms LIMIT ?2)");
    ExpireHpaConditions Cold "DELETE FROM hpa_conditions WHERE id IN (SELECT c.id FROM hpa_conditions c \
        WHERE NOT EXISTS (SELECT 1 FROM hpa_observation h WHERE h.conditions_id = c.id) LIMIT ?1)";
    ExpireConditions Hot concat!("DELETE FROM condition_change WHERE id IN (SELECT x.id FROM condition_change x WHERE x.at_unix_ms < ?1 AND ",
        superseded!("condition_change", " AND n.kind = x.kind"), " ORDER BY x.at_unix_ms LIMIT ?2)");
    ExpireErrorPeriods Hot "DELETE FROM error_period WHERE id IN (SELECT id FROM error_period \
        WHERE until_unix_ms < ?1 ORDER BY until_unix_ms LIMIT ?2)";
    // Rows that ended and that nothing refers to any more.
    ExpireDefinitions Hot "DELETE FROM definition WHERE id IN (SELECT id FROM definition WHERE until_unix_ms < ?1 ORDER BY until_unix_ms LIMIT ?2)";
    ExpireSeries Hot "DELETE FROM series WHERE id IN (SELECT s.id FROM series s WHERE s.until_unix_ms < ?1 \
        AND NOT EXISTS (SELECT 1 FROM error_period e WHERE e.series_id = s.id) ORDER BY s.until_unix_ms LIMIT ?2)";
    ExpireStates Hot "DELETE FROM object_state WHERE object_id IN (SELECT a.object_id FROM scaled_object o JOIN object_state a ON a.object_id = o.id \
        WHERE o.removed_at_unix_ms < ?1 ORDER BY o.removed_at_unix_ms LIMIT ?2)";
    ExpireObjects Hot "DELETE FROM scaled_object WHERE id IN (SELECT o.id FROM scaled_object o WHERE o.removed_at_unix_ms < ?1 \
        AND NOT EXISTS (SELECT 1 FROM definition x WHERE x.object_id = o.id) AND NOT EXISTS (SELECT 1 FROM series x WHERE x.object_id = o.id) \
        AND NOT EXISTS (SELECT 1 FROM decision x WHERE x.object_id = o.id) AND NOT EXISTS (SELECT 1 FROM action x WHERE x.object_id = o.id) \
        AND NOT EXISTS (SELECT 1 FROM replica_change x WHERE x.object_id = o.id) AND NOT EXISTS (SELECT 1 FROM hpa_observation x WHERE x.object_id = o.id) \
        AND NOT EXISTS (SELECT 1 FROM condition_change x WHERE x.object_id = o.id) AND NOT EXISTS (SELECT 1 FROM object_state x WHERE x.object_id = o.id) \
        ORDER BY o.removed_at_unix_ms LIMIT ?2)";
    ExpireRuns Hot "DELETE FROM process_run WHERE id IN (SELECT id FROM process_run WHERE started_at_unix_ms < ?1 AND state <> 'running' \
        ORDER BY started_at_unix_ms LIMIT ?2)";
    // The oldest time of any sample or roll-up: a series that ended before has none.
    OldestNumber Cold "SELECT min(at) FROM (SELECT (SELECT min(at_unix_ms) FROM sample_head) AS at UNION ALL SELECT (SELECT min(from_unix_ms) FROM sample_block) \
        UNION ALL SELECT (SELECT min(from_unix_ms) FROM minute_block) UNION ALL SELECT (SELECT min(hour_unix_ms) FROM rolled_hour))";
    // The newest time of what is written again and again, and of an orderly stop: a crash may be one of many in a loop.
    NewestRow Cold "SELECT max(at) FROM (SELECT (SELECT max(at_unix_ms) FROM sample_head) AS at UNION ALL SELECT (SELECT max(until_unix_ms) FROM sample_block) \
        UNION ALL SELECT (SELECT max(at_unix_ms) FROM decision) UNION ALL SELECT (SELECT max(at_unix_ms) FROM hpa_observation) \
        UNION ALL SELECT (SELECT max(stopped_at_unix_ms) FROM process_run WHERE state = 'orderly'))";
    // For the size cap: the time span of everything that may be deleted, however much that lasts is older.
    HasBlock Cold "SELECT EXISTS (SELECT 1 FROM sample_block)";
    OldestHistory Cold concat!("SELECT min(at) FROM (SELECT (SELECT min(at_unix_ms) FROM action) AS at \
        UNION ALL SELECT (SELECT x.at_unix_ms FROM decision x WHERE ", superseded!("decision"), " ORDER BY x.at_unix_ms LIMIT 1) \
        UNION ALL SELECT (SELECT x.at_unix_ms FROM replica_change x WHERE ", superseded!("replica_change"), " ORDER BY x.at_unix_ms LIMIT 1) \
        UNION ALL SELECT (SELECT x.at_unix_ms FROM hpa_observation x WHERE ", superseded!("hpa_observation"), " ORDER BY x.at_unix_ms LIMIT 1) \
        UNION ALL SELECT (SELECT x.at_unix_ms FROM condition_change x WHERE ", superseded!("condition_change", " AND n.kind = x.kind"),
        " ORDER BY x.at_unix_ms LIMIT 1) \
        UNION ALL SELECT (SELECT min(from_unix_ms) FROM loss) UNION ALL SELECT (SELECT min(from_unix_ms) FROM interruption) UNION ALL SELECT (SELECT min(until_unix_ms) FROM error_period WHERE until_unix_ms IS NOT NULL) \
        UNION ALL SELECT (SELECT min(started_at_unix_ms) FROM process_run WHERE state <> 'running') \
        UNION ALL SELECT (SELECT min(until_unix_ms) FROM definition WHERE until_unix_ms IS NOT NULL))");
    NewestHistory Cold "SELECT max(at) FROM (SELECT (SELECT max(at_unix_ms) FROM action) AS at UNION ALL SELECT (SELECT max(at_unix_ms) FROM decision) \
        UNION ALL SELECT (SELECT max(at_unix_ms) FROM replica_change) UNION ALL SELECT (SELECT max(at_unix_ms) FROM hpa_observation) \
        UNION ALL SELECT (SELECT max(at_unix_ms) FROM condition_change) UNION ALL SELECT (SELECT max(from_unix_ms) FROM loss) \
        UNION ALL SELECT (SELECT max(from_unix_ms) FROM interruption) \
        UNION ALL SELECT (SELECT max(until_unix_ms) FROM error_period WHERE until_unix_ms IS NOT NULL) UNION ALL SELECT (SELECT max(started_at_unix_ms) FROM process_run WHERE state <> 'running') \
        UNION ALL SELECT (SELECT max(until_unix_ms) FROM definition WHERE until_unix_ms IS NOT NULL))";

    // Masking what an earlier version stored: ?1 and ?2 bound the ids, ?3 the number of rows.
    MaskNext Cold "SELECT name, after_id, last_id FROM unmasked LIMIT 1";
    MaskAdvance Hot "UPDATE unmasked SET after_id = ?2 WHERE name = ?1";
    MaskDone Hot "DELETE FROM unmasked WHERE name = ?1";
    MaskReadDefinitions Hot "SELECT id, spec_json, invalid FROM definition WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    MaskDefinition Hot "UPDATE definition SET spec_json = ?2, invalid = ?3 WHERE id = ?1";
    MaskReadConditions Hot "SELECT id, message FROM condition_change WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    MaskCondition Hot "UPDATE condition_change SET message = ?2 WHERE id = ?1";
    MaskReadErrors Hot "SELECT id, message FROM error_period WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    MaskError Hot "UPDATE error_period SET message = ?2 WHERE id = ?1";
    MaskReadDecisions Hot "SELECT id, triggers_json FROM decision WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    MaskDecision Hot "UPDATE decision SET triggers_json = ?2 WHERE id = ?1";
    MaskReadActions Hot "SELECT id, error FROM action WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    MaskAction Hot "UPDATE action SET error = ?2 WHERE id = ?1";
    PageCount Hot "PRAGMA page_count";
    FreePageCount Hot "PRAGMA freelist_count";
    FreePages Cold "PRAGMA incremental_vacuum(256)";

    // Reading.
    // A time range for plots and explanations (`read`): ?2 and ?3 are its bounds, ?4 the maximum number of rows.
    ListObjects Cold "SELECT o.id, o.api_group, o.namespace, o.name, o.added_at_unix_ms, o.removed_at_unix_ms, d.generation, d.invalid, \
        (SELECT r.to_replicas FROM replica_change r WHERE r.object_id = o.id ORDER BY r.at_unix_ms DESC, r.id DESC LIMIT 1), \
        a.last_active_at_unix_ms, count(*) OVER () \
        FROM scaled_object o LEFT JOIN object_state a ON a.object_id = o.id \
        LEFT JOIN definition d ON d.id = (SELECT x.id FROM definition x WHERE x.object_id = o.id ORDER BY x.from_unix_ms DESC, x.id DESC LIMIT 1) \
        WHERE (o.removed_at_unix_ms IS NULL OR ?2 AND o.id = (SELECT max(y.id) FROM scaled_object y \
            WHERE y.namespace = o.namespace AND y.name = o.name AND y.api_group = o.api_group)) \
        AND instr(o.namespace || '/' || o.name, ?1) > 0 \
        ORDER BY o.removed_at_unix_ms IS NOT NULL, o.namespace, o.name, o.api_group DESC LIMIT ?3 OFFSET ?4";
    FindObjects Hot "SELECT id, added_at_unix_ms, removed_at_unix_ms FROM scaled_object \
        WHERE namespace = ?1 AND name = ?2 AND api_group = ?3 ORDER BY id";
    FindGroups Hot "SELECT DISTINCT api_group FROM scaled_object WHERE namespace = ?1 AND name = ?2";
    ConditionChanges Hot "SELECT status, reason, message, at_unix_ms FROM condition_change \
        WHERE object_id = ?1 AND kind = ?5 AND at_unix_ms BETWEEN ?2 AND ?3 ORDER BY at_unix_ms DESC, id DESC LIMIT ?4";
    SeriesOfObject Hot "SELECT id, trigger_index, kind, name, metric_name, threshold, activation_threshold, from_unix_ms, until_unix_ms, \
        server, query \
        FROM series WHERE object_id = ?1 AND from_unix_ms <= ?3 AND coalesce(until_unix_ms, ?3) >= ?2 ORDER BY trigger_index, id";
    // Selects first whether the roll-ups include the samples; such samples are wanted only from blocks that begin until
    // ?4.
    ChunksBetween Hot "SELECT b.rolled_series >= ?1, c.base_unix_ms, c.step_ms, c.stride, c.samples, c.value_list FROM sample_block b \
        CROSS JOIN sample_chunk c ON c.id BETWEEN (b.id << 36) + (?1 << 12) AND (b.id << 36) + (?1 << 12) + 4095 \
        WHERE ?1 <= 16777215 AND b.until_unix_ms >= ?2 AND b.from_unix_ms <= ?3 AND (b.rolled_series < ?1 OR b.from_unix_ms <= ?4)";
    ChunksNewestFirst Hot "SELECT b.until_unix_ms, c.base_unix_ms, c.step_ms, c.stride, c.samples, c.value_list FROM sample_block b \
        CROSS JOIN sample_chunk c ON c.id BETWEEN (b.id << 36) + (?1 << 12) AND (b.id << 36) + (?1 << 12) + 4095 \
        WHERE ?1 <= 16777215 AND b.until_unix_ms >= ?2 ORDER BY b.until_unix_ms DESC";
    MinutesBetween Hot "SELECT m.base_minute, m.parts FROM minute_block b \
        CROSS JOIN sample_minute m ON m.id BETWEEN (b.id << 36) + (?1 << 12) AND (b.id << 36) + (?1 << 12) + 4095 \
        WHERE ?1 <= 16777215 AND b.until_unix_ms >= ?2 AND b.from_unix_ms <= ?3 AND m.base_minute <= ?3 / 60000";
    HoursBetween Hot "SELECT y.hour_unix_ms, y.count, y.errors, y.min, y.max, y.last, y.last_at_unix_ms FROM rolled_hour x \
        CROSS JOIN sample_hour y ON y.hour_unix_ms = x.hour_unix_ms AND y.series_id = ?1 WHERE x.hour_unix_ms BETWEEN ?2 AND ?3";
    OldestRollUps Cold "SELECT (SELECT min(from_unix_ms) FROM minute_block), (SELECT min(hour_unix_ms) FROM rolled_hour)";
    HeadBetween Cold "SELECT series_id, at_unix_ms, value FROM sample_head WHERE at_unix_ms BETWEEN ?1 AND ?2";
    ReplicasBefore Hot "SELECT at_unix_ms, from_replicas, to_replicas, actor, source, manager, unseen_since_unix_ms FROM replica_change \
        WHERE object_id = ?1 AND at_unix_ms < ?2 ORDER BY at_unix_ms DESC, id DESC LIMIT 1";
    ReplicasBetween Hot "SELECT at_unix_ms, from_replicas, to_replicas, actor, source, manager, unseen_since_unix_ms FROM replica_change \
        WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 ORDER BY at_unix_ms, id";
    // How long the pods of each scale-out took.
    StartsBetween Hot "SELECT from_replicas, ready_at_unix_ms - at_unix_ms FROM replica_change \
        WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND ready_at_unix_ms IS NOT NULL ORDER BY at_unix_ms DESC LIMIT ?4";
    DecisionsBetween Hot "SELECT d.at_unix_ms, d.from_replicas, d.to_replicas, d.reason, d.detail, d.triggers_json, \
        d.pause, d.cooldown_until_unix_ms, \
        (SELECT a.id IS NOT NULL FROM action a WHERE a.decision_id = d.id ORDER BY a.id DESC LIMIT 1), \
        (SELECT a.error FROM action a WHERE a.decision_id = d.id ORDER BY a.id DESC LIMIT 1) \
        FROM decision d WHERE d.object_id = ?1 AND d.at_unix_ms BETWEEN ?2 AND ?3 ORDER BY d.at_unix_ms DESC, d.id DESC LIMIT ?4";
    ErrorsBetween Hot "SELECT outcome, message, from_unix_ms, last_at_unix_ms, until_unix_ms, polls FROM error_period \
        WHERE series_id = ?1 AND from_unix_ms <= ?3 AND coalesce(until_unix_ms, ?3) >= ?2 ORDER BY from_unix_ms DESC LIMIT ?4";
    DefinitionsBetween Hot "SELECT generation, from_unix_ms, invalid, spec_json FROM definition \
        WHERE object_id = ?1 AND from_unix_ms <= ?3 AND coalesce(until_unix_ms, ?3) >= ?2 ORDER BY from_unix_ms DESC, id DESC LIMIT ?4";
    DefinitionBefore Hot "SELECT generation, from_unix_ms, invalid, spec_json FROM definition \
        WHERE object_id = ?1 AND from_unix_ms < ?2 ORDER BY from_unix_ms DESC, id DESC LIMIT 1";
    ProcessRuns Cold "SELECT version, started_at_unix_ms, stopped_at_unix_ms, state, stood_by_until_unix_ms FROM process_run \
        WHERE started_at_unix_ms <= ?1 ORDER BY id DESC LIMIT ?2";
    ProcessRunsWithoutStandby Cold "SELECT version, started_at_unix_ms, stopped_at_unix_ms, state, NULL FROM process_run \
        WHERE started_at_unix_ms <= ?1 ORDER BY id DESC LIMIT ?2";
    ObjectNames Cold "SELECT DISTINCT namespace || '/' || name FROM scaled_object ORDER BY 1";
    // Without a group a ScaledObject comes before an HPA of its name.
    ObjectAt Hot "SELECT id, api_group, added_at_unix_ms, removed_at_unix_ms FROM scaled_object WHERE id = coalesce( \
        (SELECT max(id) FROM scaled_object WHERE namespace = ?1 AND name = ?2 AND added_at_unix_ms <= ?3 \
            AND api_group <> 'autoscaling' AND (?4 IS NULL OR api_group = ?4)), \
        (SELECT max(id) FROM scaled_object WHERE namespace = ?1 AND name = ?2 AND added_at_unix_ms <= ?3 \
            AND (?4 IS NULL OR api_group = ?4)))";
    LastReplicaChange Hot "SELECT at_unix_ms FROM replica_change WHERE object_id = ?1 AND at_unix_ms <= ?2 \
        AND from_replicas IS NOT NULL ORDER BY at_unix_ms DESC LIMIT 1";
    // The HPA's recent scale-ins, which show its stabilization window.
    ScaleIns Hot "SELECT at_unix_ms FROM replica_change WHERE object_id = ?1 AND at_unix_ms <= ?2 \
        AND actor = 'hpa' AND to_replicas < from_replicas ORDER BY at_unix_ms DESC LIMIT ?3";
    HpasBetween Hot "SELECT at_unix_ms, current_replicas, desired_replicas, conditions_json, metrics_json FROM hpa_observation AS h \
        JOIN hpa_conditions AS c ON c.id = conditions_id WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 \
        ORDER BY at_unix_ms DESC, h.id DESC LIMIT ?4";
    // A new HPA has an empty status until its controller looks at it.
    HpaTimesBetween Hot "SELECT at_unix_ms FROM hpa_observation WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 \
        AND (current_replicas <> 0 OR desired_replicas <> 0 \
            OR conditions_id IS NOT (SELECT id FROM hpa_conditions WHERE conditions_json = '[]')) ORDER BY at_unix_ms";
    PausesBetween Hot "SELECT at_unix_ms, pause FROM decision WHERE object_id = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 ORDER BY at_unix_ms";
    LossesBetween Hot "SELECT from_unix_ms, until_unix_ms, samples, others, cause FROM loss \
        WHERE from_unix_ms <= ?2 AND until_unix_ms >= ?1 ORDER BY from_unix_ms";
    InterruptionsBetween Hot "SELECT kind, from_unix_ms, until_unix_ms, times FROM interruption \
        WHERE from_unix_ms <= ?2 AND until_unix_ms >= ?1 ORDER BY from_unix_ms";
}
