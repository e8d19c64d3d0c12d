//! The state of one trigger: turns raw answers into the value that decisions and reads use.
//!
//! Owns the policy for missing values, the count of failures and the fallback. Polls nothing.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Absence, Answer, ErrorClass, Missing, PollError};
use super::model::{
    Definition, Fallback, FallbackBehavior, Health, MetricType, OnMissing, PodValues, Trigger, UnixMillis,
};
use super::quantity;
use super::target::Target;
use super::view::Reading;

/// The state of one trigger.
#[derive(Clone, Debug, Default)]
pub struct TriggerState {
    /// `None` until the first answer.
    pub current: Option<Current>,
    last_good: Option<(f64, UnixMillis)>,
    /// Consecutive polls with an error.
    pub failures: u32,
    failing_since: Option<UnixMillis>,
    /// The error of the last answer, even if a fallback stands in for it.
    last_error: Option<PollError>,
    /// A missing answer is an error from then on; `None` for a source that is computed from the clock.
    pub silent_at: Option<UnixMillis>,
    /// The last answers had no number, but counted as one.
    absence: Option<Absence>,
    /// Of pods: what each answered when last one did.
    pub pods: Option<Arc<PodValues>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Current {
    /// Finite and not clamped, since activation compares the raw number.
    Value {
        value: f64,
        at: UnixMillis,
    },
    Failed {
        error: PollError,
        since: UnixMillis,
    },
    /// In error beyond the threshold: this value is used instead, and the trigger counts as active.
    Fallback {
        value: f64,
        error: PollError,
        at: UnixMillis,
    },
    /// In error beyond the threshold with `fallback.behavior: scalingModifiers`: the formula reads nil and decides what
    /// stands in.
    Nil {
        error: PollError,
        since: UnixMillis,
    },
}

/// What a fallback depends on of the target.
#[derive(Clone, Copy, Debug)]
pub struct FallbackContext<'a> {
    pub current_replicas: Option<u32>,
    /// Pods that are Running and Ready, for metricType Value.
    pub ready_pods: Option<Result<u32, &'a str>>,
}

impl<'a> FallbackContext<'a> {
    /// `ready_pods` is the last count, if there was one.
    pub(super) fn of(target: &Target, ready_pods: Option<&'a Result<u32, String>>) -> Self {
        let ready_pods = ready_pods.map(|ready| ready.as_ref().copied().map_err(String::as_str));
        Self { current_replicas: target.replicas(), ready_pods }
    }
}

impl TriggerState {
    /// Continues the count of failures in the object's status, so that neither a restart nor taking over ends a
    /// fallback.
    #[must_use]
    pub fn with_failures(failures: u32) -> Self {
        Self { failures, ..Self::default() }
    }

    /// Continues with the last value that an earlier process got.
    pub fn hold(&mut self, value: f64, at: UnixMillis) {
        self.last_good = Some((value, at));
    }

    /// Moves all times by a step of the wall clock.
    pub fn shift(&mut self, milliseconds: i64) {
        let shift = |at: &mut UnixMillis| at.0 = at.0.saturating_add(milliseconds);
        if let Some((_, at)) = &mut self.last_good {
            shift(at);
        }
        for at in [&mut self.failing_since, &mut self.silent_at].into_iter().flatten() {
            shift(at);
        }
        if let Some(absence) = &mut self.absence {
            shift(&mut absence.since);
        }
        match &mut self.current {
            Some(Current::Value { at, .. } | Current::Fallback { at, .. }) => shift(at),
            Some(Current::Failed { since, .. } | Current::Nil { since, .. }) => shift(since),
            None => {}
        }
    }

    /// Computes a fallback again, since more is known of the target than when the answer came.
    pub fn reconsider(
        &mut self,
        trigger: &Trigger,
        definition: &Definition,
        at: UnixMillis,
        context: FallbackContext<'_>,
    ) {
        if let Some(error) = self.last_error.clone() {
            self.failed(trigger, definition, error, at, context);
        }
    }

