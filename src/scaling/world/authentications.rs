//! Trigger authentications: which objects use them, and what their status says about it.

use std::collections::BTreeSet;
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
            Err(message) => failure = Some(PollError { class: ErrorClass::Authentication, message }),
        }
        for (user, index) in pending.waiting {
            self.with(&user, |object, work| object.ask_after_read(index, failure.clone(), work));
        }
    }

    pub(super) fn authentication_seen(&mut self, seen: Authentication, now: UnixMillis) {
        let key = seen.key.clone();
        let (sources, unsupported, allowed) = (seen.sources.clone(), seen.unsupported.clone(), seen.allowed.clone());
        let old = self.facts.authentications.insert(key.clone(), seen);
        let is_same =
            old.is_some_and(|old| old.sources == sources && old.unsupported == unsupported && old.allowed == allowed);
        if !is_same {
            self.ask_again(&key, now);
        }
        self.mark_users(&key);
        self.sync_authentication(&key, now);
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
    pub(super) fn index_authentications(&mut self, key: &ObjectKey, spec: Option<&ScaledObject>, now: UnixMillis) {
        let old: Vec<AuthenticationKey> = self.objects.get(key).map(|object| used(&object.spec)).unwrap_or_default();
        let new = spec.map(used).unwrap_or_default();
        for gone in old.iter().filter(|old| !new.contains(old)) {
            self.objects.by_authentication.remove(gone, key);
            self.sync_authentication(gone, now);
        }
        for used in new {
            self.objects.by_authentication.insert(used, key.clone());
        }
    }

    pub(super) fn sync_authentications_of(&mut self, key: &ObjectKey, now: UnixMillis) {
        let used = self.objects.get(key).map(|object| used(&object.spec)).unwrap_or_default();
        for authentication in used {
            self.sync_authentication(&authentication, now);
        }
    }

    pub(super) fn sync_all_authentications(&mut self, now: UnixMillis) {
        let all: Vec<AuthenticationKey> = self.facts.authentications.keys().cloned().collect();
        for key in all {
            self.sync_authentication(&key, now);
        }
    }

    pub(super) fn retry_authentications(&mut self, now: UnixMillis) {
        let due = self.authentication_retries.iter();
        let due: Vec<AuthenticationKey> =
            due.filter(|(_, (at, _))| at.is_some_and(|at| at <= now)).map(|(key, _)| key.clone()).collect();
        for key in due {
            // The count of failures stays until a write succeeds or none is needed.
            if let Some((at, _)) = self.authentication_retries.get_mut(&key) {
                *at = None;
            }
            if !self.sync_authentication(&key, now) {
                self.authentication_retries.remove(&key);
            }
        }
    }

    /// Writes `status.scaledobjects`, and removes KEDA's finalizer from an authentication that is being deleted, so
    /// that nothing blocks the deletion. Returns true if a write is needed.
    fn sync_authentication(&mut self, key: &AuthenticationKey, now: UnixMillis) -> bool {
        if self.settings.is_shadow {
            return false;
        }
        let objects_known =
            self.facts.lists.objects.get(&key.group).is_some_and(super::lists::ListTracker::is_complete);
        let is_busy = self.authentication_writes.values().any(|busy| busy.key == *key);
        let waits = self.authentication_retries.get(key).is_some_and(|(at, _)| at.is_some_and(|at| at > now));
        if self.facts.is_standby || !objects_known || is_busy || waits {
            return false;
        }
        let Some(found) = self.facts.authentications.get(key) else {
            return false;
        };
        let kind = if found.deletion_requested {
            let stay: Vec<String> =
                found.finalizers.iter().filter(|name| !FINALIZERS.contains(&name.as_str())).cloned().collect();
            if stay.len() == found.finalizers.len() {
                return false;
            }
            let resource_version = found.resource_version.clone();
            WriteKind::AuthenticationFinalizers { authentication: key.clone(), finalizers: stay, resource_version }
        } else if key.group == ApiGroup::KedaK8sIo {
            // Authentications of the old API have no status.
            return false;
        } else {
            let wanted = self.user_names(key, &found.status_scaled_objects);
            if wanted == found.status_scaled_objects {
                return false;
            }
            WriteKind::AuthenticationStatus { authentication: key.clone(), scaled_objects: wanted }
        };
        if self.outbox.writes_in_flight >= self.settings.writes_max {
            self.authentications_starved = true;
            return true;
        }
        let resource_version = found.resource_version.clone();
        let id = self.outbox.next_write;
        self.outbox.next_write += 1;
        self.outbox.writes_in_flight += 1;
        self.authentication_writes
            .insert(id, AuthenticationWrite { key: key.clone(), kind: kind.clone(), resource_version });
        let object = ObjectKey::new(key.group, &key.namespace, &key.name);
        self.outbox.push(Command::Write(Write { id, object, kind }));
        true
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
        let new: Vec<&str> = users.into_iter().filter(|name| !names.contains(name)).collect();
        names.extend(new);
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
        self.sync_authentication(key, now);
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
        let credentials = match failure {
            Some(error) => Err(error),
            None => self.credentials(trigger, work),
        };
        match credentials {
            Ok(credentials) => work.schedule.ask((self.spec.key.clone(), index), query, credentials, work.now),
            Err(error) => self.receive_answer(index, &Answer::Failed(error), work.now, Duration::ZERO, work),
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

fn used(spec: &ScaledObject) -> Vec<AuthenticationKey> {
    let Ok(definition) = &spec.definition else {
        return Vec::new();
    };
    let references = definition.triggers.iter().map(|trigger| &trigger.authentication);
    let of_resources = definition.resource_triggers.iter().map(|trigger| &trigger.authentication);
    let references = references.chain(of_resources).filter_map(Option::as_ref);
    references.map(|reference| AuthenticationKey::of(&spec.key, reference)).collect()
}
