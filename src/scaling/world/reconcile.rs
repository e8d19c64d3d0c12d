//! One object, from scratch: what is true of it, and what must be written so that it becomes so.

use std::time::Duration;

use super::super::age;
use super::super::event::{Command, Record, StatusPatch, WriteKind};
use super::super::hpa::{self, DesiredHpa, Drift, ObservedHpa};
use super::super::model::{ApiGroup, FINALIZERS, Invalid, ObjectKey, Status, Step, UnixMillis};
use super::super::object::{Object, Target, UNPAUSED, Verdict, scaling_active};
use super::lists::ListTracker;
use super::ownership::owner;
use super::{World, watched_kind};

/// A fresh object's status waits this long for its first answers, so that it is written once.
const STATUS_SETTLE: Duration = Duration::from_secs(1);
/// So many failures that may pass, and an HPA that is still missing is worth a word.
const HPA_TRIES: u32 = 3;

impl World {
    pub(super) fn reconcile(&mut self, key: &ObjectKey, now: UnixMillis) {
        self.settle_attribution(key, now);
        self.look_at_target(key, now);
        let Some(object) = self.objects.get(key) else {
            return;
        };
        if !self.may_decide(key.group) {
            return;
        }
        if object.spec.deletion_requested {
            self.finalize(key, now);
            return;
        }
        if !self.claim(key, now) {
            return;
        }
        let verdict = self.judge(key, now);
        self.settle(key, verdict, now);
        self.publish(key);
        self.sync_status(key, now);
        self.sync_authentications_of(key, now);
    }

    /// Nothing is decided on half of the facts, nor beside another instance.
    fn may_decide(&self, group: ApiGroup) -> bool {
        !self.is_standby
            && self.lists.hpas.is_complete()
            && self.lists.objects.get(&group).is_some_and(ListTracker::is_complete)
    }

    /// Finalizer and label are there; false while they are being written.
    fn claim(&mut self, key: &ObjectKey, now: UnixMillis) -> bool {
        let Some(object) = self.objects.get(key) else {
            return false;
        };
        let finalizer = match key.group {
            ApiGroup::KedaSh => FINALIZERS[0],
            ApiGroup::KedaK8sIo => FINALIZERS[1],
        };
        let label = match key.group {
            ApiGroup::KedaSh => ("scaledobject.keda.sh/name".to_owned(), key.name.to_string()),
            ApiGroup::KedaK8sIo => ("deploymentName".to_owned(), object.spec.target.name.clone()),
        };
        let has_finalizer = object.spec.finalizers.iter().any(|name| FINALIZERS.contains(&name.as_str()));
        // A full pause ends the checks before the label's turn; a value that is no label is refused.
        let has_label = object.spec.pause.is_full()
            || label.1.is_empty()
            || label.1.len() > 63
            || object.spec.labels.get(&label.0) == Some(&label.1);
        if has_finalizer && has_label {
            return true;
        }
        let mut finalizers = object.spec.finalizers.clone();
        if !has_finalizer {
            finalizers.push(finalizer.to_owned());
        }
        let label = (!has_label).then_some(label);
        let resource_version = object.spec.resource_version.clone();
        self.write(key, WriteKind::Claim { finalizers, label, resource_version }, now);
        false
    }

    /// Goes through the checks in their order, and writes what brings the object further.
    fn judge(&mut self, key: &ObjectKey, now: UnixMillis) -> Verdict {
        let Some(object) = self.objects.get(key) else {
            return Verdict::Pending;
        };
        if object.spec.pause.is_full() {
            return self.pause(key, now);
        }
        let invalid = object.spec.definition.as_ref().err().cloned();
        if object.spec.target.name.is_empty() || is_about_target(invalid.as_ref()) {
            let message = invalid.map(|invalid| invalid.message()).unwrap_or_default();
            return Verdict::failed(Step::Target, message);
        }
        match self.resolve_target(key, now) {
            Target::Unknown | Target::Reading => return Verdict::Pending,
            Target::Failed { message, .. } => return Verdict::failed(Step::Target, message),
            Target::Found { .. } => {}
        }
        if let Some(invalid) = invalid {
            return Verdict::failed(invalid.step(), invalid.message());
        }
        if let Some(message) = self.conflict(key) {
            return Verdict::failed(Step::BuildScalers, message);
        }
        if let Some(object) = self.objects.get_mut(key) {
            object.owns_target = true;
        }
        if !self.are_authentications_listed(key) {
            return Verdict::Pending;
        }
        self.ensure_hpa(key, now)
    }

