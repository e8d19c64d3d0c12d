//! What watches and reads show of targets. Whatever arrives late must not undo what is known.

use std::sync::Arc;
use std::time::Duration;

use super::deletion::RESTORE_TRIES;
use super::work::{WRITE_TRIES, Work};
use super::{WATCHED, World, watched_kind};
use crate::scaling::event::{ScaleTarget, TargetErrorKind, TargetRead, WatchEvent};
use crate::scaling::model::{Gvkr, ObjectKey, Workload};
use crate::scaling::object::Object;
use crate::scaling::target::{Target, TargetId};

/// A target that could not be read is read again after this time.
const TARGET_RETRY: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn workload(&mut self, gvkr: &Gvkr, seen: WatchEvent<Workload>) {
        let Some(list) = self.facts.lists.workloads.get_mut(gvkr) else {
            return;
        };
        match seen {
            WatchEvent::ListStart { scope } => list.start(scope),
            WatchEvent::Listed(workload) => {
                let is_news = list.listed(&workload.namespace, &workload.name);
                self.workload_seen(gvkr, workload, is_news);
            }
            WatchEvent::Changed(workload) => {
                list.listed(&workload.namespace, &workload.name);
                self.workload_seen(gvkr, workload, false);
            }
            WatchEvent::Unreadable(object) => list.unreadable(&object),
            WatchEvent::ListFailed { .. } => {}
            WatchEvent::Interrupted { scope, silent_for } => list.interrupted(scope, self.now.minus(silent_for)),
            WatchEvent::Resumed { scope } => list.resumed(&scope, self.now),
            WatchEvent::Deleted { namespace, name, .. } => self.workload_gone(gvkr, &namespace, &name),
            WatchEvent::ListEnd { scope } => {
                let known = self.facts.workloads.values().filter(|found| *found.0 == *gvkr);
                let known =
                    known.map(|found| &found.1).map(|workload| (workload.namespace.as_str(), workload.name.as_str()));
                let gone = list.end(&scope, known);
                for (namespace, name) in gone {
                    self.workload_gone(gvkr, &namespace, &name);
                }
                self.doubt_targets(gvkr);
                self.mark_all();
            }
        }
    }

    /// Takes a workload in, unless a newer version of it is known: of our own write or read, which the watch has yet to
    /// show. `is_news` if a list shows it that began after all that is known of it. That holds whatever its version, which is
    /// lower for good when etcd was restored from a backup.
    fn workload_seen(&mut self, gvkr: &Gvkr, workload: Workload, is_news: bool) {
        let target = TargetId::of_workload(gvkr, &workload.namespace, &workload.name);
        if !is_news && is_older(workload.version, self.known_version(&target, Some(&workload.uid))) {
            return;
        }
        let workload = Arc::new(workload);
        let gvkr =
            WATCHED.iter().find(|watched| ***watched == *gvkr).map_or_else(|| Arc::new(gvkr.clone()), Arc::clone);
        let found = (Arc::clone(&gvkr), Arc::clone(&workload));
        let before = self.facts.workloads.insert(target.clone(), found).map(|(_, workload)| workload);
        let same = before.as_ref().is_some_and(|old| {
            old.replicas == workload.replicas && old.uid == workload.uid && old.selector == workload.selector
        });
        if !same {
            let unseen_since = self.facts.lists.unseen_since(&gvkr, &workload.namespace, self.now);
            self.note_replicas(&target, &workload, unseen_since);
            self.mark_target(&target);
        }
        if before.is_some_and(|old| old.ready < workload.ready) {
            self.note_ready(&target, workload.ready);
        }
    }

    /// Returns the newest version that is known of a target; with `uid`, only of the workload that has it. It is the one that
    /// a watch shows, else the newest that an object of the target has recorded: the target itself may just be read again.
    fn known_version(&self, target: &TargetId, uid: Option<&str>) -> Option<u64> {
        let is_same = |known: &str| uid.is_none_or(|uid| uid == known);
        if let Some((_, shown)) = self.facts.workloads.get(target) {
            return shown.version.filter(|_| is_same(&shown.uid));
        }
        let readers = self.objects.first_of_target(target, &self.facts);
        let recorded = readers.iter().filter_map(|key| self.objects.get(key)?.recorded.target_version.as_ref());
        recorded.filter(|(uid, _)| is_same(uid)).map(|(_, version)| *version).max()
    }

    /// Takes in the replicas that a write of ours has left. The watch will show the same later, and nothing must be decided on
    /// the old replicas until then. `version` is the one that the write was decided on, `written` that of its answer.
    pub(super) fn replicas_written(
        &mut self,
        key: &ObjectKey,
        target: &ScaleTarget,
        replicas: u32,
        version: Option<u64>,
        written: Option<u64>,
    ) {
        let id = TargetId::of_workload(&target.gvkr, &key.namespace, &target.name);
        // Reads and lists that are under way may be older than the answer, whoever reads.
        for reader in self.objects.by_target.get(&id).to_vec() {
            if let Some(reader) = self.objects.get_mut(&reader) {
                reader.is_target_read_old = reader.is_target_being_read;
            }
        }
        if let Some(list) = self.facts.lists.workloads.get_mut(&*target.gvkr) {
            list.listed(&key.namespace, &target.name);
        }
        // A watch or anybody's read may have shown more before the answer came. An answer that is not newer than what it
        // was decided on comes after a restore of etcd from a backup, and is believed.
        if self.known_version(&id, None) > written && written > version {
            return;
        }
        let mut left = None;
        let mut leave = |known: &mut Arc<Workload>| {
            let known = Arc::make_mut(known);
            (known.replicas, known.version) = (replicas, written);
            left = Some(Workload { replicas_manager: Some("hpalite".to_owned()), ..known.clone() });
        };
        if let Some((_, shown)) = self.facts.workloads.get_mut(&id) {
            leave(shown);
        }
        // Of many objects only the owner is among the first, so the writer is added, unless it names another target by now.
        for reader in self.objects.first_of_target(&id, &self.facts).iter().chain([key]) {
            if let Some(reader) = self.objects.get_mut(reader).filter(|reader| reader.target_id == id)
                && let Target::Found { workload, .. } = &mut reader.target
            {
                leave(workload);
            }
        }
        if let Some(left) = left {
            // The watch will show this version when it is known already, so all that name the target learn of it here.
            self.note_replicas(&id, &left, None);
            self.mark_target(&id);
        }
    }

    fn workload_gone(&mut self, gvkr: &Gvkr, namespace: &str, name: &str) {
        let target = TargetId::of_workload(gvkr, namespace, name);
        self.facts.workloads.remove(&target);
        // Another workload may have this name by now, so nothing follows before a read has found none.
        for key in self.objects.by_target.get(&target).to_vec() {
            self.with(&key, |object, _| object.doubt_target());
        }
        self.mark_target(&target);
    }

    /// Doubts targets that a read found and that the list, which is newer, does not have.
    fn doubt_targets(&mut self, gvkr: &Gvkr) {
        for object in self.objects.values_mut() {
            let is_found = matches!(&object.target, Target::Found { gvkr: kind, .. } if **kind == *gvkr);
            if is_found && self.facts.watched_target(object).is_none() {
                object.doubt_target();
            }
        }
    }

    pub(super) fn target_read(&mut self, read: TargetRead) {
        let key = read.object.clone();
        let found = read.result.as_ref().ok().map(|(_, workload)| workload);
        let known = self.objects.get(&key).zip(found);
        let known = known.and_then(|(object, found)| self.known_version(&object.target_id, Some(&found.uid)));
        let (is_of_use, found) = self.with(&key, |object, work| object.target_read(read, known, work));
        if !is_of_use {
            return;
        }
        if let Some((target, workload)) = &found
            && let Some(kind) = self.objects.get(&key).and_then(|object| watched_kind(&object.spec.target))
            && let Some(list) = self.facts.lists.workloads.get_mut(&**kind)
        {
            // A list that is under way may be older than this answer.
            list.listed(target.namespace(), &workload.name);
        }
        if let Some((target, workload)) = found {
            self.note_replicas(&target, &workload, None);
            // Of a crowd only the owner is noted there, and the one that has read may be another.
            self.with(&key, |object, work| object.note_replicas_of(&workload, None, work));
        }
        self.outbox.dirty.insert(key.clone());
        self.with(&key, |object, work| {
            object.reconsider(work);
            object.poll_cycle_progressed(work);
        });
    }
}

