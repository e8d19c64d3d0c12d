//! The writer: the one thread that changes the file.
//!
//! Owns the writable connection and the uncommitted batch. If a commit fails, the batch is retried with growing pauses
//! while the queue fills up, until records are lost. Only a shutdown may wait for this thread without a limit of its
//! own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::chunk::Point;
use super::compaction::Compaction;
use super::counters::{Counters, Load};
use super::displaced::Displaced;
use super::error::{Error, is_corruption, is_retryable};
use super::file::{self, Fate, Identity, Opened};
use super::losses::Losses;
use super::prepared::Prepared;
use super::queue::{WriterMessage, is_sample};
use super::recorder::{Applied, Recorder};
use super::sql::Sql;
use super::{Options, clock};
use crate::scaling::event::Record;
use crate::scaling::model::ObjectKey;

/// Maximum time that a batch waits for more records.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// Maximum time that a batch with a decision or another rare record waits, since people look at it immediately.
const FLUSH_URGENT_AFTER: Duration = Duration::from_millis(100);

/// A batch of this many records is written at once: 32,768 at 3 µs are 100 ms in one transaction.
const BATCH_MAX: usize = 32_768;

/// Last activity and open error periods are written this often, and with each decision: each dirties a page.
const PENDING_EVERY: Duration = Duration::from_secs(15);

/// Pauses between attempts double from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// What lasts is recorded anew no more often than this, since it is most work where the disk is slow already.
const ANEW_WITHIN: Duration = Duration::from_secs(60);

/// Warnings of one kind are at least this far apart.
const WARN_EVERY: Duration = Duration::from_secs(30);

/// An idle writer looks for work to compact or delete this often.
const COMPACT_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Writer {
    path: PathBuf,
    options: Options,
    inbox: Receiver<WriterMessage>,
    counters: Arc<Counters>,
    batch: Vec<Record>,
    /// Where in the batch an object's last activity is that later ones are merged into, while writing fails.
    activities: HashMap<ObjectKey, usize>,
    /// When the batch must be written, if it is not empty.
    due: Option<Instant>,
    retry: Option<Duration>,
    /// Replies to send at the next commit.
    awaited: Vec<mpsc::Sender<()>>,
    /// The newest definition of each object: a new file needs them, as the core records each only once.
    definitions: HashMap<ObjectKey, Box<Record>>,
    losses: Losses,
    /// Lost records other than samples that need not, or no longer, be recorded anew.
    lost_kept_known: u64,
    recorded_anew_at: Option<Instant>,
    warned_dropped_total: u64,
    /// What is wrong with the file, if that is known.
    damage: Option<String>,
    /// What an integrity check beside the writer found, and in which file.
    checked: Option<(Identity, String)>,
    /// Deadline of the shutdown; messages that arrive after it are not waited for.
    stop: Option<Instant>,
    warned: Option<Instant>,
    warned_lost_total: u64,
    /// Id of this process' row in `process_run`.
    run: Option<i64>,
    /// When this process started, in milliseconds since 1970: the row says so in every file that it goes on in.
    started_at: i64,
}

enum End {
    Stopped {
        complete: bool,
    },
    Corrupt,
    /// The database, or only its log, is no longer at its path.
    Displaced {
        gone: bool,
    },
}

impl End {
    /// Returns `None` while the files are in place.
    fn of(fate: Fate) -> Option<Self> {
        match fate {
            Fate::InPlace => None,
            Fate::Truncated => Some(Self::Corrupt),
            Fate::WithoutLog => Some(Self::Displaced { gone: false }),
            Fate::Gone => Some(Self::Displaced { gone: true }),
        }
    }
}

/// State that lives as long as one connection.
struct Session<'c> {
    prepared: Prepared<'c>,
    recorder: Recorder,
    compaction: Compaction,
    samples: Vec<(i64, Point)>,
    pending_due: Instant,
    compaction_after: Instant,
    /// The recorder is out of date after a failed transaction and must be reloaded before the next one.
    stale: bool,
}

/// Samples that were not stored, because their trigger is not recorded.
#[derive(Debug, Default)]
struct Unstored {
    /// As after a change: no loss.
    unknown: usize,
    /// Because the definition is missing.
    undefined: usize,
}

