//! Caches reviews for a few seconds, and lets simultaneous requests with the same question share one.
//!
//! Holds no secrets: entries are found by a keyed hash of the question, so no token stays in memory, and no caller
//! decides how large an entry is. Errors are not cached.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reviews::ReviewError;

/// Entries of one cache: at about 200 bytes each, 8,192 take 1.6 MB.
const ENTRIES_MAX: usize = 8192;

/// Lifetime of positive and negative verdicts alike, as in the kube-apiserver's own servers.
pub const REMEMBERED: Duration = Duration::from_secs(10);

/// Longest wait for another request's review of the same question, which has a deadline of its own.
const SHARED_WAIT: Duration = Duration::from_secs(10);

/// 128 bits of two keyed hashes. With secret keys a collision cannot be searched for, and among 8,192 entries the odds
/// of one by chance are 2^-115 per look-up.
type Key = (u64, u64);

pub struct ReviewCache<V> {
    keys: (RandomState, RandomState),
    // Shared by the handlers' threads. Never locked while a review is under way.
    state: Mutex<State<V>>,
}

struct State<V> {
    entries: HashMap<Key, Entry<V>>,
    /// Keys by when they were last used; the first is the next to be evicted.
    uses: BTreeMap<u64, Key>,
    next_use: u64,
    flights: HashMap<Key, Arc<Flight<V>>>,
}

struct Entry<V> {
    value: V,
    until: Instant,
    used: u64,
}

/// A review that is under way.
struct Flight<V> {
    landed: Mutex<Option<Result<V, ReviewError>>>,
    condition: Condvar,
}

impl<V: Clone> Default for ReviewCache<V> {
    fn default() -> Self {
        let state = State { entries: HashMap::new(), uses: BTreeMap::new(), next_use: 0, flights: HashMap::new() };
        ReviewCache { keys: (RandomState::new(), RandomState::new()), state: Mutex::new(state) }
    }
}

impl<V: Clone> ReviewCache<V> {
    /// Returns the cached verdict, or that of `ask`, of which only one runs at a time for each question.
    pub fn get_or_ask(
        &self,
        question: &impl Hash,
        now: Instant,
        ask: impl FnOnce() -> Result<V, ReviewError>,
    ) -> Result<V, ReviewError> {
        let key = (self.keys.0.hash_one(question), self.keys.1.hash_one(question));
        let flight = {
            let mut state = self.lock();
            if let Some(value) = state.get(key, now) {
                return Ok(value);
            }
            if let Some(flight) = state.flights.get(&key).map(Arc::clone) {
                drop(state);
                return flight.wait();
            }
            let flight = Arc::new(Flight { landed: Mutex::new(None), condition: Condvar::new() });
            state.flights.insert(key, Arc::clone(&flight));
            flight
        };
        // Completed on every path, even a panic; otherwise those who share the review would wait in vain.
        let mut landing = Landing { cache: self, key, flight, result: Err(ReviewError::Shared), now };
        landing.result = ask();
        landing.result.clone()
    }

