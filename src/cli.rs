//! The command line: what was typed ([`Flags`]), and what it means once it is valid ([`Config`]).
//!
//! Flags win over environment variables, which win over defaults. Every problem is collected, so
//! that one run shows them all.

mod doctor;
mod history;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use crate::kube::election::Timing;
use crate::store::Retention;
use crate::store::query::Format;
use crate::wire::time::parse_go_duration;

pub use doctor::DoctorArguments;
pub use history::{HistoryArguments, HistoryForm};

/// Shown by `--help`.
pub const HELP: &str = "\
hpalite: Prometheus-driven autoscaling for Kubernetes

Usage: hpalite run [FLAGS]
       hpalite check FILE...
       hpalite sql [FLAGS] STATEMENT
       hpalite why [FLAGS] NAMESPACE/NAME
       hpalite history [FLAGS] NAMESPACE/NAME
       hpalite doctor [FLAGS]
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
  --query-timeout MS     where a trigger sets none; default 3000                        [KEDA_HTTP_DEFAULT_TIMEOUT]
  --ca-dir DIR           more CA certificates for metric servers; repeatable; default /custom/ca if there
  --cluster-namespace NS where ClusterTriggerAuthentications find Secrets; default our own
                                                                                        [KEDA_CLUSTER_OBJECT_NAMESPACE]
  --filepath-auth-root-path DIR
                         root of ClusterTriggerAuthentication filePath; default none
  --leader-elect BOOL    act only while holding the Lease named like --service; default true  [HPALITE_LEADER_ELECT]
  --leader-elect-lease-duration D, --leader-elect-renew-deadline D, --leader-elect-retry-period D
                         defaults 15s, 10s, 2s          [KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION and so on]
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
  --json                 findings as JSON
  Exit code 1 for errors, 2 if the cluster cannot be asked.
";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Command {
    Run(Box<Config>),
    Check { files: Vec<PathBuf>, json: bool },
    Sql(SqlArguments),
    History(HistoryArguments),
    Why(WhyArguments),
    Doctor(DoctorArguments),
    Version,
    Help,
}

/// Arguments of `hpalite sql`.
#[derive(Debug, PartialEq)]
pub struct SqlArguments {
    pub db: PathBuf,
    pub format: Format,
    pub timeout: Duration,
    pub limit: usize,
    pub backup: Option<PathBuf>,
    pub statement: Option<String>,
}

/// Where the page is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiAddress {
    pub address: SocketAddr,
    /// Asked for, so that a port in use is an error; the default one is only missed.
    pub given: bool,
}

/// Arguments of `hpalite why`.
#[derive(Debug, PartialEq)]
pub struct WhyArguments {
    pub db: PathBuf,
    pub namespace: String,
    pub name: String,
    /// As typed: what it means depends on the clock.
    pub at: Option<String>,
    pub since: Option<Duration>,
    pub json: bool,
}

/// A valid configuration of the daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub kubeconfig: Option<PathBuf>,
    pub db: PathBuf,
    pub retention: Retention,
    pub listen: SocketAddr,
    pub http: SocketAddr,
    pub ui: Option<UiAddress>,
    /// Empty means all.
    pub namespaces: Vec<String>,
    pub service: (String, String),
    pub apiservice: String,
    pub tls_files: Option<(PathBuf, PathBuf)>,
    pub poll_threads: usize,
    pub query_timeout: Duration,
    pub ca_dirs: Vec<PathBuf>,
    pub cluster_namespace: Option<String>,
    pub filepath_root: Option<PathBuf>,
    pub drain: Duration,
    /// None: this instance acts whatever others do.
    pub leader_election: Option<Timing>,
}

/// Where KEDA's chart mounts further CA certificates.
const CA_DIR: &str = "/custom/ca";
/// More threads than this only wait: each holds a socket and a stack, and Prometheus queues anyway.
const POLL_THREADS_MAX: usize = 256;
/// An empty database has some 200 kB; less than this would keep nothing worth asking.
const DB_SIZE_MIN: u64 = 4_000_000;
/// KEDA reads a default of zero or less as this.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_millis(300);

