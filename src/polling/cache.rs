//! A small cache with shared look-ups: while one thread fetches a key, others that need it wait.
//!
//! Owns sharing, expiry and the bound on what is kept. The time at which a value expires is an argument; how long a thread
//! waits is real time.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::scaling::model::UnixMillis;

/// How long a thread waits for others' fetches. Longer than the time limit of any API request, so it only guards against
/// a fetch that never ends.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What has expired is looked for this often at most, so that an insertion seldom looks at all entries.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct SharedCache<K, V> {
    state: Mutex<State<K, V>>,
    changed: Condvar,
    wait_max: Duration,
}

/// How long a value is good.
#[derive(Clone, Copy)]
pub(crate) enum Good {
    Until(UnixMillis),
    /// From when the fetch has ended: one that takes longer than this would bring what has expired already, and each of
    /// those who wait for it would fetch it in turn.
    For(Duration),
}

struct State<K, V> {
    /// Keys that a thread is fetching.
    pending: HashSet<K>,
    kept: Kept<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> SharedCache<K, V> {
    /// Keeps values that weigh `max` together.
    pub(crate) fn new(max: usize, weigh: fn(&V) -> usize) -> Self {
        let state = State { pending: HashSet::new(), kept: Kept::new(max, weigh) };
        Self { state: Mutex::new(state), changed: Condvar::new(), wait_max: WAIT_MAX }
    }

    /// Returns the value of `key` unless it has expired, or else fetches it; `fetch` also returns how long it is good.
    /// Returns `None` if fetches of other threads take too long. `share` is the namespace that asks, see [`Kept`].
    pub(crate) fn get(
        &self,
        key: &K,
        share: &str,
        now: impl Fn() -> UnixMillis,
        fetch: impl FnOnce(UnixMillis) -> (V, Good),
    ) -> Option<V> {
        let mut state = self.lock();
        let mut waits_until = None;
        let from = loop {
            let at = now();
            if let Some(value) = state.kept.get(key, at) {
                return Some(value.clone());
            }
            if !state.pending.contains(key) {
                break at;
            }
            // Other fetches wake this thread as well, and the one that it waits for may have to be followed by another.
            let until = *waits_until.get_or_insert_with(|| Instant::now() + self.wait_max);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.pending.insert(key.clone());
        drop(state);

        // Also if `fetch` panics, so that others do not wait in vain.
        let pending = Pending { cache: self, key };
        let (value, good) = fetch(from);
        let until = match good {
            Good::Until(at) => at,
            Good::For(time) => now().plus(time),
        };
        self.lock().kept.insert(key.clone(), share, value.clone(), from, until);
        drop(pending);
        Some(value)
    }

    /// Drops a value, so that the next who needs it fetches it.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().kept.remove(key);
    }

    /// A poisoned lock still guards a consistent state, since nothing can panic between its changes.
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pending<'a, K: Eq + Hash + Clone, V: Clone> {
    cache: &'a SharedCache<K, V>,
    key: &'a K,
}

impl<K: Eq + Hash + Clone, V: Clone> Drop for Pending<'_, K, V> {
    fn drop(&mut self) {
        self.cache.lock().pending.remove(self.key);
        self.cache.changed.notify_all();
    }
}

/// Values until they expire, or until others need their room. Each belongs to the share of the namespace that asked for it,
/// and the largest share makes room, so that whoever fills it with values of his own loses these and nobody else's.
pub(crate) struct Kept<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Of all entries.
    weight: usize,
    max: usize,
    weigh: fn(&V) -> usize,
    swept: UnixMillis,
}

struct Entry<V> {
    share: Box<str>,
    value: V,
    weight: usize,
    from: UnixMillis,
    until: UnixMillis,
}

impl<K: Eq + Hash + Clone, V> Kept<K, V> {
    pub(crate) fn new(max: usize, weigh: fn(&V) -> usize) -> Self {
        Self { entries: HashMap::new(), weight: 0, max, weigh, swept: UnixMillis(0) }
    }

