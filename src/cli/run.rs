//! Parses and validates the flags of `hpalite run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::flags::{RUN, Takes};
use super::typed::Typed;
use super::{Command, is_label, number, service};
use crate::config::{AdapterSettings, Config, UiAddress};
use crate::kube::election::Timing;
use crate::logfmt::{Style as LogStyle, Time};
use crate::outbound::networks::Network;
use crate::scaling::model::TIMEOUT_MAX;
use crate::scaling::schedule::Limits;
use crate::store::Retention;
use crate::tls::Version as TlsVersion;
use crate::wire::Servers;
use crate::wire::labels::Selector;
use crate::wire::time::{parse_age, parse_go_duration};

/// Where KEDA's chart mounts additional CA certificates.
const CA_DIR: &str = "/custom/ca";
/// More threads than this would only wait: each holds a socket and a stack, and Prometheus queues queries anyway.
const POLL_THREADS_MAX: usize = 256;
/// An empty database has some 200 kB; a smaller limit than this would keep no useful history.
const DB_SIZE_MIN: u64 = 4_000_000;
/// Each list is a question to Prometheus for each rule.
const RELIST_MIN: Duration = Duration::from_secs(1);
/// KEDA replaces a default of zero or less by this.
const QUERY_TIMEOUT_MIN: Duration = Duration::from_millis(300);

