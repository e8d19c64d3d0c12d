//! Reports whether a file is a readable history, for commands beside the daemon.

use std::path::Path;
use std::time::Duration;

use rusqlite::{ErrorCode, OptionalExtension as _};

use super::{clock, file, schema, sql};

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
    /// Processes that began within [`LOOK_BACK_RUNS`] and ended without a word: killed, or by a panic.
    pub runs_lost: i64,
    /// The newest loss within [`LOOK_BACK_LOSSES`].
    pub loss: Option<Loss>,
}

/// What could not be written, or went with another file.
#[derive(Debug, PartialEq, Eq)]
pub struct Loss {
    /// Milliseconds since 1970.
    pub until: i64,
    /// Records that are known to be missing.
    pub records: i64,
    pub cause: String,
}

/// The file system of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub free_bytes: u64,
    pub is_read_only: bool,
}

/// The kubelet waits 5 minutes at most between two starts, so a loop has a dozen in an hour.
pub const LOOK_BACK_RUNS: Duration = Duration::from_hours(1);
/// Whoever looks the next morning should see it.
pub const LOOK_BACK_LOSSES: Duration = Duration::from_hours(24);

/// Examines a file without changing it.
///
/// # Errors
/// The file is not a database, or cannot be opened.
pub fn of(path: &Path) -> Result<Health, String> {
    let known = schema::version();
    let wal_bytes = std::fs::metadata(file::with_suffix(path, "-wal")).map_or(0, |found| found.len());
    let mut health = Health { version: known, known, damage: None, wal_bytes, last_at: None, runs_lost: 0, loss: None };
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
        let since = |time: Duration| clock::now_unix_ms().saturating_sub(super::rows::millis(time));
        health.runs_lost = connection.query_row(sql::RUNS_LOST, [since(LOOK_BACK_RUNS)], |row| row.get(0))?;
        let loss = |row: &rusqlite::Row<'_>| Ok(Loss { until: row.get(0)?, records: row.get(1)?, cause: row.get(2)? });
        health.loss = connection.query_row(sql::LAST_LOSS, [since(LOOK_BACK_LOSSES)], loss).optional()?;
    }
    Ok(())
}

/// Examines the file system that a file is on. Returns `None` if that is not possible.
#[cfg(unix)]
#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Disk {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        is_read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

#[cfg(not(unix))]
#[must_use]
pub fn disk(_: &Path) -> Option<Disk> {
    None
}
