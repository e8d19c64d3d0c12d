//! Reports of failing triggers for as long as they fail, and of missing series that scale in.

use std::time::Duration;

use super::*;
use crate::scaling::event::Missing;
use crate::scaling::model::{ConditionKind as Kind, Fallback, FallbackBehavior, OnMissing};

fn healthy(rig: &Rig) -> (String, String) {
    let found = rig.object("shop").status.condition(Kind::TriggersHealthy);
    found.map_or_else(|| ("none".to_owned(), String::new()), |found| (short(found), found.message.to_string()))
}

fn notes<'a>(rig: &'a Rig, reason: &str) -> Vec<&'a str> {
    rig.events.iter().filter(|event| event.reason == reason).map(|event| event.note.as_str()).collect()
}

#[test]
fn the_cause_stays_on_the_object_at_zero_replicas_and_after_a_restart_and_costs_no_writes() {
    let mut rig = shop(0, 0.0, |d| {
        d.triggers.push(testing::trigger(1, "down"));
        d.triggers[1].name = Some("queue".to_owned());
        d.polling_interval = Duration::from_secs(3);
    });
    rig.set_answer("down", Answer::Value(0.0));
    rig.seconds(20);
    assert_eq!(healthy(&rig).0, "none", "KEDA's conditions alone while nothing is wrong");
    rig.set_answer("down", failed("connection refused"));
    rig.seconds(10);
    let failing = ("TriggersHealthy=False TriggerFailed".to_owned(), "queue: connection refused".to_owned());
    assert_eq!(healthy(&rig), failing);
    assert_eq!(rig.ready_message("shop"), "Triggers defined in ScaledObject are not working correctly");
    assert_eq!(notes(&rig, "KEDAScalerFailed"), ["queue: connection refused"]);
    rig.clear();
    rig.seconds(3_600);
    assert_eq!((rig.kinds(), rig.reasons()), (Vec::new(), Vec::new()));
    assert_eq!(healthy(&rig), failing);
    rig.restart(Vec::new());
    rig.seconds(10);
    assert_eq!(healthy(&rig), failing);
    rig.set_answer("down", Answer::Value(0.0));
    rig.seconds(10);
    assert_eq!(healthy(&rig).0, "TriggersHealthy=True TriggersHealthy");
    rig.clear();
    rig.seconds(3_600);
    assert_eq!(rig.kinds(), [""; 0]);
}

#[test]
fn a_trigger_that_a_fallback_stands_in_for_is_named_too() {
    let mut rig = shop(2, 5.0, |d| {
        d.fallback = Some(Fallback { failure_threshold: 3, replicas: 6, behavior: FallbackBehavior::Static });
    });
    rig.seconds(5);
    rig.set_answer("up", failed("down"));
    rig.seconds(300);
    assert_eq!(rig.condition("shop", Kind::Fallback), "Fallback=True FallbackExists");
    assert_eq!(healthy(&rig).1, "s0-prometheus: down");
}

#[test]
fn triggers_that_nobody_asks_are_not_reported() {
    let mut rig = shop(1, 5.0, |_| {});
    rig.set_answer("up", failed("down"));
    rig.seconds(5);
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(5);
    assert_eq!(healthy(&rig).0, "TriggersHealthy=Unknown TriggersNotAsked");
    rig.annotate(&key("shop"), |object| object.pause.paused = false);
    rig.seconds(5);
    assert_eq!(healthy(&rig).0, "TriggersHealthy=False TriggerFailed");
}

#[test]
fn two_broken_queries_of_one_server_are_distinguished() {
    let mut rig = shop(1, 5.0, |d| d.triggers.extend([testing::trigger(1, "a"), testing::trigger(2, "b")]));
    rig.set_answer("a", failed("status 400"));
    rig.set_answer("b", failed("status 400"));
    rig.seconds(5);
    assert_eq!(notes(&rig, "KEDAScalerFailed"), ["s1-prometheus: status 400", "s2-prometheus: status 400"]);
    assert_eq!(healthy(&rig).1, "s1-prometheus: status 400; s2-prometheus: status 400");
}

#[test]
fn silence_that_scales_in_is_reported_when_it_does_and_until_it_ends() {
    for (policy, words) in [(OnMissing::EmptyIsZero, "ignoreNullValues"), (OnMissing::Zero, "onMissing: zero")] {
        let mut rig = shop(5, 500.0, |d| {
            d.triggers[0].on_missing = policy.clone();
            d.cooldown_period = Duration::from_secs(60);
        });
        rig.seconds(40);
        rig.set_answer("up", Answer::Missing(Missing::Empty));
        // The last answer with a number may be an interval old by now, and the cooldown counts from it.
        rig.seconds(25);
        assert_eq!(healthy(&rig).0, "none", "nothing has happened yet");
        rig.seconds(100);
        assert_eq!(rig.replicas("web"), 0);
        let (condition, message) = healthy(&rig);
        assert_eq!(condition, "TriggersHealthy=True NoSeriesReadAsZero");
        assert!(message.starts_with("no series for s0-prometheus since 1970-01-12T13:4"), "{message}");
        assert!(message.ends_with(&format!("which reads as 0 ({words})")), "{message}");
        assert_eq!(notes(&rig, "ScaledInWithoutSeries"), [format!("scaled in from 5 to 0: {message}")]);
        rig.clear();
        rig.seconds(3_600);
        assert_eq!((rig.kinds(), rig.reasons()), (Vec::new(), Vec::new()));
        rig.restart(Vec::new());
        rig.seconds(60);
        assert_eq!(healthy(&rig).1, message, "it lasts");
        rig.set_answer("up", Answer::Value(0.0));
        rig.seconds(60);
        assert_eq!(healthy(&rig).0, "TriggersHealthy=True TriggersHealthy");
    }
}

#[test]
fn silence_after_a_zero_changes_nothing_and_is_no_news() {
    let mut rig = shop(5, 500.0, |d| d.cooldown_period = Duration::from_secs(60));
    rig.seconds(40);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(35);
    rig.set_answer("up", Answer::Missing(Missing::Empty));
    rig.seconds(120);
    assert_eq!((rig.replicas("web"), healthy(&rig).0.as_str()), (0, "none"));
    assert_eq!(notes(&rig, "ScaledInWithoutSeries"), [""; 0]);
}

#[test]
fn many_steps_in_silence_are_one_event_a_minute_and_a_hand_made_one_is_none() {
    let mut rig = shop(50, 5_000.0, |d| d.min_replicas = Some(1));
    rig.seconds(40);
    rig.set_answer("up", Answer::Missing(Missing::Empty));
    rig.seconds(40);
    let moved = |rig: &mut Rig, replicas: u32, manager: &str| {
        let by = Some(manager.to_owned());
        rig.cluster.put_workload(&deployment(), Workload { replicas_manager: by, ..workload("web", replicas) });
        rig.seconds(10);
    };
    moved(&mut rig, 49, "kubectl");
    assert_eq!(notes(&rig, "ScaledInWithoutSeries"), [""; 0]);
    for replicas in (31..49).rev() {
        moved(&mut rig, replicas, "kube-controller-manager");
    }
    assert_eq!(notes(&rig, "ScaledInWithoutSeries").len(), 3, "{:?}", notes(&rig, "ScaledInWithoutSeries"));
}
