//! Reconciles one object from scratch: what its state is, and which writes bring it to the state that it should have.

use std::sync::Arc;
use std::time::Duration;

use super::lists::ListTracker;
use super::work::{WRITE_TRIES, Work};
use super::{NO_COLLECTOR, watched_kind};
use crate::scaling::age;
use crate::scaling::event::{Command, Record, StatusPatch, WriteKind};
use crate::scaling::fingerprint;
use crate::scaling::hpa::{self, Drift, ObservedHpa, Owner};
use crate::scaling::model::{
    ApiGroup, Condition, ConditionKind, ConditionStatus, Contradiction, FINALIZERS, Invalid, Pause, Status, Step,
    UnixMillis,
};
use crate::scaling::object::{Object, Verdict, scaling_active};
use crate::scaling::target::Target;

/// The first status of an object waits this long for the first answers, so that it is written only once.
const STATUS_SETTLE: Duration = Duration::from_secs(1);
/// An object with a timed pause is woken at the next multiple of this, an hour, or at the pause's end if that is sooner.
const PAUSE_LOOK_MS: i64 = 3_600_000;
/// What kube-metrics-adapter's own event about unusable annotations says before the reason.
const NO_COLLECTOR_PHRASE: &str = "Failed to create new metrics collector";
/// A target that no watch shows is read so often while it is kept at a paused count.
const PAUSED_LOOK_EVERY: Duration = Duration::from_mins(1);

impl Object {
    /// Brings everything about the object up to date.
    pub(super) fn reconcile(&mut self, work: &mut Work<'_>) {
        self.is_settled = false;
        self.find_pause(work);
        self.settle_attribution(work);
        self.observe_target(work);
        if self.compose_meanwhile(work) {
            self.publish(work);
        }
        if !work.facts.may_decide(self.spec.key.group) {
            return;
        }
        if self.spec.deletion_requested {
            self.finalize(work);
            return;
        }
        if self.awaits_owner(work) {
            return;
        }
        if self.spec.observed.is_some() {
            self.observe_hpa(work);
            return;
        }
        if !self.spec.is_only_watched() && !self.claim(work) {
            return;
        }
        let verdict = if self.spec.is_hpa() { self.judge_hpa(work) } else { self.judge(work) };
        if matches!(verdict, Verdict::Failed { .. }) && !self.spec.is_only_watched() {
            self.give_up_hpa(work);
        }
        self.settle(verdict, work);
        self.publish(work);
        self.sync_status(work);
    }

    /// Finds which pause holds at this time. A change takes effect at once, like one of the spec.
    fn find_pause(&mut self, work: &mut Work<'_>) {
        // A pause stops what hpalite does, and an HPA goes on by itself.
        let namespace = work.facts.pauses.get(&*self.spec.key.namespace).filter(|_| !self.spec.is_hpa());
        let sources = [Some(&self.own_pause), namespace].into_iter().flatten();
        for at in sources.clone().filter_map(|pause| pause.ends_at(work.now)) {
            // Whoever edits the time again and again must not leave a wake at each of them, perhaps years away.
            let look = UnixMillis((work.now.0 / PAUSE_LOOK_MS + 1) * PAUSE_LOOK_MS);
            work.outbox.wake(&self.spec.key, at.min(look));
        }
        self.is_pause_over = sources.clone().any(|pause| pause.is_over(work.now));
        let pause = Pause::in_force(&self.own_pause, namespace, work.now);
        let is_changed = pause != self.spec.pause;
        self.spec.pause = pause;
        if is_changed {
            // What was refused before may not be refused any more.
            self.slots.scale.forget_failures();
            self.scale_refusal = None;
        }
        if is_changed && self.polled_generation.is_some() && !self.spec.pause.is_full() {
            work.schedule.plan(&self.spec.key, work.now);
        }
    }

