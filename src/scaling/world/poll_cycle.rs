//! One poll cycle of an object, from falling due to the decision.

use std::sync::Arc;
use std::time::Duration;

use super::World;
use super::work::Work;
use crate::scaling::age;
use crate::scaling::composite::{self, Composite};
use crate::scaling::decide::{decide, give_back};
use crate::scaling::decision::{DecidedTrigger, Decision};
use crate::scaling::event::{
    Answer, Command, Credentials, ErrorClass, KubeEvent, PollError, Record, ScaleTarget, WriteKind,
};
use crate::scaling::model::{MetricType, ObjectKey, PodValues, Query, Source, Trigger, UnixMillis};
use crate::scaling::object::{Object, PollCycle, Verdict};
use crate::scaling::reason::Reason;
use crate::scaling::recommend;
use crate::scaling::schedule::next_on_grid;
use crate::scaling::target::Target;
use crate::scaling::trigger::FallbackContext;

/// How often `lastActiveTime` is recorded while an object is active, for readers of the history alone.
const RECORD_ACTIVE_EVERY: Duration = Duration::from_mins(5);
/// How often the formula is evaluated during a poll cycle.
const COMPOSE_EVERY: Duration = Duration::from_secs(1);

/// A decision whose only news is what stands in for missing numbers is recorded once in this time, on average, and this
/// long ahead: ten at once. A server that answers now with a number and now with none would fill the history.
const RECORD_STAND_INS_EVERY: Duration = Duration::from_mins(1);
const RECORD_STAND_INS_AHEAD: Duration = Duration::from_mins(10);

impl World {
    pub(super) fn start_due_poll_cycles(&mut self, now: UnixMillis) {
        for (key, due_at) in self.schedule.take_due(now) {
            self.with(&key, |object, work| object.start_poll_cycle(due_at, work));
        }
    }

    /// Leaves out the next poll cycle of an object if `may`, which gets its time and that of the one after it, allows it:
    /// for a replay, which knows the answers. Returns whether it was left out.
    pub fn leave_out_poll_cycle(&mut self, key: &ObjectKey, may: impl FnOnce(UnixMillis, UnixMillis) -> bool) -> bool {
        let Some(at) = self.schedule.planned(key) else { return false };
        let object =
            self.objects.get(key).filter(|object| object.poll_cycle.is_none() && object.verdict == Verdict::Good);
        let Some(definition) = object.and_then(|object| object.polled_definition.as_deref()) else { return false };
        let interval = definition.polling_interval;
        let next = next_on_grid(at, interval, self.schedule.phase(key, interval));
        let is_left_out = may(at, next);
        if is_left_out {
            self.schedule.plan(key, next);
        }
        is_left_out
    }

    /// Records what the history must have before the process ends: the exact time of last activity, which is recorded
    /// less often than it changes.
    pub fn final_commands(&mut self) -> Vec<Command> {
        let keys: Vec<ObjectKey> = self.objects.keys().into_iter().cloned().collect();
        for key in keys {
            self.with(&key, |object, work| object.record_last_active(true, work));
        }
        std::mem::take(&mut self.outbox.commands)
    }
}

