//! Objects that come and go leave nothing behind for ever, and nothing fills the file.

use std::collections::BTreeMap;
use std::time::Duration;

use hpalite::scaling::decision::Decision;
use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::{ApiGroup, Condition, ConditionKind, ConditionStatus, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::store::Store;

use super::{Place, START, count, definition, keeping_all, rows, sample, stop, timeout, trigger, wait_for, web};

fn named(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, "churn", name)
}

fn decision(at: i64, object: &ObjectKey) -> Record {
    Record::Decision {
        at: UnixMillis(at),
        object: object.clone(),
        decision: Decision::new(Reason::Inactive, 0, 0).into(),
    }
}

fn condition(at: i64, object: &ObjectKey, message: &str) -> Record {
    let condition = Condition::new(ConditionKind::Ready, ConditionStatus::False, "r", message.to_owned());
    Record::Condition { at: UnixMillis(at), object: object.clone(), condition }
}

/// The records of an object that lives for a minute.
fn life(at: i64, key: &ObjectKey, spec: &str) -> Vec<Record> {
    let mut records = vec![Record::Definition {
        at: UnixMillis(at),
        object: key.clone(),
        uid: format!("{at}"),
        generation: 1,
        spec_json: spec.into(),
        invalid: None,
        resource_triggers: Vec::new(),
        triggers: vec![trigger(0, 1.0)],
    }];
    records.extend((1..6).map(|i| sample(at + i * 10_000, key, Answer::Value(i as f64))));
    records.push(sample(at + 55_000, key, timeout("late")));
    records.push(decision(at + 1, key));
    records.push(condition(at + 2, key, "no"));
    records.push(Record::Replicas {
        at: UnixMillis(at + 3),
        object: key.clone(),
        from: Some(0),
        to: 1,
        by: None,
        absent: Vec::new(),
        unseen_since: None,
    });
    records.push(Record::LastActive { at: UnixMillis(at + 4), object: key.clone() });
    records.push(Record::Removed { at: UnixMillis(at + 60_000), object: key.clone() });
    records
}

const PAGES: &str = "SELECT page_count * 4096 FROM pragma_page_count";

#[test]
fn a_cluster_with_churn_stays_within_the_size() {
    const OBJECTS: i64 = 4_000;
    const SIZE: i64 = 2_000_000;
    const SLACK: i64 = 1_048_576 + 200_000;
    let place = Place::new();
    let mut options = keeping_all();
    options.retention.size_max = SIZE as u64;
    let store = Store::start(&place.path(), options).unwrap();
    let connection = place.open();
    let spec = format!("{{\"triggers\":\"{}\"}}", "x".repeat(1_000));
    let size = || rows(&connection, PAGES)[0].parse::<i64>().unwrap();
    for round in 0..OBJECTS / 200 {
        for i in round * 200..(round + 1) * 200 {
            store.send(life(START + i * 60_000, &named(&format!("o{i}")), &spec));
        }
        store.flush().unwrap();
        wait_for("the size", || size() <= SIZE + SLACK);
    }
    // Far more than fits has been stored, and what is left is the newest of each kind.
    let last = START + (OBJECTS - 1) * 60_000;
    for (table, offset) in [("decision", 1), ("condition_change", 2), ("replica_change", 3)] {
        let found = rows(&connection, &format!("SELECT max(at_unix_ms), min(at_unix_ms), count(*) FROM {table}"));
        let numbers: Vec<i64> = found[0].split('|').map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(numbers[0], last + offset, "{table}");
        assert_eq!(numbers[2], (numbers[0] - numbers[1]) / 60_000 + 1, "{table}: the oldest went first");
        assert!((100..OBJECTS).contains(&numbers[2]), "{table}: {numbers:?}");
    }
    let kept = count(&connection, "decision");
    for table in ["scaled_object", "series", "object_state", "definition"] {
        // About as old as the rest of the history, except for part of a slice.
        assert!(count(&connection, table) <= kept + kept / 8 + 300, "{table}: {} to {kept}", count(&connection, table));
    }
    assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), [""; 0]);
    stop(store);
}

