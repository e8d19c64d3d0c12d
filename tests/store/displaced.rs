//! Files that are deleted, renamed, replaced or truncated while the store writes to them.

use std::fs;
use std::path::Path;

use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::UnixMillis;
use hpalite::store::Store;
use rusqlite::Connection;

use super::{Place, START, definition, rows, sample, stop, trigger, wait_for, web};

const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// A store with a definition, an activity, a value of the daemon and a sample.
fn begin(place: &Place) -> Store {
    let store = place.start();
    store.write_kv("ca", "certificate").unwrap();
    store.send(vec![
        definition(START, &web(), "u", 7, vec![trigger(0, 1.0)]),
        Record::LastActive { object: web(), at: UnixMillis(START + 3) },
        sample(START + 1, &web(), Answer::Value(1.0)),
    ]);
    store.flush().unwrap();
    store
}

/// Sends a sample and waits until a new reader finds it. That reader must not open the file before the store has
/// noticed the change, since SQLite applies any log beside a database.
fn goes_on(place: &Place, store: &Store) {
    store.send(vec![sample(START + 5_000, &web(), Answer::Value(2.0))]);
    wait_for("the store to see it", || store.stats().displacements_total + store.stats().corruptions_total == 1);
    wait_for("a sample at the path", || {
        let _ = store.flush();
        place.path().exists()
            && Connection::open(place.path()).is_ok_and(|connection| {
                let found = connection.query_row("SELECT value FROM v_sample WHERE value = 2", [], |row| row.get(0));
                found == Ok(2.0)
            })
    });
    assert_eq!(store.stats().lost_total, 0);
}

/// The known state is in the new file, the loss is recorded, and the store works as before.
fn is_whole(place: &Place, store: Store, what: &str) {
    assert_eq!((store.stats().displacements_total, store.stats().corruptions_total), (1, 0));
    assert_eq!(store.read_kv("ca").unwrap().as_deref(), Some("certificate"));
    assert_eq!(store.restore().unwrap()[0].last_active_at, Some(UnixMillis(START + 3)));
    stop(store);
    let connection = place.open();
    assert_eq!(rows(&connection, "SELECT generation FROM v_definition"), ["7"]);
    // That the file is new is no start of the process.
    let started = "SELECT count(*) FROM process_run WHERE started_at_unix_ms <= (SELECT min(from_unix_ms) FROM loss)";
    assert_ne!(rows(&connection, started), ["0"]);
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"]);
    let cause = format!("SELECT cause LIKE '{what} was deleted, renamed or replaced%' FROM v_loss");
    assert_eq!(rows(&connection, &cause), ["1"]);
}

fn values(path: &Path) -> Vec<String> {
    rows(&Connection::open(path).unwrap(), "SELECT value FROM v_sample ORDER BY value")
}

#[test]
fn a_deleted_file_is_followed_by_a_new_one() {
    for suffixes in [&SUFFIXES[..1], &SUFFIXES] {
        let place = Place::new();
        let store = begin(&place);
        for suffix in suffixes {
            fs::remove_file(format!("{}{suffix}", place.path().display())).unwrap();
        }
        goes_on(&place, &store);
        is_whole(&place, store, "the database");
        assert_eq!(values(&place.path()), ["2"]);
    }
}

/// The renamed file has everything until then, whether its log was renamed as well or not.
#[test]
fn a_renamed_file_keeps_what_it_has() {
    for suffixes in [&SUFFIXES[..1], &SUFFIXES] {
        let place = Place::new();
        let store = begin(&place);
        let reader = place.open();
        assert_eq!(rows(&reader, "SELECT value FROM v_sample"), ["1"]);
        let moved = place.folder().join("moved.db");
        for suffix in suffixes {
            fs::rename(format!("{}{suffix}", place.path().display()), format!("{}{suffix}", moved.display())).unwrap();
        }
        goes_on(&place, &store);
        // A reader of the old file continues with that.
        assert_eq!(rows(&reader, "SELECT value FROM v_sample"), ["1"]);
        drop(reader);
        is_whole(&place, store, "the database");
        assert_eq!((values(&moved), values(&place.path())), (vec!["1".to_owned()], vec!["2".to_owned()]));
    }
}

/// Nothing of the previous file's log is written to it.
#[test]
fn a_file_that_was_put_in_its_place_is_written_on() {
    let place = Place::new();
    let other = Place::new();
    stop(begin(&other));
    let store = begin(&place);
    store.send((0..2_000).map(|i| sample(START + 10 + i, &web(), Answer::Value(3.0))).collect());
    store.flush().unwrap();
    fs::rename(other.path(), place.path()).unwrap();
    goes_on(&place, &store);
    is_whole(&place, store, "the database");
    assert_eq!(values(&place.path()), ["1", "2"]);
}

#[test]
fn a_deleted_log_costs_nothing_that_was_committed() {
    for suffix in ["-wal", "-shm"] {
        let place = Place::new();
        let store = begin(&place);
        fs::remove_file(format!("{}{suffix}", place.path().display())).unwrap();
        goes_on(&place, &store);
        is_whole(&place, store, "the write-ahead log of the database");
        assert_eq!(values(&place.path()), ["1", "2"]);
    }
}

