//! Rows 8, 12, 29 and 31 as the cluster sees them, in its audit log, its own log and its namespaces.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::door::{Door, holder};
use super::scene::{GV, MASTER, Scene, scene};
use crate::e2e::case::{Case, Source};
use crate::e2e::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, free_port, wait_for, wait_seeing, wait_until};

/// A control plane that logs every review, with a daemon for these tests alone.
fn audited() -> &'static (Cluster, Daemon) {
    static AUDITED: OnceLock<(Cluster, Daemon)> = OnceLock::new();
    AUDITED.get_or_init(|| {
        let policy = tempfile::NamedTempFile::new().unwrap();
        let rules = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [
                { "level": "Request", "resources": [{ "group": "authorization.k8s.io", "resources": ["subjectaccessreviews"] }] },
                { "level": "None" },
            ],
        });
        fs::write(policy.path(), rules.to_string()).unwrap();
        let policy = format!("--apiserver-arg=--audit-policy-file={}", policy.path().display());
        // Relative to the folder in which the control plane's programs run.
        let cluster = Cluster::start(&[&policy, "--apiserver-arg=--audit-log-path=audit.log", "--apiserver-arg=--audit-log-mode=blocking"]);
        cluster.install();
        let daemon = Daemon::serve(&cluster, &[]);
        (cluster, daemon)
    })
}

/// Returns the specs of all SubjectAccessReviews about this user.
fn reviews(cluster: &Cluster, user: &str) -> Vec<Value> {
    let log = fs::read_to_string(cluster.folder.join("audit.log")).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let specs = entries.map(|entry| entry["requestObject"]["spec"].clone());
    specs.filter(|spec| spec["user"] == user).collect()
}

#[test]
fn row_08_and_12_what_reviews_are_about() {
    let (cluster, daemon) = audited();
    let scene = Scene::within(cluster, daemon, "audited");
    let metric = scene.metric();
    let master = ["X-Remote-User: unreviewed", "X-Remote-Group: system:masters"];
    assert_eq!(scene.door.get(Some(&scene.front), &metric, &master).code, 200);
    let named = [
        "x-remote-USER: reviewed",
        "X-Remote-Group: one",
        "X-Remote-Group: two",
        "X-Remote-Uid: 7",
        "X-Remote-Extra-Example.com%2FKey: a",
        "x-remote-extra-example.com%2fkey: b",
        "X-Remote-Extra-Bad%zz: c",
        "X_Remote_Group: three",
    ];
    assert_eq!(scene.door.get(Some(&scene.front), &metric, &named).code, 403);
    // The same question is not reviewed again.
    assert_eq!(scene.door.get(Some(&scene.front), &metric, &named).code, 403);
    let asked = wait_for("the review in the audit log", || {
        let asked = reviews(cluster, "reviewed");
        (!asked.is_empty()).then_some(asked)
    });
    assert_eq!(asked.len(), 1, "{asked:?}");
    let expected = json!({
        "user": "reviewed", "uid": "7", "groups": ["one", "two", "system:authenticated"],
        "extra": { "example.com/key": ["a", "b"], "bad%zz": ["c"] },
        "resourceAttributes": {
            "namespace": scene.case.namespace, "verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1",
            "resource": "s0-prometheus",
        },
    });
    assert_eq!(asked[0], expected);
    assert_eq!(reviews(cluster, "unreviewed"), Vec::<Value>::new());
    assert_eq!(reviews(cluster, "root"), Vec::<Value>::new());
    // Discovery and OpenAPI for the front proxy need no review either.
    for path in ["/apis", GV, "/openapi/v2", "/openapi/v3"] {
        assert_eq!(scene.proxied("undiscovered", path).code, 200);
    }
    assert_eq!(reviews(cluster, "undiscovered"), Vec::<Value>::new());
    // In the form in which the kube-apiserver itself sends extras.
    let through = cluster.try_kubectl(&[
        "get",
        "--raw",
        &metric,
        "--as=system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    ]);
    assert!(through.is_ok(), "{through:?}");
}

fn namespace_status(cluster: &Cluster, name: &str) -> Option<Value> {
    cluster.get("namespace", "", name)
}

fn delete_namespace(cluster: &Cluster, name: &str) {
    cluster.kubectl(&["delete", "namespace", name, "--wait=false"]);
}

/// Waits until the namespace is gone, for at most this time.
fn wait_until_gone(cluster: &Cluster, name: &str, at_most: Duration) {
    wait_until(&format!("namespace {name} to be gone"), at_most, || {
        namespace_status(cluster, name).is_none().then_some(())
    });
}

#[test]
fn row_29_namespaces_go_cleanly_while_we_run() {
    let scene = scene();
    let cluster = scene.case.cluster;
    let case = Case::new("leaving").deployment(1);
    let source = Source::new(5.0);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_until_ready();
    delete_namespace(cluster, &case.namespace);
    let mut trouble = Vec::new();
    wait_for("the namespace to be gone", || {
        let Some(found) = namespace_status(cluster, &case.namespace) else { return Some(()) };
        for condition in found["status"]["conditions"].as_array().into_iter().flatten() {
            let kind = condition["type"].as_str().unwrap_or_default();
            if condition["status"] == "True" && (kind.contains("Discovery") || kind.contains("GroupVersion")) {
                trouble.push(condition.clone());
            }
        }
        None
    });
    assert!(trouble.is_empty(), "{trouble:?}");
    // The metric of the deleted namespace disappears as well.
    let metric = scene.metric().replace(&scene.case.namespace, &case.namespace);
    wait_seeing("the metric to be gone", || match scene.as_master(&metric).code {
        404 => Ok(()),
        code => Err(code.to_string()),
    });
}

#[test]
fn row_29_down_and_restored() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    // The same port again, so that no change in the cluster causes a new probe.
    let listen = format!("127.0.0.1:{}", free_port());
    let mut daemon = Daemon::start(cluster, &["--listen", &listen]);
    daemon.port = listen.rsplit(':').next().unwrap().parse().unwrap();
    daemon.route(cluster);
    let scene = Scene::within(cluster, &daemon, "restored");
    let namespace = cluster.namespace("stuck");
    let available = || {
        let found = cluster.get("apiservice", "", APISERVICE).unwrap();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "Available").unwrap_or_default()["status"].clone()
    };
    let folder = daemon.kill();
    wait_seeing("the APIService to be unavailable", || match available() {
        status if status == "False" => Ok(()),
        status => Err(status.to_string()),
    });
    delete_namespace(cluster, &namespace);
    wait_seeing("the deletion to be stuck", || {
        let found = namespace_status(cluster, &namespace).expect("it cannot go without us");
        let text = found["status"]["conditions"].to_string();
        let stuck = text.contains("DiscoveryFailed") && text.contains("external.metrics.k8s.io/v1beta1");
        if stuck { Ok(()) } else { Err(text) }
    });
    let restored = Instant::now();
    let _daemon = Daemon::start_in(cluster, &["--listen", &listen], folder);
    wait_until("the APIService to be available", Duration::from_secs(60), || (available() == "True").then_some(()));
    wait_until_gone(cluster, &namespace, Duration::from_secs(60).saturating_sub(restored.elapsed()));
    wait_seeing("the metric through the kube-apiserver", || {
        let body = cluster.raw(&scene.metric())?;
        if body["items"][0]["value"] == "5" { Ok(()) } else { Err(body.to_string()) }
    });
}

