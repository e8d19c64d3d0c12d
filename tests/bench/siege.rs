//! All attacks of the threat model at the same time on a real control plane, and their effect on a well-behaved object.
//!
//! `cargo bench --bench siege` takes about two minutes and ends with exit code 1 if a goal is missed. Attackers,
//! control plane and daemon share one machine, whose noise is part of each latency, so the same figures without
//! attackers are printed beside them.
//!
//! | variable | default | |
//! |---|---|---|
//! | `HPALITE_SIEGE_SECONDS` | 45 | length of the attack; a third of it is measured before without attackers |
//! | `HPALITE_SIEGE_ONLY` | all | attackers by name, separated by commas: those of [`ATTACKERS`] |
//! | `HPALITE_SIEGE_TIMEOUT` | 30s | `timeout` of the tenant's hanging triggers: the longest that is accepted |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    missing_docs
)]

#[path = "siege/attackers.rs"]
mod attackers;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "cluster/process.rs"]
mod process;
#[path = "cluster/reads.rs"]
mod reads;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attackers::{Siege, Tenant};
use cluster::{APISERVICE, Cluster, Daemon, wait_for, wait_until};
use process::Process;
use serde_json::{Value, json};

const NAMESPACE: &str = "good";
/// The value of the good object's query, which every read must return.
const VALUE: &str = "42";
const POLL_SECONDS: u64 = 3;
/// The choices for `HPALITE_SIEGE_ONLY`.
const ATTACKERS: [&str; 6] = ["certificates", "bodies", "anonymous", "hanging", "trees", "dns"];

fn main() -> ExitCode {
    let seconds = std::env::var("HPALITE_SIEGE_SECONDS").map_or(45, |text| text.parse().expect("a number of seconds"));
    let only = std::env::var("HPALITE_SIEGE_ONLY").unwrap_or_else(|_| ATTACKERS.join(","));
    let chosen: Vec<&str> = only.split(',').collect();
    for name in &chosen {
        assert!(ATTACKERS.contains(name), "HPALITE_SIEGE_ONLY: {name} is none of {ATTACKERS:?}");
    }
    let length = Duration::from_secs(seconds);

    let cluster = Cluster::start(&["--hpa-sync", "15s"]);
    cluster.install();
    let slow_names = attackers::silent_name_server();
    let arguments = ["--allow-network", "127.0.0.0/8"];
    let daemon = match &slow_names {
        Some(resolv) => Daemon::spawn_with(&cluster, attackers::with_resolver(&cluster, resolv), &arguments),
        None => Daemon::start(&cluster, &arguments),
    };
    wait_for("the daemon to be ready", || (daemon.readiness() == "ok").then_some(()));
    daemon.route(&cluster);
    cluster.kubectl(&["create", "namespace", NAMESPACE]);
    cluster.deployment(NAMESPACE, &name(0), 1);
    cluster.apply(&good_object(&cluster));
    reads::first(&cluster, daemon.port, 0);

    let calm = measure(&cluster, &daemon, length / 3);
    let tenant = Tenant::start(&cluster, &chosen);
    let siege = Siege::start(daemon.port, &daemon.http, &chosen);
    let stormy = measure(&cluster, &daemon, length);
    let counts = siege.stop();
    tenant.leave(&cluster);

    println!("{:<52} {:>14} {:>14} {:>12}", format!("under {only}, {seconds} s"), "at rest", "under attack", "goal");
    let goal = report(&calm, &stormy);
    for (what, count) in counts {
        println!("    {what:<48} {:>14} {count:>14}", "");
    }
    if slow_names.is_none() && chosen.contains(&"dns") {
        println!("    NOT TRIED: slow names, which need root and unshare(1)");
    }
    // Afterwards everything is as before, without restarting anything by hand.
    wait_until("the APIService to be Available afterwards", Duration::from_secs(60), || {
        available(&cluster).then_some(())
    });
    if goal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was measured in one period.
struct Seen {
    kept: Vec<Duration>,
    fresh: Vec<Duration>,
    /// Reads without the right answer.
    wrong: usize,
    longest_gap: Duration,
    resident_mb: f64,
    threads: usize,
    unavailable: usize,
    cpu: f64,
}

fn measure(cluster: &Cluster, daemon: &Daemon, time: Duration) -> Seen {
    let stop = Arc::new(AtomicBool::new(false));
    let config = reads::config(cluster);
    let port = daemon.port;
    let kept = reader(&stop, Duration::from_millis(20), {
        let config = Arc::clone(&config);
        let mut client = None;
        move || {
            let client = match &mut client {
                Some(client) => client,
                none => none.insert(reads::connect(port, &config)?),
            };
            reads::read(client, 0)
        }
    });
    let fresh = reader(&stop, Duration::from_millis(200), move || reads::read(&mut reads::connect(port, &config)?, 0));
    let process = Process(daemon.pid());
    let from = unix_ms();
    let cpu = process.cpu_seconds();
    let started = Instant::now();
    let (mut resident_mb, mut threads, mut unavailable) = (0f64, 0, 0);
    while started.elapsed() < time {
        resident_mb = resident_mb.max(process.memory().resident_mb);
        threads = threads.max(process.threads());
        unavailable += usize::from(!available(cluster));
        // The pause between two measurements.
        std::thread::park_timeout(Duration::from_millis(250));
    }
    stop.store(true, Ordering::Relaxed);
    let cpu = (process.cpu_seconds() - cpu) / started.elapsed().as_secs_f64();
    let to = unix_ms();
    let (mut kept, wrong_kept) = kept.join().unwrap();
    let (mut fresh, wrong_fresh) = fresh.join().unwrap();
    kept.sort_unstable();
    fresh.sort_unstable();
    let longest_gap = longest_gap(daemon, from, to);
    Seen { kept, fresh, wrong: wrong_kept + wrong_fresh, longest_gap, resident_mb, threads, unavailable, cpu }
}

type Waits = (Vec<Duration>, usize);

/// Reads continuously; returns the duration of each right answer, and the number of wrong ones.
fn reader(
    stop: &Arc<AtomicBool>,
    pause: Duration,
    mut read: impl FnMut() -> std::io::Result<()> + Send + 'static,
) -> std::thread::JoinHandle<Waits> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let (mut waits, mut wrong) = (Vec::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match read() {
                Ok(()) => waits.push(asked.elapsed()),
                Err(error) => {
                    wrong += 1;
                    eprintln!("a read failed after {:?}: {error}", asked.elapsed());
                }
            }
            std::thread::park_timeout(pause);
        }
        (waits, wrong)
    })
}

