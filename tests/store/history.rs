//! The views show what was written.

use std::sync::Arc;
use std::time::Duration;

use hpalite::explain::{self, Question};
use hpalite::scaling::attribution::{Actor, Attribution};
use hpalite::scaling::decision::{DecidedTrigger, Decision};
use hpalite::scaling::event::{Answer, HeldValue, Interruption, Missing, Record};
use hpalite::scaling::model::{ApiGroup, Condition, ConditionKind, ConditionStatus, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::scaling::recommend::Proposal;
use hpalite::store::{Reader, SampleValue, Store};

use super::{Place, START, count, definition, keeping_all, rows, sample, stop, timeout, trigger, web};

fn observed(manager: &str) -> Option<Attribution> {
    Some(Attribution::observed(manager))
}

fn inferred(actor: Actor) -> Option<Attribution> {
    Some(Attribution::inferred(actor))
}

#[test]
fn views_show_what_was_written() {
    let place = Place::new();
    let store = place.start();
    let web = web();
    let at = |ms: i64| UnixMillis(START + ms);
    store.send(vec![
        definition(START, &web, "u1", 1, vec![trigger(0, 10.0)]),
        sample(START + 1, &web, Answer::Value(12.5)),
        sample(START + 2_001, &web, timeout("no answer")),
        sample(START + 4_001, &web, timeout("no answer")),
        sample(START + 6_001, &web, Answer::Missing(Missing::Empty)),
        sample(START + 8_001, &web, Answer::Value(3.0)),
        Record::Decision {
            at: at(10),
            object: web.clone(),
            decision: Arc::new(Decision {
                triggers: vec![DecidedTrigger {
                    metric_name: "s0-prometheus".into(),
                    value: Some(12.5),
                    active: true,
                    target: 10.0,
                    proposal: Some(Proposal { replicas: 2, exact: 2 }),
                    ..DecidedTrigger::default()
                }],
                max: Some(9),
                ..Decision::new(Reason::Activated { metrics: vec!["s0-prometheus".into()] }, 0, 1)
            }),
        },
        Record::Action { at: at(20), object: web.clone(), from: 0, to: 1, error: None },
        Record::Replicas {
            at: at(30),
            object: web.clone(),
            from: Some(0),
            to: 1,
            by: inferred(Actor::Hpalite),
            absent: vec![],
            unseen_since: None,
        },
        Record::Hpa {
            at: at(40),
            object: web.clone(),
            current: 1,
            desired: 4,
            conditions: vec![("AbleToScale".into(), "True".into(), "Ready".into(), "ok".into())],
            metrics_json: "[]".into(),
        },
        Record::Replicas {
            at: at(50),
            object: web.clone(),
            from: Some(1),
            to: 4,
            by: None,
            absent: vec![],
            unseen_since: None,
        },
        Record::Ready { at: at(12_350), object: web.clone(), changed_at: at(50), to: 4 },
        Record::Ready { at: at(12_350), object: web.clone(), changed_at: at(50), to: 3 },
        Record::Replicas {
            at: at(60),
            object: web.clone(),
            from: Some(4),
            to: 9,
            by: observed("kubectl"),
            absent: vec![],
            unseen_since: None,
        },
        Record::Replicas {
            at: at(70),
            object: web.clone(),
            from: Some(9),
            to: 4,
            by: observed("kube-controller-manager"),
            absent: vec![],
            unseen_since: None,
        },
        Record::Attributed { at: at(50), object: web.clone(), from: 1, to: 4, by: Attribution::inferred(Actor::Hpa) },
        Record::Condition {
            at: at(80),
            object: web.clone(),
            condition: Condition::new(ConditionKind::Active, ConditionStatus::True, "ScalerActive", "m"),
        },
        Record::LastActive { object: web.clone(), at: at(90) },
    ]);
    store.flush().unwrap();
    stop(store);
    let connection = place.open();
    assert_eq!(
        rows(
            &connection,
            "SELECT at, namespace, name, metric_name, value, outcome, threshold FROM v_sample ORDER BY at_unix_ms"
        ),
        [
            "2026-01-01T00:00:00.001Z|shop|web|s0-prometheus|12.5|ok|10",
            "2026-01-01T00:00:02.001Z|shop|web|s0-prometheus|null|timeout|10",
            "2026-01-01T00:00:04.001Z|shop|web|s0-prometheus|null|timeout|10",
            "2026-01-01T00:00:06.001Z|shop|web|s0-prometheus|null|empty|10",
            "2026-01-01T00:00:08.001Z|shop|web|s0-prometheus|3|ok|10",
        ]
    );
    assert_eq!(
        rows(&connection, "SELECT at, reason, detail, from_replicas, to_replicas, outcome FROM v_decision"),
        ["2026-01-01T00:00:00.010Z|Activated|activated by s0-prometheus|0|1|done"]
    );
    assert_eq!(
        rows(&connection, "SELECT metric_name, value, active FROM v_decision_trigger"),
        ["s0-prometheus|12.5|1"]
    );
    assert_eq!(
        rows(
            &connection,
            "SELECT from_replicas, to_replicas, actor, source, manager, ready_after_s FROM v_replica_change"
        ),
        [
            "9|4|hpa|observed|kube-controller-manager|null",
            "4|9|other|observed|kubectl|null",
            "1|4|hpa|inferred|null|12.3",
            "0|1|hpalite|inferred|null|null"
        ]
    );
    assert_eq!(
        rows(&connection, "SELECT outcome, message, since, until, polls FROM v_error_period"),
        [
            "empty||2026-01-01T00:00:06.001Z|2026-01-01T00:00:08.001Z|1",
            "timeout|no answer|2026-01-01T00:00:02.001Z|2026-01-01T00:00:06.001Z|2",
        ]
    );
    assert_eq!(
        rows(&connection, "SELECT state, replicas, triggers, last_active_at FROM v_scaled_object"),
        ["valid|4|1|2026-01-01T00:00:00.090Z"]
    );
    assert_eq!(
        rows(&connection, "SELECT kind, status, reason, message FROM v_condition_change"),
        ["Active|True|ScalerActive|m"]
    );
    assert_eq!(rows(&connection, "SELECT state FROM v_process_run"), ["orderly"]);
    assert_eq!(rows(&connection, "SELECT what FROM v_timeline WHERE what NOT IN ('start', 'stop')").len(), 12);
    assert_eq!(rows(&connection, "SELECT health FROM v_trigger_health").len(), 1);
}

#[test]
fn definitions_keep_their_history() {
    let place = Place::new();
    let store = place.start();
    let web = web();
    store.send(vec![
        definition(START, &web, "u1", 1, vec![trigger(0, 10.0), trigger(1, 5.0)]),
        definition(START + 10, &web, "u1", 1, vec![trigger(0, 10.0), trigger(1, 5.0)]),
        definition(START + 20, &web, "u1", 2, vec![trigger(0, 20.0), trigger(1, 5.0)]),
        sample(START + 21, &web, Answer::Value(1.0)),
    ]);
    store.flush().unwrap();
    stop(store);
    // The same after a restart, then an object of the same name with another uid.
    let store = place.start();
    store.send(vec![
        definition(START + 30, &web, "u1", 2, vec![trigger(0, 20.0), trigger(1, 5.0)]),
        definition(START + 40, &web, "u2", 1, vec![trigger(0, 20.0)]),
        Record::Removed { at: UnixMillis(START + 50), object: web.clone() },
    ]);
    stop(store);
    let connection = place.open();
    assert_eq!(
        rows(
            &connection,
            "SELECT uid, generation, from_unix_ms - 1767225600000, until_unix_ms - 1767225600000 FROM definition d JOIN scaled_object o ON o.id = d.object_id ORDER BY d.id"
        ),
        ["u1|1|0|20", "u1|2|20|40", "u2|1|40|50"]
    );
    assert_eq!(
        rows(
            &connection,
            "SELECT trigger_index, threshold, from_unix_ms - 1767225600000, until_unix_ms - 1767225600000 FROM series ORDER BY id"
        ),
        ["0|10|0|20", "1|5|0|40", "0|20|20|40", "0|20|40|50"]
    );
    assert_eq!(rows(&connection, "SELECT state, uid FROM v_scaled_object"), ["removed|u2", "removed|u1"]);
}

#[test]
fn last_activity_and_small_state_survive_a_restart() {
    let place = Place::new();
    let store = place.start();
    let gone = ObjectKey::new(ApiGroup::KedaK8sIo, "shop", "gone");
    store.send(vec![
        definition(START, &web(), "u1", 1, vec![]),
        definition(START, &gone, "u2", 1, vec![]),
        Record::LastActive { object: web(), at: UnixMillis(START + 5) },
        Record::LastActive { object: web(), at: UnixMillis(START + 3) },
        Record::LastActive { object: gone.clone(), at: UnixMillis(START) },
        Record::Removed { at: UnixMillis(START + 9), object: gone },
    ]);
    store.write_kv("ca", "-----BEGIN").unwrap();
    store.write_kv("ca", "-----BEGIN CERTIFICATE-----").unwrap();
    stop(store);
    let store = place.start();
    let states = store.restore().unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(
        (states[0].key.clone(), states[0].uid.as_str(), states[0].last_active_at),
        (web(), "u1", Some(UnixMillis(START + 5)))
    );
    assert_eq!(store.read_kv("ca").unwrap().as_deref(), Some("-----BEGIN CERTIFICATE-----"));
    assert_eq!(store.read_kv("none").unwrap(), None);
    stop(store);
}

/// What a trigger holds while there is no number, with the number wherever the samples are.
#[test]
fn the_last_values_of_triggers_that_hold_them_survive_a_restart() {
    let place = Place::new();
    let store = place.start();
    let holds = |generation, triggers| {
        let Record::Definition { at, object, uid, invalid, resource_triggers, .. } =
            definition(START, &web(), "u1", generation, vec![])
        else {
            unreachable!("it makes a definition")
        };
        let spec_json = r#"{"triggers":[{"metadata":{"onMissing":"hold","holdFor":"10m"}}]}"#.into();
        Record::Definition { at, object, uid, generation, spec_json, invalid, resource_triggers, triggers }
    };
    let other = ObjectKey::new(ApiGroup::KedaSh, "shop", "other");
    store.send(vec![
        holds(3, vec![trigger(0, 10.0)]),
        definition(START, &other, "u2", 1, vec![trigger(0, 10.0)]),
        sample(START + 1_000, &other, Answer::Value(9.0)),
        sample(START + 1_000, &web(), Answer::Value(5.0)),
        sample(START + 31_000, &web(), Answer::Value(7.0)),
        sample(START + 61_000, &web(), Answer::Missing(Missing::Empty)),
        sample(START + 91_000, &web(), timeout("no answer")),
    ]);
    let held = |store: &Store| {
        let states = store.restore().unwrap();
        let mut held: Vec<_> = states.into_iter().map(|state| (state.key.name.to_string(), state.held)).collect();
        held.sort_by(|a, b| a.0.cmp(&b.0));
        held
    };
    let value = HeldValue { generation: 3, trigger: 0, value: 7.0, at: UnixMillis(START + 31_000) };
    let expected = [("other".to_owned(), vec![]), ("web".to_owned(), vec![value])];
    store.flush().unwrap();
    assert_eq!(held(&store), expected, "in the head");
    stop(store);
    let store = place.start();
    assert_eq!(held(&store), expected, "after a restart");
    stop(store);
}

/// Every sample stays unchanged in the head, by packing and by merging.
#[test]
fn samples_stay_themselves_through_packing_and_merging() {
    const OBJECTS: usize = 50;
    let place = Place::new();
    let store = place.start();
    let keys: Vec<ObjectKey> =
        (0..OBJECTS).map(|i| ObjectKey::new(ApiGroup::KedaSh, "many", &format!("o{i}"))).collect();
    store.send(keys.iter().map(|key| definition(START, key, "u", 1, vec![trigger(0, 1.0)])).collect());
    let mut random = fastrand::Rng::with_seed(3);
    let mut sent: Vec<Vec<(i64, Option<f64>)>> = vec![Vec::new(); OBJECTS];
    // 2,000 each: 100,000 rows fill the head several times.
    for round in 0..2_000_i64 {
        let mut records = Vec::new();
        for (key, sent) in keys.iter().zip(&mut sent) {
            let at = START + round * 15_000 + random.i64(0..90);
            let value = match random.u8(0..10) {
                0 => None,
                1 => Some(random.f64() * 1e6),
                _ => Some(f64::from(random.u8(0..5))),
            };
            records.push(sample(at, key, value.map_or_else(|| timeout("x"), Answer::Value)));
            sent.push((at, value));
        }
        store.send(records);
        if round % 100 == 99 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
    let connection = place.open();
    super::wait_for("the head to be packed", || count(&connection, "sample_head") < 32_768);
    let check = |connection: &rusqlite::Connection| {
        for (key, sent) in keys.iter().zip(&sent).step_by(9) {
            let found = rows(
                connection,
                &format!(
                    "SELECT at_unix_ms, value FROM v_sample WHERE namespace = 'many' AND name = '{}' ORDER BY at_unix_ms",
                    key.name
                ),
            );
            let wanted: Vec<String> = sent
                .iter()
                .map(|(at, value)| format!("{at}|{}", value.map_or("null".into(), |value| value.to_string())))
                .collect();
            assert_eq!(found.len(), wanted.len());
            assert_eq!(found.iter().zip(&wanted).find(|(found, wanted)| found != wanted), None);
        }
    };
    check(&connection);
    assert_eq!(count(&connection, "v_sample"), 2_000 * OBJECTS as i64);
    let mut reader = Reader::open(&place.path()).unwrap();
    let found = reader.samples(&keys[7], 0, UnixMillis(START + 1_000 * 15_000)).unwrap();
    let wanted: Vec<(UnixMillis, SampleValue)> = sent[7][1_000..]
        .iter()
        .map(|(at, value)| {
            (UnixMillis(*at), value.map_or_else(|| SampleValue::Outcome("timeout".into()), SampleValue::Number))
        })
        .collect();
    assert!(found == wanted);
    stop(store);
}

/// Blocks of small chunks are merged into one, in slices, even if restarts interrupt that.
#[test]
fn small_blocks_are_merged() {
    const OBJECTS: usize = 4_000;
    let place = Place::new();
    let mut store = place.start();
    let keys: Vec<ObjectKey> =
        (0..OBJECTS).map(|i| ObjectKey::new(ApiGroup::KedaSh, "many", &format!("o{i}"))).collect();
    store.send(keys.iter().map(|key| definition(START, key, "u", 1, vec![trigger(0, 1.0)])).collect());
    // 4,000 rows per flush: the head is packed every ninth time, which gives at least 24 blocks.
    for round in 0..220_i64 {
        let records = keys
            .iter()
            .zip(0_i32..)
            .map(|(key, i)| sample(START + round * 15_000, key, Answer::Value(f64::from(i) + round as f64 / 8.0)))
            .collect();
        store.send(records);
        store.flush().unwrap();
        if round == 100 {
            stop(store);
            store = place.start();
        }
    }
    let connection = place.open();
    super::wait_for("a merged block", || {
        rows(&connection, "SELECT max(level), count(merging_into) FROM sample_block") == ["2|0"]
    });
    assert_eq!(count(&connection, "v_sample"), 220 * OBJECTS as i64);
    assert_eq!(
        rows(
            &connection,
            "SELECT count(*), min(value), max(value) FROM v_sample WHERE namespace = 'many' AND name = 'o17'"
        ),
        ["220|17|44.375"]
    );
    // A block counts its own chunks; another merge, which decreases the counts of its sources, may have begun.
    assert_eq!(
        rows(
            &connection,
            "SELECT count(*) FROM sample_block b WHERE b.merging_into IS NULL
             AND b.chunks <> (SELECT count(*) FROM sample_chunk c WHERE c.id >> 36 = b.id)"
        ),
        ["0"]
    );
    stop(store);
}

#[test]
fn old_rows_go_and_the_file_shrinks() {
    let place = Place::new();
    let store = place.start();
    let mut records = vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])];
    records.extend((0..40_000).map(|i| sample(START + i * 1_000, &web(), Answer::Value(i as f64 / 7.0))));
    records.extend((0..5_000).map(|i| Record::Decision {
        at: UnixMillis(START + i),
        object: web(),
        decision: Decision::new(Reason::Inactive, 0, 0).into(),
    }));
    store.send(records);
    store.flush().unwrap();
    stop(store);
    let before = std::fs::metadata(place.path()).unwrap().len();
    let mut options = keeping_all();
    options.retention.samples = Duration::ZERO;
    options.retention.minutes = Duration::ZERO;
    options.retention.hours = Duration::ZERO;
    options.retention.history = Duration::ZERO;
    let store = Store::start(&place.path(), options).unwrap();
    let connection = place.open();
    super::wait_for("retention", || {
        ["sample_head", "sample_chunk", "sample_block"].iter().all(|table| count(&connection, table) == 0)
            && count(&connection, "decision") == 1
    });
    assert_eq!(rows(&connection, "SELECT at_unix_ms FROM decision"), [(START + 4_999).to_string()], "it lasts");
    super::wait_for("free pages to go", || {
        rows(&connection, "SELECT freelist_count <= 256 FROM pragma_freelist_count") == ["1"]
    });
    drop(connection);
    stop(store);
    let after = std::fs::metadata(place.path()).unwrap().len();
    // Only the schema and the 1 MiB reserved for new data are left.
    assert!(after < 1_500_000 && after < before - 500_000, "{before} to {after}");
}

