//! A replay of what the history has of a simulated cluster changes replicas when they were changed.

use serde_json::json;

use super::*;
use crate::replay::hpa_controller::{Bounds, HpaController, Metric, Pods};
use crate::replay::{self, Choice, Model, Replay};
use crate::scaling::event::Event;
use crate::seeds;
use crate::store::Reader;
use crate::store::read::Range;

const SEEDS: u64 = 12;
const PERIOD_MS: i64 = 15_000;

struct Played {
    _folder: tempfile::TempDir,
    reader: Reader,
    range: Range,
}

/// Lets time pass with a controller that looks at multiples of its period.
fn run(rig: &mut Rig, controller: &mut HpaController, milliseconds: i64) {
    let end = rig.now.0 + milliseconds;
    while rig.now.0 < end {
        let next = (rig.now.0 / PERIOD_MS + 1) * PERIOD_MS;
        rig.run(next.min(end) - rig.now.0);
        if rig.now.0 == next {
            look(rig, controller);
        }
    }
}

fn look(rig: &mut Rig, controller: &mut HpaController) {
    let Some(mut hpa) = rig.cluster.hpas.values().next().cloned() else { return };
    let view = Arc::clone(&rig.views[&key("shop")]);
    let current = rig.replicas("web");
    let metrics: Vec<Metric> = hpa.metrics.iter().filter_map(|metric| Metric::read(metric, &view, rig.now)).collect();
    let wanted = controller.sync(rig.now, Bounds::of(&hpa), Pods { wanted: current, ready: current }, &metrics);
    if current > 0 {
        rig.step(Event::MetricRead(key("shop")));
    }
    if wanted != current {
        rig.set_replicas("web", wanted);
    }
    let status = (current.try_into().unwrap(), wanted.try_into().unwrap());
    if (hpa.current_replicas, hpa.desired_replicas) != status {
        (hpa.current_replicas, hpa.desired_replicas) = status;
        rig.cluster.put_hpa(hpa);
    }
}

/// Runs an object with one query under a random load, and writes what is recorded of it.
fn play(seed: u64) -> Played {
    let mut random = fastrand::Rng::with_seed(seed);
    let interval = [5, 15, 30][random.usize(0..3)];
    let mut spec = json!({
        "scaleTargetRef": { "name": "web" }, "pollingInterval": interval,
        "cooldownPeriod": random.u32(30..600), "minReplicaCount": random.u8(0..3), "maxReplicaCount": random.u8(6..30),
        "triggers": [{ "type": "prometheus", "metadata":
            { "serverAddress": "http://prometheus:9090", "query": "load", "threshold": "10" } }],
    });
    if random.bool() {
        spec["fallback"] = json!({ "failureThreshold": 2, "replicas": 3 });
    }
    if random.bool() {
        spec["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "behavior": {
            "scaleDown": { "stabilizationWindowSeconds": random.u32(0..400) },
        } } });
    }
    if random.u8(0..3) == 0 {
        spec["idleReplicaCount"] = json!(0);
        spec["minReplicaCount"] = json!(2);
    }
    let object = json!({
        "metadata": { "namespace": "default", "name": "shop", "uid": "uid-shop", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "1970-01-12T00:00:00Z" },
        "spec": spec,
    });
    let object = crate::wire::scaled_object::from_value(ApiGroup::KedaSh, object, &crate::wire::Servers::default())
        .unwrap()
        .object;
    assert!(object.definition.is_ok(), "{:?}", object.definition);
    let mut cluster = Cluster::default();
    cluster.put_object(object);
    cluster.put_workload(&deployment(), workload("web", random.u32(0..6)));
    let mut rig = Rig::new(cluster);
    let mut controller = HpaController::new(Model::default());
    let from = rig.now.0;
    let mut load = 40.0_f64;
    for _ in 0..120 {
        load = (load * random.f64().mul_add(1.2, 0.5)).clamp(2.0, 300.0);
        let answer = match random.u8(0..16) {
            0 => failed("connection refused"),
            1..4 => Answer::Value(0.0),
            _ => Answer::Value(load.round()),
        };
        rig.set_answer("load", answer);
        run(&mut rig, &mut controller, random.i64(10_000..300_000));
    }
    let range = Range { from, to: rig.now.0 };
    let (folder, path) = rig.store_records();
    Played { reader: Reader::open(&path).unwrap(), _folder: folder, range }
}

#[test]
fn a_replay_of_the_same_settings_changes_replicas_within_a_sync_period() {
    let mut changes = 0;
    seeds::each(module_path!(), SEEDS, |seed| {
        let mut played = play(seed);
        let recorded = replay::load(&mut played.reader, &key("shop"), played.range).unwrap().unwrap();
        let today = replay::today(ApiGroup::KedaSh, &recorded.manifest).unwrap();
        let replay = Replay::new(&recorded, &today, played.range, Model::default()).unwrap();
        let error = replay.report(&[]).model_error.unwrap();
        let all = (error.recorded_changes, error.replayed_changes);
        assert_eq!((error.matched_changes, error.matched_changes), all, "{error:?}");
        changes += error.recorded_changes;
    });
    assert!(seeds::is_again() || changes > 20, "{changes}");
}

#[test]
fn a_lower_threshold_asks_for_more_replicas() {
    let mut played = play(1);
    let recorded = replay::load(&mut played.reader, &key("shop"), played.range).unwrap().unwrap();
    let today = replay::today(ApiGroup::KedaSh, &recorded.manifest).unwrap();
    let candidates = ["5", "20"].map(|threshold| {
        let set = format!("spec.triggers[0].metadata.threshold={threshold},spec.maxReplicaCount=100");
        let choice = Choice::Set(set);
        replay::candidate(ApiGroup::KedaSh, threshold, &choice, &recorded.manifest).unwrap()
    });
    let replay = Replay::new(&recorded, &today, played.range, Model::default()).unwrap();
    let report = replay.report(&candidates);
    let [low, high] = [0, 1].map(|place| &report.candidates[place].measures);
    let now = &report.today.measures;
    assert!(low.pod_hours > now.pod_hours && now.pod_hours > high.pod_hours, "{report:?}");
    assert!(low.share_above_target < now.share_above_target, "{report:?}");
    assert!(high.share_above_target > now.share_above_target, "{report:?}");
}
