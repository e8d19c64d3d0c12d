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

pub use doctor::DoctorArguments;
pub use history::{HistoryArguments, HistoryForm};
pub use moving::{TakeoverArguments, UninstallArguments};
pub use run::{Config, UiAddress};
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
  --json                 findings as JSON
  Exit code 1 for errors, 2 for files that cannot be read.

sql: one read-only statement on the recorded history, safe beside the daemon
  --db FILE              as above
  --format F             table, csv or json; default table
  --timeout SECONDS      default 10
  --limit N              rows at most; default 1000
  --backup FILE          write a consistent copy instead
  STATEMENT              SQL, or .tables, .schema, .help

why: what moved an object's replicas, and what holds them, from the recorded history
  --db FILE              as above
  --at TIME              14:03, 14:03:15, RFC 3339 or -5m, in UTC; default now
  --since DURATION       everything since then, for example 2h or 7d
  --json                 as sql/why.md says

history: plot one ScaledObject's values, thresholds, replicas and events, safe beside the daemon
  --db FILE              as above
  --since DURATION       how far back, as 90s, 45m, 2h, 7d; default 2h
  --width N              columns, 40 to 300; default the terminal's, else 80; with --csv or --json how many
                         points at most, up to 2000; default 500
  --ascii                no characters beyond ASCII
  --csv, --json          the points, or everything, instead of a plot
  --group GROUP          keda.sh or keda.k8s.io, where both have an object of this name

doctor: say what is wrong with the installation in a cluster, why, and what mends it; changes nothing
  --kubeconfig FILE, --service NAME.NS, --apiservice NAME
                         as above
  --namespace NS         ScaledObjects and rights in this namespace only
  --listen ADDR          where the daemon's API port can be reached from here; default its own, in its pod
  --db FILE              the daemon's database; default /data/hpalite.db, if it is here
  --json                 checks and findings as JSON
  Exit code 1 for errors, 2 if the cluster cannot be asked.

takeover: let the APIService route to hpalite where KEDA or another adapter has it, once hpalite is ready and
          KEDA's operator is scaled to 0; what was there is put back if metrics cannot be read then
  --kubeconfig FILE, --service NAME.NS, --apiservice NAME
                         as above
  --timeout SECONDS      until they must be; default 60
  --force                although KEDA's operator runs
  --dry-run              say what would be done
  Exit code 1 if refused or put back, 2 if the cluster cannot be asked.

uninstall: take out of the cluster, in the right order, what would hang without hpalite
  --kubeconfig FILE, --service NAME.NS, --apiservice NAME, --timeout SECONDS, --dry-run
                         as above
  --keep-crds            stop hpalite; ScaledObjects, HPAs and CRDs stay, without finalizers
  --delete-scaledobjects they go, with their HPAs, authentications and the CRDs, while hpalite runs; nothing is done
                         without either of the two while there are any
  Exit code 1 if refused or not complete, 2 if the cluster cannot be asked.
";

const SUBCOMMANDS: &str = "run, check, sql, why, history, doctor, takeover, uninstall or version";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Command {
    Run(Box<Config>),
    Check { files: Vec<PathBuf>, json: bool },
    Sql(SqlArguments),
    History(HistoryArguments),
    Why(WhyArguments),
    Doctor(DoctorArguments),
    Takeover(TakeoverArguments),
    Uninstall(UninstallArguments),
    Version,
    Help,
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
    match name.as_str() {
        "run" => run::parse(&mut parser, env),
        "check" => check(&mut parser),
        "sql" => sql::parse(&mut parser, env),
        "why" => why::parse(&mut parser, env),
        "history" => history::parse(&mut parser, env),
        "doctor" => doctor::parse(&mut parser, env),
        "takeover" => moving::takeover(&mut parser, env),
        "uninstall" => moving::uninstall(&mut parser, env),
        "version" => Ok(Command::Version),
        "help" => Ok(Command::Help),
        other => Err(one(format!("unknown subcommand \"{other}\": use {SUBCOMMANDS}"))),
    }
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
    let (mut files, mut json) = (Vec::new(), false);
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("json") => json = true,
            Arg::Value(file) => files.push(file.into()),
            other => return Err(one(format!("{}; see --help", other.unexpected()))),
        }
    }
    if files.is_empty() {
        return Err(one("check: name at least one file, or - for standard input".to_owned()));
    }
    Ok(Command::Check { files, json })
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
