//! `hpalite why` over simulated histories in a real file: each claim is derived again from the file's views by SQL and
//! some arithmetic that the explanation does not use, and compared with what was really done.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::controller::Controller;
use super::*;
use crate::explain::claim::{Claim, Window};
use crate::explain::{self, Explanation, Metric, MetricState, Question};
use crate::scaling::attribution::{Actor, Attribution};
use crate::scaling::event::{Missing, RestoredState};
use crate::scaling::model::UnixMillis;
use crate::seeds;
use crate::store::read::NEWEST_WITHIN_MS;

const SEEDS: u64 = 24;
const STEPS: usize = 40;

#[test]
fn every_claim_is_derived_from_rows_and_refuted_by_none() {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    seeds::each(module_path!(), SEEDS, |seed| {
        let story = simulate(seed);
        for report in story.reports() {
            let moment = Moment { story: &story, seed };
            moment.check(&report, &mut seen);
        }
    });
    // The property says nothing about claims that never occur.
    for kind in [
        "Moved",
        "Seen",
        "SeenAtStart",
        "MetricValue",
        "Absent",
        "HpaCondition",
        "LastHigher",
        "Decided",
        "Compared",
        "CooldownOver",
        "Paused",
        "InError",
        "Cooldown",
        "AtMax",
        "AtMin",
        "Tolerance",
        "Window",
        "ReportedStabilized",
    ] {
        assert!(seeds::is_again() || seen.get(kind).is_some_and(|count| *count > 3), "{kind}: {seen:?}");
    }
}

/// What really happened, and the file about it.
struct Story {
    _folder: tempfile::TempDir,
    path: PathBuf,
    file: Connection,
    from: i64,
    to: i64,
    /// When the object's pauses changed.
    pauses: Vec<(i64, bool)>,
    controller: Controller,
    restarts: Vec<i64>,
    /// When the controller was restarted.
    forgot: Vec<i64>,
    moments: Vec<i64>,
}

fn spec(random: &mut fastrand::Rng) -> Value {
    let triggers: Vec<Value> = (0..random.usize(1..3))
        .map(|n| {
            let mut metadata =
                json!({ "serverAddress": "http://prometheus:9090", "query": format!("q{n}"), "threshold": "10" });
            match random.u8(0..6) {
                0 => metadata["ignoreNullValues"] = json!("false"),
                1 => metadata["onMissing"] = json!("zero"),
                2 => metadata["onMissing"] = json!("hold"),
                _ => {}
            }
            if metadata["onMissing"] == "hold" {
                metadata["holdFor"] = json!("60s");
            }
            let kind = if random.u8(0..4) == 0 { "Value" } else { "AverageValue" };
            json!({ "type": "prometheus", "metricType": kind, "metadata": metadata })
        })
        .collect();
    let mut spec = json!({
        "scaleTargetRef": { "name": "web" }, "triggers": triggers, "pollingInterval": random.u8(3..16),
        "cooldownPeriod": random.u8(5..60), "minReplicaCount": random.u8(0..3), "maxReplicaCount": random.u8(4..14),
    });
    if random.bool() {
        spec["fallback"] = json!({ "failureThreshold": 2, "replicas": 3 });
    }
    if random.u8(0..3) == 0 {
        let window = random.u8(0..60);
        spec["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "behavior": {
            "scaleDown": { "stabilizationWindowSeconds": window },
        } } });
    }
    spec
}

fn read(spec: &Value, generation: i64, paused: bool) -> ScaledObject {
    let mut annotations = json!({});
    if paused {
        annotations["autoscaling.keda.sh/paused"] = json!("true");
    }
    let object = json!({
        "metadata": { "namespace": "default", "name": "shop", "uid": "uid-shop", "generation": generation,
            "resourceVersion": "1", "creationTimestamp": "1970-01-12T00:00:00Z", "annotations": annotations },
        "spec": spec,
    });
    let mut object = crate::wire::scaled_object::from_value(ApiGroup::KedaSh, object, &crate::wire::Servers::default())
        .unwrap()
        .object;
    assert!(object.definition.is_ok(), "{:?}", object.definition);
    object.spec_json = spec.to_string().as_str().into();
    object
}

