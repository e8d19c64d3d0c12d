//! The HPA of a ScaledObject: what it says, and that it goes on saying so.

use serde_json::json;

use super::case::{Case, Source};
use super::{Exclusive, exclusive};
use crate::support::cluster::{Daemon, wait_for, wait_seeing};

fn running(purpose: &str, spec: serde_json::Value) -> (Case<'static>, Source) {
    let case = Case::with_deployment(purpose, 1);
    let source = Source::new(30.0);
    let mut full = json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] });
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    case.scale("so", full);
    case.wait_until_ready();
    case.wait_for_hpa();
    (case, source)
}

#[test]
fn hand_edits_are_undone() {
    let behavior = json!({ "scaleDown": { "stabilizationWindowSeconds": 7 } });
    let (case, _source) =
        running("drift", json!({ "advanced": { "horizontalPodAutoscalerConfig": { "behavior": behavior } } }));
    let edit = json!({
        "metadata": { "labels": { "app.kubernetes.io/part-of": "x", "mine": "kept" } },
        "spec": { "maxReplicas": 99, "behavior": { "scaleDown": { "stabilizationWindowSeconds": 1 }, "scaleUp": { "selectPolicy": "Disabled" } } },
    });
    case.kubectl(&["patch", "hpa", "keda-hpa-so", "--type=merge", "-p", &edit.to_string()]);
    wait_seeing("the edit to be undone", || {
        let hpa = case.hpa().ok_or("no HPA")?;
        let spec = &hpa["spec"];
        let as_wanted = spec["maxReplicas"] == 20
            && spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 7
            && spec["behavior"]["scaleUp"]["selectPolicy"] != "Disabled"
            && hpa["metadata"]["labels"]["app.kubernetes.io/part-of"] == "so";
        as_wanted.then_some(()).ok_or_else(|| hpa.to_string())
    });
    // Behavior that the object does not ask for goes, too.
    let (case, _source) = running("drift-bare", json!({}));
    let edit = json!({ "spec": { "behavior": { "scaleUp": { "selectPolicy": "Disabled" } } } });
    case.kubectl(&["patch", "hpa", "keda-hpa-so", "--type=merge", "-p", &edit.to_string()]);
    wait_seeing("the behavior to be gone", || {
        let spec = case.hpa().ok_or("no HPA")?["spec"].clone();
        (spec["behavior"]["scaleUp"]["selectPolicy"] != "Disabled").then_some(()).ok_or_else(|| spec.to_string())
    });
}

#[test]
fn a_deleted_hpa_comes_back() {
    let (case, source) = running("deleted", json!({}));
    let before = case.wait_for_hpa()["metadata"]["uid"].clone();
    case.kubectl(&["delete", "hpa", "keda-hpa-so"]);
    wait_for("another HPA", || (case.hpa()?["metadata"]["uid"] != before).then_some(()));
    source.set(50.0);
    case.wait_for_replicas(5);
}

#[test]
fn its_name_can_be_changed() {
    let (case, source) = running("rename", json!({}));
    let spec = json!({
        "minReplicaCount": 1, "triggers": [source.trigger("10")],
        "advanced": { "horizontalPodAutoscalerConfig": { "name": "mine" } },
    });
    case.scale("so", spec);
    wait_for("the HPA under its new name", || case.get("hpa", "mine"));
    case.wait_until_hpa_is_gone();
    wait_seeing("the name in the status", || {
        let status = case.object("so")["status"].clone();
        (status["hpaName"] == "mine").then_some(()).ok_or_else(|| status.to_string())
    });
    source.set(60.0);
    case.wait_for_replicas(6);
}