#[test]
fn why_reports_all_objects_of_a_name_that_lived_in_that_time() {
    let place = Place::new();
    let store = place.start();
    let at = |ms: i64| UnixMillis(START + ms);
    let change = |ms, from, to| {
        let by = observed("kube-controller-manager");
        Record::Replicas { at: at(ms), object: web(), from: Some(from), to, by, absent: vec![], unseen_since: None }
    };
    store.send(vec![
        definition(START, &web(), "first", 1, vec![trigger(0, 1.0)]),
        change(10_000, 1, 4),
        Record::Removed { at: at(20_000), object: web() },
        definition(START + 30_000, &web(), "second", 1, vec![trigger(0, 1.0)]),
        change(40_000, 4, 7),
    ]);
    store.flush().unwrap();
    let answers = |since: i64| {
        let question = Question::Between(at(since), at(50_000));
        let report = explain::why(&place.path(), "shop", "web", None, question).unwrap();
        let words =
            |text: &str| text.split([' ', ':']).filter(|word| !word.is_empty()).take(4).collect::<Vec<_>>().join(" ");
        let entries = report.entries.iter().filter(|entry| entry.kind != "daemon" && entry.kind != "held");
        entries.map(|entry| words(&entry.text)).collect::<Vec<_>>()
    };
    let second = ["definition, generation 1 first", "4→7 by the HPA"];
    assert_eq!(answers(25_000), second);
    let all =
        ["definition, generation 1 first", "1→4 by the HPA", "the ScaledObject was removed", second[0], second[1]];
    assert_eq!(answers(0), all);
    assert_eq!(answers(15_000), all[2..]);
    stop(store);
}

