//! Opens the database file: mode, settings, integrity check. Sets a corrupt file aside, and knows which files a
//! connection writes to.
//!
//! Owns what must hold before the file is used.

use std::cell::Cell;
use std::fs;
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use rusqlite::{Connection, OpenFlags, params};

use super::error::{Error, is_corruption, is_retryable};
use super::{clock, schema, sql};

/// How long SQLite itself waits for a lock; the writer retries beyond it, because a shutdown can interrupt its retries.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// The WAL is truncated to this size after a checkpoint. A checkpoint comes every 1,000 pages (4 MB).
const JOURNAL_SIZE_LIMIT_BYTES: i64 = 8 << 20;

/// Page cache of the writer in KiB. At 100 and at 1,000 samples a second, 256 KiB to 4 MiB cost the same CPU and the
/// same bytes written, within the noise (`cargo bench --bench store`), and each MiB stays resident.
const CACHE_KIB: i64 = 512;

/// Size of the header with which a database file begins.
const HEADER_BYTES: u64 = 100;

/// Time limit for the integrity check, which reads the whole file (5 s for 1 GB).
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// A file up to this size is checked before it is used, which takes 40 ms. A larger one is checked while it is in use,
/// since scaling cannot begin before its state is read.
const CHECKED_FIRST_BYTES: u64 = 8 << 20;

/// Page cache of a reader in KiB.
const READER_CACHE_KIB: i64 = 1024;

/// Opens `path` for the writer, creating or migrating it as needed. A corrupt file is replaced. With `pages_max` the
/// file grows as if the disk were full beyond it.
pub(crate) fn open(path: &Path, pages_max: Option<u32>) -> Result<Connection, Error> {
    match try_open(path, pages_max) {
        Err(Error::Open { source, .. } | Error::Migrate { source, .. } | Error::Views { source, .. })
            if is_corruption(&source) =>
        {
            replace(path, &source.to_string(), pages_max)?;
            try_open(path, pages_max)
        }
        other => other,
    }
}

/// Sets a corrupt file aside, and puts a new one in its place with the readable part of what is needed: the daemon's
/// own small state (certificates), and when each living object was last active.
///
/// The new file is complete before the corrupt one is moved, so that an attempt that fails, as for want of room, leaves
/// everything as it was for the next one.
pub(crate) fn replace(path: &Path, fault: &str, pages_max: Option<u32>) -> Result<(), Error> {
    let (new, aside) = (with_suffix(path, ".new"), name_aside(path));
    let cause = format!("the database was corrupt ({fault}); what was before is in {}", aside.display());
    // A process that was killed may have left one.
    remove(&new);
    let saved = fill(&new, path, &cause, pages_max).inspect_err(|_| remove(&new))?;
    // The side files go first, since SQLite would apply them to whichever database is at the path.
    for (from, to) in SUFFIXES.iter().rev().map(|suffix| (with_suffix(path, suffix), with_suffix(&aside, suffix))) {
        match fs::rename(&from, to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::SetAside { path: from, source });
            }
            _ => {}
        }
    }
    fs::rename(&new, path).map_err(|source| Error::Create { path: path.to_owned(), source })?;
    error!(path:% = path.display(), aside:% = aside.display(), error = fault;
        "database is corrupt: set aside, history starts afresh");
    info!(kv = saved.0, objects = saved.1; "saved from the corrupt database");
    Ok(())
}

/// Makes the file that replaces a corrupt one, and returns what [`salvage`] does.
fn fill(new: &Path, corrupt: &Path, cause: &str, pages_max: Option<u32>) -> Result<(usize, usize), Error> {
    let open_error = |source| Error::Open { path: new.to_owned(), source };
    let connection = try_open(new, pages_max)?;
    let had_log = with_suffix(corrupt, SUFFIXES[LOG]).exists();
    let saved = open_read_only(corrupt).map_or(Ok((0, 0)), |from| salvage(&from, &connection)).map_err(open_error)?;
    if !had_log {
        // Reading the corrupt file created them; they are empty.
        for suffix in &SUFFIXES[LOG..] {
            let _ = fs::remove_file(with_suffix(corrupt, suffix));
        }
    }
    record_loss(new, &connection, cause)?;
    // Closing it would fold in the log as well, but not report an error.
    connection.query_row(sql::FOLD, [], |_| Ok(())).map_err(open_error)?;
    connection.close().map_err(|(_, source)| open_error(source))?;
    Ok(saved)
}

