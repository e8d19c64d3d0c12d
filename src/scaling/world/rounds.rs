//! One pass over an object's triggers, from falling due to the decision.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::age;
use super::super::composite::{self, Composite};
use super::super::decide::{Decision, Situation, decide};
use super::super::event::{
    Answer, Circumstances, Command, Credentials, DecidedTrigger, ErrorClass, PollError, Record, ScaleTarget, WriteKind,
};
use super::super::model::{MetricType, ObjectKey, Query, Source, Trigger, UnixMillis};
use super::super::object::{Decided, Object, Round, Said, Scaling, Target, Verdict};
use super::super::reason::Reason;
use super::super::recommend::{self, Limit};
use super::super::schedule::{next_on_grid, phase};
use super::super::trigger::FallbackContext;
use super::World;

/// `lastActiveTime` goes to the history this often while active; a crash loses no more of it.
const RECORD_ACTIVE_EVERY: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn start_due_rounds(&mut self, now: UnixMillis) {
        for (key, due_at) in self.schedule.take_due(now) {
            self.start_round(&key, due_at, now);
        }
    }

    fn start_round(&mut self, key: &ObjectKey, due_at: UnixMillis, now: UnixMillis) {
        let is_target_shown = self.objects.get(key).is_some_and(|object| self.shown_target(object).is_some());
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return;
        };
        let interval = definition.polling_interval;
        let first_query = definition.triggers.iter().find_map(|trigger| trigger.source.query());
        let phase = first_query.map_or_else(|| phase(key, interval), |query| phase(query, interval));
        let on_grid = next_on_grid(now, interval, phase);
        // A window opens and shuts on the minute, not at the first poll after it.
        let edges = definition.triggers.iter().filter_map(|trigger| match &trigger.source {
            Source::Cron(window) => window.at(now).until,
            Source::Pods(_) | Source::Query(_) => None,
        });
        self.schedule.plan(key, edges.min().map_or(on_grid, |edge| edge.min(on_grid)));
        if let Some(round) = &mut object.round {
            // Rounds of one object never overlap; an over-long one is followed at once by the next.
            round.again = true;
            return;
        }
        let counts_pods = definition.fallback.as_ref().is_some_and(|fallback| {
            definition.triggers.iter().zip(&object.triggers).any(|(trigger, state)| {
                let metric_type = definition.modifiers.as_ref().map_or(trigger.metric_type, |m| m.metric_type);
                metric_type == MetricType::Value && state.failures >= fallback.failure_threshold
            })
        });
        let selector = match &object.target {
            Target::Found { workload, .. } => workload.selector.clone(),
            _ => None,
        };
        let reads_target = !is_target_shown;
        object.round = Some(Round {
            waiting: definition.triggers.iter().map(|trigger| trigger.index).collect(),
            waits_for_target: reads_target,
            waits_for_pods: counts_pods && selector.is_some(),
            again: false,
        });
        if reads_target {
            self.read_target(key);
        }
        if let (true, Some(selector)) = (counts_pods, selector) {
            self.out.push(Command::CountReadyPods { object: key.clone(), selector });
        }
        for trigger in &definition.triggers {
            let answer = match &trigger.source {
                Source::Cron(window) => Answer::Value(window.value(now)),
                Source::Pods(selection) => match self.pods.answer(&key.namespace, selection) {
                    Some(answer) => answer,
                    // The first count, or word that there is none, is on its way.
                    None => continue,
                },
                // Its answer asks on.
                Source::Query(_) if self.awaits_authentication(key, trigger) => continue,
                Source::Query(query) => match self.ask(key, trigger, query, due_at) {
                    Ok(()) => continue,
                    Err(error) => Answer::Failed(error),
                },
            };
            self.answered(key, trigger.index, &answer, now, Duration::ZERO, now);
        }
        if definition.is_resource_only() {
            self.round_progressed(key, now);
        }
    }

    /// Puts one trigger's question into the queue, unless it must not be asked.
    pub(super) fn ask(
        &mut self,
        key: &ObjectKey,
        trigger: &Trigger,
        query: &Query,
        due_at: UnixMillis,
    ) -> Result<(), PollError> {
        if let Some(message) = trigger.foreign_service(key).filter(|_| !self.settings.cross_namespace_services) {
            return Err(PollError { class: ErrorClass::Configuration, message });
        }
        let credentials = self.credentials(key, trigger)?;
        self.schedule.ask((key.clone(), trigger.index), query, credentials, due_at);
        Ok(())
    }

    pub(super) fn credentials(&self, key: &ObjectKey, trigger: &Trigger) -> Result<Option<Credentials>, PollError> {
        let target = || {
            let object = self.objects.get(key)?;
            Some((&object.spec, object.target.gvkr()?.clone()))
        };
        Credentials::of(key, trigger, |id| self.authentications.get(id), target)
    }

    /// One trigger of one object has an answer, whether its round waits for it or not.
    pub(super) fn answered(
        &mut self,
        key: &ObjectKey,
        index: u16,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        now: UnixMillis,
    ) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return;
        };
        let Some(position) = definition.triggers.iter().position(|trigger| trigger.index == index) else {
            return;
        };
        let is_awaited = object.round.as_mut().is_some_and(|round| round.waiting.remove(&index));
        self.take_answer(key, position, answer, at, latency);
        let is_over = |world: &Self| world.objects.get(key).is_none_or(|object| object.round.is_none());
        if is_awaited {
            self.round_progressed(key, now);
        } else if is_over(self) {
            // News between rounds; a round that is under way ends with the same look.
            self.conclude(key, now);
        }
        if !is_over(self) {
            // A round may be long, and the formula's result is as old as the oldest of its values.
            self.compose(key, now);
        }
        self.publish(key);
    }

    /// What an answer makes of a trigger's state, and a line in the history.
    pub(super) fn take_answer(
        &mut self,
        key: &ObjectKey,
        position: usize,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
    ) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&object.target, object.ready_pods.as_ref());
        let (Some(trigger), Some(state)) = (definition.triggers.get(position), object.triggers.get_mut(position))
        else {
            return;
        };
        state.answered(trigger, &definition, answer, at, context);
        if state.silent_at.is_some() {
            state.silent_at = Some(at.plus(age::limit(&definition, self.settings.query_timeout)));
        }
        let is_error = state.underlying_error().is_some();
        self.record(Record::Sample {
            at,
            object: key.clone(),
            trigger: trigger.index,
            answer: answer.clone(),
            latency,
            is_error,
        });
        self.listen(key);
    }

    /// The target or its pods became known after an answer: fallbacks that need them are computed
    /// again, before anything is decided on them.
    pub(super) fn reconsider(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&object.target, object.ready_pods.as_ref());
        for (trigger, state) in definition.triggers.iter().zip(&mut object.triggers) {
            state.reconsider(trigger, &definition, now, context);
        }
        if object.round.is_none() {
            self.compose(key, now);
        }
        self.publish(key);
    }

    /// Evaluates the formula over the triggers' last answers; true when there is one and it was.
    pub(super) fn compose(&mut self, key: &ObjectKey, now: UnixMillis) -> bool {
        let Some(object) = self.objects.get_mut(key) else {
            return false;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return false;
        };
        let Some(modifiers) = &definition.modifiers else {
            return false;
        };
        let context = FallbackContext::of(&object.target, object.ready_pods.as_ref());
        let before = object.composite.as_ref();
        object.composite = Composite::compute(&definition, modifiers, &object.triggers, context, before, now);
        object.composite.is_some()
    }

    /// All triggers were answered: what the formula makes of it goes to readers and to the history.
    fn compose_round(&mut self, key: &ObjectKey, now: UnixMillis) {
        if !self.compose(key, now) {
            return;
        }
        self.publish(key);
        let composite = self.objects.get(key).and_then(|object| object.composite.as_ref());
        let answer = match composite {
            Some(Composite::Value { value, .. }) => Answer::Value(*value),
            Some(Composite::Failed { error, .. }) => Answer::Failed(error.clone()),
            None => return,
        };
        let is_error = matches!(answer, Answer::Failed(_));
        self.record(Record::Sample {
            at: now,
            object: key.clone(),
            trigger: composite::INDEX,
            answer,
            latency: Duration::ZERO,
            is_error,
        });
    }

    pub(super) fn round_progressed(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if !object.round.as_ref().is_some_and(Round::is_complete) {
            return;
        }
        let again = object.round.take().is_some_and(|round| round.again);
        self.conclude(key, now);
        if again {
            self.schedule.plan(key, now);
        }
    }

    /// No answer is outstanding: what follows from those there are.
    pub(super) fn conclude(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let is_good = object.verdict == Verdict::Good;
        // Otherwise as soon as it is good again, since the next round may be far.
        object.redecide |= !is_good;
        self.compose_round(key, now);
        self.tell_troubles(key, now);
        if is_good {
            self.decide(key, now);
        }
        self.tell_fallback(key);
        self.dirty.insert(key.clone());
    }

    fn tell_fallback(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let active = object.definition().is_some_and(|definition| object.is_falling_back(definition));
        if std::mem::replace(&mut object.recorded.fallback, active) == active {
            return;
        }
        if active {
            self.emit(
                key,
                false,
                "ScaledObjectFallbackActivated",
                "ActivateFallback",
                "ScaledObject fallback is active".to_owned(),
            );
        } else {
            self.emit(
                key,
                false,
                "ScaledObjectFallbackDeactivated",
                "DeactivateFallback",
                "ScaledObject fallback is no longer active".to_owned(),
            );
        }
    }

    /// Decides from the last answers, and acts.
    pub(super) fn decide(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Ok(definition) = object.spec.definition.clone().or_else(|_| paused_definition(object)) else {
            return;
        };
        if object.slots.scale.in_flight.is_some() {
            object.redecide = true;
            return;
        }
        object.redecide = false;
        let is_answered = object.triggers.iter().all(|state| state.current.is_some())
            && (object.composite.is_some() || definition.modifiers.is_none());
        let limit = object.age_limit(self.settings.query_timeout);
        let mut readings = definition.triggers.iter().zip(&object.triggers);
        let is_old = readings.any(|(trigger, state)| state.is_old(trigger, limit, now));
        if (!is_answered || is_old) && !object.spec.pause.is_full() {
            // Silence is not inactivity: the round that is under way will decide.
            return;
        }
        let triggers = decided_triggers(object, object.target.replicas().unwrap_or(0));
        let active_metrics: Vec<String> = if definition.is_resource_only() {
            // Nobody could ever say that they are active again: they always are.
            definition.resource_triggers.iter().map(|trigger| trigger.kind.clone()).collect()
        } else {
            triggers.iter().filter(|trigger| trigger.active).map(|trigger| trigger.metric_name.to_string()).collect()
        };
        let current = match (&object.target, &object.target_unreadable) {
            (Target::Found { .. }, Some(message)) => Err(message.as_str()),
            (Target::Found { workload, .. }, None) => Ok(workload.replicas),
            (Target::Failed { message, .. }, _) => Err(message.as_str()),
            (Target::Unknown | Target::Reading, _) => Err("not read yet"),
        };
        let from = current.unwrap_or(0);
        let decision = decide(
            &Situation {
                definition: &definition,
                pause: &object.spec.pause,
                force_activation: object.spec.force_activation,
                created_at: object.spec.created_at,
                last_active_at: object.last_active_at,
                current,
                is_active: !active_metrics.is_empty(),
                is_error: triggers.iter().any(|trigger| trigger.error.is_some()),
                awaits_fallback: definition.fallback.is_some()
                    && object.triggers.iter().any(|state| state.error().is_some()),
                active_metrics: &active_metrics,
            },
            now,
        );
        self.record_decision(key, &decision, from, triggers, now);
        self.act(key, decision, from, now);
    }

    fn record_decision(
        &mut self,
        key: &ObjectKey,
        decision: &Decision,
        from: u32,
        triggers: Vec<DecidedTrigger>,
        now: UnixMillis,
    ) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let to = decision.scale_to.unwrap_or(from);
        let said = Said {
            reason: decision.reason.id(),
            from,
            to,
            pause: object.spec.pause.clone(),
            force_activation: object.spec.force_activation,
            cooldown_until: decision.cooldown_until,
            fallback: triggers.iter().map(|trigger| trigger.fallback).collect(),
            absent: triggers
                .iter()
                .map(|trigger| trigger.absence.as_ref().map(|absence| absence.missing.clone()))
                .collect(),
        };
        // A pause says nothing of the triggers: what was last known of them stays.
        if !object.spec.pause.is_full() {
            object.decided = Some(Decided {
                ready: decision.ready.clone(),
                active: decision.active.clone(),
                activity: activity(&triggers),
            });
        }
        // A state that lasts is one decision; its samples tell the rest.
        if object.recorded.decision.as_ref() == Some(&said) && decision.scale_to.is_none() {
            return;
        }
        object.recorded.decision = Some(said);
        let circumstances = Box::new(circumstances(object, decision, &triggers));
        self.record(Record::Decision {
            at: now,
            object: key.clone(),
            reason: decision.reason.clone(),
            from,
            to,
            triggers,
            circumstances,
        });
    }

    fn act(&mut self, key: &ObjectKey, decision: Decision, from: u32, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        match (decision.scale_to, object.target.gvkr().cloned()) {
            (Some(to), Some(gvkr)) => {
                let target = ScaleTarget { gvkr, name: object.spec.target.name.clone() };
                let is_sent = self.write(key, WriteKind::Scale { target, from, to }, now);
                let Some(object) = self.objects.get_mut(key) else {
                    return;
                };
                if is_sent {
                    object.recorded.scaled = Some((now, to));
                    object.scaling = Some(Scaling {
                        reason: decision.reason,
                        from,
                        to,
                        touch_last_active: decision.touch_last_active,
                    });
                } else {
                    object.redecide = true;
                }
            }
            _ if decision.touch_last_active => self.touch_last_active(key, now),
            _ => self.record_last_active(key, true),
        }
    }

    pub(super) fn touch_last_active(&mut self, key: &ObjectKey, now: UnixMillis) {
        if let Some(object) = self.objects.get_mut(key) {
            object.last_active_at = Some(now);
        }
        self.record_last_active(key, false);
    }

    /// What the history must know before the process ends: the exact time of last activity, which is
    /// handed over less often than it changes.
    pub fn farewell(&mut self) -> Vec<Command> {
        let keys: Vec<ObjectKey> = self.objects.keys().cloned().collect();
        for key in keys {
            self.record_last_active(&key, true);
        }
        std::mem::take(&mut self.out)
    }

    /// `exactly`: activity has ended, so the last moment of it counts.
    fn record_last_active(&mut self, key: &ObjectKey, exactly: bool) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(at) = object.last_active_at else {
            return;
        };
        let is_news = match object.recorded_active_at {
            None => true,
            Some(recorded) if exactly => recorded != at,
            Some(recorded) => at.since(recorded) >= RECORD_ACTIVE_EVERY,
        };
        if is_news {
            object.recorded_active_at = Some(at);
            self.record(Record::LastActive { object: key.clone(), at });
        }
    }
}

