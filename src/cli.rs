//! The command line: which subcommand, and what its arguments mean once they are valid. A file below for each of them.
//!
//! Flags win over environment variables, which win over defaults. Every problem is collected, so
//! that one run shows them all.

mod doctor;
mod history;
mod installation;
mod moving;
mod run;
mod sql;
mod why;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::config::Config;
use crate::history::command::Arguments as HistoryArguments;
pub use doctor::DoctorArguments;
pub use moving::{TakeoverArguments, UninstallArguments};
pub use sql::SqlArguments;
pub use why::WhyArguments;

/// Shown by `--help`.
pub const HELP: &str = "\
hpalite: Prometheus-driven autoscaling for Kubernetes

Usage: hpalite run [FLAGS]
       hpalite check FILE...
       hpalite sql [FLAGS] STATEMENT
       hpalite why [FLAGS] NAMESPACE/NAME
       hpalite history [FLAGS] NAMESPACE/NAME
       hpalite doctor [FLAGS]
       hpalite takeover [FLAGS]
       hpalite uninstall [FLAGS]
       hpalite version

run: scale ScaledObjects until SIGTERM
  --kubeconfig FILE      API server and credentials; default the pod's service account  [KUBECONFIG]
  --db FILE              SQLite state and history; default /data/hpalite.db            [HPALITE_DB]
  --retain-samples AGE   every sample, default 3d: 12h, 30d, ...                        [HPALITE_RETAIN_SAMPLES]
  --retain-minutes AGE   samples rolled up by minute; default 7d                        [HPALITE_RETAIN_MINUTES]
  --retain-hours AGE     samples rolled up by hour; default 90d                         [HPALITE_RETAIN_HOURS]
  --retain-history AGE   decisions, replica changes, errors; default 30d                [HPALITE_RETAIN_HISTORY]
  --db-max-size SIZE     beyond it the oldest go, samples first; default 480MB, 0: none [HPALITE_DB_MAX_SIZE]
  --listen ADDR          aggregated API over TLS; default [::]:6443                     [HPALITE_LISTEN]
  --http ADDR            health and metrics, plain HTTP; default [::]:8080              [HPALITE_HTTP]
  --ui ADDR              read-only page, plain HTTP; default 127.0.0.1:8081, '' for none   [HPALITE_UI]
  --namespace NS         watch this namespace only; repeatable; default all             [WATCH_NAMESPACE, comma-separated]
  --service NAME.NS      Service that the API server reaches us by; default hpalite.hpalite  [HPALITE_SERVICE]
  --apiservice NAME      APIService whose caBundle we keep; default v1beta1.external.metrics.k8s.io
                                                                                        [HPALITE_APISERVICE]
  --tls-cert-file FILE, --tls-private-key-file FILE
                         serve this certificate instead of making one
  --poll-threads N       queries under way at once; default 8                           [HPALITE_POLL_THREADS]
  --query-timeout MS     where a trigger sets none; default 3000, at most 30000         [KEDA_HTTP_DEFAULT_TIMEOUT]
  --ca-dir DIR           more CA certificates for metric servers; repeatable; default /custom/ca if there
  --allow-network CIDR   let triggers ask loopback, link-local or metadata addresses in it; repeatable; default none
                                                                                        [HPALITE_ALLOW_NETWORKS, comma-separated]
  --cluster-namespace NS where ClusterTriggerAuthentications find Secrets; default our own
                                                                                        [KEDA_CLUSTER_OBJECT_NAMESPACE]
  --filepath-auth-root-path DIR
                         root of ClusterTriggerAuthentication filePath; default none
  --leader-elect=BOOL    act only while holding the Lease named like --service; default true  [HPALITE_LEADER_ELECT]
  --leader-elect-lease-duration D, --leader-elect-renew-deadline D, --leader-elect-retry-period D
                         defaults 15s, 10s, 2s          [KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION and so on]
  --allow-cross-namespace-services=BOOL
                         aggregateFromKubeServiceEndpoints asks Services of other namespaces too; default false
                                                                          [HPALITE_ALLOW_CROSS_NAMESPACE_SERVICES]
  --keda-metrics=BOOL    KEDA's metric names on /metrics too; default true              [HPALITE_KEDA_METRICS]
  --drain SECONDS        go on serving after SIGTERM while endpoints spread; default 2  [HPALITE_DRAIN]
  Log level: RUST_LOG, default info.

