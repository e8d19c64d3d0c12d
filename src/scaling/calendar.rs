//! When something is due for each object; at most one time per object.

use std::collections::{BTreeSet, HashMap};

use super::model::{ObjectKey, UnixMillis};

#[derive(Debug, Default)]
pub(super) struct Calendar {
    due: HashMap<ObjectKey, UnixMillis>,
    order: BTreeSet<(UnixMillis, ObjectKey)>,
}

impl Calendar {
    /// Sets the time of an object, replacing any earlier one.
    pub(super) fn set(&mut self, key: &ObjectKey, at: UnixMillis) {
        match self.due.get_mut(key) {
            Some(before) if *before == at => return,
            Some(before) => {
                self.order.remove(&(std::mem::replace(before, at), key.clone()));
            }
            None => drop(self.due.insert(key.clone(), at)),
        }
        self.order.insert((at, key.clone()));
    }

    /// Removes the time of an object; returns true if there was one.
    pub(super) fn clear(&mut self, key: &ObjectKey) -> bool {
        let Some(at) = self.due.remove(key) else {
            return false;
        };
        self.order.remove(&(at, key.clone()))
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<UnixMillis> {
        self.due.get(key).copied()
    }

    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes and returns the earliest object if its time has come.
    pub(super) fn pop(&mut self, now: UnixMillis) -> Option<(ObjectKey, UnixMillis)> {
        if self.next()? > now {
            return None;
        }
        let (at, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some((key, at))
    }

    /// Moves all times by a step of the wall clock.
    pub(super) fn shift(&mut self, milliseconds: i64) {
        for at in self.due.values_mut() {
            at.0 = at.0.saturating_add(milliseconds);
        }
        self.order = self.due.iter().map(|(key, at)| (*at, key.clone())).collect();
    }
}
