//! Reads scale targets: the few relevant fields of a Deployment, StatefulSet or ReplicaSet, and the `/scale` of any
//! other kind.
//!
//! Reads into small structs directly from the bytes, since every workload of the cluster passes here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::metadata::{Unreadable, or_default};
use crate::scaling::model::Workload;

/// Reads a Deployment, StatefulSet or ReplicaSet from the API server's JSON.
///
/// # Errors
/// If the bytes are not such an object with a `metadata.name`.
pub fn from_slice(json: &[u8]) -> Result<Workload, Unreadable> {
    let wire: WireWorkload = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    if wire.metadata.name.is_empty() {
        return Err(Unreadable("metadata.name: is missing".to_owned()));
    }
    Ok(Workload {
        replicas_manager: replicas_manager(&wire.metadata.managed_fields),
        namespace: wire.metadata.namespace,
        name: wire.metadata.name,
        uid: wire.metadata.uid,
        replicas: wire.spec.replicas.unwrap_or(1),
        selector: wire.spec.selector.map(|selector| selector.text()),
        ready: wire.status.ready_replicas,
        version: wire.metadata.resource_version.parse().ok(),
    })
}

/// An `autoscaling/v1` Scale: the target as its `/scale` shows it, and the version for the update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub workload: Workload,
    pub resource_version: String,
    /// `status.replicas`, the number of existing pods.
    pub current_replicas: u32,
}

/// Reads the answer of `/scale`.
///
/// # Errors
/// If the bytes are not a Scale.
pub fn scale_from_slice(json: &[u8]) -> Result<Scale, Unreadable> {
    let wire: WireScale = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    Ok(Scale {
        workload: Workload {
            namespace: wire.metadata.namespace,
            name: wire.metadata.name,
            uid: wire.metadata.uid,
            // Unlike in a workload, absence means zero here, since Go omits it.
            replicas: wire.spec.replicas.unwrap_or(0),
            selector: wire.status.selector.filter(|selector| !selector.is_empty()),
            replicas_manager: None,
            ready: 0,
            version: wire.metadata.resource_version.parse().ok(),
        },
        resource_version: wire.metadata.resource_version,
        current_replicas: wire.status.replicas,
    })
}

/// Returns the [version](Workload::version) that the answer of a PUT on `/scale` shows, if it shows one.
#[must_use]
pub fn scale_version(json: &[u8]) -> Option<u64> {
    scale_from_slice(json).ok()?.workload.version
}

/// Returns the body of a PUT on `/scale`, which is a conflict if the target has changed since `scale` was read.
#[must_use]
pub fn scale_to_value(scale: &Scale, replicas: u32) -> Value {
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": scale.workload.name,
            "namespace": scale.workload.namespace,
            "uid": scale.workload.uid,
            "resourceVersion": scale.resource_version,
        },
        "spec": {"replicas": replicas},
    })
}

#[derive(Deserialize)]
struct WireWorkload {
    metadata: WireMetadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: WireSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: WireStatus,
}

#[derive(Deserialize)]
struct WireScale {
    metadata: WireMetadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: WireScaleSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: WireScaleStatus,
}

#[derive(Default, Deserialize)]
struct WireScaleSpec {
    replicas: Option<u32>,
}

#[derive(Default, Deserialize)]
struct WireScaleStatus {
    #[serde(default, deserialize_with = "or_default")]
    replicas: u32,
    selector: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Default, Deserialize)]
struct WireSpec {
    replicas: Option<u32>,
    selector: Option<Selector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    #[serde(default, deserialize_with = "or_default")]
    ready_replicas: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(default, deserialize_with = "or_default")]
    match_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    match_expressions: Vec<Requirement>,
}

#[derive(Deserialize)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(default, deserialize_with = "or_default")]
    values: Vec<String>,
}

