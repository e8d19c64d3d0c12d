//! The world: everything that is known, and what follows from each new fact.
//!
//! [`World::apply`] takes one event and returns the commands that it causes. It owns all live state; it reads no clock
//! and does no I/O. Work is level-triggered: each event marks the objects that it may concern, and a marked object is
//! reconciled from scratch, so that nothing depends on the order in which facts arrive.

mod authentications;
mod deletion;
mod ingest;
mod lists;
mod observed;
mod ownership;
mod pods;
mod poll_cycle;
mod reconcile;
mod renewal;
mod replicas;
mod selections;
mod silence;
mod targets;
mod troubles;
mod work;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::event::{Command, Event, Interruption, KubeEvent, ObjectReference, Record, RestoredState, WriteKind};
use super::model::{
    ApiGroup, AuthenticationKey, AuthenticationKind, Gvkr, ObjectKey, ScaledObject, TargetRef, Trigger, UnixMillis,
};
use super::object::{Object, api_version};
use super::schedule::{Limits, Schedule};
use super::view::ObjectView;
use lists::ListTracker;
use selections::Selections;
use work::{Facts, Objects, Outbox, Work};

/// What the world must know of its environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Polls in flight at most.
    pub poll_threads: usize,
    /// The limits of each metric server.
    pub server_limits: Limits,
    /// Whether queries that one query can answer are asked as one.
    pub groups_queries: bool,
    /// Writes to the API server in flight. More would only hide which object is stuck; 32 are enough for a handful of
    /// writer threads.
    pub writes_max: usize,
    /// Timeout of queries whose trigger has none of its own.
    pub query_timeout: Duration,
    /// Triggers may query the endpoints of Services of other namespaces.
    pub cross_namespace_services: bool,
    /// The version of this program, which becomes a label on every HPA.
    pub version: String,
    /// Every object is a shadow: nothing is written to the API server.
    pub is_shadow: bool,
    /// Watched namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Objects are chosen by their labels, so that others may exist that are not seen.
    pub selects_objects: bool,
    /// Seed of the jitter of retries.
    pub seed: u64,
}

/// All live state.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    objects: Objects,
    facts: Facts,
    pods: Selections,
    schedule: Schedule,
    outbox: Outbox,
    authentication_writes: HashMap<u64, AuthenticationWrite>,
    /// Failed writes to authentications: when to try again, and how often in a row they failed.
    authentication_retries: BTreeMap<AuthenticationKey, (Option<UnixMillis>, u32)>,
    /// Authentications that may need a write.
    unsynced: BTreeSet<AuthenticationKey>,
    /// Time of the newest event.
    now: UnixMillis,
    /// When the process went on after it had stood still. Polls that were sent before are repeated.
    woke_at: Option<UnixMillis>,
    restored: HashMap<ObjectKey, RestoredState>,
    /// Objects of which the history has nothing yet, since it goes on in another file.
    unrecorded: BTreeSet<ObjectKey>,
}

/// A write to an authentication that is in flight.
#[derive(Debug)]
struct AuthenticationWrite {
    key: AuthenticationKey,
    kind: WriteKind,
    /// The version of the authentication that the write was decided on.
    resource_version: String,
}

/// The reason by which kube-metrics-adapter, too, reports annotations that it cannot use.
const NO_COLLECTOR: &str = "CreateNewMetricsCollector";

/// Kinds whose objects are watched and not read one by one.
#[must_use]
pub fn watched_workloads() -> [Gvkr; 2] {
    [("Deployment", "deployments"), ("StatefulSet", "statefulsets")].map(|(kind, resource)| Gvkr {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        resource: resource.to_owned(),
    })
}

/// [`watched_workloads`], for all workloads and objects that have one of them to share.
static WATCHED: LazyLock<[Arc<Gvkr>; 2]> = LazyLock::new(|| watched_workloads().map(Arc::new));

