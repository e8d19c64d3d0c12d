//! The walkthrough of prometheus-adapter, with its own rule and HPA: Pods, Object and external metrics by rules, beside a
//! ScaledObject, with the real HPA controller and a real Prometheus.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use super::Exclusive;
use super::annotated::wait_for_replicas;
use super::case::Case;
use super::migration::done;
use super::second::CUSTOM;
use crate::support::cluster::{Cluster, Daemon, bounded, path, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::prometheus::Prometheus;

/// The rule of the walkthrough as published, one for a Service, external ones, and one that cannot work.
pub(super) const RULES: &str = r#""rules":
- "seriesQuery": |
     {namespace!="",__name__!~"^container_.*"}
  "resources":
    "template": "<<.Resource>>"
  "name":
    "matches": "^(.*)_total"
    "as": ""
  "metricsQuery": |
    sum by (<<.GroupBy>>) (
      irate (
        <<.Series>>{<<.LabelMatchers>>}[1m]
      )
    )
- seriesQuery: 'front_backlog{namespace!=""}'
  resources: {overrides: {namespace: {resource: namespace}, front: {resource: service}}}
  name: {as: backlog}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
- seriesQuery: sum(broken)
  metricsQuery: <<.Series>>
externalRules:
- seriesQuery: '{__name__="queue_consumer_lag",name!=""}'
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (name)
  resources:
    overrides: { namespace: {resource: "namespace"} }
- seriesQuery: 'queue_consumer_lag{name!=""}'
  metricsQuery: 7 * sum(<<.Series>>{<<.LabelMatchers>>})
  name: {as: s0-prometheus}
  resources: {namespaced: false}
"#;

/// The APIServices of metrics of objects, which other tests on the cluster must not find.
pub(super) struct Installed<'a>(&'a Cluster);

impl<'a> Installed<'a> {
    pub(super) fn at(cluster: &'a Cluster, daemon: &Daemon) -> Self {
        for file in ["apiservices", "rbac"] {
            let file = path(&format!("k8s/overlays/custom-metrics/{file}.yaml"));
            cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file]);
        }
        let patch = json!({ "spec": { "service": { "port": daemon.port } } }).to_string();
        for name in CUSTOM {
            cluster.kubectl(&["patch", "apiservice", name, "--type=merge", "-p", &patch]);
        }
        for name in CUSTOM {
            wait_seeing(&format!("{name} to be available"), || {
                let found = cluster.get("apiservice", "", name).unwrap_or_default();
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let is_up = conditions.iter().any(|one| one["type"] == "Available" && one["status"] == "True");
                (is_up && found["spec"]["caBundle"].is_string()).then_some(()).ok_or_else(|| found.to_string())
            });
        }
        Self(cluster)
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        for name in CUSTOM {
            let _ = self.0.try_kubectl(&["delete", "apiservice", name, "--ignore-not-found"]);
        }
    }
}

/// Shows `http_requests_total` of each pod, which rises by 1.75 a second, and the gauges.
pub(super) fn exporter(namespace: &str, pods: &[&str], gauges: &Arc<Mutex<Vec<(String, f64)>>>) -> FakePrometheus {
    let (namespace, started, gauges) = (namespace.to_owned(), Instant::now(), Arc::clone(gauges));
    let pods: Vec<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
    FakePrometheus::start(move |_| {
        let mut text = String::new();
        for pod in &pods {
            let total = started.elapsed().as_secs_f64() * 1.75;
            let _ = writeln!(text, "http_requests_total{{namespace=\"{namespace}\",pod=\"{pod}\"}} {total}");
        }
        for (series, value) in &*gauges.lock().unwrap() {
            let _ = writeln!(text, "{series} {value}");
        }
        let headers = vec![("Content-Type".to_owned(), "text/plain; version=0.0.4".to_owned())];
        Reply::Full { status: 200, headers, body: text.into_bytes() }
    })
}

