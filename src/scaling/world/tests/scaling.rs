//! What moves the target, and what does not.

use std::time::Duration;

use super::*;
use crate::scaling::event::{Event, HeldValue, Missing, Record, RestoredState, WriteKind};
use crate::scaling::model::{Fallback, FallbackBehavior, MetricType, OnMissing, UnixMillis};
use crate::scaling::view::Reading;

pub(super) fn scales(rig: &Rig) -> Vec<(u32, u32)> {
    rig.writes
        .iter()
        .filter_map(|(_, write)| match write.kind {
            WriteKind::Scale { from, to, .. } => Some((from, to)),
            _ => None,
        })
        .collect()
}

#[test]
fn from_zero_up_cooling_down_and_back() {
    let mut rig = shop(0, 0.0, |d| {
        d.polling_interval = Duration::from_secs(3);
        d.cooldown_period = Duration::from_secs(30);
    });
    rig.seconds(60);
    assert_eq!(scales(&rig), []);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=False ScalerNotActive");
    rig.set_answer("up", Answer::Value(80.0));
    rig.seconds(4);
    assert_eq!(scales(&rig), [(0, 1)]);
    let event = rig.events.last().unwrap();
    assert_eq!(
        (event.reason, event.note.as_str()),
        ("KEDAScaleTargetActivated", "Scaled apps/v1.Deployment default/web from 0 to 1, triggered by s0-prometheus")
    );
    rig.set_replicas("web", 4);
    rig.seconds(20);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(25);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=False ScalerCooldown");
    assert_eq!(rig.replicas("web"), 4);
    rig.seconds(15);
    assert_eq!(scales(&rig), [(0, 1), (4, 0)]);
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=False ScalerNotActive");
    assert_eq!(rig.events.last().unwrap().note, "Deactivated apps/v1.Deployment default/web from 4 to 0");
}

#[test]
fn below_minimum_it_is_lifted_without_an_event() {
    let mut rig = shop(1, 0.0, |d| d.min_replicas = Some(3));
    rig.seconds(5);
    assert_eq!(scales(&rig), [(1, 3)]);
    assert!(!rig.reasons().iter().any(|r| r.starts_with("KEDAScaleTarget")));
}

#[test]
fn idle_goes_to_minimum_and_back() {
    let mut rig = shop(0, 0.0, |d| {
        d.min_replicas = Some(2);
        d.idle_replicas = Some(0);
        d.cooldown_period = Duration::from_secs(10);
    });
    rig.seconds(40);
    assert_eq!(scales(&rig), []);
    rig.set_answer("up", Answer::Value(1.0));
    rig.seconds(40);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(80);
    assert_eq!(scales(&rig), [(0, 2), (2, 0)]);
}

#[test]
fn force_activation_lifts_and_lets_go() {
    let mut rig = shop(0, 0.0, |d| d.cooldown_period = Duration::from_secs(10));
    rig.seconds(40);
    rig.annotate(&key("shop"), |object| object.force_activation = true);
    rig.seconds(1);
    assert_eq!(scales(&rig), [(0, 1)]);
    assert!(rig.events.last().unwrap().note.ends_with("caused by forced activation annotation"));
    rig.seconds(120);
    assert_eq!(scales(&rig), [(0, 1)]);
    rig.annotate(&key("shop"), |object| object.force_activation = false);
    rig.seconds(60);
    assert_eq!(scales(&rig), [(0, 1), (1, 0)]);
}

fn static_fallback(definition: &mut Definition) {
    definition.fallback = Some(Fallback { failure_threshold: 2, replicas: 6, behavior: FallbackBehavior::Static });
    definition.polling_interval = Duration::from_secs(10);
}