#[test]
fn what_ended_goes_when_its_time_is_over_and_what_lives_stays() {
    let place = Place::new();
    let store = place.start();
    for i in 0..1_200 {
        store.send(life(START + i * 60_000, &named(&format!("o{i}")), "{}"));
    }
    store.send(vec![
        definition(START, &web(), "u", 1, vec![trigger(0, 1.0)]),
        Record::LastActive { object: web(), at: UnixMillis(START) },
        definition(START + 5, &web(), "u", 2, vec![trigger(0, 1.0)]),
    ]);
    store.flush().unwrap();
    stop(store);
    let mut options = keeping_all();
    options.retention.history = Duration::ZERO;
    let store = Store::start(&place.path(), options.clone()).unwrap();
    let connection = place.open();
    wait_for("the history to go", || {
        count(&connection, "definition") == 1
            && count(&connection, "process_run") == 1
            && count(&connection, "decision") == 0
    });
    // Their samples still exist, and belong to them.
    assert_eq!(count(&connection, "v_sample"), 6 * 1_200);
    assert_eq!(count(&connection, "scaled_object"), 1_201);
    stop(store);
    options.retention.samples = Duration::ZERO;
    options.retention.minutes = Duration::ZERO;
    options.retention.hours = Duration::ZERO;
    let store = Store::start(&place.path(), options).unwrap();
    wait_for("all of them to go", || count(&connection, "scaled_object") == 1);
    for table in ["definition", "series", "object_state", "process_run"] {
        assert_eq!(count(&connection, table), 1, "{table}");
    }
    assert_eq!(
        rows(&connection, "SELECT name, state, last_active_at FROM v_scaled_object"),
        ["web|valid|2026-01-01T00:00:00.000Z"]
    );
    stop(store);
}

/// With current times, so that they are in the head like the newest samples.
#[test]
fn samples_in_the_head_go_before_the_rest_of_the_history() {
    let place = Place::new();
    let store = place.start();
    let now = hpalite::store::unix_now().0 - 600_000;
    store.send(vec![definition(now, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    for some in 0..3 {
        let samples = some * 10_000..(some + 1) * 10_000;
        store.send(samples.map(|i| sample(now + i * 10, &web(), Answer::Value(i as f64 / 7.0))).collect());
        store.flush().unwrap();
    }
    store.send((0..3_000).map(|i| decision(now + i, &web())).collect());
    store.flush().unwrap();
    let connection = place.open();
    let before: i64 = rows(&connection, PAGES)[0].parse().unwrap();
    assert_eq!(count(&connection, "sample_head"), 30_000);
    stop(store);
    let mut options = keeping_all();
    options.retention.size_max = (before - 400_000).unsigned_abs();
    let store = Store::start(&place.path(), options).unwrap();
    let dropped = || -> BTreeMap<&str, u64> { store.stats().dropped_total.into_iter().collect() };
    wait_for("the samples to go", || count(&connection, "sample_head") == 0 && dropped()["sample"] > 0);
    let settled = "SELECT (page_count - freelist_count) * 4096 FROM pragma_page_count, pragma_freelist_count";
    wait_for("the cap", || rows(&connection, settled)[0].parse::<i64>().unwrap() <= before - 400_000);
    assert_eq!((dropped()["history"], dropped()["definition"]), (0, 0), "{:?}", dropped());
    assert_eq!(count(&connection, "decision"), 3_000);
    stop(store);
}

/// An object that is edited all the time, with servers whose errors are long.
#[test]
fn no_object_fills_the_file_by_itself() {
    let place = Place::new();
    let store = place.start();
    let long = "ü".repeat(1 << 20);
    for i in 0..400 {
        let at = START + i * 1_000;
        store.send(vec![definition(at, &web(), "u", i + 1, vec![trigger(0, i as f64)])]);
    }
    store.send(vec![
        condition(START, &web(), &long),
        sample(START + 1, &web(), timeout(&long)),
        sample(START + 2, &web(), timeout(&long)),
        Record::Action { at: UnixMillis(START), object: web(), from: 0, to: 1, error: Some(long.clone()) },
        Record::Hpa {
            at: UnixMillis(START),
            object: web(),
            current: 1,
            desired: 1,
            conditions: vec![("a".into(), "b".into(), long.clone(), long.clone()); 2],
            metrics_json: serde_json::json!([long]).to_string(),
        },
    ]);
    store.flush().unwrap();
    stop(store);
    let connection = place.open();
    assert_eq!(rows(&connection, "SELECT count(*), min(generation), max(generation) FROM definition"), ["257|144|400"]);
    assert_eq!(rows(&connection, "SELECT polls FROM error_period"), ["2"], "the same text is the same error");
    let longest = "SELECT max(length(t)) < 10000 FROM (SELECT message AS t FROM condition_change UNION ALL SELECT message FROM error_period \
        UNION ALL SELECT error FROM action UNION ALL SELECT conditions_json FROM hpa_conditions UNION ALL SELECT metrics_json FROM hpa_observation)";
    assert_eq!(rows(&connection, longest), ["1"]);
    assert_eq!(rows(&connection, "SELECT metrics_json FROM hpa_observation"), ["[]"]);
}
