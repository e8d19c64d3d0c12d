//! A tenant with hanging servers must not delay others.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::{Exclusive, exclusive};
use crate::support::cluster::{Daemon, wait_for};

/// A hundred triggers with distinct queries at distinct addresses that accept connections but never answer, with the
/// longest possible timeout.
#[test]
fn a_tenant_whose_servers_hang_keeps_nobody_waiting() {
    let (cluster, _lock) = exclusive(Exclusive::Faults);
    let (good, bad) = (Case::within(cluster, "good"), Case::within(cluster, "bad"));
    for case in [&good, &bad] {
        cluster.deployment(&case.namespace, "api", 1);
    }
    // The kernel accepts the connections, but nothing reads from them.
    let silent = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let triggers: Vec<Value> = (0..100)
        .map(|n| {
            json!({ "type": "prometheus", "metadata": {
                "serverAddress": format!("http://127.0.1.{}:{port}", n + 1), "query": format!("bad{n}"),
                "threshold": "10", "timeout": "30s",
            } })
        })
        .collect();
    let daemon = Daemon::serve(cluster, &["--namespace", &good.namespace, "--namespace", &bad.namespace]);
    // The bad tenant comes first and takes its whole share before the other one is there.
    bad.scale("so", json!({ "minReplicaCount": 1, "pollingInterval": 1, "triggers": triggers }));
    wait_for("questions that hang", || daemon.metric("hpalite_polls_in_flight").filter(|held| *held >= 1.0));
    let source = Source::new(5.0);
    good.scale("so", json!({ "minReplicaCount": 1, "pollingInterval": 3, "triggers": [source.trigger("10")] }));
    source.asked(1);
    let began = Instant::now();
    source.asked(8);
    // 24 s by the interval. A slow machine may delay polls; one that waits for a worker takes 30 s.
    assert!(began.elapsed() < Duration::from_secs(45), "{:?} for eight polls", began.elapsed());
    let held = daemon.metric("hpalite_polls_in_flight").unwrap();
    assert!(held <= 3.0, "{held} workers");
    good.wait_until_ready();
    // The tenant's own object reports the cause, without changing numbers.
    let message = bad.wait_for_event("KEDAScalerFailed", "no answer");
    assert!(message.contains("no answer for more than 33 s") || message.contains("within 30s"), "{message}");
    bad.wait_for_condition("Ready", "False", "TriggerError");
}
