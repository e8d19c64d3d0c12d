//! The annotations `autoscaling.keda.sh/…`.

use serde_json::json;

use super::case::{Case, Source};
use crate::support::cluster::{condition, wait_for, wait_seeing};

/// Three replicas under a load of 30, Ready.
pub(super) fn running(purpose: &str) -> (Case<'static>, Source) {
    let case = Case::new(purpose).deployment(0);
    let source = Source::new(30.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    case.wait_until_ready();
    (case, source)
}

#[test]
fn paused_stops_everything_where_it_is() {
    let (case, source) = running("paused");
    let before = case.wait_for_hpa()["metadata"]["uid"].clone();
    case.annotate(&["paused=true"]);
    case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    case.wait_until_hpa_is_gone();
    let message = case.wait_for_condition("Ready", "True", "ScaledObjectReady");
    assert_eq!(message, "ScaledObject is paused");
    for reason in ["ScaledObjectPaused", "KEDAScalersStopped"] {
        case.wait_for_event(reason, "");
    }
    let asked = source.requests().len();
    source.set(90.0);
    // While it is paused, manual changes of the target are respected.
    case.kubectl(&["scale", "deployment", "api", "--replicas=2"]);
    case.annotate(&["unrelated=1"]);
    wait_for("the annotation to be seen", || {
        (case.object("so")["metadata"]["annotations"].as_object()?.len() > 1).then_some(())
    });
    assert_eq!(source.requests().len(), asked, "a paused object costs no query");
    assert_eq!(case.replicas(), 2);
    case.annotate(&["paused-"]);
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
    case.wait_for_event("ScaledObjectUnpaused", "pause annotation removed for ScaledObject");
    case.wait_for_replicas(9);
    assert_ne!(case.wait_for_hpa()["metadata"]["uid"], before, "it was deleted and is another");
}

#[test]
fn paused_replicas_sets_any_count_and_removal_resumes() {
    let (case, _source) = running("paused-replicas");
    case.annotate(&["paused-replicas=5"]);
    case.wait_for_replicas(5);
    case.wait_until_hpa_is_gone();
    wait_seeing("pausedReplicaCount", || {
        let status = case.object("so")["status"].clone();
        (status["pausedReplicaCount"] == 5).then_some(()).ok_or_else(|| status.to_string())
    });
    case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    // It is enforced against other changes.
    case.kubectl(&["scale", "deployment", "api", "--replicas=1"]);
    case.wait_for_replicas(5);
    case.annotate(&["paused-replicas=0"]);
    case.wait_for_replicas(0);
    case.annotate(&["paused-replicas-"]);
    case.wait_for_replicas(3);
    wait_seeing("pausedReplicaCount to be gone", || {
        let status = case.object("so")["status"].clone();
        status["pausedReplicaCount"].is_null().then_some(()).ok_or_else(|| status.to_string())
    });
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
}

#[test]
fn paused_scale_in_lets_it_grow_only() {
    let (case, source) = running("paused-in");
    case.annotate(&["paused-scale-in=true"]);
    wait_seeing("scaling down to be disabled", || {
        let behavior = case.hpa().ok_or("no HPA")?["spec"]["behavior"].clone();
        (behavior["scaleDown"]["selectPolicy"] == "Disabled").then_some(()).ok_or_else(|| behavior.to_string())
    });
    case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    source.set(50.0);
    case.wait_for_replicas(5);
    source.set(0.0);
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    source.asked(5);
    assert_eq!(case.replicas(), 5, "neither the HPA nor the cooldown took it down");
    case.annotate(&["paused-scale-in-"]);
    case.wait_for_replicas(0);
    wait_seeing("the behavior to be gone", || {
        let behavior = case.hpa().ok_or("no HPA")?["spec"]["behavior"].clone();
        (behavior["scaleDown"]["selectPolicy"] != "Disabled").then_some(()).ok_or_else(|| behavior.to_string())
    });
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
}

#[test]
fn paused_scale_out_keeps_it_at_zero() {
    let case = Case::new("paused-out").deployment(0);
    let source = Source::new(30.0);
    let mut object = case.scaled_object("so", json!({ "triggers": [source.trigger("10")] }));
    object["metadata"]["annotations"] = json!({ "autoscaling.keda.sh/paused-scale-out": "true" });
    case.apply(object);
    case.wait_for_condition("Active", "True", "ScalerActive");
    source.asked(3);
    assert_eq!(case.replicas(), 0);
    assert_eq!(case.wait_for_hpa()["spec"]["behavior"]["scaleUp"]["selectPolicy"], "Disabled");
    case.annotate(&["paused-scale-out-"]);
    case.wait_for_replicas(3);
}

#[test]
fn force_activation_works_without_load() {
    let case = Case::new("force").deployment(0);
    let source = Source::new(0.0);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_condition("Active", "False", "ScalerNotActive");
    case.annotate(&["force-activation=true"]);
    case.wait_for_replicas(1);
    let message = case.wait_for_condition("Active", "True", "ScalerActive");
    assert!(message.contains("forced by annotation"), "{message}");
    case.wait_for_event("KEDAScaleTargetActivated", "caused by forced activation annotation");
    source.asked(4);
    assert_eq!(case.replicas(), 1, "it stays beyond the cooldown");
    case.annotate(&["force-activation-"]);
    case.wait_for_replicas(0);
}

#[test]
fn junk_in_a_boolean_counts_as_yes_and_false_as_no() {
    let (case, source) = running("junk");
    case.annotate(&["paused=junk"]);
    case.wait_for_condition("Paused", "True", "ScaledObjectPaused");
    case.wait_until_hpa_is_gone();
    case.annotate(&["paused=F"]);
    case.wait_for_condition("Paused", "False", "ScaledObjectUnpaused");
    source.set(40.0);
    case.wait_for_replicas(4);
}

#[test]
fn junk_in_a_count_pauses_and_is_named() {
    let (case, _source) = running("junk-count");
    case.annotate(&["paused-replicas=many"]);
    let message = case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    assert!(message.contains("autoscaling.keda.sh/paused-replicas") && message.contains("\"many\""), "{message}");
    case.wait_until_hpa_is_gone();
    assert_eq!(case.replicas(), 3);
    assert_eq!(condition(&case.object("so"), "Paused").map(|(status, ..)| status).as_deref(), Some("True"));
    case.annotate(&["paused-replicas=2"]);
    case.wait_for_replicas(2);
    case.wait_until_ready();
}
