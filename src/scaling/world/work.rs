//! What one object works with during its turn: facts to read, and an outbox for the effects.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::Settings;
use super::lists::{ListTracker, Lists};
use super::selections::Selections;
use crate::random::Random;
use crate::scaling::calendar::Calendar;
use crate::scaling::event::{Command, Record};
use crate::scaling::hpa::{HpaId, ObservedHpa, Owner, is_controlled_by};
use crate::scaling::model::{
    ApiGroup, Asked, Authentication, AuthenticationKey, Gvkr, ObjectKey, Pause, UnixMillis, Workload,
};
use crate::scaling::object::Object;
use crate::scaling::schedule::Schedule;
use crate::scaling::target::{Target, TargetId};

/// What still fails after so many attempts is said on the object.
pub(super) const WRITE_TRIES: u32 = 3;

/// All objects, with their indexes.
#[derive(Debug, Default)]
pub(super) struct Objects {
    places: HashMap<ObjectKey, usize>,
    /// `None` for a free place, and for the object whose turn it is.
    objects: Vec<Option<Box<Object>>>,
    free: Vec<usize>,
    pub(super) by_target: Index<TargetId, ObjectKey>,
    /// By namespace and desired name of the HPA.
    pub(super) by_hpa_name: Index<HpaId, ObjectKey>,
    pub(super) by_authentication: Index<AuthenticationKey, ObjectKey>,
    /// Annotated HPAs, by namespace and the metrics that they ask for.
    pub(super) by_asked: Index<(Arc<str>, Asked), (UnixMillis, ObjectKey)>,
}

/// Values by key, sorted for each key, which nearly always has one: a B-tree would take half a kilobyte for that.
#[derive(Debug)]
pub(super) struct Index<K, V>(HashMap<K, Vec<V>>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V: Ord> Index<K, V> {
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> &[V]
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let values = self.0.entry(key).or_default();
        if let Err(at) = values.binary_search(&value) {
            if values.is_empty() {
                values.reserve_exact(1);
            }
            values.insert(at, value);
        }
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &[V])> {
        self.0.iter().map(|(key, values)| (key, values.as_slice()))
    }

    /// Removes a value, and its key with the last value.
    pub(super) fn remove(&mut self, key: &K, value: &V) {
        let Some(values) = self.0.get_mut(key) else { return };
        if let Ok(at) = values.binary_search(value) {
            values.remove(at);
        }
        if values.is_empty() {
            self.0.remove(key);
        }
    }
}

impl Objects {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(*self.places.get(key)?)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut Object> {
        self.objects.get_mut(*self.places.get(key)?)?.as_deref_mut()
    }

    /// Removes an object for its turn; [`Self::put_back`] ends it.
    pub(super) fn take(&mut self, key: &ObjectKey) -> Option<(usize, Box<Object>)> {
        let place = *self.places.get(key)?;
        Some((place, self.objects.get_mut(place)?.take()?))
    }

    pub(super) fn put_back(&mut self, place: usize, object: Box<Object>) {
        if let Some(empty) = self.objects.get_mut(place) {
            *empty = Some(object);
        }
    }

