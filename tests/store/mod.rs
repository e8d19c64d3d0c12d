//! The store with real SQLite files and real faults.

mod churn;
mod cookbook;
mod displaced;
mod faults;
mod files;
mod history;
mod query;
mod replay;
mod rollup;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hpalite::scaling::event::{Answer, ErrorClass, PollError, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::store::{Options, Store};
use rusqlite::Connection;
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;

/// A folder with a database in it.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("history.db")
    }

    pub(crate) fn start(&self) -> Store {
        Store::start(&self.path(), keeping_all()).unwrap()
    }

    /// Starts with the definition of an object with one trigger.
    pub(crate) fn start_defined(&self) -> Store {
        let store = self.start();
        store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
        store.flush().unwrap();
        store
    }

    pub(crate) fn open(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }
}

/// Keeps everything, since made-up times are old.
pub(crate) fn keeping_all() -> Options {
    let mut options = Options::default();
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    options.retention.minutes = options.retention.samples;
    options.retention.hours = options.retention.samples;
    options.retention.history = options.retention.samples;
    options
}

pub(crate) fn stop(store: Store) {
    let stopped = store.stop(Duration::from_secs(120));
    assert!(stopped.complete, "{stopped:?}");
}

pub(crate) fn web() -> ObjectKey {
    ObjectKey::new(ApiGroup::KedaSh, "shop", "web")
}

pub(crate) fn trigger(index: u16, threshold: f64) -> RecordedTrigger {
    RecordedTrigger {
        index,
        kind: "prometheus".into(),
        name: None,
        metric_name: format!("s{index}-prometheus").as_str().into(),
        server: "http://prometheus:9090".into(),
        query: "sum(up)".into(),
        threshold,
        activation_threshold: 1.0,
    }
}

pub(crate) fn definition(
    at: i64,
    object: &ObjectKey,
    uid: &str,
    generation: i64,
    triggers: Vec<RecordedTrigger>,
) -> Record {
    Record::Definition {
        at: UnixMillis(at),
        object: object.clone(),
        uid: uid.into(),
        generation,
        spec_json: format!("{{\"generation\":{generation}}}").as_str().into(),
        invalid: None,
        resource_triggers: Vec::new(),
        triggers,
    }
}

pub(crate) fn sample(at: i64, object: &ObjectKey, answer: Answer) -> Record {
    let is_error = !matches!(answer, Answer::Value(_));
    Record::Sample {
        at: UnixMillis(at),
        object: object.clone(),
        trigger: 0,
        answer,
        latency: Duration::from_millis(7),
        is_error,
    }
}

pub(crate) fn timeout(message: &str) -> Answer {
    Answer::Failed(PollError { class: ErrorClass::Timeout, message: message.into() })
}

/// Waits for a condition; panics with its name if it does not hold in time.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::yield_now();
    }
}

/// Returns rows as text, with columns joined by `|`.
pub(crate) fn rows(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    statement
        .query_map([], |row| {
            let cells: Vec<String> = (0..columns)
                .map(|i| match row.get_ref(i).unwrap() {
                    rusqlite::types::ValueRef::Null => "null".to_owned(),
                    rusqlite::types::ValueRef::Integer(integer) => integer.to_string(),
                    rusqlite::types::ValueRef::Real(real) => real.to_string(),
                    other => other.as_str().unwrap().to_owned(),
                })
                .collect();
            Ok(cells.join("|"))
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

pub(crate) fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}
