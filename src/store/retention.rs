//! How long history is kept, how large the file may grow, and returning freed pages.
//!
//! Owns the order in which rows are deleted. Each slice of deleting is one short transaction, so that a decision that
//! arrives meanwhile waits for at most one slice.

use std::time::Duration;

use rusqlite::params;

use super::block::delete_empty_block;
use super::chunk::{ChunkId, SERIES_MAX};
use super::counters::{Counters, Kind};
use super::prepared::Prepared;
use super::rollup::{self, Unrolled};
use super::sql::Sql;

/// Rows of text that one slice deletes: at 10 µs each 5 ms, on a machine ten times slower 50 ms.
const EXPIRE_ROWS: i64 = 500;

/// The size cap deletes the history in this many steps of its total time span.
const HISTORY_STEPS: i64 = 64;

/// Free pages kept for reuse: 1 MiB.
const FREE_PAGES_KEPT: i64 = 256;

const PAGE_BYTES: u64 = 4096;

/// How long history is kept, and how large the file may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Individual samples.
    pub samples: Duration,
    /// Roll-ups by minute.
    pub minutes: Duration,
    /// Roll-ups by hour.
    pub hours: Duration,
    /// Decisions, actions, replica changes, HPA observations, conditions, ended error periods, losses, interruptions,
    /// definitions that are no longer in force, starts of hpalite; and removed objects and ended triggers, once no row
    /// refers to them.
    pub history: Duration,
    /// Maximum size of the file without its write-ahead log, in bytes; 0 for no limit. Beyond it the oldest rows are
    /// dropped before they expire: samples first, then minutes, hours, and the rest of the history.
    pub size_max: u64,
}

impl Default for Retention {
    /// 500 triggers for 30 days in 500 MB: sql/README.md has the arithmetic.
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self { samples: 3 * DAY, minutes: 7 * DAY, hours: 90 * DAY, history: 30 * DAY, size_max: 480_000_000 }
    }
}

/// Deletes one slice of what is expired by the time of [`super::age`]; returns true if there may be more.
pub(crate) fn expire(
    prepared: &mut Prepared<'_>,
    retention: &Retention,
    now_unix_ms: i64,
) -> Result<bool, rusqlite::Error> {
    let before = |kept| now_unix_ms.saturating_sub(super::rows::millis(kept));
    Ok(samples(prepared, before(retention.samples))?.is_some()
        || minutes(prepared, before(retention.minutes))?.is_some()
        || hours(prepared, before(retention.hours))?.is_some()
        || happened(prepared, before(retention.history))?.is_some()
        || ended(prepared, before(retention.history))?.is_some())
}

/// Returns whether the file exceeds the size cap.
pub(crate) fn is_over(prepared: &mut Prepared<'_>, retention: &Retention) -> Result<bool, rusqlite::Error> {
    exceeds(prepared, retention.size_max)
}

/// Returns whether the file has more than this many bytes in use; never of 0, which stands for no limit.
pub(crate) fn exceeds(prepared: &mut Prepared<'_>, bytes: u64) -> Result<bool, rusqlite::Error> {
    let pages = pragma(prepared, Sql::PageCount)? - pragma(prepared, Sql::FreePageCount)?;
    Ok(bytes > 0 && u64::try_from(pages).unwrap_or(0) * PAGE_BYTES > bytes)
}

/// Returns whether there are samples outside the head.
pub(crate) fn has_block(prepared: &mut Prepared<'_>) -> Result<bool, rusqlite::Error> {
    prepared.get(Sql::HasBlock)?.query_row([], |row| row.get(0))
}

/// If the file exceeds the size cap and nothing is in the head, deletes one slice of the oldest rows, counts it, and
/// returns true.
pub(crate) fn shrink(
    prepared: &mut Prepared<'_>,
    retention: &Retention,
    counters: &Counters,
) -> Result<bool, rusqlite::Error> {
    if !is_over(prepared, retention)? {
        return Ok(false);
    }
    const ALL: i64 = i64::MAX;
    let gone = if let Some(rows) = samples(prepared, ALL)? {
        (Kind::Samples, rows)
    } else if let Some(rows) = minutes(prepared, ALL)? {
        (Kind::Minutes, rows)
    } else if let Some(rows) = hours(prepared, ALL)? {
        (Kind::Hours, rows)
    } else {
        let oldest = time(prepared, Sql::OldestHistory)?;
        // Rows that ended before everything else began are deleted without loss.
        let gone = match (ended(prepared, oldest.unwrap_or(ALL))?, oldest) {
            (None, Some(oldest)) => {
                // A step of the history, from the oldest on: within it one table is emptied after the other.
                let newest = time(prepared, Sql::NewestHistory)?.unwrap_or(oldest);
                let stretch = newest.saturating_sub(oldest) / HISTORY_STEPS;
                happened(prepared, oldest.saturating_add(stretch).saturating_add(1))?
            }
            (gone, _) => gone,
        };
        let Some(gone) = gone else { return Ok(false) };
        gone
    };
    counters.drop_early(gone.0, gone.1);
    Ok(true)
}

