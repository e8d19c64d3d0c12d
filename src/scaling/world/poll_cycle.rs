//! One pass over an object's triggers, from falling due to the decision.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use super::work::Work;
use crate::scaling::age;
use crate::scaling::composite::{self, Composite};
use crate::scaling::decide::{Decision, Situation, decide};
use crate::scaling::event::{
    Answer, Circumstances, Command, Credentials, DecidedTrigger, ErrorClass, KubeEvent, PollError, Record, ScaleTarget,
    WriteKind,
};
use crate::scaling::model::{MetricType, ObjectKey, Query, Source, Trigger, UnixMillis};
use crate::scaling::object::{Decided, Object, Round, Said, Scaling, Target, Verdict};
use crate::scaling::reason::Reason;
use crate::scaling::recommend::{self, Limit};
use crate::scaling::schedule::next_on_grid;
use crate::scaling::trigger::FallbackContext;

/// How often the history is given `lastActiveTime` while an object is active, for its readers alone.
const RECORD_ACTIVE_EVERY: Duration = Duration::from_mins(5);

impl World {
    pub(super) fn start_due_rounds(&mut self, now: UnixMillis) {
        for (key, due_at) in self.schedule.take_due(now) {
            self.with(&key, |object, work| object.start_round(due_at, work));
        }
    }

    /// What the history must know before the process ends: the exact time of last activity, which is
    /// handed over less often than it changes.
    pub fn farewell(&mut self) -> Vec<Command> {
        let keys: Vec<ObjectKey> = self.objects.keys().into_iter().cloned().collect();
        for key in keys {
            self.with(&key, |object, work| object.record_last_active(true, work));
        }
        std::mem::take(&mut self.outbox.commands)
    }
}

impl Object {
    fn start_round(&mut self, due_at: UnixMillis, work: &mut Work<'_>) {
        let is_target_shown = work.facts.watched_target(self).is_some();
        let Some(definition) = self.loop_definition.clone() else {
            return;
        };
        let interval = definition.polling_interval;
        let on_grid = next_on_grid(work.now, interval, self.phase);
        // A window opens and shuts on the minute, not at the first poll after it.
        let edges = definition.triggers.iter().filter_map(|trigger| match &trigger.source {
            Source::Cron(window) => window.at(work.now).until,
            Source::Pods(_) | Source::Query(_) => None,
        });
        work.schedule.plan(&self.spec.key, edges.min().map_or(on_grid, |edge| edge.min(on_grid)));
        if let Some(round) = &mut self.round {
            // Rounds of one object never overlap; an over-long one is followed at once by the next.
            round.again = true;
            return;
        }
        let counts_pods = definition.fallback.as_ref().is_some_and(|fallback| {
            definition.triggers.iter().zip(&self.triggers).any(|(trigger, state)| {
                let metric_type = definition.modifiers.as_ref().map_or(trigger.metric_type, |m| m.metric_type);
                metric_type == MetricType::Value && state.failures >= fallback.failure_threshold
            })
        });
        let selector = match &self.target {
            Target::Found { workload, .. } if counts_pods => workload.selector.clone(),
            _ => None,
        };
        let reads_target = !is_target_shown;
        self.round = Some(Round {
            waiting: definition.triggers.iter().map(|trigger| trigger.index).collect(),
            waits_for_target: reads_target,
            waits_for_pods: selector.is_some(),
            again: false,
        });
        if reads_target {
            self.read_target(work);
        }
        if let Some(selector) = selector {
            work.outbox.push(Command::CountReadyPods { object: self.spec.key.clone(), selector });
        }
        for trigger in &definition.triggers {
            let answer = match &trigger.source {
                Source::Cron(window) => Answer::Value(window.value(work.now)),
                Source::Pods(selection) => match work.pods.answer(&self.spec.key.namespace, selection) {
                    Some(answer) => answer,
                    // The first count, or word that there is none, is on its way.
                    None => continue,
                },
                // Its answer asks on.
                Source::Query(_) if self.awaits_authentication(trigger, work) => continue,
                Source::Query(query) => match self.ask(trigger, query, due_at, work) {
                    Ok(()) => continue,
                    Err(error) => Answer::Failed(error),
                },
            };
            self.answered(trigger.index, &answer, work.now, Duration::ZERO, work);
        }
        if definition.is_resource_only() {
            self.round_progressed(work);
        }
    }

