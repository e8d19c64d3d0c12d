//! How many reads are forwarded at once, in all and for each namespace.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reads that wait for other adapters at once; each takes a patient worker of the gate, which has as many more for them.
pub const FORWARDS_MAX: usize = 8;
/// Those of one namespace, so that one whose reads take long leaves places to others.
const OF_NAMESPACE_MAX: usize = FORWARDS_MAX / 2;

#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<String, usize>>);

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'p> {
    places: &'p Places,
    namespace: String,
}

impl Places {
    /// Returns None if there is no place left, for anybody or for this namespace.
    pub(super) fn take(&self, namespace: &str) -> Option<Place<'_>> {
        let mut taken = self.lock();
        let own = taken.get(namespace).copied().unwrap_or(0);
        if own >= OF_NAMESPACE_MAX || taken.values().sum::<usize>() >= FORWARDS_MAX {
            return None;
        }
        taken.insert(namespace.to_owned(), own + 1);
        Some(Place { places: self, namespace: namespace.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.namespace) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_takes_all_places() {
        let places = Places::default();
        let greedy: Vec<_> = std::iter::from_fn(|| places.take("greedy")).collect();
        let others: Vec<_> = (0..).map_while(|number: u32| places.take(&number.to_string())).collect();
        assert_eq!((greedy.len(), others.len()), (4, 4));
        assert!(places.take("late").is_none(), "all are taken");
        drop((greedy, others));
        assert!(places.lock().is_empty());
        assert!(places.take("greedy").is_some());
    }
}
