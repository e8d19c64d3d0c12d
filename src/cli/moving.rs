//! Arguments of `hpalite takeover` and `hpalite uninstall`.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::installation::{Installation, Named};
use super::{Command, Problems, number, one, take};
use crate::moving::{Although, Move, Objects};

#[derive(Debug, PartialEq)]
pub struct TakeoverArguments {
    pub kubeconfig: Option<PathBuf>,
    pub plan: Move,
    pub although: Although,
}

#[derive(Debug, PartialEq)]
pub struct UninstallArguments {
    pub kubeconfig: Option<PathBuf>,
    pub plan: Move,
    pub objects: Objects,
}

pub(super) fn takeover(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut although = Although::default();
    let common = common(parser, env, |flag| {
        although.keda_runs |= flag == "force";
        although.some_stay_behind |= flag == "leave-unserved";
        matches!(flag, "force" | "leave-unserved")
    })?;
    Ok(common.map_or(Command::Help, |(kubeconfig, plan)| {
        Command::Takeover(TakeoverArguments { kubeconfig, plan, although })
    }))
}

pub(super) fn uninstall(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let (mut keep, mut delete) = (false, false);
    let common = common(parser, env, |flag| {
        keep |= flag == "keep-crds";
        delete |= flag == "delete-scaledobjects";
        matches!(flag, "keep-crds" | "delete-scaledobjects")
    })?;
    let objects = match (keep, delete) {
        (true, true) => return Err(one("use either --keep-crds or --delete-scaledobjects".to_owned())),
        (true, false) => Objects::Keep,
        (false, true) => Objects::Delete,
        (false, false) => Objects::Undecided,
    };
    Ok(common.map_or(Command::Help, |(kubeconfig, plan)| {
        Command::Uninstall(UninstallArguments { kubeconfig, plan, objects })
    }))
}

/// What both take; `own` takes the flags that only one has. None if help is asked for.
fn common(
    parser: &mut Parser,
    env: &dyn Fn(&str) -> Option<String>,
    mut own: impl FnMut(&str) -> bool,
) -> Result<Option<(Option<PathBuf>, Move)>, Problems> {
    let mut installation = Installation::from_environment(env);
    let (mut timeout, mut dry_run, mut problems) = ("60".to_owned(), false, Vec::new());
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Long("timeout") => take(parser, "--timeout", &mut problems, |value| timeout = value),
            Arg::Long("dry-run") => dry_run = true,
            Arg::Long(flag) if own(flag) => {}
            Arg::Long(flag @ ("kubeconfig" | "service" | "apiservice")) => {
                let flag = flag.to_owned();
                installation.take(&flag, parser, &mut problems);
            }
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    let timeout = number("--timeout", &timeout, &mut problems).map(Duration::from_secs).unwrap_or_default();
    let Named { kubeconfig, service, apiservice } = installation.finish(problems)?;
    Ok(Some((kubeconfig, Move { service, apiservice, timeout, dry_run })))
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;

    #[test]
    fn what_becomes_of_the_objects_is_said_once() {
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
    fn a_takeover_is_of_the_installation_that_is_named() {
        let arguments = ["takeover", "--service", "a.b", "--timeout", "5", "--force", "--dry-run"];
        let Ok(Command::Takeover(found)) = with_env(&arguments, &[("KUBECONFIG", "k")]) else { panic!("refused") };
        let plan = Move {
            service: ("a".into(), "b".into()),
            apiservice: "v1beta1.external.metrics.k8s.io".into(),
            timeout: Duration::from_secs(5),
            dry_run: true,
        };
        let although = Although { keda_runs: true, some_stay_behind: false };
        assert_eq!(found, TakeoverArguments { kubeconfig: Some("k".into()), plan, although });
        let Ok(Command::Takeover(found)) = with_env(&["takeover", "--leave-unserved"], &[]) else { panic!("refused") };
        assert_eq!(found.although, Although { keda_runs: false, some_stay_behind: true });
        let bad = with_env(&["takeover", "--service", "a", "--timeout", "x", "--keep-crds", "--apiservice", "A"], &[]);
        assert_eq!(bad.expect_err("four problems").0.len(), 4);
    }
}
