//! Cost and speed of the daemon on a real control plane, beside KEDA's figures.
//!
//! `cargo bench --bench cluster` takes about two minutes with 50 objects;
//! `HPALITE_BENCH_OBJECTS=500 HPALITE_BENCH_SECONDS=60 cargo bench --bench cluster` is the run to compare with
//! KEDA. All parts share one machine: repeat runs, and only compare figures of one machine.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_BENCH_OBJECTS` | 50 | ScaledObjects, each with a Deployment of its own |
//! | `HPALITE_BENCH_SECONDS` | 15 | of steady state, in which polls and writes are counted |
//! | `HPALITE_BENCH_READ_SECONDS` | 5 | of metric reads for each number of connections |
//! | `HPALITE_BENCH_POLL_SECONDS` | 5 | `pollingInterval` of the objects |
//! | `HPALITE_BENCH_TEMPLATE` | 0 | 1: the queries differ in the value of one label only, so they are grouped; `HPALITE_GROUP_QUERIES=false` beside it asks them singly |
//! | `HPALITE_BENCH_APPLY` | 0 | 1: only what one client sees that applies them one after another |
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, dead_code, missing_docs)]

#[path = "cluster/apply.rs"]
mod apply;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "cluster/process.rs"]
mod process;
#[path = "cluster/reads.rs"]
mod reads;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::{Cluster, Daemon, http_get, wait_for, wait_until};
use hpalite::kube::client::Client;
use hpalite::kube::config::ClusterConfig;
use hpalite::kube::request::{ListOptions, Resource};
use process::Process;
use serde::Deserialize;
use serde_json::{Value, json};

const NAMESPACE: &str = "bench";
/// The value of every object's query, which every read must return.
const VALUE: &str = "42";
const SCALED_OBJECTS: Resource = Resource::new("keda.sh", "v1alpha1", "scaledobjects", true);
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments", true);
const HPAS: Resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers", true);
/// Requests in flight while objects are created: no more than the API server can handle.
const MAKERS: usize = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn main() {
    let objects = usize::try_from(number("HPALITE_BENCH_OBJECTS", 50)).unwrap();
    let steady = Duration::from_secs(number("HPALITE_BENCH_SECONDS", 15));
    let reading = Duration::from_secs(number("HPALITE_BENCH_READ_SECONDS", 5));
    let polling = number("HPALITE_BENCH_POLL_SECONDS", 5);

    let cluster = Cluster::start(&["--hpa-sync", "15s"]);
    cluster.install();
    let admin = Client::new(ClusterConfig::load(Some(cluster.env("KUBECONFIG").as_ref())).unwrap());
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    if is_template() {
        set_gauges(&cluster, objects);
    }
    if number("HPALITE_BENCH_APPLY", 0) == 1 {
        return apply::run(&admin, &cluster, objects, polling);
    }
    let daemon = Daemon::serve(&cluster, &[]);
    println!("{:<44} {:>22} {:>18}", format!("{objects} objects, polled every {polling} s"), "hpalite", "KEDA 2.20.2");

    make(&admin, 0..1, &DEPLOYMENTS, &deployment);
    make(&admin, 0..1, &SCALED_OBJECTS, &|n| scaled_object(n, &cluster, polling));
    wait_for("one object to be ready", || (ready(&admin) == 1).then_some(()));
    settle(Duration::from_secs(10));
    let process = Process(daemon.pid());
    memory("1 object", &process, "206 MB");

    make(&admin, 1..objects, &DEPLOYMENTS, &deployment);
    settle(Duration::from_secs(3));
    fan_out(&admin, &cluster, objects, polling);
    wait_for("every object to be polled", || {
        (daemon.metric("hpalite_polls_total{outcome=\"value\"}").unwrap_or(0.0) >= objects as f64 * 2.0).then_some(())
    });
    settle(Duration::from_secs(15));
    memory(&format!("{objects} objects"), &process, "281 MB");
    wait_for_quiet(&daemon);
    steady_state(&daemon, &process, &prometheus(&cluster), steady);
    let daemon = restart(&cluster, daemon, objects);
    settle(Duration::from_secs(10));
    let process = Process(daemon.pid());
    memory(&format!("{objects} objects, restarted"), &process, "");
    for (connections, keda) in [(4, "1,062 16 ms"), (64, "1,494 114 ms")] {
        let before = process.cpu_seconds();
        let found = reads::run(&cluster, daemon.port, connections, objects, reading);
        let cpu = process.cpu_seconds() - before;
        row(&format!("reads/s, {connections} connections"), &format!("{:.0}", found.per_second()), keda);
        row("    p50, p99, p99.9", &found.quantiles(), "");
        row("    daemon's CPU a read", &format!("{:.1} us", cpu * 1e6 / found.count() as f64), "");
    }
    row("    KEDA with useCachedMetrics", "", "3,189 5.2 ms");
    memory("after the reads", &process, "");
    assert_eq!(ready(&admin), objects, "an object was lost on the way: {}", daemon.log());
}

