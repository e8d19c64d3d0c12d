//! The arguments of `hpalite sql`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::{Command, Problems, database, number, one, take};
use crate::store::query::Format;

/// Arguments of `hpalite sql`.
#[derive(Debug, PartialEq)]
pub struct SqlArguments {
    pub db: PathBuf,
    pub format: Format,
    pub timeout: Duration,
    pub limit: usize,
    pub backup: Option<PathBuf>,
    pub statement: Option<String>,
}

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut problems = Vec::new();
    let (mut db, mut format, mut timeout, mut limit, mut backup) = (None, None, None, None, None);
    let mut statement = None;
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value)),
            Arg::Short('o') | Arg::Long("format" | "output") => {
                take(parser, "--format", &mut problems, |value| format = Some(value))
            }
            Arg::Long("timeout") => take(parser, "--timeout", &mut problems, |value| timeout = Some(value)),
            Arg::Long("limit") => take(parser, "--limit", &mut problems, |value| limit = Some(value)),
            Arg::Long("backup") => take(parser, "--backup", &mut problems, |value| backup = Some(value)),
            Arg::Value(text) if statement.is_none() => match text.string() {
                Ok(text) => statement = Some(text),
                Err(error) => problems.push(error.to_string()),
            },
            Arg::Value(_) => problems.push("sql: one statement only; put it in quotes".to_owned()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    let format = match format.as_deref().unwrap_or("table") {
        "table" => Format::Table,
        "csv" => Format::Csv,
        "json" => Format::Json,
        other => {
            problems.push(format!("--format: \"{other}\" is none of table, csv, json"));
            Format::Table
        }
    };
    if statement.is_some() && backup.is_some() {
        problems.push("sql: --backup copies and runs no statement; give one of them".to_owned());
    }
    let timeout = number("--timeout", timeout.as_deref().unwrap_or("10"), &mut problems);
    let limit = number("--limit", limit.as_deref().unwrap_or("1000"), &mut problems);
    if statement.is_none() && backup.is_none() {
        problems
            .push("sql: a statement is missing, for example 'SELECT * FROM v_decision LIMIT 20', or .help".to_owned());
    }
    let db = database(db, env);
    match (timeout, limit) {
        (Some(timeout), Some(limit)) if problems.is_empty() => Ok(Command::Sql(SqlArguments {
            db,
            format,
            timeout: Duration::from_secs(timeout),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            backup: backup.map(PathBuf::from),
            statement,
        })),
        _ => Err(Problems(problems)),
    }
}
