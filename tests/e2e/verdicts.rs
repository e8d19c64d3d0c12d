//! Compares `hpalite check` with reality: the API server with the CRDs and kubectl's strict validation, and what the
//! daemon reports about objects that were admitted. The verdicts must agree in both directions, for every manifest of
//! the repository and for hundreds of spoilt ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hpalite::check::{Check, CheckReport, Outcome, Severity};
use hpalite::kube::request::Resource;
use hpalite::scaling::model::{ApiGroup, AuthenticationKind};
use hpalite::wire::authentication;
use serde_json::{Value, json};

use super::case::Case;
use super::{Exclusive, exclusive};
use crate::support::cluster::{Cluster, Daemon, condition, deployment, path, wait_seeing};

const RESOURCES: &[(&str, &str, Resource)] = &[
    ("keda.sh/v1alpha1", "ScaledObject", Resource::new("keda.sh", "v1alpha1", "scaledobjects", true)),
    ("keda.sh/v1alpha1", "TriggerAuthentication", Resource::new("keda.sh", "v1alpha1", "triggerauthentications", true)),
    (
        "keda.sh/v1alpha1",
        "ClusterTriggerAuthentication",
        Resource::new("keda.sh", "v1alpha1", "clustertriggerauthentications", false),
    ),
    ("keda.k8s.io/v1alpha1", "ScaledObject", Resource::new("keda.k8s.io", "v1alpha1", "scaledobjects", true)),
    (
        "keda.k8s.io/v1alpha1",
        "TriggerAuthentication",
        Resource::new("keda.k8s.io", "v1alpha1", "triggerauthentications", true),
    ),
];

fn checked(text: &str) -> CheckReport {
    let mut check = Check::default();
    check.file("x", text);
    check.finish()
}

fn errors(report: &CheckReport) -> Vec<String> {
    let errors = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(ToString::to_string).collect()
}

/// An object and its origin.
struct Input {
    origin: String,
    object: Value,
}

/// Gives objects distinct names and targets, so that they do not conflict. Mistakes in either stay.
fn apart(mut inputs: Vec<Input>, namespace: &str) -> Vec<Input> {
    for (index, input) in inputs.iter_mut().enumerate() {
        let own = format!("v{index}");
        let is_namespaced = input.object["kind"] != "ClusterTriggerAuthentication";
        if let Some(metadata) = input.object.get_mut("metadata").and_then(Value::as_object_mut) {
            if is_namespaced {
                metadata.insert("namespace".to_owned(), namespace.into());
            }
            if metadata.get("name").and_then(Value::as_str).is_some_and(|name| ["bad", "web", "so"].contains(&name)) {
                metadata.insert("name".to_owned(), own.clone().into());
            }
        }
        for field in ["name", "deploymentName"] {
            let target = input.object.pointer_mut(&format!("/spec/scaleTargetRef/{field}"));
            if let Some(target) = target.filter(|name| name.as_str().is_some_and(|name| ["web", "app"].contains(&name)))
            {
                *target = own.clone().into();
            }
        }
    }
    inputs
}

