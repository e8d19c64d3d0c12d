//! Reports an object's failing triggers in one condition for as long as they fail: Events expire, and the Ready
//! condition keeps KEDA's own texts.
//!
//! Equal troubles have equal texts, so the only times in them are those of a beginning, and polls are not counted.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::answer::{ErrorClass, Missing};
use super::composite::Composite;
use super::model::{Condition, ConditionKind, ConditionStatus, Definition, Trigger, UnixMillis};
use super::trigger::TriggerState;

/// Every trigger has a value.
pub const HEALTHY: &str = "TriggersHealthy";
/// At least one trigger gives none.
pub const FAILED: &str = "TriggerFailed";
/// All triggers give a value, and one that reads no series as 0 has caused a scale-in.
pub const NO_SERIES: &str = "NoSeriesReadAsZero";
/// The triggers are not polled at present.
pub const NOT_ASKED: &str = "TriggersNotAsked";

/// Bytes of the text of one trigger, and of all together.
const TEXT_MAX: usize = 400;
const TEXTS_MAX: usize = 1_500;
/// While the same triggers fail in the same way, a different text is written no more often than this: a server may put
/// a counter into its answers.
const REWORD_AFTER: Duration = Duration::from_mins(1);
/// Scaling in by silence goes in steps; one event covers several.
const SILENCE_EVENT_EVERY: Duration = Duration::from_mins(1);

/// What is reported about the triggers at present.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// `None` if nothing was ever wrong; then the object has no such condition.
    pub(super) condition: Option<Condition>,
    /// Which triggers fail, and how.
    failing: Vec<(u16, ErrorClass)>,
    worded_at: UnixMillis,
    /// Triggers whose missing series have caused a scale-in.
    silent: BTreeSet<u16>,
    silence_reported_at: Option<UnixMillis>,
}

impl Troubles {
    /// Called when all triggers are answered. `written` is the condition that the object has.
    pub(super) fn update(
        &mut self,
        definition: &Definition,
        states: &[TriggerState],
        composite: Option<&Composite>,
        written: Option<&Condition>,
        now: UnixMillis,
    ) {
        let (failing, message) = failures(definition, states, composite);
        if !failing.is_empty() {
            let is_same = self.failing == failing && self.condition.is_some();
            if is_same && now.since(self.worded_at) < REWORD_AFTER {
                return;
            }
            self.failing = failing;
            let condition = condition(ConditionStatus::False, FAILED, message);
            if self.condition.as_ref() != Some(&condition) {
                self.worded_at = now;
                self.condition = Some(condition);
            }
            return;
        }
        self.failing.clear();
        let assumed = |position: &usize| states.get(*position).is_some_and(|state| state.assumed_zero().is_some());
        let silent: Vec<usize> = (0..definition.triggers.len()).filter(assumed).collect();
        self.silent.retain(|index| silent.iter().any(|at| definition.triggers[*at].index == *index));
        // A trigger that was silent before a restart has not scaled in since, but its silence continues.
        let before = written.filter(|written| self.condition.is_none() && written.reason == NO_SERIES);
        if let (Some(before), false) = (before, silent.is_empty()) {
            self.silent.extend(silent.iter().map(|at| definition.triggers[*at].index));
            self.condition = Some(before.clone());
        } else if self.silent.is_empty() {
            let is_known = self.condition.is_some() || written.is_some();
            self.condition = is_known.then(|| condition(ConditionStatus::True, HEALTHY, "every trigger gives a value"));
        } else if self.condition.as_ref().is_none_or(|condition| condition.reason != NO_SERIES) {
            self.condition = Some(condition(ConditionStatus::True, NO_SERIES, self.silence(definition, states)));
        }
    }

    /// The target has fewer replicas while triggers treat missing series as 0. Returns the text of an Event about that.
    pub(super) fn scaled_in(
        &mut self,
        definition: &Definition,
        states: &[TriggerState],
        (from, to): (u32, u32),
        now: UnixMillis,
    ) -> Option<String> {
        let triggers = definition.triggers.iter().zip(states);
        let silent = triggers.filter(|(_, state)| state.assumed_zero().is_some() && !state.was_zero_before());
        self.silent.extend(silent.map(|(trigger, _)| trigger.index));
        if self.silent.is_empty() || !self.failing.is_empty() {
            return None;
        }
        let silence = self.silence(definition, states);
        self.condition = Some(condition(ConditionStatus::True, NO_SERIES, silence.clone()));
        if self.silence_reported_at.is_some_and(|at| now.since(at) < SILENCE_EVENT_EVERY) {
            return None;
        }
        self.silence_reported_at = Some(now);
        Some(format!("scaled in from {from} to {to}: {silence}"))
    }

    fn silence(&self, definition: &Definition, states: &[TriggerState]) -> String {
        let triggers = definition.triggers.iter().zip(states);
        let texts =
            triggers.filter(|(trigger, _)| self.silent.contains(&trigger.index)).filter_map(|(trigger, state)| {
                let (missing, since) = state.assumed_zero()?;
                let what = match missing {
                    Missing::Empty => "no series".to_owned(),
                    other => format!("no number but {}", other.class()),
                };
                let reads = trigger.on_missing.reads();
                Some(format!("{what} for {} since {}, {reads}", trigger.label(), since))
            });
        joined(texts)
    }

    /// Moves all times by a step of the wall clock.
    pub(super) fn shift(&mut self, milliseconds: i64) {
        for at in [Some(&mut self.worded_at), self.silence_reported_at.as_mut()].into_iter().flatten() {
            at.0 = at.0.saturating_add(milliseconds);
        }
    }
}

