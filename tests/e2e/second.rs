//! A stand-in for a second adapter with TLS, which lists its metrics and takes readers by their tokens or by the API server.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::prometheus::tls::{Authority, server};
use crate::support::cluster::Cluster;
use crate::support::fake_prometheus::{FakePrometheus, Reply};

pub(super) const GROUP: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// The APIServices of metrics of objects.
pub(super) const CUSTOM: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

/// What it does with reads of its external metric `lag`.
#[derive(Clone, Copy)]
pub(super) enum Mood {
    Gives(u32),
    Fails,
    Hangs,
}

/// It has the external metric `lag`, and `backlog` of any Service, which is 30.
pub(super) struct Second {
    pub(super) fake: FakePrometheus,
    mood: Arc<Mutex<Mood>>,
}

impl Second {
    pub(super) fn start(authority: &Authority) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Gives(30)));
        let shown = Arc::clone(&mood);
        let config = server(&authority.issue("localhost", |_| ()), None);
        let fake = FakePrometheus::start_tls(config, move |request| {
            let status = |code: u16, message: &str| {
                let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code });
                Reply::Full {
                    status: code,
                    headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
                    body: body.to_string().into_bytes(),
                }
            };
            let json = |body: &Value| Reply::Full {
                status: 200,
                headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
                body: body.to_string().into_bytes(),
            };
            let path = request.target.split('?').next().unwrap_or_default();
            if path == GROUP {
                let metric = json!({ "name": "lag", "singularName": "", "namespaced": true,
                    "kind": "ExternalMetricValueList", "verbs": ["get"] });
                return json(&json!({ "kind": "APIResourceList", "apiVersion": "v1",
                    "groupVersion": "external.metrics.k8s.io/v1beta1", "resources": [metric] }));
            }
            if let Some(rest) = path.strip_prefix("/apis/custom.metrics.k8s.io/") {
                return match of_objects(rest) {
                    Some(body) => json(&body),
                    None => status(404, "the server could not find the metric"),
                };
            }
            if !path.ends_with("/lag") {
                return status(404, "the server could not find the metric");
            }
            match *shown.lock().unwrap() {
                Mood::Gives(value) => json(&json!({
                    "kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {},
                    "items": [{ "metricName": "lag", "metricLabels": { "topic": "orders" },
                        "timestamp": "2026-01-02T03:04:05Z", "value": value.to_string() }],
                })),
                Mood::Fails => status(500, "its Prometheus is down"),
                Mood::Hangs => Reply::Stall(Vec::new()),
            }
        });
        Self { fake, mood }
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// The reads that hpalite forwarded.
    pub(super) fn forwarded(&self) -> usize {
        let requests = self.fake.requests();
        let is_read = |target: &str| target.contains("/namespaces/");
        let ours = requests.iter().filter(|request| request.header("hpalite-forwarded").is_some());
        ours.filter(|request| {
            assert_eq!(request.header("authorization"), Some("Bearer reader"));
            is_read(&request.target)
        })
        .count()
    }

    /// Puts its Service where its own manifests do.
    pub(super) fn install(&self, cluster: &Cluster, namespace: &str) {
        let port = self.fake.address.port();
        cluster.kubectl(&["create", "namespace", namespace]);
        let service = json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "prometheus-adapter", "namespace": namespace },
            "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] } });
        cluster.apply(&service.to_string());
    }

    /// Lets this APIService lead to it, as its own manifests do, and returns its spec.
    pub(super) fn register(&self, cluster: &Cluster, namespace: &str, name: &str) -> Value {
        let port = self.fake.address.port();
        let (version, group) = name.split_once('.').unwrap();
        cluster.kubectl(&["delete", "apiservice", name, "--ignore-not-found"]);
        let apiservice = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": name },
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100,
                "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": { "name": "prometheus-adapter", "namespace": namespace, "port": port },
            },
        });
        cluster.apply(&apiservice.to_string());
        spec(cluster, name)
    }
}

/// Answers for `custom.metrics.k8s.io`: `rest` begins with the version.
fn of_objects(rest: &str) -> Option<Value> {
    let version = rest.split('/').next()?;
    let group_version = format!("custom.metrics.k8s.io/{version}");
    if rest == version {
        let metric = json!({ "name": "services/backlog", "singularName": "", "namespaced": true,
            "kind": "MetricValueList", "verbs": ["get"] });
        return Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": [metric] }));
    }
    let [_, "namespaces", namespace, "services", name, "backlog"] = rest.split('/').collect::<Vec<_>>()[..] else {
        return None;
    };
    let mut item = json!({
        "describedObject": { "kind": "Service", "namespace": namespace, "name": name, "apiVersion": "v1" },
        "timestamp": "2026-01-02T03:04:05Z", "value": "30",
    });
    match version {
        "v1beta1" => item["metricName"] = json!("backlog"),
        _ => item["metric"] = json!({ "name": "backlog", "selector": null }),
    }
    Some(json!({ "kind": "MetricValueList", "apiVersion": group_version, "metadata": {}, "items": [item] }))
}

pub(super) fn spec(cluster: &Cluster, name: &str) -> Value {
    cluster.get("apiservice", "", name).unwrap_or_default()["spec"].clone()
}

/// Removes the second adapter from this namespace, which other tests of the cluster do not know.
pub(super) struct WithoutSecond<'a>(pub(super) &'a Cluster, pub(super) &'static str);

impl Drop for WithoutSecond<'_> {
    fn drop(&mut self) {
        // A second panic during a failing test would abort. A namespace would wait for an API that nobody answers.
        for name in CUSTOM {
            let _ = self.0.try_kubectl(&["delete", "apiservice", name, "--ignore-not-found"]);
        }
        let _ = self.0.try_kubectl(&["delete", "service", "prometheus-adapter", "-n", self.1, "--ignore-not-found"]);
        let _ = self.0.try_kubectl(&["delete", "namespace", self.1, "--ignore-not-found", "--wait=false"]);
    }
}