#[test]
fn a_fallback_starts_above_its_threshold_and_ends_with_the_failure() {
    let mut rig = shop(0, 0.0, static_fallback);
    rig.set_answer("up", failed("down"));
    rig.seconds(12);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=False NoFallbackFound");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    assert_eq!(scales(&rig), []);
    rig.seconds(20);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=True FallbackExists");
    assert_eq!(scales(&rig), [(0, 1)]);
    assert_eq!(value(&rig), Some(450.0));
    let health = rig.object("shop").status.health.get("s0-prometheus").unwrap();
    assert!(health.failing && health.number_of_failures >= 3);
    rig.set_answer("up", Answer::Value(7.0));
    rig.seconds(11);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=False NoFallbackFound");
    let reasons = rig.reasons();
    let reasons: Vec<_> = reasons.iter().filter(|r| r.contains("Fallback")).collect();
    assert_eq!(reasons, [&"ScaledObjectFallbackActivated", &"ScaledObjectFallbackDeactivated"]);
}

/// A read by the HPA is no failure of its own, and brings the next poll forward, whether that fails or not.
#[test]
fn failures_are_counted_at_the_rhythm_in_which_the_hpa_reads() {
    for (is_cached, expected) in [(false, 5), (true, 3)] {
        let mut rig = shop(1, 0.0, |d| {
            static_fallback(d);
            d.fallback.as_mut().unwrap().failure_threshold = 100;
            d.polling_interval = Duration::from_secs(30);
            d.triggers[0].use_cached_metrics = is_cached;
        });
        rig.set_answer("up", failed("down"));
        rig.seconds(5);
        rig.polls.clear();
        for _ in 0..5 {
            rig.step(Event::MetricRead(key("shop")));
            rig.seconds(15);
        }
        let asked = u32::try_from(rig.polls.len()).unwrap();
        assert!(asked.abs_diff(expected) <= 1, "cached: {is_cached}: {asked}");
        let failures = rig.world.objects[&key("shop")].triggers[0].failures;
        assert_eq!(failures, asked + 1, "cached: {is_cached}");
    }
}

fn value(rig: &Rig) -> Option<f64> {
    match rig.views[&key("shop")].metrics[0].reading {
        crate::scaling::view::Reading::Value { value, .. } => Some(value),
        _ => None,
    }
}

#[test]
fn a_value_metric_falls_back_by_its_ready_pods_in_the_same_poll_cycle() {
    let mut rig = shop(4, 0.0, |d| {
        static_fallback(d);
        d.triggers[0].metric_type = MetricType::Value;
    });
    rig.ready_pods = 4;
    rig.set_answer("up", failed("down"));
    rig.seconds(12);
    assert_eq!(value(&rig), None);
    rig.seconds(20);
    assert_eq!(value(&rig), Some(112.5));
    let errors = rig.events.iter().filter(|e| e.reason == "KEDAScalerFailed");
    let notes: Vec<_> = errors.map(|e| e.note.as_str()).collect();
    assert_eq!(notes, ["s0-prometheus: down"]);
}

#[test]
fn a_restart_neither_ends_a_fallback_nor_says_anything() {
    let mut rig = shop(2, 0.0, static_fallback);
    rig.set_answer("up", failed("down"));
    rig.seconds(50);
    rig.clear();
    rig.restart(Vec::new());
    rig.seconds(2);
    assert_eq!(rig.condition("shop", ConditionKind::Fallback), "Fallback=True FallbackExists");
    assert_eq!(value(&rig), Some(450.0));
    assert!(!rig.reasons().iter().any(|r| r.contains("Fallback") || r.contains("Ready")));
}

#[test]
fn somebody_else_s_move_is_looked_at_again() {
    let mut rig = shop(5, 0.0, |d| d.cooldown_period = Duration::from_secs(10));
    rig.set_answer("up", Answer::Value(1.0));
    rig.seconds(5);
    rig.set_answer("up", Answer::Value(0.0));
    // The watch is late: the write has the old count and is refused.
    let id = (deployment(), "default".to_owned(), "web".to_owned());
    rig.cluster.workloads.get_mut(&id).unwrap().replicas = 7;
    rig.seconds(36);
    assert_eq!(scales(&rig)[0], (5, 0));
    assert_eq!(rig.replicas("web"), 7);
    rig.set_replicas("web", 7);
    rig.seconds(60);
    assert_eq!(rig.replicas("web"), 0);
    assert!(!rig.reasons().contains(&"KEDAScaleTargetDeactivationFailed"));
}

