//! Opens the database file: mode, settings, health, migrations, views.
//!
//! Owns what must hold before anybody uses the file, and the decision to set a corrupt one aside.
//! Must not touch rows.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::clock;
use super::error::{Error, is_corruption};
use super::sql;

/// How long SQLite itself waits for a lock; longer waits are the writer's retries, which can be
/// interrupted by a shutdown.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// The WAL is cut back to this after a checkpoint. A checkpoint comes every 1,000 pages (4 MB).
const JOURNAL_SIZE_LIMIT_BYTES: i64 = 8 << 20;

/// Page cache of the writer in KiB: a flush dirties the ends of about ten trees, merging reads
/// about 16 blocks at a time.
const CACHE_KIB: i64 = 4096;

/// The check reads the whole file (1 GB took 5 s); a start waits no longer than this for it.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// Version that a database has after all migrations.
#[must_use]
pub fn version() -> i64 {
    i64::try_from(sql::MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens `path` for the writer, creating or migrating as needed. A corrupt file is set aside.
pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    match try_open(path) {
        Err(Error::Open { source, .. } | Error::Migrate { source, .. } | Error::Views { source, .. })
            if is_corruption(&source) =>
        {
            renew(path, &source.to_string())
        }
        other => other,
    }
}

/// Sets a corrupt file aside and starts a new one, with what can still be read of what is needed: the daemon's own
/// small state (certificates), and when each living object was last active.
pub(crate) fn renew(path: &Path, fault: &str) -> Result<Connection, Error> {
    let aside = set_aside(path)?;
    error!(path:% = path.display(), aside:% = aside.display(), error = fault;
        "database is corrupt: set aside, history starts afresh");
    let connection = try_open(path)?;
    let had_wal = with_suffix(&aside, "-wal").exists();
    let saved = salvage(&aside, &connection);
    if !had_wal {
        // Reading made them; they are empty.
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(&aside, suffix));
        }
    }
    info!(kv = saved.0, objects = saved.1; "saved from the corrupt database");
    let now = clock::now_unix_ms();
    let cause = format!("the database was corrupt ({fault}); what was before is in {}", aside.display());
    connection
        .execute(sql::Sql::InsertLoss.text(), rusqlite::params![now, now, 0, 0, cause])
        .map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Ok(connection)
}

/// Copies row by row as far as the file can be read; returns how many rows of either kind.
fn salvage(aside: &Path, to: &Connection) -> (usize, usize) {
    let Ok(from) = super::reader::open_read_only(aside) else { return (0, 0) };
    let now = clock::now_unix_ms();
    let copied = |select: sql::Sql, take: &dyn Fn(&rusqlite::Row<'_>) -> Result<(), rusqlite::Error>| {
        let mut count = 0;
        let Ok(mut statement) = from.prepare(select.text()) else { return 0 };
        let Ok(mut rows) = statement.query([]) else { return 0 };
        while let Ok(Some(row)) = rows.next() {
            count += usize::from(take(row).is_ok());
        }
        count
    };
    let kv = copied(sql::Sql::SaveKv, &|row| {
        let (name, value): (String, String) = row.try_into()?;
        to.execute(sql::Sql::WriteKv.text(), rusqlite::params![name, value, now]).map(|_| ())
    });
    let objects = copied(sql::Sql::Restore, &|row| {
        let (group, namespace, name, uid, at): (String, String, String, String, Option<i64>) = row.try_into()?;
        to.execute(sql::Sql::InsertObject.text(), rusqlite::params![group, namespace, name, uid, now])?;
        let id = to.last_insert_rowid();
        at.map_or(Ok(()), |at| to.execute(sql::Sql::UpsertLastActive.text(), rusqlite::params![id, at]).map(|_| ()))
    });
    (kv, objects)
}