/// Does everything that makes a kube-apiserver contact the daemon, without a warning in its log.
#[test]
fn row_31_the_kube_apiserver_has_no_complaint() {
    let (cluster, daemon) = audited();
    let path = cluster.folder.join("log/kube-apiserver.log");
    // Before the daemon started, its absence was logged.
    let before = fs::read_to_string(&path).unwrap().len();
    let scene = Scene::within(cluster, daemon, "quiet");
    let fetched = Instant::now();
    // Both OpenAPI documents have been fetched and are part of the cluster's.
    wait_until("our part of the cluster's OpenAPI", Duration::from_secs(120), || {
        let index = cluster.raw("/openapi/v3").ok()?;
        let ours = index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str()?.to_owned();
        cluster.raw(&ours).ok().filter(|document| document["openapi"] == "3.0.0").map(drop)
    });
    assert!(cluster.raw("/openapi/v2").unwrap()["swagger"].is_string());
    let discovery = ["application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "application/json"];
    let apiserver = Door::of_apiserver(cluster);
    let admin = holder(cluster, "admin");
    for accept in discovery {
        // HTTP/1.0 avoids a chunked answer.
        let answer = apiserver.raw(Some(&admin), format!("GET /apis HTTP/1.0\r\nAccept: {accept}\r\n\r\n").as_bytes());
        assert!(answer.contains(" 200 OK") && answer.contains("\"external.metrics.k8s.io\""), "{answer}");
        assert!(!answer.contains("\"Stale\""), "{answer}");
    }
    assert!(cluster.kubectl(&["api-resources"]).contains("externalmetrics"));
    for resource in ["pod.spec", "externalmetrics"] {
        cluster.kubectl(&["explain", resource]);
    }
    let manifest = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "namespace": scene.case.namespace } });
    cluster.apply(&manifest.to_string());
    cluster.kubectl_with(&["apply", "--server-side", "--validate=strict", "-f", "-"], &manifest.to_string()).unwrap();
    let refused = [
        scene.metric().replace("s0-prometheus", "s9-prometheus"),
        format!("{}?labelSelector=a(", scene.bare()),
        format!("{}?watch=1", scene.bare()),
    ];
    for target in &refused {
        assert!(cluster.raw(target).is_err(), "{target}");
    }
    assert_eq!(scene.door.get(Some(&scene.front), "/metrics", &MASTER).code, 404);
    delete_namespace(cluster, &scene.case.namespace);
    wait_until_gone(cluster, &scene.case.namespace, Duration::from_secs(60));
    // Each document is fetched once a minute, so wait until all have been.
    let answered = || daemon.metric("hpalite_http_requests_total").unwrap();
    let seen = answered();
    wait_until("another round of probes", Duration::from_secs(150), || {
        (fetched.elapsed() > Duration::from_secs(75) && answered() > seen + 5.0).then_some(())
    });
    let log = fs::read_to_string(&path).unwrap();
    let words = ["external.metrics.k8s.io", "OpenAPI", "openapi", "hpalite", "aggregat", "discovery"];
    let about_us = log[before..].lines().filter(|line| words.iter().any(|word| line.contains(word)));
    let warnings: Vec<&str> = about_us.filter(|line| line.starts_with(['E', 'W', 'F'])).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}