    /// The target as the watch shows it, or as it was last read.
    pub(super) fn resolve_target(&mut self, key: &ObjectKey, now: UnixMillis) -> Target {
        let Some(object) = self.objects.get(key) else {
            return Target::Unknown;
        };
        let watched = watched_kind(&object.spec.target);
        let resolved = match (self.shown_target(object), watched) {
            (Some(found), _) => found,
            (None, Some(gvkr)) if !self.lists.workloads.get(&gvkr).is_some_and(ListTracker::is_complete) => {
                Target::Unknown
            }
            // Of another kind, or the watch is behind, or there is none: a read says which.
            _ => match &object.target {
                Target::Unknown if object.target_retry_at.is_some_and(|at| at > now) => Target::Unknown,
                Target::Unknown => {
                    self.read_target(key);
                    Target::Reading
                }
                failed @ Target::Failed { .. } => {
                    let failed = failed.clone();
                    let is_due = object.target_retry_at.is_some_and(|at| at <= now);
                    // A missing target heals by itself once it appears.
                    if is_due {
                        self.read_target(key);
                    }
                    failed
                }
                other => other.clone(),
            },
        };
        if let Some(object) = self.objects.get_mut(key) {
            object.target = resolved.clone();
            if let Target::Found { workload, .. } = &resolved {
                object.original_replicas.get_or_insert(workload.replicas);
            }
        }
        resolved
    }

    /// The target as its watch shows it.
    pub(super) fn shown_target(&self, object: &Object) -> Option<Target> {
        let gvkr = watched_kind(&object.spec.target)?;
        let namespace = object.spec.key.namespace.to_string();
        let workload = self.workloads.get(&(gvkr.clone(), namespace, object.spec.target.name.clone()))?;
        Some(Target::Found { gvkr, workload: workload.clone() })
    }

    /// Asks for a target that no watch shows, unless that is under way.
    pub(super) fn read_target(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.target_retry_at = None;
        if std::mem::replace(&mut object.is_target_being_read, true) {
            return;
        }
        let target = &object.spec.target;
        let known = object.target.gvkr().or(object.spec.status.scale_target_gvkr.as_ref());
        let known = known.filter(|gvkr| gvkr.kind == target.kind && gvkr.api_version() == target.api_version);
        let known = watched_kind(target).or_else(|| known.cloned());
        self.out.push(Command::ReadTarget { object: key.clone(), target: target.clone(), known });
    }

