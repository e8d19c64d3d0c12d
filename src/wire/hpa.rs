//! HorizontalPodAutoscalers of `autoscaling/v2`: what we want as JSON, what is there as a struct.
//!
//! Reads through small structs, straight from the bytes: every HPA of the cluster passes here. Metrics
//! that hpalite never sets become [`HpaMetric::Other`], so that they compare as different.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::metadata::{Metadata, Unreadable, or_default};
use super::quantity::{format_milli, parse_milli};
use crate::scaling::hpa::{DesiredHpa, HpaMetric, MetricTarget, ObservedHpa};
use crate::scaling::model::{Behavior, ScalingPolicy, ScalingRules, TargetRef};

/// The body of a server-side apply.
#[must_use]
pub fn to_apply(desired: &DesiredHpa) -> Value {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": desired.name,
            "namespace": desired.namespace,
            "labels": desired.labels,
            "annotations": desired.annotations,
            "ownerReferences": [{
                "apiVersion": format!("{}/v1alpha1", desired.owner.key.group.name()),
                "kind": "ScaledObject",
                "name": &*desired.owner.key.name,
                "uid": desired.owner.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": spec(desired),
    })
}

/// The body of a full update of the version that was observed.
#[must_use]
pub fn to_replace(desired: &DesiredHpa, resource_version: &str) -> Value {
    let mut body = to_apply(desired);
    body["metadata"]["resourceVersion"] = json!(resource_version);
    body
}

fn spec(desired: &DesiredHpa) -> Value {
    let metrics: Vec<Value> = desired.metrics.iter().filter_map(metric_value).collect();
    let mut spec = json!({
        "minReplicas": desired.min_replicas,
        "maxReplicas": desired.max_replicas,
        "scaleTargetRef": {
            "apiVersion": desired.target.api_version,
            "kind": desired.target.kind,
            "name": desired.target.name,
        },
        "metrics": metrics,
    });
    if let Some(behavior) = &desired.behavior {
        spec["behavior"] = behavior_value(behavior);
    }
    spec
}

fn metric_value(metric: &HpaMetric) -> Option<Value> {
    Some(match metric {
        HpaMetric::External {
            name,
            match_labels,
            target,
        } => json!({
            "type": "External",
            "external": {
                "metric": {"name": name, "selector": {"matchLabels": match_labels}},
                "target": target_value(*target),
            },
        }),
        HpaMetric::Resource { name, target } => json!({
            "type": "Resource",
            "resource": {"name": name, "target": target_value(*target)},
        }),
        HpaMetric::ContainerResource {
            container,
            name,
            target,
        } => json!({
            "type": "ContainerResource",
            "containerResource": {"container": container, "name": name, "target": target_value(*target)},
        }),
        HpaMetric::Other(_) => return None,
    })
}

fn target_value(target: MetricTarget) -> Value {
    match target {
        MetricTarget::AverageValue(milli) => {
            json!({"type": "AverageValue", "averageValue": format_milli(milli)})
        }
        MetricTarget::Value(milli) => json!({"type": "Value", "value": format_milli(milli)}),
        MetricTarget::Utilization(percent) => {
            json!({"type": "Utilization", "averageUtilization": percent})
        }
    }
}

fn behavior_value(behavior: &Behavior) -> Value {
    let sides = [
        ("scaleUp", &behavior.scale_up),
        ("scaleDown", &behavior.scale_down),
    ];
    sides
        .into_iter()
        .filter_map(|(name, rules)| Some((name.to_owned(), rules_value(rules.as_ref()?))))
        .collect()
}

fn rules_value(rules: &ScalingRules) -> Value {
    let mut value = Map::new();
    let mut set = |name: &str, field: Option<Value>| {
        if let Some(field) = field {
            value.insert(name.to_owned(), field);
        }
    };
    set(
        "stabilizationWindowSeconds",
        rules.stabilization_window_seconds.map(Value::from),
    );
    set("selectPolicy", rules.select_policy.clone().map(Value::from));
    set("tolerance", rules.tolerance.clone().map(Value::from));
    let policy = |p: &ScalingPolicy| json!({"type": p.kind, "value": p.value, "periodSeconds": p.period_seconds});
    set(
        "policies",
        rules
            .policies
            .as_ref()
            .map(|policies| policies.iter().map(policy).collect()),
    );
    Value::Object(value)
}