fn row(what: &str, found: &str, keda: &str) {
    println!("{what:<44} {found:>22} {keda:>18}");
}

fn memory(when: &str, process: &Process, keda: &str) {
    let memory = process.memory();
    row(&format!("memory: resident, {when}"), &format!("{:.1} MB", memory.resident_mb), keda);
    let more = format!("{:.1} {:.1} {:.1} MB", memory.own_mb, memory.shared_out_mb, memory.peak_mb);
    row("    anonymous, PSS, peak", &more, "");
    row("    threads", &process.threads().to_string(), "");
}

/// Time to come to rest; memory is measured at rest.
fn settle(time: Duration) {
    std::thread::park_timeout(time);
}

/// Measures from before the first object is sent until the last HPA exists.
fn fan_out(admin: &Client, cluster: &Cluster, objects: usize, polling: u64) {
    let started = Instant::now();
    make(admin, 1..objects, &SCALED_OBJECTS, &|n| scaled_object(n, cluster, polling));
    let applied = started.elapsed();
    let limit = Duration::from_secs(300);
    wait_until("all HPAs", limit, || (count(admin, &HPAS) == objects).then_some(()));
    let hpas = started.elapsed();
    wait_until("all objects to be ready", limit, || (ready(admin) == objects).then_some(()));
    let all_ready = started.elapsed();
    row("applied to the API, the floor", &format!("{:.2} s", applied.as_secs_f64()), "");
    row("    from the first apply to all HPAs", &format!("{:.2} s", hpas.as_secs_f64()), "265 s");
    row("    from the first apply to all Ready", &format!("{:.2} s", all_ready.as_secs_f64()), "");
}

/// Waits until the Events about new objects, which come after all else, are written.
fn wait_for_quiet(daemon: &Daemon) {
    let mut last = -1.0;
    wait_until("the last Event", Duration::from_secs(300), || {
        settle(Duration::from_secs(2));
        let now = writes(daemon);
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
}

fn steady_state(daemon: &Daemon, process: &Process, prometheus: &Process, time: Duration) {
    let read = || (process.cpu_seconds(), polls(daemon), writes(daemon), Instant::now(), prometheus.cpu_seconds());
    let before = read();
    settle(time);
    let after = read();
    let elapsed = (after.3 - before.3).as_secs_f64();
    let polls = after.1 - before.1;
    row("CPU seconds per 1,000 polls", &format!("{:.3}", (after.0 - before.0) * 1000.0 / polls), "0.98");
    row("    polls/s, CPU", &format!("{:.1} {:.2}%", polls / elapsed, (after.0 - before.0) * 100.0 / elapsed), "");
    row("    Prometheus' CPU seconds for them", &format!("{:.3}", (after.4 - before.4) * 1000.0 / polls), "");
    row("writes to the API server a minute", &format!("{:.1}", (after.2 - before.2) * 60.0 / elapsed), "");
}

/// Measures from SIGTERM, and from the start, to the first correct answer.
fn restart(cluster: &Cluster, daemon: Daemon, objects: usize) -> Daemon {
    let (stopping, folder) = daemon.stop();
    let daemon = Daemon::spawn_in(cluster, &[], folder);
    let first = reads::first(cluster, daemon.port, 0);
    let last = reads::first(cluster, daemon.port, objects - 1);
    row("restart: from start to first metric", &format!("{:.3} s", (first - daemon.started).as_secs_f64()), "1.05 s");
    row("    to the last object's metric", &format!("{:.3} s", (last - daemon.started).as_secs_f64()), "");
    row("    from SIGTERM to the end", &format!("{:.3} s", stopping.as_secs_f64()), "");
    daemon
}

fn polls(daemon: &Daemon) -> f64 {
    sum(daemon, "hpalite_polls_total", |_| true)
}

fn writes(daemon: &Daemon) -> f64 {
    sum(daemon, "hpalite_apiserver_requests_total", |labels| {
        ["create", "update", "patch", "delete"].iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
    }) - daemon.metric("hpalite_lease_renewals_total").unwrap_or(0.0)
}

fn sum(daemon: &Daemon, family: &str, wanted: impl Fn(&str) -> bool) -> f64 {
    let text = http_get(&format!("{}/metrics", daemon.http));
    let series = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
    series.filter(|(labels, _)| wanted(labels)).map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

/// Creates the objects of a range, several at the same time.
fn make(admin: &Client, range: std::ops::Range<usize>, resource: &Resource, body: &(dyn Fn(usize) -> Value + Sync)) {
    let next = AtomicUsize::new(range.start);
    std::thread::scope(|scope| {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= range.end {
                        return;
                    }
                    let request = resource.create(Some(NAMESPACE), body(n).to_string().into_bytes()).unwrap();
                    admin.send(&request).unwrap();
                }
            });
        }
    });
}

