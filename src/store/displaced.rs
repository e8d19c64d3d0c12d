//! Goes on after the database or its write-ahead log was deleted, renamed or replaced while it was in use.
//!
//! Owns the connection and the log of before until nothing that was committed is in that log alone: a reader may keep
//! SQLite from folding it into the database that it belongs to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};
use rusqlite::Connection;

use super::error::{Error, is_retryable};
use super::file::{self, Fate, Opened};
use super::{clock, sql};

/// How long reads of a database that is no longer at the path are waited for. Those of hpalite itself end within 10 s,
/// a backup within a minute.
const READS_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Displaced {
    /// The files that the connection of before writes to.
    opened: Opened,
    old: Option<Connection>,
    /// Where the log of a database was moved to that is no longer at the path.
    log_aside: Option<PathBuf>,
    give_up_at: Instant,
}

impl Displaced {
    pub(crate) fn new(opened: Opened, old: Connection) -> Self {
        Self { opened, old: Some(old), log_aside: None, give_up_at: clock::now() + READS_LIMIT }
    }

    /// Opens what is at `path` now, or a new file, and copies the readable part of what must survive. May be called
    /// again after an error, which is often only that a reader has to end first.
    pub(crate) fn reopen(&mut self, path: &Path, pages_max: Option<u32>) -> Result<Connection, Error> {
        let is_gone = self.opened.fate(path) == Fate::Gone;
        if is_gone {
            self.leave(path)?;
        } else {
            self.close(path)?;
        }
        let connection = file::open(path, pages_max)?;
        if let Some(old) = &self.old {
            let saved =
                file::salvage(old, &connection).map_err(|source| Error::Open { path: path.to_owned(), source })?;
            info!(kv = saved.0, objects = saved.1; "copied from the database of before");
        }
        let what = if is_gone { "the database" } else { "the write-ahead log of the database" };
        let mut cause =
            format!("{what} was deleted, renamed or replaced while it was in use; some of what was before is missing");
        if let Some(log) = &self.log_aside {
            cause += &format!(", some of it is in {}", log.display());
        }
        file::record_loss(path, &connection, &cause)?;
        Ok(connection)
    }

    /// Folds the log into a database that is no longer at the path, and may only have been renamed.
    fn leave(&mut self, path: &Path) -> Result<(), Error> {
        // SQLite would apply it to whichever database is at the path. Processes that have it open keep it.
        if let Some(aside) = self.opened.move_log_aside(path)? {
            self.log_aside = Some(aside);
        }
        self.opened.remove_index(path);
        let Some(old) = &self.old else { return Ok(()) };
        match fold(old) {
            Ok(()) => {
                if let Some(aside) = self.log_aside.take() {
                    let _ = std::fs::remove_file(aside);
                }
                Ok(())
            }
            Err(source) if is_retryable(&source) && clock::now() < self.give_up_at => {
                Err(Error::Fold { path: path.to_owned(), source })
            }
            Err(error) => {
                let aside = self.log_aside.as_deref().unwrap_or(Path::new(""));
                warn!(error:% = error, log:% = aside.display(); "the database of before lacks what is in its log");
                Ok(())
            }
        }
    }

    /// Closes a database that is still at the path, whose log or the log's index is not.
    fn close(&mut self, path: &Path) -> Result<(), Error> {
        // SQLite makes a new index for a log that is there.
        let has_log = self.opened.has_log(path);
        if !has_log && let Some(old) = &self.old {
            match fold(old) {
                Err(source) if is_retryable(&source) => return Err(Error::Fold { path: path.to_owned(), source }),
                Err(error) => warn!(error:% = error; "what is in the deleted log cannot be read"),
                Ok(()) => {}
            }
        }
        self.old = None;
        if !has_log {
            self.opened.remove_index(path);
        }
        // Within a process, SQLite shares one index among the connections to a file: with a reader's, the new
        // connection would take a log for what it no longer is, and other processes would not see what it writes.
        if self.opened.is_index_in_use() {
            return Err(Error::Fold { path: path.to_owned(), source: is_read() });
        }
        Ok(())
    }
}

/// Copies all of the log into the database. A reader that began earlier and still reads keeps SQLite from it, and a
/// database that has only a part of its log may be malformed.
fn fold(connection: &Connection) -> Result<(), rusqlite::Error> {
    let (in_log, copied): (i64, i64) =
        connection.query_row(sql::FOLD, [], |row| Ok((row.get("log")?, row.get("checkpointed")?)))?;
    if copied == in_log { Ok(()) } else { Err(is_read()) }
}

fn is_read() -> rusqlite::Error {
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(busy, Some("it is being read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A reader that does not end must not keep the history from going on, and costs nothing that was committed.
    #[test]
    fn the_log_of_a_database_that_is_read_for_long_is_left_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let connection = file::open(&path, None).expect("it opens");
        let row = |name: &str| connection.execute("INSERT INTO kv VALUES (?1, 'x', 1)", [name]).expect("a row");
        row("a");
        let reader = file::open_read_only(&path).expect("it opens");
        reader.execute_batch("BEGIN; SELECT * FROM kv").expect("a read");
        row("b");
        let mut displaced = Displaced::new(Opened::at(&path, &connection), connection);
        let moved = folder.path().join("moved.db");
        fs::rename(&path, &moved).expect("it is renamed");
        for _ in 0..2 {
            assert!(matches!(displaced.reopen(&path, None), Err(Error::Fold { .. })));
            assert!(!path.exists());
        }
        displaced.give_up_at = clock::now();
        let next = displaced.reopen(&path, None).expect("it goes on");
        let names = |connection: &Connection| {
            let mut statement = connection.prepare("SELECT name FROM kv ORDER BY name").expect("a statement");
            let names = statement.query_map([], |row| row.get(0)).expect("rows");
            names.collect::<Result<Vec<String>, _>>().expect("names")
        };
        assert_eq!(names(&next), ["a", "b"]);
        drop((reader, displaced));
        let logs = fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("a file").path());
        let logs: Vec<_> = logs.filter(|path| path.to_string_lossy().contains("history.db-wal.displaced-")).collect();
        assert_eq!(logs.len(), 1, "{logs:?}");
        fs::rename(&logs[0], file::with_suffix(&moved, "-wal")).expect("it is put back");
        assert_eq!(names(&file::open_read_only(&moved).expect("it opens")), ["a", "b"]);
        let cause: String = next.query_row("SELECT cause FROM loss", [], |row| row.get(0)).expect("a loss");
        assert!(cause.contains("history.db-wal.displaced-"), "{cause}");
    }
}
