//! Errors of the store; each variant names the step that failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the store could not be opened, read or copied.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be created or opened for writing.
    Create {
        path: PathBuf,
        source: io::Error,
    },
    /// SQLite refuses the file for a reason other than corruption.
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// The file was written by a newer hpalite.
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    /// A setting did not take effect.
    Setting {
        name: &'static str,
        wanted: String,
        found: String,
    },
    Migrate {
        version: i64,
        source: rusqlite::Error,
    },
    Views {
        name: &'static str,
        source: rusqlite::Error,
    },
    /// A corrupt file, or the write-ahead log of another database, could not be moved out of the way.
    SetAside {
        path: PathBuf,
        source: io::Error,
    },
    /// The write-ahead log of before could not be folded into the database that it belongs to.
    Fold {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// The thread could not be started.
    Spawn {
        source: io::Error,
    },
    Read {
        source: rusqlite::Error,
    },
    /// The writer did not accept or could not write a value that the caller waits for.
    Write {
        source: rusqlite::Error,
    },
    /// The writer did not answer in time.
    Busy,
    /// The statement may not be run here; the text says why.
    Refused {
        message: String,
    },
    /// The time limit was exceeded.
    TimeLimit {
        ms: u128,
    },
    Backup {
        path: PathBuf,
        source: rusqlite::Error,
    },
    BackupFile {
        path: PathBuf,
        source: io::Error,
    },
    Output {
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, source } => write!(
                f,
                "cannot write the database {}: {source} (give a path in a folder on a local volume that this user may write)",
                path.display()
            ),
            Self::Open { path, source } => write!(f, "cannot open the database {}: {source}", path.display()),
            Self::Newer { path, found, known } => write!(
                f,
                "the database {} has schema version {found}, this hpalite knows up to {known} (run the newer hpalite, or move the file away to start afresh)",
                path.display()
            ),
            Self::Setting { name, wanted, found } => {
                write!(f, "the database keeps {name} at {found} instead of {wanted} (is the volume local?)")
            }
            Self::Migrate { version, source } => {
                write!(f, "cannot migrate the database to version {version}: {source}")
            }
            Self::Views { name, source } => write!(f, "cannot create the view {name}: {source}"),
            Self::SetAside { path, source } => {
                write!(f, "{} is in the way of a new database and cannot be moved: {source}", path.display())
            }
            Self::Fold { path, source } => {
                write!(
                    f,
                    "cannot finish with the database that was at {}: {source} (end what reads it)",
                    path.display()
                )
            }
            Self::Spawn { source } => write!(f, "cannot start the store's thread: {source}"),
            Self::Read { source } => write!(f, "cannot read the database: {source}"),
            Self::Write { source } => write!(f, "cannot write to the database: {source}"),
            Self::Busy => f.write_str("the database did not answer in time"),
            Self::Refused { message } => write!(f, "statement refused: {message}"),
            Self::TimeLimit { ms } => {
                write!(f, "the time limit of {ms} ms passed (narrow the query, or raise the limit)")
            }
            Self::Backup { path, source } => write!(f, "cannot copy the database to {}: {source}", path.display()),
            Self::BackupFile { path, source } => write!(f, "cannot write the copy {}: {source}", path.display()),
            Self::Output { source } => write!(f, "cannot write the result: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create { source, .. }
            | Self::SetAside { source, .. }
            | Self::Spawn { source }
            | Self::BackupFile { source, .. }
            | Self::Output { source } => Some(source),
            Self::Open { source, .. }
            | Self::Migrate { source, .. }
            | Self::Views { source, .. }
            | Self::Fold { source, .. }
            | Self::Read { source }
            | Self::Write { source }
            | Self::Backup { source, .. } => Some(source),
            Self::Newer { .. } | Self::Setting { .. } | Self::Busy | Self::Refused { .. } | Self::TimeLimit { .. } => {
                None
            }
        }
    }
}

/// Returns whether SQLite reports that the file is damaged or not a database.
pub(crate) fn is_corruption(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// Returns whether the same write may succeed later, because its environment failed and not the row.
pub(crate) fn is_retryable(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}
