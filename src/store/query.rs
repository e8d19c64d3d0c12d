//! `hpalite sql`: one read-only statement beside a running daemon, and a consistent copy of its file.
//!
//! Owns what a statement may do (read only) and how results are written. Must not know the command line. Users write
//! the statements; SQLite's authorizer refuses what is not allowed, without parsing their text.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, OpenFlags, backup::Backup};

use super::error::Error;
use super::{file, reader, sql};
use crate::encode::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// RFC 4180 with a header line.
    Csv,
    /// A list of objects, one per line.
    Json,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// One statement, or `.help`, `.tables`, `.schema [NAME]`.
    pub sql: String,
    pub format: Format,
    pub rows_max: usize,
    pub time_limit: Duration,
}

impl Options {
    /// Returns the defaults: 1,000 rows, which suit a terminal, and 10 s, for which a reader may hold up the WAL.
    #[must_use]
    pub fn new(path: &Path, sql: &str) -> Self {
        Self {
            path: path.to_owned(),
            sql: sql.to_owned(),
            format: Format::Table,
            rows_max: 1_000,
            time_limit: Duration::from_secs(10),
        }
    }
}

/// Upper bound on SQLite's memory in this process, whatever the statement. A command in the daemon's pod has less
/// memory available than the node.
const HEAP_BYTES_MAX: i64 = 64 << 20;

/// Upper bound on one value; the largest definition that the API server accepts has 3 MiB.
const VALUE_BYTES_MAX: i32 = 4 << 20;

/// Upper bound on a table, which is buffered until the widths of its columns are known.
const TABLE_BYTES_MAX: usize = 16 << 20;

/// Limits SQLite's memory in the whole process, so call it only in a process that does nothing but run a statement.
///
/// # Errors
/// When SQLite refuses.
pub fn limit_memory() -> Result<(), Error> {
    let limited = Connection::open_in_memory().and_then(|connection| {
        connection.pragma_update_and_check(None, "hard_heap_limit", HEAP_BYTES_MAX, |row| row.get::<_, i64>(0))
    });
    limited.map(|_| ()).map_err(|source| Error::Read { source })
}

/// Limits the complexity of a statement and the length of its values.
fn limit_statement(connection: &Connection) -> Result<(), rusqlite::Error> {
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 256 << 10),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 200),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    Ok(())
}

/// The result of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub rows: usize,
    /// Whether there were more rows than the limit; the caller reports it to the user.
    pub cut: bool,
}

const HELP: &str = "\
.tables          list tables and views
.schema [NAME]   show how they are made
.help            this text
Views start with v_ and show times in UTC, newest first. For example:
  SELECT * FROM v_timeline LIMIT 20
  SELECT * FROM v_trigger_health
  SELECT at, reason, detail, from_replicas, to_replicas FROM v_decision WHERE namespace = 'shop' LIMIT 10
  SELECT at, mean, max FROM v_sample_hour WHERE namespace = 'shop' AND name = 'web'
  SELECT since, cause FROM v_loss
  SELECT at, value FROM v_sample WHERE namespace = 'shop' AND name = 'web' ORDER BY at_unix_ms DESC LIMIT 100
";

/// Runs the statement and writes its rows to `out`.
///
/// # Errors
/// When the file cannot be opened, the statement is refused or fails, or the time limit is exceeded.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Outcome, Error> {
    let text = options.sql.trim();
    if text == ".help" {
        out.write_all(HELP.as_bytes()).map_err(|source| Error::Output { source })?;
        return Ok(Outcome { rows: 0, cut: false });
    }
    let mut connection =
        file::open_read_only(&options.path).map_err(|source| Error::Open { path: options.path.clone(), source })?;
    let read = |source| Error::Read { source };
    reader::set_deadline(&mut connection, options.time_limit).map_err(read)?;
    limit_statement(&connection).map_err(read)?;
    connection.authorizer(Some(allow_looking)).map_err(read)?;
    if text == ".tables" {
        return rows(&connection, sql::LIST_TABLES, &[], options, out);
    }
    if let Some(name) = text.strip_prefix(".schema") {
        return rows(&connection, sql::LIST_SCHEMA, &[name.trim()], options, out);
    }
    if text.starts_with('.') {
        return Err(Error::Refused { message: format!("unknown command {text}: try .help") });
    }
    rows(&connection, text, &[], options, out)
}

