//! The world: everything that is known, and what follows from each new fact.
//!
//! [`World::apply`] takes one event and returns the commands that it causes. It owns all live
//! state; it reads no clock and does no I/O. Work is level-triggered: every event marks the objects
//! it may concern, and a marked object is reconciled from scratch, so that nothing depends on the
//! order in which facts arrive.

mod authentications;
mod deletion;
mod intake;
mod lists;
mod ownership;
mod pods;
mod reconcile;
mod replicas;
mod rounds;
mod silence;
mod troubles;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use super::event::{Command, Event, KubeEvent, ObjectReference, Record, RestoredState, WriteKind};
use super::hpa::ObservedHpa;
use super::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, Gvkr, ObjectKey, ScaledObject, Source, TargetRef,
    UnixMillis, Workload,
};
use super::object::{Object, TargetId, api_version};
use super::schedule::Schedule;
use super::view::ObjectView;
use lists::ListTracker;

/// What the world must know of its surroundings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Workers that ask metric servers.
    pub poll_threads: usize,
    /// Writes to the API server under way at once. More waiting writes only hide which object is
    /// stuck; 32 keep a handful of writer threads busy.
    pub writes_max: usize,
    /// Of triggers that have no timeout of their own.
    pub query_timeout: Duration,
    /// Endpoints of Services of other namespaces may be asked.
    pub cross_namespace_services: bool,
    /// Own version, a label on every HPA.
    pub version: String,
    /// Watched namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Spreads retries.
    pub seed: u64,
}

/// All live state.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    objects: BTreeMap<ObjectKey, Object>,
    by_target: HashMap<TargetId, BTreeSet<ObjectKey>>,
    /// By namespace and wanted name of the HPA.
    by_hpa_name: HashMap<(String, String), BTreeSet<ObjectKey>>,
    /// By namespace and name.
    hpas: BTreeMap<(String, String), ObservedHpa>,
    hpas_by_target: HashMap<TargetId, BTreeSet<String>>,
    /// Uid of the controller to the names of its HPAs.
    hpas_by_owner: HashMap<String, BTreeSet<String>>,
    /// Uids of HPAs that went lately: an answer or a picture of one that comes late is of no use.
    gone_hpas: VecDeque<String>,
    /// By kind, namespace and name; only the watched kinds.
    workloads: HashMap<(Gvkr, String, String), Workload>,
    authentications: BTreeMap<AuthenticationKey, Authentication>,
    by_authentication: BTreeMap<AuthenticationKey, BTreeSet<ObjectKey>>,
    authentication_writes: HashMap<u64, AuthenticationWrite>,
    /// Those that no watch has shown and that are being read.
    authentication_reads: BTreeMap<AuthenticationKey, authentications::Read>,
    /// Failed writes to authentications: when again, and how often in a row it failed.
    authentication_retries: BTreeMap<AuthenticationKey, (Option<UnixMillis>, u32)>,
    /// Some authentication's write found no free place.
    authentications_starved: bool,
    lists: Lists,
    pods: pods::Pods,
    schedule: Schedule,
    /// When the silence of an object's trigger becomes an error.
    silences: Calendar,
    /// What happened last happened then.
    now: UnixMillis,
    /// The process stood still until then; what was asked before is asked again.
    woke_at: Option<UnixMillis>,
    wakes: BTreeSet<(UnixMillis, ObjectKey)>,
    dirty: BTreeSet<ObjectKey>,
    writes_in_flight: usize,
    /// Objects whose write found no free place.
    starved: VecDeque<ObjectKey>,
    restored: HashMap<ObjectKey, RestoredState>,
    next_write: u64,
    random: u64,
    /// Another instance may be acting: facts are taken in, nothing follows from them.
    is_standby: bool,
    out: Vec<Command>,
}

/// A write to an authentication that is under way.
#[derive(Debug)]
struct AuthenticationWrite {
    key: AuthenticationKey,
    kind: WriteKind,
    /// Of the picture that it was decided on.
    resource_version: String,
}

#[derive(Debug)]
struct Lists {
    objects: BTreeMap<ApiGroup, ListTracker>,
    hpas: ListTracker,
    workloads: BTreeMap<Gvkr, ListTracker>,
    authentications: BTreeMap<(ApiGroup, AuthenticationKind), ListTracker>,
}

