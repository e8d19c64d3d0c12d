//! Equal reads share an answer: those at the same time the same question, and those shortly after its answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::custom_metrics::{Question, Reply};

/// An answer is as good as a new one for this long: Prometheus scrapes every 15 s or more seldom, and several HPAs of
/// one metric are read within a second.
const FRESH: Duration = Duration::from_secs(2);
/// Reads that wait or ask at once; each takes a patient worker of the gate, which has more than these.
pub const READS_MAX: usize = 16;
/// Answers that are kept, for [`FRESH`] at most.
const ANSWERS_MAX: usize = 256;

const OUTCOMES: [&str; 5] = ["asked", "shared", "not_found", "failed", "refused"];

#[derive(Default)]
pub(super) struct Reads {
    state: Mutex<State>,
    answered: Condvar,
    counts: [AtomicU64; OUTCOMES.len()],
}

#[derive(Default)]
struct State {
    answers: HashMap<Question, Slot>,
    /// Reads that wait or ask.
    busy: usize,
}

enum Slot {
    Asked,
    Known(Arc<Reply>, Instant),
}

impl Reads {
    /// Returns an answer: a fresh one, that of an equal read under way, or a new one. `None` without patience if there
    /// is no fresh one.
    pub(super) fn ask(
        &self,
        question: &Question,
        patience: Duration,
        answer: impl FnOnce(Instant) -> Reply,
    ) -> Option<Arc<Reply>> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        if let Some(Slot::Known(reply, at)) = state.answers.get(question)
            && at.elapsed() < FRESH
        {
            self.count("shared");
            return Some(Arc::clone(reply));
        }
        if patience.is_zero() {
            return None;
        }
        if state.busy >= READS_MAX {
            self.count("refused");
            return Some(Arc::new(Reply::Failed(format!(
                "{READS_MAX} reads of metrics by rules are under way already"
            ))));
        }
        state.busy += 1;
        let reply = if matches!(state.answers.get(question), Some(Slot::Asked)) {
            self.wait(state, question, deadline)
        } else {
            state.answers.insert(question.clone(), Slot::Asked);
            drop(state);
            let reply = Arc::new(answer(deadline));
            self.count(match &*reply {
                Reply::Objects { .. } | Reply::External { .. } => "asked",
                Reply::NotFound(_) => "not_found",
                Reply::Failed(_) => "failed",
            });
            self.keep(question, &reply);
            reply
        };
        self.lock().busy -= 1;
        Some(reply)
    }

    fn wait(&self, state: MutexGuard<'_, State>, question: &Question, deadline: Instant) -> Arc<Reply> {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_asked = |state: &mut State| matches!(state.answers.get(question), Some(Slot::Asked));
        let waited = self.answered.wait_timeout_while(state, left, is_asked);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.answers.get(question) {
            Some(Slot::Known(reply, _)) => {
                self.count("shared");
                Arc::clone(reply)
            }
            _ => {
                self.count("failed");
                Arc::new(Reply::Failed("an equal read was not answered in time".to_owned()))
            }
        }
    }

    fn keep(&self, question: &Question, reply: &Arc<Reply>) {
        let mut state = self.lock();
        let now = Instant::now();
        let is_fresh = |slot: &Slot| match slot {
            Slot::Asked => true,
            Slot::Known(_, at) => now.saturating_duration_since(*at) < FRESH,
        };
        // Each may hold thousands of objects, so none stays that nobody may use.
        state.answers.retain(|_, slot| is_fresh(slot));
        if state.answers.len() > ANSWERS_MAX {
            // Those who wait for this one get an error, and read again later.
            state.answers.remove(question);
        } else {
            state.answers.insert(question.clone(), Slot::Known(Arc::clone(reply), now));
        }
        drop(state);
        self.answered.notify_all();
    }

    fn count(&self, outcome: &str) {
        if let Some(at) = OUTCOMES.iter().position(|known| *known == outcome) {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        OUTCOMES.iter().zip(&self.counts).map(|(outcome, count)| (*outcome, count.load(Ordering::Relaxed))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn question(metric: &str) -> Question {
        Question::External { namespace: "shop".into(), metric: metric.into(), selector: String::new() }
    }

    fn found(text: &str) -> Reply {
        Reply::NotFound(text.to_owned())
    }

    #[test]
    fn equal_reads_at_once_ask_once() {
        let reads = Reads::default();
        let asked = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..READS_MAX {
                scope.spawn(|| {
                    let reply = reads.ask(&question("a"), LONG, |_| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        found("x")
                    });
                    assert_eq!(*reply.unwrap(), found("x"));
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
        // Without patience, a fresh answer will do, and nobody is asked.
        let at_once = |metric: &str| reads.ask(&question(metric), Duration::ZERO, |_| panic!("asked"));
        assert!(at_once("a").is_some() && at_once("b").is_none());
        assert_eq!(reads.ask(&question("b"), LONG, |_| found("y")).map(|reply| (*reply).clone()), Some(found("y")));
    }

    #[test]
    fn no_more_wait_than_there_are_places() {
        let reads = Reads::default();
        let (inside, release) = (std::sync::Barrier::new(READS_MAX + 1), std::sync::Barrier::new(READS_MAX + 1));
        std::thread::scope(|scope| {
            for number in 0..READS_MAX {
                let (inside, release, reads) = (&inside, &release, &reads);
                scope.spawn(move || {
                    reads.ask(&question(&number.to_string()), LONG, |_| {
                        inside.wait();
                        release.wait();
                        found("")
                    })
                });
            }
            inside.wait();
            let reply = reads.ask(&question("more"), LONG, |_| panic!("asked")).unwrap();
            assert!(matches!(&*reply, Reply::Failed(text) if text.contains("under way")));
            release.wait();
        });
        assert_eq!(reads.lock().busy, 0);
        assert!(reads.ask(&question("more"), LONG, |_| found("")).is_some());
    }

    #[test]
    fn answers_that_are_kept_are_bounded() {
        let reads = Reads::default();
        for number in 0..ANSWERS_MAX * 2 {
            reads.ask(&question(&number.to_string()), LONG, |_| found(""));
        }
        assert!(reads.lock().answers.len() <= ANSWERS_MAX);
    }
}
