//! Turns records into rows, and knows the row of each object and trigger.
//!
//! Owns the ids of living objects and series, open error periods and what is written only occasionally (last activity).
//! All of it can be reloaded from the file, which happens after a failed transaction. Must not begin or end
//! transactions.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use rusqlite::{OptionalExtension as _, params};

use super::chunk::{Point, SampleValue};
use super::prepared::Prepared;
use super::retention;
use super::rows;
use super::series_numbers::SeriesNumbers;
use super::sql::Sql;
use crate::scaling::attribution::{Actor, Attribution};
use crate::scaling::event::{Interruption, Record, RecordedTrigger};
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use crate::scaling::recommend::Limit;

/// An action belongs to the newest decision of the same replicas at most this long before; the retries of a patch end
/// sooner.
const CARRY_OUT_MS: i64 = 300_000;

/// Interruptions of a kind that are this close to each other share one row.
const INTERRUPTIONS_WITHIN: Duration = Duration::from_secs(60);

/// A start that takes no longer to acquire its Lease was not interrupted.
const LEASE_TAKES: Duration = Duration::from_secs(10);

/// Ended definitions kept for each object, so that one that is edited every second cannot fill the file. At 4 KB each,
/// 1 MB.
const DEFINITIONS_MAX: i64 = 256;

/// Ended series kept for each object, whatever samples they have. At 4 KB each, 16 MB.
const SERIES_KEPT_MAX: i64 = 4_096;

/// In a file that is nearly full, what happened to an object is kept up to these numbers of rows, so that one whose servers
/// answer differently each time cannot displace the history of all others. At 5 KB for a decision, 16 KB for an HPA
/// and 2 KB for what has a message, some 140 MB.
const HISTORY_KEPT_MAX: [(Sql, i64); 6] = [
    (Sql::TrimDecisions, 8_192),
    (Sql::TrimActions, 4_096),
    (Sql::TrimReplicaChanges, 4_096),
    (Sql::TrimHpas, 4_096),
    (Sql::TrimConditions, 4_096),
    (Sql::TrimErrorPeriods, 4_096),
];

/// The rows of an object are counted after this many records: walking over as many as are kept takes 2 ms. One step deletes
/// twice as many rows of each kind.
const TRIM_EVERY: u16 = 256;

#[derive(Debug)]
struct ErrorPeriod {
    id: i64,
    outcome: String,
    message: String,
    last_at_unix_ms: i64,
    polls: i64,
    /// Polls were counted since it was last written.
    dirty: bool,
}

#[derive(Debug)]
struct Series {
    id: i64,
    /// The trigger's position.
    index: u16,
    /// Of the trigger, whose texts are in the file.
    fingerprint: u64,
    error: Option<Box<ErrorPeriod>>,
}

#[derive(Debug)]
struct RecordedObject {
    id: i64,
    uid: Box<str>,
    series: Vec<Series>,
    /// Records since its rows were last counted.
    untrimmed: u16,
}

/// What happened to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Written,
    /// A sample of a trigger that is not in the definition, as of before a change.
    Unknown,
    /// A sample of an object of which no definition with triggers is recorded.
    Undefined,
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    objects: HashMap<ObjectKey, RecordedObject>,
    numbers: SeriesNumbers,
    /// Nobody can choose triggers whose fingerprints are equal.
    fingerprints: RandomState,
    /// By object row, not yet written.
    last_active: HashMap<i64, i64>,
    /// A file of more bytes is nearly full; 0 for never.
    full_at: u64,
}

impl Recorder {
    pub(crate) fn full_at(&self) -> u64 {
        self.full_at
    }

