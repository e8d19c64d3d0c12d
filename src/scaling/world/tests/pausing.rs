//! Pausing, in one direction or fully, and resuming.

use std::time::Duration;

use super::rig::settings;
use super::*;
use crate::scaling::event::{
    Event, Record, TargetError, TargetErrorKind, TargetRead, WatchEvent, Write, WriteDone, WriteKind, WriteOk,
};
use crate::scaling::model::{ConditionStatus, Pause, UnixMillis};
use crate::scaling::world::World;

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

fn paused_until(at: UnixMillis) -> Pause {
    Pause { paused: true, until: Some(Ok(at)), reason: Some("INC-7".to_owned()), ..Pause::default() }
}

/// Statuses and messages of the recorded changes of the condition Paused.
fn recorded_pauses(rig: &Rig) -> Vec<(ConditionStatus, String)> {
    let conditions = rig.records.iter().filter_map(|record| match record {
        Record::Condition { condition, .. } if condition.kind == ConditionKind::Paused => Some(condition),
        _ => None,
    });
    conditions.map(|condition| (condition.status, condition.message.to_string())).collect()
}

const BEGINS: &str = "ScaledObject is paused until 1970-01-12T13:47:45Z: INC-7";
const ENDS: &str = "the time of the annotation autoscaling.keda.sh/paused-until has come";

#[test]
fn a_pause_with_an_end_thaws_by_itself_and_is_recorded_once_each_way() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    let end = rig.now.plus(Duration::from_secs(60));
    rig.annotate(&key("shop"), |object| object.pause = paused_until(end));
    rig.seconds(59);
    assert!(!rig.has_hpa("keda-hpa-shop"));
    assert_eq!(recorded_pauses(&rig), [(ConditionStatus::True, BEGINS.to_owned())]);
    rig.seconds(600);
    assert!(rig.has_hpa("keda-hpa-shop") && !rig.polls.is_empty());
    let both = [(ConditionStatus::True, BEGINS.to_owned()), (ConditionStatus::False, ENDS.to_owned())];
    assert_eq!(recorded_pauses(&rig), both);
    assert_eq!(rig.condition("shop", ConditionKind::Paused), "Paused=False ScaledObjectUnpaused");
    assert!(rig.events.iter().any(|event| event.reason == "ScaledObjectUnpaused" && event.note == ENDS));
}

#[test]
fn a_restart_neither_ends_nor_lengthens_a_pause() {
    for downtime in [10, 100] {
        let mut rig = shop(3, 500.0, |_| {});
        rig.seconds(5);
        let end = rig.now.plus(Duration::from_secs(60));
        rig.annotate(&key("shop"), |object| object.pause = paused_until(end));
        rig.seconds(5);
        rig.clear();
        rig.stand_still(downtime * 1_000);
        rig.restart(Vec::new());
        rig.seconds(5);
        let is_over = rig.now >= end;
        assert_eq!((rig.has_hpa("keda-hpa-shop"), recorded_pauses(&rig).len()), (is_over, usize::from(is_over)));
        rig.seconds(100);
        assert!(rig.has_hpa("keda-hpa-shop"));
        assert_eq!(recorded_pauses(&rig), [(ConditionStatus::False, ENDS.to_owned())]);
    }
}

#[test]
fn edits_of_a_far_end_leave_nothing_behind() {
    let mut rig = shop(3, 500.0, |_| {});
    for day in 1..1_000 {
        let end = rig.now.plus(Duration::from_hours(24 * day));
        rig.annotate(&key("shop"), |object| object.pause = paused_until(end));
        rig.seconds(1);
    }
    let wakes = rig.world.outbox.wakes.len();
    assert!(wakes < 10, "{wakes} wakes for one object");
}

#[test]
fn an_end_follows_the_wall_clock() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    let end = rig.now.plus(Duration::from_secs(3_600));
    rig.annotate(&key("shop"), |object| object.pause = paused_until(end));
    rig.seconds(5);
    rig.step_clock(-1_800_000);
    rig.seconds(3_600);
    assert!(!rig.has_hpa("keda-hpa-shop"), "not by what had been left before the step");
    rig.step_clock(3_600_000);
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
}

