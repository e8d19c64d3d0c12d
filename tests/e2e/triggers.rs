//! Triggers besides prometheus: what the HPA controller measures itself, and time windows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{condition, wait_seeing, wait_until};

fn external(name: &str, value: &str) -> Value {
    let selector = json!({ "matchLabels": { "scaledobject.keda.sh/name": "so" } });
    json!({ "type": "External", "external": {
        "metric": { "name": name, "selector": selector }, "target": { "type": "AverageValue", "averageValue": value },
    } })
}

#[test]
fn resource_metrics_reach_the_hpa_and_stay_as_they_are() {
    let case = Case::new("resources").deployment(1);
    let source = Source::new(30.0);
    let cpu = json!({ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "60" } });
    let memory = json!({ "type": "memory", "metricType": "AverageValue", "metadata": { "value": "200Mi" } });
    let of_container =
        json!({ "type": "cpu", "metricType": "AverageValue", "metadata": { "value": "500m", "containerName": "c" } });
    case.scale("so", json!({ "triggers": [cpu, source.trigger("10"), memory, of_container] }));
    let target = |kind: &str, value: Value| match kind {
        "Utilization" => json!({ "type": kind, "averageUtilization": value }),
        _ => json!({ "type": kind, "averageValue": value }),
    };
    let expected = json!([
        { "type": "ContainerResource", "containerResource": { "container": "c", "name": "cpu", "target": target("AverageValue", json!("500m")) } },
        external("s1-prometheus", "10"),
        { "type": "Resource", "resource": { "name": "cpu", "target": target("Utilization", json!(60)) } },
        { "type": "Resource", "resource": { "name": "memory", "target": target("AverageValue", json!("200Mi")) } },
    ]);
    assert_eq!(case.wait_for_hpa()["spec"]["metrics"], expected);
    case.wait_until_ready();
    case.wait_for_replicas(3);
    let status = case.object("so")["status"].clone();
    assert_eq!(status["externalMetricNames"], json!(["s1-prometheus"]));
    assert_eq!(status["resourceMetricNames"], json!(["cpu", "memory"]));
    assert_eq!(status["triggersTypes"], "cpu,prometheus,memory");
    assert_eq!(status["triggersActivity"], json!({ "s1-prometheus": { "isActive": true } }));
    // Only the prometheus trigger decides about zero, in both directions.
    source.set(0.0);
    case.wait_for_replicas(0);
    source.set(30.0);
    case.wait_for_replicas(3);
}

#[test]
fn nothing_but_cpu_keeps_the_target_up() {
    let case = Case::new("only-cpu").deployment(0);
    let trigger = json!({ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "60" } });
    case.scale("so", json!({ "minReplicaCount": 0, "triggers": [trigger] }));
    case.wait_for_replicas(1);
    case.wait_until_ready();
    let message = case.wait_for_condition("Active", "True", "ScalerActive");
    assert_eq!(message, "Scaling is performed because triggers are active");
    case.wait_for_event("KEDAScaleTargetActivated", "from 0 to 1, triggered by cpu");
    // There is no metrics server: the HPA's own message is mirrored on the object.
    let message = case.wait_for_condition("HPAActive", "False", "FailedGetResourceMetric");
    assert!(message.contains("failed to get cpu utilization"), "{message}");
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Asks for four replicas from one minute since 1970 to another, written in Indian time.
fn cron(start: u64, end: u64) -> Value {
    let expression = |minute: u64| {
        let there = minute + 330;
        format!("{} {} * * *", there % 60, there / 60 % 24)
    };
    json!({ "type": "cron", "metadata": {
        "timezone": "Asia/Kolkata", "start": expression(start), "end": expression(end), "desiredReplicas": "4",
    } })
}

#[test]
fn a_window_opens_and_shuts_on_the_minute() {
    let case = Case::new("cron").deployment(0);
    // Leaves time to become Ready before it opens, and for the HPA before it closes.
    let start = (now() + 15) / 60 + 1;
    let end = start + 1;
    // Only the edges of the window cause a decision in this time.
    case.scale("so", json!({ "pollingInterval": 3600, "cooldownPeriod": 0, "triggers": [cron(start, end)] }));
    case.wait_until_ready();
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    assert_eq!(case.replicas(), 0);
    wait_until("the window to open", Duration::from_secs(120), || (case.replicas() > 0).then_some(()));
    assert!(now() >= start * 60, "not before its time");
    let metric = case.object("so")["status"]["externalMetricNames"][0].as_str().unwrap().to_owned();
    assert!(metric.starts_with("s0-cron-Asia-Kolkata-"), "{metric}");
    wait_until("the HPA to follow", Duration::from_secs(50), || (case.replicas() == 4).then_some(()));
    wait_until("the window to shut", Duration::from_secs(120), || (case.replicas() == 0).then_some(()));
    assert!(now() >= end * 60, "not before its time");
    let decided = |reason: &str| {
        let rows = daemon().1.sql(&format!(
            "SELECT at_unix_ms FROM v_decision WHERE namespace = '{}' AND reason = '{reason}' ORDER BY at_unix_ms",
            case.namespace
        ));
        rows.first().and_then(|row| row["at_unix_ms"].as_u64()).ok_or_else(|| format!("{rows:?}"))
    };
    let (opened, shut) = wait_seeing("the history to show it", || Ok((decided("Activated")?, decided("Deactivated")?)));
    // Within the second, if the machine is not too busy.
    assert!((start * 60_000..start * 60_000 + 5_000).contains(&opened), "{opened}, not {start}:00");
    assert!((end * 60_000..end * 60_000 + 5_000).contains(&shut), "{shut}, not {end}:00");
    let values = daemon()
        .1
        .sql(&format!("SELECT value FROM v_sample WHERE namespace = '{}' ORDER BY at_unix_ms", case.namespace));
    let values: Vec<f64> = values.iter().filter_map(|row| row["value"].as_f64()).collect();
    assert_eq!(values, [0.0, 4.0, 0.0]);
}