/// Compares the verdicts on objects sent as JSON, and for admitted ones the daemon's.
fn compare(cluster: &Cluster, namespace: &str, inputs: &[Input], wrong: &mut Vec<String>) -> [usize; 3] {
    let mut counts = [0; 3];
    let mut waiting: BTreeMap<(usize, String), (&Input, Vec<String>)> = BTreeMap::new();
    for input in inputs {
        let text = |name: &str| input.object[name].as_str().unwrap_or_default();
        let kind =
            RESOURCES.iter().position(|(version, kind, _)| (*version, *kind) == (text("apiVersion"), text("kind")));
        let Some(kind) = kind else {
            continue;
        };
        let resource = &RESOURCES[kind].2;
        let errors = errors(&checked(&input.object.to_string()));
        let name = input.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        // A ClusterTriggerAuthentication would remain after its namespace is deleted.
        let refused = cluster.create_strictly(resource, &input.object, kind == 2).err();
        let differs = |server: &str| {
            format!("{}\n  check: {errors:?}\n  server: {server}\n  {}", input.origin, shown(&input.object))
        };
        match refused {
            // The same object already exists.
            Some(answer) if answer.contains("already exists") => {}
            Some(answer) => {
                counts[0] += 1;
                if errors.is_empty() {
                    wrong.push(differs(&answer));
                }
            }
            None if RESOURCES[kind].1 == "ScaledObject" => {
                workload(cluster, namespace, &input.object);
                waiting.insert((kind, name), (input, errors));
            }
            None => {
                counts[1] += 1;
                // The daemon reports on these only through the objects that refer to them.
                if errors.is_empty() == is_unsupported(kind, &input.object) {
                    wrong.push(differs("takes it"));
                }
            }
        }
    }
    let verdicts = wait_seeing("the daemon's verdict on each object", || {
        let mut verdicts = BTreeMap::new();
        for (kind, collection) in [(0, "scaledobject"), (3, "scaledobject-v1")] {
            for object in cluster.list(collection, namespace) {
                if let Some((status, reason, message)) =
                    condition(&object, "Ready").filter(|(status, ..)| status != "Unknown")
                {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    verdicts.insert((kind, name), format!("{status} {reason}: {message}"));
                }
            }
        }
        let missing: Vec<_> = waiting.keys().filter(|key| !verdicts.contains_key(*key)).collect();
        if missing.is_empty() { Ok(verdicts) } else { Err(format!("{} lack one, as {:?}", missing.len(), missing[0])) }
    });
    for (key, (input, errors)) in waiting {
        let verdict = &verdicts[&key];
        // A mistake in a definition is reported with its field; a missing target is not.
        let fields = [": spec", ": metadata.", ": apiVersion"];
        let is_refused = verdict.contains("ScaledObjectCheckFailed")
            && (fields.iter().any(|field| verdict.contains(field)) || verdict.contains("failed to parse paused"));
        counts[if is_refused { 2 } else { 1 }] += 1;
        if errors.is_empty() == is_refused {
            wrong.push(format!(
                "{}\n  check: {errors:?}\n  daemon: {verdict}\n  {}",
                input.origin,
                shown(&input.object)
            ));
        }
    }
    counts
}

/// Creates the Deployment of an object, which the daemon looks for first.
fn workload(cluster: &Cluster, namespace: &str, object: &Value) {
    const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments", true);
    let reference = &object["spec"]["scaleTargetRef"];
    let name = reference["name"].as_str().or(reference["deploymentName"].as_str()).unwrap_or_default();
    let object = serde_json::from_str(&deployment(namespace, name, 0)).expect("JSON");
    // It may already exist, or be impossible.
    drop(cluster.create_strictly(&DEPLOYMENTS, &object, false));
}

fn shown(object: &Value) -> String {
    let text = object.to_string();
    text.chars().take(900).collect()
}

/// Returns whether the daemon's reader considers an authentication unsupported.
fn is_unsupported(kind: usize, object: &Value) -> bool {
    let group = if kind == 4 { ApiGroup::KedaK8sIo } else { ApiGroup::KedaSh };
    let of = match kind {
        2 => AuthenticationKind::ClusterTriggerAuthentication,
        _ => AuthenticationKind::TriggerAuthentication,
    };
    authentication::from_value(group, of, object.clone()).is_ok_and(|reading| !reading.problems.is_empty())
}