    pub(crate) fn get(&self, key: &K, at: UnixMillis) -> Option<&V> {
        self.entries.get(key).filter(|entry| entry.is_fresh(at)).map(|entry| &entry.value)
    }

    /// Keeps a value from now on. What expires first of the largest share makes room for it; a value that has no room by
    /// itself is not kept.
    pub(crate) fn insert(&mut self, key: K, share: &str, value: V, from: UnixMillis, until: UnixMillis) {
        self.remove(&key);
        let weight = (self.weigh)(&value);
        if weight > self.max {
            return;
        }
        let is_due = from.since(self.swept) >= SWEEP_EVERY || from < self.swept;
        if is_due || self.weight + weight > self.max {
            self.sweep(from);
        }
        while self.weight + weight > self.max {
            let Some(first) = self.first_of_largest(share, weight) else { break };
            self.remove(&first);
        }
        self.weight += weight;
        self.entries.insert(key, Entry { share: share.into(), value, weight, from, until });
    }

    /// Returns what makes room first, where a value of this weight joins a share.
    fn first_of_largest(&self, joined: &str, weight: usize) -> Option<K> {
        let mut shares = HashMap::<&str, usize>::new();
        for entry in self.entries.values() {
            *shares.entry(&entry.share).or_default() += entry.weight;
        }
        if let Some(share) = shares.get_mut(joined) {
            *share += weight;
        }
        let (largest, _) = shares.into_iter().max_by_key(|(_, weight)| *weight)?;
        let entries = self.entries.iter().filter(|(_, entry)| &*entry.share == largest);
        entries.min_by_key(|(_, entry)| entry.until).map(|(key, _)| key.clone())
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.weight -= entry.weight;
        }
    }

    fn sweep(&mut self, at: UnixMillis) {
        self.swept = at;
        self.entries.retain(|_, entry| entry.is_fresh(at));
        self.weight = self.entries.values().map(|entry| entry.weight).sum();
    }
}