    /// Removes the HPA and moves the target to the paused count.
    fn pause(&mut self, key: &ObjectKey, now: UnixMillis) -> Verdict {
        // The loop ends before anything else, so that nothing moves while the HPA goes.
        self.tell_pause(key, false);
        let was_running = self.objects.get(key).is_some_and(|object| object.loop_generation.is_some());
        self.stop(key);
        if was_running {
            self.emit(key, false, "KEDAScalersStopped", "StopScaling", "Stopped scalers watch".to_owned());
        }
        if let Some(hpa) = self.hpa_of(key).filter(|hpa| !hpa.deletion_requested) {
            let (name, uid) = (hpa.name.clone(), hpa.uid.clone());
            self.write(key, WriteKind::DeleteHpa { name, uid }, now);
            return Verdict::Pending;
        }
        let Some(object) = self.objects.get(key) else {
            return Verdict::Pending;
        };
        if let Some(Err(text)) = &object.spec.pause.replicas {
            let message = format!(
                "failed to parse paused replica count: metadata.annotations[autoscaling.keda.sh/paused-replicas]: \
                 \"{text}\" is not a whole number of at least 0 (write for example \"3\")"
            );
            return Verdict::Failed { phrase: "failed to scale target to paused replica count", message };
        }
        if object.spec.pause.replicas.is_some() {
            match self.resolve_target(key, now) {
                Target::Found { .. } => {
                    // Another's target is not moved by pausing.
                    if let Some(message) = self.conflict(key) {
                        return Verdict::failed(Step::BuildScalers, message);
                    }
                    self.decide(key, now);
                }
                Target::Failed { message, .. } => {
                    return Verdict::Failed { phrase: "failed to scale target to paused replica count", message };
                }
                Target::Unknown | Target::Reading => return Verdict::Pending,
            }
        } else if let Target::Found { .. } = self.resolve_target(key, now) {
            // Nothing moves; the history learns why, also of an object that was paused when it was created.
            self.decide(key, now);
        }
        Verdict::Paused
    }

    /// The HPA is as it should be, or on its way.
    fn ensure_hpa(&mut self, key: &ObjectKey, now: UnixMillis) -> Verdict {
        let Some(object) = self.objects.get(key) else {
            return Verdict::Pending;
        };
        let (Some(definition), Some(gvkr)) = (object.definition(), object.target.gvkr()) else {
            return Verdict::Pending;
        };
        let desired = hpa::desired(&object.spec, definition, gvkr, &self.settings.version);
        let transfer = object.spec.transfer_hpa_ownership;
        let me = owner(&object.spec);
        // Renamed: the old one goes first, since two on one target would stop each other.
        if let Some(old) = self.misnamed_hpa(key) {
            let (name, uid, going) = (old.name.clone(), old.uid.clone(), old.deletion_requested);
            if !going {
                self.write(key, WriteKind::DeleteHpa { name, uid }, now);
            }
            return Verdict::Pending;
        }
        let is_news = object.hpa_refusal.as_ref().is_some_and(|refusal| *refusal.desired != desired);
        if is_news && let Some(object) = self.objects.get_mut(key) {
            // Other content may be taken: neither wait nor complain any longer.
            object.hpa_refusal = None;
            object.slots.hpa.retry_at = None;
            object.slots.hpa.failures = 0;
        }
        let found = self.hpas.get(&(desired.namespace.clone(), desired.name.clone()));
        let kind = match found {
            None => Some(WriteKind::CreateHpa(Box::new(desired))),
            // Its watch tells when it is gone.
            Some(hpa) if hpa.deletion_requested => return Verdict::Pending,
            Some(found) if !hpa::is_controlled_by(found, &me) => {
                match &found.controller {
                    Some((_, kind, ..)) if kind == "ScaledObject" => {
                        let Some(name) = self.living_owner(found) else {
                            // Left by an object that is gone: the garbage collector is on its way.
                            return Verdict::Pending;
                        };
                        let message =
                            format!("the HPA '{}' is already managed by the ScaledObject '{name}'", found.name);
                        return Verdict::failed(Step::BuildScalers, message);
                    }
                    _ if !transfer => {
                        let message = format!(
                            "an HPA '{}' that this ScaledObject does not own is already there (delete it, choose another \
                             advanced.horizontalPodAutoscalerConfig.name, or set the annotation \
                             scaledobject.keda.sh/transfer-hpa-ownership: \"true\")",
                            found.name
                        );
                        return Verdict::failed(Step::BuildScalers, message);
                    }
                    _ => {
                        let resource_version = found.resource_version.clone();
                        Some(WriteKind::ReplaceHpa { desired: Box::new(desired), resource_version })
                    }
                }
            }
            Some(found) => match hpa::drift(&desired, found) {
                Drift::None => None,
                _ if self.is_kept(key, &desired, found) => None,
                Drift::Apply => Some(WriteKind::ApplyHpa(Box::new(desired))),
                Drift::Replace => {
                    let resource_version = found.resource_version.clone();
                    Some(WriteKind::ReplaceHpa { desired: Box::new(desired), resource_version })
                }
            },
        };
        let exists = found.is_some();
        if let Some(kind) = kind {
            self.write(key, kind, now);
        } else {
            if let Some(object) = self.objects.get_mut(key) {
                object.hpa_refusal = None;
            }
            return Verdict::Good;
        }
        let Some(object) = self.objects.get(key) else {
            return Verdict::Pending;
        };
        let failures = object.slots.hpa.failures;
        match &object.hpa_refusal {
            Some(refusal) if refusal.is_final || (!exists && failures >= HPA_TRIES) => {
                Verdict::failed(Step::BuildScalers, refusal.message.clone())
            }
            // An HPA that only has to be brought up to date goes on scaling meanwhile.
            _ if exists => Verdict::Good,
            _ => Verdict::Pending,
        }
    }