pub(super) fn parse(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Command> {
    resolve(typed, problems).map(|config| Command::Run(Box::new(config)))
}

/// Returns the configuration of a daemon without flags, or `None` after reporting a problem.
pub(super) fn from_environment(env: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<String>) -> Option<Config> {
    resolve(&Typed::nothing(&RUN, env), problems)
}

fn resolve(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Config> {
    let listen = address("--listen", &typed.value("listen"), problems);
    let http = address("--http", &typed.value("http"), problems);
    let ui = ui_address(typed, problems);
    let service = service(&typed.value("service"), problems);
    let namespaces = typed.listed("namespace");
    for namespace in namespaces.iter().filter(|namespace| !is_label(namespace)) {
        problems.push(format!("--namespace: \"{namespace}\" is not the name of a namespace"));
    }
    let object_selector = selector(typed, "watch-label-selector", problems);
    let authentication_selector = selector(typed, "watch-label-selector-for-triggerauth", problems);
    let tls_min = tls_version(typed, "tls-min-version", problems);
    let http_tls_min = tls_version(typed, "http-min-tls-version", problems);
    let threads = number("--poll-threads", &typed.value("poll-threads"), problems);
    if threads.is_some_and(|threads| threads == 0 || threads > POLL_THREADS_MAX as u64) {
        problems.push(format!("--poll-threads: must be between 1 and {POLL_THREADS_MAX}"));
    }
    let timeout = typed.value("query-timeout");
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
    let tls_files = match (typed.flag("tls-cert-file"), typed.flag("tls-private-key-file")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => {
            problems.push("--tls-cert-file and --tls-private-key-file go together: give both".to_owned());
            None
        }
    };
    let drain = number("--drain", &typed.value("drain"), problems);
    if drain.is_some_and(|seconds| seconds > 60) {
        problems.push("--drain: at most 60 seconds, so that the pod's grace period can hold it".to_owned());
    }
    let leader_elect = truth(typed, "leader-elect", problems);
    let groups_queries = truth(typed, "group-queries", problems);
    let custom_metrics = truth(typed, "custom-metrics", problems);
    let keda_metrics = truth(typed, "keda-metrics", problems);
    let explains_all_hpas = truth(typed, "explain-all-hpas", problems);
    let is_shadow = truth(typed, "shadow", problems);
    let cross_namespace_services = truth(typed, "allow-cross-namespace-services", problems);
    let keep_alive = !truth(typed, "http-disable-keep-alive", problems);
    let instance_metadata = truth(typed, "instance-metadata", problems);
    let timing = timing(typed, problems);
    let leader_election = timing.filter(|_| leader_elect);
    let retention = Retention {
        samples: age(typed, "retain-samples", problems),
        minutes: age(typed, "retain-minutes", problems),
        hours: age(typed, "retain-hours", problems),
        history: age(typed, "retain-history", problems),
        size_max: size("--db-max-size", &typed.value("db-max-size"), problems),
    };
    let mut limit = |flag| number(&format!("--{flag}"), &typed.value(flag), problems);
    let (rate, concurrency) = (limit("prometheus-max-qps"), limit("prometheus-max-concurrency"));
    let allow_networks = networks(typed, problems);
    let servers = super::servers(typed, problems);
    let adapter = adapter(typed, servers.as_ref(), query_timeout, problems);
    let forward = service.as_ref().and_then(|service| super::forward::parse(typed, service, problems));
    Some(Config {
        kubeconfig: typed.given("kubeconfig").map(PathBuf::from),
        db: typed.value("db").into(),
        retention,
        listen: listen?,
        http: http?,
        ui,
        is_shadow,
        namespaces,
        object_selector,
        authentication_selector,
        service: service?,
        apiservice: typed.value("apiservice"),
        tls_files,
        tls_min,
        http_tls_min,
        keep_alive,
        log: LogStyle {
            is_json: choice(typed, "log-format", problems) == "json",
            time: Time::named(&choice(typed, "log-time-encoding", problems)),
        },
        poll_threads: usize::try_from(threads?).ok()?,
        #[allow(clippy::cast_precision_loss)]
        server_limits: Limits {
            rate: Some(rate? as f64).filter(|rate| *rate > 0.0),
            concurrency: usize::try_from(concurrency?).ok().filter(|most| *most > 0),
        },
        groups_queries,
        servers: servers?,
        custom_metrics: custom_metrics || adapter.is_some(),
        explains_all_hpas,
        adapter,
        forward,
        query_timeout: query_timeout?,
        ca_dirs: ca_dirs(typed),
        allow_networks,
        instance_metadata,
        identity_servers: typed.listed("identity-server"),
        cluster_namespace: typed.given("cluster-namespace"),
        filepath_root: typed.flag("filepath-auth-root-path").map(PathBuf::from),
        drain: Duration::from_secs(drain?),
        keda_metrics,
        cross_namespace_services,
        leader_election,
    })
}

/// Returns the value of a flag that has one of several values, which the parser has not checked where it comes from a
/// variable.
fn choice(typed: &Typed<'_>, long: &str, problems: &mut Vec<String>) -> String {
    let value = typed.value(long);
    let takes = typed.declared(long).map(|flag| flag.takes);
    if let Some(Takes::OneOf(known)) = takes
        && !known.contains(&value.as_str())
    {
        problems.push(format!("--{long}: \"{value}\" is none of {}", known.join(", ")));
    }
    value
}

fn tls_version(typed: &Typed<'_>, long: &str, problems: &mut Vec<String>) -> TlsVersion {
    // Nothing older than 1.2 is spoken.
    if choice(typed, long, problems) == "TLS13" { TlsVersion::Tls13 } else { TlsVersion::Tls12 }
}

fn selector(typed: &Typed<'_>, long: &str, problems: &mut Vec<String>) -> Option<String> {
    // KEDA's chart writes an empty value as two quotes.
    let text = typed.given(long).filter(|text| !text.trim().is_empty() && text != "\"\"")?;
    if let Err(error) = Selector::parse(&text) {
        problems.push(format!(
            "--{long}: \"{text}\" is no label selector, such as \"team=shop\" or \"tier in (a,b)\": {error}"
        ));
    }
    Some(text)
}

/// Returns the directories of CA certificates.
pub(super) fn ca_dirs(typed: &Typed<'_>) -> Vec<PathBuf> {
    let given = typed.all("ca-dir");
    let usual = given.is_empty() && std::path::Path::new(CA_DIR).is_dir();
    given.iter().map(String::as_str).chain(usual.then_some(CA_DIR)).map(PathBuf::from).collect()
}

/// Parses what belongs to the rules of prometheus-adapter.
fn adapter(
    typed: &Typed<'_>,
    servers: Option<&Servers>,
    query_timeout: Option<Duration>,
    problems: &mut Vec<String>,
) -> Option<AdapterSettings> {
    let mut duration = |flag: &str, text: &str| {
        let nanos = parse_go_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
        let found = nanos.map(Duration::from_nanos).filter(|found| *found >= RELIST_MIN);
        if found.is_none() {
            problems.push(format!("--{flag}: \"{text}\" is not a duration of at least 1s, for example 10m"));
        }
        found
    };
    let relist_interval = duration("metrics-relist-interval", &typed.value("metrics-relist-interval"));
    let max_age = match typed.given("metrics-max-age") {
        Some(text) => duration("metrics-max-age", &text),
        None => relist_interval,
    };
    if max_age.is_some_and(|age| relist_interval.is_some_and(|interval| age < interval)) {
        problems.push("--metrics-max-age: at least --metrics-relist-interval, or metrics come and go".to_owned());
    }
    let config = PathBuf::from(typed.given("adapter-config")?);
    let Some(server) = servers?.default_url() else {
        problems
            .push("--adapter-config: its rules ask the server of --prometheus-server, which is not given".to_owned());
        return None;
    };
    Some(AdapterSettings {
        config,
        server: server.to_owned(),
        relist_interval: relist_interval?,
        max_age: max_age?,
        query_timeout: query_timeout?,
    })
}

pub(super) fn networks(typed: &Typed<'_>, problems: &mut Vec<String>) -> Vec<Network> {
    let mut found = Vec::new();
    for text in typed.listed("allow-network") {
        match text.parse() {
            Ok(network) => found.push(network),
            Err(()) => problems
                .push(format!("--allow-network: \"{text}\" is not a network, for example 127.0.0.0/8 or ::1/128")),
        }
    }
    found
}

fn truth(typed: &Typed<'_>, long: &str, problems: &mut Vec<String>) -> bool {
    let text = typed.value(long);
    if !matches!(text.as_str(), "true" | "false") {
        problems.push(format!("--{long}: \"{text}\" is neither true nor false"));
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

fn ui_address(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<UiAddress> {
    let text = typed.value("ui");
    if text.is_empty() {
        return None;
    }
    Some(UiAddress { address: address("--ui", &text, problems)?, given: typed.given("ui").is_some() })
}

/// Parses the durations of the election in Go's notation; returns `None` after reporting a problem.
fn timing(typed: &Typed<'_>, problems: &mut Vec<String>) -> Option<Timing> {
    let mut duration = |flag: &str| {
        let text = typed.value(&format!("leader-elect-{flag}"));
        let nanos = parse_go_duration(&text).and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
        if nanos.is_none() {
            problems.push(format!("--leader-elect-{flag}: \"{text}\" is not a duration above zero, for example 15s"));
        }
        nanos.map(Duration::from_nanos)
    };
    let lease_duration = duration("lease-duration");
    let renew_deadline = duration("renew-deadline");
    let retry_period = duration("retry-period");
    let timing =
        Timing { lease_duration: lease_duration?, renew_deadline: renew_deadline?, retry_period: retry_period? };
    if timing.lease_duration < Duration::from_secs(1) {
        problems.push("--leader-elect-lease-duration: at least 1s, a Lease counts in seconds".to_owned());
    }
    // The remaining fifth covers clocks that run at different speeds and a request in flight.
    if timing.renew_deadline > timing.lease_duration * 4 / 5 {
        problems.push("--leader-elect-renew-deadline: at most 4/5 of --leader-elect-lease-duration".to_owned());
    }
    if timing.retry_period > timing.renew_deadline / 2 {
        problems.push("--leader-elect-retry-period: at most half of --leader-elect-renew-deadline".to_owned());
    }
    Some(timing)
}

fn age(typed: &Typed<'_>, long: &str, problems: &mut Vec<String>) -> Duration {
    let text = typed.value(long);
    parse_age(&text).unwrap_or_else(|| {
        problems.push(format!("--{long}: \"{text}\" is not an age: write like 12h or 30d"));
        Duration::ZERO
    })
}

/// Parses a size in bytes: `480MB`, `2GB`, `1GiB`; `0` for no limit.
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
    use crate::cli::Problems;

    fn config(arguments: &[&str], env: &[(&str, &str)]) -> Config {
        match with_env(arguments, env) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = config(&["run"], &[]);
        assert_eq!(config.db, PathBuf::from("/data/hpalite.db"));
        assert_eq!(
            (config.listen.to_string(), config.http.to_string()),
            ("[::]:6443".to_owned(), "[::]:8080".to_owned())
        );
        assert_eq!(config.service, ("hpalite".to_owned(), "hpalite".to_owned()));
        assert_eq!((config.poll_threads, config.query_timeout), (32, Duration::from_secs(3)));
        assert!(config.namespaces.is_empty() && config.kubeconfig.is_none());
        assert_eq!(config.retention, Retention::default());
    }

    #[test]
    fn ages_and_sizes_are_parsed_or_reported() {
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
        // An empty variable counts as absent.
        assert!(config(&["run"], &[("WATCH_NAMESPACE", "")]).namespaces.is_empty());
    }

    #[test]
    fn rules_of_prometheus_adapter_need_a_server() {
        assert_eq!(config(&["run"], &[("HPALITE_PROMETHEUS_SERVER", "http://p")]).adapter, None);
        let env = [("HPALITE_PROMETHEUS_SERVER", "http://p"), ("HPALITE_ADAPTER_CONFIG", "/etc/adapter/config.yaml")];
        let found = config(&["run", "--metrics-relist-interval=1m"], &env).adapter.expect("rules");
        assert_eq!((found.server.as_str(), found.config.to_str()), ("http://p", Some("/etc/adapter/config.yaml")));
        assert_eq!((found.relist_interval, found.max_age), (Duration::from_secs(60), Duration::from_secs(60)));
        for (flags, words) in [
            (vec!["--adapter-config=x"], "--prometheus-server, which is not given"),
            (vec!["--metrics-relist-interval=0s"], "at least 1s"),
            (vec!["--metrics-max-age=soon"], "\"soon\" is not a duration"),
            (vec!["--metrics-relist-interval=10m", "--metrics-max-age=5m"], "at least --metrics-relist-interval"),
        ] {
            let flags = [vec!["run"], flags].concat();
            let Err(Problems(problems)) = with_env(&flags, &[]) else { panic!("{flags:?} accepted") };
            assert!(problems.iter().any(|problem| problem.contains(words)), "{flags:?}: {problems:?}");
        }
    }

    #[test]
    fn networks_are_allowed_by_flags_or_the_environment() {
        let env = [("HPALITE_ALLOW_NETWORKS", "127.0.0.0/8, ::1,")];
        let listed = |arguments: &[&str], env: &[(&str, &str)]| -> Vec<String> {
            config(arguments, env).allow_networks.iter().map(ToString::to_string).collect()
        };
        assert_eq!(listed(&["run"], &[]), [""; 0]);
        assert_eq!(listed(&["run"], &env), ["127.0.0.0/8", "::1/128"]);
        let flags = ["run", "--allow-network", "169.254.20.10/32", "--allow-network=fe80::/10"];
        assert_eq!(listed(&flags, &env), ["169.254.20.10/32", "fe80::/10"]);
        let bad = with_env(&["run", "--allow-network=loopback"], &[]);
        assert!(bad.expect_err("refused").0[0].starts_with("--allow-network: \"loopback\" is not a network"));
    }

    #[test]
    fn selectors_versions_and_the_log_are_kedas_values() {
        let plain = config(&["run"], &[("WATCH_LABEL_SELECTOR", "\"\"")]);
        assert_eq!((plain.object_selector, plain.authentication_selector), (None, None));
        assert_eq!((plain.tls_min, plain.http_tls_min), (TlsVersion::Tls12, TlsVersion::Tls12));
        assert_eq!((plain.keep_alive, plain.log), (true, LogStyle::default()));
        let env = [
            ("WATCH_LABEL_SELECTOR", "tier in (gold, silver),!canary"),
            ("WATCH_LABEL_SELECTOR_FOR_TRIGGERAUTH", "team=shop"),
            ("KEDA_SERVICE_MIN_TLS_VERSION", "TLS13"),
            ("KEDA_HTTP_MIN_TLS_VERSION", "TLS10"),
            ("KEDA_HTTP_DISABLE_KEEP_ALIVE", "true"),
            ("HPALITE_LOG_FORMAT", "json"),
        ];
        let given = config(&["run", "--log-time-encoding=millis"], &env);
        assert_eq!(given.object_selector.as_deref(), Some("tier in (gold, silver),!canary"));
        assert_eq!(given.authentication_selector.as_deref(), Some("team=shop"));
        assert_eq!((given.tls_min, given.http_tls_min), (TlsVersion::Tls13, TlsVersion::Tls12));
        assert_eq!((given.keep_alive, given.log), (false, LogStyle { is_json: true, time: Time::Millis }));
        let env = [("KEDA_HTTP_MIN_TLS_VERSION", "1.3"), ("HPALITE_LOG_FORMAT", "xml")];
        let Err(Problems(problems)) = with_env(&["run", "--watch-label-selector", "a=b=c"], &env) else {
            panic!("accepted")
        };
        for expected in [
            "--watch-label-selector: \"a=b=c\" is no label selector",
            "--http-min-tls-version: \"1.3\" is none of TLS10",
            "--log-format: \"xml\" is none of logfmt, json",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:#?}");
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
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
    fn the_election_is_on_by_default() {
        assert_eq!(config(&["run"], &[]).leader_election, Some(Timing::default()));
        assert_eq!(config(&["run", "--leader-elect"], &[]).leader_election, Some(Timing::default()));
        assert_eq!(config(&["run", "--leader-elect=false"], &[]).leader_election, None);
        assert_eq!(config(&["run"], &[("HPALITE_LEADER_ELECT", "false")]).leader_election, None);
        let env = [("KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION", "1m"), ("UNRELATED", "x")];
        let timing = config(&["run", "--leader-elect-renew-deadline=48s"], &env).leader_election.expect("on");
        assert_eq!((timing.lease_duration, timing.renew_deadline), (Duration::from_secs(60), Duration::from_secs(48)));
        for (flag, fix) in [
            ("--leader-elect-lease-duration=12s", "renew-deadline: at most 4/5"),
            ("--leader-elect-retry-period=6s", "retry-period: at most half"),
            ("--leader-elect-lease-duration=500ms", "at least 1s"),
        ] {
            let Err(Problems(problems)) = with_env(&["run", flag], &[]) else { panic!("{flag} accepted") };
            assert!(problems.iter().any(|problem| problem.contains(fix)), "{flag}: {problems:?}");
        }
    }

    #[test]
    fn keda_s_metric_names_are_on_by_default() {
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
    fn the_page_is_on_by_default() {
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
