//! What holds of a world after every event.

use std::collections::BTreeSet;

use super::controllers::kind_of_target;
use super::rig::{Rig, Samples, slot_name};
use crate::scaling::composite;
use crate::scaling::decision::Decision;
use crate::scaling::event::{Answer, Command, Record};
use crate::scaling::hpa::{self, Drift};
use crate::scaling::model::{Definition, ObjectKey, Trigger};
use crate::scaling::object::{Object, Verdict, scaling_active};
use crate::scaling::reason::Reason;
use crate::scaling::target::TargetId;
use crate::scaling::view::Reading;
use crate::scaling::world::World;

impl World {
    /// Panics with the violated invariant.
    pub(super) fn check_invariants(&self) {
        assert!(self.outbox.dirty.is_empty(), "nobody is left to be looked at");
        assert!(self.outbox.commands.is_empty(), "everything wanted was handed out");
        assert!(self.outbox.writes_in_flight <= self.settings.writes_max);
        let mut in_flight = self.authentication_writes.len();
        for (key, object) in self.objects.iter() {
            in_flight += object.in_flight_writes.len();
            check_slots(object);
            self.check_polling(key, object);
            self.check_settled(key, object);
            let users = self.objects.by_target.get(&object.target_id);
            assert!(users.contains(key), "{key}: target index");
            assert_eq!(object.is_starved, self.outbox.starved.contains(key), "{key}: queue for writes");
        }
        // Those of deleted objects are counted until they are answered.
        assert!(in_flight <= self.outbox.writes_in_flight);
        if !self.outbox.starved.is_empty() {
            assert_eq!(self.outbox.writes_in_flight, self.settings.writes_max);
        }
        self.check_indexes();
        self.schedule.check();
        self.check_ages();
    }

    /// Reconciling a settled object must not change anything.
    fn check_settled(&self, key: &ObjectKey, object: &Object) {
        // The HPA of a shadow's target is nothing to it.
        if !object.is_settled || object.needs_a_look() || object.spec.is_shadow {
            return;
        }
        let Some(hpa) = self.facts.hpa_of(object) else {
            panic!("{key}: settled without an HPA");
        };
        let status = object.wanted_status(Some((&hpa.name, scaling_active(hpa))));
        assert_eq!(status, object.spec.status, "{key}: status");
        let (definition, gvkr) = (object.definition().unwrap(), object.target.gvkr().unwrap());
        let desired = hpa::desired(&object.spec, definition, gvkr, &self.settings.version);
        let is_right = hpa::drift(&desired, hpa) == Drift::None;
        let is_kept = object.hpa_kept.as_ref().is_some_and(|kept| kept.stands(&desired, hpa));
        let is_later = object.hpa_correction.as_ref().is_some_and(|last| last.next_at > self.now);
        let waits = object.is_starved || is_later || !object.slots.hpa.is_free(self.now);
        assert!(is_right || is_kept || waits, "{key}: HPA is not as desired: {desired:?}, {hpa:?}");
    }

    fn check_polling(&self, key: &ObjectKey, object: &Object) {
        let is_running = object.polled_generation.is_some();
        assert_eq!(
            is_running,
            self.schedule.planned(key).is_some(),
            "{key}: a loop has a next poll cycle, and nothing else has"
        );
        assert_eq!(is_running, object.polled_definition.is_some(), "{key}");
        if let Some(definition) = &object.polled_definition {
            assert_eq!(definition.triggers.len(), object.triggers.len(), "{key}");
            let is_answered = object.triggers.iter().all(|state| state.current.is_some());
            if object.poll_cycle.is_none() && is_answered {
                let has_formula = definition.modifiers.is_some();
                assert_eq!(object.composite.is_some(), has_formula, "{key}: what is answered goes into the formula");
            }
        } else {
            assert!(object.poll_cycle.is_none() && object.triggers.is_empty(), "{key}");
        }
        match object.verdict {
            Verdict::Good => assert!(is_running, "{key}: good and not running"),
            Verdict::Paused | Verdict::Failed { .. } => {
                assert!(!is_running, "{key}: {:?} and running", object.verdict);
            }
            Verdict::Pending => {}
        }
        let is_looked_at = !object.spec.finalizers.is_empty();
        if object.spec.pause.is_full() && is_looked_at && !object.recorded.paused {
            assert!(object.verdict == Verdict::Pending, "{key}: pause is reported");
        }
    }

