//! A small API server in memory: holds the objects, carries out writes with their preconditions, collects garbage, and
//! returns what its watches would show. Simulations run a world against it, and so does a replay of the history.

use std::collections::BTreeMap;

use litemap::LiteMap;

use super::event::{Event, WatchEvent, Write, WriteError, WriteErrorKind, WriteKind, WriteOk};
use super::hpa::{DesiredHpa, ObservedHpa, OwnerRef, with_defaults};
use super::model::{
    ApiGroup, Authentication, AuthenticationKey, AuthenticationKind, Gvkr, ObjectKey, Pause, ScaledObject, Status,
    UnixMillis, Workload,
};
use super::world::watched_workloads;

pub type HpaId = (String, String);
pub type WorkloadId = (Gvkr, String, String);

#[derive(Clone, Debug, Default)]
pub struct Cluster {
    version: u64,
    pub objects: BTreeMap<ObjectKey, ScaledObject>,
    pub hpas: BTreeMap<HpaId, ObservedHpa>,
    pub workloads: BTreeMap<WorkloadId, Workload>,
    pub authentications: BTreeMap<AuthenticationKey, Authentication>,
    /// The pauses of Namespaces.
    pub namespaces: BTreeMap<String, Pause>,
    /// Names of HPAs that the API server refuses as invalid.
    pub refused_hpas: Vec<String>,
    /// HPAs must not be deleted.
    pub keeps_hpas: bool,
    /// An admission webhook refuses every scale.
    pub refuses_scales: bool,
    /// It is too old for the tolerance of an HPA, and drops the field.
    pub knows_no_tolerance: bool,
    /// Watch events that are not delivered yet.
    pub echoes: Vec<Event>,
    /// The counts that each workload has had, by its versions.
    #[cfg(test)]
    pub counts: BTreeMap<WorkloadId, BTreeMap<u64, u32>>,
}

/// Number of the watch that an event comes from: watches are ordered within a kind only.
pub fn stream(event: &Event) -> usize {
    match event {
        Event::ScaledObject(..) => 0,
        Event::Hpa(_) => 1,
        Event::Workload(..) => 2,
        Event::Namespace(_) => 4,
        _ => 3,
    }
}

pub fn deleted<T>(namespace: impl ToString, name: impl ToString, uid: impl ToString) -> WatchEvent<T> {
    WatchEvent::Deleted { namespace: namespace.to_string(), name: name.to_string(), uid: uid.to_string() }
}

/// Number of kinds of [`stream`].
pub const STREAMS: usize = 5;

fn whole_list<T>(event: impl Fn(WatchEvent<T>) -> Event, objects: impl IntoIterator<Item = T>) -> Vec<Event> {
    let start = event(WatchEvent::ListStart { scope: String::new() });
    let end = event(WatchEvent::ListEnd { scope: String::new() });
    let listed = objects.into_iter().map(|object| event(WatchEvent::Listed(object)));
    std::iter::once(start).chain(listed).chain([end]).collect()
}

fn error(kind: WriteErrorKind, message: &str) -> WriteError {
    WriteError { kind, message: message.to_owned(), retry_after: None }
}

impl Cluster {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// The store is restored from a backup of its beginning, so that versions begin anew. No watch shows that.
    pub fn restore_from_backup(&mut self) {
        self.version = 0;
        for object in self.objects.values_mut() {
            self.version += 1;
            object.resource_version = self.version.to_string();
        }
        for hpa in self.hpas.values_mut() {
            self.version += 1;
            hpa.resource_version = self.version.to_string();
        }
    }

    /// Returns the whole list of one kind, as numbered by [`stream`], of all namespaces.
    #[must_use]
    pub fn list(&self, kind: usize) -> Vec<Event> {
        match kind {
            0 => {
                let of = |group: ApiGroup| {
                    let objects = self.objects.values().filter(move |object| object.key.group == group);
                    let boxed = objects.cloned().map(Box::new);
                    whole_list(move |event| Event::ScaledObject(group, event), boxed)
                };
                ApiGroup::ALL.into_iter().chain([ApiGroup::Autoscaling]).flat_map(of).collect()
            }
            1 => whole_list(Event::Hpa, self.hpas.values().cloned().map(Box::new)),
            2 => {
                let of = |gvkr: Gvkr| {
                    let found = self.workloads.iter().filter(|((kind, ..), _)| *kind == gvkr);
                    let found: Vec<Workload> = found.map(|(_, workload)| workload.clone()).collect();
                    whole_list(move |event| Event::Workload(gvkr.clone(), event), found)
                };
                watched_workloads().into_iter().flat_map(of).collect()
            }
            4 => whole_list(Event::Namespace, self.namespaces.clone()),
            _ => {
                let of = |(group, kind): (ApiGroup, AuthenticationKind)| {
                    let found = self.authentications.values();
                    let found = found.filter(move |found| found.key.group == group && found.key.kind == kind);
                    let boxed = found.cloned().map(Box::new);
                    whole_list(move |event| Event::Authentication(group, kind, event), boxed)
                };
                let kinds = [
                    (ApiGroup::KedaSh, AuthenticationKind::TriggerAuthentication),
                    (ApiGroup::KedaK8sIo, AuthenticationKind::TriggerAuthentication),
                    (ApiGroup::KedaSh, AuthenticationKind::ClusterTriggerAuthentication),
                ];
                kinds.into_iter().flat_map(of).collect()
            }
        }
    }

