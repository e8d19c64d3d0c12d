//! The store when its file is locked, its disk full, or its process killed.

use std::collections::HashSet;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hpalite::scaling::decision::Decision;
use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::store::Store;
use rusqlite::Connection;

use super::{Place, START, count, definition, keeping_all, rows, sample, stop, trigger, wait_for, web};

fn decision(at: i64) -> Record {
    Record::Decision { at: UnixMillis(at), object: web(), decision: Decision::new(Reason::Inactive, 0, 0).into() }
}

#[test]
fn a_locked_file_is_tried_again_and_loses_nothing() {
    let place = Place::new();
    let store = place.start_defined();
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

/// As when its disk is full or read-only: scaling must not wait until that is over.
#[test]
fn a_start_does_not_wait_for_a_file_that_cannot_be_written_yet() {
    let place = Place::new();
    stop(place.start_defined());
    let other = place.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let store = place.start();
    store.send(vec![definition(START, &web(), "u", 2, vec![trigger(0, 1.0)])]);
    store.send(vec![sample(START, &web(), Answer::Value(1.0)), decision(START + 1)]);
    wait_for("the failure to be counted", || store.stats().last_error.is_some_and(|error| error.contains("locked")));
    // Nobody waits for a commit meanwhile.
    assert!(store.flush().is_err());
    other.execute_batch("COMMIT").unwrap();
    wait_for("the file to be written", || store.flush().is_ok());
    assert_eq!((store.stats().lost_total, store.stats().last_error.clone()), (0, None));
    stop(store);
    assert_eq!((count(&other, "v_sample"), count(&other, "decision")), (1, 1));
    assert_eq!(rows(&other, "SELECT max(generation) FROM v_definition"), ["2"]);
    // One that was never written is a mistake in the configuration.
    let missing = Store::start(&place.folder().join("no/history.db"), keeping_all());
    assert!(missing.is_err_and(|error| error.to_string().contains("cannot write the database")));
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
        assert!(begun.elapsed() < Duration::from_secs(60));
        let stats = store.stats();
        stats.failed_flushes_total > 0 && stats.lost_kept_total > 0
    });
    let error = store.stats().last_error.unwrap();
    assert!(error.contains("full"), "{error}");
    let stopped = store.stop(Duration::from_millis(500));
    assert!(!stopped.complete && stopped.lost_total > 0);
    // What was committed is complete, and there is space again.
    let store = Store::start(&place.path(), keeping_all()).unwrap();
    store.send(vec![decision(at + 5_000)]);
    // The abandoned writer releases the file after one more attempt.
    wait_for("the file to be free", || store.flush().is_ok());
    stop(store);
    let connection = place.open();
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(rows(&connection, "SELECT max(at_unix_ms) FROM decision"), [(at + 5_000).to_string()]);
}

#[test]
fn an_orderly_stop_loses_nothing() {
    let place = Place::new();
    let store = place.start_defined();
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
    let connection = place.open();
    assert_eq!(rows(&connection, "SELECT namespace, name, uid FROM v_scaled_object"), ["shop|web|"]);
    assert_eq!(rows(&connection, "SELECT samples, others FROM v_loss"), ["1|0"]);
}

/// Run by the test below in a process of its own, which that test kills. Prints which decisions were carried out, and
/// when it sent which sample.
#[test]
fn child_that_writes() {
    let Some(path) = std::env::var_os("HPALITE_TEST_KILLED_STORE") else { return };
    let store = Store::start(path.as_ref(), keeping_all()).unwrap();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)])]);
    let begin: i64 = std::env::var("HPALITE_TEST_KILLED_FROM").unwrap().parse().unwrap();
    let mut out = std::io::stdout();
    for i in begin.. {
        store.send((0..20).map(|j| sample(START + i * 20 + j, &web(), Answer::Value(j as f64 / 3.0))).collect());
        let at = unix_ms();
        // One write per line, so that a kill only cuts between lines.
        out.write_all(format!("sample {} {at}\n", i * 20 + 19).as_bytes()).unwrap();
        store.send(vec![decision(START + i)]);
        // Like the API writer before it sends a write.
        if store.ticket().wait(Duration::from_millis(100)) {
            out.write_all(format!("carried {i}\n").as_bytes()).unwrap();
        }
        out.flush().unwrap();
    }
}

