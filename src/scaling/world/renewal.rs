//! Records anew what lasts, since the history goes on in another file.
//!
//! The history has only changes: of what stays as it is, another file would have nothing until a restart. All of it may
//! be more than the queue of the history takes, so it is recorded in slices.

use super::World;
use super::work::Work;
use crate::scaling::event::{Command, Record};
use crate::scaling::model::Workload;
use crate::scaling::object::Object;
use crate::scaling::target::Target;

/// A slice ends with the object whose records exceed these, which the queue has room for many times.
const SLICE_BYTES: usize = 4 << 20;
const SLICE_RECORDS: usize = 1_024;

impl World {
    /// Everything that is known is to be recorded anew.
    pub(super) fn begin_recording_anew(&mut self) {
        self.unrecorded = self.objects.keys().into_iter().cloned().collect();
        if self.facts.is_standby {
            self.outbox.record(Record::Standby { until: None, was_alone: false });
        }
    }

    /// Whether [`Event::HistoryHasRoom`](crate::scaling::event::Event::HistoryHasRoom) is waited for.
    #[must_use]
    pub fn is_recording_anew(&self) -> bool {
        !self.unrecorded.is_empty()
    }

    /// Records what is known of the next objects. Decisions follow at the next poll, since one of before says nothing of
    /// now.
    pub(super) fn record_slice(&mut self) {
        let (mut bytes, mut records) = (0, 0);
        while let Some(key) = self.unrecorded.pop_first() {
            let before = self.outbox.commands.len();
            self.with(&key, |object, work| object.record_anew(work));
            self.outbox.dirty.insert(key);
            for command in self.outbox.commands.iter().skip(before) {
                if let Command::Record(record) = command {
                    (bytes, records) = (bytes + record.weight(), records + 1);
                }
            }
            if bytes >= SLICE_BYTES || records >= SLICE_RECORDS {
                return;
            }
        }
    }
}

impl Object {
    fn record_anew(&mut self, work: &mut Work<'_>) {
        self.recorded.definition = None;
        self.record_definition(work);
        // Another object of the target may have shown a newer count than the one that this one looked at last. That count is
        // recorded again, and stays known to be of its own version.
        let (recorded, version) = (self.recorded.replicas.take(), self.recorded.target_version.clone());
        if let Target::Found { workload, .. } = &self.target {
            let replicas = recorded.unwrap_or(workload.replicas);
            let workload = Workload { replicas, ..Workload::clone(workload) };
            self.note_replicas_of(&workload, None, work);
        }
        if version.is_some() {
            self.recorded.target_version = version;
        }
        if let Some(at) = self.last_active_at {
            self.recorded_active_at = Some(at);
            work.outbox.record(Record::LastActive { object: self.spec.key.clone(), at });
        }
        let itself = work.facts.hpa_of(self).filter(|_| self.spec.is_hpa());
        for hpa in work.facts.hpas_of(self).chain(itself) {
            work.outbox.record(Record::of_hpa(self.spec.key.clone(), hpa, work.now));
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
