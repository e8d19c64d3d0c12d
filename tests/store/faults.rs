//! The store when its surroundings fail: locked, full, killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::UnixMillis;
use hpalite::scaling::reason::Reason;
use hpalite::store::Store;

use super::{Place, START, count, definition, keeping_all, rows, sample, stop, trigger, wait_for, web};

fn decision(at: i64) -> Record {
    Record::Decision {
        at: UnixMillis(at),
        object: web(),
        reason: Reason::Inactive,
        from: 0,
        to: 0,
        triggers: vec![],
        circumstances: Box::default(),
    }
}

#[test]
fn a_locked_file_is_tried_again_and_loses_nothing() {
    let place = Place::new();
    let store = place.start();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    store.flush().unwrap();
    let other = place.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.send((0..100).map(|i| sample(START + i, &web(), Answer::Value(1.0))).collect());
    store.send((0..100).map(|i| decision(START + i)).collect());
    store.send(vec![Record::LastActive { object: web(), at: UnixMillis(START + 1) }]);
    wait_for("two failed flushes", || store.stats().failed_flushes_total >= 2);
    assert!(store.stats().last_error.is_some_and(|error| error.contains("locked")));
    assert_eq!(store.stats().queue_depth, 201);
    other.execute_batch("COMMIT").unwrap();
    wait_for("the retry", || store.stats().queue_depth == 0);
    assert_eq!((store.stats().lost_total, store.stats().last_error), (0, None));
    stop(store);
    assert_eq!((count(&other, "v_sample"), count(&other, "decision"), count(&other, "object_state")), (100, 100, 1));
}

#[test]
fn a_full_disk_neither_blocks_nor_breaks() {
    let place = Place::new();
    let mut options = keeping_all();
    options.pages_max = Some(120);
    let store = Store::start(&place.path(), options).unwrap();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    store.flush().unwrap();
    let mut at = START;
    wait_for("the disk to be full", || {
        at += 1_000;
        let begun = Instant::now();
        store.send((0..500).map(|i| decision(at + i)).collect());
        // Generous for a busy machine: sending must not wait for the disk.
        assert!(begun.elapsed() < Duration::from_secs(2));
        let stats = store.stats();
        stats.failed_flushes_total > 0 && stats.lost_kept_total > 0
    });
    let error = store.stats().last_error.unwrap();
    assert!(error.contains("full"), "{error}");
    let stopped = store.stop(Duration::from_millis(500));
    assert!(!stopped.complete && stopped.lost_total > 0);
    // What was committed is whole, and there is room again.
    let store = place.start();
    store.send(vec![decision(at + 5_000)]);
    stop(store);
    let connection = place.open();
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(rows(&connection, "SELECT max(at_unix_ms) FROM decision"), [(at + 5_000).to_string()]);
}

#[test]
fn an_orderly_stop_loses_nothing() {
    let place = Place::new();
    let store = place.start();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    let senders: Vec<_> = (0..4)
        .map(|n| {
            let sender = store.sender();
            std::thread::spawn(move || {
                for i in 0..2_000 {
                    sender.send(vec![sample(START + n * 10_000 + i, &web(), Answer::Value(1.5)), decision(START + i)]);
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    stop(store);
    assert!(!place.folder().join("history.db-wal").exists());
    let connection = place.open();
    assert_eq!((count(&connection, "v_sample"), count(&connection, "decision")), (8_000, 8_000));
}

#[test]
fn a_sample_nobody_defined_is_counted() {
    let place = Place::new();
    let store = place.start();
    store.send(vec![sample(START, &web(), Answer::Value(1.0)), decision(START)]);
    store.flush().unwrap();
    assert_eq!((store.stats().lost_samples_total, store.stats().written_total), (1, 1));
    stop(store);
    assert_eq!(rows(&place.open(), "SELECT namespace, name, uid FROM v_scaled_object"), ["shop|web|"]);
}

/// Run by the test below in a process of its own, which it then kills.
#[test]
fn child_that_writes() {
    let Some(path) = std::env::var_os("HPALITE_TEST_KILLED_STORE") else { return };
    let store = Store::start(path.as_ref(), keeping_all()).unwrap();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    for i in 0.. {
        store.send((0..500).map(|j| sample(START + i * 500 + j, &web(), Answer::Value(j as f64 / 3.0))).collect());
        store.send(vec![decision(START + i)]);
        while store.stats().queue_depth > 20_000 {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_killed_writer_leaves_a_whole_file() {
    let place = Place::new();
    let mut seen = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::faults::child_that_writes", "--exact"])
            .env("HPALITE_TEST_KILLED_STORE", place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the child to write", || {
            let Ok(connection) = rusqlite::Connection::open(place.path()) else { return false };
            let _ = connection.busy_timeout(Duration::from_secs(1));
            connection
                .query_row("SELECT count(*) FROM decision", [], |row| row.get::<_, i64>(0))
                .is_ok_and(|count| count > seen + 100 + round * 37)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let connection = place.open();
        assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"], "round {round}");
        assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), [""; 0]);
        seen = count(&connection, "decision");
    }
    stop(place.start());
    assert_eq!(
        rows(&place.open(), "SELECT state, count(*) FROM process_run GROUP BY state"),
        ["lost|5", "orderly|1"].map(str::to_owned)
    );
}