fn pragma(prepared: &mut Prepared<'_>, sql: Sql) -> Result<i64, rusqlite::Error> {
    prepared.get(sql)?.query_row([], |row| row.get(0))
}

fn time(prepared: &mut Prepared<'_>, sql: Sql) -> Result<Option<i64>, rusqlite::Error> {
    prepared.get(sql)?.query_row([], |row| row.get(0))
}

/// Deletes a slice of the oldest block, after rolling it up. Returns the number of rows, or `None` if there is no
/// block.
fn samples(prepared: &mut Prepared<'_>, before_unix_ms: i64) -> Result<Option<usize>, rusqlite::Error> {
    let mut rows = prepared.get(Sql::ExpiredBlock)?.query([before_unix_ms])?;
    let block: Option<(i64, i64)> = rows.next()?.map(TryInto::try_into).transpose()?;
    drop(rows);
    let Some((block, rolled_series)) = block else { return Ok(None) };
    if rolled_series < SERIES_MAX {
        let unrolled = prepared.get(Sql::RollBlock)?.query_row([block], Unrolled::read)?;
        rollup::roll_slice(prepared, unrolled, rollup::SLICE_SAMPLES)?;
        return Ok(Some(0));
    }
    let (first, last) = ChunkId::range(block, SERIES_MAX);
    let gone = prepared.execute(Sql::ExpireChunks, [first, last, EXPIRE_ROWS])?;
    delete_empty_block(prepared, block)?;
    Ok(Some(gone))
}

fn minutes(prepared: &mut Prepared<'_>, before_unix_ms: i64) -> Result<Option<usize>, rusqlite::Error> {
    let mut rows = prepared.get(Sql::ExpiredMinuteBlock)?.query([before_unix_ms])?;
    let block: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
    drop(rows);
    let Some(block) = block else { return Ok(None) };
    let (first, last) = ChunkId::range(block, SERIES_MAX);
    let gone = prepared.execute(Sql::ExpireMinutes, [first, last, EXPIRE_ROWS])?;
    if gone == 0 {
        prepared.execute(Sql::DeleteMinuteBlock, [block])?;
    }
    Ok(Some(gone))
}

fn hours(prepared: &mut Prepared<'_>, before_unix_ms: i64) -> Result<Option<usize>, rusqlite::Error> {
    let mut rows = prepared.get(Sql::ExpiredHour)?.query([before_unix_ms])?;
    let hour: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
    drop(rows);
    let Some(hour) = hour else { return Ok(None) };
    let gone = prepared.execute(Sql::ExpireHours, [hour, EXPIRE_ROWS])?;
    if gone == 0 {
        prepared.execute(Sql::DeleteRolledHour, [hour])?;
    }
    Ok(Some(gone))
}

/// Deletes a slice of what happened before a time; these are the tables of `OldestHistory` and `NewestHistory`.
fn happened(prepared: &mut Prepared<'_>, before_unix_ms: i64) -> Result<Option<(Kind, usize)>, rusqlite::Error> {
    for statement in [
        Sql::ExpireActions,
        Sql::ExpireDecisions,
        Sql::ExpireReplicaChanges,
        Sql::ExpireHpas,
        Sql::ExpireConditions,
        Sql::ExpireLosses,
        Sql::ExpireInterruptions,
        Sql::ExpireErrorPeriods,
        Sql::ExpireRuns,
    ] {
        let gone = prepared.execute(statement, params![before_unix_ms, EXPIRE_ROWS])?;
        if gone == 0 {
            continue;
        }
        // HPA conditions that no other observation refers to are deleted with the last one that did.
        let room = EXPIRE_ROWS - i64::try_from(gone).unwrap_or(EXPIRE_ROWS);
        if statement == Sql::ExpireHpas && room > 0 {
            prepared.execute(Sql::ExpireHpaConditions, [room])?;
        }
        return Ok(Some((Kind::History, gone)));
    }
    // Definitions no longer reach a megabyte, but they have some kilobytes, so a slice has fewer of them.
    let gone = prepared.execute(Sql::ExpireDefinitions, params![before_unix_ms, EXPIRE_ROWS / 8])?;
    Ok((gone > 0).then_some((Kind::Definitions, gone)))
}

