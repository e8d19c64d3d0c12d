//! What is recorded of the target's replicas: first sight, changes, their authors, and scale-ins without a number.

use super::*;
use crate::scaling::attribution::Attribution;
use crate::scaling::event::{Missing, Record};
use crate::scaling::reason::Reason;

/// `from`, `to` and author as first recorded.
fn changes(rig: &Rig) -> Vec<(Option<u32>, u32, Option<String>)> {
    let text = |by: &Option<Attribution>| by.as_ref().map(ToString::to_string);
    let of = |record: &Record| match record {
        Record::Replicas { from, to, by, .. } => Some((*from, *to, text(by))),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

fn attributed(rig: &Rig) -> Vec<(u32, u32, String)> {
    let of = |record: &Record| match record {
        Record::Attributed { from, to, by, .. } => Some((*from, *to, by.to_string())),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

fn hpa_wants(rig: &mut Rig, desired: i32) {
    let mut hpa = rig.cluster.hpas.values().next().cloned().unwrap();
    hpa.desired_replicas = desired;
    rig.cluster.put_hpa(hpa);
    rig.seconds(1);
}

#[test]
fn an_object_that_never_changes_is_seen_once() {
    for pause in [false, true] {
        let mut rig = shop_among(
            2,
            5.0,
            |_| {},
            |cluster| {
                let mut object = cluster.objects[&key("shop")].clone();
                object.pause.paused = pause;
                cluster.put_object(object);
            },
        );
        rig.seconds(100);
        assert_eq!(changes(&rig).iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(None, 2)]);
        // The next process knows it from the history, and records only changes.
        let state = |replicas| crate::scaling::event::RestoredState {
            key: key("shop"),
            uid: "uid-shop".to_owned(),
            last_active_at: None,
            replicas: Some(replicas),
            held: Vec::new(),
            put_to_zero: None,
        };
        rig.clear();
        rig.restart(vec![state((1, 2))]);
        rig.seconds(100);
        assert_eq!(changes(&rig), []);
        rig.restart(vec![state((1, 4))]);
        rig.seconds(100);
        assert_eq!(changes(&rig).iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(Some(4), 2)]);
        // A record of an older generation, whose target may have been another, does not count.
        rig.clear();
        rig.restart(vec![state((0, 4))]);
        rig.seconds(100);
        assert_eq!(changes(&rig).iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(None, 2)]);
    }
}

#[test]
fn a_pause_from_the_beginning_is_a_decision() {
    let mut rig = shop_among(
        2,
        5.0,
        |_| {},
        |cluster| {
            let mut object = cluster.objects[&key("shop")].clone();
            object.pause.paused = true;
            cluster.put_object(object);
        },
    );
    rig.seconds(5);
    let paused = rig.records.iter().any(|record| match record {
        Record::Decision { decision, .. } => {
            decision.reason == Reason::Paused && decision.from == 2 && decision.pause.paused
        }
        _ => false,
    });
    assert!(paused, "{:?}", rig.records);
}

#[test]
fn who_changed_replicas_is_recorded_once_it_is_known() {
    let mut rig = shop(2, 500.0, |_| {});
    rig.seconds(50);
    rig.clear();
    // The HPA scales first and updates its status later; managedFields name nobody.
    rig.set_replicas("web", 7);
    rig.seconds(1);
    assert_eq!((changes(&rig), attributed(&rig)), (vec![(Some(2), 7, None)], vec![]));
    hpa_wants(&mut rig, 7);
    assert_eq!(attributed(&rig), [(2, 7, "the HPA (inferred)".to_owned())]);
    // The status may come first.
    rig.clear();
    hpa_wants(&mut rig, 9);
    rig.set_replicas("web", 9);
    rig.seconds(1);
    assert_eq!((changes(&rig), attributed(&rig)), (vec![(Some(7), 9, Some("the HPA (inferred)".to_owned()))], vec![]));
    // Nobody claims the change.
    rig.clear();
    rig.set_replicas("web", 3);
    rig.seconds(20);
    assert_eq!(attributed(&rig), [(9, 3, "someone else (inferred)".to_owned())]);
    // Nor the first of two changes.
    rig.clear();
    rig.set_replicas("web", 4);
    rig.seconds(1);
    rig.set_replicas("web", 5);
    rig.seconds(1);
    hpa_wants(&mut rig, 5);
    assert_eq!(
        attributed(&rig),
        [(3, 4, "someone else (inferred)".to_owned()), (4, 5, "the HPA (inferred)".to_owned())]
    );
}

#[test]
fn a_scale_in_without_a_number_says_so_once() {
    let mut rig = shop(5, 500.0, |d| d.cooldown_period = std::time::Duration::from_secs(60));
    rig.seconds(60);
    rig.clear();
    rig.set_answer("up", Answer::Missing(Missing::Empty));
    rig.seconds(40);
    let details: Vec<String> = decisions(&rig);
    assert!(
        details.iter().any(|text| text.contains("s0-prometheus has no series, which reads as 0 (ignoreNullValues)")),
        "{details:?}"
    );
    for replicas in [3, 1] {
        rig.set_replicas("web", replicas);
        rig.seconds(1);
    }
    rig.seconds(120);
    assert_eq!(rig.replicas("web"), 0);
    let events = rig.events.iter().filter(|event| event.reason == "ScaledInWithoutSeries").collect::<Vec<_>>();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].note.starts_with("scaled in from 5 to 3: no series for s0-prometheus since "), "{events:?}");
    let scale_ins =
        rig.records.iter().filter(|record| matches!(record, Record::Replicas { absent, .. } if !absent.is_empty()));
    assert_eq!(scale_ins.count(), 3);
    let details: Vec<String> = decisions(&rig);
    let last = "no trigger is active, cooldown over; s0-prometheus has no series, which reads as 0 (ignoreNullValues)";
    assert!(details.iter().any(|text| text == last), "{details:?}");
    // With series again there is nothing to report.
    rig.clear();
    rig.set_answer("up", Answer::Value(500.0));
    rig.seconds(60);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(200);
    assert!(!rig.reasons().contains(&"ScaledInWithoutSeries"));
}

