//! The cost of thousands of ScaledObjects: the daemon with an API server and a Prometheus in this process.
//!
//! `cargo bench --bench scale` runs 2,000 objects for a minute; `HPALITE_SCALE_OBJECTS=10000,60000 cargo bench --bench
//! scale` is a full run, one size after the other. The two servers answer immediately, so the figures are the daemon's
//! own; `cluster` shows the effect of a real control plane.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_SCALE_OBJECTS` | 2000 | ScaledObjects, several sizes separated by commas |
//! | `HPALITE_SCALE_SECONDS` | 60 | of steady state, in which polls and CPU are counted |
//! | `HPALITE_SCALE_INTERVAL` | 30 | `pollingInterval` of the objects in seconds |
//! | `HPALITE_SCALE_KIND` | scaledobject | `hpa`: annotated HPAs that ask for the same instead |
//! | `HPALITE_SCALE_QUERIES` | 0 | different queries that the objects share; 0 for one of its own each |
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, dead_code, missing_docs)]

#[path = "scale/api_server.rs"]
mod api_server;
#[path = "cluster/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api_server::ApiServer;
use process::Process;
use serde_json::{Value, json};

const SCALED_OBJECTS: &str = "/apis/keda.sh/v1alpha1/scaledobjects";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const HPAS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
/// Longer than any successful run.
const DEADLINE: Duration = Duration::from_secs(900);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn main() {
    let sizes = std::env::var("HPALITE_SCALE_OBJECTS").unwrap_or_else(|_| "2000".to_owned());
    for size in sizes.split(',') {
        run(size.parse().unwrap_or_else(|_| panic!("HPALITE_SCALE_OBJECTS: {size} is no number")));
    }
}

fn run(objects: usize) {
    let steady = Duration::from_secs(number("HPALITE_SCALE_SECONDS", 60));
    let interval = number("HPALITE_SCALE_INTERVAL", 30);
    let queries = usize::try_from(number("HPALITE_SCALE_QUERIES", 0)).unwrap();
    let queries = if queries == 0 { objects } else { queries };
    let are_hpas = std::env::var("HPALITE_SCALE_KIND").is_ok_and(|kind| kind == "hpa");
    let kind = if are_hpas { "annotated HPAs" } else { "ScaledObjects" };
    println!("--- {objects} {kind} of {queries} queries, every {interval} s");

    let api = ApiServer::start();
    let prometheus = Prometheus::start(queries);
    api.create("/api/v1/namespaces", json!({ "metadata": { "name": "hpalite" } }));
    api.create("/api/v1/configmaps", authentication());
    api.create(
        "/apis/apiregistration.k8s.io/v1/apiservices",
        json!({ "metadata": { "name": "v1beta1.external.metrics.k8s.io" }, "spec": {} }),
    );
    let daemon = Daemon::start(&api);
    wait("the daemon to be ready", || daemon.get("/readyz").is_some_and(|text| text.ends_with("ok")));
    let process = Process(daemon.child.id());
    memory("without objects", &process);

    let begun = Instant::now();
    for n in 0..objects {
        api.create(DEPLOYMENTS, deployment(n));
        if are_hpas {
            api.create(HPAS, annotated_hpa(n, n % queries, prometheus.address, interval));
        } else {
            api.create(SCALED_OBJECTS, scaled_object(n, n % queries, prometheus.address, interval));
        }
    }
    row("created", format!("{:.2} s", begun.elapsed().as_secs_f64()));
    wait("every HPA", || api.count(HPAS) == objects);
    row("all HPAs, from the first create", format!("{:.2} s", begun.elapsed().as_secs_f64()));
    let ready = r#""status":"True","type":"Ready""#;
    wait("every object to be ready", || match are_hpas {
        // Their state is written nowhere but into the metrics.
        true => daemon
            .get("/metrics")
            .is_some_and(|text| text.contains(&format!("hpalite_annotated_hpas_ready {objects}\n"))),
        false => api.count_with(SCALED_OBJECTS, ready) == objects,
    });
    row("all Ready, from the first create", format!("{:.2} s", begun.elapsed().as_secs_f64()));
    let writes = api.writes();
    let total: u64 = writes.values().sum();
    row("writes for each new object", format!("{:.2}", total as f64 / objects as f64));
    for (what, count) in &writes {
        row(&format!("    {what}"), format!("{:.2}", *count as f64 / objects as f64));
    }

    // By then every object has been polled at its regular time, and the effects of applying are over.
    pause(Duration::from_secs(interval + 15));
    memory("at rest", &process);
    prometheus.forget();
    let before = (process.cpu_seconds(), daemon.polls(), api.writes().values().sum::<u64>(), Instant::now());
    pause(steady);
    let elapsed = before.3.elapsed().as_secs_f64();
    let (cpu, polls) = (process.cpu_seconds() - before.0, daemon.polls() - before.1);
    row("polls/s, cores", format!("{:.1} {:.3}", polls / elapsed, cpu / elapsed));
    row("core-seconds per 1,000 polls", format!("{:.3}", cpu * 1_000.0 / polls));
    row("writes a minute", format!("{:.1}", (api.writes().values().sum::<u64>() - before.2) as f64 * 60.0 / elapsed));
    row("lateness of questions, p50 p99 max", prometheus.lateness(Duration::from_secs(interval)));
    memory("after polling", &process);
}

fn row(what: &str, found: impl std::fmt::Display) {
    println!("{what:<44} {found:>24}");
}

fn memory(when: &str, process: &Process) {
    let memory = process.memory();
    row(&format!("resident, anonymous: {when}"), format!("{:.1} {:.1} MB", memory.resident_mb, memory.own_mb));
    row("    peak; threads", format!("{:.1} MB {}", memory.peak_mb, process.threads()));
}