    /// Puts one trigger's question into the queue, unless it must not be asked.
    pub(super) fn ask(
        &mut self,
        trigger: &Trigger,
        query: &Query,
        due_at: UnixMillis,
        work: &mut Work<'_>,
    ) -> Result<(), PollError> {
        if let Some(message) =
            trigger.foreign_service(&self.spec.key).filter(|_| !work.settings.cross_namespace_services)
        {
            return Err(PollError { class: ErrorClass::Configuration, message });
        }
        let credentials = self.credentials(trigger, work)?;
        work.schedule.ask((self.spec.key.clone(), trigger.index), query, credentials, due_at);
        Ok(())
    }

    pub(super) fn credentials(&self, trigger: &Trigger, work: &Work<'_>) -> Result<Option<Credentials>, PollError> {
        let target = || Some((&self.spec, self.target.gvkr()?.clone()));
        Credentials::of(&self.spec.key, trigger, |id| work.facts.authentications.get(id), target)
    }

    /// One trigger of one object has an answer, whether its round waits for it or not.
    pub(super) fn answered(
        &mut self,
        index: u16,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        work: &mut Work<'_>,
    ) {
        let Some(definition) = self.loop_definition.clone() else {
            return;
        };
        let Some(position) = definition.triggers.iter().position(|trigger| trigger.index == index) else {
            return;
        };
        let is_awaited = self.round.as_mut().is_some_and(|round| round.waiting.remove(&index));
        self.take_answer(position, answer, at, latency, work);
        if is_awaited {
            self.round_progressed(work);
        } else if self.round.is_none() {
            // News between rounds; a round that is under way ends with the same look.
            self.conclude(work);
        }
        if self.round.is_some() {
            // A round may be long, and the formula's result is as old as the oldest of its values.
            self.compose(work);
        }
        self.publish(work);
    }

    /// What an answer makes of a trigger's state, and a line in the history.
    pub(super) fn take_answer(
        &mut self,
        position: usize,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        work: &mut Work<'_>,
    ) {
        let Some(definition) = self.loop_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        let (Some(trigger), Some(state)) = (definition.triggers.get(position), self.triggers.get_mut(position)) else {
            return;
        };
        state.answered(trigger, &definition, answer, at, context);
        if state.silent_at.is_some() {
            state.silent_at = Some(at.plus(age::limit(&definition, work.settings.query_timeout)));
        }
        let is_error = state.underlying_error().is_some();
        work.outbox.record(Record::Sample {
            at,
            object: self.spec.key.clone(),
            trigger: trigger.index,
            answer: answer.clone(),
            latency,
            is_error,
        });
        self.listen(work);
    }

    /// The target or its pods became known after an answer: fallbacks that need them are computed
    /// again, before anything is decided on them.
    pub(super) fn reconsider(&mut self, work: &mut Work<'_>) {
        let Some(definition) = self.loop_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        for (trigger, state) in definition.triggers.iter().zip(&mut self.triggers) {
            state.reconsider(trigger, &definition, work.now, context);
        }
        if self.round.is_none() {
            self.compose(work);
        }
        self.publish(work);
    }

