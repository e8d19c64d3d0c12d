//! The gate's counters. Plain atomics for `/metrics`; no decision that must be exact may depend on them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::head::Refusal;

/// All values but `active` only increase.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    requests: AtomicU64,
    shed: AtomicU64,
    turned_away: AtomicU64,
    out_of_descriptors: AtomicU64,
    timed_out: AtomicU64,
    tls_failed: AtomicU64,
    overloaded: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    live: Live,
}

/// The events that a plain increment counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Accepted,
    Requests,
    Shed,
    TurnedAway,
    OutOfDescriptors,
    TimedOut,
    TlsFailed,
    Overloaded,
    Refused(Refusal),
}

impl Counters {
    /// Connections accepted from the listener.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn active(&self) -> u64 {
        self.live.count.load(Ordering::Acquire)
    }

    /// Requests that reached a handler.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections closed to make room for others.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Why connections and requests ended without a handler's answer, as pairs of a metric label and a count.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let own = [
            ("no room", &self.turned_away),
            ("out of descriptors", &self.out_of_descriptors),
            ("timeout", &self.timed_out),
            ("tls", &self.tls_failed),
            ("overload", &self.overloaded),
        ];
        let heads = Refusal::ALL.into_iter().map(Refusal::as_str).zip(&self.refused);
        own.into_iter().chain(heads).map(|(label, count)| (label, count.load(Ordering::Relaxed)))
    }

    pub(super) fn count(&self, what: Count) {
        let counter = match what {
            Count::Accepted => &self.accepted,
            Count::Requests => &self.requests,
            Count::Shed => &self.shed,
            Count::TurnedAway => &self.turned_away,
            Count::OutOfDescriptors => &self.out_of_descriptors,
            Count::TimedOut => &self.timed_out,
            Count::TlsFailed => &self.tls_failed,
            Count::Overloaded => &self.overloaded,
            Count::Refused(refusal) => &self.refused[refusal as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until no connection is open; returns false if one still is after `at_most`.
    pub(super) fn wait_until_none(&self, at_most: Duration) -> bool {
        let guard = self.live.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.live.ended.1.wait_timeout_while(guard, at_most, |()| self.active() > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[derive(Debug, Default)]
struct Live {
    count: AtomicU64,
    ended: (Mutex<()>, Condvar),
}

/// Lives as long as its connection, so that every way of losing the connection decrements the count.
#[derive(Debug)]
pub(super) struct Alive(Arc<Counters>);

impl Alive {
    pub(super) fn new(counters: &Arc<Counters>) -> Alive {
        counters.live.count.fetch_add(1, Ordering::AcqRel);
        Alive(Arc::clone(counters))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.0.live.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _guard = self.0.live.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.live.ended.1.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_distinct_labels_and_their_own_counters() {
        let counters = Counters::default();
        for refusal in Refusal::ALL {
            counters.count(Count::Refused(refusal));
        }
        counters.count(Count::TimedOut);
        let mut labels: Vec<_> = counters.refused().filter(|(_, n)| *n == 1).map(|(label, _)| label).collect();
        assert_eq!(labels.len(), Refusal::ALL.len() + 1);
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Refusal::ALL.len() + 1);
    }

    #[test]
    fn the_last_connection_wakes_who_waits_for_it() {
        let counters = Arc::new(Counters::default());
        let (first, second) = (Alive::new(&counters), Alive::new(&counters));
        assert_eq!(counters.active(), 2);
        assert!(!counters.wait_until_none(Duration::from_millis(1)));
        let waiter = std::thread::spawn({
            let counters = Arc::clone(&counters);
            move || counters.wait_until_none(Duration::from_secs(30))
        });
        drop((first, second));
        assert!(waiter.join().unwrap());
    }
}
