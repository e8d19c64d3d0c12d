//! Reports whether a file is a readable history, for commands beside the daemon.

use std::path::Path;

use rusqlite::{ErrorCode, OptionalExtension as _};

use super::{file, schema, sql};

/// The state of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Health {
    /// Version of the file's schema, and the version that this binary writes.
    pub version: i64,
    pub known: i64,
    /// What SQLite's integrity check found.
    pub damage: Option<String>,
    pub wal_bytes: u64,
    /// Milliseconds since 1970 of the newest sample; `None` while nothing is polled.
    pub last_at: Option<i64>,
}

/// Examines a file without changing it.
///
/// # Errors
/// The file is not a database, or cannot be opened.
pub fn of(path: &Path) -> Result<Health, String> {
    let known = schema::version();
    let wal_bytes = std::fs::metadata(file::with_suffix(path, "-wal")).map_or(0, |found| found.len());
    let mut health = Health { version: known, known, damage: None, wal_bytes, last_at: None };
    match look(path, &mut health) {
        Ok(()) => Ok(health),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            Ok(Health { damage: Some(error.to_string()), ..health })
        }
        Err(error) => Err(error.to_string()),
    }
}

fn look(path: &Path, health: &mut Health) -> Result<(), rusqlite::Error> {
    let mut connection = file::open_read_only(path)?;
    health.version = schema::user_version(&connection)?;
    if health.version == health.known {
        file::check(&mut connection)?;
        health.last_at = connection.query_row(sql::LAST_SAMPLE, [], |row| row.get(0)).optional()?;
    }
    Ok(())
}