    /// Records one answer. `at` is when the server was queried.
    pub fn record_answer(
        &mut self,
        trigger: &Trigger,
        definition: &Definition,
        answer: &Answer,
        at: UnixMillis,
        context: FallbackContext<'_>,
    ) {
        match interpret(&trigger.on_missing, answer, self.last_good, at) {
            Ok(value) => {
                if matches!(answer, Answer::Value(_)) {
                    self.last_good = Some((value, at));
                }
                self.failures = 0;
                self.failing_since = None;
                self.last_error = None;
                self.absence = match answer {
                    Answer::Missing(missing) => {
                        let before = self.absence.take().filter(|absence| absence.missing == *missing);
                        let since = before.map_or(at, |absence| absence.since);
                        Some(Absence { missing: missing.clone(), policy: trigger.on_missing.clone(), since })
                    }
                    _ => None,
                };
                self.current = Some(Current::Value { value, at });
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.last_error = Some(error.clone());
                self.absence = None;
                self.failed(trigger, definition, error, at, context);
            }
        }
    }

    fn failed(
        &mut self,
        trigger: &Trigger,
        definition: &Definition,
        error: PollError,
        at: UnixMillis,
        context: FallbackContext<'_>,
    ) {
        let since = *self.failing_since.get_or_insert(at);
        let fallback = definition.fallback.as_ref().filter(|f| self.failures > f.failure_threshold);
        let reaches_formula = |fallback: &Fallback| {
            definition.modifiers.is_some() && fallback.behavior == FallbackBehavior::ScalingModifiers
        };
        self.current = Some(match fallback {
            Some(fallback) if reaches_formula(fallback) => Current::Nil { error, since },
            Some(fallback) => match fallback_value(trigger, definition, fallback, context) {
                Ok(value) => Current::Fallback { value, error, at },
                Err(message) => {
                    let message = format!("{message}; it would stand in for: {}", error.message);
                    Current::Failed { error: PollError::new(error.class, message), since }
                }
            },
            None => Current::Failed { error, since },
        });
    }

    /// Begins to wait for an answer. The age of a value that is known already counts on.
    pub fn listen(&mut self, trigger: &Trigger, limit: Duration, now: UnixMillis) {
        if trigger.is_computed() {
            self.silent_at = None;
            return;
        }
        let at = match self.current {
            Some(Current::Value { at, .. }) if now.since(at) < limit => at,
            Some(Current::Value { .. }) => {
                self.current = None;
                now
            }
            _ => now,
        };
        self.silent_at = Some(at.plus(limit));
    }

    /// Its value was polled at least `limit` ago, so nothing may be decided on it. In that instant its silence is an
    /// error, too.
    #[must_use]
    pub fn is_old(&self, trigger: &Trigger, limit: Duration, now: UnixMillis) -> bool {
        matches!(self.current, Some(Current::Value { at, .. }) if !trigger.is_computed() && now.since(at) >= limit)
    }

    /// How old its value may become, see [`super::view::MetricView`].
    #[must_use]
    pub fn age_limit(&self, trigger: &Trigger, limit: Duration) -> Option<Duration> {
        (matches!(self.current, Some(Current::Value { .. })) && !trigger.is_computed()).then_some(limit)
    }

    /// Returns true if it is above its activation threshold, or in fallback.
    #[must_use]
    pub fn is_active(&self, trigger: &Trigger) -> bool {
        match &self.current {
            Some(Current::Value { value, .. }) => *value > trigger.activation_threshold,
            Some(Current::Fallback { .. }) => true,
            Some(Current::Failed { .. } | Current::Nil { .. }) | None => false,
        }
    }

