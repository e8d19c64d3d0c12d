//! A stretch of the past as rows, for plots and pages: one snapshot, one deadline, every list bounded.
//!
//! Owns which rows belong to a stretch of time. Knows nothing of plots: `crate::history` makes
//! something to look at from what it finds here.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;

use super::chunk::{Point, SampleValue, unpack};
use super::error::Error;
use super::reader::Reader;
use super::rollup::{RolledUp, read_hour, read_minutes};
use super::sql::Sql;
use super::{block, rows};
use crate::scaling::attribution::Attribution;
use crate::scaling::model::{ApiGroup, ConditionKind, ObjectKey};

/// Of reads within [`Reader::past`]; the caller gets an [`Error`].
pub type Found<T> = Result<T, rusqlite::Error>;

/// A stretch of time in milliseconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: i64,
    pub to: i64,
}

/// One line of the overview.
#[derive(Clone, Debug)]
pub struct ObjectRow {
    pub id: i64,
    pub key: ObjectKey,
    pub added_at: i64,
    pub removed_at: Option<i64>,
    pub generation: Option<i64>,
    /// What is wrong with the definition in force.
    pub invalid: Option<String>,
    pub replicas: Option<u32>,
    pub last_active_at: Option<i64>,
}

/// Which objects, see [`Past::objects`].
#[derive(Clone, Copy, Debug)]
pub struct Listing<'q> {
    /// What `NAMESPACE/NAME` contains.
    pub text: &'q str,
    /// The removed ones too.
    pub removed: bool,
    pub limit: u32,
    pub offset: u32,
}

/// One life of an object: deleted and created anew it has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub id: i64,
    pub added_at: i64,
    pub removed_at: Option<i64>,
}

/// A trigger as it was measured for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRow {
    pub id: i64,
    pub trigger: u16,
    pub kind: String,
    pub name: Option<String>,
    pub metric_name: String,
    pub threshold: f64,
    pub activation_threshold: f64,
    pub from: i64,
    pub until: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConditionRow {
    pub at: i64,
    pub status: String,
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaRow {
    pub at: i64,
    pub from: Option<u32>,
    pub to: u32,
    pub actor: String,
    pub source: String,
    pub manager: Option<String>,
    /// Who it was, in words.
    pub by: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    pub at: i64,
    pub from: u32,
    pub to: u32,
    pub reason: String,
    pub detail: String,
    pub triggers_json: String,
    /// Something was done about it.
    pub acted: bool,
    /// How that failed.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorRow {
    pub from: i64,
    /// Last poll that ended so.
    pub last_at: i64,
    /// `None` while it lasts.
    pub until: Option<i64>,
    pub outcome: String,
    pub message: String,
    pub polls: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionRow {
    pub at: i64,
    pub generation: i64,
    pub invalid: Option<String>,
    pub spec_json: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    pub version: String,
    pub started_at: i64,
    pub stopped_at: Option<i64>,
    /// `running`, `orderly` or `lost`.
    pub state: String,
}

/// A snapshot of the file; all that is read through it fits together.
#[derive(Debug)]
pub struct Past<'c> {
    connection: &'c Connection,
}

impl Reader {
    /// Reads as much as it likes from one snapshot, within one time limit.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn past<T>(&mut self, read: impl FnOnce(&Past<'_>) -> Found<T>) -> Result<T, Error> {
        self.limited(|connection| {
            // A snapshot: packing moves samples from the head to a block.
            let transaction = connection.unchecked_transaction()?;
            read(&Past::new(&transaction))
        })
    }
}

