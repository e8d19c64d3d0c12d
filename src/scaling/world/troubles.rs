//! Reports triggers that fail, and those that scale in without a number, in a condition and by events.

use super::work::Work;
use crate::scaling::composite::{self, Composite};
use crate::scaling::event::ErrorClass;
use crate::scaling::model::ConditionKind;
use crate::scaling::object::Object;
use crate::scaling::troubles;

impl Object {
    /// Emits each trigger's error once the poll cycle is complete and its fallback has been considered.
    pub(super) fn report_troubles(&mut self, work: &mut Work<'_>) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let written = self.spec.status.condition(ConditionKind::TriggersHealthy);
        self.troubles.update(&definition, &self.triggers, self.composite.as_ref(), written, work.now);
        // An error that comes from a trigger is reported for that trigger.
        let error = self.composite.as_ref().and_then(Composite::error);
        let error = error.filter(|error| error.class == ErrorClass::Formula);
        let is_well = error.is_none() && self.triggers.iter().all(|state| state.underlying_error().is_none());
        if is_well && self.recorded.trigger_errors.is_empty() {
            return;
        }
        let mut errors: Vec<_> = definition
            .triggers
            .iter()
            .zip(&self.triggers)
            .map(|(trigger, state)| {
                let error = state.underlying_error().map(|error| troubles::of(trigger, &error.message));
                (trigger.index, error)
            })
            .collect();
        errors.push((composite::INDEX, error.map(|error| error.message.clone())));
        for (index, error) in errors {
            self.report_trigger_error(index, error, work);
        }
    }

    /// Emits an event for each new error text of a trigger rather than for each failing poll.
    fn report_trigger_error(&mut self, index: u16, error: Option<String>, work: &mut Work<'_>) {
        let reported = &mut self.recorded.trigger_errors;
        match error {
            None => {
                reported.remove(&index);
            }
            Some(error) if reported.get(&index) == Some(&error) => {}
            Some(error) => {
                reported.insert(index, error.clone());
                let feeds_formula = self.definition().is_some_and(|definition| definition.modifiers.is_some());
                let reason = if feeds_formula { "KEDAMetricSourceFailed" } else { "KEDAScalerFailed" };
                self.emit_warning(reason, "QueryTrigger", error, work);
            }
        }
    }

    /// Reports a scale-in by hpalite or the HPA if triggers without a number caused it.
    pub(super) fn report_silence(&mut self, from: u32, to: u32, work: &mut Work<'_>) {
        if to >= from {
            return;
        }
        let Some(definition) = self.polled_definition.clone().filter(|_| !self.spec.pause.is_full()) else {
            return;
        };
        let note = self.troubles.scaled_in(&definition, &self.triggers, (from, to), work.now);
        work.outbox.dirty.insert(self.spec.key.clone());
        if let Some(note) = note {
            self.emit_normal("ScaledInWithoutSeries", "ScaleDown", note, work);
        }
    }
}
