//! Which question is asked when, and how many at once.
//!
//! Owns the calendar of rounds, the sharing of equal questions and the bounds on requests in
//! flight. Hands out jobs; asks nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::event::{Credentials, PollJob};
use super::model::{ObjectKey, Query, UnixMillis};

/// One trigger of one object that waits for an answer.
pub type Subscriber = (ObjectKey, u16);

/// What makes two questions the same: server, request and where the credentials come from.
#[derive(Clone, Debug, PartialEq, Hash)]
struct Question {
    query: Query,
    credentials: Option<Credentials>,
}

#[derive(Debug)]
struct Job {
    server: Arc<str>,
    question: Question,
    fingerprint: u64,
    subscribers: Vec<Subscriber>,
    due_at: UnixMillis,
}

#[derive(Debug, Default)]
struct Server {
    waiting: VecDeque<u64>,
    in_flight: usize,
    /// The last answer said that the server itself is in trouble.
    troubled: bool,
}

/// Calendar, queue and bounds.
#[derive(Debug)]
pub struct Schedule {
    threads: usize,
    due: BTreeMap<ObjectKey, UnixMillis>,
    calendar: BTreeSet<(UnixMillis, ObjectKey)>,
    jobs: HashMap<u64, Job>,
    /// The jobs that each object waits for.
    waiting_for: HashMap<ObjectKey, Vec<u64>>,
    /// Fingerprint to the job that is waiting or in flight for it.
    asked: HashMap<u64, u64>,
    servers: HashMap<Arc<str>, Server>,
    /// Servers with waiting jobs, each once: who is served next.
    turn: VecDeque<Arc<str>>,
    in_flight: usize,
    troubled_in_flight: usize,
    next_id: u64,
}