/// Returns the manifests of the repository, except those that are checked as texts.
fn manifests() -> Vec<Input> {
    let mut inputs = Vec::new();
    let bad = include_str!("../wire/bad.yaml");
    for document in bad.split("\n---\n").skip(1) {
        let first = document.lines().next().unwrap_or_default();
        inputs.push(Input {
            origin: format!("bad.yaml {first}"),
            object: serde_saphyr::from_str(document).expect("YAML"),
        });
    }
    let list: Value = serde_json::from_str(include_str!("../fixtures/compat/manifests.json")).expect("JSON");
    for object in list["items"].as_array().expect("a list") {
        let mut object = object.clone();
        let origin = format!("compat {}", object["metadata"]["name"]);
        // This test needs no Prometheus, but a valid address.
        let text = object.to_string().replace("__PROMETHEUS__", "http://127.0.0.1:9");
        object.clone_from(&serde_json::from_str(&text).expect("JSON"));
        if object["spec"]["scaleTargetRef"].is_object() {
            object["spec"]["scaleTargetRef"]["name"] = "web".into();
        }
        inputs.push(Input { origin, object });
    }
    inputs
}

/// Returns valid objects that together have nearly every field.
fn bases() -> Vec<Value> {
    let object = |spec: Value| json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "labels": {"a": "b"}, "annotations": {"c.d/e": "f"}}, "spec": spec});
    let prometheus = json!({"type": "prometheus", "name": "n", "metricType": "Value", "useCachedMetrics": true,
        "authenticationRef": {"name": "a", "kind": "TriggerAuthentication"},
        "metadata": {"serverAddress": "http://127.0.0.1:9", "query": "up", "threshold": "5", "activationThreshold": "1", "timeout": "5s",
            "customHeaders": "a=b", "authModes": "bearer", "onMissing": "hold", "holdFor": "5m"}});
    vec![
        object(json!({
            "scaleTargetRef": {"name": "web", "kind": "Deployment", "apiVersion": "apps/v1", "envSourceContainerName": "c"},
            "pollingInterval": 30, "cooldownPeriod": 60, "initialCooldownPeriod": 5, "idleReplicaCount": 0, "minReplicaCount": 2, "maxReplicaCount": 9,
            "fallback": {"failureThreshold": 3, "replicas": 2, "behavior": "static"},
            "advanced": {"restoreToOriginalReplicaCount": true, "horizontalPodAutoscalerConfig": {"behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "tolerance": "0.1", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]},
                "scaleDown": {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 15}]}}}},
            "triggers": [prometheus],
        })),
        object(json!({
            "scaleTargetRef": {"name": "web"},
            "advanced": {"scalingModifiers": {"formula": "q + w", "target": "2", "activationTarget": "1", "metricType": "AverageValue"}},
            "triggers": [
                {"type": "metrics-api", "name": "q", "metadata": {"url": "http://127.0.0.1:9/v", "valueLocation": "a.b", "format": "json"}},
                {"type": "kubernetes-workload", "name": "w", "metadata": {"podSelector": "app=a"}},
            ],
        })),
        object(json!({
            "scaleTargetRef": {"name": "web"}, "minReplicaCount": 1,
            "triggers": [
                {"type": "cron", "metadata": {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"}},
                {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60", "containerName": "c"}},
                {"type": "memory", "metricType": "AverageValue", "metadata": {"value": "200Mi"}},
                {"type": "kubernetes-workload", "metadata": {"podSelector": "app in (a, b)", "value": "2", "activationValue": "1"}},
            ],
        })),
        json!({"apiVersion": "keda.k8s.io/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web"}, "spec": {
            "scaleTargetRef": {"deploymentName": "web", "containerName": "c"}, "pollingInterval": 5, "cooldownPeriod": 5, "minReplicaCount": 1, "maxReplicaCount": 3,
            "triggers": [{"type": "prometheus", "metadata": {"serverAddress": "http://127.0.0.1:9", "query": "up", "threshold": 5, "metricName": "m"}, "authenticationRef": {"name": "a"}}]}}),
        json!({"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "web"}, "spec": {
            "secretTargetRef": [{"parameter": "password", "name": "s", "key": "k"}], "configMapTargetRef": [{"parameter": "ca", "name": "c", "key": "k"}],
            "env": [{"parameter": "username", "name": "U", "containerName": "c"}],
            "boundServiceAccountToken": [{"parameter": "token", "serviceAccountName": "sa"}], "podIdentity": {"provider": "none"}}}),
        json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ClusterTriggerAuthentication", "metadata": {"name": "web"}, "spec": {"filePath": "a/b.json"}}),
        json!({"apiVersion": "keda.k8s.io/v1alpha1", "kind": "TriggerAuthentication", "metadata": {"name": "web"}, "spec": {
            "secretTargetRef": [{"parameter": "password", "name": "s", "key": "k"}], "env": [{"parameter": "username", "name": "U"}]}}),
    ]
}

