//! Triggers that count pods: which are counted, and what follows from a count.

use std::time::Duration;

use super::*;
use crate::scaling::event::{Event, Record};
use crate::scaling::model::{PodSelection, Source, Trigger};
use crate::scaling::view::Reading;

fn selection(app: &str) -> PodSelection {
    PodSelection { selector: format!("app={app}").into(), group_by_node: false }
}

/// A trigger that asks for one replica per pod of `app`.
fn counting(index: u16, app: &str) -> Trigger {
    Trigger {
        kind: "kubernetes-workload".to_owned(),
        metric_name: format!("s{index}-workload-default").into(),
        threshold: 1.0,
        source: Source::Pods(selection(app)),
        ..testing::trigger(index, "")
    }
}

fn counted(rig: &mut Rig, app: &str, count: Result<u32, &str>) {
    let count = count.map_err(|message| PollError { class: ErrorClass::Authentication, message: message.to_owned() });
    rig.pods.insert(selection(app), count.clone());
    rig.step(Event::PodsSelected { namespace: "default".into(), selection: selection(app), count });
}

fn reading(rig: &Rig, metric: usize) -> Reading {
    rig.views[&key("shop")].metrics[metric].reading.clone()
}

#[test]
fn a_count_is_acted_on_without_waiting_for_a_poll_cycle() {
    let mut rig = shop(0, 0.0, |d| d.triggers = vec![counting(0, "worker")]);
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 0);
    assert!(matches!(reading(&rig, 0), Reading::Value { value: 0.0, .. }), "{:?}", reading(&rig, 0));
    let at = rig.now;
    counted(&mut rig, "worker", Ok(3));
    assert_eq!(reading(&rig, 0), Reading::Value { value: 3.0, at });
    rig.run(100);
    assert_eq!(rig.replicas("web"), 1, "activated at once, the interval is 30 s");
    assert!(rig.polls.is_empty(), "nobody is asked");
    let samples = rig.records.iter().filter(|record| matches!(record, Record::Sample { .. })).count();
    // The same count again has no effect.
    counted(&mut rig, "worker", Ok(3));
    assert_eq!(rig.records.iter().filter(|record| matches!(record, Record::Sample { .. })).count(), samples);
    // And the poll cycles go on with what is known.
    rig.seconds(60);
    assert!(rig.records.iter().filter(|record| matches!(record, Record::Sample { .. })).count() > samples);
}

/// Regression: a scale that was tried again was decided on the formula's last result, which was older than its triggers.
#[test]
fn a_scale_that_is_tried_again_is_decided_on_what_is_known_by_then() {
    let mut rig = shop(1, 0.0, |d| {
        d.triggers = vec![counting(0, "worker")];
        d.cooldown_period = Duration::ZERO;
        testing::put_formula(d, "a * 2");
    });
    rig.pods.insert(selection("worker"), Ok(1));
    rig.seconds(120);
    rig.write_ms = 300;
    rig.clear();
    counted(&mut rig, "worker", Ok(0));
    rig.run(20);
    assert!(rig.kinds().contains(&"Scale"), "the write is under way: {:?}", rig.kinds());
    // It will be refused, since somebody changes the replicas before it arrives.
    rig.set_replicas("web", 2);
    rig.run(20);
    rig.clear();
    counted(&mut rig, "worker", Ok(5));
    rig.seconds(20);
    assert!(!rig.kinds().contains(&"Scale"), "{:?}", rig.writes);
    assert_eq!(rig.replicas("web"), 2);
}

