//! Reads the history: for plots and the page ([`Snapshot`]), and for explanations ([`Evidence`]).
//!
//! Owns which rows belong to a time range, and one type for each kind of row. All reads share one snapshot and one
//! deadline. Interpreting the rows is up to [`crate::history`] and [`crate::explain`].

mod evidence;
mod row;
mod snapshot;

pub use evidence::{CHANGE_SETTLES_MS, Evidence};
pub use row::{
    ConditionRow, DecidedRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, InterruptionRow, Life, Listing, LossRow,
    ObjectRow, Range, ReplicaRow, RunRow, SeriesRow,
};
pub use snapshot::{NEWEST_WITHIN_MS, Snapshot};

use std::collections::HashMap;

use super::chunk::SampleValue;
use super::error::Error;
use super::reader::Reader;
use super::sql::{LAST_SAMPLE, Sql};
use crate::scaling::event::HeldValue;
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};

/// Result of a read within [`Reader::snapshot`], which converts the error into an [`Error`].
pub type Found<T> = Result<T, rusqlite::Error>;

impl Reader {
    /// Returns the samples of one trigger since a time, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn samples(
        &mut self,
        object: &ObjectKey,
        trigger: u16,
        since: UnixMillis,
    ) -> Result<Vec<(UnixMillis, SampleValue)>, Error> {
        let range = Range { from: since.0, to: i64::MAX };
        self.snapshot(|snapshot| {
            let mut wanted = HashMap::new();
            for life in snapshot.lives(object)? {
                let series = snapshot.series(life.id, range)?;
                wanted.extend(series.iter().filter(|one| one.trigger == trigger).map(|one| (one.id, 0)));
            }
            let mut found = Vec::new();
            snapshot.samples(&wanted, range, |_, at, value| found.push((UnixMillis(at), value.clone())))?;
            found.sort_by_key(|(at, _)| *at);
            Ok(found)
        })
    }

    /// Returns the last values of all living triggers that hold theirs while there is none, if they have one of the last
    /// day.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn held_values(&mut self) -> Result<HashMap<ObjectKey, Vec<HeldValue>>, Error> {
        self.snapshot(|snapshot| {
            let mut triggers = Vec::new();
            let mut statement = snapshot.connection.prepare(Sql::HeldSeries.text())?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let Some(group) = ApiGroup::from_name(row.get_ref(1)?.as_str()?) else { continue };
                let key = ObjectKey::new(group, row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
                let series: i64 = row.get(0)?;
                triggers.push((series, key, row.get::<_, i64>(4)?, row.get::<_, u16>(5)?));
            }
            if triggers.is_empty() {
                return Ok(HashMap::new());
            }
            let last: i64 = snapshot.connection.query_row(LAST_SAMPLE, [], |row| row.get(0))?;
            let wanted = triggers.iter().enumerate().map(|(n, (series, ..))| (*series, n)).collect();
            let mut newest = snapshot.newest(wanted, last, i64::MAX, |value| match value {
                SampleValue::Number(value) => Some(*value),
                SampleValue::Outcome(_) => None,
            })?;
            let mut held: HashMap<ObjectKey, Vec<HeldValue>> = HashMap::new();
            for (n, (_, key, generation, trigger)) in triggers.into_iter().enumerate() {
                if let Some((at, value)) = newest.remove(&n) {
                    held.entry(key).or_default().push(HeldValue { generation, trigger, value, at: UnixMillis(at) });
                }
            }
            Ok(held)
        })
    }

    /// Calls `read` with one snapshot, within one time limit.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn snapshot<T>(&mut self, read: impl FnOnce(&Snapshot<'_>) -> Found<T>) -> Result<T, Error> {
        self.limited(|connection| {
            // A transaction, since packing moves samples from the head to a block.
            let transaction = connection.unchecked_transaction()?;
            read(&Snapshot::new(&transaction))
        })
    }
}
