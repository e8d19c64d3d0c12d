//! HPAs that hpalite serves by rules, or not at all, are remembered and explained, with the real HPA controller.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Exclusive;
use super::adapter::{Installed, exporter, hpa, pod};
use super::annotated::wait_for_replicas;
use super::case::Case;
use crate::support::cluster::{Daemon, bounded, wait_seeing};
use crate::support::prometheus::Prometheus;

const RULES: &str = r#"rules:
- seriesQuery: 'pod_load{namespace!="",pod!=""}'
  resources: {template: <<.Resource>>}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)
"#;

/// Runs a command on the daemon's live file.
fn hpalite(daemon: &Daemon, arguments: &[&str]) -> Result<String, String> {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(arguments)
        .arg("--db")
        .arg(daemon.db())
        .output()
        .expect("hpalite can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Waits until one line of what `why` says of an HPA has all these words.
pub(super) fn wait_for_words(daemon: &Daemon, object: &str, words: &[&str]) {
    wait_seeing(&format!("why to say {words:?}"), || {
        let text = hpalite(daemon, &["why", object, "--since", "1h"])?;
        text.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(()).ok_or(text)
    });
}

/// Returns the names of the HPAs that the history knows.
fn known(daemon: &Daemon, namespace: &str) -> Vec<String> {
    let query = format!(
        "SELECT name FROM v_scaled_object WHERE api_group = 'autoscaling' AND namespace = '{namespace}' ORDER BY name"
    );
    let text = hpalite(daemon, &["sql", &query, "--format", "csv"]).expect("the history can be read");
    text.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn hpas_by_rules_and_of_cpu_are_remembered_and_explained() {
    let case = Case::exclusive(Exclusive::Faults, "observed").deployment(1);
    let (cluster, namespace) = (case.cluster, case.namespace.clone());
    let load = format!("pod_load{{namespace=\"{namespace}\",pod=\"worker-a\"}}");
    let gauges = Arc::new(Mutex::new(vec![(load, 5.0)]));
    let target = exporter(&namespace, &[], &gauges);
    let prometheus = Prometheus::scraping(&[target.url().trim_start_matches("http://")]);
    prometheus.series("pod_load");
    let rules = tempfile::tempdir().unwrap();
    let file = rules.path().join("config.yaml");
    std::fs::write(&file, RULES).unwrap();
    let file = file.display().to_string();
    // Of this namespace alone, since other tests on the cluster have HPAs as well.
    let flags = [
        "--namespace",
        &namespace,
        "--prometheus-server",
        &prometheus.url,
        "--adapter-config",
        &file,
        "--metrics-relist-interval=1s",
    ];
    for name in ["worker", "idle"] {
        cluster.deployment(&namespace, name, 1);
    }
    pod(&case, "worker-a", "worker");
    let of_pods = json!({ "type": "Pods", "pods": {
        "metric": { "name": "pod_load" }, "target": { "type": "AverageValue", "averageValue": "10" } } });
    hpa(&case, "worker", of_pods);
    let of_cpu = json!({ "type": "Resource", "resource": {
        "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 60 } } });
    hpa(&case, "idle", of_cpu);
    let trigger = json!({ "type": "prometheus", "metadata": { "query": "sum(pod_load)", "threshold": "50" } });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));
    let object = |name: &str| format!("hpa/{namespace}/{name}");

    // With rules, those that they serve are known, and no other.
    let daemon = Daemon::serve(cluster, &flags);
    let installed = Installed::at(cluster, &daemon);
    wait_for_words(&daemon, &object("worker"), &["metric pod_load 5 / 10 per replica"]);
    gauges.lock().unwrap()[0].1 = 25.0;
    wait_for_replicas(&case, "worker", 3);
    wait_for_words(&daemon, &object("worker"), &["1→3 by the HPA: pod_load 25 / 10 per replica → 3"]);
    assert_eq!(known(&daemon, &namespace), ["worker"]);
    assert_eq!(daemon.metric("hpalite_observed_hpas"), Some(1.0));
    assert_eq!(daemon.metric("hpalite_annotated_hpas"), Some(0.0));
    let plotted = hpalite(&daemon, &["history", &object("worker"), "--since", "10m", "--json"]).expect("a plot");
    let plotted: Value = serde_json::from_str(&plotted).unwrap();
    assert_eq!(plotted["group"], "autoscaling");
    let refused = hpalite(&daemon, &["replay", &object("worker"), "--since", "10m"]).expect_err("it is only observed");
    assert!(refused.contains("cannot be replayed"), "{refused}");
    daemon.stop();

    // By the switch every HPA is, but for the ScaledObject's, which is known by that.
    let daemon = Daemon::serve(cluster, &[&flags[..], &["--explain-all-hpas"]].concat());
    wait_for_words(&daemon, &object("idle"), &["1 first seen"]);
    // Nobody measures cpu here, and the HPA says so.
    wait_for_words(&daemon, &object("idle"), &["held by the HPA, ScalingActive=False FailedGetResourceMetric: "]);
    case.kubectl(&["patch", "hpa", "idle", "--type=merge", "-p", r#"{"spec":{"minReplicas":3}}"#]);
    wait_for_replicas(&case, "idle", 3);
    wait_for_words(&daemon, &object("idle"), &["1→3 by the HPA: the minimum of 3"]);
    wait_for_words(&daemon, &object("idle"), &["definition", "minReplicaCount 1 → 3"]);
    assert_eq!(known(&daemon, &namespace), ["idle", "worker"]);
    assert_eq!(daemon.metric("hpalite_scaledobjects"), Some(1.0));
    daemon.stop();
    drop(installed);
}
