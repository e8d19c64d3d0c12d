//! The arguments of `hpalite why`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::{Command, Problems, database, object, one, output, take};
use crate::wire::time::parse_age;

/// Arguments of `hpalite why`.
#[derive(Debug, PartialEq)]
pub struct WhyArguments {
    pub db: PathBuf,
    pub namespace: String,
    pub name: String,
    /// As typed: what it means depends on the clock.
    pub at: Option<String>,
    pub since: Option<Duration>,
    pub json: bool,
}

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut problems = Vec::new();
    let (mut db, mut at, mut since, mut name, mut namespace, mut json) = (None, None, None, None, None, false);
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value)),
            Arg::Long("at") => take(parser, "--at", &mut problems, |value| at = Some(value)),
            Arg::Long("since") => take(parser, "--since", &mut problems, |value| since = Some(value)),
            Arg::Long("json") => json = true,
            Arg::Short('o') | Arg::Long("output") => json |= output(parser, &["json"], &mut problems).is_some(),
            Arg::Short('n') | Arg::Long("namespace") => {
                take(parser, "-n", &mut problems, |value| namespace = Some(value))
            }
            Arg::Value(text) if name.is_none() => name = Some(text.to_string_lossy().into_owned()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    if at.is_some() && since.is_some() {
        problems.push("why: --at and --since exclude each other: give one".to_owned());
    }
    let since = since.and_then(|text: String| {
        let parsed = parse_age(&text);
        if parsed.is_none() {
            problems.push(format!("--since: \"{text}\" is no duration, write for example 2h, 90m or 7d"));
        }
        parsed
    });
    let db = database(db, env);
    match object("why", namespace, name, &mut problems) {
        Some((namespace, name)) if problems.is_empty() => {
            Ok(Command::Why(WhyArguments { db, namespace, name, at, since, json }))
        }
        _ => Err(Problems(problems)),
    }
}