#[test]
fn a_bad_end_is_an_error_on_the_object_and_holds() {
    for scale_in in [false, true] {
        let mut rig = shop(3, 500.0, |_| {});
        rig.seconds(5);
        rig.annotate(&key("shop"), |object| {
            object.pause.paused = !scale_in;
            object.pause.scale_in = scale_in;
            object.pause.until = Some(Err("tomorrow".to_owned()));
        });
        rig.seconds(5);
        assert_eq!(
            rig.ready_message("shop"),
            "failed to pause: failed to parse the end of the pause: \
             metadata.annotations[autoscaling.keda.sh/paused-until]: \"tomorrow\" is no time in RFC 3339 with a zone \
             (write for example \"2027-01-31T06:00:00Z\")"
        );
        assert_eq!(rig.condition("shop", ConditionKind::Paused), "Paused=True ScaledObjectPaused");
        // One direction is the HPA's to hold.
        let hpa = rig.cluster.hpas.get(&("default".to_owned(), "keda-hpa-shop".to_owned()));
        let behavior = hpa.map(|hpa| hpa.behavior.clone().unwrap_or_default().scale_down.unwrap_or_default());
        assert_eq!(behavior.and_then(|rules| rules.select_policy).as_deref(), scale_in.then_some("Disabled"));
        rig.annotate(&key("shop"), |object| object.pause = Pause::default());
        rig.seconds(5);
        assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    }
}

#[test]
fn a_namespace_pauses_its_objects_also_those_that_come_later() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.seconds(5);
    rig.clear();
    let end = rig.now.plus(Duration::from_secs(60));
    rig.cluster.put_namespace("elsewhere", paused_until(end));
    rig.seconds(5);
    assert_eq!(recorded_pauses(&rig), []);
    rig.cluster.put_namespace("default", paused_until(end));
    rig.seconds(5);
    let says = "ScaledObject is paused by its Namespace until 1970-01-12T13:47:45Z: INC-7".to_owned();
    assert_eq!(recorded_pauses(&rig), [(ConditionStatus::True, says)]);
    // A restart must know of it before it decides, and an object may decline.
    rig.clear();
    rig.restart(Vec::new());
    rig.seconds(5);
    assert!(rig.writes.is_empty(), "{:?}", rig.kinds());
    rig.annotate(&key("shop"), |object| object.pause.is_declined = true);
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
    rig.annotate(&key("shop"), |object| object.pause.is_declined = false);
    rig.seconds(5);
    assert!(!rig.has_hpa("keda-hpa-shop"));
    rig.cluster.put_namespace("default", Pause::default());
    rig.seconds(5);
    assert!(rig.has_hpa("keda-hpa-shop"));
}

#[test]
fn without_the_right_to_see_namespaces_everything_else_goes_on() {
    let mut rig = shop(3, 500.0, |_| {});
    rig.world = World::new(settings());
    rig.world.apply(Event::Restored(Vec::new()), rig.now);
    let denied = || {
        Event::Namespace(WatchEvent::ListFailed { error: "forbidden".to_owned(), is_denied: true, is_absent: false })
    };
    // An API server that starts denies everything for a moment.
    rig.step(denied());
    for kind in 0..4 {
        rig.list(kind);
    }
    rig.clear();
    rig.seconds(5);
    assert!(rig.polls.is_empty(), "a pause may be in force");
    rig.step(denied());
    rig.seconds(5);
    assert!(!rig.polls.is_empty());
}

/// An object about a target that no watch shows, which is read at each poll.
fn about_a_rollout(replicas: u32, up: f64) -> Rig {
    let mut cluster = Cluster::default();
    let mut object = fresh("shop", "web", testing::definition());
    (object.target.api_version, object.target.kind) = ("argoproj.io/v1alpha1".to_owned(), "Rollout".to_owned());
    object.restore_to_original = true;
    cluster.put_object(object);
    cluster.put_workload(&super::creation::rollout(), workload("web", replicas));
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(up));
    rig.seconds(65);
    rig
}

fn scale_rollout(rig: &mut Rig, replicas: u32) {
    rig.cluster.put_workload(&super::creation::rollout(), workload("web", replicas));
}

fn rollout_s_replicas(rig: &Rig) -> u32 {
    rig.cluster.workloads.values().next().unwrap().replicas
}

