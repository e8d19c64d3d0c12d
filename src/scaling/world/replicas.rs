//! Observes the target's replicas: what changed, and who changed it.
//!
//! Owns what the history, the log and a Kubernetes Event say about a change. Moves nothing.

use std::sync::Arc;
use std::time::Duration;

use super::ingest::object_of;
use super::work::Work;
use super::{World, watched_kind};
use crate::scaling::attribution::{Actor, Attribution};
use crate::scaling::event::{Absence, Record};
use crate::scaling::hpa::ObservedHpa;
use crate::scaling::model::{ObjectKey, UnixMillis, Workload};
use crate::scaling::object::{Object, Unattributed};
use crate::scaling::target::TargetId;

/// The HPA scales first and updates its status a fraction of a second later, and the watch may be late.
const ATTRIBUTION_SETTLES: Duration = Duration::from_secs(10);

/// The watch shows hpalite's own write within this time.
const WRITE_ECHOES: Duration = Duration::from_secs(60);

/// Scale-outs that are watched at the same time; what comes on top is not measured.
const STARTING_MAX: usize = 8;

/// Pods that take longer wait for something that is not their start, such as a node.
const STARTING_FOR: Duration = Duration::from_hours(1);

impl World {
    /// Records a change of the target's replicas, whoever made it, for every object that scales the target. It may be as old as
    /// `unseen_since`, if that is given.
    pub(super) fn note_replicas(&mut self, target: &TargetId, workload: &Workload, unseen_since: Option<UnixMillis>) {
        for key in self.objects.first_of_target(target, &self.facts) {
            self.with(&key, |object, work| object.note_replicas_of(workload, unseen_since, work));
        }
    }

    /// Returns the replicas that an HPA shows of a target that no watch shows, for an object that only observes it: it
    /// does not ask.
    pub(super) fn replicas_shown(&self, hpa: &ObservedHpa) -> Option<(ObjectKey, Workload)> {
        // Before its controller has looked, a status shows nothing.
        let is_known = !hpa.conditions.is_empty() && watched_kind(&hpa.target).is_none();
        let (key, uid) = object_of(hpa);
        let object = self.objects.get(&key).filter(|object| is_known && object.spec.uid == uid)?;
        object.spec.observed.as_ref()?;
        let workload = Workload {
            namespace: hpa.namespace.clone(),
            name: hpa.target.name.clone(),
            uid: String::new(),
            replicas: u32::try_from(hpa.current_replicas).ok()?,
            selector: None,
            replicas_manager: None,
            ready: 0,
            version: None,
        };
        Some((key, workload))
    }

    /// Records that pods have become ready, for every object that waits for them.
    pub(super) fn note_ready(&mut self, target: &TargetId, ready: u32) {
        for key in self.objects.by_target.get(target).to_vec() {
            self.with(&key, |object, work| object.note_ready_of(ready, work));
        }
    }
}

impl Object {
    /// What a watched target has, for an object that did not know it: also one that never changes is seen once, and
    /// what changed before the object was listed is seen, too.
    pub(super) fn observe_target(&mut self, work: &mut Work<'_>) {
        let news = work.facts.watched_target(self);
        if let Some((gvkr, workload)) = news.filter(|news| self.recorded.replicas != Some(news.1.replicas)).cloned() {
            let unseen_since = work.facts.lists.unseen_since(&gvkr, &workload.namespace, work.now);
            self.note_replicas_of(&workload, unseen_since, work);
        }
    }

