//! `kill -9` at random moments, with two instances under a changing load: what the API server saw is compared with what
//! the load was and with what the histories of both have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Daemon, wait_until};
use super::machine::{another, set_cooldown};
use super::stage::{Outcome, Stage, pass, unix_ms};
use super::watch::{Change, Watch};

const COOLDOWN: u64 = 4;
/// The longest time from a value to the scale that it leads to: the next leader may have to wait for the Lease first.
const LATE_MAX: i64 = 20_000;

/// A value that was in force for so long under one leader has been polled, at a polling interval of 1 s.
const POLLED_MS: i64 = 2_000;
/// A value that was polled this shortly before rules out a scale to zero, whatever the time until that was seen.
const COOLING_MS: i64 = 2_000;

/// So long after its start an instance sees every change, and a history has it so long afterwards.
const SETTLED_MS: i64 = 3_000;
const WRITTEN_MS: i64 = 2_000;
/// An instance sees a change this much sooner or later than the bench at most.
const APART_MS: i64 = 2_000;

/// An instance from its start to its kill, with its history.
struct Life {
    db: PathBuf,
    from: i64,
    until: i64,
}

impl Life {
    fn of(db: PathBuf) -> Self {
        Self { db, from: unix_ms(), until: i64::MAX }
    }
}

pub(crate) fn rounds(stage: &mut Stage, _lasts: Duration) -> Outcome {
    let number =
        |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"));
    let (seed, pause_max) = (number("HPALITE_FAULTS_SEED", 1), number("HPALITE_FAULTS_PAUSE_MS", 3_000));
    let mut random = fastrand::Rng::with_seed(seed);
    set_cooldown(stage, COOLDOWN);
    let watch = Watch::start(stage);
    let mut instances = vec![stage.daemon.take().expect("a daemon"), another(stage)];
    let mut lives: Vec<Life> = instances.iter().map(|instance| Life::of(instance.db())).collect();
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
        let victim = instances.remove(victim);
        stage.weigh(&victim);
        let doomed_at = unix_ms();
        let killed = victim.kill();
        let (began, killed_at) = (Instant::now(), unix_ms());
        lives.iter_mut().filter(|life| life.db == db).for_each(|life| life.until = life.until.min(doomed_at));
        lives.push(Life::of(db.clone()));
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
    // At last both instances live long enough to see a change.
    pass(Duration::from_millis(SETTLED_MS.unsigned_abs()));
    for value in [5.0, 0.0] {
        load(stage, "asleep", value);
        stage.wait("asleep", i64::from(value > 0.0));
    }
    load(stage, "steady", stage.steady() as f64 * 10.0);
    stage.wait("steady", stage.steady());
    pass(Duration::from_millis(WRITTEN_MS.unsigned_abs()));
    let watched = watch.end();
    stage.accept(&["asleep", "steady"]);
    set_cooldown(stage, 2);
    for instance in &instances {
        stage.weigh(instance);
    }
    let databases: Vec<_> = instances.iter().map(Daemon::db).collect();
    let leader = instances.iter().position(|instance| instance.readiness() == "ok").expect("a leader");
    stage.daemon = Some(instances.swap_remove(leader));
    let changes = match watched {
        Ok(changes) if changes.is_empty() => return Outcome::Failed("the watch saw no change".to_owned()),
        Ok(changes) => changes,
        Err(why) => return Outcome::Failed(why),
    };
    let (recorded, problems) = compare(&changes, &lives);
    for problem in judge(&changes, &loads, &leaderless, &databases).into_iter().chain(problems) {
        eprintln!("{problem}");
        stage.blame(problem);
    }
    drop(instances);
    if recorded == 0 {
        return Outcome::Failed("no instance lived long enough to have a change in its history".to_owned());
    }
    let seen = format!(
        "{} kills, seed {seed}; {} scales seen and {recorded} records of them wanted, longest time without a leader {:.1} s",
        stage.kills,
        changes.len(),
        slowest.as_secs_f64()
    );
    match stage.recover(Instant::now()).and_then(|time| stage.is_told().map(|()| time)) {
        Ok(recovered) => Outcome::Judged { recovered, seen },
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

/// Compares what the bench saw with what the histories have, in both directions: an instance that lived around a change
/// has it, and an instance has nothing else, but what several changes came to while it did not live. Returns how many
/// records had to be there, and the problems.
fn compare(changes: &[Change], lives: &[Life]) -> (usize, Vec<String>) {
    let (mut wanted, mut problems) = (0, Vec::new());
    let databases: BTreeSet<&Path> = lives.iter().map(|life| life.db.as_path()).collect();
    for db in databases {
        let lived: Vec<&Life> = lives.iter().filter(|life| life.db == db).collect();
        let statement = "SELECT at_unix_ms, name, from_replicas, to_replicas, actor, source, manager FROM v_replica_change \
                         WHERE name IN ('asleep', 'steady') ORDER BY at_unix_ms";
        let mut rows = super::cluster::sql(db, statement);
        let began = lived[0].from;
        rows.retain(|row| row["at_unix_ms"].as_i64() >= Some(began));
        for change in changes.iter().filter(|change| change.name == "asleep" || change.name == "steady") {
            let is_it = |row: &Value| {
                row["name"] == change.name
                    && row["from_replicas"] == change.from
                    && row["to_replicas"] == change.to
                    && row["at_unix_ms"].as_i64().is_some_and(|at| (at - change.at).abs() <= APART_MS)
            };
            let must = lived.iter().any(|life| {
                (life.from.saturating_add(SETTLED_MS)..life.until.saturating_sub(WRITTEN_MS)).contains(&change.at)
            });
            wanted += usize::from(must);
            match rows.iter().position(is_it) {
                Some(found) => {
                    let row = rows.remove(found);
                    // Without a manager it is a scale from or to zero, which the HPA of this version does not do.
                    let actor = if change.by == "kube-controller-manager" { "hpa" } else { "hpalite" };
                    if row["actor"] != actor {
                        problems.push(format!("of {actor}, and of another in {}: {row}", db.display()));
                    }
                }
                None if must => problems.push(format!("not in {}: {change:?}", db.display())),
                None => {}
            }
        }
        for row in rows {
            let at = row["at_unix_ms"].as_i64().unwrap_or(0);
            let is_at_start = lived.iter().any(|life| (life.from..life.from + SETTLED_MS).contains(&at));
            let was = |change: &&Change| row["name"] == change.name && row["to_replicas"] == change.to;
            // The newest change of before, or one that the bench saw a moment later.
            let newest = changes.iter().rfind(|change| row["name"] == change.name && change.at <= at);
            let near = changes.iter().filter(|change| (change.at - at).abs() <= APART_MS);
            let is_first = row["from_replicas"].is_null();
            let is_so = newest.into_iter().chain(near).any(|change| was(&change)) || newest.is_none() && is_first;
            if !(is_so && (is_at_start || is_first)) {
                problems.push(format!("never seen, in {}: {row}", db.display()));
            }
        }
    }
    (wanted, problems)
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
