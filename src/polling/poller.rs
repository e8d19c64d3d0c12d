//! Runs poll jobs, returns their answers, and counts them.
//!
//! Owns the counters. The caller decides how many jobs are in flight, and to which server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::scaling::event::{Answer, OUTCOMES, PollDone, PollJob, Split};
use crate::workers::Closure;

/// Outcomes that are counted: all but the last, `formula`, which no poll has.
const COUNTED: usize = OUTCOMES.len() - 1;

/// Upper bounds of the latency histogram in milliseconds; the last bucket has none. Prometheus answers in 1 to 50 ms, and
/// the default time limit is 3 s.
pub const LATENCY_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 3_000];

/// Counters, which can be read at any time.
#[derive(Debug, Default)]
pub struct PollStats {
    outcomes: [AtomicU64; COUNTED],
    latency: Histogram,
    lateness: Histogram,
    in_flight: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// Not cumulative. The last bucket has no bound.
    buckets: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    sum_micros: AtomicU64,
}

/// One reading of a histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Counts up to each bound of [`LATENCY_BOUNDS_MS`], then all: cumulative, as in Prometheus' exposition.
    pub buckets: [u64; LATENCY_BOUNDS_MS.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    fn count(&self, time: Duration) {
        let at = LATENCY_BOUNDS_MS.iter().position(|bound| time <= Duration::from_millis(*bound));
        self.buckets[at.unwrap_or(LATENCY_BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        let mut sum = 0;
        Distribution {
            buckets: std::array::from_fn(|at| {
                sum += self.buckets[at].load(Ordering::Relaxed);
                sum
            }),
            sum: Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)),
        }
    }
}

/// One reading of the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollCounts {
    /// In the order of [`OUTCOMES`].
    pub outcomes: [u64; COUNTED],
    /// Time from the query to its answer.
    pub latency: Distribution,
    /// Time from when a query was due until it was sent.
    pub lateness: Distribution,
    pub in_flight: u64,
}

impl PollStats {
    #[must_use]
    pub fn read(&self) -> PollCounts {
        PollCounts {
            outcomes: std::array::from_fn(|at| self.outcomes[at].load(Ordering::Relaxed)),
            latency: self.latency.read(),
            lateness: self.lateness.read(),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    fn count(&self, done: &PollDone) {
        match &done.split {
            None => self.count_outcome(&done.answer),
            Some(Split::Each(answers)) => answers.iter().for_each(|(_, answer)| self.count_outcome(answer)),
            Some(Split::Singly) => {}
        }
        self.latency.count(done.latency);
    }

    fn count_outcome(&self, answer: &Answer) {
        let outcome = answer.outcome();
        let at = OUTCOMES.iter().position(|known| *known == outcome);
        if let Some(counter) = at.and_then(|at| self.outcomes.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes the result of a job. All other polls wait while it blocks.
pub type Done = Box<dyn FnOnce(PollDone) + Send>;

/// Starts a job, and calls back from any thread, at once or later.
pub type Begin = dyn Fn(PollJob, Done) + Send + Sync;

/// Runs a closure after the given time.
pub type After = dyn Fn(Duration, Closure) + Send + Sync;

/// An answer waits this long for others, so that the core is woken once for all that fell due together. It is short beside
/// any polling interval, and ends early if no other poll is in flight.
const GATHER: Duration = Duration::from_millis(10);

/// The polls of the daemon.
pub struct Pollers {
    begin: Box<Begin>,
    answers: Arc<Answers>,
    /// Each poll in flight holds a sender, which never sends: the channel closes when all have ended.
    alive: mpsc::Sender<()>,
    ended: Receiver<()>,
}

impl Pollers {
    /// `sink` receives answers that arrive together in one call. It may block, as [`Done`] may.
    pub fn new(begin: Box<Begin>, after: Box<After>, sink: impl Fn(Vec<PollDone>) + Send + Sync + 'static) -> Self {
        let (alive, ended) = mpsc::channel();
        let answers = Answers { waiting: Mutex::default(), after, sink: Box::new(sink), stats: Arc::default() };
        Self { begin, answers: Arc::new(answers), alive, ended }
    }

    /// Starts a job that was due this long ago.
    pub fn take(&self, job: PollJob, lateness: Duration) {
        let (answers, alive) = (Arc::clone(&self.answers), self.alive.clone());
        answers.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        answers.stats.lateness.count(lateness);
        (self.begin)(job, Box::new(move |done| answers.take(done, alive)));
    }

    #[must_use]
    pub fn stats(&self) -> Arc<PollStats> {
        Arc::clone(&self.answers.stats)
    }

    /// Waits for the polls in flight. Returns whether all ended in time; the others end at their own time limits.
    #[must_use]
    pub fn stop(self, within: Duration) -> bool {
        drop(self.alive);
        matches!(self.ended.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
    }
}

/// Answers that have not been handed over yet.
struct Answers {
    waiting: Mutex<Vec<(PollDone, mpsc::Sender<()>)>>,
    after: Box<After>,
    sink: Box<dyn Fn(Vec<PollDone>) + Send + Sync>,
    stats: Arc<PollStats>,
}

impl Answers {
    /// Adds an answer. The first of several schedules the hand-over of all; the last poll in flight makes it immediate.
    fn take(self: Arc<Self>, done: PollDone, alive: mpsc::Sender<()>) {
        let is_last = self.stats.in_flight.fetch_sub(1, Ordering::Relaxed) == 1;
        self.stats.count(&done);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((done, alive));
        let is_first = waiting.len() == 1;
        drop(waiting);
        if is_first || is_last {
            let answers = Arc::clone(&self);
            let time = if is_last { Duration::ZERO } else { GATHER };
            (self.after)(time, Box::new(move || answers.hand_over()));
        }
    }

    fn hand_over(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.is_empty() {
            return;
        }
        let (done, alive): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        (self.sink)(done);
        drop(alive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::event::{ErrorClass, Missing, PollError};

    fn done(answer: Answer, latency_ms: u64) -> PollDone {
        PollDone {
            id: 0,
            asked_after: Duration::ZERO,
            latency: Duration::from_millis(latency_ms),
            answer,
            split: None,
            rest: None,
            pods: None,
            server: None,
        }
    }

    #[test]
    fn every_outcome_is_counted() {
        use ErrorClass::{Authentication, Configuration, Connect, Partial, Query, Response, Status, Timeout, Tls};
        let stats = PollStats::default();
        let missing = [Missing::Empty, Missing::Null, Missing::NaN, Missing::Infinite { positive: true }];
        let classes = [
            Authentication,
            Connect,
            Tls,
            Timeout,
            Status,
            Response,
            Query,
            Partial,
            ErrorClass::Missing,
            Configuration,
        ];
        stats.count(&done(Answer::Value(1.0), 1));
        for missing in missing {
            stats.count(&done(Answer::Missing(missing), 2));
        }
        for class in classes {
            stats.count(&done(Answer::Failed(PollError { class, message: String::new() }), 5_000));
        }
        let counts = stats.read();
        assert_eq!(counts.outcomes, [1; COUNTED]);
        assert_eq!(counts.latency.buckets, [1, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 15]);
        assert_eq!(counts.latency.sum, Duration::from_millis(1 + 8 + 50_000));
    }
}