    pub fn put_object(&mut self, mut object: ScaledObject) {
        object.resource_version = self.next_version();
        self.echoes.push(Event::ScaledObject(object.key.group, WatchEvent::Changed(Box::new(object.clone()))));
        self.objects.insert(object.key.clone(), object);
    }

    /// Annotates a Namespace.
    pub fn put_namespace(&mut self, name: &str, pause: Pause) {
        let pause = Pause { is_of_namespace: true, ..pause };
        self.echoes.push(Event::Namespace(WatchEvent::Changed((name.to_owned(), pause.clone()))));
        self.namespaces.insert(name.to_owned(), pause);
    }

    pub fn put_hpa(&mut self, mut hpa: ObservedHpa) {
        if let Some(behavior) = hpa.behavior.as_mut().filter(|_| self.knows_no_tolerance) {
            for rules in [&mut behavior.scale_up, &mut behavior.scale_down].into_iter().flatten() {
                rules.tolerance = None;
            }
        }
        hpa.resource_version = self.next_version();
        self.echoes.push(Event::Hpa(WatchEvent::Changed(Box::new(hpa.clone()))));
        self.hpas.insert((hpa.namespace.clone(), hpa.name.clone()), hpa);
    }

    pub fn put_workload(&mut self, gvkr: &Gvkr, mut workload: Workload) {
        workload.version = self.next_version().parse().ok();
        if watched_workloads().contains(gvkr) {
            self.echoes.push(Event::Workload(gvkr.clone(), WatchEvent::Changed(workload.clone())));
        }
        let id = (gvkr.clone(), workload.namespace.clone(), workload.name.clone());
        #[cfg(test)]
        self.counts.entry(id.clone()).or_default().insert(self.version, workload.replicas);
        self.workloads.insert(id, workload);
    }

    pub fn put_authentication(&mut self, mut found: Authentication) {
        found.resource_version = self.next_version();
        let AuthenticationKey { group, kind, .. } = found.key;
        self.echoes.push(Event::Authentication(group, kind, WatchEvent::Changed(Box::new(found.clone()))));
        self.authentications.insert(found.key.clone(), found);
    }

    pub fn remove_authentication(&mut self, key: &AuthenticationKey) {
        if self.authentications.remove(key).is_some() {
            let gone = deleted(&key.namespace, &key.name, "");
            self.echoes.push(Event::Authentication(key.group, key.kind, gone));
        }
    }

    pub fn remove_workload(&mut self, id: &WorkloadId) {
        if self.workloads.remove(id).is_some() && watched_workloads().contains(&id.0) {
            let (gvkr, namespace, name) = id;
            self.echoes.push(Event::Workload(gvkr.clone(), deleted(namespace, name, "")));
        }
    }

    pub fn remove_hpa(&mut self, id: &HpaId) {
        if let Some(hpa) = self.hpas.remove(id) {
            self.echoes.push(Event::Hpa(deleted(&id.0, &id.1, hpa.uid)));
        }
    }

    /// Like `kubectl delete`: finalizers delay the deletion.
    pub fn delete_object(&mut self, key: &ObjectKey) {
        let Some(mut object) = self.objects.get(key).cloned() else {
            return;
        };
        if object.finalizers.is_empty() {
            self.remove_object(key);
        } else if !object.deletion_requested {
            object.deletion_requested = true;
            self.put_object(object);
        }
    }

    pub fn remove_object(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.remove(key) else {
            return;
        };
        self.echoes.push(Event::ScaledObject(key.group, deleted(&key.namespace, &key.name, "")));
        let owned = |hpa: &&ObservedHpa| hpa.controller.as_ref().is_some_and(|owner| owner.uid == object.uid);
        let garbage = self.hpas.values().filter(owned);
        let garbage: Vec<HpaId> = garbage.map(|hpa| (hpa.namespace.clone(), hpa.name.clone())).collect();
        for id in garbage {
            self.remove_hpa(&id);
        }
    }

