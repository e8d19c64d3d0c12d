//! Finds KEDA objects that nothing would run under hpalite: kinds that it does not serve, and objects of its own kinds
//! that it cannot run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kube::untyped::{items, text};
use crate::kube::{Client, Error, Request};
use crate::scaling::model::{ApiGroup, AuthenticationKind};
use crate::wire::{self, Servers};

/// Plurals of the kinds that hpalite serves.
const SERVED: [&str; 3] = ["scaledobjects", "triggerauthentications", "clustertriggerauthentications"];
/// Number of names shown per kind.
const NAMES_MAX: usize = 5;

/// All objects of one kind that nothing would run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unserved {
    /// For example `scaledjobs.keda.sh`.
    pub(crate) kind: String,
    /// For example `ScaledJob shop/import, shop/export and 3 more`.
    pub(crate) objects: String,
}

/// An object of a served kind that hpalite cannot run as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// For example `ScaledObject shop/api`.
    pub(crate) object: String,
    /// For example `shop/api`.
    pub(crate) name: String,
    pub(crate) cause: String,
}

/// Returns the unserved objects of every KEDA API group in this cluster: `keda.sh`, `eventing.keda.sh`, `http.keda.sh`.
///
/// # Errors
/// When a request to the API server fails.
pub(crate) fn kinds(client: &Client, namespace: Option<&str>) -> Result<Vec<Unserved>, Error> {
    let groups: Value = client.json(&Request::get_path("/apis"))?;
    let mut found = Vec::new();
    for group in items(&groups, "/groups") {
        let name = text(group, "/name");
        if !is_keda(name) {
            continue;
        }
        let path = format!("/apis/{}", text(group, "/preferredVersion/groupVersion"));
        let resources: Value = client.json(&Request::get_path(&path))?;
        for resource in items(&resources, "/resources") {
            let plural = text(resource, "/name");
            let can_be_listed = items(resource, "/verbs").iter().any(|verb| verb == "list");
            if SERVED.contains(&plural) || plural.contains('/') || !can_be_listed {
                continue;
            }
            let of = match namespace.filter(|_| resource["namespaced"] == true) {
                Some(namespace) => format!("{path}/namespaces/{namespace}/{plural}"),
                None => format!("{path}/{plural}"),
            };
            let list: Value = client.json(&Request::get_path(format!("{of}?limit=500")))?;
            let names: Vec<String> = items(&list, "/items").iter().map(called).collect();
            let more = list.pointer("/metadata/remainingItemCount").and_then(Value::as_u64).unwrap_or(0);
            if !names.is_empty() {
                let count = names.len() + usize::try_from(more).unwrap_or(usize::MAX);
                let objects = format!("{} {}", text(resource, "/kind"), some(&names, count));
                found.push(Unserved { kind: format!("{plural}.{name}"), objects });
            }
        }
    }
    Ok(found)
}

fn is_keda(group: &str) -> bool {
    group == "keda.sh" || group.ends_with(".keda.sh") || group == "keda.k8s.io"
}

/// Returns the ScaledObjects of this list that hpalite cannot run.
pub(crate) fn scaled_objects(group: ApiGroup, list: &Value, servers: &Servers) -> Vec<Unusable> {
    let mut unusable = Vec::new();
    for object in items(list, "/items") {
        let cause = match wire::scaled_object::from_slice(group, object.to_string().as_bytes(), servers) {
            Ok(read) => read.definition.err().map(|invalid| invalid.message()),
            Err(error) => Some(error.to_string()),
        };
        let name = called(object);
        unusable.extend(cause.map(|cause| Unusable { object: format!("ScaledObject {name}"), name, cause }));
    }
    unusable
}

