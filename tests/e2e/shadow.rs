//! A shadow beside an owner: it records what it would do, and writes nothing.

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::{Exclusive, daemon};
use crate::support::cluster::{Daemon, bounded, http_get, wait_seeing};

/// An HPA that somebody else made for the Deployment.
fn owner(case: &Case<'_>) {
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "owner", "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" },
            "minReplicas": 1, "maxReplicas": 9,
            "metrics": [{ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } } }],
        },
    }));
}

/// Waits until the last decision was to have this many replicas instead of those.
fn wait_for_wish(case: &Case<'_>, daemon: &Daemon, actual: i64, wanted: i64) {
    let statement = format!(
        "SELECT from_replicas, to_replicas, outcome, detail FROM v_decision WHERE namespace = '{}' LIMIT 1",
        case.namespace
    );
    wait_seeing(&format!("{actual} replicas, and {wanted} to be wanted"), || {
        let rows = daemon.sql(&statement);
        let is_it =
            |row: &Value| row["from_replicas"] == actual && row["to_replicas"] == wanted && row["outcome"] == "shadow";
        rows.first().is_some_and(is_it).then_some(()).ok_or_else(|| format!("{rows:?}"))
    });
}

fn hpalite(case: &Case<'_>, daemon: &Daemon, subcommand: &str) -> String {
    let db = daemon.db().display().to_string();
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args([subcommand, "-n", &case.namespace, "so", "--db", &db])
        .output()
        .expect("hpalite can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Field managers of an object and of its status.
fn managers(object: &Value) -> Vec<&str> {
    object["metadata"]["managedFields"].as_array().unwrap().iter().filter_map(|one| one["manager"].as_str()).collect()
}

#[test]
fn a_daemon_that_is_a_shadow_sends_no_write_at_all() {
    let case = Case::exclusive(Exclusive::Faults, "shadow").deployment(2);
    let source = Source::new(50.0);
    owner(&case);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    let before = case.object("so");
    let daemon = Daemon::start(case.cluster, &["--shadow"]);
    wait_for_wish(&case, &daemon, 2, 5);
    case.kubectl(&["scale", "deployment", "api", "--replicas=5"]);
    wait_for_wish(&case, &daemon, 5, 5);
    source.set(0.0);
    wait_for_wish(&case, &daemon, 5, 1);
    let compared = hpalite(&case, &daemon, "compare");
    for words in ["s: 2 replicas, would have had 5: ", "s: 5 replicas, would have had 1: ", "they differed in "] {
        assert!(compared.contains(words), "{compared}");
    }
    let why = hpalite(&case, &daemon, "why");
    assert!(why.contains("a shadow, which writes nothing: it has 5 replicas and would have 1"), "{why}");
    assert_eq!(case.object("so"), before);
    let text = http_get(&format!("{}/metrics", daemon.http));
    let asked: Vec<&str> = text.lines().filter(|line| line.starts_with("hpalite_apiserver_requests_total{")).collect();
    let is_write =
        |line: &&&str| ["POST", "PUT", "PATCH", "DELETE"].iter().any(|verb| line.contains(&format!("\"{verb}\"")));
    let writes: Vec<_> = asked.iter().filter(is_write).filter(|line| !line.ends_with(" 0")).collect();
    assert!(!asked.is_empty() && writes.is_empty(), "{writes:?}");
    let (_, folder) = daemon.stop();
    assert_eq!(case.object("so"), before, "nothing is left behind: {folder:?}");
}

#[test]
fn one_object_may_be_a_shadow_until_its_owner_goes() {
    let case = Case::new("shadow-one").deployment(2);
    let source = Source::new(40.0);
    owner(&case);
    let mut object = case.scaled_object("so", json!({ "triggers": [source.trigger("10")] }));
    object["metadata"]["annotations"] = json!({ "hpalite.dev/mode": "shadow" });
    case.apply(object);
    let before = case.object("so");
    wait_for_wish(&case, daemon().1, 2, 4);
    source.set(60.0);
    wait_for_wish(&case, daemon().1, 2, 6);
    assert_eq!(case.object("so"), before);
    assert!(case.hpa().is_none() && case.cluster.events(&case.namespace, "so").is_empty());
    let deployment = case.get("deployment", "api").unwrap();
    assert!(!managers(&deployment).contains(&"hpalite"), "{deployment}");
    case.kubectl(&["delete", "hpa", "owner"]);
    case.kubectl(&["annotate", "scaledobjects.keda.sh", "so", "hpalite.dev/mode-"]);
    case.wait_for_replicas(6);
    case.wait_until_ready();
}
