//! HPAs that are only observed: records what their status shows, and answers nothing for them.

use std::time::Duration;

use super::work::Work;
use crate::scaling::event::{Answer, Command, Record};
use crate::scaling::model::{Condition, ConditionKind, ConditionStatus};
use crate::scaling::object::{Object, Verdict, scaling_active};

/// What an HPA says while it has no replicas, for which it needs no metrics.
const DISABLED: &str = "ScalingDisabled";

impl Object {
    /// Records the readings that are due, and whether the HPA can use them.
    pub(super) fn observe_hpa(&mut self, work: &mut Work<'_>) {
        // It was asked for by annotations before.
        if self.polled_generation.is_some() || self.published.is_some() {
            self.stop(work);
            self.published = None;
            work.outbox.push(Command::Publish(self.spec.key.clone(), None));
        }
        self.verdict = Verdict::Good;
        self.record_shown(work);
        let says = work.facts.hpa_of(self).and_then(scaling_active);
        let Some((ready, active)) = says.map(|(status, reason, message)| conditions(status, reason, message)) else {
            return;
        };
        self.spec.status.conditions = vec![ready, active];
        let wanted = self.spec.status.clone();
        self.record_conditions(&wanted, work);
    }

    fn record_shown(&mut self, work: &mut Work<'_>) {
        let Some(observed) = self.spec.observed.as_mut().filter(|_| self.spec.definition.is_ok()) else { return };
        let (news, look) = observed.due(work.now);
        for (position, answer) in news {
            let is_error = matches!(answer, Answer::Failed(_));
            let (object, trigger) = (self.spec.key.clone(), u16::try_from(position).unwrap_or(u16::MAX));
            let latency = Duration::ZERO;
            work.outbox.record(Record::Sample { at: work.now, object, trigger, answer, latency, is_error });
        }
        if let Some(at) = look {
            work.outbox.wake(&self.spec.key, at);
        }
    }
}

/// The conditions that the history has of such an HPA, from the one in which it says whether it can scale.
fn conditions(status: &str, reason: &str, message: &str) -> (Condition, Condition) {
    use ConditionKind::{Active, Ready};
    use ConditionStatus::{False, True, Unknown};
    match (status, reason) {
        // Its text names a metric, which changes all the time.
        ("True", _) => (
            Condition::new(Ready, True, "HPAReady", "the HPA reads its metrics"),
            Condition::new(Active, True, "HPAActive", "the HPA is scaling"),
        ),
        (_, DISABLED) => (
            Condition::new(Ready, True, "HPAReady", "the HPA can scale"),
            Condition::new(Active, False, DISABLED, message.to_owned()),
        ),
        _ => (
            Condition::new(Ready, False, reason.to_owned(), message.to_owned()),
            Condition::new(Active, Unknown, "UnknownState", "the HPA is not scaling"),
        ),
    }
}
