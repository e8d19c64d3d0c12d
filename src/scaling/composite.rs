//! The composite metric that a formula computes from an object's triggers. It replaces them in the HPA and in
//! decisions.

use super::answer::{ErrorClass, PollError};
use super::model::{Definition, Modifiers, UnixMillis};
use super::quantity;
use super::trigger::{Current, FallbackContext, TriggerState, stand_in};
use super::view::Reading;

/// Name in the HPA, in reads and in `status.compositeScalerName`.
pub const NAME: &str = "composite-metric";

/// Index of its series in the history, beyond those of the triggers, of which there are far fewer.
pub const INDEX: u16 = u16::MAX;

/// The result of the last evaluation of the formula.
#[derive(Clone, Debug, PartialEq)]
pub enum Composite {
    Value {
        /// Finite, cut to milli units; negative if the formula says so.
        value: f64,
        /// When the oldest of the values used was polled.
        at: UnixMillis,
        is_active: bool,
        /// `fallback.replicas` replaces the result.
        is_fallback: bool,
    },
    Failed {
        error: PollError,
        since: UnixMillis,
    },
}

impl Composite {
    /// Evaluates the formula with the triggers' states; returns `None` while one has never been answered.
    ///
    /// In KEDA a failing formula yields no metric, which scales in; here it is an error, which holds.
    #[must_use]
    pub fn compute(
        definition: &Definition,
        modifiers: &Modifiers,
        states: &[TriggerState],
        context: FallbackContext<'_>,
        before: Option<&Self>,
        now: UnixMillis,
    ) -> Option<Self> {
        let current: Option<Vec<&Current>> = states.iter().map(|state| state.current.as_ref()).collect();
        let current = current?;
        let failed = |error: PollError, since: Option<UnixMillis>| {
            let before = match before {
                Some(Self::Failed { since, .. }) => Some(*since),
                _ => None,
            };
            Some(Self::Failed { error, since: since.or(before).unwrap_or(now) })
        };
        // A fallback in effect stands in for the result, whatever the other triggers are.
        let fallback = current.iter().find_map(|current| match current {
            Current::Fallback { value, at, .. } => Some(Self::stand_in(*value, *at)),
            _ => None,
        });
        if fallback.is_some() {
            return fallback;
        }
        for (trigger, current) in definition.triggers.iter().zip(&current) {
            if let Current::Failed { error, since } = current {
                let message = format!("{}: {}", trigger.label(), error.message);
                return failed(PollError::new(error.class, message), Some(*since));
            }
        }
        let at = definition.triggers.iter().zip(&current).filter_map(|(trigger, current)| match current {
            Current::Value { at, .. } if !trigger.is_computed() => Some(*at),
            _ => None,
        });
        let at = at.min().unwrap_or(now);
        match modifiers.formula.evaluate(&values(definition, modifiers, states)) {
            Ok(Some(value)) => {
                let limit = quantity::VALUE_MAX * 1000.0;
                let value = (value * 1000.0).trunc().clamp(-limit, limit) / 1000.0;
                let is_active = value > modifiers.activation_target;
                Some(Self::Value { value, at, is_active, is_fallback: false })
            }
            Ok(None) => match nil(definition, modifiers, context) {
                Ok(value) => Some(Self::stand_in(value, now)),
                Err(message) => failed(of_formula(with_causes(message, definition, modifiers, states)), None),
            },
            Err(error) => failed(of_formula(with_causes(error.to_string(), definition, modifiers, states)), None),
        }
    }

    /// A fallback that asks for replicas keeps the target running, whatever `activationTarget` is.
    fn stand_in(value: f64, at: UnixMillis) -> Self {
        Self::Value { value, at, is_active: value > 0.0, is_fallback: true }
    }

    /// Moves all times by a step of the wall clock.
    pub fn shift(&mut self, milliseconds: i64) {
        let (Self::Value { at, .. } | Self::Failed { since: at, .. }) = self;
        at.0 = at.0.saturating_add(milliseconds);
    }

    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Value { value, .. } => Some(*value),
            Self::Failed { .. } => None,
        }
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Value { is_active: true, .. })
    }

    #[must_use]
    pub fn is_fallback(&self) -> bool {
        matches!(self, Self::Value { is_fallback: true, .. })
    }

    #[must_use]
    pub fn error(&self) -> Option<&PollError> {
        match self {
            Self::Value { .. } => None,
            Self::Failed { error, .. } => Some(error),
        }
    }

    /// What the HPA reads. It takes a sum below zero for one beyond 64 bits and scales to the maximum (Kubernetes
    /// 1.34).
    #[must_use]
    pub fn reading(&self) -> Reading {
        match self {
            Self::Value { value, at, .. } => Reading::Value { value: value.max(0.0), at: *at },
            Self::Failed { error, since } => Reading::Failed { message: error.message.clone(), since: *since },
        }
    }
}

/// Returns the formula with the values of these states inserted.
#[must_use]
pub fn with_numbers(definition: &Definition, modifiers: &Modifiers, states: &[TriggerState]) -> String {
    modifiers.formula.with_numbers(&values(definition, modifiers, states))
}

/// Returns the values of the formula's variables: the metrics as the HPA would read them, so never below zero.
fn values(definition: &Definition, modifiers: &Modifiers, states: &[TriggerState]) -> Vec<Option<f64>> {
    let value = |name: &String| {
        let position = position(definition, name)?;
        let value = states.get(position)?.value()?;
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 a metric has no last digits either")]
        let milli = quantity::milli(value) as f64;
        Some(milli / 1000.0)
    };
    modifiers.formula.names().iter().map(value).collect()
}

