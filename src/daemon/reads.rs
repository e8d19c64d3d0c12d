//! Reports to the core which objects' metrics are read, no more often than it needs.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::scaling::event::Event;
use crate::scaling::model::ObjectKey;

/// Reads of one object closer together than this count as one: the HPA controller takes up to 800 ms for a single pass
/// over several metrics. Reporting each read would cost more than answering it.
const REPEAT: Duration = Duration::from_millis(500);

/// So many objects are remembered before those are looked for whose last report is longer ago than [`REPEAT`].
const SWEEP_MIN: usize = 64;

pub(super) struct Reads {
    inbox: SyncSender<Event>,
    /// Locked for one look-up per read.
    reported: Mutex<Reported>,
}

#[derive(Default)]
struct Reported {
    at: HashMap<ObjectKey, Instant>,
    /// How many were left by the last sweep. The next is due when there are twice as many, so that it costs little for
    /// each, and objects that are gone are not remembered.
    left: usize,
}

impl Reported {
    /// Whether this read is to be reported.
    fn is_due(&mut self, key: &ObjectKey, now: Instant) -> bool {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < REPEAT;
        if self.at.get(key).is_some_and(|at| is_recent(*at)) {
            return false;
        }
        if self.at.len() >= SWEEP_MIN.max(2 * self.left) {
            self.at.retain(|_, at| is_recent(*at));
            self.left = self.at.len();
        }
        self.at.insert(key.clone(), now);
        true
    }
}

impl Reads {
    pub(super) fn new(inbox: SyncSender<Event>) -> Self {
        Self { inbox, reported: Mutex::default() }
    }

    pub(super) fn report(&self, key: &ObjectKey, now: Instant) {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).is_due(key, now) {
            // If the inbox is full, only a hint about how often metrics are read is lost.
            let _ = self.inbox.try_send(Event::MetricRead(key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::ApiGroup;

    #[test]
    fn a_pass_over_an_objects_metrics_is_reported_once() {
        let (inbox, events) = std::sync::mpsc::sync_channel(8);
        let reads = Reads::new(inbox);
        let (a, b) = (ObjectKey::new(ApiGroup::KedaSh, "n", "a"), ObjectKey::new(ApiGroup::KedaSh, "n", "b"));
        let start = Instant::now();
        for (key, after_ms) in [(&a, 0), (&a, 10), (&b, 20), (&a, 499), (&a, 500), (&a, 600)] {
            reads.report(key, start + Duration::from_millis(after_ms));
        }
        let reported: Vec<_> = events
            .try_iter()
            .filter_map(|event| match event {
                Event::MetricRead(key) => Some(key),
                _ => None,
            })
            .collect();
        assert_eq!(reported, [a.clone(), b, a]);
    }

    #[test]
    fn objects_that_are_no_longer_read_are_forgotten() {
        let start = Instant::now();
        let mut reported = Reported::default();
        for n in 0..10_000 {
            let key = ObjectKey::new(ApiGroup::KedaSh, "n", &format!("object-{n}"));
            assert!(reported.is_due(&key, start + REPEAT * n));
        }
        assert!(reported.at.len() <= SWEEP_MIN, "{}", reported.at.len());
    }
}