/// Everything wrong with a command line, a line each.
#[derive(Debug, PartialEq)]
pub struct Problems(pub Vec<String>);

/// `run` as typed.
#[derive(Debug, Default)]
struct Flags {
    kubeconfig: Option<String>,
    db: Option<String>,
    retain_samples: Option<String>,
    retain_minutes: Option<String>,
    retain_hours: Option<String>,
    retain_history: Option<String>,
    db_max_size: Option<String>,
    listen: Option<String>,
    http: Option<String>,
    ui: Option<String>,
    namespaces: Vec<String>,
    service: Option<String>,
    apiservice: Option<String>,
    tls_cert_file: Option<String>,
    tls_private_key_file: Option<String>,
    poll_threads: Option<String>,
    query_timeout: Option<String>,
    ca_dirs: Vec<String>,
    cluster_namespace: Option<String>,
    filepath_root: Option<String>,
    drain: Option<String>,
    leader_elect: Option<String>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
}

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
        Ok(None) => return Err(one("a subcommand is missing: run, check, sql, why or version; see --help".to_owned())),
        Err(error) => return Err(one(error.to_string())),
    };
    match name.as_str() {
        "run" => run(&mut parser, env),
        "check" => check(&mut parser),
        "sql" => sql(&mut parser, env),
        "why" => why(&mut parser, env),
        "history" => history::parse(&mut parser, env),
        "doctor" => doctor::parse(&mut parser, env),
        "version" => Ok(Command::Version),
        "help" => Ok(Command::Help),
        other => Err(one(format!("unknown subcommand \"{other}\": use run, check, sql, why, history or version"))),
    }
}

fn one(problem: String) -> Problems {
    Problems(vec![problem])
}

fn run(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut flags = Flags::default();
    let mut problems = Vec::new();
    loop {
        let argument = match parser.next() {
            Ok(Some(argument)) => argument,
            Ok(None) => break,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        let slot = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("kubeconfig") => &mut flags.kubeconfig,
            Arg::Long("db") => &mut flags.db,
            Arg::Long("retain-samples") => &mut flags.retain_samples,
            Arg::Long("retain-minutes") => &mut flags.retain_minutes,
            Arg::Long("retain-hours") => &mut flags.retain_hours,
            Arg::Long("retain-history") => &mut flags.retain_history,
            Arg::Long("db-max-size") => &mut flags.db_max_size,
            Arg::Long("listen") => &mut flags.listen,
            Arg::Long("http") => &mut flags.http,
            Arg::Long("ui") => &mut flags.ui,
            Arg::Long("service") => &mut flags.service,
            Arg::Long("apiservice") => &mut flags.apiservice,
            Arg::Long("tls-cert-file") => &mut flags.tls_cert_file,
            Arg::Long("tls-private-key-file") => &mut flags.tls_private_key_file,
            Arg::Long("poll-threads") => &mut flags.poll_threads,
            Arg::Long("query-timeout") => &mut flags.query_timeout,
            Arg::Long("cluster-namespace") => &mut flags.cluster_namespace,
            Arg::Long("filepath-auth-root-path") => &mut flags.filepath_root,
            Arg::Long("drain") => &mut flags.drain,
            Arg::Long("leader-elect-lease-duration") => &mut flags.lease_duration,
            Arg::Long("leader-elect-renew-deadline") => &mut flags.renew_deadline,
            Arg::Long("leader-elect-retry-period") => &mut flags.retry_period,
            Arg::Long("leader-elect") => {
                // As a Go flag: alone it means true, a value is attached.
                let value = parser.optional_value().map_or(Ok("true".to_owned()), ValueExt::string);
                match value {
                    Ok(value) => flags.leader_elect = Some(value),
                    Err(error) => problems.push(format!("--leader-elect: {error}")),
                }
                continue;
            }
            Arg::Long("namespace") => {
                take(parser, "--namespace", &mut problems, |value| flags.namespaces.push(value));
                continue;
            }
            Arg::Long("ca-dir") => {
                take(parser, "--ca-dir", &mut problems, |value| flags.ca_dirs.push(value));
                continue;
            }
            other => {
                problems.push(format!("{}; see --help", other.unexpected()));
                continue;
            }
        };
        take(parser, "flag", &mut problems, |value| *slot = Some(value));
    }
    match resolve(flags, env, &mut problems) {
        Some(config) if problems.is_empty() => Ok(Command::Run(Box::new(config))),
        _ => Err(Problems(problems)),
    }
}

