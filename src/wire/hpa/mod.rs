//! Writes HorizontalPodAutoscalers of `autoscaling/v2` as JSON. Reading is in `read`; in `annotated` what an HPA asks for by
//! annotations, and in `observed` what is remembered of any other one.

pub mod annotated;
pub mod observed;
mod read;

use k8s_openapi::api::autoscaling::v2 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::scaling::hpa::{DesiredHpa, HpaMetric};
use crate::scaling::model::MetricTarget;
use crate::scaling::model::{ScalingPolicy, ScalingRules};
use crate::scaling::quantity;
use crate::wire::Unreadable;

pub use read::from_slice;

/// Returns the body of a server-side apply.
#[must_use]
pub fn to_apply(desired: &DesiredHpa) -> Value {
    json!(api::HorizontalPodAutoscaler {
        metadata: ObjectMeta {
            name: Some(desired.name.clone()),
            namespace: Some(desired.namespace.clone()),
            // Present even if empty: an apply that no longer has a label removes it.
            labels: Some(desired.labels.clone().into_iter().collect()),
            annotations: Some(desired.annotations.clone().into_iter().collect()),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{}/v1alpha1", desired.owner.key.group.name()),
                kind: "ScaledObject".to_owned(),
                name: desired.owner.key.name.to_string(),
                uid: desired.owner.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(desired)),
        status: None,
    })
}

/// Returns the body of a full update of the observed version.
#[must_use]
pub fn to_replace(desired: &DesiredHpa, resource_version: &str) -> Value {
    let mut body = to_apply(desired);
    body["metadata"]["resourceVersion"] = json!(resource_version);
    body
}

fn spec(desired: &DesiredHpa) -> api::HorizontalPodAutoscalerSpec {
    let behavior = desired.behavior.as_ref().map(|behavior| api::HorizontalPodAutoscalerBehavior {
        scale_up: behavior.scale_up.as_ref().map(rules),
        scale_down: behavior.scale_down.as_ref().map(rules),
    });
    api::HorizontalPodAutoscalerSpec {
        min_replicas: Some(int32(desired.min_replicas)),
        max_replicas: int32(desired.max_replicas),
        scale_target_ref: api::CrossVersionObjectReference {
            api_version: Some(desired.target.api_version.clone()),
            kind: desired.target.kind.clone(),
            name: desired.target.name.clone(),
        },
        metrics: Some(desired.metrics.iter().filter_map(metric).collect()),
        behavior,
    }
}

/// Counts are `int32` on the wire; larger ones are refused when they are read.
fn int32(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn metric(metric: &HpaMetric) -> Option<api::MetricSpec> {
    let mut spec = api::MetricSpec { type_: metric.type_name().to_owned(), ..api::MetricSpec::default() };
    match metric {
        HpaMetric::External { name, match_labels, target } => {
            let selector = LabelSelector {
                match_labels: Some(match_labels.clone().into_iter().collect()),
                match_expressions: None,
            };
            spec.external = Some(api::ExternalMetricSource {
                metric: api::MetricIdentifier { name: name.clone(), selector: Some(selector) },
                target: metric_target(*target, quantity::text),
            });
        }
        HpaMetric::Resource { name, target } => {
            spec.resource = Some(api::ResourceMetricSource {
                name: name.clone(),
                target: metric_target(*target, quantity::short_text),
            });
        }
        HpaMetric::ContainerResource { container, name, target } => {
            spec.container_resource = Some(api::ContainerResourceMetricSource {
                container: container.clone(),
                name: name.clone(),
                target: metric_target(*target, quantity::short_text),
            });
        }
        HpaMetric::Object { .. } | HpaMetric::Pods { .. } | HpaMetric::Other { .. } => return None,
    }
    Some(spec)
}

fn metric_target(target: MetricTarget, text: fn(i128) -> String) -> api::MetricTarget {
    let mut wire = api::MetricTarget::default();
    match target {
        MetricTarget::AverageValue(milli) => {
            "AverageValue".clone_into(&mut wire.type_);
            wire.average_value = Some(Quantity(text(milli)));
        }
        MetricTarget::Value(milli) => {
            "Value".clone_into(&mut wire.type_);
            wire.value = Some(Quantity(text(milli)));
        }
        MetricTarget::Utilization(percent) => {
            "Utilization".clone_into(&mut wire.type_);
            wire.average_utilization = Some(percent);
        }
    }
    wire
}

fn rules(rules: &ScalingRules) -> api::HPAScalingRules {
    let policy = |policy: &ScalingPolicy| api::HPAScalingPolicy {
        type_: policy.kind.clone(),
        value: policy.value,
        period_seconds: policy.period_seconds,
    };
    api::HPAScalingRules {
        stabilization_window_seconds: rules.stabilization_window_seconds,
        select_policy: rules.select_policy.clone(),
        tolerance: rules.tolerance.clone().map(Quantity),
        policies: rules.policies.as_ref().map(|policies| policies.iter().map(policy).collect()),
    }
}