impl<V> Entry<V> {
    /// A value must not live longer because the clock was set back.
    fn is_fresh(&self, at: UnixMillis) -> bool {
        self.from <= at && at < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

    fn get(cache: &SharedCache<u32, u32>, key: u32, at: i64, value: u32) -> u32 {
        let fetch = |from: UnixMillis| (value, Good::Until(from.plus(Duration::from_millis(100))));
        cache.get(&key, "shop", || UnixMillis(at), fetch).unwrap()
    }

    #[test]
    fn values_age() {
        let cache = SharedCache::new(8, |_| 1);
        assert_eq!(get(&cache, 1, 1_000, 7), 7);
        assert_eq!(get(&cache, 1, 1_099, 8), 7);
        assert_eq!(get(&cache, 1, 1_100, 8), 8);
        assert_eq!(get(&cache, 1, 500, 9), 9, "the clock was set back");
    }

    #[test]
    fn the_bound_holds() {
        let cache = SharedCache::new(4, |_| 1);
        for key in 0..100 {
            get(&cache, key, 1_000 + i64::from(key), 1);
            assert!(cache.lock().kept.entries.len() <= 4);
        }
    }

    /// Regression: a value that had expired stayed in memory until a thousand others were there.
    #[test]
    fn what_has_expired_is_dropped() {
        let cache = SharedCache::new(8, |_| 1);
        for key in 0..4 {
            get(&cache, key, 1_000, 7);
        }
        get(&cache, 4, 3_000, 7);
        assert_eq!(cache.lock().kept.entries.len(), 1);
    }

    /// Regression: entries were counted and not weighed, so that a thousand of 1 MiB were a gigabyte.
    #[test]
    fn what_is_kept_is_bounded_by_its_weight() {
        let cache: SharedCache<u32, u32> = SharedCache::new(10, |weight| *weight as usize);
        let kept = || {
            let mut keys: Vec<u32> = cache.lock().kept.entries.keys().copied().collect();
            keys.sort_unstable();
            keys
        };
        for (at, key, weight, expected) in [
            (1_000, 1, 4, vec![1]),
            (1_001, 2, 4, vec![1, 2]),
            (1_002, 3, 5, vec![2, 3]),
            (1_003, 4, 11, vec![2, 3]),
            (1_004, 5, 10, vec![5]),
            (1_200, 6, 10, vec![6]),
        ] {
            assert_eq!(get(&cache, key, at, weight), weight);
            assert_eq!(kept(), expected, "{key}");
        }
    }

    /// Regression: what expires first made room, so that whoever kept much for long took the room of all others.
    #[test]
    fn whoever_has_most_makes_room() {
        let mut kept = Kept::new(8, |_: &u32| 1);
        let (now, long, short) = (UnixMillis(1_000), UnixMillis(90_000), UnixMillis(2_000));
        for key in 0..8 {
            kept.insert(key, "greedy", key, now, long);
        }
        for key in 10..12 {
            kept.insert(key, "shop", key, now, short);
        }
        for key in 20..40 {
            kept.insert(key, "greedy", key, now, long);
        }
        assert_eq!((kept.get(&10, now), kept.get(&11, now)), (Some(&10), Some(&11)));
        assert_eq!(kept.entries.len(), 8);
        // Half of the room is all that one of two can claim.
        for key in 50..60 {
            kept.insert(key, "shop", key, now, short);
        }
        assert_eq!(kept.entries.values().filter(|entry| &*entry.share == "shop").count(), 4);
    }

    #[test]
    fn concurrent_look_ups_are_one() {
        let (cache, barrier, fetches) = (SharedCache::new(8, |_| 1), Barrier::new(8), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let value = cache.get(
                        &1,
                        "shop",
                        || UnixMillis(0),
                        |_| {
                            fetches.fetch_add(1, Ordering::SeqCst);
                            (5, Good::Until(UnixMillis(10)))
                        },
                    );
                    assert_eq!(value, Some(5));
                });
            }
        });
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    /// Regression: a value that took longer to fetch than it is shared had expired when it came, so that each of those who
    /// waited for it fetched it in turn.
    #[test]
    fn a_value_is_shared_from_when_it_came() {
        let cache: SharedCache<u32, i64> = SharedCache::new(8, |_| 1);
        let clock = AtomicI64::new(1_000);
        let get = || {
            let fetch = |from: UnixMillis| {
                clock.store(from.0 + 5_000, Ordering::SeqCst);
                (from.0, Good::For(Duration::from_millis(100)))
            };
            cache.get(&1, "shop", || UnixMillis(clock.load(Ordering::SeqCst)), fetch).unwrap()
        };
        assert_eq!((get(), get()), (1_000, 1_000));
        clock.store(6_100, Ordering::SeqCst);
        assert_eq!(get(), 6_100);
    }

    /// Regression: with each fetch of another key that ended, the time to wait began anew.
    #[test]
    fn other_fetches_do_not_prolong_the_time_to_wait() {
        let mut cache: SharedCache<u32, u32> = SharedCache::new(8, |_| 1);
        cache.wait_max = Duration::from_millis(200);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let cache = &cache;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let fetch = |_| {
                    begun.send(()).unwrap();
                    let _ = ends.recv();
                    (5, Good::For(Duration::from_secs(1)))
                };
                cache.get(&1, "shop", || UnixMillis(0), fetch)
            });
            has_begun.recv().unwrap();
            let waiting = scope.spawn(|| cache.get(&1, "shop", || UnixMillis(0), |_| panic!("a second fetch")));
            let deadline = Instant::now() + Duration::from_secs(20);
            while !waiting.is_finished() && Instant::now() < deadline {
                cache.get(&2, "shop", || UnixMillis(0), |from| (6, Good::Until(from)));
            }
            let is_late = !waiting.is_finished();
            drop(end);
            assert_eq!((waiting.join().unwrap(), is_late), (None, false));
        });
    }

    #[test]
    fn a_panic_leaves_no_mark() {
        let cache: SharedCache<u32, u32> = SharedCache::new(8, |_| 1);
        let fetch = |_| -> (u32, Good) { panic!("test") };
        let broken =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get(&1, "shop", || UnixMillis(0), fetch)));
        assert!(broken.is_err());
        assert_eq!(get(&cache, 1, 0, 3), 3);
    }
}
