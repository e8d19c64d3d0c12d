//! No object fills the file, and no number of a series is used for two at once.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::chunk::{Point, SERIES_MAX, SampleValue};
use super::prepared::Prepared;
use super::recorder::Recorder;
use super::schema;
use super::sql::Sql;
use crate::scaling::decision::Decision;
use crate::scaling::event::{Answer, ErrorClass, PollError, Record, RecordedTrigger};
use crate::scaling::model::{ApiGroup, Condition, ConditionKind, ConditionStatus, ObjectKey, UnixMillis};
use crate::scaling::reason::Reason;

fn migrated() -> Connection {
    let mut connection = Connection::open_in_memory().expect("memory");
    schema::migrate(&mut connection, schema::version()).expect("migrate");
    schema::create_views(&mut connection).expect("views");
    connection
}

fn count(connection: &Connection, rows: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {rows}"), [], |row| row.get(0)).expect(rows)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, "shop", name)
}

/// A version of an object with this many triggers, none of which is as before.
fn edited(name: &str, version: i64, triggers: u16) -> Record {
    let trigger = |index: u16| RecordedTrigger {
        index,
        kind: "prometheus".into(),
        name: None,
        metric_name: format!("s{index}-prometheus").into(),
        server: "http://prometheus".into(),
        query: format!("up{{version=\"{version}\"}}"),
        threshold: 1.0,
        activation_threshold: 0.0,
    };
    Record::Definition {
        at: UnixMillis(version),
        object: key(name),
        uid: name.into(),
        generation: version,
        spec_json: "{}".into(),
        invalid: None,
        triggers: (0..triggers).map(trigger).collect(),
        resource_triggers: Vec::new(),
    }
}

fn failed(at: i64, name: &str, trigger: u16, message: &str) -> Record {
    let error = PollError { class: ErrorClass::Status, message: message.into() };
    Record::Sample {
        at: UnixMillis(at),
        object: key(name),
        trigger,
        answer: Answer::Failed(error),
        latency: Duration::ZERO,
        is_error: true,
    }
}

fn condition(at: i64, kind: ConditionKind) -> Record {
    let condition = Condition::new(kind, ConditionStatus::True, "r", format!("m{at}"));
    Record::Condition { at: UnixMillis(at), object: key("web"), condition }
}

fn decision(at: i64, name: &str) -> Record {
    let decision = Decision::new(Reason::Inactive, 0, 0).into();
    Record::Decision { at: UnixMillis(at), object: key(name), decision }
}

/// Applies records in one transaction; returns the samples of it.
fn apply(
    recorder: &mut Recorder,
    prepared: &mut Prepared<'_>,
    records: impl IntoIterator<Item = Record>,
) -> Vec<(i64, Point)> {
    let transaction = prepared.connection.unchecked_transaction().expect("begins");
    let mut samples = Vec::new();
    for record in records {
        recorder.apply(prepared, &record, &mut samples).expect("a record");
    }
    transaction.commit().expect("commits");
    samples
}

/// Regression: an object that was edited while its triggers failed kept every trigger and every error for as long as the
/// history is kept, and one of more than 500 triggers was never caught up with.
#[test]
fn ended_triggers_go_with_their_errors_as_fast_as_they_are_edited() {
    let connection = migrated();
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    for version in 1..=12 {
        let errors = (0..700).map(|trigger| failed(version, "web", trigger, "no such authentication"));
        apply(&mut recorder, &mut prepared, std::iter::once(edited("web", version, 700)).chain(errors));
    }
    assert_eq!(count(&connection, "series WHERE until_unix_ms IS NULL"), 700);
    assert_eq!(count(&connection, "series WHERE until_unix_ms IS NOT NULL"), 4_096);
    let errors = count(&connection, "error_period");
    assert!(errors <= 4_096 + 700, "{errors}");
    assert_eq!(count(&connection, "error_period WHERE until_unix_ms IS NULL"), 700);
    // The newest are what is left.
    assert_eq!(count(&connection, "series WHERE from_unix_ms < 6"), 0);
}

