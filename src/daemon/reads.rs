//! Tells the core which objects' metrics are read, as seldom as it makes a difference.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::scaling::event::Event;
use crate::scaling::model::ObjectKey;

/// Reads of one object closer together than this are one to the core, which takes up to 800 ms for a
/// single pass over several metrics. Told one by one they cost more than they do to answer.
const REPEAT: Duration = Duration::from_millis(500);

/// Objects remembered; beyond it all are forgotten, and some are told once too often.
const OBJECTS_MAX: usize = 4096;

pub(super) struct Reads {
    inbox: SyncSender<Event>,
    /// Locked for one look-up a read.
    told: Mutex<HashMap<ObjectKey, Instant>>,
}

impl Reads {
    pub(super) fn new(inbox: SyncSender<Event>) -> Self {
        Self { inbox, told: Mutex::default() }
    }

    pub(super) fn tell(&self, key: &ObjectKey, now: Instant) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = told.get_mut(key) {
                if now.saturating_duration_since(*at) < REPEAT {
                    return;
                }
                *at = now;
            } else {
                if told.len() >= OBJECTS_MAX {
                    told.clear();
                }
                told.insert(key.clone(), now);
            }
        }
        // A read that finds the inbox full only loses a hint about the rhythm of reads.
        let _ = self.inbox.try_send(Event::MetricRead(key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::ApiGroup;

    #[test]
    fn a_pass_over_an_objects_metrics_is_told_once() {
        let (inbox, events) = std::sync::mpsc::sync_channel(8);
        let reads = Reads::new(inbox);
        let (a, b) = (ObjectKey::new(ApiGroup::KedaSh, "n", "a"), ObjectKey::new(ApiGroup::KedaSh, "n", "b"));
        let start = Instant::now();
        for (key, after_ms) in [(&a, 0), (&a, 10), (&b, 20), (&a, 499), (&a, 500), (&a, 600)] {
            reads.tell(key, start + Duration::from_millis(after_ms));
        }
        let told: Vec<_> = events
            .try_iter()
            .filter_map(|event| match event {
                Event::MetricRead(key) => Some(key),
                _ => None,
            })
            .collect();
        assert_eq!(told, [a.clone(), b, a]);
    }
}
