//! The daemon, the API server and Prometheus stop and return.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use super::hpa::writes;
use crate::support::cluster::{Cluster, Daemon, bounded, condition, signal, sql, wait_for, wait_seeing};

/// A stopped process that is resumed when the test ends, even by a panic.
pub(super) struct Frozen(u32);

impl Frozen {
    pub(super) fn new(cluster: &Cluster, name: &str) -> Self {
        let pids = std::fs::read_to_string(cluster.folder.join("pids")).unwrap();
        let line =
            pids.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("{name}: {pids}"));
        let pid = line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).unwrap();
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn start(case: &Case<'_>) -> Daemon {
    Daemon::serve(case.cluster, &["--namespace", &case.namespace])
}

/// Starts a daemon whose ScaledObject has one trigger with a target of 10, and this value.
fn scaled(case: &Case<'_>, value: f64, mut spec: Value) -> (Source, Daemon) {
    let (source, daemon) = (Source::new(value), start(case));
    spec["triggers"] = json!([source.trigger("10")]);
    case.scale("so", spec);
    (source, daemon)
}

/// Returns everything that a restart must not change.
fn picture(case: &Case<'_>) -> Value {
    let hpa = case.hpa().expect("the HPA");
    json!({
        "object": case.object("so")["metadata"]["resourceVersion"],
        "hpa": [hpa["spec"], hpa["metadata"]["uid"], hpa["metadata"]["labels"], hpa["metadata"]["annotations"]],
        "target": case.get("deployment", "api").unwrap()["spec"],
    })
}

#[test]
fn a_restart_changes_nothing_and_writes_nothing() {
    let case = Case::exclusive(Exclusive::Faults, "restart").deployment(1);
    let cluster = case.cluster;
    let (source, daemon) = scaled(&case, 5.0, json!({ "minReplicaCount": 1 }));
    case.wait_until_ready();
    case.wait_for_condition("HPAActive", "True", "HPAActive");
    case.wait_for_condition("Active", "True", "ScalerActive");
    source.asked(3);
    let events = cluster.events(&case.namespace, "so").len();
    // If the HPA syncs while nothing serves, it reports that, and the object mirrors it with a write. Then repeat; on a
    // machine where the daemon starts slowly this may happen each time.
    let hpa_news = |daemon: &Daemon| daemon.log().lines().filter(|line| line.contains("condition=HPAActive")).count();
    let (mut daemon, mut starts) = (daemon, 1);
    loop {
        let (before, seen) = (picture(&case), hpa_news(&daemon));
        let (took, folder) = daemon.stop();
        assert!(took < Duration::from_secs(5), "{took:?}");
        daemon = Daemon::start_in(cluster, &["--namespace", &case.namespace], folder);
        starts += 1;
        daemon.route(cluster);
        source.asked(4);
        let after = picture(&case);
        // A renewal of the Lease is a write for a moment before it counts as one.
        let news = wait_seeing("no write without news", || {
            let (written, news) = (writes(&daemon), hpa_news(&daemon) - seen);
            let text = || format!("{written} writes for {news} pieces of news: {}", daemon.log());
            if written <= news as f64 { Ok(news) } else { Err(text()) }
        });
        if news == 0 {
            assert_eq!(after, before);
            break;
        }
        if starts == 10 {
            break;
        }
        case.wait_for_condition("HPAActive", "True", "HPAActive");
        source.asked(4);
    }
    assert_eq!(cluster.events(&case.namespace, "so").len(), events, "that it goes on is no news");
    let runs = daemon.sql("SELECT * FROM v_process_run");
    assert_eq!(runs.len(), starts, "{runs:?}");
    // And scaling works.
    source.set(40.0);
    case.wait_for_replicas(4);
}