    pub(super) fn note_replicas_of(
        &mut self,
        workload: &Workload,
        unseen_since: Option<UnixMillis>,
        work: &mut Work<'_>,
    ) {
        let to = workload.replicas;
        self.recorded.target_version = workload.version.map(|version| (workload.uid.clone(), version));
        let from = self.recorded.replicas.replace(to);
        if from == Some(to) {
            return;
        }
        self.await_pods(from, to, work);
        // A scale to zero leaves no trace in managedFields, since the field is omitted when it is 0. If a write of this
        // very number is in flight, the change was ours.
        let is_ours = self.scaling.as_ref().is_some_and(|scaling| scaling.to == to);
        // The write may have been carried out although its answer was lost.
        let scaled = self.recorded.scaled.is_some_and(|(at, count)| count == to && at.plus(WRITE_ECHOES) >= work.now);
        let manager = workload.replicas_manager.clone().or_else(|| is_ours.then(|| "hpalite".to_owned()));
        let was_put_to_zero = std::mem::take(&mut self.recorded.put_to_zero) && to == 0;
        // After another change, nobody will claim the previous one any more.
        self.attribute_to(Actor::Other, work);
        // The instance that leads scales to and from zero, and this one only watches.
        let is_at_zero = to == 0 || from == Some(0);
        let is_leader_s = work.facts.is_standby && is_at_zero && !self.spec.leaves_replicas();
        let by = match (manager, from, work.facts.hpa_of(self)) {
            (Some(manager), ..) => Some(Attribution::observed(manager)),
            (None, Some(_), _) if scaled || is_leader_s => Some(Attribution::inferred(Actor::Hpalite)),
            (None, None, _) if was_put_to_zero => Some(Attribution::inferred(Actor::Hpalite)),
            (None, None, _) | (None, _, None) => Some(Attribution::inferred(Actor::Other)),
            (None, _, Some(hpa)) if u32::try_from(hpa.desired_replicas) == Ok(to) => {
                Some(Attribution::inferred(Actor::Hpa))
            }
            (None, ..) => None,
        };
        let is_own = by.as_ref().is_some_and(|by| by.actor == Actor::Hpalite);
        self.recorded.put_to_zero = to == 0 && is_own && (self.spec.scales_to_zero || was_put_to_zero);
        if let (None, Some(from)) = (&by, from) {
            let due = work.now.plus(ATTRIBUTION_SETTLES);
            self.recorded.unattributed = Some(Unattributed { at: work.now, due, from, to });
            work.outbox.wake(&self.spec.key, due);
        }
        let absent = if from.is_some_and(|from| to < from) { self.absences() } else { Vec::new() };
        // The author is neither hpalite nor the HPA, which follows our metrics.
        let is_another_s = by.as_ref().is_some_and(|by| by.actor == Actor::Other);
        let (object, unseen_since) = (self.spec.key.clone(), from.and(unseen_since));
        work.outbox.record(Record::Replicas { at: work.now, object, from, to, by, absent, unseen_since });
        if !is_another_s {
            self.report_silence(from.unwrap_or(to), to, work);
        }
    }

    /// After a scale-out its pods start; a scale-in takes those first that are not ready.
    fn await_pods(&mut self, from: Option<u32>, to: u32, work: &Work<'_>) {
        let starting = &mut self.recorded.starting;
        starting.retain(|(at, count)| *count <= to && at.plus(STARTING_FOR) >= work.now);
        let ready = work.facts.workloads.get(&self.target_id).map(|found| found.1.ready);
        let is_start = from.is_some_and(|from| from < to) && ready.is_some_and(|ready| ready < to);
        if is_start && starting.len() < STARTING_MAX {
            starting.push((work.now, to));
        }
    }

    fn note_ready_of(&mut self, ready: u32, work: &mut Work<'_>) {
        let done = self.recorded.starting.iter().take_while(|(_, to)| *to <= ready).count();
        for (changed_at, to) in self.recorded.starting.drain(..done) {
            if changed_at.plus(STARTING_FOR) >= work.now {
                work.outbox.record(Record::Ready { at: work.now, object: self.spec.key.clone(), changed_at, to });
            }
        }
        if self.recorded.starting.is_empty() {
            self.recorded.starting = Vec::new();
        }
    }

    /// Attributes a change to the HPA if the HPA now reports the same desired replicas.
    pub(super) fn attribute_to_hpa(&mut self, desired: i32, work: &mut Work<'_>) {
        let waits = self.recorded.unattributed;
        if waits.is_some_and(|waits| u32::try_from(desired) == Ok(waits.to)) {
            self.attribute_to(Actor::Hpa, work);
        }
    }

    /// Attributes a change to others if the HPA did not claim it in time.
    pub(super) fn settle_attribution(&mut self, work: &mut Work<'_>) {
        let waits = self.recorded.unattributed;
        if waits.is_some_and(|waits| waits.due <= work.now) {
            self.attribute_to(Actor::Other, work);
        }
    }

    fn attribute_to(&mut self, actor: Actor, work: &mut Work<'_>) {
        let waits = self.recorded.unattributed.take();
        if let Some(Unattributed { at, from, to, .. }) = waits {
            let by = Attribution::inferred(actor);
            work.outbox.record(Record::Attributed { at, object: self.spec.key.clone(), from, to, by });
        }
    }

    /// Returns the metrics whose newest answers had no number and count as one.
    fn absences(&self) -> Vec<(Arc<str>, Absence)> {
        let triggers = self.polled_definition.iter().flat_map(|definition| &definition.triggers).zip(&self.triggers);
        let absences =
            triggers.filter_map(|(trigger, state)| Some((Arc::clone(&trigger.metric_name), state.absence()?.clone())));
        absences.collect()
    }
}