/// Regression: the formula was evaluated for each of the triggers whose pods one change counted anew, and each time.
#[test]
fn a_formula_is_evaluated_once_a_second_however_often_pods_change() {
    let mut rig = shop(1, 0.0, |d| {
        d.triggers = vec![counting(0, "worker"), counting(1, "worker"), counting(2, "other")];
        testing::put_formula(d, "a + b + c");
    });
    rig.pods.insert(selection("worker"), Ok(1));
    rig.pods.insert(selection("other"), Ok(0));
    rig.seconds(5);
    rig.clear();
    let results = |rig: &Rig| -> Vec<f64> {
        let of_formula = rig.records.iter().filter_map(|record| match record {
            Record::Sample { trigger: crate::scaling::composite::INDEX, answer: Answer::Value(value), .. } => {
                Some(*value)
            }
            _ => None,
        });
        of_formula.collect()
    };
    for count in [2, 3, 4] {
        counted(&mut rig, "worker", Ok(count));
        counted(&mut rig, "other", Ok(count));
        rig.run(100);
    }
    assert_eq!(results(&rig), [4.0]);
    rig.seconds(1);
    assert_eq!(results(&rig), [4.0, 12.0]);
}

#[test]
fn unreadable_pods_are_an_error_that_holds() {
    let mut rig = shop(2, 0.0, |d| d.triggers = vec![counting(0, "worker")]);
    rig.pods.insert(selection("worker"), Ok(2));
    rig.seconds(5);
    counted(&mut rig, "worker", Err("cannot list pods in namespace default: forbidden"));
    rig.seconds(1_000);
    assert_eq!(rig.replicas("web"), 2, "an error scales nothing in");
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=False TriggerError");
    let count = rig.events.iter().filter(|event| event.note.contains("cannot list pods")).count();
    assert_eq!(count, 1, "once, however often it is looked at");
    counted(&mut rig, "worker", Ok(0));
    rig.seconds(1_000);
    assert_eq!(rig.replicas("web"), 0);
    assert_eq!(rig.condition("shop", ConditionKind::Ready), "Ready=True ScaledObjectReady");
}

#[test]
fn a_count_and_a_query_of_one_object() {
    let mut rig = shop(1, 0.0, |d| {
        d.cooldown_period = std::time::Duration::ZERO;
        d.triggers = vec![counting(0, "worker"), testing::trigger(1, "load")];
    });
    rig.answers.insert("load".to_owned(), Answer::Value(0.0));
    rig.seconds(5);
    assert_eq!(rig.replicas("web"), 0);
    let polls = rig.polls.len();
    counted(&mut rig, "worker", Ok(1));
    rig.run(100);
    assert_eq!((rig.replicas("web"), rig.polls.len()), (1, polls), "the query's last answer stands");
    // While the poll cycle waits for Prometheus, a count is taken in, and the poll cycle's end decides.
    rig.poll_ms = 10_000;
    while rig.polls_in_flight == 0 {
        rig.run(500);
    }
    counted(&mut rig, "worker", Ok(0));
    assert_eq!(rig.replicas("web"), 1);
    rig.seconds(15);
    assert_eq!(rig.replicas("web"), 0);
}

#[test]
fn only_what_is_wanted_is_counted() {
    let mut rig = shop(1, 0.0, |d| d.triggers = vec![counting(0, "a"), counting(1, "b")]);
    rig.seconds(5);
    assert_eq!(rig.selected, [[selection("a"), selection("b")]]);
    let mut changed = |change: &dyn Fn(&mut Definition)| {
        rig.selected.clear();
        rig.edit(&key("shop"), |object| redefine(object, change));
        rig.seconds(5);
        std::mem::take(&mut rig.selected)
    };
    let nothing: Vec<Vec<PodSelection>> = Vec::new();
    // An unchanged selection is not counted again.
    assert_eq!(changed(&|d| d.max_replicas = 7), nothing);
    assert_eq!(changed(&|d| d.triggers = vec![counting(0, "b")]), [[selection("b")]]);
    assert_eq!(changed(&|d| d.triggers = vec![testing::trigger(0, "load")]), [[]]);
    assert_eq!(changed(&|d| d.triggers = vec![counting(0, "c")]), [[selection("c")]]);
    rig.cluster.delete_object(&key("shop"));
    rig.seconds(5);
    assert_eq!(rig.selected, [[]]);
    // A late count finds no object.
    counted(&mut rig, "c", Ok(9));
}
