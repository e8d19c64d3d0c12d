//! Arguments of `hpalite takeover` and `hpalite uninstall`.

use std::time::Duration;

use super::installation::Installation;
use super::typed::Typed;
use super::{Command, number};
use crate::kube::Kubeconfig;
use crate::migration::{Apis, Objects, Overrides, Plan};

#[derive(Debug, PartialEq)]
pub struct TakeoverArguments {
    pub kubeconfig: Option<Kubeconfig>,
    pub plan: Plan,
    pub apis: Apis,
    pub overrides: Overrides,
}

#[derive(Debug, PartialEq)]
pub struct UninstallArguments {
    pub kubeconfig: Option<Kubeconfig>,
    pub plan: Plan,
    pub objects: Objects,
}

pub(super) fn takeover(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let overrides = Overrides { keda_runs: typed.is_set("force"), some_stay_behind: typed.is_set("leave-unserved") };
    let apis = match typed.value("metrics").as_str() {
        "custom" => Apis::Custom,
        "both" => Apis::Both,
        _ => Apis::External,
    };
    let (kubeconfig, plan) = plan(typed, problems)?;
    Some(Command::Takeover(TakeoverArguments { kubeconfig, plan, apis, overrides }))
}

pub(super) fn uninstall(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    let objects = match (typed.is_set("keep-crds"), typed.is_set("delete-scaledobjects")) {
        (true, true) => {
            problems.push("use either --keep-crds or --delete-scaledobjects".to_owned());
            Objects::Undecided
        }
        (true, false) => Objects::Keep,
        (false, true) => Objects::Delete,
        (false, false) => Objects::Undecided,
    };
    let (kubeconfig, plan) = plan(typed, problems)?;
    Some(Command::Uninstall(UninstallArguments { kubeconfig, plan, objects }))
}

fn plan(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<(Option<Kubeconfig>, Plan)> {
    let timeout = number("--timeout", &typed.value("timeout"), problems).map(Duration::from_secs);
    let Installation { kubeconfig, service, apiservice } = Installation::of(typed, problems)?;
    Some((kubeconfig, Plan { service, apiservice, timeout: timeout?, dry_run: typed.is_set("dry-run") }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;

    #[test]
    fn only_one_flag_may_decide_about_the_objects() {
        let objects = |arguments: &[&str]| match with_env(arguments, &[]) {
            Ok(Command::Uninstall(arguments)) => Some(arguments.objects),
            _ => None,
        };
        assert_eq!(objects(&["uninstall"]), Some(Objects::Undecided));
        assert_eq!(objects(&["uninstall", "--keep-crds"]), Some(Objects::Keep));
        assert_eq!(objects(&["uninstall", "--delete-scaledobjects"]), Some(Objects::Delete));
        assert_eq!(objects(&["uninstall", "--delete-scaledobjects", "--keep-crds"]), None);
        assert_eq!(objects(&["uninstall", "--force"]), None);
    }

    #[test]
    fn a_takeover_is_limited_to_the_named_installation() {
        let arguments = ["takeover", "--service", "a.b", "--timeout", "5", "--force", "--dry-run"];
        let Ok(Command::Takeover(found)) = with_env(&arguments, &[("KUBECONFIG", "k")]) else { panic!("refused") };
        let plan = Plan {
            service: ("a".into(), "b".into()),
            apiservice: "v1beta1.external.metrics.k8s.io".into(),
            timeout: Duration::from_secs(5),
            dry_run: true,
        };
        let overrides = Overrides { keda_runs: true, some_stay_behind: false };
        assert_eq!(found, TakeoverArguments { kubeconfig: Some("k".into()), plan, apis: Apis::External, overrides });
        for (text, expected) in [("external", Apis::External), ("custom", Apis::Custom), ("both", Apis::Both)] {
            let Ok(Command::Takeover(found)) = with_env(&["takeover", "--metrics", text], &[]) else {
                panic!("{text}")
            };
            assert_eq!(found.apis, expected);
        }
        assert!(with_env(&["takeover", "--metrics=all"], &[]).is_err());
        let Ok(Command::Takeover(found)) = with_env(&["takeover", "--leave-unserved"], &[]) else { panic!("refused") };
        assert_eq!(found.overrides, Overrides { keda_runs: false, some_stay_behind: true });
        let bad = with_env(&["takeover", "--service", "a", "--timeout", "x", "--keep-crds", "--apiservice", "A"], &[]);
        assert_eq!(bad.expect_err("four problems").0.len(), 4);
    }
}
