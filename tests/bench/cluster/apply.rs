//! How much the daemon slows a client that applies ScaledObjects one after another, compared with no daemon.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hpalite::kube::client::Client;
use hpalite::kube::request::{ListOptions, Request};

use super::cluster::{Cluster, Daemon, wait_until};
use super::process::Process;
use super::{
    DEPLOYMENTS, HPAS, NAMESPACE, SCALED_OBJECTS, count, deployment, make, name, ready, row, scaled_object, settle,
};

/// Writes in the API server's metrics that only the daemon makes: name, group, resource, subresource, verb.
const OURS: [(&str, &str, &str, &str, &str); 4] = [
    ("claim", "keda.sh", "scaledobjects", "", "PATCH"),
    ("status", "keda.sh", "scaledobjects", "status", "PATCH"),
    ("HPA", "autoscaling", "horizontalpodautoscalers", "", "APPLY"),
    ("event", "events.k8s.io", "events", "", "POST"),
];

pub(crate) fn run(admin: &Client, cluster: &Cluster, objects: usize, polling: u64) {
    make(admin, 0..objects, &DEPLOYMENTS, &deployment);
    settle(Duration::from_secs(5));
    let alone = one_by_one(admin, cluster, objects, polling);
    row("applied by one client, no daemon", &format!("{:.2} s", alone.as_secs_f64()), "");
    let options = ListOptions::default();
    let all = SCALED_OBJECTS.list(Some(NAMESPACE), &options).unwrap();
    admin.send(&Request { method: hpalite::kube::request::Method::Delete, ..all }).unwrap();
    wait_until("no object", Duration::from_secs(60), || (count(admin, &SCALED_OBJECTS) == 0).then_some(()));

    let daemon = Daemon::serve(cluster, &[]);
    settle(Duration::from_secs(5));
    let before = writes(admin);
    let process = Process(daemon.pid());
    let cpu = process.cpu_seconds();
    let started = Instant::now();
    let beside = one_by_one(admin, cluster, objects, polling);
    row("    beside us", &format!("{:.2} s", beside.as_secs_f64()), "");
    row("    times slower", &format!("{:.2}", beside.as_secs_f64() / alone.as_secs_f64()), "");
    let limit = Duration::from_secs(300);
    wait_until("all HPAs", limit, || (count(admin, &HPAS) == objects).then_some(()));
    let after = |what: &str| row(what, &format!("{:.2} s", started.elapsed().saturating_sub(beside).as_secs_f64()), "");
    after("    from the last apply to all HPAs");
    wait_until("all objects to be ready", limit, || (ready(admin) == objects).then_some(()));
    after("    to all Ready");
    let is_event = |(what, _): &(&&str, &u64)| **what == "event";
    wait_until("all events", limit, || {
        let now = writes(admin);
        let events = now.iter().find(is_event).map_or(0, |(_, count)| *count) - before["event"];
        (events >= 3 * objects as u64).then_some(())
    });
    after("    to all events");
    // By then each HPA has had its first sync.
    settle(Duration::from_secs(30));
    row("    daemon's CPU", &format!("{:.2} s", process.cpu_seconds() - cpu), "");
    let mut whole = 0.0;
    for (what, count) in writes(admin) {
        let each = (count - before[what]) as f64 / objects as f64;
        whole += each;
        row(&format!("    writes of each object: {what}"), &format!("{each:.2}"), "");
    }
    row("    writes of each object", &format!("{whole:.2}"), "");
}

/// Applies like `kubectl apply`: a read, and then a create.
fn one_by_one(admin: &Client, cluster: &Cluster, objects: usize, polling: u64) -> Duration {
    let started = Instant::now();
    for n in 0..objects {
        let found = admin.send(&SCALED_OBJECTS.get(Some(NAMESPACE), &name(n)).unwrap());
        assert!(found.is_err_and(|error| error.is_not_found()), "object {n} is there already");
        let body = scaled_object(n, cluster, polling).to_string().into_bytes();
        admin.send(&SCALED_OBJECTS.create(Some(NAMESPACE), body).unwrap()).unwrap();
    }
    started.elapsed()
}

/// Returns writes as the API server counted them.
fn writes(admin: &Client) -> BTreeMap<&'static str, u64> {
    let text = String::from_utf8(admin.send(&Request::get_path("/metrics")).unwrap()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("apiserver_request_total{")).collect();
    let counted = OURS.map(|(what, group, resource, subresource, verb)| {
        let labels = [("group", group), ("resource", resource), ("subresource", subresource), ("verb", verb)];
        let wanted = labels.map(|(label, value)| format!(",{label}=\"{value}\""));
        let is_one = |line: &&&str| wanted.iter().all(|label| line.contains(label.as_str()));
        let value = |line: &&str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok()).unwrap_or(0);
        (what, lines.iter().filter(is_one).map(value).sum())
    });
    counted.into_iter().collect()
}
