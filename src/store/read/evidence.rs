//! Reads what the history holds about one object around some moments.
//!
//! Owns which rows are read, and keeps them few; [`crate::explain`] explains them. Every read is by key.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

use super::row::{
    ConditionRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, InterruptionRow, LossRow, Range, ReplicaRow, RunRow,
    SeriesRow,
};
use super::{Found, Snapshot};
use crate::scaling::model::{ApiGroup, ConditionKind};
use crate::store::chunk::SampleValue;
use crate::store::sql::Sql;

/// Upper bound on the rows of one list; the reader's time limit usually comes first.
const ROWS_MAX: usize = 100_000;

/// Upper bound on the bytes of all lists. The page answers two requests at once, and lists grow by doubling, so that this takes
/// a quarter of a daemon's 256 MiB at most.
const BYTES_MAX: usize = 16 << 20;

/// Memory of a sample.
const SAMPLE_BYTES: usize = 32;

/// Everything about one life of an object. Lists are oldest first.
#[derive(Debug, Default)]
pub struct Evidence {
    pub group: Option<ApiGroup>,
    pub added_at: i64,
    pub removed_at: Option<i64>,
    /// There was more than may be read, so that the lists are incomplete and nothing follows from them.
    pub is_too_much: bool,
    /// The disjoint spans that were read, oldest first. Within a span nothing is left out.
    pub spans: Vec<Range>,
    pub definitions: Vec<DefinitionRow>,
    pub series: Vec<SeriesRow>,
    pub decisions: Vec<DecisionRow>,
    pub changes: Vec<ReplicaRow>,
    pub hpa: Vec<HpaRow>,
    /// Changes of the Ready condition.
    pub ready: Vec<ConditionRow>,
    /// Changes of the Paused condition.
    pub paused: Vec<ConditionRow>,
    /// Error periods, each with the id of its series.
    pub errors: Vec<(i64, ErrorRow)>,
    /// Time and value, by series. Before each span also the newest one, unless that is from more than
    /// [`super::NEWEST_WITHIN_MS`] before.
    pub samples: HashMap<i64, Vec<(i64, SampleValue)>>,
    pub runs: Vec<RunRow>,
    /// Periods in which the history lost records of any object.
    pub losses: Vec<LossRow>,
    pub interruptions: Vec<InterruptionRow>,
}

impl Snapshot<'_> {
    /// Returns what is known of the last object of this name (in this API group) before `until`, or `None` if there was
    /// none. Rows begin at `since`, or by default shortly before the last change of replicas.
    pub fn evidence(
        &self,
        namespace: &str,
        name: &str,
        group: Option<ApiGroup>,
        since: Option<i64>,
        until: i64,
        around_ms: i64,
    ) -> Found<Option<Evidence>> {
        let names = params![namespace, name, until, group.map(ApiGroup::name)];
        let found = self.connection.query_row(Sql::ObjectAt.text(), names, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get(3)?))
        });
        let Some((id, name_of_group, added_at, removed_at)) = found.optional()? else { return Ok(None) };
        let around = |at| Range { from: at - around_ms, to: at + CHANGE_SETTLES_MS };
        let mut spans: Vec<Range> = match since {
            Some(since) => vec![Range { from: since, to: until }],
            None => {
                let last: Vec<i64> = self.all(Sql::LastReplicaChange, [id, until], |row| row.get(0))?;
                last.into_iter().map(around).chain([Range { from: until - around_ms, to: until }]).collect()
            }
        };
        let scale_ins: Vec<i64> = self.all(Sql::ScaleIns, [id, until, SCALE_INS], |row| row.get(0))?;
        spans.extend(scale_ins.into_iter().map(around));
        let (evidence, is_enough) = self.within(BYTES_MAX, || read(self, id, &apart(spans), until))?;
        let group = ApiGroup::from_name(&name_of_group);
        Ok(Some(Evidence { group, added_at, removed_at, is_too_much: !is_enough, ..evidence }))
    }
}

/// Number of scale-ins that show the HPA's stabilization window.
const SCALE_INS: i64 = 3;

/// Merges overlapping spans.
fn apart(mut spans: Vec<Range>) -> Vec<Range> {
    spans.sort_by_key(|span| span.from);
    let mut found: Vec<Range> = Vec::new();
    for span in spans {
        match found.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => found.push(span),
        }
    }
    found
}

