//! Trigger authentications: which objects use them, and what their status says about it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use super::work::{AuthenticationLookup, Work};
use super::{AuthenticationWrite, World};
use crate::scaling::event::{
    Answer, AuthenticationRead, Command, ErrorClass, PollError, Write, WriteError, WriteKind, WriteOk,
};
use crate::scaling::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, FINALIZERS, ObjectKey, ScaledObject, Source,
    Trigger, UnixMillis,
};
use crate::scaling::object::Object;

const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(5);

impl World {
    pub(super) fn authentication_read(&mut self, read: AuthenticationRead, now: UnixMillis) {
        let key = read.authentication;
        let Some(mut pending) = self.outbox.authentication_reads.remove(&key) else {
            return;
        };
        let is_shown = self.facts.authentications.contains_key(&key);
        if pending.is_old && !is_shown {
            pending.is_old = false;
            self.outbox.authentication_reads.insert(key.clone(), pending);
            self.outbox.push(Command::ReadAuthentication(key));
            return;
        }
        let mut failure = None;
        match read.result {
            // The watch is newer than the read.
            _ if is_shown => {}
            Ok(Some(found)) => {
                if let Some(list) = self.facts.lists.authentications.get_mut(&(key.group, key.kind)) {
                    // A list that is under way may be older than this read.
                    list.listed(&key.namespace, &key.name);
                }
                self.authentication_seen(*found, now);
            }
            Ok(None) => {}
            Err(message) => failure = Some(PollError::new(ErrorClass::Authentication, message)),
        }
        for (user, index) in pending.waiting {
            self.with(&user, |object, work| object.ask_after_read(index, failure.clone(), work));
        }
    }

    pub(super) fn authentication_seen(&mut self, seen: Authentication, now: UnixMillis) {
        let key = seen.key.clone();
        let is_same = self.facts.authentications.get(&key).is_some_and(|old| {
            old.sources == seen.sources
                && old.pod_identity == seen.pod_identity
                && old.allowed == seen.allowed
                && old.unsupported == seen.unsupported
        });
        self.facts.authentications.insert(key.clone(), seen);
        // Nothing follows for its users from a new status or label, and one may have thousands.
        if !is_same {
            self.ask_again(&key, now);
            self.mark_users(&key);
        }
        self.unsynced.insert(key);
    }

    /// Polls triggers at once that failed for lack of credentials, since this change may be the fix.
    fn ask_again(&mut self, key: &AuthenticationKey, now: UnixMillis) {
        for user in self.objects.by_authentication.get(key) {
            let lacks_credentials = self.objects.get(user).is_some_and(|object| {
                let errors = object.triggers.iter().filter_map(|state| state.underlying_error());
                errors.map(|error| error.class).any(|class| class == ErrorClass::Authentication)
            });
            if lacks_credentials && self.schedule.planned(user).is_some() {
                self.schedule.plan(user, now);
            }
        }
    }

    pub(super) fn authentication_gone(&mut self, key: &AuthenticationKey) {
        self.authentication_retries.remove(key);
        if let Some(read) = self.outbox.authentication_reads.get_mut(key) {
            read.is_old = true;
        }
        if self.facts.authentications.remove(key).is_some() {
            self.mark_users(key);
        }
    }

    fn mark_users(&mut self, key: &AuthenticationKey) {
        self.outbox.dirty.extend(self.objects.by_authentication.get(key).iter().cloned());
    }

    /// Maintains the index from authentications to the objects that refer to them.
    pub(super) fn index_authentications(&mut self, key: &ObjectKey, spec: Option<&ScaledObject>) {
        let old = self.objects.get(key).map(|object| used(&object.spec)).unwrap_or_default();
        let new = spec.map(used).unwrap_or_default();
        for gone in old.difference(&new) {
            self.objects.by_authentication.remove(gone, key);
        }
        for used in new.difference(&old) {
            self.objects.by_authentication.insert(used.clone(), key.clone());
        }
        self.unsynced.extend(old.symmetric_difference(&new).cloned());
    }

