//! Changed and invalid definitions.

use serde_json::json;

use super::case::{Case, Source};

#[test]
fn a_changed_definition_takes_effect_at_once() {
    let case = Case::new("changed").deployment(0);
    let (first, second) = (Source::new(30.0), Source::new(60.0));
    case.scale("so", json!({ "pollingInterval": 1, "triggers": [first.trigger("10")] }));
    case.wait_for_replicas(3);
    case.scale(
        "so",
        json!({ "pollingInterval": 60, "minReplicaCount": 2, "maxReplicaCount": 5, "triggers": [second.trigger("10")] }),
    );
    // Five: the new source and the new maximum apply without waiting for the new interval.
    case.wait_for_replicas(5);
    let spec = case.hpa().unwrap()["spec"].clone();
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&2.into(), &5.into()));
    let asked = first.requests().len();
    second.set(0.0);
    // The HPA reads fresh values at its own pace, whatever the interval is.
    case.wait_for_replicas(2);
    assert_eq!(first.requests().len(), asked, "nobody asks the old one");
}

#[test]
fn a_wrong_definition_is_reported_with_its_field_and_moves_nothing() {
    let case = Case::new("wrong").deployment(0);
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    let hpa = case.hpa().unwrap();
    let with_timeout = |text: &str| {
        let mut trigger = source.trigger("10");
        trigger["metadata"]["timeout"] = text.into();
        json!({ "triggers": [trigger] })
    };
    for text in ["30s", "30000", " 0.5m ", ""] {
        case.scale("so", with_timeout(text));
    }
    // What can be judged without the cluster's state is refused at admission.
    for (spec, words) in [
        (json!({ "triggers": [source.trigger("ten")] }), "must be a JSON number in quotes"),
        (json!({ "triggers": [] }), "triggers"),
        (with_timeout("30001"), "must be at most 30 seconds"),
        (with_timeout("24h"), "must be at most 30 seconds"),
        (with_timeout("0.5m1ms"), "must be at most 30 seconds"),
    ] {
        let refused = case.cluster.try_apply(&case.scaled_object("so", spec).to_string()).expect_err("it is wrong");
        assert!(refused.contains(words), "{refused}");
    }
    let mut trigger = source.trigger("10");
    trigger["metadata"]["customHeaders"] = "no-equals-sign".into();
    case.scale("so", json!({ "triggers": [trigger] }));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("customHeaders"), "{message}");
    case.wait_for_event("ScaledObjectCheckFailed", "customHeaders");
    case.wait_for_condition("Active", "Unknown", "UnknownState");
    // The HPA reports the same, and holds.
    case.wait_for_hpa_condition("False", "customHeaders");
    assert_eq!(case.replicas(), 3);
    assert_eq!(case.hpa().unwrap()["spec"], hpa["spec"]);
    case.scale("so", json!({ "triggers": [source.trigger("5")] }));
    case.wait_until_ready();
    case.wait_for_replicas(6);
}