    /// No sample is served beyond its age limit, and silence is noticed in time.
    fn check_ages(&self) {
        for (key, object) in self.objects.iter() {
            let silent_at = object.triggers.iter().filter_map(|state| state.silent_at).min();
            assert_eq!(self.outbox.silences.get(key), silent_at, "{key}");
            assert!(silent_at.is_none_or(|at| at > self.now), "{key}: silent and not noticed");
            let limit = object.age_limit(self.settings.query_timeout);
            // After a standstill everything is polled again, and the server checks ages itself.
            if self.woke_at.is_some_and(|at| self.now.since(at) <= limit) {
                continue;
            }
            // As published, except for later steps of the clock. A formula has its second before it takes in a new answer.
            let is_due = |name: &str| object.concludes_later && name == composite::NAME;
            for metric in object.view(limit, self.now).metrics.iter().filter(|metric| !is_due(&metric.name)) {
                if let (Reading::Value { at, .. }, Some(limit)) = (&metric.reading, metric.age_limit) {
                    let age = self.now.since(*at);
                    assert!(age <= limit, "{key}: {} is {age:?} old, and may be {limit:?}", metric.name);
                }
            }
        }
    }

    fn check_indexes(&self) {
        for (_, users) in self.objects.by_target.iter() {
            assert!(!users.is_empty());
            assert!(users.iter().all(|user| self.objects.get(user).is_some()));
        }
        let by_authentication = self.objects.by_authentication.iter().map(|(_, users)| users);
        for users in by_authentication.chain(self.objects.by_hpa_name.iter().map(|(_, users)| users)) {
            assert!(!users.is_empty());
            assert!(users.iter().all(|user| self.objects.get(user).is_some()));
        }
        let by_target: BTreeSet<_> = self
            .facts
            .hpas_by_target
            .iter()
            .flat_map(|(target, names)| names.iter().map(|name| (target.clone(), name.clone())))
            .collect();
        let expected: BTreeSet<_> =
            self.facts.hpas.values().map(|hpa| (TargetId::of(&hpa.namespace, &hpa.target), hpa.name.clone())).collect();
        assert_eq!(by_target, expected);
        let owned: usize = self.facts.hpas_by_owner.iter().map(|(_, names)| names.len()).sum();
        let controlled = self.facts.hpas.values().filter(|hpa| hpa.controller.is_some());
        assert_eq!(owned, controlled.count());
    }
}

/// The write in a slot is known, of the slot's kind, and the only one.
fn check_slots(object: &Object) {
    let key = &object.spec.key;
    let slots = &object.slots;
    let mut known = 0;
    for (slot, name) in
        [(&slots.claim, "claim"), (&slots.status, "status"), (&slots.hpa, "hpa"), (&slots.scale, "scale")]
    {
        let Some(id) = slot.in_flight else { continue };
        known += 1;
        let write = object.in_flight_writes.iter().find(|(known, _)| *known == id).expect("a write for each slot");
        assert_eq!(slot_name(&write.1), name, "{key}");
    }
    assert_eq!(known, object.in_flight_writes.len(), "{key}");
    assert_eq!(object.scaling.is_some(), slots.scale.in_flight.is_some(), "{key}: a scale under way has its reason");
}

/// Each count that is recorded is one that the target has had, and none from before what the process knows.
pub(super) fn check_replicas(rig: &Rig, commands: &[Command]) {
    for command in commands {
        let Command::Record(Record::Replicas { object: key, from, to, .. }) = command else { continue };
        let target = &rig.world.objects[key].spec.target.name;
        let id = (kind_of_target(target), key.namespace.to_string(), target.clone());
        let Some(shown) = rig.shown.get(&id) else { panic!("{key}: nothing has shown {target}") };
        let counts = &rig.cluster.counts[&id];
        let is_so = counts.range(shown..).any(|(_, count)| count == to);
        assert!(is_so, "{key}: {from:?}→{to} of {target} in the history, known as of {shown}: {counts:?}");
    }
}

