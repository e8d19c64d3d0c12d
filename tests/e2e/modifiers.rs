//! Formulas of `advanced.scalingModifiers` with the real HPA controller.

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::wait_seeing;

fn named(source: &Source, name: &str) -> Value {
    let mut trigger = source.trigger("1");
    trigger["name"] = name.into();
    trigger
}

/// Reads the composite metric.
fn composite(case: &Case<'_>) -> Result<Value, String> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/composite-metric?labelSelector=scaledobject.keda.sh%2Fname%3Dso",
        case.namespace
    );
    case.cluster.raw(&path).map(|list| list["items"][0]["value"].clone())
}

fn wait_for_composite(case: &Case<'_>, value: &str) {
    wait_seeing(&format!("the formula to give {value}"), || match composite(case) {
        Ok(found) if found == value => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
}

/// Based on KEDA's own test of its scaling modifiers.
#[test]
fn beside_a_formula_no_trigger_needs_a_target() {
    let case = Case::new("formula-targets").deployment(1);
    let source = Source::new(4.0);
    let prometheus = json!({ "type": "prometheus", "name": "queue", "metadata": { "serverAddress": source.url(), "query": "load" } });
    let pods = json!({ "type": "kubernetes-workload", "name": "workers", "metadata": { "podSelector": "app=worker" } });
    case.scale(
        "so",
        json!({
            "minReplicaCount": 1,
            "triggers": [prometheus, pods],
            "advanced": { "scalingModifiers": { "formula": "queue + workers + 2", "target": "2" } },
        }),
    );
    case.wait_for_replicas(3);
    source.set(8.0);
    case.wait_for_replicas(5);
    case.wait_until_ready();
}

#[test]
fn a_formula_of_two_triggers_drives_the_hpa_and_survives_a_failure() {
    let case = Case::new("formula").deployment(1);
    let (requests, queue) = (Source::new(40.0), Source::new(3.0));
    case.scale(
        "so",
        json!({
            "minReplicaCount": 1,
            "triggers": [named(&requests, "requests"), named(&queue, "queue")],
            "advanced": { "scalingModifiers": { "formula": "max(requests / 10, queue ?? 0)", "target": "1" } },
            "fallback": { "failureThreshold": 1, "replicas": 9, "behavior": "scalingModifiers" },
        }),
    );
    case.wait_for_replicas(4);
    let metrics = &case.hpa().unwrap()["spec"]["metrics"];
    assert_eq!(metrics.as_array().unwrap().len(), 1, "{metrics}");
    assert_eq!(metrics[0]["external"]["metric"]["name"], "composite-metric");
    assert_eq!(metrics[0]["external"]["target"], json!({ "type": "AverageValue", "averageValue": "1" }));
    assert_eq!(case.object("so")["status"]["compositeScalerName"], "composite-metric");

    queue.set(6.0);
    case.wait_for_replicas(6);
    // The queue's metric server is down: the formula reads nil, and has a substitute.
    queue.set(None);
    wait_for_composite(&case, "4");
    case.wait_for_replicas(4);
    case.wait_for_condition("Fallback", "True", "FallbackExists");
    case.wait_until_ready();
    case.wait_for_event("KEDAMetricSourceFailed", "answered status 503");
    // There is no substitute for the other one: nothing moves, and the HPA says why.
    requests.set(None);
    case.wait_for_hpa_condition("False", "requests is nil: ");
    let message = case.wait_for_condition("Ready", "False", "TriggerError");
    assert_eq!(message, "Triggers defined in ScaledObject are not working correctly");
    assert_eq!(case.replicas(), 4);
    requests.set(50.0);
    case.wait_for_replicas(5);

    // The history has the formula with its numbers, and its results.
    let sql = |statement: &str| daemon().1.sql(&statement.replace("NAMESPACE", &case.namespace));
    wait_seeing("the history of the formula", || {
        let decisions =
            sql("SELECT formula FROM v_decision_trigger WHERE namespace = 'NAMESPACE' AND formula NOT NULL");
        let samples = sql(
            "SELECT DISTINCT value FROM v_sample WHERE namespace = 'NAMESPACE' AND metric_name = 'composite-metric'",
        );
        let has = |rows: &[Value], column: &str, wanted: Value| rows.iter().any(|row| row[column] == wanted);
        let complete = has(&decisions, "formula", "max(40 / 10, 3 ?? 0) = 4".into())
            && [4.0, 5.0, 6.0].into_iter().all(|value| has(&samples, "value", value.into()));
        if complete { Ok(()) } else { Err(format!("{decisions:?} {samples:?}")) }
    });
}

#[test]
fn the_result_activates_above_activation_target() {
    let case = Case::new("formula-active").deployment(0);
    let (a, b) = (Source::new(5.0), Source::new(3.0));
    case.scale(
        "so",
        json!({
            "triggers": [named(&a, "a"), named(&b, "b")],
            "advanced": { "scalingModifiers": { "formula": "a - b", "target": "1", "activationTarget": "2" } },
        }),
    );
    wait_for_composite(&case, "2");
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    a.asked(3);
    assert_eq!(case.replicas(), 0, "2 is not above 2, though both triggers are active");
    a.set(6.0);
    case.wait_for_replicas(3);
    case.wait_for_event("KEDAScaleTargetActivated", "from 0 to 1, triggered by composite-metric");
    b.set(8.0);
    wait_for_composite(&case, "0");
    case.wait_for_replicas(0);
}

/// The HPA controller would take a negative number for a huge one.
#[test]
fn a_result_below_zero_scales_in_and_never_out() {
    let case = Case::new("formula-negative").deployment(1);
    let (a, b) = (Source::new(6.0), Source::new(3.0));
    case.scale(
        "so",
        json!({
            "minReplicaCount": 1, "maxReplicaCount": 8,
            "triggers": [named(&a, "a"), named(&b, "b")],
            "advanced": {
                "scalingModifiers": { "formula": "a - b", "target": "1" },
                "horizontalPodAutoscalerConfig": { "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } } },
            },
        }),
    );
    case.wait_for_replicas(3);
    b.set(9.0);
    case.wait_for_replicas(1);
    let results = || {
        daemon().1.sql(&format!(
            "SELECT DISTINCT value FROM v_sample WHERE namespace = '{}' AND metric_name = 'composite-metric' AND value < 0",
            case.namespace
        ))
    };
    wait_seeing("the history to know what the formula really gave", || match results() {
        rows if rows.iter().any(|row| row["value"] == json!(-3.0)) => Ok(()),
        rows => Err(format!("{rows:?}")),
    });
}

#[test]
fn a_bad_formula_is_reported_with_its_column() {
    let case = Case::new("formula-bad").deployment(1);
    let source = Source::new(5.0);
    let spec = |modifiers: Value| json!({ "triggers": [named(&source, "web_rps")], "advanced": { "scalingModifiers": modifiers } });
    let without_target = case.scaled_object("so", spec(json!({ "formula": "web_rps" })));
    let refused = case.cluster.try_apply(&without_target.to_string()).expect_err("a formula needs a target");
    assert!(refused.contains("a formula needs a target"), "{refused}");
    case.scale("so", spec(json!({ "formula": "2 * wep_rps", "target": "5" })));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert_eq!(
        message,
        "failed to ensure HPA is correctly created for ScaledObject: spec.advanced.scalingModifiers.formula: \
         formula, column 5: unknown name \"wep_rps\", did you mean \"web_rps\"? (trigger names: web_rps)"
    );
    case.wait_for_event("ScaledObjectCheckFailed", "column 5");
    assert!(case.hpa().is_none());
    case.scale("so", spec(json!({ "formula": "2 * web_rps", "target": "5" })));
    case.wait_for_replicas(2);
    // And back from a formula to the trigger itself.
    case.scale("so", json!({ "triggers": [source.trigger("1")], "advanced": null }));
    case.wait_for_replicas(5);
    assert_eq!(case.hpa().unwrap()["spec"]["metrics"][0]["external"]["metric"]["name"], "s0-prometheus");
    wait_seeing("compositeScalerName to go", || match &case.object("so")["status"]["compositeScalerName"] {
        Value::Null => Ok(()),
        seen => Err(seen.to_string()),
    });
}
