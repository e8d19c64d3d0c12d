//! Writes to the API server: one of a kind in flight for an object, with backoff after failures and a bound on all
//! together.

use std::time::Duration;

use super::World;
use super::ingest::is_older;
use super::poll_cycle::scale_event;
use super::work::{WRITE_TRIES, Work};
use crate::scaling::event::{
    Command, Record, ScaleTarget, Write, WriteDone, WriteError, WriteErrorKind, WriteKind, WriteOk,
};
use crate::scaling::fingerprint;
use crate::scaling::hpa::{self, DesiredHpa, Drift, HpaId, Kept};
use crate::scaling::model::{ObjectKey, UnixMillis};
use crate::scaling::object::{HpaCorrection, HpaRefusal, Object};
use crate::scaling::slot::Slot;

const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);
/// The same content will be refused again, unless a webhook or a quota changes.
const RETRY_REFUSED: Duration = Duration::from_secs(30);
const RETRY_REFUSED_MAX: Duration = Duration::from_mins(10);
/// A target that refuses to be scaled stays as it is until the next attempt, whatever its load.
const RETRY_SCALE_MAX: Duration = Duration::from_mins(2);
/// Whoever leaves a corrected HPA alone for this long no longer fights for it.
const QUIET: Duration = Duration::from_mins(1);
/// A watch usually shows an HPA within this time.
const HPA_SHOWN_AFTER: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn written(&mut self, done: WriteDone, now: UnixMillis) {
        self.outbox.writes_in_flight = self.outbox.writes_in_flight.saturating_sub(1);
        if let Some(write) = self.authentication_writes.remove(&done.id) {
            self.authentication_written(write, done.result, now);
            return;
        }
        let key = done.object;
        let Some(object) = self.objects.get_mut(&key) else {
            return;
        };
        let Some(kind) = object.take_write(done.id) else {
            return;
        };
        self.outbox.dirty.insert(key.clone());
        if let Ok(WriteOk::HpaExists(hpa)) = &done.result {
            // Whoever creates it after its deletion was reported and finds it there knows better: the report came from a
            // list that was read before the HPA was made.
            self.facts.gone_hpas.retain(|(uid, next_write)| *uid != hpa.uid || done.id < *next_write);
        }
        match done.result {
            Ok(ok) => {
                if let Some(slot) = object.slots.by_id(done.id) {
                    slot.succeeded();
                }
                self.write_succeeded(&key, kind, ok, now);
            }
            Err(error) => self.write_failed(&key, done.id, kind, &error, now),
        }
    }

    fn write_succeeded(&mut self, key: &ObjectKey, kind: WriteKind, ok: WriteOk, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        // The watch may have delivered a newer version already.
        let mut is_overtaken = false;
        if let WriteOk::Version(version) = &ok {
            is_overtaken = is_older(version, &object.spec.resource_version);
            object.written_version = object.written_version.max(version.parse().ok());
            if !is_overtaken {
                object.spec.resource_version.clone_from(version);
            }
        }
        match kind {
            WriteKind::Claim { finalizers, label, .. } => {
                if !is_overtaken {
                    object.spec.finalizers = finalizers;
                    object.spec.labels.extend(label);
                }
            }
            WriteKind::Release { finalizers, .. } => {
                object.spec.finalizers = finalizers;
                self.with(key, |object, work| object.emit_deleted(work));
            }
            WriteKind::Status(patch) => {
                let written = fingerprint(&patch.after);
                let is_again = object.status_written == Some(written);
                object.status_fights = if is_again { object.status_fights + 1 } else { 0 };
                object.status_written = Some(written);
                object.status_dirty_since = None;
                if !is_overtaken {
                    object.spec.status = patch.after;
                }
                self.with(key, |object, work| object.back_off_status(work));
            }
            WriteKind::CreateHpa(desired) => self.hpa_written(key, &desired, false, ok, now),
            WriteKind::ReplaceHpa { desired, .. } => {
                self.with(key, |object, work| object.note_correction(&desired, work));
                self.hpa_written(key, &desired, false, ok, now);
            }
            WriteKind::ApplyHpa(desired) => {
                self.with(key, |object, work| object.note_correction(&desired, work));
                self.hpa_written(key, &desired, true, ok, now);
            }
            WriteKind::DeleteHpa { name, uid } => {
                object.hpa_stays = None;
                self.hpa_gone(&HpaId::new(&key.namespace, &name), &uid);
            }
            WriteKind::Scale { target, from, to, version } => {
                let written = if let WriteOk::Scaled(written) = ok { written } else { None };
                self.replicas_written(key, &target, to, version, written);
                self.scaled(key, &target, from, to, now);
            }
            WriteKind::AuthenticationStatus { .. } | WriteKind::AuthenticationFinalizers { .. } => {}
        }
    }

    fn hpa_written(&mut self, key: &ObjectKey, desired: &DesiredHpa, is_applied: bool, ok: WriteOk, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        object.hpa_refusal = None;
        match ok {
            WriteOk::Hpa(hpa) => {
                // An apply may leave fields of another field manager, which a full update will remove.
                let is_final = !is_applied || hpa::drift(desired, &hpa) != Drift::Replace;
                let kept = is_final.then(|| Kept::of(desired.clone(), (*hpa).clone())).flatten();
                object.hpa_kept = kept.map(Box::new);
                // A list that is under way may be older than this answer.
                self.facts.lists.hpas.listed(&hpa.namespace, &hpa.name);
                self.hpa_seen(*hpa, false, now);
                self.back_off_hpa_drift(key, desired);
            }
            WriteOk::HpaExists(hpa) => {
                self.facts.lists.hpas.listed(&hpa.namespace, &hpa.name);
                self.hpa_seen(*hpa, false, now);
                // It was ignored because the watch has reported its deletion.
                if !self.facts.hpas.contains_key(&desired.id()) {
                    self.with(key, |object, work| object.back_off_hpa(HPA_SHOWN_AFTER, work));
                }
            }
            // Until the watch shows it, it does not count as missing.
            WriteOk::Done | WriteOk::Version(_) | WriteOk::Scaled(_) => {
                self.with(key, |object, work| object.back_off_hpa(HPA_SHOWN_AFTER, work))
            }
        }
    }

    /// Backs off if the API server accepted the HPA and yet shows another, since writing it again at once would never
    /// end.
    fn back_off_hpa_drift(&mut self, key: &ObjectKey, desired: &DesiredHpa) {
        match self.facts.hpas.get(&desired.id()).map(|found| hpa::drift(desired, found)) {
            Some(Drift::None) => {}
            Some(_) if self.objects.get(key).is_some_and(|object| object.hpa_kept.is_some()) => {}
            Some(_) => self.with(key, |object, work| object.back_off_hpa(RETRY_REFUSED, work)),
            // It was deleted again before the answer came, or a finalizer holds it.
            None => self.with(key, |object, work| object.back_off_hpa(HPA_SHOWN_AFTER, work)),
        }
    }

    fn scaled(&mut self, key: &ObjectKey, target: &ScaleTarget, from: u32, to: u32, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let scaling = object.scaling.take();
        object.scale_refusal = None;
        self.outbox.record(Record::Action { at: now, object: key.clone(), from, to, error: None });
        let Some(scaling) = scaling else { return };
        if scaling.renews_cooldown() {
            self.with(key, |object, work| object.touch_last_active(work));
        }
        let event = self.objects.get(key).and_then(|object| scale_event(object, target, &scaling, false));
        self.outbox.commands.extend(event.map(Command::Emit));
    }

    fn write_failed(&mut self, key: &ObjectKey, id: u64, kind: WriteKind, error: &WriteError, now: UnixMillis) {
        let Some(object) = self.objects.get_mut(key) else {
            return;
        };
        let failures = object.slots.by_id(id).map_or(0, |slot| slot.failures);
        let wait = match error.kind {
            // The newer version will arrive soon, and is decided on again.
            WriteErrorKind::Conflict => self.outbox.backoff(failures, Duration::from_millis(50), RETRY_MAX),
            WriteErrorKind::Invalid | WriteErrorKind::Forbidden | WriteErrorKind::Terminating => {
                let is_scale = matches!(kind, WriteKind::Scale { .. });
                let longest = if is_scale { RETRY_SCALE_MAX } else { RETRY_REFUSED_MAX };
                self.outbox.backoff(failures, RETRY_REFUSED, longest)
            }
            WriteErrorKind::NotFound | WriteErrorKind::Transient => {
                self.outbox.backoff(failures, RETRY_BASE, RETRY_MAX)
            }
        };
        let retry_at = now.plus(wait.max(error.retry_after.unwrap_or_default()));
        if let Some(slot) = object.slots.by_id(id) {
            slot.failed(retry_at, error.retry_after.is_some());
        }
        self.outbox.wake(key, retry_at);
        let is_final =
            !matches!(error.kind, WriteErrorKind::Conflict | WriteErrorKind::NotFound | WriteErrorKind::Transient);
        let is_said = is_final || (error.kind != WriteErrorKind::Conflict && failures + 1 >= WRITE_TRIES);
        match kind {
            WriteKind::Scale { target, from, to, .. } => {
                object.scale_refusal = is_said.then(|| error.message.clone());
                self.with(key, |object, work| object.scale_failed(&target, from, to, error, work))
            }
            WriteKind::CreateHpa(desired) | WriteKind::ApplyHpa(desired) | WriteKind::ReplaceHpa { desired, .. }
                if error.kind != WriteErrorKind::Conflict =>
            {
                object.hpa_refusal = Some(HpaRefusal { desired, message: error.message.clone(), is_final });
            }
            WriteKind::DeleteHpa { name, uid } if error.kind == WriteErrorKind::NotFound => {
                object.slots.hpa.succeeded();
                object.hpa_stays = None;
                self.hpa_gone(&HpaId::new(&key.namespace, &name), &uid);
            }
            WriteKind::DeleteHpa { .. } => object.hpa_stays = is_said.then(|| (error.message.clone(), is_final)),
            // An earlier attempt succeeded, and its answer was lost.
            WriteKind::Release { finalizers, .. } if error.kind == WriteErrorKind::NotFound => {
                object.spec.finalizers = finalizers;
                self.with(key, |object, work| object.emit_deleted(work));
            }
            _ => {}
        }
    }
}