/// The kind of a target, if it is a watched one.
fn watched_kind(target: &TargetRef) -> Option<&'static Arc<Gvkr>> {
    let (group, version) = target.api_version.split_once('/')?;
    WATCHED.iter().find(|gvkr| gvkr.kind == target.kind && gvkr.group == group && gvkr.version == version)
}

impl World {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            objects: Objects::default(),
            facts: Facts::new(&settings.namespaces),
            pods: Selections::default(),
            schedule: Schedule::new(settings.poll_threads, settings.server_limits, settings.groups_queries),
            outbox: Outbox::new(settings.seed),
            settings,
            authentication_writes: HashMap::new(),
            authentication_retries: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            now: UnixMillis::default(),
            woke_at: None,
            restored: HashMap::new(),
            unrecorded: BTreeSet::new(),
        }
    }

    /// Only watches until [`Event::Leading`], since another instance holds the lease. To be called before the first
    /// event.
    pub fn stand_by(&mut self) {
        self.facts.is_standby = true;
        self.outbox.record(Record::Standby { until: None, was_alone: false });
    }

    /// Starts everything that was held back.
    fn lead(&mut self, was_alone: bool, now: UnixMillis) {
        let stood_by = std::mem::replace(&mut self.facts.is_standby, false);
        if stood_by {
            self.outbox.record(Record::Standby { until: Some(now), was_alone });
        }
        for object in self.objects.values_mut() {
            if stood_by {
                // The other instance has reported what happened meanwhile.
                object.recorded.adopt(&object.spec.status);
                object.was_active = object.is_active_in_status();
            }
            // The other instance may have written later activity.
            object.last_active_at = object.last_active_at.max(object.spec.status.last_active_at_most()).min(Some(now));
        }
        self.outbox.dirty.extend(self.objects.keys().into_iter().cloned());
        self.mark_all_authentications();
    }

    /// Takes one event and returns the commands that follow from it.
    pub fn apply(&mut self, event: Event, now: UnixMillis) -> Vec<Command> {
        self.wake_up(now);
        self.ingest(event, now);
        self.take_silence(now);
        self.outbox.owners.clear();
        self.mark_crowds(now);
        while self.outbox.wakes.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.outbox.wakes.pop_first() {
                self.outbox.dirty.insert(key);
            }
        }
        self.retry_authentications(now);
        loop {
            while let Some(key) = self.outbox.dirty.pop_first() {
                self.with(&key, |object, work| object.reconcile(work));
            }
            // Poll cycles start after reconciliation, so that none starts for an object that the event has stopped.
            self.start_due_poll_cycles(now);
            if self.outbox.dirty.is_empty() && !self.feed_starved() {
                break;
            }
        }
        self.sync_authentications(now);
        let jobs = self.schedule.dispatch(now);
        self.outbox.commands.extend(jobs.into_iter().map(Command::Poll));
        self.outbox.commands.extend(self.schedule.take_turns().into_iter().map(Command::Turn));
        std::mem::take(&mut self.outbox.commands)
    }

    /// Returns when [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        let wake = self.outbox.wakes.first().map(|(at, _)| *at);
        let crowd = self.outbox.crowds.first().map(|(at, _)| *at);
        let retry = self.authentication_retries.values().filter_map(|(at, _)| *at);
        [wake, crowd, self.schedule.next_due(), self.outbox.silences.next(), retry.min()].into_iter().flatten().min()
    }

    /// Lets the next object that waits for a write go on if there is room. Returns true if it must be reconciled.
    fn feed_starved(&mut self) -> bool {
        if self.outbox.writes_in_flight >= self.settings.writes_max {
            return false;
        }
        let Some(key) = self.outbox.starved.pop_front() else { return false };
        if let Some(object) = self.objects.get_mut(&key) {
            object.is_starved = false;
        }
        self.outbox.dirty.insert(key);
        true
    }

    /// Moves everything that is planned along with a step of the wall clock, so that a step forward ends no cooldown
    /// and a step back stops no polling. `now` is the time after the step.
    pub fn shift_clock(&mut self, milliseconds: i64, now: UnixMillis) {
        let shift = |at: UnixMillis| UnixMillis(at.0.saturating_add(milliseconds));
        let before = UnixMillis(now.0.saturating_sub(milliseconds));
        let kind = if milliseconds > 0 { Interruption::ClockForward } else { Interruption::ClockBack };
        self.outbox.record(Record::Interrupted { kind, from: before.min(now), until: before.max(now) });
        self.schedule.shift(milliseconds);
        self.facts.lists.shift(shift);
        self.outbox.silences.shift(milliseconds);
        self.now = shift(self.now);
        self.woke_at = self.woke_at.map(shift);
        self.outbox.wakes =
            std::mem::take(&mut self.outbox.wakes).into_iter().map(|(at, key)| (shift(at), key)).collect();
        self.outbox.crowds =
            std::mem::take(&mut self.outbox.crowds).into_iter().map(|(at, target)| (shift(at), target)).collect();
        for (at, _) in self.authentication_retries.values_mut() {
            *at = at.map(shift);
        }
        for object in self.objects.values_mut() {
            // What is served names the time that it is from, which would be young again after a step back.
            object.published = None;
            object.composed_at = shift(object.composed_at);
            for at in [
                &mut object.last_active_at,
                &mut object.recorded_active_at,
                &mut object.status_dirty_since,
                &mut object.target_retry_at,
                &mut object.target_read_at,
            ] {
                *at = at.map(shift);
            }
            if let Some(correction) = &mut object.hpa_correction {
                correction.next_at = shift(correction.next_at);
            }
            object.cadence = super::read_cadence::ReadCadence::default();
            if let Some(observed) = &mut object.spec.observed {
                observed.shift(shift);
            }
            if let Some((at, _)) = &mut object.recorded.scaled {
                *at = shift(*at);
            }
            object.recorded.stand_ins_paid_at = object.recorded.stand_ins_paid_at.map(shift);
            // Nobody knows how much of the step the pods' start has taken.
            object.recorded.starting.clear();
            if let Some(waits) = &mut object.recorded.unattributed {
                waits.due = shift(waits.due);
            }
            for trigger in &mut object.triggers {
                trigger.shift(milliseconds);
            }
            if let Some(composite) = &mut object.composite {
                composite.shift(milliseconds);
            }
            object.troubles.shift(milliseconds);
            for slot in
                [&mut object.slots.claim, &mut object.slots.status, &mut object.slots.hpa, &mut object.slots.scale]
            {
                slot.retry_at = slot.retry_at.map(shift);
            }
        }
        // Cron windows follow the wall clock, so whether they are open may have changed.
        let by_clock = self.objects.iter().filter(|(_, object)| {
            let definition = object.polled_definition.as_deref();
            definition.is_some_and(|d| d.triggers.iter().any(Trigger::is_computed))
        });
        for (key, _) in by_clock {
            self.schedule.plan(key, now);
        }
        // So do pauses with an end, and all is served anew.
        self.outbox.wakes.extend(self.objects.keys().into_iter().map(|key| (now, key.clone())));
    }

    /// Everything that metric reads depend on has been listed once, so the process can serve.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.facts.lists.hpas.is_complete()
            && ApiGroup::ALL
                .iter()
                .any(|group| self.facts.lists.objects.get(group).is_some_and(ListTracker::is_complete))
    }

    /// The load of the world.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (polls_waiting, polls_in_flight) = self.schedule.load();
        let observed = self.objects.values().filter(|object| object.spec.observed.is_some()).count();
        let is_annotated = |object: &Object| object.spec.is_hpa() && object.spec.observed.is_none();
        let annotated = self.objects.values().filter(|object| is_annotated(object)).count();
        let is_good = |object: &Object| object.verdict == super::object::Verdict::Good;
        Counts {
            objects: self.objects.len() - annotated - observed,
            ready: self.objects.values().filter(|object| is_good(object) && !object.spec.is_hpa()).count(),
            annotated_hpas: annotated,
            annotated_hpas_ready: self
                .objects
                .values()
                .filter(|object| is_good(object) && is_annotated(object))
                .count(),
            observed_hpas: observed,
            polls_waiting,
            polls_in_flight,
            writes_in_flight: self.outbox.writes_in_flight,
            writes_starved: self.outbox.starved.len(),
        }
    }

    /// Returns the number of known authentications by namespace.
    #[must_use]
    pub fn registered(&self) -> Registered {
        let mut registered = Registered::default();
        for key in self.facts.authentications.keys() {
            match key.kind {
                AuthenticationKind::TriggerAuthentication => {
                    match registered.trigger_authentications.get_mut(&key.namespace) {
                        Some(count) => *count += 1,
                        None => drop(registered.trigger_authentications.insert(key.namespace.clone(), 1)),
                    }
                }
                AuthenticationKind::ClusterTriggerAuthentication => registered.cluster_trigger_authentications += 1,
            }
        }
        registered
    }

    /// Gives an object its turn; does nothing if it no longer exists.
    fn with<R: Default>(&mut self, key: &ObjectKey, turn: impl FnOnce(&mut Object, &mut Work<'_>) -> R) -> R {
        let Some((place, mut object)) = self.objects.take(key) else {
            return R::default();
        };
        let mut work = Work {
            settings: &self.settings,
            facts: &self.facts,
            others: &self.objects,
            pods: &mut self.pods,
            schedule: &mut self.schedule,
            outbox: &mut self.outbox,
            now: self.now,
        };
        let result = turn(&mut object, &mut work);
        self.objects.put_back(place, object);
        result
    }
}

