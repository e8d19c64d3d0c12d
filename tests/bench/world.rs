//! Events per second that the core handles, with all known objects listed, owned and polled.
//!
//! `cargo bench --bench world` has 1,000 objects; `HPALITE_BENCH_OBJECTS=10000 cargo bench --bench world` is a full
//! run. Everything happens in one thread, as in the daemon; the outside world is simulated here. At the end it is done as a
//! tenant who wants to hold up the others would: all objects have one target and one authentication, or one query.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hpalite::scaling::event::{
    Answer, Command, Event, PollDone, PollJob, Record, WatchEvent, Write, WriteDone, WriteKind, WriteOk,
};
use hpalite::scaling::model::{ApiGroup, AuthenticationKind, UnixMillis};
use hpalite::scaling::world::{Settings, World, watched_workloads};
use hpalite::wire;
use serde_json::json;

const START: i64 = 1_767_225_600_000;
const THREADS: usize = 8;

fn main() {
    let objects: usize =
        std::env::var("HPALITE_BENCH_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let mut bench = Bench::new();
    bench.timed("object events listed", objects, |bench| {
        bench.list_objects(objects);
        objects
    });
    bench.timed("objects claimed, judged, given an HPA and a status", objects, |bench| {
        bench.run_for(Duration::from_secs(5), 1.0);
        objects
    });
    assert_eq!(bench.world.counts().ready, objects);
    bench.timed("polls, nothing changes", objects, |bench| {
        let polls = bench.polls;
        bench.run_for(Duration::from_secs(120), 1.0);
        bench.polls - polls
    });
    bench.timed("polls, each object becomes active or inactive in each round", objects, |bench| {
        let polls = bench.polls;
        for round in 0..4 {
            bench.run_for(Duration::from_secs(30), if round % 2 == 0 { 500.0 } else { 0.0 });
        }
        bench.polls - polls
    });
    let keys: Vec<_> =
        (0..objects).map(|n| hpalite::scaling::model::ObjectKey::new(ApiGroup::KedaSh, "bench", &name(n))).collect();
    bench.timed("metric reads recorded", objects, |bench| {
        for key in keys.iter().cycle().take(100_000) {
            bench.apply(Event::MetricRead(key.clone()));
        }
        100_000
    });
    bench.timed("counts, as after each batch of events", objects, |bench| {
        for _ in 0..1_000 {
            std::hint::black_box(bench.world.counts());
        }
        1_000
    });
    crowds(objects);
}

/// Each event about what all objects share may concern them all.
fn crowds(objects: usize) {
    let mut bench = Bench::new();
    bench.list_objects(0);
    bench.timed("of one target and one authentication, created one after another", objects, |bench| {
        bench.apply(target(0));
        for n in 0..objects {
            bench.apply(seen(&shared(n, "object-0")));
            bench.run_for(Duration::from_millis(5), 1.0);
        }
        objects
    });
    bench.timed("changes of the shared target's replicas and of a label of the authentication", objects, |bench| {
        for n in 0..100 {
            bench.apply(target(n));
            bench.apply(authentication(n));
            bench.run_for(Duration::from_millis(5), 1.0);
        }
        200
    });
    let mut bench = Bench::new();
    bench.list_objects(objects);
    for n in 0..objects {
        bench.apply(seen(&shared(n, &name(n))));
    }
    bench.run_for(Duration::from_secs(5), 1.0);
    bench.timed("seconds of equal queries, one a second", objects, |bench| {
        bench.run_for(Duration::from_secs(20), 1.0);
        20
    });
}

/// An object like the others, but for its target, authentication and query.
fn shared(n: usize, target: &str) -> String {
    let mut object: serde_json::Value = serde_json::from_str(&scaled_object(n)).unwrap();
    object["metadata"]["generation"] = json!(2);
    object["spec"]["scaleTargetRef"]["name"] = json!(target);
    object["spec"]["pollingInterval"] = json!(1);
    let mut trigger = object["spec"]["triggers"][0].take();
    trigger["metadata"]["query"] = json!("up");
    trigger["metadata"]["authModes"] = json!("bearer");
    trigger["authenticationRef"] = json!({ "name": "token" });
    object["spec"]["triggers"] = vec![trigger; 20].into();
    object.to_string()
}

fn seen(object: &str) -> Event {
    let servers = hpalite::wire::Servers::default();
    let found = wire::scaled_object::from_slice(ApiGroup::KedaSh, object.as_bytes(), &servers).unwrap();
    Event::ScaledObject(ApiGroup::KedaSh, WatchEvent::Changed(Box::new(found)))
}

fn target(n: usize) -> Event {
    let mut found = wire::workload::from_slice(workload(0).as_bytes()).unwrap();
    found.replicas = 1 + u32::try_from(n % 2).unwrap();
    let [deployment, _] = watched_workloads();
    Event::Workload(deployment, WatchEvent::Changed(found))
}

fn authentication(n: usize) -> Event {
    let kind = AuthenticationKind::TriggerAuthentication;
    let metadata =
        json!({ "name": "token", "namespace": "bench", "uid": "u", "resourceVersion": format!("{}", 100 + n) });
    let parameter = json!([{ "parameter": "bearerToken", "name": "token", "key": "token" }]);
    let found = json!({ "metadata": metadata, "spec": { "secretTargetRef": parameter } });
    let found = wire::authentication::from_slice(ApiGroup::KedaSh, kind, found.to_string().as_bytes()).unwrap();
    Event::Authentication(ApiGroup::KedaSh, kind, WatchEvent::Changed(Box::new(found)))
}

struct Bench {
    world: World,
    now: UnixMillis,
    jobs: VecDeque<PollJob>,
    writes: VecDeque<Write>,
    version: u64,
    polls: usize,
    records: usize,
}

impl Bench {
    fn new() -> Self {
        let settings = Settings {
            poll_threads: THREADS,
            server_limits: Default::default(),
            groups_queries: std::env::var_os("HPALITE_BENCH_SINGLY").is_none(),
            writes_max: 32,
            query_timeout: Duration::from_secs(3),
            cross_namespace_services: false,
            version: "bench".to_owned(),
            is_shadow: false,
            namespaces: Vec::new(),
            selects_objects: false,
            seed: 1,
        };
        let world = World::new(settings);
        Self {
            world,
            now: UnixMillis(START),
            jobs: VecDeque::new(),
            writes: VecDeque::new(),
            version: 1,
            polls: 0,
            records: 0,
        }
    }

    fn timed(&mut self, what: &str, objects: usize, work: impl FnOnce(&mut Self) -> usize) {
        let started = Instant::now();
        let done = work(self);
        let took = started.elapsed();
        println!(
            "{objects} objects: {what}: {done} in {:.3} s, {:.0}/s, {:.2} us each, {} records so far",
            took.as_secs_f64(),
            done as f64 / took.as_secs_f64(),
            took.as_secs_f64() * 1e6 / done as f64,
            self.records,
        );
    }

    fn list_objects(&mut self, objects: usize) {
        let scope = String::new;
        let [deployment, stateful_set] = watched_workloads();
        self.apply(Event::Hpa(WatchEvent::ListStart { scope: scope() }));
        self.apply(Event::Hpa(WatchEvent::ListEnd { scope: scope() }));
        self.apply(Event::Workload(stateful_set.clone(), WatchEvent::ListStart { scope: scope() }));
        self.apply(Event::Workload(stateful_set, WatchEvent::ListEnd { scope: scope() }));
        for (group, kind) in [
            (ApiGroup::KedaSh, AuthenticationKind::TriggerAuthentication),
            (ApiGroup::KedaSh, AuthenticationKind::ClusterTriggerAuthentication),
            (ApiGroup::KedaK8sIo, AuthenticationKind::TriggerAuthentication),
        ] {
            self.apply(Event::Authentication(group, kind, WatchEvent::ListStart { scope: scope() }));
            self.apply(Event::Authentication(group, kind, WatchEvent::ListEnd { scope: scope() }));
        }
        self.apply(Event::Namespace(WatchEvent::ListStart { scope: scope() }));
        self.apply(Event::Namespace(WatchEvent::ListEnd { scope: scope() }));
        self.apply(Event::Workload(deployment.clone(), WatchEvent::ListStart { scope: scope() }));
        for n in 0..objects {
            let found = wire::workload::from_slice(workload(n).as_bytes()).unwrap();
            self.apply(Event::Workload(deployment.clone(), WatchEvent::Listed(found)));
        }
        self.apply(Event::Workload(deployment, WatchEvent::ListEnd { scope: scope() }));
        self.apply(Event::ScaledObject(ApiGroup::KedaSh, WatchEvent::ListStart { scope: scope() }));
        for n in 0..objects {
            let found = wire::scaled_object::from_slice(
                ApiGroup::KedaSh,
                scaled_object(n).as_bytes(),
                &hpalite::wire::Servers::default(),
            )
            .unwrap();
            self.apply(Event::ScaledObject(ApiGroup::KedaSh, WatchEvent::Listed(Box::new(found))));
        }
        self.apply(Event::ScaledObject(ApiGroup::KedaSh, WatchEvent::ListEnd { scope: scope() }));
    }

    /// Simulates this much time: writes succeed, and every query is answered with `value`.
    fn run_for(&mut self, time: Duration, value: f64) {
        let end = self.now.plus(time);
        loop {
            if let Some(write) = self.writes.pop_front() {
                let done = self.carry_out(write);
                self.apply(Event::Written(done));
            } else if let Some(job) = self.jobs.pop_front() {
                self.polls += 1;
                self.apply(Event::Polled(vec![PollDone {
                    id: job.id,
                    asked_after: Duration::ZERO,
                    latency: Duration::from_millis(3),
                    answer: Answer::Value(value),
                    split: None,
                    rest: None,
                    pods: None,
                    server: None,
                }]));
            } else {
                let next = self.world.next_deadline().unwrap_or(end);
                if next > end {
                    self.now = end;
                    return;
                }
                self.now = self.now.max(next);
                self.apply(Event::Tick);
            }
        }
    }

    fn carry_out(&mut self, write: Write) -> WriteDone {
        self.version += 1;
        let version = self.version.to_string();
        let ok = match &write.kind {
            WriteKind::CreateHpa(desired) | WriteKind::ApplyHpa(desired) => {
                let mut hpa = wire::hpa::to_apply(desired);
                hpa["metadata"]["uid"] = json!(format!("uid-{version}"));
                hpa["metadata"]["resourceVersion"] = json!(version);
                WriteOk::Hpa(Box::new(wire::hpa::from_slice(hpa.to_string().as_bytes()).unwrap()))
            }
            WriteKind::Claim { .. } | WriteKind::Status(_) => WriteOk::Version(version),
            _ => WriteOk::Done,
        };
        WriteDone { id: write.id, object: write.object, result: Ok(ok) }
    }

    fn apply(&mut self, event: Event) {
        for command in self.world.apply(event, self.now) {
            match command {
                Command::Poll(job) => self.jobs.push_back(job),
                Command::Write(write) => self.writes.push_back(write),
                Command::Record(Record::Sample { .. }) => self.records += 1,
                _ => {}
            }
        }
    }
}

fn name(n: usize) -> String {
    format!("object-{n}")
}

fn workload(n: usize) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name(n), "namespace": "bench", "uid": format!("deployment-{n}"), "resourceVersion": "1" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": name(n) } } },
    })
    .to_string()
}

fn scaled_object(n: usize) -> String {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {
            "name": name(n), "namespace": "bench", "uid": format!("object-uid-{n}"), "resourceVersion": "1",
            "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "scaleTargetRef": { "name": name(n) },
            "minReplicaCount": 1,
            "maxReplicaCount": 10,
            "triggers": [{ "type": "prometheus", "metadata": {
                "serverAddress": "http://prometheus.monitoring.svc:9090",
                "query": format!("sum(rate(http_requests_total{{app=\"{}\"}}[2m]))", name(n)),
                "threshold": "100",
            } }],
        },
    })
    .to_string()
}
