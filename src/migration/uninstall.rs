//! What would hang or harm without us leaves the cluster, in an order in which nothing hangs.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{API_SERVICES, CRDS, DEPLOYMENTS, FIELD_MANAGER, Failure, Migration, Plan, SERVICES, STATEFUL_SETS, place};
use crate::clock::wall_millis;
use crate::kube::resources::CUSTOM_METRICS;
use crate::kube::untyped::{items, selects, text};
use crate::kube::{Error, Kubeconfig, PatchKind, Resource};
use crate::scaling::model::{FINALIZERS, UnixMillis};
use crate::wire::time::format_seconds;

const GROUPS: [&str; 2] = ["keda.sh", "keda.k8s.io"];
/// With the kind, and whether it is in namespaces.
const KINDS: [(&str, &str, bool); 3] = [
    ("ScaledObject", "scaledobjects", true),
    ("TriggerAuthentication", "triggerauthentications", true),
    ("ClusterTriggerAuthentication", "clustertriggerauthentications", false),
];

/// What becomes of the ScaledObjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// They stay, with their HPAs and the CRDs, without finalizers: for KEDA, or for another day.
    Keep,
    /// They go, with their HPAs and the CRDs; targets keep their replicas unless they ask for the original count.
    Delete,
    /// Nothing is done while there are any.
    Undecided,
}

/// Takes the APIService away, then the ScaledObjects and CRDs, or the finalizers that hold them.
///
/// # Errors
/// Refused before anything was done, or something did not go within the timeout: then what, and why.
pub fn uninstall(
    kubeconfig: Option<&Kubeconfig>,
    plan: &Plan,
    objects: Objects,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut migration = Migration::new(kubeconfig, plan, out)?;
    if objects != Objects::Keep {
        migration.may_delete(objects)?;
    }
    migration.remove_apiservice()?;
    migration.remove_custom_apiservices()?;
    if objects == Objects::Keep {
        migration.stop_instances()?;
        migration.refresh_last_active()?;
        migration.release(&KINDS)?;
        migration.say("ScaledObjects, HPAs, replicas and CRDs stay")?;
    } else {
        migration.delete_scaled_objects()?;
        // The daemon does this when they are deleted, but may not live to see it.
        migration.release(&KINDS[1..])?;
        migration.delete_crds()?;
    }
    migration.say("what is left goes with helm uninstall hpalite, or kubectl delete -k k8s/base")
}