/// Deletes a slice of what ended before a time and is no longer referred to.
fn ended(prepared: &mut Prepared<'_>, before_unix_ms: i64) -> Result<Option<(Kind, usize)>, rusqlite::Error> {
    // A series is kept while there are samples or roll-ups from its time.
    let before_unix_ms = time(prepared, Sql::OldestNumber)?.map_or(before_unix_ms, |oldest| oldest.min(before_unix_ms));
    for statement in [Sql::ExpireSeries, Sql::ExpireStates, Sql::ExpireObjects] {
        let gone = prepared.execute(statement, params![before_unix_ms, EXPIRE_ROWS])?;
        if gone > 0 {
            return Ok(Some((Kind::Definitions, gone)));
        }
    }
    Ok(None)
}

/// Returns up to 256 free pages (1 MiB) to the file system; returns true if there may be more.
pub(crate) fn free_pages(prepared: &mut Prepared<'_>) -> Result<bool, rusqlite::Error> {
    if pragma(prepared, Sql::FreePageCount)? <= FREE_PAGES_KEPT {
        return Ok(false);
    }
    // The pragma returns one row per page.
    let mut rows = prepared.get(Sql::FreePages)?.query([])?;
    while rows.next()?.is_some() {}
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;
    use rusqlite::Connection;

    /// A decision may have to wait for one slice, so it stays short however much there is to delete.
    #[test]
    fn a_slice_deletes_a_limited_number_of_rows() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        connection
            .execute_batch(
                "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'a', 'b', 'u', 1, 999999);
                 CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT i FROM n;
                 INSERT INTO sample_block VALUES (1, 1, 1, 2, 3000, 3000, NULL, 16777215, 1);
                 INSERT INTO sample_chunk SELECT (1 << 36) + (i << 12), 1, 1, 0, '[0]', '[1]', 0, 0 FROM temp.n;
                 INSERT INTO minute_block VALUES (1, 1, 2);
                 INSERT INTO sample_minute SELECT (1 << 36) + (i << 12), 1, '[]' FROM temp.n;
                 INSERT INTO rolled_hour VALUES (0);
                 INSERT INTO sample_hour (hour_unix_ms, series_id, count, errors) SELECT 0, i, 0, 1 FROM temp.n;
                 INSERT INTO decision (object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, min_replicas, force_activation)
                     SELECT 1, i, 'Inactive', '', 0, 0, '[]', 0, 0 FROM temp.n;
                 INSERT INTO hpa_conditions SELECT i, 'text ' || i FROM temp.n WHERE i <= 40;
                 INSERT INTO hpa_observation (object_id, at_unix_ms, current_replicas, desired_replicas, conditions_id, metrics_json)
                     SELECT 1, i, 1, 1, 1 + i % 40, '[]' FROM temp.n WHERE i < 1200;",
            )
            .expect("rows");
        let mut prepared = Prepared::new(&connection);
        let retention = Retention {
            samples: Duration::ZERO,
            minutes: Duration::ZERO,
            hours: Duration::ZERO,
            history: Duration::ZERO,
            size_max: 0,
        };
        let mut slices = 0;
        loop {
            let before = connection.total_changes();
            if !expire(&mut prepared, &retention, 1_000_000).expect("slice") {
                break;
            }
            let gone = connection.total_changes() - before;
            assert!(gone <= EXPIRE_ROWS as u64 + 1, "{gone} rows in one slice");
            slices += 1;
        }
        assert!(slices >= 24, "{slices}");
        for table in [
            "sample_block",
            "sample_chunk",
            "minute_block",
            "sample_minute",
            "sample_hour",
            "rolled_hour",
            "decision",
            "hpa_observation",
            "hpa_conditions",
        ] {
            let left: i64 =
                connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect(table);
            assert_eq!(left, 0, "{table}");
        }
    }

    /// Regression: an object that had been paused, or had kept its count, for longer than the history is kept was unknown.
    #[test]
    fn what_lasts_is_kept_however_old_and_in_the_way_of_nothing() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        connection
            .execute_batch(
                "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'a', 'lives', 'u', 1, NULL);
                 INSERT INTO scaled_object VALUES (2, 'keda.sh', 'a', 'gone', 'v', 1, 5);
                 CREATE TEMP TABLE n AS SELECT o.value AS object, at.value AS at FROM json_each('[1, 2]') o JOIN json_each('[1, 2, 3]') at;
                 INSERT INTO decision (object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, min_replicas, force_activation)
                     SELECT object, at, 'Inactive', '', 0, 0, '[]', 0, 0 FROM temp.n;
                 INSERT INTO replica_change (object_id, at_unix_ms, to_replicas, actor, source) SELECT object, at, at, 'hpa', 'inferred' FROM temp.n;
                 INSERT INTO hpa_conditions VALUES (1, 'text');
                 INSERT INTO hpa_observation (object_id, at_unix_ms, current_replicas, desired_replicas, conditions_id, metrics_json)
                     SELECT object, at, 1, 1, 1, '[]' FROM temp.n;
                 INSERT INTO condition_change (object_id, at_unix_ms, kind, status, reason, message)
                     SELECT object, at, iif(at = 1, 'Paused', 'Ready'), 'True', '', '' FROM temp.n;",
            )
            .expect("rows");
        let mut prepared = Prepared::new(&connection);
        let retention = Retention { history: Duration::ZERO, size_max: 1, ..Retention::default() };
        let counters = Counters::default();
        while shrink(&mut prepared, &retention, &counters).expect("shrink") {}
        while expire(&mut prepared, &retention, 1_000_000).expect("slice") {}
        for (table, kept) in [
            ("decision", "1 at 3"),
            ("replica_change", "1 at 3"),
            ("hpa_observation", "1 at 3"),
            ("condition_change", "1 at 1, 1 at 3"),
        ] {
            let rows = format!("SELECT group_concat(object_id || ' at ' || at_unix_ms, ', ' ORDER BY id) FROM {table}");
            let found: String = connection.query_row(&rows, [], |row| row.get(0)).expect(table);
            assert_eq!(found, kept, "{table}");
        }
    }

    /// Regression: beside an object whose state lasted, error periods and objects that came and went were kept for ever,
    /// while the samples and the history of all others were deleted for the size.
    #[test]
    fn what_ended_goes_for_the_size_beside_what_lasts() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        connection
            .execute_batch(
                "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'a', 'quiet', 'u', 1, NULL), (2, 'keda.sh', 'a', 'fails', 'v', 1, NULL);
                 INSERT INTO condition_change (object_id, at_unix_ms, kind, status, reason, message) VALUES (1, 1, 'Ready', 'True', '', '');
                 INSERT INTO series VALUES (1, 2, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL);
                 CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) SELECT i FROM n;
                 INSERT INTO error_period (series_id, outcome, message, from_unix_ms, last_at_unix_ms, until_unix_ms, polls)
                     SELECT 1, 'status', '', 1000 + i, 1000 + i, iif(i < 2000, 1001 + i, NULL), 1 FROM temp.n;
                 INSERT INTO scaled_object SELECT 2 + i, 'keda.sh', 'a', 'o' || i, 'w', 1000 + i, 1001 + i FROM temp.n;
                 INSERT INTO object_state SELECT 2 + i, 1000 + i FROM temp.n;
                 INSERT INTO interruption SELECT i, 'api-server', 9000 + i, 9001 + i, 1 FROM temp.n;
                 INSERT INTO process_run (version, started_at_unix_ms, state) SELECT '1', 1000 + i, iif(i < 2000, 'lost', 'running') FROM temp.n;
                 INSERT INTO series SELECT 1 + i, 2 + i, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1000 + i, 1001 + i FROM temp.n;",
            )
            .expect("rows");
        let mut prepared = Prepared::new(&connection);
        let retention = Retention { size_max: 1, ..Retention::default() };
        let counters = Counters::default();
        while shrink(&mut prepared, &retention, &counters).expect("shrink") {}
        for (table, kept) in [
            ("error_period", 1),
            ("scaled_object", 2),
            ("series", 1),
            ("object_state", 0),
            ("process_run", 1),
            ("interruption", 0),
            ("condition_change", 1),
        ] {
            let left: i64 =
                connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect(table);
            assert_eq!(left, kept, "{table}");
        }
    }
}