/// Pragmas that only read.
const PRAGMAS: &[&str] = &[
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "page_count",
    "page_size",
    "freelist_count",
    "user_version",
    "journal_mode",
    "auto_vacuum",
    "compile_options",
    "function_list",
    "quick_check",
    "integrity_check",
    "data_version",
    "encoding",
];

fn allow_looking(context: AuthContext<'_>) -> Authorization {
    match context.action {
        // Private keys are for the daemon alone, even if the user may read the file.
        AuthAction::Read { table_name: "kv", column_name: "value" } => Authorization::Ignore,
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if function_name != "load_extension" => Authorization::Allow,
        // With a value a pragma sets something, except for those that take a table's name.
        AuthAction::Pragma { pragma_name, pragma_value }
            if PRAGMAS.contains(&pragma_name)
                && (pragma_value.is_none() || pragma_name.contains("_info") || pragma_name.contains("_list")) =>
        {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

fn rows(
    connection: &Connection,
    text: &str,
    params: &[&str],
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => Error::TimeLimit { ms: options.time_limit.as_millis() },
        Some(rusqlite::ErrorCode::AuthorizationForStatementDenied | rusqlite::ErrorCode::ReadOnly) => {
            Error::Refused { message: format!("only reading is allowed ({source})") }
        }
        Some(rusqlite::ErrorCode::OutOfMemory) => {
            Error::Refused { message: format!("it needs more than {} MiB of memory", HEAP_BYTES_MAX >> 20) }
        }
        Some(rusqlite::ErrorCode::TooBig) => {
            Error::Refused { message: format!("a value in it is longer than {} MiB", VALUE_BYTES_MAX >> 20) }
        }
        _ => Error::Read { source },
    };
    let mut batch = Batch::new(connection, text);
    let Some(mut statement) = batch.next().map_err(failed)? else {
        return Err(Error::Refused { message: "there is no statement".to_owned() });
    };
    if batch.next().map_err(failed)?.is_some() {
        return Err(Error::Refused { message: "one statement at a time".to_owned() });
    }
    if !statement.readonly() {
        return Err(Error::Refused { message: "only reading is allowed".to_owned() });
    }
    let mut names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if params.is_empty() && statement.parameter_count() > 0 {
        return Err(Error::Refused { message: "parameters have no values here".to_owned() });
    }
    let mut printer = Printer::new(options.format, std::mem::take(&mut names), out);
    // Binding a parameter that the statement does not have would fail.
    let params = &params[..params.len().min(statement.parameter_count())];
    let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(failed)?;
    let mut outcome = Outcome { rows: 0, cut: false };
    while let Some(row) = rows.next().map_err(failed)? {
        if outcome.rows == options.rows_max {
            outcome.cut = true;
            break;
        }
        outcome.rows += 1;
        printer.row(row).map_err(|fault| match fault {
            Fault::Sqlite(source) => failed(source),
            Fault::Output(source) => Error::Output { source },
            Fault::Large => Error::Refused {
                message: format!(
                    "the table is larger than {} MiB: use --format csv or json, or a smaller --limit",
                    TABLE_BYTES_MAX >> 20
                ),
            },
        })?;
    }
    printer.finish().map_err(|source| Error::Output { source })?;
    Ok(outcome)
}

enum Fault {
    Sqlite(rusqlite::Error),
    Output(std::io::Error),
    /// The table exceeded the buffer's limit.
    Large,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

struct Printer<'o> {
    format: Format,
    names: Vec<String>,
    out: &'o mut dyn Write,
    /// Rows of a table, buffered until the widths are known; the row limit bounds it.
    table: Vec<Vec<String>>,
    table_bytes: usize,
    begun: bool,
}

impl<'o> Printer<'o> {
    fn new(format: Format, names: Vec<String>, out: &'o mut dyn Write) -> Self {
        Self { format, names, out, table: Vec::new(), table_bytes: 0, begun: false }
    }

    fn row(&mut self, row: &rusqlite::Row<'_>) -> Result<(), Fault> {
        match self.format {
            Format::Table => {
                let cells = (0..self.names.len())
                    .map(|i| Ok(printable(&text(row.get_ref(i)?))))
                    .collect::<Result<Vec<String>, Fault>>()?;
                self.table_bytes += cells.iter().map(|cell| cell.len() + size_of::<String>()).sum::<usize>();
                if self.table_bytes > TABLE_BYTES_MAX {
                    return Err(Fault::Large);
                }
                self.table.push(cells);
            }
            Format::Csv => {
                self.head()?;
                for i in 0..self.names.len() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(self.out, "{comma}{}", csv(&text(row.get_ref(i)?)))?;
                }
                self.out.write_all(b"\r\n")?;
            }
            Format::Json => {
                self.out.write_all(if self.begun { b",\n" } else { b"[" })?;
                self.begun = true;
                for (i, name) in self.names.iter().enumerate() {
                    self.out.write_all(if i == 0 { b"{" } else { b"," })?;
                    write!(self.out, "{}:{}", serde_json::Value::from(name.as_str()), json(row.get_ref(i)?))?;
                }
                self.out.write_all(b"}")?;
            }
        }
        Ok(())
    }

    fn head(&mut self) -> Result<(), std::io::Error> {
        if !std::mem::replace(&mut self.begun, true) {
            let names: Vec<String> = self.names.iter().map(|name| csv(name)).collect();
            write!(self.out, "{}\r\n", names.join(","))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), std::io::Error> {
        match self.format {
            Format::Csv => self.head()?,
            Format::Json => self.out.write_all(if self.begun { b"]\n" } else { b"[]\n" })?,
            Format::Table => self.write_table()?,
        }
        self.out.flush()
    }

    fn write_table(&mut self) -> Result<(), std::io::Error> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.chars().count()).collect();
        for row in &self.table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        for row in [&self.names, &rule].into_iter().chain(&self.table) {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => format!("<{} bytes>", blob.len()),
    }
}

fn csv(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn json(value: ValueRef<'_>) -> serde_json::Value {
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(integer) => integer.into(),
        // Infinity becomes null, since JSON has none.
        ValueRef::Real(real) => real.into(),
        other => text(other).into(),
    }
}

/// Copies a consistent snapshot to a new file, while the daemon keeps writing.
///
/// # Errors
/// When the copy exists already, or cannot be written or read.
pub fn backup(from: &Path, to: &Path) -> Result<(), Error> {
    let file_error = |source| Error::BackupFile { path: to.to_owned(), source };
    if to.exists() {
        return Err(file_error(std::io::ErrorKind::AlreadyExists.into()));
    }
    let source = file::open_read_only(from).map_err(|source| Error::Open { path: from.to_owned(), source })?;
    // Renamed once complete, so that a copy under its final name is always whole.
    let partial = file::with_suffix(to, ".partial");
    let _ = fs::remove_file(&partial);
    file::private().write(true).create_new(true).open(&partial).map_err(file_error)?;
    let result = copy(&source, &partial);
    if let Err(source) = result {
        let _ = fs::remove_file(&partial);
        return Err(Error::Backup { path: to.to_owned(), source });
    }
    fs::File::open(&partial).and_then(|file| file.sync_all()).map_err(file_error)?;
    fs::rename(&partial, to).map_err(file_error)
}

fn copy(source: &Connection, partial: &Path) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(partial, flags)?;
    // One read transaction spans all steps: without it each write of the daemon would restart the copy. 1,024 pages (4
    // MiB) per step and no real pause, since a snapshot should not be held for long.
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row(sql::TOUCH, [], |_| Ok(()))?;
    Backup::new(&snapshot, &mut target)?.run_to_completion(1_024, Duration::from_millis(1), None)?;
    drop(snapshot);
    // The copy should need no side files.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    target.close().map_err(|(_, error)| error)
}
