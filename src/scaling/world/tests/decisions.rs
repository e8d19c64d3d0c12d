//! Which decisions are recorded, and how often.

use std::time::Duration;

use super::*;
use crate::scaling::decision::Decision;
use crate::scaling::event::{Event, Missing, Record};
use crate::scaling::model::{Fallback, FallbackBehavior, MetricTarget, ResourceTrigger};
use crate::scaling::recommend::Limit;
use crate::store::{Options, Store};

fn decisions(rig: &Rig) -> Vec<&Decision> {
    let decisions = rig.records.iter().filter_map(|record| match record {
        Record::Decision { decision, .. } => Some(&**decision),
        _ => None,
    });
    decisions.collect()
}

/// Reason, highest proposal, and its limit, of the newest decision.
fn last(rig: &Rig) -> (&'static str, Option<u32>, Option<Limit>) {
    let decision = *decisions(rig).last().unwrap();
    (decision.reason.id(), decision.proposal().map(|proposal| proposal.replicas), decision.limited_by())
}

fn quick(definition: &mut Definition) {
    definition.polling_interval = Duration::from_secs(3);
    definition.cooldown_period = Duration::from_secs(30);
    definition.triggers[0].threshold = 10.0;
}

#[test]
fn a_decision_records_what_is_asked_for_and_what_limits_it() {
    for (replicas, value, proposal, limited_by) in [
        (5, 90.0, 9, Some(Limit::Max)),
        (2, 5.0, 1, Some(Limit::Min)),
        (4, 42.0, 4, Some(Limit::Tolerance)),
        (3, 40.0, 4, None),
        (3, 30.0, 3, None),
    ] {
        let mut rig = shop(replicas, value, |d| {
            quick(d);
            d.min_replicas = Some(2);
            d.max_replicas = 5;
        });
        rig.seconds(10);
        assert_eq!(last(&rig), ("Active", Some(proposal), limited_by), "{value} at {replicas}");
        let decision = *decisions(&rig).last().unwrap();
        assert_eq!((decision.min, decision.max, decision.idle), (2, Some(5), None));
    }
}

#[test]
fn what_holds_beside_the_hpa_is_recorded() {
    let mut rig = shop(3, 30.0, quick);
    rig.seconds(10);
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(10);
    assert_eq!(last(&rig), ("CoolingDown", Some(0), Some(Limit::Cooldown)));
    assert!(decisions(&rig).last().unwrap().cooldown_until.is_some());
    rig.set_answer("up", failed("refused"));
    rig.seconds(10);
    assert_eq!(last(&rig), ("HeldOnError", None, Some(Limit::Error)));
    rig.annotate(&key("shop"), |object| object.pause.paused = true);
    rig.seconds(10);
    assert_eq!(last(&rig), ("Paused", None, Some(Limit::Pause)));
    assert!(decisions(&rig).last().unwrap().pause.paused);
}

#[test]
fn a_fallback_that_is_waited_for_is_recorded() {
    let mut rig = shop(0, 0.0, |d| {
        quick(d);
        d.fallback = Some(Fallback { failure_threshold: 1_000, replicas: 4, behavior: FallbackBehavior::Static });
    });
    rig.seconds(10);
    rig.set_answer("up", failed("refused"));
    rig.seconds(10);
    assert_eq!(last(&rig), ("WaitingForFallback", None, Some(Limit::FallbackThreshold)));
}

#[test]
fn a_state_that_lasts_is_one_decision() {
    let mut rig = shop(3, 30.0, quick);
    rig.seconds(10);
    rig.clear();
    // A value that changes with each poll does not change the decision.
    for value in 0..200 {
        rig.set_answer("up", Answer::Value(30.0 + f64::from(value)));
        rig.seconds(3);
    }
    assert!(rig.polls.len() > 150, "{}", rig.polls.len());
    assert_eq!(decisions(&rig).len(), 0);
    // Waiting is recorded once, with its end.
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(25);
    let reasons: Vec<_> = decisions(&rig).iter().map(|one| (one.reason.id(), one.from, one.to)).collect();
    assert_eq!(reasons, [("CoolingDown", 3, 3)]);
}