#[test]
fn everything_the_object_asks_for_is_passed_on() {
    let case = Case::with_deployment("content", 1);
    let source = Source::new(0.0);
    let mut value = source.trigger("1.5");
    value["metricType"] = "Value".into();
    let behavior = json!({
        "scaleUp": {
            "stabilizationWindowSeconds": 3, "selectPolicy": "Min", "tolerance": "50m",
            "policies": [{ "type": "Pods", "value": 4, "periodSeconds": 20 }],
        },
        "scaleDown": { "tolerance": "200m" },
    });
    let mut object = case.scaled_object(
        "so",
        json!({
            "minReplicaCount": 2, "maxReplicaCount": 9, "triggers": [source.trigger("75"), value],
            "advanced": { "horizontalPodAutoscalerConfig": { "behavior": behavior } },
        }),
    );
    object["metadata"]["labels"] = json!({ "team": "a", "secret": "b", "other": "c" });
    object["metadata"]["annotations"] = json!({
        "note": "x", "scaledobject.keda.sh/hpa-excluded-labels": "secret,other", "argocd.argoproj.io/tracking-id": "t",
    });
    case.apply(object);
    let hpa = case.wait_for_hpa();
    let metadata = &hpa["metadata"];
    let labels = &metadata["labels"];
    for (label, value) in [
        ("team", "a"),
        ("scaledobject.keda.sh/name", "so"),
        ("app.kubernetes.io/managed-by", "hpalite"),
        ("app.kubernetes.io/part-of", "so"),
        ("app.kubernetes.io/name", "keda-hpa-so"),
    ] {
        assert_eq!(labels[label], value, "{labels}");
    }
    assert!(labels["secret"].is_null() && labels["other"].is_null(), "{labels}");
    let annotations = &metadata["annotations"];
    assert_eq!(annotations["note"], "x");
    // What pruning tools read as theirs stays behind.
    assert!(annotations["kubectl.kubernetes.io/last-applied-configuration"].is_null(), "{annotations}");
    assert!(annotations["argocd.argoproj.io/tracking-id"].is_null(), "{annotations}");
    let owner = &metadata["ownerReferences"][0];
    let uid = case.object("so")["metadata"]["uid"].clone();
    assert_eq!((&owner["kind"], &owner["uid"], &owner["controller"]), (&"ScaledObject".into(), &uid, &true.into()));
    let spec = &hpa["spec"];
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&2.into(), &9.into()));
    assert_eq!(spec["scaleTargetRef"], json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" }));
    let metric = |name: &str, target: serde_json::Value| {
        let selector = json!({ "matchLabels": { "scaledobject.keda.sh/name": "so" } });
        json!({ "type": "External", "external": { "metric": { "name": name, "selector": selector }, "target": target } })
    };
    let metrics = json!([
        metric("s0-prometheus", json!({ "type": "AverageValue", "averageValue": "75" })),
        metric("s1-prometheus", json!({ "type": "Value", "value": "1500m" })),
    ]);
    assert_eq!(spec["metrics"], metrics);
    for (direction, rules) in behavior.as_object().unwrap() {
        for (field, wanted) in rules.as_object().unwrap() {
            assert_eq!(&spec["behavior"][direction][field], wanted, "{direction}.{field}");
        }
    }
}

/// Writes to the API server so far. Created are Events, which tests look at by themselves, and
/// reviews of those who read metrics.
pub(crate) fn writes(daemon: &Daemon) -> f64 {
    let text = crate::support::cluster::http_get(&format!("{}/metrics", daemon.http));
    let series = text.lines().filter(|line| line.starts_with("hpalite_apiserver_requests_total{"));
    let writing = series
        .filter(|line| ["update", "patch", "delete"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\""))));
    let all: f64 = writing.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    // The Lease is renewed all the time. Only the first daemon of a cluster makes it, which is a create.
    let renewals = text.lines().find_map(|line| line.strip_prefix("hpalite_lease_renewals_total "));
    all - renewals.and_then(|count| count.parse::<f64>().ok()).expect("a count of renewals")
}

#[test]
fn an_object_that_does_not_change_costs_no_write() {
    let (cluster, _turn) = exclusive(Exclusive::Others);
    let case = Case::within(cluster, "quiet");
    cluster.deployment(&case.namespace, "api", 1);
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let source = Source::new(0.0);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_until_ready();
    case.wait_for_condition("HPAActive", "True", "HPAActive");
    source.asked(3);
    let picture = || {
        let version = case.object("so")["metadata"]["resourceVersion"].clone();
        (writes(&daemon), version, cluster.events(&case.namespace, "so").len())
    };
    let before = picture();
    assert!(before.0 > 0.0, "the metric counts");
    assert_eq!(daemon.metric("hpalite_scaledobjects_ready"), Some(1.0));
    source.asked(20);
    assert_eq!(picture(), before);
    source.set(10.0);
    case.wait_for_condition("Active", "True", "ScalerActive");
    source.asked(3);
    // Active, only the time of last activity changes, once a minute.
    let before = writes(&daemon);
    source.asked(10);
    let after = writes(&daemon);
    assert!(after - before <= 1.0, "{before} to {after}");
}