/// With a Value the HPA would multiply by three at each sync: 1, 3, 9, and so on to the maximum.
#[test]
fn a_window_of_metric_type_value_stays_at_its_replicas() {
    let case = Case::new("cron-value").deployment(1);
    let minute = now() / 60;
    let mut open = cron(minute - 60, minute + 120);
    open["metricType"] = "Value".into();
    open["metadata"]["desiredReplicas"] = "3".into();
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [open] }));
    case.wait_for_replicas(3);
    let hpa = case.wait_for_hpa();
    let target = &hpa["spec"]["metrics"][0]["external"]["target"];
    assert_eq!(target, &json!({ "type": "AverageValue", "averageValue": "1" }));
    // Once the HPA has synced with three running, it wants the same three.
    wait_seeing("the HPA to want 3 of 3", || {
        let status = &case.hpa().expect("it is there")["status"];
        let seen = (status["currentReplicas"].as_i64(), status["desiredReplicas"].as_i64());
        let message = condition(&case.hpa().expect("it is there"), "AbleToScale");
        let has_looked = message
            .as_ref()
            .is_some_and(|(_, reason, _)| reason == "ReadyForNewScale" || reason == "ScaleDownStabilized");
        if seen == (Some(3), Some(3)) && has_looked { Ok(()) } else { Err(format!("{seen:?} {message:?}")) }
    });
    assert_eq!(case.replicas(), 3);
}

#[test]
fn a_target_that_cannot_exist_is_reported_with_what_to_write() {
    let case = Case::new("cannot-exist");
    for (name, target, words) in [
        ("case", json!({ "name": "api", "kind": "deployment" }), "no kind is called \"deployment\" (write Deployment)"),
        ("old", json!({ "name": "api", "kind": "Deployment", "apiVersion": "extensions/v1beta1" }), "(write apps/v1)"),
        ("daemons", json!({ "name": "api", "kind": "DaemonSet" }), "a DaemonSet cannot be scaled"),
    ] {
        case.scale(name, json!({ "scaleTargetRef": target, "triggers": [cron(60, 120)] }));
        let message = case.wait_for_condition_of(name, "Ready", "False", "ScaledObjectCheckFailed");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn an_open_window_carries_an_object_whose_prometheus_is_down() {
    let case = Case::new("cron-failing").deployment(0);
    let source = Source::new(None);
    let minute = now() / 60;
    let open = cron(minute - 60, minute + 120);
    case.scale("so", json!({ "triggers": [source.trigger("10"), open] }));
    case.wait_for_replicas(4);
    case.wait_for_condition("Ready", "Unknown", "PartialTriggerError");
    let status = case.object("so")["status"].clone();
    assert_eq!(status["triggersTypes"], "prometheus,cron");
    let activity: Vec<bool> =
        status["triggersActivity"].as_object().unwrap().values().map(|activity| activity["isActive"] == true).collect();
    assert_eq!(activity, [false, true], "{status}");
    // Once both have values, the larger one applies.
    source.set(70.0);
    case.wait_for_replicas(7);
    case.wait_until_ready();
}

#[test]
fn cron_triggers_that_cannot_be_are_refused_at_once() {
    let case = Case::new("cron-refused");
    let refused = |change: Value| {
        let mut trigger = cron(60, 120);
        for (key, value) in change.as_object().unwrap() {
            trigger["metadata"][key] = value.clone();
        }
        let object = case.scaled_object("so", json!({ "triggers": [trigger] }));
        case.cluster.try_apply(&object.to_string()).unwrap_err()
    };
    let text = refused(json!({ "timezone": " " }));
    assert!(text.contains("a cron trigger needs metadata.timezone, start, end and desiredReplicas"), "{text}");
    let text = refused(json!({ "start": "0 8 * * *", "end": "0 8 * * * " }));
    assert!(text.contains("metadata.start and metadata.end of a cron trigger are the same"), "{text}");
    // What only the daemon knows is reported on the object.
    let mut trigger = cron(60, 120);
    trigger["metadata"]["timezone"] = json!("Europe/Berln");
    case.cluster.deployment(&case.namespace, "api", 1);
    case.scale("so", json!({ "triggers": [trigger] }));
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("\"Europe/Berln\" is no time zone (write \"Europe/Berlin\")"), "{message}");
}
