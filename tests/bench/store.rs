//! How fast samples are stored, their size on disk, and how fast a series is read.
//!
//! `cargo bench --bench store` runs a tiny one; `HPALITE_BENCH_SAMPLES=20000000 cargo bench --bench store` is a full
//! run. Figures include the whole way: records in, committed, merged and rolled-up rows out.
//! `HPALITE_BENCH_MONTH=1` instead fills 30 days of 500 objects with the default retention and prints the size.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hpalite::scaling::attribution::Attribution;
use hpalite::scaling::decision::{DecidedTrigger, Decision};
use hpalite::scaling::event::{Answer, Record, RecordedTrigger};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use hpalite::scaling::reason::Reason;
use hpalite::store::{Options, Reader, Store};

const START: i64 = 1_767_225_600_000;

struct Load {
    name: &'static str,
    series: usize,
    /// The value of a poll of a series, given its previous value.
    value: fn(&mut fastrand::Rng, f64) -> f64,
}

fn changing(random: &mut fastrand::Rng, _: f64) -> f64 {
    random.f64() * 100.0
}

/// A queue length: a fifth of the polls has a new value, the others repeat the previous one.
fn repeating(random: &mut fastrand::Rng, before: f64) -> f64 {
    if random.u8(0..5) == 0 { f64::from(random.u16(0..500)) } else { before }
}

