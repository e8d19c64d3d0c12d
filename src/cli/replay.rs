//! The arguments of `hpalite replay`.

use std::time::Duration;

use super::typed::Typed;
use super::{Command, number, wants_json};
use crate::replay::Choice;
use crate::replay::command::{Arguments, SINCE_MAX, Subject};
use crate::replay::{CANDIDATES_MAX, Goal, Model};
use crate::wire::time::parse_age;

/// Slower pods, and slower controllers, are a mistake rather than a fact.
const MODEL_MAX: Duration = Duration::from_hours(1);

const POD_START: &str = "pod-start";
const SYNC_PERIOD: &str = "horizontal-pod-autoscaler-sync-period";
const STABILIZATION: &str = "horizontal-pod-autoscaler-downscale-stabilization";

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let sets = typed.all("set").iter().cloned().map(Choice::Set);
    let files = typed.all("candidate").iter().map(|path| Choice::File(path.into()));
    let choices: Vec<Choice> = sets.chain(files).collect();
    if choices.len() > CANDIDATES_MAX {
        problems
            .push(format!("replay: {} candidates, and at most {CANDIDATES_MAX} fit beside each other", choices.len()));
    }
    let width = typed.flag("width").and_then(|text| number("--width", text, problems));
    if width.is_some_and(|width| !(40..=300).contains(&width)) {
        problems.push("--width: must be between 40 and 300".to_owned());
    }
    let mut duration = |flag: &str, text: &str, least: Duration| {
        let found = parse_age(text).filter(|found| (least..=MODEL_MAX).contains(found));
        if found.is_none() {
            problems.push(format!("--{flag}: \"{text}\" is not a duration of up to 1h, such as 10s"));
        }
        found.unwrap_or_default()
    };
    let model = Model {
        pod_start: typed.flag(POD_START).map(|text| duration(POD_START, text, Duration::ZERO)),
        sync_period: duration(SYNC_PERIOD, &typed.value(SYNC_PERIOD), Duration::from_secs(1)),
        downscale_stabilization: duration(STABILIZATION, &typed.value(STABILIZATION), Duration::ZERO),
    };
    let goal = typed.flag("at-most-above-target").and_then(|text| share(text, problems));
    if goal.is_some() && !typed.is_set("suggest") {
        problems.push("--at-most-above-target: is the goal of --suggest, which is missing".to_owned());
    }
    let suggest = Goal { at_most_above_target: goal.unwrap_or(0.01) };
    let subject = if typed.is_set("all") {
        all(typed, &choices, problems)?
    } else if typed.is_set("demo") {
        if !typed.operands.is_empty() {
            problems.push("replay: --demo has an object of its own: leave out the other".to_owned());
        }
        Subject::Demo
    } else {
        recorded(typed, problems)?
    };
    Some(Command::Replay(Arguments {
        subject,
        choices,
        goal: typed.is_set("suggest").then_some(suggest),
        model,
        from_prometheus: typed.flag("from-prometheus").map(str::to_owned),
        json: wants_json(typed),
        ascii: typed.is_set("ascii"),
        width: width.and_then(|width| usize::try_from(width).ok()),
    }))
}

fn all(typed: &Typed<'_>, choices: &[Choice], problems: &mut Vec<String>) -> Option<Subject> {
    if !typed.operands.is_empty() {
        problems.push("replay: --all means every object: leave out the other".to_owned());
    }
    if choices.len() > 1 || choices.iter().any(|choice| !matches!(choice, Choice::Set(_))) {
        problems
            .push("replay: --all has room for one --set beside today's settings, and for no --candidate".to_owned());
    }
    for flag in ["suggest", "from-prometheus", "group", "demo", "width"].into_iter().filter(|flag| typed.is_set(flag)) {
        problems.push(format!("--{flag}: is for one object, and --all means every"));
    }
    let namespace = typed.flag("namespace").map(str::to_owned);
    let until = typed.flag("until").map(str::to_owned);
    Some(Subject::All { db: typed.value("db").into(), namespace, since: since(typed, problems)?, until })
}