/// Returns the longest time between two successful polls of the good object, including the ends of the period.
fn longest_gap(daemon: &Daemon, from: i64, to: i64) -> Duration {
    let statement = format!(
        "SELECT at_unix_ms FROM v_sample WHERE namespace = '{NAMESPACE}' AND outcome = 'ok' \
         AND at_unix_ms BETWEEN {from} AND {to} ORDER BY at_unix_ms"
    );
    // The newest samples reach the file within a second or two; later ones count as not polled.
    let until = Instant::now() + Duration::from_secs(5);
    let is_fresh =
        |rows: &[Value]| rows.last().and_then(|row| row["at_unix_ms"].as_i64()).is_some_and(|at| to - at < 2_000);
    let mut rows = daemon.sql(&statement);
    while !is_fresh(&rows) && Instant::now() < until {
        std::thread::park_timeout(Duration::from_millis(250));
        rows = daemon.sql(&statement);
    }
    let polls = rows.iter().filter_map(|row| row["at_unix_ms"].as_i64());
    let times: Vec<i64> = [from].into_iter().chain(polls).chain([to]).collect();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_millis(gaps.max().unwrap_or(0).unsigned_abs())
}

fn report(calm: &Seen, stormy: &Seen) -> bool {
    let mut reached = true;
    let mut row = |what: &str, at_rest: String, attacked: String, goal: &str, is_met: bool| {
        println!("{what:<52} {at_rest:>14} {attacked:>14} {goal:>12}{}", if is_met { "" } else { "   MISSED" });
        reached &= is_met;
    };
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    for (what, calm, stormy, goal_ms) in [
        ("p99 of the front proxy's reads, kept connection", &calm.kept, &stormy.kept, 50),
        ("p99 of the front proxy's reads, fresh connection", &calm.fresh, &stormy.fresh, 500),
    ] {
        let seen = quantile(stormy, 0.99);
        let is_met = seen.is_some_and(|seen| seen <= Duration::from_millis(goal_ms));
        let text = |seen: Option<Duration>| seen.map_or("none".to_owned(), ms);
        row(what, text(quantile(calm, 0.99)), text(seen), &format!("{goal_ms} ms"), is_met);
        println!("    reads{:>61} {:>14}", calm.len(), stormy.len());
    }
    row("reads without the right answer", calm.wrong.to_string(), stormy.wrong.to_string(), "0", stormy.wrong == 0);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    row(
        &format!("longest time between polls (interval {POLL_SECONDS} s)"),
        seconds(calm.longest_gap),
        seconds(stormy.longest_gap),
        "4 s",
        stormy.longest_gap <= Duration::from_secs(POLL_SECONDS + 1),
    );
    let mb = |seen: f64| format!("{seen:.0} MB");
    row("resident memory, highest", mb(calm.resident_mb), mb(stormy.resident_mb), "128 MB", stormy.resident_mb < 128.0);
    row(
        "threads, most",
        calm.threads.to_string(),
        stormy.threads.to_string(),
        "at rest + 8",
        stormy.threads <= calm.threads + 8,
    );
    row(
        "looks at which the APIService was not Available",
        calm.unavailable.to_string(),
        stormy.unavailable.to_string(),
        "0",
        stormy.unavailable == 0,
    );
    row("cores in use by the daemon", format!("{:.2}", calm.cpu), format!("{:.2}", stormy.cpu), "", true);
    reached
}

fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied()
}

fn available(cluster: &Cluster) -> bool {
    let found = cluster.get("apiservice", "", APISERVICE).unwrap_or_default();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|c: &Value| c["type"] == "Available" && c["status"] == "True")
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn good_object(cluster: &Cluster) -> String {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": name(0), "namespace": NAMESPACE },
        "spec": {
            "scaleTargetRef": { "name": name(0) },
            "pollingInterval": POLL_SECONDS, "minReplicaCount": 1, "maxReplicaCount": 10,
            "triggers": [{ "type": "prometheus", "metadata": {
                "serverAddress": cluster.prometheus(), "query": format!("sum(vector({VALUE}))"), "threshold": "100",
            } }],
        },
    })
    .to_string()
}

fn name(n: usize) -> String {
    format!("object-{n}")
}
