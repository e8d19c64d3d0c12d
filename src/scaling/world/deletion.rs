//! The deletion of a ScaledObject: restores the original replicas if that is asked for, then removes our finalizers.

use std::sync::Arc;
use std::time::Duration;

use super::work::Work;
use crate::scaling::decision::Decision;
use crate::scaling::event::{Record, ScaleTarget, WriteKind};
use crate::scaling::model::FINALIZERS;
use crate::scaling::object::{Object, Verdict};
use crate::scaling::reason::Reason;
use crate::scaling::target::Target;

/// After this many attempts at restoring, the object is deleted all the same, since a target that cannot be scaled must
/// not block its deletion.
pub(super) const RESTORE_TRIES: u32 = 5;

impl Object {
    pub(super) fn finalize(&mut self, work: &mut Work<'_>) {
        let was_running = self.polled_generation.is_some();
        self.stop_polling();
        self.verdict = Verdict::Pending;
        work.schedule.forget(&self.spec.key);
        self.listen(work);
        self.select_pods(work);
        if was_running {
            self.emit_normal("KEDAScalersStopped", "StopScaling", "Stopped scalers watch", work);
        }
        let ours = |name: &String| FINALIZERS.contains(&name.as_str());
        // A shadow's finalizer is somebody else's.
        if self.spec.is_shadow {
            return;
        }
        if !self.spec.finalizers.iter().any(ours) {
            // The finalizer of somebody else may hold the object, and with it the HPA, for long.
            self.give_up_hpa(work);
            return;
        }
        if self.spec.restore_to_original && !self.restored && !self.is_target_of_others(work) {
            let is_done = self.begins_to_restore() && self.restore(work);
            if !is_done {
                return;
            }
        }
        let finalizers = self.spec.finalizers.iter().filter(|name| !ours(name)).cloned().collect();
        let resource_version = self.spec.resource_version.clone();
        self.write(WriteKind::Release { finalizers, resource_version }, work);
    }

    /// Returns false while a scale that was decided before the deletion is under way: it would undo the restoration, and
    /// the answer to it brings the object another turn. Failures of before are no attempts at restoring.
    fn begins_to_restore(&mut self) -> bool {
        if !self.is_restoring && self.slots.scale.in_flight.is_none() {
            self.is_restoring = true;
            self.slots.scale.forget_failures();
            self.slots.hpa.forget_failures();
            self.target_read_at = None;
        }
        self.is_restoring
    }

    /// Returns true if the target has its original replicas, or cannot get them.
    fn restore(&mut self, work: &mut Work<'_>) -> bool {
        let Some(original) = self.spec.status.original_replica_count else {
            return true;
        };
        // The HPA is deleted first rather than by the garbage collector afterwards, since it would undo the
        // restoration.
        if let Some(hpa) = work.facts.hpa_of(self).filter(|_| self.slots.hpa.failures < RESTORE_TRIES) {
            self.target_read_at = None;
            self.delete_hpa(hpa, work);
            return false;
        }
        // It is read once, after the last time that the HPA can have scaled it.
        if self.target_read_at.is_none() {
            self.look_again(Duration::ZERO, work);
        }
        let target = self.resolve_target(work);
        let done = match target {
            Target::Unknown | Target::Reading => false,
            Target::Failed { .. } => true,
            Target::Found { ref workload, .. } if workload.replicas == original => true,
            Target::Found { .. } if self.slots.scale.failures >= RESTORE_TRIES => true,
            Target::Found { gvkr, workload } => {
                let (from, name) = (workload.replicas, self.spec.target.name.clone());
                let decision = Arc::new(Decision::new(Reason::Restored, from, original));
                if self.slots.scale.is_free(work.now) {
                    // Before the write, which waits for its commit.
                    let (at, object) = (work.now, self.spec.key.clone());
                    work.outbox.record(Record::Decision { at, object, decision: Arc::clone(&decision) });
                }
                let target = ScaleTarget { gvkr, name };
                if self.write(WriteKind::Scale { target, from, to: original, version: workload.version }, work) {
                    self.scaling = Some(decision);
                }
                false
            }
        };
        if done {
            self.restored = true;
        } else {
            work.outbox.wake(&self.spec.key, work.now.plus(Duration::from_secs(1)));
        }
        done
    }
}