fn main() {
    if std::env::var_os("HPALITE_BENCH_MONTH").is_some() {
        return month();
    }
    let samples: usize =
        std::env::var("HPALITE_BENCH_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    paced(500, 100, samples / 400);
    paced(10_000, 1_000, samples / 2_000);
    for load in [
        Load { name: "changing, 1,000 series", series: 1_000, value: changing },
        Load { name: "changing, 10,000 series", series: 10_000, value: changing },
        Load { name: "repeating, 1,000 series", series: 1_000, value: repeating },
        Load { name: "repeating, 10,000 series", series: 10_000, value: repeating },
    ] {
        run(&load, samples);
    }
}

/// Returns the CPU time of this process, and the bytes that it wrote to files, including log and checkpoints.
fn cost() -> (Duration, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks =
        stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum::<u64>();
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap();
    // Linux reports hundredths of a second on every system.
    (Duration::from_millis(ticks * 10), written)
}

/// Writes like a daemon, half a second of samples per commit. Prints the cost of a sample with packing and merging.
fn paced(series: usize, per_second: usize, seconds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let mut options = Options::default();
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    let store = Store::start(&path, options).unwrap();
    let keys: Vec<ObjectKey> =
        (0..series).map(|i| ObjectKey::new(ApiGroup::KedaSh, "bench", &format!("object-{i}"))).collect();
    store.send(keys.iter().map(definition).collect());
    store.flush().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut values = vec![0.0; series];
    // In the future, since the age of the head also causes packing.
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let (cpu, written) = cost();
    let mut next = 0;
    for half in 0..2 * seconds {
        let records = (0..per_second / 2)
            .map(|i| {
                let which = next % series;
                next += 1;
                values[which] = repeating(&mut random, values[which]);
                Record::Sample {
                    at: UnixMillis(start + (half * 500 + i * 1_000 / per_second) as i64),
                    object: keys[which].clone(),
                    trigger: 0,
                    answer: Answer::Value(values[which]),
                    latency: Duration::from_millis(random.u64(2..30)),
                    is_error: false,
                }
            })
            .collect();
        store.send(records);
        store.flush().unwrap();
    }
    wait_for_merges(&path);
    let (cpu_after, written_after) = cost();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
    assert!(store.stop(Duration::from_secs(30)).complete);
    println!(
        "paced, {series} series, {per_second}/s, {next} samples: {:.1} µs CPU, {} bytes written each, resident {resident}, file {:.1} bytes each",
        (cpu_after - cpu).as_secs_f64() * 1e6 / next as f64,
        (written_after - written) / next as u64,
        size(&path) as f64 / next as f64,
    );
}

fn run(load: &Load, samples: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    // Kept for ever, since the times are made up.
    let mut options = Options::default();
    options.retention.samples = Duration::from_secs(40_000 * 86_400);
    options.retention.minutes = options.retention.samples;
    options.retention.hours = options.retention.samples;
    options.retention.size_max = 0;
    let store = Store::start(&path, options.clone()).unwrap();
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
            // As fast as the writer accepts them without loss.
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
    let begun = Instant::now();
    let store = Store::start(&path, options).unwrap();
    let restored = store.restore().unwrap().len();
    let started = begun.elapsed();
    assert!(store.stop(Duration::from_secs(30)).complete);
    let begun = Instant::now();
    hpalite::store::health::of(&path).unwrap();
    println!(
        "start and restore of {restored} objects from {:.0} MB: {started:.0?}; a check of the whole file {:.0?}",
        size(&path) as f64 / 1e6,
        begun.elapsed()
    );
    println!(
        "{}: {sent} samples, {:.0}/s committed, {:.0}/s with all merging done, {:.1} bytes each, last 5 minutes of one series p50 {:.2} ms, p99 {:.2} ms",
        load.name,
        sent as f64 / committed.as_secs_f64(),
        sent as f64 / took.as_secs_f64(),
        (size(&path) - empty_bytes - rolled_bytes(&path)) as f64 / sent as f64,
        latencies[50].as_secs_f64() * 1e3,
        latencies[98].as_secs_f64() * 1e3,
    );
    println!(
        "    roll-ups: {:.1} MB, longest slice of deleting {:?}, of any upkeep {:?}",
        rolled_bytes(&path) as f64 / 1e6,
        stats.deleting_longest,
        stats.upkeep_longest
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

/// 500 objects of one trigger, up to now. Polled every 15 s for slightly longer than samples or minutes are kept, and
/// every 5 minutes before, which leaves the same rows, the hours. Six times a day an object's replicas change, each by
/// an action of the HPA with two statuses; twice a day hpalite decides.
fn month() {
    const OBJECTS: usize = 500;
    const DAY: i64 = 86_400_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let store = Store::start(&path, Options::default()).unwrap();
    let keys: Vec<ObjectKey> =
        (0..OBJECTS).map(|i| ObjectKey::new(ApiGroup::KedaSh, "bench", &format!("object-{i}"))).collect();
    store.send(keys.iter().map(definition).collect());
    store.flush().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut random = fastrand::Rng::with_seed(2);
    let mut values = vec![0.0; OBJECTS];
    let (mut at, mut sent) = (now - 30 * DAY, 0);
    let begun = Instant::now();
    while at < now {
        let step = if at < now - 8 * DAY { 300_000 } else { 15_000 };
        let mut records = Vec::new();
        for (key, value) in keys.iter().zip(&mut values) {
            *value = repeating(&mut random, *value);
            records.push(Record::Sample {
                at: UnixMillis(at + random.i64(0..40)),
                object: key.clone(),
                trigger: 0,
                answer: Answer::Value(*value),
                latency: Duration::from_millis(random.u64(2..30)),
                is_error: false,
            });
            if random.i64(0..DAY) < 6 * step {
                happens(&mut records, key, UnixMillis(at), &mut random);
            }
        }
        sent += keys.len();
        while store.stats().queue_depth > 50_000 {
            std::thread::yield_now();
        }
        store.send(records);
        at += step;
    }
    store.flush().unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    wait_for_merges(&path);
    // Blocks are kept until their newest sample is too old, which is checked once a minute.
    let old = "SELECT (SELECT count(*) FROM sample_block WHERE until_unix_ms < (unixepoch() - 3 * 86400 - 60) * 1000) \
        + (SELECT count(*) FROM minute_block WHERE until_unix_ms < (unixepoch() - 7 * 86400 - 60) * 1000)";
    let deadline = Instant::now() + Duration::from_secs(180);
    while connection.query_row(old, [], |row| row.get::<_, i64>(0)).unwrap() > 0 && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let took = begun.elapsed();
    let stats = store.stats();
    assert!(store.stop(Duration::from_secs(30)).complete);
    println!(
        "30 days of {OBJECTS} objects: {:.0} MB in use, file {:.0} MB; {sent} samples in {:.0} s, lost {}, dropped for the size cap {:?}, longest slice of deleting {:?}",
        size(&path) as f64 / 1e6,
        std::fs::metadata(&path).unwrap().len() as f64 / 1e6,
        took.as_secs_f64(),
        stats.lost_total,
        stats.dropped_total,
        stats.deleting_longest,
    );
    let mut statement = connection
        .prepare(
            "SELECT name, sum(pgsize) / 1e6 FROM dbstat WHERE aggregate = TRUE GROUP BY name ORDER BY 2 DESC LIMIT 12",
        )
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        println!("    {:>8.1} MB  {}", row.get::<_, f64>(1).unwrap(), row.get::<_, String>(0).unwrap());
    }
}

fn happens(records: &mut Vec<Record>, key: &ObjectKey, at: UnixMillis, random: &mut fastrand::Rng) {
    let (from, to) = (random.u32(1..20), random.u32(1..20));
    if random.u8(0..3) == 0 {
        let trigger = DecidedTrigger {
            metric_name: "s0-prometheus".into(),
            value: Some(12.5),
            active: true,
            target: 10.0,
            ..DecidedTrigger::default()
        };
        let reason = Reason::Activated { metrics: vec!["s0-prometheus".into()] };
        records.push(Record::Decision {
            at,
            object: key.clone(),
            decision: Arc::new(Decision { triggers: vec![trigger], ..Decision::new(reason, from, to) }),
        });
        records.push(Record::Action { at, object: key.clone(), from, to, error: None });
    }
    let by = Some(Attribution::observed("kube-controller-manager"));
    records.push(Record::Replicas {
        at,
        object: key.clone(),
        from: Some(from),
        to,
        by,
        absent: Vec::new(),
        unseen_since: None,
    });
    let condition = |kind: &str, reason: &str, message: &str| {
        (kind.to_owned(), "True".to_owned(), reason.to_owned(), message.replace("NAME", &key.name))
    };
    // The texts alternate, so that each object has some of its own.
    let limited = match random.u8(0..3) {
        0 => condition(
            "ScalingLimited",
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        ),
        1 => condition(
            "ScalingLimited",
            "ScaleUpLimit",
            "the desired replica count is increasing faster than the maximum scale rate",
        ),
        _ => condition("ScalingLimited", "DesiredWithinRange", "the desired count is within the acceptable range"),
    };
    for current in [from, to] {
        records.push(Record::Hpa {
            at,
            object: key.clone(),
            current: current as i32,
            desired: to as i32,
            conditions: vec![
                condition("AbleToScale", "SucceededRescale", "the HPA controller was able to update the target scale to the new size"),
                condition("ScalingActive", "ValidMetricFound", "the HPA was able to successfully calculate a replica count from external metric s0-prometheus(&LabelSelector{MatchLabels:map[string]string{scaledobject.keda.sh/name: NAME,},MatchExpressions:[]LabelSelectorRequirement{},})"),
                limited.clone(),
            ],
            metrics_json: r#"[{"type":"External","external":{"metric":{"name":"s0-prometheus","selector":{"matchLabels":{"scaledobject.keda.sh/name":"object-1"}}},"current":{"averageValue":"12500m"}}}]"#.to_owned(),
        });
    }
}

/// Returns the bytes of the roll-ups, which outlive the samples and do not count as their cost.
fn rolled_bytes(path: &Path) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE aggregate = TRUE AND name IN \
        ('sample_minute', 'minute_block', 'minute_block_by_until', 'sample_hour', 'rolled_hour')";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

/// Deferred merges are part of the work.
fn wait_for_merges(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql = "SELECT (SELECT count(*) FROM sample_block WHERE merging_into IS NOT NULL) \
        + (SELECT count(*) FROM sample_block WHERE rolled_series < 16777215 AND (samples >= 36 * chunks OR level >= 4)) \
        + coalesce((SELECT max(n) >= 20 FROM (SELECT count(*) AS n FROM sample_block WHERE samples < 36 * chunks AND level < 4 GROUP BY level, rolled_series)), 0)";
    let deadline = Instant::now() + Duration::from_secs(600);
    while connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0 {
        assert!(Instant::now() < deadline, "merging does not end");
        std::thread::park_timeout(Duration::from_millis(5));
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
        resource_triggers: Vec::new(),
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

/// Returns the size of the file without free pages; the WAL counts only after a checkpoint.
fn size(path: &Path) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .query_row("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap() as u64
}