/// The reason in the words of KEDA's event about a scale that was carried out.
pub(super) fn scale_note(
    object: &Object,
    scaling: &Scaling,
    failed: bool,
) -> Option<(bool, &'static str, &'static str, String)> {
    let kind = object.target.gvkr().map(|gvkr| gvkr.kind_text()).unwrap_or_default();
    let what = format!("{kind} {}/{}", object.spec.key.namespace, object.spec.target.name);
    let (from, to) = (scaling.from, scaling.to);
    match (&scaling.reason, failed) {
        (Reason::Activated { metrics }, false) => Some((
            false,
            "KEDAScaleTargetActivated",
            "ScaleUp",
            format!("Scaled {what} from {from} to {to}, triggered by {}", metrics.join(";")),
        )),
        (Reason::ActivatedByAnnotation, false) => Some((
            false,
            "KEDAScaleTargetActivated",
            "ScaleUp",
            format!("Scaled {what} from {from} to {to}, caused by forced activation annotation"),
        )),
        (Reason::Activated { .. } | Reason::ActivatedByAnnotation, true) => Some((
            true,
            "KEDAScaleTargetActivationFailed",
            "ScaleUp",
            format!("Failed to scale {what} from {from} to {to}"),
        )),
        (Reason::Deactivated, false) => {
            Some((false, "KEDAScaleTargetDeactivated", "ScaleDown", format!("Deactivated {what} from {from} to {to}")))
        }
        (Reason::Deactivated, true) => Some((
            true,
            "KEDAScaleTargetDeactivationFailed",
            "ScaleDown",
            format!("Failed to deactivate {what} from {from} to {to}"),
        )),
        _ => None,
    }
}