/// Removes a database and its side files.
fn remove(path: &Path) {
    for suffix in SUFFIXES {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

/// Records in the history why it begins here.
pub(super) fn record_loss(path: &Path, connection: &Connection, cause: &str) -> Result<(), Error> {
    let now = clock::now_unix_ms();
    connection
        .execute(sql::Sql::InsertLoss.text(), params![now, now, 0, 0, cause])
        .map(|_| ())
        .map_err(|source| Error::Open { path: path.to_owned(), source })
}

/// Copies row by row as far as the file is readable; returns the number of kv rows and of objects.
///
/// # Errors
/// When they cannot be written just now. Nothing was written then.
pub(super) fn salvage(from: &Connection, to: &Connection) -> Result<(usize, usize), rusqlite::Error> {
    let now = clock::now_unix_ms();
    let copied = |select: sql::Sql, take: &dyn Fn(&rusqlite::Row<'_>) -> Result<(), rusqlite::Error>| {
        let mut count = 0;
        let Ok(mut statement) = from.prepare(select.text()) else { return Ok(0) };
        let Ok(mut rows) = statement.query([]) else { return Ok(0) };
        while let Ok(Some(row)) = rows.next() {
            match take(row) {
                Ok(()) => count += 1,
                Err(error) if is_retryable(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(count)
    };
    let transaction = to.unchecked_transaction()?;
    let kv = copied(sql::Sql::SaveKv, &|row| {
        let (name, value): (String, String) = row.try_into()?;
        to.execute(sql::Sql::WriteKv.text(), params![name, value, now]).map(|_| ())
    })?;
    let objects = copied(sql::Sql::Restore, &|row| {
        let (group, namespace, name, uid, at): (String, String, String, String, Option<i64>) = row.try_into()?;
        to.execute(sql::Sql::InsertObject.text(), params![group, namespace, name, uid, now])?;
        let id = to.last_insert_rowid();
        at.map_or(Ok(()), |at| to.execute(sql::Sql::UpsertLastActive.text(), params![id, at]).map(|_| ()))
    })?;
    transaction.commit()?;
    Ok((kv, objects))
}

/// Device and inode of a file, if it exists.
pub(crate) type Identity = Option<(u64, u64)>;

/// The identity of the database and its side files when they were opened. If their paths later lead elsewhere, SQLite
/// does not notice and keeps writing to the old files, so this has to be checked.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file with each suffix.
    files: [Identity; SUFFIXES.len()],
    /// What the file has at least in bytes: its size when it was last looked at, or less if pages were freed by then or
    /// since.
    bytes_min: Cell<u64>,
}

const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
/// Positions of the write-ahead log and of its index, which all connections share, in [`SUFFIXES`].
const LOG: usize = 1;
const INDEX: usize = 2;

/// State of the files that a connection writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    InPlace,
    /// Shorter than its header, which SQLite itself never causes.
    Truncated,
    /// The database is still there, but its write-ahead log or the log's index is not.
    WithoutLog,
    /// The path does not exist, or is another file.
    Gone,
}

impl Opened {
    /// Records the files' identity; call it right after a connection was opened.
    pub(crate) fn at(path: &Path, connection: &Connection) -> Self {
        let files = SUFFIXES.map(|suffix| identity(&with_suffix(path, suffix)).unwrap_or(None));
        Self { files, bytes_min: Cell::new(size(path).min(bytes_of_pages(connection))) }
    }

    /// Returns whether this is the database's identity.
    pub(crate) fn is(&self, file: Identity) -> bool {
        self.files[0] == file
    }

    pub(crate) fn fate(&self, path: &Path) -> Fate {
        for (suffix, opened) in SUFFIXES.iter().zip(self.files) {
            // A file that cannot be examined is not known to be gone, and writing will fail too if it is.
            let Ok(found) = identity(&with_suffix(path, suffix)) else { continue };
            if found != opened && opened.is_some() {
                return if suffix.is_empty() { Fate::Gone } else { Fate::WithoutLog };
            }
        }
        let truncated = fs::metadata(path).is_ok_and(|metadata| metadata.len() < HEADER_BYTES);
        if truncated { Fate::Truncated } else { Fate::InPlace }
    }

    /// Returns whether the database has lost its end, which SQLite notices only when it reads a page from there.
    ///
    /// The file may be shorter than its pages while the newest are in the write-ahead log. SQLite itself shortens it
    /// after pages were freed, of which [`Self::freed`] is to know, but never below the number of pages then.
    ///
    /// A file that is no longer at the path has lost nothing; [`Self::fate`] finds it the next time.
    pub(crate) fn is_cut(&self, path: &Path, connection: &Connection) -> bool {
        let Some(metadata) = fs::metadata(path).ok().filter(|metadata| self.is(Some(number(metadata)))) else {
            return false;
        };
        let (bytes, pages) = (metadata.len(), bytes_of_pages(connection));
        bytes < self.bytes_min.replace(bytes.min(pages)) && bytes < pages
    }

    /// Records that the file may now be as short as its pages. Call it before pages are added again, which then are in
    /// the log alone.
    pub(crate) fn freed(&self, connection: &Connection) {
        self.bytes_min.set(self.bytes_min.get().min(bytes_of_pages(connection)));
    }

    /// Returns whether the log is still at its path.
    pub(crate) fn has_log(&self, path: &Path) -> bool {
        self.is_at(path, LOG)
    }

    /// Renames the log if it is still at its path, and returns its new path.
    pub(crate) fn move_log_aside(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        if !self.has_log(path) {
            return Ok(None);
        }
        let log = with_suffix(path, SUFFIXES[LOG]);
        let aside = with_suffix(&log, &format!(".displaced-{}", clock::now_unix_ms() / 1000));
        fs::rename(&log, &aside).map_err(|source| Error::SetAside { path: log, source })?;
        Ok(Some(aside))
    }

    /// Removes the log's index if it is still at its path. Processes that have it open keep it.
    pub(crate) fn remove_index(&self, path: &Path) {
        if self.is_at(path, INDEX) {
            let _ = fs::remove_file(with_suffix(path, SUFFIXES[INDEX]));
        }
    }

    /// Returns whether this process has the log's index open, which it may have without a name.
    pub(crate) fn is_index_in_use(&self) -> bool {
        let Ok(open) = fs::read_dir("/proc/self/fd") else { return false };
        let mut found = open.flatten().filter_map(|file| fs::metadata(file.path()).ok());
        self.files[INDEX].is_some_and(|index| found.any(|file| number(&file) == index))
    }

    fn is_at(&self, path: &Path, which: usize) -> bool {
        let opened = self.files[which];
        opened.is_some() && identity(&with_suffix(path, SUFFIXES[which])).is_ok_and(|found| found == opened)
    }
}

/// The size of the database with what is in its log, or 0 if it cannot be read.
fn bytes_of_pages(connection: &Connection) -> u64 {
    let number =
        |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).map_or(0, u64::from);
    number("page_count") * number("page_size")
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

pub(crate) fn identity(path: &Path) -> Result<Identity, io::Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(number(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns `<file>.corrupt-<unix seconds>`.
fn name_aside(path: &Path) -> PathBuf {
    let seconds = clock::now_unix_ms() / 1000;
    let mut aside = with_suffix(path, &format!(".corrupt-{seconds}"));
    // Keeps both if this happens twice within a second.
    for n in 1..100 {
        if !aside.exists() {
            break;
        }
        aside = with_suffix(path, &format!(".corrupt-{seconds}-{n}"));
    }
    aside
}

/// Returns `path` with text appended to its last component.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn try_open(path: &Path, pages_max: Option<u32>) -> Result<Connection, Error> {
    let bytes = create_private(path)?;
    let open_error = |source| Error::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(open_error)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(open_error)?;
    // Checked before anything is written, so that a newer file stays exactly as it is.
    let found = schema::user_version(&connection).map_err(open_error)?;
    if found > schema::version() {
        return Err(Error::Newer { path: path.to_owned(), found, known: schema::version() });
    }
    settings(&connection).map_err(|fault| match fault {
        Fault::Sqlite(source) => open_error(source),
        Fault::Setting(error) => error,
    })?;
    if let Some(pages) = pages_max {
        connection.pragma_update(None, "max_page_count", pages).map_err(open_error)?;
    }
    if bytes > 0 && bytes <= CHECKED_FIRST_BYTES {
        check(&mut connection).map_err(open_error)?;
    }
    schema::migrate(&mut connection, schema::version())?;
    schema::create_views(&mut connection)?;
    Ok(connection)
}

/// Returns device and inode, by which a file is the same whatever its name.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Windows lets nobody remove or rename a file that is open, so there is no identity to compare.
#[cfg(not(unix))]
fn number(_: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}

/// Creates the file if it does not exist, readable by its owner only since it may hold private keys. SQLite gives its
/// side files the same mode. Returns its size in bytes.
fn create_private(path: &Path) -> Result<u64, Error> {
    let create_error = |source| Error::Create { path: path.to_owned(), source };
    let mut options = private();
    let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(create_error)?;
    let metadata = file.metadata().map_err(create_error)?;
    #[cfg(unix)]
    if let mode @ 0o001..=0o777 = metadata.permissions().mode() & 0o777
        && mode & 0o077 != 0
    {
        warn!(path:% = path.display(), mode:% = format!("{mode:o}"); "database was readable by others: narrowed to its owner");
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(create_error)?;
    }
    Ok(metadata.len())
}

/// Returns options that create files which only their owner can read, where a file has such a mode.
pub(super) fn private() -> fs::OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no mode to be set"))]
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600);
    options
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

/// Applies the required settings and reads them back, because SQLite silently ignores what it cannot do.
fn settings(connection: &Connection) -> Result<(), Fault> {
    let cache = -CACHE_KIB;
    for (name, value, read_back) in [
        // Takes effect only before the first table is created; an older file keeps its mode.
        ("auto_vacuum", "INCREMENTAL".to_owned(), None),
        ("journal_mode", "WAL".to_owned(), Some("wal".to_owned())),
        ("synchronous", "NORMAL".to_owned(), Some("1".to_owned())),
        ("foreign_keys", "ON".to_owned(), Some("1".to_owned())),
        ("journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES.to_string(), Some(JOURNAL_SIZE_LIMIT_BYTES.to_string())),
        ("cache_size", cache.to_string(), Some(cache.to_string())),
        ("temp_store", "MEMORY".to_owned(), Some("2".to_owned())),
        // A schema from elsewhere must not be able to run functions when it is read.
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

/// Opens a file read-only.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", "ON")?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(connection)
}

/// Returns whether opening the file left the check to [`damage`].
pub(crate) fn is_to_be_checked(path: &Path) -> bool {
    size(path) > CHECKED_FIRST_BYTES
}

/// Returns whether there is a history that cannot be written just now: its disk is full, read-only or failing. A file
/// that this user may not write, or one that was never written, is a mistake in the configuration instead.
pub(crate) fn is_unwritable_for_now(path: &Path, error: &Error) -> bool {
    let may_pass = match error {
        Error::Create { source, .. } => {
            matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem)
        }
        Error::Open { source, .. } | Error::Migrate { source, .. } | Error::Views { source, .. } => {
            is_retryable(source)
        }
        _ => false,
    };
    may_pass && size(path) > 0
}

/// Checks a file while its writer is running, and returns what is wrong with it.
pub(crate) fn damage(path: &Path) -> Option<String> {
    let result = open_read_only(path).and_then(|mut connection| check(&mut connection));
    result.err().filter(is_corruption).map(|error| error.to_string())
}

/// Runs SQLite's integrity check for a bounded time.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    /// Its certificates and last activities must not be lost because there is no room for another file just now.
    #[test]
    fn a_corrupt_file_stays_until_there_is_room_for_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let connection = open(&path, None).expect("it opens");
        connection.execute("INSERT INTO kv VALUES ('ca', 'certificate', 1)", []).expect("a row");
        let page: u32 = connection
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'decision'", [], |row| row.get(0))
            .expect("a page");
        connection.close().expect("it closes");
        let mut bytes = fs::read(&path).expect("a file");
        let damaged = usize::try_from(page - 1).expect("a number") * 4096;
        bytes[damaged..damaged + 200].fill(0xA5);
        fs::write(&path, &bytes).expect("it is damaged");
        let others = || {
            let names =
                fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("a file").file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().expect("a name")).collect();
            names.retain(|name| !matches!(name.as_str(), "history.db" | "history.db-wal" | "history.db-shm"));
            names
        };
        let full = Options { pages_max: Some(10), ..Options::default() };
        for _ in 0..2 {
            // Scaling does not wait for it.
            let store = Store::start(&path, full.clone()).expect("it starts");
            while store.stats().failed_flushes_total < 3 {
                std::thread::yield_now();
            }
            assert!(!store.stop(Duration::ZERO).complete);
            assert_eq!((others(), size(&path)), (Vec::new(), bytes.len() as u64));
        }
        let store = Store::start(&path, Options::default()).expect("it starts");
        assert_eq!(store.read_kv("ca").expect("a value").as_deref(), Some("certificate"));
        assert!(store.stop(Duration::from_secs(120)).complete);
        let others = others();
        assert!(others.len() == 1 && others[0].starts_with("history.db.corrupt-"), "{others:?}");
    }

    #[test]
    fn a_file_that_sqlite_shortens_is_not_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let connection = open(&path, None).expect("it opens");
        let fold = || connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("it is folded in");
        let opened = Opened::at(&path, &connection);
        let row = "INSERT INTO kv VALUES ('large', hex(zeroblob(200000)), 1)";
        connection.execute(row, []).expect("a row");
        assert!(!opened.is_cut(&path, &connection), "its pages are in the log");
        fold();
        assert!(!opened.is_cut(&path, &connection));
        let grown = size(&path);
        connection.execute("DELETE FROM kv", []).expect("it is deleted");
        let mut freeing = connection.prepare(sql::Sql::FreePages.text()).expect("a statement");
        let mut freed = freeing.query([]).expect("pages are freed");
        while freed.next().expect("a page is freed").is_some() {}
        drop(freed);
        opened.freed(&connection);
        assert!(!opened.is_cut(&path, &connection), "it is not shortened yet");
        fold();
        assert!(size(&path) < grown - 100_000, "{} {grown}", size(&path));
        // By the next look it has grown again, into the log.
        connection.execute(row, []).expect("a row");
        assert!(!opened.is_cut(&path, &connection));
        let file = fs::File::options().write(true).open(&path).expect("it opens");
        file.set_len(size(&path) - 4096).expect("it is cut");
        assert!(opened.is_cut(&path, &connection));
    }

    /// Regression: a file that was deleted after [`Opened::fate`] had seen it counted as cut short and so as corrupt, and
    /// nothing was saved from it.
    #[test]
    fn a_file_that_is_no_longer_at_the_path_is_not_cut() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let connection = open(&path, None).expect("it opens");
        connection.query_row(sql::FOLD, [], |_| Ok(())).expect("it is folded in");
        let opened = Opened::at(&path, &connection);
        fs::remove_file(&path).expect("it is deleted");
        assert!(!opened.is_cut(&path, &connection));
        fs::write(&path, "shorter").expect("another file");
        assert!(!opened.is_cut(&path, &connection));
        assert_eq!(opened.fate(&path), Fate::Gone);
    }
}