    /// Removes HPAs whose ScaledObject was gone when they were written.
    #[cfg(test)]
    pub fn collect_garbage(&mut self) {
        let is_alive = |uid: &str| self.objects.values().any(|object| object.uid == uid);
        let owned = |hpa: &&ObservedHpa| {
            hpa.controller.as_ref().is_some_and(|owner| owner.is_scaled_object() && !is_alive(&owner.uid))
        };
        let garbage = self.hpas.values().filter(owned);
        let garbage: Vec<HpaId> = garbage.map(|hpa| (hpa.namespace.clone(), hpa.name.clone())).collect();
        for id in garbage {
            self.remove_hpa(&id);
        }
    }

    pub fn write(&mut self, write: &Write) -> Result<WriteOk, WriteError> {
        match &write.kind {
            WriteKind::Claim { finalizers, label, resource_version } => {
                self.update_object(&write.object, Some(resource_version), |object| {
                    object.finalizers.clone_from(finalizers);
                    object.labels.extend(label.clone());
                })
            }
            WriteKind::Release { finalizers, resource_version } => {
                self.update_object(&write.object, Some(resource_version), |object| {
                    object.finalizers.clone_from(finalizers);
                })
            }
            WriteKind::Status(patch) => self.update_object(&write.object, None, |object| {
                object.status = merge(&object.status, &patch.before, &patch.after);
            }),
            WriteKind::CreateHpa(desired) => match self.hpas.get(&(desired.namespace.clone(), desired.name.clone())) {
                Some(found) => Ok(WriteOk::HpaExists(Box::new(found.clone()))),
                None => self.apply_hpa(desired),
            },
            WriteKind::ApplyHpa(desired) => self.apply_hpa(desired),
            WriteKind::ReplaceHpa { desired, resource_version } => self.replace_hpa(desired, resource_version),
            WriteKind::DeleteHpa { .. } if self.keeps_hpas => {
                Err(error(WriteErrorKind::Forbidden, "a policy keeps it"))
            }
            WriteKind::DeleteHpa { name, uid } => {
                let id = (write.object.namespace.to_string(), name.clone());
                if self.hpas.get(&id).is_none_or(|hpa| hpa.uid != *uid) {
                    return Err(error(WriteErrorKind::NotFound, "hpa not found"));
                }
                self.remove_hpa(&id);
                Ok(WriteOk::Done)
            }
            WriteKind::Scale { .. } if self.refuses_scales => {
                Err(error(WriteErrorKind::Forbidden, "denied the request"))
            }
            WriteKind::Scale { target, from, to, .. } => {
                let namespace = write.object.namespace.to_string();
                let id = (Gvkr::clone(&target.gvkr), namespace, target.name.clone());
                let Some(mut workload) = self.workloads.get(&id).cloned() else {
                    return Err(error(WriteErrorKind::NotFound, "target not found"));
                };
                if workload.replicas != *from {
                    return Err(error(WriteErrorKind::Conflict, "replicas changed"));
                }
                workload.replicas = *to;
                self.put_workload(&target.gvkr, workload);
                Ok(WriteOk::Scaled(Some(self.version)))
            }
            WriteKind::AuthenticationStatus { authentication, scaled_objects } => {
                let Some(mut found) = self.authentications.get(authentication).cloned() else {
                    return Err(error(WriteErrorKind::NotFound, "authentication not found"));
                };
                found.status_scaled_objects.clone_from(scaled_objects);
                self.put_authentication(found);
                Ok(WriteOk::Done)
            }
            WriteKind::AuthenticationFinalizers { authentication, finalizers, resource_version } => {
                let Some(mut found) = self.authentications.get(authentication).cloned() else {
                    return Err(error(WriteErrorKind::NotFound, "authentication not found"));
                };
                if found.resource_version != *resource_version {
                    return Err(error(WriteErrorKind::Conflict, "authentication changed"));
                }
                found.finalizers.clone_from(finalizers);
                if found.deletion_requested && found.finalizers.is_empty() {
                    self.authentications.remove(authentication);
                    let AuthenticationKey { group, kind, namespace, name } = authentication;
                    self.echoes.push(Event::Authentication(*group, *kind, deleted(namespace, name, "")));
                } else {
                    self.put_authentication(found);
                }
                Ok(WriteOk::Done)
            }
        }
    }

    fn update_object(
        &mut self,
        key: &ObjectKey,
        version: Option<&str>,
        change: impl FnOnce(&mut ScaledObject),
    ) -> Result<WriteOk, WriteError> {
        let Some(mut object) = self.objects.get(key).cloned() else {
            return Err(error(WriteErrorKind::NotFound, "scaledobject not found"));
        };
        if version.is_some_and(|version| version != object.resource_version) {
            return Err(error(WriteErrorKind::Conflict, "the object has been modified"));
        }
        change(&mut object);
        if object.deletion_requested && object.finalizers.is_empty() {
            self.remove_object(key);
            return Ok(WriteOk::Done);
        }
        self.put_object(object);
        Ok(WriteOk::Version(self.version.to_string()))
    }

