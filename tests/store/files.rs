//! The file itself: mode, settings, versions, damage.

use std::os::unix::fs::PermissionsExt as _;

use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::{Condition, ConditionKind, ConditionStatus, UnixMillis};
use hpalite::store::{Error, Options, Store, schema_version};

use super::{Place, START, rows, sample, stop, wait_for, web};

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_is_private() {
    let place = Place::new();
    std::fs::write(place.path(), "").unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = place.start();
    store.write_kv("key", "secret").unwrap();
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(mode(&place.folder().join("history.db-wal")), 0o600);
    stop(store);
}

#[test]
fn settings_hold() {
    let place = Place::new();
    stop(place.start());
    let connection = place.open();
    assert_eq!(rows(&connection, "PRAGMA journal_mode"), ["wal"]);
    assert_eq!(rows(&connection, "PRAGMA auto_vacuum"), ["2"]);
    assert_eq!(rows(&connection, "PRAGMA user_version"), [schema_version().to_string()]);
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let place = Place::new();
    stop(place.start());
    let connection = place.open();
    connection.pragma_update(None, "user_version", schema_version() + 1).unwrap();
    drop(connection);
    let before = std::fs::read(place.path()).unwrap();
    match Store::start(&place.path(), Options::default()) {
        Err(error @ Error::Newer { .. }) => assert!(error.to_string().contains("newer"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

fn set_aside(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("history.db.corrupt-"))
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_no_database_is_set_aside() {
    let place = Place::new();
    std::fs::write(place.path(), "this is a text of more than a hundred bytes, ".repeat(200)).unwrap();
    let store = place.start();
    store.write_kv("a", "b").unwrap();
    stop(store);
    assert_eq!(set_aside(&place).len(), 1);
    assert_eq!(rows(&place.open(), "SELECT value FROM kv WHERE name = 'a'"), ["b"]);
}

#[test]
fn a_damaged_database_is_set_aside() {
    let place = Place::new();
    let store = place.start_defined();
    store.send((0..5_000).map(|i| sample(START + i, &web(), Answer::Value(i as f64))).collect());
    store.flush().unwrap();
    stop(store);
    let mut bytes = std::fs::read(place.path()).unwrap();
    // All pages except the first, whose header shows what kind of file it is.
    for page in bytes[4096..].chunks_mut(4096) {
        page[..100].fill(0xA5);
    }
    std::fs::write(place.path(), bytes).unwrap();
    let store = place.start();
    assert_eq!(store.restore().unwrap(), []);
    stop(store);
    assert_eq!(set_aside(&place).len(), 1);
}

fn condition(at: i64, message: &str) -> Record {
    let (kind, reason) = (ConditionKind::Active, "ScalerActive");
    // Alternates, since an unchanged condition would not be recorded.
    let status = if at % 2 == 0 { ConditionStatus::True } else { ConditionStatus::False };
    Record::Condition {
        at: UnixMillis(at),
        object: web(),
        condition: Condition::new(kind, status, reason, message.to_owned()),
    }
}

/// A large file is used immediately and checked in the background: neither writes nor reads here meet the damage.
#[test]
fn damage_in_a_large_file_is_found_by_the_check_beside() {
    let place = Place::new();
    let store = place.start_defined();
    for i in 0..9 {
        let long = "x".repeat(1_000);
        store.send((0..1_000).map(|j| condition(START + i * 1_000 + j, &long)).collect());
    }
    store.flush().unwrap();
    stop(store);
    let mut bytes = std::fs::read(place.path()).unwrap();
    assert!(bytes.len() > 8 << 20, "{}", bytes.len());
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 100].fill(0xA5);
    std::fs::write(place.path(), bytes).unwrap();
    let store = place.start();
    wait_for("the damage to be found", || store.stats().corruptions_total == 1);
    wait_for("the new file", || store.flush().is_ok());
    stop(store);
    assert_eq!(set_aside(&place).len(), 1);
}

#[test]
fn an_unusable_path_names_itself_and_the_fix() {
    let place = Place::new();
    let path = place.folder().join("missing/history.db");
    let error = Store::start(&path, Options::default()).unwrap_err().to_string();
    assert!(error.contains("missing/history.db") && error.contains("folder"), "{error}");
}
