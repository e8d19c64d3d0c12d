//! Reads the history: for plots and the page ([`Snapshot`]), and for explanations ([`Evidence`]).
//!
//! Owns which rows belong to a time range, and one type for each kind of row. All reads share one snapshot and one
//! deadline. Interpreting the rows is up to [`crate::history`] and [`crate::explain`].

mod evidence;
mod row;
mod snapshot;

pub use evidence::{CHANGE_SETTLES_MS, Evidence};
pub use row::{
    ConditionRow, DecidedRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, Life, Listing, LossRow, ObjectRow, Range,
    ReplicaRow, RunRow, SeriesRow,
};
pub use snapshot::Snapshot;

use std::collections::HashMap;

use super::chunk::SampleValue;
use super::error::Error;
use super::reader::Reader;
use crate::scaling::model::{ObjectKey, UnixMillis};

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