/// Returns the authentications that hpalite cannot use, such as those that need a vault or a cloud identity.
pub(crate) fn authentications(group: ApiGroup, kind: AuthenticationKind, list: &Value) -> Vec<Unusable> {
    let mut unusable = Vec::new();
    for object in items(list, "/items") {
        let read = wire::authentication::from_slice(group, kind, object.to_string().as_bytes());
        let cause = read.ok().and_then(|read| read.unsupported).map(|problem| problem.to_string());
        let name = called(object);
        unusable.extend(cause.map(|cause| Unusable { object: format!("{} {name}", kind.name()), name, cause }));
    }
    unusable
}

/// Returns the ScaledObjects and authentications of both groups that hpalite cannot run.
///
/// # Errors
/// When a request to the API server fails, except for kinds that the cluster does not have.
pub(crate) fn objects(client: &Client) -> Result<Vec<Unusable>, Error> {
    let list = |path: String| match client.json::<Value>(&Request::get_path(path)) {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        result => result,
    };
    let mut unusable = Vec::new();
    for group in ApiGroup::ALL {
        let api = format!("/apis/{}/v1alpha1", group.name());
        unusable.extend(scaled_objects(group, &list(format!("{api}/scaledobjects"))?, &Servers::default()));
        for (kind, plural) in [
            (AuthenticationKind::TriggerAuthentication, "triggerauthentications"),
            (AuthenticationKind::ClusterTriggerAuthentication, "clustertriggerauthentications"),
        ] {
            unusable.extend(authentications(group, kind, &list(format!("{api}/{plural}"))?));
        }
    }
    Ok(unusable)
}

/// Groups objects by their cause.
pub(crate) fn by_cause(unusable: Vec<Unusable>) -> Vec<(String, Vec<Unusable>)> {
    let mut causes: BTreeMap<String, Vec<Unusable>> = BTreeMap::new();
    for found in unusable {
        causes.entry(found.cause.clone()).or_default().push(found);
    }
    causes.into_iter().collect()
}

/// Returns for example `ScaledObject shop/a, ScaledObject shop/b and 3 more`.
pub(crate) fn some(names: &[String], count: usize) -> String {
    let shown = names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match count.saturating_sub(names.len().min(NAMES_MAX)) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Returns `shop/api`, or `api` without a namespace.
fn called(object: &Value) -> String {
    match (text(object, "/metadata/namespace"), text(object, "/metadata/name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn api_groups_of_keda_are_recognised_by_name() {
        for (group, expected) in [
            ("keda.sh", true),
            ("eventing.keda.sh", true),
            ("http.keda.sh", true),
            ("keda.k8s.io", true),
            ("notkeda.sh", false),
            ("apps", false),
        ] {
            assert_eq!(is_keda(group), expected, "{group}");
        }
    }

    #[test]
    fn objects_that_cannot_be_run_are_reported_with_their_cause() {
        let object = |name: &str, kind: &str, metadata: Value| {
            json!({
                "metadata": { "namespace": "shop", "name": name, "uid": name, "generation": 1, "resourceVersion": "1",
                    "creationTimestamp": "2026-01-01T00:00:00Z" },
                "spec": { "scaleTargetRef": { "name": "api" }, "triggers": [{ "type": kind, "metadata": metadata }] },
            })
        };
        let prometheus = json!({ "serverAddress": "http://p:9090", "query": "up", "threshold": "1" });
        let list = json!({ "items": [
            object("good", "prometheus", prometheus),
            object("queue", "pulsar", json!({ "topic": "a" })),
            object("stream", "pulsar", json!({ "topic": "b" })),
        ] });
        let found = by_cause(scaled_objects(ApiGroup::KedaSh, &list, &Servers::default()));
        let [(cause, objects)] = &found[..] else { panic!("{found:?}") };
        assert!(cause.contains("pulsar"), "{cause}");
        let names: Vec<&str> = objects.iter().map(|found| found.object.as_str()).collect();
        assert_eq!(names, ["ScaledObject shop/queue", "ScaledObject shop/stream"]);
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (0..7).map(|n| format!("a/{n}")).collect();
        assert_eq!(some(&names, 9), "a/0, a/1, a/2, a/3, a/4 and 4 more");
        assert_eq!(some(&names[..2], 2), "a/0, a/1");
    }
}