/// Each decision follows from the samples that were recorded before it.
pub(super) fn check_reasons(rig: &mut Rig, commands: &[Command]) {
    for command in commands {
        match command {
            Command::Record(Record::Sample { at, object, trigger, answer, .. }) => {
                let sample = rig.samples.entry((object.clone(), *trigger)).or_default();
                if let Answer::Value(value) = answer {
                    sample.last_value = Some((*value, *at));
                }
                sample.last = Some((answer.clone(), *at));
            }
            Command::Record(Record::Definition { object, triggers, .. }) => {
                // An edited trigger holds nothing of what it asked before.
                let as_before = |index: u16, samples: &Samples| {
                    triggers.iter().any(|trigger| trigger.index == index && samples.asks(trigger))
                };
                rig.samples.retain(|(key, index), samples| key != object || as_before(*index, samples));
                for trigger in triggers {
                    rig.samples.entry((object.clone(), trigger.index)).or_default().trigger = Some(trigger.clone());
                }
            }
            Command::Record(Record::Removed { object, .. }) => rig.samples.retain(|(key, _), _| key != object),
            Command::Record(Record::Decision { object, decision, .. }) => check_reason(rig, object, decision),
            _ => {}
        }
    }
}

/// Nothing is deactivated unless each trigger has a number, or a policy that reads one, and none is above its activation
/// threshold. Nothing is active unless one is, or something else explains it.
fn check_reason(rig: &Rig, key: &ObjectKey, decision: &Decision) {
    let object = rig.world.objects.get(key);
    let Some((object, definition)) = object.and_then(|object| Some((object, object.polled_definition.as_deref()?)))
    else {
        return;
    };
    // The formula is evaluated at most once in a second.
    let is_stale = definition.modifiers.is_some() && (object.concludes_later || object.composed_at < rig.now);
    if is_stale {
        return;
    }
    let readings = readings(rig, key, definition);
    let above = match &definition.modifiers {
        Some(modifiers) => match modifiers.formula.evaluate(&readings) {
            Ok(Some(result)) => Some((result * 1000.0).trunc() / 1000.0 > modifiers.activation_target),
            _ => None,
        },
        None => {
            let each = definition.triggers.iter().zip(&readings);
            let above = each.map(|(trigger, reading)| Some(reading.as_ref()? > &trigger.activation_threshold));
            let above: Vec<Option<bool>> = above.collect();
            if above.contains(&Some(true)) { Some(true) } else { (!above.contains(&None)).then_some(false) }
        }
    };
    // A value that is held may be from before an edit, which forgets it.
    let is_missing = |trigger: &Trigger| {
        let sample = rig.samples.get(&(key.clone(), trigger.index)).and_then(|sample| sample.last.as_ref());
        !matches!(sample, Some((Answer::Value(_), _)))
    };
    let is_explained = definition.is_resource_only()
        || decision.force_activation
        || (definition.fallback.is_some() && definition.triggers.iter().any(is_missing));
    match decision.reason {
        Reason::Deactivated => assert_eq!(above, Some(false), "{key}: deactivated by {readings:?}"),
        Reason::Activated { .. } | Reason::Active | Reason::ActiveWithErrors => {
            assert!(above == Some(true) || is_explained, "{key}: {:?} by {readings:?}", decision.reason);
        }
        _ => {}
    }
}

/// What the last sample of each trigger counts as.
fn readings(rig: &Rig, key: &ObjectKey, definition: &Definition) -> Vec<Option<f64>> {
    let reading = |trigger: &Trigger| rig.samples.get(&(key.clone(), trigger.index))?.reading(&trigger.on_missing);
    definition.triggers.iter().map(reading).collect()
}