check: say what is wrong with manifests, without a cluster
  FILE                   YAML or JSON, `-` for standard input
  --json, -o json        findings as JSON
  Exit code 1 for errors, 2 for files that cannot be read.

sql: one read-only statement on the recorded history, safe beside the daemon
  --db FILE              the daemon's database; default /data/hpalite.db                [HPALITE_DB]
  --format F, -o F       table, csv or json; default table
  --timeout SECONDS      default 10
  --limit N              rows at most; default 1000
  --backup FILE          write a consistent copy instead
  STATEMENT              SQL, or .tables, .schema, .help

why: what moved an object's replicas, and what holds them, from the recorded history
  NAMESPACE/NAME         the ScaledObject; also as -n NAMESPACE NAME, with --namespace for -n
  --db FILE              the daemon's database; default /data/hpalite.db                [HPALITE_DB]
  --at TIME              14:03, 14:03:15, RFC 3339 or -5m, in UTC; default now
  --since DURATION       everything since then, for example 2h or 7d
  --json, -o json        as sql/why.md says

history: plot one ScaledObject's values, thresholds, replicas and events, safe beside the daemon
  NAMESPACE/NAME         the ScaledObject; also as -n NAMESPACE NAME, with --namespace for -n
  --db FILE              the daemon's database; default /data/hpalite.db                [HPALITE_DB]
  --since DURATION       how far back, as 90s, 45m, 2h, 7d; default 2h
  --width N              columns, 40 to 300; default the terminal's, else 80; with --csv or --json how many
                         points at most, up to 2000; default 500
  --ascii                no characters beyond ASCII
  --csv, --json          the points, or everything, instead of a plot; also -o csv, -o json
  --group GROUP          keda.sh or keda.k8s.io, where both have an object of this name

doctor: say what is wrong with the installation in a cluster, why, and what mends it; changes nothing
  --kubeconfig FILE      API server and credentials; default the pod's service account  [KUBECONFIG]
  --service NAME.NS      Service of hpalite; default hpalite.hpalite                    [HPALITE_SERVICE]
  --apiservice NAME      default v1beta1.external.metrics.k8s.io                        [HPALITE_APISERVICE]
  --namespace NS, -n NS  ScaledObjects and rights in this namespace only
  --listen ADDR          where the daemon's API port can be reached from here; default its own, in its pod
  --db FILE              the daemon's database; default /data/hpalite.db, if it is here
  --allow-network CIDR   as the daemon has it
  --json, -o json        checks and findings as JSON
  Exit code 1 for errors, 2 if the cluster cannot be asked.

takeover: let the APIService route to hpalite where KEDA or another adapter has it, once hpalite is ready and
          KEDA's operator is scaled to 0; what was there is put back if metrics cannot be read then
  --kubeconfig FILE      API server and credentials; default the pod's service account  [KUBECONFIG]
  --service NAME.NS      Service of hpalite; default hpalite.hpalite                    [HPALITE_SERVICE]
  --apiservice NAME      default v1beta1.external.metrics.k8s.io                        [HPALITE_APISERVICE]
  --timeout SECONDS      until they must be; default 60
  --force                although KEDA's operator runs
  --leave-unserved       although objects of KEDA are there that hpalite does not run, such as ScaledJobs
  --dry-run              say what would be done
  Exit code 1 if refused or put back, 2 if the cluster cannot be asked.

