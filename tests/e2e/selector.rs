//! A daemon that watches what its label selectors choose, and lets go of what they no longer choose.

use serde_json::json;

use super::Exclusive;
use super::case::{Case, Source};
use crate::support::cluster::{Daemon, wait_seeing};

#[test]
fn labels_choose_what_is_watched_and_a_change_lets_go() {
    let case = Case::exclusive(Exclusive::Faults, "selector").deployment(1);
    case.cluster.deployment(&case.namespace, "left", 1);
    case.cluster.deployment(&case.namespace, "third", 1);
    let source = Source::new(50.0);
    let auth = |name: &str, labels: serde_json::Value| {
        case.apply(json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
            "metadata": { "name": name, "namespace": case.namespace, "labels": labels }, "spec": {},
        }));
    };
    auth("shared", json!({}));
    auth("private", json!({ "private": "yes" }));
    let object = |name: &str, target: &str, labels: serde_json::Value, authentication: &str| {
        let mut trigger = source.trigger("10");
        trigger["authenticationRef"] = json!({ "name": authentication });
        let spec = json!({ "scaleTargetRef": { "name": target }, "minReplicaCount": 1, "triggers": [trigger] });
        let mut object = case.scaled_object(name, spec);
        object["metadata"]["labels"] = labels;
        case.apply(object);
    };
    object("so", "api", json!({ "team": "shop" }), "shared");
    object("other", "left", json!({ "team": "bank" }), "private");
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "annotated", "namespace": case.namespace, "annotations": {
            "metric-config.external.load.prometheus/query": "load",
            "metric-config.external.load.prometheus/prometheus-server": source.url(),
        } },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "third" }, "maxReplicas": 3,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "load", "selector": { "matchLabels": { "type": "prometheus" } } },
                "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    }));
    let daemon = Daemon::start(
        case.cluster,
        &["--watch-label-selector=team in (shop)", "--watch-label-selector-for-triggerauth=!private"],
    );
    case.wait_until_ready();
    case.wait_for_hpa();
    let names = || daemon.metric("hpalite_scaledobjects");
    let watched = |wanted: f64| {
        wait_seeing(&format!("{wanted} objects to be watched"), || {
            if names() == Some(wanted) { Ok(()) } else { Err(format!("{:?}", names())) }
        });
    };
    // Not the other, and not the HPA.
    watched(1.0);
    assert!(case.object("other")["status"].is_null(), "{}", case.object("other"));
    case.kubectl(&["label", "scaledobject", "so", "--overwrite", "team=bank"]);
    watched(0.0);
    // Whoever it belongs to now finds it as it was.
    assert!(case.hpa().is_some());
    case.kubectl(&["label", "scaledobject", "other", "--overwrite", "team=shop"]);
    watched(1.0);
    // Its authentication is not selected, and so not known.
    wait_seeing("word of the missing authentication", || {
        let events = case.cluster.events(&case.namespace, "other");
        let found = events.iter().any(|(.., note)| note.contains("private"));
        found.then_some(()).ok_or_else(|| format!("{events:?}"))
    });
    case.kubectl(&["label", "triggerauthentication", "private", "private-"]);
    case.wait_for_condition_of("other", "Ready", "True", "ScaledObjectReady");
}
