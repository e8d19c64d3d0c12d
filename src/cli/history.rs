//! The arguments of `hpalite history`.

use std::time::Duration;

use lexopt::{Arg, Parser};

use super::{Command, Problems, database, number, object, one, output, take};
use crate::history::command::{Arguments, Form};
use crate::scaling::model::ApiGroup;
use crate::wire::time::parse_age;

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut problems = Vec::new();
    let (mut db, mut since, mut width, mut group, mut name, mut namespace) = (None, None, None, None, None, None);
    let (mut ascii, mut csv, mut json) = (false, false, false);
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value)),
            Arg::Long("since") => take(parser, "--since", &mut problems, |value| since = Some(value)),
            Arg::Long("width") => take(parser, "--width", &mut problems, |value| width = Some(value)),
            Arg::Long("group") => take(parser, "--group", &mut problems, |value| group = Some(value)),
            Arg::Long("ascii") => ascii = true,
            Arg::Long("csv") => csv = true,
            Arg::Long("json") => json = true,
            Arg::Short('o') | Arg::Long("output") => {
                let form = output(parser, &["csv", "json"], &mut problems);
                csv |= form == Some("csv");
                json |= form == Some("json");
            }
            Arg::Short('n') | Arg::Long("namespace") => {
                take(parser, "-n", &mut problems, |value| namespace = Some(value))
            }
            Arg::Value(text) if name.is_none() => name = Some(text.to_string_lossy().into_owned()),
            Arg::Value(_) => problems.push("history: one object only".to_owned()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    let form = match (csv, json) {
        (true, true) => {
            problems.push("--csv and --json: choose one".to_owned());
            Form::Csv
        }
        (true, false) => Form::Csv,
        (false, true) => Form::Json,
        (false, false) => Form::Plot,
    };
    let width = width.and_then(|text| number("--width", &text, &mut problems));
    let bounds = if form == Form::Plot { 40..=300 } else { 1..=2000 };
    if width.is_some_and(|width| !bounds.contains(&width)) {
        problems.push(format!("--width: must be between {} and {}", bounds.start(), bounds.end()));
    }
    let since = since.as_deref().unwrap_or("2h");
    let since = parse_age(since).filter(|since| *since >= Duration::from_secs(1)).or_else(|| {
        problems.push(format!("--since: \"{since}\" is not a duration such as 90s, 45m, 2h or 7d"));
        None
    });
    let group = group.and_then(|name| {
        let known = [ApiGroup::KedaSh, ApiGroup::KedaK8sIo].into_iter().find(|group| group.name() == name);
        if known.is_none() {
            problems.push(format!("--group: \"{name}\" is neither keda.sh nor keda.k8s.io"));
        }
        known
    });
    let object = object("history", namespace, name, &mut problems);
    match (object, since) {
        (Some((namespace, name)), Some(since)) if problems.is_empty() => Ok(Command::History(Arguments {
            db: database(db, env),
            namespace,
            name,
            group,
            since,
            width: width.and_then(|width| usize::try_from(width).ok()),
            ascii,
            form,
        })),
        _ => Err(Problems(problems)),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn history_takes_an_object_and_a_time() {
        let Ok(Command::History(arguments)) =
            crate::cli::parse(["history", "shop/web", "--since", "7d", "--csv"].map(OsString::from), &|_| None)
        else {
            panic!("refused")
        };
        assert_eq!((arguments.namespace.as_str(), arguments.name.as_str()), ("shop", "web"));
        assert_eq!((arguments.since, arguments.form), (Duration::from_secs(604_800), Form::Csv));
        for (bad, expected) in [
            (&["history"][..], "NAMESPACE/NAME"),
            (&["history", "web"], "NAMESPACE/NAME"),
            (&["history", "/web"], "NAMESPACE/NAME"),
            (&["history", "shop/web", "--since", "soon"], "--since"),
            (&["history", "shop/web", "--since", "0s"], "--since"),
            (&["history", "shop/web", "--width", "20"], "--width"),
            (&["history", "shop/web", "--csv", "--json"], "choose one"),
            (&["history", "shop/web", "--group", "keda"], "--group"),
            (&["history", "shop/web", "shop/api"], "one object"),
            (&["history", "shop/web", "--until", "1h"], "--until"),
        ] {
            let Err(Problems(problems)) = crate::cli::parse(bad.iter().map(OsString::from), &|_| None) else {
                panic!("{bad:?} accepted")
            };
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{bad:?}: {problems:?}");
        }
    }
}