fn take(parser: &mut Parser, what: &str, problems: &mut Vec<String>, set: impl FnOnce(String)) {
    match parser.value().and_then(|value| value.string()) {
        Ok(value) => set(value),
        Err(error) => problems.push(format!("{what}: {error}")),
    }
}

fn resolve(flags: Flags, env: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<String>) -> Option<Config> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let pick = |flag: Option<String>, name: &str, default: &str| {
        flag.or_else(|| env(name)).unwrap_or_else(|| default.to_owned())
    };
    let listen = address("--listen", &pick(flags.listen, "HPALITE_LISTEN", "[::]:6443"), problems);
    let http = address("--http", &pick(flags.http, "HPALITE_HTTP", "[::]:8080"), problems);
    let ui = ui_address(flags.ui.or_else(|| env("HPALITE_UI")), problems);
    let service = pick(flags.service, "HPALITE_SERVICE", "hpalite.hpalite");
    let service = match service.split_once('.') {
        Some((name, namespace)) if is_label(name) && is_label(namespace) => {
            Some((name.to_owned(), namespace.to_owned()))
        }
        _ => {
            problems.push(format!("--service: \"{service}\" is not NAME.NAMESPACE, for example hpalite.hpalite"));
            None
        }
    };
    let mut namespaces = flags.namespaces;
    if namespaces.is_empty() {
        let listed = env("WATCH_NAMESPACE").unwrap_or_default();
        namespaces = listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    }
    for namespace in namespaces.iter().filter(|namespace| !is_label(namespace)) {
        problems.push(format!("--namespace: \"{namespace}\" is not the name of a namespace"));
    }
    let threads = number("--poll-threads", &pick(flags.poll_threads, "HPALITE_POLL_THREADS", "8"), problems);
    if threads.is_some_and(|threads| threads == 0 || threads > POLL_THREADS_MAX as u64) {
        problems.push(format!("--poll-threads: must be between 1 and {POLL_THREADS_MAX}"));
    }
    let timeout = pick(flags.query_timeout, "KEDA_HTTP_DEFAULT_TIMEOUT", "3000");
    let query_timeout = match timeout.parse::<i64>() {
        Ok(ms) => Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)).max(QUERY_TIMEOUT_MIN)),
        Err(_) => {
            problems.push(format!("--query-timeout: \"{timeout}\" is not a number of milliseconds"));
            None
        }
    };
    let tls_files = match (flags.tls_cert_file, flags.tls_private_key_file) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => {
            problems.push("--tls-cert-file and --tls-private-key-file go together: give both".to_owned());
            None
        }
    };
    let drain = number("--drain", &pick(flags.drain, "HPALITE_DRAIN", "2"), problems);
    if drain.is_some_and(|seconds| seconds > 60) {
        problems.push("--drain: at most 60 seconds, so that the pod's grace period can hold it".to_owned());
    }
    let leader_elect = pick(flags.leader_elect, "HPALITE_LEADER_ELECT", "true");
    let timing = timing(
        pick(flags.lease_duration, "KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION", "15s"),
        pick(flags.renew_deadline, "KEDA_OPERATOR_LEADER_ELECTION_RENEW_DEADLINE", "10s"),
        pick(flags.retry_period, "KEDA_OPERATOR_LEADER_ELECTION_RETRY_PERIOD", "2s"),
        problems,
    );
    let leader_election = match leader_elect.as_str() {
        "true" => timing,
        "false" => None,
        other => {
            problems.push(format!("--leader-elect: \"{other}\" is neither true nor false"));
            None
        }
    };
    let retention = Retention {
        samples: age("--retain-samples", &pick(flags.retain_samples, "HPALITE_RETAIN_SAMPLES", "3d"), problems),
        minutes: age("--retain-minutes", &pick(flags.retain_minutes, "HPALITE_RETAIN_MINUTES", "7d"), problems),
        hours: age("--retain-hours", &pick(flags.retain_hours, "HPALITE_RETAIN_HOURS", "90d"), problems),
        history: age("--retain-history", &pick(flags.retain_history, "HPALITE_RETAIN_HISTORY", "30d"), problems),
        size_max: size("--db-max-size", &pick(flags.db_max_size, "HPALITE_DB_MAX_SIZE", "480MB"), problems),
    };
    let mut ca_dirs = flags.ca_dirs;
    if ca_dirs.is_empty() && std::path::Path::new(CA_DIR).is_dir() {
        ca_dirs.push(CA_DIR.to_owned());
    }
    Some(Config {
        kubeconfig: flags.kubeconfig.or_else(|| env("KUBECONFIG")).map(PathBuf::from),
        db: pick(flags.db, "HPALITE_DB", "/data/hpalite.db").into(),
        retention,
        listen: listen?,
        http: http?,
        ui,
        namespaces,
        service: service?,
        apiservice: pick(flags.apiservice, "HPALITE_APISERVICE", "v1beta1.external.metrics.k8s.io"),
        tls_files,
        poll_threads: usize::try_from(threads?).ok()?,
        query_timeout: query_timeout?,
        ca_dirs: ca_dirs.into_iter().map(PathBuf::from).collect(),
        cluster_namespace: flags.cluster_namespace.or_else(|| env("KEDA_CLUSTER_OBJECT_NAMESPACE")),
        filepath_root: flags.filepath_root.map(PathBuf::from),
        drain: Duration::from_secs(drain?),
        leader_election,
    })
}