impl Unstored {
    fn all(&self) -> usize {
        self.unknown + self.undefined
    }
}

impl Writer {
    pub(crate) fn new(path: &Path, options: Options, inbox: Receiver<WriterMessage>, counters: Arc<Counters>) -> Self {
        Self {
            path: path.to_owned(),
            options,
            inbox,
            counters,
            batch: Vec::new(),
            activities: HashMap::new(),
            due: None,
            retry: None,
            awaited: Vec::new(),
            definitions: HashMap::new(),
            losses: Losses::default(),
            lost_kept_known: 0,
            recorded_anew_at: None,
            warned_dropped_total: 0,
            damage: None,
            checked: None,
            stop: None,
            warned: None,
            warned_lost_total: 0,
            run: None,
            started_at: clock::now_unix_ms(),
        }
    }

    /// Runs until stopped; returns whether everything was written and the file closed. `None` if the file cannot be
    /// opened yet.
    pub(crate) fn run(mut self, connection: Option<Connection>) -> bool {
        let pages_max = self.options.pages_max;
        let Some(mut connection) = connection.or_else(|| self.start_afresh(|path| file::open(path, pages_max))) else {
            return false;
        };
        loop {
            let opened = Opened::at(&self.path, &connection);
            let next = match self.session(&connection, &opened) {
                End::Stopped { complete } => {
                    // Counts what other threads sent meanwhile as lost.
                    self.lose_batch();
                    return complete & self.close(connection);
                }
                End::Corrupt => {
                    drop(connection);
                    self.counters.count_corruption();
                    self.run = None;
                    let fault = self.damage.take().unwrap_or_else(|| "found while running".to_owned());
                    let mut is_replaced = false;
                    self.start_afresh(|path| {
                        if !is_replaced {
                            file::replace(path, &fault, pages_max)?;
                            is_replaced = true;
                        }
                        file::open(path, pages_max)
                    })
                }
                End::Displaced { gone } => {
                    error!(path:% = self.path.display();
                        "database deleted, renamed or replaced while in use: history goes on in what is at its path");
                    self.counters.count_displacement();
                    if gone {
                        self.run = None;
                    }
                    let mut displaced = Displaced::new(opened, connection);
                    self.start_afresh(|path| displaced.reopen(path, pages_max))
                }
            };
            let Some(next) = next else { return false };
            connection = next;
        }
    }

    /// Retries until another file can be opened; returns `None` if stopped before.
    fn start_afresh(&mut self, mut open: impl FnMut(&Path) -> Result<Connection, Error>) -> Option<Connection> {
        self.awaited.clear();
        self.retry = None;
        loop {
            match open(&self.path) {
                Ok(connection) => {
                    // They go before the batch, which refers to them. Those that were already in it are written twice,
                    // which is harmless.
                    let definitions: Vec<Record> =
                        self.definitions.values().map(|definition| (**definition).clone()).collect();
                    self.counters.reserve_again(Load::of_all(&definitions));
                    self.batch.splice(0..0, definitions);
                    self.activities.clear();
                    self.losses.reset_row();
                    (self.retry, self.due) = (None, Some(clock::now()));
                    self.counters.succeed();
                    return Some(connection);
                }
                Err(error) => {
                    let now = clock::now();
                    if self.warned.is_none_or(|before| now.duration_since(before) >= WARN_EVERY) {
                        self.warned = Some(now);
                        error!(error:% = error; "no database can be opened: trying again");
                    }
                    self.counters.fail(&error);
                    let next = self.try_again();
                    if self.stop.is_none() {
                        self.receive(None);
                    }
                    if let Some(deadline) = self.stop {
                        let left = deadline.saturating_duration_since(clock::now());
                        if left.is_zero() {
                            self.lose_batch();
                            return None;
                        }
                        pause(next.min(left));
                    }
                }
            }
        }
    }

