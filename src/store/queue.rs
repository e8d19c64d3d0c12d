//! The queue into the writer: one order, two budgets.
//!
//! A single queue keeps a sample behind the definition that it refers to; two budgets keep a flood of samples from
//! displacing records that must not be lost. Sending never blocks.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::counters::{Counters, Load, Stats};
use super::error::Error;
use super::file::Identity;
use crate::scaling::event::Record;

pub(crate) enum WriterMessage {
    Records(Vec<Record>),
    WriteKv {
        name: String,
        value: String,
        reply: mpsc::Sender<Result<(), rusqlite::Error>>,
    },
    /// Answered once everything before it is committed; the reply is dropped if that fails.
    Flush {
        reply: mpsc::Sender<()>,
    },
    /// An integrity check beside the writer found damage.
    Damaged {
        fault: String,
        /// The file that was checked, which may no longer be the writer's.
        file: Identity,
    },
    Stop {
        deadline: Instant,
    },
}

/// Sends records to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    messages: mpsc::Sender<WriterMessage>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) fn channel() -> (Sender, Receiver<WriterMessage>) {
    // Unbounded by type; the budgets bound it.
    let (messages, inbox) = mpsc::channel();
    (Sender { messages, counters: Arc::default() }, inbox)
}

pub(crate) fn is_sample(record: &Record) -> bool {
    matches!(record, Record::Sample { .. })
}

/// Resolves once everything that was sent before it is committed.
#[derive(Debug)]
pub struct Ticket(Receiver<()>);

impl Ticket {
    /// Waits for the commit, but no longer than `limit` and not once it failed; returns false if the commit is not
    /// confirmed.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        self.0.recv_timeout(limit).is_ok()
    }
}

impl Sender {
    /// Requests that everything sent so far be committed at once.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let (reply, answer) = mpsc::channel();
        // A writer that has ended drops the reply, which is the answer.
        let _ = self.messages.send(WriterMessage::Flush { reply });
        Ticket(answer)
    }

    /// Queues records. Never blocks; records beyond a budget are counted as lost, which the writer logs.
    pub fn send(&self, mut records: Vec<Record>) {
        let (mut queued, mut lost) = (Load::default(), Load::default());
        // The newest are dropped, so that what a sample refers to still precedes it.
        records.retain(|record| {
            let load = Load::of(record);
            let fits = self.counters.reserve(load);
            let sum = if fits { &mut queued } else { &mut lost };
            *sum = sum.and(load);
            fits
        });
        self.counters.lose(lost.samples, lost.kept);
        if !records.is_empty() && self.messages.send(WriterMessage::Records(records)).is_err() {
            // The writer has ended: during shutdown, or after it gave up.
            self.counters.settle(queued, queued.samples, queued.kept);
        }
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    pub(crate) fn post(&self, message: WriterMessage) -> Result<(), Error> {
        self.messages.send(message).map_err(|_| Error::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::{KEPT_BYTES_MAX, SAMPLES_BYTES_MAX, SAMPLES_MAX};
    use super::*;
    use crate::scaling::event::{Answer, ErrorClass, PollError};
    use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};

    #[test]
    fn a_record_is_as_small_as_the_budget_says() {
        assert!(size_of::<Record>() < 200, "{}", size_of::<Record>());
    }

    /// Regression: definitions of large objects took hundreds of megabytes while the disk was full.
    #[test]
    fn definitions_beyond_the_bytes_are_counted_and_small_records_still_fit() {
        let (sender, inbox) = channel();
        let object = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
        let definition = || Record::Definition {
            at: UnixMillis(1),
            object: object.clone(),
            uid: "u".to_owned(),
            generation: 1,
            spec_json: "x".repeat(1 << 20).into(),
            invalid: None,
            triggers: Vec::new(),
            resource_triggers: Vec::new(),
        };
        let fit = KEPT_BYTES_MAX / (1 << 20) - 1;
        for _ in 0..fit + 3 {
            sender.send(vec![definition()]);
        }
        sender.send(vec![Record::Removed { at: UnixMillis(2), object: object.clone() }]);
        let stats = sender.stats();
        assert_eq!((stats.lost_kept_total, stats.queue_depth), (3, fit + 1));
        for message in inbox.try_iter() {
            let WriterMessage::Records(records) = message else { panic!("only records were sent") };
            sender.counters.settle(Load::of_all(&records), 0, 0);
        }
        sender.send(vec![definition()]);
        let stats = sender.stats();
        assert_eq!((stats.lost_kept_total, stats.queue_depth), (3, 1), "there is room again");
    }

    /// Regression: the texts of failing samples took gigabytes while the disk was full.
    #[test]
    fn samples_with_long_texts_are_as_bounded_and_others_still_fit() {
        let (sender, _inbox) = channel();
        let object = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
        let sample = |bytes: usize| Record::Sample {
            at: UnixMillis(1),
            object: object.clone(),
            trigger: 0,
            answer: Answer::Failed(PollError::new(ErrorClass::Status, "x".repeat(bytes))),
            latency: Duration::ZERO,
            is_error: true,
        };
        let fit = SAMPLES_BYTES_MAX / (size_of::<Record>() + 2_000);
        for _ in 0..fit + 5 {
            sender.send(vec![sample(2_000)]);
        }
        sender.send(vec![Record::Removed { at: UnixMillis(2), object: object.clone() }]);
        let stats = sender.stats();
        assert_eq!((stats.lost_samples_total, stats.lost_kept_total, stats.queue_depth), (5, 0, fit + 1));
        let (sender, _inbox) = channel();
        sender.send((0..SAMPLES_MAX).map(|_| sample(100)).collect());
        assert_eq!(sender.stats().lost_total, 0, "all fit with texts of the usual length");
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
