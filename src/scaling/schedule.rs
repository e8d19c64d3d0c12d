//! Which query is sent when, and how many at the same time.
//!
//! Owns the calendar of poll cycles, the sharing of equal queries, and the shares of the workers ([`share`]). It
//! returns jobs and sends nothing.

mod budget;
mod grouping;
mod places;
mod share;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::allowed::origin;
use super::calendar::Calendar;
use super::event::{Conduct, Credentials, Group, PollJob};
use super::fingerprint;
use super::model::{ObjectKey, PrometheusSource, Query, UnixMillis};
pub use budget::Limits;
use grouping::{GROUP_MAX, Member};
pub use places::Places;
use share::Shares;
use turns::Turn;

/// How long the members of a group are queried singly after an answer that could not be split among them.
const SINGLY: Duration = Duration::from_hours(1);
/// Upper bound on groups remembered for that. A tenant can cause one with every two queries that it makes up.
const SINGLY_MAX: usize = 1024;
/// Longest origin that is kept for each trigger: a host name has at most 253 bytes, but a Secret may say any text.
const SERVER_MAX: usize = 300;
/// Phases are multiples of this, so that the process wakes a few times a second for many polls instead of once for each.
/// At a hundred polls a second that saved a quarter of the CPU time.
const PHASE_STEP_MS: u64 = 250;

/// One trigger of an object that waits for an answer.
pub type Subscriber = (ObjectKey, u16);

/// What makes two polls equal: server, request and the source of the credentials.
#[derive(Clone, Debug, PartialEq)]
struct PollKey {
    query: Query,
    credentials: Option<Credentials>,
}

/// The groups that a query may join.
type Families = Arc<[u64]>;

/// A query of an object that is polled. What follows from its text is found once, not at each poll.
#[derive(Debug)]
struct Registered {
    trigger: u16,
    /// Of the query.
    fingerprint: u64,
    /// Without any if it has credentials.
    families: Families,
    /// The server whose limits its polls count for.
    server: Arc<str>,
    /// Whether the query itself names the server. If not, `server` is the name of the authentication that does, until a
    /// poll has shown which server that is.
    is_written: bool,
}

#[derive(Debug)]
struct Job {
    server: Arc<str>,
    poll_key: PollKey,
    fingerprint: u64,
    subscribers: Vec<Subscriber>,
    families: Families,
    due_at: UnixMillis,
    /// When it was dispatched; `None` while it waits.
    begun_at: Option<UnixMillis>,
}

/// A poll that has been answered.
#[derive(Debug)]
pub struct Finished {
    /// When it was dispatched, by the clock as it is now.
    pub begun_at: UnixMillis,
    /// The triggers that still wait for the answer.
    pub subscribers: Vec<Subscriber>,
}

/// The calendar, the queue and the shares.
#[derive(Debug)]
pub struct Schedule {
    poll_cycles: Calendar,
    jobs: HashMap<u64, Job>,
    /// The jobs on which each object waits, and the trigger that does. Thousands of triggers may wait for one job, and only
    /// a hundred are of one object.
    waiting_for: HashMap<ObjectKey, Vec<(u64, u16)>>,
    /// Fingerprint of a poll key to its job, waiting or in flight.
    asked: HashMap<u64, u64>,
    /// Whether queries that one query can answer are sent as one.
    is_grouping: bool,
    /// The waiting jobs, by the groups that they may join.
    families: HashMap<u64, BTreeSet<u64>>,
    /// The groups in flight, by the first of their jobs.
    groups: HashMap<u64, Arc<Group>>,
    /// Groups whose members are queried singly, and until when.
    singly: BTreeMap<u64, UnixMillis>,
    /// The queries of each object, in the order of its triggers; `sizes` counts the objects of each group, by their first.
    registered: HashMap<ObjectKey, Box<[Registered]>>,
    sizes: HashMap<u64, usize>,
    shares: Shares,
    /// Requests of others to the same servers; as many as reads by rules may be under way.
    turns: Vec<Turn>,
    /// The numbers of those that have begun since they were last taken.
    granted: Vec<u64>,
    next_id: u64,
}

