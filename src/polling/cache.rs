//! A small cache with shared look-ups: while one thread fetches a key, others that need it wait.
//!
//! Owns sharing, expiry and the bound on entries. Time is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::scaling::model::UnixMillis;

/// How long a thread waits for another's fetch. Longer than the time limit of any API request, so it only guards against
/// a fetch that never ends.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) struct SharedCache<K, V> {
    entries: Mutex<HashMap<K, Entry<V>>>,
    changed: Condvar,
    max: usize,
}

enum Entry<V> {
    /// A thread is fetching the value.
    Pending,
    Ready {
        value: V,
        from: UnixMillis,
        until: UnixMillis,
    },
}

impl<K: Eq + Hash + Clone, V: Clone> SharedCache<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: Mutex::new(HashMap::new()), changed: Condvar::new(), max }
    }

    /// Returns the value of `key` unless it has expired, or else fetches it; `fetch` also returns when it expires. Returns
    /// `None` if another thread's fetch takes too long.
    pub(crate) fn get(
        &self,
        key: &K,
        now: impl Fn() -> UnixMillis,
        fetch: impl FnOnce(UnixMillis) -> (V, UnixMillis),
    ) -> Option<V> {
        let mut entries = self.lock();
        let from = loop {
            let at = now();
            match entries.get(key) {
                // A value must not live longer because the clock was set back.
                Some(Entry::Ready { value, from, until }) if *from <= at && at < *until => return Some(value.clone()),
                Some(Entry::Pending) => {
                    let waited = self.changed.wait_timeout(entries, WAIT_MAX).unwrap_or_else(PoisonError::into_inner);
                    if waited.1.timed_out() {
                        return None;
                    }
                    entries = waited.0;
                }
                _ => break at,
            }
        };
        self.make_room(&mut entries, from);
        entries.insert(key.clone(), Entry::Pending);
        drop(entries);

        // Removes the entry if `fetch` panics, so that others do not wait in vain.
        let mut pending = Pending { cache: self, key: Some(key) };
        let (value, until) = fetch(from);
        let mut entries = self.lock();
        entries.insert(key.clone(), Entry::Ready { value: value.clone(), from, until });
        pending.key = None;
        drop(entries);
        self.changed.notify_all();
        Some(value)
    }

    /// Drops a value, so that the next who needs it fetches it.
    pub(crate) fn forget(&self, key: &K) {
        let mut entries = self.lock();
        if matches!(entries.get(key), Some(Entry::Ready { .. })) {
            entries.remove(key);
        }
    }

    fn make_room(&self, entries: &mut HashMap<K, Entry<V>>, at: UnixMillis) {
        if entries.len() < self.max {
            return;
        }
        entries.retain(|_, entry| matches!(entry, Entry::Pending) || entry.is_fresh(at));
        if entries.len() >= self.max {
            let ready = entries.iter().filter_map(|(key, entry)| match entry {
                Entry::Pending => None,
                Entry::Ready { until, .. } => Some((*until, key)),
            });
            if let Some(key) = ready.min_by_key(|(until, _)| *until).map(|(_, key)| key.clone()) {
                entries.remove(&key);
            }
        }
    }

    /// A poisoned lock still guards a consistent map, since nothing can panic between its changes.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Entry<V> {
    fn is_fresh(&self, at: UnixMillis) -> bool {
        matches!(self, Self::Ready { from, until, .. } if *from <= at && at < *until)
    }
}

struct Pending<'a, K: Eq + Hash + Clone, V: Clone> {
    cache: &'a SharedCache<K, V>,
    key: Option<&'a K>,
}

impl<K: Eq + Hash + Clone, V: Clone> Drop for Pending<'_, K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cache.lock().remove(key);
            self.cache.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn get(cache: &SharedCache<u32, u32>, key: u32, at: i64, value: u32) -> u32 {
        let fetch = |from: UnixMillis| (value, from.plus(Duration::from_millis(100)));
        cache.get(&key, || UnixMillis(at), fetch).unwrap()
    }

    #[test]
    fn values_age() {
        let cache = SharedCache::new(8);
        assert_eq!(get(&cache, 1, 1_000, 7), 7);
        assert_eq!(get(&cache, 1, 1_099, 8), 7);
        assert_eq!(get(&cache, 1, 1_100, 8), 8);
        assert_eq!(get(&cache, 1, 500, 9), 9, "the clock was set back");
    }

    #[test]
    fn the_bound_holds() {
        let cache = SharedCache::new(4);
        for key in 0..100 {
            get(&cache, key, 1_000 + i64::from(key), 1);
            assert!(cache.lock().len() <= 4);
        }
    }

    #[test]
    fn concurrent_look_ups_are_one() {
        let (cache, barrier, fetches) = (SharedCache::new(8), Barrier::new(8), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let value = cache.get(
                        &1,
                        || UnixMillis(0),
                        |_| {
                            fetches.fetch_add(1, Ordering::SeqCst);
                            (5, UnixMillis(10))
                        },
                    );
                    assert_eq!(value, Some(5));
                });
            }
        });
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_leaves_no_mark() {
        let cache: SharedCache<u32, u32> = SharedCache::new(8);
        let fetch = |_| -> (u32, UnixMillis) { panic!("test") };
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get(&1, || UnixMillis(0), fetch)));
        assert!(broken.is_err());
        assert_eq!(get(&cache, 1, 0, 3), 3);
    }
}