    fn apply_hpa(&mut self, desired: &DesiredHpa) -> Result<WriteOk, WriteError> {
        if self.refused_hpas.contains(&desired.name) {
            return Err(error(WriteErrorKind::Invalid, "spec.metrics: Invalid value"));
        }
        let id = (desired.namespace.clone(), desired.name.clone());
        let mut hpa = observed(desired);
        match self.hpas.get(&id) {
            Some(old) => {
                let other = old.controller.as_ref();
                if other.is_some_and(|other| other.uid != desired.owner.uid) {
                    let message = "Only one reference can have Controller set to true";
                    return Err(error(WriteErrorKind::Invalid, message));
                }
                hpa = ObservedHpa {
                    labels: merged(&old.labels, &hpa.labels),
                    annotations: merged(&old.annotations, &hpa.annotations),
                    behavior: hpa.behavior.clone().or_else(|| old.behavior.clone()),
                    ..over(old, hpa)
                };
            }
            None => hpa.uid = format!("uid-{}-{}", desired.name, self.version),
        }
        self.put_hpa(hpa);
        Ok(WriteOk::Hpa(Box::new(self.hpas[&id].clone())))
    }

    fn replace_hpa(&mut self, desired: &DesiredHpa, resource_version: &str) -> Result<WriteOk, WriteError> {
        let id = (desired.namespace.clone(), desired.name.clone());
        let Some(old) = self.hpas.get(&id) else {
            return Err(error(WriteErrorKind::NotFound, "hpa not found"));
        };
        if old.resource_version != resource_version {
            return Err(error(WriteErrorKind::Conflict, "the hpa has been modified"));
        }
        if self.refused_hpas.contains(&desired.name) {
            return Err(error(WriteErrorKind::Invalid, "spec.metrics: Invalid value"));
        }
        let hpa = over(old, observed(desired));
        self.put_hpa(hpa);
        Ok(WriteOk::Hpa(Box::new(self.hpas[&id].clone())))
    }
}

/// Returns the new spec with the identity and the status of the old HPA.
fn over(old: &ObservedHpa, new: ObservedHpa) -> ObservedHpa {
    ObservedHpa {
        uid: old.uid.clone(),
        deletion_requested: old.deletion_requested,
        current_replicas: old.current_replicas,
        desired_replicas: old.desired_replicas,
        conditions: old.conditions.clone(),
        current_metrics_json: old.current_metrics_json.clone(),
        ..new
    }
}

fn merged(old: &LiteMap<String, String>, new: &LiteMap<String, String>) -> LiteMap<String, String> {
    let mut all = old.clone();
    all.extend(new.clone());
    all
}

/// Returns a desired HPA as the API server would show it.
pub fn observed(desired: &DesiredHpa) -> ObservedHpa {
    let owner = &desired.owner;
    ObservedHpa {
        namespace: desired.namespace.clone(),
        name: desired.name.clone(),
        uid: String::new(),
        resource_version: String::new(),
        created_at: UnixMillis::default(),
        labels: desired.labels.clone(),
        annotations: desired.annotations.clone(),
        controller: Some(OwnerRef {
            api_version: format!("{}/v1alpha1", owner.key.group.name()),
            kind: "ScaledObject".to_owned(),
            name: owner.key.name.to_string(),
            uid: owner.uid.clone(),
        }),
        min_replicas: Some(desired.min_replicas),
        max_replicas: desired.max_replicas,
        target: desired.target.clone(),
        metrics: desired.metrics.clone(),
        behavior: desired.behavior.as_ref().map(with_defaults),
        deletion_requested: false,
        current_replicas: 0,
        desired_replicas: 0,
        conditions: Vec::new(),
        current_metrics_json: String::new(),
    }
}

/// Applies a merge patch with the differences between `before` and `after`.
fn merge(stored: &Status, before: &Status, after: &Status) -> Status {
    let mut status = stored.clone();
    macro_rules! field {
        ($($name:ident),*) => {
            $(if before.$name != after.$name { status.$name = after.$name.clone(); })*
        };
    }
    field!(
        scale_target_kind,
        scale_target_gvkr,
        original_replica_count,
        last_active_at,
        external_metric_names,
        resource_metric_names,
        composite_scaler_name,
        conditions,
        health,
        triggers_activity,
        paused_replica_count,
        hpa_name,
        triggers_types,
        authentications_types
    );
    status
}
