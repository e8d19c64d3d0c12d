//! `hpalite replay` beside the real HPA controller: what it did is replayed, and what is replayed it does.

use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::wait_seeing;

/// Loads, each for this many polls: the controller looks every 2 s, and needs two looks where it may only double. A lower
/// count waits for its window of 5 s.
const LOADS: [f64; 4] = [30.0, 80.0, 12.0, 55.0];
const POLLS: usize = 12;

fn hpalite(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .args(arguments)
        .arg("--db")
        .arg(daemon().1.folder.path().join("hpalite.db"))
        .output()
        .expect("hpalite can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The counts that a course goes through.
fn counts(course: &Value) -> Vec<u64> {
    course.as_array().expect("a course").iter().filter_map(|step| step[1].as_u64()).collect()
}

/// Plays the loads, and returns the counts that the Deployment goes through.
fn play(case: &Case<'_>, source: &Source) -> Vec<u64> {
    source.set(5.0);
    case.wait_for_replicas(1);
    let before = all_changes(case).len();
    for load in LOADS {
        source.set(load);
        source.asked(POLLS);
    }
    all_changes(case).split_off(before)
}

/// The counts so far, once the last one is in the file.
fn all_changes(case: &Case<'_>) -> Vec<u64> {
    wait_seeing("the last change to be recorded", || {
        let (changes, now) = (changes(case), case.replicas());
        let is_there = changes.last().is_some_and(|last| i64::try_from(*last) == Ok(now));
        is_there.then_some(changes.clone()).ok_or_else(|| format!("{changes:?}, not {now}"))
    })
}

fn changes(case: &Case<'_>) -> Vec<u64> {
    let sql =
        format!("SELECT to_replicas FROM v_replica_change WHERE namespace = '{}' ORDER BY at_unix_ms", case.namespace);
    let rows = hpalite(&["sql", "--format", "json", &sql]);
    rows.as_array().expect("rows").iter().filter_map(|row| row["to_replicas"].as_u64()).collect()
}

#[test]
fn what_it_did_is_replayed_and_what_is_replayed_it_does() {
    let case = Case::new("replay").deployment(1);
    let source = Source::new(5.0);
    let spec = |threshold: &str| json!({ "minReplicaCount": 1, "maxReplicaCount": 20, "triggers": [source.trigger(threshold)] });
    case.scale("so", spec("10"));
    case.wait_until_ready();
    case.wait_for_hpa();
    let first = play(&case, &source);
    assert_eq!(first.last(), Some(&6), "{first:?}");
    let object = format!("{}/so", case.namespace);
    let arguments = [
        "replay",
        &object,
        "--since",
        "10m",
        "--json",
        "--horizontal-pod-autoscaler-sync-period",
        "2s",
        "--horizontal-pod-autoscaler-downscale-stabilization",
        "5s",
        "--set",
        "spec.triggers[0].metadata.threshold=20",
    ];
    // The last changes are on their way to the file.
    let report = wait_seeing("every recorded change to be replayed", || {
        let report = hpalite(&arguments);
        let error = &report["model_error"];
        let numbers = ["recorded_changes", "replayed_changes", "matched_changes"].map(|name| error[name].as_u64());
        (numbers == [Some(first.len() as u64); 3]).then_some(report.clone()).ok_or_else(|| report.to_string())
    });
    let replayed = counts(&report["candidates"][0]["replicas"]).split_off(1);
    assert!(
        report["candidates"][0]["measures"]["share_above_target"].as_f64()
            > report["today"]["measures"]["share_above_target"].as_f64()
    );
    case.scale("so", spec("20"));
    wait_seeing("the HPA to have the other threshold", || {
        let target = case.wait_for_hpa()["spec"]["metrics"][0]["external"]["target"].clone();
        (target["averageValue"] == "20").then_some(()).ok_or_else(|| target.to_string())
    });
    let second = play(&case, &source);
    assert_eq!(second, replayed, "with threshold 10 it was {first:?}");
}
