//! Whether the service account, and the HPA controller, may do what they have to.

use serde_json::{Value, json};

use super::Doctor;
use crate::kube::{Request, Resource};

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", false);
const HPA_CONTROLLER: (&str, &str) = ("kube-system", "horizontal-pod-autoscaler");

/// Group, resource, verbs, and the namespace where the right is needed: empty for all. As in k8s/base/rbac.yaml.
const RIGHTS: [(&str, &str, &[&str], &str); 15] = [
    ("keda.sh", "scaledobjects", &["list", "watch", "patch"], ""),
    ("keda.sh", "scaledobjects/status", &["patch"], ""),
    ("keda.sh", "scaledobjects/finalizers", &["update"], ""),
    ("keda.sh", "triggerauthentications", &["list", "watch", "patch"], ""),
    ("autoscaling", "horizontalpodautoscalers", &["list", "watch", "create", "update", "patch", "delete"], ""),
    ("apps", "deployments", &["get", "list", "watch"], ""),
    ("apps", "deployments/scale", &["get", "update"], ""),
    ("apps", "statefulsets/scale", &["get", "update"], ""),
    ("", "secrets", &["get"], ""),
    ("", "configmaps", &["get"], ""),
    ("", "pods", &["list"], ""),
    ("events.k8s.io", "events", &["create"], ""),
    ("authentication.k8s.io", "tokenreviews", &["create"], ""),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"], ""),
    ("", "configmaps", &["get"], "kube-system"),
];

impl Doctor<'_> {
    pub(super) fn rights(&mut self) {
        let (name, own) = self.subject.service.clone();
        let all = self.subject.namespace.clone().unwrap_or_default();
        for (group, resource, verbs, place) in RIGHTS {
            // Kinds without a namespace are not asked for within one.
            let place = if place.is_empty() && !resource.ends_with("reviews") { all.as_str() } else { place };
            for verb in verbs {
                let object = if place == "kube-system" { "extension-apiserver-authentication" } else { "" };
                match self.may((&own, &name), (group, resource, verb, place, object)) {
                    Some(true) => {}
                    Some(false) => {
                        let resource =
                            if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
                        let place = if place.is_empty() { String::new() } else { format!(" in namespace {place}") };
                        let cause = format!("it may not {verb} {resource}{place}");
                        let fix = "apply k8s/base/rbac.yaml and rbac-external-metrics.yaml";
                        self.error("right-missing", &format!("ServiceAccount {own}/{name}"), cause, fix);
                    }
                    // One finding tells that nobody's rights can be asked for.
                    None => return,
                }
            }
        }
        if self.may(HPA_CONTROLLER, ("external.metrics.k8s.io", "s0-prometheus", "list", "", "")) == Some(false) {
            let subject = format!("ServiceAccount {}/{}", HPA_CONTROLLER.0, HPA_CONTROLLER.1);
            let cause = "the HPA controller may not list external.metrics.k8s.io, so every HPA stands still";
            self.error("hpa-controller-forbidden", &subject, cause, "apply k8s/base/rbac-external-metrics.yaml");
        }
    }

    fn may(&mut self, account: (&str, &str), asked: (&str, &str, &str, &str, &str)) -> Option<bool> {
        let (namespace, name) = account;
        let (group, resource, verb, place, object) = asked;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let body = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": format!("system:serviceaccount:{namespace}:{name}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "resourceAttributes": {
                "group": group, "resource": resource, "subresource": subresource, "verb": verb, "namespace": place,
                "name": object,
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