impl Object {
    /// Sends a write if its slot is free. Otherwise the object is reconciled again when the slot becomes free.
    pub(super) fn write(&mut self, kind: WriteKind, work: &mut Work<'_>) -> bool {
        // Whoever made an HPA owns it: its target may be scaled, if that is asked for or was.
        let may_scale = self.spec.scales_to_zero || self.recorded.put_to_zero;
        let is_of_another = self.spec.is_hpa() && !(may_scale && matches!(kind, WriteKind::Scale { .. }));
        if self.spec.is_shadow || is_of_another {
            return false;
        }
        let full = work.outbox.writes_in_flight >= work.settings.writes_max;
        let slot = slot(self, &kind);
        if !slot.is_free(work.now) {
            if let Some(at) = slot.retry_at.filter(|at| *at > work.now) {
                work.outbox.wake(&self.spec.key, at);
            }
            return false;
        }
        if full {
            if !std::mem::replace(&mut self.is_starved, true) {
                work.outbox.starved.push_back(self.spec.key.clone());
            }
            return false;
        }
        let id = work.outbox.next_write;
        work.outbox.next_write += 1;
        slot.in_flight = Some(id);
        self.in_flight_writes.push((id, kind.clone()));
        work.outbox.writes_in_flight += 1;
        work.outbox.push(Command::Write(Write { id, object: self.spec.key.clone(), kind }));
        true
    }