#[test]
fn a_changed_query_is_not_answered_by_the_old_one() {
    let mut rig = shop(0, 0.0, |_| {});
    rig.seconds(5);
    rig.poll_ms = 2_000;
    rig.set_answer("up", Answer::Value(9.0));
    rig.set_answer("down", Answer::Value(0.0));
    rig.annotate(&key("shop"), |object| object.pause.scale_in = true);
    rig.run(500);
    // The answer 9 is under way. The new query gives 0.
    rig.edit(&key("shop"), |object| {
        redefine(object, |d| d.triggers = vec![testing::trigger(0, "down")]);
    });
    rig.seconds(10);
    assert_eq!(scales(&rig), []);
    assert_eq!(value(&rig), Some(0.0));
}

#[test]
fn a_load_that_lasts_costs_no_writes_and_its_end_is_written() {
    let mut rig = shop(2, 5.0, |_| {});
    rig.seconds(60);
    rig.clear();
    rig.seconds(7_200);
    assert_eq!(rig.kinds(), [""; 0]);
    let before = rig.now;
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(60);
    let status = rig.object("shop").status.last_active_at.unwrap();
    assert!((before.0 - 31_000..=before.0).contains(&status.0), "{status:?} {before:?}");
}

#[test]
fn an_unchanged_inactive_object_writes_nothing_for_an_hour() {
    let mut rig = shop(0, 0.0, |d| d.polling_interval = Duration::from_secs(3));
    rig.seconds(10);
    rig.clear();
    rig.seconds(3600);
    assert_eq!(rig.kinds(), [""; 0]);
    assert_eq!(rig.reasons(), [""; 0]);
}

#[test]
fn reads_bring_the_polls_forward() {
    let mut rig = shop(1, 5.0, |d| d.polling_interval = Duration::from_secs(300));
    rig.seconds(5);
    rig.clear();
    for _ in 0..8 {
        rig.step(Event::MetricRead(key("shop")));
        rig.seconds(15);
    }
    let polls = rig.polls.len();
    assert!((6..=9).contains(&polls), "{polls}");
}

#[test]
fn a_stepped_clock_ends_no_cooldown_and_stops_no_polling() {
    for hours in [-3, 3] {
        let mut rig = shop(2, 5.0, |d| d.cooldown_period = Duration::from_secs(300));
        rig.seconds(40);
        rig.set_answer("up", Answer::Value(0.0));
        rig.seconds(60);
        rig.step_clock(hours * 3_600_000);
        rig.clear();
        rig.seconds(90);
        assert_eq!(scales(&rig), [], "{hours}");
        assert!(rig.polls.len() >= 2, "{hours}");
        rig.seconds(240);
        assert_eq!(scales(&rig), [(2, 0)], "{hours}");
        rig.set_answer("up", Answer::Value(5.0));
        rig.seconds(61);
        let status = rig.object("shop").status.last_active_at.unwrap();
        assert!(rig.now.since(status) < Duration::from_secs(120), "{hours}");
        assert!(status <= rig.now, "{hours}");
    }
}

#[test]
fn nothing_is_decided_before_the_first_answer() {
    // A failed scale asks for another decision, but the new definition has no answers yet.
    let mut rig = shop(0, 5.0, |_| {});
    rig.write_ms = 300;
    rig.run(400);
    assert_eq!(scales(&rig), [(0, 1)]);
    rig.poll_ms = 20_000;
    rig.set_answer("other", Answer::Value(5.0));
    rig.set_replicas("web", 3);
    rig.edit(&key("shop"), |object| {
        redefine(object, |d| d.triggers = vec![testing::trigger(0, "other")]);
    });
    rig.seconds(60);
    assert_eq!(scales(&rig), [(0, 1)]);
    assert_eq!(rig.replicas("web"), 3);
}

#[test]
fn what_was_answered_while_the_hpa_was_away_is_decided_on_when_it_is_back() {
    let mut rig = shop(0, 5.0, |d| d.polling_interval = Duration::from_secs(300));
    rig.poll_ms = 1_000;
    rig.run(100);
    rig.write_ms = 5_000;
    let id = ("default".to_owned(), "keda-hpa-shop".to_owned());
    rig.cluster.remove_hpa(&id);
    rig.seconds(4);
    assert_eq!(scales(&rig), []);
    rig.seconds(2);
    assert_eq!(scales(&rig), [(0, 1)]);
}

