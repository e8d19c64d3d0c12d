//! Arguments of `hpalite freeze` and `hpalite thaw`.

use std::time::Duration;

use super::typed::Typed;
use super::{Command, is_label, kubeconfig, object, service};
use crate::kube::Kubeconfig;
use crate::migration::{End, Freeze, Plan, Scope};
use crate::wire::time::{parse_age, parse_rfc3339};

#[derive(Debug, PartialEq)]
pub struct FreezeArguments {
    pub kubeconfig: Option<Kubeconfig>,
    pub plan: Plan,
    pub scope: Scope,
    /// `None` to thaw.
    pub freeze: Option<Freeze>,
}

pub(super) fn freeze(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let replicas = typed.flag("replicas").map(|text| {
        let count = text.parse().ok().filter(|count| i32::try_from(*count).is_ok());
        if count.is_none() {
            problems.push(format!("--replicas: \"{text}\" is not a number of replicas"));
        }
        count
    });
    if replicas.is_some() && typed.is_set("at-current") {
        problems.push("use either --at-current or --replicas".to_owned());
    }
    let until = typed.flag("until").unwrap_or_default();
    let end = parse_rfc3339(until).map(End::At).or_else(|| parse_age(until).map(End::After));
    if end.is_none() {
        problems.push(format!(
            "--until: \"{until}\" is neither a time nor a duration, write for example 2027-01-31T06:00:00Z or 2h"
        ));
    }
    let reason = typed.flag("reason").unwrap_or_default().trim();
    if reason.is_empty() {
        problems.push("--reason: say why, for those who find it frozen".to_owned());
    }
    let freeze = end.map(|until| Freeze { replicas: replicas.flatten(), until, reason: reason.to_owned() });
    parse(typed, "freeze", freeze, problems)
}

pub(super) fn thaw(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    parse(typed, "thaw", None, problems)
}

fn parse(
    typed: &Typed<'_>,
    subcommand: &'static str,
    freeze: Option<Freeze>,
    problems: &mut Vec<String>,
) -> Option<Command> {
    let kubeconfig = kubeconfig(typed);
    // Only a freeze asks for the rights of the daemon.
    let service = match &freeze {
        None => Some((String::new(), String::new())),
        Some(_) => service(&typed.value("service"), problems),
    };
    let scope = match (typed.is_set("all"), typed.flag("namespace"), typed.operands.is_empty()) {
        (true, None, true) => Some(Scope::All),
        (false, Some(namespace), true) if is_label(namespace) => Some(Scope::Namespace(namespace.to_owned())),
        (false, _, false) => {
            object(typed, subcommand, problems).map(|(namespace, name)| Scope::Object { namespace, name })
        }
        _ => {
            problems.push(format!("{subcommand}: name NAMESPACE/NAME, a namespace by -n, or --all"));
            None
        }
    };
    let (service, scope) = (service?, scope?);
    let dry_run = typed.is_set("dry-run");
    let plan = Plan { service, apiservice: String::new(), timeout: Duration::ZERO, dry_run };
    Some(Command::Freeze(FreezeArguments { kubeconfig, plan, scope, freeze }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;
    use crate::scaling::model::UnixMillis;

    fn parsed(arguments: &[&str]) -> (Scope, Option<Freeze>) {
        match with_env(arguments, &[]) {
            Ok(Command::Freeze(FreezeArguments { scope, freeze, .. })) => (scope, freeze),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn what_is_frozen_how_and_for_how_long() {
        let object = Scope::Object { namespace: "shop".to_owned(), name: "web".to_owned() };
        let freeze = |replicas, until| Some(Freeze { replicas, until, reason: "INC-7".to_owned() });
        let two_hours = End::After(Duration::from_secs(7_200));
        let given = ["freeze", "shop/web", "--until", "2h", "--reason", "INC-7"];
        assert_eq!(parsed(&given), (object.clone(), freeze(None, two_hours)));
        let given = ["freeze", "-n", "shop", "web", "--until", "2h", "--reason", "INC-7", "--at-current"];
        assert_eq!(parsed(&given), (object.clone(), freeze(None, two_hours)));
        let given = ["freeze", "--all", "--replicas", "0", "--until", "1970-01-01T00:00:05Z", "--reason", "INC-7"];
        assert_eq!(parsed(&given), (Scope::All, freeze(Some(0), End::At(UnixMillis(5_000)))));
        assert_eq!(parsed(&["thaw", "-n", "shop"]), (Scope::Namespace("shop".to_owned()), None));
        assert_eq!(parsed(&["thaw", "shop/web"]), (object, None));
    }

    #[test]
    fn all_mistakes_are_said_at_once() {
        for (arguments, count) in [
            (&["freeze"][..], 3),
            (&["freeze", "shop/web", "--until", "tomorrow", "--reason", " "], 2),
            (&["freeze", "--all", "-n", "shop", "--until", "1h", "--reason", "x"], 1),
            (&["freeze", "--all", "--replicas", "-1", "--at-current", "--until", "1h", "--reason", "x"], 2),
            (&["thaw"], 1),
            (&["thaw", "web"], 1),
            (&["thaw", "--all", "shop/web"], 1),
        ] {
            assert_eq!(with_env(arguments, &[]).expect_err("it is wrong").0.len(), count, "{arguments:?}");
        }
    }
}
