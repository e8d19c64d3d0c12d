//! No object fills the file.

use std::time::Duration;

use rusqlite::Connection;

use super::prepared::Prepared;
use super::recorder::Recorder;
use super::schema;
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
    let condition = Condition::new(kind, ConditionStatus::True, "r", "m".to_owned());
    Record::Condition { at: UnixMillis(at), object: key("web"), condition }
}

fn decision(at: i64, name: &str) -> Record {
    let decision = Decision::new(Reason::Inactive, 0, 0).into();
    Record::Decision { at: UnixMillis(at), object: key(name), decision }
}

/// Applies records in one transaction.
fn apply(recorder: &mut Recorder, prepared: &mut Prepared<'_>, records: impl IntoIterator<Item = Record>) {
    let transaction = prepared.connection.unchecked_transaction().expect("begins");
    let mut samples = Vec::new();
    for record in records {
        recorder.apply(prepared, &record, &mut samples).expect("a record");
    }
    transaction.commit().expect("commits");
}

/// Regression: an object that was edited while its triggers failed kept every trigger and every error for as long as the
/// history is kept, and one of more than 500 triggers was never caught up with.
#[test]
fn ended_triggers_go_with_their_errors_as_fast_as_they_are_edited() {
    let connection = migrated();
    let mut prepared = Prepared::new(&connection);
    let mut recorder = Recorder::load(&mut prepared).expect("loads");
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
    let mut recorder = Recorder::load(&mut prepared).expect("loads");
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
}