/// Writes a history anew as the first version of the schema had it, with all rows.
fn as_first_version(db: &Path) {
    let older = db.with_extension("older");
    let connection = Connection::open(&older).unwrap();
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;").unwrap();
    connection.execute_batch(include_str!("../../sql/migrations/0001_init.sql")).unwrap();
    connection.execute("ATTACH ?1 AS newer", [db.to_str()]).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    for table in texts("SELECT name FROM main.sqlite_schema WHERE type = 'table'") {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')")).join(", ");
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}");
        connection.execute(&copy, []).unwrap();
    }
    connection.execute_batch("DETACH newer; PRAGMA user_version = 1;").unwrap();
    connection.close().unwrap();
    std::fs::rename(older, db).unwrap();
}

/// The one started last is of another version, which brings the file of before up to date.
#[test]
fn cooldown_and_history_go_on_over_a_restart_and_an_upgrade() {
    let case = Case::exclusive(Exclusive::Faults, "cooldown").deployment(0);
    let cluster = case.cluster;
    let (source, daemon) = scaled(&case, 10.0, json!({ "cooldownPeriod": 8 }));
    case.wait_for_replicas(1);
    wait_for("lastActiveTime", || case.object("so")["status"]["lastActiveTime"].as_str().map(drop));
    // Longer than the cooldown: neither the status nor the history is written at every poll, so by their times the
    // cooldown would end immediately.
    source.asked(9);
    let db = daemon.db();
    let (_, folder) = daemon.stop();
    let rows = |table: &str| sql(&db, &format!("SELECT * FROM {table} WHERE namespace = '{}'", case.namespace));
    let before = ["v_sample", "v_decision", "v_replica_change"].map(|view| (view, rows(view)));
    as_first_version(&db);
    source.set(0.0);
    let asked = source.requests().len();
    let daemon = Daemon::start_in(cluster, &["--namespace", &case.namespace], folder);
    wait_for("the first query", || (source.requests().len() > asked).then_some(()));
    case.wait_for_condition("Active", "False", "ScalerCooldown");
    source.asked(1);
    assert_eq!(case.replicas(), 1, "{}", daemon.log());
    case.wait_for_replicas(0);
    wait_seeing("the step to 0 in the history", || {
        let steps = rows("v_replica_change");
        steps.iter().any(|step| step["to_replicas"] == 0).then_some(()).ok_or_else(|| format!("{steps:?}"))
    });
    for (view, before) in before {
        let now = rows(view);
        assert!(!before.is_empty(), "{view}");
        for row in before {
            assert!(now.contains(&row), "{view}: {row} is not in {now:?}");
        }
    }
    assert!(daemon.log().contains("database migrated"), "{}", daemon.log());
}

#[test]
fn a_killed_daemon_finds_its_way_back() {
    let case = Case::exclusive(Exclusive::Faults, "killed").deployment(0);
    let cluster = case.cluster;
    let (source, daemon) = scaled(&case, 30.0, json!({}));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    let steps = |daemon: &Daemon, wanted: i64| {
        wait_seeing(&format!("the step to {wanted} in the history"), || {
            let rows =
                daemon.sql(&format!("SELECT to_replicas FROM v_replica_change WHERE namespace = '{}'", case.namespace));
            rows.iter().any(|row| row["to_replicas"] == wanted).then_some(()).ok_or_else(|| format!("{rows:?}"))
        });
    };
    steps(&daemon, 3);
    let folder = daemon.kill();
    source.set(60.0);
    // Changes during its absence are made up for: the HPA was deleted.
    case.kubectl(&["delete", "hpa", "keda-hpa-so"]);
    let daemon = Daemon::start_in(cluster, &["--namespace", &case.namespace], folder);
    daemon.route(cluster);
    case.wait_for_replicas(6);
    steps(&daemon, 6);
    steps(&daemon, 3);
    let states = daemon.sql("SELECT state FROM v_process_run");
    assert_eq!(states, [json!({ "state": "running" }), json!({ "state": "lost" })]);
}

