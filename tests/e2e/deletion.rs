//! The deletion of a ScaledObject, which leaves nothing behind.

use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use crate::support::cluster::{Daemon, wait_for, wait_seeing};

fn restore() -> Value {
    json!({ "restoreToOriginalReplicaCount": true })
}

fn wait_until_the_metric_is_gone(case: &Case<'_>) {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso",
        case.namespace
    );
    wait_seeing("the metric to be gone", || match case.cluster.raw(&path) {
        Err(error) if error.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn the_original_count_comes_back() {
    let case = Case::new("restore").deployment(2);
    let source = Source::new(50.0);
    case.scale("so", json!({ "advanced": restore(), "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(5);
    wait_seeing("the count to restore", || {
        let status = case.object("so")["status"].clone();
        (status["originalReplicaCount"] == 2).then_some(()).ok_or_else(|| status.to_string())
    });
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
    assert_eq!(case.replicas(), 2, "restored before the object went");
    case.wait_until_hpa_is_gone();
    wait_until_the_metric_is_gone(&case);
    case.wait_for_event("KEDAScalersStopped", "Stopped scalers watch");
    case.wait_for_event("ScaledObjectDeleted", "ScaledObject was deleted");
    assert_eq!(case.replicas(), 2, "and it stays");
}

#[test]
fn without_restoring_the_count_stays_and_nothing_else_does() {
    let case = Case::new("leave").deployment(1);
    let source = Source::new(50.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(5);
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
    case.wait_until_hpa_is_gone();
    wait_until_the_metric_is_gone(&case);
    assert_eq!(case.replicas(), 5);
    let asked = source.requests().len();
    // The queries for another object show that time passes.
    let other = Source::new(0.0);
    case.scale("other", json!({ "minReplicaCount": 1, "triggers": [other.trigger("10")] }));
    other.asked(3);
    assert_eq!(source.requests().len(), asked, "nobody asks for it any longer");
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let case = Case::new("namespace").deployment(1);
    let source = Source::new(20.0);
    let authentication = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": case.namespace, "finalizers": ["finalizer.keda.sh"] },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "x", "key": "y" }] },
    });
    case.apply(authentication);
    case.scale("so", json!({ "advanced": restore(), "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    case.cluster.kubectl(&["delete", "namespace", &case.namespace, "--wait=false"]);
    wait_seeing("the namespace to be gone", || match case.cluster.get("namespace", "", &case.namespace) {
        None => Ok(()),
        Some(namespace) => Err(namespace["status"].to_string()),
    });
}

#[test]
fn what_is_deleted_while_the_daemon_is_away_goes_when_it_is_back() {
    let case = Case::exclusive(Exclusive::Others, "away").deployment(2);
    let cluster = case.cluster;
    let arguments = ["--namespace", case.namespace.as_str()];
    let daemon = Daemon::serve(cluster, &arguments);
    let source = Source::new(40.0);
    case.scale("so", json!({ "advanced": restore(), "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(4);
    wait_for("the status", || case.object("so")["status"]["originalReplicaCount"].as_i64());
    let (_, folder) = daemon.stop();
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--wait=false"]);
    assert!(case.object("so")["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(case.replicas(), 4);
    let asked = source.requests().len();
    let _daemon = Daemon::start_in(cluster, &arguments, folder);
    wait_for("the object to be gone", || case.get("scaledobject", "so").is_none().then_some(()));
    assert_eq!(case.replicas(), 2);
    case.wait_until_hpa_is_gone();
    assert_eq!(source.requests().len(), asked);
}
