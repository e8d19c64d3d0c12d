//! Which targets can be scaled, and which rights that needs.

use serde_json::{Value, json};

use super::case::{Case, Source};
use crate::support::cluster::wait_seeing;

fn pod_template() -> Value {
    json!({ "metadata": { "labels": { "app": "api" } }, "spec": { "containers": [{ "name": "c", "image": "x" }] } })
}

/// A workload of a kind of `apps/v1`.
fn workload(case: &Case<'_>, kind: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "api", "namespace": case.namespace },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "api" } }, "template": pod_template() },
    })
}

/// Scales from zero to what the HPA wants, and down again.
fn goes_up_and_down(case: &Case<'_>, kind: &str, target: Value) {
    let source = Source::new(30.0);
    case.scale("so", json!({ "scaleTargetRef": target, "triggers": [source.trigger("10")] }));
    let replicas = |wanted: i64| {
        wait_seeing(&format!("{kind} at {wanted}"), || {
            let seen = case.get(kind, "api").expect("it exists")["spec"]["replicas"].clone();
            (seen == wanted).then_some(()).ok_or_else(|| format!("{seen} {}", case.object("so")["status"]))
        });
    };
    replicas(3);
    source.set(0.0);
    replicas(0);
}

#[test]
fn a_stateful_set_is_scaled() {
    let case = Case::new("statefulset");
    case.apply(workload(&case, "StatefulSet"));
    goes_up_and_down(&case, "statefulset", json!({ "kind": "StatefulSet", "name": "api" }));
    assert_eq!(case.object("so")["status"]["scaleTargetKind"], "apps/v1.StatefulSet");
}

#[test]
fn a_replica_set_is_scaled_though_nothing_watches_it() {
    let case = Case::new("replicaset");
    case.apply(workload(&case, "ReplicaSet"));
    goes_up_and_down(&case, "replicaset", json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api" }));
}

#[test]
fn a_custom_kind_is_scaled_once_it_is_allowed() {
    let case = Case::new("custom");
    let worker = json!({
        "apiVersion": "e2e.example/v1", "kind": "Worker", "metadata": { "name": "api", "namespace": case.namespace },
        "spec": { "replicas": 0 },
    });
    let subresources = json!({ "status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector",
    } });
    case.apply_with_kind(&worker, &subresources);
    // The HPA reads both; the controller of the pods would write them.
    let status = json!({ "status": { "replicas": 0, "selector": "app=api" } }).to_string();
    case.kubectl(&["patch", "workers.e2e.example", "api", "--subresource=status", "--type=merge", "-p", &status]);
    let source = Source::new(0.0);
    let target = json!({ "apiVersion": "e2e.example/v1", "kind": "Worker", "name": "api" });
    case.scale("so", json!({ "scaleTargetRef": target, "triggers": [source.trigger("10")] }));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("forbidden") && message.contains("workers"), "{message}");
    // The right, the label and the file are named on the object, in an Event and in the log.
    let needed = [
        "needs get and update on workers/scale and get on workers in API group \"e2e.example\"",
        "hpalite.dev/aggregate-to-scale-targets: \"true\"",
        "k8s/samples/scale-target-rollout.yaml",
    ];
    for part in needed {
        assert!(message.contains(part), "{message}");
        case.wait_for_event("ScaledObjectCheckFailed", part);
    }
    let log = super::daemon().1.log();
    assert!(log.lines().any(|line| line.contains(&case.namespace) && line.contains("scale-target-rollout.yaml")));
    // As in k8s/samples/scale-target-rollout.yaml.
    case.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "hpalite-scale-workers", "labels": { "hpalite.dev/aggregate-to-scale-targets": "true" } },
        "rules": [
            { "apiGroups": ["e2e.example"], "resources": ["workers"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["e2e.example"], "resources": ["workers/scale"], "verbs": ["get", "update", "patch"] },
        ],
    }));
    case.wait_until_ready();
    goes_up_and_down(&case, "workers.e2e.example", target);
    assert_eq!(case.object("so")["status"]["scaleTargetKind"], "e2e.example/v1.Worker");
}

#[test]
fn a_missing_target_heals_when_it_appears() {
    let case = Case::new("missing");
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.starts_with("ScaledObject doesn't have correct scaleTargetRef specification: "), "{message}");
    assert!(message.contains("deployments.apps \"api\" not found"), "{message}");
    case.wait_for_condition("Active", "Unknown", "UnknownState");
    case.wait_for_event("ScaledObjectCheckFailed", "Target resource doesn't exist");
    assert!(case.hpa().is_none());
    case.cluster.deployment(&case.namespace, "api", 0);
    case.wait_for_replicas(3);
    case.wait_until_ready();
    // And when it is deleted and created again.
    case.kubectl(&["delete", "deployment", "api"]);
    case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    case.cluster.deployment(&case.namespace, "api", 0);
    case.wait_for_replicas(3);
}

