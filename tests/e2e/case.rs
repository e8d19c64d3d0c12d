//! What these tests share: a namespace, a Deployment `api`, a ScaledObject `so` for it, and a metric server with values
//! that the test sets.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Exclusive, Lock, daemon, exclusive};
use crate::support::cluster::{Cluster, condition, wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};

/// A scripted Prometheus. `None` is an outage: 503.
pub(crate) struct Source {
    fake: FakePrometheus,
    value: Arc<Mutex<Option<f64>>>,
}

impl Source {
    pub(crate) fn new(value: impl Into<Option<f64>>) -> Self {
        let value = Arc::new(Mutex::new(value.into()));
        let shown = Arc::clone(&value);
        let fake = FakePrometheus::start(move |_| match *shown.lock().unwrap() {
            Some(value) => Reply::value(&value.to_string()),
            None => Reply::status(503, "down"),
        });
        Self { fake, value }
    }

    pub(crate) fn set(&self, value: impl Into<Option<f64>>) {
        *self.value.lock().unwrap() = value.into();
    }

    pub(crate) fn url(&self) -> String {
        self.fake.url()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.fake.requests()
    }

    /// Waits for this many more queries.
    pub(crate) fn asked(&self, times: usize) {
        let until = self.fake.requests().len() + times;
        wait_for(&format!("{times} more queries"), || (self.fake.requests().len() >= until).then_some(()));
    }

    /// Returns a trigger that queries it.
    pub(crate) fn trigger(&self, threshold: &str) -> Value {
        json!({ "type": "prometheus", "metadata": { "serverAddress": self.url(), "query": "load", "threshold": threshold } })
    }
}

pub(crate) struct Case<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) namespace: String,
    /// Keeps other tests from the control plane, unless it is shared.
    _lock: Option<Lock>,
}

impl Case<'static> {
    /// Creates a namespace of the shared control plane, which the shared daemon serves.
    pub(crate) fn new(purpose: &str) -> Self {
        Self::within(daemon().0, purpose)
    }

    /// Creates a namespace of a control plane that no other test uses at the same time.
    pub(crate) fn exclusive(which: Exclusive, purpose: &str) -> Self {
        let (cluster, lock) = exclusive(which);
        Self { _lock: Some(lock), ..Self::within(cluster, purpose) }
    }
}

impl<'a> Case<'a> {
    pub(crate) fn within(cluster: &'a Cluster, purpose: &str) -> Self {
        Self { cluster, namespace: cluster.namespace(purpose), _lock: None }
    }

    /// Adds the Deployment `api`.
    pub(crate) fn deployment(self, replicas: u32) -> Self {
        self.cluster.deployment(&self.namespace, "api", replicas);
        self
    }

    /// Applies a ScaledObject with short intervals; `spec` takes precedence.
    pub(crate) fn scale(&self, name: &str, spec: Value) {
        self.apply(self.scaled_object(name, spec));
    }

    pub(crate) fn scaled_object(&self, name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": { "name": name, "namespace": self.namespace },
            "spec": { "scaleTargetRef": { "name": "api" }, "pollingInterval": 1, "cooldownPeriod": 2, "maxReplicaCount": 20 },
        });
        for (key, value) in spec.as_object().expect("a spec") {
            object["spec"][key] = value.clone();
        }
        object
    }

    pub(crate) fn apply(&self, manifest: Value) {
        self.cluster.apply(&manifest.to_string());
    }

    /// Applies an object whose kind is not served yet, and its CRD, with these subresources.
    pub(crate) fn apply_with_kind(&self, object: &Value, subresources: &Value) {
        let kind = object["kind"].as_str().unwrap();
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
        let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
        self.apply(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.{group}") },
            "spec": {
                "group": group, "scope": "Namespaced", "names": { "kind": kind, "plural": plural, "singular": singular },
                "versions": [{
                    "name": version, "served": true, "storage": true, "subresources": subresources,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                }],
            },
        }));
        wait_for("the new kind to be served", || self.cluster.try_apply(&object.to_string()).ok());
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Sets annotations (`key=value`) of ScaledObject `so`, or removes them (`key-`).
    pub(crate) fn annotate(&self, annotations: &[&str]) {
        let full: Vec<String> =
            annotations.iter().map(|annotation| format!("autoscaling.keda.sh/{annotation}")).collect();
        let mut arguments = vec!["annotate", "--overwrite", "scaledobjects.keda.sh", "so"];
        arguments.extend(full.iter().map(String::as_str));
        self.kubectl(&arguments);
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.namespace, name)
    }

    pub(crate) fn object(&self, name: &str) -> Value {
        self.get("scaledobject", name).unwrap_or_else(|| panic!("ScaledObject {name} does not exist"))
    }

    pub(crate) fn hpa(&self) -> Option<Value> {
        self.get("hpa", "keda-hpa-so")
    }

    pub(crate) fn wait_for_hpa(&self) -> Value {
        wait_for("the HPA", || self.hpa())
    }

    pub(crate) fn wait_until_hpa_is_gone(&self) {
        wait_for("the HPA to be gone", || self.hpa().is_none().then_some(()));
    }

    pub(crate) fn replicas(&self) -> i64 {
        self.cluster.replicas(&self.namespace, "api").expect("the Deployment exists")
    }

    pub(crate) fn wait_for_replicas(&self, replicas: i64) {
        wait_seeing(&format!("{}/api at {replicas} replicas", self.namespace), || match self.replicas() {
            seen if seen == replicas => Ok(()),
            seen => Err(format!("{seen}, {}", self.object("so")["status"])),
        });
    }

    /// Waits for a condition of `so` with this status and reason; returns its message.
    pub(crate) fn wait_for_condition(&self, kind: &str, status: &str, reason: &str) -> String {
        self.wait_for_condition_of("so", kind, status, reason)
    }

    pub(crate) fn wait_for_condition_of(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        wait_seeing(&format!("{}/{name} to be {kind}={status} {reason}", self.namespace), || {
            match condition(&self.object(name), kind) {
                Some((found, why, message)) if found == status && why == reason => Ok(message),
                seen => Err(format!("{seen:?}")),
            }
        })
    }

    pub(crate) fn wait_until_ready(&self) {
        self.wait_for_condition("Ready", "True", "ScaledObjectReady");
    }

    /// Waits for an event about `so`; returns its note.
    pub(crate) fn wait_for_event(&self, reason: &str, words: &str) -> String {
        wait_seeing(&format!("the event {reason} with \"{words}\""), || {
            let events = self.cluster.events(&self.namespace, "so");
            let found = events.iter().find(|(_, found, note)| found == reason && note.contains(words));
            found.map(|(.., note)| note.clone()).ok_or_else(|| format!("{events:?}"))
        })
    }

    /// Waits for the HPA's condition ScalingActive with this status; returns its message.
    pub(crate) fn wait_for_hpa_condition(&self, status: &str, words: &str) -> String {
        wait_seeing(&format!("the HPA to be ScalingActive={status} with \"{words}\""), || {
            match self.hpa().and_then(|hpa| condition(&hpa, "ScalingActive")) {
                Some((found, _, message)) if found == status && message.contains(words) => Ok(message),
                seen => Err(format!("{seen:?}")),
            }
        })
    }
}
