//! What the store counts for `/metrics`: what was written, lost and dropped, and how long that took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Samples not yet written. A record is under 200 bytes, so 26 MB at most, reached only when the
/// disk stalls; at 10,000 samples a second that is 13 s of stall.
pub(super) const SAMPLES_MAX: usize = 131_072;

/// Everything else not yet written: about ten records each for 10,000 objects that all change at once.
/// They average some 1 KB of text, so 100 MB at the very worst.
const KEPT_MAX: usize = 100_000;

/// What was dropped before its time, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Samples,
    Minutes,
    Hours,
    History,
    /// And objects and triggers that are no more.
    Definitions,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Samples, Self::Minutes, Self::Hours, Self::History, Self::Definitions];

    /// Label of `/metrics`.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Samples => "sample",
            Self::Minutes => "minute",
            Self::Hours => "hour",
            Self::History => "history",
            Self::Definitions => "definition",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Handed over and not yet committed.
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
    displacements_total: AtomicU64,
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
    /// Files that were deleted, renamed or replaced while in use since the start.
    pub displacements_total: u64,
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

    /// Takes room in the queue for so many; returns how many of each do not fit.
    pub(crate) fn reserve(&self, samples: usize, kept: usize) -> (usize, usize) {
        (reserve(&self.samples, samples, SAMPLES_MAX), reserve(&self.kept, kept, KEPT_MAX))
    }

    /// The writer itself takes so many records, not samples, into its batch once more.
    pub(crate) fn reserve_again(&self, kept: usize) {
        self.kept.fetch_add(kept, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, samples: usize, kept: usize) {
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

    pub(crate) fn count_displacement(&self) {
        self.displacements_total.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.lost_samples_total.load(Ordering::Relaxed), self.lost_kept_total.load(Ordering::Relaxed))
    }

    pub(crate) fn lost_total(&self) -> u64 {
        self.lost_samples_total.load(Ordering::Relaxed) + self.lost_kept_total.load(Ordering::Relaxed)
    }

    #[must_use]
    pub(crate) fn stats(&self) -> Stats {
        let lost_samples_total = self.lost_samples_total.load(Ordering::Relaxed);
        let lost_kept_total = self.lost_kept_total.load(Ordering::Relaxed);
        Stats {
            written_total: self.written_total.load(Ordering::Relaxed),
            lost_total: lost_samples_total + lost_kept_total,
            lost_samples_total,
            lost_kept_total,
            failed_flushes_total: self.failed_flushes_total.load(Ordering::Relaxed),
            queue_depth: self.samples.load(Ordering::Relaxed) + self.kept.load(Ordering::Relaxed),
            wal_bytes: self.wal_bytes.load(Ordering::Relaxed),
            file_bytes: self.file_bytes.load(Ordering::Relaxed),
            dropped_total: Kind::ALL.map(|kind| (kind.id(), self.dropped_total[kind as usize].load(Ordering::Relaxed))),
            corruptions_total: self.corruptions_total.load(Ordering::Relaxed),
            displacements_total: self.displacements_total.load(Ordering::Relaxed),
            upkeep_longest: Duration::from_micros(self.upkeep_longest_us.load(Ordering::Relaxed)),
            deleting_longest: Duration::from_micros(self.deleting_longest_us.load(Ordering::Relaxed)),
            last_error: self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
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
