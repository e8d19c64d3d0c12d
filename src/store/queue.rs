//! The way into the writer: one ordered queue with two budgets, and the counters for `/metrics`.
//!
//! One queue keeps a sample behind the definition that it needs; two budgets keep a flood of samples
//! from pushing out what must not be lost. Sending never blocks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::error::Error;
use super::retention::Kind;
use crate::scaling::event::Record;

/// Samples not yet written. A record is under 200 bytes, so 26 MB at most, reached only when the
/// disk stalls; at 10,000 samples a second that is 13 s of stall.
const SAMPLES_MAX: usize = 131_072;

/// Everything else not yet written: about ten records each for 10,000 objects that all change at once.
/// They average some 1 KB of text, so 100 MB at the very worst.
const KEPT_MAX: usize = 100_000;

pub(crate) enum Message {
    Records(Vec<Record>),
    WriteKv {
        name: String,
        value: String,
        reply: mpsc::Sender<Result<(), rusqlite::Error>>,
    },
    /// Answered once all that came before is committed; the reply is dropped when that fails.
    Flush {
        reply: mpsc::Sender<()>,
    },
    Stop {
        deadline: Instant,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    samples: AtomicUsize,
    kept: AtomicUsize,
    written_total: AtomicU64,
    lost_samples_total: AtomicU64,
    lost_kept_total: AtomicU64,
    failed_flushes_total: AtomicU64,
    wal_bytes: AtomicU64,
    file_bytes: AtomicU64,
    /// Rows dropped before their time for the size cap, in the order of `Kind::ALL`.
    dropped_total: [AtomicU64; Kind::ALL.len()],
    corruptions_total: AtomicU64,
    deleting_longest_us: AtomicU64,
    upkeep_longest_us: AtomicU64,
    /// A lock only for a text that is written once a failure and read once a scrape.
    last_error: Mutex<Option<String>>,
}

/// A view of the counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub written_total: u64,
    /// `lost_samples_total + lost_kept_total`.
    pub lost_total: u64,
    pub lost_samples_total: u64,
    /// Records that are not samples.
    pub lost_kept_total: u64,
    pub failed_flushes_total: u64,
    /// Records handed over and not yet committed.
    pub queue_depth: usize,
    pub wal_bytes: u64,
    pub file_bytes: u64,
    /// Rows dropped before their time because of the size cap, by kind.
    pub dropped_total: [(&'static str, u64); 5],
    /// Files that were corrupt and set aside since the start.
    pub corruptions_total: u64,
    /// The longest that one slice of deleting kept the writer from what had arrived.
    pub deleting_longest: Duration,
    /// Longest slice of any upkeep, deleting included: packing, merging, rolling up.
    pub upkeep_longest: Duration,
    /// Of the last flush, when it failed.
    pub last_error: Option<String>,
}

impl Counters {
    /// Records left the queue and the writer's hands; `lost` of them unwritten.
    pub(crate) fn settle(&self, samples: usize, kept: usize, lost_samples: usize, lost_kept: usize) {
        self.samples.fetch_sub(samples, Ordering::Relaxed);
        self.kept.fetch_sub(kept, Ordering::Relaxed);
        let written = (samples + kept).saturating_sub(lost_samples + lost_kept);
        self.written_total.fetch_add(written as u64, Ordering::Relaxed);
        self.lose(lost_samples, lost_kept);
    }

    /// The writer itself takes so many records, not samples, into its batch once more.
    pub(crate) fn reserve_again(&self, kept: usize) {
        self.kept.fetch_add(kept, Ordering::Relaxed);
    }

    fn lose(&self, samples: usize, kept: usize) {
        self.lost_samples_total.fetch_add(samples as u64, Ordering::Relaxed);
        self.lost_kept_total.fetch_add(kept as u64, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, error: &rusqlite::Error) {
        self.failed_flushes_total.fetch_add(1, Ordering::Relaxed);
        self.set_error(Some(error.to_string()));
    }

    pub(crate) fn succeed(&self) {
        self.set_error(None);
    }

    fn set_error(&self, text: Option<String>) {
        *self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = text;
    }

    pub(crate) fn set_sizes(&self, file_bytes: u64, wal_bytes: u64) {
        self.file_bytes.store(file_bytes, Ordering::Relaxed);
        self.wal_bytes.store(wal_bytes, Ordering::Relaxed);
    }

    pub(crate) fn drop_early(&self, kind: Kind, rows: usize) {
        self.dropped_total[kind as usize].fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped_total.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn note_deleting(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.deleting_longest_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn note_upkeep(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.upkeep_longest_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn count_corruption(&self) {
        self.corruptions_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost_samples_total.load(Ordering::Relaxed), self.lost_kept_total.load(Ordering::Relaxed))
    }

    pub(crate) fn lost_total(&self) -> u64 {
        self.lost_samples_total.load(Ordering::Relaxed) + self.lost_kept_total.load(Ordering::Relaxed)
    }
}

/// Hands records to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    messages: mpsc::Sender<Message>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) fn channel() -> (Sender, Receiver<Message>) {
    // Unbounded by type; the budgets bound it.
    let (messages, inbox) = mpsc::channel();
    (Sender { messages, counters: Arc::default() }, inbox)
}

pub(crate) fn is_sample(record: &Record) -> bool {
    matches!(record, Record::Sample { .. })
}

/// Tells when everything that was sent before it is committed.
#[derive(Debug)]
pub struct Ticket(Receiver<()>);

impl Ticket {
    /// Waits for the commit, no longer than `limit`, and not at all once it failed: false says that it is not known
    /// to be committed.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        self.0.recv_timeout(limit).is_ok()
    }
}

impl Sender {
    /// Asks for what was sent so far to be committed at once.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let (reply, answer) = mpsc::channel();
        // A writer that has ended drops the reply, which is the answer.
        let _ = self.messages.send(Message::Flush { reply });
        Ticket(answer)
    }

    /// Never blocks; what goes beyond a budget is counted as lost, which the writer logs.
    pub fn send(&self, mut records: Vec<Record>) {
        let samples = records.iter().filter(|record| is_sample(record)).count();
        let kept = records.len() - samples;
        let lost_samples = reserve(&self.counters.samples, samples, SAMPLES_MAX);
        let lost_kept = reserve(&self.counters.kept, kept, KEPT_MAX);
        if lost_samples + lost_kept > 0 {
            // The last ones go, so that what a sample needs is still before it.
            let (mut room_samples, mut room_kept) = (samples - lost_samples, kept - lost_kept);
            records.retain(|record| {
                let room = if is_sample(record) { &mut room_samples } else { &mut room_kept };
                let fits = *room > 0;
                *room -= usize::from(fits);
                fits
            });
            self.counters.lose(lost_samples, lost_kept);
        }
        let (samples, kept) = (samples - lost_samples, kept - lost_kept);
        if !records.is_empty() && self.messages.send(Message::Records(records)).is_err() {
            // The writer has ended: during shutdown, or after it gave up.
            self.counters.settle(samples, kept, samples, kept);
        }
    }

    pub(crate) fn post(&self, message: Message) -> Result<(), Error> {
        self.messages.send(message).map_err(|_| Error::Busy)
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &*self.counters;
        let lost_samples_total = counters.lost_samples_total.load(Ordering::Relaxed);
        let lost_kept_total = counters.lost_kept_total.load(Ordering::Relaxed);
        Stats {
            written_total: counters.written_total.load(Ordering::Relaxed),
            lost_total: lost_samples_total + lost_kept_total,
            lost_samples_total,
            lost_kept_total,
            failed_flushes_total: counters.failed_flushes_total.load(Ordering::Relaxed),
            queue_depth: counters.samples.load(Ordering::Relaxed) + counters.kept.load(Ordering::Relaxed),
            wal_bytes: counters.wal_bytes.load(Ordering::Relaxed),
            file_bytes: counters.file_bytes.load(Ordering::Relaxed),
            dropped_total: Kind::ALL
                .map(|kind| (kind.id(), counters.dropped_total[kind as usize].load(Ordering::Relaxed))),
            corruptions_total: counters.corruptions_total.load(Ordering::Relaxed),
            upkeep_longest: Duration::from_micros(counters.upkeep_longest_us.load(Ordering::Relaxed)),
            deleting_longest: Duration::from_micros(counters.deleting_longest_us.load(Ordering::Relaxed)),
            last_error: counters.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
        }
    }
}

/// Takes room for `count`; returns how many do not fit.
fn reserve(depth: &AtomicUsize, count: usize, max: usize) -> usize {
    let before = depth.fetch_add(count, Ordering::Relaxed);
    let lost = (before + count).saturating_sub(max).min(count);
    depth.fetch_sub(lost, Ordering::Relaxed);
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::event::Answer;
    use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};

    #[test]
    fn a_record_is_as_small_as_the_budget_says() {
        assert!(size_of::<Record>() < 200, "{}", size_of::<Record>());
    }

    #[test]
    fn samples_beyond_the_budget_are_counted_and_others_still_fit() {
        let (sender, _inbox) = channel();
        let object = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
        let sample = || Record::Sample {
            at: UnixMillis(1),
            object: object.clone(),
            trigger: 0,
            answer: Answer::Value(1.0),
            latency: Duration::ZERO,
            is_error: false,
        };
        sender.send((0..SAMPLES_MAX + 7).map(|_| sample()).collect());
        sender.send(vec![sample(), Record::Removed { at: UnixMillis(2), object: object.clone() }]);
        let stats = sender.stats();
        assert_eq!((stats.lost_samples_total, stats.lost_kept_total), (8, 0));
        assert_eq!(stats.queue_depth, SAMPLES_MAX + 1);
    }
}
