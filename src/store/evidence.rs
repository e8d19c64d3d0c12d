//! What the history holds about one object around some moments, as plain rows.
//!
//! Owns which rows are read and how few; explaining them is [`crate::explain`]'s. Every read is by key, and what plots
//! want as well is read by [`Past`].

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::chunk::SampleValue;
use super::error::Error;
use super::past::{ConditionRow, DefinitionRow, ErrorRow, Found, Past, Range, ReplicaRow, RunRow, SeriesRow};
use super::reader::Reader;
use super::sql::Sql;
use crate::scaling::model::{ApiGroup, ConditionKind};

/// Of one list; the time limit of the reader comes first.
const ROWS_MAX: usize = 100_000;

/// Everything about one life of an object. Lists are oldest first.
#[derive(Debug, Default)]
pub struct Evidence {
    pub api_group: String,
    pub added_at: i64,
    pub removed_at: Option<i64>,
    /// The stretches that were read, oldest first, apart from each other. What is missing within one never was.
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
    /// With the series that they are of.
    pub errors: Vec<(i64, ErrorRow)>,
    /// By series.
    pub samples: HashMap<i64, Vec<(i64, SampleValue)>>,
    pub runs: Vec<RunRow>,
    /// Stretches of which the history lost something, of any object.
    pub losses: Vec<LossRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    pub at: i64,
    pub reason: String,
    pub detail: String,
    pub from_replicas: u32,
    pub to_replicas: u32,
    pub triggers_json: String,
    pub pause: Option<String>,
    pub cooldown_until: Option<i64>,
    pub limited_by: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HpaRow {
    pub at: i64,
    pub current: i64,
    pub desired: i64,
    pub conditions_json: String,
    /// `status.currentMetrics`.
    pub metrics_json: String,
}

#[derive(Clone, Debug)]
pub struct LossRow {
    pub from: i64,
    pub until: i64,
    pub samples: i64,
    /// Other records.
    pub others: i64,
    pub cause: String,
}

impl Reader {
    /// Names of the objects that were ever seen, as `namespace/name`.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn object_names(&mut self) -> Result<Vec<String>, Error> {
        self.limited(|connection| {
            let mut statement = connection.prepare(Sql::WhyNames.text())?;
            statement.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// What is known of the object that had this name (in this API group) last before `until`; `None` when there was none.
    /// `since` is where the rows begin; without it, shortly before the last change of replicas.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn evidence(
        &mut self,
        namespace: &str,
        name: &str,
        group: Option<ApiGroup>,
        since: Option<i64>,
        until: i64,
        around_ms: i64,
    ) -> Result<Option<Evidence>, Error> {
        self.limited(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let found = snapshot
                .query_row(Sql::WhyObject.text(), params![namespace, name, until, group.map(ApiGroup::name)], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get(3)?))
                })
                .optional()?;
            let Some((id, api_group, added_at, removed_at)) = found else { return Ok(None) };
            let mut spans: Vec<Range> = match since {
                Some(since) => vec![Range { from: since, to: until }],
                None => {
                    let last = snapshot
                        .query_row(Sql::WhyLastChange.text(), [id, until], |row| row.get::<_, i64>(0))
                        .optional()?;
                    let change = last.map(|at| Range { from: at - around_ms, to: at + CHANGE_SETTLES_MS });
                    change.into_iter().chain([Range { from: until - around_ms, to: until }]).collect()
                }
            };
            let scale_ins: Vec<i64> = snapshot
                .prepare(Sql::WhyScaleIns.text())?
                .query_map([id, until, SCALE_INS], |row| row.get(0))?
                .collect::<Found<_>>()?;
            spans.extend(scale_ins.into_iter().map(|at| Range { from: at - around_ms, to: at + CHANGE_SETTLES_MS }));
            let spans = apart(spans);
            read(&snapshot, id, &spans, until)
                .map(|evidence| Some(Evidence { api_group, added_at, removed_at, ..evidence }))
        })
    }
}

/// So many scale-ins show what the HPA's stabilization window is.
const SCALE_INS: i64 = 3;

/// Spans that overlap become one.
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

