//! Helpers for objects that are read as JSON, by those who look at many kinds and need little of each.

use serde_json::Value;

/// A text, empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The entries of a list, none where there is none.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An entry of `status.conditions`.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions").iter().find(|condition| condition["type"] == kind)
}

/// Whether a Service leads to the pods of a workload. One without a selector leads to nobody's.
pub(crate) fn selects(service: &Value, workload: &Value) -> bool {
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    selector.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
}

/// Whether one of these EndpointSlices has a ready endpoint; what is not said is ready, as the API has it.
pub(crate) fn has_ready_endpoint(slices: &[Value]) -> bool {
    let is_ready = |endpoint: &Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
    slices.iter().any(|slice| items(slice, "/endpoints").iter().any(is_ready))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_selects_by_all_its_labels() {
        let workload = json!({ "spec": { "template": { "metadata": { "labels": { "a": "1", "b": "2" } } } } });
        for (selector, expected) in [
            (json!({ "a": "1" }), true),
            (json!({ "a": "1", "b": "2" }), true),
            (json!({ "a": "1", "c": "3" }), false),
            (json!({ "a": "2" }), false),
            (json!({}), false),
            (json!(null), false),
        ] {
            assert_eq!(selects(&json!({ "spec": { "selector": selector } }), &workload), expected, "{selector}");
        }
    }

    #[test]
    fn an_endpoint_is_ready_unless_it_says_otherwise() {
        let slice = |endpoints: Value| json!({ "endpoints": endpoints });
        assert!(has_ready_endpoint(&[slice(json!(null)), slice(json!([{ "addresses": ["192.0.2.1"] }]))]));
        assert!(!has_ready_endpoint(&[slice(json!([{ "conditions": { "ready": false } }]))]));
        assert!(!has_ready_endpoint(&[]));
    }
}
