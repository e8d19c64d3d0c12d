//! How fast `hpalite why` answers with a large history.
//!
//! `cargo bench --bench why` runs a tiny one; `HPALITE_BENCH_SAMPLES=10000000 cargo bench --bench why` fills 1,000
//! objects with that many samples and 100,000 decisions, a tenth of them of one object. Each answer includes opening
//! the file, as in the subcommand, but not the start of the process. The daemon's writer runs at the same time.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hpalite::explain::{self, Explanation, Question};
use hpalite::scaling::attribution::Attribution;
use hpalite::scaling::decision::{DecidedTrigger, Decision};
use hpalite::scaling::event::{Answer, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, MetricType, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::scaling::recommend;
use hpalite::store::{Options, Store, unix_now};

const OBJECTS: usize = 1_000;
const POLL_MS: i64 = 30_000;
const SPEC: &str = r#"{
    "scaleTargetRef": { "name": "api" }, "maxReplicaCount": 20, "cooldownPeriod": 60,
    "triggers": [{ "type": "prometheus",
        "metadata": { "serverAddress": "http://prometheus:9090", "query": "sum(queue_length)", "threshold": "10" } }]
}"#;

fn main() {
    let samples: usize =
        std::env::var("HPALITE_BENCH_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let mut options = Options::default();
    // Kept for ever, since only the size matters.
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    options.retention.minutes = options.retention.samples;
    options.retention.hours = options.retention.samples;
    options.retention.size_max = 0;
    let store = Store::start(&path, options).unwrap();
    let keys: Vec<ObjectKey> =
        (0..OBJECTS).map(|i| ObjectKey::new(ApiGroup::KedaSh, "bench", &format!("object-{i}"))).collect();
    let now = unix_now().0;
    let rounds = samples.div_ceil(OBJECTS);
    let decisions = fill(&store, &keys, rounds, now);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let stored = count(
        "SELECT coalesce((SELECT sum(samples) FROM sample_block WHERE merging_into IS NULL), 0) + (SELECT count(*) FROM sample_head)",
    );
    println!(
        "{stored} samples, {} of {decisions} decisions, {} changes of replicas, {:.0} MB",
        count("SELECT count(*) FROM decision"),
        count("SELECT count(*) FROM replica_change"),
        std::fs::metadata(&path).unwrap().len() as f64 / 1e6,
    );
    assert_eq!(count("SELECT count(*) FROM decision"), i64::try_from(decisions).unwrap());

    let at = UnixMillis;
    let middle = now - i64::try_from(rounds).unwrap() * POLL_MS / 2;
    let (hours, day) = (7_200_000, 86_400_000);
    let ordinary: Vec<&str> = keys[1..].iter().step_by(20).map(|key| &*key.name).collect();
    let busy = vec!["object-0"; 20];
    for (whose, names) in [("of an ordinary object", &ordinary), ("of the busiest object", &busy)] {
        measure(&path, &format!("now, {whose}"), names, Question::At(at(now)));
        measure(&path, &format!("half-way, {whose}"), names, Question::At(at(middle)));
        measure(&path, &format!("since 2h, {whose}"), names, Question::Between(at(now - hours), at(now)));
        measure(&path, &format!("since 1d, {whose}"), names, Question::Between(at(now - day), at(now)));
    }
    assert!(store.stop(Duration::from_secs(30)).complete);
}

fn measure(path: &Path, what: &str, names: &[&str], question: Question) {
    let mut entries = 0;
    let mut took: Vec<Duration> = names
        .iter()
        .map(|name| {
            let begun = Instant::now();
            let report: Explanation = explain::why(path, "bench", name, None, question).unwrap();
            let text = report.text();
            let took = begun.elapsed();
            assert!(report.replicas.is_some() && !report.metrics.is_empty(), "{text}");
            entries += report.entries.len();
            took
        })
        .collect();
    took.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{what}: p50 {:.1} ms, slowest {:.1} ms, {} entries each",
        millis(took[took.len() / 2]),
        millis(took[took.len() - 1]),
        entries / names.len(),
    );
}

