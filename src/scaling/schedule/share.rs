//! Chooses the next poll: round robin, within the largest share of the workers that each party may have.
//!
//! A worker that waits for a hanging server is lost for the length of a timeout, and nothing predicts that. So the
//! shares hold from the start, even if no other party has work at the moment: its next query may come in a millisecond.
//!
//! # Order
//! Round robin over namespaces, over the servers in each, and over the objects of each. An object's queries keep their
//! order.
//!
//! # Lanes
//! What is known of a server is known for one namespace, a *lane*: a tenant that asks a shared Prometheus for the
//! impossible makes it slow for itself alone. A lane is *prompt* if its last answer came within [`PROMPT`]. All others,
//! untried, slow or without an answer, share the confined class. A lane to a server that is prompt for another
//! namespace starts prompt.
//!
//! # Shares
//! | at most at the same time | of n workers | of 8 |
//! |---|---|---|
//! | confined lanes together | n/2 | 4 |
//! | confined lanes of a namespace, or to a server | n/4 | 2 |
//! | a confined object; a lane that is untried or was not answered | 1 | 1 |
//! | a namespace, where there are others | n/2 | 4 |
//! | a namespace alone; a server | 3n/4 | 6 |
//! | an object | 3n/8 | 3 |
//! | all but prompt lanes of namespaces without a poll in flight | 3n/4 | 6 |
//!
//! So a tenant whose servers all hang, even if each answered well just before, holds 4 of 8 workers; two such
//! tenants hold 6, and the last two serve other namespaces with a prompt server.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Budgets, Limits, REST_MAX};
use super::places::{Counts, Places};
use crate::scaling::event::Conduct;
use crate::scaling::model::{ObjectKey, UnixMillis};
use crate::scaling::round_robin::RoundRobin;

/// The default timeout of a query: a server that answers within it is prompt.
pub(super) const PROMPT: Duration = Duration::from_secs(3);
/// Lanes kept per namespace; the least recently used one is forgotten first.
const LANES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Untried,
    Prompt,
    Slow,
    Troubled,
}

impl Standing {
    fn class(self) -> Class {
        if self == Self::Prompt { Class::Prompt } else { Class::Confined }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Prompt,
    Confined,
}

/// Confined lanes come first, since they cannot use more than their share of the workers.
const CLASSES: [Class; 2] = [Class::Confined, Class::Prompt];

/// A poll in flight, with the parties to which it is counted.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) object: ObjectKey,
    server: Arc<str>,
}

#[derive(Debug)]
struct Lane {
    standing: Standing,
    /// When the pause ends that the server asked for.
    rests_until: Option<UnixMillis>,
    /// Ids of jobs by object, for objects that have any.
    waiting: HashMap<ObjectKey, VecDeque<u64>>,
    order: RoundRobin<ObjectKey>,
    /// Incremented with each use.
    used: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Objects with a poll cycle to come.
    expected: usize,
    lanes: HashMap<Arc<str>, Lane>,
    /// Servers with waiting jobs, by class.
    order: [RoundRobin<Arc<str>>; 2],
}

#[derive(Debug)]
pub(super) struct Shares {
    /// One for each worker.
    places: Places,
    budgets: Budgets,
    /// When the first of the servers that the last look skipped may be queried again.
    free_at: Option<UnixMillis>,
    /// The last look found nothing to send, and nothing has changed since but the time. With 600 namespaces that wait
    /// for one server, a look after each event would take more time than everything else.
    is_exhausted: bool,
    namespaces: HashMap<Arc<str>, Namespace>,
    /// Namespaces with waiting jobs, by class.
    order: [RoundRobin<Arc<str>>; 2],
    /// Lanes with waiting jobs by their server, by class.
    queues: [Counts; 2],
    flights: BTreeMap<u64, Flight>,
    /// The polls in flight by server.
    to_server: Counts,
    /// Namespaces that may have no reason left to be kept.
    leaving: BTreeSet<Arc<str>>,
    uses: u64,
}