    fn take_write(&mut self, id: u64) -> Option<WriteKind> {
        let at = self.in_flight_writes.iter().position(|(known, _)| *known == id)?;
        let (_, kind) = self.in_flight_writes.swap_remove(at);
        if self.in_flight_writes.is_empty() {
            // An object is written rarely, so its memory is given back.
            self.in_flight_writes = Vec::new();
        }
        Some(kind)
    }

    /// The watch may report the deletion of an object before the answer to its release arrives.
    pub(super) fn emit_if_released(&mut self, work: &mut Work<'_>) {
        let is_release = |kind: &WriteKind| matches!(kind, WriteKind::Release { .. });
        if self.in_flight_writes.iter().any(|(_, kind)| is_release(kind)) {
            self.emit_deleted(work);
        }
    }

    fn emit_deleted(&mut self, work: &mut Work<'_>) {
        self.emit_warning("ScaledObjectDeleted", "DeleteScaledObject", "ScaledObject was deleted", work);
    }

    /// Backs off if somebody else keeps writing the same fields, such as a KEDA that still runs.
    fn back_off_status(&mut self, work: &mut Work<'_>) {
        let fights = self.status_fights;
        if fights == 0 {
            return;
        }
        let at = work.now.plus(work.outbox.backoff(fights, RETRY_BASE, RETRY_MAX));
        self.slots.status.retry_at = Some(at);
        work.outbox.wake(&self.spec.key, at);
    }