uninstall: take out of the cluster, in the right order, what would hang without hpalite
  --kubeconfig FILE      API server and credentials; default the pod's service account  [KUBECONFIG]
  --service NAME.NS      Service of hpalite; default hpalite.hpalite                    [HPALITE_SERVICE]
  --apiservice NAME      default v1beta1.external.metrics.k8s.io                        [HPALITE_APISERVICE]
  --timeout SECONDS      until it must be done; default 60
  --dry-run              say what would be done
  --keep-crds            stop hpalite; ScaledObjects, HPAs and CRDs stay, without finalizers
  --delete-scaledobjects they go, with their HPAs, authentications and the CRDs, while hpalite runs; nothing is done
                         without either of the two while there are any
  Exit code 1 if refused or not complete, 2 if the cluster cannot be asked.
";

/// The part of [`HELP`] that is about one subcommand: how it is called, and its section.
#[must_use]
pub fn help_of(subcommand: &str) -> String {
    let call = format!("hpalite {subcommand}");
    let is_call = |line: &&str| line.strip_prefix(&*call).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let calls = HELP.lines().map(|line| line.trim_start_matches("Usage:").trim_start()).filter(is_call);
    let head = format!("{subcommand}: ");
    let section = HELP.split("\n\n").find(|section| section.starts_with(&head));
    let usage: Vec<String> = calls.map(|call| format!("Usage: {call}\n")).collect();
    format!("{}\n{}\n", usage.concat(), section.unwrap_or("prints the version").trim_end())
}

const SUBCOMMANDS: &str = "run, check, sql, why, history, doctor, takeover, uninstall or version";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Command {
    Run(Box<Config>),
    Check {
        files: Vec<PathBuf>,
        json: bool,
    },
    Sql(SqlArguments),
    History(HistoryArguments),
    Why(WhyArguments),
    Doctor(DoctorArguments),
    Takeover(TakeoverArguments),
    Uninstall(UninstallArguments),
    Version,
    Help,
    /// Of one subcommand.
    HelpOf(&'static str),
}

/// Everything wrong with a command line, a line each.
#[derive(Debug, PartialEq)]
pub struct Problems(pub Vec<String>);

/// Parses the arguments after the program's name. `env` looks variables up.
///
/// # Errors
/// Every problem at once.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, Problems> {
    let mut parser = Parser::from_args(arguments);
    let name = match parser.next() {
        Ok(Some(Arg::Value(value))) => value.string().map_err(|error| one(error.to_string()))?,
        Ok(Some(Arg::Short('h') | Arg::Long("help"))) => return Ok(Command::Help),
        Ok(Some(Arg::Short('V') | Arg::Long("version"))) => return Ok(Command::Version),
        Ok(Some(other)) => return Err(one(format!("{}; see --help", other.unexpected()))),
        Ok(None) => return Err(one(format!("a subcommand is missing: {SUBCOMMANDS}; see --help"))),
        Err(error) => return Err(one(error.to_string())),
    };
    let parsed = match name.as_str() {
        "run" => run::parse(&mut parser, env),
        "check" => check(&mut parser),
        "sql" => sql::parse(&mut parser, env),
        "why" => why::parse(&mut parser, env),
        "history" => history::parse(&mut parser, env),
        "doctor" => doctor::parse(&mut parser, env),
        "takeover" => moving::takeover(&mut parser, env),
        "uninstall" => moving::uninstall(&mut parser, env),
        "version" => match parser.next() {
            Ok(Some(Arg::Short('h') | Arg::Long("help"))) => Ok(Command::Help),
            _ => Ok(Command::Version),
        },
        // `help why` is `why --help`.
        "help" => match parser.next() {
            Ok(Some(Arg::Value(of))) => return help(&of.to_string_lossy()),
            _ => return Ok(Command::Help),
        },
        other => Err(unknown(other)),
    };
    if parsed == Ok(Command::Help) { help(&name) } else { parsed }
}

fn help(subcommand: &str) -> Result<Command, Problems> {
    const NAMES: [&str; 9] = ["run", "check", "sql", "why", "history", "doctor", "takeover", "uninstall", "version"];
    NAMES.into_iter().find(|name| *name == subcommand).map(Command::HelpOf).ok_or_else(|| unknown(subcommand))
}

