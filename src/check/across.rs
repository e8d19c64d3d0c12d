//! Checks across several objects: one workload scaled by two, one HPA name used twice, a missing authentication, and
//! utilisation targets of resources without requests.
//!
//! Sees the given files only; what is missing there may exist in the cluster, so it is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::workload::{Container, Workload};
use super::{Finding, Severity};
use crate::scaling::model::{
    Asked, Authentication, AuthenticationKey, Contradiction, Gvkr, MetricTarget, ObjectKey, PrometheusSource, Query,
    ScaledObject, TargetRef, Trigger,
};

#[derive(Default)]
pub(super) struct Across {
    objects: BTreeSet<ObjectKey>,
    /// The first object that scales a target, by namespace and target.
    targets: BTreeMap<(String, TargetRef), ObjectKey>,
    /// The first object that wants an HPA, by namespace and name.
    hpas: BTreeMap<(String, String), ObjectKey>,
    /// The first HPA that asks for a metric, by namespace.
    asked: BTreeMap<(String, Asked), Rc<ScaledObject>>,
    /// Those in the files, and whether each may give the address of a server.
    authentications: BTreeMap<AuthenticationKey, bool>,
    /// References, with the finding to report if the authentication is not found.
    references: Vec<(AuthenticationKey, Finding)>,
    /// References of triggers that no server is named for but by the authentication, with the finding if it does not.
    addresses: Vec<(AuthenticationKey, Finding)>,
    /// The containers of a workload, by namespace and target.
    workloads: BTreeMap<(String, TargetRef), Vec<Container>>,
    /// Utilisation targets.
    utilizations: Vec<Utilization>,
    findings: Vec<Finding>,
}

/// A trigger that only works if its resource is requested.
struct Utilization {
    workload: (String, TargetRef),
    resource: String,
    container: Option<String>,
    finding: Finding,
}

impl Across {
    pub(super) fn workload(&mut self, workload: Workload) {
        self.workloads.insert((workload.namespace, workload.target), workload.containers);
    }

    pub(super) fn authentication(&mut self, found: Authentication) {
        let says_address = found.sources.iter().any(|source| source.may_give(PrometheusSource::ADDRESS));
        // What is wrong with it is said of itself.
        let says_address = says_address || found.unsupported.is_some();
        self.authentications.insert(found.key, says_address);
    }

    /// `place` makes a finding on a field of the object, whose message the caller fills in.
    pub(super) fn scaled_object(&mut self, object: &ScaledObject, place: impl Fn(&str) -> Finding) {
        let key = &object.key;
        let mut error = |field: &str, message: String, fix: &str| {
            self.findings.push(Finding { message, fix: fix.to_owned(), ..place(field) });
        };
        if !self.objects.insert(key.clone()) {
            error("metadata.name", format!("{key} is in the files more than once"), "keep one of them");
            return;
        }
        let namespace = key.namespace.to_string();
        let target = TargetRef { env_source_container: None, ..object.target.clone() };
        if !target.name.is_empty() {
            if let Some(other) = self.targets.get(&(namespace.clone(), target.clone())) {
                let kind = kind_text(&target);
                let message = format!(
                    "the workload '{}' of type '{kind}' is already managed by the ScaledObject '{}'",
                    target.name, other.name
                );
                error("spec.scaleTargetRef", message, "put the triggers of both into one ScaledObject");
            } else {
                self.targets.insert((namespace.clone(), target.clone()), key.clone());
            }
        }
        let Ok(definition) = &object.definition else {
            return;
        };
        for trigger in &definition.resource_triggers {
            // KEDA's webhook checks all resource triggers, but only utilisation depends on requests.
            if !matches!(trigger.target, MetricTarget::Utilization(_)) {
                continue;
            }
            let finding = Finding {
                severity: Severity::Warning,
                fix: format!("set resources.requests.{}, unless a LimitRange does", trigger.kind),
                ..place(&format!("spec.triggers[{}]", trigger.index))
            };
            self.utilizations.push(Utilization {
                workload: (namespace.clone(), target.clone()),
                resource: trigger.kind.clone(),
                container: trigger.container.clone(),
                finding,
            });
        }
        let hpa = (namespace, definition.hpa_name.clone());
        if let Some(other) = self.hpas.get(&hpa) {
            let message = format!("the HPA '{}' is already managed by the ScaledObject '{}'", hpa.1, other.name);
            error(
                "spec.advanced.horizontalPodAutoscalerConfig.name",
                message,
                "give each ScaledObject its own HPA name",
            );
        } else {
            self.hpas.insert(hpa, key.clone());
        }
        for trigger in &definition.triggers {
            self.reference(key, trigger, place(&format!("spec.triggers[{}].authenticationRef.name", trigger.index)));
            self.address(key, trigger, place(&format!("spec.triggers[{}].metadata.serverAddress", trigger.index)));
        }
    }