/// Reads one HPA as the API server sends it.
///
/// # Errors
/// When the bytes are no HPA with a `metadata.name`.
pub fn from_slice(json: &[u8]) -> Result<ObservedHpa, Unreadable> {
    let wire: WireHpa =
        serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))?;
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
    resource: Option<WireResource>,
    container_resource: Option<WireResource>,
}

#[derive(Deserialize)]
struct WireExternal {
    metric: WireIdentifier,
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
    match_labels: BTreeMap<String, String>,
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
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let controller = metadata
            .owner_references
            .into_iter()
            .find(|owner| owner.controller == Some(true));
        ObservedHpa {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            labels: metadata.labels,
            annotations: metadata.annotations,
            controller: controller
                .map(|owner| (owner.api_version, owner.kind, owner.name, owner.uid)),
            min_replicas: spec.min_replicas,
            max_replicas: spec.max_replicas,
            target: TargetRef {
                api_version: spec.scale_target_ref.api_version,
                kind: spec.scale_target_ref.kind,
                name: spec.scale_target_ref.name,
                env_source_container: None,
            },
            metrics: spec
                .metrics
                .into_iter()
                .map(WireMetric::into_model)
                .collect(),
            behavior: spec.behavior.map(|behavior| Behavior {
                scale_up: behavior.scale_up.map(WireRules::into_model),
                scale_down: behavior.scale_down.map(WireRules::into_model),
            }),
            deletion_requested: metadata.deletion_timestamp.is_some(),
            current_replicas: status.current_replicas,
            desired_replicas: status.desired_replicas,
            conditions: status
                .conditions
                .into_iter()
                .map(|c| (c.kind, c.status, c.reason, c.message))
                .collect(),
            current_metrics_json: status
                .current_metrics
                .map(|metrics| metrics.to_string())
                .unwrap_or_default(),
        }
    }
}

impl WireMetric {
    fn into_model(self) -> HpaMetric {
        let Self {
            kind,
            external,
            resource,
            container_resource,
        } = self;
        let read = match (&*kind, external, resource, container_resource) {
            ("External", Some(external), ..)
                if external.metric.selector.match_expressions.is_empty() =>
            {
                external
                    .target
                    .into_model()
                    .map(|target| HpaMetric::External {
                        name: external.metric.name,
                        match_labels: external.metric.selector.match_labels,
                        target,
                    })
            }
            ("Resource", _, Some(resource), _) => {
                resource
                    .target
                    .into_model()
                    .map(|target| HpaMetric::Resource {
                        name: resource.name,
                        target,
                    })
            }
            ("ContainerResource", _, _, Some(resource)) => {
                resource
                    .target
                    .into_model()
                    .map(|target| HpaMetric::ContainerResource {
                        container: resource.container,
                        name: resource.name,
                        target,
                    })
            }
            _ => None,
        };
        read.unwrap_or(HpaMetric::Other(kind))
    }
}

impl WireMetricTarget {
    fn into_model(self) -> Option<MetricTarget> {
        match self {
            Self {
                average_value: Some(text),
                ..
            } => parse_milli(&text).map(MetricTarget::AverageValue),
            Self {
                value: Some(text), ..
            } => parse_milli(&text).map(MetricTarget::Value),
            Self {
                average_utilization,
                ..
            } => average_utilization.map(MetricTarget::Utilization),
        }
    }
}

impl WireRules {
    fn into_model(self) -> ScalingRules {
        let policy = |p: WirePolicy| ScalingPolicy {
            kind: p.kind,
            value: p.value,
            period_seconds: p.period_seconds,
        };
        ScalingRules {
            stabilization_window_seconds: self.stabilization_window_seconds,
            select_policy: self.select_policy,
            policies: self
                .policies
                .map(|policies| policies.into_iter().map(policy).collect()),
            tolerance: self.tolerance,
        }
    }
}
