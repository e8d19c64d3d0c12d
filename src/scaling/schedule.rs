//! Which question is asked when, and how many at once.
//!
//! Owns the calendar of rounds, the sharing of equal questions and the shares of the workers that ask
//! ([`share`]). Hands out jobs; asks nobody.

mod budget;
mod share;

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::calendar::Calendar;
use super::event::{Credentials, PollJob};
use super::model::{ObjectKey, Query, UnixMillis};
pub use budget::Limits;
pub use share::Conduct;
use share::Shares;

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
    /// When it was handed out; `None` while it waits.
    begun_at: Option<UnixMillis>,
}

/// A question that came back.
#[derive(Debug)]
pub struct Finished {
    /// When it was handed out, by the clock as it is now.
    pub begun_at: UnixMillis,
    /// Who still wants the answer.
    pub subscribers: Vec<Subscriber>,
}

/// Calendar, queue and shares.
#[derive(Debug)]
pub struct Schedule {
    rounds: Calendar,
    jobs: HashMap<u64, Job>,
    /// The jobs that each object waits for.
    waiting_for: HashMap<ObjectKey, Vec<u64>>,
    /// Fingerprint to the job that is waiting or in flight for it.
    asked: HashMap<u64, u64>,
    shares: Shares,
    next_id: u64,
}

impl Schedule {
    /// `threads` is the number of workers that ask; at least 1.
    #[must_use]
    pub fn new(threads: usize, limits: Limits) -> Self {
        Self {
            rounds: Calendar::default(),
            jobs: HashMap::new(),
            waiting_for: HashMap::new(),
            asked: HashMap::new(),
            shares: Shares::new(threads.max(1), limits),
            next_id: 1,
        }
    }

    /// Plans the next round of an object, instead of any that was planned.
    pub fn plan(&mut self, key: &ObjectKey, at: UnixMillis) {
        if self.rounds.get(key).is_none() {
            self.shares.expect(&key.namespace);
        }
        self.rounds.set(key, at);
    }

    pub fn unplan(&mut self, key: &ObjectKey) {
        if self.rounds.clear(key) {
            self.shares.expect_no_more(&key.namespace);
        }
    }

    #[must_use]
    pub fn planned(&self, key: &ObjectKey) -> Option<UnixMillis> {
        self.rounds.get(key)
    }

    /// When the next round is due, or a question whose server is left alone until then.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMillis> {
        [self.rounds.next(), self.shares.free_at()].into_iter().flatten().min()
    }

    /// Takes the objects whose round is due.
    pub fn take_due(&mut self, now: UnixMillis) -> Vec<(ObjectKey, UnixMillis)> {
        let mut taken = Vec::new();
        while let Some((key, at)) = self.rounds.pop(now) {
            self.shares.expect_no_more(&key.namespace);
            taken.push((key, at));
        }
        taken
    }

    /// Wants an answer for one trigger. Joins an equal question that is waiting or in flight.
    pub fn ask(&mut self, subscriber: Subscriber, query: &Query, credentials: Option<Credentials>, due_at: UnixMillis) {
        let question = Question { query: query.clone(), credentials };
        let fingerprint = fingerprint(&question);
        let known = self.asked.get(&fingerprint).copied();
        // Equal hashes of unequal questions are possible, if unlikely: then ask separately.
        if let Some(id) = known
            && let Some(job) = self.jobs.get_mut(&id).filter(|job| job.question == question)
        {
            if job.subscribers.contains(&subscriber) {
                return;
            }
            let key = subscriber.0.clone();
            let is_new = !job.subscribers.iter().any(|(known, _)| *known == key);
            job.subscribers.push(subscriber);
            if is_new {
                // It waits at each one's place, so that nobody is held up behind another's share.
                if job.begun_at.is_none() {
                    self.shares.wait(&key, &job.server, id);
                }
                self.waiting_for.entry(key).or_default().push(id);
            }
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let server: Arc<str> = query.server().into();
        self.shares.wait(&subscriber.0, &server, id);
        self.waiting_for.entry(subscriber.0.clone()).or_default().push(id);
        self.asked.insert(fingerprint, id);
        let subscribers = vec![subscriber];
        self.jobs.insert(id, Job { server, question, fingerprint, subscribers, due_at, begun_at: None });
    }

    /// Jobs that may go to the workers now.
    pub fn dispatch(&mut self, now: UnixMillis) -> Vec<PollJob> {
        let mut jobs = Vec::new();
        while let Some((id, flight)) = self.shares.next(now) {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let others: BTreeSet<&ObjectKey> = job.subscribers.iter().map(|(key, _)| key).collect();
            for key in others.into_iter().filter(|key| **key != flight.object) {
                self.shares.wait_no_more(key, &job.server, id);
            }
            job.begun_at = Some(now);
            jobs.push(PollJob {
                id,
                server: Arc::clone(&job.server),
                query: job.question.query.clone(),
                credentials: job.question.credentials.clone(),
                due_at: job.due_at,
            });
            self.shares.begin(id, flight);
        }
        self.shares.tidy();
        jobs
    }

    /// Takes a job back. `None` for one that was not out.
    pub fn finish(&mut self, id: u64, conduct: Conduct, now: UnixMillis) -> Option<Finished> {
        let begun_at = self.jobs.get(&id)?.begun_at?;
        let job = self.jobs.remove(&id)?;
        self.shares.end(id, conduct, now);
        self.no_longer_asked(id, &job);
        for (key, _) in &job.subscribers {
            if let Some(ids) = self.waiting_for.get_mut(key) {
                ids.retain(|waiting| *waiting != id);
                if ids.is_empty() {
                    self.waiting_for.remove(key);
                }
            }
        }
        Some(Finished { begun_at, subscribers: job.subscribers })
    }

    /// An object no longer wants answers. What nobody else wants leaves the queue; an answer that is under way finds
    /// nobody, and says of its server what it says.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.unplan(key);
        for id in self.waiting_for.remove(key).unwrap_or_default() {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            job.subscribers.retain(|(subscriber, _)| subscriber != key);
            if job.begun_at.is_some() {
                continue;
            }
            self.shares.wait_no_more(key, &job.server, id);
            if job.subscribers.is_empty()
                && let Some(job) = self.jobs.remove(&id)
            {
                self.no_longer_asked(id, &job);
            }
        }
    }

    fn no_longer_asked(&mut self, id: u64, job: &Job) {
        if self.asked.get(&job.fingerprint) == Some(&id) {
            self.asked.remove(&job.fingerprint);
        }
    }

    /// Moves everything by a step of the wall clock.
    pub fn shift(&mut self, milliseconds: i64) {
        self.rounds.shift(milliseconds);
        self.shares.shift(milliseconds);
        for job in self.jobs.values_mut() {
            let instants = [Some(&mut job.due_at), job.begun_at.as_mut()];
            for at in instants.into_iter().flatten() {
                at.0 = at.0.saturating_add(milliseconds);
            }
        }
    }

    /// Jobs waiting and jobs in flight.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.jobs.len() - self.shares.in_flight(), self.shares.in_flight())
    }
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
impl Schedule {
    /// Panics when somebody has more than his share.
    pub(super) fn check(&self) {
        self.shares.check();
    }
}

#[cfg(test)]
mod tests;
