//! A process beside another one that acts.

use std::time::Duration;

use super::scaling::scales;
use super::*;
use crate::scaling::attribution::{Actor, Attribution};
use crate::scaling::event::{Event, Record};
use crate::scaling::model::{ConditionStatus, Fallback, FallbackBehavior, Status, UnixMillis};

#[test]
fn a_standby_only_watches_and_acts_at_once_when_it_leads() {
    let mut rig = shop(0, 5.0, |d| d.polling_interval = Duration::from_secs(300));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 1);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.clear();
    // Everything that would cause an action.
    rig.set_replicas("web", 0);
    rig.step(Event::MetricRead(key("shop")));
    rig.seconds(900);
    assert_eq!((rig.kinds(), rig.polls.len(), rig.events.len()), (Vec::<&str>::new(), 0, 0));
    assert!(rig.world.is_synced());
    rig.step(Event::Leading { was_alone: false });
    rig.seconds(1);
    assert_eq!((rig.polls.len(), rig.replicas("web")), (1, 1));
}

/// Regression: the history of the instance that stood by said that somebody else had scaled to zero.
#[test]
fn what_the_leader_does_is_not_somebody_else_s_in_the_history_of_a_standby() {
    let mut rig = shop(2, 5.0, |_| {});
    rig.seconds(5);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.seconds(60);
    rig.set_replicas("web", 0);
    rig.seconds(600);
    // The HPA wants the same by the time that the target's watch shows it.
    let mut hpa = rig.cluster.hpas.values().next().unwrap().clone();
    hpa.desired_replicas = 1;
    rig.cluster.put_hpa(hpa);
    rig.seconds(5);
    rig.set_replicas("web", 1);
    rig.seconds(60);
    let by = |count: u32| {
        let of = |record: &Record| match record {
            Record::Replicas { to, by, .. } if *to == count => Some(by.clone()),
            _ => None,
        };
        rig.records.iter().rev().find_map(of).flatten()
    };
    assert_eq!([by(0), by(1)], [0, 1].map(|_| Some(Attribution::inferred(Actor::Hpalite))));
    let stood_by = |record: &Record| matches!(record, Record::Standby { until: None, .. });
    assert_eq!(rig.records.iter().filter(|record| stood_by(record)).count(), 1);
    rig.step(Event::Leading { was_alone: false });
    let led_from =
        |record: &Record| matches!(record, Record::Standby { until: Some(at), was_alone: false } if *at == rig.now);
    assert!(rig.records.iter().any(led_from));
    // Where no other instance was, nobody did anything.
    let mut rig = shop(2, 5.0, |_| {});
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.step(Event::Leading { was_alone: true });
    let was_alone = |record: &Record| matches!(record, Record::Standby { until: Some(_), was_alone: true });
    assert!(rig.records.iter().any(was_alone));
}

/// Regression: what had been active when the instance began to stand by was so still, hours later.
#[test]
fn what_ended_while_an_instance_stood_by_has_ended() {
    let mut rig = shop(2, 5.0, |d| d.min_replicas = Some(1));
    rig.seconds(60);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.seconds(3_600);
    let ended = rig.now;
    rig.annotate(&key("shop"), |object| {
        object.status.last_active_at = Some(ended);
        for condition in object.status.conditions.iter_mut().filter(|one| one.kind == ConditionKind::Active) {
            condition.status = ConditionStatus::False;
        }
    });
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(3_600);
    rig.step(Event::Leading { was_alone: false });
    rig.seconds(120);
    assert_eq!(rig.object("shop").status.last_active_at, Some(ended));
}

#[test]
fn a_load_that_ends_with_the_instance_that_saw_it_still_cools_down() {
    let mut rig = shop(2, 5.0, |d| d.cooldown_period = Duration::from_secs(300));
    rig.seconds(60);
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.seconds(7_200);
    rig.set_answer("up", Answer::Value(0.0));
    rig.clear();
    rig.step(Event::Leading { was_alone: false });
    rig.seconds(290);
    assert_eq!(scales(&rig), []);
    rig.seconds(60);
    assert_eq!(scales(&rig), [(2, 0)]);
}

/// Regression: an instance that took over repeated the Events of what had happened since it began to stand by.
#[test]
fn what_the_leader_has_told_is_told_once() {
    let fallback = |d: &mut Definition| {
        let behavior = FallbackBehavior::Static;
        d.fallback = Some(Fallback { failure_threshold: 1, replicas: 3, behavior });
    };
    let begins: [fn(&mut Rig); 3] = [
        |_| {},
        |rig| rig.annotate(&key("shop"), |object| object.pause.paused = true),
        |rig| rig.set_answer("up", failed("down")),
    ];
    for (case, begin) in begins.into_iter().enumerate() {
        // Both see the object when it is new, and the standby nothing but what the leader writes.
        let mut leader = shop(2, 5.0, fallback);
        let mut standby = Rig::new(Cluster::default());
        standby.is_standby = true;
        standby.cluster = leader.cluster.clone();
        standby.restart(Vec::new());
        leader.seconds(60);
        begin(&mut leader);
        leader.seconds(300);
        assert!(!leader.events.is_empty());
        for object in leader.cluster.objects.values() {
            standby.cluster.put_object(object.clone());
        }
        for hpa in leader.cluster.hpas.values() {
            standby.cluster.put_hpa(hpa.clone());
        }
        standby.answers.clone_from(&leader.answers);
        standby.seconds(60);
        standby.clear();
        standby.step(Event::Leading { was_alone: false });
        standby.seconds(60);
        let told = ["ScaledObjectReady", "KEDAScalersStarted", "ScaledObjectPaused", "ScaledObjectFallbackActivated"];
        let again: Vec<_> = standby.reasons().into_iter().filter(|reason| told.contains(reason)).collect();
        assert_eq!(again, [""; 0], "case {case}");
    }
}

/// Whoever has only the status knows the second, and must not end a cooldown before those who know the millisecond would.
#[test]
fn what_a_status_says_of_the_last_activity_is_taken_for_the_end_of_its_second() {
    let status = Status { last_active_at: Some(UnixMillis(1_231_625_000)), ..Default::default() };
    assert_eq!(status.last_active_at_most(), Some(UnixMillis(1_231_625_999)));
    assert_eq!(Status::default().last_active_at_most(), None);
}