    /// The API server would make the same of the HPA again.
    fn is_kept(&self, key: &ObjectKey, desired: &DesiredHpa, found: &ObservedHpa) -> bool {
        let kept = self.objects.get(key).and_then(|object| object.hpa_kept.as_ref());
        kept.is_some_and(|kept| kept.stands(desired, found))
    }

    /// Acts on a verdict: starts and stops the loop, tells what changed.
    fn settle(&mut self, key: &ObjectKey, verdict: Verdict, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let generation = object.spec.generation;
        let was_running = object.loop_generation;
        let failed_note = match &object.target {
            Target::Failed { note, .. } => *note,
            _ => None,
        };
        object.verdict = verdict.clone();
        let is_pending = verdict == Verdict::Pending;
        self.tell_pause(key, is_pending);
        match verdict {
            Verdict::Pending => {}
            Verdict::Failed { phrase, message } => {
                self.stop(key);
                self.tell_failure(key, format!("{phrase}: {message}"), message, phrase, failed_note);
            }
            Verdict::Paused => {
                self.tell_ready(key);
            }
            Verdict::Good => {
                if was_running != Some(generation) {
                    self.start(key, was_running.is_some(), now);
                }
                self.tell_ready(key);
                if self.objects.get(key).is_some_and(|object| object.redecide && object.slots.scale.is_free(now)) {
                    self.decide(key, now);
                }
            }
        }
    }

    /// Ends the loop, and any claim that its going on is no news.
    fn stop(&mut self, key: &ObjectKey) {
        self.schedule.forget(key);
        if let Some(object) = self.objects.get_mut(key) {
            object.stop_loop();
            object.recorded.adopted = false;
        }
        self.listen(key);
        self.select_pods(key);
    }

    fn start(&mut self, key: &ObjectKey, is_restart: bool, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let old = object.loop_definition.clone();
        let limit =
            object.spec.definition.as_ref().map(|definition| age::limit(definition, self.settings.query_timeout));
        object.start_loop(old.as_deref(), limit.unwrap_or_default(), now);
        // What is known of triggers that stay is known of the new formula, too.
        self.compose(key, now);
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let silent = std::mem::take(&mut object.recorded.adopted);
        let mut kinds: Vec<(u16, String)> = object.definition().map_or_else(Vec::new, |definition| {
            let asked = definition.triggers.iter().map(|trigger| (trigger.index, trigger.kind.clone()));
            asked.chain(definition.resource_triggers.iter().map(|t| (t.index, t.kind.clone()))).collect()
        });
        kinds.sort_unstable();
        // Answers to the questions of an earlier generation are none to those of this one.
        self.schedule.forget(key);
        self.select_pods(key);
        self.schedule.plan(key, now);
        self.listen(key);
        if silent {
            return;
        }
        let mut told = std::collections::BTreeSet::new();
        for (_, kind) in kinds {
            if told.insert(kind.clone()) {
                self.emit(key, false, "KEDAScalersStarted", "BuildScaler", format!("Scaler {kind} is built"));
            }
        }
        if !is_restart {
            self.emit(key, false, "KEDAScalersStarted", "StartScaling", "Started scalers watch".to_owned());
        }
    }