    /// `full_at` is the size of a nearly full file in bytes; 0 for no limit.
    pub(crate) fn load(prepared: &mut Prepared<'_>, full_at: u64) -> Result<Self, rusqlite::Error> {
        let fingerprints = RandomState::new();
        let mut objects = HashMap::new();
        let mut keys = HashMap::new();
        let mut rows = prepared.get(Sql::LoadObjects)?.query([])?;
        while let Some(row) = rows.next()? {
            // One of an unknown group was written by a newer hpalite.
            let Some(group) = ApiGroup::from_name(row.get_ref(1)?.as_str()?) else { continue };
            let key = ObjectKey::new(group, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
            let id = row.get(0)?;
            keys.insert(id, key.clone());
            objects.insert(
                key,
                RecordedObject { id, uid: row.get_ref(4)?.as_str()?.into(), series: Vec::new(), untrimmed: 0 },
            );
        }
        drop(rows);
        let mut errors = HashMap::new();
        let mut rows = prepared.get(Sql::LoadErrorPeriods)?.query([])?;
        while let Some(row) = rows.next()? {
            let period = ErrorPeriod {
                id: row.get(0)?,
                outcome: row.get(2)?,
                message: row.get(3)?,
                last_at_unix_ms: row.get(4)?,
                polls: row.get(5)?,
                dirty: false,
            };
            errors.insert(row.get::<_, i64>(1)?, period);
        }
        drop(rows);
        let mut rows = prepared.get(Sql::LoadSeries)?.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            let Some(object) = keys.get(&row.get::<_, i64>(1)?).and_then(|key| objects.get_mut(key)) else {
                continue;
            };
            let trigger = RecordedTrigger {
                index: row.get(2)?,
                kind: row.get(3)?,
                name: row.get(4)?,
                metric_name: row.get_ref(5)?.as_str()?.into(),
                server: row.get(6)?,
                query: row.get(7)?,
                threshold: row.get(8)?,
                activation_threshold: row.get(9)?,
            };
            let fingerprint = fingerprint(&fingerprints, &trigger);
            object.series.reserve_exact(1);
            object.series.push(Series {
                id,
                index: trigger.index,
                fingerprint,
                error: errors.remove(&id).map(Box::new),
            });
        }
        drop(rows);
        let numbers = SeriesNumbers::load(prepared)?;
        Ok(Self { objects, numbers, fingerprints, last_active: HashMap::new(), full_at })
    }

    /// Takes over what `before` had not written yet, for objects that still have a row.
    pub(crate) fn inherit(&mut self, before: Self) {
        let known: std::collections::HashSet<i64> = self.objects.values().map(|object| object.id).collect();
        self.last_active.extend(before.last_active.into_iter().filter(|(id, _)| known.contains(id)));
    }

