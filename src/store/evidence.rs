//! What the history holds about one object around some moments, as plain rows.
//!
//! Owns which rows are read and how few; explaining them is [`crate::explain`]'s. Every read is by key.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::chunk::{Point, SampleValue, unpack};
use super::error::Error;
use super::reader::Reader;
use super::sql::Sql;
use super::upkeep;

/// Both ends included, in milliseconds since 1970.
pub type Span = (i64, i64);

/// Everything about one life of an object. Lists are oldest first.
#[derive(Debug, Default)]
pub struct Evidence {
    pub api_group: String,
    pub removed_at: Option<i64>,
    pub definitions: Vec<DefinitionRow>,
    pub series: Vec<SeriesRow>,
    pub decisions: Vec<DecisionRow>,
    pub changes: Vec<ChangeRow>,
    pub hpa: Vec<HpaRow>,
    /// Changes of the Ready condition.
    pub ready: Vec<ConditionRow>,
    pub errors: Vec<ErrorRow>,
    /// By series.
    pub samples: HashMap<i64, Vec<(i64, SampleValue)>>,
    pub runs: Vec<RunRow>,
}

#[derive(Clone, Debug)]
pub struct DefinitionRow {
    pub generation: i64,
    pub from: i64,
    pub spec_json: String,
    pub invalid: Option<String>,
}

#[derive(Clone, Debug)]
pub struct SeriesRow {
    pub id: i64,
    pub metric_name: String,
    pub threshold: f64,
    pub activation_threshold: f64,
    pub from: i64,
    pub until: Option<i64>,
}

#[derive(Clone, Debug)]
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

#[derive(Clone, Debug)]
pub struct ChangeRow {
    pub at: i64,
    /// `None` when first seen.
    pub from: Option<u32>,
    pub to: u32,
    pub manager: Option<String>,
    /// `hpalite`, `hpa` or `other`.
    pub actor: String,
    /// `observed` or `inferred`.
    pub source: String,
}

#[derive(Clone, Debug)]
pub struct HpaRow {
    pub at: i64,
    pub current: i64,
    pub desired: i64,
    pub conditions_json: String,
}

#[derive(Clone, Debug)]
pub struct ConditionRow {
    pub at: i64,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct ErrorRow {
    pub series: i64,
    pub outcome: String,
    pub message: String,
    pub from: i64,
    pub until: Option<i64>,
    pub polls: i64,
}

#[derive(Clone, Debug)]
pub struct RunRow {
    pub started: i64,
    pub stopped: Option<i64>,
    pub state: String,
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

    /// What is known of the object that had this name last before `until`; `None` when there was none.
    /// `since` is where the rows begin; without it, shortly before the last change of replicas.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn evidence(
        &mut self,
        namespace: &str,
        name: &str,
        since: Option<i64>,
        until: i64,
        around_ms: i64,
    ) -> Result<Option<Evidence>, Error> {
        self.limited(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let found = snapshot
                .query_row(Sql::WhyObject.text(), params![namespace, name, until], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<i64>>(2)?))
                })
                .optional()?;
            let Some((id, api_group, removed_at)) = found else { return Ok(None) };
            let spans: Vec<Span> = match since {
                Some(since) => vec![(since, until)],
                None => {
                    let last = snapshot
                        .query_row(Sql::WhyLastChange.text(), [id, until], |row| row.get::<_, i64>(0))
                        .optional()?;
                    let change = last.map(|at| (at - around_ms, at + CHANGE_SETTLES_MS));
                    change.into_iter().chain([(until - around_ms, until)]).collect()
                }
            };
            read(&snapshot, id, &spans, until).map(|evidence| Some(Evidence { api_group, removed_at, ..evidence }))
        })
    }
}

/// The HPA's status follows its scaling within this time.
pub const CHANGE_SETTLES_MS: i64 = 5_000;