fn decisions(rig: &Rig) -> Vec<String> {
    let of = |record: &Record| match record {
        Record::Decision { decision, .. } => Some(decision.detail()),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

/// Start-up times in seconds as recorded, each with the count that was waited for.
fn starts(rig: &Rig) -> Vec<(u32, u64)> {
    let of = |record: &Record| match record {
        Record::Ready { at, changed_at, to, .. } => Some((*to, at.since(*changed_at).as_secs())),
        _ => None,
    };
    rig.records.iter().filter_map(of).collect()
}

#[test]
fn the_start_of_pods_is_measured_and_asks_for_nothing() {
    let mut rig = shop(2, 5.0, |_| {});
    rig.seconds(100);
    let show = |rig: &mut Rig, replicas, ready| {
        let by = Some("kube-controller-manager".to_owned());
        let found = Workload { replicas_manager: by, ready, ..workload("web", replicas) };
        rig.cluster.put_workload(&deployment(), found);
    };
    // What is ready before the scale-out was not started by it.
    show(&mut rig, 2, 1);
    show(&mut rig, 2, 2);
    rig.seconds(1);
    assert_eq!(starts(&rig), []);
    show(&mut rig, 4, 2);
    rig.seconds(10);
    // Another scale-out while the pods of the first start, and one pod that is ready soon.
    show(&mut rig, 6, 3);
    rig.seconds(10);
    let writes = rig.writes.len();
    show(&mut rig, 6, 5);
    rig.seconds(10);
    assert_eq!(starts(&rig), [(4, 20)]);
    show(&mut rig, 6, 6);
    rig.seconds(1);
    assert_eq!(starts(&rig), [(4, 20), (6, 20)]);
    // Pods that stop being ready and come back are no start, nor are those that a scale-in took.
    show(&mut rig, 6, 4);
    show(&mut rig, 6, 6);
    show(&mut rig, 9, 6);
    show(&mut rig, 6, 6);
    show(&mut rig, 6, 9);
    rig.seconds(1);
    // A pod that comes after hours waited for something else.
    show(&mut rig, 7, 6);
    rig.seconds(4_000);
    show(&mut rig, 7, 7);
    rig.seconds(1);
    assert_eq!(starts(&rig), [(4, 20), (6, 20)]);
    assert_eq!(rig.writes.len(), writes);
}