/// Scaling does not notice, `why` goes on with what lasts, and metric, log and doctor tell of the loss.
#[test]
fn a_deleted_history_goes_on_with_what_is_known() {
    let case = Case::exclusive(Exclusive::Faults, "history").deployment(0);
    let (source, daemon) = scaled(&case, 30.0, json!({}));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", daemon.db().display())).unwrap();
    }
    wait_for("the metric", || (daemon.metric("hpalite_store_displacements_total") == Some(1.0)).then_some(()));
    assert!(daemon.log().contains("database deleted, renamed or replaced while in use"), "{}", daemon.log());
    source.set(50.0);
    case.wait_for_replicas(5);
    let hpalite = |arguments: &[&str]| {
        let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
            .args(arguments)
            .args(["--db", &daemon.db().display().to_string()])
            .output()
            .expect("hpalite can be run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let object = format!("{}/so", case.namespace);
    wait_seeing("why to tell of 3→5", || {
        let text = hpalite(&["why", &object, "--since", "1h"]);
        let is_told = |words: [&str; 2]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        let told = [["3→5 by the HPA", "50"], ["3 first seen", ""], ["the history lost", "was deleted"]];
        if told.into_iter().all(is_told) && !text.contains("not been started") { Ok(()) } else { Err(text) }
    });
    let rows = daemon.sql("SELECT status FROM v_condition_change WHERE kind = 'Ready'");
    assert_eq!(rows, [json!({ "status": "True" })], "a condition that lasts is in the new file");
    let kubeconfig = case.cluster.env("KUBECONFIG");
    let report: Value = serde_json::from_str(&hpalite(&["doctor", "--json", "--kubeconfig", kubeconfig])).unwrap();
    let loss = report["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "database-loss");
    assert!(loss.is_some_and(|loss| loss["cause"].to_string().contains("deleted, renamed or replaced")), "{report}");
}

#[test]
fn an_api_server_that_is_silent_for_a_while_is_survived() {
    let case = Case::exclusive(Exclusive::Faults, "silent").deployment(1);
    let cluster = case.cluster;
    let (source, daemon) = scaled(&case, 20.0, json!({ "minReplicaCount": 1 }));
    case.wait_for_replicas(2);
    let frozen = Frozen::new(cluster, "kube-apiserver");
    // Polling continues and it stays ready: losing the metrics API would make things worse.
    source.asked(8);
    assert_eq!(crate::support::cluster::http_get(&format!("{}/livez", daemon.http)), "ok");
    drop(frozen);
    source.set(50.0);
    case.wait_for_replicas(5);
    // Watches work: a change of the object takes effect.
    case.annotate(&["paused-replicas=1"]);
    case.wait_for_replicas(1);
}

#[test]
fn shutting_down_does_not_wait_for_a_silent_api_server() {
    let case = Case::exclusive(Exclusive::Faults, "silent-end").deployment(1);
    let cluster = case.cluster;
    let (source, daemon) = scaled(&case, 20.0, json!({ "minReplicaCount": 1 }));
    case.wait_for_replicas(2);
    let frozen = Frozen::new(cluster, "kube-apiserver");
    // It has a write that cannot be delivered.
    source.set(0.0);
    source.asked(3);
    let (took, _folder) = daemon.stop();
    drop(frozen);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn prometheus_goes_and_comes_back() {
    let case = Case::exclusive(Exclusive::Faults, "prometheus").deployment(0);
    let cluster = case.cluster;
    let _daemon = start(&case);
    let gauge = format!("load{{namespace=\"{}\"}}", case.namespace);
    cluster.set_gauge(&gauge, 30.0);
    let metadata =
        json!({ "serverAddress": cluster.prometheus(), "query": gauge, "threshold": "10", "timeout": "800" });
    case.scale("so", json!({ "triggers": [{ "type": "prometheus", "metadata": metadata }] }));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    let frozen = Frozen::new(cluster, "prometheus");
    case.wait_for_condition("Ready", "False", "TriggerError");
    let message = case.wait_for_hpa_condition("False", "no answer from");
    assert!(message.contains(cluster.prometheus()), "{message}");
    assert_eq!(case.replicas(), 3);
    drop(frozen);
    case.wait_until_ready();
    cluster.set_gauge(&gauge, 40.0);
    case.wait_for_replicas(4);
    wait_seeing("the condition Active", || {
        let seen = condition(&case.object("so"), "Active");
        seen.as_ref().is_some_and(|(status, ..)| status == "True").then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
}
