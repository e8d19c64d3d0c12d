//! The target's replicas as they are seen: what changed, and who changed it.
//!
//! Owns what the history, the log and a Kubernetes Event say of a change. Moves nothing.

use std::sync::Arc;
use std::time::Duration;

use super::super::attribution::{Actor, Attribution};
use super::super::event::{Absence, Record};
use super::super::model::{ObjectKey, UnixMillis, Workload};
use super::super::object::{Object, TargetId, Unattributed};
use super::World;
use super::watched_workloads;

/// The HPA scales first and says so in its status afterwards, a fraction of a second later; its watch may be late.
const ATTRIBUTION_SETTLES: Duration = Duration::from_secs(10);

/// A write of ours shows in the watch within this time.
const WRITE_ECHOES: Duration = Duration::from_secs(60);

impl World {
    /// What a watched target has, for an object that did not know it: also one that never changes is seen once, and what
    /// changed before the object was listed is seen, too.
    pub(super) fn look_at_target(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let target = &object.spec.target;
        let watched = watched_workloads()
            .into_iter()
            .find(|gvkr| gvkr.kind == target.kind && gvkr.api_version() == target.api_version);
        let id = watched.map(|gvkr| (gvkr, key.namespace.to_string(), target.name.clone()));
        let workload = id.and_then(|id| self.workloads.get(&id));
        let news = workload.filter(|workload| object.recorded.replicas != Some(workload.replicas));
        if let Some(workload) = news.cloned() {
            self.note_replicas_of(key, &workload, now);
        }
    }

    /// A change of the target's replicas, whoever made it, for every object that scales it.
    pub(super) fn note_replicas(&mut self, target: &TargetId, workload: &Workload, now: UnixMillis) {
        let keys: Vec<ObjectKey> = self.by_target.get(target).into_iter().flatten().cloned().collect();
        for key in keys {
            self.note_replicas_of(&key, workload, now);
        }
    }

    pub(super) fn note_replicas_of(&mut self, key: &ObjectKey, workload: &Workload, now: UnixMillis) {
        let to = workload.replicas;
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let from = object.recorded.replicas.replace(to);
        if from == Some(to) {
            return;
        }
        // A scale to zero leaves no trace in managedFields, since its count is left out on the wire; while one
        // to this very count is under way, it was ours.
        let is_ours = object.scaling.as_ref().is_some_and(|scaling| scaling.to == to);
        // The answer may have been lost on the way, and the write carried out all the same.
        let scaled = object.recorded.scaled.is_some_and(|(at, count)| count == to && at.plus(WRITE_ECHOES) >= now);
        let manager = workload.replicas_manager.clone().or_else(|| is_ours.then(|| "hpalite".to_owned()));
        // Another change has come: nobody will own up to the one before.
        self.attribute_to(key, Actor::Other);
        let by = match (manager, from, self.hpa_of(key)) {
            (Some(manager), ..) => Some(Attribution::observed(manager)),
            (None, Some(_), _) if scaled => Some(Attribution::inferred(Actor::Hpalite)),
            (None, None, _) | (None, _, None) => Some(Attribution::inferred(Actor::Other)),
            (None, _, Some(hpa)) if u32::try_from(hpa.desired_replicas) == Ok(to) => {
                Some(Attribution::inferred(Actor::Hpa))
            }
            (None, ..) => None,
        };
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if let (None, Some(from)) = (&by, from) {
            let due = now.plus(ATTRIBUTION_SETTLES);
            object.recorded.unattributed = Some(Unattributed { at: now, due, from, to });
            self.wake(key, due);
        }
        let absent = self.absent(key, from, to);
        // Neither we nor the HPA that follows us.
        let is_another_s = by.as_ref().is_some_and(|by| by.actor == Actor::Other);
        self.record(Record::Replicas { at: now, object: key.clone(), from, to, by, absent });
        if !is_another_s {
            self.tell_silence(key, from.unwrap_or(to), to, now);
        }
    }

    /// The HPA says what it wants: a change to that count was the HPA's.
    pub(super) fn hpa_owns_up(&mut self, key: &ObjectKey, desired: i32) {
        let waits = self.objects.get(key).and_then(|object| object.recorded.unattributed);
        if waits.is_some_and(|waits| u32::try_from(desired) == Ok(waits.to)) {
            self.attribute_to(key, Actor::Hpa);
        }
    }

    /// Nobody owned up in time.
    pub(super) fn settle_attribution(&mut self, key: &ObjectKey, now: UnixMillis) {
        let waits = self.objects.get(key).and_then(|object| object.recorded.unattributed);
        if waits.is_some_and(|waits| waits.due <= now) {
            self.attribute_to(key, Actor::Other);
        }
    }

    fn attribute_to(&mut self, key: &ObjectKey, actor: Actor) {
        let waits = self.objects.get_mut(key).and_then(|object| object.recorded.unattributed.take());
        if let Some(Unattributed { at, from, to, .. }) = waits {
            let by = Attribution::inferred(actor);
            self.record(Record::Attributed { at, object: key.clone(), from, to, by });
        }
    }

    /// Of a scale-in: the metrics that had no number then.
    fn absent(&self, key: &ObjectKey, from: Option<u32>, to: u32) -> Vec<(Arc<str>, Absence)> {
        if from.is_none_or(|from| to >= from) {
            return Vec::new();
        }
        self.objects.get(key).map(absences).unwrap_or_default()
    }
}

/// The metrics whose newest answers had no number and count as one.
pub(super) fn absences(object: &Object) -> Vec<(Arc<str>, Absence)> {
    let Some(definition) = &object.loop_definition else {
        return Vec::new();
    };
    let states = definition.triggers.iter().zip(&object.triggers);
    states.filter_map(|(trigger, state)| Some((Arc::clone(&trigger.metric_name), state.absence()?.clone()))).collect()
}