fn read(connection: &Connection, object: i64, spans: &[Span], until: i64) -> Result<Evidence, rusqlite::Error> {
    let list = |before: Sql, between: Sql| Lists { connection, object, spans, before, between };
    let series: Vec<SeriesRow> = connection
        .prepare(Sql::WhySeries.text())?
        .query_map([object], |row| {
            Ok(SeriesRow {
                id: row.get(0)?,
                metric_name: row.get(1)?,
                threshold: row.get(2)?,
                activation_threshold: row.get(3)?,
                from: row.get(4)?,
                until: row.get(5)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let earliest = spans.iter().map(|span| span.0).min().unwrap_or(until);
    let mut errors = Vec::new();
    for one in series.iter().filter(|one| one.until.is_none_or(|end| end >= earliest)) {
        let mut statement = connection.prepare(Sql::WhyErrors.text())?;
        let found = statement.query_map([one.id, earliest, until], |row| {
            Ok(ErrorRow {
                series: one.id,
                outcome: row.get(0)?,
                message: row.get(1)?,
                from: row.get(2)?,
                until: row.get(3)?,
                polls: row.get(4)?,
            })
        })?;
        errors.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    errors.sort_by_key(|error| error.from);
    Ok(Evidence {
        definitions: list(Sql::WhyDefinitionBefore, Sql::WhyDefinitions).rows(|row| {
            Ok(DefinitionRow {
                generation: row.get(2)?,
                from: row.get(1)?,
                spec_json: row.get(3)?,
                invalid: row.get(4)?,
            })
        })?,
        decisions: list(Sql::WhyDecisionBefore, Sql::WhyDecisions).rows(|row| {
            Ok(DecisionRow {
                at: row.get(1)?,
                reason: row.get(2)?,
                detail: row.get(3)?,
                from_replicas: row.get(4)?,
                to_replicas: row.get(5)?,
                triggers_json: row.get(6)?,
                pause: row.get(7)?,
                cooldown_until: row.get(8)?,
                limited_by: row.get(9)?,
            })
        })?,
        changes: list(Sql::WhyChangeBefore, Sql::WhyChanges).rows(|row| {
            Ok(ChangeRow {
                at: row.get(1)?,
                from: row.get(2)?,
                to: row.get(3)?,
                manager: row.get(4)?,
                actor: row.get(5)?,
                source: row.get(6)?,
            })
        })?,
        hpa: list(Sql::WhyHpaBefore, Sql::WhyHpas).rows(|row| {
            Ok(HpaRow { at: row.get(1)?, current: row.get(2)?, desired: row.get(3)?, conditions_json: row.get(4)? })
        })?,
        ready: list(Sql::WhyReadyBefore, Sql::WhyReadies).rows(|row| {
            Ok(ConditionRow { at: row.get(1)?, status: row.get(2)?, reason: row.get(3)?, message: row.get(4)? })
        })?,
        samples: samples(connection, &series, spans)?,
        runs: connection
            .prepare(Sql::WhyRuns.text())?
            .query_map([until], |row| Ok(RunRow { started: row.get(0)?, stopped: row.get(1)?, state: row.get(2)? }))?
            .collect::<Result<_, _>>()?,
        series,
        errors,
        ..Evidence::default()
    })
}

struct Lists<'c> {
    connection: &'c Connection,
    object: i64,
    spans: &'c [Span],
    before: Sql,
    between: Sql,
}

impl Lists<'_> {
    /// The newest row before each span, and all within it, each once. Columns begin with id and time.
    fn rows<T>(self, mut make: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>) -> Result<Vec<T>, rusqlite::Error> {
        let mut found: BTreeMap<(i64, i64), T> = BTreeMap::new();
        for (from, until) in self.spans {
            let mut take = |row: &Row<'_>| -> Result<(), rusqlite::Error> {
                found.insert((row.get(1)?, row.get(0)?), make(row)?);
                Ok(())
            };
            let mut before = self.connection.prepare(self.before.text())?;
            let mut rows = before.query([self.object, *from])?;
            while let Some(row) = rows.next()? {
                take(row)?;
            }
            let mut between = self.connection.prepare(self.between.text())?;
            let mut rows = between.query([self.object, *from, *until])?;
            while let Some(row) = rows.next()? {
                take(row)?;
            }
        }
        Ok(found.into_values().collect())
    }
}

fn samples(
    connection: &Connection,
    series: &[SeriesRow],
    spans: &[Span],
) -> Result<HashMap<i64, Vec<(i64, SampleValue)>>, rusqlite::Error> {
    let mut found: HashMap<i64, Vec<(i64, SampleValue)>> = series.iter().map(|one| (one.id, Vec::new())).collect();
    for (from, until) in spans {
        for one in series.iter().filter(|one| one.from <= *until && one.until.is_none_or(|end| end >= *from)) {
            let Some(list) = found.get_mut(&one.id) else { continue };
            let mut statement = connection.prepare(Sql::WhyChunks.text())?;
            let mut rows = statement.query([one.id, *from, *until])?;
            while let Some(row) = rows.next()? {
                // What damage made unreadable is left out.
                let _ = unpack(&upkeep::read_chunk(row, 0)?, |Point { at_unix_ms, value, .. }| {
                    if (*from..=*until).contains(&at_unix_ms) {
                        list.push((at_unix_ms, value));
                    }
                });
            }
        }
        let mut statement = connection.prepare(Sql::WhyHead.text())?;
        let mut rows = statement.query([from, until])?;
        while let Some(row) = rows.next()? {
            if let Some(list) = found.get_mut(&row.get(0)?) {
                list.push((row.get(1)?, upkeep::read_value(row, 2)?));
            }
        }
    }
    for list in found.values_mut() {
        list.sort_by_key(|(at, _)| *at);
        list.dedup_by_key(|(at, _)| *at);
    }
    Ok(found)
}