fn position(definition: &Definition, name: &str) -> Option<usize> {
    definition.triggers.iter().position(|trigger| trigger.name.as_deref() == Some(name))
}

/// The value for a formula that yields nil: that of the fallback's replicas.
fn nil(definition: &Definition, modifiers: &Modifiers, context: FallbackContext<'_>) -> Result<f64, String> {
    let Some(fallback) = &definition.fallback else {
        return Err("the formula gives nil, and there is no spec.fallback whose replicas could stand in".to_owned());
    };
    stand_in(f64::from(fallback.replicas), modifiers.target, modifiers.metric_type, context)
}

fn of_formula(message: String) -> PollError {
    PollError::new(ErrorClass::Formula, message)
}

/// Adds why variables that the formula reads are nil.
fn with_causes(message: String, definition: &Definition, modifiers: &Modifiers, states: &[TriggerState]) -> String {
    let read = modifiers.formula.names().iter().enumerate().filter(|(at, _)| modifiers.formula.uses(*at));
    let causes = read.filter_map(|(_, name)| {
        let error = states.get(position(definition, name)?)?.underlying_error()?;
        Some(format!("{name} is nil: {}", error.message))
    });
    std::iter::once(message).chain(causes).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::answer::{Answer, MESSAGE_MAX};
    use crate::scaling::testing::{cron, definition, put_formula, trigger};

    const NO_CONTEXT: FallbackContext<'_> = FallbackContext { current_replicas: Some(4), ready_pods: None };

    /// The result of `a / b` over two triggers, polled at 10 and at 20.
    fn computed(a: Answer, b: Answer, before: Option<&Composite>, now: i64) -> Composite {
        let mut definition = definition();
        definition.triggers = vec![trigger(0, "up"), trigger(1, "down")];
        put_formula(&mut definition, "a / b");
        let mut states = [TriggerState::default(), TriggerState::default()];
        let answers = [(a, 10), (b, 20)];
        for ((state, trigger), (answer, at)) in states.iter_mut().zip(&definition.triggers).zip(answers) {
            state.record_answer(trigger, &definition, &answer, UnixMillis(at), NO_CONTEXT);
        }
        let modifiers = definition.modifiers.as_ref().unwrap();
        Composite::compute(&definition, modifiers, &states, NO_CONTEXT, before, UnixMillis(now)).unwrap()
    }

    #[test]
    fn a_result_is_as_old_as_the_oldest_of_its_values() {
        let composite = computed(Answer::Value(1.0), Answer::Value(2.0), None, 30);
        assert_eq!(composite.reading(), Reading::Value { value: 0.5, at: UnixMillis(10) });
    }

    /// Regression: when the other trigger fell silent, the result of a window of time was as old as the last look at it.
    #[test]
    fn what_follows_from_the_time_alone_is_not_old() {
        let mut definition = definition();
        definition.triggers = vec![cron(0, (u64::MAX, u64::MAX), (0, 0)), trigger(1, "down")];
        put_formula(&mut definition, "b ?? a");
        let mut states = [TriggerState::default(), TriggerState::default()];
        let modifiers = definition.modifiers.as_ref().unwrap();
        let mut computed = |other: Current| {
            states[0].current = Some(Current::Value { value: 4.0, at: UnixMillis(10) });
            states[1].current = Some(other);
            Composite::compute(&definition, modifiers, &states, NO_CONTEXT, None, UnixMillis(30)).unwrap().reading()
        };
        let error = PollError::new(ErrorClass::Timeout, "silent".to_owned());
        let silent = Current::Nil { error, since: UnixMillis(20) };
        assert_eq!(computed(silent), Reading::Value { value: 4.0, at: UnixMillis(30) });
        let answered = Current::Value { value: 5.0, at: UnixMillis(20) };
        assert_eq!(computed(answered), Reading::Value { value: 5.0, at: UnixMillis(20) });
    }

    /// Regression: the error of a formula was as long as those of all its triggers together.
    #[test]
    fn the_causes_of_a_formulas_error_are_cut() {
        let failed = || Answer::Failed(PollError::new(ErrorClass::Status, "x".repeat(MESSAGE_MAX)));
        let composite = computed(failed(), failed(), None, 30);
        let message = composite.error().map_or(0, |error| error.message.len());
        assert!((MESSAGE_MAX..MESSAGE_MAX + 4).contains(&message), "{message}");
        let long = ["up", "down"].map(|name| format!("{name} is nil: {}", "x".repeat(MESSAGE_MAX))).join("; ");
        assert!(of_formula(long).message.len() < MESSAGE_MAX + 4);
    }

    #[test]
    fn a_failure_keeps_its_start_and_follows_the_clock() {
        let fails = |before, now| computed(Answer::Value(1.0), Answer::Value(0.0), before, now);
        let mut composite = fails(None, 30);
        let since = |composite: &Composite| match composite.reading() {
            Reading::Failed { since, .. } => since.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(since(&composite), 30);
        composite.shift(1000);
        assert_eq!(since(&fails(Some(&composite), 1040)), 1030);
        // A trigger's failure began when that trigger began to fail.
        let down = Answer::Failed(PollError { class: ErrorClass::Timeout, message: "slow".to_owned() });
        let composite = computed(Answer::Value(1.0), down, None, 30);
        assert_eq!(since(&composite), 20);
        assert_eq!(composite.error().map(|error| error.class), Some(ErrorClass::Timeout));
        let mut composite = computed(Answer::Value(1.0), Answer::Value(2.0), None, 30);
        composite.shift(-5);
        assert_eq!(composite.reading(), Reading::Value { value: 0.5, at: UnixMillis(5) });
    }
}