/// Collects the JSON pointers of everything below a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in children {
        let at = format!("{at}/{name}");
        pointers(value, &at, found);
        found.push(at);
    }
}

/// Returns a copy of `object` with one mistake, and its description.
fn spoilt(object: &Value, random: &mut fastrand::Rng) -> Input {
    let mut object = object.clone();
    let mut all = Vec::new();
    pointers(&object, "", &mut all);
    all.retain(|pointer| !["/apiVersion", "/kind", "/metadata", "/metadata/name"].contains(&pointer.as_str()));
    let pointer = all[random.usize(0..all.len())].clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(7.0),
        json!(3_000_000_000_i64),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("x"),
        json!("5"),
        json!("0.0001"),
        json!("Value"),
        json!("é b"),
        json!("x".repeat(300)),
        json!("x".repeat(17_000)),
        json!([]),
        json!([null]),
        json!({}),
        json!({"x": 1}),
    ];
    let what = match random.u8(0..10) {
        0 | 1 => {
            match object.pointer_mut(parent).expect("it is there") {
                Value::Object(fields) => drop(fields.remove(&key.replace("~1", "/").replace("~0", "~"))),
                Value::Array(items) => drop(items.remove(key.parse().expect("an index"))),
                _ => {}
            }
            "without".to_owned()
        }
        2 => {
            // In another case, as users type; in a map that is another key.
            if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
                let key = key.replace("~1", "/").replace("~0", "~");
                let value = fields.remove(&key).unwrap_or_default();
                let odd = if random.bool() { key.to_lowercase() } else { format!("{key}s") };
                fields.insert(odd, value);
            }
            "misspelt".to_owned()
        }
        3 => {
            if let Some(Value::Object(fields)) = object.pointer_mut(&pointer) {
                fields.insert("surplus".to_owned(), json!("x"));
            } else if let Some(Value::Object(fields)) = object.pointer_mut(parent) {
                fields.insert("surplus".to_owned(), json!({}));
            }
            "with something unknown at".to_owned()
        }
        4 => {
            if let Some(Value::Array(items)) = object.pointer_mut(&pointer) {
                let first = items.first().cloned().unwrap_or_default();
                items.resize(random.usize(2..103), first);
            }
            "repeated".to_owned()
        }
        _ => {
            let value = values[random.usize(0..values.len())].clone();
            let text: String = value.to_string().chars().take(20).collect();
            *object.pointer_mut(&pointer).expect("it is there") = value;
            format!("{text} for")
        }
    };
    Input { origin: format!("{what} {pointer}"), object }
}

/// Removes hundreds of objects, most of them invalid, which would disturb other tests of this cluster.
struct Cleared<'a>(&'a Cluster, String);

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        // A second panic during a failing test would abort. The test's daemon still removes its finalizers.
        for group in ["keda.sh", "keda.k8s.io"] {
            for kind in ["scaledobjects", "triggerauthentications"] {
                let kind = format!("{kind}.{group}");
                let _ = self.0.try_kubectl(&["delete", &kind, "--all", "-n", &self.1, "--timeout=120s"]);
            }
        }
        let _ = self.0.try_kubectl(&["delete", "clustertriggerauthentications.keda.sh", "--all", "--timeout=120s"]);
    }
}