fn answer(random: &mut fastrand::Rng) -> Answer {
    match random.u8(0..12) {
        0 | 1 => Answer::Missing(Missing::Empty),
        2 => Answer::Missing(Missing::NaN),
        3 => failed("refused"),
        4 => Answer::Value(0.0),
        _ => Answer::Value(f64::from(random.u32(1..160))),
    }
}

fn simulate(seed: u64) -> Story {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut spec, mut generation, mut paused) = (spec(&mut random), 1, random.u8(0..5) == 0);
    let mut cluster = Cluster::default();
    cluster.put_object(read(&spec, generation, paused));
    cluster.put_workload(&deployment(), workload("web", random.u32(0..6)));
    let mut rig = Rig::new(cluster);
    let mut controller = Controller {
        sync_ms: [2_000, 5_000, 15_000][random.usize(0..3)],
        window_ms: [5_000, 30_000, 300_000][random.usize(0..3)],
        tolerance: [0.01, 0.1, 0.1, 0.2][random.usize(0..4)],
        is_foreign: random.u8(0..8) == 0,
        is_named: random.bool(),
        memory: Vec::new(),
        moves: Vec::new(),
    };
    let from = rig.now.0;
    let mut forgot = Vec::new();
    let mut story = (vec![(from, paused)], vec![from], Vec::new());
    for query in ["q0", "q1"] {
        rig.set_answer(query, Answer::Value(f64::from(random.u32(0..100))));
    }
    for _ in 0..STEPS {
        match random.u8(0..20) {
            0 => {
                paused = !paused;
                rig.annotate(&key("shop"), |object| object.pause.paused = paused);
                story.0.push((rig.now.0, paused));
            }
            1 => {
                let replicas = random.u32(0..8);
                let manager = random.bool().then(|| "kubectl (scale)".to_owned());
                let found = Workload { replicas_manager: manager, ..workload("web", replicas) };
                rig.cluster.put_workload(&deployment(), found);
            }
            2 => {
                generation += 1;
                spec["maxReplicaCount"] = json!(random.u8(4..14));
                let new = read(&spec, generation, paused);
                rig.edit(&key("shop"), |object| {
                    object.definition.clone_from(&new.definition);
                    object.spec_json = Arc::clone(&new.spec_json);
                });
            }
            3 => {
                let before = rig.cluster.workloads.values().next().unwrap().clone();
                if random.bool() {
                    let found = workload("web", random.u32(0..6));
                    rig.cluster.put_workload(&deployment(), found);
                }
                let restored = RestoredState {
                    key: key("shop"),
                    uid: "uid-shop".to_owned(),
                    last_active_at: Some(rig.now),
                    replicas: Some((generation, before.replicas)),
                    held: Vec::new(),
                    put_to_zero: None,
                };
                story.1.push(rig.now.0);
                rig.restart(vec![restored]);
            }
            4 => {
                controller.memory.clear();
                forgot.push(rig.now.0);
            }
            _ => {
                let query = ["q0", "q1"][random.usize(0..2)];
                rig.set_answer(query, answer(&mut random));
            }
        }
        controller.run(&mut rig, random.i64(3_000..60_000));
        story.2.push(rig.now.0);
    }
    let (pauses, restarts, moments) = story;
    let (folder, path) = rig.store_records();
    let file = Connection::open(&path).unwrap();
    // The row that the store itself wrote has today's time.
    file.execute("DELETE FROM process_run", []).unwrap();
    for at in &restarts {
        let insert = "INSERT INTO process_run (version, started_at_unix_ms, state) VALUES ('0', ?1, 'running')";
        file.execute(insert, [at]).unwrap();
    }
    Story { _folder: folder, path, file, from, to: rig.now.0, pauses, controller, restarts, forgot, moments }
}

fn why(path: &Path, question: Question) -> Explanation {
    explain::why(path, "default", "shop", None, question).unwrap()
}