impl Migration<'_> {
    fn may_delete(&mut self, objects: Objects) -> Result<(), Failure> {
        if !self.get(&CRDS, None, "scaledjobs.keda.sh")?.is_null() {
            let fix = "use --keep-crds, or delete them by KEDA's own means";
            return Err(Failure::Stopped(vec![format!("the CRDs are KEDA's, which ScaledJobs tell: {fix}")]));
        }
        let (all, scaled) = (self.all(&KINDS)?.len(), self.all(&KINDS[..1])?.len());
        if objects == Objects::Undecided && all > 0 {
            let others = all - scaled;
            return Err(Failure::Stopped(vec![format!(
                "{scaled} ScaledObjects with their HPAs, and {others} (Cluster)TriggerAuthentications, would go with the \
                 CRDs: use --keep-crds to keep them, or --delete-scaledobjects"
            )]));
        }
        Ok(())
    }

    /// First, since without its server it keeps every namespace from being deleted.
    fn remove_apiservice(&mut self) -> Result<(), Failure> {
        let name = &self.plan.apiservice;
        let found = self.apiservice(name)?;
        if found.is_null() {
            return self.say(&format!("APIService {name} does not exist"));
        }
        if !self.is_ours(&found) {
            return self.say(&format!("APIService {name} is not ours and stays"));
        }
        if self.step(&format!("delete APIService {name}"))? {
            self.delete(&API_SERVICES, &found)?;
        }
        Ok(())
    }

    /// Those of metrics of objects, which only an installation with rules of prometheus-adapter has.
    fn remove_custom_apiservices(&mut self) -> Result<(), Failure> {
        for name in CUSTOM_METRICS {
            let found = self.get(&API_SERVICES, None, name)?;
            if !found.is_null() && self.is_ours(&found) && self.step(&format!("delete APIService {name}"))? {
                self.delete(&API_SERVICES, &found)?;
            }
        }
        Ok(())
    }

    /// All objects of these kinds, in both groups, with the resource that they are of.
    fn all(&self, kinds: &[(&str, &'static str, bool)]) -> Result<Vec<(Resource, Value)>, Error> {
        let mut all = Vec::new();
        for group in GROUPS {
            for (_, plural, namespaced) in kinds {
                let resource = Resource::new(group, "v1alpha1", plural, *namespaced);
                let found = self.list(&resource, None, None)?;
                all.extend(found.into_iter().map(|object| (resource.clone(), object)));
            }
        }
        Ok(all)
    }

    /// Stops all instances first, since a running one would restore the finalizers.
    fn stop_instances(&mut self) -> Result<(), Failure> {
        let (name, namespace) = &self.plan.service;
        let service = self.get(&SERVICES, Some(namespace), name)?;
        let mut stopped = Vec::new();
        for (kind, resource) in [("StatefulSet", STATEFUL_SETS), ("Deployment", DEPLOYMENTS)] {
            for workload in self.list(&resource, Some(namespace), None)? {
                if !selects(&service, &workload) {
                    continue;
                }
                let workload = text(&workload, "/metadata/name").to_owned();
                if self.step(&format!("scale {kind} {namespace}/{workload} to 0"))? {
                    let none = |found: &Value| match &found["spec"]["replicas"] {
                        replicas if *replicas == json!(0) => Value::Null,
                        _ => json!({ "spec": { "replicas": 0 } }),
                    };
                    self.change(&resource, Some(namespace), &workload, none)?;
                    stopped.push((resource.clone(), workload));
                }
            }
        }
        if self.plan.dry_run {
            return Ok(());
        }
        if stopped.is_empty() {
            self.say(&format!("no workload is behind Service {namespace}/{name}: waiting until hpalite is stopped"))?;
        }
        let mut pulse = Pulse::default();
        let result = self.wait(|migration| {
            for (resource, workload) in &stopped {
                let found = migration.get(resource, Some(&migration.plan.service.1), workload)?;
                if found["status"]["replicas"].as_i64() > Some(0) {
                    return Ok(Some(format!("{workload} still has pods")));
                }
            }
            let lease = migration.lease()?;
            let holder = text(&lease, "/spec/holderIdentity");
            Ok(pulse.beats(&lease, Instant::now()).then(|| format!("{holder} still holds the Lease")))
        });
        result.map_err(|seen| Failure::Stopped(vec![format!("{seen}: stop it, then run this again")]))
    }

    /// While an object is active we do not write `lastActiveTime`, and KEDA would count the cooldown from the old one.
    fn refresh_last_active(&mut self) -> Result<(), Failure> {
        for (resource, object) in self.all(&KINDS[..1])? {
            let conditions = items(&object, "/status/conditions");
            if !conditions.iter().any(|c| c["type"] == "Active" && c["status"] == "True") {
                continue;
            }
            let (namespace, name) = (object["metadata"]["namespace"].as_str(), text(&object, "/metadata/name"));
            if self.step(&format!("refresh lastActiveTime of {}", called(&resource, &object)))? {
                let status = json!({ "status": { "lastActiveTime": format_seconds(UnixMillis(wall_millis())) } });
                let body = status.to_string().into_bytes();
                let request = resource.patch_subresource(namespace, name, "status", PatchKind::Merge, body);
                let request = request.map_err(Error::from)?.with_query("fieldManager", FIELD_MANAGER);
                match self.client.send(&request) {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Takes our finalizers, which are KEDA's too, from all objects of these kinds.
    fn release(&mut self, kinds: &[(&str, &'static str, bool)]) -> Result<(), Failure> {
        for (resource, object) in self.all(kinds)? {
            if held_by_us(&object).is_null() {
                continue;
            }
            let what = called(&resource, &object);
            if self.step(&format!("remove the finalizer of {what}"))? {
                let (namespace, name) = (object["metadata"]["namespace"].as_str(), text(&object, "/metadata/name"));
                self.change(&resource, namespace, name, held_by_us)?;
            }
        }
        Ok(())
    }

    fn delete_scaled_objects(&mut self) -> Result<(), Failure> {
        let objects = self.all(&KINDS[..1])?;
        for (resource, object) in &objects {
            if self.step(&format!("delete {}", called(resource, object)))? {
                self.delete(resource, object)?;
            }
        }
        if self.plan.dry_run || objects.is_empty() {
            return Ok(());
        }
        // The daemon lets them go, once it has put back the replica counts of those that ask for it.
        let (mut pulse, mut is_alone) = (Pulse::default(), false);
        let result = self.wait(|migration| {
            let left = migration.all(&KINDS[..1])?;
            let Some((resource, object)) = left.first() else { return Ok(None) };
            let lease = migration.lease()?;
            let acting = if pulse.beats(&lease, Instant::now()) {
                Some(format!("{} holds the Lease", text(&lease, "/spec/holderIdentity")))
            } else if migration.has_ready_endpoint()? {
                Some("its Service has a ready endpoint".to_owned())
            } else {
                None
            };
            if acting.is_none() {
                if !std::mem::replace(&mut is_alone, true) {
                    migration
                        .say("no instance of hpalite acts: finalizers go here, replica counts stay as they are")?;
                }
                migration.release(&KINDS[..1])?;
            }
            let held = &object["metadata"]["finalizers"];
            let what = format!("{} of them are still there: {}, held by {held}", left.len(), called(resource, object));
            Ok(Some(acting.map_or(what.clone(), |acting| format!("{what}, while hpalite acts, since {acting}"))))
        });
        result.map_err(|seen| {
            let fix = "see that hpalite runs, or remove the finalizers that are not ours; then run this again";
            Failure::Stopped(vec![format!("ScaledObjects were deleted and {seen}: {fix}")])
        })
    }

    fn delete_crds(&mut self) -> Result<(), Failure> {
        let mut names = Vec::new();
        for group in GROUPS {
            for (_, plural, _) in KINDS {
                let name = format!("{plural}.{group}");
                let found = self.get(&CRDS, None, &name)?;
                if !found.is_null() && self.step(&format!("delete CustomResourceDefinition {name}"))? {
                    self.delete(&CRDS, &found)?;
                    names.push(name);
                }
            }
        }
        let result = self.wait(|migration| {
            for name in &names {
                let found = migration.get(&CRDS, None, name)?;
                if !found.is_null() {
                    return Ok(Some(format!("CustomResourceDefinition {name} is still there")));
                }
            }
            Ok(None)
        });
        result.map_err(|seen| Failure::Stopped(vec![format!("{seen}: see its status.conditions, then run this again")]))
    }
}

/// Whether somebody renews the Lease: by how long it stands still on our clock, since the one it was written by may be
/// wrong.
#[derive(Default)]
struct Pulse {
    seen: Option<(String, Instant)>,
}

impl Pulse {
    fn beats(&mut self, lease: &Value, now: Instant) -> bool {
        if text(lease, "/spec/holderIdentity").is_empty() {
            return false;
        }
        let version = text(lease, "/metadata/resourceVersion");
        let lasts = Duration::from_secs(lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(15));
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) <= lasts,
            _ => {
                self.seen = Some((version.to_owned(), now));
                true
            }
        }
    }
}

/// The patch that leaves only the finalizers of others; Null if there are no others.
fn held_by_us(object: &Value) -> Value {
    let finalizers = items(object, "/metadata/finalizers");
    let is_ours = |name: &&Value| name.as_str().is_some_and(|name| FINALIZERS.contains(&name));
    let stay: Vec<&Value> = finalizers.iter().filter(|name| !is_ours(name)).collect();
    if stay.len() == finalizers.len() { Value::Null } else { json!({ "metadata": { "finalizers": stay } }) }
}

/// `ScaledObject shop/api`
fn called(resource: &Resource, object: &Value) -> String {
    let kind = KINDS.iter().find(|(_, plural, _)| *plural == resource.plural).map_or("object", |(kind, _, _)| kind);
    let (name, namespace) = (text(object, "/metadata/name"), text(object, "/metadata/namespace"));
    if namespace.is_empty() {
        format!("{kind} {name}")
    } else {
        format!("{kind} {}", place(&(name.to_owned(), namespace.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_stands_still_for_its_duration_is_nobody_s() {
        let lease = |holder: &str, version: &str| {
            json!({ "metadata": { "resourceVersion": version },
                "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 } })
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::default();
        for (seconds, holder, version, expected) in [
            (0, "a", "1", true),
            (15, "a", "1", true),
            (16, "a", "1", false),
            (17, "a", "2", true),
            (32, "a", "2", true),
            (33, "a", "2", false),
            (34, "", "3", false),
        ] {
            assert_eq!(pulse.beats(&lease(holder, version), at(seconds)), expected, "{seconds}");
        }
        assert!(!pulse.beats(&Value::Null, at(40)), "there is none");
    }

    #[test]
    fn finalizers_of_others_stay() {
        let object = json!({ "metadata": { "finalizers": ["a", "finalizer.keda.sh", "finalizer.keda.k8s.io"] } });
        assert_eq!(held_by_us(&object), json!({ "metadata": { "finalizers": ["a"] } }));
        assert_eq!(held_by_us(&json!({ "metadata": { "finalizers": ["a"] } })), Value::Null);
        assert_eq!(held_by_us(&json!({ "metadata": {} })), Value::Null);
    }
}
