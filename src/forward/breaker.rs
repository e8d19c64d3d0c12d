//! When another adapter is left alone for a while because it does not answer.
//!
//! Pure: time is an argument. What a namespace asks may take the adapter long, since adapters ask others in turn; so a
//! namespace whose reads are not answered has a breaker of its own, and the adapter as a whole counts as away only if
//! reads of several namespaces were not answered, or it could not be connected to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Failures in a row after which nobody asks for a while.
const FAILURES_MAX: u32 = 3;
/// The first while, which doubles with each attempt that fails, and its maximum. HPAs are read every 15 s.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Namespaces that are remembered because of their failures.
const NAMESPACES_MAX: usize = 1_024;

/// Why a read had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The adapter was not reached.
    Unreached,
    /// It was, and did not answer in time.
    Late,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Not before this time; then one attempt is made.
    until: Option<Instant>,
    pause: Duration,
}

impl Breaker {
    fn is_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Keeps others from asking while one attempt is made after a pause.
    fn attempt(&mut self, now: Instant) {
        if self.until.is_some() {
            self.until = Some(now + self.pause);
        }
    }

    fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.pause = if self.until.is_none() { PAUSE } else { (self.pause * 2).min(PAUSE_MAX) };
            self.until = Some(now + self.pause);
        }
    }
}

/// The breakers of one adapter.
#[derive(Debug, Default)]
pub(super) struct Breakers {
    whole: Breaker,
    namespaces: HashMap<String, Breaker>,
    /// Whose read failed last, if none was answered since.
    last: Option<String>,
}

impl Breakers {
    /// Returns whether a read may be sent now. Its outcome must be reported by one of the next two.
    pub(super) fn may_ask(&mut self, namespace: &str, now: Instant) -> bool {
        if self.whole.is_open(now) || self.namespaces.get(namespace).is_some_and(|own| own.is_open(now)) {
            return false;
        }
        self.whole.attempt(now);
        if let Some(own) = self.namespaces.get_mut(namespace) {
            own.attempt(now);
        }
        true
    }

    pub(super) fn answered(&mut self, namespace: &str) {
        self.whole = Breaker::default();
        self.namespaces.remove(namespace);
        self.last = None;
    }

    pub(super) fn failed(&mut self, namespace: &str, failure: Failure, now: Instant) {
        let is_known = self.namespaces.contains_key(namespace);
        if !is_known && self.namespaces.len() >= NAMESPACES_MAX {
            self.namespaces.retain(|_, own| own.is_open(now));
        }
        if is_known || self.namespaces.len() < NAMESPACES_MAX {
            self.namespaces.entry(namespace.to_owned()).or_default().fail(now);
        }
        let is_shared = self.last.as_deref().is_some_and(|last| last != namespace);
        if failure == Failure::Unreached || is_shared {
            self.whole.fail(now);
        }
        self.last = Some(namespace.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_cannot_be_reached_is_left_alone_and_tried_once_after_each_pause() {
        let (start, mut breakers) = (Instant::now(), Breakers::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..FAILURES_MAX {
            assert!(breakers.may_ask("a", at(0)));
            breakers.failed("a", Failure::Unreached, at(0));
        }
        assert!(!breakers.may_ask("b", at(4)), "nobody asks");
        assert!(breakers.may_ask("b", at(5)), "one tries");
        assert!(!breakers.may_ask("c", at(5)), "and the others wait for it");
        breakers.failed("b", Failure::Unreached, at(5));
        assert!(!breakers.may_ask("c", at(14)), "the pause has doubled");
        assert!(breakers.may_ask("c", at(15)));
        breakers.answered("c");
        for namespace in ["b", "c"] {
            assert!(breakers.may_ask(namespace, at(15)), "{namespace}");
        }
    }

    #[test]
    fn slow_reads_of_one_namespace_stop_its_own_and_no_other() {
        let (start, mut breakers) = (Instant::now(), Breakers::default());
        for _ in 0..10 {
            breakers.failed("slow", Failure::Late, start);
        }
        assert!(!breakers.may_ask("slow", start));
        assert!(breakers.may_ask("other", start));
        // Several namespaces in a row without an answer are the adapter's own fault.
        for namespace in ["a", "b", "c"] {
            breakers.failed(namespace, Failure::Late, start);
        }
        assert!(!breakers.may_ask("other", start));
    }

    #[test]
    fn an_answer_between_keeps_it_open_to_all() {
        let (now, mut breakers) = (Instant::now(), Breakers::default());
        for _ in 0..20 {
            breakers.failed("a", Failure::Late, now);
            breakers.answered("b");
            breakers.failed("c", Failure::Unreached, now);
            breakers.answered("b");
        }
        assert!(breakers.may_ask("b", now));
    }

    #[test]
    fn namespaces_are_remembered_up_to_a_limit() {
        let (now, mut breakers) = (Instant::now(), Breakers::default());
        for number in 0..NAMESPACES_MAX * 2 {
            // Their own breakers are open, so that none is forgotten for another.
            (0..FAILURES_MAX).for_each(|_| breakers.failed(&number.to_string(), Failure::Late, now));
        }
        assert!(breakers.namespaces.len() <= NAMESPACES_MAX);
    }
}