/// A pod of a Deployment that nobody runs, with the status of one that runs.
pub(super) fn pod(case: &Case<'_>, name: &str, app: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": case.namespace, "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "x" }], "automountServiceAccountToken": false },
    });
    wait_seeing("the pod to be taken", || case.cluster.try_apply(&pod.to_string()));
    let patch = json!({ "status": { "phase": "Running" } }).to_string();
    case.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &patch]);
}

pub(super) fn hpa(case: &Case<'_>, name: &str, metric: Value) {
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
        },
    }));
}

#[test]
fn the_walkthrough_of_prometheus_adapter_runs_unchanged_beside_a_scaled_object() {
    let case = Case::exclusive(Exclusive::Faults, "adapter").deployment(1);
    let (cluster, namespace) = (case.cluster, case.namespace.clone());
    let gauges = Arc::new(Mutex::new(vec![
        (format!("front_backlog{{namespace=\"{namespace}\",front=\"front\"}}"), 30.0),
        (format!("queue_consumer_lag{{namespace=\"{namespace}\",name=\"orders\"}}"), 50.0),
        (format!("queue_consumer_lag{{namespace=\"{namespace}\",name=\"other\"}}"), 1.0),
    ]));
    let target = exporter(&namespace, &["sample-app-a"], &gauges);
    let prometheus = Prometheus::scraping(&[target.url().trim_start_matches("http://")]);
    prometheus.series("http_requests_total");
    let rules = tempfile::tempdir().unwrap();
    let file: PathBuf = rules.path().join("config.yaml");
    std::fs::write(&file, RULES).unwrap();
    let daemon = Daemon::serve(
        cluster,
        &[
            "--prometheus-server",
            &prometheus.url,
            "--adapter-config",
            &file.display().to_string(),
            "--metrics-relist-interval=1s",
            "--metrics-max-age=1m",
        ],
    );
    let _installed = Installed::at(cluster, &daemon);
    for name in ["sample-app", "worker", "front"] {
        cluster.deployment(&namespace, name, 1);
    }
    case.apply(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "front", "namespace": namespace },
        "spec": { "ports": [{ "port": 80 }] } }));
    pod(&case, "sample-app-a", "sample-app");
    // As published: 500 milli-requests a second for each pod, of which one has 1.75, and the Deployment's own none yet.
    hpa(
        &case,
        "sample-app",
        json!({ "type": "Pods", "pods": {
            "metric": { "name": "http_requests" }, "target": { "type": "Value", "averageValue": "500m" },
        } }),
    );
    hpa(
        &case,
        "front",
        json!({ "type": "Object", "object": {
            "metric": { "name": "backlog" }, "target": { "type": "AverageValue", "averageValue": "10" },
            "describedObject": { "apiVersion": "v1", "kind": "Service", "name": "front" },
        } }),
    );
    hpa(
        &case,
        "worker",
        json!({ "type": "External", "external": {
            "metric": { "name": "queue_consumer_lag", "selector": { "matchLabels": { "name": "orders" } } },
            "target": { "type": "AverageValue", "averageValue": "10" },
        } }),
    );
    let query = format!("sum(front_backlog{{namespace=\"{namespace}\"}})");
    let trigger = json!({ "type": "prometheus", "metadata": { "query": query, "threshold": "15" } });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));

    for (name, replicas) in [("sample-app", 4), ("front", 3), ("worker", 5), ("api", 2)] {
        wait_for_replicas(&case, name, replicas);
    }

    // What a person reads to see whether it works, in both versions.
    for version in ["v1beta1", "v1beta2"] {
        let listed = cluster.raw(&format!("/apis/custom.metrics.k8s.io/{version}")).expect("discovery");
        let names: Vec<&str> =
            listed["resources"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        for wanted in ["pods/http_requests", "namespaces/http_requests", "services/backlog"] {
            assert!(names.contains(&wanted), "{wanted}: {names:?}");
        }
    }
    let read = |version: &str, rest: &str| {
        cluster.raw(&format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/{rest}"))
    };
    let pods = read("v1beta2", "pods/*/http_requests?labelSelector=app%3Dsample-app").expect("the metric of pods");
    let item = &pods["items"][0];
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(1), "{pods}");
    assert_eq!(
        (&item["describedObject"]["name"], &item["metric"]["name"]),
        (&"sample-app-a".into(), &"http_requests".into())
    );
    let one = read("v1beta1", "services/front/backlog").expect("the metric of a Service");
    assert_eq!((&one["items"][0]["metricName"], &one["items"][0]["value"]), (&"backlog".into(), &"30".into()));
    let whole = read("v1beta1", "metrics/backlog").expect("the metric of a namespace");
    assert_eq!(
        (&whole["items"][0]["describedObject"]["kind"], &whole["items"][0]["value"]),
        (&"Namespace".into(), &"30".into())
    );
    for (rest, words) in [
        ("pods/*/nothing", "no rule gives the metric nothing for pods"),
        ("services/other/backlog", "the metric backlog has no value for services other"),
        ("pods/*/http_requests?labelSelector=app%3Dnone", "the selector matches no pods"),
    ] {
        let refused = read("v1beta2", rest).expect_err(rest);
        assert!(refused.contains(words), "{rest}: {refused}");
    }
    // A ScaledObject's own metric comes first for its own selector, and the rule's for any other.
    let external = |rest: &str| {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{rest}");
        cluster.raw(&path).unwrap_or_else(|error| panic!("{rest}: {error}"))["items"][0]["value"].clone()
    };
    assert_eq!(external("s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso"), "30");
    assert_eq!(external("s0-prometheus"), "357");
    assert_eq!(daemon.metric("hpalite_adapter_problems"), Some(1.0));
    assert_eq!(daemon.metric("hpalite_adapter_rules_failing"), Some(0.0));

    // Whoever may not read them is refused by the API server, and at our port by the same rules.
    let account = format!("system:serviceaccount:{namespace}:default");
    let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/*/http_requests");
    let refused = cluster.try_kubectl(&["get", "--raw", &path, "--as", &account]).expect_err("it has no right");
    assert!(refused.contains("pods/http_requests"), "{refused}");

    // A changed file is used without a restart, and what breaks it harms nothing.
    std::fs::write(&file, RULES.replace("as: backlog", "as: waiting")).unwrap();
    wait_seeing("the new name of the metric", || read("v1beta2", "services/front/waiting"));
    std::fs::write(&file, "rules: [").unwrap();
    gauges.lock().unwrap()[1].1 = 80.0;
    wait_for_replicas(&case, "worker", 8);
    assert!(read("v1beta2", "services/front/waiting").is_ok());

    // Whoever else has an API of these metrics, what HPAs read can be read after it was taken over.
    let elsewhere = json!({ "spec": { "caBundle": null, "insecureSkipTLSVerify": true,
        "service": { "name": "prometheus-adapter", "namespace": namespace } } });
    cluster.kubectl(&["patch", "apiservice", CUSTOM[0], "--type=merge", "-p", &elsewhere.to_string()]);
    let text = done(cluster, &["takeover", "--metrics", "custom"]);
    for words in [
        // How many depends on what other tests have left in this cluster.
        " metrics of HPAs can be read now",
        &format!("point APIService {} to Service hpalite/hpalite", CUSTOM[0]),
        &format!("APIService {} routes to Service hpalite/hpalite already", CUSTOM[1]),
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(read("v1beta1", "services/front/waiting").is_ok());

    let check = bounded(env!("CARGO_BIN_EXE_hpalite")).args(["check", &file.display().to_string()]).output();
    assert_eq!(check.expect("hpalite can be run").status.code(), Some(2));
    daemon.stop();
}
