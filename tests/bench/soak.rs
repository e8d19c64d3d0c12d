//! The daemon for hours on a real control plane, while objects come, change and go: whether anything grows, lags or gets
//! stuck.
//!
//! `cargo bench --bench soak` takes two hours. It ends with exit code 1 if something that should be flat rises, or if an
//! object is not as it should be at the end. Each minute a row is printed, and at the end a plot of each column.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_SOAK_MINUTES` | 120 | how long |
//! | `HPALITE_SOAK_OBJECTS` | 1000 | ScaledObjects, each with a Deployment of its own |
//! | `HPALITE_SOAK_POLL_SECONDS` | 30 | their `pollingInterval` |
//! | `HPALITE_SOAK_CHURN` | 1 | percent of them that are created, and edited, and deleted in a minute |
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, dead_code, missing_docs)]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "cluster/process.rs"]
mod process;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster::{Cluster, Daemon, http_get};
use hpalite::kube::client::Client;
use hpalite::kube::config::ClusterConfig;
use hpalite::kube::request::{ListOptions, PatchKind, Request, Resource};
use process::Process;
use serde_json::{Value, json};

const NAMESPACE: &str = "soak";
const SCALED_OBJECTS: Resource = Resource::new("keda.sh", "v1alpha1", "scaledobjects", true);
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments", true);
const HPAS: Resource = Resource::new("autoscaling", "v2", "horizontalpodautoscalers", true);
const MINUTE: Duration = Duration::from_secs(60);
/// Churn begins with all objects there; until then caches, pools and the file of the history still fill.
const SETTLING: f64 = 1.0 / 6.0;

/// A column of the table, and what its growth from the settled state to the end may be: a share of its value then, and
/// an absolute amount below which nothing is judged.
struct Column {
    name: &'static str,
    growth: Option<(f64, f64)>,
    values: Vec<f64>,
}

impl Column {
    fn new(name: &'static str, growth: Option<(f64, f64)>) -> Self {
        Self { name, growth, values: Vec::new() }
    }

