//! Brings the schema of an open database up to date: migrations and views. Must not touch rows.

use log::info;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::Error;
use super::sql;

/// Returns the version of a database after all migrations.
#[must_use]
pub fn version() -> i64 {
    i64::try_from(sql::MIGRATIONS.len()).unwrap_or(i64::MAX)
}

pub(crate) fn user_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Migrates the schema to version `to`, one transaction per step.
pub(crate) fn migrate(connection: &mut Connection, to: i64) -> Result<(), Error> {
    migrate_by(sql::MIGRATIONS, connection, to)
}

fn migrate_by(migrations: &[&str], connection: &mut Connection, to: i64) -> Result<(), Error> {
    let found = user_version(connection).map_err(|source| Error::Migrate { version: to, source })?;
    for (text, version) in migrations.iter().zip(1..).skip_while(|(_, version)| *version <= found) {
        if version > to {
            break;
        }
        let step = |connection: &mut Connection| {
            let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
            // Old views may depend on what the migration changes; they are recreated afterwards.
            for (name, _) in views(&transaction)? {
                drop_view(&transaction, &name)?;
            }
            transaction.execute_batch(text)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        };
        step(connection).map_err(|source| Error::Migrate { version, source })?;
        info!(version = version; "database migrated");
    }
    Ok(())
}

/// Returns the names and statements of all views.
fn views(connection: &Connection) -> Result<Vec<(String, String)>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'view'")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn drop_view(connection: &Connection, name: &str) -> Result<(), rusqlite::Error> {
    connection.execute_batch(&format!("DROP VIEW \"{}\"", name.replace('"', "\"\"")))
}

/// Drops and recreates the views, and drops those of other versions.
pub(crate) fn create_views(connection: &mut Connection) -> Result<(), Error> {
    let mut name_now = "all";
    let mut step = || {
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
        let present = views(&transaction)?;
        for (name, text) in &present {
            // An unchanged view is left alone, so that an ordinary start writes no page.
            if !sql::VIEWS.iter().any(|(ours, wanted)| ours == name && same_statement(wanted, text)) {
                drop_view(&transaction, name)?;
            }
        }
        for (name, text) in sql::VIEWS {
            name_now = name;
            if !present.iter().any(|(there, found)| there == name && same_statement(text, found)) {
                transaction.execute_batch(text)?;
            }
        }
        transaction.commit()
    };
    step().map_err(|source| Error::Views { name: name_now, source })
}

/// SQLite stores the statement from `CREATE` on, without the comment above it and the semicolon.
fn same_statement(file: &str, kept: &str) -> bool {
    file.find("CREATE VIEW").is_some_and(|start| file[start..].trim_end().trim_end_matches(';') == kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    /// Also covers a newer binary that opens this one's file, and a migration that fails.
    #[test]
    fn a_file_of_an_older_version_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection, 1).expect("the first version");
        create_views(&mut connection).expect("its views");
        let rows = "INSERT INTO scaled_object VALUES (7, 'keda.sh', 'shop', 'web', 'u', 1, NULL);
                    INSERT INTO object_state (object_id, last_active_at_unix_ms) VALUES (7, 42);";
        connection.execute_batch(rows).expect("rows");

        // Drops a column that a view reads, and adds another.
        let second = "ALTER TABLE error_period DROP COLUMN polls; ALTER TABLE scaled_object ADD COLUMN note TEXT;";
        let broken = "ALTER TABLE scaled_object ADD COLUMN more TEXT; INSERT INTO nowhere VALUES (1);";
        let newer = [sql::MIGRATIONS[0], second, broken];
        let error = migrate_by(&newer, &mut connection, 3).expect_err("the third cannot be carried out");
        assert!(matches!(error, Error::Migrate { version: 3, .. }), "{error}");
        assert_eq!(user_version(&connection).expect("a version"), 2, "as far as it went");
        assert_eq!(number(&connection, "SELECT last_active_at_unix_ms FROM object_state WHERE object_id = 7"), 42);
        assert_eq!(number(&connection, "SELECT count(*) FROM scaled_object WHERE note IS NULL"), 1);
        assert!(connection.prepare("SELECT more FROM scaled_object").is_err(), "nothing of the third is left");
        assert!(views(&connection).expect("views").is_empty(), "they come with the newer binary's own");
    }

    #[test]
    fn views_of_another_binary_are_replaced() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection, version()).expect("migrate");
        connection
            .execute_batch("CREATE VIEW v_sample AS SELECT 1 AS old; CREATE VIEW v_gone AS SELECT 2 AS two;")
            .expect("older views");
        create_views(&mut connection).expect("views");
        let names: Vec<String> = views(&connection).expect("views").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), sql::VIEWS.len());
        assert!(!names.contains(&"v_gone".to_owned()));
        connection.prepare("SELECT value FROM v_sample").expect("today's");
    }
}