impl Schedule {
    /// `threads` is the number of workers that ask; at least 1.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            due: BTreeMap::new(),
            calendar: BTreeSet::new(),
            jobs: HashMap::new(),
            waiting_for: HashMap::new(),
            asked: HashMap::new(),
            servers: HashMap::new(),
            turn: VecDeque::new(),
            in_flight: 0,
            troubled_in_flight: 0,
            next_id: 1,
        }
    }

    /// Plans the next round of an object, instead of any that was planned.
    pub fn plan(&mut self, key: &ObjectKey, at: UnixMillis) {
        self.unplan(key);
        self.due.insert(key.clone(), at);
        self.calendar.insert((at, key.clone()));
    }

    pub fn unplan(&mut self, key: &ObjectKey) {
        if let Some(at) = self.due.remove(key) {
            self.calendar.remove(&(at, key.clone()));
        }
    }

    #[must_use]
    pub fn planned(&self, key: &ObjectKey) -> Option<UnixMillis> {
        self.due.get(key).copied()
    }

    /// When the next round is due.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMillis> {
        self.calendar.first().map(|(at, _)| *at)
    }

    /// Takes the objects whose round is due.
    pub fn take_due(&mut self, now: UnixMillis) -> Vec<(ObjectKey, UnixMillis)> {
        let mut taken = Vec::new();
        while let Some((at, key)) = self.calendar.first().filter(|(at, _)| *at <= now).cloned() {
            self.calendar.remove(&(at, key.clone()));
            self.due.remove(&key);
            taken.push((key, at));
        }
        taken
    }

    /// Wants an answer for one trigger. Joins an equal question that is waiting or in flight.
    pub fn ask(&mut self, subscriber: Subscriber, query: &Query, credentials: Option<Credentials>, due_at: UnixMillis) {
        let question = Question { query: query.clone(), credentials };
        let fingerprint = fingerprint(&question);
        if let Some(id) = self.asked.get(&fingerprint).copied()
            && let Some(job) = self.jobs.get_mut(&id)
        {
            // Equal hashes of unequal questions are possible, if unlikely: then ask separately.
            if job.question == question {
                if !job.subscribers.contains(&subscriber) {
                    self.waiting_for.entry(subscriber.0.clone()).or_default().push(id);
                    job.subscribers.push(subscriber);
                }
                return;
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.waiting_for.entry(subscriber.0.clone()).or_default().push(id);
        let server: Arc<str> = query.server().into();
        let entry = self.servers.entry(Arc::clone(&server)).or_default();
        if entry.waiting.is_empty() {
            self.turn.push_back(Arc::clone(&server));
        }
        entry.waiting.push_back(id);
        self.asked.insert(fingerprint, id);
        self.jobs.insert(id, Job { server, question, fingerprint, subscribers: vec![subscriber], due_at });
    }

    /// Jobs that may go to the workers now; each server in its turn.
    pub fn dispatch(&mut self) -> Vec<PollJob> {
        let mut jobs = Vec::new();
        let mut passed = 0;
        while self.in_flight < self.threads && passed < self.turn.len() {
            let Some(name) = self.turn.pop_front() else {
                break;
            };
            let Some(server) = self.servers.get_mut(&name) else {
                continue;
            };
            let (limit, class_full) = if server.troubled {
                (1, self.troubled_in_flight >= (self.threads / 2).max(1))
            } else {
                (per_server(self.threads), false)
            };
            if server.in_flight >= limit || class_full {
                self.turn.push_back(name);
                passed += 1;
                continue;
            }
            let Some(id) = server.waiting.pop_front() else {
                continue;
            };
            server.in_flight += 1;
            self.in_flight += 1;
            if server.troubled {
                self.troubled_in_flight += 1;
            }
            if !server.waiting.is_empty() {
                self.turn.push_back(Arc::clone(&name));
            }
            passed = 0;
            // A job whose last subscriber left is answered for nobody; skip the request.
            match self.jobs.get(&id).filter(|job| !job.subscribers.is_empty()) {
                Some(job) => jobs.push(PollJob {
                    id,
                    server: name,
                    query: job.question.query.clone(),
                    credentials: job.question.credentials.clone(),
                    due_at: job.due_at,
                }),
                None => {
                    self.finish(id, false);
                }
            }
        }
        jobs
    }

    /// Takes a job back; returns who waits for its answer. `trouble` says that the server itself
    /// did not answer.
    pub fn finish(&mut self, id: u64, trouble: bool) -> Vec<Subscriber> {
        let Some(job) = self.jobs.remove(&id) else {
            return Vec::new();
        };
        if self.asked.get(&job.fingerprint) == Some(&id) {
            self.asked.remove(&job.fingerprint);
        }
        self.in_flight -= 1;
        if let Some(server) = self.servers.get_mut(&job.server) {
            server.in_flight -= 1;
            if server.troubled != trouble {
                // The class counts every request of a server, so a change moves them all.
                let moved = server.in_flight;
                if trouble {
                    self.troubled_in_flight += moved;
                } else {
                    self.troubled_in_flight -= moved + 1;
                }
                server.troubled = trouble;
            } else if trouble {
                self.troubled_in_flight -= 1;
            }
            if server.in_flight == 0 && server.waiting.is_empty() && !server.troubled {
                self.servers.remove(&job.server);
            }
        }
        for (key, _) in &job.subscribers {
            if let Some(ids) = self.waiting_for.get_mut(key) {
                ids.retain(|waiting| *waiting != id);
                if ids.is_empty() {
                    self.waiting_for.remove(key);
                }
            }
        }
        job.subscribers
    }

    /// An object no longer wants answers.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.unplan(key);
        for id in self.waiting_for.remove(key).unwrap_or_default() {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.subscribers.retain(|(subscriber, _)| subscriber != key);
            }
        }
    }

    /// Moves everything planned by a step of the wall clock.
    pub fn shift(&mut self, milliseconds: i64) {
        let moved = std::mem::take(&mut self.due);
        self.calendar.clear();
        for (key, at) in moved {
            self.plan(&key, UnixMillis(at.0.saturating_add(milliseconds)));
        }
    }

    /// Jobs waiting and jobs in flight.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.jobs.len() - self.in_flight, self.in_flight)
    }
}

