//! The HPA of a ScaledObject: its content, and that changes to it are undone.

use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use crate::support::cluster::{Daemon, condition, wait_for, wait_seeing};

fn running(purpose: &str, spec: serde_json::Value) -> (Case<'static>, Source) {
    let case = Case::new(purpose).deployment(1);
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
    // A behavior that the object does not ask for is removed as well.
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
    let case = Case::new("content").deployment(1);
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
    // Annotations that pruning tools use are not copied.
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

/// Returns the number of writes to the API server so far, except creates: Events, which tests check separately, and
/// reviews for those who read metrics.
pub(crate) fn writes(daemon: &Daemon) -> f64 {
    let text = crate::support::cluster::http_get(&format!("{}/metrics", daemon.http));
    let series = text.lines().filter(|line| line.starts_with("hpalite_apiserver_requests_total{"));
    let writing = series
        .filter(|line| ["update", "patch", "delete"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\""))));
    let all: f64 = writing.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    // The Lease is renewed all the time. Only the first daemon of a cluster creates it.
    let renewals = text.lines().find_map(|line| line.strip_prefix("hpalite_lease_renewals_total "));
    all - renewals.and_then(|count| count.parse::<f64>().ok()).expect("a count of renewals")
}

#[test]
fn an_object_that_does_not_change_costs_no_write() {
    let case = Case::exclusive(Exclusive::Others, "quiet").deployment(1);
    let cluster = case.cluster;
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
    // While it is active, at most the time of last activity is written.
    let before = writes(&daemon);
    source.asked(10);
    let after = writes(&daemon);
    assert!(after - before <= 1.0, "{before} to {after}");
}

/// Fields that the API server defaults, normalises or drops are no drift: tried with every field of an HPA, in unusual
/// but valid notations.
#[test]
fn odd_spellings_cost_no_write() {
    let case = Case::exclusive(Exclusive::Others, "odd").deployment(1);
    let cluster = case.cluster;
    cluster.deployment(&case.namespace, "huge", 1);
    let daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let source = Source::new(0.0);
    let authentication = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "token", "namespace": case.namespace },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "token", "key": "token" }] },
    });
    case.kubectl(&["create", "secret", "generic", "token", "--from-literal=token=t"]);
    case.apply(authentication);
    let thresholds = ["1e3", "0.1", "5E-1", "1500.0", "2.0005", "0.0004999999"];
    let mut triggers: Vec<Value> = thresholds.iter().map(|threshold| source.trigger(threshold)).collect();
    for trigger in triggers.iter_mut().step_by(2) {
        trigger["metricType"] = "Value".into();
    }
    triggers[0]["authenticationRef"] = json!({ "name": "token" });
    triggers[0]["metadata"]["authModes"] = "bearer".into();
    triggers[5]["metadata"]["threshold"] = "0.0014999".into();
    let resource = |kind: &str, metric_type: &str, value: &str, container: Option<&str>| {
        let mut trigger = json!({ "type": kind, "metricType": metric_type, "metadata": { "value": value } });
        if let Some(container) = container {
            trigger["metadata"]["containerName"] = container.into();
        }
        trigger
    };
    triggers.extend([
        resource("cpu", "Utilization", "60", None),
        resource("memory", "AverageValue", "1.5Gi", None),
        resource("cpu", "AverageValue", "0.25", Some("c")),
        resource("memory", "AverageValue", "1e9", Some("c")),
    ]);
    let behavior = json!({
        "scaleUp": { "tolerance": "0.1", "stabilizationWindowSeconds": 0, "policies": [] },
        "scaleDown": { "tolerance": "5e-2", "selectPolicy": "Max" },
    });
    let spec = json!({
        "minReplicaCount": 1, "triggers": triggers, "advanced": { "horizontalPodAutoscalerConfig": { "behavior": behavior } },
    });
    let mut object = case.scaled_object("so", spec);
    object["metadata"]["labels"] = json!({ "empty": "", "app.kubernetes.io/managed-by": "Helm" });
    object["metadata"]["annotations"] = json!({
        "empty": "", "lines": "one\ntwo \u{e9}\t",
        // The API server drops these from every HPA: older versions stored in them what now has fields.
        "autoscaling.alpha.kubernetes.io/behavior": "{}", "autoscaling.alpha.kubernetes.io/metrics": "[]",
    });
    case.apply(object);
    let mut huge = case.scaled_object(
        "huge",
        json!({ "minReplicaCount": 1, "scaleTargetRef": { "name": "huge" }, "triggers": [source.trigger("1e300")] }),
    );
    huge["spec"]["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "behavior": { "scaleUp": {} } } });
    case.apply(huge);
    for name in ["so", "huge"] {
        wait_seeing(&format!("{name} with its HPA and what that says"), || {
            let object = case.get("scaledobject", name).unwrap_or_default();
            let is_there = ["Ready", "HPAActive"].iter().all(|kind| condition(&object, kind).is_some());
            let hpa = object["status"]["hpaName"].is_string();
            (is_there && hpa).then_some(()).ok_or_else(|| object["status"].to_string())
        });
    }
    wait_seeing("the authentication's status", || {
        let found = case.get("triggerauthentication", "token").unwrap_or_default();
        (found["status"]["scaledobjects"] == "so").then_some(()).ok_or_else(|| found["status"].to_string())
    });
    source.asked(12);
    let versions = || {
        let of =
            |kind: &str, name: &str| case.get(kind, name).unwrap_or_default()["metadata"]["resourceVersion"].clone();
        let objects = ["so", "huge"].map(|name| of("scaledobject", name));
        (objects, of("triggerauthentication", "token"))
    };
    let before = (writes(&daemon), versions());
    // Two queries a second: longer than the 24 to 36 seconds after which a useless write was once repeated, and twenty
    // syncs of the HPA controller.
    for _ in 0..9 {
        source.asked(10);
    }
    assert_eq!((writes(&daemon), versions()), before, "{}", daemon.log());
}