#[test]
fn a_load_that_lasts_is_recorded_every_five_minutes() {
    let mut rig = shop(1, 5.0, |d| d.polling_interval = Duration::from_secs(3));
    rig.seconds(60);
    rig.clear();
    rig.seconds(1_800);
    let at: Vec<UnixMillis> = rig
        .records
        .iter()
        .filter_map(|record| match record {
            Record::LastActive { at, .. } => Some(*at),
            _ => None,
        })
        .collect();
    assert!((5..=6).contains(&at.len()), "{}", at.len());
}

/// Regression: the answer was taken for one about the new target, which then had a count that nobody gave it.
#[test]
fn the_answer_to_a_scale_is_about_the_target_that_was_scaled() {
    let cooldown = |d: &mut Definition| d.cooldown_period = Duration::from_secs(30);
    let mut rig = shop_among(1, 0.0, cooldown, |cluster| cluster.put_workload(&deployment(), workload("api", 1)));
    rig.write_ms = 5_000;
    while scales(&rig).is_empty() {
        rig.seconds(1);
    }
    rig.edit(&key("shop"), |object| object.target.name = "api".to_owned());
    rig.write_ms = 3;
    rig.seconds(120);
    assert_eq!(scales(&rig), [(1, 0), (1, 0)], "{:?}", rig.writes);
    assert_eq!((rig.replicas("web"), rig.replicas("api")), (0, 0));
    let notes: Vec<&str> = rig.events.iter().map(|event| event.note.as_str()).collect();
    for scaled in ["default/web from 1 to 0", "default/api from 1 to 0"] {
        assert!(notes.iter().any(|note| note.contains(scaled)), "{notes:?}");
    }
}

/// A time of a clock that was ahead, from the history or the status.
#[test]
fn an_activity_in_the_future_ends_now() {
    for in_status in [false, true] {
        let mut cluster = Cluster::default();
        cluster.put_workload(&deployment(), workload("web", 1));
        let mut object = fresh("shop", "web", testing::definition());
        redefine(&mut object, |definition| definition.cooldown_period = Duration::from_secs(100));
        let ahead = Rig::new(Cluster::default()).now.plus(Duration::from_hours(2));
        object.status.last_active_at = in_status.then_some(ahead);
        let uid = object.uid.clone();
        cluster.put_object(object);
        let mut rig = Rig::new(cluster);
        rig.set_answer("up", Answer::Value(0.0));
        let last_active_at = (!in_status).then_some(ahead);
        rig.restart(vec![RestoredState {
            key: key("shop"),
            uid,
            last_active_at,
            replicas: None,
            held: Vec::new(),
            put_to_zero: None,
        }]);
        rig.seconds(90);
        assert_eq!(rig.replicas("web"), 1, "in the status: {in_status}");
        rig.seconds(100);
        assert_eq!(rig.replicas("web"), 0, "in the status: {in_status}");
    }
}

/// Regression: each poll recorded it anew while the next attempt waited.
#[test]
fn a_scale_that_is_refused_is_decided_once_for_each_attempt() {
    let mut rig = shop(0, 5.0, |d| d.polling_interval = Duration::from_secs(1));
    rig.cluster.refuses_scales = true;
    rig.seconds(600);
    let decided = rig.records.iter().filter(|record| matches!(record, Record::Decision { .. })).count();
    let tried = scales(&rig).len();
    assert!((3..20).contains(&tried), "{tried}");
    assert!(decided <= tried + 1, "{decided} decisions for {tried} attempts");
}

/// Regression: the next attempt was up to twelve minutes away, whatever had been mended meanwhile.
#[test]
fn a_scale_that_was_refused_is_tried_again_at_an_edit_and_soon_without_one() {
    let refused = || {
        let mut rig = shop(0, 5.0, |_| {});
        rig.cluster.refuses_scales = true;
        rig.seconds(3_600);
        rig.cluster.refuses_scales = false;
        rig
    };
    let mut rig = refused();
    rig.edit(&key("shop"), |object| redefine(object, |d| d.max_replicas = 9));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    let mut rig = refused();
    rig.seconds(150);
    assert_eq!(rig.replicas("web"), 1);
}