/// The HPA's status follows its scaling within this time.
pub const CHANGE_SETTLES_MS: i64 = 5_000;

fn read(snapshot: &Snapshot<'_>, object: i64, spans: &[Range], until: i64) -> Found<Evidence> {
    let whole = Range { from: spans.iter().map(|span| span.from).min().unwrap_or(until), to: until };
    let series = snapshot.series(object, whole)?;
    let mut errors = Vec::new();
    for one in &series {
        let lasted = each(spans, |span| snapshot.errors(one.id, span, ROWS_MAX), |error| error.from)?;
        errors.extend(lasted.into_iter().map(|error| (one.id, error)));
    }
    errors.sort_by_key(|(_, error)| error.from);
    let mut runs = snapshot.runs(until, ROWS_MAX)?;
    runs.reverse();
    let decisions = |span| with_before(span, |range, rows_max| snapshot.decisions(object, range, rows_max));
    let hpa = |span| with_before(span, |range, rows_max| snapshot.hpas(object, range, rows_max));
    let conditions =
        |kind, span| with_before(span, |range, rows_max| snapshot.condition_changes(object, kind, range, rows_max));
    Ok(Evidence {
        definitions: each(spans, |span| snapshot.definitions(object, span, ROWS_MAX), |row| row.at)?,
        decisions: each(spans, decisions, |row| row.at)?,
        changes: each(spans, |span| changes(snapshot, object, span), |row| row.at)?,
        hpa: each(spans, hpa, |row| row.at)?,
        ready: each(spans, |span| conditions(ConditionKind::Ready, span), |row| row.at)?,
        paused: each(spans, |span| conditions(ConditionKind::Paused, span), |row| row.at)?,
        spans: spans.to_vec(),
        samples: samples(snapshot, &series, spans)?,
        losses: snapshot.losses(whole)?,
        interruptions: snapshot.interruptions(whole)?,
        runs,
        series,
        errors,
        ..Evidence::default()
    })
}

/// Returns the rows of all spans, each once, oldest first; `read` returns those of one span newest first.
fn each<T: PartialEq>(
    spans: &[Range],
    mut read: impl FnMut(Range) -> Found<Vec<T>>,
    at: impl Fn(&T) -> i64,
) -> Found<Vec<T>> {
    let mut found = Vec::new();
    for span in spans {
        found.extend(read(*span)?.into_iter().rev());
    }
    found.sort_by_key(at);
    found.dedup();
    Ok(found)
}

/// Returns all rows within a span and the newest before it, newest first. Of any number, so that nothing is left out.
fn with_before<T>(span: Range, read: impl Fn(Range, usize) -> Found<Vec<T>>) -> Found<Vec<T>> {
    let mut found = read(span, usize::MAX)?;
    found.extend(read(Range { from: i64::MIN, to: span.from - 1 }, 1)?);
    Ok(found)
}

fn changes(snapshot: &Snapshot<'_>, object: i64, span: Range) -> Found<Vec<ReplicaRow>> {
    let mut found: Vec<ReplicaRow> = snapshot.replicas_before(object, span.from)?.into_iter().collect();
    snapshot.replicas(object, span, |row| found.push(row))?;
    found.reverse();
    Ok(found)
}

fn samples(
    snapshot: &Snapshot<'_>,
    series: &[SeriesRow],
    spans: &[Range],
) -> Found<HashMap<i64, Vec<(i64, SampleValue)>>> {
    let mut lists: Vec<Vec<(i64, SampleValue)>> = vec![Vec::new(); series.len()];
    for span in spans {
        let lived = |one: &SeriesRow| one.from <= span.to && one.until.is_none_or(|end| end >= span.from);
        let wanted: HashMap<i64, usize> =
            series.iter().enumerate().filter(|(_, one)| lived(one)).map(|(place, one)| (one.id, place)).collect();
        snapshot.samples(&wanted, *span, |place, at, value| {
            if snapshot.take(SAMPLE_BYTES) {
                lists[place].push((at, value.clone()));
            }
        })?;
        for (place, sample) in snapshot.newest_before(wanted, span.from)? {
            if snapshot.take(SAMPLE_BYTES) {
                lists[place].push(sample);
            }
        }
    }
    let sorted = series.iter().zip(lists).map(|(one, mut list)| {
        list.sort_by_key(|(at, _)| *at);
        list.dedup_by_key(|(at, _)| *at);
        (one.id, list)
    });
    Ok(sorted.collect())
}
