//! `kill -9` at random moments, with two instances under a changing load: what the API server saw is compared with what
//! the load was and with what the histories of both have.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hpalite::kube::{Client, ClusterConfig, Request};
use serde_json::Value;

use super::cluster::{Daemon, wait_until};
use super::machine::{another, set_cooldown};
use super::stage::{NAMESPACE, Outcome, Stage, pass};

const COOLDOWN: u64 = 4;
/// The longest time from a value to the scale that it leads to: the next leader may have to wait for the Lease first.
const LATE_MAX: i64 = 20_000;

/// A value that was in force for so long under one leader has been polled, at a polling interval of 1 s.
const POLLED_MS: i64 = 2_000;
/// A value that was polled this shortly before rules out a scale to zero, whatever the time until that was seen.
const COOLING_MS: i64 = 2_000;

/// A change of replicas, as the API server's watch shows it.
#[derive(Clone, Debug)]
struct Change {
    at: i64,
    name: String,
    from: i64,
    to: i64,
}

pub(crate) fn rounds(stage: &mut Stage, _lasts: Duration) -> Outcome {
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"));
    let (seed, pause_max) = (number("HPALITE_FAULTS_SEED", 1), number("HPALITE_FAULTS_PAUSE_MS", 3_000));
    let mut random = fastrand::Rng::with_seed(seed);
    set_cooldown(stage, COOLDOWN);
    let stop = Arc::new(AtomicBool::new(false));
    let changes = watch(stage, &stop);
    let mut instances = vec![stage.daemon.take().expect("a daemon"), another(stage)];
    let mut loads: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
    let mut load = |stage: &Stage, name: &'static str, value: f64| {
        stage.set(name, value);
        loads.entry(name).or_default().push((unix_ms(), value));
    };
    load(stage, "asleep", 0.0);
    load(stage, "steady", 30.0);
    let (mut slowest, mut leading) = (Duration::ZERO, instances[0].pid());
    // Times in which nobody may have polled.
    let mut leaderless: Vec<(i64, i64)> = Vec::new();
    for _ in 0..stage.kills {
        pass(Duration::from_millis(random.u64(0..pause_max)));
        load(stage, "asleep", if random.bool() { 5.0 } else { 0.0 });
        load(stage, "steady", f64::from(random.u32(1..8)) * 10.0);
        pass(Duration::from_millis(random.u64(0..pause_max)));
        let victim = random.usize(0..2);
        let db = instances[victim].db();
        let killed = instances.remove(victim).kill();
        let (began, killed_at) = (Instant::now(), unix_ms());
        instances.push(stage.spawn(stage.program(), db, killed));
        let leader = wait_until("an instance to lead", Duration::from_secs(60), || {
            instances.iter().position(|instance| instance.readiness() == "ok")
        });
        if instances[leader].pid() != leading {
            leading = instances[leader].pid();
            instances[leader].route_service(&stage.cluster);
            instances[leader].route(&stage.cluster);
        }
        slowest = slowest.max(began.elapsed());
        leaderless.push((killed_at, unix_ms()));
    }
    load(stage, "asleep", 0.0);
    stage.wait("asleep", 0);
    pass(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    set_cooldown(stage, 2);
    let changes = changes.lock().unwrap().clone();
    let databases: Vec<_> = instances.iter().map(Daemon::db).collect();
    let wrong = judge(&changes, &loads, &leaderless, &databases);
    let leader = instances.iter().position(|instance| instance.readiness() == "ok").expect("a leader");
    stage.daemon = Some(instances.swap_remove(leader));
    drop(instances);
    for problem in &wrong {
        eprintln!("{problem}");
    }
    let seen = format!(
        "{} kills, seed {seed}; {} scales seen, longest time without a leader {:.1} s",
        stage.kills,
        changes.len(),
        slowest.as_secs_f64()
    );
    match stage.recover(Instant::now()) {
        Ok(recovered) => Outcome::Judged { wrong: wrong.len(), recovered, seen },
        Err(why) => Outcome::Failed(why),
    }
}

