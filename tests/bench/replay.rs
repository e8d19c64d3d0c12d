//! How long a month of one object takes to replay, and of many.
//!
//! `cargo bench --bench replay` replays a day; `HPALITE_BENCH_DAYS=30 cargo bench --bench replay` a month. The load is a
//! curve of each day with jitter, so that most answers differ; nothing of it is repeated by the HPA's real looks. Only
//! the replay of today's settings is measured, once for each polling interval, with its reading from the file.
//! `HPALITE_BENCH_OBJECTS=500` replays as many objects that are polled every 30 s with `hpalite replay --all`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hpalite::replay::command::{self, Arguments, Subject};
use hpalite::replay::{Model, Replay, load, today};
use hpalite::scaling::event::{Answer, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::store::read::Range;
use hpalite::store::{Options, Reader, Store};

const START: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

fn main() {
    let days: i64 = std::env::var("HPALITE_BENCH_DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    if let Some(objects) = std::env::var("HPALITE_BENCH_OBJECTS").ok().and_then(|text| text.parse().ok()) {
        return all(days, objects);
    }
    for seconds in [5, 15, 30] {
        replay(days, seconds);
    }
}

fn all(days: i64, objects: u32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let store = Store::start(&path, keeping_all()).unwrap();
    let to = START + days * DAY_MS;
    let keys: Vec<ObjectKey> =
        (0..objects).map(|number| ObjectKey::new(ApiGroup::KedaSh, "shop", &format!("web-{number}"))).collect();
    store.send(keys.iter().map(|key| definition(key, 30)).collect());
    let mut batch = Vec::new();
    for at in (START..to).step_by(30_000) {
        batch.extend(keys.iter().map(|key| sample(at, key)));
        if batch.len() > 10_000 || at + 30_000 >= to {
            store.send(std::mem::take(&mut batch));
            store.flush().unwrap();
        }
    }
    assert!(store.stop(Duration::from_secs(120)).complete);
    let arguments = Arguments {
        subject: Subject::All {
            db: path,
            namespace: None,
            since: Duration::from_millis(u64::try_from(to - START).unwrap()),
            until: Some(UnixMillis(to).to_string()),
        },
        choices: Vec::new(),
        goal: None,
        model: Model::default(),
        from_prometheus: None,
        json: true,
        ascii: false,
        width: None,
    };
    let started = Instant::now();
    let mut out = Vec::new();
    command::run(&arguments, &mut out).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let lines = report["objects"].as_array().unwrap();
    let polls: u64 = lines.iter().filter_map(|line| line["polls"].as_u64()).sum();
    println!("{days} days of {} objects at 30 s: {:.1} s, {polls} polls", lines.len(), started.elapsed().as_secs_f64());
}

fn keeping_all() -> Options {
    let mut options = Options::default();
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    options.retention.minutes = options.retention.samples;
    options.retention.hours = options.retention.samples;
    options.retention.history = options.retention.samples;
    options.retention.size_max = 0;
    options
}

fn replay(days: i64, seconds: i64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let store = Store::start(&path, keeping_all()).unwrap();
    let key = ObjectKey::new(ApiGroup::KedaSh, "shop", "web");
    let range = Range { from: START, to: START + days * DAY_MS };
    store.send(vec![definition(&key, seconds)]);
    let times: Vec<i64> = (range.from..range.to).step_by(usize::try_from(seconds * 1000).unwrap()).collect();
    for times in times.chunks(10_000) {
        store.send(times.iter().map(|at| sample(*at, &key)).collect());
        store.flush().unwrap();
    }
    assert!(store.stop(Duration::from_secs(120)).complete);
    let started = Instant::now();
    let mut reader = Reader::open(&path).unwrap();
    let recorded = load(&mut reader, &key, range).unwrap().unwrap();
    let read = started.elapsed();
    let settings = today(key.group, &recorded.manifest).unwrap();
    let replay = Replay::new(&recorded, &settings, range, Model::default()).unwrap();
    let replayed = started.elapsed() - read;
    let report = replay.report(&[]);
    println!(
        "{days} days at {seconds} s: read in {:.2} s, replayed in {:.2} s, {} polls, {} changes",
        read.as_secs_f64(),
        replayed.as_secs_f64(),
        report.polls,
        report.today.measures.changes,
    );
}

fn definition(object: &ObjectKey, seconds: i64) -> Record {
    let query = "sum(rate(http_requests_total[1m]))";
    let spec = format!(
        r#"{{"maxReplicaCount":50,"pollingInterval":{seconds},"scaleTargetRef":{{"name":"web"}},"triggers":[{{"metadata":{{"query":"{query}","serverAddress":"http://p:9090","threshold":"50"}},"type":"prometheus"}}]}}"#
    );
    Record::Definition {
        at: UnixMillis(START),
        object: object.clone(),
        uid: "u".into(),
        generation: 1,
        spec_json: Arc::from(spec),
        invalid: None,
        triggers: vec![RecordedTrigger {
            index: 0,
            kind: "prometheus".into(),
            name: None,
            metric_name: "s0-prometheus".into(),
            server: "http://p:9090".into(),
            query: query.into(),
            threshold: 50.0,
            activation_threshold: 0.0,
        }],
        resource_triggers: Vec::new(),
    }
}

fn sample(at: i64, object: &ObjectKey) -> Record {
    let angle = (at % DAY_MS) as f64 / DAY_MS as f64 * std::f64::consts::TAU;
    let jitter = (at / 1000 % 97) as f64;
    let value = (angle.sin() + 1.0) * 400.0 + jitter;
    Record::Sample {
        at: UnixMillis(at),
        object: object.clone(),
        trigger: 0,
        answer: Answer::Value(value),
        latency: Duration::from_millis(3),
        is_error: false,
    }
}
