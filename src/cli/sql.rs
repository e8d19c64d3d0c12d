//! The arguments of `hpalite sql`.

use std::path::PathBuf;
use std::time::Duration;

use super::typed::Typed;
use super::{Command, number};
use crate::store::query::Format;

#[derive(Debug, PartialEq)]
pub struct SqlArguments {
    pub db: PathBuf,
    pub format: Format,
    pub timeout: Duration,
    pub limit: usize,
    pub backup: Option<PathBuf>,
    pub statement: Option<String>,
}

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let format = match typed.value("format").as_str() {
        "csv" => Format::Csv,
        "json" => Format::Json,
        _ => Format::Table,
    };
    let backup = typed.flag("backup").map(PathBuf::from);
    let statement = match typed.operands.as_slice() {
        [] => None,
        [statement] => statement.to_str().map(str::to_owned).or_else(|| {
            problems.push("sql: the statement is not UTF-8".to_owned());
            None
        }),
        _ => {
            problems.push("sql: one statement only; put it in quotes".to_owned());
            None
        }
    };
    match (typed.operands.is_empty(), &backup) {
        (false, Some(_)) => problems.push("sql: --backup copies and runs no statement; give one of them".to_owned()),
        (true, None) => problems
            .push("sql: a statement is missing, for example 'SELECT * FROM v_decision LIMIT 20', or .help".to_owned()),
        _ => {}
    }
    let timeout = number("--timeout", &typed.value("timeout"), problems);
    let limit = number("--limit", &typed.value("limit"), problems);
    Some(Command::Sql(SqlArguments {
        db: typed.value("db").into(),
        format,
        timeout: Duration::from_secs(timeout?),
        limit: usize::try_from(limit?).unwrap_or(usize::MAX),
        backup,
        statement,
    }))
}
