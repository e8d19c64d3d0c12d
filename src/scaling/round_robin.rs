//! A ring of parties that take turns: each is in it at most once, and new ones are last.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct RoundRobin<K> {
    order: BTreeMap<u64, K>,
    places: HashMap<K, u64>,
    next: u64,
}

impl<K> Default for RoundRobin<K> {
    fn default() -> Self {
        Self { order: BTreeMap::new(), places: HashMap::new(), next: 0 }
    }
}

impl<K: Clone + Eq + Hash> RoundRobin<K> {
    /// Adds a party at the end; returns false if it is in the ring already.
    pub(super) fn join(&mut self, one: &K) -> bool {
        if self.places.contains_key(one) {
            return false;
        }
        self.places.insert(one.clone(), self.next);
        self.order.insert(self.next, one.clone());
        self.next += 1;
        true
    }

    /// Removes a party; returns false if it was not in the ring.
    pub(super) fn leave(&mut self, one: &K) -> bool {
        self.places.remove(one).is_some_and(|place| self.order.remove(&place).is_some())
    }

    /// Moves a party to the end after its turn.
    pub(super) fn pass(&mut self, one: &K) {
        self.leave(one);
        self.join(one);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.order.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
