//! The arguments of `hpalite why`.

use std::path::PathBuf;
use std::time::Duration;

use super::typed::Typed;
use super::{Command, recorded, wants_json};
use crate::scaling::model::ApiGroup;
use crate::wire::time::parse_age;

#[derive(Debug, PartialEq)]
pub struct WhyArguments {
    pub db: PathBuf,
    pub namespace: String,
    pub name: String,
    pub group: Option<ApiGroup>,
    /// As typed, because its meaning depends on the clock.
    pub at: Option<String>,
    pub since: Option<Duration>,
    pub json: bool,
}

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let at = typed.flag("at").map(str::to_owned);
    if at.is_some() && typed.is_set("since") {
        problems.push("why: --at and --since exclude each other: give one".to_owned());
    }
    let since = typed.flag("since").and_then(|text| {
        let parsed = parse_age(text);
        if parsed.is_none() {
            problems.push(format!("--since: \"{text}\" is no duration, write for example 2h, 90m or 7d"));
        }
        parsed
    });
    let (namespace, name, group) = recorded(typed, "why", problems)?;
    let (db, json) = (typed.value("db").into(), wants_json(typed));
    Some(Command::Why(WhyArguments { db, namespace, name, group, at, since, json }))
}
