//! Records anew what lasts, since the history goes on in another file.
//!
//! The history has only changes: of what stays as it is, another file would have nothing until a restart.

use super::World;
use super::work::Work;
use crate::scaling::event::Record;
use crate::scaling::object::Object;
use crate::scaling::target::Target;

impl World {
    /// Records what is known of every object. Decisions follow at the next poll, since one of before says nothing of
    /// now.
    pub(super) fn record_anew(&mut self) {
        for key in self.objects.keys().into_iter().cloned().collect::<Vec<_>>() {
            self.with(&key, |object, work| object.record_anew(work));
            self.outbox.dirty.insert(key);
        }
        if self.facts.is_standby {
            self.outbox.record(Record::Standby { until: None, was_alone: false });
        }
        let now = self.now;
        let hpas: Vec<Record> = self.facts.hpas.values().filter_map(|hpa| self.observation(hpa, now)).collect();
        for observation in hpas {
            self.outbox.record(observation);
        }
    }
}

impl Object {
    fn record_anew(&mut self, work: &mut Work<'_>) {
        self.recorded.definition = None;
        self.record_definition(work);
        self.recorded.replicas = None;
        if let Target::Found { workload, .. } = &self.target {
            let workload = workload.clone();
            self.note_replicas_of(&workload, work);
        }
        if let Some(at) = self.last_active_at {
            self.recorded_active_at = Some(at);
            work.outbox.record(Record::LastActive { object: self.spec.key.clone(), at });
        }
        if let Some(observed) = &mut self.spec.observed {
            observed.forget();
        }
        self.recorded.decision = None;
        // The next reconciliation compares the conditions with none.
        self.recorded.conditions = Box::default();
        self.is_settled = false;
    }
}