impl Object {
    fn start_poll_cycle(&mut self, due_at: UnixMillis, work: &mut Work<'_>) {
        let is_target_shown = work.facts.watched_target(self).is_some();
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let interval = definition.polling_interval;
        let on_grid = next_on_grid(work.now, interval, work.schedule.phase(&self.spec.key, interval));
        // A window opens and shuts on the minute, not at the first poll after it.
        let edges = definition.triggers.iter().filter_map(|trigger| match &trigger.source {
            Source::Cron(window) => window.at(work.now).until,
            Source::Pods(_) | Source::Query(_) | Source::Shown(_) => None,
        });
        work.schedule.plan(&self.spec.key, edges.min().map_or(on_grid, |edge| edge.min(on_grid)));
        if let Some(poll_cycle) = &mut self.poll_cycle {
            // Poll cycles of one object never overlap. The next one follows at once when this one ends.
            poll_cycle.again = true;
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
        self.poll_cycle = Some(PollCycle {
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
                // Of an HPA that is observed, for which no poll cycle begins.
                Source::Shown(_) => continue,
                Source::Pods(selection) => match work.pods.answer(&self.spec.key.namespace, selection) {
                    Some(answer) => answer,
                    // The first count, or the error instead of it, is still to come.
                    None => continue,
                },
                // The poll goes on when the authentication has been read.
                Source::Query(_) if self.awaits_authentication(trigger, work) => continue,
                Source::Query(query) => match self.ask(trigger, query, due_at, work) {
                    Ok(()) => continue,
                    Err(error) => Answer::Failed(error),
                },
            };
            self.take_answer(trigger.index, &answer, work.now, Duration::ZERO, work);
        }
        self.answers_taken(work);
    }

    /// Queues the poll of one trigger, unless it must not be sent.
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
            return Err(PollError::new(ErrorClass::Configuration, message));
        }
        let credentials = self.credentials(trigger, work)?;
        work.schedule.ask((self.spec.key.clone(), trigger.index), query, credentials, due_at);
        Ok(())
    }

    pub(super) fn credentials(&self, trigger: &Trigger, work: &Work<'_>) -> Result<Option<Credentials>, PollError> {
        let target = || Some((&self.spec, Arc::clone(self.target.gvkr()?)));
        Credentials::of(&self.spec.key, trigger, |id| work.facts.authentications.get(id), target)
    }

    /// Takes in an answer for one trigger, and draws the conclusions.
    pub(super) fn receive_answer(
        &mut self,
        index: u16,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        work: &mut Work<'_>,
    ) {
        self.take_answer(index, answer, at, latency, work);
        self.answers_taken(work);
    }

    /// Takes in an answer for one trigger, whether a poll cycle waits for it or not.
    pub(super) fn take_answer(
        &mut self,
        index: u16,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        work: &mut Work<'_>,
    ) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let Some(position) = definition.triggers.iter().position(|trigger| trigger.index == index) else {
            return;
        };
        if let Some(poll_cycle) = &mut self.poll_cycle {
            poll_cycle.waiting.remove(&index);
        }
        self.record_sample(position, answer, at, latency, work);
    }

    /// Draws the conclusions from answers that were taken in, once from all of them.
    pub(super) fn answers_taken(&mut self, work: &mut Work<'_>) {
        match self.poll_cycle {
            Some(_) => {
                self.poll_cycle_progressed(work);
                self.compose_meanwhile(work);
            }
            // Between poll cycles a new value is decided on at once. One that is under way will do so at its end.
            None if self.may_compose(work) => self.conclude(work),
            None => self.concludes_later = true,
        }
        self.publish(work);
    }

    fn has_formula(&self) -> bool {
        self.polled_definition.as_ref().is_some_and(|definition| definition.modifiers.is_some())
    }

    /// Whether the formula may be evaluated again, if there is one. It may take longer than all else about an answer, and
    /// there may be a hundred answers.
    fn may_compose(&self, work: &mut Work<'_>) -> bool {
        let next = self.composed_at.plus(COMPOSE_EVERY);
        // A result is as old as the oldest of its values, which is replaced once in its age limit only.
        let limit = self.age_limit(work.settings.query_timeout);
        let is_old = matches!(self.composite, Some(Composite::Value { at, .. }) if work.now.since(at) >= limit);
        let may = !self.has_formula() || is_old || work.now >= next;
        if !may {
            work.outbox.wake(&self.spec.key, next);
        }
        may
    }

    /// Evaluates the formula during a poll cycle, which may be long: the formula's result is as old as the oldest of its
    /// values. Between poll cycles concludes from answers that came too soon after others. Returns whether it did.
    pub(super) fn compose_meanwhile(&mut self, work: &mut Work<'_>) -> bool {
        if !self.has_formula() || (self.poll_cycle.is_none() && !self.concludes_later) || !self.may_compose(work) {
            return false;
        }
        if self.poll_cycle.is_some() {
            self.compose(work);
        } else {
            self.conclude(work);
        }
        true
    }

    /// Keeps what each pod answered, for the view that follows from the answer. While none answers, the last ones show
    /// whose pods they are.
    pub(super) fn keep_pods(&mut self, index: u16, pods: &Option<Arc<PodValues>>) {
        let position = self
            .polled_definition
            .as_ref()
            .and_then(|definition| definition.triggers.iter().position(|trigger| trigger.index == index));
        if let (Some(state), Some(_)) = (position.and_then(|at| self.triggers.get_mut(at)), pods) {
            state.pods.clone_from(pods);
        }
    }

    /// Updates the state of a trigger with an answer, and records the sample.
    pub(super) fn record_sample(
        &mut self,
        position: usize,
        answer: &Answer,
        at: UnixMillis,
        latency: Duration,
        work: &mut Work<'_>,
    ) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        let (Some(trigger), Some(state)) = (definition.triggers.get(position), self.triggers.get_mut(position)) else {
            return;
        };
        state.record_answer(trigger, &definition, answer, at, context);
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

    /// Computes fallbacks again after the target or its pods became known, before anything is decided on them.
    pub(super) fn reconsider(&mut self, work: &mut Work<'_>) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        for (trigger, state) in definition.triggers.iter().zip(&mut self.triggers) {
            state.reconsider(trigger, &definition, work.now, context);
        }
        if self.poll_cycle.is_none() {
            self.compose(work);
        }
        self.publish(work);
    }

    /// Evaluates the formula over the last answers of the triggers. Returns false if there is no result.
    pub(super) fn compose(&mut self, work: &mut Work<'_>) -> bool {
        let Some(definition) = self.polled_definition.clone() else {
            return false;
        };
        let Some(modifiers) = &definition.modifiers else {
            return false;
        };
        let context = FallbackContext::of(&self.target, self.ready_pods.as_ref());
        self.composed_at = work.now;
        let before = self.composite.as_ref();
        self.composite = Composite::compute(&definition, modifiers, &self.triggers, context, before, work.now);
        self.composite.is_some()
    }

    /// Publishes and records the result of the formula once all triggers are answered.
    fn record_composite(&mut self, work: &mut Work<'_>) {
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

    pub(super) fn poll_cycle_progressed(&mut self, work: &mut Work<'_>) {
        if !self.poll_cycle.as_ref().is_some_and(PollCycle::is_complete) {
            return;
        }
        let again = self.poll_cycle.take().is_some_and(|poll_cycle| poll_cycle.again);
        self.conclude(work);
        if again {
            work.schedule.plan(&self.spec.key, work.now);
        }
    }

    /// Draws the conclusions once no answer is outstanding.
    pub(super) fn conclude(&mut self, work: &mut Work<'_>) {
        self.concludes_later = false;
        let is_good = self.verdict == Verdict::Good;
        // An object that is not good decides as soon as it is, since its next poll cycle may be far away.
        self.redecide |= !is_good;
        self.record_composite(work);
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
        let (reason, action, note) = if active {
            ("ScaledObjectFallbackActivated", "ActivateFallback", "ScaledObject fallback is active")
        } else {
            ("ScaledObjectFallbackDeactivated", "DeactivateFallback", "ScaledObject fallback is no longer active")
        };
        self.emit_normal(reason, action, note, work);
    }

    /// Decides from the last answers, and acts.
    pub(super) fn decide(&mut self, work: &mut Work<'_>) {
        let is_paused = self.spec.pause.is_full();
        if self.definition().is_none() && !is_paused {
            return;
        }
        // An edit is polled for once it was found good. What was asked before says nothing about what it names.
        let is_before_edit = !is_paused && self.polled_generation != Some(self.spec.generation);
        if self.slots.scale.in_flight.is_some() || is_before_edit {
            self.redecide = true;
            return;
        }
        self.redecide = false;
        let limit = self.age_limit(work.settings.query_timeout);
        let is_current = self.definition().is_some_and(|definition| {
            let mut readings = definition.triggers.iter().zip(&self.triggers);
            self.triggers.iter().all(|state| state.current.is_some())
                && (self.composite.is_some() || definition.modifiers.is_none())
                && !readings.any(|(trigger, state)| state.is_old(trigger, limit, work.now))
        });
        if !is_current && !is_paused {
            // A missing answer is not inactivity. The poll cycle that is under way will decide.
            return;
        }
        // Nobody saw the end of an activity that an earlier process wrote into the status, and of an HPA's nothing is
        // written. It may have lasted until now, and a cooldown that begins too late harms less than one that has ended too
        // early.
        let may_have_lasted = self.was_active || self.spec.scales_to_zero;
        if self.decision.is_none() && !is_paused && may_have_lasted {
            self.last_active_at = self.last_active_at.max(Some(work.now));
        }
        let current = match (&self.target, &self.target_unreadable) {
            (Target::Found { .. }, Some(message)) => Err(message.as_str()),
            (Target::Found { workload, .. }, None) => Ok(workload.replicas),
            (Target::Failed { message, .. }, _) => Err(message.as_str()),
            (Target::Unknown | Target::Reading, _) => Err("not read yet"),
        };
        let mut decision = decide(&self.spec, decided_triggers(self), current, self.last_active_at, work.now);
        // An outage may have hidden when the activity ended, like a restart, and the first answer after it, which is often
        // empty, must not find the cooldown over.
        let is_over = decision.cooldown_until.is_some() && self.was_active;
        let is_unknown = |at: UnixMillis| work.now.since(at) > self.longest_between_answers();
        if is_over && self.last_active_at.is_some_and(is_unknown) {
            self.last_active_at = Some(work.now);
            decision = decide(&self.spec, decision.triggers, current, self.last_active_at, work.now);
        }
        if let Some(is_active) = decision.is_active().filter(|_| !decision.is_held()) {
            self.was_active = is_active;
        }
        if self.spec.leaves_replicas() && self.recorded.put_to_zero && current == Ok(0) {
            give_back(&mut decision);
        }
        let decision = Arc::new(if self.spec.is_shadow { decision.shadowed() } else { decision });
        // A decision to pause does not depend on triggers, so their last state stays in the status.
        if !is_paused && !self.decision.as_ref().is_some_and(|before| decision.has_status_of(before)) {
            self.is_settled = false;
            self.decision = Some(Arc::clone(&decision));
        }
        // A state that lasts is recorded once. The samples show how values develop meanwhile.
        let is_tried = self.slots.scale.is_free(work.now) && !self.leaves_target(&decision, work);
        if self.is_news(&decision, work.now) || (decision.from != decision.to && !decision.is_shadow && is_tried) {
            self.recorded.decision = Some(Arc::clone(&decision));
            let (at, object) = (work.now, self.spec.key.clone());
            work.outbox.record(Record::Decision { at, object, decision: Arc::clone(&decision) });
        }
        self.act(decision, work);
    }

    /// Between two polls of a trigger that answers there is no more time than this.
    fn longest_between_answers(&self) -> Duration {
        self.polled_definition.as_ref().map_or(Duration::ZERO, |definition| definition.polling_interval * 2)
    }

    /// Returns whether a decision is to be recorded beside the last one that was.
    fn is_news(&mut self, decision: &Decision, now: UnixMillis) -> bool {
        let Some(before) = self.recorded.decision.as_ref() else { return true };
        if decision.repeats(before) {
            return false;
        }
        if !decision.concludes_as(before) {
            return true;
        }
        let paid_at = self.recorded.stand_ins_paid_at.map_or(now, |at| at.max(now)).plus(RECORD_STAND_INS_EVERY);
        let is_news = paid_at <= now.plus(RECORD_STAND_INS_AHEAD);
        if is_news {
            self.recorded.stand_ins_paid_at = Some(paid_at);
        }
        is_news
    }

    /// Two that scale one target would undo each other's work, and a ScaledObject decides alone. But a target without
    /// replicas is woken unless somebody else is there to do it: an HPA does nothing about it.
    fn leaves_target(&self, decision: &Decision, work: &Work<'_>) -> bool {
        let is_woken = decision.from == 0 && decision.to > 0;
        self.spec.is_hpa() && if is_woken { self.is_target_owned(work) } else { self.is_target_shared(work) }
    }

    fn act(&mut self, decision: Arc<Decision>, work: &mut Work<'_>) {
        let (from, to) = (decision.from, decision.to);
        match self.target.gvkr().cloned() {
            Some(_) if from != to && self.leaves_target(&decision, work) => {}
            Some(gvkr) if from != to && !decision.is_shadow => {
                let target = ScaleTarget { gvkr, name: self.spec.target.name.clone() };
                let version = self.target.version();
                if self.write(WriteKind::Scale { target, from, to, version }, work) {
                    self.recorded.scaled = Some((work.now, to));
                    self.scaling = Some(decision);
                } else {
                    self.redecide = true;
                }
            }
            _ if decision.renews_cooldown() => self.touch_last_active(work),
            _ => self.record_last_active(true, work),
        }
    }

    pub(super) fn touch_last_active(&mut self, work: &mut Work<'_>) {
        self.last_active_at = Some(work.now);
        // The status of an HPA is kept here alone, so it shows a later process nothing.
        self.record_last_active(!self.is_active_in_status() || self.spec.scales_to_zero, work);
    }

    /// `exactly`: the status does not show that the object is active, so a restart depends on this.
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

/// KEDA's event about a decision that was carried out, or that failed to be.
pub(super) fn scale_event(
    object: &Object,
    target: &ScaleTarget,
    decision: &Decision,
    failed: bool,
) -> Option<KubeEvent> {
    let what = format!("{} {}/{}", target.gvkr.kind_text(), object.spec.key.namespace, target.name);
    let (from, to) = (decision.from, decision.to);
    let normal = |reason, action, note: String| Some(KubeEvent::normal(object.reference(), reason, action, note));
    let warning = |reason, action, note: String| Some(KubeEvent::warning(object.reference(), reason, action, note));
    match (&decision.reason, failed) {
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

/// What each trigger contributes, and what the formula makes of them. If there is a formula, only its result can be
/// active.
fn decided_triggers(object: &Object) -> Vec<DecidedTrigger> {
    let Some(definition) = &object.polled_definition else {
        return Vec::new();
    };
    let replicas = object.target.replicas().unwrap_or(0);
    let modifiers = definition.modifiers.as_ref();
    let states = definition.triggers.iter().zip(&object.triggers);
    let behavior = definition.behavior.as_ref();
    let triggers = states.map(|(trigger, state)| DecidedTrigger {
        metric_name: Arc::clone(&trigger.metric_name),
        value: state.value(),
        active: modifiers.is_none() && state.is_active(trigger),
        error: state.error().map(|error| error.message.clone()),
        metric_type: trigger.metric_type,
        target: trigger.threshold,
        // If there is a formula, the HPA sees its result alone.
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
