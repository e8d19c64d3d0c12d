//! Equal reads share an answer: those at the same time the same question, and those shortly after its answer. All others
//! share the places, of which no namespace has more than half.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::custom_metrics::{Objects, Question, Reply};
use crate::scaling::schedule::Places;

/// An answer is as good as a new one for this long: Prometheus scrapes every 15 s or more seldom, and several HPAs of
/// one metric are read within a second.
const FRESH: Duration = Duration::from_secs(2);
/// Reads that wait or ask at once; each takes a patient worker of the gate, which has more than these.
pub const READS_MAX: usize = 16;
/// Answers that are kept, for [`FRESH`] at most, and those of one namespace.
const ANSWERS_MAX: usize = 256;
const ANSWERS_OF_ONE_MAX: usize = ANSWERS_MAX / 4;

const OUTCOMES: [&str; 5] = ["asked", "shared", "not_found", "failed", "refused"];

pub(super) struct Reads {
    state: Mutex<State>,
    answered: Condvar,
    counts: [AtomicU64; OUTCOMES.len()],
}

struct State {
    answers: HashMap<Question, Slot>,
    /// Of reads that wait or ask.
    places: Places,
}

/// Returns the namespace whose share a read takes from: that of the objects, or the object itself if it is a namespace.
/// Other objects without a namespace are one party.
pub(super) fn party<'q>(namespace: &'q str, resource: &str, objects: &'q Objects) -> &'q str {
    match objects {
        Objects::One(name) if namespace.is_empty() && resource == "namespaces" => name,
        _ => namespace,
    }
}

fn party_of(question: &Question) -> &str {
    match question {
        Question::Objects { namespace, resource, objects, .. } => party(namespace, resource, objects),
        Question::External { namespace, .. } => namespace,
    }
}

impl Default for Reads {
    fn default() -> Self {
        let state = State { answers: HashMap::new(), places: Places::new(READS_MAX) };
        Self { state: Mutex::new(state), answered: Condvar::new(), counts: Default::default() }
    }
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
        let party: Arc<str> = party_of(question).into();
        if !state.places.has_room(&party, false) {
            self.count("refused");
            return Some(Arc::new(Reply::Failed(
                "as many reads of metrics by rules as this namespace may have are under way already".to_owned(),
            )));
        }
        state.places.take(&party);
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
        self.lock().places.give_back(&party);
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
        state.make_room(party_of(question));
        state.answers.insert(question.clone(), Slot::Known(Arc::clone(reply), now));
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

impl State {
    /// Forgets the oldest answer of a namespace that has its share, or of all if there are too many.
    fn make_room(&mut self, party: &str) {
        let of_party = self.answers.keys().filter(|question| party_of(question) == party).count();
        if of_party < ANSWERS_OF_ONE_MAX && self.answers.len() < ANSWERS_MAX {
            return;
        }
        let known = self.answers.iter().filter_map(|(question, slot)| match slot {
            Slot::Known(_, at) if of_party < ANSWERS_OF_ONE_MAX || party_of(question) == party => Some((*at, question)),
            _ => None,
        });
        if let Some(oldest) = known.min_by_key(|(at, _)| *at).map(|(_, question)| question.clone()) {
            self.answers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn question(metric: &str) -> Question {
        of("shop", metric)
    }

    fn of(namespace: &str, metric: &str) -> Question {
        Question::External { namespace: namespace.into(), metric: metric.into(), selector: String::new() }
    }

    fn found(text: &str) -> Reply {
        Reply::NotFound(text.to_owned())
    }

    #[test]
    fn equal_reads_at_once_ask_once() {
        let reads = Reads::default();
        let asked = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..READS_MAX / 2 {
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

    /// Reads of one namespace that wait for their answers until the second barrier.
    fn hold<'s>(
        scope: &'s std::thread::Scope<'s, '_>,
        reads: &'s Reads,
        namespace: &'static str,
        number: usize,
        [inside, release]: [&'s std::sync::Barrier; 2],
    ) {
        for number in 0..number {
            scope.spawn(move || {
                reads.ask(&of(namespace, &number.to_string()), LONG, |_| {
                    inside.wait();
                    release.wait();
                    found("")
                })
            });
        }
    }

    #[test]
    fn slow_reads_of_namespaces_leave_places_for_others() {
        let reads = Reads::default();
        let [inside, release, more] = [READS_MAX / 2 + 1, READS_MAX * 3 / 4 + 1, READS_MAX / 4 + 1];
        let [inside, release, more] = [inside, release, more].map(std::sync::Barrier::new);
        let is_refused = |namespace: &str| {
            let reply = reads.ask(&of(namespace, "more"), LONG, |_| found("y"));
            matches!(&*reply.unwrap(), Reply::Failed(text) if text.contains("this namespace"))
        };
        std::thread::scope(|scope| {
            hold(scope, &reads, "slow", READS_MAX / 2, [&inside, &release]);
            inside.wait();
            assert!(is_refused("slow") && !is_refused("shop"));
            hold(scope, &reads, "also-slow", READS_MAX / 4, [&more, &release]);
            more.wait();
            assert!(is_refused("slow") && is_refused("also-slow") && !is_refused("shop"));
            release.wait();
        });
        assert_eq!(reads.lock().places.taken(), 0);
        assert!(reads.ask(&of("slow", "again"), LONG, |_| found("")).is_some());
    }

    #[test]
    fn a_namespace_reads_its_own_metrics_in_its_own_name() {
        for (namespace, resource, objects, expected) in [
            ("shop", "pods", Objects::All(String::new()), "shop"),
            ("", "namespaces", Objects::One("shop".into()), "shop"),
            ("", "nodes", Objects::One("shop".into()), ""),
        ] {
            assert_eq!(party(namespace, resource, &objects), expected);
        }
    }

    #[test]
    fn answers_that_are_kept_are_bounded() {
        let reads = Reads::default();
        let at_once =
            |namespace: &str| reads.ask(&of(namespace, "first"), Duration::ZERO, |_| panic!("asked")).is_some();
        reads.ask(&of("other", "first"), LONG, |_| found(""));
        for number in 0..ANSWERS_MAX * 2 {
            reads.ask(&question(&number.to_string()), LONG, |_| found(""));
        }
        // One namespace's answers displace no other's.
        assert!(reads.lock().answers.len() <= ANSWERS_OF_ONE_MAX + 1 && at_once("other"));
        for number in 0..ANSWERS_MAX * 2 {
            reads.ask(&of(&number.to_string(), "first"), LONG, |_| found(""));
        }
        assert!(reads.lock().answers.len() <= ANSWERS_MAX);
    }
}