    pub(super) fn mark_all_authentications(&mut self) {
        self.unsynced.extend(self.facts.authentications.keys().cloned());
    }

    pub(super) fn retry_authentications(&mut self, now: UnixMillis) {
        for (key, (at, _)) in &mut self.authentication_retries {
            // The count of failures stays until a write succeeds or none is needed.
            if at.take_if(|at| *at <= now).is_some() {
                self.unsynced.insert(key.clone());
            }
        }
    }

    /// Looks at the authentications that something has changed for, as long as there is room for their writes.
    pub(super) fn sync_authentications(&mut self, now: UnixMillis) {
        while self.outbox.writes_in_flight < self.settings.writes_max {
            let Some(key) = self.unsynced.pop_first() else { return };
            self.sync_authentication(&key, now);
        }
    }

    /// Writes `status.scaledobjects`, and removes KEDA's finalizer from an authentication that is being deleted, so
    /// that nothing blocks the deletion.
    fn sync_authentication(&mut self, key: &AuthenticationKey, now: UnixMillis) {
        if self.settings.is_shadow {
            return;
        }
        let objects_known =
            self.facts.lists.objects.get(&key.group).is_some_and(super::lists::ListTracker::is_complete);
        let is_busy = self.authentication_writes.values().any(|busy| busy.key == *key);
        let waits = self.authentication_retries.get(key).is_some_and(|(at, _)| at.is_some_and(|at| at > now));
        if self.facts.is_standby || !objects_known || is_busy || waits {
            return;
        }
        let Some(found) = self.facts.authentications.get(key) else {
            // It went while its write was under way.
            self.authentication_retries.remove(key);
            return;
        };
        let Some(kind) = self.authentication_write(found) else {
            self.authentication_retries.remove(key);
            return;
        };
        let resource_version = found.resource_version.clone();
        let id = self.outbox.next_write;
        self.outbox.next_write += 1;
        self.outbox.writes_in_flight += 1;
        self.authentication_writes
            .insert(id, AuthenticationWrite { key: key.clone(), kind: kind.clone(), resource_version });
        let object = ObjectKey::new(key.group, &key.namespace, &key.name);
        self.outbox.push(Command::Write(Write { id, object, kind }));
    }

    /// The write that an authentication needs.
    fn authentication_write(&self, found: &Authentication) -> Option<WriteKind> {
        let authentication = found.key.clone();
        if found.deletion_requested {
            let finalizers: Vec<String> =
                found.finalizers.iter().filter(|name| !FINALIZERS.contains(&name.as_str())).cloned().collect();
            let resource_version = found.resource_version.clone();
            let is_needed = finalizers.len() != found.finalizers.len();
            return is_needed.then_some(WriteKind::AuthenticationFinalizers {
                authentication,
                finalizers,
                resource_version,
            });
        }
        // Authentications of the old API have no status.
        if authentication.group == ApiGroup::KedaK8sIo {
            return None;
        }
        let scaled_objects = self.user_names(&authentication, &found.status_scaled_objects);
        let is_needed = scaled_objects != found.status_scaled_objects;
        is_needed.then_some(WriteKind::AuthenticationStatus { authentication, scaled_objects })
    }

    /// The ScaledObjects that use an authentication. Keeps the order of the names that are listed already, and appends new ones.
    fn user_names(&self, key: &AuthenticationKey, before: &str) -> String {
        let users = self.objects.by_authentication.get(key).iter().filter(|user| user.group != ApiGroup::Autoscaling);
        let users: BTreeSet<&str> = users.map(|user| &*user.name).collect();
        // Users that are not watched are unknown: of a cluster-wide authentication those in other namespaces.
        let is_cluster_wide = key.kind == AuthenticationKind::ClusterTriggerAuthentication;
        let others_may_use = self.settings.selects_objects || (is_cluster_wide && !self.settings.namespaces.is_empty());
        let mut names: Vec<&str> =
            before.split(',').filter(|name| users.contains(name) || (others_may_use && !name.is_empty())).collect();
        let listed: HashSet<&str> = names.iter().copied().collect();
        names.extend(users.into_iter().filter(|name| !listed.contains(name)));
        names.join(",")
    }

