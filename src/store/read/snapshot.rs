//! Reads from one consistent snapshot of the file; every list is bounded.

use std::cell::Cell;
use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Found;
use super::row::{
    ConditionRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, InterruptionRow, Life, Listing, LossRow, ObjectRow,
    Range, ReplicaRow, RunRow, SeriesRow, condition_row, decision_row, definition_row, hpa_row, loss_row, replica_row,
};
use crate::scaling::model::{ApiGroup, ConditionKind, ObjectKey};
use crate::store::block;
use crate::store::chunk::{Point, SampleValue, unpack};
use crate::store::rollup::{RolledUp, read_hour, read_minutes};
use crate::store::sql::Sql;

/// A snapshot of the file; everything that is read through it is consistent.
#[derive(Debug)]
pub struct Snapshot<'c> {
    pub(super) connection: &'c Connection,
    /// Bytes that may still be read, see [`Self::within`].
    room: Cell<usize>,
}

/// Memory of a value beside its text.
const VALUE_BYTES: usize = 24;

/// The newest sample of a trigger is looked for this far back.
pub const NEWEST_WITHIN_MS: i64 = 86_400_000;

impl<'c> Snapshot<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, room: Cell::new(usize::MAX) }
    }

    /// Calls `read` with room for about so many bytes of rows and samples, and returns whether they were enough; else lists
    /// are incomplete.
    pub fn within<T>(&self, bytes: usize, read: impl FnOnce() -> Found<T>) -> Found<(T, bool)> {
        let before = self.room.replace(bytes);
        let found = read();
        let is_enough = self.room.replace(before) > 0;
        Ok((found?, is_enough))
    }

    /// Takes room; returns whether there was enough. Without enough there is none left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let left = self.room.get().saturating_sub(bytes);
        self.room.set(left);
        left > 0
    }

    fn take_row(&self, row: &Row<'_>) -> bool {
        let values = (0..row.as_ref().column_count()).map(|i| match row.get_ref(i) {
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => VALUE_BYTES + bytes.len(),
            _ => VALUE_BYTES,
        });
        self.take(values.sum())
    }

    /// Returns objects by name, living ones first, and their number without the limit.
    pub fn objects(&self, listing: &Listing<'_>) -> Found<(Vec<ObjectRow>, usize)> {
        let mut statement = self.connection.prepare(Sql::ListObjects.text())?;
        let mut found = statement.query(params![listing.text, listing.removed, listing.limit, listing.offset])?;
        let (mut objects, mut total) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            total = usize::try_from(row.get::<_, i64>(10)?).unwrap_or(0);
            let Some(group) = ApiGroup::from_name(row.get_ref(1)?.as_str()?) else { continue };
            objects.push(ObjectRow {
                id: row.get(0)?,
                key: ObjectKey::new(group, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?),
                added_at: row.get(4)?,
                removed_at: row.get(5)?,
                generation: row.get(6)?,
                invalid: row.get(7)?,
                replicas: row.get(8)?,
                last_active_at: row.get(9)?,
            });
        }
        Ok((objects, total))
    }

    /// Returns the lives of the object, oldest first; empty if it was never seen.
    pub fn lives(&self, key: &ObjectKey) -> Found<Vec<Life>> {
        let names = params![&*key.namespace, &*key.name, key.group.name()];
        self.all(Sql::FindObjects, names, |row| {
            Ok(Life { id: row.get(0)?, added_at: row.get(1)?, removed_at: row.get(2)? })
        })
    }

    /// Returns the names of all objects ever seen, as `namespace/name`.
    pub fn object_names(&self) -> Found<Vec<String>> {
        self.all(Sql::ObjectNames, [], |row| row.get(0))
    }

    /// Returns the API groups in which an object of this name was seen.
    pub fn groups(&self, namespace: &str, name: &str) -> Found<Vec<ApiGroup>> {
        let names: Vec<String> = self.all(Sql::FindGroups, params![namespace, name], |row| row.get(0))?;
        Ok(names.iter().filter_map(|name| ApiGroup::from_name(name)).collect())
    }

    /// Returns a condition as it was at a time.
    pub fn condition(&self, object: i64, kind: ConditionKind, at: i64) -> Found<Option<ConditionRow>> {
        Ok(self.condition_changes(object, kind, Range { from: i64::MIN, to: at }, 1)?.into_iter().next())
    }

    /// Returns a condition's changes, newest first.
    pub fn condition_changes(
        &self,
        object: i64,
        kind: ConditionKind,
        range: Range,
        rows_max: usize,
    ) -> Found<Vec<ConditionRow>> {
        let bounds = params![object, range.from, range.to, limit(rows_max), kind.name()];
        self.all(Sql::ConditionChanges, bounds, condition_row)
    }

    /// Returns the series of the range, by trigger, then by time.
    pub fn series(&self, object: i64, range: Range) -> Found<Vec<SeriesRow>> {
        self.all(Sql::SeriesOfObject, params![object, range.from, range.to], |row| {
            Ok(SeriesRow {
                id: row.get(0)?,
                trigger: row.get(1)?,
                kind: row.get(2)?,
                name: row.get(3)?,
                metric_name: row.get(4)?,
                threshold: row.get(5)?,
                activation_threshold: row.get(6)?,
                from: row.get(7)?,
                until: row.get(8)?,
                server: row.get(9)?,
                query: row.get(10)?,
            })
        })
    }

    /// Reports every sample of the wanted series in the range, unordered. `wanted` maps a series' id to the number that
    /// it is reported by. The head is scanned once for all of them.
    pub fn samples(
        &self,
        wanted: &HashMap<i64, usize>,
        range: Range,
        mut report: impl FnMut(usize, i64, &SampleValue),
    ) -> Found<()> {
        for (series, known_by) in wanted {
            self.packed(*series, range, range.to, |at, value, _| report(*known_by, at, &value))?;
        }
        self.head(wanted, range, report)
    }

    /// Returns the newest sample of each wanted series before a time, with its own, unless that is from more than a day
    /// before; by the number that the series is known by.
    pub(super) fn newest_before(
        &self,
        mut wanted: HashMap<i64, usize>,
        before: i64,
    ) -> Found<HashMap<usize, (i64, SampleValue)>> {
        let mut newest: HashMap<usize, (i64, SampleValue)> = HashMap::new();
        // Most have one of the last hour, which is soon read.
        for back in [3_600_000, NEWEST_WITHIN_MS] {
            wanted.retain(|_, known_by| !newest.contains_key(known_by));
            let range = Range { from: before.saturating_sub(back), to: before - 1 };
            self.samples(&wanted, range, |known_by, at, value| {
                if newest.get(&known_by).is_none_or(|(known, _)| *known <= at) {
                    newest.insert(known_by, (at, value.clone()));
                }
            })?;
        }
        Ok(newest)
    }

    /// Reports the packed samples of one series, and for each whether the roll-ups include it; samples that they
    /// include are reported only until `rolled_until`.
    pub fn packed(
        &self,
        series: i64,
        range: Range,
        rolled_until: i64,
        mut report: impl FnMut(i64, SampleValue, bool),
    ) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::ChunksBetween.text())?;
        let mut found = statement.query(params![series, range.from, range.to, rolled_until])?;
        while self.room.get() > 0
            && let Some(row) = found.next()?
        {
            let is_rolled = row.get(0)?;
            let until = if is_rolled { range.to.min(rolled_until) } else { range.to };
            // A chunk that damage made unreadable is skipped.
            let _ = unpack(&block::read_chunk(row, 1)?, |Point { at_unix_ms, value, .. }| {
                if (range.from..=until).contains(&at_unix_ms) {
                    report(at_unix_ms, value, is_rolled);
                }
            });
        }
        Ok(())
    }

    /// Reports the samples of the wanted series that are not packed yet, so that no roll-up includes them.
    pub fn head(
        &self,
        wanted: &HashMap<i64, usize>,
        range: Range,
        mut report: impl FnMut(usize, i64, &SampleValue),
    ) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::HeadBetween.text())?;
        let mut found = statement.query([range.from, range.to])?;
        while let Some(row) = found.next()? {
            if let Some(known_by) = wanted.get(&row.get(0)?) {
                report(*known_by, row.get(1)?, &block::read_value(row, 2)?);
            }
        }
        Ok(())
    }

    /// Returns the newest sample of each series since a time that is a number, with its time. Once `is_over` says so, the
    /// remaining ones are not looked for among the packed samples.
    pub(super) fn newest_numbers(
        &self,
        series: &[i64],
        since: i64,
        mut is_over: impl FnMut() -> bool,
    ) -> Found<Vec<Option<(i64, f64)>>> {
        let mut newest: Vec<Option<(i64, f64)>> = vec![None; series.len()];
        let note = |found: &mut Option<(i64, f64)>, at: i64, value: &SampleValue| {
            if let SampleValue::Number(value) = value
                && found.is_none_or(|(known, _)| known <= at)
            {
                *found = Some((at, *value));
            }
        };
        let wanted = series.iter().zip(0..).map(|(series, n)| (*series, n)).collect();
        self.head(&wanted, Range { from: since, to: i64::MAX }, |n, at, value| note(&mut newest[n], at, value))?;
        let mut statement = self.connection.prepare(Sql::ChunksNewestFirst.text())?;
        // What is packed is older than the head.
        for (series, found) in series.iter().zip(&mut newest).filter(|(_, found)| found.is_none()) {
            if is_over() {
                break;
            }
            let mut rows = statement.query([*series, since])?;
            while let Some(row) = rows.next()?
                // No block from here on has a newer one.
                && found.is_none_or(|(at, _)| at < row.get(0).unwrap_or(i64::MAX))
            {
                let chunk = block::read_chunk(row, 1)?;
                if chunk.has_numbers() {
                    let _ = unpack(&chunk, |Point { at_unix_ms, value, .. }| {
                        if at_unix_ms >= since {
                            note(found, at_unix_ms, &value);
                        }
                    });
                }
            }
        }
        Ok(newest)
    }

    /// Reports the roll-ups by minute of one series that begin in the range.
    pub fn minutes(&self, series: i64, range: Range, mut report: impl FnMut(RolledUp)) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::MinutesBetween.text())?;
        let mut found = statement.query([series, range.from, range.to])?;
        while let Some(row) = found.next()? {
            // Unreadable rows are skipped, as for samples.
            let _ = read_minutes(row.get(0)?, row.get_ref(1)?.as_str()?, |rolled| {
                if (range.from..=range.to).contains(&rolled.at) {
                    report(rolled);
                }
            });
        }
        Ok(())
    }

    /// Returns the roll-ups by hour of one series that begin in the range.
    pub fn hours(&self, series: i64, range: Range) -> Found<Vec<RolledUp>> {
        self.all(Sql::HoursBetween, [series, range.from, range.to], read_hour)
    }

    /// Returns when the oldest roll-ups by minute and by hour begin, across all series.
    pub fn oldest_rolled_up(&self) -> Found<(Option<i64>, Option<i64>)> {
        self.connection.prepare(Sql::OldestRollUps.text())?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// A file of an earlier version does not have since when a change had not been seen.
    fn replica_changes(&self, sql: Sql) -> Result<rusqlite::Statement<'_>, rusqlite::Error> {
        let earlier = || sql.text().replace(", unseen_since_unix_ms", ", NULL");
        self.connection.prepare(sql.text()).or_else(|_| self.connection.prepare(&earlier()))
    }

    /// Returns the last change of replicas before a time.
    pub fn replicas_before(&self, object: i64, at: i64) -> Found<Option<ReplicaRow>> {
        self.replica_changes(Sql::ReplicasBefore)?.query_row([object, at], replica_row).optional()
    }

    /// Reports every change of replicas in the range, oldest first.
    pub fn replicas(&self, object: i64, range: Range, mut report: impl FnMut(ReplicaRow)) -> Found<()> {
        let mut statement = self.replica_changes(Sql::ReplicasBetween)?;
        let mut found = statement.query([object, range.from, range.to])?;
        while let Some(row) = found.next()?
            && self.take_row(row)
        {
            report(replica_row(row)?);
        }
        Ok(())
    }

    /// Returns how long the pods of scale-outs took until all were ready, newest first: from how many replicas, and
    /// milliseconds. A file of before that was recorded has none.
    pub fn starts(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<(u32, i64)>> {
        let Ok(mut statement) = self.connection.prepare(Sql::StartsBetween.text()) else { return Ok(Vec::new()) };
        let bounds = params![object, range.from, range.to, limit(rows_max)];
        statement.query_map(bounds, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Returns decisions, newest first.
    pub fn decisions(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<DecisionRow>> {
        self.all(Sql::DecisionsBetween, params![object, range.from, range.to, limit(rows_max)], decision_row)
    }

    /// Returns observations of the HPA's status, newest first.
    pub fn hpas(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<HpaRow>> {
        self.all(Sql::HpasBetween, params![object, range.from, range.to, limit(rows_max)], hpa_row)
    }

    /// Returns when the HPA's controller was seen to change its status, oldest first.
    pub fn hpa_times(&self, object: i64, range: Range) -> Found<Vec<i64>> {
        self.all(Sql::HpaTimesBetween, [object, range.from, range.to], |row| row.get(0))
    }

    /// Returns the annotations that paused the object from each time on, `None` for none, oldest first.
    pub fn pauses(&self, object: i64, range: Range) -> Found<Vec<(i64, Option<String>)>> {
        let mut pauses: Vec<(i64, Option<String>)> =
            self.all(Sql::PausesBetween, [object, range.from, range.to], |row| Ok((row.get(0)?, row.get(1)?)))?;
        pauses.dedup_by(|next, before| next.1 == before.1);
        Ok(pauses)
    }

    /// Returns the losses that overlap the range, oldest first.
    pub fn losses(&self, range: Range) -> Found<Vec<LossRow>> {
        self.all(Sql::LossesBetween, [range.from, range.to], loss_row)
    }

    /// Returns the interruptions that overlap the range, oldest first. A file of before they were recorded has none.
    pub fn interruptions(&self, range: Range) -> Found<Vec<InterruptionRow>> {
        if self.connection.prepare(Sql::InterruptionsBetween.text()).is_err() {
            return Ok(Vec::new());
        }
        self.all(Sql::InterruptionsBetween, [range.from, range.to], |row| {
            Ok(InterruptionRow { kind: row.get(0)?, from: row.get(1)?, until: row.get(2)?, times: row.get(3)? })
        })
    }

    /// Returns the error periods that overlap the range, newest first.
    pub fn errors(&self, series: i64, range: Range, rows_max: usize) -> Found<Vec<ErrorRow>> {
        self.all(Sql::ErrorsBetween, params![series, range.from, range.to, limit(rows_max)], |row| {
            Ok(ErrorRow {
                outcome: row.get(0)?,
                message: row.get(1)?,
                from: row.get(2)?,
                last_at: row.get(3)?,
                until: row.get(4)?,
                polls: row.get(5)?,
            })
        })
    }

    /// Returns the definitions in force in the range, newest first.
    pub fn definitions(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<DefinitionRow>> {
        self.all(Sql::DefinitionsBetween, params![object, range.from, range.to, limit(rows_max)], definition_row)
    }

    /// Returns the definition that the one from this time on replaced.
    pub fn definition_before(&self, object: i64, at: i64) -> Found<Option<DefinitionRow>> {
        self.connection.prepare(Sql::DefinitionBefore.text())?.query_row([object, at], definition_row).optional()
    }

    /// Returns starts and stops of hpalite until a time, newest first. A file of before standing by was recorded says nothing
    /// of it.
    pub fn runs(&self, until: i64, rows_max: usize) -> Found<Vec<RunRow>> {
        let has_standby = self.connection.prepare(Sql::ProcessRuns.text()).is_ok();
        let statement = if has_standby { Sql::ProcessRuns } else { Sql::ProcessRunsWithoutStandby };
        self.all(statement, params![until, limit(rows_max)], |row| {
            Ok(RunRow {
                version: row.get(0)?,
                started_at: row.get(1)?,
                stopped_at: row.get(2)?,
                state: row.get(3)?,
                stood_by_until: row.get(4)?,
            })
        })
    }

    pub(super) fn all<T>(
        &self,
        statement: Sql,
        parameters: impl rusqlite::Params,
        mut read: impl FnMut(&Row<'_>) -> Found<T>,
    ) -> Found<Vec<T>> {
        let mut statement = self.connection.prepare(statement.text())?;
        let mut rows = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()?
            && self.take_row(row)
        {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

fn limit(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Reader, schema};

    /// Regression: a file of before standing by was recorded could not be read, which is what a person's copy may be.
    #[test]
    fn a_file_of_any_earlier_version_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for version in 1..=schema::version() {
            let path = folder.path().join(version.to_string());
            let mut file = Connection::open(&path).expect("a file");
            schema::migrate(&mut file, version).expect("it is migrated");
            file.execute("INSERT INTO process_run (version, started_at_unix_ms, state) VALUES ('1', 5, 'lost')", [])
                .expect("a run");
            drop(file);
            let range = Range { from: 0, to: 9 };
            let listing = Listing { text: "", removed: true, limit: 9, offset: 0 };
            let key = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
            let runs = Reader::open(&path).expect("a reader").snapshot(|snapshot| {
                snapshot.objects(&listing)?;
                snapshot.lives(&key)?;
                snapshot.object_names()?;
                snapshot.groups("shop", "web")?;
                snapshot.condition(1, ConditionKind::Ready, 9)?;
                snapshot.series(1, range)?;
                snapshot.samples(&HashMap::from([(1, 1)]), range, |_, _, _| {})?;
                snapshot.minutes(1, range, |_| {})?;
                snapshot.hours(1, range)?;
                snapshot.oldest_rolled_up()?;
                snapshot.replicas_before(1, 9)?;
                snapshot.replicas(1, range, |_| {})?;
                snapshot.starts(1, range, 9)?;
                snapshot.decisions(1, range, 9)?;
                snapshot.hpas(1, range, 9)?;
                snapshot.hpa_times(1, range)?;
                snapshot.pauses(1, range)?;
                snapshot.losses(range)?;
                snapshot.interruptions(range)?;
                snapshot.errors(1, range, 9)?;
                snapshot.definitions(1, range, 9)?;
                snapshot.definition_before(1, 9)?;
                snapshot.runs(9, 9)
            });
            let runs = runs.unwrap_or_else(|error| panic!("version {version}: {error}"));
            assert_eq!((runs.len(), runs[0].started_at, runs[0].stood_by_until), (1, 5, None), "version {version}");
        }
    }
}