/// Those of the triggers, and of what the formula made of them, which alone can be active then. `replicas` run.
fn decided_triggers(object: &Object, replicas: u32) -> Vec<DecidedTrigger> {
    let Some(definition) = &object.loop_definition else {
        return Vec::new();
    };
    let modifiers = definition.modifiers.as_ref();
    let states = definition.triggers.iter().zip(&object.triggers);
    let behavior = definition.behavior.as_ref();
    let triggers = states.map(|(trigger, state)| DecidedTrigger {
        metric_name: std::sync::Arc::clone(&trigger.metric_name),
        value: state.value(),
        active: modifiers.is_none() && state.is_active(trigger),
        error: state.error().map(|error| error.message.clone()),
        metric_type: trigger.metric_type,
        target: trigger.threshold,
        // Beside a formula the HPA knows nothing of it.
        proposal: state
            .value()
            .filter(|_| modifiers.is_none())
            .map(|value| recommend::proposal(trigger.metric_type, value, trigger.threshold, replicas, behavior)),
        fallback: state.is_falling_back(),
        absence: state.absence().cloned(),
        formula: None,
    });
    let has_error = object.triggers.iter().any(|state| state.error().is_some());
    let composite = modifiers.zip(object.composite.as_ref()).map(|(modifiers, composite)| DecidedTrigger {
        metric_name: composite::NAME.into(),
        value: composite.value(),
        // As in KEDA, nothing is activated on a fallback while another trigger waits for its own.
        active: composite.is_active() && !has_error,
        error: composite.error().map(|error| error.message.clone()),
        metric_type: modifiers.metric_type,
        target: modifiers.target,
        proposal: composite
            .value()
            .map(|value| recommend::proposal(modifiers.metric_type, value, modifiers.target, replicas, behavior)),
        fallback: composite.is_fallback(),
        absence: None,
        formula: Some(composite::with_numbers(definition, modifiers, &object.triggers)),
    });
    triggers.chain(composite).collect()
}