    fn reference(&mut self, key: &ObjectKey, trigger: &Trigger, place: Finding) {
        let Some(reference) = &trigger.authentication else {
            return;
        };
        let wanted = AuthenticationKey::of(key, reference);
        let finding = Finding {
            severity: Severity::Warning,
            message: format!("{wanted} is not in the files"),
            fix: "make sure that it is in the cluster".to_owned(),
            ..place
        };
        self.references.push((wanted, finding));
    }

    /// Notes a trigger for which neither its own parameters nor a flag names a server.
    fn address(&mut self, key: &ObjectKey, trigger: &Trigger, place: Finding) {
        let Some(reference) = &trigger.authentication else { return };
        let is_open = match trigger.source.query() {
            Some(Query::Prometheus(source)) => source.authentication.is_some() && source.server_address.is_empty(),
            _ => false,
        };
        if !is_open {
            return;
        }
        let wanted = AuthenticationKey::of(key, reference);
        let message = format!("no server is named, and {wanted} has no parameter serverAddress");
        let fix = "write one of them, or name a server for all with --prometheus-server".to_owned();
        self.addresses.push((wanted, Finding { message, fix, ..place }));
    }

    /// An annotated HPA: its authentications, and whether another one asks by the same name for something else.
    pub(super) fn hpa(&mut self, object: &ScaledObject, place: impl Fn(&str) -> Finding) {
        let Ok(definition) = &object.definition else {
            return;
        };
        let shared = Rc::new(object.clone());
        for (position, (asked, trigger)) in object.asked.iter().zip(&definition.triggers).enumerate() {
            self.reference(&object.key, trigger, place("metadata.annotations"));
            self.address(&object.key, trigger, place("metadata.annotations"));
            let id = (object.key.namespace.to_string(), asked.as_read());
            let first = self.asked.entry(id).or_insert_with(|| Rc::clone(&shared));
            if let Some(Contradiction { message, fix }) = object.contradiction(position, first) {
                self.findings.push(Finding { message, fix: fix.to_owned(), ..place("spec.metrics") });
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        let missing = self.references.into_iter().filter(|(key, _)| !self.authentications.contains_key(key));
        self.findings.extend(missing.map(|(_, finding)| finding));
        let without = self.addresses.into_iter().filter(|(key, _)| self.authentications.get(key) == Some(&false));
        self.findings.extend(without.map(|(_, finding)| finding));
        for Utilization { workload, resource, container, finding } in self.utilizations {
            let containers = self.workloads.get(&workload).into_iter().flatten();
            let measured = containers.filter(|found| container.as_ref().is_none_or(|name| *name == found.name));
            for found in measured.filter(|found| !found.requested.contains(&resource.as_str())) {
                let message = format!(
                    "the scaledobject has a {resource} trigger but the container {} doesn't have the {resource} request defined",
                    found.name
                );
                self.findings.push(Finding { message, ..finding.clone() });
            }
        }
        self.findings
    }
}

/// Returns for example `apps/v1.Deployment`, as in the status.
fn kind_text(target: &TargetRef) -> String {
    let (group, version) = target.api_version.split_once('/').unwrap_or(("", &target.api_version));
    let gvkr = Gvkr {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: target.kind.clone(),
        resource: String::new(),
    };
    gvkr.kind_text()
}
