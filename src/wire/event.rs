//! Kubernetes Events of `events.k8s.io/v1`, shortened to the API's limits, since the API server would refuse one that
//! is too long.

use serde_json::{Value, json};

use super::time::format_micros;
use crate::encode::cut;
use crate::scaling::event::KubeEvent;

/// Limits of the API server's validation, in bytes.
const NOTE_BYTES_MAX: usize = 1024;
const ACTION_BYTES_MAX: usize = 128;
const INSTANCE_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 253;

const CONTROLLER: &str = "hpalite";

/// Returns the namespace in which an event must be created.
#[must_use]
pub fn namespace(event: &KubeEvent) -> &str {
    // By the API's convention, events about cluster-scoped objects are in `default`.
    if event.regarding.namespace.is_empty() { "default" } else { &event.regarding.namespace }
}

/// Returns the body of a create request. The event's name contains `at_unix_micros`, so no two events about an object
/// may have the same; `instance` is the pod's name.
#[must_use]
pub fn to_value(event: &KubeEvent, at_unix_micros: i64, instance: &str) -> Value {
    let suffix = format!(".{at_unix_micros:x}");
    let regarding = &event.regarding;
    let stem = cut(&regarding.name, NAME_BYTES_MAX - suffix.len()).trim_end_matches(['.', '-']);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{stem}{suffix}"), "namespace": namespace(event)},
        "eventTime": format_micros(at_unix_micros),
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "action": cut(event.action, ACTION_BYTES_MAX),
        "note": cut(&event.note, NOTE_BYTES_MAX),
        "reportingController": CONTROLLER,
        "reportingInstance": cut(if instance.is_empty() { CONTROLLER } else { instance }, INSTANCE_BYTES_MAX),
        "regarding": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
            "resourceVersion": regarding.resource_version,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::event::ObjectReference;

    fn event(note: &str, namespace: &str, name: &str) -> KubeEvent {
        KubeEvent {
            regarding: ObjectReference {
                api_version: "keda.sh/v1alpha1".to_owned(),
                kind: "ScaledObject",
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: "u".to_owned(),
                resource_version: "7".to_owned(),
            },
            warning: true,
            reason: "KEDAScalerFailed",
            action: "Polling",
            note: note.to_owned(),
        }
    }

    #[test]
    fn an_event() {
        let body = to_value(&event("it failed", "shop", "web"), 1_767_323_045_000_042, "hpalite-0");
        assert_eq!(
            body,
            json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "web.6475ef64cf36a", "namespace": "shop"},
                "eventTime": "2026-01-02T03:04:05.000042Z",
                "type": "Warning",
                "reason": "KEDAScalerFailed",
                "action": "Polling",
                "note": "it failed",
                "reportingController": "hpalite",
                "reportingInstance": "hpalite-0",
                "regarding": {
                    "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "namespace": "shop", "name": "web",
                    "uid": "u", "resourceVersion": "7",
                },
            })
        );
    }

    #[test]
    fn limits_are_kept_at_character_boundaries() {
        let body = to_value(&event(&"ä".repeat(600), "", &"n".repeat(253)), 1, "");
        let length = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map_or(0, str::len);
        assert_eq!(length("/note"), 1024);
        assert_eq!(length("/metadata/name"), 253);
        assert_eq!(body["metadata"]["namespace"], "default");
        let odd = to_value(&event(&format!("x{}", "ä".repeat(600)), "", "n"), 1, "");
        assert_eq!(odd["note"].as_str().map(str::len), Some(1023));
    }
}
