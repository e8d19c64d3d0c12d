//! Rows 1 to 4: how the API describes itself to the aggregator and to people.

use serde_json::Value;

use super::door::{Answer, kubectl_at};
use super::scene::{GV, Scene, scene};

const AGGREGATOR: &str = "X-Remote-User: system:kube-aggregator";
const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

fn as_aggregator(scene: &Scene<'_>, target: &str, header: &str) -> Answer {
    scene.door.get(Some(&scene.front), target, &[AGGREGATOR, header])
}

#[test]
fn row_01_the_availability_probe_needs_no_group() {
    let scene = scene();
    let answer = scene.door.get(Some(&scene.front), GV, &[AGGREGATOR]);
    assert_eq!((answer.code, &answer.json()["kind"]), (200, &"APIResourceList".into()));
    let resource = answer.json()["resources"][0].clone();
    // With "delete" among them, every deletion of a namespace would be sent here.
    assert_eq!(resource["verbs"], serde_json::json!(["get"]));
    assert_eq!((&resource["name"], &resource["namespaced"]), (&"externalmetrics".into(), &true.into()));
}

#[test]
fn row_02_aggregated_discovery() {
    let scene = scene();
    let both = format!("Accept: {V2},{V2BETA1}");
    let shuffled = "Accept: application/json; as=APIGroupDiscoveryList ;v=v2; g=apidiscovery.k8s.io";
    for accept in [&both, shuffled] {
        let answer = as_aggregator(scene, "/apis", accept);
        assert_eq!(
            (answer.code, answer.header("Content-Type"), answer.header("Vary")),
            (200, Some(V2), Some("Accept"))
        );
        let document = answer.json();
        assert_eq!(
            (&document["kind"], &document["apiVersion"]),
            (&"APIGroupDiscoveryList".into(), &"apidiscovery.k8s.io/v2".into())
        );
        let version = &document["items"][0]["versions"][0];
        assert_eq!((&version["version"], &version["freshness"]), (&"v1beta1".into(), &"Current".into()));
        assert_eq!(version["resources"][0]["resource"], "externalmetrics");
        let tag = answer.header("ETag").unwrap();
        let known = format!("If-None-Match: {tag}");
        let again = scene.door.get(Some(&scene.front), "/apis", &[AGGREGATOR, accept, &known]);
        assert_eq!((again.code, again.body.as_str(), again.header("ETag")), (304, "", Some(tag)));
        let stale = scene.door.get(Some(&scene.front), "/apis", &[AGGREGATOR, accept, "If-None-Match: \"x\""]);
        assert_eq!(stale.code, 200);
    }
}

#[test]
fn row_03_older_discovery_is_never_mislabelled() {
    let scene = scene();
    for accept in [V2BETA1, "application/json", "*/*", "application/json, */*"] {
        let answer = as_aggregator(scene, "/apis", &format!("Accept: {accept}"));
        assert_eq!((answer.code, answer.header("Content-Type")), (200, Some("application/json")), "{accept}");
        let document = answer.json();
        assert_eq!((&document["kind"], &document["apiVersion"]), (&"APIGroupList".into(), &"v1".into()), "{accept}");
        let preferred = &document["groups"][0]["preferredVersion"]["groupVersion"];
        assert_eq!(preferred, "external.metrics.k8s.io/v1beta1", "{accept}");
    }
    assert_eq!(as_aggregator(scene, "/apis", "Accept: text/html").code, 406);
}

#[test]
fn row_04_openapi() {
    let scene = scene();
    let as_openapi = |target: &str, headers: &[&str]| {
        scene.door.get(Some(&scene.front), target, &[&["X-Remote-User: system:aggregator"], headers].concat())
    };
    let index = as_openapi("/openapi/v3", &[]).json();
    let relative =
        index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(relative.starts_with("/openapi/v3/apis/external.metrics.k8s.io/v1beta1?hash="), "{relative}");
    for (target, field, version) in
        [("/openapi/v2", "swagger", "2.0"), ("/openapi/v3", "", ""), (relative.as_str(), "openapi", "3.0.0")]
    {
        let answer = as_openapi(target, &["Accept: application/json"]);
        assert_eq!((answer.code, answer.header("Content-Type")), (200, Some("application/json")), "{target}");
        let document = answer.json();
        assert!(field.is_empty() || document[field] == version, "{document}");
        assert!(document["paths"].is_object(), "{document}");
        let tag = answer.header("ETag").unwrap_or_else(|| panic!("{target}: no ETag")).to_owned();
        let again = as_openapi(target, &[&format!("If-None-Match: {tag}")]);
        assert_eq!((again.code, again.body.as_str()), (304, ""), "{target}");
    }
}

/// Reads the aggregator's documents with Go's HTTP client, whose ALPN offers h2 first.
#[test]
fn row_04_every_document_by_another_http_client() {
    let scene = scene();
    let token = scene.token("other");
    for path in ["/apis", "/apis/external.metrics.k8s.io", GV, "/openapi/v2", "/openapi/v3", "/version"] {
        let text = kubectl_at(scene.case.cluster, &scene.door, &token, path).unwrap();
        assert!(serde_json::from_str::<Value>(&text).is_ok_and(|document| document.is_object()), "{path}: {text}");
    }
}

/// What kubectl and its users see through the kube-apiserver.
#[test]
fn row_02_and_04_through_the_kube_apiserver() {
    let cluster = scene().case.cluster;
    let listed = cluster.kubectl(&["api-resources", "--api-group=external.metrics.k8s.io", "--no-headers"]);
    let words: Vec<&str> = listed.split_whitespace().collect();
    assert_eq!(words, ["externalmetrics", "external.metrics.k8s.io/v1beta1", "true", "ExternalMetricValueList"]);
    assert!(cluster.kubectl(&["api-versions"]).lines().any(|line| line == "external.metrics.k8s.io/v1beta1"));
    let group = cluster.raw("/apis/external.metrics.k8s.io").unwrap();
    assert_eq!(group["preferredVersion"]["version"], "v1beta1");
    assert_eq!(cluster.raw(GV).unwrap()["kind"], "APIResourceList");
    // Both need the documents of every aggregated server.
    assert!(cluster.raw("/openapi/v2").unwrap()["paths"].is_object());
    let index = cluster.raw("/openapi/v3").unwrap();
    let ours = index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert_eq!(cluster.raw(&ours).unwrap()["openapi"], "3.0.0");
    assert!(cluster.kubectl(&["explain", "deployment.spec.replicas"]).contains("replicas"));
    let explained = cluster.kubectl(&["explain", "externalmetrics.items", "--recursive"]);
    for field in ["ExternalMetricValueList", "metricName", "timestamp", "window", "value"] {
        assert!(explained.contains(field), "{explained}");
    }
}