    fn session(&mut self, connection: &Connection, opened: &Opened) -> End {
        let mut session = loop {
            match Session::load(connection, &self.options, &mut self.run, self.started_at) {
                Ok(session) => break session,
                Err(error) if is_corruption(&error) => return End::Corrupt,
                Err(error) => {
                    if let Some(end) = End::of(opened.fate(&self.path)) {
                        return end;
                    }
                    self.failed(&error);
                    if self.stop.is_some_and(|deadline| clock::now() >= deadline) {
                        self.lose_batch();
                        return End::Stopped { complete: false };
                    }
                    self.receive(None);
                }
            }
        };
        loop {
            let stopping = self.stop;
            if stopping.is_none() {
                self.receive(Some(&mut session));
            }
            if let Some((file, fault)) = self.checked.take()
                && opened.is(file)
            {
                self.damage = Some(fault);
                return End::Corrupt;
            }
            let now = clock::now();
            let is_due = self.due.is_some_and(|due| now >= due) || stopping.is_some();
            if is_due || now >= session.compaction_after {
                let fate = opened.fate(&self.path);
                if matches!(fate, Fate::Gone | Fate::WithoutLog) {
                    // Copied with the rest if it succeeds; a failure here loses it.
                    let _ = session.write(&[], true, &mut Unstored::default());
                }
                if let Some(end) = End::of(fate) {
                    return end;
                }
                if opened.is_cut(&self.path, connection) {
                    self.damage = Some("the file was cut short while in use".to_owned());
                    return End::Corrupt;
                }
            }
            if is_due {
                match self.flush(&mut session) {
                    Ok(()) => {}
                    Err(error) if is_corruption(&error) => return End::Corrupt,
                    Err(error) => self.failed(&error),
                }
            }
            self.log_losses();
            self.log_dropped();
            if let Some(deadline) = stopping {
                if self.batch.is_empty() && self.retry.is_none() {
                    let complete = session.finish(self.run).inspect_err(|error| {
                        warn!(error:% = error; "last write of the history failed");
                    });
                    return End::Stopped { complete: complete.is_ok() };
                }
                let now = clock::now();
                if now >= deadline {
                    self.lose_batch();
                    return End::Stopped { complete: false };
                }
                pause(self.retry.unwrap_or(Duration::ZERO).min(deadline - now));
            } else if self.retry.is_none() {
                match session.maintain(&self.path, &self.counters) {
                    Ok(true) => opened.freed(connection),
                    Ok(false) => {}
                    Err(error) if is_corruption(&error) => return End::Corrupt,
                    Err(error) => {
                        self.warn("upkeep of the history failed", &error);
                        session.compaction_after = clock::now() + RETRY_LAST;
                    }
                }
            }
        }
    }

    /// Receives messages until something is due.
    fn receive(&mut self, mut session: Option<&mut Session<'_>>) {
        let compaction_after = session.as_ref().map(|session| session.compaction_after);
        let mut wait = self.wait(compaction_after);
        // While writing fails the batch may be larger: the queue's budgets include it, and decide what is lost.
        loop {
            match self.inbox.recv_timeout(wait) {
                Ok(WriterMessage::Records(records)) => self.take(records),
                Ok(WriterMessage::WriteKv { name, value, reply }) => {
                    let result = match session.as_deref_mut() {
                        Some(session) => session
                            .prepared
                            .execute(Sql::WriteKv, params![name, value, clock::now_unix_ms()])
                            .map(|_| ()),
                        None => Err(rusqlite::Error::SqliteFailure(
                            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                            None,
                        )),
                    };
                    let _ = reply.send(result);
                }
                Ok(WriterMessage::Flush { reply }) => {
                    // While writing fails nobody is kept waiting: the reply is dropped.
                    if self.retry.is_none() && session.is_some() {
                        self.awaited.push(reply);
                        self.due = Some(clock::now());
                    }
                }
                Ok(WriterMessage::Damaged { fault, file }) => {
                    self.checked = Some((file, fault));
                    return;
                }
                Ok(WriterMessage::Stop { deadline }) => {
                    self.stop = Some(deadline);
                    // Only what was sent before the stop counts.
                    return;
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    // The store was dropped without a stop: write the rest.
                    self.stop = Some(clock::now() + FLUSH_AFTER);
                    return;
                }
            }
            if self.batch.len() >= BATCH_MAX && self.retry.is_none() {
                self.due = Some(clock::now());
                return;
            }
            wait = self.wait(compaction_after);
        }
    }