#[test]
fn interruptions_that_are_close_to_each_other_share_a_row() {
    let place = Place::new();
    let store = place.start();
    let at = |ms: i64| UnixMillis(START + ms);
    let interrupted = |kind, from, until| Record::Interrupted { kind, from: at(from), until: at(until) };
    let (silence, standstill) = (Interruption::ApiServer, Interruption::Standstill);
    store.send(vec![
        interrupted(silence, 10_000, 20_000),
        interrupted(standstill, 15_000, 45_000),
        // It lasts.
        interrupted(silence, 10_000, 30_000),
        interrupted(silence, 9_999, 40_000),
        // Another one.
        interrupted(silence, 70_000, 80_000),
        interrupted(silence, 70_000, 90_000),
        // Long after.
        interrupted(silence, 151_000, 160_000),
        interrupted(Interruption::ClockBack, 0, 90_000),
    ]);
    store.flush().unwrap();
    stop(store);
    let connection = place.open();
    let found = rows(&connection, "SELECT kind, from_unix_ms, until_unix_ms, times FROM v_interruption");
    let row = |kind, from, until, times| format!("{kind}|{}|{}|{times}", at(from).0, at(until).0);
    let expected = [
        row("api-server", 151_000, 160_000, 1),
        row("standstill", 15_000, 45_000, 1),
        row("api-server", 9_999, 90_000, 2),
        row("clock-back", 0, 90_000, 1),
    ];
    assert_eq!(found, expected);
    let lines =
        rows(&connection, "SELECT text FROM v_timeline WHERE what = 'interruption' ORDER BY at_unix_ms LIMIT 2");
    assert_eq!(lines, ["clock-back for 90 s", "api-server for 80 s, 2 times"]);
}

/// Regression: a process that waited for its Lease alone was said to have stood by for another instance.
#[test]
fn a_wait_for_the_lease_alone_is_no_standby() {
    for (was_alone, stood_by, waited) in [(true, "null", 1), (false, "2100-01-01T00:00:00.000Z", 0)] {
        let place = Place::new();
        let store = place.start();
        let until = Some(UnixMillis(4_102_444_800_000));
        store.send(vec![Record::Standby { until: None, was_alone: false }, Record::Standby { until, was_alone }]);
        store.flush().unwrap();
        stop(store);
        let connection = place.open();
        assert_eq!(rows(&connection, "SELECT stood_by_until FROM v_process_run"), [stood_by]);
        let alike = "interruption i JOIN process_run r ON r.started_at_unix_ms = i.from_unix_ms WHERE i.kind = 'lease'";
        assert_eq!(count(&connection, alike), waited);
    }
}
