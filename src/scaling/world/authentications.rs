//! Trigger authentications: who uses which, and what their status says about it.

use std::collections::BTreeSet;

use super::super::event::{Command, Write, WriteError, WriteKind, WriteOk};
use super::super::model::{Authentication, AuthenticationKey, ObjectKey, ScaledObject};
use super::World;
use super::reconcile::FINALIZERS;
use super::rounds::authentication_key;

impl World {
    pub(super) fn authentication_seen(&mut self, seen: Authentication) {
        let key = seen.key.clone();
        self.authentications.insert(key.clone(), seen);
        self.mark_users(&key);
        self.sync_authentication(&key);
    }

    pub(super) fn authentication_gone(&mut self, key: &AuthenticationKey) {
        if self.authentications.remove(key).is_some() {
            self.mark_users(key);
        }
    }

    fn mark_users(&mut self, key: &AuthenticationKey) {
        if let Some(users) = self.by_authentication.get(key) {
            self.dirty.extend(users.iter().cloned());
        }
    }

    /// Keeps the index from authentications to the objects that name them.
    pub(super) fn index_authentications(&mut self, key: &ObjectKey, spec: Option<&ScaledObject>) {
        let old: Vec<AuthenticationKey> = self
            .objects
            .get(key)
            .map(|object| used(&object.spec))
            .unwrap_or_default();
        let new = spec.map(used).unwrap_or_default();
        for gone in old.iter().filter(|old| !new.contains(old)) {
            if let Some(users) = self.by_authentication.get_mut(gone) {
                users.remove(key);
            }
            self.sync_authentication(gone);
        }
        for used in new {
            self.by_authentication
                .entry(used)
                .or_default()
                .insert(key.clone());
        }
    }

    pub(super) fn sync_authentications_of(&mut self, key: &ObjectKey) {
        let used = self
            .objects
            .get(key)
            .map(|object| used(&object.spec))
            .unwrap_or_default();
        for authentication in used {
            self.sync_authentication(&authentication);
        }
    }

    pub(super) fn sync_all_authentications(&mut self) {
        let all: Vec<AuthenticationKey> = self.authentications.keys().cloned().collect();
        for key in all {
            self.sync_authentication(&key);
        }
    }

    /// Writes `status.scaledobjects`, and lets an authentication go that is being deleted: KEDA
    /// left its finalizer on it, and nothing here must keep it.
    fn sync_authentication(&mut self, key: &AuthenticationKey) {
        let objects_known = self
            .lists
            .objects
            .get(&key.group)
            .is_some_and(super::lists::ListTracker::is_complete);
        if !objects_known || self.authentication_writes.values().any(|busy| busy == key) {
            return;
        }
        let Some(found) = self.authentications.get(key) else {
            return;
        };
        let kind = if found.deletion_requested {
            let stay: Vec<String> = found
                .finalizers
                .iter()
                .filter(|name| !FINALIZERS.contains(&name.as_str()))
                .cloned()
                .collect();
            if stay.len() == found.finalizers.len() {
                return;
            }
            let resource_version = found.resource_version.clone();
            WriteKind::AuthenticationFinalizers {
                authentication: key.clone(),
                finalizers: stay,
                resource_version,
            }
        } else {
            let wanted = self.user_names(key, &found.status_scaled_objects);
            if wanted == found.status_scaled_objects {
                return;
            }
            WriteKind::AuthenticationStatus {
                authentication: key.clone(),
                scaled_objects: wanted,
            }
        };
        if self.writes_in_flight >= self.settings.writes_max {
            // The next event about it, or the next relist, comes here again.
            return;
        }
        let id = self.next_write;
        self.next_write += 1;
        self.writes_in_flight += 1;
        self.authentication_writes.insert(id, key.clone());
        let object = ObjectKey::new(key.group, &key.namespace, &key.name);
        self.out.push(Command::Write(Write { id, object, kind }));
    }

    /// Names in the order in which they stand already, new ones behind.
    fn user_names(&self, key: &AuthenticationKey, before: &str) -> String {
        let users: BTreeSet<&str> = self
            .by_authentication
            .get(key)
            .into_iter()
            .flatten()
            .map(|user| &*user.name)
            .collect();
        let mut names: Vec<&str> = before
            .split(',')
            .filter(|name| users.contains(name))
            .collect();
        let new: Vec<&str> = users
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        names.extend(new);
        names.join(",")
    }

    pub(super) fn authentication_written(
        &mut self,
        key: &AuthenticationKey,
        result: Result<WriteOk, WriteError>,
    ) {
        // After a failure the watch's next word on it, or the next relist, tries again.
        if let (Ok(_), Some(users)) = (
            &result,
            self.authentications
                .get(key)
                .map(|found| found.status_scaled_objects.clone()),
        ) {
            let wanted = self.user_names(key, &users);
            if let Some(found) = self
                .authentications
                .get_mut(key)
                .filter(|found| !found.deletion_requested)
            {
                found.status_scaled_objects = wanted;
            }
        }
    }
}

fn used(spec: &ScaledObject) -> Vec<AuthenticationKey> {
    let Ok(definition) = &spec.definition else {
        return Vec::new();
    };
    let references = definition
        .triggers
        .iter()
        .filter_map(|trigger| trigger.authentication.as_ref());
    references
        .map(|reference| authentication_key(&spec.key, reference))
        .collect()
}