    /// Returns the time until the batch or compaction is due.
    fn wait(&self, compaction_after: Option<Instant>) -> Duration {
        // While writing fails, compaction would fail too.
        let compaction_after = compaction_after.filter(|_| self.retry.is_none());
        let wake = match (self.due, compaction_after) {
            (Some(due), Some(compaction)) => due.min(compaction),
            (Some(due), None) => due,
            (None, Some(compaction)) => compaction,
            (None, None) => return RETRY_FIRST,
        };
        wake.saturating_duration_since(clock::now())
    }

    fn take(&mut self, records: Vec<Record>) {
        let urgent = !records.iter().all(|record| is_sample(record) || matches!(record, Record::LastActive { .. }));
        for record in records {
            match &record {
                Record::Definition { object, .. } => {
                    self.definitions.insert(object.clone(), Box::new(record.clone()));
                    self.activities.remove(object);
                }
                Record::Removed { object, .. } => {
                    self.definitions.remove(object);
                    self.activities.remove(object);
                }
                // They come for as long as an object is active, which would displace what is recorded only once.
                Record::LastActive { object, at } if self.retry.is_some() => {
                    let before = self.activities.get(object).and_then(|place| self.batch.get_mut(*place));
                    if let Some(Record::LastActive { at: latest, .. }) = before {
                        *latest = (*latest).max(*at);
                        self.counters.release(Load::of(&record));
                        continue;
                    }
                    self.activities.insert(object.clone(), self.batch.len());
                }
                _ => {}
            }
            self.batch.push(record);
        }
        if self.retry.is_none() {
            let due = clock::now() + if urgent { FLUSH_URGENT_AFTER } else { FLUSH_AFTER };
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// Commits the batch, or as much of it as one transaction should have, and from time to time what is pending.
    fn flush(&mut self, session: &mut Session<'_>) -> Result<(), rusqlite::Error> {
        let count = self.batch.len().min(BATCH_MAX);
        let records = &self.batch[..count];
        // A decision depends on its object's last activity, which must be committed with it at the latest.
        let decides = records.iter().any(|record| matches!(record, Record::Decision { .. }));
        let pending = decides || clock::now() >= session.pending_due || self.stop.is_some();
        let load = Load::of_all(records);
        let mut unstored = Unstored::default();
        match session.write(records, pending, &mut unstored) {
            Ok(()) => {}
            Err(error) if is_retryable(&error) || is_corruption(&error) => return Err(error),
            Err(error) => {
                self.warn("a record was refused: writing one by one", &error);
                return self.flush_singly(session);
            }
        }
        self.succeeded();
        self.losses.explain(unstored.unknown as u64);
        self.counters.settle(load, unstored.all(), 0);
        self.batch.drain(..count);
        if self.batch.is_empty() {
            // Sent last, since callers may read the counters.
            for reply in self.awaited.drain(..) {
                // The caller may have given up.
                let _ = reply.send(());
            }
        } else {
            self.due = Some(clock::now());
        }
        self.ask_for_lost();
        self.losses.write(&mut session.prepared, self.counters.lost())
    }

    /// If records other than samples were lost, has the core record anew what lasts, once there is room for it. It
    /// records each definition only once, and without that the samples of its triggers cannot be stored.
    fn ask_for_lost(&mut self) {
        let (_, lost_kept) = self.counters.lost();
        let now = clock::now();
        let is_due = self.recorded_anew_at.is_none_or(|before| now.duration_since(before) >= ANEW_WITHIN);
        if lost_kept != self.lost_kept_known && is_due && self.counters.has_few() {
            self.lost_kept_known = lost_kept;
            self.recorded_anew_at = Some(now);
            self.counters.count_gap();
        }
    }

    /// Writes records one by one, so that one that the database refuses (our bug) does not take others with it.
    fn flush_singly(&mut self, session: &mut Session<'_>) -> Result<(), rusqlite::Error> {
        let mut rest = std::mem::take(&mut self.batch).into_iter();
        self.activities.clear();
        while let Some(record) = rest.next() {
            let load = Load::of(&record);
            let mut unstored = Unstored::default();
            match session.write(std::slice::from_ref(&record), false, &mut unstored) {
                Ok(()) => {
                    self.losses.explain(unstored.unknown as u64);
                    self.counters.settle(load, unstored.all(), 0);
                }
                Err(error) if is_retryable(&error) || is_corruption(&error) => {
                    self.batch = std::iter::once(record).chain(rest).collect();
                    return Err(error);
                }
                Err(error) => {
                    error!(error:% = error, record:% = format!("{record:.200?}"); "record lost: the database refuses it");
                    self.counters.settle(load, load.samples, load.kept);
                    // It would be refused again.
                    self.lost_kept_known += load.kept as u64;
                }
            }
        }
        self.succeeded();
        Ok(())
    }

    fn succeeded(&mut self) {
        self.due = None;
        self.activities.clear();
        if self.retry.take().is_some() {
            info!(written = true; "history is written again");
        }
        self.counters.succeed();
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.counters.fail(error);
        self.losses.begin(error);
        self.awaited.clear();
        self.warn("history not written: trying again", error);
        self.try_again();
    }

    /// Makes the batch due after a pause longer than the last, and returns the pause.
    fn try_again(&mut self) -> Duration {
        let pause = self.retry.map_or(RETRY_FIRST, |pause| (pause * 2).min(RETRY_LAST));
        self.retry = Some(pause);
        self.due = Some(clock::now() + pause);
        pause
    }

    fn warn(&mut self, what: &'static str, error: &rusqlite::Error) {
        let now = clock::now();
        if self.warned.is_none_or(|before| now.duration_since(before) >= WARN_EVERY) {
            self.warned = Some(now);
            warn!(error:% = error; "{what}");
        }
    }

    fn log_losses(&mut self) {
        let lost_total = self.counters.lost_total();
        if lost_total > self.warned_lost_total {
            let now = clock::now();
            if self.warned.is_none_or(|before| now.duration_since(before) >= WARN_EVERY) {
                self.warned = Some(now);
                warn!(lost = lost_total - self.warned_lost_total, lost_total = lost_total; "records lost");
                self.warned_lost_total = lost_total;
            }
        }
    }

    /// Logs what the size cap dropped, at the same rate as other warnings.
    fn log_dropped(&mut self) {
        let dropped_total = self.counters.dropped_total();
        let now = clock::now();
        if dropped_total > self.warned_dropped_total
            && self.warned.is_none_or(|before| now.duration_since(before) >= WARN_EVERY)
        {
            self.warned = Some(now);
            let size_max = self.options.retention.size_max;
            warn!(rows = dropped_total - self.warned_dropped_total, size_max = size_max;
                "history dropped before its time: the database is as large as it may be");
            self.warned_dropped_total = dropped_total;
        }
    }

    fn lose_batch(&mut self) {
        // What is still queued is lost as well.
        while let Ok(message) = self.inbox.try_recv() {
            if let WriterMessage::Records(records) = message {
                self.batch.extend(records);
            }
        }
        let load = Load::of_all(&self.batch);
        self.batch.clear();
        self.counters.settle(load, load.samples, load.kept);
        if load != Load::default() {
            error!(samples = load.samples, others = load.kept; "records lost at shutdown");
        }
    }

    fn close(&self, connection: Connection) -> bool {
        // Busy if a reader is still connected: the WAL then stays, which loses nothing.
        let folded = connection.query_row(super::sql::FOLD, [], |row| row.get::<_, i64>(0));
        debug!(path:% = self.path.display(), busy = folded.unwrap_or(1); "database closed");
        connection.close().is_ok()
    }
}

fn pause(duration: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "between two tries there is nothing to wait for, and nobody waits for this thread"
    )]
    std::thread::sleep(duration);
}