#[test]
fn check_says_what_the_api_server_and_the_daemon_say() {
    let case = Case::exclusive(Exclusive::Others, "verdicts");
    let cluster = case.cluster;
    let _daemon = Daemon::start(cluster, &["--namespace", &case.namespace]);
    let _after = Cleared(cluster, case.namespace.clone());
    let seed = std::env::var("HPALITE_VERDICTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let again = format!("HPALITE_VERDICTS_SEED={seed} cargo test --locked --test hpalite -- e2e::verdicts");
    let mut random = fastrand::Rng::with_seed(seed);
    let bases = bases();
    let mut inputs = manifests();
    inputs.extend(bases.iter().map(|object| Input { origin: "a good one".to_owned(), object: object.clone() }));
    for _ in 0..400 {
        inputs.push(spoilt(&bases[random.usize(0..bases.len())], &mut random));
    }
    let inputs = apart(inputs, &case.namespace);
    let mut wrong = Vec::new();
    let counts = compare(cluster, &case.namespace, &inputs, &mut wrong);
    assert!(wrong.is_empty(), "{again}: {} of {counts:?} differ\n{}", wrong.len(), wrong.join("\n"));
    // Refused by the API server; accepted by all; refused by the daemon.
    assert!(counts[0] > 150 && counts[1] > 100 && counts[2] > 20, "{counts:?}");
}

/// Compares texts as users write them, through kubectl itself, since YAML is part of the verdict.
#[test]
fn check_reads_texts_as_kubectl_does() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    let namespace = cluster.namespace("texts");
    let texts = texts();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((origin, text)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = checked(text);
                    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-n", &namespace, "-f", "-"];
                    let answer = cluster.kubectl_with(&arguments, text);
                    let is_refused = report.outcome() != Outcome::Clean;
                    if is_refused != answer.is_err() {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("{origin}\n  check: {:?}\n  kubectl: {answer:?}\n{text}", errors(&report)));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), texts.len(), wrong.join("\n"));
    assert!(texts.len() > 70, "{}", texts.len());
}

const GOOD: &str = "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: web
spec:
  scaleTargetRef: {name: web}
  triggers:
  - type: prometheus
    metadata:
      serverAddress: http://prometheus:9090
      query: up
      threshold: \"100\"
";