/// A healthy server may take three quarters of the workers: most clusters have one Prometheus, and
/// should it begin to hang, the rest stays for the others until its first timeout is noticed.
fn per_server(threads: usize) -> usize {
    (threads * 3 / 4).max(1)
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Phase in `0..interval` at which this is asked: equal questions share one, so that they fall due
/// together; different ones are spread evenly.
#[must_use]
pub fn phase(of: &impl Hash, interval: Duration) -> Duration {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(fingerprint(of) % interval_ms)
}

/// The next instant of the grid `phase + n × interval` that is at least half an interval away, so
/// that a first poll at once is followed by steady ones.
#[must_use]
pub fn next_on_grid(now: UnixMillis, interval: Duration, phase: Duration) -> UnixMillis {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let phase_ms = i64::try_from(phase.as_millis()).unwrap_or(0);
    let earliest = now.0.saturating_add(interval_ms / 2);
    let behind = (earliest - phase_ms).rem_euclid(interval_ms);
    UnixMillis(if behind == 0 { earliest } else { earliest.saturating_add(interval_ms - behind) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::ApiGroup;
    use crate::scaling::testing::prometheus;

    const T0: UnixMillis = UnixMillis(0);

    fn key(n: usize) -> ObjectKey {
        ObjectKey::new(ApiGroup::KedaSh, "default", &format!("o{n}"))
    }

    fn query(server: &str, query: &str) -> Query {
        let mut source = prometheus(query);
        source.server_address = server.to_owned();
        Query::Prometheus(Arc::new(source))
    }

    #[test]
    fn equal_questions_are_asked_once() {
        let mut schedule = Schedule::new(8);
        for n in 0..5 {
            schedule.ask((key(n), 0), &query("a", "up"), None, T0);
        }
        schedule.ask((key(9), 0), &query("a", "down"), None, T0);
        schedule.ask((key(9), 1), &query("b", "up"), None, T0);
        let jobs = schedule.dispatch();
        assert_eq!(jobs.len(), 3);
        // One that falls due while the question is in flight joins it.
        schedule.ask((key(7), 0), &query("a", "up"), None, T0);
        assert!(schedule.dispatch().is_empty());
        let shared = jobs.iter().find(|job| job.server.as_ref() == "a" && job.query == query("a", "up")).unwrap();
        assert_eq!(schedule.finish(shared.id, false).len(), 6);
        // And is asked anew afterwards.
        schedule.ask((key(7), 0), &query("a", "up"), None, T0);
        assert_eq!(schedule.dispatch().len(), 1);
    }

    #[test]
    fn who_is_forgotten_gets_no_answer_and_leaves_no_trace() {
        let mut schedule = Schedule::new(8);
        for n in 0..3 {
            schedule.ask((key(n), 0), &query("a", "up"), None, T0);
            schedule.ask((key(n), 1), &query("a", &format!("q{n}")), None, T0);
        }
        schedule.forget(&key(1));
        let jobs = schedule.dispatch();
        assert_eq!(jobs.len(), 3, "nobody waits for q1");
        let mut answered: Vec<_> = jobs.iter().flat_map(|job| schedule.finish(job.id, false)).collect();
        answered.sort();
        assert_eq!(answered, [(key(0), 0), (key(0), 1), (key(2), 0), (key(2), 1)]);
        assert!(schedule.waiting_for.is_empty() && schedule.jobs.is_empty());
    }

    #[test]
    fn a_hanging_server_leaves_workers_to_the_others() {
        let mut schedule = Schedule::new(8);
        for n in 0..50 {
            schedule.ask((key(n), 0), &query("hangs", &format!("q{n}")), None, T0);
        }
        let hanging = schedule.dispatch();
        assert_eq!(hanging.len(), 6, "three quarters");
        schedule.ask((key(60), 0), &query("fine", "up"), None, T0);
        let fine = schedule.dispatch();
        assert_eq!(fine.len(), 1);
        // Once it is known to hang it has one worker.
        for job in &hanging {
            schedule.finish(job.id, true);
        }
        assert_eq!(schedule.dispatch().len(), 1);
        // Recovered: everything again.
        schedule.finish(fine[0].id, false);
        let (_, in_flight) = schedule.load();
        assert_eq!(in_flight, 1);
    }

    #[test]
    fn many_hanging_servers_together_take_half_of_the_workers() {
        let mut schedule = Schedule::new(8);
        let ask_all = |schedule: &mut Schedule, round: usize| {
            for n in 0..20 {
                schedule.ask((key(n), 0), &query(&format!("hangs{n}"), &format!("q{round}")), None, T0);
            }
        };
        ask_all(&mut schedule, 0);
        let mut known = 0;
        while known < 20 {
            let jobs = schedule.dispatch();
            assert!(!jobs.is_empty());
            for job in jobs {
                schedule.finish(job.id, true);
                known += 1;
            }
        }
        ask_all(&mut schedule, 1);
        let jobs = schedule.dispatch();
        assert_eq!(jobs.len(), 4);
        schedule.ask((key(50), 0), &query("fine", "up"), None, T0);
        assert_eq!(schedule.dispatch().len(), 1);
        // A server that answers again leaves the class.
        schedule.finish(jobs[0].id, false);
        assert_eq!(schedule.dispatch().len(), 1);
    }

    #[test]
    fn servers_take_turns() {
        let mut schedule = Schedule::new(2);
        for n in 0..10 {
            schedule.ask((key(n), 0), &query("a", &format!("q{n}")), None, T0);
        }
        schedule.ask((key(20), 0), &query("b", "up"), None, T0);
        let servers: Vec<_> = schedule.dispatch().into_iter().map(|job| job.server.to_string()).collect();
        assert_eq!(servers, ["a", "b"]);
    }

    #[test]
    fn bounds_hold_under_any_order() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let threads = random.usize(1..10);
            let mut schedule = Schedule::new(threads);
            let mut flying = Vec::new();
            for step in 0..300 {
                match random.u8(0..4) {
                    0 | 1 => {
                        let server = format!("s{}", random.u8(0..5));
                        schedule.ask(
                            (key(random.usize(0..20)), 0),
                            &query(&server, &format!("q{}", random.u8(0..9))),
                            None,
                            T0,
                        );
                    }
                    2 if !flying.is_empty() => {
                        let job: PollJob = flying.swap_remove(random.usize(0..flying.len()));
                        assert!(schedule.finish(job.id, random.bool()).len() <= 20);
                    }
                    _ if random.u8(0..10) == 0 => schedule.forget(&key(random.usize(0..20))),
                    _ => flying.extend(schedule.dispatch()),
                }
                let (_, in_flight) = schedule.load();
                assert_eq!(in_flight, flying.len(), "seed {seed} step {step}");
                assert!(in_flight <= threads, "seed {seed} step {step}");
            }
            // Everything that was asked is answered in the end.
            loop {
                for job in std::mem::take(&mut flying) {
                    schedule.finish(job.id, false);
                }
                flying = schedule.dispatch();
                if flying.is_empty() {
                    break;
                }
            }
            assert_eq!(schedule.load(), (0, 0), "seed {seed}");
            assert_eq!(schedule.troubled_in_flight, 0, "seed {seed}");
        }
    }

    #[test]
    fn rounds_come_due_in_order_and_can_move() {
        let mut schedule = Schedule::new(1);
        schedule.plan(&key(1), UnixMillis(20));
        schedule.plan(&key(2), UnixMillis(10));
        schedule.plan(&key(1), UnixMillis(5));
        assert_eq!(schedule.next_due(), Some(UnixMillis(5)));
        assert_eq!(schedule.take_due(UnixMillis(7)), [(key(1), UnixMillis(5))]);
        schedule.shift(-4);
        assert_eq!(schedule.take_due(UnixMillis(6)), [(key(2), UnixMillis(6))]);
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn the_grid_is_steady_and_spread() {
        let interval = Duration::from_secs(30);
        let phase = Duration::from_millis(7_123);
        let mut at = next_on_grid(UnixMillis(1_000_000), interval, phase);
        assert!((1_015_000..=1_045_000).contains(&at.0));
        for _ in 0..10 {
            let next = next_on_grid(at, interval, phase);
            assert_eq!(next.0 - at.0, 30_000);
            at = next;
        }
        // A poll that comes late keeps the grid.
        assert_eq!(next_on_grid(UnixMillis(at.0 + 900), interval, phase).0, at.0 + 30_000);
        let phases: BTreeSet<_> =
            (0..100).map(|n| super::phase(&query("a", &format!("q{n}")), interval).as_secs()).collect();
        assert!(phases.len() > 20, "{phases:?}");
    }
}