fn unix_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Kills the process at various moments: some before the file is complete, some after seconds of samples. Returns the
/// numbers of checked decisions that were carried out, and of samples older than a second.
fn kill_rounds(rounds: u64, seed: u64) -> (usize, usize) {
    let place = Place::new();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = 0;
    let (mut carried_total, mut samples_judged) = (0, 0);
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::faults::child_that_writes", "--exact", "--nocapture"])
            .env("HPALITE_TEST_KILLED_STORE", place.path())
            .env("HPALITE_TEST_KILLED_FROM", next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        // Every fifth lives long enough for samples to become older than a second.
        let life = if round % 5 == 0 { random.u64(1_200..2_000) } else { random.u64(0..400) };
        std::thread::park_timeout(Duration::from_millis(life));
        let killed_at = unix_ms();
        child.kill().unwrap();
        child.wait().unwrap();
        let printed = reader.join().unwrap();
        if !std::fs::metadata(place.path()).is_ok_and(|file| file.len() > 0) {
            continue;
        }
        let connection = place.open();
        assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"], "round {round}");
        assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), [""; 0]);
        let (mut carried, mut sent, mut newest) = (Vec::new(), Vec::new(), None);
        for line in printed {
            // The test harness prints something before the first line.
            let words: Vec<&str> = line.rsplit("... ").next().unwrap().split(' ').collect();
            match words[..] {
                ["carried", i] => carried.push(i.parse::<i64>().unwrap()),
                ["sample", n, sent_at] => sent.push((n.parse::<i64>().unwrap(), sent_at.parse::<i64>().unwrap())),
                _ => {}
            }
        }
        // If the machine did not run the child, that time does not count.
        let times = sent.iter().map(|(_, at)| *at).chain([killed_at]);
        let stalled =
            times.collect::<Vec<_>>().windows(2).map(|pair| pair[1] - pair[0] - 150).max().unwrap_or(0).max(0);
        for (n, _) in sent.iter().filter(|(_, at)| *at < killed_at - 1_000 - stalled) {
            newest = Some(*n);
            samples_judged += 1;
        }
        if let Some(last) = carried.last() {
            let sql = format!("SELECT at_unix_ms - {START} FROM decision WHERE at_unix_ms >= {START} + {next}");
            let found: HashSet<i64> = rows(&connection, &sql).iter().map(|at| at.parse().unwrap()).collect();
            let lost = carried.iter().find(|i| !found.contains(i));
            assert_eq!(lost, None, "round {round}: a decision that was carried out is lost");
            carried_total += carried.len();
            next = last + 1;
        }
        if let Some(newest) = newest {
            // Sent and stored in order, so the newest implies all others. The view would decode everything.
            let sql = format!(
                "SELECT max(coalesce((SELECT max(at_unix_ms) FROM sample_head), 0),
                            coalesce((SELECT max(until_unix_ms) FROM sample_block), 0)) >= {START} + {newest}"
            );
            assert_eq!(rows(&connection, &sql), ["1"], "round {round}: sample {newest} is lost");
        }
        drop(connection);
        // Beyond what may have been sent without being carried out.
        next += 1_000;
    }
    stop(place.start());
    assert_eq!(rows(&place.open(), "SELECT count(*) FROM process_run WHERE state = 'orderly'"), ["1"]);
    (carried_total, samples_judged)
}