/// What the status says of each trigger; the composite metric is none.
fn activity(triggers: &[DecidedTrigger]) -> BTreeMap<String, bool> {
    let of_triggers = triggers.iter().filter(|trigger| trigger.formula.is_none());
    of_triggers.map(|trigger| (trigger.metric_name.to_string(), trigger.active)).collect()
}

fn circumstances(object: &Object, decision: &Decision, triggers: &[DecidedTrigger]) -> Circumstances {
    let definition = object.definition();
    let max = definition.map(|definition| definition.max_replicas);
    let min = definition.map_or(0, super::super::model::Definition::min);
    // Nobody is asked during a full pause, so what was last known proposes nothing.
    let proposals = triggers.iter().filter_map(|trigger| trigger.proposal);
    let highest = proposals.max_by_key(|proposal| proposal.replicas).filter(|_| !object.spec.pause.is_full());
    let limited_by = match &decision.reason {
        Reason::CoolingDown { .. } => Some(Limit::Cooldown),
        Reason::InitialCooldown { .. } => Some(Limit::InitialCooldown),
        Reason::Paused | Reason::PausedAtReplicas | Reason::ScaleInPaused | Reason::ScaleOutPaused => {
            Some(Limit::Pause)
        }
        Reason::HeldOnError => Some(Limit::Error),
        Reason::WaitingForFallback => Some(Limit::FallbackThreshold),
        Reason::Active | Reason::ActiveByAnnotation | Reason::ActiveWithErrors => match highest {
            Some(highest) if max.is_some_and(|max| highest.replicas > max) => Some(Limit::Max),
            Some(highest) if highest.replicas < min.max(1) => Some(Limit::Min),
            Some(highest) if highest.is_tolerated() => Some(Limit::Tolerance),
            _ => None,
        },
        _ => None,
    };
    Circumstances {
        min,
        max,
        idle: definition.and_then(|definition| definition.idle_replicas),
        pause: object.spec.pause.clone(),
        force_activation: object.spec.force_activation,
        cooldown_until: decision.cooldown_until,
        proposal: highest.map(|highest| highest.replicas),
        limited_by,
    }
}

/// Pausing at a count works for an object whose spec is invalid, too: nothing else of it is used.
fn paused_definition(object: &Object) -> Result<std::sync::Arc<super::super::model::Definition>, ()> {
    use super::super::model::Definition;
    if !object.spec.pause.is_full() {
        return Err(());
    }
    Ok(std::sync::Arc::new(Definition {
        polling_interval: Duration::from_secs(30),
        cooldown_period: Duration::ZERO,
        initial_cooldown_period: Duration::ZERO,
        idle_replicas: None,
        min_replicas: None,
        max_replicas: 100,
        fallback: None,
        hpa_name: String::new(),
        behavior: None,
        modifiers: None,
        triggers: Vec::new(),
        resource_triggers: Vec::new(),
        selector: (String::new(), String::new()),
        excluded_labels: Vec::new(),
    }))
}