impl Selector {
    /// Formats as a `labelSelector` parameter.
    fn text(&self) -> String {
        let labels = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(|requirement| {
            let (key, values) = (&requirement.key, requirement.values.join(","));
            match &*requirement.operator {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.clone(),
            }
        });
        labels.chain(expressions).collect::<Vec<_>>().join(",")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    subresource: String,
    /// RFC 3339 in UTC with whole seconds, so that the order of texts is that of times.
    time: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields: Option<FieldsV1>,
}

/// Of a field set, only whether it contains `spec.replicas`; everything else is skipped.
#[derive(Deserialize)]
struct FieldsV1 {
    #[serde(rename = "f:spec")]
    spec: Option<SpecFieldsV1>,
}

#[derive(Deserialize)]
struct SpecFieldsV1 {
    #[serde(rename = "f:replicas")]
    replicas: Option<IgnoredAny>,
}

/// Returns who set `spec.replicas` last: `kubectl-scale`, or `kube-controller-manager (scale)` for a subresource.
fn replicas_manager(entries: &[ManagedFields]) -> Option<String> {
    let owns = |entry: &&ManagedFields| {
        entry.fields.as_ref().and_then(|fields| fields.spec.as_ref()).is_some_and(|spec| spec.replicas.is_some())
    };
    // Among equal times, `max_by` returns the last.
    let newest = entries.iter().filter(owns).max_by(|a, b| a.time.cmp(&b.time))?;
    Some(match &*newest.subresource {
        "" => newest.manager.clone(),
        subresource => format!("{} ({subresource})", newest.manager),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_and_who_scaled_it() {
        let json = json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "managedFields": [
                    {"manager": "kubectl", "operation": "Apply", "time": "2026-01-01T00:00:00Z",
                     "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}}}},
                    {"manager": "hpalite", "operation": "Update", "subresource": "scale", "time": "2026-01-03T00:00:00Z",
                     "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                    {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
                     "time": "2026-01-04T00:00:00Z", "fieldsV1": {"f:status": {"f:replicas": {}}}},
                ],
            },
            "spec": {"replicas": 4, "selector": {
                "matchLabels": {"b": "2", "a": "1"},
                "matchExpressions": [
                    {"key": "tier", "operator": "In", "values": ["x", "y"]},
                    {"key": "env", "operator": "NotIn", "values": ["dev"]},
                    {"key": "live", "operator": "Exists"},
                    {"key": "old", "operator": "DoesNotExist"},
                ],
            }, "template": {"spec": {}}},
            "status": {"replicas": 4, "readyReplicas": 3},
        });
        let workload = from_slice(json.to_string().as_bytes()).expect("reads");
        assert_eq!(
            workload,
            Workload {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: "u".to_owned(),
                replicas: 4,
                selector: Some("a=1,b=2,tier in (x,y),env notin (dev),live,!old".to_owned()),
                replicas_manager: Some("hpalite (scale)".to_owned()),
                ready: 3,
                version: Some(7),
            }
        );
    }

    #[test]
    fn absent_replicas_are_one_in_a_workload_and_zero_in_a_scale() {
        let json = br#"{"metadata":{"name":"w","managedFields":null},"spec":{"replicas":null}}"#;
        let workload = from_slice(json).expect("reads");
        assert_eq!((workload.replicas, workload.selector, workload.replicas_manager), (1, None, None));
        assert_eq!(workload.version, None);
        let scale =
            scale_from_slice(br#"{"metadata":{"name":"w","resourceVersion":"7"},"spec":{},"status":{"replicas":2}}"#);
        let scale = scale.expect("reads");
        assert_eq!((scale.workload.replicas, scale.current_replicas, scale.workload.version), (0, 2, Some(7)));
        let body = scale_to_value(&scale, 5);
        assert_eq!((&body["spec"]["replicas"], &body["metadata"]["resourceVersion"]), (&json!(5), &json!("7")));
        assert!(from_slice(b"{}").is_err());
        assert!(from_slice(b"[]").is_err());
    }
}
