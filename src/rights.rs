//! Asks the API server what a service account may do: for `hpalite doctor`, and for `hpalite takeover` before it gives
//! up KEDA's wider rights.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::kube::untyped::{items, selects, text};
use crate::kube::{Client, Error, Request, Resource};

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", false);

/// Verbs that must be allowed on one resource.
pub(crate) struct Right<'a> {
    pub(crate) group: &'a str,
    /// The plural, with the subresource after a slash.
    pub(crate) resource: &'a str,
    pub(crate) verbs: Vec<&'a str>,
    /// Empty for all namespaces, and for cluster-scoped resources.
    pub(crate) namespace: &'a str,
    /// The name of the one object; empty for all.
    pub(crate) object: &'a str,
}

/// Returns the name of the service account of the workload behind a Service; the Service's own name if there is no such
/// workload.
///
/// # Errors
/// When a request to the API server fails.
pub(crate) fn service_account(client: &Client, (name, namespace): &(String, String)) -> Result<String, Error> {
    let service = get(client, &format!("/api/v1/namespaces/{namespace}/services/{name}"))?;
    for plural in ["statefulsets", "deployments"] {
        let list = get(client, &format!("/apis/apps/v1/namespaces/{namespace}/{plural}"))?;
        if let Some(workload) = items(&list, "/items").iter().find(|workload| selects(&service, workload)) {
            let account = text(workload, "/spec/template/spec/serviceAccountName");
            return Ok(if account.is_empty() { "default".to_owned() } else { account.to_owned() });
        }
    }
    Ok(name.clone())
}

/// Returns whether a service account, given as namespace and name, has this right.
///
/// # Errors
/// When a request to the API server fails.
pub(crate) fn may(
    client: &Client,
    (namespace, name): (&str, &str),
    right: &Right<'_>,
    verb: &str,
) -> Result<bool, Error> {
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let body = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": format!("system:serviceaccount:{namespace}:{name}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        "resourceAttributes": {
            "group": right.group, "resource": resource, "subresource": subresource, "verb": verb,
            "namespace": right.namespace, "name": right.object,
        },
    } });
    let answer: Value = client.json(&REVIEWS.create(None, body.to_string().into_bytes())?)?;
    Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true)))
}

/// A target kind that the service account may not scale.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TargetRight {
    /// For example `get, update rollouts/scale.argoproj.io`.
    pub(crate) missing: String,
    /// How to grant it, as an instruction.
    pub(crate) fix: String,
    /// The ScaledObjects that need it, as `namespace/name`.
    pub(crate) objects: Vec<String>,
}

/// Returns the target kinds of these ScaledObjects, except Kubernetes' own, that the account may not scale.
///
/// # Errors
/// When a request to the API server fails.
pub(crate) fn of_targets(client: &Client, account: (&str, &str), objects: &[Value]) -> Result<Vec<TargetRight>, Error> {
    let mut kinds: BTreeMap<(&str, &str), BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for object in objects {
        let (version, kind) =
            (text(object, "/spec/scaleTargetRef/apiVersion"), text(object, "/spec/scaleTargetRef/kind"));
        // The default is a Deployment, for which the base manifests grant the rights.
        if version.is_empty() || kind.is_empty() || version == "apps/v1" {
            continue;
        }
        let namespace = text(object, "/metadata/namespace");
        let name = format!("{namespace}/{}", text(object, "/metadata/name"));
        kinds.entry((version, kind)).or_default().entry(namespace).or_default().push(name);
    }
    let mut found = Vec::new();
    for ((version, kind), namespaces) in kinds {
        let resources = get(client, &format!("/apis/{version}"))?;
        let of_kind = |resource: &&Value| resource["kind"] == kind && !text(resource, "/name").contains('/');
        // A kind that does not exist is reported on the object.
        let Some(resource) = items(&resources, "/resources").iter().find(of_kind) else { continue };
        let (group, plural) = (version.split_once('/').map_or("", |(group, _)| group), text(resource, "/name"));
        let scale = format!("{plural}/scale");
        let wanted = [(plural, vec!["get"]), (scale.as_str(), vec!["get", "update"])];
        let (mut missing, mut objects) = (Vec::new(), Vec::new());
        for (namespace, names) in namespaces {
            let mut lacks = Vec::new();
            for (resource, verbs) in &wanted {
                let right = Right { group, resource, verbs: Vec::new(), namespace, object: "" };
                let mut refused = Vec::new();
                for verb in verbs {
                    if !may(client, account, &right, verb)? {
                        refused.push(*verb);
                    }
                }
                if !refused.is_empty() {
                    lacks.push(format!("{} {resource}.{group}", refused.join(", ")));
                }
            }
            if !lacks.is_empty() {
                missing = lacks;
                objects.extend(names);
            }
        }
        if !objects.is_empty() {
            let sample = "k8s/samples/scale-target-rollout.yaml";
            let label = "hpalite.dev/aggregate-to-scale-targets: \"true\"";
            let fix = if (group, kind) == ("argoproj.io", "Rollout") {
                format!("apply the ClusterRole of {sample}, whose label {label} adds it to hpalite's rights")
            } else {
                format!("apply a ClusterRole with these rights and the label {label}, as {sample} does for Rollouts")
            };
            found.push(TargetRight { missing: missing.join(" and "), fix, objects });
        }
    }
    Ok(found)
}

/// Returns the object, or `Null` if it does not exist.
fn get(client: &Client, path: &str) -> Result<Value, Error> {
    match client.json(&Request::get_path(path)) {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        result => result,
    }
}