impl Object {
    /// Takes in a read of the target, of which this version is known. Returns false if it is out of date, else true and the
    /// target if no watch shows it.
    fn target_read(
        &mut self,
        read: TargetRead,
        known: Option<u64>,
        work: &mut Work<'_>,
    ) -> (bool, Option<(TargetId, Arc<Workload>)>) {
        let is_shown = work.facts.watched_target(self).is_some();
        self.is_target_being_read = false;
        let is_old = std::mem::take(&mut self.is_target_read_old);
        // It is older than another answer, which came first. A read that is sent now cannot be, so that its answer holds
        // whatever its version.
        let is_overtaken = read.result.as_ref().is_ok_and(|(_, found)| is_older(found.version, known));
        let is_old = is_old || (is_overtaken && self.target_read_again_at != known);
        self.target_read_again_at = known.filter(|_| is_overtaken);
        // The spec names another target by now, or the target has changed.
        if self.spec.target != read.target || (is_old && !is_shown) {
            let is_awaited = self.poll_cycle.as_ref().is_some_and(|poll_cycle| poll_cycle.waits_for_target);
            if self.target == Target::Reading || is_awaited || is_old {
                self.read_target(work);
            }
            return (false, None);
        }
        self.target_unreadable = None;
        self.target_retry_at = None;
        let is_running = self.polled_generation.is_some();
        let is_kept_at_count = self.spec.pause.is_full() && self.target_faults < WRITE_TRIES;
        let is_to_be_restored = self.spec.deletion_requested && self.target_faults < RESTORE_TRIES;
        // What an earlier read has found is no news.
        let is_news = read.result.is_ok() && !is_shown;
        if read.result.is_ok() {
            self.target_faults = 0;
            self.target_read_at = Some(work.now);
        }
        match read.result {
            // The watch is newer than the read.
            _ if is_shown => {}
            Ok((gvkr, workload)) => {
                self.target = Target::Found { gvkr: Arc::new(gvkr), workload: Arc::new(workload) };
            }
            // A target that existed could not be read: polling goes on, and the target is read again.
            Err(error) if error.kind == TargetErrorKind::Other && is_running && self.target.replicas().is_some() => {
                self.target_unreadable = Some(error.message);
            }
            // Whether the target exists is unknown: polling goes on, and restoring its replicas is not given up at
            // once.
            Err(error)
                if error.kind == TargetErrorKind::Other && (is_running || is_to_be_restored || is_kept_at_count) =>
            {
                self.target = Target::Unknown;
                self.target_faults = self.target_faults.saturating_add(1);
                let retry_at = work.now.plus(TARGET_RETRY);
                self.target_retry_at = Some(retry_at);
                work.outbox.wake(&self.spec.key, retry_at);
            }
            Err(error) => {
                self.target = Target::Failed {
                    gvkr: self.target.gvkr().cloned().or_else(|| watched_kind(&self.spec.target).cloned()),
                    note: match error.kind {
                        TargetErrorKind::NotFound => Some("Target resource doesn't exist"),
                        TargetErrorKind::NoScale => Some("Target resource doesn't expose /scale subresource"),
                        TargetErrorKind::UnknownKind | TargetErrorKind::Other => None,
                    },
                    message: error.message,
                };
                let retry_at = work.now.plus(TARGET_RETRY);
                self.target_retry_at = Some(retry_at);
                work.outbox.wake(&self.spec.key, retry_at);
            }
        }
        if let Some(poll_cycle) = &mut self.poll_cycle {
            poll_cycle.waits_for_target = false;
        }
        let found = match &self.target {
            Target::Found { workload, .. } if is_news => Some((self.target_id.clone(), Arc::clone(workload))),
            _ => None,
        };
        (true, found)
    }
}

/// Returns whether a version is older than the known one, if both are there to be compared.
fn is_older(seen: Option<u64>, known: Option<u64>) -> bool {
    seen.zip(known).is_some_and(|(seen, known)| seen < known)
}
