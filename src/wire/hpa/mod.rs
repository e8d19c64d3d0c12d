//! HorizontalPodAutoscalers of `autoscaling/v2`: what we want, as JSON. Reading is in `read`.

mod read;

use serde_json::{Map, Value, json};

use super::quantity::format_milli;
use crate::scaling::hpa::{DesiredHpa, HpaMetric, MetricTarget};
use crate::scaling::model::{Behavior, ScalingPolicy, ScalingRules};

pub use read::from_slice;

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