    pub(super) fn authentication_written(
        &mut self,
        write: AuthenticationWrite,
        result: Result<WriteOk, WriteError>,
        now: UnixMillis,
    ) {
        let key = &write.key;
        if let Err(error) = result {
            let failures = self.authentication_retries.get(key).map_or(0, |(_, failures)| *failures);
            let wait = self.outbox.backoff(failures, RETRY_BASE, RETRY_MAX);
            let at = now.plus(wait.max(error.retry_after.unwrap_or_default()));
            self.authentication_retries.insert(key.clone(), (Some(at), failures.saturating_add(1)));
            return;
        }
        self.authentication_retries.remove(key);
        // A newer version than the one decided on already has the effect of the write, or later changes.
        if let Some(found) =
            self.facts.authentications.get_mut(key).filter(|found| found.resource_version == write.resource_version)
        {
            match write.kind {
                WriteKind::AuthenticationStatus { scaled_objects, .. } => {
                    found.status_scaled_objects = scaled_objects;
                }
                WriteKind::AuthenticationFinalizers { finalizers, .. } => {
                    found.finalizers = finalizers;
                }
                _ => {}
            }
        }
        // Users may have changed while the write was under way.
        self.unsynced.insert(key.clone());
    }
}

impl Object {
    /// True while the authentication of a trigger is being read because no watch has shown it. The watch may be late,
    /// so it is an error only if the API server has none. The poll cycle waits for that.
    pub(super) fn awaits_authentication(&mut self, trigger: &Trigger, work: &mut Work<'_>) -> bool {
        let Some(reference) = &trigger.authentication else {
            return false;
        };
        let id = AuthenticationKey::of(&self.spec.key, reference);
        if work.facts.authentications.contains_key(&id) {
            return false;
        }
        let outbox = &mut *work.outbox;
        let read = outbox.authentication_reads.entry(id.clone()).or_insert_with(|| {
            outbox.commands.push(Command::ReadAuthentication(id));
            AuthenticationLookup::default()
        });
        read.waiting.insert((self.spec.key.clone(), trigger.index));
        true
    }

    /// Continues with a trigger whose authentication has been read.
    fn ask_after_read(&mut self, index: u16, failure: Option<PollError>, work: &mut Work<'_>) {
        let is_awaited = self.poll_cycle.as_ref().is_some_and(|poll_cycle| poll_cycle.waiting.contains(&index));
        let Some(definition) = self.polled_definition.clone().filter(|_| is_awaited) else {
            return;
        };
        let Some(trigger) = definition.triggers.iter().find(|trigger| trigger.index == index) else {
            return;
        };
        let Source::Query(query) = &trigger.source else {
            return;
        };
        let asked = match failure {
            Some(error) => Err(error),
            None => self.ask(trigger, query, work.now, work),
        };
        if let Err(error) = asked {
            self.receive_answer(index, &Answer::Failed(error), work.now, Duration::ZERO, work);
        }
    }

    /// All lists that could contain the authentications of this object are complete.
    pub(super) fn are_authentications_listed(&self, work: &Work<'_>) -> bool {
        used(&self.spec).iter().all(|used| {
            work.facts
                .lists
                .authentications
                .get(&(used.group, used.kind))
                .is_none_or(super::lists::ListTracker::is_complete)
        })
    }
}

fn used(spec: &ScaledObject) -> BTreeSet<AuthenticationKey> {
    let Ok(definition) = &spec.definition else {
        return BTreeSet::new();
    };
    let references = definition.triggers.iter().map(|trigger| &trigger.authentication);
    let of_resources = definition.resource_triggers.iter().map(|trigger| &trigger.authentication);
    let references = references.chain(of_resources).filter_map(Option::as_ref);
    references.map(|reference| AuthenticationKey::of(&spec.key, reference)).collect()
}