impl<'c> Past<'c> {
    /// `connection` must be within a transaction, else what is read need not fit together.
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }

    /// Objects by name, the living first, and how many there are without the limit.
    pub fn objects(&self, listing: &Listing<'_>) -> Found<(Vec<ObjectRow>, usize)> {
        let mut statement = self.connection.prepare(Sql::ListObjects.text())?;
        let mut found = statement.query(params![listing.text, listing.removed, listing.limit, listing.offset])?;
        let (mut objects, mut total) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            total = usize::try_from(row.get::<_, i64>(10)?).unwrap_or(0);
            let Some(group) = rows::group_from_name(row.get_ref(1)?.as_str()?) else { continue };
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

    /// The lives of the object, oldest first; none when it was never seen.
    pub fn lives(&self, key: &ObjectKey) -> Found<Vec<Life>> {
        let names = params![&*key.namespace, &*key.name, key.group.name()];
        self.all(Sql::FindObjects, names, |row| {
            Ok(Life { id: row.get(0)?, added_at: row.get(1)?, removed_at: row.get(2)? })
        })
    }

    /// The API groups in which an object of this name was seen.
    pub fn groups(&self, namespace: &str, name: &str) -> Found<Vec<ApiGroup>> {
        let names: Vec<String> = self.all(Sql::FindGroups, params![namespace, name], |row| row.get(0))?;
        Ok(names.iter().filter_map(|name| rows::group_from_name(name)).collect())
    }

    /// A condition as it was at a time.
    pub fn condition(&self, object: i64, kind: ConditionKind, at: i64) -> Found<Option<ConditionRow>> {
        let mut statement = self.connection.prepare(Sql::ConditionNow.text())?;
        statement.query_row(params![object, kind.name(), at], condition_row).optional()
    }

    /// Its changes, newest first.
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

    /// What was measured in the range, by trigger, then by time.
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
            })
        })
    }

    /// Tells every sample of the wanted series (by row, with what the caller knows it by) in the range, in no
    /// order. The head is scanned once for all of them.
    pub fn samples(
        &self,
        wanted: &HashMap<i64, usize>,
        range: Range,
        mut tell: impl FnMut(usize, i64, &SampleValue),
    ) -> Found<()> {
        for (series, known_by) in wanted {
            self.packed(*series, range, range.to, |at, value, _| tell(*known_by, at, &value))?;
        }
        self.head(wanted, range, tell)
    }

    /// Tells the samples of one series that were packed, each with whether the roll-ups have it as well; of such
    /// only those until `rolled_until`.
    pub fn packed(
        &self,
        series: i64,
        range: Range,
        rolled_until: i64,
        mut tell: impl FnMut(i64, SampleValue, bool),
    ) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::ChunksBetween.text())?;
        let mut found = statement.query(params![series, range.from, range.to, rolled_until])?;
        while let Some(row) = found.next()? {
            let is_rolled = row.get(0)?;
            let until = if is_rolled { range.to.min(rolled_until) } else { range.to };
            // What damage made unreadable is left out.
            let _ = unpack(&block::read_chunk(row, 1)?, |Point { at_unix_ms, value, .. }| {
                if (range.from..=until).contains(&at_unix_ms) {
                    tell(at_unix_ms, value, is_rolled);
                }
            });
        }
        Ok(())
    }

    /// Tells the samples of the wanted series that are not packed yet: no roll-up has them.
    pub fn head(
        &self,
        wanted: &HashMap<i64, usize>,
        range: Range,
        mut tell: impl FnMut(usize, i64, &SampleValue),
    ) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::HeadBetween.text())?;
        let mut found = statement.query([range.from, range.to])?;
        while let Some(row) = found.next()? {
            if let Some(known_by) = wanted.get(&row.get(0)?) {
                tell(*known_by, row.get(1)?, &block::read_value(row, 2)?);
            }
        }
        Ok(())
    }

    /// Tells the roll-ups by minute of one series that begin in the range.
    pub fn minutes(&self, series: i64, range: Range, mut tell: impl FnMut(RolledUp)) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::MinutesBetween.text())?;
        let mut found = statement.query([series, range.from, range.to])?;
        while let Some(row) = found.next()? {
            // As with samples.
            let _ = read_minutes(row.get(0)?, row.get_ref(1)?.as_str()?, |rolled| {
                if (range.from..=range.to).contains(&rolled.at) {
                    tell(rolled);
                }
            });
        }
        Ok(())
    }

    /// The roll-ups by hour of one series that begin in the range.
    pub fn hours(&self, series: i64, range: Range) -> Found<Vec<RolledUp>> {
        self.all(Sql::HoursBetween, [series, range.from, range.to], read_hour)
    }

    /// When the oldest roll-ups by minute and by hour begin, of whatever series.
    pub fn oldest_rolled_up(&self) -> Found<(Option<i64>, Option<i64>)> {
        self.connection.prepare(Sql::OldestRollUps.text())?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The last change of replicas before a time.
    pub fn replicas_before(&self, object: i64, at: i64) -> Found<Option<ReplicaRow>> {
        self.connection.prepare(Sql::ReplicasBefore.text())?.query_row([object, at], replica_row).optional()
    }

    /// Tells every change of replicas in the range, oldest first.
    pub fn replicas(&self, object: i64, range: Range, mut tell: impl FnMut(ReplicaRow)) -> Found<()> {
        let mut statement = self.connection.prepare(Sql::ReplicasBetween.text())?;
        let mut found = statement.query([object, range.from, range.to])?;
        while let Some(row) = found.next()? {
            tell(replica_row(row)?);
        }
        Ok(())
    }

    /// Decisions, newest first.
    pub fn decisions(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<DecisionRow>> {
        self.all(Sql::DecisionsBetween, params![object, range.from, range.to, limit(rows_max)], |row| {
            Ok(DecisionRow {
                at: row.get(0)?,
                from: row.get(1)?,
                to: row.get(2)?,
                reason: row.get(3)?,
                detail: row.get(4)?,
                triggers_json: row.get(5)?,
                acted: row.get::<_, Option<bool>>(6)?.unwrap_or(false),
                error: row.get(7)?,
            })
        })
    }

    /// Error periods that reach into the range, newest first.
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

    /// Definitions in force in the range, newest first.
    pub fn definitions(&self, object: i64, range: Range, rows_max: usize) -> Found<Vec<DefinitionRow>> {
        self.all(Sql::DefinitionsBetween, params![object, range.from, range.to, limit(rows_max)], definition_row)
    }

    /// The definition that the one from this time on replaced.
    pub fn definition_before(&self, object: i64, at: i64) -> Found<Option<DefinitionRow>> {
        self.connection.prepare(Sql::DefinitionBefore.text())?.query_row([object, at], definition_row).optional()
    }

    /// Starts and stops of hpalite until a time, newest first.
    pub fn runs(&self, until: i64, rows_max: usize) -> Found<Vec<RunRow>> {
        self.all(Sql::ProcessRuns, params![until, limit(rows_max)], |row| {
            Ok(RunRow { version: row.get(0)?, started_at: row.get(1)?, stopped_at: row.get(2)?, state: row.get(3)? })
        })
    }

    fn all<T>(
        &self,
        statement: Sql,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> Found<T>,
    ) -> Found<Vec<T>> {
        self.connection.prepare(statement.text())?.query_map(parameters, read)?.collect()
    }
}

fn limit(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX)
}

fn condition_row(row: &Row<'_>) -> Found<ConditionRow> {
    Ok(ConditionRow { status: row.get(0)?, reason: row.get(1)?, message: row.get(2)?, at: row.get(3)? })
}

fn replica_row(row: &Row<'_>) -> Found<ReplicaRow> {
    let (actor, manager): (String, Option<String>) = (row.get(3)?, row.get(5)?);
    let by = Attribution::from_row(&actor, manager.as_deref()).to_string();
    Ok(ReplicaRow { at: row.get(0)?, from: row.get(1)?, to: row.get(2)?, actor, source: row.get(4)?, manager, by })
}

fn definition_row(row: &Row<'_>) -> Found<DefinitionRow> {
    Ok(DefinitionRow { generation: row.get(0)?, at: row.get(1)?, invalid: row.get(2)?, spec_json: row.get(3)? })
}