/// Returns what was scaled without a cause in the load, or without a decision in a history.
fn judge(
    changes: &[Change],
    loads: &BTreeMap<&str, Vec<(i64, f64)>>,
    leaderless: &[(i64, i64)],
    databases: &[impl AsRef<Path>],
) -> Vec<String> {
    let mut problems = Vec::new();
    let statement = "SELECT at_unix_ms, from_replicas, to_replicas FROM v_decision \
                     WHERE name = 'asleep' AND from_replicas <> to_replicas";
    let mut decisions: Vec<Value> =
        databases.iter().flat_map(|db| super::cluster::sql(db.as_ref(), statement)).collect();
    for change in changes {
        // The values that were in force within the time before, with their begin and end.
        let periods = |name: &str, within: i64| -> Vec<(i64, i64, f64)> {
            let load = &loads[name];
            let ends = load.iter().skip(1).map(|(at, _)| *at).chain([i64::MAX]);
            let periods = load.iter().zip(ends).map(|((from, value), until)| (*from, until.min(change.at), *value));
            periods.filter(|(from, until, _)| from <= until && *until >= change.at - within).collect()
        };
        let in_force =
            |name: &str, within: i64| periods(name, within).into_iter().map(|(.., value)| value).collect::<Vec<f64>>();
        let text = format!("{change:?}");
        match change.name.as_str() {
            "asleep" => {
                let is_caused = match change.to {
                    0 => !periods("asleep", COOLING_MS).iter().any(|(from, until, value)| {
                        *value > 0.0 && is_polled(*from, *until, leaderless, change.at - COOLING_MS)
                    }),
                    1 => in_force("asleep", LATE_MAX).iter().any(|value| *value > 0.0),
                    _ => false,
                };
                if !is_caused {
                    let load = periods("asleep", LATE_MAX);
                    let near = leaderless.iter().filter(|(_, leads)| (0..LATE_MAX).contains(&(change.at - leads)));
                    let near: Vec<_> = near.collect();
                    problems.push(format!("no cause in the load {load:?}, without a leader in {near:?}: {text}"));
                }
                let is_it = |row: &Value| {
                    let at = row["at_unix_ms"].as_i64().unwrap_or(0);
                    row["from_replicas"] == change.from
                        && row["to_replicas"] == change.to
                        && (-1_000..LATE_MAX).contains(&(change.at - at))
                };
                match decisions.iter().position(is_it) {
                    Some(found) => drop(decisions.swap_remove(found)),
                    None => problems.push(format!("no decision in a history: {text}")),
                }
            }
            "steady" => {
                let wanted: Vec<i64> = in_force("steady", 40_000).iter().map(|value| (*value / 10.0) as i64).collect();
                let (least, most) = (wanted.iter().min(), wanted.iter().max());
                if least.is_none_or(|least| change.to < *least) || most.is_none_or(|most| change.to > *most) {
                    problems.push(format!("no cause in the load, which asked for {wanted:?}: {text}"));
                }
            }
            _ => problems.push(format!("may not move: {text}")),
        }
    }
    problems
}

/// Returns whether a value that was in force in this period must have been polled in it: it had been under one leader for
/// [`POLLED_MS`], and that did not end before `since`.
fn is_polled(from: i64, until: i64, leaderless: &[(i64, i64)], since: i64) -> bool {
    let mut began = from;
    let gaps = leaderless.iter().filter(|(killed, leads)| *leads > from && *killed < until);
    for (killed, leads) in gaps.copied().chain([(until, until)]) {
        if killed >= since && killed - began >= POLLED_MS {
            return true;
        }
        began = leads;
    }
    false
}

/// Records every change of replicas until told to stop.
fn watch(stage: &Stage, stop: &Arc<AtomicBool>) -> Arc<Mutex<Vec<Change>>> {
    let config = ClusterConfig::load(Some(Path::new(stage.cluster.env("KUBECONFIG")))).expect("a kubeconfig");
    let client = Client::new(config);
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    let list: Value = client.json(&Request::get_path(&path)).expect("a list");
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let known = list["items"].as_array().expect("items").iter();
    let mut replicas: BTreeMap<String, i64> = known.map(of).collect();
    let changes = Arc::<Mutex<Vec<Change>>>::default();
    let (seen, stop) = (Arc::clone(&changes), Arc::clone(stop));
    let request = Request::get_path(format!("{path}?watch=1&resourceVersion={version}"));
    std::thread::spawn(move || {
        let mut stream = client.stream(&request, Duration::from_secs(3_600)).expect("a watch");
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while !stop.load(Ordering::Relaxed) {
            let Ok(amount) = stream.read(&mut buffer) else { return };
            assert!(amount > 0 || stop.load(Ordering::Relaxed), "the watch of the bench ended");
            bytes.extend_from_slice(&buffer[..amount]);
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = bytes.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("JSON");
                let (name, to) = of(&event["object"]);
                let from = replicas.insert(name.clone(), to).unwrap_or(to);
                if from != to {
                    seen.lock().unwrap().push(Change { at: unix_ms(), name, from, to });
                }
            }
        }
    });
    changes
}

fn of(deployment: &Value) -> (String, i64) {
    let name = deployment["metadata"]["name"].as_str().expect("a name").to_owned();
    (name, deployment["spec"]["replicas"].as_i64().unwrap_or(0))
}

fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