/// Regression: one object whose decisions, errors or conditions kept changing filled the file and displaced what was kept of
/// all others.
#[test]
fn of_one_object_a_bounded_number_of_rows_is_kept() {
    let connection = migrated();
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    let once = [edited("other", 1, 1), decision(1, "other"), edited("web", 1, 2), condition(1, ConditionKind::Paused)];
    apply(&mut recorder, &mut prepared, once);
    apply(&mut recorder, &mut prepared, (2..9_000).map(|at| decision(at, "web")));
    apply(&mut recorder, &mut prepared, (2..6_000).map(|at| condition(at, ConditionKind::Ready)));
    let errors = (2..6_000).map(|at| failed(at, "web", u16::from(at % 2 == 0), &format!("request {at} failed")));
    apply(&mut recorder, &mut prepared, errors);
    for (table, kept) in [("decision", 8_192), ("condition_change", 4_096), ("error_period", 4_096)] {
        let rows = count(&connection, table);
        assert!((kept..kept + 300).contains(&rows), "{table}: {rows}");
    }
    assert_eq!(count(&connection, "decision WHERE at_unix_ms = 8999"), 1, "the newest stay");
    assert_eq!(count(&connection, "decision WHERE object_id = 1"), 1, "and those of others");
    assert_eq!(count(&connection, "condition_change WHERE kind = 'Paused'"), 1, "and what lasts");
    assert_eq!(count(&connection, "error_period WHERE until_unix_ms IS NULL"), 2);

    // As long as there is room, all is kept for as long as it is to be.
    let mut recorder = Recorder::load(&mut prepared, 1 << 40).expect("loads");
    let before = count(&connection, "decision");
    apply(&mut recorder, &mut prepared, (10_000..13_000).map(|at| decision(at, "web")));
    assert_eq!(count(&connection, "decision"), before + 3_000);
}

/// Regression: one observation of an HPA took 64 KiB of metrics, and as much again of conditions, so that an object had room
/// for hundreds of megabytes of them.
#[test]
fn an_observation_of_an_hpa_has_some_kilobytes() {
    let connection = migrated();
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    let external = |index: u32| {
        let name = format!("s{index}-prometheus");
        json!({ "type": "External", "external": { "metric": { "name": name, "selector": {} }, "current": { "averageValue": "1" } } })
    };
    let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "current": { "averageUtilization": 40 } } });
    let mut record = |at: i64, metrics: Vec<Value>, messages: Vec<String>| {
        let condition = |(index, message)| (format!("Kind{index}"), "True".to_owned(), "Reason".to_owned(), message);
        let observed = Record::Hpa {
            at: UnixMillis(at),
            object: key("web"),
            current: 1,
            desired: 1,
            conditions: messages.into_iter().enumerate().map(condition).collect(),
            metrics_json: Value::Array(metrics).to_string(),
        };
        apply(&mut recorder, &mut prepared, [observed]);
        let row = "SELECT metrics_json, conditions_json FROM hpa_observation JOIN hpa_conditions c ON c.id = conditions_id \
                   WHERE at_unix_ms = ?1";
        connection
            .query_row(row, [at], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map(|(metrics, conditions)| (metrics.len(), list(&metrics), conditions.len(), list(&conditions)))
            .expect("a row")
    };
    let few: Vec<Value> = (0..30).map(external).chain([cpu.clone()]).collect();
    let (_, metrics, _, conditions) = record(1, few.clone(), vec!["m".repeat(1_500); 3]);
    assert_eq!((metrics, conditions.len()), (few, 3), "the usual is kept as it is");
    let many: Vec<Value> = (0..300).map(external).chain([cpu.clone()]).collect();
    let (bytes, metrics, condition_bytes, conditions) = record(2, many.clone(), vec!["m".repeat(9_000); 200]);
    assert!(bytes <= 9_000 && condition_bytes <= 9_000, "{bytes} and {condition_bytes}");
    let (more, kept) = metrics.split_last().expect("metrics");
    assert_eq!((kept.last(), kept.first()), (Some(&cpu), Some(&many[0])), "samples have the others");
    assert_eq!(more["more"], 301 - kept.len());
    assert!(kept.len() > 30, "{}", kept.len());
    assert_eq!(conditions[0]["type"], "Kind0");
    let (bytes, metrics, ..) = record(3, vec![json!({ "type": "x".repeat(20_000) })], Vec::new());
    assert_eq!((bytes < 100, &metrics[..]), (true, &[json!({ "more": 1 })][..]));
}

fn list(json: &str) -> Vec<Value> {
    serde_json::from_str(json).expect("a list")
}

