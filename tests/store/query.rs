//! Queries of a live database, and copies of it.

use std::time::Duration;

use hpalite::scaling::event::Answer;
use hpalite::store::Error;
use hpalite::store::query::{Format, Options, Outcome, backup, run};

use super::{Place, START, count, rows, sample, stop, web};

fn ask(place: &Place, sql: &str, format: Format) -> Result<(String, Outcome), Error> {
    let mut out = Vec::new();
    let mut options = Options::new(&place.path(), sql);
    options.format = format;
    options.rows_max = 3;
    let outcome = run(&options, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), outcome))
}

#[test]
fn formats_and_limits() {
    let place = Place::new();
    let store = place.start();
    let table = ask(&place, "SELECT 1 AS one, 'a\nb' AS text, NULL AS none", Format::Table).unwrap().0;
    assert_eq!(table, "one  text  none\n---  ----  ----\n1    a b\n");
    let csv = ask(&place, "SELECT 1.5 AS \"a,b\", 'x \"y\"' AS c;", Format::Csv).unwrap().0;
    assert_eq!(csv, "\"a,b\",c\r\n1.5,\"x \"\"y\"\"\"\r\n");
    let json = ask(&place, "SELECT 1 AS b, 'x' AS a UNION ALL SELECT NULL, 'y'", Format::Json).unwrap().0;
    assert_eq!(json, "[{\"b\":1,\"a\":\"x\"},\n{\"b\":null,\"a\":\"y\"}]\n");
    assert_eq!(ask(&place, "SELECT 1 WHERE 0", Format::Json).unwrap().0, "[]\n");
    let outcome =
        ask(&place, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", Format::Csv)
            .unwrap()
            .1;
    assert_eq!(outcome, Outcome { rows: 3, cut: true });
    assert!(ask(&place, ".tables", Format::Csv).unwrap().1.cut);
    assert!(ask(&place, ".schema kv", Format::Table).unwrap().0.contains("CREATE TABLE kv"));
    assert!(ask(&place, ".help", Format::Table).unwrap().0.contains("v_timeline"));
    stop(store);
}

#[test]
fn only_reading_is_allowed() {
    let place = Place::new();
    let store = place.start();
    store.write_kv("ca-key", "secret").unwrap();
    let elsewhere = place.folder().join("other.db");
    for sql in [
        "DELETE FROM kv",
        "INSERT INTO kv VALUES ('a', 'b', 1)",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "PRAGMA user_version = 9",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        &format!("ATTACH '{}' AS other", elsewhere.display()),
        &format!("VACUUM INTO '{}'", elsewhere.display()),
        "BEGIN IMMEDIATE",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        "",
        ".quit",
    ] {
        match ask(&place, sql, Format::Table) {
            Err(Error::Refused { .. } | Error::Read { .. }) => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert!(!elsewhere.exists());
    assert_eq!(rows(&place.open(), "SELECT value FROM kv WHERE name IN ('a', 'ca-key')"), ["secret"]);
    // Private values are hidden here as well.
    let (text, _) = ask(&place, "SELECT * FROM kv", Format::Csv).unwrap();
    assert!(text.contains("ca-key") && !text.contains("secret"), "{text}");
    stop(store);
}

#[test]
fn a_long_statement_ends_in_time() {
    let place = Place::new();
    stop(place.start());
    let mut options = Options::new(
        &place.path(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    );
    options.time_limit = Duration::from_millis(50);
    assert!(matches!(run(&options, &mut Vec::new()), Err(Error::TimeLimit { ms: 50 })));
}

/// No statement can use more than a little memory.
#[test]
fn no_value_and_no_table_is_large() {
    let place = Place::new();
    stop(place.start());
    for (sql, words) in [
        ("SELECT zeroblob(1000000000)", "longer than 4 MiB"),
        ("SELECT randomblob(1000000000)", "longer than 4 MiB"),
        ("SELECT printf('%*c', 100000000, 'x')", "longer than 4 MiB"),
        ("SELECT replace(hex(zeroblob(1000000)), '0', '00000000')", "longer than 4 MiB"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT group_concat(hex(zeroblob(100))) FROM n",
            "longer than 4 MiB",
        ),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100) SELECT hex(zeroblob(1000000)) FROM n",
            "larger than 16 MiB",
        ),
    ] {
        let mut options = Options::new(&place.path(), sql);
        options.time_limit = Duration::from_secs(120);
        match run(&options, &mut Vec::new()) {
            Err(Error::Refused { message }) => assert!(message.contains(words), "{sql}: {message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn a_copy_is_whole_while_writing_goes_on() {
    let place = Place::new();
    let store = place.start_defined();
    store.send((0..20_000).map(|i| sample(START + i, &web(), Answer::Value(i as f64 / 3.0))).collect());
    store.flush().unwrap();
    let sender = store.sender();
    let writer = std::thread::spawn(move || {
        for i in 0..200 {
            sender.send((0..100).map(|j| sample(START + 50_000 + i * 100 + j, &web(), Answer::Value(1.0))).collect());
        }
    });
    let to = place.folder().join("copy.db");
    backup(&place.path(), &to).unwrap();
    writer.join().unwrap();
    let copy = rusqlite::Connection::open(&to).unwrap();
    assert_eq!(rows(&copy, "PRAGMA integrity_check"), ["ok"]);
    assert!(count(&copy, "v_sample") >= 20_000);
    assert!(matches!(backup(&place.path(), &to), Err(Error::BackupFile { .. })));
    stop(store);
}