    pub(super) fn insert(&mut self, key: ObjectKey, object: Object) {
        let object = Some(Box::new(object));
        let place = match self.free.pop() {
            Some(place) => {
                self.objects[place] = object;
                place
            }
            None => {
                self.objects.push(object);
                self.objects.len() - 1
            }
        };
        self.places.insert(key, place);
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Box<Object>> {
        let place = self.places.remove(key)?;
        self.free.push(place);
        self.objects.get_mut(place)?.take()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All keys, sorted.
    pub(super) fn keys(&self) -> Vec<&ObjectKey> {
        let mut keys: Vec<&ObjectKey> = self.places.keys().collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter_map(Option::as_deref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Object> {
        self.objects.iter_mut().filter_map(Option::as_deref_mut)
    }

    /// All objects, sorted by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.keys().into_iter().filter_map(|key| Some((key, self.get(key)?)))
    }
}

#[cfg(test)]
impl std::ops::Index<&ObjectKey> for Objects {
    type Output = Object;

    fn index(&self, key: &ObjectKey) -> &Object {
        self.get(key).unwrap()
    }
}

/// What is known of the cluster beside the ScaledObjects. It does not change during the turn of an object.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) hpas: BTreeMap<HpaId, Box<ObservedHpa>>,
    pub(super) hpas_by_target: Index<TargetId, String>,
    /// Uid of the controller to the names of its HPAs.
    pub(super) hpas_by_owner: Index<String, String>,
    /// Uids of HPAs that were deleted lately, so that late answers and events about them are ignored, with the number of the
    /// next write at that time.
    pub(super) gone_hpas: VecDeque<(String, u64)>,
    /// Workloads of the watched kinds.
    pub(super) workloads: HashMap<TargetId, (Arc<Gvkr>, Arc<Workload>)>,
    pub(super) authentications: BTreeMap<AuthenticationKey, Authentication>,
    /// The pauses of Namespaces by their names; of Namespaces without one nothing is kept.
    pub(super) pauses: BTreeMap<String, Pause>,
    pub(super) lists: Lists,
    /// API groups that the API server does not have.
    pub(super) absent: BTreeSet<ApiGroup>,
    /// Another instance may hold the lease: facts are taken in, but nothing follows from them.
    pub(super) is_standby: bool,
}

impl Facts {
    pub(super) fn new(namespaces: &[String]) -> Self {
        Self {
            hpas: BTreeMap::new(),
            hpas_by_target: Index::default(),
            hpas_by_owner: Index::default(),
            gone_hpas: VecDeque::new(),
            workloads: HashMap::new(),
            authentications: BTreeMap::new(),
            pauses: BTreeMap::new(),
            lists: Lists::new(namespaces),
            absent: BTreeSet::new(),
            is_standby: false,
        }
    }

    /// Returns the HPA that this object controls: the one with the desired name, else any. Of an annotated HPA, itself.
    pub(super) fn hpa_of(&self, object: &Object) -> Option<&ObservedHpa> {
        if object.spec.is_hpa() {
            let id = HpaId::new(&object.spec.key.namespace, &object.spec.key.name);
            return self.hpas.get(&id).map(|hpa| &**hpa).filter(|hpa| hpa.uid == object.spec.uid);
        }
        let wanted = object.definition().map(|definition| definition.hpa_name.as_str());
        self.hpas_of(object).min_by_key(|hpa| wanted != Some(hpa.name.as_str()))
    }

    /// Returns an HPA of this object with another name than the desired one.
    pub(super) fn misnamed_hpa(&self, object: &Object) -> Option<&ObservedHpa> {
        let wanted = object.definition()?.hpa_name.as_str();
        self.hpas_of(object).find(|hpa| hpa.name != wanted)
    }

    /// Returns the target as its watch shows it.
    pub(super) fn shown_target(&self, object: &Object) -> Option<Target> {
        let (gvkr, workload) = self.watched_target(object)?.clone();
        Some(Target::Found { gvkr, workload })
    }

    pub(super) fn watched_target(&self, object: &Object) -> Option<&(Arc<Gvkr>, Arc<Workload>)> {
        let (_, version) = object.spec.target.api_version.rsplit_once('/')?;
        self.workloads.get(&object.target_id).filter(|(gvkr, _)| gvkr.version == version)
    }

    /// Nothing is decided before the lists are complete, nor while another instance may hold the lease.
    pub(super) fn may_decide(&self, group: ApiGroup) -> bool {
        !self.is_standby
            && self.lists.hpas.is_complete()
            && self.lists.namespaces.is_complete()
            && self.lists.objects.get(&group).is_some_and(ListTracker::is_complete)
    }

    /// The HPAs that this ScaledObject controls.
    pub(super) fn hpas_of(&self, object: &Object) -> impl Iterator<Item = &ObservedHpa> + use<'_> {
        let me = Owner::of(&object.spec);
        let names = self.hpas_by_owner.get(&object.spec.uid);
        let namespace = Arc::clone(&object.spec.key.namespace);
        names
            .iter()
            .filter_map(move |name| Some(&**self.hpas.get(&HpaId::new(&namespace, name))?))
            .filter(move |hpa| is_controlled_by(hpa, &me))
    }
}

/// An authentication that no watch has shown and that is being read.
#[derive(Debug, Default)]
pub(super) struct AuthenticationLookup {
    /// Triggers that are polled, or fail, when the read ends.
    pub(super) waiting: BTreeSet<(ObjectKey, u16)>,
    /// The watch reported its deletion since the read was sent, so the answer may be out of date.
    pub(super) is_old: bool,
}

/// What follows from an event: commands to carry out, and objects to reconcile, now or later.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) commands: Vec<Command>,
    /// Objects to be reconciled at some time.
    pub(super) wakes: BTreeSet<(UnixMillis, ObjectKey)>,
    /// Objects to be reconciled now.
    pub(super) dirty: BTreeSet<ObjectKey>,
    /// Targets of many objects, and when those that do not own it are reconciled.
    pub(super) crowds: BTreeSet<(UnixMillis, TargetId)>,
    /// Who owns a target, as found since the last event.
    pub(super) owners: HashMap<TargetId, Option<ObjectKey>>,
    /// When the missing answer of an object's trigger becomes an error.
    pub(super) silences: Calendar,
    pub(super) writes_in_flight: usize,
    pub(super) next_write: u64,
    /// Objects whose write waits until fewer writes are in flight.
    pub(super) starved: VecDeque<ObjectKey>,
    /// Reads under way of authentications that no watch has shown.
    pub(super) authentication_reads: BTreeMap<AuthenticationKey, AuthenticationLookup>,
    random: Random,
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            commands: Vec::new(),
            wakes: BTreeSet::new(),
            dirty: BTreeSet::new(),
            crowds: BTreeSet::new(),
            owners: HashMap::new(),
            silences: Calendar::default(),
            writes_in_flight: 0,
            next_write: 1,
            starved: VecDeque::new(),
            authentication_reads: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    pub(super) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(super) fn record(&mut self, record: Record) {
        self.commands.push(Command::Record(record));
    }

    pub(super) fn wake(&mut self, key: &ObjectKey, at: UnixMillis) {
        self.wakes.insert((at, key.clone()));
    }

    /// Doubles from `base` up to `max`, with a jitter of 20 % so that objects that failed together are not retried
    /// together.
    pub(super) fn backoff(&mut self, failures: u32, base: Duration, max: Duration) -> Duration {
        let wait = base.saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX)).min(max);
        wait * self.random.between(80, 120) / 100
    }
}

/// The turn of one object.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) settings: &'a Settings,
    pub(super) facts: &'a Facts,
    /// All objects except the one whose turn it is.
    pub(super) others: &'a Objects,
    pub(super) pods: &'a mut Selections,
    pub(super) schedule: &'a mut Schedule,
    pub(super) outbox: &'a mut Outbox,
    pub(super) now: UnixMillis,
}