fn texts() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for folder in ["k8s/samples", "tests/fixtures/reports"] {
        let entries = fs::read_dir(path(folder)).expect("the folder is there");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).expect("it can be read");
            let name = file.display().to_string();
            // Foreign CRDs are not installed here; what only the daemon refuses is in the other test.
            let is_foreign = text.contains("monitoring.coreos.com") || text.contains("argoproj.io");
            let is_refused_later = ["10-lowercase", "14-so", "17-30"].iter().any(|part| name.contains(part));
            if !is_foreign && !is_refused_later {
                texts.push((
                    name,
                    text.replace("\n  namespace: default", "").replace("__PROMETHEUS__", "http://prometheus:9090"),
                ));
            }
        }
    }
    // Whether an unquoted scalar is text, in a field for text and in one for numbers and booleans.
    for scalar in [
        "5",
        "05",
        "5.0",
        ".5",
        "5.",
        "1e3",
        "+5",
        "0x10",
        "0o10",
        "0b1",
        "1_000",
        "5k",
        "5 ",
        "'5'",
        "\"5\"",
        "!!str 5",
        "!!int \"5\"",
        "y",
        "Y",
        "yes",
        "No",
        "on",
        "OFF",
        "true",
        "True",
        "~",
        "null",
        "Null",
        "",
        "1:30",
        "2020-01-01",
        ".inf",
        ".nan",
        "0x",
        "0755",
        "089",
        "99999999999999999999",
        "[5]",
        "{a: b}",
        "|-\n        5",
        ">-\n        5",
        "&a 5",
        "-",
        "-5",
        "a #b",
        "@a",
        "`a`",
        "a: b",
        "\"a",
        "'it''s'",
        "'it's'",
        "{{ .Values.x }}",
        "\"{{ .Values.x }}\"",
        "${X}",
    ] {
        texts.push((format!("threshold: {scalar}"), GOOD.replace("\"100\"", scalar)));
    }
    for scalar in [
        "5",
        "05",
        "5.0",
        "5.",
        "1e1",
        "+5",
        "0x10",
        "0b1",
        "1_000",
        "'5'",
        "!!int \"5\"",
        "~",
        "",
        "y",
        "-5",
        "{}",
        "1:30",
    ] {
        texts.push((format!("minReplicaCount: {scalar}"), format!("{GOOD}  minReplicaCount: {scalar}\n")));
    }
    for scalar in ["true", "True", "yes", "No", "on", "OFF", "y", "n", "\"true\"", "1", "truth", "~"] {
        texts.push((
            format!("restoreToOriginalReplicaCount: {scalar}"),
            format!("{GOOD}  advanced:\n    restoreToOriginalReplicaCount: {scalar}\n"),
        ));
    }
    for (from, to) in [
        ("  name: web", "  name: Web"),
        ("  name: web", "  name: 5"),
        ("  name: web", "  name: y"),
        ("  name: web", "  generateName: web-"),
        ("  name: web", "  name:"),
        ("  name: web", "  name: web\n  name: api"),
        ("  name: web", "  name: web\n  labels: {a: y}"),
        ("  name: web", "  name: web\n  labels: {a: ~}"),
        ("  name: web", "  name: web\n  labels: {1: \"1\"}"),
        ("  name: web", "  name: web\n  annotations: {a/b/c: x}"),
        ("  name: web", "  name: web\n  namespace: Shop"),
        ("  name: web", "  name: web\n  creationTimestamp: null"),
        ("  name: web", "  name: web\n  foo: bar"),
        ("metadata:\n  name: web", "metadata: {}"),
        ("metadata:\n  name: web\n", ""),
        ("kind: ScaledObject", "kind: scaledobject"),
        ("kind: ScaledObject", "kind: ScaledJob"),
        ("kind: ScaledObject\n", ""),
        ("apiVersion: keda.sh/v1alpha1\n", ""),
        ("keda.sh/v1alpha1", "keda.sh/v1"),
        ("keda.sh/v1alpha1", "keda.k8s.io/v1"),
        ("keda.sh/v1alpha1", "http.keda.sh/v1alpha1"),
        ("  triggers:", "  minReplicaCount: 1\n  minReplicaCount: 2\n  triggers:"),
        ("  triggers:", "  minReplicaCount: 200\n  minReplicaCount: 2\n  triggers:"),
        ("  triggers:", "  minReplicaCount: 2\n  minReplicaCount: 200\n  triggers:"),
        ("  triggers:", "\tminReplicaCount: 1\n  triggers:"),
        ("  triggers:", "   minReplicaCount: 1\n  triggers:"),
        ("  triggers:", " minReplicaCount: 1\n  triggers:"),
        ("  triggers:", "  Triggers:"),
        ("  triggers:", "  trigger:"),
        ("  triggers:", "  pollingInterval: 30s\n  triggers:"),
        ("      query: up", "      query: up\n      query: down"),
        ("      query: up", "      query: rate(x[2m]) > 0"),
        ("      query: up", "      query: a{b=\"c\"}"),
        ("      query: up", "      query: {a=\"b\"}"),
        ("      query: up", "      query: >-\n        sum(\n          up)"),
        ("      query: up", "      query: a: b"),
        ("      query: up", "      query: \"a\\q\""),
        ("      query: up", "      query: *up"),
        ("  - type", "  -type"),
        ("  - type", "  type"),
        ("spec:", "spec: &s"),
        ("apiVersion", "%YAML 1.1\n---\napiVersion"),
        ("apiVersion", "---\n# nothing\n---\napiVersion"),
        ("apiVersion", "\u{feff}apiVersion"),
        ("apiVersion", "apiVersion: v1\nkind: List\nitems: []\n---\napiVersion"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from} is not there");
        texts.push((format!("{from:?} as {to:?}"), text));
    }
    texts
}
