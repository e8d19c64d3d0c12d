//! Two instances on one cluster: leader, standby, and the change between them.

use std::time::{Duration, Instant};

use hpalite::kube::{Client, ClusterConfig, Request};
use serde_json::{Value, json};

use super::Exclusive;
use super::case::{Case, Source};
use super::hpa::writes;
use crate::support::cluster::{Cluster, Daemon, signal, wait_for, wait_seeing, wait_until};

/// A Lease that expires while a test waits for it.
const SHORT: [&str; 6] = [
    "--leader-elect-lease-duration",
    "4s",
    "--leader-elect-renew-deadline",
    "3s",
    "--leader-elect-retry-period",
    "500ms",
];

fn arguments<'a>(case: &'a Case<'_>, more: &[&'a str]) -> Vec<&'a str> {
    [&["--namespace", case.namespace.as_str()], more].concat()
}

/// Starts a daemon beside one that leads already.
fn standby(case: &Case<'_>, more: &[&str]) -> Daemon {
    let folder = tempfile::tempdir_in(&case.cluster.folder).unwrap();
    let daemon = Daemon::spawn_in(case.cluster, &arguments(case, more), folder);
    wait_until_it_stands_by(&daemon, &holder(case.cluster));
    daemon
}

fn wait_until_it_stands_by(daemon: &Daemon, leader: &str) {
    wait_seeing("it to stand by", || match daemon.readiness() {
        text if text == format!("not ready: standing by: {leader} leads") => Ok(()),
        text => Err(format!("{text}\n{}", daemon.log())),
    });
}

fn lease(cluster: &Cluster) -> Value {
    cluster.raw("/apis/coordination.k8s.io/v1/namespaces/hpalite/leases/hpalite").unwrap()
}

