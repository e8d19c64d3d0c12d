//! `hpalite freeze` and `hpalite thaw`, and the annotations that they write.

use serde_json::{Value, json};

use super::case::Case;
use super::daemon;
use super::migration::{done, refused};
use super::pause::running;
use crate::support::cluster::{bounded, condition, wait_for, wait_seeing};

/// The changes of the condition Paused in the history, in their order.
fn recorded(case: &Case<'_>) -> Vec<(String, String)> {
    let rows = daemon().1.sql(&format!(
        "SELECT status, message FROM v_condition_change \
         WHERE namespace = '{}' AND kind = 'Paused' AND reason <> '' ORDER BY at_unix_ms",
        case.namespace
    ));
    let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "status"), text(row, "message"))).collect()
}

fn why(case: &Case<'_>) -> String {
    let db = daemon().1.db().display().to_string();
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["why", "-n", &case.namespace, "so", "--db", &db])
        .output()
        .expect("hpalite can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_frozen_object_stays_until_the_time_and_thaws_by_itself() {
    let (case, source) = running("freeze");
    let object = format!("{}/so", case.namespace);
    let freeze = ["freeze", object.as_str(), "--until", "12s", "--reason", "INC-7"];
    let would = done(case.cluster, &[&freeze[..], &["--dry-run"]].concat());
    assert!(
        would.starts_with(&format!("would pause ScaledObject {object} at the current replicas until 2")),
        "{would}"
    );
    assert_eq!(condition(&case.object("so"), "Paused").map(|(status, ..)| status).as_deref(), Some("False"));
    let said = done(case.cluster, &freeze);
    assert!(said.starts_with(&format!("pause ScaledObject {object}")) && said.ends_with(": INC-7\n"), "{said}");
    let message = case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    assert!(message.starts_with("ScaledObject is paused until 2") && message.ends_with("Z: INC-7"), "{message}");
    source.set(90.0);
    case.wait_until_hpa_is_gone();
    wait_seeing("why to say until when", || {
        let text = why(&case);
        text.contains(&message).then_some(()).ok_or(text)
    });
    assert_eq!(case.replicas(), 3);
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
    case.wait_for_replicas(9);
    let end = "the time of the annotation autoscaling.keda.sh/paused-until has come".to_owned();
    wait_seeing("one row each way", || {
        let rows = recorded(&case);
        let expected = [("True".to_owned(), message.clone()), ("False".to_owned(), end.clone())];
        (rows == expected).then_some(()).ok_or_else(|| format!("{rows:?}"))
    });
}

#[test]
fn a_frozen_namespace_holds_all_that_do_not_decline_until_it_is_thawed() {
    let (case, source) = running("freeze-ns");
    case.cluster.deployment(&case.namespace, "other", 1);
    let mut other = case.scaled_object("other", json!({ "triggers": [source.trigger("10")] }));
    other["spec"]["scaleTargetRef"]["name"] = "other".into();
    other["metadata"]["annotations"] = json!({ "autoscaling.keda.sh/paused": "false" });
    case.apply(other);
    let namespace = case.namespace.as_str();
    let freeze = ["freeze", "-n", namespace, "--replicas", "2", "--until", "1h", "--reason", "upgrade"];
    let said = done(case.cluster, &freeze);
    for words in [
        format!("pause Namespace {namespace} at 2 replicas until "),
        format!("ScaledObject {namespace}/so with it"),
        format!("not ScaledObject {namespace}/other, whose own annotations take precedence"),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    let message = case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    assert!(message.starts_with("ScaledObject is paused by its Namespace until 2"), "{message}");
    case.wait_for_replicas(2);
    source.set(50.0);
    wait_for("the other to go on", || (case.cluster.replicas(namespace, "other")? == 5).then_some(()));
    assert_eq!(case.replicas(), 2);
    let object = format!("{namespace}/so");
    let said = done(case.cluster, &["thaw", &object]);
    assert!(said.contains(&format!("it is paused by its Namespace too: hpalite thaw -n {namespace}")), "{said}");
    assert!(done(case.cluster, &["thaw", "-n", namespace]).contains(&format!("thaw Namespace {namespace}")));
    case.wait_for_replicas(5);
    assert!(done(case.cluster, &["thaw", "-n", namespace]).contains("nothing here is frozen"));
}

#[test]
fn pauses_of_others_are_left_alone_and_a_bad_time_is_named() {
    let (case, source) = running("freeze-foreign");
    let object = format!("{}/so", case.namespace);
    case.annotate(&["paused-scale-in=true", "paused-until=tomorrow"]);
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("[autoscaling.keda.sh/paused-until]: \"tomorrow\" is no time"), "{message}");
    refused(
        case.cluster,
        &["freeze", &object, "--until", "1h", "--reason", "x"],
        "is left as it is, since it has autoscaling.keda.sh/paused-scale-in, autoscaling.keda.sh/paused-until already",
    );
    assert!(done(case.cluster, &["thaw", &object]).contains("which hpalite freeze did not write"));
    refused(
        case.cluster,
        &["freeze", &object, "--until", "2020-01-01T00:00:00Z", "--reason", "x"],
        "2020-01-01T00:00:00Z is past",
    );
    case.annotate(&["paused-scale-in-", "paused-until=2020-01-01T00:00:00Z"]);
    case.wait_until_ready();
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
    source.set(60.0);
    case.wait_for_replicas(6);
    refused(case.cluster, &["freeze", "nowhere/so", "--until", "1h", "--reason", "x"], "there is no ScaledObject");
}