fn unknown(subcommand: &str) -> Problems {
    one(format!("unknown subcommand \"{subcommand}\": use {SUBCOMMANDS}"))
}

/// `NAMESPACE/NAME`, or the name alone where `-n` gives the namespace.
fn object(
    subcommand: &str,
    namespace: Option<String>,
    object: Option<String>,
    problems: &mut Vec<String>,
) -> Option<(String, String)> {
    let object = object.unwrap_or_default();
    let found = match (object.split_once('/'), &namespace) {
        (Some((within, name)), None) => Some((within.to_owned(), name.to_owned())),
        (Some((within, name)), Some(namespace)) if within == namespace => Some((within.to_owned(), name.to_owned())),
        (Some((within, _)), Some(namespace)) => {
            problems
                .push(format!("{subcommand}: \"{object}\" is in {within}, and -n says {namespace}: write one of them"));
            return None;
        }
        (None, Some(namespace)) => Some((namespace.clone(), object.clone())),
        (None, None) => None,
    };
    let found = found.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    if found.is_none() {
        problems.push(format!(
            "{subcommand}: \"{object}\" is not NAMESPACE/NAME, for example shop/web; -n shop web will do as well"
        ));
    }
    found
}

/// The value of `-o`, if it is one of `known`.
fn output(parser: &mut Parser, known: &[&'static str], problems: &mut Vec<String>) -> Option<&'static str> {
    let mut found = None;
    let mut unknown = None;
    take(parser, "-o", problems, |value| match known.iter().find(|known| **known == value) {
        Some(known) => found = Some(*known),
        None => unknown = Some(format!("-o: \"{value}\" is none of {}", known.join(", "))),
    });
    problems.extend(unknown);
    found
}

fn one(problem: String) -> Problems {
    Problems(vec![problem])
}

fn take(parser: &mut Parser, what: &str, problems: &mut Vec<String>, set: impl FnOnce(String)) {
    match parser.value().and_then(|value| value.string()) {
        Ok(value) => set(value),
        Err(error) => problems.push(format!("{what}: {error}")),
    }
}

fn number(flag: &str, text: &str, problems: &mut Vec<String>) -> Option<u64> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => {
            problems.push(format!("{flag}: \"{text}\" is not a whole number"));
            None
        }
    }
}

