//! How fast samples are stored, what they cost on disk, how fast one series is read back.
//!
//! `cargo bench --bench store` runs tiny; `HPALITE_BENCH_SAMPLES=20000000 cargo bench --bench store`
//! runs in earnest. Figures are for the whole way: records in, committed and merged rows out.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use hpalite::scaling::event::{Answer, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::store::{Options, Reader, Store};

const START: i64 = 1_767_225_600_000;

struct Load {
    name: &'static str,
    series: usize,
    /// Value of poll `round` of a series, given its value before.
    value: fn(&mut fastrand::Rng, f64) -> f64,
}

fn changing(random: &mut fastrand::Rng, _: f64) -> f64 {
    random.f64() * 100.0
}

/// A fifth of the polls brings a new value of a queue length; the others repeat.
fn repeating(random: &mut fastrand::Rng, before: f64) -> f64 {
    if random.u8(0..5) == 0 { f64::from(random.u16(0..500)) } else { before }
}

fn main() {
    let samples: usize =
        std::env::var("HPALITE_BENCH_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    for load in [
        Load { name: "changing, 1,000 series", series: 1_000, value: changing },
        Load { name: "changing, 10,000 series", series: 10_000, value: changing },
        Load { name: "repeating, 1,000 series", series: 1_000, value: repeating },
        Load { name: "repeating, 10,000 series", series: 10_000, value: repeating },
    ] {
        run(&load, samples);
    }
}

fn run(load: &Load, samples: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    // Kept for ever: the times are made up.
    let mut options = Options::default();
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    let store = Store::start(&path, options).unwrap();
    let keys: Vec<ObjectKey> =
        (0..load.series).map(|i| ObjectKey::new(ApiGroup::KedaSh, "bench", &format!("object-{i}"))).collect();
    for chunk in keys.chunks(1_000) {
        store.send(chunk.iter().map(definition).collect());
    }
    store.flush().unwrap();
    let empty_bytes = size(&path);

    let mut random = fastrand::Rng::with_seed(1);
    let mut values = vec![0.0; load.series];
    let begun = Instant::now();
    let mut sent = 0;
    let mut at = START;
    while sent < samples {
        for (keys, values) in keys.chunks(1_000).zip(values.chunks_mut(1_000)) {
            let records = keys
                .iter()
                .zip(values)
                .map(|(key, value)| {
                    *value = (load.value)(&mut random, *value);
                    Record::Sample {
                        at: UnixMillis(at + random.i64(0..40)),
                        object: key.clone(),
                        trigger: 0,
                        answer: Answer::Value(*value),
                        latency: Duration::from_millis(random.u64(2..30)),
                        is_error: false,
                    }
                })
                .collect();
            // As fast as the writer takes them, without loss.
            while store.stats().queue_depth > 100_000 {
                std::thread::yield_now();
            }
            store.send(records);
            sent += keys.len();
        }
        at += 30_000;
    }
    store.flush().unwrap();
    let committed = begun.elapsed();
    wait_for_merges(&path);
    let took = begun.elapsed();
    let stats = store.stats();
    assert_eq!(stats.lost_total, 0);

    let mut reader = Reader::open(&path).unwrap();
    let mut latencies: Vec<Duration> = (0..100)
        .map(|i| {
            let key = &keys[i * load.series / 100];
            let begun = Instant::now();
            let found = reader.samples(key, 0, UnixMillis(at - 300_000)).unwrap();
            assert_eq!(found.len(), 10.min(sent / load.series));
            begun.elapsed()
        })
        .collect();
    latencies.sort();
    let stopped = store.stop(Duration::from_secs(30));
    assert!(stopped.complete);
    println!(
        "{}: {sent} samples, {:.0}/s committed, {:.0}/s with all merging done, {:.1} bytes each, last 5 minutes of one series p50 {:.2} ms, p99 {:.2} ms",
        load.name,
        sent as f64 / committed.as_secs_f64(),
        sent as f64 / took.as_secs_f64(),
        (size(&path) - empty_bytes) as f64 / sent as f64,
        latencies[50].as_secs_f64() * 1e3,
        latencies[98].as_secs_f64() * 1e3,
    );
    let connection = rusqlite::Connection::open(&path).unwrap();
    let mut statement = connection
        .prepare("SELECT level, count(*), sum(samples), sum(chunks) FROM sample_block GROUP BY level")
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (level, blocks, samples, chunks): (i64, i64, i64, i64) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap(), row.get(3).unwrap());
        println!("    level {level}: {blocks} blocks, {samples} samples in {chunks} chunks");
    }
}

/// What was put off is part of the work.
fn wait_for_merges(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql = "SELECT (SELECT count(*) FROM sample_block WHERE merging_into IS NOT NULL) \
        + coalesce((SELECT max(n) >= 16 FROM (SELECT count(*) AS n FROM sample_block WHERE samples < 24 * chunks GROUP BY level)), 0)";
    while connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        std::thread::yield_now();
    }
}

fn definition(key: &ObjectKey) -> Record {
    Record::Definition {
        at: UnixMillis(START),
        object: key.clone(),
        uid: format!("uid-{}", key.name),
        generation: 1,
        spec_json: "{}".into(),
        invalid: None,
        triggers: vec![RecordedTrigger {
            index: 0,
            kind: "prometheus".into(),
            name: None,
            metric_name: "s0-prometheus".into(),
            server: "http://prometheus:9090".into(),
            query: "sum(up)".into(),
            threshold: 10.0,
            activation_threshold: 0.0,
        }],
    }
}

/// Of the file without its free pages, and of the WAL only when it was folded in.
fn size(path: &Path) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .query_row("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap() as u64
}