impl Story {
    fn reports(&self) -> impl Iterator<Item = Explanation> + '_ {
        let moments = self.moments.iter().map(|at| why(&self.path, Question::At(UnixMillis(*at))));
        let whole = why(&self.path, Question::Between(UnixMillis(self.from), UnixMillis(self.to)));
        // From the middle on, what was in force before counts.
        let middle = self.moments[self.moments.len() / 2];
        let half = why(&self.path, Question::Between(UnixMillis(middle), UnixMillis(self.to)));
        moments.chain([whole, half])
    }

    fn count(&self, sql: &str, parameters: impl rusqlite::Params) -> i64 {
        self.file.prepare(sql).unwrap().query_row(parameters, |row| row.get(0)).unwrap()
    }

    fn has(&self, sql: &str, parameters: impl rusqlite::Params) -> bool {
        self.count(&format!("SELECT count(*) FROM {sql}"), parameters) > 0
    }

    fn spec(&self, at: i64) -> Value {
        let sql =
            "SELECT spec_json FROM definition WHERE from_unix_ms <= ?1 ORDER BY from_unix_ms DESC, id DESC LIMIT 1";
        let text: String = self.file.query_row(sql, [at], |row| row.get(0)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn replicas(&self, at: i64) -> u32 {
        let sql = "SELECT coalesce((SELECT to_replicas FROM replica_change WHERE at_unix_ms <= ?1 \
                   ORDER BY at_unix_ms DESC, id DESC LIMIT 1), 0)";
        u32::try_from(self.count(sql, [at])).unwrap()
    }

    /// What each sample of this period asked for, by plain division; without a number, the result of the fallback.
    fn asks(&self, from: i64, to: i64) -> Vec<(i64, String, u32)> {
        let sql = "SELECT at_unix_ms, metric_name, coalesce(value, (SELECT iif(fallback, t.value, NULL) FROM v_decision_trigger t \
                       WHERE t.metric_name = s.metric_name AND t.at_unix_ms <= s.at_unix_ms AND EXISTS (SELECT 1 FROM error_period e \
                           WHERE e.series_id = s.series_id AND s.at_unix_ms >= e.from_unix_ms AND s.at_unix_ms < coalesce(e.until_unix_ms, s.at_unix_ms + 1)) \
                       ORDER BY t.at_unix_ms DESC LIMIT 1)) \
                   FROM v_sample s WHERE at_unix_ms BETWEEN ?1 AND ?2";
        let mut statement = self.file.prepare(sql).unwrap();
        let rows = statement.query_map([from, to], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let rows = rows.map(|row| -> (i64, String, Option<f64>) { row.unwrap() });
        rows.filter_map(|(at, metric, value)| {
            let index: usize = metric[1..2].parse().unwrap();
            let in_all = self.spec(at)["triggers"][index]["metricType"] == "Value";
            let replicas = self.replicas(at);
            let factor = if in_all && replicas > 0 { f64::from(replicas) } else { 1.0 };
            Some((at, metric, (value? / 10.0 * factor).ceil() as u32))
        })
        .collect()
    }

    fn paused(&self, at: i64) -> bool {
        self.pauses.iter().rev().find(|(since, _)| *since <= at).unwrap().1
    }

    /// Returns whether the pause has been the same for long enough.
    fn is_settled(&self, at: i64) -> bool {
        let changes = self.pauses.iter().map(|(since, _)| *since).chain(self.restarts.iter().copied());
        changes.filter(|since| *since <= at).all(|since| at - since > 20_000)
    }
}

struct Moment<'s> {
    story: &'s Story,
    seed: u64,
}

impl Moment<'_> {
    fn check(&self, report: &Explanation, seen: &mut std::collections::BTreeMap<String, usize>) {
        let story = self.story;
        let at = crate::wire::time::parse_rfc3339(&report.at).unwrap().0;
        assert_eq!(report.replicas, Some(story.replicas(at)), "seed {} at {at}: {}", self.seed, report.text());
        let by = |name: &str| report.held_by.iter().any(|held| held.by == name);
        if story.is_settled(at) {
            assert_eq!(by("pause"), story.paused(at), "seed {} at {at}: {}", self.seed, report.text());
        }
        if story.controller.is_foreign && story.replicas(at) > 0 && !story.paused(at) && story.is_settled(at) {
            let reported = "(SELECT conditions_json FROM hpa_observation h JOIN hpa_conditions c ON c.id = h.conditions_id \
                        WHERE at_unix_ms <= ?1 ORDER BY at_unix_ms DESC, h.id DESC LIMIT 1) WHERE conditions_json LIKE '%FailedGetExternalMetric%'";
            assert!(by("hpa") || !story.has(reported, [at]), "seed {} at {at}: {}", self.seed, report.text());
        }
        let entries = report
            .entries
            .iter()
            .map(|entry| (&entry.claims, &entry.text, crate::wire::time::parse_rfc3339(&entry.at).unwrap().0));
        let held = report.held_by.iter().map(|held| (&held.claims, &held.text, at));
        for (claims, text, at) in entries.chain(held) {
            assert!(!text.contains("{") && !text.contains("Some("), "{text}");
            for claim in claims {
                let name = format!("{claim:?}");
                let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
                *seen.entry(name).or_default() += 1;
                if let Err(problem) = self.verify(claim, at) {
                    panic!("seed {} at {at}: {problem}\n{claim:?}\n{text}\n{}", self.seed, report.text());
                }
            }
        }
        for metric in &report.metrics {
            self.check_metric(metric, at, report.replicas.unwrap_or(0))
                .unwrap_or_else(|problem| panic!("seed {}: {problem}", self.seed));
        }
    }

    /// `at` is the time of the sentence.
    fn verify(&self, claim: &Claim, at: i64) -> Result<(), String> {
        let story = self.story;
        let ok = |is: bool, what: &str| if is { Ok(()) } else { Err(what.to_owned()) };
        match claim {
            Claim::Moved { at, from, to, by } => {
                let row = "replica_change WHERE at_unix_ms = ?1 AND from_replicas = ?2 AND to_replicas = ?3 AND actor = ?4 AND manager IS ?5";
                ok(story.has(row, params![at, from, to, by.actor.id(), by.manager]), "no such row")?;
                self.author(*at, *from, *to, by)
            }
            Claim::Seen { at, to } => {
                ok(
                    story.has(
                        "replica_change WHERE at_unix_ms = ?1 AND from_replicas IS NULL AND to_replicas = ?2",
                        params![at, to],
                    ),
                    "no such row",
                )?;
                ok(!story.has("replica_change WHERE at_unix_ms < ?1", [at]), "it was seen before")
            }
            Claim::SeenAtStart { started, at } => {
                ok(story.restarts.contains(started) && started <= at, "no such start")?;
                ok(
                    !story.has("replica_change WHERE at_unix_ms >= ?1 AND at_unix_ms < ?2", [started, at]),
                    "it was seen since",
                )?;
                ok(
                    !story.has("v_sample WHERE at_unix_ms > ?1 AND at_unix_ms < ?2", [started, at]),
                    "it was polled before",
                )
            }
            Claim::Unseen { since, at } => {
                let row = "replica_change WHERE at_unix_ms = ?2 AND unseen_since_unix_ms <= ?1";
                ok(story.has(row, params![since, at]), "it was seen")
            }
            Claim::MetricValue { at, replicas, metric } => {
                ok(*replicas == story.replicas(at - 1) || *replicas == story.replicas(*at), "other replicas ran")?;
                self.check_metric(metric, *at, *replicas)
            }
            Claim::Absent { metric, at, since, .. } => {
                let row = "v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND value IS NOT NULL";
                ok(!story.has(row, params![metric, since, at]), "it had a number")?;
                ok(
                    story.has(
                        "v_sample WHERE metric_name = ?1 AND at_unix_ms = ?2 AND value IS NULL",
                        params![metric, since],
                    ),
                    "nothing began then",
                )
            }
            Claim::After { metric, sample_at, .. } => ok(
                story.has(
                    "v_sample WHERE metric_name = ?1 AND at_unix_ms = ?2 AND value IS NOT NULL",
                    params![metric, sample_at],
                ),
                "no such sample",
            ),
            Claim::HpaCondition { at, kind, status, reason, .. } => {
                let like = format!("%\"reason\":\"{reason}\",\"status\":\"{status}\",\"type\":\"{kind}\"%");
                let row = "hpa_observation h JOIN hpa_conditions c ON c.id = h.conditions_id WHERE at_unix_ms = ?1 AND conditions_json LIKE ?2";
                ok(story.has(row, params![at, like]), "it never said so")
            }
            Claim::LastHigher { metric, sample_at, asked, to, at } => {
                let asks = story.asks(*sample_at, *at);
                ok(asks.contains(&(*sample_at, metric.clone(), *asked)) && asked > to, "it did not ask for that")?;
                let later = asks.iter().find(|(time, _, count)| time != sample_at && count > to);
                ok(later.is_none(), &format!("more was asked for later: {later:?}"))
            }
            Claim::NoneHigher { since, to, at } => {
                ok(story.asks(*since, *at).iter().all(|(_, _, count)| count <= to), "more was asked for")
            }
            Claim::Highest { metric, sample_at, to, at } => {
                let asks = story.asks(*sample_at, *at);
                ok(asks.contains(&(*sample_at, metric.clone(), *to)), "it did not ask for that")?;
                ok(asks.iter().all(|(_, _, count)| count <= to), "more was asked for later")
            }
            Claim::Decided { at, detail, pause } => {
                let row = "decision WHERE at_unix_ms = ?1 AND instr(detail, ?2) = 1 AND pause IS ?3";
                ok(story.has(row, params![at, detail, pause]), "no such decision")
            }
            Claim::Compared { decision_at, metric, value, activation } => {
                let row =
                    "v_decision_trigger WHERE at_unix_ms = ?1 AND metric_name = ?2 AND value = ?3 AND absence IS NULL";
                ok(story.has(row, params![decision_at, metric, value]) && *activation == 0.0, "no such value")
            }
            Claim::CooldownOver { decision_at, until, seconds, at } => {
                let row = "decision WHERE at_unix_ms = ?1 AND cooldown_until_unix_ms = ?2";
                ok(story.has(row, [decision_at, until]) && until <= at, "no such cooldown")?;
                ok(
                    seconds.is_none_or(|seconds| story.spec(*decision_at)["cooldownPeriod"] == seconds),
                    "another period",
                )
            }
            Claim::Paused { since, at, .. } => {
                ok(
                    !story.has("decision WHERE at_unix_ms BETWEEN ?1 AND ?2 AND pause IS NULL", [since, at]),
                    "not paused in between",
                )?;
                ok(
                    story.has("decision WHERE at_unix_ms = ?1 AND pause IS NOT NULL", [since]),
                    "it did not begin then",
                )?;
                ok(!story.is_settled(*at) || story.paused(*at), "it is not paused")
            }
            Claim::PausedCondition { at, .. } => ok(!story.is_settled(*at) || story.paused(*at), "it is not paused"),
            Claim::InError { metric, since, polls, outcome, at, .. } => {
                let row = "error_period e JOIN series s ON s.id = e.series_id WHERE s.metric_name = ?1 AND e.from_unix_ms = ?2 \
                           AND outcome = ?3 AND (e.until_unix_ms IS NULL OR e.until_unix_ms > ?4)";
                ok(story.has(row, params![metric, since, outcome, at]), "no such error")?;
                let sql = "SELECT count(*) FROM v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND outcome = ?4";
                let count = u64::try_from(story.count(sql, params![metric, since, at, outcome])).unwrap();
                ok(polls.is_none_or(|polls| polls == count), &format!("{count} polls"))
            }
            Claim::Cooldown { decision_at, until, .. } => {
                let row = "decision WHERE at_unix_ms = ?1 AND cooldown_until_unix_ms = ?2 AND reason IN ('CoolingDown', 'InitialCooldown')";
                ok(story.has(row, [decision_at, until]), "no such decision")?;
                ok(
                    !story.has("decision WHERE at_unix_ms > ?1 AND at_unix_ms <= ?2", [*decision_at, at]),
                    "a newer one says otherwise",
                )
            }
            Claim::NoSample { metric, since, ever, at } => {
                let since = if *ever { since - NEWEST_WITHIN_MS } else { 0 };
                ok(
                    !story.has(
                        "v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3",
                        params![metric, since, at],
                    ),
                    "there is one",
                )
            }
            Claim::Silence { sample_at, at, .. } | Claim::Late { sample_at, at, .. } => ok(
                !story.has("v_sample WHERE at_unix_ms > ?1 AND at_unix_ms <= ?2", [sample_at, at]),
                "there is a newer sample",
            ),
            Claim::AtMax(max) => {
                ok(story.spec(at)["maxReplicaCount"] == *max && story.replicas(at) >= *max, "below it")
            }
            Claim::AtMin(min) => {
                let least = story.spec(at)["minReplicaCount"].as_u64().unwrap().max(1);
                ok(least == u64::from(*min) && story.replicas(at) == *min, "above it")
            }
            Claim::Tolerance { is_own, .. } => {
                // Refuted by a move of the HPA that is within the default.
                let moves = story.controller.moves.iter().filter(|(when, ..)| when.0 < at - 60_000);
                let near = moves.filter(|(when, from, to)| {
                    let asked = story.asks(when.0 - 40_000, when.0).into_iter().map(|(_, _, count)| count);
                    let asked: Vec<u32> = asked.collect();
                    let is_near = f64::from(from.abs_diff(*to)) / f64::from(*from) < 0.05;
                    is_near && !asked.is_empty() && asked.iter().all(|count| count == to)
                });
                ok(!is_own && near.count() == 0, "it moved within the tolerance")
            }
            Claim::Window(Window::Own(seconds)) => {
                let own = &story.spec(at)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"];
                ok(own["stabilizationWindowSeconds"] == *seconds, "another window")
            }
            Claim::Window(Window::Learnt { seconds, at, sample_at, .. }) => {
                let row = "replica_change WHERE at_unix_ms = ?1 AND actor = 'hpa' AND to_replicas < from_replicas";
                ok(story.has(row, [at]), "no such scale-in")?;
                ok((at - sample_at + 999) / 1000 == *seconds, "another time")?;
                let to = story.replicas(*at);
                ok(
                    story.asks(*sample_at, *sample_at).iter().any(|(_, _, count)| *count > to),
                    "nothing more was asked for",
                )?;
                // The claim is about the flag's value, unless the controller was restarted in between.
                let slack = story.controller.sync_ms + 16_000;
                let forgot = story.forgot.iter().any(|when| *when > sample_at - slack && when <= at);
                ok(forgot || seconds * 1000 + slack >= story.controller.window_ms, "far less than the flag says")
            }
            Claim::Window(Window::Default) => {
                // Refuted by an HPA's scale-in sooner after its scale-out, unless the count was constant for longer.
                let own = &story.spec(at)["advanced"];
                ok(own.is_null(), "its behavior has a window")
            }
            Claim::Left(seconds) => ok(*seconds >= 0, "less than nothing"),
            Claim::ReportedStabilized { at: reported } => {
                let row = "hpa_observation h JOIN hpa_conditions c ON c.id = h.conditions_id \
                           WHERE at_unix_ms = ?1 AND conditions_json LIKE '%ScaleDownStabilized%'";
                ok(story.has(row, [reported]), "it never said so")?;
                ok(
                    !story.has("hpa_observation WHERE at_unix_ms > ?1 AND at_unix_ms <= ?2", [*reported, at]),
                    "it says otherwise by now",
                )
            }
            Claim::Window(Window::Unknown) => Ok(()),
            Claim::Stopped { .. }
            | Claim::StoodBy { .. }
            | Claim::Shadow { .. }
            | Claim::NotStarted
            | Claim::Removed { .. }
            | Claim::Invalid { .. }
            | Claim::CheckFailed { .. }
            | Claim::Resources(_) => Err("nothing of the kind happened".to_owned()),
        }
    }

    /// An observed author made the change; an inferred one has a row that says why.
    fn author(&self, at: i64, from: u32, to: u32, by: &Attribution) -> Result<(), String> {
        let story = self.story;
        let near = |when: &UnixMillis| (0..=10_000).contains(&(at - when.0));
        let moves = &story.controller.moves;
        let is_hpa = moves.iter().any(|(when, was, is)| near(when) && (*was, *is) == (from, to));
        match (by.actor, &by.manager) {
            (Actor::Hpa, Some(_)) if !is_hpa => Err("the HPA did nothing".to_owned()),
            (Actor::Hpa, None) => {
                let row = "hpa_observation WHERE desired_replicas = ?1 AND at_unix_ms <= ?2 + 10000";
                if story.has(row, params![to, at]) { Ok(()) } else { Err("the HPA did not want it".to_owned()) }
            }
            (Actor::Hpalite, _) => {
                let row = "action WHERE to_replicas = ?1 AND abs(at_unix_ms - ?2) <= 60000";
                if story.has(row, params![to, at]) { Ok(()) } else { Err("hpalite did nothing".to_owned()) }
            }
            (Actor::Other, _)
                if is_hpa && !story.restarts.iter().any(|start| (0..15_000).contains(&(start - at).abs())) =>
            {
                Err("it was the HPA".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_metric(&self, metric: &Metric, at: i64, replicas: u32) -> Result<(), String> {
        let story = self.story;
        let newest = "SELECT outcome, value, threshold, at_unix_ms FROM v_sample WHERE metric_name = ?1 AND at_unix_ms <= ?2 \
                      ORDER BY at_unix_ms DESC LIMIT 1";
        let found: Result<(String, Option<f64>, f64, i64), _> =
            story.file.query_row(newest, params![metric.metric, at], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            });
        let decided = "SELECT fallback FROM v_decision_trigger WHERE metric_name = ?1 AND at_unix_ms <= ?2 ORDER BY at_unix_ms DESC LIMIT 1";
        let falls_back = story.file.query_row(decided, params![metric.metric, at], |row| row.get::<_, Option<bool>>(0));
        let falls_back = falls_back.ok().flatten() == Some(true);
        let is = match (&metric.reading, found) {
            (MetricState::None { .. }, Err(_)) => return Ok(()),
            (_, Err(_)) => return Err(format!("no sample: {metric:?}")),
            (MetricState::None { .. }, Ok(found)) => return Err(format!("there is a sample: {found:?}")),
            (MetricState::Number, Ok((outcome, value, threshold, _))) => {
                outcome == "ok" && metric.value == value && metric.target == threshold
            }
            (MetricState::Absent { since, .. }, Ok((outcome, ..))) => {
                let other = "v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND outcome <> ?4";
                let before = "SELECT coalesce((SELECT outcome FROM v_sample WHERE metric_name = ?1 AND at_unix_ms < ?2 \
                              ORDER BY at_unix_ms DESC LIMIT 1) = ?3, 0)";
                outcome != "ok"
                    && !story.has(other, params![metric.metric, since, at, outcome])
                    && story.count(before, params![metric.metric, since, outcome]) == 0
            }
            (MetricState::Fallback { since, failures, .. }, Ok((outcome, ..))) => {
                let sql = "SELECT count(*) FROM v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND outcome = ?4";
                let counted = since.map(|since| story.count(sql, params![metric.metric, since, at, outcome]));
                falls_back && failures.is_none_or(|count| counted == Some(i64::try_from(count).unwrap()))
            }
            (MetricState::Failed { since, .. }, Ok((outcome, ..))) => {
                let number = "v_sample WHERE metric_name = ?1 AND at_unix_ms BETWEEN ?2 AND ?3 AND value IS NOT NULL";
                outcome != "ok" && !story.has(number, params![metric.metric, since, at])
            }
        };
        let index: usize = metric.metric[1..2].parse().unwrap();
        let in_all = story.spec(at)["triggers"][index]["metricType"] == "Value";
        let factor = if in_all && replicas > 0 { f64::from(replicas) } else { 1.0 };
        let exact = metric.value.map(|value| (value / 10.0 * factor).ceil() as u32);
        if is && exact == metric.exact { Ok(()) } else { Err(format!("at {at} with {replicas}: {metric:?}")) }
    }
}