    /// Evaluates the formula over the triggers' last answers; true when there is one and it was.
    pub(super) fn compose(&mut self, work: &mut Work<'_>) -> bool {
        let Some(definition) = self.loop_definition.clone() else {
            return false;
        };
        let Some(modifiers) = &definition.modifiers else {
            return false;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        let before = self.composite.as_ref();
        self.composite = Composite::compute(&definition, modifiers, &self.triggers, context, before, work.now);
        self.composite.is_some()
    }

    /// All triggers were answered: what the formula makes of it goes to readers and to the history.
    fn compose_round(&mut self, work: &mut Work<'_>) {
        if !self.compose(work) {
            return;
        }
        self.publish(work);
        let composite = self.composite.as_ref();
        let answer = match composite {
            Some(Composite::Value { value, .. }) => Answer::Value(*value),
            Some(Composite::Failed { error, .. }) => Answer::Failed(error.clone()),
            None => return,
        };
        let is_error = matches!(answer, Answer::Failed(_));
        work.outbox.record(Record::Sample {
            at: work.now,
            object: self.spec.key.clone(),
            trigger: composite::INDEX,
            answer,
            latency: Duration::ZERO,
            is_error,
        });
    }

    pub(super) fn round_progressed(&mut self, work: &mut Work<'_>) {
        if !self.round.as_ref().is_some_and(Round::is_complete) {
            return;
        }
        let again = self.round.take().is_some_and(|round| round.again);
        self.conclude(work);
        if again {
            work.schedule.plan(&self.spec.key, work.now);
        }
    }

    /// No answer is outstanding: what follows from those there are.
    pub(super) fn conclude(&mut self, work: &mut Work<'_>) {
        let is_good = self.verdict == Verdict::Good;
        // Otherwise as soon as it is good again, since the next round may be far.
        self.redecide |= !is_good;
        self.compose_round(work);
        self.report_troubles(work);
        if is_good {
            self.decide(work);
        }
        self.report_fallback(work);
        if self.needs_a_look() {
            work.outbox.dirty.insert(self.spec.key.clone());
        }
    }

    fn report_fallback(&mut self, work: &mut Work<'_>) {
        let active = self.definition().is_some_and(|definition| self.is_falling_back(definition));
        if std::mem::replace(&mut self.recorded.fallback, active) == active {
            return;
        }
        if active {
            self.emit_normal(
                "ScaledObjectFallbackActivated",
                "ActivateFallback",
                "ScaledObject fallback is active",
                work,
            );
        } else {
            self.emit_normal(
                "ScaledObjectFallbackDeactivated",
                "DeactivateFallback",
                "ScaledObject fallback is no longer active",
                work,
            );
        }
    }

    /// Decides from the last answers, and acts.
    pub(super) fn decide(&mut self, work: &mut Work<'_>) {
        let Ok(definition) = self.spec.definition.clone().or_else(|_| paused_definition(self)) else {
            return;
        };
        if self.slots.scale.in_flight.is_some() {
            self.redecide = true;
            return;
        }
        self.redecide = false;
        let is_answered = self.triggers.iter().all(|state| state.current.is_some())
            && (self.composite.is_some() || definition.modifiers.is_none());
        let limit = self.age_limit(work.settings.query_timeout);
        let mut readings = definition.triggers.iter().zip(&self.triggers);
        let is_old = readings.any(|(trigger, state)| state.is_old(trigger, limit, work.now));
        if (!is_answered || is_old) && !self.spec.pause.is_full() {
            // Silence is not inactivity: the round that is under way will decide.
            return;
        }
        // Nobody saw the activity end that another process, or the one before a restart, wrote down. It may have lasted
        // until now, and a cooldown that begins too late harms less than one that has ended too early.
        if self.decided.is_none() && !self.spec.pause.is_full() && self.is_active_in_status() {
            self.last_active_at = self.last_active_at.max(Some(work.now));
        }
        let triggers = decided_triggers(self, self.target.replicas().unwrap_or(0));
        let active_metrics: Vec<String> = if definition.is_resource_only() {
            // Nobody could ever say that they are active again: they always are.
            definition.resource_triggers.iter().map(|trigger| trigger.kind.clone()).collect()
        } else {
            triggers.iter().filter(|trigger| trigger.active).map(|trigger| trigger.metric_name.to_string()).collect()
        };
        let current = match (&self.target, &self.target_unreadable) {
            (Target::Found { .. }, Some(message)) => Err(message.as_str()),
            (Target::Found { workload, .. }, None) => Ok(workload.replicas),
            (Target::Failed { message, .. }, _) => Err(message.as_str()),
            (Target::Unknown | Target::Reading, _) => Err("not read yet"),
        };
        let from = current.unwrap_or(0);
        let decision = decide(
            &Situation {
                definition: &definition,
                pause: &self.spec.pause,
                force_activation: self.spec.force_activation,
                created_at: self.spec.created_at,
                last_active_at: self.last_active_at,
                current,
                is_active: !active_metrics.is_empty(),
                is_error: triggers.iter().any(|trigger| trigger.error.is_some()),
                awaits_fallback: definition.fallback.is_some()
                    && self.triggers.iter().any(|state| state.error().is_some()),
                active_metrics: &active_metrics,
            },
            work.now,
        );
        self.record_decision(&decision, from, triggers, work);
        self.act(decision, from, work);
    }

    fn record_decision(&mut self, decision: &Decision, from: u32, triggers: Vec<DecidedTrigger>, work: &mut Work<'_>) {
        let to = decision.scale_to.unwrap_or(from);
        let said = Said {
            reason: decision.reason.id(),
            from,
            to,
            pause: self.spec.pause.clone(),
            force_activation: self.spec.force_activation,
            cooldown_until: decision.cooldown_until,
            fallback: triggers.iter().map(|trigger| trigger.fallback).collect(),
            absent: triggers
                .iter()
                .map(|trigger| trigger.absence.as_ref().map(|absence| absence.missing.clone()))
                .collect(),
        };
        // A pause says nothing of the triggers: what was last known of them stays.
        if !self.spec.pause.is_full() {
            let decided = Some(Decided {
                ready: decision.ready.clone(),
                active: decision.active.clone(),
                activity: activity(&triggers),
            });
            self.is_settled &= self.decided == decided;
            self.decided = decided;
        }
        // A state that lasts is one decision; its samples tell the rest.
        if self.recorded.decision.as_ref() == Some(&said) && decision.scale_to.is_none() {
            return;
        }
        self.recorded.decision = Some(said);
        let circumstances = Box::new(circumstances(self, decision, &triggers));
        work.outbox.record(Record::Decision {
            at: work.now,
            object: self.spec.key.clone(),
            reason: decision.reason.clone(),
            from,
            to,
            triggers,
            circumstances,
        });
    }

    fn act(&mut self, decision: Decision, from: u32, work: &mut Work<'_>) {
        match (decision.scale_to, self.target.gvkr().cloned()) {
            (Some(to), Some(gvkr)) => {
                let target = ScaleTarget { gvkr, name: self.spec.target.name.clone() };
                let is_sent = self.write(WriteKind::Scale { target, from, to }, work);
                if is_sent {
                    self.recorded.scaled = Some((work.now, to));
                    self.scaling = Some(Scaling {
                        reason: decision.reason,
                        from,
                        to,
                        touch_last_active: decision.touch_last_active,
                    });
                } else {
                    self.redecide = true;
                }
            }
            _ if decision.touch_last_active => self.touch_last_active(work),
            _ => self.record_last_active(true, work),
        }
    }

    pub(super) fn touch_last_active(&mut self, work: &mut Work<'_>) {
        self.last_active_at = Some(work.now);
        self.record_last_active(!self.is_active_in_status(), work);
    }

    /// `exactly`: the status does not say that the object is active, so a restart depends on this.
    fn record_last_active(&mut self, exactly: bool, work: &mut Work<'_>) {
        let Some(at) = self.last_active_at else {
            return;
        };
        let is_news = match self.recorded_active_at {
            None => true,
            Some(recorded) if exactly => recorded != at,
            Some(recorded) => at.since(recorded) >= RECORD_ACTIVE_EVERY,
        };
        if is_news {
            self.recorded_active_at = Some(at);
            work.outbox.record(Record::LastActive { object: self.spec.key.clone(), at });
        }
    }
}

/// KEDA's event about a scale that was carried out, or that failed.
pub(super) fn scale_event(object: &Object, scaling: &Scaling, failed: bool) -> Option<KubeEvent> {
    let kind = object.target.gvkr().map(|gvkr| gvkr.kind_text()).unwrap_or_default();
    let what = format!("{kind} {}/{}", object.spec.key.namespace, object.spec.target.name);
    let (from, to) = (scaling.from, scaling.to);
    let normal = |reason, action, note: String| Some(KubeEvent::normal(object.reference(), reason, action, note));
    let warning = |reason, action, note: String| Some(KubeEvent::warning(object.reference(), reason, action, note));
    match (&scaling.reason, failed) {
        (Reason::Activated { metrics }, false) => normal(
            "KEDAScaleTargetActivated",
            "ScaleUp",
            format!("Scaled {what} from {from} to {to}, triggered by {}", metrics.join(";")),
        ),
        (Reason::ActivatedByAnnotation, false) => normal(
            "KEDAScaleTargetActivated",
            "ScaleUp",
            format!("Scaled {what} from {from} to {to}, caused by forced activation annotation"),
        ),
        (Reason::Activated { .. } | Reason::ActivatedByAnnotation, true) => {
            warning("KEDAScaleTargetActivationFailed", "ScaleUp", format!("Failed to scale {what} from {from} to {to}"))
        }
        (Reason::Deactivated, false) => {
            normal("KEDAScaleTargetDeactivated", "ScaleDown", format!("Deactivated {what} from {from} to {to}"))
        }
        (Reason::Deactivated, true) => warning(
            "KEDAScaleTargetDeactivationFailed",
            "ScaleDown",
            format!("Failed to deactivate {what} from {from} to {to}"),
        ),
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
    let min = definition.map_or(0, crate::scaling::model::Definition::min);
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
fn paused_definition(object: &Object) -> Result<std::sync::Arc<crate::scaling::model::Definition>, ()> {
    use crate::scaling::model::Definition;
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
