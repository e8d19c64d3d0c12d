//! The history of one object over a time range, reduced to what can be displayed.
//!
//! Owns what a plot shows: points per trigger ([`buckets`]), thresholds, replicas, decisions, errors, pauses,
//! definitions and hpalite's own downtime; each list is bounded and reports if it was cut. [`plot`] draws it in a
//! terminal, [`csv`] and JSON are for programs, and the page ([`crate::ui`]) uses the same JSON. Only reads.
//!
//! Points come from samples or their roll-ups, depending on the length of a point and the age ([`sources`]).

mod buckets;
pub(crate) mod changes;
pub mod command;
pub mod compare;
pub mod csv;
pub mod overview;
pub mod plot;
mod sources;
pub(crate) mod units;

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use buckets::Shortest;
pub use buckets::{Bucket, Buckets, Grid, Silence};
use sources::Wanted;

use crate::scaling::model::{ConditionKind, ObjectKey};
use crate::store::read::{
    ConditionRow, DecisionRow, ErrorRow, Found, Life, Range, ReplicaRow, RunRow, SeriesRow, Snapshot,
};
use crate::store::{Error, Reader, SampleValue};

/// Upper bounds of the lists, which keep the newest rows. At 300 bytes a row all lists together stay below 1 MB.
const DECISIONS_MAX: usize = 500;
/// Decisions of many triggers are long.
const DECISIONS_BYTES_MAX: usize = 4 << 20;
const REPLICAS_MAX: usize = 500;
/// Per series.
const ERRORS_MAX: usize = 200;
const DEFINITIONS_MAX: usize = 50;
/// Per condition.
const PERIODS_MAX: usize = 200;
const RUNS_MAX: usize = 100;
/// Upper bound on the points of all triggers: at 45 bytes a point about 1 MB.
const POINTS_MAX: usize = 20_000;

