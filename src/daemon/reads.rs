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

/// Upper bound on objects remembered. Beyond it all are forgotten, and some reads are reported once too often.
const OBJECTS_MAX: usize = 4096;

pub(super) struct Reads {
    inbox: SyncSender<Event>,
    /// Locked for one look-up per read.
    reported: Mutex<HashMap<ObjectKey, Instant>>,
}

impl Reads {
    pub(super) fn new(inbox: SyncSender<Event>) -> Self {
        Self { inbox, reported: Mutex::default() }
    }

    pub(super) fn report(&self, key: &ObjectKey, now: Instant) {
        {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = reported.get_mut(key) {
                if now.saturating_duration_since(*at) < REPEAT {
                    return;
                }
                *at = now;
            } else {
                if reported.len() >= OBJECTS_MAX {
                    reported.clear();
                }
                reported.insert(key.clone(), now);
            }
        }
        // If the inbox is full, only a hint about how often metrics are read is lost.
        let _ = self.inbox.try_send(Event::MetricRead(key.clone()));
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
}
