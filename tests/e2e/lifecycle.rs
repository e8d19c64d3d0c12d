//! A target between zero, idle, minimum and what the metrics ask for, with all kinds of faults.

use std::process::Command;

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{condition, free_port, path, wait_for, wait_seeing};

/// Waits until the HPA has read this average of a metric.
fn wait_until_hpa_saw(case: &Case<'_>, metric: &str, value: &str) {
    wait_seeing(&format!("the HPA to see {metric} at {value}"), || {
        let hpa = case.hpa().ok_or("no HPA")?;
        let metrics = hpa["status"]["currentMetrics"].as_array().cloned().unwrap_or_default();
        let found = metrics.iter().find(|found| found["external"]["metric"]["name"] == metric);
        match found.map(|found| &found["external"]["current"]["averageValue"]) {
            Some(seen) if seen == value => Ok(()),
            seen => Err(format!("{seen:?}, {}", hpa["status"]["conditions"])),
        }
    });
}

fn reasons(case: &Case<'_>) -> Vec<String> {
    let rows = daemon()
        .1
        .sql(&format!("SELECT reason FROM v_decision WHERE namespace = '{}' ORDER BY at_unix_ms", case.namespace));
    rows.iter().map(|row| row["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_cooldown_holds_and_then_ends() {
    let case = Case::new("cooldown").deployment(0);
    let source = Source::new(50.0);
    case.scale("so", json!({ "cooldownPeriod": 6, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(5);
    let active_until = std::time::Instant::now();
    source.set(0.0);
    case.wait_for_condition("Active", "False", "ScalerCooldown");
    source.asked(2);
    assert!(case.replicas() > 0, "the cooldown is not over");
    case.wait_for_replicas(0);
    // lastActiveTime is at most one poll before the end of the load.
    assert!(active_until.elapsed().as_secs() >= 5, "{:?}", active_until.elapsed());
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    assert!(case.object("so")["status"]["lastActiveTime"].is_string());
    wait_seeing("the history to show it", || {
        let seen = reasons(&case);
        let expected = ["Activated", "Active", "CoolingDown", "Deactivated"];
        let mut rest = seen.iter();
        expected.iter().all(|reason| rest.any(|seen| seen == reason)).then_some(()).ok_or_else(|| format!("{seen:?}"))
    });
}

#[test]
fn idle_and_minimum_are_the_two_resting_places() {
    // One, for what the HPA once wanted it keeps for its window, and it may have looked before the first scale to zero.
    let case = Case::new("idle").deployment(1);
    let source = Source::new(0.0);
    case.scale("so", json!({ "idleReplicaCount": 0, "minReplicaCount": 2, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(0);
    source.set(1.0);
    case.wait_for_replicas(2);
    let note = case.wait_for_event("KEDAScaleTargetActivated", "from 0 to 2");
    assert!(note.contains("apps/v1.Deployment") && note.contains("s0-prometheus"), "{note}");
    source.set(0.0);
    case.wait_for_replicas(0);
    case.wait_for_event("KEDAScaleTargetDeactivated", "from 2 to 0");
}

#[test]
fn a_target_below_the_minimum_is_lifted_at_once() {
    let case = Case::new("lift").deployment(1);
    let source = Source::new(0.0);
    case.scale("so", json!({ "minReplicaCount": 3, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    // Zero disables the HPA, so only hpalite raises it again.
    case.kubectl(&["scale", "deployment", "api", "--replicas=0"]);
    case.wait_for_replicas(3);
}

#[test]
fn the_activation_threshold_keeps_a_target_at_zero_and_no_lower() {
    let case = Case::new("activation").deployment(0);
    let source = Source::new(25.0);
    let mut trigger = source.trigger("10");
    trigger["metadata"]["activationThreshold"] = "25".into();
    case.scale("so", json!({ "triggers": [trigger] }));
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    source.asked(2);
    assert_eq!(case.replicas(), 0, "25 is not above 25");
    source.set(26.0);
    case.wait_for_replicas(3);
    case.wait_for_condition("Active", "True", "ScalerActive");
}

#[test]
fn the_highest_of_two_triggers_wins() {
    let case = Case::new("highest").deployment(0);
    let (low, high) = (Source::new(20.0), Source::new(50.0));
    case.scale("so", json!({ "triggers": [low.trigger("10"), high.trigger("10")] }));
    case.wait_for_replicas(5);
    low.set(80.0);
    case.wait_for_replicas(8);
    let names = case.object("so")["status"]["externalMetricNames"].clone();
    assert_eq!(names, json!(["s0-prometheus", "s1-prometheus"]));
}

#[test]
fn one_failing_trigger_forbids_scaling_in_but_not_out() {
    let case = Case::new("partial").deployment(0);
    let (good, bad) = (Source::new(30.0), Source::new(None));
    case.scale("so", json!({ "triggers": [good.trigger("10"), bad.trigger("10")] }));
    case.wait_for_replicas(3);
    let message = case.wait_for_condition("Ready", "Unknown", "PartialTriggerError");
    assert!(message.starts_with("Some triggers defined in ScaledObject are not working correctly"), "{message}");
    good.set(60.0);
    case.wait_for_replicas(6);
    good.set(6.0);
    wait_until_hpa_saw(&case, "s0-prometheus", "1");
    assert_eq!(case.replicas(), 6, "the failing trigger might ask for more");
    // Nothing is active any longer, but the failing trigger might be.
    good.set(0.0);
    case.wait_for_condition("Ready", "False", "TriggerError");
    good.asked(3);
    assert_eq!(case.replicas(), 6);
    bad.set(0.0);
    case.wait_for_replicas(0);
    case.wait_until_ready();
}

#[test]
fn nothing_moves_while_prometheus_is_unreachable() {
    let case = Case::new("outage").deployment(0);
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    source.set(None);
    let message = case.wait_for_condition("Ready", "False", "TriggerError");
    assert!(message.starts_with("Triggers defined in ScaledObject are not working correctly"), "{message}");
    let note = case.wait_for_event("KEDAScalerFailed", "503");
    assert!(note.contains(&source.url()), "{note}");
    // `kubectl describe hpa` shows which server failed and why.
    let message = case.wait_for_hpa_condition("False", &source.url());
    assert!(message.contains("503"), "{message}");
    source.asked(4);
    assert_eq!(case.replicas(), 3, "twice the cooldown has passed");
    let failing = case.object("so");
    assert_eq!(condition(&failing, "Active").map(|(status, ..)| status).as_deref(), Some("False"));
    source.set(40.0);
    case.wait_for_replicas(4);
    case.wait_until_ready();
}

#[test]
fn a_server_that_is_not_there_at_all_is_named() {
    let case = Case::new("refused").deployment(1);
    let server = format!("http://127.0.0.1:{}", free_port());
    let trigger =
        json!({ "type": "prometheus", "metadata": { "serverAddress": server, "query": "x", "threshold": "1" } });
    case.scale("so", json!({ "triggers": [trigger] }));
    case.wait_for_condition("Ready", "False", "TriggerError");
    let message = case.wait_for_hpa_condition("False", &server);
    assert!(message.contains("connection refused"), "{message}");
    assert_eq!(case.replicas(), 1);
}

#[test]
fn the_fallback_takes_over_after_its_threshold_and_leaves_again() {
    let case = Case::new("fallback").deployment(1);
    let source = Source::new(None);
    let fallback = json!({ "failureThreshold": 2, "replicas": 4 });
    case.scale("so", json!({ "minReplicaCount": 1, "fallback": fallback, "triggers": [source.trigger("10")] }));
    case.wait_for_condition("Fallback", "True", "FallbackExists");
    case.wait_for_replicas(4);
    assert!(source.requests().len() > 2, "not before its threshold");
    case.wait_for_event("ScaledObjectFallbackActivated", "ScaledObject fallback is active");
    let health = case.object("so")["status"]["health"]["s0-prometheus"].clone();
    assert_eq!(health["status"], "Failing");
    assert!(health["numberOfFailures"].as_i64() > Some(2), "{health}");
    source.set(20.0);
    case.wait_for_condition("Fallback", "False", "NoFallbackFound");
    case.wait_for_event("ScaledObjectFallbackDeactivated", "no longer active");
    case.wait_for_replicas(2);
    wait_seeing("the trigger to be healthy again", || {
        let health = case.object("so")["status"]["health"]["s0-prometheus"].clone();
        (health == json!({ "numberOfFailures": 0, "status": "Happy" })).then_some(()).ok_or_else(|| health.to_string())
    });
}

#[test]
fn a_fallback_of_a_value_metric_counts_ready_pods() {
    let case = Case::new("fallback-value").deployment(2);
    let ready = Command::new(path("tests/cluster/ready"))
        .args(["--cluster", &case.cluster.folder.display().to_string(), &case.namespace, "app=api", "2"])
        .status()
        .expect("tests/cluster/ready can be run");
    assert!(ready.success());
    let source = Source::new(None);
    let mut trigger = source.trigger("10");
    trigger["metricType"] = "Value".into();
    let fallback = json!({ "failureThreshold": 1, "replicas": 6 });
    case.scale("so", json!({ "minReplicaCount": 1, "fallback": fallback, "triggers": [trigger] }));
    // 10 × 6 replicas ÷ 2 ready pods, so that the HPA's own 30 ÷ 10 × 2 ready pods gives 6 again.
    case.wait_for_replicas(6);
    case.wait_for_condition("Fallback", "True", "FallbackExists");
    let metric: Value = wait_for("the metric", || {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso",
            case.namespace
        );
        case.cluster.raw(&path).ok()
    });
    assert_eq!(metric["items"][0]["value"], "30");
    source.set(10.0);
    case.wait_for_condition("Fallback", "False", "NoFallbackFound");
}
