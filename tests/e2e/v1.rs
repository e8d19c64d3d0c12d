//! Manifests of KEDA 1.x: `keda.k8s.io/v1alpha1`.

use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use crate::support::cluster::{Daemon, condition, wait_for, wait_seeing};

/// Returns an object of the old API for a Deployment.
fn old_object(case: &Case<'_>, name: &str, deployment: &str, source: &Source) -> Value {
    json!({
        "apiVersion": "keda.k8s.io/v1alpha1", "kind": "ScaledObject", "metadata": { "name": name, "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "deploymentName": deployment }, "pollingInterval": 1, "cooldownPeriod": 2, "maxReplicaCount": 20,
            "triggers": [{ "type": "prometheus", "metadata": {
                "serverAddress": source.url(), "metricName": "http_requests_total", "query": "load", "threshold": 10,
            } }],
        },
    })
}

fn old(case: &Case<'_>, name: &str) -> Value {
    case.get("scaledobject-v1", name).expect("the object exists")
}

#[test]
fn the_old_form_scales_under_its_own_names() {
    let case = Case::exclusive(Exclusive::Others, "v1").deployment(0);
    let cluster = case.cluster;
    let _daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let source = Source::new(0.0);
    case.apply(old_object(&case, "shop", "api", &source));
    wait_seeing("it to be inactive", || {
        let seen = condition(&old(&case, "shop"), "Active");
        seen.as_ref().is_some_and(|(status, ..)| status == "False").then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
    assert_eq!(case.replicas(), 0);
    source.set(1.0);
    wait_for("1 replica", || (case.replicas() == 1).then_some(()));
    source.set(65.0);
    wait_for("7 replicas", || (case.replicas() == 7).then_some(()));
    let hpa = case.get("hpa", "keda-hpa-api").expect("named after the Deployment");
    let metric = &hpa["spec"]["metrics"][0]["external"]["metric"];
    assert_eq!(metric["name"], "http_requests_total", "without a prefix");
    assert_eq!(metric["selector"]["matchLabels"], json!({ "deploymentName": "api" }));
    assert_eq!(hpa["metadata"]["ownerReferences"][0]["apiVersion"], "keda.k8s.io/v1alpha1");
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/http_requests_total?labelSelector=deploymentName%3Dapi",
        case.namespace
    );
    let answer = cluster.raw(&path).expect("the metric can be read");
    assert_eq!(answer["items"][0]["value"], "65");
    let object = old(&case, "shop");
    assert_eq!(object["metadata"]["labels"]["deploymentName"], "api");
    let status = &object["status"];
    assert_eq!(status["externalMetricNames"], json!(["http_requests_total"]));
    assert!(status["lastActiveTime"].is_string(), "{status}");
    let table = case.kubectl(&["get", "scaledobjects.keda.k8s.io", "-o", "wide"]);
    for word in ["DEPLOYMENT", "TRIGGERS", "READY", "ACTIVE", "shop", "api", "prometheus", "True"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    source.set(0.0);
    wait_for("0 replicas", || (case.replicas() == 0).then_some(()));
    case.kubectl(&["delete", "scaledobjects.keda.k8s.io", "shop", "--timeout=30s"]);
    wait_for("the HPA to be gone", || case.get("hpa", "keda-hpa-api").is_none().then_some(()));
}

#[test]
fn both_forms_live_side_by_side_under_one_name() {
    let case = Case::exclusive(Exclusive::Others, "v1-both").deployment(0);
    let cluster = case.cluster;
    cluster.deployment(&case.namespace, "web", 0);
    let _daemon = Daemon::serve(cluster, &["--namespace", &case.namespace]);
    let (new, before) = (Source::new(20.0), Source::new(40.0));
    case.scale("so", json!({ "triggers": [new.trigger("10")] }));
    case.apply(old_object(&case, "so", "web", &before));
    case.wait_for_replicas(2);
    wait_for("the old one's 4", || (cluster.replicas(&case.namespace, "web")? == 4).then_some(()));
    // Two objects of different APIs with the same target: the one that owns it keeps it.
    case.apply(old_object(&case, "rival", "api", &before));
    wait_seeing("the rival to be reported", || {
        let seen = condition(&old(&case, "rival"), "Ready");
        let is_reported = seen.as_ref().is_some_and(|(status, _, message)| {
            status == "False" && message.contains("already managed by the ScaledObject 'so'")
        });
        is_reported.then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
    case.kubectl(&["delete", "scaledobjects.keda.k8s.io", "so", "--timeout=30s"]);
    wait_for("the old one's HPA to be gone", || case.get("hpa", "keda-hpa-web").is_none().then_some(()));
    new.set(30.0);
    case.wait_for_replicas(3);
}
