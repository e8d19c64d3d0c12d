//! Rows 21, 22, 23 and 30: bad numbers and bad backends, and the reaction of the HPA controller.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::door::{Answer, Door, holder};
use super::scene::{GV, scene};
use crate::e2e::case::{Case, Source};
use crate::support::cluster::{path, wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

/// Reads `s0-prometheus` of `so` as the kube-apiserver does.
fn read(case: &Case<'_>) -> Answer {
    let namespace = &case.namespace;
    let target = format!("{GV}/namespaces/{namespace}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso");
    scene().as_master(&target)
}

fn wait_for_value(case: &Case<'_>, value: &str) {
    wait_seeing(&format!("the value {value}"), || match read(case) {
        answer if answer.code == 200 && answer.value() == value => Ok(()),
        answer => Err(answer.body),
    });
}

/// Waits for a failure; returns its message, which must stay the same over several polls.
fn wait_for_failure(case: &Case<'_>, source: &Source, words: &str) -> String {
    let message = wait_seeing(&format!("a failure with \"{words}\""), || match read(case) {
        answer if answer.code == 500 && answer.message().contains(words) => Ok(answer.message()),
        answer => Err(answer.body),
    });
    source.asked(3);
    let answer = read(case);
    assert_eq!(
        (answer.code, answer.message()),
        (500, message.clone()),
        "one text, or each becomes an event of its own"
    );
    assert_eq!(answer.json()["reason"], "InternalError");
    assert!(message.len() < 300, "{message}");
    message
}

#[test]
fn row_21_bad_numbers_and_a_backend_that_is_down() {
    let case = Case::new("numbers").deployment(1);
    let source = Source::new(7.0);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    wait_for_value(&case, "7");
    source.set(None);
    let down = wait_for_failure(&case, &source, "503");
    assert!(down.contains(&format!("{}/so", case.namespace)) && down.contains(&source.url()), "{down}");
    source.set(f64::NAN);
    wait_for_failure(&case, &source, "NaN");
    source.set(f64::INFINITY);
    wait_for_failure(&case, &source, "Inf");
    source.set(-3.0);
    wait_for_value(&case, "0");
    source.set(1e30);
    wait_for_value(&case, "9223372036854775");
    for (value, text) in [(2.5, "2500m"), (0.0006, "1m"), (0.0004, "0"), (100_500.0, "100500"), (0.0, "0")] {
        source.set(value);
        wait_for_value(&case, text);
    }
}

#[test]
fn row_22_a_backend_that_hangs() {
    let case = Case::new("hanging").deployment(1);
    let hangs = Arc::new(AtomicBool::new(true));
    let current = Arc::clone(&hangs);
    let fake = FakePrometheus::start(move |_| match current.load(Ordering::SeqCst) {
        true => Reply::Stall(Vec::new()),
        false => Reply::value("4"),
    });
    let trigger = json!({
        "type": "prometheus", "metadata": { "serverAddress": fake.url(), "query": "load", "threshold": "10", "timeout": "1s" },
    });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));
    wait_for("the first query", || (!fake.requests().is_empty()).then_some(()));
    // Before and after the first query has ended, the answer comes in time and is not a value.
    for words in ["", "no answer from"] {
        wait_seeing("an answer of its own deadline", || {
            let started = Instant::now();
            let answer = read(&case);
            assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
            assert_ne!(answer.code, 200, "a made-up value: {}", answer.body);
            match answer.code {
                500 | 504 if answer.message().contains(words) => Ok(()),
                _ => Err(answer.body),
            }
        });
    }
    hangs.store(false, Ordering::SeqCst);
    fake.close_connections();
    wait_for_value(&case, "4");
}

/// Every [`Answer`] is checked when it is read; this checks those that the kube-apiserver passes on.
#[test]
fn row_23_failures_through_the_kube_apiserver() {
    let case = Case::new("failures").deployment(1);
    let source = Source::new(None);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    let apiserver = Door::of_apiserver(case.cluster);
    let admin = holder(case.cluster, "admin");
    let inside = format!("{GV}/namespaces/{}", case.namespace);
    wait_seeing("the failure", || match apiserver.get(Some(&admin), &format!("{inside}/s0-prometheus"), &[]) {
        answer if answer.code == 500 && answer.message().contains("503") => Ok(()),
        answer => Err(answer.body),
    });
    for (path, code) in [("/absent", 404), ("/s0-prometheus?labelSelector=a(", 400), ("/s0-prometheus?watch=1", 405)] {
        assert_eq!(apiserver.get(Some(&admin), &format!("{inside}{path}"), &[]).code, code, "{path}");
    }
}

