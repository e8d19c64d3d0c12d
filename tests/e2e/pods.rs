//! kubernetes-workload triggers with real pods that no kubelet runs: tests set their status.

use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{Cluster, Daemon, condition, wait_for, wait_seeing, wait_until};

/// Creates a pod with or without a node. Retries until its service account exists.
fn pod(case: &Case<'_>, name: &str, app: &str, node: Option<&str>) {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": case.namespace, "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "x" }], "automountServiceAccountToken": false },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    wait_seeing("the pod to be taken", || case.cluster.try_apply(&pod.to_string()));
}

fn set_phase(case: &Case<'_>, name: &str, phase: &str) {
    let patch = json!({ "status": { "phase": phase } }).to_string();
    case.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &patch]);
}

fn delete(case: &Case<'_>, name: &str) {
    case.kubectl(&["delete", "pod", name, "--force", "--grace-period=0"]);
}

fn counting(app: &str, change: Value) -> Value {
    let mut metadata = json!({ "podSelector": format!("app={app}"), "value": "1" });
    for (key, value) in change.as_object().unwrap() {
        metadata[key] = value.clone();
    }
    json!({ "type": "kubernetes-workload", "metadata": metadata })
}

#[test]
fn replicas_follow_pods_from_zero_and_back() {
    let case = Case::new("pods").deployment(0);
    pod(&case, "other", "other", None);
    // No poll helps the watch.
    case.scale(
        "so",
        json!({ "pollingInterval": 3600, "cooldownPeriod": 0, "triggers": [counting("worker", json!({ "activationValue": "1" }))] }),
    );
    case.wait_until_ready();
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    assert_eq!(case.object("so")["status"]["externalMetricNames"], json!([format!("s0-workload-{}", case.namespace)]));
    pod(&case, "w1", "worker", None);
    wait_for("one pod in the history", || last_value(&case).filter(|value| (value - 1.0).abs() < 1e-9));
    assert_eq!(case.replicas(), 0, "one is not above activationValue");
    pod(&case, "w2", "worker", None);
    pod(&case, "w3", "worker", None);
    case.wait_for_replicas(3);
    case.wait_for_condition("Active", "True", "ScalerActive");
    // A pod that has ended no longer counts, although it still exists.
    set_phase(&case, "w1", "Succeeded");
    set_phase(&case, "w2", "Failed");
    wait_for("one pod that counts", || last_value(&case).filter(|value| (value - 1.0).abs() < 1e-9));
    case.wait_for_replicas(0);
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    delete(&case, "w3");
    wait_for("no pod that counts", || last_value(&case).filter(|value| value.abs() < 1e-9));
}

fn last_value(case: &Case<'_>) -> Option<f64> {
    let rows = daemon().1.sql(&format!(
        "SELECT value FROM v_sample WHERE namespace = '{}' ORDER BY at_unix_ms DESC LIMIT 1",
        case.namespace
    ));
    rows.first()?["value"].as_f64()
}

#[test]
fn nodes_are_counted_instead_and_prometheus_beside_them() {
    let case = Case::new("nodes").deployment(1);
    let source = Source::new(20.0);
    for (name, node) in [("w1", Some("n1")), ("w2", Some("n1")), ("w3", Some("n2")), ("w4", None)] {
        pod(&case, name, "worker", node);
    }
    let trigger = counting("worker", json!({ "groupByNode": "true", "value": "0.5" }));
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger, source.trigger("10")] }));
    // Two nodes with two replicas each.
    case.wait_for_replicas(4);
    pod(&case, "w5", "worker", Some("n3"));
    case.wait_for_replicas(6);
    // The larger of both applies.
    source.set(70.0);
    case.wait_for_replicas(7);
}

#[test]
fn pods_that_may_not_be_read_are_an_error_with_its_cause() {
    let cluster = Cluster::start(&[]);
    cluster.install();
    let text = cluster.kubectl(&["get", "clusterrole", "hpalite", "-o", "json"]);
    let role: Value = serde_json::from_str(&text).unwrap();
    let set = |rules: &Value| {
        let patch = json!([{ "op": "replace", "path": "/rules", "value": rules }]).to_string();
        cluster.kubectl(&["patch", "clusterrole", "hpalite", "--type=json", "-p", &patch]);
    };
    let mut rules = role["rules"].clone();
    rules.as_array_mut().unwrap().retain(|rule| rule["resources"][0] != "pods");
    set(&rules);
    let _daemon = Daemon::serve(&cluster, &[]);
    let case = Case::within(&cluster, "no-pods").deployment(2);
    case.scale("so", json!({ "triggers": [counting("worker", json!({}))] }));
    case.wait_for_condition("Ready", "False", "TriggerError");
    let text = case.wait_for_event("KEDAScalerFailed", "cannot list pods in namespace");
    assert!(text.contains("forbidden") && text.contains("grant list and watch on pods"), "{text}");
    assert_eq!(case.replicas(), 2, "an error holds");
    // Once granted, it works without a restart.
    set(&role["rules"]);
    wait_until("the object to be ready", Duration::from_secs(60), || {
        condition(&case.object("so"), "Ready").filter(|(status, ..)| status == "True")
    });
}
