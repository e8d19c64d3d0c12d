//! Reads an existing HPA from JSON into what the core compares.
//!
//! Reads through small structs and not through k8s-openapi's types, since every HPA of the cluster passes here whenever
//! its status changes. One with two metrics, 3.3 KB of JSON, takes 100 allocations and at most 13 KB this way; as a
//! `HorizontalPodAutoscaler`, which also keeps the managed fields and the whole status, it takes 141 and 20 KB, 1.4 times
//! the CPU, and its readers some more pages of the binary. The types would save the 100 lines of structs below.
//!
//! Metrics that hpalite never sets or answers become [`HpaMetric::Other`], so that they compare as different.

use litemap::LiteMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::metadata::{Metadata, Unreadable, exact, exact_map, or_default};
use super::super::quantity::{canonical, parse_milli};
use crate::scaling::hpa::{HpaMetric, ObservedHpa, OwnerRef};
use crate::scaling::model::MetricTarget;
use crate::scaling::model::{Behavior, Described, ScalingPolicy, ScalingRules, TargetRef};

/// Reads an HPA from the API server's JSON.
///
/// # Errors
/// If the bytes are not an HPA with a `metadata.name`.
pub fn from_slice(json: &[u8]) -> Result<ObservedHpa, Unreadable> {
    let wire: WireHpa = serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
    if wire.metadata.name.is_empty() {
        return Err(Unreadable("metadata.name: is missing".to_owned()));
    }
    Ok(wire.into_model())
}