impl<'c> Session<'c> {
    fn load(
        connection: &'c Connection,
        options: &Options,
        run: &mut Option<i64>,
        started_at: i64,
    ) -> Result<Self, rusqlite::Error> {
        let mut prepared = Prepared::new(connection);
        if run.is_none() {
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            prepared.execute(Sql::LoseProcessRuns, [])?;
            let row = params![env!("CARGO_PKG_VERSION"), started_at];
            let id = prepared.insert(Sql::InsertProcessRun, row)?;
            transaction.commit()?;
            *run = Some(id);
        }
        // So early that what one object wrote makes room before the samples of all do.
        let recorder = Recorder::load(&mut prepared, options.retention.size_max / 8 * 7)?;
        let compaction = Compaction::load(&mut prepared, options.retention)?;
        let now = clock::now();
        Ok(Self {
            prepared,
            recorder,
            compaction,
            samples: Vec::new(),
            pending_due: now + PENDING_EVERY,
            compaction_after: now,
            stale: false,
        })
    }

    /// Reloads the state after a failed transaction, which undid everything that it contained.
    fn reload(&mut self) -> Result<(), rusqlite::Error> {
        let recorder = Recorder::load(&mut self.prepared, self.recorder.full_at())?;
        let before = std::mem::replace(&mut self.recorder, recorder);
        self.recorder.inherit(before);
        self.compaction.reload(&mut self.prepared)?;
        self.stale = false;
        Ok(())
    }