/// Regression: once all numbers had been used, the samples of new triggers were lost, and those of others were shown as theirs.
#[test]
fn numbers_of_series_are_used_again_without_what_they_stood_for() {
    let connection = migrated();
    connection
        .execute_batch(
            "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'shop', 'old', 'u', 1, NULL);
             INSERT INTO series VALUES (1, 1, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL),
                 (16777215, 1, 1, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL);
             INSERT INTO sample_head (series_id, at_unix_ms, value, latency_ms) SELECT value, 1, 7, 0 FROM json_each('[1, 2]');
             INSERT INTO sample_block VALUES (5, 1, 1, 1, 2, 2, NULL, 16777215, 1);
             INSERT INTO sample_chunk SELECT (5 << 36) + (value << 12), 1, 1, 0, '[0]', '[7]', 0, 0 FROM json_each('[1, 2]');
             INSERT INTO minute_block VALUES (5, 1, 1);
             INSERT INTO sample_minute SELECT (5 << 36) + (value << 12), 0, '[]' FROM json_each('[1, 2]');
             INSERT INTO rolled_hour VALUES (0);
             INSERT INTO sample_hour (hour_unix_ms, series_id, count, errors) SELECT 0, value, 1, 0 FROM json_each('[1, 2]');",
        )
        .expect("rows");
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    let samples = apply(&mut recorder, &mut prepared, [edited("web", 2, 3), failed(2, "web", 0, "")]);
    let new: String = connection
        .query_row("SELECT group_concat(id ORDER BY id) FROM series WHERE object_id = 2", [], |row| row.get(0))
        .expect("the new ones");
    assert_eq!(new, "2,3,4");
    assert_eq!(samples[0].0, 2);
    for table in ["sample_head", "sample_chunk", "sample_minute", "sample_hour"] {
        assert_eq!(count(&connection, table), 1, "{table} has what belongs to a series that there still is");
    }
    assert_eq!(count(&connection, "v_sample WHERE name = 'old'"), 2);
    // Another process goes on where this one was.
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    apply(&mut recorder, &mut prepared, [edited("web", 3, 1)]);
    assert_eq!(count(&connection, "series WHERE id = 5 AND object_id = 2"), 1);
}

/// Regression: a number beyond the largest led to the samples of another series in the next block.
#[test]
fn no_samples_are_read_of_a_number_that_has_no_place() {
    let connection = migrated();
    let beyond = SERIES_MAX + 1 + 5;
    connection
        .execute_batch(&format!(
            "INSERT INTO scaled_object VALUES (1, 'keda.sh', 'shop', 'old', 'u', 1, NULL), (2, 'keda.sh', 'shop', 'new', 'v', 1, NULL);
             INSERT INTO series VALUES (5, 1, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL),
                 ({beyond}, 2, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL);
             INSERT INTO sample_block VALUES (7, 1, 1, 1, 1, 1, NULL, 0, NULL), (8, 1, 1, 1, 1, 1, NULL, 0, NULL);
             INSERT INTO sample_chunk SELECT (value << 36) + (5 << 12), 1, 1, 0, '[0]', '[7]', 0, 0 FROM json_each('[7, 8]');
             INSERT INTO minute_block VALUES (7, 1, 1), (8, 1, 1);
             INSERT INTO sample_minute SELECT (value << 36) + (5 << 12), 1, '[[0,0,1,7]]' FROM json_each('[7, 8]');"
        ))
        .expect("rows");
    for view in ["v_sample", "v_sample_minute", "v_sample_hour"] {
        assert!(count(&connection, &format!("{view} WHERE name = 'old'")) > 0, "{view}");
        assert_eq!(count(&connection, &format!("{view} WHERE name = 'new'")), 0, "{view}");
    }
    let read = |statement: Sql, parameters: &[i64], series: i64| {
        let mut statement = connection.prepare(statement.text()).expect("prepares");
        let parameters = [&[series], parameters].concat();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters)).expect("runs");
        let mut count = 0;
        while rows.next().expect("a row").is_some() {
            count += 1;
        }
        count
    };
    assert_eq!((read(Sql::ChunksBetween, &[0, 9, 9], 5), read(Sql::ChunksBetween, &[0, 9, 9], beyond)), (2, 0));
    assert_eq!((read(Sql::MinutesBetween, &[0, 99_999], 5), read(Sql::MinutesBetween, &[0, 99_999], beyond)), (2, 0));
    // The next start gives its trigger a number that has a place.
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared, 1).expect("loads");
    let point = apply(&mut recorder, &mut prepared, [edited("new", 2, 1), failed(2, "new", 0, "")]);
    assert!(point[0].0 <= SERIES_MAX, "{point:?}");
    assert!(matches!(point[0].1.value, SampleValue::Outcome(_)));
}

/// Regression: each slice that makes room in a full file read all errors twice.
#[test]
fn the_time_span_of_what_may_be_deleted_is_found_by_indexes() {
    let connection = migrated();
    for statement in [Sql::OldestHistory, Sql::NewestHistory] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.text())).expect("is prepared");
        let lines = plan.query_map([], |row| row.get::<_, String>(3)).expect("a plan");
        let lines: Vec<String> = lines.map(|line| line.expect("text")).collect();
        for table in ["error_period", "definition"] {
            let of_table: Vec<&String> = lines.iter().filter(|line| line.contains(&format!(" {table}"))).collect();
            assert!(!of_table.is_empty() && of_table.iter().all(|line| line.contains("INDEX")), "{lines:?}");
        }
    }
}
