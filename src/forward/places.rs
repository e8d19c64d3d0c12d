//! How many reads are forwarded at once, shared among the namespaces.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scaling::schedule;

/// Reads that wait for other adapters at once; each takes a patient worker of the gate, which has as many more for them.
pub const FORWARDS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Places(Mutex<schedule::Places>);

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'p> {
    places: &'p Places,
    namespace: Arc<str>,
}

impl Default for Places {
    fn default() -> Self {
        Self(Mutex::new(schedule::Places::new(FORWARDS_MAX)))
    }
}

impl Places {
    /// Returns None if there is no place left, for anybody or for this namespace.
    pub(super) fn take(&self, namespace: &str) -> Option<Place<'_>> {
        let mut places = self.lock();
        if !places.has_room(namespace, false) {
            return None;
        }
        let namespace = Arc::from(namespace);
        places.take(&namespace);
        Some(Place { places: self, namespace })
    }

    fn lock(&self) -> MutexGuard<'_, schedule::Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.lock().give_back(&self.namespace);
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
        assert_eq!(places.lock().taken(), 0);
        assert!(places.take("greedy").is_some());
    }
}