/// Writes samples of every object up to `now`, with decisions and changes spread over the same time. Returns the number
/// of decisions: one per hundred samples, a tenth of them of the first object.
fn fill(store: &Store, keys: &[ObjectKey], rounds: usize, now: i64) -> usize {
    let start = now - i64::try_from(rounds).unwrap() * POLL_MS;
    store.send(keys.iter().map(|key| definition(key, start)).collect());
    let mut random = fastrand::Rng::with_seed(3);
    let mut values = vec![0_u32; keys.len()];
    let mut replicas = vec![1_u32; keys.len()];
    let mut decisions = 0;
    // Each round has a hundredth as many decisions as samples.
    let per_round = keys.len() / 100;
    for round in 0..rounds {
        let at = start + i64::try_from(round).unwrap() * POLL_MS;
        let mut records = Vec::with_capacity(keys.len() + 3 * per_round);
        for (key, value) in keys.iter().zip(&mut values) {
            if random.u8(0..5) == 0 {
                *value = random.u32(0..300);
            }
            records.push(Record::Sample {
                at: UnixMillis(at + random.i64(0..40)),
                object: key.clone(),
                trigger: 0,
                answer: Answer::Value(f64::from(*value)),
                latency: Duration::from_millis(random.u64(2..30)),
                is_error: false,
            });
        }
        for n in 0..per_round {
            let which = if n == 0 { 0 } else { (round * per_round + n) % keys.len() };
            let to = values[which].div_ceil(10).clamp(1, 20);
            let at = UnixMillis(at + 1_000);
            records.extend(step(&keys[which], at, f64::from(values[which]), replicas[which], to));
            replicas[which] = to;
            decisions += 1;
        }
        while store.stats().queue_depth > 100_000 {
            std::thread::yield_now();
        }
        store.send(records);
    }
    store.flush().unwrap();
    assert_eq!(store.stats().lost_total, 0);
    decisions
}

/// A decision, the HPA's status and the resulting change.
fn step(key: &ObjectKey, at: UnixMillis, value: f64, from: u32, to: u32) -> [Record; 3] {
    let proposal = recommend::proposal(MetricType::AverageValue, value, 10.0, from, None);
    let object = key.clone();
    let decision = Record::Decision {
        at,
        object: object.clone(),
        decision: Arc::new(Decision {
            triggers: vec![DecidedTrigger {
                metric_name: "s0-prometheus".into(),
                value: Some(value),
                active: value > 0.0,
                target: 10.0,
                proposal: Some(proposal),
                ..DecidedTrigger::default()
            }],
            max: Some(20),
            ..Decision::new(Reason::Active, from, from)
        }),
    };
    let condition = |kind: &str, reason: &str| {
        (kind.to_owned(), "True".to_owned(), reason.to_owned(), "as the controller says".to_owned())
    };
    let hpa = Record::Hpa {
        at,
        object: object.clone(),
        current: i32::try_from(from).unwrap(),
        desired: i32::try_from(to).unwrap(),
        conditions: vec![
            condition("AbleToScale", "SucceededRescale"),
            condition("ScalingActive", "ValidMetricFound"),
            condition("ScalingLimited", if proposal.replicas > 20 { "TooManyReplicas" } else { "DesiredWithinRange" }),
        ],
        metrics_json: "[]".to_owned(),
    };
    let by = Some(Attribution::observed("kube-controller-manager"));
    [decision, hpa, Record::Replicas { at, object, from: Some(from), to, by, absent: Vec::new(), unseen_since: None }]
}

fn definition(key: &ObjectKey, at: i64) -> Record {
    Record::Definition {
        at: UnixMillis(at),
        object: key.clone(),
        uid: format!("uid-{}", key.name),
        generation: 1,
        spec_json: SPEC.into(),
        invalid: None,
        resource_triggers: Vec::new(),
        triggers: vec![RecordedTrigger {
            index: 0,
            kind: "prometheus".into(),
            name: None,
            metric_name: "s0-prometheus".into(),
            server: "http://prometheus:9090".into(),
            query: "sum(queue_length)".into(),
            threshold: 10.0,
            activation_threshold: 0.0,
        }],
    }
}
