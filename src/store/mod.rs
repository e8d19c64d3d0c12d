//! The history: definitions, samples, decisions and actions in one SQLite file that people can query.
//!
//! Owns the file. One thread (`store`) holds the only writable connection; all others send it [`Record`]s without
//! waiting. Readers open their own connections. The store must never stop scaling: a failed write is retried for a
//! while, then counted and logged as lost. The cluster remains the source of truth for definitions.
//!
//! ```text
//! send ──► queue, two budgets ──► writer: recorder ──► tables
//!                                         samples ──► head ──► blocks of chunks ──► merged blocks
//! ```

mod age;
mod block;
mod chunk;
mod clock;
mod compaction;
mod counters;
mod displaced;
mod error;
mod file;
pub mod health;
mod losses;
mod masking;
mod prepared;
pub mod query;
mod queue;
pub mod read;
mod reader;
mod recorder;
mod retention;
mod rollup;
mod rows;
mod schema;
mod series_numbers;
mod sql;

mod writer;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod statement_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

pub use chunk::SampleValue;
pub(crate) use clock::now_unix_ms;
pub use counters::Stats;
pub use error::Error;
pub use queue::{Sender, Ticket};
pub use reader::Reader;
pub use retention::Retention;
pub use rollup::{RolledNumbers, RolledUp};
pub use schema::version as schema_version;

use log::warn;

use crate::scaling::event::{Record, RestoredState};
use queue::WriterMessage;

/// How long [`Store::write_kv`] waits for the writer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long [`Store::flush`] waits. The daemon never calls it; callers want to read what they sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub retention: Retention,
    /// Maximum size of the file in pages of 4 KiB; tests use it to simulate a full disk.
    pub pages_max: Option<u32>,
}

/// How [`Store::stop`] went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Everything was written, the WAL was folded in and the file is closed.
    pub complete: bool,
    /// Records lost since the start.
    pub lost_total: u64,
}

impl Sender {
    /// Does the same as [`Store::write_kv`].
    ///
    /// # Errors
    /// The same as [`Store::write_kv`].
    pub fn write_kv(&self, name: &str, value: &str) -> Result<(), Error> {
        let (reply, answer) = mpsc::channel();
        self.post(WriterMessage::WriteKv { name: name.to_owned(), value: value.to_owned(), reply })?;
        answer.recv_timeout(ANSWER_LIMIT).map_err(|_| Error::Busy)?.map_err(|source| Error::Write { source })
    }
}

#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    sender: Sender,
    ended: Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Returns the wall clock's time, which dates the rows of the history.
#[must_use]
pub fn unix_now() -> crate::scaling::model::UnixMillis {
    crate::scaling::model::UnixMillis(clock::now_unix_ms())
}

impl Store {
    /// Opens or creates the file, migrates it, and starts the writer. If the disk of a file that was written before is
    /// full or read-only now, the writer opens it as soon as it can: scaling must not wait for it.
    ///
    /// # Errors
    /// When the file cannot be used at all: the directory is not writable, or a newer version wrote it.
    pub fn start(path: &Path, options: Options) -> Result<Self, Error> {
        let connection = match file::open(path, options.pages_max) {
            Ok(connection) => Some(connection),
            Err(error) if file::is_unwritable_for_now(path, &error) => None,
            Err(error) => return Err(error),
        };
        let (sender, inbox) = queue::channel();
        let (end, ended) = mpsc::channel();
        let writer = writer::Writer::new(path, options, inbox, Arc::clone(&sender.counters));
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let complete = writer.run(connection);
                // The receiver is gone if the stop's deadline has passed.
                let _ = end.send(complete);
            })
            .map_err(|source| Error::Spawn { source })?;
        let store = Self { path: path.to_owned(), sender, ended, thread: Some(thread) };
        if file::is_to_be_checked(path) {
            store.check_beside()?;
        }
        Ok(store)
    }

    /// Checks for damage in a thread of its own, which ends within seconds.
    fn check_beside(&self) -> Result<(), Error> {
        let (path, sender) = (self.path.clone(), self.sender());
        std::thread::Builder::new()
            .name("store-check".to_owned())
            .spawn(move || {
                let file = file::identity(&path).unwrap_or(None);
                if let Some(fault) = file::damage(&path) {
                    // A writer that has ended leaves it to the next start.
                    let _ = sender.post(WriterMessage::Damaged { fault, file });
                }
            })
            .map(|_| ())
            .map_err(|source| Error::Spawn { source })
    }

    /// Queues records. Never blocks: records that do not fit are counted as lost.
    pub fn send(&self, records: Vec<Record>) {
        self.sender.send(records);
    }

    /// Returns a handle for other threads.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.sender.stats()
    }

    /// Returns whether there is room for a good part of what can be queued.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.sender.counters.has_few()
    }

    /// Returns how often since the start the history came to lack what lasts, because it went on in another file or
    /// records were lost.
    #[must_use]
    pub fn renewals_total(&self) -> u64 {
        self.sender.counters.renewals_total()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the state of every living object that must survive a restart.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn restore(&self) -> Result<Vec<RestoredState>, Error> {
        let mut reader = self.reader()?;
        let mut states = reader.restore()?;
        match reader.held_values() {
            Ok(mut held) => {
                states.iter_mut().for_each(|state| state.held = held.remove(&state.key).unwrap_or_default())
            }
            Err(error) => warn!(error:% = error; "triggers have no values of before to hold"),
        }
        Ok(states)
    }

    /// Opens a new read-only connection.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.path)
    }

    /// Reads a value of the daemon's own small state, such as its CA.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_kv(&self, name: &str) -> Result<Option<String>, Error> {
        self.reader()?.kv(name)
    }

    /// Writes such a value and waits until it is committed.
    ///
    /// # Errors
    /// When it could not be written, or not in time.
    pub fn write_kv(&self, name: &str, value: &str) -> Result<(), Error> {
        self.sender.write_kv(name, value)
    }

    /// Requests that everything sent so far be committed at once, and does not wait.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.sender.ticket()
    }

    /// Waits until everything sent before is committed.
    ///
    /// # Errors
    /// When that does not happen in time, or writing currently fails.
    pub fn flush(&self) -> Result<(), Error> {
        if self.ticket().wait(FLUSH_LIMIT) { Ok(()) } else { Err(Error::Busy) }
    }

    /// Writes the rest, folds the WAL into the file and closes it. Waits no longer than `within`.
    #[must_use]
    pub fn stop(mut self, within: Duration) -> Stopped {
        let deadline = clock::now() + within;
        let posted = self.sender.post(WriterMessage::Stop { deadline });
        let complete = posted.is_ok() && self.ended.recv_timeout(within).unwrap_or(false);
        // Joined only if it is known to have ended, since a stuck disk must not delay the shutdown.
        if complete && let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        Stopped { complete, lost_total: self.sender.stats().lost_total }
    }
}