/// Moves the file and what belongs to it to `<file>.corrupt-<unix seconds>`.
fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let seconds = clock::now_unix_ms() / 1000;
    let mut aside = with_suffix(path, &format!(".corrupt-{seconds}"));
    // Twice within a second: keep both.
    for n in 1..100 {
        if !aside.exists() {
            break;
        }
        aside = with_suffix(path, &format!(".corrupt-{seconds}-{n}"));
    }
    for suffix in ["", "-wal", "-shm"] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::SetAside { path: path.to_owned(), source });
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// `path` with text appended to its last part.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn try_open(path: &Path) -> Result<Connection, Error> {
    let is_new = create_private(path)?;
    let open_error = |source| Error::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(open_error)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(open_error)?;
    // Checked before anything is written: a newer file stays exactly as it is.
    let found = user_version(&connection).map_err(open_error)?;
    if found > version() {
        return Err(Error::Newer { path: path.to_owned(), found, known: version() });
    }
    settings(&connection).map_err(|fault| match fault {
        Fault::Sqlite(source) => open_error(source),
        Fault::Setting(error) => error,
    })?;
    if !is_new {
        check(&mut connection).map_err(open_error)?;
    }
    migrate(&mut connection, version())?;
    create_views(&mut connection)?;
    Ok(connection)
}

/// Makes sure that the file exists and that its owner alone may read it: it may hold private keys.
/// SQLite gives its side files the same mode.
fn create_private(path: &Path) -> Result<bool, Error> {
    let create_error = |source| Error::Create { path: path.to_owned(), source };
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(create_error)?;
    let metadata = file.metadata().map_err(create_error)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        warn!(path:% = path.display(), mode:% = format!("{mode:o}"); "database was readable by others: narrowed to its owner");
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(create_error)?;
    }
    Ok(metadata.len() == 0)
}

enum Fault {
    Sqlite(rusqlite::Error),
    Setting(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Sets what must hold and reads it back: SQLite ignores what it cannot do.
fn settings(connection: &Connection) -> Result<(), Fault> {
    let cache = -CACHE_KIB;
    for (name, value, read_back) in [
        // Takes effect only before the first table; an older file keeps what it has.
        ("auto_vacuum", "INCREMENTAL".to_owned(), None),
        ("journal_mode", "WAL".to_owned(), Some("wal".to_owned())),
        ("synchronous", "NORMAL".to_owned(), Some("1".to_owned())),
        ("foreign_keys", "ON".to_owned(), Some("1".to_owned())),
        ("journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES.to_string(), Some(JOURNAL_SIZE_LIMIT_BYTES.to_string())),
        ("cache_size", cache.to_string(), Some(cache.to_string())),
        ("temp_store", "MEMORY".to_owned(), Some("2".to_owned())),
        // Schemas that others wrote cannot run functions behind our back.
        ("trusted_schema", "OFF".to_owned(), Some("0".to_owned())),
    ] {
        connection.pragma_update(None, name, &value)?;
        let Some(wanted) = read_back else { continue };
        let found = connection.pragma_query_value(None, name, |row| {
            Ok(match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(integer) => integer.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            })
        })?;
        if found != wanted {
            return Err(Fault::Setting(Error::Setting { name, wanted, found }));
        }
    }
    Ok(())
}

/// Looks for damage, for a bounded time.
pub(crate) fn check(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let deadline = clock::now() + CHECK_LIMIT;
    connection.progress_handler(10_000, Some(move || clock::now() > deadline))?;
    let result = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match result {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => {
            Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(text)))
        }
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
            info!(limit_ms = CHECK_LIMIT.as_millis() as u64; "database is large: checked in part");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn user_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the schema to version `to`, one transaction a step.
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
            // Views of before may stand in the way of what changes; they are made anew afterwards.
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

/// Names and statements.
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
            // An unchanged view is left alone: no page is written at an ordinary start.
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

/// SQLite keeps the statement from `CREATE` on, without the comment above it and the semicolon.
fn same_statement(file: &str, kept: &str) -> bool {
    file.find("CREATE VIEW").is_some_and(|start| file[start..].trim_end().trim_end_matches(';') == kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    /// What a newer binary will find of this one's file, and a failure on the way.
    #[test]
    fn a_file_of_an_older_version_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().expect("memory");
        migrate(&mut connection, 1).expect("the first version");
        create_views(&mut connection).expect("its views");
        let rows = "INSERT INTO scaled_object VALUES (7, 'keda.sh', 'shop', 'web', 'u', 1, NULL);
                    INSERT INTO object_state (object_id, last_active_at_unix_ms) VALUES (7, 42);";
        connection.execute_batch(rows).expect("rows");

        // A column that a view reads goes, another comes.
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