    /// Ensures the finalizer and the label. Returns false while they are being written.
    fn claim(&mut self, work: &mut Work<'_>) -> bool {
        let finalizer = match self.spec.key.group {
            ApiGroup::KedaSh | ApiGroup::Autoscaling => FINALIZERS[0],
            ApiGroup::KedaK8sIo => FINALIZERS[1],
        };
        let label = match self.spec.key.group {
            ApiGroup::KedaSh | ApiGroup::Autoscaling => {
                ("scaledobject.keda.sh/name".to_owned(), self.spec.key.name.to_string())
            }
            ApiGroup::KedaK8sIo => ("deploymentName".to_owned(), self.spec.target.name.clone()),
        };
        let has_finalizer = self.spec.finalizers.iter().any(|name| FINALIZERS.contains(&name.as_str()));
        // A fully paused object needs no label, and a value that is no valid label would be refused.
        let has_label = self.spec.pause.is_full()
            || label.1.is_empty()
            || label.1.len() > 63
            || self.spec.labels.get(&label.0) == Some(&label.1);
        if has_finalizer && has_label {
            return true;
        }
        let mut finalizers = self.spec.finalizers.clone();
        if !has_finalizer {
            finalizers.push(finalizer.to_owned());
        }
        let label = (!has_label).then_some(label);
        let resource_version = self.spec.resource_version.clone();
        self.write(WriteKind::Claim { finalizers, label, resource_version }, work);
        false
    }

    /// Makes the checks in their order, and the write that the first one needs that does not hold yet.
    fn judge(&mut self, work: &mut Work<'_>) -> Verdict {
        if self.spec.pause.is_full() {
            self.keep_target_in_pause(work);
            return self.pause(work);
        }
        match self.judge_running(work) {
            // Last, since a pause in one direction is a part of the HPA, and holds although its end is unreadable.
            Verdict::Good => self.pause_problem().unwrap_or(Verdict::Good),
            verdict => verdict,
        }
    }

    fn judge_running(&mut self, work: &mut Work<'_>) -> Verdict {
        let invalid = self.spec.definition.as_ref().err().cloned();
        if self.spec.target.name.is_empty() || is_about_target(invalid.as_ref()) {
            let message = invalid.map(|invalid| invalid.message()).unwrap_or_default();
            return Verdict::failed(Step::Target, message);
        }
        match self.resolve_target(work) {
            Target::Unknown | Target::Reading => return Verdict::Pending,
            Target::Failed { message, .. } => return Verdict::failed(Step::Target, message),
            Target::Found { .. } => {}
        }
        if let Some(invalid) = invalid {
            return Verdict::failed(invalid.step(), invalid.message());
        }
        if let Some(message) = self.conflict(work) {
            return Verdict::failed(Step::BuildScalers, message);
        }
        // A shadow only looks at it, and takes it from nobody when it ends.
        self.owns_target = !self.spec.is_shadow;
        if !self.are_authentications_listed(work) {
            return Verdict::Pending;
        }
        if self.spec.is_shadow { Verdict::Good } else { self.ensure_hpa(work) }
    }

    /// Judges an annotated HPA. Its metrics are asked for whatever is wrong with its target, which is the HPA's to report.
    fn judge_hpa(&mut self, work: &mut Work<'_>) -> Verdict {
        self.resolve_target(work);
        if let Err(invalid) = &self.spec.definition {
            return Verdict::Failed { phrase: NO_COLLECTOR_PHRASE, message: invalid.all() };
        }
        if let Some(message) = self.contradiction(work) {
            return Verdict::Failed { phrase: NO_COLLECTOR_PHRASE, message };
        }
        if !self.are_authentications_listed(work) {
            return Verdict::Pending;
        }
        Verdict::Good
    }

    /// Why a metric of this HPA cannot be served: the oldest HPA of the namespace that asks by the same name and selector
    /// asks for something else, and a read does not say which HPA it is for.
    fn contradiction(&self, work: &Work<'_>) -> Option<String> {
        let me = (self.spec.created_at, self.spec.key.clone());
        for (position, asked) in self.spec.asked.iter().enumerate() {
            let asking = work.others.by_asked.get(&(Arc::clone(&self.spec.key.namespace), asked.as_read()));
            let oldest = asking.first().filter(|one| **one < me).and_then(|(_, key)| work.others.get(key));
            let first = oldest.map(|object| &object.spec);
            if let Some(Contradiction { message, fix }) =
                first.and_then(|first| self.spec.contradiction(position, first))
            {
                return Some(format!("spec.metrics: {message} ({fix})"));
            }
        }
        None
    }