#[derive(Deserialize)]
struct WireHpa {
    metadata: Metadata,
    spec: WireSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    min_replicas: Option<u32>,
    #[serde(default)]
    max_replicas: u32,
    scale_target_ref: WireTarget,
    #[serde(default, deserialize_with = "or_default")]
    metrics: Vec<WireMetric>,
    behavior: Option<WireBehavior>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTarget {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetric {
    #[serde(rename = "type")]
    kind: String,
    external: Option<WireExternal>,
    object: Option<WireObject>,
    pods: Option<WireExternal>,
    resource: Option<WireResource>,
    container_resource: Option<WireResource>,
}

#[derive(Deserialize)]
struct WireExternal {
    metric: WireIdentifier,
    target: WireMetricTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireObject {
    metric: WireIdentifier,
    described_object: WireTarget,
    target: WireMetricTarget,
}

#[derive(Deserialize)]
struct WireIdentifier {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    selector: WireSelector,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSelector {
    #[serde(default, deserialize_with = "or_default")]
    match_labels: LiteMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    match_expressions: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct WireResource {
    #[serde(default)]
    container: String,
    name: String,
    target: WireMetricTarget,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetricTarget {
    average_value: Option<String>,
    value: Option<String>,
    average_utilization: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBehavior {
    scale_up: Option<WireRules>,
    scale_down: Option<WireRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRules {
    stabilization_window_seconds: Option<i32>,
    select_policy: Option<String>,
    policies: Option<Vec<WirePolicy>>,
    tolerance: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePolicy {
    #[serde(rename = "type")]
    kind: String,
    value: i32,
    period_seconds: i32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    #[serde(default, deserialize_with = "or_default")]
    current_replicas: i32,
    #[serde(default, deserialize_with = "or_default")]
    desired_replicas: i32,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<WireCondition>,
    current_metrics: Option<Value>,
}

#[derive(Deserialize)]
struct WireCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl WireHpa {
    fn into_model(self) -> ObservedHpa {
        let Self { metadata, spec, status } = self;
        let created_at = metadata.created_at();
        let controller = metadata.owner_references.into_iter().find(|owner| owner.controller == Some(true));
        ObservedHpa {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            created_at,
            labels: exact_map(metadata.labels),
            annotations: exact_map(metadata.annotations),
            controller: controller.map(|owner| OwnerRef {
                api_version: owner.api_version,
                kind: owner.kind,
                name: owner.name,
                uid: owner.uid,
            }),
            min_replicas: spec.min_replicas,
            max_replicas: spec.max_replicas,
            target: TargetRef {
                api_version: spec.scale_target_ref.api_version,
                kind: spec.scale_target_ref.kind,
                name: spec.scale_target_ref.name,
                env_source_container: None,
            },
            metrics: exact(spec.metrics.into_iter().map(WireMetric::into_model)),
            behavior: spec.behavior.map(|behavior| Behavior {
                scale_up: behavior.scale_up.map(WireRules::into_model),
                scale_down: behavior.scale_down.map(WireRules::into_model),
            }),
            deletion_requested: metadata.deletion_timestamp.is_some(),
            current_replicas: status.current_replicas,
            desired_replicas: status.desired_replicas,
            conditions: exact(status.conditions.into_iter().map(|c| (c.kind, c.status, c.reason, c.message))),
            current_metrics_json: status.current_metrics.map(|metrics| metrics.to_string()).unwrap_or_default(),
        }
    }
}

impl WireMetric {
    fn into_model(self) -> HpaMetric {
        let Self { kind, external, object, pods, resource, container_resource } = self;
        let read = match (&*kind, external, object, pods, resource, container_resource) {
            ("External", Some(metric), ..) => {
                metric.into_model(|name, match_labels, target| HpaMetric::External { name, match_labels, target })
            }
            ("Pods", _, _, Some(metric), ..) => {
                metric.into_model(|name, match_labels, target| HpaMetric::Pods { name, match_labels, target })
            }
            ("Object", _, Some(metric), ..) => metric.into_model(),
            ("Resource", .., Some(resource), _) => {
                let WireResource { name, target, .. } = resource;
                target.into_model().map(|target| HpaMetric::Resource { name: name.clone(), target }).ok_or((name, None))
            }
            ("ContainerResource", .., Some(resource)) => {
                let WireResource { name, target, container } = resource;
                let read = |target| HpaMetric::ContainerResource { container, name: name.clone(), target };
                target.into_model().map(read).ok_or((name, None))
            }
            _ => Err((String::new(), None)),
        };
        read.unwrap_or_else(|(name, target)| HpaMetric::Other { kind, name, target })
    }
}

/// A metric, or its name and target if it is none that hpalite could give.
type Read = Result<HpaMetric, (String, Option<MetricTarget>)>;

impl WireExternal {
    fn into_model(self, read: impl FnOnce(String, LiteMap<String, String>, MetricTarget) -> HpaMetric) -> Read {
        let WireIdentifier { name, selector } = self.metric;
        match self.target.into_model() {
            Some(target) if selector.match_expressions.is_empty() => {
                Ok(read(name, exact_map(selector.match_labels), target))
            }
            target => Err((name, target)),
        }
    }
}

impl WireObject {
    fn into_model(self) -> Read {
        let Self { metric, described_object: WireTarget { api_version, kind, name }, target } = self;
        let described = Described { api_version, kind, name };
        let read = |name, match_labels, target| HpaMetric::Object { name, match_labels, described, target };
        WireExternal { metric, target }.into_model(read)
    }
}

impl WireMetricTarget {
    fn into_model(self) -> Option<MetricTarget> {
        match self {
            Self { average_value: Some(text), .. } => parse_milli(&text).map(MetricTarget::AverageValue),
            Self { value: Some(text), .. } => parse_milli(&text).map(MetricTarget::Value),
            Self { average_utilization, .. } => average_utilization.map(MetricTarget::Utilization),
        }
    }
}

impl WireRules {
    fn into_model(self) -> ScalingRules {
        let policy = |p: WirePolicy| ScalingPolicy { kind: p.kind, value: p.value, period_seconds: p.period_seconds };
        ScalingRules {
            stabilization_window_seconds: self.stabilization_window_seconds,
            select_policy: self.select_policy,
            policies: self.policies.map(|policies| policies.into_iter().map(policy).collect()),
            tolerance: self.tolerance.map(|text| canonical(&text).unwrap_or(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_hpa_as_the_api_server_shows_it() {
        let target = |value: Value| json!({"type": "External", "external": {"metric": {"name": "m"}, "target": value}});
        let body = json!({
            "metadata": {
                "name": "h", "namespace": "n", "uid": "u", "resourceVersion": "5", "annotations": null,
                "managedFields": [{"manager": "x"}],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"},
                    {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "s", "uid": "2", "controller": true},
                ],
            },
            "spec": {
                "maxReplicas": 4,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                "metrics": [
                    target(json!({"type": "AverageValue", "averageValue": "1500m"})),
                    target(json!({"type": "Value", "value": "1k"})),
                    target(json!({"type": "Value", "value": "rubbish"})),
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                    {"type": "Pods", "pods": {"metric": {"name": "p"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "100m",
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}},
            },
            "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": [{"type": "External", "a": 1}],
                "conditions": [{"type": "AbleToScale", "status": "True", "reason": "R", "message": "M"}]},
        });
        let hpa = from_slice(body.to_string().as_bytes()).expect("reads");
        assert_eq!((hpa.min_replicas, hpa.max_replicas, hpa.current_replicas, hpa.desired_replicas), (None, 4, 2, 3));
        assert_eq!(hpa.controller.map(|owner| owner.name), Some("s".to_owned()));
        assert_eq!(hpa.current_metrics_json, r#"[{"a":1,"type":"External"}]"#);
        let external = |target| HpaMetric::External { name: "m".to_owned(), match_labels: LiteMap::new(), target };
        assert_eq!(
            hpa.metrics,
            [
                external(MetricTarget::AverageValue(1500)),
                external(MetricTarget::Value(1_000_000)),
                HpaMetric::Other { kind: "External".to_owned(), name: "m".to_owned(), target: None },
                HpaMetric::Resource { name: "cpu".to_owned(), target: MetricTarget::Utilization(60) },
                HpaMetric::Pods {
                    name: "p".to_owned(),
                    match_labels: LiteMap::new(),
                    target: MetricTarget::AverageValue(1000),
                },
            ]
        );
        let down = hpa.behavior.and_then(|behavior| behavior.scale_down).expect("is there");
        assert_eq!((down.stabilization_window_seconds, down.tolerance.as_deref()), (Some(60), Some("100m")));
        assert_eq!(down.policies.map(|policies| policies.len()), Some(1));
        assert!(from_slice(b"{}").is_err() && from_slice(b"null").is_err() && from_slice(b"{").is_err());
    }
}
