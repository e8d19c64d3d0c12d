//! Pausing, in one direction or fully, and resuming.

use super::*;

#[test]
fn a_full_pause_stops_polls_first_then_removes_the_hpa() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(5);
    assert_eq!(rig.kinds(), ["DeleteHpa", "Status"]);
    assert_eq!(rig.reasons(), ["ScaledObjectPaused", "KEDAScalersStopped"]);
    assert!(!rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.condition("shop", ConditionKind::Paused), "Paused=True ScaledObjectPaused");
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
    assert_eq!(rig.ready_message("shop"), "ScaledObject is paused");
    assert!(!rig.object("shop").status.triggers_activity.is_empty());
    rig.clear();
    rig.seconds(600);
    assert!(rig.polls.is_empty() && rig.writes.is_empty());
}

#[test]
fn going_on_creates_the_hpa_and_says_so() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(0)));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 0);
    assert_eq!(rig.object("shop").status.paused_replica_count, Some(0));
    rig.clear();
    rig.annotate(&key("shop"), |object| object.pause.replicas = None);
    rig.seconds(5);
    assert_eq!(
        rig.reasons(),
        ["ScaledObjectUnpaused", "KEDAScalersStarted", "KEDAScalersStarted", "KEDAScaleTargetActivated"]
    );
    assert!(rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.replicas("web"), 1);
    assert_eq!(rig.object("shop").status.paused_replica_count, None);
    assert_eq!(rig.condition("shop", ConditionKind::Paused), "Paused=False ScaledObjectUnpaused");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn a_paused_count_is_kept_against_others_and_changed_with_the_annotation() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(5)));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 5);
    rig.set_replicas("web", 9);
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 5);
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(2)));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 2);
    assert_eq!(rig.object("shop").status.paused_replica_count, Some(2));
}

#[test]
fn a_paused_count_that_is_no_number_still_pauses() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| {
        object.pause.replicas = Some(Err("three".to_owned()));
    });
    rig.seconds(5);
    assert!(!rig.has_hpa("keda-hpa-shop"));
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
    assert_eq!(rig.condition("shop", ConditionKind::Paused), "Paused=True ScaledObjectPaused");
    rig.clear();
    rig.seconds(300);
    assert!(rig.polls.is_empty() && rig.writes.is_empty());
}

#[test]
fn an_invalid_object_can_be_paused_at_a_count() {
    use crate::scaling::model::{Invalid, Problem, Step};
    let mut rig = shop(3, 500.0, |_| {});
    rig.edit(&key("shop"), |object| {
        object.definition = Err(Invalid {
            problems: vec![Problem {
                step: Step::Triggers,
                field: "spec.triggers".to_owned(),
                message: "is empty".to_owned(),
                fix: String::new(),
            }],
        });
        object.pause.replicas = Some(Ok(1));
    });
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn scale_in_pause_holds_above_zero_and_limits_the_hpa() {
    let mut rig = shop(3, 0.0, |d| d.cooldown_period = std::time::Duration::from_secs(5));
    rig.set_answer("up", Answer::Value(5.0));
    rig.seconds(5);
    rig.clear();
    rig.annotate(&key("shop"), |object| object.pause.scale_in = true);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(120);
    assert_eq!(rig.replicas("web"), 3);
    assert_eq!(rig.reasons(), ["ScaledObjectPaused"]);
    let hpa = rig.cluster.hpas.values().next().unwrap();
    let down = hpa.behavior.as_ref().unwrap().scale_down.as_ref().unwrap();
    assert_eq!(down.select_policy.as_deref(), Some("Disabled"));
    rig.annotate(&key("shop"), |object| object.pause.scale_in = false);
    rig.seconds(2);
    assert_eq!(rig.replicas("web"), 0);
    let hpa = rig.cluster.hpas.values().next().unwrap();
    assert_eq!(hpa.behavior, None);
}

#[test]
fn scale_out_pause_holds_at_zero() {
    let mut rig = shop(0, 5.0, |_| {});
    rig.annotate(&key("shop"), |object| object.pause.scale_out = true);
    rig.seconds(120);
    assert_eq!(rig.replicas("web"), 0);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
    rig.annotate(&key("shop"), |object| object.pause.scale_out = false);
    rig.seconds(2);
    assert_eq!(rig.replicas("web"), 1);
}

#[test]
fn found_paused_at_start_writes_nothing_and_going_on_is_reported() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(5);
    rig.restart(Vec::new());
    rig.clear();
    rig.seconds(60);
    assert!(rig.writes.is_empty() && rig.events.is_empty());
    rig.annotate(&key("shop"), |object| object.pause.paused = false);
    rig.seconds(5);
    assert_eq!(rig.reasons(), ["ScaledObjectUnpaused", "KEDAScalersStarted", "KEDAScalersStarted"]);
}