fn holder(cluster: &Cluster) -> String {
    lease(cluster)["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Waits until it is ready, checking every few milliseconds.
fn wait_until_ready(daemon: &Daemon) {
    let started = Instant::now();
    loop {
        let seen = daemon.readiness();
        if seen == "ok" {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{seen}\n{}", daemon.log());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Returns the versions of the objects, which do not change at rest.
fn versions(case: &Case<'_>) -> Vec<Value> {
    let of = |object: Value| object["metadata"]["resourceVersion"].clone();
    let deployment = case.get("deployment", "api").expect("the Deployment");
    vec![of(case.object("so")), of(case.hpa().expect("the HPA")), of(deployment)]
}

#[test]
fn one_acts_and_hands_over_within_a_second() {
    let case = Case::exclusive(Exclusive::Faults, "hand-over").deployment(0);
    let source = Source::new(20.0);
    let mut leader = Daemon::serve(case.cluster, &arguments(&case, &[]));
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    let mut fastest = Duration::MAX;
    for round in 3..=5 {
        let next = standby(&case, &[]);
        let asked = source.requests().len();
        // It watches and does nothing else, while the first one polls.
        source.asked(3);
        assert_eq!(writes(&next), 0.0);
        assert_eq!(next.metric("hpalite_polls_total{outcome=\"value\"}").unwrap_or(0.0), 0.0);
        assert!(source.requests().len() - asked < 8, "one poll a second, not two");
        let before = holder(case.cluster);
        let began = Instant::now();
        signal(leader.pid(), "TERM");
        wait_until_ready(&next);
        fastest = fastest.min(began.elapsed());
        assert_ne!(holder(case.cluster), before);
        let (code, _) = leader.wait();
        assert_eq!(code, Some(0));
        next.route(case.cluster);
        source.set(f64::from(round) * 10.0);
        case.wait_for_replicas(i64::from(round));
        leader = next;
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    assert!(lease(case.cluster)["spec"]["leaseTransitions"].as_i64() >= Some(3));
}

#[test]
fn a_frozen_leader_is_replaced_and_writes_nothing_when_it_thaws() {
    let case = Case::exclusive(Exclusive::Faults, "frozen").deployment(0);
    let source = Source::new(0.0);
    let first = Daemon::serve(case.cluster, &arguments(&case, &SHORT));
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_until_ready();
    let second = standby(&case, &SHORT);
    let began = Instant::now();
    signal(first.pid(), "STOP");
    wait_until_ready(&second);
    assert!(began.elapsed() > Duration::from_secs(3), "not before the first has stopped by itself: {began:?}");
    second.route(case.cluster);
    // The first instance would have done this if it had not been replaced. The API server ends a read of the HPA
    // controller that hangs in the frozen instance after a minute.
    source.set(30.0);
    wait_until("3 replicas", Duration::from_secs(150), || (case.replicas() == 3).then_some(()));
    case.wait_for_condition("Active", "True", "ScalerActive");
    // The HPA controller and the second instance come to rest.
    let before = wait_seeing("everything at rest", || {
        let seen = versions(&case);
        source.asked(3);
        let now = versions(&case);
        if now == seen { Ok(now) } else { Err(format!("{seen:?}, {now:?}")) }
    });
    signal(first.pid(), "CONT");
    let log = |folder: &tempfile::TempDir| std::fs::read_to_string(folder.path().join("log")).unwrap();
    let (code, folder) = first.wait();
    assert_eq!(code, Some(1), "it ends, to start anew");
    assert!(log(&folder).contains("another instance has taken the lease"), "{}", log(&folder));
    assert!(!log(&folder).contains("msg=scaled"), "{}", log(&folder));
    assert_eq!(versions(&case), before);
    // Started again it stands by, until the other one is killed.
    let first = Daemon::spawn_in(case.cluster, &arguments(&case, &SHORT), folder);
    wait_until_it_stands_by(&first, &holder(case.cluster));
    let began = Instant::now();
    let _folder = second.kill();
    wait_until_ready(&first);
    assert!(began.elapsed() > Duration::from_secs(2), "{began:?}");
    first.route(case.cluster);
    source.set(50.0);
    case.wait_for_replicas(5);
}

/// The leader dies, then its successor, which has another database. The cooldown neither ends nor begins anew.
#[test]
fn a_cooldown_outlives_those_who_count_it() {
    const COOLDOWN_MS: i64 = 20_000;
    let case = Case::exclusive(Exclusive::Faults, "cooldown").deployment(0);
    let source = Source::new(20.0);
    let first = Daemon::serve(case.cluster, &arguments(&case, &SHORT));
    case.scale("so", json!({ "cooldownPeriod": COOLDOWN_MS / 1_000, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    case.wait_for_condition("Active", "True", "ScalerActive");
    let second = standby(&case, &SHORT);
    source.set(0.0);
    let fell = Instant::now();
    case.wait_for_condition("Active", "False", "ScalerCooldown");
    let active_until = || case.object("so")["status"]["lastActiveTime"].as_str().unwrap().to_owned();
    let before = active_until();
    drop(first.kill());
    wait_until_ready(&second);
    let folder = second.kill();
    let second = Daemon::start_in(case.cluster, &arguments(&case, &SHORT), folder);
    second.route(case.cluster);
    case.wait_for_replicas(0);
    assert!(fell.elapsed() > Duration::from_millis(COOLDOWN_MS as u64 - 2_000), "{:?}", fell.elapsed());
    assert_eq!(active_until(), before);
    let ends = second.sql(
        "SELECT min(cooldown_until) AS first, max(cooldown_until) AS last FROM v_decision WHERE reason = 'CoolingDown'",
    );
    let begun = hpalite::wire::time::parse_rfc3339(&before).unwrap().0;
    for end in ["first", "last"] {
        let end = hpalite::wire::time::parse_rfc3339(ends[0][end].as_str().unwrap()).unwrap().0;
        assert!((end - begun - COOLDOWN_MS).abs() <= 1_000, "{before}: {ends:?}");
    }
}

#[test]
fn who_is_killed_and_comes_back_goes_on_at_once() {
    let case = Case::exclusive(Exclusive::Faults, "back");
    let daemon = Daemon::start(case.cluster, &arguments(&case, &["--leader-elect-lease-duration", "10m"]));
    let before = holder(case.cluster);
    let folder = daemon.kill();
    // Within the deadline, which is far shorter than the Lease.
    let daemon = Daemon::start_in(case.cluster, &arguments(&case, &[]), folder);
    assert_eq!(holder(case.cluster), before);
    let (_, _folder) = daemon.stop();
    assert_eq!(holder(case.cluster), "");
}

#[test]
fn a_silent_api_server_costs_the_right_to_write_and_nothing_else() {
    let case = Case::exclusive(Exclusive::Faults, "outage").deployment(1);
    let source = Source::new(20.0);
    let daemon = Daemon::serve(case.cluster, &arguments(&case, &SHORT));
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    let frozen = super::restart::Frozen::new(case.cluster, "kube-apiserver");
    wait_seeing("the lease to lapse", || {
        daemon.log().contains("nothing is written until it is").then_some(()).ok_or_else(|| daemon.log())
    });
    source.asked(3);
    assert_eq!(daemon.readiness(), "ok", "reads are still answered, and nobody else can");
    wait_seeing("the history to tell of it while it lasts", || {
        let found = daemon.sql("SELECT kind FROM v_interruption");
        found.iter().any(|row| row["kind"] == "api-server").then_some(()).ok_or_else(|| format!("{found:?}"))
    });
    drop(frozen);
    wait_seeing("the lease to be renewed", || {
        daemon.log().contains("lease renewed, writing again").then_some(()).ok_or_else(|| daemon.log())
    });
    source.set(40.0);
    case.wait_for_replicas(4);
}

/// Reads a metric continuously, like the HPA controller; every answer counts.
pub(super) struct Reader {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Vec<String>)>,
}

impl Reader {
    pub(super) fn start(case: &Case<'_>) -> Self {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dso",
            case.namespace
        );
        let config = ClusterConfig::load(Some(std::path::Path::new(case.cluster.env("KUBECONFIG")))).unwrap();
        let client = Client::new(config);
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut reads, mut failures) = (0, Vec::new());
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                reads += 1;
                let began = Instant::now();
                match client.send_within(&Request::get_path(&path), Duration::from_secs(20)) {
                    Ok(body) if String::from_utf8_lossy(&body).contains("\"value\":") => {}
                    Ok(body) => failures.push(String::from_utf8_lossy(&body).into_owned()),
                    Err(error) => failures.push(format!("after {:?}: {error}", began.elapsed())),
                }
                let about = Request::get_path(format!(
                    "/apis/apiregistration.k8s.io/v1/apiservices/{}",
                    crate::support::cluster::APISERVICE
                ));
                let available = client.json::<Value>(&about).map(|found| {
                    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True")
                });
                if !matches!(available, Ok(true)) {
                    failures.push(format!("APIService not Available: {available:?}"));
                }
            }
            (reads, failures)
        });
        Self { stop, thread }
    }

    /// Returns the number of reads; panics if one failed.
    pub(super) fn finish(self) -> usize {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let (reads, failures) = self.thread.join().unwrap();
        assert!(failures.is_empty(), "{} of {reads} reads failed: {failures:#?}", failures.len());
        reads
    }
}

/// Row 28 of the conformance list.
#[test]
fn row_28_no_read_fails_while_one_instance_replaces_another() {
    let case = Case::exclusive(Exclusive::Faults, "rolling").deployment(0);
    let source = Source::new(20.0);
    let old = Daemon::serve(case.cluster, &arguments(&case, &["--drain", "8"]));
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(2);
    let new = standby(&case, &[]);
    let reader = Reader::start(&case);
    source.asked(1);
    signal(old.pid(), "TERM");
    wait_until_ready(&new);
    // As the endpoints controller does once the new pod is ready and the old one ends.
    new.route(case.cluster);
    let (code, folder) = old.wait();
    assert_eq!(code, Some(0));
    source.asked(2);
    let reads = reader.finish();
    assert!(reads > 20, "{reads}");
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("lease handed over"), "{log}");
    wait_for("the new one to be read", || {
        new.metric("hpalite_http_requests_total").is_some_and(|count| count > 0.0).then_some(())
    });
}
