//! metrics-api triggers: a small server of the test, alone and behind a Service.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::case::{Case, Source};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

/// Answers `{"jobs": …}`, to clients with the key if one is required.
struct Api {
    fake: FakePrometheus,
    jobs: Arc<Mutex<Value>>,
}

impl Api {
    fn new(key: Option<&'static str>, jobs: Value) -> Self {
        Self::at(IpAddr::V4(Ipv4Addr::LOCALHOST), key, jobs)
    }

    fn at(address: IpAddr, key: Option<&'static str>, jobs: Value) -> Self {
        let jobs = Arc::new(Mutex::new(jobs));
        let shown = Arc::clone(&jobs);
        let fake = FakePrometheus::start_at(address, move |request| match key {
            Some(key) if request.header("X-API-KEY") != Some(key) => Reply::status(401, "who are you?"),
            _ => Reply::json(&json!({ "jobs": *shown.lock().unwrap() }).to_string()),
        });
        Self { fake, jobs }
    }

    fn set(&self, jobs: Value) {
        *self.jobs.lock().unwrap() = jobs;
    }

    fn trigger(&self, change: Value) -> Value {
        let url = format!("{}/stats", self.fake.url());
        let mut metadata = json!({ "url": url, "valueLocation": "jobs.waiting", "targetValue": "10" });
        for (key, value) in change.as_object().unwrap() {
            metadata[key] = value.clone();
        }
        json!({ "type": "metrics-api", "metadata": metadata })
    }
}

#[test]
fn replicas_follow_a_number_of_an_api() {
    let case = Case::new("api").deployment(0);
    let (api, source) = (Api::new(None, json!({ "waiting": 5 })), Source::new(0.0));
    let trigger = api.trigger(json!({ "activationTargetValue": "5" }));
    case.scale("so", json!({ "triggers": [trigger, source.trigger("10")] }));
    case.wait_until_ready();
    assert_eq!(case.object("so")["status"]["externalMetricNames"][0], "s0-metric-api-jobs-waiting");
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    assert_eq!(case.replicas(), 0, "five are not above five");
    api.set(json!({ "waiting": "30500m" }));
    case.wait_for_replicas(4);
    source.set(60.0);
    case.wait_for_replicas(6);
    // The error names server, path and location; the other trigger continues.
    api.set(json!({}));
    let text = case.wait_for_event("KEDAScalerFailed", "nothing is there");
    assert!(text.contains(&format!("valueLocation \"jobs.waiting\" of {}/stats", api.fake.url())), "{text}");
    case.wait_for_condition("Ready", "Unknown", "PartialTriggerError");
    assert_eq!(case.replicas(), 6);
    api.set(json!({ "waiting": 0 }));
    case.wait_until_ready();
    source.set(0.0);
    case.wait_for_replicas(0);
}

#[test]
fn an_api_key_comes_from_an_authentication() {
    let case = Case::new("api-key").deployment(1);
    let api = Api::new(Some("sesame"), json!([{ "state": "waiting" }, { "state": "done" }, { "state": "waiting" }]));
    let secret = |key: &str| {
        case.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "api", "namespace": case.namespace },
            "stringData": { "apiKey": key, "authMode": "apiKey" },
        }));
    };
    let reference = |parameter: &str| json!({ "parameter": parameter, "name": "api", "key": parameter });
    secret("wrong");
    case.apply(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": case.namespace },
        "spec": { "secretTargetRef": [reference("apiKey"), reference("authMode")] },
    }));
    let location = "jobs.#(state==\"waiting\")#|#";
    let mut trigger = api.trigger(json!({ "valueLocation": location, "targetValue": "0.5" }));
    trigger["authenticationRef"] = json!({ "name": "auth" });
    case.scale("so", json!({ "triggers": [trigger] }));
    case.wait_for_event("KEDAScalerFailed", "/stats answered status 401: Unauthorized");
    assert_eq!(case.replicas(), 1);
    secret("sesame");
    // Two waiting jobs, half a job per replica.
    case.wait_for_replicas(4);
    case.wait_until_ready();
}

/// Returns a non-loopback address of this host, as EndpointSlices require. Sends nothing.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this host has an address besides loopback");
    socket.local_addr().unwrap().ip()
}

#[test]
fn every_ready_endpoint_of_a_service_is_asked() {
    let case = Case::new("endpoints").deployment(1);
    let address = own_address();
    let apis = [10, 20, 60].map(|waiting| Api::at(address, None, json!({ "waiting": waiting })));
    case.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "worker", "namespace": case.namespace },
        "spec": { "clusterIP": "None", "ports": [{ "name": "web", "port": 80 }] },
    }));
    let slice = |api: &Api, number: usize, ready: bool| {
        case.apply(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("worker-{number}"), "namespace": case.namespace,
                "labels": { "kubernetes.io/service-name": "worker" },
            },
            "ports": [{ "name": "web", "port": api.fake.address.port() }],
            "endpoints": [{ "addresses": [address.to_string()], "conditions": { "ready": ready } }],
        }));
    };
    for (number, api) in apis.iter().enumerate() {
        slice(api, number, number < 2);
    }
    let trigger = |function: &str| {
        let url = format!("http://worker.{}.svc/stats", case.namespace);
        let change = json!({ "url": url, "aggregateFromKubeServiceEndpoints": "true", "aggregationType": function });
        apis[0].trigger(change)
    };
    case.scale("so", json!({ "triggers": [trigger("sum")] }));
    case.wait_for_replicas(3);
    assert!(apis[2].fake.requests().is_empty(), "it is not ready");
    slice(&apis[2], 2, true);
    case.wait_for_replicas(9);
    case.scale("so", json!({ "triggers": [trigger("max")] }));
    case.wait_for_event("KEDAScalersStarted", "Scaler metrics-api is built");
    case.wait_until_ready();
}