fn current(case: &Case<'_>, form: &str) -> String {
    let hpa = case.hpa().unwrap_or_default();
    hpa["status"]["currentMetrics"][0]["external"]["current"][form].as_str().unwrap_or_default().to_owned()
}

#[test]
fn row_30_average_value_errors_and_extremes() {
    let case = Case::new("average").deployment(1);
    let source = Source::new(50.0);
    case.scale("so", json!({ "minReplicaCount": 2, "maxReplicaCount": 6, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(5);
    source.set(None);
    let message = case.wait_for_hpa_condition("False", "unable to fetch metrics from external metrics API");
    assert!(message.contains("metric s0-prometheus of ScaledObject") && message.contains("503"), "{message}");
    source.asked(4);
    assert_eq!(case.replicas(), 5, "an error moves nothing");
    source.set(30.0);
    case.wait_for_hpa_condition("True", "external metric s0-prometheus");
    case.wait_for_replicas(3);
    // The controller would take a sum below zero for an overflow and scale to the maximum.
    source.set(-3.0);
    case.wait_for_replicas(2);
    wait_seeing("the HPA to have seen zero", || match current(&case, "averageValue") {
        seen if seen == "0" => Ok(()),
        seen => Err(seen),
    });
    assert_eq!(case.replicas(), 2);
    source.set(2e16);
    case.wait_for_replicas(6);
    wait_seeing("the HPA to divide the largest value", || match current(&case, "averageValue") {
        // 9223372036854775 divided by six, which the controller rounds up to a thousandth.
        seen if seen.starts_with("1537228672809129") => Ok(()),
        seen => Err(seen),
    });
}

#[test]
fn row_30_value_targets() {
    let case = Case::new("value").deployment(1);
    let source = Source::new(30.0);
    let mut trigger = source.trigger("10");
    trigger["metricType"] = "Value".into();
    // Multiplied by the ready pods, of which there is one.
    let ready = Command::new(path("tests/cluster/ready"))
        .args(["--cluster", &case.cluster.folder.display().to_string(), &case.namespace, "app=api", "1"])
        .status()
        .expect("tests/cluster/ready can be run");
    assert!(ready.success());
    case.scale("so", json!({ "minReplicaCount": 1, "maxReplicaCount": 5, "triggers": [trigger] }));
    case.wait_for_replicas(3);
    source.set(None);
    case.wait_for_hpa_condition("False", "unable to fetch metrics from external metrics API");
    source.asked(3);
    assert_eq!(case.replicas(), 3);
    source.set(-3.0);
    case.wait_for_replicas(1);
    source.set(2e16);
    case.wait_for_replicas(5);
}

#[test]
fn row_30_several_items_are_summed() {
    let case = Case::new("sum").deployment(1);
    let sources = [Source::new(20.0), Source::new(30.0)];
    for (n, source) in sources.iter().enumerate() {
        case.cluster.deployment(&case.namespace, &format!("part-{n}"), 1);
        let target = json!({ "name": format!("part-{n}") });
        case.scale(
            &format!("part-{n}"),
            json!({ "scaleTargetRef": target, "minReplicaCount": 1, "triggers": [source.trigger("100")] }),
        );
    }
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "keda-hpa-so", "namespace": case.namespace },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" }, "minReplicas": 1, "maxReplicas": 9,
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": "s0-prometheus" }, "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    });
    case.apply(hpa);
    wait_seeing("the sum of both", || match case.hpa().unwrap_or(Value::Null)["status"]["desiredReplicas"].as_i64() {
        Some(5) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    // If one fails, the sum is unknown.
    sources[1].set(None);
    case.wait_for_hpa_condition("False", "503");
    assert_eq!(case.replicas(), 5);
    sources[1].set(10.0);
    wait_for("the sum of both", || (case.replicas() == 3).then_some(()));
}