#[test]
fn a_hundred_kills_leave_a_whole_file_with_every_decision_that_was_carried_out() {
    // Five files of five rounds per thread, since a large file takes long to check.
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || (0..5).map(|file| kill_rounds(5, thread * 5 + file)).collect::<Vec<_>>())
        })
        .collect();
    // For a single file the machine may have stalled each time.
    let looked_for: Vec<(usize, usize)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let (carried, samples) = looked_for.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(carried > 0 && samples > 0, "{looked_for:?}");
}

/// A process that is killed after a decision must not lose the time of the last activity.
#[test]
fn a_decision_is_committed_with_the_last_activity_before_it() {
    let place = Place::new();
    let store = place.start_defined();
    store.send(vec![Record::LastActive { object: web(), at: UnixMillis(START + 1) }]);
    store.send(vec![decision(START + 2)]);
    store.flush().unwrap();
    assert_eq!(rows(&place.open(), "SELECT last_active_at_unix_ms FROM object_state"), [(START + 1).to_string()]);
    stop(store);
}

#[test]
fn a_ticket_is_answered_by_the_commit_and_at_once_while_writing_fails() {
    let place = Place::new();
    let store = place.start();
    store.send(vec![definition(START, &web(), "u", 1, vec![trigger(0, 1.0)]), decision(START)]);
    assert!(store.ticket().wait(Duration::from_secs(300)));
    assert_eq!(count(&place.open(), "decision"), 1);
    let other = place.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.send(vec![decision(START + 1)]);
    wait_for("a failure", || store.stats().failed_flushes_total >= 1);
    let begun = Instant::now();
    assert!(!store.ticket().wait(Duration::from_secs(300)));
    // While the store is in trouble nothing waits for the limit.
    assert!(begun.elapsed() < Duration::from_secs(200));
    other.execute_batch("COMMIT").unwrap();
    wait_for("the retry", || store.stats().queue_depth == 0);
    stop(store);
}

/// Another process holds the lock until the transaction of the returned connection ends, and one record waits.
fn keep_from_writing(place: &Place, store: &Store) -> Connection {
    let other = place.open();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.send(vec![decision(START)]);
    wait_for("a failure", || store.stats().failed_flushes_total >= 1);
    other
}

#[test]
fn a_loss_is_recorded_once_writing_works_again() {
    let place = Place::new();
    let store = place.start_defined();
    let other = keep_from_writing(&place, &store);
    let mut sent = 0;
    wait_for("a loss", || {
        sent += 10_000;
        store.send((0..10_000).map(|i| sample(START + i, &web(), Answer::Value(1.0))).collect());
        store.stats().lost_samples_total > 0
    });
    let lost = store.stats().lost_samples_total;
    other.execute_batch("COMMIT").unwrap();
    wait_for("the retry", || store.stats().queue_depth == 0);
    stop(store);
    assert_eq!(
        rows(&other, "SELECT samples, others, cause LIKE '%locked%', since <= until FROM v_loss"),
        [format!("{lost}|0|1|1")]
    );
    assert_eq!(count(&other, "v_sample"), sent - lost as i64);
}

/// A definition is recorded only once, and without it the samples of its triggers cannot be stored.
#[test]
fn what_lasts_is_asked_for_again_after_a_loss() {
    let place = Place::new();
    let store = place.start_defined();
    let other = keep_from_writing(&place, &store);
    store.send((0..100_000).map(|i| decision(START + i)).collect());
    let api = ObjectKey::new(ApiGroup::KedaSh, "shop", "api");
    let defined = definition(START, &api, "v", 1, vec![trigger(0, 1.0)]);
    store.send(vec![defined.clone()]);
    assert_eq!((store.stats().lost_kept_total, store.renewals_total()), (2, 0));
    other.execute_batch("COMMIT").unwrap();
    wait_for("the retry", || store.stats().queue_depth == 0);
    wait_for("the question", || store.renewals_total() == 1);
    store.send(vec![sample(START, &api, Answer::Value(1.0))]);
    store.send(vec![defined, sample(START + 1, &api, Answer::Value(2.0))]);
    store.flush().unwrap();
    assert_eq!(store.renewals_total(), 1);
    stop(store);
    assert_eq!(rows(&other, "SELECT value FROM v_sample WHERE name = 'api'"), ["2"]);
    assert_eq!(rows(&other, "SELECT sum(samples), sum(others) FROM v_loss"), ["1|2"]);
}

