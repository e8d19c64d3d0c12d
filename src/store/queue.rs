//! The queue into the writer: one order, two budgets.
//!
//! A single queue keeps a sample behind the definition that it refers to; two budgets keep a flood of samples from
//! displacing records that must not be lost. Sending never blocks.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::counters::{Counters, Stats};
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
        let samples = records.iter().filter(|record| is_sample(record)).count();
        let kept = records.len() - samples;
        let (lost_samples, lost_kept) = self.counters.reserve(samples, kept);
        if lost_samples + lost_kept > 0 {
            // The newest are dropped, so that what a sample refers to still precedes it.
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
        if !records.is_empty() && self.messages.send(WriterMessage::Records(records)).is_err() {
            // The writer has ended: during shutdown, or after it gave up.
            self.counters.settle(samples, kept, samples, kept);
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
    use super::super::counters::SAMPLES_MAX;
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
