//! The flags of `hpalite run`: as typed, and what they mean once they are valid.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::{Command, Problems, is_label, number, service, take};
use crate::config::{Config, UiAddress};
use crate::kube::election::Timing;
use crate::outbound::networks::Network;
use crate::scaling::model::TIMEOUT_MAX;
use crate::store::Retention;
use crate::wire::time::{parse_age, parse_go_duration};

/// Where KEDA's chart mounts further CA certificates.
const CA_DIR: &str = "/custom/ca";
/// More threads than this only wait: each holds a socket and a stack, and Prometheus queues anyway.
const POLL_THREADS_MAX: usize = 256;
/// An empty database has some 200 kB; less than this would keep nothing worth asking.
const DB_SIZE_MIN: u64 = 4_000_000;
/// KEDA reads a default of zero or less as this.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_millis(300);
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
    allow_networks: Vec<String>,
    cluster_namespace: Option<String>,
    filepath_root: Option<String>,
    drain: Option<String>,
    leader_elect: Option<String>,
    keda_metrics: Option<String>,
    cross_namespace_services: Option<String>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
}

pub(super) fn parse(parser: &mut Parser, env: &dyn Fn(&str) -> Option<String>) -> Result<Command, Problems> {
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
            Arg::Long(flag @ ("leader-elect" | "keda-metrics" | "allow-cross-namespace-services")) => {
                let flag = flag.to_owned();
                // As a Go flag: alone it means true, a value is attached.
                let value = parser.optional_value().map_or(Ok("true".to_owned()), ValueExt::string);
                let slot = match flag.as_str() {
                    "leader-elect" => &mut flags.leader_elect,
                    "allow-cross-namespace-services" => &mut flags.cross_namespace_services,
                    _ => &mut flags.keda_metrics,
                };
                match value {
                    Ok(value) => *slot = Some(value),
                    Err(error) => problems.push(format!("--{flag}: {error}")),
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
            Arg::Long("allow-network") => {
                take(parser, "--allow-network", &mut problems, |value| flags.allow_networks.push(value));
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

/// The configuration of a daemon without flags.
pub(super) fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    resolve(Flags::default(), env, &mut problems).filter(|_| problems.is_empty()).ok_or(Problems(problems))
}

fn resolve(flags: Flags, env: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<String>) -> Option<Config> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let pick = |flag: Option<String>, name: &str, default: &str| {
        flag.or_else(|| env(name)).unwrap_or_else(|| default.to_owned())
    };
    let listen = address("--listen", &pick(flags.listen, "HPALITE_LISTEN", "[::]:6443"), problems);
    let http = address("--http", &pick(flags.http, "HPALITE_HTTP", "[::]:8080"), problems);
    let ui = ui_address(flags.ui.or_else(|| env("HPALITE_UI")), problems);
    let service = service(&pick(flags.service, "HPALITE_SERVICE", "hpalite.hpalite"), problems);
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
        Ok(ms) if u64::try_from(ms).is_ok_and(|ms| Duration::from_millis(ms) > TIMEOUT_MAX) => {
            problems.push(format!("--query-timeout: at most {}, as for triggers", TIMEOUT_MAX.as_millis()));
            None
        }
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
    let leader_elect = truth("--leader-elect", &pick(flags.leader_elect, "HPALITE_LEADER_ELECT", "true"), problems);
    let keda_metrics = truth("--keda-metrics", &pick(flags.keda_metrics, "HPALITE_KEDA_METRICS", "true"), problems);
    let across = pick(flags.cross_namespace_services, "HPALITE_ALLOW_CROSS_NAMESPACE_SERVICES", "false");
    let cross_namespace_services = truth("--allow-cross-namespace-services", &across, problems);
    let timing = timing(
        pick(flags.lease_duration, "KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION", "15s"),
        pick(flags.renew_deadline, "KEDA_OPERATOR_LEADER_ELECTION_RENEW_DEADLINE", "10s"),
        pick(flags.retry_period, "KEDA_OPERATOR_LEADER_ELECTION_RETRY_PERIOD", "2s"),
        problems,
    );
    let leader_election = timing.filter(|_| leader_elect);
    let retention = Retention {
        samples: age("--retain-samples", &pick(flags.retain_samples, "HPALITE_RETAIN_SAMPLES", "3d"), problems),
        minutes: age("--retain-minutes", &pick(flags.retain_minutes, "HPALITE_RETAIN_MINUTES", "7d"), problems),
        hours: age("--retain-hours", &pick(flags.retain_hours, "HPALITE_RETAIN_HOURS", "90d"), problems),
        history: age("--retain-history", &pick(flags.retain_history, "HPALITE_RETAIN_HISTORY", "30d"), problems),
        size_max: size("--db-max-size", &pick(flags.db_max_size, "HPALITE_DB_MAX_SIZE", "480MB"), problems),
    };
    let allow_networks = networks(flags.allow_networks, env("HPALITE_ALLOW_NETWORKS"), problems);
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
        allow_networks,
        cluster_namespace: flags.cluster_namespace.or_else(|| env("KEDA_CLUSTER_OBJECT_NAMESPACE")),
        filepath_root: flags.filepath_root.map(PathBuf::from),
        drain: Duration::from_secs(drain?),
        keda_metrics,
        cross_namespace_services,
        leader_election,
    })
}