/// Regression: the status that said so was overwritten before the first answer, and the cooldown was over.
#[test]
fn what_was_active_stays_so_though_the_next_process_cannot_read_its_target_at_first() {
    let mut rig = about_a_rollout(3, 500.0);
    rig.seconds(3_600);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
    rig.set_answer("up", Answer::Value(0.0));
    rig.target_fault = Some("the api server was too slow".to_owned());
    rig.restart(Vec::new());
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
    rig.target_fault = None;
    rig.seconds(100);
    assert_eq!(rollout_s_replicas(&rig), 3, "the cooldown begins with the first answer");
    rig.seconds(300);
    assert_eq!(rollout_s_replicas(&rig), 0);
}

/// Regression: the count of the last poll was believed, and nothing looked again while the pause lasted.
#[test]
fn a_paused_count_is_compared_with_a_target_that_no_watch_shows() {
    let mut rig = about_a_rollout(3, 500.0);
    scale_rollout(&mut rig, 8);
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(3)));
    rig.seconds(5);
    assert_eq!(rollout_s_replicas(&rig), 3);
    // Also against others, a little later.
    scale_rollout(&mut rig, 6);
    rig.seconds(70);
    assert_eq!(rollout_s_replicas(&rig), 3);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    rig.clear();
    rig.seconds(600);
    assert_eq!(rig.kinds(), [""; 0], "looking writes nothing");
    // Nor does a look that fails once.
    for _ in 0..20 {
        rig.target_fault = Some("the api server was too slow".to_owned());
        rig.seconds(5);
        rig.target_fault = None;
        rig.seconds(10);
    }
    assert_eq!((rig.kinds(), rig.reasons()), (vec![], vec![]));
    // A step of the clock does not put the next one off.
    rig.step_clock(-3_600_000);
    scale_rollout(&mut rig, 6);
    rig.seconds(75);
    assert_eq!(rollout_s_replicas(&rig), 3);
}

/// Regression: the same, when the original count is restored.
#[test]
fn an_original_count_is_compared_with_a_target_that_no_watch_shows() {
    let mut rig = about_a_rollout(2, 500.0);
    scale_rollout(&mut rig, 8);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!(rollout_s_replicas(&rig), 2);
    assert!(rig.cluster.objects.is_empty());
}

/// As [`about_a_rollout`], with a second object, `late`, that names the same target.
fn two_about_a_rollout(replicas: u32, answer: f64) -> Rig {
    let mut rig = about_a_rollout(replicas, answer);
    let mut second = fresh("late", "web", testing::definition());
    second.target = rig.object("shop").target.clone();
    rig.cluster.put_object(second);
    rig
}

/// Regression: the history had a change back that never was, and the count before it was decided on.
#[test]
fn a_read_that_another_object_s_write_has_overtaken_undoes_nothing() {
    let mut rig = two_about_a_rollout(2, 500.0);
    scale_rollout(&mut rig, 8);
    rig.seconds(65);
    let before = rig.cluster.workloads.values().next().unwrap().clone();
    // A read by the one that has to wait is under way when the other one scales, and goes.
    rig.world.objects.get_mut(&key("late")).unwrap().is_target_being_read = true;
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(2)));
    rig.seconds(5);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!((rollout_s_replicas(&rig), rig.cluster.objects.len()), (2, 1));
    rig.clear();
    let found = Ok((super::creation::rollout(), before));
    let target = rig.object("late").target.clone();
    rig.step(Event::TargetRead(TargetRead { object: key("late"), target, result: found }));
    rig.seconds(1);
    let is_undone = |record: &Record| matches!(record, Record::Replicas { to: 8, .. });
    assert!(!rig.records.iter().any(is_undone), "{:?}", rig.records);
}

