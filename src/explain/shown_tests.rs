//! Tests explanations of HPAs that are only observed.

use serde_json::{Value, json};

use super::*;
use crate::store::SampleValue;
use crate::store::read::{DefinitionRow, ErrorRow, HpaRow, RunRow, SeriesRow};

const NOW: i64 = 1_767_268_800_000;
const BEGIN: i64 = NOW - 3_600_000;

/// An HPA from 2 to 9 replicas whose only metric, of this type and target, has these samples.
fn evidence(kind: &str, metric_type: &str, target: f64, samples: &[(i64, f64)]) -> Evidence {
    let trigger = json!({"type": kind, "metricType": metric_type,
        "metadata": {"metricName": "m", "metric": "m", "threshold": target.to_string()}});
    let spec = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicaCount": 2, "maxReplicaCount": 9, "triggers": [trigger],
    });
    Evidence {
        group: Some(ApiGroup::Autoscaling),
        definitions: vec![DefinitionRow { generation: 1, at: BEGIN, spec_json: spec.to_string(), invalid: None }],
        runs: vec![RunRow {
            version: "0".to_owned(),
            started_at: BEGIN,
            stopped_at: None,
            state: "running".to_owned(),
            stood_by_until: None,
        }],
        series: vec![SeriesRow {
            id: 1,
            trigger: 0,
            kind: kind.to_owned(),
            name: None,
            metric_name: "m".to_owned(),
            threshold: target,
            activation_threshold: 0.0,
            from: BEGIN,
            until: None,
            server: "HPA controller".to_owned(),
            query: "m".to_owned(),
        }],
        samples: [(1, samples.iter().map(|(at, value)| (NOW + at, SampleValue::Number(*value))).collect())].into(),
        ..Evidence::default()
    }
    .with_change(-600_000, None, 2, "hpa")
}

impl Evidence {
    fn with_status(mut self, at: i64, (current, desired): (i64, i64), conditions: &Value) -> Self {
        let (conditions_json, metrics_json) = (conditions.to_string(), "[]".to_owned());
        self.hpa.push(HpaRow { at: NOW + at, current, desired, conditions_json, metrics_json });
        self
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

fn now(evidence: &Evidence) -> Explanation {
    explain("shop", "web", evidence, None, NOW)
}

#[test]
fn a_change_is_explained_by_the_status_that_follows_it() {
    let active = json!([condition("ScalingActive", "True", "ValidMetricFound", "m")]);
    let evidence = evidence("Resource", "Utilization", 60.0, &[(-20_000, 60.0), (-4_900, 110.0)])
        .with_status(-20_000, (2, 2), &active)
        .with_change(-5_000, Some(2), 4, "hpa")
        .with_status(-4_900, (2, 4), &active);
    let report = now(&evidence);
    assert_eq!(report.entries[0].text, "2→4 by the HPA: m 110 % / 60 % → 4");
    let change = report.entries[0].change.as_ref().expect("a change");
    assert_eq!((change.driven_by.as_deref(), change.metrics[0].metric_type), (Some("m"), Some("Utilization")));
    // The value was measured with two replicas, and asks for no more than there are now.
    assert_eq!(report.metrics[0].exact, Some(4));
    assert!(report.held_by.is_empty(), "{:?}", report.held_by);
    assert_eq!(report.rest, "nothing holds it: it is as many as the metrics ask for");
}

#[test]
fn a_limit_of_the_hpa_is_named_with_the_metric() {
    let limited = json!([condition("ScalingLimited", "True", "ScaleUpLimit", "")]);
    let evidence = evidence("Pods", "AverageValue", 10.0, &[(-4_900, 50.0)])
        .with_change(-5_000, Some(2), 6, "hpa")
        .with_status(-4_900, (2, 6), &limited);
    let report = now(&evidence);
    assert_eq!(
        report.entries[0].text,
        "2→6 by the HPA: m 50 / 10 per replica → 10; limited by the scale-up policy to +4"
    );
}

#[test]
fn bounds_move_replicas_without_a_metric_and_the_hpa_says_what_it_cannot_read() {
    let says = "the HPA was unable to compute the replica count: no metrics returned";
    let failing = json!([
        condition("AbleToScale", "True", "SucceededRescale", ""),
        condition("ScalingActive", "False", "FailedGetResourceMetric", says),
    ]);
    let mut evidence = evidence("Resource", "Utilization", 60.0, &[])
        .with_status(-20_000, (1, 1), &failing)
        .with_change(-5_000, Some(1), 2, "hpa")
        .with_status(-4_900, (1, 2), &failing);
    let error = ErrorRow {
        outcome: "missing".to_owned(),
        message: says.to_owned(),
        from: NOW - 20_000,
        last_at: NOW - 20_000,
        until: None,
        polls: 1,
    };
    evidence.errors.push((1, error));
    evidence.samples.insert(1, vec![(NOW - 20_000, SampleValue::Outcome("missing".into()))]);
    let report = now(&evidence);
    assert_eq!(report.entries[0].text, "1→2 by the HPA: the minimum of 2");
    let held: Vec<&str> = report.held_by.iter().map(|held| held.text.as_str()).collect();
    assert_eq!(held, [format!("the HPA, ScalingActive=False FailedGetResourceMetric: {says}")], "said once");
    assert!(report.text().contains("metric m: in error since"), "{}", report.text());
    // While other metrics are read, the HPA itself says nothing of it.
    evidence.hpa.clear();
    let held: Vec<String> = now(&evidence).held_by.into_iter().map(|held| held.by).collect();
    assert_eq!(held, ["error"]);
}

/// The controller acts on an edit of its HPA at once, so that what it does may be seen first.
#[test]
fn an_edit_of_the_bounds_may_be_seen_after_what_it_caused() {
    for (at, expected) in [(-4_800, "2→3 by the HPA: the minimum of 3"), (4_000, "2→3 by the HPA")] {
        let mut evidence = evidence("Resource", "Utilization", 60.0, &[]).with_change(-5_000, Some(2), 3, "hpa");
        let spec_json = evidence.definitions[0].spec_json.replace("\"minReplicaCount\":2", "\"minReplicaCount\":3");
        evidence.definitions.push(DefinitionRow { generation: 2, at: NOW + at, spec_json, invalid: None });
        let report = now(&evidence);
        assert!(report.entries.iter().any(|entry| entry.text == expected), "{at}: {}", report.text());
    }
}

#[test]
fn what_holds_is_what_the_hpa_says() {
    let stable = json!([condition("AbleToScale", "True", "ScaleDownStabilized", "")]);
    let evidence = |conditions: &Value| {
        evidence("External", "AverageValue", 50.0, &[(-60_000, 33.334)])
            .with_change(-500_000, Some(2), 3, "hpa")
            .with_status(-60_000, (3, 3), conditions)
    };
    let report = now(&evidence(&stable));
    assert_eq!(
        (report.metrics[0].exact, report.metrics[0].proposal),
        (Some(2), Some(2)),
        "100 in all, and not 100.002"
    );
    let held = &report.held_by[0];
    assert_eq!((held.by.as_str(), held.seconds_left), ("stabilization", None), "{held:?}");
    assert_eq!(held.text, "the HPA says ScaleDownStabilized: m 33.334 / 50 per replica → 2");
    // Without its word nothing is claimed, however old the sample.
    let report = now(&evidence(&json!([])));
    assert!(report.held_by.is_empty(), "{:?}", report.held_by);
    assert!(report.rest.starts_with("nothing is known to hold it: the metrics ask for 2"), "{}", report.rest);
}