    /// Returns the cached verdict, if there is one, without waiting for any review.
    pub fn remembered(&self, question: &impl Hash, now: Instant) -> Option<V> {
        let key = (self.keys.0.hash_one(question), self.keys.1.hash_one(question));
        self.lock().get(key, now)
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> State<V> {
    fn get(&mut self, key: Key, now: Instant) -> Option<V> {
        let entry = self.entries.get_mut(&key)?;
        if now >= entry.until {
            return None;
        }
        self.uses.remove(&entry.used);
        entry.used = self.next_use;
        self.uses.insert(entry.used, key);
        self.next_use += 1;
        Some(entry.value.clone())
    }

    fn put(&mut self, key: Key, value: V, until: Instant) {
        let used = self.next_use;
        self.next_use += 1;
        if let Some(old) = self.entries.insert(key, Entry { value, until, used }) {
            self.uses.remove(&old.used);
        }
        self.uses.insert(used, key);
        while self.entries.len() > ENTRIES_MAX {
            let Some((_, oldest)) = self.uses.pop_first() else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }
}

impl<V: Clone> Flight<V> {
    fn wait(&self) -> Result<V, ReviewError> {
        let landed = self.landed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.condition.wait_timeout_while(landed, SHARED_WAIT, |l| l.is_none());
        let (landed, _) = waited.unwrap_or_else(PoisonError::into_inner);
        landed.clone().unwrap_or(Err(ReviewError::Shared))
    }
}

struct Landing<'c, V: Clone> {
    cache: &'c ReviewCache<V>,
    key: Key,
    flight: Arc<Flight<V>>,
    result: Result<V, ReviewError>,
    now: Instant,
}

impl<V: Clone> Drop for Landing<'_, V> {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        state.flights.remove(&self.key);
        if let Ok(value) = &self.result {
            // Its lifetime begins with the request: a verdict ages on its way.
            state.put(self.key, value.clone(), self.now + REMEMBERED);
        }
        drop(state);
        let mut landed = self.flight.landed.lock().unwrap_or_else(PoisonError::into_inner);
        *landed = Some(self.result.clone());
        self.flight.condition.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn verdicts_are_remembered_and_errors_are_not() {
        let cache = ReviewCache::<u32>::default();
        let now = Instant::now();
        let fail = || Err(ReviewError::Ask("down".into()));
        assert_eq!(cache.get_or_ask(&"a", now, fail), Err(ReviewError::Ask("down".into())));
        assert_eq!(cache.get_or_ask(&"a", now, || Ok(1)), Ok(1));
        assert_eq!(cache.get_or_ask(&"a", now + REMEMBERED / 2, fail), Ok(1));
        assert_eq!(cache.get_or_ask(&"b", now, || Ok(2)), Ok(2));
        assert_eq!(cache.remembered(&"b", now), Some(2));
        assert_eq!(cache.get_or_ask(&"a", now + REMEMBERED, || Ok(3)), Ok(3));
        assert!(cache.get_or_ask(&"a", now + REMEMBERED * 2, fail).is_err());
    }

    #[test]
    fn the_longest_unused_is_forgotten_first() {
        let cache = ReviewCache::<usize>::default();
        let now = Instant::now();
        for n in 0..ENTRIES_MAX {
            cache.get_or_ask(&n, now, || Ok(n)).unwrap();
        }
        assert_eq!(cache.remembered(&0_usize, now), Some(0));
        cache.get_or_ask(&ENTRIES_MAX, now, || Ok(ENTRIES_MAX)).unwrap();
        assert_eq!(cache.remembered(&0_usize, now), Some(0));
        assert_eq!(cache.remembered(&1_usize, now), None);
        let state = cache.lock();
        assert_eq!((state.entries.len(), state.uses.len()), (ENTRIES_MAX, ENTRIES_MAX));
    }

    #[test]
    fn those_who_ask_the_same_share_one_review() {
        let cache = Arc::new(ReviewCache::<u32>::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let together = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (cache, asked) = (Arc::clone(&cache), Arc::clone(&asked));
                let together = Arc::clone(&together);
                std::thread::spawn(move || {
                    together.wait();
                    cache.get_or_ask(&"same", Instant::now(), || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        std::thread::park_timeout(Duration::from_millis(50));
                        Ok(7)
                    })
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(7));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_review_that_panics_keeps_nobody_waiting() {
        let cache = Arc::new(ReviewCache::<u32>::default());
        let panicking = Arc::clone(&cache);
        let thread = std::thread::spawn(move || panicking.get_or_ask(&"a", Instant::now(), || panic!("on purpose")));
        assert!(thread.join().is_err());
        assert_eq!(cache.get_or_ask(&"a", Instant::now(), || Ok(1)), Ok(1));
    }
}
