//! Read-only connections beside the writer.
//!
//! Owns their rules: they cannot write, and none outlives its deadline, since a long read prevents the WAL from being
//! reused.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::error::Error;
use super::sql::{MIGRATIONS, Sql};
use super::{clock, file, rows};
use crate::scaling::event::RestoredState;
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};

/// Time limit of each read below.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// SQLite virtual machine instructions between two checks of the deadline: about 0.1 ms.
const DEADLINE_CHECK_OPS: i32 = 10_000;

#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    /// When all reads are over; without it, each has a time limit of its own.
    deadline: Option<Instant>,
}

/// Interrupts any statement once `limit` has passed from now.
pub(crate) fn set_deadline(connection: &mut Connection, limit: Duration) -> Result<(), rusqlite::Error> {
    let deadline = clock::now() + limit;
    connection.progress_handler(DEADLINE_CHECK_OPS, Some(move || clock::now() > deadline))
}

impl Reader {
    /// # Errors
    /// When the file does not exist or is not a database.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = file::open_read_only(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok(Self { connection, deadline: None })
    }

    /// Lets all reads from now on have the time limit of one together.
    #[must_use]
    pub fn limited_together(self) -> Self {
        Self { deadline: Some(clock::now() + READ_LIMIT), ..self }
    }

    /// Returns the schema version of the file, and the one that this program writes.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn versions(&mut self) -> Result<(i64, i64), Error> {
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let found = self.limited(|connection| connection.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        Ok((found, known))
    }

    /// Returns the last activity and replicas of every living object, without the values that it holds.
    ///
    /// # Errors
    /// When the file cannot be read in time.
    pub fn restore(&mut self) -> Result<Vec<RestoredState>, Error> {
        self.limited(|connection| {
            let mut statement = connection.prepare(Sql::Restore.text())?;
            let mut rows = statement.query([])?;
            let mut states = Vec::new();
            while let Some(row) = rows.next()? {
                let Some(group) = ApiGroup::from_name(row.get_ref(0)?.as_str()?) else { continue };
                let key = ObjectKey::new(group, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
                let last_active_at = row.get::<_, Option<i64>>(4)?.map(UnixMillis);
                let generation: Option<i64> = row.get(5)?;
                let replicas = generation.zip(row.get(6)?);
                let put_to_zero = row.get_ref(7)?.as_str_or_null()?.and_then(rows::target);
                let uid = row.get(3)?;
                states.push(RestoredState { key, uid, last_active_at, replicas, held: Vec::new(), put_to_zero });
            }
            Ok(states)
        })
    }

    /// # Errors
    /// When the file cannot be read in time.
    pub fn kv(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.limited(|connection| connection.query_row(Sql::ReadKv.text(), [name], |row| row.get(0)).optional())
    }

    /// How long the next read may take.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.map_or(READ_LIMIT, |deadline| deadline.saturating_duration_since(clock::now()))
    }

    pub(super) fn limited<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        let left = self.time_left();
        let over = Error::TimeLimit { ms: READ_LIMIT.as_millis() };
        // A short read ends before the deadline is looked at.
        if left.is_zero() {
            return Err(over);
        }
        set_deadline(&mut self.connection, left).map_err(|source| Error::Read { source })?;
        read(&self.connection).map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => over,
            _ => Error::Read { source },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    #[test]
    fn reads_with_one_time_limit_end_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let store = Store::start(&path, Options::default()).expect("it starts");
        let mut reader = Reader::open(&path).expect("a file").limited_together();
        assert!(reader.versions().is_ok());
        reader.deadline = Some(clock::now());
        assert!(matches!(reader.versions(), Err(Error::TimeLimit { .. })));
        assert!(store.stop(Duration::from_secs(120)).complete);
    }
}
