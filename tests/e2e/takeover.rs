//! hpalite starts where KEDA ran: first nothing changes, and then it scales.

use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use crate::support::cluster::{Cluster, Daemon, condition};

/// Applies server-side, as another field manager.
pub(super) fn apply_as_keda(cluster: &Cluster, manifest: &Value, arguments: &[&str]) {
    let all =
        [&["apply", "--server-side", "--force-conflicts", "--field-manager=keda"], arguments, &["-f", "-"]].concat();
    cluster.kubectl_with(&all, &manifest.to_string()).unwrap_or_else(|error| panic!("{error}"));
}

fn conditions() -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message });
    json!([
        condition("Ready", "True", "ScaledObjectReady", "ScaledObject is defined correctly and is ready for scaling"),
        condition("Active", "True", "ScalerActive", "Scaling is performed because triggers are active"),
        condition("Fallback", "False", "NoFallbackFound", "No fallbacks are active on this scaled object"),
        condition("Paused", "False", "ScaledObjectUnpaused", "pause annotation removed for ScaledObject"),
    ])
}

/// Creates the state that KEDA leaves for a ScaledObject `so` with Deployment `api` and a load that asks for 7.
pub(super) fn leave_as_keda(case: &Case<'_>, source: &Source) {
    let cluster = case.cluster;
    let mut object = case.scaled_object("so", json!({ "triggers": [source.trigger("10")] }));
    object["metadata"]["finalizers"] = json!(["finalizer.keda.sh"]);
    object["metadata"]["labels"] = json!({ "scaledobject.keda.sh/name": "so", "team": "a" });
    object["metadata"]["annotations"] = json!({ "note": "x" });
    apply_as_keda(cluster, &object, &[]);
    let status = json!({ "status": {
        "conditions": conditions(),
        "externalMetricNames": ["s0-prometheus"],
        "health": { "s0-prometheus": { "numberOfFailures": 0, "status": "Happy" } },
        "hpaName": "keda-hpa-so",
        "lastActiveTime": "2026-01-01T00:00:00Z",
        "originalReplicaCount": 1,
        "scaleTargetGVKR": { "group": "apps", "kind": "Deployment", "resource": "deployments", "version": "v1" },
        "scaleTargetKind": "apps/v1.Deployment",
        "triggersActivity": { "s0-prometheus": { "isActive": true } },
        "triggersTypes": "prometheus",
        "authenticationsTypes": "",
    } });
    case.kubectl(&[
        "patch",
        "scaledobjects.keda.sh",
        "so",
        "--subresource=status",
        "--type=merge",
        "--field-manager=keda",
        "-p",
        &status.to_string(),
    ]);
    let uid = case.object("so")["metadata"]["uid"].clone();
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": "keda-hpa-so", "namespace": case.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "keda-operator", "app.kubernetes.io/name": "keda-hpa-so",
                "app.kubernetes.io/part-of": "so", "app.kubernetes.io/version": "2.20.0",
                "scaledobject.keda.sh/name": "so", "team": "a",
            },
            "annotations": { "note": "x" },
            "ownerReferences": [{
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "so", "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "minReplicas": 1, "maxReplicas": 20, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" },
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "s0-prometheus", "selector": { "matchLabels": { "scaledobject.keda.sh/name": "so" } } },
                "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    });
    apply_as_keda(cluster, &hpa, &[]);
}

#[test]
fn objects_of_keda_are_taken_over_in_flight() {
    let case = Case::exclusive(Exclusive::Others, "takeover").deployment(7);
    let cluster = case.cluster;
    let source = Source::new(65.0);
    leave_as_keda(&case, &source);
    let before = (case.hpa().unwrap(), case.object("so"), case.get("deployment", "api").unwrap());

    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    case.wait_for_hpa_condition("True", "");
    source.asked(4);
    let hpa = case.hpa().unwrap();
    assert_eq!(hpa["spec"], before.0["spec"]);
    assert_eq!(hpa["metadata"]["uid"], before.0["metadata"]["uid"]);
    assert_eq!(hpa["metadata"]["ownerReferences"], before.0["metadata"]["ownerReferences"]);
    assert_eq!(hpa["metadata"]["annotations"], before.0["metadata"]["annotations"]);
    let deployment = case.get("deployment", "api").unwrap();
    assert_eq!(deployment["metadata"]["generation"], before.2["metadata"]["generation"], "never touched");
    let object = case.object("so");
    for part in ["finalizers", "labels", "generation"] {
        assert_eq!(object["metadata"][part], before.1["metadata"][part], "{part}");
    }
    for part in ["hpaName", "originalReplicaCount", "scaleTargetGVKR", "externalMetricNames", "triggersActivity"] {
        assert_eq!(object["status"][part], before.1["status"][part], "{part}");
    }
    for kind in ["Ready", "Active", "Fallback", "Paused"] {
        assert_eq!(condition(&object, kind), condition(&before.1, kind));
    }
    let logged = daemon
        .sql(&format!("SELECT * FROM v_condition_change WHERE namespace = '{}' AND kind = 'Ready'", case.namespace));
    assert!(logged.is_empty(), "Ready never moved: {logged:?}");
    let steps = daemon.sql(&format!(
        "SELECT * FROM v_replica_change WHERE namespace = '{}' AND from_replicas IS NOT NULL",
        case.namespace
    ));
    assert!(steps.is_empty(), "{steps:?}");
    let events = cluster.events(&case.namespace, "so");
    assert!(events.is_empty(), "going on is no news: {events:?}");

    source.set(90.0);
    case.wait_for_replicas(9);
    source.set(0.0);
    case.wait_for_replicas(0);
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
    case.wait_until_hpa_is_gone();
}

#[test]
fn a_load_that_fell_silent_during_the_change_gets_its_cooldown_from_the_status() {
    let case = Case::exclusive(Exclusive::Others, "takeover-idle").deployment(7);
    let cluster = case.cluster;
    let source = Source::new(0.0);
    leave_as_keda(&case, &source);
    let now = json!({ "status": { "lastActiveTime": crate::support::cluster::now_rfc3339() } });
    case.kubectl(&[
        "patch",
        "scaledobjects.keda.sh",
        "so",
        "--subresource=status",
        "--type=merge",
        "-p",
        &now.to_string(),
    ]);
    case.kubectl(&["patch", "scaledobjects.keda.sh", "so", "--type=merge", "-p", r#"{"spec":{"cooldownPeriod":12}}"#]);
    let _daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    case.wait_for_condition("Active", "False", "ScalerCooldown");
    assert!(case.replicas() >= 1, "KEDA saw it active a moment ago");
    case.wait_for_replicas(0);
}
