//! Places for a bounded number of requests in flight, with the most that each namespace may have of them.

use std::collections::HashMap;
use std::sync::Arc;

/// How many there are of each server, or of each namespace; none is not kept.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counts(pub(super) HashMap<Arc<str>, usize>);

impl Counts {
    pub(super) fn of(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, name: &Arc<str>) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(Arc::clone(name), 1)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(count) = self.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(name);
            }
        }
    }
}

/// A number of places. A namespace has half of them at most, or three quarters where it is known to be alone, and the last
/// quarter is for namespaces that have none: so two that take all they can leave places for the others.
#[derive(Debug)]
pub struct Places {
    pub(super) all: usize,
    taken: usize,
    pub(super) of_namespace: Counts,
}

impl Places {
    #[must_use]
    pub fn new(all: usize) -> Self {
        Self { all, taken: 0, of_namespace: Counts::default() }
    }

    /// Returns how many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Returns a part of the places, at least one.
    pub(super) fn share(&self, part: usize, of: usize) -> usize {
        (self.all * part / of).max(1)
    }

    /// Returns whether only the last quarter is left. Of fewer than four places none is reserved.
    pub(super) fn is_reserve(&self) -> bool {
        self.taken >= self.all - self.all / 4
    }

    /// Returns whether a namespace may take one more place. `is_alone`: no other namespace can come.
    #[must_use]
    pub fn has_room(&self, namespace: &str, is_alone: bool) -> bool {
        let here = self.of_namespace.of(namespace);
        let most = if is_alone { self.share(3, 4) } else { self.share(1, 2) };
        self.taken < self.all && here < most && (here == 0 || !self.is_reserve())
    }

    pub fn take(&mut self, namespace: &Arc<str>) {
        self.taken += 1;
        self.of_namespace.add(namespace);
    }

    pub fn give_back(&mut self, namespace: &str) {
        self.taken = self.taken.saturating_sub(1);
        self.of_namespace.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_take_all_they_can_leave_places_for_others() {
        let mut places = Places::new(16);
        let names: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        let fill = |places: &mut Places, name: &Arc<str>| {
            let before = places.taken();
            while places.has_room(name, false) {
                places.take(name);
            }
            places.taken() - before
        };
        assert_eq!([0, 1, 2].map(|at| fill(&mut places, &names[at])), [8, 4, 1]);
        assert!(!places.has_room("a", true) && places.has_room("d", false));
        places.give_back("c");
        assert_eq!((places.taken(), places.of_namespace.of("c")), (12, 0));
    }
}