/// An RFC 1123 label: what namespaces and Services are named by.
fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn check(parser: &mut Parser) -> Result<Command, Problems> {
    let (mut files, mut json, mut problems) = (Vec::new(), false, Vec::new());
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("json") => json = true,
            Arg::Short('o') | Arg::Long("output") => json |= output(parser, &["json"], &mut problems).is_some(),
            Arg::Value(file) => files.push(file.into()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    if files.is_empty() {
        problems.push("check: name at least one file, or - for standard input".to_owned());
    }
    if problems.is_empty() { Ok(Command::Check { files, json }) } else { Err(Problems(problems)) }
}

/// `NAME.NAMESPACE` of our Service.
fn service(text: &str, problems: &mut Vec<String>) -> Option<(String, String)> {
    match text.split_once('.') {
        Some((name, namespace)) if is_label(name) && is_label(namespace) => {
            Some((name.to_owned(), namespace.to_owned()))
        }
        _ => {
            problems.push(format!("--service: \"{text}\" is not NAME.NAMESPACE, for example hpalite.hpalite"));
            None
        }
    }
}

/// The database of the daemon beside which something is asked.
fn database(flag: Option<String>, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    flag.or_else(|| env("HPALITE_DB")).unwrap_or_else(|| "/data/hpalite.db".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn with_env(arguments: &[&str], env: &[(&str, &str)]) -> Result<Command, Problems> {
        let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(arguments.iter().map(OsString::from), &|name| {
            env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn subcommands_are_told_apart() {
        assert_eq!(with_env(&["version"], &[]), Ok(Command::Version));
        assert_eq!(with_env(&["--help"], &[]), Ok(Command::Help));
        assert!(
            matches!(with_env(&["check", "a.yaml", "-", "--json"], &[]), Ok(Command::Check { json: true, files }) if files.len() == 2)
        );
        assert!(with_env(&["check"], &[]).is_err());
        assert!(matches!(with_env(&["sql", "SELECT 1"], &[]), Ok(Command::Sql(_))));
        assert!(with_env(&["sql", "--format", "xml", "SELECT 1"], &[]).is_err());
        assert!(with_env(&["sql"], &[]).is_err());
        assert!(with_env(&["sql", "--backup", "copy.db", "SELECT 1"], &[]).is_err());
        assert!(with_env(&[], &[]).is_err());
        assert!(with_env(&["fly"], &[]).is_err());
    }

    #[test]
    fn the_help_of_a_subcommand_is_about_it_alone() {
        for name in ["run", "check", "sql", "why", "history", "doctor", "takeover", "uninstall"] {
            for arguments in [&[name, "--help"][..], &[name, "-h"], &["help", name]] {
                assert_eq!(with_env(arguments, &[]), Ok(Command::HelpOf(name)), "{arguments:?}");
            }
            let help = help_of(name);
            let section = format!("\n{name}: ");
            assert!(help.starts_with(&format!("Usage: hpalite {name} ")) && help.contains(&section), "{help}");
            assert!(!help.contains("as above"), "{help}");
            let others = ["run", "check", "sql", "why", "history", "doctor", "takeover", "uninstall"];
            for other in others.iter().filter(|other| **other != name) {
                assert!(!help.contains(&format!("\n{other}: ")), "{help}");
            }
        }
        assert_eq!(with_env(&["help"], &[]), Ok(Command::Help));
        assert!(with_env(&["help", "fly"], &[]).is_err());
    }

    #[test]
    fn flags_of_kubectl_work_beside_ours() {
        let same = |ours: &[&str], theirs: &[&str]| {
            let parsed = with_env(ours, &[]);
            assert!(parsed.is_ok(), "{ours:?}: {parsed:?}");
            assert_eq!(parsed, with_env(theirs, &[]), "{theirs:?}");
        };
        for name in ["why", "history"] {
            same(&[name, "shop/web", "--json"], &[name, "-n", "shop", "web", "-o", "json"]);
            same(&[name, "shop/web"], &[name, "web", "--namespace=shop"]);
            same(&[name, "shop/web"], &[name, "-nshop", "shop/web"]);
            for wrong in [
                &[name, "web"][..],
                &[name, "-n", "a", "shop/web"],
                &[name, "shop/web", "-o", "yaml"],
                &[name, "-n", "shop"],
            ] {
                assert_eq!(with_env(wrong, &[]).expect_err("it is wrong").0.len(), 1, "{wrong:?}");
            }
        }
        same(&["history", "shop/web", "--csv"], &["history", "shop/web", "-o", "csv"]);
        same(&["doctor", "--json", "--namespace", "shop"], &["doctor", "-o", "json", "-n", "shop"]);
        same(&["check", "a", "--json"], &["check", "-o=json", "a"]);
        same(&["sql", "--format", "json", "SELECT 1"], &["sql", "-o", "json", "SELECT 1"]);
    }

    #[test]
    fn the_help_names_every_flag() {
        for flag in [
            "kubeconfig",
            "db",
            "retain-samples",
            "retain-minutes",
            "retain-hours",
            "retain-history",
            "db-max-size",
            "listen",
            "http",
            "namespace",
            "service",
            "apiservice",
            "tls-cert-file",
            "tls-private-key-file",
            "poll-threads",
            "query-timeout",
            "ca-dir",
            "allow-network",
            "cluster-namespace",
            "filepath-auth-root-path",
            "drain",
            "keda-metrics",
            "allow-cross-namespace-services",
            "leader-elect",
            "leader-elect-lease-duration",
            "leader-elect-renew-deadline",
            "leader-elect-retry-period",
            "ui",
            "since",
            "width",
            "ascii",
            "csv",
            "group",
        ] {
            assert!(HELP.contains(&format!("--{flag}")), "{flag}");
        }
    }
}