fn deployment(n: usize) -> Value {
    serde_json::from_str(&cluster::deployment(NAMESPACE, &name(n), 1)).unwrap()
}

fn scaled_object(n: usize, cluster: &Cluster, polling: u64) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": name(n), "namespace": NAMESPACE },
        "spec": {
            "scaleTargetRef": { "name": name(n) },
            "pollingInterval": polling,
            "minReplicaCount": 1,
            "maxReplicaCount": 10,
            "triggers": [{ "type": "prometheus", "metadata": {
                "serverAddress": cluster.prometheus(),
                // Different for each object, since equal queries are sent once for all.
                "query": if is_template() {
                    format!("sum(bench{{service=\"{n}\"}})")
                } else {
                    format!("sum(vector({VALUE})) + 0 * {n}")
                },
                "threshold": "100",
            } }],
        },
    })
}

fn is_template() -> bool {
    number("HPALITE_BENCH_TEMPLATE", 0) == 1
}

/// A series for each object's query.
fn set_gauges(cluster: &Cluster, objects: usize) {
    for n in 1..objects {
        http_get(&format!("{}/set?bench%7Bservice=%22{n}%22%7D={VALUE}", cluster.env("EXPORTER_URL")));
    }
    cluster.set_gauge("bench{service=\"0\"}", VALUE.parse().unwrap());
}

fn prometheus(cluster: &Cluster) -> Process {
    let pids = std::fs::read_to_string(cluster.folder.join("pids")).unwrap();
    let line = pids.lines().find(|line| line.starts_with("prometheus ")).expect("up starts a Prometheus");
    Process(line.split_whitespace().nth(1).unwrap().parse().unwrap())
}

fn name(n: usize) -> String {
    format!("object-{n}")
}

/// Returns the number of objects without reading them.
fn count(admin: &Client, resource: &Resource) -> usize {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        metadata: Meta,
        items: Vec<serde::de::IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        #[serde(default)]
        remaining_item_count: usize,
    }
    let options = ListOptions { limit: 1, ..ListOptions::default() };
    let page: Page = admin.json(&resource.list(Some(NAMESPACE), &options).unwrap()).unwrap();
    page.items.len() + page.metadata.remaining_item_count
}

/// Returns the number of objects whose condition Ready is True.
fn ready(admin: &Client) -> usize {
    let list: Value = admin.json(&SCALED_OBJECTS.list(Some(NAMESPACE), &ListOptions::default()).unwrap()).unwrap();
    let is_ready = |object: &&Value| cluster::condition(object, "Ready").is_some_and(|(status, ..)| status == "True");
    list["items"].as_array().unwrap().iter().filter(is_ready).count()
}