    /// Writes records in one transaction.
    fn write(&mut self, records: &[Record], pending: bool, unstored: &mut Unstored) -> Result<(), rusqlite::Error> {
        let result = self.try_write(records, pending, unstored);
        self.stale |= result.is_err();
        result
    }

    fn try_write(&mut self, records: &[Record], pending: bool, unstored: &mut Unstored) -> Result<(), rusqlite::Error> {
        if self.stale {
            self.reload()?;
        }
        let transaction = Transaction::new_unchecked(self.prepared.connection, TransactionBehavior::Immediate)?;
        self.samples.clear();
        for record in records {
            match self.recorder.apply(&mut self.prepared, record, &mut self.samples)? {
                Applied::Written => {}
                Applied::Unknown => unstored.unknown += 1,
                Applied::Undefined => unstored.undefined += 1,
            }
        }
        self.compaction.store(&mut self.prepared, &mut self.samples)?;
        if pending {
            self.recorder.write_pending(&mut self.prepared)?;
        }
        transaction.commit()?;
        if self.compaction.is_due() {
            self.compaction_after = clock::now();
        }
        if pending {
            self.recorder.pending_written();
            self.pending_due = clock::now() + PENDING_EVERY;
        }
        Ok(())
    }

    /// Does one slice of compaction, if it is due; returns whether it was.
    fn maintain(&mut self, path: &Path, counters: &Counters) -> Result<bool, rusqlite::Error> {
        let now = clock::now();
        if now < self.compaction_after {
            return Ok(false);
        }
        if now >= self.pending_due {
            self.write(&[], true, &mut Unstored::default())?;
        }
        let more = self.compaction.step(&mut self.prepared, clock::now_unix_ms(), counters)?;
        if !more {
            self.compaction_after = clock::now() + COMPACT_EVERY;
            let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            counters.set_sizes(bytes(path), bytes(&file::with_suffix(path, "-wal")));
        }
        Ok(true)
    }

    fn finish(&mut self, run: Option<i64>) -> Result<(), rusqlite::Error> {
        let now_unix_ms = clock::now_unix_ms();
        self.compaction.keep_age(&mut self.prepared, now_unix_ms)?;
        self.prepared.execute(Sql::StopProcessRun, params![run, now_unix_ms])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    /// The writer may meet the damage and go on in another file while the check still reads the one of before.
    #[test]
    fn a_check_of_the_file_of_before_says_nothing_of_this_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let store = Store::start(&path, Options::default()).expect("it starts");
        let own = file::identity(&path).expect("a file");
        let report = |file| {
            let message = WriterMessage::Damaged { fault: "a page is broken".to_owned(), file };
            store.sender.post(message).expect("the writer runs");
        };
        report(own.map(|(device, inode)| (device, inode + 1)));
        store.write_kv("after", "the report").expect("it is written");
        assert_eq!(store.stats().corruptions_total, 0);
        report(own);
        while store.stats().corruptions_total == 0 {
            std::thread::yield_now();
        }
        assert!(store.stop(Duration::from_secs(120)).complete);
        assert_ne!(file::identity(&path).expect("a file"), own);
    }
}