fn since(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Duration> {
    let text = typed.value("since");
    parse_age(&text).filter(|since| (Duration::from_secs(1)..=SINCE_MAX).contains(since)).or_else(|| {
        let days = SINCE_MAX.as_secs() / 86_400;
        problems.push(format!("--since: \"{text}\" is not a duration of up to {days}d, such as 2h or 7d"));
        None
    })
}

fn recorded(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Subject> {
    let since = since(typed, problems);
    let (namespace, name, group) = super::recorded(typed, "replay", problems)?;
    let until = typed.flag("until").map(str::to_owned);
    Some(Subject::Object { db: typed.value("db").into(), namespace, name, group, since: since?, until })
}

/// Reads `1%` or `0.5%`.
fn share(text: &str, problems: &mut Vec<String>) -> Option<f64> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = percent.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
    if share.is_none() {
        problems.push(format!("--at-most-above-target: \"{text}\" is no share of time such as 1%"));
    }
    share
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::Problems;

    fn parsed(arguments: &[&str]) -> Result<Command, Problems> {
        crate::cli::parse(arguments.iter().map(OsString::from), &|_| None)
    }

    #[test]
    fn each_set_and_each_file_is_a_candidate() {
        let set = "spec.triggers[0].metadata.threshold=50";
        let Ok(Command::Replay(arguments)) = parsed(&[
            "replay",
            "shop/web",
            "--since",
            "2h",
            "--set",
            set,
            "--candidate",
            "a.yaml",
            "--set",
            "spec.cooldownPeriod=9",
            "--suggest",
            "--at-most-above-target",
            "0.5%",
        ]) else {
            panic!("refused")
        };
        let sets = [set, "spec.cooldownPeriod=9"].map(|text| Choice::Set(text.to_owned()));
        assert_eq!(arguments.choices[..2], sets);
        assert_eq!(arguments.choices[2], Choice::File("a.yaml".into()));
        assert_eq!(arguments.goal, Some(Goal { at_most_above_target: 0.005 }));
        assert!(matches!(arguments.subject, Subject::Object { since, .. } if since == Duration::from_secs(7_200)));
        assert!(matches!(
            parsed(&["replay", "--all", "-n", "shop", "--since", "30d"]),
            Ok(Command::Replay(a)) if matches!(&a.subject, Subject::All { namespace: Some(namespace), .. } if namespace == "shop")
        ));
        assert!(matches!(parsed(&["replay", "--demo"]), Ok(Command::Replay(a)) if a.subject == Subject::Demo));
    }

    #[test]
    fn mistakes_are_named() {
        let many = ["--set", "spec.a=1"].repeat(17);
        for (bad, expected) in [
            (&["replay"][..], "NAMESPACE/NAME"),
            (&["replay", "shop/web", "--since", "400d"], "--since"),
            (&["replay", "shop/web", "--width", "3"], "--width"),
            (&["replay", "shop/web", "--pod-start", "2h"], "--pod-start"),
            (&["replay", "shop/web", "--at-most-above-target", "1%"], "--suggest"),
            (&["replay", "shop/web", "--suggest", "--at-most-above-target", "1"], "1%"),
            (&["replay", "--demo", "shop/web"], "--demo"),
            (&["replay", "--all", "shop/web"], "--all"),
            (&["replay", "--all", "--suggest"], "--suggest"),
            (&["replay", "--all", "--set", "spec.a=1", "--set", "spec.a=2"], "one --set"),
            (&["replay", "--all", "--candidate", "a.yaml"], "no --candidate"),
            (&[&["replay", "shop/web"], &many[..]].concat(), "at most 16"),
        ] {
            let Err(Problems(problems)) = parsed(bad) else { panic!("{bad:?} accepted") };
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{bad:?}: {problems:?}");
        }
    }
}