    /// Writes one record; samples go to `samples` instead, to be stored together.
    pub(crate) fn apply(
        &mut self,
        prepared: &mut Prepared<'_>,
        record: &Record,
        samples: &mut Vec<(i64, Point)>,
    ) -> Result<Applied, rusqlite::Error> {
        match record {
            Record::Sample { at, object, trigger, answer, latency, is_error } => {
                let Some(defined) = self.objects.get_mut(object).filter(|object| !object.series.is_empty()) else {
                    return Ok(Applied::Undefined);
                };
                let Some(series) = defined.series_mut(*trigger) else { return Ok(Applied::Unknown) };
                let (value, message) = rows::sample_value(answer);
                let mut begins_error = false;
                if *is_error {
                    begins_error = series.note(prepared, at.0, &value, &rows::bounded(message))?;
                } else {
                    series.end_error(prepared, at.0)?;
                }
                samples.push((series.id, Point { at_unix_ms: at.0, value, latency_ms: rows::millis(*latency) }));
                if begins_error {
                    defined.trim(prepared, self.full_at)?;
                }
            }
            Record::Definition { at, object, uid, generation, spec_json, invalid, triggers, .. } => {
                let invalid = invalid.as_deref().map(rows::bounded);
                let spec = Spec { generation: *generation, spec_json, invalid: invalid.as_deref() };
                self.define(prepared, *at, object, uid, &spec, triggers)?;
            }
            Record::Removed { at, object } => self.remove(prepared, *at, object)?,
            Record::Standby { until, was_alone: false } => {
                prepared.execute(Sql::StandBy, [Some(until.map_or(i64::MAX, |until| until.0))])?;
            }
            Record::Standby { until, was_alone: true } => {
                prepared.execute(Sql::StandBy, [None::<i64>])?;
                let row = params![Interruption::Lease.id(), until.map(|until| until.0), rows::millis(LEASE_TAKES)];
                prepared.execute(Sql::InsertWait, row)?;
            }
            Record::Interrupted { kind, from, until } => {
                let (kind, within) = (kind.id(), rows::millis(INTERRUPTIONS_WITHIN));
                if prepared.execute(Sql::GrowInterruption, params![kind, from.0, until.0, within])? == 0 {
                    prepared.execute(Sql::InsertInterruption, params![kind, from.0, until.0])?;
                }
            }
            Record::Decision { at, object, decision } => {
                let id = self.grown(prepared, *at, object)?;
                let detail = decision.detail();
                let row = params![
                    id,
                    at.0,
                    decision.reason.id(),
                    rows::bounded(&detail),
                    decision.from,
                    decision.to,
                    rows::triggers_json(&decision.triggers),
                    decision.min,
                    decision.max,
                    decision.idle,
                    rows::pause_text(&decision.pause),
                    decision.force_activation,
                    decision.cooldown_until.map(|at| at.0),
                    decision.proposal().map(|proposal| proposal.replicas),
                    decision.limited_by().map(Limit::id),
                ];
                prepared.execute(Sql::InsertDecision, row)?;
            }
            Record::Action { at, object, from, to, error } => {
                let id = self.grown(prepared, *at, object)?;
                let decision: Option<i64> = prepared
                    .get(Sql::FindDecision)?
                    .query_row(params![id, at.0, CARRY_OUT_MS, from, to], |row| row.get(0))
                    .optional()?;
                prepared.execute(
                    Sql::InsertAction,
                    params![id, decision, at.0, from, to, error.as_deref().map(rows::bounded)],
                )?;
            }
            Record::Replicas { at, object, from, to, by, unseen_since, .. } => {
                let id = self.grown(prepared, *at, object)?;
                let by = by.clone().unwrap_or(Attribution::inferred(Actor::Other));
                let since = unseen_since.map(|since| since.0);
                let row = params![id, at.0, from, to, by.manager, by.actor.id(), by.source(), since];
                prepared.execute(Sql::InsertReplicaChange, row)?;
            }
            Record::Attributed { at, object, to, by, .. } => {
                let id = self.grown(prepared, *at, object)?;
                prepared.execute(Sql::AttributeReplicaChange, params![id, at.0, to, by.actor.id()])?;
            }
            Record::Ready { at, object, changed_at, to } => {
                let id = self.grown(prepared, *at, object)?;
                prepared.execute(Sql::ReadyReplicaChange, params![id, changed_at.0, to, at.0])?;
            }
            Record::Hpa { at, object, current, desired, conditions, metrics_json } => {
                let id = self.grown(prepared, *at, object)?;
                let conditions = rows::conditions_json(conditions);
                prepared.execute(Sql::InsertHpaConditions, [&conditions])?;
                let metrics_json = rows::metrics_json(metrics_json);
                prepared.execute(Sql::InsertHpa, params![id, at.0, current, desired, conditions, metrics_json])?;
            }
            Record::Condition { at, object, condition } => {
                let id = self.grown(prepared, *at, object)?;
                let (kind, status) = (condition.kind.name(), condition.status.name());
                let (reason, message) = (rows::bounded(&condition.reason), rows::bounded(&condition.message));
                // The core records every condition again at each start.
                let is_known = prepared
                    .get(Sql::ConditionChanges)?
                    .query_row(params![id, i64::MIN, at.0, 1, kind], |row| {
                        Ok(row.get_ref(0)?.as_str()? == status
                            && row.get_ref(1)?.as_str()? == reason
                            && row.get_ref(2)?.as_str()? == message)
                    })
                    .optional()?
                    .unwrap_or(false);
                if !is_known {
                    prepared.execute(Sql::InsertCondition, params![id, at.0, kind, status, reason, message])?;
                }
            }
            Record::LastActive { object, at } => {
                let id = self.object(prepared, *at, object)?.id;
                let latest = self.last_active.entry(id).or_insert(at.0);
                *latest = (*latest).max(at.0);
            }
        }
        Ok(Applied::Written)
    }

    /// Writes the rows that are written only occasionally.
    pub(crate) fn write_pending(&mut self, prepared: &mut Prepared<'_>) -> Result<(), rusqlite::Error> {
        for (id, at) in &self.last_active {
            prepared.execute(Sql::UpsertLastActive, params![id, at])?;
        }
        for series in self.objects.values_mut().flat_map(|object| &mut object.series) {
            if let Some(error) = series.error.as_mut().filter(|error| error.dirty) {
                let row = params![error.id, error.last_at_unix_ms, error.polls, None::<i64>];
                prepared.execute(Sql::UpdateErrorPeriod, row)?;
            }
        }
        Ok(())
    }