/// Kinds whose objects are watched rather than read one by one.
#[must_use]
pub fn watched_workloads() -> [Gvkr; 2] {
    [("Deployment", "deployments"), ("StatefulSet", "statefulsets")].map(|(kind, resource)| Gvkr {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        resource: resource.to_owned(),
    })
}

/// The watched kind that a target is of, if it is of one.
fn watched_kind(target: &TargetRef) -> Option<Gvkr> {
    watched_workloads().into_iter().find(|gvkr| gvkr.kind == target.kind && gvkr.api_version() == target.api_version)
}

impl World {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let namespaces = &settings.namespaces;
        let new = || ListTracker::new(namespaces);
        let groups = [ApiGroup::KedaSh, ApiGroup::KedaK8sIo];
        let mut authentications = BTreeMap::new();
        for group in groups {
            authentications.insert((group, AuthenticationKind::TriggerAuthentication), new());
        }
        let cluster = (ApiGroup::KedaSh, AuthenticationKind::ClusterTriggerAuthentication);
        authentications.insert(cluster, ListTracker::cluster_scoped());
        let lists = Lists {
            objects: groups.into_iter().map(|group| (group, new())).collect(),
            hpas: new(),
            workloads: watched_workloads().into_iter().map(|gvkr| (gvkr, new())).collect(),
            authentications,
        };
        Self {
            schedule: Schedule::new(settings.poll_threads),
            random: settings.seed | 1,
            settings,
            objects: BTreeMap::new(),
            by_target: HashMap::new(),
            by_hpa_name: HashMap::new(),
            hpas: BTreeMap::new(),
            hpas_by_target: HashMap::new(),
            hpas_by_owner: HashMap::new(),
            gone_hpas: VecDeque::new(),
            workloads: HashMap::new(),
            authentications: BTreeMap::new(),
            by_authentication: BTreeMap::new(),
            authentication_writes: HashMap::new(),
            authentication_reads: BTreeMap::new(),
            authentication_retries: BTreeMap::new(),
            authentications_starved: false,
            lists,
            pods: pods::Pods::default(),
            silences: Calendar::default(),
            now: UnixMillis::default(),
            woke_at: None,
            wakes: BTreeSet::new(),
            dirty: BTreeSet::new(),
            writes_in_flight: 0,
            starved: VecDeque::new(),
            restored: HashMap::new(),
            next_write: 1,
            is_standby: false,
            out: Vec::new(),
        }
    }

    /// Only watches until [`Event::Leading`]: another instance acts. To be called before the first event.
    pub fn stand_by(&mut self) {
        self.is_standby = true;
    }

    /// Everything that was held back is due at once.
    fn lead(&mut self, now: UnixMillis) {
        self.is_standby = false;
        self.dirty.extend(self.objects.keys().cloned());
        self.sync_all_authentications(now);
    }

    /// Takes in one event and returns what must be done because of it.
    pub fn apply(&mut self, event: Event, now: UnixMillis) -> Vec<Command> {
        self.wake_up(now);
        self.take_in(event, now);
        self.take_silence(now);
        while self.wakes.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.wakes.pop_first() {
                self.dirty.insert(key);
            }
        }
        self.retry_authentications(now);
        loop {
            while let Some(key) = self.dirty.pop_first() {
                self.reconcile(&key, now);
            }
            // Only now, so that no round starts for an object that the news has stopped.
            self.start_due_rounds(now);
            if self.dirty.is_empty() && !self.feed_starved(now) {
                break;
            }
        }
        let jobs = self.schedule.dispatch(now);
        self.out.extend(jobs.into_iter().map(Command::Poll));
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        let retry = self.authentication_retries.values().filter_map(|(at, _)| *at);
        [wake, self.schedule.next_due(), self.silences.next(), retry.min()].into_iter().flatten().min()
    }

    /// Gives a free place among the writes to the next in the queue; true when it must be looked at.
    fn feed_starved(&mut self, now: UnixMillis) -> bool {
        while self.writes_in_flight < self.settings.writes_max {
            if let Some(key) = self.starved.pop_front() {
                if let Some(object) = self.objects.get_mut(&key) {
                    object.is_starved = false;
                }
                self.dirty.insert(key);
                return true;
            }
            if !std::mem::take(&mut self.authentications_starved) {
                return false;
            }
            self.sync_all_authentications(now);
        }
        false
    }

    /// The wall clock was stepped by this much: whatever was planned moves along, so that neither a
    /// leap ends every cooldown nor a step back stops all polling. `now` is what the clock says after it.
    pub fn shift_clock(&mut self, milliseconds: i64, now: UnixMillis) {
        let shift = |at: UnixMillis| UnixMillis(at.0.saturating_add(milliseconds));
        self.schedule.shift(milliseconds);
        self.silences.shift(milliseconds);
        self.now = shift(self.now);
        self.woke_at = self.woke_at.map(shift);
        self.wakes = std::mem::take(&mut self.wakes).into_iter().map(|(at, key)| (shift(at), key)).collect();
        for (at, _) in self.authentication_retries.values_mut() {
            *at = at.map(shift);
        }
        for object in self.objects.values_mut() {
            for at in [
                &mut object.last_active_at,
                &mut object.recorded_active_at,
                &mut object.status_dirty_since,
                &mut object.target_retry_at,
            ] {
                *at = at.map(shift);
            }
            object.rhythm = super::rhythm::Rhythm::default();
            if let Some((at, _)) = &mut object.recorded.scaled {
                *at = shift(*at);
            }
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
        // Windows go by the wall clock itself: whether they are open, and until when, is another matter now.
        let by_clock = self.objects.iter().filter(|(_, object)| {
            let definition = object.loop_definition.as_deref();
            definition.is_some_and(|d| d.triggers.iter().any(|trigger| matches!(trigger.source, Source::Cron(_))))
        });
        for (key, _) in by_clock {
            self.schedule.plan(key, now);
        }
    }

    /// Everything that reads need has been listed once: the process can serve.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.lists.hpas.is_complete() && self.lists.objects.values().any(ListTracker::is_complete)
    }

    /// Objects known, objects that are good, questions waiting, questions in flight.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (polls_waiting, polls_in_flight) = self.schedule.load();
        Counts {
            objects: self.objects.len(),
            ready: self.objects.values().filter(|object| object.verdict == super::object::Verdict::Good).count(),
            polls_waiting,
            polls_in_flight,
            writes_in_flight: self.writes_in_flight,
            writes_starved: self.starved.len(),
        }
    }

    /// Authentications known, by namespace.
    #[must_use]
    pub fn registered(&self) -> Registered {
        let mut registered = Registered::default();
        for key in self.authentications.keys() {
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

    fn wake(&mut self, key: &ObjectKey, at: UnixMillis) {
        self.wakes.insert((at, key.clone()));
    }

    fn record(&mut self, record: Record) {
        self.out.push(Command::Record(record));
    }

    /// A Kubernetes Event on the object.
    fn emit(&mut self, key: &ObjectKey, warning: bool, reason: &'static str, action: &'static str, note: String) {
        if let Some(object) = self.objects.get(key) {
            let regarding = reference(&object.spec);
            self.out.push(Command::Emit(KubeEvent { regarding, warning, reason, action, note }));
        }
    }

    /// Publishes the object's picture if it changed.
    fn publish(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let limit = object.age_limit(self.settings.query_timeout);
        // As long as nothing else changed it is as old as it is.
        let made_at = object.published.as_ref().map_or(self.now, |view| view.made_at);
        let view = object.view(limit, made_at);
        if object.published.as_deref() != Some(&view) {
            let view = Arc::new(ObjectView { made_at: self.now, ..view });
            object.published = Some(Arc::clone(&view));
            self.out.push(Command::Publish(key.clone(), Some(view)));
        }
    }

    /// Doubling from `base`, at most `max`, spread by a fifth either way so that objects that
    /// failed together do not come back together.
    fn backoff(&mut self, failures: u32, base: Duration, max: Duration) -> Duration {
        // Xorshift64: spreading needs no better randomness.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let wait = base.saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX)).min(max);
        wait * u32::try_from(80 + self.random % 41).unwrap_or(100) / 100
    }
}

/// Authentications that the world knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub trigger_authentications: BTreeMap<String, u64>,
    pub cluster_trigger_authentications: u64,
}

/// Load of the world, for its own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub objects: usize,
    pub ready: usize,
    pub polls_waiting: usize,
    pub polls_in_flight: usize,
    pub writes_in_flight: usize,
    pub writes_starved: usize,
}

fn reference(object: &ScaledObject) -> ObjectReference {
    ObjectReference {
        api_version: api_version(&object.key),
        kind: "ScaledObject",
        namespace: object.key.namespace.to_string(),
        name: object.key.name.to_string(),
        uid: object.uid.clone(),
        resource_version: object.resource_version.clone(),
    }
}

#[cfg(test)]
mod tests;
