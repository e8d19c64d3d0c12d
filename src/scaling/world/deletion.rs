//! The end of a ScaledObject: restore what is to be restored, then let it go.

use std::time::Duration;

use super::super::event::{ScaleTarget, WriteKind};
use super::super::model::{FINALIZERS, ObjectKey, UnixMillis};
use super::super::object::{Scaling, Target, Verdict};
use super::super::reason::Reason;
use super::World;

/// Restoring is tried this often; then the object may go, since a deletion must not hang on a
/// target that cannot be scaled.
pub(super) const RESTORE_TRIES: u32 = 5;

impl World {
    pub(super) fn finalize(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let was_running = object.loop_generation.is_some();
        object.stop_loop();
        object.verdict = Verdict::Pending;
        self.schedule.forget(key);
        self.listen(key);
        self.select_pods(key);
        if was_running {
            self.emit(key, false, "KEDAScalersStopped", "StopScaling", "Stopped scalers watch".to_owned());
        }
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let ours = |name: &String| FINALIZERS.contains(&name.as_str());
        if !object.spec.finalizers.iter().any(ours) {
            return;
        }
        if object.spec.restore_to_original && !object.restored && !self.is_target_shared(key) && !self.restore(key, now)
        {
            return;
        }
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let finalizers = object.spec.finalizers.iter().filter(|name| !ours(name)).cloned().collect();
        let resource_version = object.spec.resource_version.clone();
        self.write(key, WriteKind::Release { finalizers, resource_version }, now);
    }

    /// True when the target has its original count, or cannot get it.
    fn restore(&mut self, key: &ObjectKey, now: UnixMillis) -> bool {
        let Some(object) = self.objects.get(key) else {
            return true;
        };
        let Some(original) = object.spec.status.original_replica_count else {
            return true;
        };
        // The HPA would undo it: it goes first, rather than with the garbage collector afterwards.
        if let Some(hpa) = self.hpa_of(key) {
            let (name, uid, going) = (hpa.name.clone(), hpa.uid.clone(), hpa.deletion_requested);
            if !going {
                self.write(key, WriteKind::DeleteHpa { name, uid }, now);
            }
            return false;
        }
        let target = self.resolve_target(key, now);
        let Some(object) = self.objects.get_mut(key) else {
            return true;
        };
        let done = match target {
            Target::Unknown | Target::Reading => false,
            Target::Failed { .. } => true,
            Target::Found { ref workload, .. } if workload.replicas == original => true,
            Target::Found { .. } if object.slots.scale.failures >= RESTORE_TRIES => true,
            Target::Found { gvkr, workload } => {
                let (from, name) = (workload.replicas, object.spec.target.name.clone());
                let is_sent =
                    self.write(key, WriteKind::Scale { target: ScaleTarget { gvkr, name }, from, to: original }, now);
                if let Some(object) = self.objects.get_mut(key).filter(|_| is_sent) {
                    object.scaling =
                        Some(Scaling { reason: Reason::Restored, from, to: original, touch_last_active: false });
                }
                false
            }
        };
        match self.objects.get_mut(key) {
            Some(object) if done => object.restored = true,
            Some(_) => self.wake(key, now.plus(Duration::from_secs(1))),
            None => {}
        }
        done
    }
}
