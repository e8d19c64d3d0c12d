//! The store's counters for `/metrics`: rows written, lost and dropped, and how long that took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::scaling::event::Record;

/// Upper bound on samples not yet written, reached only if the disk stalls: at 10,000 samples a second, for 13 s.
pub(super) const SAMPLES_MAX: usize = 131_072;

/// Upper bound on the bytes of samples not yet written. So many records of under 200 bytes are 26 MB, which leaves each 120
/// bytes for the text of an error; fewer fit where texts are longer.
pub(super) const SAMPLES_BYTES_MAX: usize = 40 << 20;

/// Upper bound on other records not yet written: about ten each for 10,000 objects that all change at once.
const KEPT_MAX: usize = 100_000;

/// Upper bound on the bytes of other records not yet written, since a definition may have hundreds of kilobytes: a quarter
/// of the container's memory.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 20;

/// With fewer than this many of them, and as small a part of the bytes, there is room for a slice of what all objects record
/// anew.
const KEPT_FEW: usize = KEPT_MAX / 8;
const KEPT_BYTES_FEW: usize = KEPT_BYTES_MAX / 8;

/// What records take of the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) samples: usize,
    /// Bytes of samples.
    pub(crate) samples_bytes: usize,
    /// Other records.
    pub(crate) kept: usize,
    /// Bytes of the others.
    pub(crate) kept_bytes: usize,
}

impl Load {
    pub(crate) fn of(record: &Record) -> Self {
        match record {
            Record::Sample { .. } => Self { samples: 1, samples_bytes: record.weight(), ..Self::default() },
            record => Self { kept: 1, kept_bytes: record.weight(), ..Self::default() },
        }
    }

    pub(crate) fn of_all(records: &[Record]) -> Self {
        records.iter().map(Self::of).fold(Self::default(), Self::and)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            samples: self.samples + other.samples,
            samples_bytes: self.samples_bytes + other.samples_bytes,
            kept: self.kept + other.kept,
            kept_bytes: self.kept_bytes + other.kept_bytes,
        }
    }
}

/// Kinds of rows that are dropped before they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Samples,
    Minutes,
    Hours,
    History,
    /// Including removed objects and ended triggers.
    Definitions,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Samples, Self::Minutes, Self::Hours, Self::History, Self::Definitions];

    /// Returns the label in `/metrics`.
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
    /// Records queued and not yet committed.
    samples: AtomicUsize,
    samples_bytes: AtomicUsize,
    kept: AtomicUsize,
    kept_bytes: AtomicUsize,
    written_total: AtomicU64,
    lost_samples_total: AtomicU64,
    lost_kept_total: AtomicU64,
    failed_flushes_total: AtomicU64,
    wal_bytes: AtomicU64,
    file_bytes: AtomicU64,
    /// Rows dropped before they expired because of the size cap, in the order of `Kind::ALL`.
    dropped_total: [AtomicU64; Kind::ALL.len()],
    corruptions_total: AtomicU64,
    displacements_total: AtomicU64,
    gaps_total: AtomicU64,
    deleting_longest_us: AtomicU64,
    upkeep_longest_us: AtomicU64,
    /// A lock suffices for a text that is written once per failure and read once per scrape.
    last_error: Mutex<Option<String>>,
}

/// A snapshot of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub written_total: u64,
    /// `lost_samples_total + lost_kept_total`.
    pub lost_total: u64,
    pub lost_samples_total: u64,
    /// Records that are not samples.
    pub lost_kept_total: u64,
    pub failed_flushes_total: u64,
    /// Records queued and not yet committed.
    pub queue_depth: usize,
    pub wal_bytes: u64,
    pub file_bytes: u64,
    /// Rows dropped before they expired because of the size cap, by kind.
    pub dropped_total: [(&'static str, u64); 5],
    /// Corrupt files set aside since the start.
    pub corruptions_total: u64,
    /// Files that were deleted, renamed or replaced while in use, since the start.
    pub displacements_total: u64,
    /// The longest time that one slice of deleting delayed the writer.
    pub deleting_longest: Duration,
    /// The longest slice of any upkeep: packing, merging, rolling up or deleting.
    pub upkeep_longest: Duration,
    /// Error of the last flush, if it failed.
    pub last_error: Option<String>,
}

impl Counters {
    /// Removes records from the queue's accounting; `lost` of them were not written.
    pub(crate) fn settle(&self, load: Load, lost_samples: usize, lost_kept: usize) {
        self.release(load);
        let written = (load.samples + load.kept).saturating_sub(lost_samples + lost_kept);
        self.written_total.fetch_add(written as u64, Ordering::Relaxed);
        self.lose(lost_samples, lost_kept);
    }

    /// Reserves room in the queue for one record, if it fits.
    pub(crate) fn reserve(&self, load: Load) -> bool {
        self.reserve_again(load);
        let fits = (load.samples == 0
            || self.samples.load(Ordering::Relaxed) <= SAMPLES_MAX
                && self.samples_bytes.load(Ordering::Relaxed) <= SAMPLES_BYTES_MAX)
            && (load.kept == 0
                || self.kept.load(Ordering::Relaxed) <= KEPT_MAX
                    && self.kept_bytes.load(Ordering::Relaxed) <= KEPT_BYTES_MAX);
        if !fits {
            self.release(load);
        }
        fits
    }

    /// Reserves room for records that the writer adds to its batch again, whether or not they fit.
    pub(crate) fn reserve_again(&self, load: Load) {
        self.samples.fetch_add(load.samples, Ordering::Relaxed);
        self.samples_bytes.fetch_add(load.samples_bytes, Ordering::Relaxed);
        self.kept.fetch_add(load.kept, Ordering::Relaxed);
        self.kept_bytes.fetch_add(load.kept_bytes, Ordering::Relaxed);
    }

    /// Removes records from the queue's accounting; alone, for one that another includes.
    pub(crate) fn release(&self, load: Load) {
        self.samples.fetch_sub(load.samples, Ordering::Relaxed);
        self.samples_bytes.fetch_sub(load.samples_bytes, Ordering::Relaxed);
        self.kept.fetch_sub(load.kept, Ordering::Relaxed);
        self.kept_bytes.fetch_sub(load.kept_bytes, Ordering::Relaxed);
    }

    /// Returns whether few records other than samples are not committed yet.
    pub(crate) fn has_few(&self) -> bool {
        self.kept.load(Ordering::Relaxed) < KEPT_FEW && self.kept_bytes.load(Ordering::Relaxed) < KEPT_BYTES_FEW
    }

    pub(crate) fn lose(&self, samples: usize, kept: usize) {
        self.lost_samples_total.fetch_add(samples as u64, Ordering::Relaxed);
        self.lost_kept_total.fetch_add(kept as u64, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, error: &impl std::fmt::Display) {
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

    /// Counts that writing works again after records were lost that last until the next change.
    pub(crate) fn count_gap(&self) {
        self.gaps_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often the history lacked what lasts: in another file, and after losses.
    pub(crate) fn renewals_total(&self) -> u64 {
        let counts = [&self.corruptions_total, &self.displacements_total, &self.gaps_total];
        counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
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