    /// Returns the target as its watch shows it, or as last read.
    pub(super) fn resolve_target(&mut self, work: &mut Work<'_>) -> Target {
        let watched = watched_kind(&self.spec.target);
        let resolved = match (work.facts.shown_target(self), watched) {
            (Some(found), _) => {
                // What a read could not find out is known now, and no further read is due.
                self.target_unreadable = None;
                found
            }
            (None, Some(gvkr)) if !work.facts.lists.workloads.get(&**gvkr).is_some_and(ListTracker::is_complete) => {
                Target::Unknown
            }
            // The target is of a kind that is not watched, or the watch is late, or it does not exist: a read will
            // show.
            _ => match &self.target {
                Target::Unknown if self.target_retry_at.is_some_and(|at| at > work.now) => Target::Unknown,
                Target::Unknown => {
                    self.read_target(work);
                    Target::Reading
                }
                failed @ Target::Failed { .. } => {
                    let failed = failed.clone();
                    let is_due = self.target_retry_at.is_some_and(|at| at <= work.now);
                    // The target may have been created since.
                    if is_due {
                        self.read_target(work);
                    }
                    failed
                }
                other => other.clone(),
            },
        };
        self.target = resolved.clone();
        if let Target::Found { workload, .. } = &resolved {
            self.original_replicas.get_or_insert(workload.replicas);
        }
        resolved
    }

    /// Reads a target that no watch shows again if the last read is older than this: nothing else says what others have
    /// made of its replicas.
    pub(super) fn look_again(&mut self, after: Duration, work: &mut Work<'_>) {
        if !matches!(self.target, Target::Found { .. }) || work.facts.watched_target(self).is_some() {
            return;
        }
        match self.target_read_at.map(|at| at.plus(after)).filter(|due| *due > work.now) {
            Some(due) => work.outbox.wake(&self.spec.key, due),
            None => self.doubt_target(),
        }
    }

    /// Reads a target that no watch shows, unless a read is under way.
    pub(super) fn read_target(&mut self, work: &mut Work<'_>) {
        self.target_retry_at = None;
        if std::mem::replace(&mut self.is_target_being_read, true) {
            return;
        }
        let target = &self.spec.target;
        let known = self.target.gvkr().or(self.spec.status.scale_target_gvkr.as_ref()).map(|gvkr| &**gvkr);
        let known = known.filter(|gvkr| gvkr.kind == target.kind && gvkr.api_version() == target.api_version);
        let known = watched_kind(target).map(|gvkr| &**gvkr).or(known).cloned();
        work.outbox.push(Command::ReadTarget { object: self.spec.key.clone(), target: target.clone(), known });
    }

    /// Removes the HPA and moves the target to the paused count.
    fn pause(&mut self, work: &mut Work<'_>) -> Verdict {
        // Polling ends first, so that nothing is scaled while the HPA is being deleted.
        self.report_pause(false, work);
        let was_running = self.polled_generation.is_some();
        self.stop(work);
        if was_running {
            self.emit_normal("KEDAScalersStopped", "StopScaling", "Stopped scalers watch", work);
            // The HPA may have scaled since the last read.
            self.target_read_at = None;
            self.hpa_stays = None;
        }
        let is_ours = |hpa: &&ObservedHpa| !hpa.deletion_requested && !self.spec.is_shadow;
        if let Some(hpa) = work.facts.hpa_of(self).filter(is_ours) {
            self.target_read_at = None;
            self.delete_hpa(hpa, work);
            return match &self.hpa_stays {
                Some((message, _)) => {
                    Verdict::Failed { phrase: "failed to delete HPA for paused ScaledObject", message: message.clone() }
                }
                None => Verdict::Pending,
            };
        }
        if let Some(verdict) = self.pause_problem() {
            return verdict;
        }
        if let Some(wanted) = self.spec.pause.replicas.clone() {
            let refused =
                |message| Verdict::Failed { phrase: "failed to scale target to paused replica count", message };
            self.look_again(PAUSED_LOOK_EVERY, work);
            match self.resolve_target(work) {
                Target::Found { workload, .. } => {
                    // A pause must not scale a target that another object owns.
                    if let Some(message) = self.conflict(work) {
                        return Verdict::failed(Step::BuildScalers, message);
                    }
                    self.decide(work);
                    let is_there = wanted.is_ok_and(|wanted| wanted == workload.replicas);
                    if let Some(message) = self.scale_refusal.as_ref().filter(|_| !is_there) {
                        return refused(message.clone());
                    }
                }
                Target::Failed { message, .. } => return refused(message),
                Target::Unknown | Target::Reading => return Verdict::Pending,
            }
        } else if let Target::Found { .. } = self.resolve_target(work) {
            // Nothing is scaled, but the decision is recorded, also for an object that was created paused.
            self.decide(work);
        }
        Verdict::Paused
    }