    fn tell_ready(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.recorded.check_note = None;
        if !std::mem::replace(&mut object.recorded.was_ready, true) {
            self.emit(
                key,
                false,
                "ScaledObjectReady",
                "CheckScaledObject",
                "ScaledObject is ready for scaling".to_owned(),
            );
        }
    }

    fn tell_failure(
        &mut self,
        key: &ObjectKey,
        full: String,
        message: String,
        phrase: &'static str,
        target_note: Option<&'static str>,
    ) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.recorded.was_ready = false;
        if object.recorded.check_note.as_ref() == Some(&full) {
            return;
        }
        object.recorded.check_note = Some(full.clone());
        let is_definition = object.spec.definition.is_err();
        let is_unresolved = matches!(&object.target, Target::Failed { gvkr: None, .. });
        if is_unresolved && phrase == Step::Target.phrase() && target_note.is_none() {
            self.emit(key, true, "ScaledObjectUpdateFailed", "ResolveScaleTarget", message.clone());
        }
        if let Some(note) = target_note {
            self.emit(key, true, "ScaledObjectCheckFailed", "CheckScaledObject", note.to_owned());
        }
        if is_definition && phrase == Step::BuildScalers.phrase() {
            self.emit(key, true, "KEDAScalerFailed", "BuildScaler", message);
        }
        self.emit(key, true, "ScaledObjectCheckFailed", "CheckScaledObject", full);
    }

    fn tell_pause(&mut self, key: &ObjectKey, is_pending: bool) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let paused = object.spec.pause.is_any();
        // A full pause is told once its HPA is gone.
        if object.recorded.paused == paused || (is_pending && paused) {
            return;
        }
        object.recorded.paused = paused;
        if paused {
            self.emit(key, false, "ScaledObjectPaused", "PauseScaling", "ScaledObject is paused".to_owned());
        } else {
            self.emit(key, false, "ScaledObjectUnpaused", "ResumeScaling", UNPAUSED.to_owned());
        }
    }

    /// Writes the status when, and only when, it says something else than the API server has.
    fn sync_status(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let hpa = self.hpa_of(key).map(|hpa| (hpa.name.as_str(), scaling_active(hpa)));
        let wanted = object.wanted_status(hpa);
        if object.verdict != Verdict::Pending {
            self.record_conditions(key, &wanted, now);
        }
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if wanted == object.spec.status {
            object.status_dirty_since = None;
            return;
        }
        let since = *object.status_dirty_since.get_or_insert(now);
        let settled = match object.verdict {
            Verdict::Pending => false,
            Verdict::Good => object.decided.is_some() && object.scaling.is_none(),
            Verdict::Paused => object.scaling.is_none(),
            Verdict::Failed { .. } => true,
        };
        if !settled && since.plus(STATUS_SETTLE) > now {
            self.wake(key, since.plus(STATUS_SETTLE));
            return;
        }
        let before = object.spec.status.clone();
        self.write(key, WriteKind::Status(Box::new(StatusPatch { before, after: wanted })), now);
    }

    fn record_conditions(&mut self, key: &ObjectKey, wanted: &Status, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        if object.recorded.conditions == wanted.conditions {
            return;
        }
        let old = std::mem::replace(&mut object.recorded.conditions, wanted.conditions.clone());
        let changed: Vec<_> = wanted.conditions.iter().filter(|condition| !old.contains(condition)).cloned().collect();
        for condition in changed {
            self.record(Record::Condition { at: now, object: key.clone(), condition });
        }
    }
}

fn is_about_target(invalid: Option<&Invalid>) -> bool {
    invalid.is_some_and(|invalid| invalid.step() == Step::Target)
}