    /// Marks these as written; call it after the transaction around [`Self::write_pending`] was committed.
    pub(crate) fn pending_written(&mut self) {
        self.last_active.clear();
        for series in self.objects.values_mut().flat_map(|object| &mut object.series) {
            if let Some(error) = &mut series.error {
                error.dirty = false;
            }
        }
    }

    /// Returns the row of the living object, which one more record is written of.
    fn grown(&mut self, prepared: &mut Prepared<'_>, at: UnixMillis, key: &ObjectKey) -> Result<i64, rusqlite::Error> {
        let full_at = self.full_at;
        let object = self.object(prepared, at, key)?;
        object.trim(prepared, full_at)?;
        Ok(object.id)
    }

    /// Returns the living object, inserting a row if it has none yet.
    fn object(
        &mut self,
        prepared: &mut Prepared<'_>,
        at: UnixMillis,
        key: &ObjectKey,
    ) -> Result<&mut RecordedObject, rusqlite::Error> {
        if !self.objects.contains_key(key) {
            let row = params![key.group.name(), &*key.namespace, &*key.name, "", at.0];
            let id = prepared.insert(Sql::InsertObject, row)?;
            self.objects.insert(key.clone(), RecordedObject { id, uid: "".into(), series: Vec::new(), untrimmed: 0 });
        }
        Ok(self.objects.get_mut(key).expect("inserted above"))
    }

    fn define(
        &mut self,
        prepared: &mut Prepared<'_>,
        at: UnixMillis,
        key: &ObjectKey,
        uid: &str,
        spec: &Spec<'_>,
        triggers: &[RecordedTrigger],
    ) -> Result<(), rusqlite::Error> {
        // The object was deleted and recreated, and we missed the deletion.
        if self.objects.get(key).is_some_and(|object| !object.uid.is_empty() && *object.uid != *uid) {
            self.remove(prepared, at, key)?;
        }
        let triggers: Vec<(u64, &RecordedTrigger)> =
            triggers.iter().map(|trigger| (fingerprint(&self.fingerprints, trigger), trigger)).collect();
        let object = self.object(prepared, at, key)?;
        if *object.uid != *uid {
            prepared.execute(Sql::NameObject, params![object.id, uid])?;
            object.uid = uid.into();
        }
        // The core records every definition again at each start.
        let unchanged = prepared
            .get(Sql::OpenDefinition)?
            .query_row([object.id], |row| {
                Ok(row.get::<_, i64>(1)? == spec.generation
                    && row.get_ref(2)?.as_str()? == spec.spec_json
                    && row.get_ref(3)?.as_str_or_null()? == spec.invalid)
            })
            .optional()?
            .unwrap_or(false);
        if !unchanged {
            prepared.execute(Sql::CloseDefinitions, params![object.id, at.0])?;
            let row = params![object.id, spec.generation, at.0, spec.spec_json, spec.invalid];
            prepared.execute(Sql::InsertDefinition, row)?;
            prepared.execute(Sql::TrimDefinitions, params![object.id, DEFINITIONS_MAX])?;
        }
        let object = self.objects.get_mut(key).expect("found or inserted above");
        object.set_triggers(prepared, &mut self.numbers, at, &triggers)
    }

    fn remove(&mut self, prepared: &mut Prepared<'_>, at: UnixMillis, key: &ObjectKey) -> Result<(), rusqlite::Error> {
        let Some(mut object) = self.objects.remove(key) else { return Ok(()) };
        object.set_triggers(prepared, &mut self.numbers, at, &[])?;
        prepared.execute(Sql::CloseDefinitions, params![object.id, at.0])?;
        prepared.execute(Sql::RemoveObject, params![object.id, at.0])?;
        Ok(())
    }
}

struct Spec<'a> {
    generation: i64,
    spec_json: &'a str,
    invalid: Option<&'a str>,
}

/// Returns what two triggers have in common if they are recorded as one series: everything.
fn fingerprint(fingerprints: &RandomState, trigger: &RecordedTrigger) -> u64 {
    let RecordedTrigger { index, kind, name, metric_name, server, query, threshold, activation_threshold } = trigger;
    let numbers = (index, threshold.to_bits(), activation_threshold.to_bits());
    fingerprints.hash_one((numbers, kind, name, metric_name, server, query))
}

impl RecordedObject {
    fn series_mut(&mut self, trigger: u16) -> Option<&mut Series> {
        self.series.iter_mut().find(|series| series.index == trigger)
    }

