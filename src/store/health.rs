//! Whether a file is a history that can be read, for whoever asks beside the daemon.

use std::path::Path;

use rusqlite::{ErrorCode, OptionalExtension as _};

use super::{file, schema, sql};

/// What a look at the file shows.
#[derive(Debug, PartialEq, Eq)]
pub struct Health {
    /// Of its schema, and the one that this binary writes.
    pub version: i64,
    pub known: i64,
    /// What SQLite finds wrong with it.
    pub damage: Option<String>,
    pub wal_bytes: u64,
    /// Milliseconds since 1970 of the newest sample; None while nothing is measured.
    pub last_at: Option<i64>,
}

/// Looks at a file without changing it.
///
/// # Errors
/// It is no database, or cannot be opened.
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