/// Regression: the history had a change back that never was.
#[test]
fn an_answer_to_a_write_undoes_nothing_that_another_object_has_read_since() {
    let mut rig = two_about_a_rollout(0, 0.0);
    rig.seconds(65);
    // The test gives the answer itself.
    rig.write_ms = 3_600_000;
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(65);
    let is_scale = |write: &Write| matches!(write.kind, WriteKind::Scale { to: 1, .. });
    let write = rig.writes.iter().map(|(_, write)| write).rfind(|write| is_scale(write)).unwrap().clone();
    scale_rollout(&mut rig, 1);
    let written = rig.cluster.workloads.values().next().unwrap().version;
    scale_rollout(&mut rig, 5);
    let found = Ok((super::creation::rollout(), rig.cluster.workloads.values().next().unwrap().clone()));
    let target = rig.object("late").target.clone();
    rig.step(Event::TargetRead(TargetRead { object: key("late"), target, result: found }));
    rig.clear();
    let result = Ok(WriteOk::Scaled(written));
    rig.step(Event::Written(WriteDone { id: write.id, object: write.object, result }));
    let is_undone = |record: &Record| matches!(record, Record::Replicas { to: 1, .. });
    assert!(!rig.records.iter().any(is_undone), "{:?}", rig.records);
}

/// Regression: it was not made again, and the object said for ever that its target does not exist.
#[test]
fn a_read_that_found_nothing_before_another_object_scaled_the_target_is_made_again() {
    let mut cluster = Cluster::default();
    let of_rollout = |name: &str, created_at: i64| {
        let mut object = fresh(name, "web", testing::definition());
        object.created_at = UnixMillis(created_at);
        (object.target.api_version, object.target.kind) = ("argoproj.io/v1alpha1".to_owned(), "Rollout".to_owned());
        object
    };
    cluster.put_object(of_rollout("late", 2));
    let mut rig = Rig::new(cluster);
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(5);
    let target = rig.object("late").target.clone();
    let missing = TargetError { kind: TargetErrorKind::NotFound, message: "rollouts \"web\" not found".to_owned() };
    // It is read again, and the answer takes long.
    let late = rig.world.objects.get_mut(&key("late")).unwrap();
    late.is_target_being_read = true;
    late.target_retry_at = None;
    scale_rollout(&mut rig, 0);
    rig.cluster.put_object(of_rollout("shop", 1));
    rig.seconds(65);
    assert!(rollout_s_replicas(&rig) > 0);
    rig.step(Event::TargetRead(TargetRead { object: key("late"), target, result: Err(missing) }));
    rig.seconds(60);
    let message = rig.ready_message("late");
    assert!(message.ends_with("is already managed by the ScaledObject 'shop'"), "{message}");
}

/// Regression: the object said that it was paused, and its HPA scaled on.
#[test]
fn an_hpa_that_cannot_be_deleted_is_said_for_as_long_as_it_stays() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.keeps_hpas = true;
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(0)));
    rig.seconds(5);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False ScaledObjectCheckFailed");
    assert_eq!(rig.ready_message("shop"), "failed to delete HPA for paused ScaledObject: a policy keeps it");
    rig.cluster.keeps_hpas = false;
    rig.seconds(900);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert_eq!((rig.replicas("web"), rig.cluster.hpas.len()), (0, 0));
    // It does not block a deletion for ever either.
    let mut rig = shop(2, 500.0, |_| {});
    rig.annotate(&key("shop"), |object| object.restore_to_original = true);
    rig.seconds(5);
    rig.cluster.keeps_hpas = true;
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(3_600);
    assert!(rig.cluster.objects.is_empty());
}

/// Regression: the object said that it was ready.
#[test]
fn a_paused_count_that_is_refused_is_said_and_tried_again() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(5);
    rig.cluster.refuses_scales = true;
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(0)));
    rig.seconds(5);
    let refused = "failed to scale target to paused replica count: denied the request";
    assert_eq!(rig.ready_message("shop"), refused);
    rig.seconds(600);
    assert_eq!(rig.ready_message("shop"), refused);
    rig.cluster.refuses_scales = false;
    rig.seconds(150);
    assert_eq!((rig.replicas("web"), &*rig.ready_message("shop")), (0, "ScaledObject is paused"));
    // An attempt that is new is not said to be refused before it was made.
    let mut rig = shop(0, 5.0, |_| {});
    rig.cluster.refuses_scales = true;
    rig.seconds(60);
    rig.cluster.refuses_scales = false;
    rig.clear();
    rig.annotate(&key("shop"), |object| object.pause.replicas = Some(Ok(1)));
    rig.seconds(5);
    assert_eq!((rig.replicas("web"), &*rig.ready_message("shop")), (1, "ScaledObject is paused"));
    assert!(rig.events.iter().all(|event| !event.note.contains("denied")), "{:?}", rig.events);
}
