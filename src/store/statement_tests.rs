//! Checks every statement on a migrated database: it prepares, and a hot one does not scan a whole table.

use rusqlite::Connection;

use super::schema;
use super::sql::{Heat, MIGRATIONS, Sql, VIEWS};

fn migrated() -> Connection {
    let mut connection = Connection::open_in_memory().expect("memory");
    schema::migrate(&mut connection, schema::version()).expect("migrate");
    schema::create_views(&mut connection).expect("views");
    connection
}

fn plan(connection: &Connection, text: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).expect("explain");
    let unbound: Vec<Option<i64>> = vec![None; statement.parameter_count()];
    statement
        .query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>(3))
        .expect("plan")
        .collect::<Result<_, _>>()
        .expect("plan rows")
}

#[test]
fn every_statement_prepares() {
    let connection = migrated();
    for statement in Sql::ALL {
        connection.prepare(statement.text()).unwrap_or_else(|error| panic!("{statement:?}: {error}"));
    }
}

#[test]
fn hot_statements_scan_nothing() {
    let connection = migrated();
    for statement in Sql::ALL.iter().filter(|statement| statement.heat() == Heat::Hot) {
        for step in plan(&connection, statement.text()) {
            let scans = step.starts_with("SCAN") && !step.contains("CONSTANT ROW");
            assert!(!scans && !step.contains("TEMP B-TREE"), "{statement:?}: {step}");
        }
    }
}

#[test]
fn samples_of_one_object_are_found_by_keys() {
    let steps = plan(
        &migrated(),
        "SELECT at, value FROM v_sample WHERE namespace = 'shop' AND name = 'web' ORDER BY at_unix_ms DESC LIMIT 10",
    );
    let text = steps.join("\n");
    assert!(text.contains("SEARCH c USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{text}");
    assert!(
        text.contains("SEARCH o USING INDEX scaled_object_by_name")
            || text.contains("scaled_object_by_name (namespace=? AND name=?)"),
        "{text}"
    );
}

/// For a given object, roll-ups and samples that are not rolled up yet are both found by keys.
#[test]
fn rollups_of_one_object_are_found_by_keys() {
    for (view, key) in
        [("v_sample_minute", "SEARCH m USING INTEGER PRIMARY KEY"), ("v_sample_hour", "SEARCH y USING PRIMARY KEY")]
    {
        let text = format!("SELECT at, mean FROM {view} WHERE namespace = 'shop' AND name = 'web' AND at_unix_ms > 5");
        let text = plan(&migrated(), &text).join("\n");
        assert!(text.contains(key) && text.contains("SEARCH c USING INTEGER PRIMARY KEY"), "{text}");
        assert!(!text.contains("SCAN o") && !text.contains("SCAN s"), "{text}");
    }
}

/// The newest rows of a long history are read from its end: only rows of the same time are sorted.
#[test]
fn the_newest_are_read_first() {
    for view in [
        "v_decision",
        "v_action",
        "v_replica_change",
        "v_hpa_observation",
        "v_condition_change",
        "v_interruption",
        "v_loss",
    ] {
        let text = plan(&migrated(), &format!("SELECT * FROM {view} LIMIT 20")).join("\n");
        assert!(!text.contains("USE TEMP B-TREE FOR ORDER BY"), "{view}: {text}");
    }
    let text = plan(&migrated(), "SELECT * FROM v_timeline LIMIT 20").join("\n");
    for table in ["decision", "action", "replica_change", "condition_change"] {
        assert!(text.contains(&format!("USING INDEX {table}_by_at")), "{table}: {text}");
    }
}

#[test]
fn every_view_can_be_read_whole() {
    let connection = migrated();
    for (name, text) in VIEWS {
        assert!(text.contains(&format!("CREATE VIEW {name} AS")), "{name}");
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}")).expect(name);
        assert!(statement.query([]).expect(name).next().expect(name).is_none());
    }
}

#[test]
fn files_and_lists_agree() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let list = |folder: &str| {
        let mut names: Vec<String> = std::fs::read_dir(root.join(folder))
            .expect(folder)
            .map(|entry| entry.expect("entry").file_name().into_string().expect("plain name"))
            .collect();
        names.sort();
        names
    };
    let migrations = list("migrations");
    assert_eq!(migrations.len(), MIGRATIONS.len());
    for ((file, text), number) in migrations.iter().zip(MIGRATIONS).zip(1..) {
        assert!(file.starts_with(&format!("{number:04}_")), "{file} should have number {number}");
        assert_eq!(std::fs::read_to_string(root.join("migrations").join(file)).expect(file), *text);
    }
    let mut views: Vec<String> = VIEWS.iter().map(|(name, _)| format!("{name}.sql")).collect();
    views.sort();
    assert_eq!(list("views"), views);
}

#[test]
fn every_older_version_arrives_at_the_same_schema() {
    let dump = |connection: &Connection| -> Vec<(String, Option<String>)> {
        connection
            .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
            .expect("prepare")
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("query")
            .collect::<Result<_, _>>()
            .expect("rows")
    };
    let straight = dump(&migrated());
    for old in 0..schema::version() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, old).expect("old version");
        schema::create_views(&mut connection).ok();
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        schema::create_views(&mut connection).expect("views");
        assert_eq!(dump(&connection), straight, "from version {old}");
    }
}

#[test]
fn views_are_recreated_only_when_they_differ() {
    let mut connection = migrated();
    let version = |connection: &Connection| -> i64 {
        connection.pragma_query_value(None, "schema_version", |row| row.get(0)).expect("schema_version")
    };
    let before = version(&connection);
    schema::create_views(&mut connection).expect("again");
    assert_eq!(version(&connection), before);
    connection
        .execute_batch("DROP VIEW v_action; CREATE VIEW v_action AS SELECT 1; CREATE VIEW v_old AS SELECT 2")
        .expect("change");
    schema::create_views(&mut connection).expect("repair");
    assert!(connection.prepare("SELECT reason FROM v_action").is_ok());
    assert!(connection.prepare("SELECT * FROM v_old").is_err());
}