impl Schedule {
    /// `threads` is the number of poll workers; at least 1.
    #[must_use]
    pub fn new(threads: usize, limits: Limits, is_grouping: bool) -> Self {
        Self {
            poll_cycles: Calendar::default(),
            jobs: HashMap::new(),
            waiting_for: HashMap::new(),
            asked: HashMap::new(),
            is_grouping,
            families: HashMap::new(),
            groups: HashMap::new(),
            singly: BTreeMap::new(),
            registered: HashMap::new(),
            sizes: HashMap::new(),
            shares: Shares::new(threads.max(1), limits),
            turns: Vec::new(),
            granted: Vec::new(),
            next_id: 1,
        }
    }

    /// Plans the next poll cycle of an object, replacing any that was planned.
    pub fn plan(&mut self, key: &ObjectKey, at: UnixMillis) {
        if self.poll_cycles.get(key).is_none() {
            self.shares.expect(&key.namespace);
        }
        self.poll_cycles.set(key, at);
    }

    pub fn unplan(&mut self, key: &ObjectKey) {
        if self.poll_cycles.clear(key) {
            self.shares.expect_no_more(&key.namespace);
        }
    }

    #[must_use]
    pub fn planned(&self, key: &ObjectKey) -> Option<UnixMillis> {
        self.poll_cycles.get(key)
    }

