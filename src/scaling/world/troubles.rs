//! What is said of triggers that fail, and of those whose silence scales in: on the object, and as events.

use super::super::composite::{self, Composite};
use super::super::event::ErrorClass;
use super::super::model::{ConditionKind, ObjectKey, UnixMillis};
use super::super::troubles;
use super::World;

impl World {
    /// Tells each trigger's error once the round is complete and its fallback has been considered.
    pub(super) fn tell_troubles(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone() else {
            return;
        };
        let written = object.spec.status.conditions.iter().find(|c| c.kind == ConditionKind::TriggersHealthy);
        object.troubles.update(&definition, &object.triggers, object.composite.as_ref(), written, now);
        let mut errors: Vec<_> = definition
            .triggers
            .iter()
            .zip(&object.triggers)
            .map(|(trigger, state)| {
                let error = state.underlying_error().map(|error| troubles::of(trigger, &error.message));
                (trigger.index, error)
            })
            .collect();
        // An error of one of the triggers has been told as theirs.
        let error = object.composite.as_ref().and_then(Composite::error);
        let error = error.filter(|error| error.class == ErrorClass::Formula);
        errors.push((composite::INDEX, error.map(|error| error.message.clone())));
        for (index, error) in errors {
            self.tell_trigger_error(key, index, error);
        }
    }

    /// An event for each new error text of a trigger, not for each failing poll.
    fn tell_trigger_error(&mut self, key: &ObjectKey, index: u16, error: Option<String>) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let told = &mut object.recorded.trigger_errors;
        match error {
            None => {
                told.remove(&index);
            }
            Some(error) if told.get(&index) == Some(&error) => {}
            Some(error) => {
                told.insert(index, error.clone());
                let feeds_formula = object.definition().is_some_and(|definition| definition.modifiers.is_some());
                let reason = if feeds_formula { "KEDAMetricSourceFailed" } else { "KEDAScalerFailed" };
                self.emit(key, true, reason, "QueryTrigger", error);
            }
        }
    }

    /// The target's replicas became fewer, by us or by the HPA that follows us.
    pub(super) fn tell_silence(&mut self, key: &ObjectKey, from: u32, to: u32, now: UnixMillis) {
        if to >= from {
            return;
        }
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let Some(definition) = object.loop_definition.clone().filter(|_| !object.spec.pause.is_full()) else {
            return;
        };
        let note = object.troubles.scaled_in(&definition, &object.triggers, (from, to), now);
        self.dirty.insert(key.clone());
        if let Some(note) = note {
            self.emit(key, false, "ScaledInWithoutSeries", "ScaleDown", note);
        }
    }
}