impl Object {
    /// Publishes the object's view if it changed.
    fn publish(&mut self, work: &mut Work<'_>) {
        let limit = self.age_limit(work.settings.query_timeout);
        // The time alone is no change.
        let made_at = self.published.as_ref().map_or(work.now, |view| view.made_at);
        let view = self.view(limit, made_at);
        if self.published.as_deref() != Some(&view) {
            let view = Arc::new(ObjectView { made_at: work.now, ..view });
            self.published = Some(Arc::clone(&view));
            work.outbox.push(Command::Publish(self.spec.key.clone(), Some(view)));
        }
    }

    fn emit_normal(&self, reason: &'static str, action: &'static str, note: impl Into<String>, work: &mut Work<'_>) {
        self.emit(KubeEvent::normal(self.reference(), reason, action, note), work);
    }

    fn emit_warning(&self, reason: &'static str, action: &'static str, note: impl Into<String>, work: &mut Work<'_>) {
        self.emit(KubeEvent::warning(self.reference(), reason, action, note), work);
    }

    /// A shadow emits nothing, since Kubernetes Events are objects too, and would be taken for the owner's. An HPA says
    /// by itself that a metric fails, and that it scales; about it only what it cannot know is reported.
    fn emit(&self, event: KubeEvent, work: &mut Work<'_>) {
        let is_of_hpa = !self.spec.is_hpa() || event.reason == NO_COLLECTOR;
        if !self.spec.is_shadow && is_of_hpa {
            work.outbox.push(Command::Emit(event));
        }
    }

    /// The reference to this object in a Kubernetes Event.
    fn reference(&self) -> ObjectReference {
        let ScaledObject { key, uid, resource_version, .. } = &self.spec;
        ObjectReference {
            api_version: api_version(key),
            kind: if self.spec.is_hpa() { "HorizontalPodAutoscaler" } else { "ScaledObject" },
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: uid.clone(),
            resource_version: resource_version.clone(),
        }
    }
}

/// Numbers of known authentications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub trigger_authentications: BTreeMap<String, u64>,
    pub cluster_trigger_authentications: u64,
}

/// The load of the world, for its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// ScaledObjects.
    pub objects: usize,
    pub ready: usize,
    pub annotated_hpas: usize,
    pub annotated_hpas_ready: usize,
    pub observed_hpas: usize,
    pub polls_waiting: usize,
    pub polls_in_flight: usize,
    pub writes_in_flight: usize,
    pub writes_starved: usize,
}

#[cfg(test)]
mod tests;