    /// When the next poll cycle is due, or a query whose server must not be queried before.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMillis> {
        [self.poll_cycles.next(), self.shares.free_at()].into_iter().flatten().min()
    }

    /// Removes and returns the objects whose poll cycle is due.
    pub fn take_due(&mut self, now: UnixMillis) -> Vec<(ObjectKey, UnixMillis)> {
        let mut taken = Vec::new();
        while let Some((key, at)) = self.poll_cycles.pop(now) {
            self.shares.expect_no_more(&key.namespace);
            taken.push((key, at));
        }
        taken
    }

    /// Requests an answer for one trigger. Joins an equal poll that is waiting or in flight.
    pub fn ask(&mut self, subscriber: Subscriber, query: &Query, credentials: Option<Credentials>, due_at: UnixMillis) {
        let registered = self.registered.get(&subscriber.0);
        let registered = registered.and_then(|all| all.iter().find(|one| one.trigger == subscriber.1));
        let of_query = registered.map_or_else(|| fingerprint(query), |known| known.fingerprint);
        let families = registered.filter(|_| credentials.is_none()).map(|known| Arc::clone(&known.families));
        let fingerprint = fingerprint(&(of_query, &credentials));
        let query = query.settled_by(credentials.as_ref().map_or(&[], |found| &found.sources));
        let server = match registered {
            Some(known) if known.is_written || query.written_server().is_none() => Arc::clone(&known.server),
            _ => origin(query.server()).into(),
        };
        let poll_key = PollKey { query, credentials };
        let known = self.asked.get(&fingerprint).copied();
        // Unequal polls may have equal hashes, if rarely, and are then asked separately.
        if let Some(id) = known
            && let Some(job) = self.jobs.get_mut(&id).filter(|job| job.poll_key == poll_key)
        {
            let waiting = self.waiting_for.entry(subscriber.0.clone()).or_default();
            if waiting.contains(&(id, subscriber.1)) {
                return;
            }
            let is_new = !waiting.iter().any(|(known, _)| *known == id);
            waiting.push((id, subscriber.1));
            // It waits in the queue of each object, so that no object is delayed by another one's share.
            if is_new && job.begun_at.is_none() {
                self.shares.wait(&subscriber.0, &job.server, id);
            }
            job.subscribers.push(subscriber);
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.shares.wait(&subscriber.0, &server, id);
        self.waiting_for.entry(subscriber.0.clone()).or_default().push((id, subscriber.1));
        self.asked.insert(fingerprint, id);
        let families = families.unwrap_or_else(|| self.families_of(&poll_key.query, poll_key.credentials.as_ref()));
        let subscribers = vec![subscriber];
        self.jobs.insert(id, Job { server, poll_key, fingerprint, subscribers, families, due_at, begun_at: None });
        self.may_be_grouped(id, true);
    }

    /// Returns the groups that a query may join: equal queries to the same server, except for one value.
    fn families_of(&self, query: &Query, credentials: Option<&Credentials>) -> Families {
        let Query::Prometheus(source) = query else { return Families::default() };
        if !self.is_grouping {
            return Families::default();
        }
        let around = fingerprint(&(PrometheusSource { query: String::new(), ..(**source).clone() }, credentials));
        Member::all(&source.query).iter().map(|member| fingerprint(&(around, member.family()))).collect()
    }

    /// Adds a job to those that may join a group, or removes it.
    fn may_be_grouped(&mut self, id: u64, may: bool) {
        for family in self.jobs.get(&id).map(|job| &*job.families).unwrap_or_default() {
            let waiting = self.families.entry(*family).or_default();
            if may {
                waiting.insert(id)
            } else {
                waiting.remove(&id)
            };
            if waiting.is_empty() {
                self.families.remove(family);
            }
        }
    }

    /// Returns the jobs that one query can answer together with this one, which is dispatched now.
    fn gather(&self, id: u64) -> Option<Group> {
        let job = self.jobs.get(&id)?;
        let Query::Prometheus(source) = &job.poll_key.query else { return None };
        if job.families.is_empty() {
            return None;
        }
        let ways = Member::all(&source.query);
        let known = job.families.iter().zip(&ways).filter(|(family, _)| !self.singly.contains_key(family));
        let waiting = |family: &u64| self.families.get(family).map_or(0, BTreeSet::len);
        let (family, way) =
            known.max_by_key(|(family, _)| waiting(family)).filter(|(family, _)| waiting(family) > 1)?;
        let company = self.families.get(family)?.iter().filter(|other| **other != id);
        let members = company.filter_map(|other| {
            let job = self.jobs.get(other)?;
            // Equal hashes of unequal polls are possible, if unlikely.
            let Query::Prometheus(found) = &job.poll_key.query else { return None };
            let is_equal = PrometheusSource { query: source.query.clone(), ..(**found).clone() } == **source
                && job.poll_key.credentials == self.jobs[&id].poll_key.credentials;
            let member = Member::all(&found.query).into_iter().find(|member| member.template() == way.template())?;
            is_equal.then(|| (member.value.to_owned(), *other))
        });
        // The same value may be quoted in two ways.
        let mut values: BTreeMap<String, u64> = members.take(GROUP_MAX - 1).collect();
        values.insert(way.value.to_owned(), id);
        let members: Vec<(u64, String)> = values.into_iter().map(|(value, id)| (id, value)).collect();
        let query = way.grouped(members.iter().map(|(_, value)| value.as_str()));
        let label = way.label.to_owned();
        (members.len() > 1).then_some(Group { family: *family, query, label, members })
    }

    /// Returns the jobs that may go to the workers now.
    pub fn dispatch(&mut self, now: UnixMillis) -> Vec<PollJob> {
        let mut jobs = Vec::new();
        self.singly.retain(|_, until| *until > now);
        while let Some((id, flight)) = self.shares.next(now) {
            if self.begin_turn(id) {
                self.shares.begin(id, flight);
                continue;
            }
            let group = self.gather(id).map(Arc::new);
            let members = group.iter().flat_map(|group| group.members.iter().map(|(member, _)| *member));
            for member in members.filter(|member| *member != id).chain([id]) {
                self.may_be_grouped(member, false);
                let Some(job) = self.jobs.get_mut(&member) else { continue };
                let others: BTreeSet<&ObjectKey> = job.subscribers.iter().map(|(key, _)| key).collect();
                for key in others.into_iter().filter(|key| member != id || **key != flight.object) {
                    self.shares.wait_no_more(key, &job.server, member);
                }
                job.begun_at = Some(now);
            }
            let Some(job) = self.jobs.get(&id) else { continue };
            if let Some(group) = &group {
                self.groups.insert(id, Arc::clone(group));
            }
            jobs.push(PollJob {
                id,
                server: Arc::clone(&job.server),
                query: job.poll_key.query.clone(),
                credentials: job.poll_key.credentials.clone(),
                group,
                due_at: job.due_at,
            });
            self.shares.begin(id, flight);
        }
        self.shares.tidy();
        jobs
    }

    /// Returns the jobs that an answer is for: the job itself, or all members of its group.
    pub fn members(&mut self, id: u64) -> Vec<u64> {
        let group = self.groups.remove(&id);
        group.map_or_else(|| vec![id], |group| group.members.iter().map(|(member, _)| *member).collect())
    }

    /// Records that the answer to a group could not be split: its members are queued again, each on its own.
    pub fn ask_singly(&mut self, id: u64, conduct: Conduct, now: UnixMillis) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.shares.end(id, conduct, now);
        if self.singly.len() >= SINGLY_MAX
            && let Some(oldest) = self.singly.iter().min_by_key(|(_, until)| **until).map(|(family, _)| *family)
        {
            self.singly.remove(&oldest);
        }
        self.singly.insert(group.family, now.plus(SINGLY));
        for (member, _) in &group.members {
            let Some(job) = self.jobs.get_mut(member) else { continue };
            job.begun_at = None;
            let keys: BTreeSet<&ObjectKey> = job.subscribers.iter().map(|(key, _)| key).collect();
            for key in &keys {
                self.shares.wait(key, &job.server, *member);
            }
            if keys.is_empty()
                && let Some(job) = self.jobs.remove(member)
            {
                self.no_longer_asked(*member, &job);
            }
            self.may_be_grouped(*member, true);
        }
    }

    /// Records that a job has ended. Returns `None` if it was not in flight.
    pub fn finish(&mut self, id: u64, conduct: Conduct, now: UnixMillis) -> Option<Finished> {
        let begun_at = self.jobs.get(&id)?.begun_at?;
        let job = self.jobs.remove(&id)?;
        self.shares.end(id, conduct, now);
        self.no_longer_asked(id, &job);
        for (key, _) in &job.subscribers {
            if let Some(ids) = self.waiting_for.get_mut(key) {
                ids.retain(|(waiting, _)| *waiting != id);
                if ids.is_empty() {
                    self.waiting_for.remove(key);
                }
            }
        }
        Some(Finished { begun_at, subscribers: job.subscribers })
    }

    /// Makes the next polls of a job's triggers count for this server, which their authentication names. Otherwise everybody
    /// who writes an authentication would have a share of the same server for each.
    pub fn locate(&mut self, id: u64, server: &Arc<str>) {
        if server.len() > SERVER_MAX {
            return;
        }
        for (key, trigger) in self.jobs.get(&id).map(|job| &*job.subscribers).unwrap_or_default() {
            let registered = self.registered.get_mut(key).map(|all| &mut **all).unwrap_or_default();
            for known in registered.iter_mut().filter(|known| known.trigger == *trigger && !known.is_written) {
                known.server = Arc::clone(server);
            }
        }
    }

    /// Cancels an object's polls. A poll without other subscribers leaves the queue; an answer that is under way is
    /// dropped, but still shows how its server is doing.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.unplan(key);
        self.unregister(key);
        let waiting = self.waiting_for.remove(key).unwrap_or_default();
        for id in waiting.into_iter().map(|(id, _)| id).collect::<BTreeSet<u64>>() {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            job.subscribers.retain(|(subscriber, _)| subscriber != key);
            if job.begun_at.is_some() {
                continue;
            }
            self.shares.wait_no_more(key, &job.server, id);
            if job.subscribers.is_empty() {
                self.may_be_grouped(id, false);
                if let Some(job) = self.jobs.remove(&id) {
                    self.no_longer_asked(id, &job);
                }
            }
        }
    }

    fn no_longer_asked(&mut self, id: u64, job: &Job) {
        if self.asked.get(&job.fingerprint) == Some(&id) {
            self.asked.remove(&job.fingerprint);
        }
    }

    /// Moves all times by a step of the wall clock.
    pub fn shift(&mut self, milliseconds: i64) {
        self.poll_cycles.shift(milliseconds);
        self.shares.shift(milliseconds);
        self.singly.values_mut().for_each(|until| until.0 = until.0.saturating_add(milliseconds));
        for job in self.jobs.values_mut() {
            let instants = [Some(&mut job.due_at), job.begun_at.as_mut()];
            for at in instants.into_iter().flatten() {
                at.0 = at.0.saturating_add(milliseconds);
            }
        }
    }

    /// Returns the number of jobs waiting and in flight.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let in_groups: usize = self.groups.values().map(|group| group.members.len() - 1).sum();
        let in_flight = self.shares.in_flight() - self.turns_in_flight();
        (self.jobs.len() - in_flight - in_groups, in_flight)
    }

    /// Registers an object that is polled from now on, with its triggers that ask a server: their index, their query and
    /// whether it has credentials. A query with credentials is not aligned with others, since it is not known yet whether
    /// their credentials are the same.
    pub fn register<'q>(&mut self, key: &ObjectKey, queries: impl IntoIterator<Item = (u16, &'q Query, bool)>) {
        self.unregister(key);
        let queries = queries.into_iter().map(|(trigger, query, has_credentials)| Registered {
            trigger,
            fingerprint: fingerprint(query),
            families: if has_credentials { Families::default() } else { self.families_of(query, None) },
            server: origin(query.server()).into(),
            is_written: query.written_server().is_some(),
        });
        let queries: Box<[Registered]> = queries.collect();
        for family in queries.first().iter().flat_map(|first| first.families.iter()) {
            *self.sizes.entry(*family).or_default() += 1;
        }
        self.registered.insert(key.clone(), queries);
    }

    fn unregister(&mut self, key: &ObjectKey) {
        let queries = self.registered.remove(key).unwrap_or_default();
        for family in queries.first().iter().flat_map(|first| first.families.iter()) {
            if let Some(size) = self.sizes.get_mut(family) {
                *size -= 1;
                if *size == 0 {
                    self.sizes.remove(family);
                }
            }
        }
    }

    /// Returns the phase in `0..interval` of an object's poll cycles. Equal queries, and those that can be sent as one,
    /// share a phase, so that they fall due together; all others are spread evenly over the steps of [`PHASE_STEP_MS`].
    #[must_use]
    pub fn phase(&self, key: &ObjectKey, interval: Duration) -> Duration {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let Some(queries) = self.registered.get(key) else { return Duration::ZERO };
        let first = queries.first();
        let own = first.map_or_else(|| fingerprint(key), |first| first.fingerprint);
        let size = |family: &u64| self.sizes.get(family).copied().unwrap_or_default();
        let families = first.map(|first| &*first.families).unwrap_or_default();
        let open = families.iter().filter(|family| size(family) > 1 && !self.singly.contains_key(family));
        let phase = open.max_by_key(|family| size(family)).copied().unwrap_or(own) % interval_ms;
        Duration::from_millis(phase - phase % PHASE_STEP_MS)
    }
}

/// Returns the next time `phase + n × interval` that is at least half an interval away, so that an immediate first poll
/// is followed by regular ones.
#[must_use]
pub fn next_on_grid(now: UnixMillis, interval: Duration, phase: Duration) -> UnixMillis {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let phase_ms = i64::try_from(phase.as_millis()).unwrap_or(0);
    let earliest = now.0.saturating_add(interval_ms / 2);
    let behind = (earliest - phase_ms).rem_euclid(interval_ms);
    UnixMillis(if behind == 0 { earliest } else { earliest.saturating_add(interval_ms - behind) })
}

#[cfg(test)]
impl Schedule {
    /// Panics if an object, lane or namespace has more than its share.
    pub(super) fn check(&self) {
        self.shares.check();
    }
}

#[cfg(test)]
mod tests;