    /// The straight line of least squares through the settled values: where it begins, and by how much it rises.
    fn line(&self) -> (f64, f64) {
        let skip = (self.values.len() as f64 * SETTLING).ceil() as usize;
        let values = &self.values[skip.min(self.values.len().saturating_sub(2))..];
        let n = values.len() as f64;
        let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
        let over = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            values.iter().enumerate().map(|(x, y)| f(x as f64 - mean_x, y - mean_y)).sum()
        };
        let slope = over(&|x, y| x * y) / over(&|x, _| x * x).max(f64::MIN_POSITIVE);
        (mean_y - slope * mean_x, slope * (n - 1.0))
    }

    fn is_flat(&self) -> bool {
        let (begins, rises) = self.line();
        self.growth.is_none_or(|(share, amount)| rises <= amount.max(begins * share))
    }

    fn plot(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let most = self.values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        self.values.iter().map(|value| BARS[((value / most * 7.0).round() as usize).min(7)]).collect()
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

struct Soak {
    cluster: Cluster,
    admin: Client,
    polling: usize,
    /// Numbers of the objects that exist, the oldest first.
    objects: VecDeque<usize>,
    next: usize,
    edits: usize,
}

fn main() -> ExitCode {
    let minutes = number("HPALITE_SOAK_MINUTES", 120);
    let objects = number("HPALITE_SOAK_OBJECTS", 1_000);
    let churn = (objects * number("HPALITE_SOAK_CHURN", 1)).div_ceil(100);
    let cluster = Cluster::start(&["--hpa-sync", "30s"]);
    cluster.install();
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    let admin = Client::new(ClusterConfig::load(Some(cluster.env("KUBECONFIG").as_ref())).unwrap());
    let polling = number("HPALITE_SOAK_POLL_SECONDS", 30);
    let mut soak = Soak { cluster, admin, polling, objects: VecDeque::new(), next: 0, edits: 0 };
    // So small that the file is full when the settled state begins, and what is oldest makes room from then on.
    let daemon = Daemon::serve(&soak.cluster, &["--db-max-size", "10MB"]);
    for _ in 0..objects {
        soak.create();
    }
    soak.rest(10 * MINUTE);
    assert!(soak.stuck().is_empty(), "not well after ten minutes: {:?}", soak.stuck());

    let process = Process(daemon.pid());
    let mut columns = [
        Column::new("resident MB", Some((0.05, 1.0))),
        Column::new("own MB", Some((0.05, 1.0))),
        Column::new("threads", Some((0.0, 4.0))),
        Column::new("descriptors", Some((0.0, 8.0))),
        Column::new("late p99 ms", Some((0.2, 100.0))),
        Column::new("CPU %", Some((0.2, 1.0))),
        Column::new("history MB", Some((0.1, 5.0))),
        Column::new("writes/min", None),
        Column::new("scales/min", None),
        Column::new("not Ready", None),
    ];
    println!("{objects} objects, polled every {polling} s, {churn} a minute created, edited, deleted each");
    println!("minute {}", columns.each_ref().map(|column| format!("{:>12}", column.name)).concat());
    let mut before = Counts::read(&daemon, &process);
    for minute in 1..=minutes {
        soak.churn(churn, Instant::now() + MINUTE);
        let after = Counts::read(&daemon, &process);
        let memory = process.memory();
        let row = [
            memory.resident_mb,
            memory.own_mb,
            process.threads() as f64,
            process.descriptors() as f64,
            after.lateness_p99_since(&before) * 1e3,
            (after.cpu - before.cpu) * 100.0 / (after.at - before.at).as_secs_f64(),
            history_mb(&daemon),
            after.writes - before.writes,
            scales_in_the_last_minute(&daemon),
            soak.stuck().len() as f64,
        ];
        println!("{minute:>6} {}", row.map(|value| format!("{value:>12.1}")).concat());
        for (column, value) in columns.iter_mut().zip(row) {
            column.values.push(value);
        }
        before = after;
    }

    let mut is_good = true;
    for column in &columns {
        let (begins, rises) = column.line();
        let verdict = if column.is_flat() { "" } else { "   NOT FLAT" };
        is_good &= column.is_flat();
        println!("{:<12} {begins:>10.1} {rises:>+10.1}{verdict}\n             {}", column.name, column.plot());
    }
    let limit = Duration::from_secs(120);
    soak.rest(limit);
    let stuck = soak.stuck();
    println!("stuck after {} s of rest: {stuck:?}", limit.as_secs());
    println!("edited {} times, created and deleted {} each", soak.edits, soak.next - objects);
    if is_good && stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Soak {
    fn send(&self, request: &Request) {
        self.admin.send(request).unwrap_or_else(|error| panic!("{error}"));
    }

    fn create(&mut self) {
        let name = name(self.next);
        let deployment = cluster::deployment(NAMESPACE, &name, 1);
        self.send(&DEPLOYMENTS.create(Some(NAMESPACE), deployment.into_bytes()).unwrap());
        let body = self.scaled_object(self.next).to_string().into_bytes();
        self.send(&SCALED_OBJECTS.create(Some(NAMESPACE), body).unwrap());
        self.objects.push_back(self.next);
        self.next += 1;
    }

    /// Wants 1, 2, 3 replicas by turns of three minutes, not all objects at the same time.
    fn scaled_object(&self, n: usize) -> Value {
        json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": { "name": name(n), "namespace": NAMESPACE },
            "spec": {
                "scaleTargetRef": { "name": name(n) },
                "pollingInterval": self.polling,
                "minReplicaCount": 1,
                "maxReplicaCount": 10,
                "advanced": { "horizontalPodAutoscalerConfig": { "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } } } },
                "triggers": [{ "type": "prometheus", "metadata": {
                    "serverAddress": self.cluster.prometheus(),
                    "query": format!("10 + 10 * floor(vector((time() + {n}) % 540 / 180))"),
                    "threshold": "10",
                } }],
            },
        })
    }

    /// Leaves the objects alone until none is stuck, or for so long.
    fn rest(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.stuck().is_empty() && Instant::now() < until {
            // A look lists everything, which costs the API server more than the daemon does.
            std::thread::park_timeout(Duration::from_secs(5));
        }
    }

    fn edit(&mut self, n: usize) {
        self.edits += 1;
        let patch = json!({ "spec": { "maxReplicaCount": 10 + self.edits % 10 } }).to_string().into_bytes();
        self.send(&SCALED_OBJECTS.patch(Some(NAMESPACE), &name(n), PatchKind::Merge, patch).unwrap());
    }

    fn delete(&mut self) {
        let name = name(self.objects.pop_front().expect("there is one"));
        for resource in [&SCALED_OBJECTS, &DEPLOYMENTS] {
            self.send(&resource.delete(Some(NAMESPACE), &name, None).unwrap());
        }
    }

    /// So many creations, edits and deletions, spread over the time until `end`.
    fn churn(&mut self, each: usize, end: Instant) {
        for left in (0..each).rev() {
            self.create();
            let newest = self.objects.len() - 1;
            self.edit(self.objects[(self.edits * 7) % newest]);
            self.delete();
            let pause = end.saturating_duration_since(Instant::now()) / u32::try_from(left + 1).unwrap();
            std::thread::park_timeout(pause);
        }
    }

    /// Objects that are not Ready, or have no HPA with their own bounds, or whose finalizer holds them.
    fn stuck(&self) -> Vec<String> {
        let list = |resource: &Resource| -> Vec<Value> {
            let list = resource.list(Some(NAMESPACE), &ListOptions::default()).unwrap();
            let list: Value = self.admin.json(&list).unwrap();
            list["items"].as_array().unwrap().clone()
        };
        let hpas = list(&HPAS);
        let max = |hpa: &&Value, name: &str| hpa["spec"]["scaleTargetRef"]["name"] == name;
        let is_well = |object: &Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            let is_ready = cluster::condition(object, "Ready").is_some_and(|(status, ..)| status == "True");
            let hpa = hpas.iter().find(|hpa| max(hpa, name));
            let has_bounds = hpa.is_some_and(|hpa| hpa["spec"]["maxReplicas"] == object["spec"]["maxReplicaCount"]);
            is_ready && has_bounds && object["metadata"]["deletionTimestamp"].is_null()
        };
        let objects = list(&SCALED_OBJECTS);
        let mut stuck: Vec<String> = objects
            .iter()
            .filter(|object| !is_well(object))
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        if hpas.len() != objects.len() || objects.len() != self.objects.len() {
            stuck.push(format!("{} objects, {} HPAs, {} wanted", objects.len(), hpas.len(), self.objects.len()));
        }
        stuck
    }
}

fn name(n: usize) -> String {
    format!("object-{n}")
}

/// The file of the history and its log beside it.
fn history_mb(daemon: &Daemon) -> f64 {
    let folder = daemon.db().parent().unwrap().to_owned();
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let is_history = |file: &std::fs::DirEntry| file.file_name().to_string_lossy().starts_with("hpalite.db");
    files.filter(is_history).map(|file| file.metadata().map_or(0, |meta| meta.len())).sum::<u64>() as f64 / 1e6
}

/// Of the history, whose oldest rows make room for these.
fn scales_in_the_last_minute(daemon: &Daemon) -> f64 {
    let sql = "SELECT count(*) AS n FROM replica_change WHERE at_unix_ms >= (unixepoch() - 60) * 1000";
    daemon.sql(sql)[0]["n"].as_f64().unwrap()
}

struct Counts {
    at: Instant,
    cpu: f64,
    writes: f64,
    /// Upper bounds in seconds, and how many polls were at most so late.
    lateness: Vec<(f64, f64)>,
}

impl Counts {
    fn read(daemon: &Daemon, process: &Process) -> Self {
        let text = http_get(&format!("{}/metrics", daemon.http));
        let of = |family: &str| -> Vec<(String, f64)> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
            lines.map(|(labels, value)| (labels.to_owned(), value.parse().unwrap())).collect()
        };
        let is_write = |labels: &str| {
            ["create", "update", "patch", "delete"].iter().any(|verb| labels.contains(&format!("verb=\"{verb}\"")))
        };
        let bound = |labels: &str| labels.split("le=\"").nth(1)?.split('"').next()?.parse().ok();
        let requests = of("hpalite_apiserver_requests_total");
        Self {
            at: Instant::now(),
            cpu: process.cpu_seconds(),
            writes: requests.iter().filter(|(labels, _)| is_write(labels)).map(|(_, value)| value).sum(),
            lateness: of("hpalite_poll_lateness_seconds_bucket")
                .into_iter()
                .filter_map(|(labels, value)| Some((bound(&labels)?, value)))
                .collect(),
        }
    }

    /// The bound of the bucket that the 99th percentile of the polls since then is in; `+Inf` is none.
    fn lateness_p99_since(&self, before: &Self) -> f64 {
        let counts: Vec<(f64, f64)> =
            self.lateness.iter().zip(&before.lateness).map(|(now, then)| (now.0, now.1 - then.1)).collect();
        let all = counts.last().map_or(0.0, |(_, count)| *count);
        counts.iter().find(|(_, count)| *count >= all * 0.99).map_or(0.0, |(bound, _)| *bound)
    }
}
