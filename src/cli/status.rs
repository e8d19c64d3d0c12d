//! Arguments of `hpalite status`.

use std::time::Duration;

use super::typed::Typed;
use super::{Command, kubeconfig, number, service, wants_json};
use crate::status::Arguments;

/// Longer than anybody waits before a screen.
const INTERVAL_MAX: u64 = 3_600;

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let every = interval(typed, problems);
    if typed.is_set("watch") && wants_json(typed) {
        problems.push("use either --watch or --json".to_owned());
    }
    Some(Command::Status(Arguments {
        db: typed.value("db").into(),
        namespace: typed.flag("namespace").map(str::to_owned),
        every: every.filter(|_| typed.is_set("watch")),
        json: wants_json(typed),
        kubeconfig: kubeconfig(typed),
        apiservice: typed.value("apiservice"),
        service: service(&typed.flag("service").map_or_else(|| typed.value("service"), str::to_owned), problems)?,
    }))
}

/// Returns the time between two drawings.
pub(super) fn interval(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Duration> {
    let seconds = number("--interval", &typed.value("interval"), problems)?;
    if !(1..=INTERVAL_MAX).contains(&seconds) {
        problems.push(format!("--interval: must be between 1 and {INTERVAL_MAX} seconds"));
        return None;
    }
    Some(Duration::from_secs(seconds))
}