fn read(connection: &Connection, object: i64, spans: &[Range], until: i64) -> Found<Evidence> {
    let past = Past::new(connection);
    let whole = Range { from: spans.iter().map(|span| span.from).min().unwrap_or(until), to: until };
    let series = past.series(object, whole)?;
    let mut errors = Vec::new();
    for one in &series {
        errors.extend(past.errors(one.id, whole, ROWS_MAX)?.into_iter().map(|error| (one.id, error)));
    }
    errors.sort_by_key(|(_, error)| error.from);
    let mut runs = past.runs(until, ROWS_MAX)?;
    runs.reverse();
    let decisions =
        |span| before_and_within(connection, object, span, Sql::WhyDecisionBefore, Sql::WhyDecisions, decision_row);
    let hpa = |span| before_and_within(connection, object, span, Sql::WhyHpaBefore, Sql::WhyHpas, hpa_row);
    Ok(Evidence {
        definitions: each(spans, |span| past.definitions(object, span, ROWS_MAX), |row| row.at)?,
        decisions: each(spans, decisions, |row| row.at)?,
        changes: each(spans, |span| changes(&past, object, span), |row| row.at)?,
        hpa: each(spans, hpa, |row| row.at)?,
        ready: each(spans, |span| conditions(&past, object, ConditionKind::Ready, span), |row| row.at)?,
        paused: each(spans, |span| conditions(&past, object, ConditionKind::Paused, span), |row| row.at)?,
        spans: spans.to_vec(),
        samples: samples(&past, &series, spans)?,
        losses: connection
            .prepare(Sql::WhyLosses.text())?
            .query_map([whole.from, until], loss_row)?
            .collect::<Found<_>>()?,
        runs,
        series,
        errors,
        ..Evidence::default()
    })
}

/// The rows of all spans, each once, oldest first; those of one span come newest first.
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

/// All rows within a span and the newest before it, newest first.
fn before_and_within<T>(
    connection: &Connection,
    object: i64,
    span: Range,
    before: Sql,
    within: Sql,
    make: fn(&Row<'_>) -> Found<T>,
) -> Found<Vec<T>> {
    let mut found: Vec<T> =
        connection.prepare(within.text())?.query_map([object, span.from, span.to], make)?.collect::<Found<_>>()?;
    found.extend(connection.prepare(before.text())?.query_row([object, span.from], make).optional()?);
    Ok(found)
}

fn decision_row(row: &Row<'_>) -> Found<DecisionRow> {
    Ok(DecisionRow {
        at: row.get(0)?,
        reason: row.get(1)?,
        detail: row.get(2)?,
        from_replicas: row.get(3)?,
        to_replicas: row.get(4)?,
        triggers_json: row.get(5)?,
        pause: row.get(6)?,
        cooldown_until: row.get(7)?,
        limited_by: row.get(8)?,
    })
}

fn hpa_row(row: &Row<'_>) -> Found<HpaRow> {
    Ok(HpaRow {
        at: row.get(0)?,
        current: row.get(1)?,
        desired: row.get(2)?,
        conditions_json: row.get(3)?,
        metrics_json: row.get(4)?,
    })
}

fn loss_row(row: &Row<'_>) -> Found<LossRow> {
    Ok(LossRow { from: row.get(0)?, until: row.get(1)?, samples: row.get(2)?, others: row.get(3)?, cause: row.get(4)? })
}

fn changes(past: &Past<'_>, object: i64, span: Range) -> Found<Vec<ReplicaRow>> {
    let mut found: Vec<ReplicaRow> = past.replicas_before(object, span.from)?.into_iter().collect();
    past.replicas(object, span, |row| found.push(row))?;
    found.reverse();
    Ok(found)
}

fn conditions(past: &Past<'_>, object: i64, kind: ConditionKind, span: Range) -> Found<Vec<ConditionRow>> {
    let mut found = past.condition_changes(object, kind, span, ROWS_MAX)?;
    found.extend(past.condition(object, kind, span.from - 1)?);
    Ok(found)
}

fn samples(past: &Past<'_>, series: &[SeriesRow], spans: &[Range]) -> Found<HashMap<i64, Vec<(i64, SampleValue)>>> {
    let mut lists: Vec<Vec<(i64, SampleValue)>> = vec![Vec::new(); series.len()];
    for span in spans {
        let lived = |one: &SeriesRow| one.from <= span.to && one.until.is_none_or(|end| end >= span.from);
        let wanted: HashMap<i64, usize> =
            series.iter().enumerate().filter(|(_, one)| lived(one)).map(|(place, one)| (one.id, place)).collect();
        past.samples(&wanted, *span, |place, at, value| lists[place].push((at, value.clone())))?;
    }
    let sorted = series.iter().zip(lists).map(|(one, mut list)| {
        list.sort_by_key(|(at, _)| *at);
        list.dedup_by_key(|(at, _)| *at);
        (one.id, list)
    });
    Ok(sorted.collect())
}