    /// Counts one more record, and after some of them deletes the oldest rows of the object beyond what is kept in a nearly
    /// full file.
    fn trim(&mut self, prepared: &mut Prepared<'_>, full_at: u64) -> Result<(), rusqlite::Error> {
        self.untrimmed += 1;
        if self.untrimmed < TRIM_EVERY {
            return Ok(());
        }
        self.untrimmed = 0;
        if !retention::exceeds(prepared, full_at)? {
            return Ok(());
        }
        for (statement, kept) in HISTORY_KEPT_MAX {
            let gone = prepared.execute(statement, [self.id, kept])?;
            if statement == Sql::TrimHpas && gone > 0 {
                prepared.execute(Sql::ExpireHpaConditions, [2 * TRIM_EVERY])?;
            }
        }
        Ok(())
    }

    /// Ends the series that are gone or have changed, and begins the new ones. Each trigger comes with its fingerprint.
    fn set_triggers(
        &mut self,
        prepared: &mut Prepared<'_>,
        numbers: &mut SeriesNumbers,
        at: UnixMillis,
        triggers: &[(u64, &RecordedTrigger)],
    ) -> Result<(), rusqlite::Error> {
        let mut ended = 0;
        for mut series in std::mem::take(&mut self.series) {
            if triggers.iter().any(|(fingerprint, _)| *fingerprint == series.fingerprint) {
                self.series.push(series);
            } else {
                series.end_error(prepared, at.0)?;
                prepared.execute(Sql::CloseSeries, params![series.id, at.0])?;
                ended += 1;
            }
        }
        if ended > 0 {
            // More than ended now, so that a file of before is caught up with.
            let some = params![self.id, SERIES_KEPT_MAX, 2 * ended];
            prepared.execute(Sql::TrimSeriesErrors, some)?;
            prepared.execute(Sql::TrimSeries, some)?;
        }
        for (fingerprint, trigger) in triggers {
            if self.series.iter().any(|series| series.fingerprint == *fingerprint) {
                continue;
            }
            let Some(id) = numbers.take(prepared)? else {
                log::error!(index = trigger.index; "samples lost: no number left for their trigger");
                continue;
            };
            let row = params![
                id,
                self.id,
                trigger.index,
                trigger.kind,
                trigger.name,
                &*trigger.metric_name,
                trigger.server,
                trigger.query,
                trigger.threshold,
                trigger.activation_threshold,
                at.0
            ];
            prepared.execute(Sql::InsertSeries, row)?;
            self.series.reserve_exact(1);
            self.series.push(Series { id, index: trigger.index, fingerprint: *fingerprint, error: None });
        }
        Ok(())
    }
}

impl Series {
    /// Begins, continues or ends the error period; returns whether it began one.
    fn note(
        &mut self,
        prepared: &mut Prepared<'_>,
        at_unix_ms: i64,
        value: &SampleValue,
        message: &str,
    ) -> Result<bool, rusqlite::Error> {
        let SampleValue::Outcome(outcome) = value else {
            self.end_error(prepared, at_unix_ms)?;
            return Ok(false);
        };
        let outcome: &str = outcome;
        match &mut self.error {
            Some(error) if error.outcome == outcome && error.message == message => {
                error.last_at_unix_ms = error.last_at_unix_ms.max(at_unix_ms);
                error.polls += 1;
                error.dirty = true;
                Ok(false)
            }
            _ => {
                self.end_error(prepared, at_unix_ms)?;
                let id = prepared.insert(Sql::InsertErrorPeriod, params![self.id, outcome, message, at_unix_ms])?;
                self.error = Some(Box::new(ErrorPeriod {
                    id,
                    outcome: outcome.to_string(),
                    message: message.to_owned(),
                    last_at_unix_ms: at_unix_ms,
                    polls: 1,
                    dirty: false,
                }));
                Ok(true)
            }
        }
    }