/// The history has only changes, and another file has none of those from before.
#[test]
fn what_lasts_is_recorded_anew_when_the_history_goes_on_in_another_file() {
    let mut rig = shop(2, 5.0, quick);
    rig.seconds(60);
    rig.clear();
    rig.seconds(60);
    let is_change = |record: &Record| !matches!(record, Record::Sample { .. });
    assert!(!rig.records.iter().any(is_change), "{:?}", rig.records);
    rig.renew_history();
    rig.seconds(5);
    let has = |is: fn(&Record) -> bool| rig.records.iter().filter(|record| is(record)).count();
    assert_eq!(has(|record| matches!(record, Record::Definition { .. })), 1);
    assert_eq!(has(|record| matches!(record, Record::Replicas { from: None, to: 2, .. })), 1);
    assert_eq!(has(|record| matches!(record, Record::Hpa { .. })), 1);
    assert_eq!(has(|record| matches!(record, Record::LastActive { .. })), 1);
    assert_eq!(has(|record| matches!(record, Record::Condition { .. })), conditions(&rig, "shop").len());
    assert_eq!(last(&rig).0, "Active");
    // Nothing new is written to the cluster, and the next polls are as quiet as before.
    assert_eq!((rig.kinds(), rig.reasons()), (Vec::<&str>::new(), Vec::<&str>::new()));
    rig.clear();
    rig.seconds(60);
    assert!(!rig.records.iter().any(is_change), "{:?}", rig.records);
}

/// Regression: what did not fit into the queue of the history was lost, and asked for again.
#[test]
fn more_than_the_history_can_queue_is_recorded_anew_in_parts() {
    let mut cluster = Cluster::default();
    let long: Arc<str> = format!("{{\"annotations\":\"{}\"}}", "x".repeat(100_000)).into();
    for number in 0..2_000 {
        let name = format!("shop-{number}");
        let mut object = fresh(&name, &name, testing::definition());
        object.spec_json = Arc::clone(&long);
        cluster.put_object(object);
    }
    let mut rig = Rig::new(cluster);
    rig.clear();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let store = Store::start(&path, Options::default()).unwrap();
    rig.step(Event::HistoryRenewed);
    let mut most = 0;
    while rig.world.is_recording_anew() {
        rig.step(Event::HistoryHasRoom);
        most = most.max(rig.records.iter().map(Record::weight).sum::<usize>());
        store.send(std::mem::take(&mut rig.records));
        while !store.has_room() {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
    assert!(most < 5 << 20, "{most} bytes at once");
    assert_eq!((store.stats().lost_total, store.renewals_total()), (0, 0));
    let defined = "SELECT count(*) FROM definition WHERE until_unix_ms IS NULL";
    let file = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(file.query_row(defined, [], |row| row.get::<_, i64>(0)).unwrap(), 2_000);
    assert!(store.stop(Duration::from_secs(30)).complete);
}

/// Regression: a server that answered alternately with a number and with none led to a decision at each poll, which named
/// all triggers and filled the history.
#[test]
fn a_trigger_that_keeps_losing_its_number_is_a_decision_a_minute_at_most() {
    let mut rig = shop(3, 30.0, |d| {
        quick(d);
        d.triggers.push(testing::trigger(1, "flaps"));
    });
    rig.seconds(10);
    rig.clear();
    for round in 0..600 {
        let answer = if round % 2 == 0 { Answer::Missing(Missing::Empty) } else { Answer::Value(0.0) };
        rig.set_answer("flaps", answer);
        rig.seconds(3);
    }
    let recorded = decisions(&rig);
    assert!((30..=42).contains(&recorded.len()), "{} in half an hour", recorded.len());
    assert!(recorded.iter().all(|one| one.reason.id() == "Active"));
    // What is decided is recorded at once all the same.
    rig.clear();
    rig.set_answer("up", Answer::Value(0.0));
    rig.seconds(4);
    assert_eq!(last(&rig).0, "CoolingDown");
    // When it is over, the last decision says how it ended.
    rig.set_answer("up", Answer::Value(30.0));
    rig.set_answer("flaps", Answer::Value(0.0));
    rig.seconds(90);
    assert!(decisions(&rig).last().unwrap().triggers.iter().all(|trigger| trigger.absence.is_none()));
}

/// Regression: a name as long as etcd allows was kept as it is, and written into each line of the trigger's metrics.
#[test]
fn of_a_long_name_of_a_trigger_the_beginning_is_recorded() {
    let name = Some("é".repeat(100_000));
    let mut rig = shop(2, 5.0, |definition| {
        definition.triggers[0].name.clone_from(&name);
        definition.resource_triggers.push(ResourceTrigger {
            index: 1,
            kind: "cpu".to_owned(),
            name,
            container: None,
            target: MetricTarget::Utilization(60),
            authentication: None,
        });
    });
    rig.seconds(5);
    let names = rig.records.iter().filter_map(|record| match record {
        Record::Definition { triggers, resource_triggers, .. } => {
            Some([triggers[0].name.clone(), resource_triggers[0].name.clone()])
        }
        _ => None,
    });
    let names: Vec<String> = names.flatten().flatten().collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.starts_with("éé") && name.len() < 5_000));
}