    fn pause_problem(&self) -> Option<Verdict> {
        let (field, message, fix) = self.spec.pause.problem()?;
        let (phrase, what) = match self.spec.pause.replicas {
            Some(Err(_)) => ("failed to scale target to paused replica count", "failed to parse paused replica count"),
            _ => ("failed to pause", "failed to parse the end of the pause"),
        };
        Some(Verdict::Failed { phrase, message: format!("{what}: {field}: {message} ({fix})") })
    }

    /// Deletes an HPA, unless it is going already.
    /// What the API server has against it is in `hpa_stays`.
    pub(super) fn delete_hpa(&mut self, hpa: &ObservedHpa, work: &mut Work<'_>) {
        if !hpa.deletion_requested {
            let (name, uid) = (hpa.name.clone(), hpa.uid.clone());
            self.write(WriteKind::DeleteHpa { name, uid }, work);
        }
    }

    /// Creates or updates the HPA as needed.
    fn ensure_hpa(&mut self, work: &mut Work<'_>) -> Verdict {
        let (Some(definition), Some(gvkr)) = (self.definition(), self.target.gvkr()) else {
            return Verdict::Pending;
        };
        let desired = hpa::desired(&self.spec, definition, gvkr, &work.settings.version);
        let transfer = self.spec.transfer_hpa_ownership;
        let me = Owner::of(&self.spec);
        // After a change of the name the old HPA is deleted first, since two HPAs on one target disable each other.
        if let Some(old) = work.facts.misnamed_hpa(self) {
            self.delete_hpa(old, work);
            return match &self.hpa_stays {
                Some((message, true)) => Verdict::failed(Step::BuildScalers, message.clone()),
                // The old one goes on scaling meanwhile.
                _ => Verdict::Pending,
            };
        }
        self.hpa_stays = None;
        let is_news = self.hpa_refusal.as_ref().is_some_and(|refusal| *refusal.desired != desired);
        if is_news {
            // The API server may accept the new content, so the refusal of the old one no longer counts. One that is
            // busy is not asked sooner for it.
            let is_final = self.hpa_refusal.take().is_some_and(|refusal| refusal.is_final);
            if is_final {
                self.slots.hpa.forget_failures();
            }
        }
        let found = work.facts.hpas.get(&desired.id());
        let kind = match found {
            None => Some(WriteKind::CreateHpa(Box::new(desired))),
            // The watch will report when it is gone.
            Some(hpa) if hpa.deletion_requested => return Verdict::Pending,
            Some(found) if !hpa::is_controlled_by(found, &me) => {
                match &found.controller {
                    Some(owner) if owner.is_scaled_object() => {
                        let Some(name) = self.living_owner(found, work) else {
                            // The owner is gone, so the garbage collector will delete the HPA.
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
                // The API server would make the same of the HPA again.
                _ if self.hpa_kept.as_ref().is_some_and(|kept| kept.stands(&desired, found)) => None,
                Drift::Apply => Some(WriteKind::ApplyHpa(Box::new(desired))),
                Drift::Replace => {
                    let resource_version = found.resource_version.clone();
                    Some(WriteKind::ReplaceHpa { desired: Box::new(desired), resource_version })
                }
            },
        };
        // One that is being taken over is not.
        let is_ours = found.is_some_and(|found| hpa::is_controlled_by(found, &me));
        if let Some(kind) = kind.filter(|kind| !self.puts_correction_off(kind, work)) {
            self.write(kind, work);
        } else {
            self.hpa_refusal = None;
        }
        let failures = self.slots.hpa.failures;
        match &self.hpa_refusal {
            Some(refusal) if refusal.is_final || (!is_ours && failures >= WRITE_TRIES) => {
                Verdict::failed(Step::BuildScalers, refusal.message.clone())
            }
            // An HPA that is only out of date goes on scaling.
            _ if is_ours => Verdict::Good,
            _ => Verdict::Pending,
        }
    }

    /// Acts on a verdict: starts and stops the loop, reports what changed.
    fn settle(&mut self, verdict: Verdict, work: &mut Work<'_>) {
        let generation = self.spec.generation;
        let was_running = self.polled_generation;
        let failed_note = match &self.target {
            Target::Failed { note, .. } => *note,
            _ => None,
        };
        self.verdict = verdict.clone();
        let is_pending = verdict == Verdict::Pending;
        self.report_pause(is_pending, work);
        match verdict {
            Verdict::Pending => {}
            Verdict::Failed { phrase, message } => {
                self.stop(work);
                self.report_failure(format!("{phrase}: {message}"), message, phrase, failed_note, work);
            }
            Verdict::Paused => {
                self.report_ready(work);
            }
            Verdict::Good => {
                if was_running != Some(generation) {
                    self.start(was_running.is_some(), work);
                    if let Some(note) = self.spec.unheeded.as_deref() {
                        self.emit_warning(NO_COLLECTOR, "ReadAnnotations", note, work);
                    }
                }
                self.report_ready(work);
                if self.redecide && self.slots.scale.is_free(work.now) {
                    // The answers that came meanwhile count, though the formula may not have been evaluated over them yet.
                    self.compose(work);
                    self.decide(work);
                }
            }
        }
    }

    /// Ends polling. A later start of it is reported by an event.
    pub(super) fn stop(&mut self, work: &mut Work<'_>) {
        work.schedule.forget(&self.spec.key);
        self.stop_polling();
        self.recorded.adopted = false;
        self.listen(work);
        self.select_pods(work);
    }

    fn start(&mut self, is_restart: bool, work: &mut Work<'_>) {
        let old = self.polled_definition.clone();
        let limit = self.spec.definition.as_ref().map(|definition| age::limit(definition, work.settings.query_timeout));
        self.start_polling(old.as_deref(), limit.unwrap_or_default(), work.now);
        // The new formula can be evaluated over triggers that did not change.
        self.compose(work);
        let silent = std::mem::take(&mut self.recorded.adopted);
        let mut kinds: Vec<(u16, String)> = self.definition().map_or_else(Vec::new, |definition| {
            let asked = definition.triggers.iter().map(|trigger| (trigger.index, trigger.kind.clone()));
            asked.chain(definition.resource_triggers.iter().map(|t| (t.index, t.kind.clone()))).collect()
        });
        kinds.sort_unstable();
        // Answers to polls of an earlier generation do not belong to this one.
        work.schedule.forget(&self.spec.key);
        let queries = self.definition().map(|definition| definition.triggers.as_slice()).unwrap_or_default();
        let asked = queries
            .iter()
            .filter_map(|trigger| Some((trigger.index, trigger.source.query()?, trigger.authentication.is_some())));
        work.schedule.register(&self.spec.key, asked);
        self.select_pods(work);
        work.schedule.plan(&self.spec.key, work.now);
        self.listen(work);
        if silent {
            return;
        }
        let mut built = std::collections::BTreeSet::new();
        for (_, kind) in kinds {
            if built.insert(kind.clone()) {
                self.emit_normal("KEDAScalersStarted", "BuildScaler", format!("Scaler {kind} is built"), work);
            }
        }
        if !is_restart {
            self.emit_normal("KEDAScalersStarted", "StartScaling", "Started scalers watch", work);
        }
    }

    fn report_ready(&mut self, work: &mut Work<'_>) {
        self.recorded.check_note = None;
        if !std::mem::replace(&mut self.recorded.was_ready, true) {
            self.emit_normal("ScaledObjectReady", "CheckScaledObject", "ScaledObject is ready for scaling", work);
        }
    }

    fn report_failure(
        &mut self,
        full: String,
        message: String,
        phrase: &'static str,
        target_note: Option<&'static str>,
        work: &mut Work<'_>,
    ) {
        self.recorded.was_ready = false;
        if self.recorded.check_note.as_ref() == Some(&full) {
            return;
        }
        self.recorded.check_note = Some(full.clone());
        if self.spec.is_hpa() {
            self.emit_warning(NO_COLLECTOR, "ReadAnnotations", full, work);
            return;
        }
        let is_definition = self.spec.definition.is_err();
        let is_unresolved = matches!(&self.target, Target::Failed { gvkr: None, .. });
        if is_unresolved && phrase == Step::Target.phrase() && target_note.is_none() {
            self.emit_warning("ScaledObjectUpdateFailed", "ResolveScaleTarget", message.clone(), work);
        }
        if let Some(note) = target_note {
            self.emit_warning("ScaledObjectCheckFailed", "CheckScaledObject", note.to_owned(), work);
        }
        if is_definition && phrase == Step::BuildScalers.phrase() {
            self.emit_warning("KEDAScalerFailed", "BuildScaler", message, work);
        }
        self.emit_warning("ScaledObjectCheckFailed", "CheckScaledObject", full, work);
    }

    fn report_pause(&mut self, is_pending: bool, work: &mut Work<'_>) {
        let paused = self.spec.pause.is_any();
        // A full pause is reported once its HPA is gone.
        if self.recorded.paused == paused || (is_pending && paused) {
            return;
        }
        self.recorded.paused = paused;
        if paused {
            self.emit_normal("ScaledObjectPaused", "PauseScaling", self.spec.pause.message(), work);
        } else {
            self.emit_normal("ScaledObjectUnpaused", "ResumeScaling", self.unpaused(), work);
        }
    }

    /// Writes the status if it differs from the one on the API server.
    fn sync_status(&mut self, work: &mut Work<'_>) {
        let hpa = work.facts.hpa_of(self).map(|hpa| (hpa.name.as_str(), scaling_active(hpa)));
        let wanted = self.wanted_status(hpa);
        if self.verdict != Verdict::Pending {
            self.record_conditions(&wanted, work);
        }
        if self.spec.is_only_watched() {
            self.spec.status = wanted.clone();
        }
        if wanted == self.spec.status {
            if !self.is_settled {
                // Its texts are shared with other objects, those that were read are not.
                self.spec.status = wanted;
                self.spec.status.conditions.shrink_to_fit();
            }
            self.status_dirty_since = None;
            self.is_settled = self.verdict == Verdict::Good;
            return;
        }
        let since = *self.status_dirty_since.get_or_insert(work.now);
        let settled = match self.verdict {
            Verdict::Pending => false,
            Verdict::Good => self.decision.is_some() && self.scaling.is_none(),
            Verdict::Paused => self.scaling.is_none(),
            Verdict::Failed { .. } => true,
        };
        if !settled && since.plus(STATUS_SETTLE) > work.now {
            work.outbox.wake(&self.spec.key, since.plus(STATUS_SETTLE));
            return;
        }
        let before = self.spec.status.clone();
        self.write(WriteKind::Status(Box::new(StatusPatch { before, after: wanted })), work);
    }

    pub(super) fn record_conditions(&mut self, wanted: &Status, work: &mut Work<'_>) {
        let fingerprints: Box<[u64]> = wanted.conditions.iter().map(fingerprint).collect();
        if self.recorded.conditions == fingerprints {
            return;
        }
        let is_shadow = wanted.condition(ConditionKind::Shadow).is_some();
        if std::mem::replace(&mut self.recorded.shadow, is_shadow) && !is_shadow {
            let status = ConditionStatus::False;
            let condition = Condition::new(ConditionKind::Shadow, status, "ShadowEnded", "decisions are carried out");
            work.outbox.record(Record::Condition { at: work.now, object: self.spec.key.clone(), condition });
        }
        for (condition, fingerprint) in wanted.conditions.iter().zip(&fingerprints) {
            if !self.recorded.conditions.contains(fingerprint) {
                let (object, condition) = (self.spec.key.clone(), condition.clone());
                work.outbox.record(Record::Condition { at: work.now, object, condition });
            }
        }
        self.recorded.conditions = fingerprints;
    }
}

fn is_about_target(invalid: Option<&Invalid>) -> bool {
    invalid.is_some_and(|invalid| invalid.step() == Step::Target)
}