/// Waits while the daemon does what is measured.
fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let looked = Instant::now();
        if condition() {
            return;
        }
        assert!(looked < until, "waited in vain for {what}");
        // A look at 60,000 objects takes a good part of a second of CPU, which is to be the daemon's.
        pause(Duration::from_millis(100).max(20 * looked.elapsed()));
    }
}

fn name(n: usize) -> String {
    format!("object-{n:06}")
}

/// A hundred objects per namespace.
fn namespace(n: usize) -> String {
    format!("bench-{}", n / 100)
}

fn deployment(n: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name(n), "namespace": namespace(n) },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": name(n) } } },
        "status": { "replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "updatedReplicas": 1 },
    })
}

fn scaled_object(n: usize, query: usize, prometheus: SocketAddr, interval: u64) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": name(n), "namespace": namespace(n) },
        "spec": {
            "scaleTargetRef": { "name": name(n) },
            "pollingInterval": interval, "minReplicaCount": 1, "maxReplicaCount": 10,
            "triggers": [{ "type": "prometheus", "metadata": {
                "serverAddress": format!("http://{prometheus}"),
                "query": format!("sum(q{query}q)"), "threshold": "100",
            } }],
        },
    })
}

fn annotated_hpa(n: usize, query: usize, prometheus: SocketAddr, interval: u64) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name(n), "namespace": namespace(n), "annotations": {
            "metric-config.external.load.prometheus/query": format!("sum(q{query}q)"),
            "metric-config.external.load.prometheus/prometheus-server": format!("http://{prometheus}"),
            "metric-config.external.load.prometheus/interval": format!("{interval}s"),
        } },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name(n) },
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{ "type": "External", "external": {
                // Each has a label of its own: HPAs of a namespace that ask alike for different things contradict each other.
                "metric": { "name": "load", "selector": { "matchLabels": { "type": "prometheus", "of": name(n) } } },
                "target": { "type": "AverageValue", "averageValue": "100" },
            } }],
        },
    })
}

/// The front proxy's configuration, without which the daemon does not become ready.
fn authentication() -> Value {
    let ca = rcgen::generate_simple_self_signed(vec!["front-proxy".to_owned()]).unwrap().cert.pem();
    json!({
        "metadata": { "namespace": "kube-system", "name": "extension-apiserver-authentication" },
        "data": {
            "client-ca-file": ca, "requestheader-client-ca-file": ca,
            "requestheader-allowed-names": "[\"front-proxy\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        },
    })
}

struct Daemon {
    child: Child,
    http: String,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start(api: &ApiServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{ "name": "c", "context": { "cluster": "k", "user": "u", "namespace": "hpalite" } }],
            "clusters": [{ "name": "k", "cluster": { "server": format!("http://{}", api.address) } }],
            "users": [{ "name": "u", "user": {} }],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let http = format!("127.0.0.1:{}", free_port());
        let child = Command::new(env!("CARGO_BIN_EXE_hpalite"))
            .args(["run", "--listen", &format!("127.0.0.1:{}", free_port()), "--http", &http, "--ui", ""])
            .args(["--allow-network", "127.0.0.0/8", "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--db")
            .arg(folder.path().join("hpalite.db"))
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, http, _folder: folder }
    }

    /// Returns the body of an answer, if there is one.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.http).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.split_once("\r\n\r\n")?.1.trim_end().to_owned())
    }

    fn polls(&self) -> f64 {
        let text = self.get("/metrics").expect("metrics");
        let series = text.lines().filter_map(|line| line.strip_prefix("hpalite_polls_total{")?.rsplit_once("} "));
        series.map(|(_, value)| value.parse::<f64>().unwrap_or(0.0)).sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}

/// Answers every query with one sample, and records the times.
struct Prometheus {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    last: Vec<Option<Instant>>,
    gaps: Vec<Duration>,
}

impl Prometheus {
    fn start(queries: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen { last: vec![None; queries], gaps: Vec::new() }));
        let server = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&server);
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Self { address, seen }
    }

    fn forget(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.gaps.clear();
        seen.last.fill(None);
    }

    /// By how much the time between two polls of a query exceeded the interval.
    fn lateness(&self, interval: Duration) -> String {
        let mut late: Vec<f64> = {
            let seen = self.seen.lock().unwrap();
            seen.gaps.iter().map(|gap| gap.saturating_sub(interval).as_secs_f64() * 1e3).collect()
        };
        if late.is_empty() {
            return "no two questions seen".to_owned();
        }
        late.sort_by(f64::total_cmp);
        let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
        format!("{:.1} {:.1} {:.1} ms", at(0.5), at(0.99), at(1.0))
    }
}

fn answer(stream: TcpStream, seen: &Mutex<Seen>) {
    let _ = stream.set_nodelay(true);
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut text, mut length) = (String::new(), String::new(), 0);
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            } else if text.is_empty() {
                text.clone_from(&line);
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        text.push_str(&String::from_utf8_lossy(&body));
        if let Some(query) = query(&text) {
            let now = Instant::now();
            let mut seen = seen.lock().unwrap();
            if let Some(last) = seen.last.get_mut(query).and_then(|last| last.replace(now)) {
                seen.gaps.push(now - last);
            }
        }
        let body =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1767225600,"42"]}]}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

/// Returns the number in `sum(q<number>q)`, in any encoding.
fn query(text: &str) -> Option<usize> {
    text.match_indices('q').find_map(|(at, _)| {
        let rest = &text[at + 1..];
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        (digits > 0 && rest[digits..].starts_with('q')).then(|| rest[..digits].parse().ok())?
    })
}
