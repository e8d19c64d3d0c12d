//! Whether the service account, and the HPA controller, may do what they have to.

use serde::Deserialize;
use serde_json::Value;

use super::Doctor;
use crate::kube::Request;
use crate::kube::untyped::items;
use crate::rights::{self, Right};
use crate::unserved::some;

const HPA_CONTROLLER: (&str, &str) = ("kube-system", "horizontal-pod-autoscaler");

/// What is installed says what is needed: a test on a control plane shows that every rule is used.
const ROLES: &str = include_str!("../../k8s/base/rbac.yaml");

#[derive(Deserialize)]
struct Role {
    kind: String,
    metadata: Named,
    /// Absent in bindings.
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    verbs: Vec<String>,
}

fn roles() -> Vec<Role> {
    ROLES.split("\n---\n").filter_map(|document| serde_saphyr::from_str(document).ok()).collect()
}

impl Doctor<'_> {
    pub(super) fn rights(&mut self) {
        let (service, own) = self.subject.config.service.clone();
        let Some(name) = self.service_account() else { return };
        if !self.account_exists(&own, &name) {
            return;
        }
        let apiservice = self.subject.config.apiservice.clone();
        let watched = self.subject.namespace.clone().unwrap_or_default();
        let roles = roles();
        // With what gives them: one thing that is not there is one finding, however many rights it has.
        let mut rights: Vec<(String, Vec<Right<'_>>)> = Vec::new();
        for role in roles.iter().filter(|role| !role.rules.is_empty()) {
            let namespace = match (role.kind.as_str(), role.metadata.name.as_str()) {
                ("Role", _) => own.as_str(),
                // Kinds without a namespace are in the other one.
                ("ClusterRole", "hpalite") => watched.as_str(),
                _ => "",
            };
            let mut given = Vec::new();
            for rule in &role.rules {
                for (group, resource) in rule.api_groups.iter().flat_map(|g| rule.resources.iter().map(move |r| (g, r)))
                {
                    let object = match (rule.resource_names.is_empty(), resource.as_str()) {
                        (true, _) => "",
                        (false, "apiservices") => apiservice.as_str(),
                        (false, _) => service.as_str(),
                    };
                    let verbs = rule.verbs.iter().map(String::as_str).collect();
                    given.push(Right { group, resource, verbs, namespace, object });
                }
            }
            let Role { kind, metadata: Named { name }, .. } = role;
            rights.push((format!("{kind} {name} and its {kind}Binding, of k8s/base/rbac.yaml"), given));
        }
        let create = |group, resource| Right { group, resource, verbs: vec!["create"], namespace: "", object: "" };
        rights.push((
            "ClusterRoleBinding hpalite:system:auth-delegator, of k8s/base/rbac-external-metrics.yaml".to_owned(),
            vec![
                create("authentication.k8s.io", "tokenreviews"),
                create("authorization.k8s.io", "subjectaccessreviews"),
            ],
        ));
        rights.push((
            "RoleBinding hpalite-auth-reader in kube-system, of k8s/base/rbac-external-metrics.yaml".to_owned(),
            vec![Right {
                group: "",
                resource: "configmaps",
                verbs: vec!["get", "list", "watch"],
                namespace: "kube-system",
                object: "extension-apiserver-authentication",
            }],
        ));
        let subject = format!("ServiceAccount {own}/{name}");
        for (giver, rights) in &rights {
            let (mut lacking, mut asked) = (Vec::new(), 0);
            for right in rights {
                let mut missing = Vec::new();
                for verb in &right.verbs {
                    match self.may((&own, &name), right, verb) {
                        Some(true) => {}
                        Some(false) => missing.push(*verb),
                        // One finding says that nobody's rights can be asked for.
                        None => return,
                    }
                }
                asked += 1;
                if !missing.is_empty() {
                    lacking.push(written(right, &missing));
                }
            }
            if lacking.is_empty() {
                continue;
            }
            let rest = if lacking.len() == asked && asked > 1 { ": it has none of what this gives" } else { "" };
            let cause = format!("it may not {}{rest}", lacking.join("; "));
            self.error("right-missing", &subject, cause, format!("apply {giver}"));
        }
        self.target_rights(&own, &name);
        let reads = Right {
            group: "external.metrics.k8s.io",
            resource: "s0-prometheus",
            verbs: vec!["list"],
            namespace: "",
            object: "",
        };
        if self.may(HPA_CONTROLLER, &reads, "list") == Some(false) {
            let subject = format!("ServiceAccount {}/{}", HPA_CONTROLLER.0, HPA_CONTROLLER.1);
            let cause = "the HPA controller may not list external.metrics.k8s.io, so every HPA stands still";
            self.error("hpa-controller-forbidden", &subject, cause, "apply k8s/base/rbac-external-metrics.yaml");
        }
    }

    /// What the workload behind the Service runs as.
    fn service_account(&mut self) -> Option<String> {
        rights::service_account(&self.client, &self.subject.config.service)
            .inspect_err(|error| self.not_checked("the workload behind the Service", error))
            .ok()
    }

    /// Without it no pod starts and no right means anything.
    fn account_exists(&mut self, namespace: &str, name: &str) -> bool {
        // Who may not look at it may still ask for its rights.
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
        let is_missing =
            matches!(self.client.json::<Value>(&Request::get_path(path)), Err(error) if error.is_not_found());
        if is_missing {
            let subject = format!("ServiceAccount {namespace}/{name}");
            let cause = "it does not exist, so no pod of hpalite can start, and none has rights";
            let fix = "apply k8s/base/serviceaccount.yaml, or let the workload name the one that exists";
            self.error("service-account-missing", &subject, cause, fix);
        }
        !is_missing
    }

    /// KEDA may scale everything; hpalite what it is given, kind by kind.
    fn target_rights(&mut self, namespace: &str, account: &str) {
        let Some(list) = self.get(&self.within("/apis/keda.sh/v1alpha1", "scaledobjects")) else { return };
        match rights::of_targets(&self.client, (namespace, account), items(&list, "/items")) {
            Ok(found) => {
                for lacking in found {
                    let subject = format!("ServiceAccount {namespace}/{account}");
                    let objects = some(&lacking.objects, lacking.objects.len());
                    let cause = format!("it may not {}, the target of ScaledObject {objects}", lacking.missing);
                    self.error("target-right-missing", &subject, cause, lacking.fix);
                    self.is_about(lacking.objects);
                }
            }
            Err(error) => self.not_checked("rights on targets", &error),
        }
    }

    fn may(&mut self, account: (&str, &str), right: &Right<'_>, verb: &str) -> Option<bool> {
        rights::may(&self.client, account, right, verb)
            .inspect_err(|error| self.not_checked("SubjectAccessReview", error))
            .ok()
    }
}

/// `patch scaledobjects/status.keda.sh in namespace shop`
fn written(right: &Right<'_>, verbs: &[&str]) -> String {
    let Right { group, resource, namespace, object, .. } = right;
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let object = if object.is_empty() { String::new() } else { format!(" {object}") };
    let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
    format!("{} {resource}{group}{object}{place}", verbs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_roles_are_read_whole() {
        let roles = roles();
        let rules: usize = roles.iter().map(|role| role.rules.len()).sum();
        assert_eq!(rules, ROLES.matches("- apiGroups:").count());
        assert!(roles.iter().any(|role| role.kind == "Role") && rules > 15);
    }
}