/// Begins a read that keeps SQLite from folding in what is committed after it: 300 more samples.
fn read_while_written(place: &Place, store: &Store) -> Connection {
    let reader = place.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM sample_head").unwrap();
    for i in 0..3 {
        let at = START + 1_000 * (i + 1);
        store.send((0..100).map(|j| sample(at + j, &web(), Answer::Value(10.0 + (100 * i + j) as f64))).collect());
        store.flush().unwrap();
    }
    reader
}

/// Ends the read once the store has tried to go on.
fn end_read(store: &Store, reader: Connection) {
    store.send(vec![sample(START + 4_000, &web(), Answer::Value(1.5))]);
    wait_for("the store to see it", || store.stats().displacements_total == 1);
    wait_for("a try", || store.stats().failed_flushes_total > 0 || store.flush().is_ok());
    drop(reader);
}

/// SQLite cannot fold in the log while it is read, and the log is all that has these samples.
#[test]
fn a_renamed_file_that_is_being_read_keeps_what_it_has() {
    let place = Place::new();
    let store = begin(&place);
    let reader = read_while_written(&place, &store);
    let moved = place.folder().join("moved.db");
    fs::rename(place.path(), &moved).unwrap();
    end_read(&store, reader);
    goes_on(&place, &store);
    is_whole(&place, store, "the database");
    assert_eq!(values(&place.path()), ["1.5", "2"]);
    let connection = Connection::open(&moved).unwrap();
    assert_eq!(rows(&connection, "SELECT count(*), max(value) FROM v_sample"), ["301|309"]);
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), ["ok"]);
    assert_eq!(fs::read_dir(place.folder()).unwrap().filter(is_log_aside).count(), 0);
}

fn is_log_aside(entry: &Result<fs::DirEntry, std::io::Error>) -> bool {
    entry.as_ref().unwrap().file_name().to_string_lossy().contains(".displaced-")
}

#[test]
fn a_log_that_is_deleted_while_it_is_read_costs_nothing_that_was_committed() {
    for suffix in ["-wal", "-shm"] {
        let place = Place::new();
        let store = begin(&place);
        let reader = read_while_written(&place, &store);
        fs::remove_file(format!("{}{suffix}", place.path().display())).unwrap();
        end_read(&store, reader);
        goes_on(&place, &store);
        is_whole(&place, store, "the write-ahead log of the database");
        let connection = place.open();
        assert_eq!(rows(&connection, "SELECT count(*), max(value) FROM v_sample"), ["303|309"], "{suffix}");
    }
}

/// While the folder is missing records wait, and none is lost.
#[test]
fn a_folder_that_comes_back_is_written_to() {
    let place = Place::new();
    let folder = place.folder().join("volume");
    fs::create_dir(&folder).unwrap();
    let store = Store::start(&folder.join("history.db"), super::keeping_all()).unwrap();
    store.send(vec![definition(START, &web(), "u", 7, vec![trigger(0, 1.0)])]);
    store.flush().unwrap();
    let away = place.folder().join("away");
    fs::rename(&folder, &away).unwrap();
    store.send(vec![sample(START + 1, &web(), Answer::Value(1.0))]);
    wait_for("the loss to be seen", || store.stats().displacements_total == 1);
    fs::create_dir(&folder).unwrap();
    wait_for("the new file", || store.flush().is_ok());
    assert_eq!(store.stats().lost_total, 0);
    stop(store);
    assert_eq!(values(&folder.join("history.db")), ["1"]);
}

#[test]
fn a_truncated_file_is_set_aside() {
    let place = Place::new();
    let store = begin(&place);
    fs::File::create(place.path()).unwrap();
    goes_on(&place, &store);
    assert_eq!((store.stats().displacements_total, store.stats().corruptions_total), (0, 1));
    stop(store);
    assert_eq!(rows(&place.open(), "SELECT cause LIKE 'the database was corrupt%' FROM v_loss"), ["1"]);
}

/// SQLite would notice only when it reads a page that is gone.
#[test]
fn a_file_that_lost_its_end_is_set_aside() {
    let place = Place::new();
    stop(begin(&place));
    let store = place.start();
    // The writer looks at the size when it writes.
    store.send(vec![definition(START, &web(), "u", 7, vec![trigger(0, 1.0)])]);
    store.flush().unwrap();
    let file = fs::File::options().write(true).open(place.path()).unwrap();
    let size = file.metadata().unwrap().len();
    file.set_len(size / 2 / 4096 * 4096).unwrap();
    goes_on(&place, &store);
    assert_eq!((store.stats().displacements_total, store.stats().corruptions_total), (0, 1));
    assert_eq!(store.renewals_total(), 1);
    stop(store);
    let connection = place.open();
    let cause = "SELECT cause LIKE 'the database was corrupt (the file was cut short while in use)%' FROM v_loss";
    assert_eq!(rows(&connection, cause), ["1"]);
    assert_eq!(rows(&connection, "SELECT generation FROM v_definition"), ["7"]);
}
