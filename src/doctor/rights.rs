//! Whether the service account, and the HPA controller, may do what they have to.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Doctor;
use crate::kube::untyped::{items, selects, text};
use crate::kube::{Request, Resource};

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", false);
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

/// What must be allowed with one resource.
struct Right<'a> {
    group: &'a str,
    /// With the subresource behind a slash.
    resource: &'a str,
    verbs: Vec<&'a str>,
    /// Empty for all, and for what has none.
    namespace: &'a str,
    /// The one object that it is about; empty for all.
    object: &'a str,
}

fn roles() -> Vec<Role> {
    ROLES.split("\n---\n").filter_map(|document| serde_saphyr::from_str(document).ok()).collect()
}

impl Doctor<'_> {
    pub(super) fn rights(&mut self) {
        let (service, own) = self.subject.config.service.clone();
        let name = self.service_account();
        let apiservice = self.subject.config.apiservice.clone();
        let watched = self.subject.namespace.clone().unwrap_or_default();
        let roles = roles();
        let mut rights = Vec::new();
        for role in &roles {
            let namespace = match (role.kind.as_str(), role.metadata.name.as_str()) {
                ("Role", _) => own.as_str(),
                // Kinds without a namespace are in the other one.
                ("ClusterRole", "hpalite") => watched.as_str(),
                _ => "",
            };
            for rule in &role.rules {
                for (group, resource) in rule.api_groups.iter().flat_map(|g| rule.resources.iter().map(move |r| (g, r)))
                {
                    let object = match (rule.resource_names.is_empty(), resource.as_str()) {
                        (true, _) => "",
                        (false, "apiservices") => apiservice.as_str(),
                        (false, _) => service.as_str(),
                    };
                    let verbs = rule.verbs.iter().map(String::as_str).collect();
                    rights.push(Right { group, resource, verbs, namespace, object });
                }
            }
        }
        for (group, resource) in
            [("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews")]
        {
            rights.push(Right { group, resource, verbs: vec!["create"], namespace: "", object: "" });
        }
        rights.push(Right {
            group: "",
            resource: "configmaps",
            verbs: vec!["get", "list", "watch"],
            namespace: "kube-system",
            object: "extension-apiserver-authentication",
        });
        for right in &rights {
            let mut missing = Vec::new();
            for verb in &right.verbs {
                match self.may((&own, &name), right, verb) {
                    Some(true) => {}
                    Some(false) => missing.push(*verb),
                    // One finding tells that nobody's rights can be asked for.
                    None => return,
                }
            }
            if !missing.is_empty() {
                let Right { group, resource, namespace, object, .. } = right;
                let group = if group.is_empty() { String::new() } else { format!(".{group}") };
                let object = if object.is_empty() { String::new() } else { format!(" {object}") };
                let place = if namespace.is_empty() { String::new() } else { format!(" in namespace {namespace}") };
                let cause = format!("it may not {} {resource}{group}{object}{place}", missing.join(", "));
                let fix = "apply k8s/base/rbac.yaml and rbac-external-metrics.yaml";
                self.error("right-missing", &format!("ServiceAccount {own}/{name}"), cause, fix);
            }
        }
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

    /// What the workload behind the Service runs as; the Service's own name where none is seen.
    fn service_account(&mut self) -> String {
        let (name, namespace) = self.subject.config.service.clone();
        let service = self.get(&format!("/api/v1/namespaces/{namespace}/services/{name}")).unwrap_or_default();
        for plural in ["statefulsets", "deployments"] {
            let list = self.get(&format!("/apis/apps/v1/namespaces/{namespace}/{plural}")).unwrap_or_default();
            if let Some(workload) = items(&list, "/items").iter().find(|workload| selects(&service, workload)) {
                let account = text(workload, "/spec/template/spec/serviceAccountName");
                return if account.is_empty() { "default".to_owned() } else { account.to_owned() };
            }
        }
        name
    }

    fn may(&mut self, (namespace, name): (&str, &str), right: &Right<'_>, verb: &str) -> Option<bool> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
        let body = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{namespace}:{name}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": {
                "group": right.group, "resource": resource, "subresource": subresource, "verb": verb,
                "namespace": right.namespace, "name": right.object,
            },
        } });
        let request: Request = REVIEWS.create(None, body.to_string().into_bytes()).ok()?;
        match self.client.json::<Value>(&request) {
            Ok(answer) => Some(answer.pointer("/status/allowed") == Some(&Value::Bool(true))),
            Err(error) => {
                self.not_checked("SubjectAccessReview", &error);
                None
            }
        }
    }
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