/// The networks of the flag, or those of the variable, with commas.
pub(super) fn networks(flags: Vec<String>, env: Option<String>, problems: &mut Vec<String>) -> Vec<Network> {
    let listed = env.filter(|_| flags.is_empty()).unwrap_or_default();
    let listed = listed.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut found = Vec::new();
    for text in flags.into_iter().chain(listed) {
        match text.parse() {
            Ok(network) => found.push(network),
            Err(()) => problems
                .push(format!("--allow-network: \"{text}\" is not a network, for example 127.0.0.0/8 or ::1/128")),
        }
    }
    found
}

fn truth(flag: &str, text: &str, problems: &mut Vec<String>) -> bool {
    if !matches!(text, "true" | "false") {
        problems.push(format!("{flag}: \"{text}\" is neither true nor false"));
    }
    text == "true"
}

pub(super) fn address(flag: &str, text: &str, problems: &mut Vec<String>) -> Option<SocketAddr> {
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

fn age(flag: &str, text: &str, problems: &mut Vec<String>) -> Duration {
    parse_age(text).unwrap_or_else(|| {
        problems.push(format!("{flag}: \"{text}\" is not an age: write like 12h or 30d"));
        Duration::ZERO
    })
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

#[cfg(test)]
mod tests {
    use super::super::tests::with_env;
    use super::*;

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
    fn networks_are_allowed_by_flags_or_the_environment() {
        let env = [("HPALITE_ALLOW_NETWORKS", "127.0.0.0/8, ::1,")];
        let told = |arguments: &[&str], env: &[(&str, &str)]| -> Vec<String> {
            config(arguments, env).allow_networks.iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(&["run"], &[]), [""; 0]);
        assert_eq!(told(&["run"], &env), ["127.0.0.0/8", "::1/128"]);
        let flags = ["run", "--allow-network", "169.254.20.10/32", "--allow-network=fe80::/10"];
        assert_eq!(told(&flags, &env), ["169.254.20.10/32", "fe80::/10"]);
        let bad = with_env(&["run", "--allow-network=loopback"], &[]);
        assert!(bad.expect_err("refused").0[0].starts_with("--allow-network: \"loopback\" is not a network"));
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
    fn keda_s_metric_names_are_on_unless_told_otherwise() {
        let across = |arguments: &[&str], env: &[(&str, &str)]| config(arguments, env).cross_namespace_services;
        assert!(!across(&["run"], &[]) && across(&["run", "--allow-cross-namespace-services"], &[]));
        assert!(across(&["run"], &[("HPALITE_ALLOW_CROSS_NAMESPACE_SERVICES", "true")]));
        let long = ["run", "--query-timeout", "30001"];
        let Err(Problems(problems)) = with_env(&long, &[]) else { panic!("accepted") };
        assert_eq!(problems, ["--query-timeout: at most 30000, as for triggers"]);
        let on = |arguments: &[&str], env: &[(&str, &str)]| config(arguments, env).keda_metrics;
        assert!(on(&["run"], &[]) && on(&["run", "--keda-metrics"], &[("HPALITE_KEDA_METRICS", "false")]));
        assert!(!on(&["run", "--keda-metrics=false"], &[]) && !on(&["run"], &[("HPALITE_KEDA_METRICS", "false")]));
        let Err(Problems(problems)) = with_env(&["run", "--keda-metrics=no"], &[]) else { panic!("accepted") };
        assert_eq!(problems, ["--keda-metrics: \"no\" is neither true nor false"]);
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
}