    fn end_error(&mut self, prepared: &mut Prepared<'_>, at_unix_ms: i64) -> Result<(), rusqlite::Error> {
        if let Some(error) = self.error.take() {
            let row = params![error.id, error.last_at_unix_ms, error.polls, Some(at_unix_ms)];
            prepared.execute(Sql::UpdateErrorPeriod, row)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::scaling::event::{Answer, ErrorClass, PollError};
    use crate::scaling::model::{Condition, ConditionKind, ConditionStatus};
    use crate::store::schema;

    fn file() -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        schema::create_views(&mut connection).expect("views");
        connection
    }

    /// Writes records as a process does that has just started.
    fn record(connection: &Connection, records: &[Record]) {
        let mut prepared = Prepared::new(connection);
        let mut recorder = Recorder::load(&mut prepared, 0).expect("load");
        for record in records {
            recorder.apply(&mut prepared, record, &mut Vec::new()).expect("apply");
        }
        recorder.write_pending(&mut prepared).expect("pending");
    }

    fn column(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("prepare");
        statement.query_map([], |row| row.get(0)).expect("query").collect::<Result<_, _>>().expect("rows")
    }

    fn web() -> ObjectKey {
        ObjectKey::new(ApiGroup::KedaSh, "shop", "web")
    }

    fn definition(at: i64) -> Record {
        let trigger = RecordedTrigger {
            index: 0,
            kind: "prometheus".into(),
            name: None,
            metric_name: "s0".into(),
            server: String::new(),
            query: String::new(),
            threshold: 1.0,
            activation_threshold: 0.0,
        };
        Record::Definition {
            at: UnixMillis(at),
            object: web(),
            uid: "u".to_owned(),
            generation: 1,
            spec_json: "{}".into(),
            invalid: None,
            resource_triggers: Vec::new(),
            triggers: vec![trigger],
        }
    }

    fn failure(at: i64) -> Record {
        let error = PollError { class: ErrorClass::Timeout, message: "slow".into() };
        let (answer, latency) = (Answer::Failed(error), std::time::Duration::ZERO);
        Record::Sample { at: UnixMillis(at), object: web(), trigger: 0, answer, latency, is_error: true }
    }

    fn condition(at: i64, kind: ConditionKind, status: ConditionStatus, message: &str) -> Record {
        let condition = Condition::new(kind, status, "Reason", message.to_owned());
        Record::Condition { at: UnixMillis(at), object: web(), condition }
    }

    /// Regression: what began before the wall clock was set back ended before it began.
    #[test]
    fn nothing_ends_before_it_begins() {
        let connection = file();
        let removed = Record::Removed { at: UnixMillis(9_000), object: web() };
        record(&connection, &[definition(10_000), failure(11_000), removed]);
        let ended = "SELECT (removed_at_unix_ms - added_at_unix_ms) || ' ' || (e.until_unix_ms - e.from_unix_ms) \
                     FROM scaled_object, error_period AS e";
        assert_eq!(column(&connection, ended), ["0 0"]);
        // An older version has left such rows.
        connection.execute("UPDATE error_period SET until_unix_ms = from_unix_ms - 5000", []).expect("update");
        assert_eq!(column(&connection, "SELECT CAST(lasted_s AS TEXT) FROM v_error_period"), ["0.0"]);
    }

    /// Regression: each start recorded all conditions again, as of the time of the start.
    #[test]
    fn a_condition_that_lasts_is_recorded_once() {
        use ConditionKind::{Paused, Ready};
        use ConditionStatus::{False, True};
        let connection = file();
        let known = || {
            let rows = "SELECT kind || ' ' || status || ' ' || message || ' at ' || at_unix_ms FROM condition_change ORDER BY id";
            column(&connection, rows)
        };
        let at = |at| [condition(at, Ready, True, "fine"), condition(at, Paused, False, "")];
        record(&connection, &at(1_000));
        record(&connection, &at(2_000));
        let mut expected = vec!["Ready True fine at 1000", "Paused False  at 1000"];
        assert_eq!(known(), expected);
        // Any part that differs is a change, and so is what was before.
        let changes = [condition(3_000, Ready, True, "better"), condition(4_000, Ready, False, "better")];
        record(&connection, &changes);
        record(&connection, &at(5_000));
        expected.extend(["Ready True better at 3000", "Ready False better at 4000", "Ready True fine at 5000"]);
        assert_eq!(known(), expected);
        // After the wall clock was set back, what was recorded for later says nothing of now.
        record(&connection, &at(4_500));
        expected.push("Ready True fine at 4500");
        assert_eq!(known(), expected);
        // Another object of the name has conditions of its own.
        record(&connection, &[Record::Removed { at: UnixMillis(6_000), object: web() }]);
        record(&connection, &at(7_000));
        expected.extend(["Ready True fine at 7000", "Paused False  at 7000"]);
        assert_eq!(known(), expected);
    }
}