#[test]
fn a_kind_without_scale_is_distinguished_from_an_unknown_one() {
    let case = Case::new("no-scale");
    let source = Source::new(30.0);
    let plain = json!({ "apiVersion": "e2e.example/v1", "kind": "Plain", "metadata": { "name": "api", "namespace": case.namespace } });
    case.apply_with_kind(&plain, &json!({}));
    let triggers = json!([source.trigger("10")]);
    let plain = json!({ "apiVersion": "e2e.example/v1", "kind": "Plain", "name": "api" });
    case.scale("so", json!({ "scaleTargetRef": plain, "triggers": triggers }));
    case.wait_for_event("ScaledObjectCheckFailed", "Target resource doesn't expose /scale subresource");
    // Discovery may have lacked the new kind at first, and an event is seen before the condition is written.
    wait_seeing("the missing subresource to be named", || {
        let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
        message.contains("could not find the requested resource").then_some(()).ok_or(message)
    });
    let unknown = json!({ "apiVersion": "nobody.example/v1", "kind": "Nothing", "name": "api" });
    case.scale("so", json!({ "scaleTargetRef": unknown, "triggers": triggers }));
    wait_seeing("the unknown kind to be named", || {
        let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
        let named = message.contains("no matches for kind \"Nothing\" in version \"nobody.example/v1\"");
        named.then_some(()).ok_or(message)
    });
    assert!(source.requests().is_empty(), "nothing is asked for a target that cannot be scaled");
}

#[test]
fn the_second_object_on_a_target_waits_its_lock() {
    let case = Case::new("two").deployment(0);
    let (first, second) = (Source::new(30.0), Source::new(70.0));
    case.scale("so", json!({ "triggers": [first.trigger("10")] }));
    case.wait_for_replicas(3);
    case.scale("newcomer", json!({ "triggers": [second.trigger("10")] }));
    let message = case.wait_for_condition_of("newcomer", "Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("already managed by the ScaledObject 'so'"), "{message}");
    first.asked(3);
    assert_eq!(case.replicas(), 3);
    assert!(case.get("hpa", "keda-hpa-newcomer").is_none());
    case.wait_until_ready();
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
    wait_seeing("the newcomer to take over", || match case.replicas() {
        7 => Ok(()),
        seen => Err(format!("{seen} {}", case.object("newcomer")["status"])),
    });
    case.wait_for_condition_of("newcomer", "Ready", "True", "ScaledObjectReady");
}

/// Creates an HPA by hand.
fn foreign_hpa(case: &Case<'_>) {
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "by-hand", "namespace": case.namespace, "labels": { "mine": "1" } },
        "spec": {
            "minReplicas": 2, "maxReplicas": 4, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" },
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } }],
        },
    }));
}

#[test]
fn a_foreign_hpa_keeps_its_target() {
    let case = Case::new("foreign").deployment(1);
    foreign_hpa(&case);
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("already managed by the hpa 'by-hand'"), "{message}");
    assert!(case.hpa().is_none() && source.requests().is_empty());
    case.kubectl(&["delete", "hpa", "by-hand"]);
    case.wait_until_ready();
    case.wait_for_replicas(3);
}

#[test]
fn a_foreign_hpa_is_taken_over_when_that_is_asked_for() {
    let case = Case::new("transfer").deployment(1);
    foreign_hpa(&case);
    let before = case.get("hpa", "by-hand").unwrap();
    let source = Source::new(30.0);
    let mut object = case.scaled_object("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    object["metadata"]["annotations"] = json!({ "scaledobject.keda.sh/transfer-hpa-ownership": "true" });
    case.apply(object.clone());
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("horizontalPodAutoscalerConfig.name"), "{message}");
    object["spec"]["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "name": "by-hand" } });
    case.apply(object);
    case.wait_until_ready();
    case.wait_for_replicas(3);
    let after = case.get("hpa", "by-hand").unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the same HPA");
    assert_eq!(after["metadata"]["ownerReferences"][0]["name"], "so");
    let metrics = after["spec"]["metrics"].as_array().unwrap();
    assert!(metrics.len() == 1 && metrics[0]["type"] == "External", "{metrics:?}");
    assert!(case.hpa().is_none(), "one HPA a target");
}