impl Shares {
    pub(super) fn new(workers: usize, limits: Limits) -> Self {
        Self {
            places: Places::new(workers),
            budgets: Budgets::new(limits),
            free_at: None,
            is_exhausted: false,
            namespaces: HashMap::new(),
            order: Default::default(),
            queues: Default::default(),
            flights: BTreeMap::new(),
            to_server: Counts::default(),
            leaving: BTreeSet::new(),
            uses: 0,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// An object of the namespace has a poll cycle to come.
    pub(super) fn expect(&mut self, namespace: &Arc<str>) {
        self.namespaces.entry(Arc::clone(namespace)).or_default().expected += 1;
    }

    pub(super) fn expect_no_more(&mut self, namespace: &Arc<str>) {
        if let Some(known) = self.namespaces.get_mut(namespace) {
            known.expected = known.expected.saturating_sub(1);
            if known.expected == 0 {
                self.leaving.insert(Arc::clone(namespace));
            }
        }
    }

    /// Adds a job to the object's queue; must not be in it already.
    pub(super) fn wait(&mut self, object: &ObjectKey, server: &Arc<str>, id: u64) {
        self.is_exhausted = false;
        self.lane(&object.namespace, server);
        let Some(namespace) = self.namespaces.get_mut(&object.namespace) else {
            return;
        };
        let Some(lane) = namespace.lanes.get_mut(server) else {
            return;
        };
        lane.waiting.entry(object.clone()).or_default().push_back(id);
        lane.order.join(object);
        let class = lane.standing.class() as usize;
        if namespace.order[class].join(server) {
            self.queues[class].add(server);
        }
        self.order[class].join(&object.namespace);
        self.leaving.insert(Arc::clone(&object.namespace));
    }

    /// Removes a job from the object's queue.
    pub(super) fn wait_no_more(&mut self, object: &ObjectKey, server: &Arc<str>, id: u64) {
        let Some(namespace) = self.namespaces.get_mut(&object.namespace) else {
            return;
        };
        let Some(lane) = namespace.lanes.get_mut(server) else {
            return;
        };
        if let Some(ids) = lane.waiting.get_mut(object) {
            ids.retain(|waiting| *waiting != id);
            if ids.is_empty() {
                lane.waiting.remove(object);
                lane.order.leave(object);
            }
        }
        let class = lane.standing.class() as usize;
        if lane.order.is_empty() && namespace.order[class].leave(server) {
            self.queues[class].remove(server);
        }
        if namespace.order[class].is_empty() {
            self.order[class].leave(&object.namespace);
            self.leaving.insert(Arc::clone(&object.namespace));
        }
    }

    /// Returns the next job that may be sent, and removes it from the queue where it was found.
    pub(super) fn next(&mut self, now: UnixMillis) -> Option<(u64, Flight)> {
        if self.is_exhausted && self.free_at.is_none_or(|at| at > now) {
            return None;
        }
        self.free_at = None;
        let picked = CLASSES.into_iter().find_map(|class| Some((class, self.pick(class, now)?)));
        self.is_exhausted = picked.is_none();
        let (class, flight) = picked?;
        let Flight { object, server } = &flight;
        let namespace = self.namespaces.get_mut(&object.namespace)?;
        let lane = namespace.lanes.get_mut(server)?;
        let id = *lane.waiting.get(object)?.front()?;
        // Each of them goes to the end of its order, whether it has more jobs or not.
        lane.order.pass(object);
        namespace.order[class as usize].pass(server);
        self.order[class as usize].pass(&object.namespace);
        self.wait_no_more(object, server, id);
        self.budgets.spend(server, now);
        Some((id, flight))
    }

    /// When a job that waits only for its server's budget or pause may be sent.
    pub(super) fn free_at(&self) -> Option<UnixMillis> {
        self.free_at
    }

    fn pick(&mut self, class: Class, now: UnixMillis) -> Option<Flight> {
        let (picked, free_at) = self.look(class, now);
        self.free_at = [self.free_at, free_at].into_iter().flatten().min();
        picked
    }

    /// Returns the next poll, and when the first of the servers is free that were skipped for their budget or pause.
    fn look(&self, class: Class, now: UnixMillis) -> (Option<Flight>, Option<UnixMillis>) {
        let mut free_at: Option<UnixMillis> = None;
        let is_confined = class == Class::Confined;
        if self.order[class as usize].is_empty() || self.flights.len() >= self.places.all {
            return (None, None);
        }
        let [mut to_server, mut of_namespace] = [Counts::default(), Counts::default()];
        if is_confined {
            let confined: Vec<&Flight> = self.flights.values().filter(|flight| self.is_confined(flight)).collect();
            if confined.len() >= self.share(1, 2) {
                return (None, None);
            }
            confined.iter().for_each(|flight| to_server.add(&flight.server));
            confined.iter().for_each(|flight| of_namespace.add(&flight.object.namespace));
        }
        let confined_max = self.share(1, 4);
        let server_max = self.budgets.limits.concurrency.unwrap_or(usize::MAX).min(self.share(3, 4));
        let is_full =
            |server: &Arc<str>| self.to_server.of(server) >= server_max || to_server.of(server) >= confined_max;
        // Usually all wait for one server. If it is full, nobody has to be looked at, however many they are.
        if self.queues[class as usize].0.keys().all(is_full) {
            return (None, None);
        }
        for name in self.order[class as usize].iter() {
            let here = self.places.of_namespace.of(name);
            if !self.places.has_room(name, self.namespaces.len() < 2)
                || (is_confined && self.places.is_reserve())
                || of_namespace.of(name) >= confined_max
            {
                continue;
            }
            let Some(namespace) = self.namespaces.get(name) else { continue };
            for server in namespace.order[class as usize].iter() {
                let Some(lane) = namespace.lanes.get(server) else { continue };
                let rest = lane.rests_until.filter(|until| *until > now);
                if let Some(at) = rest.or_else(|| self.budgets.free_at(server, now)) {
                    free_at = Some(free_at.map_or(at, |first| first.min(at)));
                    continue;
                }
                let is_one = matches!(lane.standing, Standing::Untried | Standing::Troubled);
                let is_in_lane = |flight: &Flight| flight.object.namespace == *name && flight.server == *server;
                if is_full(server) || (is_one && here > 0 && self.flights.values().any(is_in_lane)) {
                    continue;
                }
                let may_ask = |object: &&ObjectKey| {
                    let its = self.flights.values().filter(|flight| flight.object == **object);
                    here == 0
                        || (its.clone().count() < self.share(3, 8)
                            && !(is_confined && its.clone().any(|flight| self.is_confined(flight))))
                };
                if let Some(object) = lane.order.iter().find(may_ask) {
                    return (Some(Flight { object: object.clone(), server: Arc::clone(server) }), free_at);
                }
            }
        }
        (None, free_at)
    }

    /// Returns a part of the workers, at least one.
    fn share(&self, part: usize, of: usize) -> usize {
        self.places.share(part, of)
    }

    /// Judges by the present state of its lane.
    fn is_confined(&self, flight: &Flight) -> bool {
        let lane = self.namespaces.get(&flight.object.namespace).and_then(|known| known.lanes.get(&flight.server));
        lane.is_none_or(|lane| lane.standing.class() == Class::Confined)
    }

    pub(super) fn begin(&mut self, id: u64, flight: Flight) {
        self.to_server.add(&flight.server);
        self.places.take(&flight.object.namespace);
        self.flights.insert(id, flight);
    }

    pub(super) fn end(&mut self, id: u64, conduct: Conduct, now: UnixMillis) {
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        self.is_exhausted = false;
        self.to_server.remove(&flight.server);
        self.places.give_back(&flight.object.namespace);
        let name = &flight.object.namespace;
        self.leaving.insert(Arc::clone(name));
        let standing = match conduct {
            Conduct::Answered(within) if within <= PROMPT => Standing::Prompt,
            Conduct::Answered(_) => Standing::Slow,
            Conduct::Troubled | Conduct::Overloaded(_) => Standing::Troubled,
            Conduct::Unasked => return,
        };
        let Some(namespace) = self.namespaces.get_mut(name) else {
            return;
        };
        let Some(lane) = namespace.lanes.get_mut(&flight.server) else {
            return;
        };
        lane.rests_until = match conduct {
            Conduct::Overloaded(rest) => Some(now.plus(rest.min(REST_MAX))),
            _ => None,
        };
        let old = std::mem::replace(&mut lane.standing, standing).class() as usize;
        let new = standing.class() as usize;
        if old == new || lane.order.is_empty() {
            return;
        }
        namespace.order[old].leave(&flight.server);
        namespace.order[new].join(&flight.server);
        self.queues[old].remove(&flight.server);
        self.queues[new].add(&flight.server);
        if namespace.order[old].is_empty() {
            self.order[old].leave(name);
        }
        self.order[new].join(name);
    }

    /// Creates the lane if it does not exist.
    fn lane(&mut self, name: &Arc<str>, server: &Arc<str>) {
        self.uses += 1;
        let used = self.uses;
        if let Some(lane) = self.namespaces.get_mut(name).and_then(|known| known.lanes.get_mut(server)) {
            lane.used = used;
            return;
        }
        let is_prompt = |known: &Namespace| known.lanes.get(server).is_some_and(|l| l.standing == Standing::Prompt);
        let standing = if self.namespaces.values().any(is_prompt) { Standing::Prompt } else { Standing::Untried };
        let namespace = self.namespaces.entry(Arc::clone(name)).or_default();
        if namespace.lanes.len() >= LANES_MAX {
            let flights = &self.flights;
            let is_out = |server: &Arc<str>| {
                flights.values().any(|flight| flight.object.namespace == *name && flight.server == *server)
            };
            let idle = namespace.lanes.iter().filter(|(server, lane)| lane.order.is_empty() && !is_out(server));
            if let Some(server) = idle.min_by_key(|(_, lane)| lane.used).map(|(server, _)| Arc::clone(server)) {
                namespace.lanes.remove(&server);
            }
        }
        let lane = Lane { standing, rests_until: None, waiting: HashMap::new(), order: RoundRobin::default(), used };
        namespace.lanes.insert(Arc::clone(server), lane);
    }

    pub(super) fn shift(&mut self, milliseconds: i64) {
        self.budgets.shift(milliseconds);
        let lanes = self.namespaces.values_mut().flat_map(|namespace| namespace.lanes.values_mut());
        for until in lanes.filter_map(|lane| lane.rests_until.as_mut()).chain(self.free_at.as_mut()) {
            until.0 = until.0.saturating_add(milliseconds);
        }
    }

    /// Forgets namespaces that have no objects left.
    pub(super) fn tidy(&mut self) {
        for name in std::mem::take(&mut self.leaving) {
            let is_out = self.places.of_namespace.of(&name) > 0;
            let is_left = |known: &Namespace| known.expected == 0 && known.order.iter().all(RoundRobin::is_empty);
            if !is_out && self.namespaces.get(&name).is_some_and(is_left) {
                self.namespaces.remove(&name);
                // One that is alone has a larger share.
                self.is_exhausted = false;
            }
        }
    }
}

#[cfg(test)]
impl Shares {
    /// Returns the number of namespaces and lanes.
    pub(super) fn known(&self) -> (usize, usize) {
        (self.namespaces.len(), self.namespaces.values().map(|known| known.lanes.len()).sum())
    }

    /// Panics if a party has more than its share, or is in a queue without a job.
    pub(super) fn check(&self) {
        let count = |is: &dyn Fn(&Flight) -> bool| self.flights.values().filter(|flight| is(flight)).count();
        for flight in self.flights.values() {
            assert!(count(&|other| other.object == flight.object) <= self.share(3, 8));
            assert!(count(&|other| other.server == flight.server) <= self.share(3, 4));
            assert!(count(&|other| other.object.namespace == flight.object.namespace) <= self.share(3, 4));
        }
        let counted = |names: &mut dyn Iterator<Item = &Arc<str>>| {
            let mut counts = Counts::default();
            names.for_each(|name| counts.add(name));
            counts
        };
        assert_eq!(self.to_server, counted(&mut self.flights.values().map(|flight| &flight.server)));
        assert_eq!(
            self.places.of_namespace,
            counted(&mut self.flights.values().map(|flight| &flight.object.namespace))
        );
        for class in CLASSES.map(|class| class as usize) {
            let mut waiting = self.namespaces.values().flat_map(|namespace| namespace.order[class].iter());
            assert_eq!(self.queues[class], counted(&mut waiting));
        }
        for (name, namespace) in &self.namespaces {
            for class in CLASSES {
                let stands = self.order[class as usize].iter().any(|other| other == name);
                assert_eq!(stands, !namespace.order[class as usize].is_empty());
                for (server, lane) in namespace.lanes.iter().filter(|(_, lane)| lane.standing.class() == class) {
                    let stands = namespace.order[class as usize].iter().any(|other| other == server);
                    assert_eq!(stands, !lane.waiting.is_empty());
                    assert!(
                        lane.waiting
                            .iter()
                            .all(|(object, ids)| { !ids.is_empty() && lane.order.iter().any(|other| other == object) })
                    );
                    assert_eq!(lane.waiting.len(), lane.order.iter().count());
                }
            }
        }
    }
}
