//! The command line of `kubectl hpalite`: the same subcommands, of which those that need the history are carried out in
//! the pod.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Parser, ValueExt};

use super::flags::{self, Flag, Subcommand, Takes};
use super::typed::Typed;
use super::{Command, Problems, command, known, one, place, status};
use crate::kube::Kubeconfig;
use crate::plugin::Remote;

/// What is carried out in the pod, with the flags that are as in its daemon's command line.
const IN_POD: &[(&str, &[&str])] = &[
    ("why", &["db"]),
    ("history", &["db"]),
    ("sql", &["db"]),
    ("replay", &["db"]),
    ("compare", &["db"]),
    ("status", &["db", "service", "apiservice"]),
    (
        "doctor",
        &[
            "db",
            "service",
            "apiservice",
            "adapter-config",
            "forward-external-metrics",
            "forward-token-file",
            "forward-insecure-skip-tls-verify",
            "ca-dir",
        ],
    ),
];

/// Whose subcommands mean one object, of the context's namespace if they name none.
const OF_OBJECT: &[&str] = &["why", "history", "replay", "compare", "freeze", "thaw"];

/// What a command line of kubectl depends on besides its words.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    /// The value of a variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The namespace of a kubeconfig's context.
    pub namespace: &'a dyn Fn(&Kubeconfig) -> Option<String>,
    /// Of the terminal, if it is one.
    pub columns: Option<usize>,
}

/// A valid command line of `kubectl hpalite`.
#[derive(Debug, PartialEq)]
pub enum Plugin {
    /// Carried out on this machine.
    Here(Command),
    /// Carried out in the pod.
    There {
        remote: Remote,
        /// Again and again, with this much time in between.
        every: Option<Duration>,
        /// On this machine if there is no pod: what is wrong with an installation may be that.
        otherwise: Option<Command>,
    },
}

/// Parses the arguments after `kubectl hpalite`.
///
/// # Errors
/// Every problem at once.
pub fn plugin(arguments: impl IntoIterator<Item = std::ffi::OsString>, person: Person<'_>) -> Result<Plugin, Problems> {
    let env = person.env;
    let mut words: Vec<std::ffi::OsString> = arguments.into_iter().collect();
    // Flags of the connection may come before the subcommand, as for kubectl itself.
    let first = name_at(&words)?;
    let before: Vec<std::ffi::OsString> = words.drain(..first.unwrap_or(0)).collect();
    let name = words.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let runs_here = !flags::SUBCOMMANDS.iter().any(|subcommand| subcommand.name == name);
    if runs_here {
        return super::parse(words, env).map(Plugin::Here);
    }
    if name == "run" {
        return Err(one("run: is what the pod does; install it with k8s/base or the chart".to_owned()));
    }
    let subcommand = known(&name)?;
    words.splice(1..1, before);
    let mut problems = Vec::new();
    let mut parser = Parser::from_args(words.into_iter().skip(1));
    let mut typed = Typed::nothing(subcommand, env).with(flags::PLUGIN, &mut parser, &mut problems);
    if typed.wants_help {
        return Ok(Plugin::Here(Command::HelpOf(subcommand.name)));
    }
    if OF_OBJECT.contains(&subcommand.name) && is_without_namespace(&typed) {
        let namespace = super::kubeconfig(&typed).and_then(|kubeconfig| (person.namespace)(&kubeconfig));
        typed.values.insert("namespace", namespace.into_iter().collect());
    }
    // Mistakes are found without a cluster.
    let here = command(subcommand, &typed, env, &mut problems);
    let is_demo = typed.is_set("demo");
    let Some((_, as_in_pod)) = IN_POD.iter().find(|(name, _)| *name == subcommand.name && !is_demo) else {
        return here.filter(|_| problems.is_empty()).map(Plugin::Here).ok_or(Problems(problems));
    };
    if typed.is_set("backup") {
        let fix = "it writes where the database is; kubectl exec runs it there";
        problems.push(format!("sql: --backup is not carried out by the plugin, since {fix}"));
    }
    let every = typed.is_set("watch").then(|| status::interval(&typed, &mut problems)).flatten();
    let place = place(&typed, &mut problems);
    let (Some(here), Some(place), true) = (here, place, problems.is_empty()) else { return Err(Problems(problems)) };
    let files = typed.all("candidate").iter().map(PathBuf::from).collect();
    let otherwise = (subcommand.name == "doctor").then_some(here);
    let remote =
        Remote { place, words: remote_words(subcommand, typed, person.columns), as_in_pod: as_in_pod.to_vec(), files };
    Ok(Plugin::There { remote, every, otherwise })
}