/// They come for as long as an object is active, and must not displace what is recorded only once.
#[test]
fn last_activities_are_merged_while_writing_fails() {
    let place = Place::new();
    let store = place.start_defined();
    let other = keep_from_writing(&place, &store);
    let mut times = (START..START + 150_000).map(|at| Record::LastActive { object: web(), at: UnixMillis(at) });
    loop {
        let some: Vec<_> = times.by_ref().take(10_000).collect();
        if some.is_empty() {
            break;
        }
        store.send(some);
        wait_for("them to be merged", || store.stats().queue_depth == 2);
    }
    other.execute_batch("COMMIT").unwrap();
    wait_for("the retry", || store.stats().queue_depth == 0);
    assert_eq!(store.stats().lost_total, 0);
    stop(store);
    assert_eq!(rows(&other, "SELECT last_active_at_unix_ms FROM object_state"), [(START + 149_999).to_string()]);
}

/// The committed history is lost but scaling continues: definitions, recorded only once, are in the new file.
#[test]
fn a_file_that_breaks_while_in_use_is_set_aside() {
    let place = Place::new();
    let store = place.start();
    store.write_kv("ca", "certificate").unwrap();
    store.send(vec![
        definition(START, &web(), "u", 7, vec![trigger(0, 1.0)]),
        Record::LastActive { object: web(), at: UnixMillis(START + 3) },
    ]);
    // More than the page cache holds, so that old pages are read from the file again.
    for i in 0..6 {
        store.send((0..10_000).map(|j| decision(START + i * 10_000 + j)).collect());
        store.flush().unwrap();
    }
    stop(store);
    let store = place.start();
    store.send(vec![definition(START, &web(), "u", 7, vec![trigger(0, 1.0)])]);
    store.flush().unwrap();
    let damaged: Vec<String> = {
        let connection = place.open();
        rows(
            &connection,
            "SELECT rootpage FROM sqlite_schema WHERE name IN ('decision', 'decision_by_object', 'decision_by_at')",
        )
    };
    let file = std::fs::OpenOptions::new().write(true).open(place.path()).unwrap();
    for page in damaged {
        file.write_all_at(&[0xA5; 200], (page.parse::<u64>().unwrap() - 1) * 4096).unwrap();
    }
    // A change by another connection makes the writer drop its cache.
    place.open().execute("INSERT INTO kv VALUES ('other', 'x', 1)", []).unwrap();
    let mut at = START + 100_000;
    wait_for("the damage to be found", || {
        at += 1;
        store.send(vec![decision(at)]);
        let _ = store.flush();
        store.stats().corruptions_total == 1
    });
    store.send(vec![sample(at + 1, &web(), Answer::Value(4.0)), decision(at + 1)]);
    wait_for("the new file", || store.flush().is_ok());
    assert_eq!((store.stats().lost_total, store.read_kv("ca").unwrap().as_deref()), (0, Some("certificate")));
    assert_eq!(store.restore().unwrap()[0].last_active_at, Some(UnixMillis(START + 3)));
    stop(store);
    let connection = place.open();
    assert_eq!(rows(&connection, "SELECT value FROM v_sample"), ["4"]);
    assert_eq!(rows(&connection, "SELECT generation FROM v_definition"), ["7"]);
    assert_eq!(rows(&connection, "SELECT cause LIKE 'the database was corrupt (%' FROM v_loss"), ["1"]);
    assert_eq!(rows(&connection, &format!("SELECT count(*) FROM decision WHERE at_unix_ms = {}", at + 1)), ["1"]);
    let aside = std::fs::read_dir(place.folder()).unwrap();
    let aside = aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".corrupt-"));
    assert!(aside.count() >= 1);
}
