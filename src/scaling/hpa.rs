//! The HorizontalPodAutoscaler we want and the one that is there.

use std::collections::BTreeMap;

use super::model::{Behavior, ObjectKey, TargetRef};

/// The parts of an `autoscaling/v2` HPA that hpalite sets.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredHpa {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner: Owner,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// apiVersion, kind and name; nothing else is used.
    pub target: TargetRef,
    pub metrics: Vec<HpaMetric>,
    pub behavior: Option<Behavior>,
}

/// Controller owner reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub key: ObjectKey,
    pub uid: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HpaMetric {
    External { name: String, match_labels: BTreeMap<String, String>, target: MetricTarget },
    Resource { name: String, target: MetricTarget },
    ContainerResource { container: String, name: String, target: MetricTarget },
    /// A kind of metric that hpalite never sets; only ever observed.
    Other(String),
}

/// Quantities as milli units, so that `1`, `1000m` and `1.000` compare equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricTarget {
    AverageValue(i128),
    Value(i128),
    Utilization(i32),
}

/// An HPA as its watch shows it, reduced to what is compared, mirrored or recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedHpa {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Controller owner reference, if any: apiVersion, kind, name, uid.
    pub controller: Option<(String, String, String, String)>,
    pub min_replicas: Option<u32>,
    pub max_replicas: u32,
    pub target: TargetRef,
    pub metrics: Vec<HpaMetric>,
    pub behavior: Option<Behavior>,
    pub deletion_requested: bool,
    pub current_replicas: i32,
    pub desired_replicas: i32,
    /// type, status, reason, message.
    pub conditions: Vec<(String, String, String, String)>,
    /// `status.currentMetrics` as JSON text, keys sorted; for the history only.
    pub current_metrics_json: String,
}