/// Returns where the subcommand is, behind flags of the connection.
fn name_at(words: &[std::ffi::OsString]) -> Result<Option<usize>, Problems> {
    let mut parser = Parser::from_args(words);
    let mut at = 0;
    while let Ok(Some(argument)) = parser.next() {
        let Some(_) = flags::PLUGIN.iter().find(|flag: &&Flag| flag.is(&argument)) else { return Ok(Some(at)) };
        at += 1;
        match parser.optional_value() {
            Some(_) => {}
            None => {
                parser.value().and_then(ValueExt::string).map_err(|error| one(error.to_string()))?;
                at += 1;
            }
        }
    }
    Ok(None)
}

fn is_without_namespace(typed: &Typed<'_>) -> bool {
    let is_one = |operand: &std::ffi::OsString| !operand.to_string_lossy().contains('/');
    !typed.is_set("namespace") && matches!(typed.operands.as_slice(), [operand] if is_one(operand))
}

/// Writes a command line again, without what is meant for this machine.
fn remote_words(subcommand: &Subcommand, mut typed: Typed<'_>, columns: Option<usize>) -> Vec<String> {
    let has_form = ["csv", "json", "output", "width", "all"].iter().any(|flag| typed.is_set(flag));
    if let Some(columns) = columns.filter(|_| !has_form && subcommand.flags.iter().any(|flag| flag.long == "width")) {
        typed.values.insert("width", vec![columns.clamp(40, 300).to_string()]);
    }
    let mut words = vec![subcommand.name.to_owned()];
    let is_here = |long: &str| ["kubeconfig", "context", "service", "watch", "interval"].contains(&long);
    for (long, values) in typed.values.iter().filter(|(long, _)| !is_here(long)) {
        let takes = typed.declared(long).map_or(Takes::Nothing, |flag| flag.takes);
        for value in values {
            words.push(match (takes, *long) {
                (Takes::Nothing, _) => format!("--{long}"),
                // Standard input brings them.
                (_, "candidate") => "--candidate=-".to_owned(),
                _ => format!("--{long}={value}"),
            });
        }
    }
    if !typed.operands.is_empty() {
        words.push("--".to_owned());
        words.extend(typed.operands.iter().map(|operand| operand.to_string_lossy().into_owned()));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::migration::Scope;
    use crate::plugin::Place;

    fn parsed(words: &[&str]) -> Result<Plugin, Problems> {
        let env = |name: &str| (name == "KUBECONFIG").then(|| "/k".to_owned());
        let namespace = |kubeconfig: &Kubeconfig| match &kubeconfig.context {
            Some(context) => Some(format!("of-{context}")),
            None => Some("shop".to_owned()),
        };
        plugin(words.iter().map(OsString::from), Person { env: &env, namespace: &namespace, columns: Some(90) })
    }

    fn remote(words: &[&str]) -> Remote {
        match parsed(words) {
            Ok(Plugin::There { remote, .. }) => remote,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn line(words: &[&str]) -> String {
        remote(words).words.join(" ")
    }

    #[test]
    fn what_needs_the_history_goes_to_the_pod() {
        assert_eq!(line(&["why", "web", "--since", "1h"]), "why --namespace=shop --since=1h -- web");
        assert_eq!(line(&["why", "a/web", "-ojson"]), "why --output=json -- a/web");
        assert_eq!(line(&["why", "-n", "a", "web"]), "why --namespace=a -- web");
        assert_eq!(line(&["history", "web"]), "history --namespace=shop --width=90 -- web");
        assert_eq!(line(&["history", "web", "--csv"]), "history --csv --namespace=shop -- web");
        assert_eq!(line(&["sql", "-o", "csv", "SELECT 1"]), "sql --format=csv -- SELECT 1");
        assert_eq!(line(&["doctor", "--service=a.b"]), "doctor");
        let replay = remote(&[
            "replay",
            "web",
            "--candidate",
            "a.yaml",
            "--set",
            "spec.a=1",
            "--candidate=b.yaml",
            "--width=50",
        ]);
        assert_eq!(
            replay.words.join(" "),
            "replay --candidate=- --candidate=- --namespace=shop --set=spec.a=1 --width=50 -- web"
        );
        assert_eq!(replay.files, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
        assert!(matches!(parsed(&["doctor"]), Ok(Plugin::There { otherwise: Some(Command::Doctor(_)), .. })));
        assert!(matches!(
            parsed(&["status", "-w", "--interval", "2"]),
            Ok(Plugin::There { remote, every: Some(every), .. }) if remote.words == ["status"] && every.as_secs() == 2
        ));
    }

    #[test]
    fn the_connection_is_that_of_kubectl() {
        let flags = ["--context", "prod", "--kubeconfig=/a:/b", "--service", "x.y"];
        let before = remote(&[&flags[..], &["why", "web"]].concat());
        let after = remote(&[&["why", "web"], &flags[..]].concat());
        assert_eq!(before, after);
        assert_eq!(before.words.join(" "), "why --namespace=of-prod -- web");
        let kubeconfig = Kubeconfig { files: vec!["/a".into(), "/b".into()], context: Some("prod".to_owned()) };
        let service = Some(("x".to_owned(), "y".to_owned()));
        assert_eq!(before.place, Place { kubeconfig: Some(kubeconfig), service });
        assert_eq!(remote(&["why", "web"]).place.kubeconfig, Some("/k".into()));
    }

    #[test]
    fn the_rest_runs_here() {
        let Ok(Plugin::Here(Command::Freeze(freeze))) =
            parsed(&["freeze", "web", "--until", "2h", "--reason", "x", "--context", "prod"])
        else {
            panic!("freeze")
        };
        assert_eq!(freeze.scope, Scope::Object { namespace: "of-prod".to_owned(), name: "web".to_owned() });
        assert_eq!(freeze.kubeconfig.and_then(|kubeconfig| kubeconfig.context).as_deref(), Some("prod"));
        assert!(matches!(parsed(&["replay", "--demo"]), Ok(Plugin::Here(Command::Replay(_)))));
        assert!(matches!(parsed(&["check", "-"]), Ok(Plugin::Here(Command::Check { .. }))));
        assert!(matches!(parsed(&["version"]), Ok(Plugin::Here(Command::Version))));
        assert!(matches!(parsed(&["why", "--help"]), Ok(Plugin::Here(Command::HelpOf("why")))));
        assert!(matches!(parsed(&["--help"]), Ok(Plugin::Here(Command::Help))));
    }

    #[test]
    fn mistakes_need_no_cluster() {
        for (bad, expected) in [
            (&["why"][..], "NAMESPACE/NAME"),
            (&["why", "web", "--sinse", "1h"], "--sinse"),
            (&["why", "web", "--service", "x"], "NAME.NAMESPACE"),
            (&["sql", "--backup", "/tmp/x"], "--backup"),
            (&["run"], "pod"),
            (&["--context"], "context"),
            (&["status", "-w", "--interval", "0"], "--interval"),
            (&["fly"], "unknown subcommand"),
        ] {
            let Err(Problems(problems)) = parsed(bad) else { panic!("{bad:?} accepted") };
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{bad:?}: {problems:?}");
        }
    }
}