fn address(flag: &str, text: &str, problems: &mut Vec<String>) -> Option<SocketAddr> {
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            problems.push(format!("{flag}: \"{text}\" is not ADDRESS:PORT, for example [::]:6443 or 127.0.0.1:0"));
            None
        }
    }
}

fn ui_address(text: Option<String>, problems: &mut Vec<String>) -> Option<UiAddress> {
    match text.as_deref() {
        Some("") => None,
        text => Some(UiAddress {
            address: address("--ui", text.unwrap_or("127.0.0.1:8081"), problems)?,
            given: text.is_some(),
        }),
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

/// The durations of the election, as Go writes them. `None` with a problem told.
fn timing(lease: String, renew: String, retry: String, problems: &mut Vec<String>) -> Option<Timing> {
    let mut duration = |flag: &str, text: &str| {
        let nanos = parse_go_duration(text).and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
        if nanos.is_none() {
            problems.push(format!("--leader-elect-{flag}: \"{text}\" is not a duration above zero, for example 15s"));
        }
        nanos.map(Duration::from_nanos)
    };
    let lease_duration = duration("lease-duration", &lease);
    let renew_deadline = duration("renew-deadline", &renew);
    let retry_period = duration("retry-period", &retry);
    let timing =
        Timing { lease_duration: lease_duration?, renew_deadline: renew_deadline?, retry_period: retry_period? };
    if timing.lease_duration < Duration::from_secs(1) {
        problems.push("--leader-elect-lease-duration: at least 1s, a Lease counts in seconds".to_owned());
    }
    // A fifth is room for clocks that run at different speeds and for a request on its way.
    if timing.renew_deadline > timing.lease_duration * 4 / 5 {
        problems.push("--leader-elect-renew-deadline: at most 4/5 of --leader-elect-lease-duration".to_owned());
    }
    if timing.retry_period > timing.renew_deadline / 2 {
        problems.push("--leader-elect-retry-period: at most half of --leader-elect-renew-deadline".to_owned());
    }
    Some(timing)
}

/// `90s`, `15m`, `12h` or `30d`.
fn age(flag: &str, text: &str, problems: &mut Vec<String>) -> Duration {
    let parsed = text.char_indices().last().and_then(|(at, unit)| {
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        text[..at].parse::<u64>().ok()?.checked_mul(seconds)
    });
    parsed.map_or_else(
        || {
            problems.push(format!("{flag}: \"{text}\" is not an age: write a whole number and s, m, h or d, like 30d"));
            Duration::ZERO
        },
        Duration::from_secs,
    )
}

/// Bytes: `480MB`, `2GB`, `1GiB`; `0` for no limit.
fn size(flag: &str, text: &str, problems: &mut Vec<String>) -> u64 {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match &text[digits..] {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" | "Ki" => Some(1 << 10),
        "MiB" | "Mi" => Some(1 << 20),
        "GiB" | "Gi" => Some(1 << 30),
        _ => None,
    };
    let bytes = unit.and_then(|unit: u64| text[..digits].parse::<u64>().ok()?.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes == 0 || bytes >= DB_SIZE_MIN => bytes,
        Some(_) => {
            problems.push(format!("{flag}: at least 4MB, or 0 for no limit"));
            0
        }
        None => {
            problems.push(format!("{flag}: \"{text}\" is not a size: write like 480MB, 2GB or 1Gi, or 0 for no limit"));
            0
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

fn sql(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut problems = Vec::new();
    let (mut db, mut format, mut timeout, mut limit, mut backup) = (None, None, None, None, None);
    let mut statement = None;
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value)),
            Arg::Long("format") => take(parser, "--format", &mut problems, |value| format = Some(value)),
            Arg::Long("timeout") => take(parser, "--timeout", &mut problems, |value| timeout = Some(value)),
            Arg::Long("limit") => take(parser, "--limit", &mut problems, |value| limit = Some(value)),
            Arg::Long("backup") => take(parser, "--backup", &mut problems, |value| backup = Some(value)),
            Arg::Value(text) if statement.is_none() => match text.string() {
                Ok(text) => statement = Some(text),
                Err(error) => problems.push(error.to_string()),
            },
            Arg::Value(_) => problems.push("sql: one statement only; put it in quotes".to_owned()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    let format = match format.as_deref().unwrap_or("table") {
        "table" => Format::Table,
        "csv" => Format::Csv,
        "json" => Format::Json,
        other => {
            problems.push(format!("--format: \"{other}\" is none of table, csv, json"));
            Format::Table
        }
    };
    if statement.is_some() && backup.is_some() {
        problems.push("sql: --backup copies and runs no statement; give one of them".to_owned());
    }
    let timeout = number("--timeout", timeout.as_deref().unwrap_or("10"), &mut problems);
    let limit = number("--limit", limit.as_deref().unwrap_or("1000"), &mut problems);
    if statement.is_none() && backup.is_none() {
        problems
            .push("sql: a statement is missing, for example 'SELECT * FROM v_decision LIMIT 20', or .help".to_owned());
    }
    let db = db.or_else(|| env("HPALITE_DB")).unwrap_or_else(|| "/data/hpalite.db".to_owned());
    match (timeout, limit) {
        (Some(timeout), Some(limit)) if problems.is_empty() => Ok(Command::Sql(SqlArguments {
            db: db.into(),
            format,
            timeout: Duration::from_secs(timeout),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            backup: backup.map(PathBuf::from),
            statement,
        })),
        _ => Err(Problems(problems)),
    }
}

fn why(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
    let mut problems = Vec::new();
    let (mut db, mut at, mut since, mut object, mut json) = (None, None, None, None, false);
    while let Some(argument) = parser.next().map_err(|error| one(error.to_string()))? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("db") => take(parser, "--db", &mut problems, |value| db = Some(value)),
            Arg::Long("at") => take(parser, "--at", &mut problems, |value| at = Some(value)),
            Arg::Long("since") => take(parser, "--since", &mut problems, |value| since = Some(value)),
            Arg::Long("json") => json = true,
            Arg::Value(text) if object.is_none() => object = Some(text.to_string_lossy().into_owned()),
            other => problems.push(format!("{}; see --help", other.unexpected())),
        }
    }
    if at.is_some() && since.is_some() {
        problems.push("why: --at and --since exclude each other: give one".to_owned());
    }
    let since = since.and_then(|text: String| {
        let parsed = crate::explain::when::parse_duration(&text);
        if parsed.is_none() {
            problems.push(format!("--since: \"{text}\" is no duration, write for example 2h, 90m or 7d"));
        }
        parsed
    });
    let object = object.unwrap_or_default();
    let db = db.or_else(|| env("HPALITE_DB")).unwrap_or_else(|| "/data/hpalite.db".to_owned());
    match object.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            if problems.is_empty() {
                return Ok(Command::Why(WhyArguments { db: db.into(), namespace, name, at, since, json }));
            }
        }
        _ => problems.push(format!("why: \"{object}\" is not NAMESPACE/NAME, for example shop/web")),
    }
    Err(Problems(problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_env(arguments: &[&str], env: &[(&str, &str)]) -> Result<Command, Problems> {
        let env: Vec<(String, String)> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(arguments.iter().map(OsString::from), &|name| {
            env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        })
    }

    fn config(arguments: &[&str], env: &[(&str, &str)]) -> Config {
        match with_env(arguments, env) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let config = config(&["run"], &[]);
        assert_eq!(config.db, PathBuf::from("/data/hpalite.db"));
        assert_eq!(
            (config.listen.to_string(), config.http.to_string()),
            ("[::]:6443".to_owned(), "[::]:8080".to_owned())
        );
        assert_eq!(config.service, ("hpalite".to_owned(), "hpalite".to_owned()));
        assert_eq!((config.poll_threads, config.query_timeout), (8, Duration::from_secs(3)));
        assert!(config.namespaces.is_empty() && config.kubeconfig.is_none());
        assert_eq!(config.retention, Retention::default());
    }

    #[test]
    fn ages_and_sizes_are_read_or_told_wrong() {
        let env = [("HPALITE_RETAIN_MINUTES", "90m"), ("HPALITE_DB_MAX_SIZE", "1Gi")];
        let found = config(&["run", "--retain-samples", "12h", "--retain-history=45s"], &env).retention;
        assert_eq!((found.samples, found.minutes), (Duration::from_secs(43_200), Duration::from_secs(5_400)));
        assert_eq!((found.history, found.size_max), (Duration::from_secs(45), 1 << 30));
        assert_eq!(config(&["run", "--db-max-size", "0"], &[]).retention.size_max, 0);
        let wrong = ["run", "--retain-samples", "3 days", "--retain-hours", "d", "--db-max-size", "1MB"];
        let Err(Problems(problems)) = with_env(&wrong, &[]) else { panic!("accepted") };
        for expected in ["--retain-samples: \"3 days\"", "--retain-hours", "--db-max-size: at least 4MB"] {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
        }
    }

    #[test]
    fn flags_win_over_environment_over_defaults() {
        let env = [("HPALITE_DB", "/env.db"), ("WATCH_NAMESPACE", "a, b"), ("KEDA_HTTP_DEFAULT_TIMEOUT", "0")];
        assert_eq!(config(&["run"], &env).db, PathBuf::from("/env.db"));
        assert_eq!(config(&["run"], &env).namespaces, ["a", "b"]);
        assert_eq!(config(&["run"], &env).query_timeout, Duration::from_millis(300));
        let flags = ["run", "--db", "/flag.db", "--namespace", "c", "--namespace=d", "--query-timeout", "5000"];
        assert_eq!(config(&flags, &env).db, PathBuf::from("/flag.db"));
        assert_eq!(config(&flags, &env).namespaces, ["c", "d"]);
        assert_eq!(config(&flags, &env).query_timeout, Duration::from_secs(5));
        // An empty variable is an absent one.
        assert!(config(&["run"], &[("WATCH_NAMESPACE", "")]).namespaces.is_empty());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let flags = [
            "run",
            "--listen",
            "6443",
            "--http",
            "x",
            "--service",
            "hpalite",
            "--namespace",
            "Bad_Name",
            "--poll-threads",
            "0",
            "--query-timeout",
            "soon",
            "--tls-cert-file",
            "a",
            "--nonsense",
            "--drain",
            "999",
            "--leader-elect=maybe",
            "--leader-elect-lease-duration",
            "0s",
            "--leader-elect-retry-period=soon",
        ];
        let Err(Problems(problems)) = with_env(&flags, &[]) else { panic!("accepted") };
        for expected in [
            "--listen",
            "--http",
            "--service",
            "Bad_Name",
            "--poll-threads",
            "--query-timeout",
            "go together",
            "--nonsense",
            "--drain",
            "neither true nor false",
            "lease-duration",
            "retry-period",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
        }
    }

    #[test]
    fn the_election_is_on_unless_told_otherwise() {
        assert_eq!(config(&["run"], &[]).leader_election, Some(Timing::default()));
        assert_eq!(config(&["run", "--leader-elect"], &[]).leader_election, Some(Timing::default()));
        assert_eq!(config(&["run", "--leader-elect=false"], &[]).leader_election, None);
        assert_eq!(config(&["run"], &[("HPALITE_LEADER_ELECT", "false")]).leader_election, None);
        let env = [("KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION", "1m"), ("UNRELATED", "x")];
        let timing = config(&["run", "--leader-elect-renew-deadline=48s"], &env).leader_election.expect("on");
        assert_eq!((timing.lease_duration, timing.renew_deadline), (Duration::from_secs(60), Duration::from_secs(48)));
        for (flag, told) in [
            ("--leader-elect-lease-duration=12s", "renew-deadline: at most 4/5"),
            ("--leader-elect-retry-period=6s", "retry-period: at most half"),
            ("--leader-elect-lease-duration=500ms", "at least 1s"),
        ] {
            let Err(Problems(problems)) = with_env(&["run", flag], &[]) else { panic!("{flag} accepted") };
            assert!(problems.iter().any(|problem| problem.contains(told)), "{flag}: {problems:?}");
        }
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
    fn the_page_is_on_unless_it_is_turned_off() {
        let ui =
            |flags: &[&str], env: &[(&str, &str)]| config(flags, env).ui.map(|ui| (ui.address.to_string(), ui.given));
        assert_eq!(ui(&["run"], &[]), Some(("127.0.0.1:8081".to_owned(), false)));
        assert_eq!(ui(&["run", "--ui", "127.0.0.1:8081"], &[]), Some(("127.0.0.1:8081".to_owned(), true)));
        assert_eq!(ui(&["run", "--ui", ""], &[("HPALITE_UI", "127.0.0.1:1")]), None);
        assert_eq!(ui(&["run"], &[("HPALITE_UI", "[::1]:9")]), Some(("[::1]:9".to_owned(), true)));
        let Err(Problems(problems)) = with_env(&["run", "--ui", "8081"], &[]) else { panic!("accepted") };
        assert!(problems[0].starts_with("--ui: \"8081\""), "{problems:?}");
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