    /// Notes that the HPA was changed into what is desired. From the second time in a row, the next correction waits: a KEDA
    /// that still runs changes the HPA back as soon as it sees it, and both would write as fast as the API server answers.
    fn note_correction(&mut self, desired: &DesiredHpa, work: &mut Work<'_>) {
        let written = fingerprint_of(desired);
        let before = self.hpa_correction.take();
        let before = before.filter(|before| before.written == written && work.now <= before.next_at.plus(QUIET));
        let times = before.map_or(0, |before| before.times) + 1;
        let wait = if times > 1 { work.outbox.backoff(times - 1, RETRY_BASE, RETRY_MAX) } else { Duration::ZERO };
        self.hpa_correction = Some(HpaCorrection { written, times, next_at: work.now.plus(wait) });
    }

    /// Whether this is a correction that waits, see [`Self::note_correction`]. What was not written before is not one.
    pub(super) fn puts_correction_off(&self, kind: &WriteKind, work: &mut Work<'_>) -> bool {
        let (WriteKind::ApplyHpa(desired) | WriteKind::ReplaceHpa { desired, .. }) = kind else { return false };
        let is_later = |last: &&HpaCorrection| last.next_at > work.now && last.written == fingerprint_of(desired);
        let Some(last) = self.hpa_correction.as_ref().filter(is_later) else { return false };
        work.outbox.wake(&self.spec.key, last.next_at);
        true
    }

    fn back_off_hpa(&mut self, wait: Duration, work: &mut Work<'_>) {
        let at = work.now.plus(work.outbox.backoff(0, wait, RETRY_REFUSED_MAX));
        self.slots.hpa.retry_at = Some(at);
        work.outbox.wake(&self.spec.key, at);
    }

    fn scale_failed(&mut self, target: &ScaleTarget, from: u32, to: u32, error: &WriteError, work: &mut Work<'_>) {
        work.outbox.record(Record::Action {
            at: work.now,
            object: self.spec.key.clone(),
            from,
            to,
            error: Some(error.message.clone()),
        });
        self.redecide = true;
        let Some(scaling) = self.scaling.take() else {
            return;
        };
        // The replicas were changed in the meantime. That is no failure, and the new replicas are decided on.
        if error.kind == WriteErrorKind::Conflict {
            if work.facts.watched_target(self).is_none() {
                self.read_target(work);
            }
            return;
        }
        if let Some(mut event) = scale_event(self, target, &scaling, true) {
            event.note = format!("{}: {}", event.note, error.message);
            work.outbox.push(Command::Emit(event));
        }
    }
}

/// Its text stands for it, since its parts implement no hash.
fn fingerprint_of(desired: &DesiredHpa) -> u64 {
    fingerprint(&format!("{desired:?}"))
}

fn slot<'a>(object: &'a mut Object, kind: &WriteKind) -> &'a mut Slot {
    let slots = &mut object.slots;
    match kind {
        WriteKind::Claim { .. } | WriteKind::Release { .. } => &mut slots.claim,
        WriteKind::Status(_) => &mut slots.status,
        WriteKind::CreateHpa(_)
        | WriteKind::ApplyHpa(_)
        | WriteKind::ReplaceHpa { .. }
        | WriteKind::DeleteHpa { .. } => &mut slots.hpa,
        // Writes to authentications belong to no object and never come here.
        WriteKind::Scale { .. }
        | WriteKind::AuthenticationStatus { .. }
        | WriteKind::AuthenticationFinalizers { .. } => &mut slots.scale,
    }
}