/// `s1-prometheus: no answer from …`: an error with its trigger.
pub(super) fn of(trigger: &Trigger, text: &str) -> String {
    format!("{}: {text}", trigger.label())
}

fn failures(
    definition: &Definition,
    states: &[TriggerState],
    composite: Option<&Composite>,
) -> (Vec<(u16, ErrorClass)>, String) {
    let (mut failing, mut texts) = (Vec::new(), Vec::new());
    for (trigger, state) in definition.triggers.iter().zip(states) {
        if let Some(error) = state.underlying_error() {
            failing.push((trigger.index, error.class));
            texts.push(of(trigger, &error.message));
        }
    }
    // An error of one of the triggers has been reported as theirs.
    let error = composite.and_then(Composite::error).filter(|error| error.class == ErrorClass::Formula);
    if let Some(error) = error {
        failing.push((super::composite::INDEX, error.class));
        texts.push(error.message.clone());
    }
    (failing, joined(texts))
}

/// Joins texts with `; ` on one line within the bounds; those that do not fit are counted.
fn joined(texts: impl IntoIterator<Item = String>) -> String {
    let (mut all, mut left_out) = (String::new(), 0);
    for text in texts {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let short = &text[..text.floor_char_boundary(TEXT_MAX)];
        if all.len() + short.len() > TEXTS_MAX {
            left_out += 1;
            continue;
        }
        let _ = write!(
            all,
            "{}{short}{}",
            if all.is_empty() { "" } else { "; " },
            if short.len() < text.len() { "…" } else { "" }
        );
    }
    if left_out > 0 {
        let _ = write!(all, "; and {left_out} more triggers");
    }
    all
}

fn condition(status: ConditionStatus, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Condition {
    Condition::new(ConditionKind::TriggersHealthy, status, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::answer::{Answer, PollError};
    use crate::scaling::testing::{definition, trigger};
    use crate::scaling::trigger::FallbackContext;

    const NO_CONTEXT: FallbackContext<'_> = FallbackContext { current_replicas: Some(4), ready_pods: None };

    fn failed(class: ErrorClass, text: &str) -> Answer {
        Answer::Failed(PollError { class, message: text.to_owned() })
    }

    /// Condition messages after each of these answers, which come one second apart.
    fn messages(rounds: &[(i64, Vec<Answer>)]) -> Vec<Option<String>> {
        let mut definition = definition();
        definition.triggers = (0..3).map(|index| trigger(index, "up")).collect();
        definition.triggers[1].name = Some("queue".to_owned());
        let mut states = vec![TriggerState::default(); 3];
        let mut troubles = Troubles::default();
        let mut messages = Vec::new();
        for (seconds, answers) in rounds {
            let now = UnixMillis(seconds * 1_000);
            for ((trigger, state), answer) in definition.triggers.iter().zip(&mut states).zip(answers) {
                state.record_answer(trigger, &definition, answer, now, NO_CONTEXT);
            }
            troubles.update(&definition, &states, None, None, now);
            messages.push(troubles.condition.as_ref().map(|condition| condition.message.to_string()));
        }
        messages
    }

    #[test]
    fn each_failing_trigger_is_named_until_it_recovers() {
        let good = || Answer::Value(1.0);
        let bad = |text: &str| failed(ErrorClass::Status, text);
        let seen = messages(&[
            (0, vec![good(), good(), good()]),
            (1, vec![good(), bad("400: a"), bad("400: b")]),
            (2, vec![good(), bad("400: a"), good()]),
            (3, vec![good(), good(), good()]),
        ]);
        let seen: Vec<Option<&str>> = seen.iter().map(Option::as_deref).collect();
        assert_eq!(
            seen,
            [
                None,
                Some("queue: 400: a; s2-prometheus: 400: b"),
                Some("queue: 400: a"),
                Some("every trigger gives a value")
            ]
        );
    }

    #[test]
    fn a_text_that_changes_with_each_poll_is_not_written_with_each() {
        let count =
            |n: i64| vec![failed(ErrorClass::Query, &format!("{n} series")), Answer::Value(1.0), Answer::Value(1.0)];
        let rounds: Vec<_> = (0..600).map(|second| (second, count(second))).collect();
        let mut seen = messages(&rounds);
        seen.dedup();
        assert!((9..=11).contains(&seen.len()), "{seen:?}");
        // Another kind of failure is reported at once.
        let other = vec![failed(ErrorClass::Timeout, "late"), Answer::Value(1.0), Answer::Value(1.0)];
        let seen = messages(&[(0, count(3)), (1, other)]);
        assert_eq!(seen[1].as_deref(), Some("s0-prometheus: late"));
    }

    #[test]
    fn many_long_texts_fit() {
        let mut definition = definition();
        definition.triggers = (0..100).map(|index| trigger(index, "up")).collect();
        let mut states = vec![TriggerState::default(); 100];
        for (trigger, state) in definition.triggers.iter().zip(&mut states) {
            let text = format!("first\nsecond {}", "ü".repeat(5_000));
            state.record_answer(trigger, &definition, &failed(ErrorClass::Status, &text), UnixMillis(1), NO_CONTEXT);
        }
        let (failing, message) = failures(&definition, &states, None);
        assert_eq!(failing.len(), 100);
        assert!(message.len() < TEXTS_MAX + 100 && !message.contains('\n'), "{message}");
        assert!(message.starts_with("s0-prometheus: first second ü") && message.ends_with("; and 97 more triggers"));
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(UnixMillis(1_767_323_045_999).to_string(), "2026-01-02T03:04:05Z");
    }
}
