//! The arguments of `hpalite history` and `hpalite compare`.

use std::time::Duration;

use super::typed::Typed;
use super::{Command, number, recorded, wants_json};
use crate::history::command::{Arguments, Form};
use crate::history::compare;
use crate::wire::time::parse_age;

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let is = |form: &str| typed.is_set(form) || typed.flag("output") == Some(form);
    let form = match (is("csv"), is("json")) {
        (true, true) => {
            problems.push("--csv and --json: choose one".to_owned());
            Form::Csv
        }
        (true, false) => Form::Csv,
        (false, true) => Form::Json,
        (false, false) => Form::Plot,
    };
    let width = typed.flag("width").and_then(|text| number("--width", text, problems));
    let bounds = if form == Form::Plot { 40..=300 } else { 1..=2000 };
    if width.is_some_and(|width| !bounds.contains(&width)) {
        problems.push(format!("--width: must be between {} and {}", bounds.start(), bounds.end()));
    }
    let since = since(typed, problems);
    let (namespace, name, group) = recorded(typed, "history", problems)?;
    Some(Command::History(Arguments {
        db: typed.value("db").into(),
        namespace,
        name,
        group,
        since: since?,
        width: width.and_then(|width| usize::try_from(width).ok()),
        ascii: typed.is_set("ascii"),
        form,
    }))
}

/// Parses the arguments of `hpalite compare`.
pub(super) fn compare(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let since = since(typed, problems);
    let (namespace, name, group) = recorded(typed, "compare", problems)?;
    let (db, json) = (typed.value("db").into(), wants_json(typed));
    Some(Command::Compare(compare::Arguments { db, namespace, name, group, since: since?, json }))
}

fn since(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Duration> {
    let since = typed.value("since");
    parse_age(&since).filter(|since| *since >= Duration::from_secs(1)).or_else(|| {
        problems.push(format!("--since: \"{since}\" is not a duration such as 90s, 45m, 2h or 7d"));
        None
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::Problems;
    use crate::scaling::model::ApiGroup;

    #[test]
    fn an_hpa_is_named_by_its_kind() {
        let group = |arguments: &[&str]| match crate::cli::parse(arguments.iter().map(OsString::from), &|_| None) {
            Ok(Command::History(found)) => (found.namespace, found.name, found.group.map(ApiGroup::name)),
            Ok(Command::Why(found)) => (found.namespace, found.name, found.group.map(ApiGroup::name)),
            other => panic!("{other:?}"),
        };
        let is = |namespace: &str, name: &str, group| (namespace.to_owned(), name.to_owned(), group);
        assert_eq!(group(&["history", "hpa/shop/web"]), is("shop", "web", Some("autoscaling")));
        assert_eq!(group(&["why", "hpa/shop/web"]), is("shop", "web", Some("autoscaling")));
        assert_eq!(group(&["why", "-n", "shop", "hpa/web"]), is("shop", "web", Some("autoscaling")));
        assert_eq!(group(&["history", "hpa/web"]), is("hpa", "web", None), "a namespace of this name");
        assert_eq!(group(&["history", "shop/web", "--group", "autoscaling"]), is("shop", "web", Some("autoscaling")));
        let contradicts = ["history", "hpa/shop/web", "--group", "keda.sh"].map(OsString::from);
        let Err(Problems(problems)) = crate::cli::parse(contradicts, &|_| None) else { panic!("accepted") };
        assert!(problems[0].contains("is an HPA, and --group says otherwise"), "{problems:?}");
    }

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