    #[must_use]
    pub fn error(&self) -> Option<&PollError> {
        match &self.current {
            Some(Current::Failed { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// The error, even if a fallback stands in for it.
    #[must_use]
    pub fn underlying_error(&self) -> Option<&PollError> {
        match &self.current {
            Some(Current::Failed { error, .. } | Current::Fallback { error, .. } | Current::Nil { error, .. }) => {
                Some(error)
            }
            _ => None,
        }
    }

    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self.current {
            Some(Current::Value { value, .. } | Current::Fallback { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// Returns what the last answers had instead of a number, if the trigger's policy counts that as one.
    #[must_use]
    pub fn absence(&self) -> Option<&Absence> {
        self.absence.as_ref()
    }

    /// If its value is 0 because the answer had no number: what the answer was instead, and since when.
    #[must_use]
    pub fn assumed_zero(&self) -> Option<(&Missing, UnixMillis)> {
        let absence = self.absence.as_ref().filter(|absence| absence.policy.is_zero())?;
        Some((&absence.missing, absence.since))
    }

    /// Its last number asked for no replicas either, so a missing number makes no difference.
    #[must_use]
    pub fn was_zero_before(&self) -> bool {
        self.last_good.is_some_and(|(value, _)| value <= 0.0)
    }

    /// Returns true if its value is that of the fallback.
    #[must_use]
    pub fn is_falling_back(&self) -> bool {
        matches!(self.current, Some(Current::Fallback { .. }))
    }

    #[must_use]
    pub fn health(&self) -> Health {
        Health { number_of_failures: self.failures, failing: self.failures > 0 }
    }

    /// The answer to a read of this metric.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match &self.current {
            None => Reading::Pending,
            Some(Current::Value { value, at } | Current::Fallback { value, at, .. }) => {
                Reading::Value { value: value.max(0.0), at: *at }
            }
            Some(Current::Failed { error, since } | Current::Nil { error, since }) => {
                Reading::Failed { message: error.message.clone(), since: *since }
            }
        }
    }
}

/// Applies the policy for missing values.
fn interpret(
    policy: &OnMissing,
    answer: &Answer,
    last_good: Option<(f64, UnixMillis)>,
    now: UnixMillis,
) -> Result<f64, PollError> {
    let missing = match answer {
        Answer::Value(value) => return Ok(*value),
        Answer::Failed(error) => return Err(error.clone()),
        Answer::Missing(missing) => missing,
    };
    match policy {
        OnMissing::Zero => Ok(0.0),
        OnMissing::EmptyIsZero if *missing == Missing::Empty => Ok(0.0),
        OnMissing::EmptyIsZero | OnMissing::Error => Err(missing_error(missing, "")),
        OnMissing::Hold(hold_for) => match last_good {
            Some((value, at)) if now.since(at) <= *hold_for => Ok(value),
            Some(_) => Err(missing_error(missing, ", and the last value is older than holdFor")),
            None => Err(missing_error(missing, ", and there is no earlier value to hold")),
        },
    }
}

fn missing_error(missing: &Missing, suffix: &str) -> PollError {
    let what = match missing {
        // KEDA's own texts, which users' alerts match on.
        Missing::Empty => "prometheus metrics 'prometheus' target may be lost, the result is empty",
        Missing::Null => "prometheus query returns null",
        Missing::NaN => "prometheus query returns NaN",
        Missing::Infinite { positive: true } => "prometheus query returns +Inf",
        Missing::Infinite { positive: false } => "prometheus query returns -Inf",
    };
    PollError::new(ErrorClass::Missing, format!("{what}{suffix}"))
}

/// Returns the value for which the HPA wants the fallback's replicas.
fn fallback_value(
    trigger: &Trigger,
    definition: &Definition,
    fallback: &Fallback,
    context: FallbackContext<'_>,
) -> Result<f64, String> {
    let current = || context.current_replicas.ok_or("fallback needs the target's replicas, which cannot be read");
    let replicas = match fallback.behavior {
        // Without a formula nothing can read a missing value, so this is the static fallback.
        FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => fallback.replicas,
        FallbackBehavior::CurrentReplicas => current()?,
        FallbackBehavior::CurrentReplicasIfHigher => current()?.max(fallback.replicas),
        FallbackBehavior::CurrentReplicasIfLower => current()?.min(fallback.replicas),
    };
    // If there is a formula, the fallback stands in for its result.
    let (target, metric_type) = match &definition.modifiers {
        Some(modifiers) => (modifiers.target, modifiers.metric_type),
        None => (trigger.threshold, trigger.metric_type),
    };
    stand_in(f64::from(replicas), target, metric_type, context)
}

/// Returns the value for which the HPA wants `replicas` with this target.
pub(super) fn stand_in(
    replicas: f64,
    target: f64,
    metric_type: MetricType,
    context: FallbackContext<'_>,
) -> Result<f64, String> {
    let wanted = match metric_type {
        MetricType::AverageValue => replicas,
        // The HPA multiplies the ratio of a Value metric by the ready pods, so the value is divided by them.
        MetricType::Value => match context.ready_pods {
            Some(Ok(0)) => {
                return Err("fallback of a Value metric needs at least one ready pod".to_owned());
            }
            Some(Ok(ready)) => replicas / f64::from(ready),
            Some(Err(error)) => {
                return Err(format!("fallback of a Value metric cannot count ready pods: {error}"));
            }
            None => {
                return Err("fallback of a Value metric waits for the count of ready pods".to_owned());
            }
        },
    };
    // Truncated to milli units, as in KEDA, so that rounding up never asks for one replica more.
    Ok((target * wanted * 1000.0).trunc().min(quantity::VALUE_MAX * 1000.0) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::testing::{definition, trigger};

    const NO_CONTEXT: FallbackContext<'_> = FallbackContext { current_replicas: Some(4), ready_pods: None };

    fn failed(message: &str) -> Answer {
        Answer::Failed(PollError { class: ErrorClass::Timeout, message: message.to_owned() })
    }

    /// Returns the value, or the beginning of the error's text.
    fn outcome(policy: OnMissing, answers: &[(Answer, i64)]) -> Result<f64, String> {
        let mut trigger = trigger(0, "up");
        trigger.on_missing = policy;
        let mut state = TriggerState::default();
        for (answer, at) in answers {
            state.record_answer(&trigger, &definition(), answer, UnixMillis(*at), NO_CONTEXT);
        }
        match state.current {
            Some(Current::Value { value, .. }) => Ok(value),
            Some(Current::Failed { error, .. }) => Err(error.message),
            other => panic!("{other:?}"),
        }
    }

    /// Regression: in that instant a decision was still made on it, if another trigger was called missing first.
    #[test]
    fn a_reading_is_old_in_the_instant_of_its_silence() {
        let (trigger, limit) = (trigger(0, "up"), Duration::from_secs(30));
        let mut state = TriggerState::default();
        state.record_answer(&trigger, &definition(), &Answer::Value(1.0), UnixMillis(1_000), NO_CONTEXT);
        state.listen(&trigger, limit, UnixMillis(1_000));
        assert_eq!(state.silent_at, Some(UnixMillis(31_000)));
        assert!(!state.is_old(&trigger, limit, UnixMillis(30_999)));
        assert!(state.is_old(&trigger, limit, UnixMillis(31_000)));
    }

    #[test]
    fn missing_is_zero_only_where_asked() {
        let all =
            [Missing::Null, Missing::NaN, Missing::Infinite { positive: true }, Missing::Infinite { positive: false }];
        let ask =
            |policy: &OnMissing, missing: &Missing| outcome(policy.clone(), &[(Answer::Missing(missing.clone()), 1)]);
        assert_eq!(ask(&OnMissing::EmptyIsZero, &Missing::Empty), Ok(0.0));
        assert_eq!(ask(&OnMissing::Zero, &Missing::Empty), Ok(0.0));
        assert!(ask(&OnMissing::Error, &Missing::Empty).unwrap_err().contains("target may be lost"));
        for missing in &all {
            assert!(ask(&OnMissing::EmptyIsZero, missing).is_err(), "{missing:?}");
            assert!(ask(&OnMissing::Error, missing).is_err(), "{missing:?}");
            assert_eq!(ask(&OnMissing::Zero, missing), Ok(0.0), "{missing:?}");
        }
    }

    #[test]
    fn hold_keeps_the_last_good_value_up_to_its_age() {
        let hold = OnMissing::Hold(Duration::from_secs(60));
        let good = (Answer::Value(7.0), 1_000);
        let empty = |at| (Answer::Missing(Missing::Empty), at);
        assert_eq!(outcome(hold.clone(), &[good.clone(), empty(2_000)]), Ok(7.0));
        assert_eq!(outcome(hold.clone(), &[good.clone(), empty(30_000), empty(61_000)]), Ok(7.0));
        assert!(
            outcome(hold.clone(), &[good.clone(), empty(30_000), empty(61_001)])
                .unwrap_err()
                .contains("older than holdFor")
        );
        assert!(outcome(hold.clone(), &[empty(1)]).unwrap_err().contains("no earlier value"));
        // A failing server is an error at once: holding is only for answers without a value.
        assert_eq!(outcome(hold, &[good, (failed("gone"), 2_000)]), Err("gone".to_owned()));
    }

    fn with_fallback(behavior: FallbackBehavior, replicas: u32) -> Definition {
        let mut definition = definition();
        definition.fallback = Some(Fallback { failure_threshold: 3, replicas, behavior });
        definition
    }

    #[test]
    fn fallback_stands_in_above_the_threshold_and_heals() {
        let definition = with_fallback(FallbackBehavior::Static, 6);
        let trigger = trigger(0, "up");
        let mut state = TriggerState::default();
        for n in 1..=3 {
            state.record_answer(&trigger, &definition, &failed("x"), UnixMillis(n), NO_CONTEXT);
            assert!(state.error().is_some() && !state.is_active(&trigger), "failure {n}");
        }
        state.record_answer(&trigger, &definition, &failed("x"), UnixMillis(4), NO_CONTEXT);
        assert_eq!(state.value(), Some(450.0));
        assert!(state.is_active(&trigger) && state.error().is_none() && state.underlying_error().is_some());
        assert_eq!(state.health(), Health { number_of_failures: 4, failing: true });
        state.record_answer(&trigger, &definition, &Answer::Value(0.0), UnixMillis(5), NO_CONTEXT);
        assert_eq!(state.health(), Health { number_of_failures: 0, failing: false });
        assert!(!state.is_active(&trigger));
    }

    #[test]
    fn each_fallback_behavior_gives_its_count() {
        use FallbackBehavior as B;
        let context = |ready| FallbackContext { current_replicas: Some(4), ready_pods: ready };
        for (behavior, replicas, kind, ready, expected) in [
            (B::Static, 6, MetricType::AverageValue, None, Some(450.0)),
            (B::CurrentReplicas, 6, MetricType::AverageValue, None, Some(300.0)),
            (B::CurrentReplicasIfHigher, 6, MetricType::AverageValue, None, Some(450.0)),
            (B::CurrentReplicasIfHigher, 2, MetricType::AverageValue, None, Some(300.0)),
            (B::CurrentReplicasIfLower, 6, MetricType::AverageValue, None, Some(300.0)),
            (B::CurrentReplicasIfLower, 2, MetricType::AverageValue, None, Some(150.0)),
            (B::Static, 0, MetricType::AverageValue, None, Some(0.0)),
            (B::ScalingModifiers, 6, MetricType::AverageValue, None, Some(450.0)),
            (B::Static, 6, MetricType::Value, Some(Ok(4)), Some(112.5)),
            (B::Static, 6, MetricType::Value, Some(Ok(7)), Some(64.285)),
            (B::Static, 6, MetricType::Value, Some(Ok(0)), None),
            (B::Static, 6, MetricType::Value, None, None),
        ] {
            let definition = with_fallback(behavior, replicas);
            let mut trigger = trigger(0, "up");
            trigger.metric_type = kind;
            let mut state = TriggerState::default();
            for n in 1..=4 {
                state.record_answer(&trigger, &definition, &failed("x"), UnixMillis(n), context(ready));
            }
            assert_eq!(state.value(), expected, "{behavior:?} {replicas} {kind:?} {ready:?}");
        }
    }

    #[test]
    fn activation_compares_the_raw_value_strictly() {
        let mut trigger = trigger(0, "up");
        for (threshold, value, active) in
            [(0.0, 0.0, false), (0.0, 1e-9, true), (50.0, 50.0, false), (50.0, 50.1, true), (-10.0, -5.0, true)]
        {
            trigger.activation_threshold = threshold;
            let mut state = TriggerState::default();
            state.record_answer(&trigger, &definition(), &Answer::Value(value), UnixMillis(1), NO_CONTEXT);
            assert_eq!(state.is_active(&trigger), active, "{value} > {threshold}");
        }
    }

    #[test]
    fn reads_never_see_a_negative_and_errors_keep_their_start() {
        let trigger = trigger(0, "up");
        let mut state = TriggerState::default();
        assert_eq!(state.reading(), Reading::Pending);
        state.record_answer(&trigger, &definition(), &Answer::Value(-5.0), UnixMillis(1), NO_CONTEXT);
        assert_eq!(state.reading(), Reading::Value { value: 0.0, at: UnixMillis(1) });
        for at in [2, 3, 4] {
            state.record_answer(&trigger, &definition(), &failed("gone"), UnixMillis(at), NO_CONTEXT);
            assert_eq!(state.reading(), Reading::Failed { message: "gone".to_owned(), since: UnixMillis(2) });
        }
    }
}