/// Regression: the first answer after an outage, often an empty one, found the cooldown over.
#[test]
fn an_outage_that_hid_the_end_of_a_load_is_no_part_of_the_cooldown() {
    let loaded = || {
        let mut rig = shop(3, 500.0, |d| d.cooldown_period = Duration::from_secs(300));
        rig.seconds(120);
        rig
    };
    let cools_down_from_here = |rig: &mut Rig| {
        rig.set_answer("up", Answer::Value(0.0));
        rig.seconds(280);
        assert_eq!(rig.replicas("web"), 3);
        rig.seconds(90);
        assert_eq!(rig.replicas("web"), 0);
    };
    let mut rig = loaded();
    rig.set_answer("up", failed("connection refused"));
    rig.seconds(900);
    cools_down_from_here(&mut rig);
    // A standstill hides it as well.
    let mut rig = loaded();
    rig.stand_still(900_000);
    cools_down_from_here(&mut rig);
    // What was inactive before an outage goes on cooling down.
    let mut rig = loaded();
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(60);
    rig.set_answer("up", failed("connection refused"));
    rig.seconds(900);
    assert_eq!(rig.replicas("web"), 3);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(40);
    assert_eq!(rig.replicas("web"), 0);
}

/// Regression: a restart forgot what a trigger held, so that a query that was silent just then was an error.
#[test]
fn a_restart_goes_on_with_the_value_that_a_trigger_holds() {
    let mut rig = shop(3, 500.0, |d| d.triggers[0].on_missing = OnMissing::Hold(Duration::from_mins(10)));
    rig.seconds(60);
    let at = rig.now;
    rig.set_answer("up", Answer::Missing(Missing::Empty));
    let (uid, generation) = (rig.object("shop").uid.clone(), rig.object("shop").generation);
    let restored = |generation| {
        let held = vec![HeldValue { generation, trigger: 0, value: 500.0, at }];
        let (key, uid) = (key("shop"), uid.clone());
        vec![RestoredState { key, uid, last_active_at: None, replicas: None, held, put_to_zero: None }]
    };
    rig.restart(restored(generation));
    rig.seconds(60);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
    let reading = |rig: &Rig| rig.views[&key("shop")].metrics[0].reading.clone();
    assert!(matches!(reading(&rig), Reading::Value { value: 500.0, .. }), "{:?}", reading(&rig));
    // For as long as it says, and not the value of another spec.
    rig.seconds(600);
    assert!(matches!(reading(&rig), Reading::Failed { .. }), "{:?}", reading(&rig));
    rig.restart(restored(generation - 1));
    rig.seconds(60);
    assert!(matches!(reading(&rig), Reading::Failed { .. }), "{:?}", reading(&rig));
}

/// Regression: while the edit waited for a write, the new target was decided on by the answers to the old query.
#[test]
fn an_edited_object_is_not_decided_on_by_what_was_asked_before() {
    let mut rig = shop(0, 0.0, |d| d.cooldown_period = Duration::ZERO);
    rig.seconds(65);
    rig.cluster.put_workload(&super::creation::rollout(), workload("api", 3));
    rig.set_answer("other", Answer::Value(500.0));
    rig.write_ms = 60_000;
    rig.edit(&key("shop"), |object| {
        (object.target.api_version, object.target.kind) = ("argoproj.io/v1alpha1".to_owned(), "Rollout".to_owned());
        object.target.name = "api".to_owned();
        // It is put there again before anything else is done.
        object.finalizers.clear();
        redefine(object, |d| d.triggers[0] = testing::trigger(0, "other"));
    });
    rig.seconds(600);
    assert!(scales(&rig).is_empty(), "{:?}", scales(&rig));
    assert_eq!(rig.condition("shop", ConditionKind::Active), "Active=True ScalerActive");
}
