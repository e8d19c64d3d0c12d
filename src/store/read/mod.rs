//! Reads the past: for plots and the page ([`Snapshot`]), and for explanations ([`Evidence`]).
//!
//! Owns which rows belong to a stretch of time, and one type for each kind of row. Everything is read from one snapshot
//! within one deadline. What is made of it is for [`crate::history`] and [`crate::explain`].

mod evidence;
mod row;
mod snapshot;

pub use evidence::{CHANGE_SETTLES_MS, Evidence};
pub use row::{
    ConditionRow, DecisionRow, DefinitionRow, ErrorRow, HpaRow, Life, Listing, LossRow, ObjectRow, Range, ReplicaRow,
    RunRow, SeriesRow,
};
pub use snapshot::Snapshot;

use super::error::Error;
use super::reader::Reader;

/// Of reads within [`Reader::snapshot`]; the caller gets an [`Error`].
pub type Found<T> = Result<T, rusqlite::Error>;

impl Reader {
    /// Reads as much as it likes from one snapshot, within one time limit.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn snapshot<T>(&mut self, read: impl FnOnce(&Snapshot<'_>) -> Found<T>) -> Result<T, Error> {
        self.limited(|connection| {
            // A transaction: packing moves samples from the head to a block.
            let transaction = connection.unchecked_transaction()?;
            read(&Snapshot { connection: &transaction })
        })
    }
}
