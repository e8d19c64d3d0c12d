//! Reads workloads in the files for what triggers depend on: the resources that their containers request.

use serde_json::Value;

use crate::scaling::model::TargetRef;
use crate::wire::quantity::parse_milli;

pub(super) struct Workload {
    /// The namespace that `kubectl apply` would use.
    pub(super) namespace: String,
    pub(super) target: TargetRef,
    pub(super) containers: Vec<Container>,
}

pub(super) struct Container {
    pub(super) name: String,
    /// Which of `cpu` and `memory` it requests; a limit without a request counts as one.
    pub(super) requested: Vec<&'static str>,
}

/// Returns `None` for anything but a Deployment or a StatefulSet.
pub(super) fn read(object: &Value) -> Option<Workload> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").filter(|kind| matches!(*kind, "Deployment" | "StatefulSet"))?;
    let api_version = text("/apiVersion").filter(|version| *version == "apps/v1")?;
    let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array)?;
    Some(Workload {
        namespace: text("/metadata/namespace").unwrap_or("default").to_owned(),
        target: TargetRef {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: text("/metadata/name")?.to_owned(),
            env_source_container: None,
        },
        containers: containers.iter().filter_map(container).collect(),
    })
}

fn container(container: &Value) -> Option<Container> {
    let name = container.get("name").and_then(Value::as_str)?.to_owned();
    let is_positive = |quantity: &Value| match quantity {
        Value::String(text) => parse_milli(text).is_some_and(|milli| milli > 0),
        other => other.as_f64().is_some_and(|number| number > 0.0),
    };
    let is_requested = |resource: &&str| {
        let kinds = ["requests", "limits"].map(|kind| container.pointer(&format!("/resources/{kind}/{resource}")));
        kinds.into_iter().flatten().any(is_positive)
    };
    Some(Container { name, requested: ["cpu", "memory"].into_iter().filter(is_requested).collect() })
}
