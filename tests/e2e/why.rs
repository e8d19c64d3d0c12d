//! `hpalite why` names the true cause of changes that the test makes.

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{bounded, wait_seeing};

/// Runs the binary on the daemon's live file; returns text or JSON.
fn why(case: &Case<'_>, arguments: &[&str]) -> String {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["why", &format!("{}/so", case.namespace), "--db"])
        .arg(daemon().1.folder.path().join("hpalite.db"))
        .args(arguments)
        .output()
        .expect("hpalite why can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn wait_for_words(case: &Case<'_>, words: &[&str]) {
    wait_seeing(&format!("why to say {words:?}"), || {
        let text = why(case, &["--since", "1h"]);
        text.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(()).ok_or(text)
    });
}

fn wait_for_held(case: &Case<'_>, by: &str) -> Value {
    wait_for_held_by(case, &[by])
}

/// Waits until one of these holds the object back; returns it as `why --json` has it.
pub(super) fn wait_for_held_by(case: &Case<'_>, by: &[&str]) -> Value {
    wait_seeing(&format!("why to say that one of {by:?} holds"), || {
        let text = why(case, &["--json"]);
        let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let held = report["held_by"]
            .as_array()
            .and_then(|all| all.iter().find(|held| by.iter().any(|by| held["by"] == *by)).cloned());
        held.ok_or(text)
    })
}

#[test]
fn every_cause_is_named() {
    let case = Case::new("why").deployment(0);
    let source = Source::new(0.0);
    let spec = |max: u32, window: u32, cooldown: u32| {
        json!({
            "triggers": [source.trigger("10")], "maxReplicaCount": max, "cooldownPeriod": cooldown,
            "advanced": { "horizontalPodAutoscalerConfig": { "behavior": {
                "scaleDown": { "stabilizationWindowSeconds": window },
            } } },
        })
    };
    case.scale("so", spec(5, 8, 20));
    case.wait_until_ready();
    // Activation and HPA up.
    source.set(30.0);
    case.wait_for_replicas(3);
    wait_for_words(&case, &["0→1 by hpalite", "activated by s0-prometheus", "30 > activation threshold 0"]);
    wait_for_words(&case, &["→3 by the HPA", "s0-prometheus 30 / 10 per replica → 3", "after the sample"]);
    // Max clamp.
    source.set(90.0);
    case.wait_for_replicas(5);
    wait_for_words(&case, &["→5 by the HPA", "s0-prometheus 90 / 10 per replica → 9", "limited by maxReplicaCount 5"]);
    let held = wait_for_held(&case, "max");
    assert_eq!(held["allows"], 5, "{held}");
    // Stabilization, then HPA down.
    source.set(20.0);
    let held = wait_for_held(&case, "stabilization");
    assert!(held["text"].as_str().is_some_and(|text| text.contains("window of 8 s")), "{held}");
    case.wait_for_replicas(2);
    wait_for_words(&case, &["5→2 by the HPA", "s0-prometheus 20 / 10 per replica → 2"]);
    // Somebody else, against a pause.
    case.annotate(&["paused=true"]);
    let held = wait_for_held(&case, "pause");
    assert!(held["text"].as_str().is_some_and(|text| text.contains("autoscaling.keda.sh/paused")), "{held}");
    case.kubectl(&["scale", "deployment", "api", "--replicas=4"]);
    wait_for_words(&case, &["2→4 by kubectl", "neither the HPA nor hpalite"]);
    case.annotate(&["paused-"]);
    case.wait_for_replicas(2);
    // Definition.
    case.scale("so", spec(6, 8, 20));
    wait_for_words(&case, &["definition, generation 2", "spec.maxReplicaCount 5 → 6"]);
    // Error hold.
    source.set(None);
    let held = wait_for_held(&case, "error");
    assert!(held["text"].as_str().is_some_and(|text| text.contains("s0-prometheus in error since")), "{held}");
    // Cooldown.
    source.set(0.0);
    let held = wait_for_held(&case, "cooldown");
    assert!(held["seconds_left"].as_i64().is_some_and(|left| (0..=20).contains(&left)), "{held}");
    case.wait_for_replicas(0);
    wait_for_words(&case, &["→0 by hpalite", "no trigger is active", "cooldown of 20 s over"]);
    // Fallback.
    let mut falling = spec(6, 8, 20);
    falling["fallback"] = json!({ "failureThreshold": 1, "replicas": 4 });
    case.scale("so", falling);
    source.set(None);
    case.wait_for_replicas(4);
    let held = wait_for_held(&case, "fallback");
    assert!(held["text"].as_str().is_some_and(|text| text.contains("fallback to 4 replicas is active")), "{held}");
}
