//! Every way to get a metric in one instance at once: rules of prometheus-adapter, annotations in each form, another adapter,
//! and a ScaledObject, with the real HPA controller and a real Prometheus.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Exclusive;
use super::adapter::{self, Installed, RULES, exporter, pod};
use super::annotated::{self, hpa_of_object, hpa_of_pods, of, wait_for_replicas};
use super::case::Case;
use super::second::{GROUP, Mood, Second};
use crate::prometheus::tls::Authority;
use crate::support::cluster::{Daemon, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};
use crate::support::prometheus::Prometheus;

#[test]
fn one_instance_gives_every_hpa_what_it_asks_for() {
    let case = Case::exclusive(Exclusive::Faults, "everything").deployment(1);
    let (cluster, namespace) = (case.cluster, case.namespace.clone());
    let load = format!("everything_load{{namespace=\"{namespace}\"}}");
    let gauges = Arc::new(Mutex::new(vec![
        (load.clone(), 0.0),
        (format!("queue_consumer_lag{{namespace=\"{namespace}\",name=\"orders\"}}"), 50.0),
        (format!("front_backlog{{namespace=\"{namespace}\",front=\"front\"}}"), 30.0),
    ]));
    let target = exporter(&namespace, &["sample-app-a"], &gauges);
    let prometheus = Prometheus::scraping(&[target.url().trim_start_matches("http://")]);
    prometheus.series("http_requests_total");
    let authority = Authority::new();
    let second = Second::start(&authority);

    let folder = tempfile::tempdir().unwrap();
    let (rules, token, ca) = (folder.path().join("config.yaml"), folder.path().join("token"), folder.path().join("ca"));
    std::fs::write(&rules, RULES).unwrap();
    std::fs::write(&token, "reader").unwrap();
    std::fs::create_dir(&ca).unwrap();
    std::fs::write(ca.join("ca.crt"), &authority.pem).unwrap();
    let url = second.fake.url();
    let daemon = Daemon::serve(
        cluster,
        &[
            "--prometheus-server",
            &prometheus.url,
            "--adapter-config",
            &rules.display().to_string(),
            "--metrics-relist-interval=1s",
            "--metrics-max-age=1m",
            "--forward-external-metrics",
            &url,
            "--forward-token-file",
            &token.display().to_string(),
            "--ca-dir",
            &ca.display().to_string(),
        ],
    );
    let _installed = Installed::at(cluster, &daemon);
    for name in ["sample-app", "worker", "front", "external", "object", "pods", "forwarded", "zero"] {
        cluster.deployment(&namespace, name, 1);
    }

    // By rules: the walkthrough's metric of pods, one of a Service, and an external one.
    pod(&case, "sample-app-a", "sample-app");
    let metric =
        json!({ "metric": { "name": "http_requests" }, "target": { "type": "Value", "averageValue": "500m" } });
    adapter::hpa(&case, "sample-app", json!({ "type": "Pods", "pods": metric }));
    let average = json!({ "type": "AverageValue", "averageValue": "10" });
    let described = json!({ "apiVersion": "v1", "kind": "Service", "name": "front" });
    let metric = json!({ "metric": { "name": "backlog" }, "target": average, "describedObject": described });
    adapter::hpa(&case, "front", json!({ "type": "Object", "object": metric }));
    let orders = json!({ "name": "queue_consumer_lag", "selector": { "matchLabels": { "name": "orders" } } });
    adapter::hpa(&case, "worker", json!({ "type": "External", "external": { "metric": orders, "target": average } }));
    // By annotations, in each form.
    let (query, labels) = (format!("sum({load})"), json!({ "type": "prometheus" }));
    let asks = |metric: &str| vec![of(metric, "query", &query), of(metric, "interval", "1s")];
    annotated::hpa(&case, "external", "events", &labels, &asks("events"));
    hpa_of_object(&case, "object", &query);
    let stats = FakePrometheus::start(|_| Reply::json(r#"{"queues": [{"length": 15}, {"length": 25.5}]}"#));
    hpa_of_pods(&case, "pods", "127.0.0.1", stats.url().rsplit_once(':').unwrap().1);
    let mut zero = asks("zero");
    zero.push(("hpalite.dev/scale-to-zero".to_owned(), "true".to_owned()));
    zero.push(("hpalite.dev/cooldown".to_owned(), "3s".to_owned()));
    annotated::hpa(&case, "zero", "zero", &labels, &zero);
    // By another adapter.
    annotated::hpa(&case, "forwarded", "lag", &json!({ "topic": "orders" }), &[]);
    // And a ScaledObject.
    let trigger = json!({ "type": "prometheus", "metadata": { "query": query, "threshold": "15" } });
    case.scale("so", json!({ "triggers": [trigger] }));
    case.wait_until_ready();

    // Without load two go to zero, each for its own reason, and what else has load does not care.
    for (name, replicas) in [("zero", 0), ("api", 0), ("sample-app", 4), ("front", 3), ("worker", 5), ("pods", 5)] {
        wait_for_replicas(&case, name, replicas);
    }
    wait_for_replicas(&case, "forwarded", 3);
    gauges.lock().unwrap()[0].1 = 30.0;
    for (name, replicas) in [("zero", 3), ("api", 2), ("external", 3), ("object", 3)] {
        wait_for_replicas(&case, name, replicas);
    }
    gauges.lock().unwrap()[1].1 = 80.0;
    second.set(Mood::Gives(50));
    for (name, replicas) in [("worker", 8), ("forwarded", 5), ("sample-app", 4), ("front", 3), ("pods", 5)] {
        wait_for_replicas(&case, name, replicas);
    }
    gauges.lock().unwrap()[0].1 = 0.0;
    for (name, replicas) in [("zero", 0), ("api", 0), ("external", 1)] {
        wait_for_replicas(&case, name, replicas);
    }

    // Both APIs show what all of them give together.
    let listed = |path: &str| {
        let found = cluster.raw(path).expect("discovery");
        let names = found["resources"].as_array().cloned().unwrap_or_default();
        names.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(listed(GROUP), ["externalmetrics", "lag"]);
    let of_objects = listed("/apis/custom.metrics.k8s.io/v1beta2");
    for wanted in ["pods/http_requests", "services/backlog"] {
        assert!(of_objects.iter().any(|name| name == wanted), "{wanted}: {of_objects:?}");
    }
    wait_seeing("no HPA to miss its metric", || {
        let hpas = cluster.list("hpa", &namespace);
        let is_fine = |hpa: &&Value| {
            let conditions = hpa["status"]["conditions"].as_array().cloned().unwrap_or_default();
            // An HPA of a target without replicas is switched off.
            let is_bad = |one: &Value| one["type"] == "ScalingActive" && one["reason"] != "ScalingDisabled";
            !conditions.iter().any(|one| is_bad(one) && one["status"] == "False")
        };
        let bad: Vec<String> = hpas.iter().filter(|hpa| !is_fine(hpa)).map(|hpa| hpa["status"].to_string()).collect();
        if bad.is_empty() && hpas.len() == 9 { Ok(()) } else { Err(format!("{} HPAs, {bad:?}", hpas.len())) }
    });
    assert!(second.forwarded() > 0, "what is nobody's here was asked of the other adapter");
    daemon.stop();
}