/// The complete history. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, Serialize)]
pub struct History {
    pub namespace: String,
    pub name: String,
    pub group: &'static str,
    pub from: i64,
    pub to: i64,
    /// Length of one point.
    pub step: i64,
    pub triggers: Vec<TriggerHistory>,
    /// The target's replicas as steps, the first one possibly from before `from`.
    pub replicas: Vec<ReplicaStep>,
    pub replica_changes: Vec<ReplicaRow>,
    pub decisions: Vec<DecisionRow>,
    pub definitions: Vec<Definition>,
    pub periods: Vec<Period>,
    /// Of hpalite itself, newest first.
    pub runs: Vec<RunRow>,
    pub lives: Vec<(i64, Option<i64>)>,
    /// Names of the lists that hold only their newest rows.
    pub cut: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TriggerHistory {
    pub index: u16,
    pub kind: String,
    pub name: Option<String>,
    pub metric: String,
    /// `AverageValue` (the threshold is per replica) or `Value` (in total), from the newest definition.
    pub target: String,
    pub thresholds: Vec<Threshold>,
    pub stretches: Vec<Vec<Bucket>>,
    pub silences: Vec<Silence>,
    pub errors: Vec<ErrorRow>,
    pub samples: u64,
}

impl TriggerHistory {
    /// The newest point.
    #[must_use]
    pub fn last(&self) -> Option<&Bucket> {
        self.stretches.last().and_then(|stretch| stretch.last())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Threshold {
    pub from: i64,
    pub until: Option<i64>,
    pub threshold: f64,
    pub activation: f64,
}

/// Replicas from a time on; `None` if the object was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStep {
    pub at: i64,
    pub min: u32,
    pub max: u32,
    pub last: Option<u32>,
}

/// `[at, last]`, or `[at, min, max, last]` when more happened in one step of the grid.
impl Serialize for ReplicaStep {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.min == self.max {
            (self.at, self.last).serialize(serializer)
        } else {
            (self.at, self.min, self.max, self.last).serialize(serializer)
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Definition {
    pub at: i64,
    pub generation: i64,
    pub invalid: Option<String>,
    /// Differences from the previous version; empty for the first.
    pub changes: Vec<String>,
    pub first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodKind {
    Paused,
    Fallback,
    NotReady,
}

/// A period in which the object was in this state.
#[derive(Clone, Debug, Serialize)]
pub struct Period {
    pub kind: PeriodKind,
    /// May precede the range.
    pub from: i64,
    /// `None` while it lasts.
    pub until: Option<i64>,
    pub reason: String,
    pub message: String,
}

/// Reads the history of one object; `None` when it was never seen.
///
/// # Errors
/// When the file cannot be read in time.
pub fn load(
    reader: &mut Reader,
    key: &ObjectKey,
    range: Range,
    grid: impl FnOnce(usize) -> Grid,
) -> Result<Option<History>, Error> {
    reader.snapshot(|snapshot| {
        let lives = snapshot.lives(key)?;
        if lives.is_empty() {
            return Ok(None);
        }
        let mut cut = Vec::new();
        let mut series = Vec::new();
        for life in &lives {
            series.extend(snapshot.series(life.id, range)?);
        }
        let mut indexes: Vec<u16> = series.iter().map(|series| series.trigger).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let grid = grid(POINTS_MAX / indexes.len().max(1));
        let (definitions, spec_json) = definitions(snapshot, &lives, range, &mut cut)?;
        let (replicas, replica_changes) = replicas(snapshot, &lives, range, &grid, &mut cut)?;
        Ok(Some(History {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            group: key.group.name(),
            from: range.from,
            to: range.to,
            step: grid.step,
            triggers: triggers(snapshot, &series, &indexes, range, grid, &spec_json, &mut cut)?,
            replicas,
            replica_changes,
            decisions: decisions(snapshot, &lives, range, &mut cut)?,
            definitions,
            periods: periods(snapshot, &lives, range, &mut cut)?,
            runs: snapshot.runs(range.to, RUNS_MAX)?,
            lives: lives.iter().map(|life| (life.added_at, life.removed_at)).collect(),
            cut,
        }))
    })
}

/// Reports every sample of one series in the range, and for minutes and hours whose samples have expired their last one,
/// in no order; with each, how long it stands for in milliseconds: 0 for a sample.
///
/// # Errors
/// When the file cannot be read in time.
pub fn finest(
    snapshot: &Snapshot<'_>,
    series: i64,
    range: Range,
    mut report: impl FnMut(i64, &SampleValue, i64),
) -> Found<()> {
    sources::finest(snapshot, series, range, &mut report)?;
    snapshot.head(&HashMap::from([(series, 0)]), range, |_, at, value| report(at, value, 0))
}

fn triggers(
    snapshot: &Snapshot<'_>,
    series: &[SeriesRow],
    indexes: &[u16],
    range: Range,
    grid: Grid,
    spec_json: &str,
    cut: &mut Vec<&'static str>,
) -> Found<Vec<TriggerHistory>> {
    let spec: serde_json::Value = serde_json::from_str(spec_json).unwrap_or_default();
    let place = |series: &SeriesRow| indexes.binary_search(&series.trigger).unwrap_or(0);
    let mut errors: HashMap<i64, Vec<ErrorRow>> = HashMap::new();
    for series in series {
        errors.insert(series.id, snapshot.errors(series.id, range, ERRORS_MAX + 1)?);
    }
    let wanted: Vec<Wanted<'_>> = series
        .iter()
        .map(|series| Wanted { series: series.id, place: place(series), errors: &errors[&series.id] })
        .collect();
    let mut buckets: Vec<Buckets> = indexes.iter().map(|_| Buckets::new(grid)).collect();
    sources::load(snapshot, &wanted, range, grid, &mut buckets)?;
    let mut triggers = Vec::new();
    for (index, buckets) in indexes.iter().zip(buckets) {
        let mut own: Vec<&SeriesRow> = series.iter().filter(|series| series.trigger == *index).collect();
        own.sort_by_key(|series| series.from);
        let Some(newest) = own.last() else { continue };
        let mut errors: Vec<ErrorRow> = own.iter().flat_map(|series| &errors[&series.id]).cloned().collect();
        errors.sort_by_key(|error| std::cmp::Reverse(error.from));
        bound(&mut errors, ERRORS_MAX, "errors", cut);
        let target = spec["triggers"][usize::from(*index)]["metricType"].as_str().unwrap_or("AverageValue");
        triggers.push(TriggerHistory {
            index: *index,
            kind: newest.kind.clone(),
            name: newest.name.clone(),
            metric: newest.metric_name.clone(),
            target: target.to_owned(),
            thresholds: own
                .iter()
                .map(|series| Threshold {
                    from: series.from,
                    until: series.until,
                    threshold: series.threshold,
                    activation: series.activation_threshold,
                })
                .collect(),
            stretches: buckets.stretches(),
            silences: buckets.silences(),
            errors,
            samples: buckets.samples(),
        });
    }
    Ok(triggers)
}

/// Returns the steps, and the newest individual changes.
fn replicas(
    snapshot: &Snapshot<'_>,
    lives: &[Life],
    range: Range,
    grid: &Grid,
    cut: &mut Vec<&'static str>,
) -> Found<(Vec<ReplicaStep>, Vec<ReplicaRow>)> {
    let mut steps: Vec<ReplicaStep> = Vec::new();
    let mut rows: VecDeque<ReplicaRow> = VecDeque::new();
    let mut seen = 0_usize;
    for life in lives {
        if let Some(before) = snapshot.replicas_before(life.id, range.from)? {
            steps.push(ReplicaStep { at: before.at, min: before.to, max: before.to, last: Some(before.to) });
        }
        snapshot.replicas(life.id, range, |row| {
            let cell = grid.cell(row.at);
            match steps.last_mut() {
                Some(step) if step.at >= range.from && grid.cell(step.at) == cell && step.last.is_some() => {
                    *step = ReplicaStep {
                        at: row.at,
                        min: step.min.min(row.to),
                        max: step.max.max(row.to),
                        last: Some(row.to),
                    };
                }
                _ => steps.push(ReplicaStep { at: row.at, min: row.to, max: row.to, last: Some(row.to) }),
            }
            seen += 1;
            rows.push_front(row);
            rows.truncate(REPLICAS_MAX);
        })?;
        if let Some(at) = life.removed_at.filter(|at| *at <= range.to)
            && !steps.is_empty()
        {
            steps.push(ReplicaStep { at, min: 0, max: 0, last: None });
        }
    }
    if seen > REPLICAS_MAX {
        cut.push("replica_changes");
    }
    // Before the range, only the state at its beginning matters.
    let first = steps.iter().rposition(|step| step.at < range.from).unwrap_or(0);
    steps.drain(..first);
    Ok((steps, rows.into()))
}

fn decisions(
    snapshot: &Snapshot<'_>,
    lives: &[Life],
    range: Range,
    cut: &mut Vec<&'static str>,
) -> Found<Vec<DecisionRow>> {
    let (mut rows, is_enough) = snapshot.within(DECISIONS_BYTES_MAX, || {
        let mut rows: Vec<DecisionRow> = Vec::new();
        // The newest life has the newest rows, for which there is room first.
        for life in lives.iter().rev() {
            rows.extend(snapshot.decisions(life.id, range, DECISIONS_MAX + 1)?);
        }
        Ok(rows)
    })?;
    rows.sort_by_key(|row| std::cmp::Reverse(row.at));
    bound(&mut rows, DECISIONS_MAX, "decisions", cut);
    if !is_enough && !cut.contains(&"decisions") {
        cut.push("decisions");
    }
    Ok(rows)
}

/// Returns the versions, newest first, and the spec of the newest.
fn definitions(
    snapshot: &Snapshot<'_>,
    lives: &[Life],
    range: Range,
    cut: &mut Vec<&'static str>,
) -> Found<(Vec<Definition>, String)> {
    let mut found: Vec<Definition> = Vec::new();
    let mut newest = String::new();
    for life in lives {
        let mut rows = snapshot.definitions(life.id, range, DEFINITIONS_MAX + 1)?;
        bound(&mut rows, DEFINITIONS_MAX, "definitions", cut);
        let before = match rows.last() {
            Some(oldest) => snapshot.definition_before(life.id, oldest.at)?,
            None => None,
        };
        let kept = rows.len();
        rows.extend(before);
        for (i, row) in rows.iter().enumerate().take(kept) {
            let before = rows.get(i + 1);
            found.push(Definition {
                at: row.at,
                generation: row.generation,
                invalid: row.invalid.clone(),
                changes: before.map(|before| changes::between(&before.spec_json, &row.spec_json)).unwrap_or_default(),
                first: before.is_none(),
            });
        }
        if let Some(row) = rows.into_iter().next() {
            newest = row.spec_json;
        }
    }
    found.sort_by_key(|definition| std::cmp::Reverse(definition.at));
    bound(&mut found, DEFINITIONS_MAX, "definitions", cut);
    Ok((found, newest))
}

fn periods(snapshot: &Snapshot<'_>, lives: &[Life], range: Range, cut: &mut Vec<&'static str>) -> Found<Vec<Period>> {
    const NOTABLE: [(PeriodKind, ConditionKind, &str); 3] = [
        (PeriodKind::Paused, ConditionKind::Paused, "True"),
        (PeriodKind::Fallback, ConditionKind::Fallback, "True"),
        (PeriodKind::NotReady, ConditionKind::Ready, "False"),
    ];
    let mut periods: Vec<Period> = Vec::new();
    for life in lives {
        for (kind, condition, status) in NOTABLE {
            let mut rows = snapshot.condition_changes(life.id, condition, range, PERIODS_MAX + 1)?;
            bound(&mut rows, PERIODS_MAX, "periods", cut);
            rows.extend(snapshot.condition(life.id, condition, range.from - 1)?);
            rows.reverse();
            let mut open: Option<Period> = None;
            for ConditionRow { at, status: now, reason, message } in rows {
                match &mut open {
                    Some(period) if now == status => period.message = message,
                    Some(_) => periods.extend(open.take().map(|period| Period { until: Some(at), ..period })),
                    None if now == status => open = Some(Period { kind, from: at, until: None, reason, message }),
                    None => {}
                }
            }
            periods.extend(open.map(|period| Period { until: life.removed_at, ..period }));
        }
    }
    periods.sort_by_key(|period| std::cmp::Reverse(period.from));
    Ok(periods)
}

/// Drops what is over the limit and remembers that something was.
fn bound<T>(rows: &mut Vec<T>, rows_max: usize, what: &'static str, cut: &mut Vec<&'static str>) {
    if rows.len() > rows_max {
        rows.truncate(rows_max);
        if !cut.contains(&what) {
            cut.push(what);
        }
    }
}
