//! Seeded chaos beside an HPA controller: the invariants hold whatever happens, and afterwards the cluster comes to rest in the state to which a
//! fresh world would bring it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::controllers::{Controllers, ROLLOUT, kind_of_target};
use super::*;
use crate::scaling::cluster::STREAMS;
use crate::scaling::event::{Command, Event, Missing, Record, RestoredState, WriteKind};
use crate::scaling::hpa::{self, ObservedHpa};
use crate::scaling::model::{
    Authentication, AuthenticationKind, AuthenticationRef, ConditionStatus, Fallback, FallbackBehavior, Invalid,
    OnMissing, Pause, Problem, Status, Step, TargetRef, UnixMillis,
};
use crate::scaling::object::{Object, Verdict};
use crate::scaling::reason::Reason;
use crate::scaling::target::Target;
use crate::seeds;

const SEEDS: u64 = 2048;
/// Many short lives find what comes soon, in as many worlds and with as many flags; an eighth of them goes deeper.
const STEPS: [usize; 8] = [100, 15, 15, 15, 15, 15, 15, 15];
const FOREIGN: &str = "foreign";
/// For so long after the last fault each event is checked.
const STILL_CHECKED_MS: i64 = 180_000;
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Nothing watches the last one, which is a [`ROLLOUT`].
const TARGETS: [&str; 4] = ["web", "api", "job", ROLLOUT];

/// Split into two tests, to use two cores for the many seeds. More, other or longer ones by hand, at 8,000 steps a second:
/// `HPALITE_SEEDS=500..1000 HPALITE_STEPS=10000 CARGO_PROFILE_TEST_OPT_LEVEL=2 cargo test --lib simulation`.
#[test]
fn rules_hold_in_chaos_and_the_world_comes_to_rest_even() {
    run_all(0);
}

#[test]
fn rules_hold_in_chaos_and_the_world_comes_to_rest_odd() {
    run_all(1);
}

fn run_all(parity: u64) {
    seeds::each(module_path!(), SEEDS, |seed| {
        if seed % 2 == parity {
            simulate(seed);
        }
    });
}

fn simulate(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cluster = Cluster::default();
    for target in TARGETS {
        cluster.put_workload(&kind_of_target(target), workload(target, random.u32(0..4)));
    }
    let mut settings = rig::settings();
    settings.writes_max = random.usize(1..5);
    settings.poll_threads = random.usize(1..4);
    let mut rig = Rig::with(cluster, settings);
    rig.network.random = random.fork();
    rig.network.is_faulty = true;
    rig.check = Some(check);
    rig.is_traced = seeds::is_again();
    let mut delays = fastrand::Rng::with_seed(!seed);
    let [sync, window] = [[10, 15, 15, 60], [0, 20, 60, 300]].map(|choices| choices[delays.usize(0..4)]);
    let mut controllers = Controllers::new(Duration::from_secs(sync), Duration::from_secs(window), rig.now);
    let steps = std::env::var("HPALITE_STEPS").map_or(STEPS[(seed / 2 % 8) as usize], |steps| steps.parse().unwrap());
    for n in 0..steps {
        let what = disturb(&mut rig, &mut random);
        rig.trace(&format!("{n}: {what}"));
        let what = delay(&mut rig, &mut delays);
        if !what.is_empty() {
            rig.trace(&format!("{n}: {what}"));
        }
        controllers.run(&mut rig, random.i64(0..30_000));
        // Long runs would keep much that nobody reads.
        rig.clear();
    }
    rig.network.is_faulty = false;
    rig.slow.clear();
    rig.revive_watches();
    rig.cluster.refused_hpas.clear();
    resume_rivals(&mut rig);
    for (n, name) in NAMES.into_iter().enumerate() {
        rig.set_answer(name, Answer::Value([5.0, 0.0, 400.0, 0.0][n]));
    }
    // Who is refused a target that nothing watches does not look whether it is still there.
    let rollout = (kind_of_target(ROLLOUT), "default".to_owned(), ROLLOUT.to_owned());
    if !rig.cluster.workloads.contains_key(&rollout) {
        rig.cluster.put_workload(&kind_of_target(ROLLOUT), workload(ROLLOUT, 1));
    }
    let mut found = token(&mut random);
    found.deletion_requested = false;
    rig.cluster.put_authentication(found);
    controllers.run(&mut rig, STILL_CHECKED_MS);
    // The rest takes long, and only its end is checked.
    rig.check = None;
    // The longest backoff is 12 minutes. After it, go half-way between two edges of windows.
    let left = 900_000 - STILL_CHECKED_MS;
    let rested = rig.now.0 + left;
    controllers.run(&mut rig, left + (600_000 - rested).rem_euclid(1_200_000));
    check_rest(&mut rig);
}

/// Runs after every event.
fn check(rig: &mut Rig, commands: &[Command]) {
    rig.world.check_invariants();
    let (new_writes, new_polls) = commands.iter().fold((0, 0), |(writes, polls), c| match c {
        Command::Write(_) => (writes + 1, polls),
        Command::Poll(_) => (writes, polls + 1),
        _ => (writes, polls),
    });
    let counts = rig.world.counts();
    assert_eq!(counts.writes_in_flight, rig.writes_in_flight + new_writes);
    assert_eq!(counts.polls_in_flight, rig.polls_in_flight + new_polls);
    for command in commands {
        if let Command::Write(write) = command {
            let is_shadow = rig.world.objects.get(&write.object).is_some_and(|object| object.spec.is_shadow);
            assert!(!is_shadow, "{}: a shadow writes {write:?}", write.object);
        }
        if let Command::Write(write) = command
            && let WriteKind::Scale { from, to, .. } = write.kind
        {
            check_scale(rig, &write.object, from, to);
            let is_recorded = commands.iter().any(|command| {
                matches!(command, Command::Record(Record::Decision { object, decision, .. })
                    if *object == write.object && (decision.from, decision.to) == (from, to))
            });
            assert!(is_recorded, "{}: {from}→{to} without a recorded decision", write.object);
        }
    }
    check_retry_after(rig, commands);
    watch_cooldown(rig, commands);
    invariants::check_reasons(rig, commands);
    invariants::check_replicas(rig, commands);
}

/// While the API server asks for a pause, nothing of that kind is written to the object.
fn check_retry_after(rig: &mut Rig, commands: &[Command]) {
    // Another authentication may get the name of one that is gone.
    let authentications = &rig.world.facts.authentications;
    rig.not_before.retain(|(object, slot), _| {
        *slot != "authentication"
            || authentications.keys().any(|key| (&*key.namespace, &*key.name) == (&*object.namespace, &*object.name))
    });
    for command in commands {
        match command {
            Command::Write(write) => {
                let until = rig.not_before.get(&(write.object.clone(), rig::slot_name(&write.kind)));
                assert!(until.is_none_or(|at| *at <= rig.now), "{write:?} before {until:?}");
            }
            // Another object may have its name.
            Command::Record(Record::Removed { object, .. }) => rig.not_before.retain(|(known, _), _| known != object),
            _ => {}
        }
    }
}

fn check_scale(rig: &Rig, key: &ObjectKey, from: u32, to: u32) {
    let object = &rig.world.objects[key];
    assert!(matches!(object.target, Target::Found { .. }), "{key}: no target");
    let scaling = object.scaling.as_ref().unwrap();
    let pause = &object.spec.pause;
    if scaling.reason == Reason::Restored {
        assert_eq!(Some(to), object.spec.status.original_replica_count, "{key}");
        return;
    }
    if pause.is_full() {
        assert_eq!(pause.replicas, Some(Ok(to)), "{key}: paused");
        return;
    }
    let definition = object.definition().unwrap();
    let allowed = [0, definition.idle_replicas.unwrap_or(0), definition.min(), definition.min().max(1)];
    assert!(allowed.contains(&to) && to <= definition.max_replicas, "{key}: {to}");
    assert!(!(pause.scale_in && to < from), "{key}: scale-in is paused");
    if to < from {
        assert_eq!(scaling.reason, Reason::Deactivated, "{key}");
        let is_error = |state: &crate::scaling::trigger::TriggerState| state.error().is_some();
        assert!(!object.triggers.iter().any(is_error), "{key}: in error");
        let limit = object.age_limit(rig.world.settings.query_timeout);
        let mut triggers = definition.triggers.iter().zip(&object.triggers);
        assert!(!triggers.any(|(trigger, state)| state.is_old(trigger, limit, rig.now)), "{key}: by an old reading");
        assert!(object.composite.as_ref().is_none_or(|composite| composite.error().is_none()), "{key}: in error");
    }
}

/// The test's own record of activity: an active answer on which a decision was made.
fn watch_cooldown(rig: &mut Rig, commands: &[Command]) {
    let (active, world, now) = (&mut rig.active, &rig.world, rig.now);
    for command in commands {
        match command {
            Command::Write(write) => {
                let WriteKind::Scale { from, to, .. } = write.kind else {
                    continue;
                };
                let object = &world.objects[&write.object];
                let is_decided = !object.spec.pause.is_full() && !object.spec.deletion_requested;
                if let (true, Some(at), Some(definition)) =
                    (is_decided && to < from, active.get(&write.object), object.definition())
                {
                    let over = at.plus(definition.cooldown_period);
                    assert!(over < now, "{}: cooldown until {over:?}", write.object);
                }
            }
            Command::Record(Record::Sample { at, object: key, answer: Answer::Value(value), .. }) => {
                let Some(object) = world.objects.get(key) else {
                    continue;
                };
                // Nothing is decided on what is too old when it comes.
                if now.since(*at) >= object.age_limit(world.settings.query_timeout) {
                    continue;
                }
                let is_decided = object.poll_cycle.is_none()
                    && object.verdict == Verdict::Good
                    && object.scaling.is_none()
                    && object.target_unreadable.is_none()
                    && object.target.replicas().is_some_and(|replicas| replicas > 0)
                    && object.definition().is_some_and(|d| d.triggers.len() == 1);
                // Below an idle minimum it still has to be activated.
                let is_up = object
                    .definition()
                    .is_some_and(|d| d.idle_replicas.is_none() || object.target.replicas() >= d.min_replicas);
                // The result of a formula is as old as what went into it.
                let is_in_time = object.composite.as_ref().is_none_or(|composite| composite.error().is_none());
                let is_counted = is_decided && is_up && is_in_time && object.slots.scale.in_flight.is_none();
                if *value > 0.0 && is_counted {
                    active.insert(key.clone(), now);
                }
            }
            Command::Record(Record::Removed { object, .. }) => {
                active.remove(object);
            }
            _ => {}
        }
    }
}

fn random_object(random: &mut fastrand::Rng) -> ScaledObject {
    let name = NAMES[random.usize(0..NAMES.len())];
    let target = TARGETS[random.usize(0..TARGETS.len())];
    let mut object = fresh(name, target, random_definition(random));
    object.target = target_ref(target);
    object.key = ObjectKey::new(random_group(random), "default", name);
    object.transfer_hpa_ownership = random.u8(0..4) == 0;
    object.uid = format!("uid-{}", random.u32(..));
    object.restore_to_original = random.bool();
    redefine(&mut object, |d| d.hpa_name = format!("keda-hpa-{name}"));
    object
}

/// Objects of both API groups may have the same name, the same HPA and the same target.
fn random_group(random: &mut fastrand::Rng) -> ApiGroup {
    if random.u8(0..6) == 0 { ApiGroup::KedaK8sIo } else { ApiGroup::KedaSh }
}

fn target_ref(name: &str) -> TargetRef {
    let gvkr = kind_of_target(name);
    TargetRef { api_version: gvkr.api_version(), kind: gvkr.kind, name: name.to_owned(), env_source_container: None }
}

fn random_definition(random: &mut fastrand::Rng) -> Definition {
    let mut definition = testing::definition();
    definition.polling_interval = Duration::from_secs(random.u64(10..60));
    definition.cooldown_period = Duration::from_secs(random.u64(0..90));
    definition.min_replicas = [None, Some(0), Some(2)][random.usize(0..3)];
    if random.u8(0..4) > 0 {
        definition.max_replicas = random.u32(definition.min().max(1)..9);
    }
    if definition.min_replicas == Some(2) && random.bool() {
        // About any other count we would be at odds with the HPA for ever; its author is warned.
        definition.idle_replicas = Some(0);
    }
    if random.u8(0..3) == 0 {
        definition.fallback = Some(Fallback { failure_threshold: 1, replicas: 3, behavior: FallbackBehavior::Static });
    }
    let count = random.u16(1..3);
    definition.triggers = (0..count)
        .map(|index| {
            let mut trigger = testing::trigger(index, NAMES[random.usize(0..NAMES.len())]);
            let hold = OnMissing::Hold(Duration::from_secs(random.u64(30..300)));
            trigger.on_missing = match random.u8(0..6) {
                0 => OnMissing::Error,
                1 => OnMissing::Zero,
                2 => hold,
                _ => OnMissing::EmptyIsZero,
            };
            if random.u8(0..3) == 0 {
                trigger.authentication = Some(AuthenticationRef {
                    kind: AuthenticationKind::TriggerAuthentication,
                    name: "token".to_owned(),
                });
            }
            trigger
        })
        .collect();
    if random.u8(0..4) == 0 {
        definition.triggers[0] = super::triggers::every_other_twenty_minutes();
    }
    if random.u8(0..4) == 0 {
        definition.resource_triggers = vec![testing::cpu(2)];
        if random.bool() {
            definition.triggers.clear();
        }
    }
    if !definition.triggers.is_empty() && random.u8(0..3) == 0 {
        let formulas: &[&str] = if count == 2 { &["a + b", "a ?? b", "a / b", "(a ?? 0) * 2"] } else { &["a * 2"] };
        testing::put_formula(&mut definition, formulas[random.usize(0..formulas.len())]);
        if let Some(fallback) = definition.fallback.as_mut().filter(|_| random.bool()) {
            fallback.behavior = FallbackBehavior::ScalingModifiers;
        }
    }
    definition
}

fn token(random: &mut fastrand::Rng) -> Authentication {
    Authentication {
        deletion_requested: random.u8(0..4) == 0,
        finalizers: vec!["finalizer.keda.sh".to_owned()],
        ..testing::authentication("token")
    }
}

/// An HPA that nobody's ScaledObject has made, perhaps with the name that one wants.
fn foreign_hpa(random: &mut fastrand::Rng) -> ObservedHpa {
    let object = random_object(random);
    let definition = object.definition.as_ref().unwrap();
    let desired = hpa::desired(&object, definition, &kind_of_target(&object.target.name), "1.0");
    let mut found = cluster::observed(&desired);
    found.uid = format!("uid-{}", random.u32(..));
    found.controller = None;
    if random.bool() {
        found.name = FOREIGN.to_owned();
    }
    found
}

/// Makes one thing happen.
fn disturb(rig: &mut Rig, random: &mut fastrand::Rng) -> String {
    let name = NAMES[random.usize(0..NAMES.len())];
    let id = ObjectKey::new(random_group(random), "default", name);
    let exists = rig.cluster.objects.contains_key(&id);
    match random.u8(0..26) {
        // These are about the process.
        16 | 19 | 21..=23 | 25.. if rig.is_down => "nothing".to_owned(),
        0..=2 => {
            let object = random_object(random);
            if rig.cluster.objects.contains_key(&object.key) {
                return "nothing".to_owned();
            }
            let what = format!("create {}", object.key);
            rig.cluster.put_object(object);
            what
        }
        3 if exists => {
            rig.cluster.delete_object(&id);
            format!("delete {name}")
        }
        4 | 5 if exists => {
            let new = random_definition(random);
            let retarget = (random.u8(0..4) == 0).then(|| TARGETS[random.usize(0..TARGETS.len())]);
            let rename = random.u8(0..4) == 0;
            rig.edit(&id, |object| {
                let mut new = new;
                new.hpa_name = if rename { format!("mine-{name}") } else { format!("keda-hpa-{name}") };
                new.selector.1 = name.to_owned();
                object.definition = Ok(Arc::new(new));
                if let Some(target) = retarget {
                    object.target = target_ref(target);
                }
            });
            format!("edit {name}, rename {rename}, target {retarget:?}")
        }
        6 if exists => {
            rig.edit(&id, |object| {
                object.definition = Err(Invalid {
                    problems: vec![Problem {
                        step: Step::BuildScalers,
                        field: "spec".to_owned(),
                        message: "bad".to_owned(),
                        fix: String::new(),
                    }],
                });
            });
            format!("break {name}")
        }
        7 | 8 if exists => {
            let pause = &mut rig.cluster.objects[&id].pause.clone();
            let until = Some(Ok(rig.now.plus(Duration::from_secs(random.u64(0..90)))));
            match random.u8(0..8) {
                6 if pause.is_any() => pause.until = until,
                7 => {
                    let of_namespace = random.bool().then(|| Pause { paused: true, until, ..Pause::default() });
                    rig.cluster.put_namespace("default", of_namespace.unwrap_or_default());
                }
                0 => pause.paused = !pause.paused,
                1 => pause.replicas = Some(Ok(random.u32(0..6))),
                2 => pause.scale_in = !pause.scale_in,
                3 => pause.scale_out = !pause.scale_out,
                _ => *pause = Pause::default(),
            }
            rig.annotate(&id, |object| object.pause = pause.clone());
            format!("pause {name}: {pause:?}")
        }
        9 if exists => {
            let is_shadow = random.bool();
            rig.annotate(&id, |object| match is_shadow {
                true => object.is_shadow = !object.is_shadow,
                false => object.force_activation = !object.force_activation,
            });
            format!("force {name}, shadow {is_shadow}")
        }
        10..=13 => {
            let answer = match random.u8(0..7) {
                0 => failed("connection refused"),
                1 => Answer::Missing(Missing::Empty),
                2 => Answer::Missing(Missing::NaN),
                3 | 4 => Answer::Value(0.0),
                _ => Answer::Value([7.0, 90.0, 400.0, 5_000.0][random.usize(0..4)]),
            };
            let what = format!("{name} is {answer:?}");
            rig.set_answer(name, answer);
            what
        }
        14 => {
            let target = TARGETS[random.usize(0..TARGETS.len())];
            let replicas = random.u32(0..5);
            rig.cluster.put_workload(&kind_of_target(target), workload(target, replicas));
            format!("{target} has {replicas}")
        }
        15 => {
            let target = TARGETS[random.usize(0..TARGETS.len())];
            let id = (kind_of_target(target), "default".to_owned(), target.to_owned());
            rig.cluster.remove_workload(&id);
            format!("{target} is gone")
        }
        16 => {
            let stream = random.usize(0..STREAMS);
            match random.u8(0..3) {
                0 => rig.list(stream),
                1 => rig.list_in_halves(stream, random.i64(0..10_000)),
                _ => {
                    let time = random.i64(60_000..600_000);
                    rig.lose_watch(stream, time);
                    return format!("watch {stream} is dead for {time}");
                }
            }
            format!("list {stream}")
        }
        17 => {
            let hpas: Vec<_> = rig.cluster.hpas.keys().cloned().collect();
            let Some(id) = hpas.get(random.usize(0..hpas.len().max(1))) else {
                return "nothing".to_owned();
            };
            if random.bool() {
                rig.cluster.remove_hpa(id);
                return format!("hpa {} is gone", id.1);
            }
            let mut hpa = rig.cluster.hpas[id].clone();
            hpa.max_replicas += 1;
            rig.cluster.put_hpa(hpa);
            format!("hpa {} drifts", id.1)
        }
        18 => {
            let refused = format!("keda-hpa-{name}");
            if rig.cluster.refused_hpas.is_empty() {
                rig.cluster.refused_hpas.push(refused);
            } else {
                rig.cluster.refused_hpas.clear();
            }
            format!("refused {:?}", rig.cluster.refused_hpas)
        }
        19 => {
            let by = random.i64(-7_200_000..7_200_000);
            rig.step_clock(by);
            for at in rig.active.values_mut() {
                at.0 += by;
            }
            format!("clock {by}")
        }
        20 => {
            let found = token(random);
            let what = format!("authentication, going {}", found.deletion_requested);
            rig.cluster.put_authentication(found);
            what
        }
        21 => crash(rig, random),
        22 => take_over(rig, random),
        23 => {
            rig.renew_history();
            "another history".to_owned()
        }
        24 => {
            let is_foreign = |hpa: &&ObservedHpa| hpa.controller.is_none();
            let found = rig.cluster.hpas.values().find(is_foreign).map(|hpa| (hpa.namespace.clone(), hpa.name.clone()));
            if let Some(id) = found {
                rig.cluster.remove_hpa(&id);
                return format!("foreign hpa {} is gone", id.1);
            }
            let new = foreign_hpa(random);
            let id = (new.namespace.clone(), new.name.clone());
            if rig.cluster.hpas.contains_key(&id) {
                return "nothing".to_owned();
            }
            let what = format!("foreign hpa {} on {}", id.1, new.target.name);
            rig.cluster.put_hpa(new);
            what
        }
        _ => {
            rig.step(Event::MetricRead(id));
            format!("read {name}")
        }
    }
}

/// Delays answers, or stops the process for a while.
fn delay(rig: &mut Rig, random: &mut fastrand::Rng) -> String {
    match random.u8(0..16) {
        0 => {
            let by = random.i64(0..400_000);
            rig.stand_still(by);
            format!("stands still for {by}")
        }
        1 | 2 => {
            // Some answers never come in the lifetime of their object.
            let (name, takes) = (NAMES[random.usize(0..NAMES.len())], random.i64(0..400_000));
            rig.slow.insert(name.to_owned(), takes);
            format!("{name} takes {takes}")
        }
        3 => {
            rig.slow.clear();
            "all are quick".to_owned()
        }
        _ => String::new(),
    }
}

/// Besides the cluster, a restarted process knows only what has been recorded.
fn restart(rig: &mut Rig) {
    let restored = recorded(rig);
    rig.restart(restored);
}

fn recorded(rig: &Rig) -> Vec<RestoredState> {
    let recorded = |(key, object): (&ObjectKey, &Object)| RestoredState {
        key: key.clone(),
        uid: object.spec.uid.clone(),
        last_active_at: object.recorded_active_at,
        replicas: object.recorded.replicas.map(|replicas| (object.spec.generation, replicas)),
        held: Vec::new(),
        put_to_zero: object.recorded.put_to_zero.then(|| object.spec.target.clone()),
    };
    rig.world.objects.iter().map(recorded).collect()
}

/// The process dies. Until the next one starts, the cluster may move on for minutes, and the history may lack what came
/// last.
fn crash(rig: &mut Rig, random: &mut fastrand::Rng) -> String {
    let mut restored = recorded(rig);
    let known: BTreeMap<ObjectKey, String> =
        restored.iter().map(|state| (state.key.clone(), state.uid.clone())).collect();
    restored.retain(|_| random.u8(0..6) > 0);
    for state in &mut restored {
        if random.u8(0..6) == 0 {
            let by = random.i64(0..600_000);
            state.last_active_at = state.last_active_at.map(|at| UnixMillis(at.0 - by));
            state.replicas = state.replicas.map(|(generation, _)| (generation, random.u32(0..4)));
            let key = state.key.clone();
            forget_unshown(rig, |other| *other == key);
        }
    }
    forget_unshown(rig, |key| !restored.iter().any(|state| state.key == *key));
    let died = rig.now;
    rig.kill();
    if random.bool() {
        for _ in 0..random.u8(1..6) {
            let what = disturb(rig, random);
            rig.trace(&what);
            rig.run(random.i64(0..120_000));
        }
    }
    // Another object may have the name by now.
    let objects = &rig.cluster.objects;
    rig.active.retain(|key, _| objects.get(key).map(|object| &object.uid) == known.get(key));
    rig.start(restored);
    format!("restart {:?} after {:?}", rig.now.since(died), died)
}

/// What the status does not show yet ended with the process that saw it.
fn forget_unshown(rig: &mut Rig, is_lost: impl Fn(&ObjectKey) -> bool) {
    let objects = &rig.cluster.objects;
    rig.active.retain(|key, at| {
        // Deleted since, which the process had not yet recorded.
        let Some(status) = objects.get(key).map(|object| &object.status) else { return false };
        let is_shown = status.last_active_at.is_some_and(|shown| at.0 - shown.0 < 1_000);
        !is_lost(key)
            || is_shown
            || status.condition(ConditionKind::Active).is_some_and(|active| active.status == ConditionStatus::True)
    });
}

/// Another instance, which has seen nothing but the cluster, acts once the Lease of the one before has run out.
fn take_over(rig: &mut Rig, random: &mut fastrand::Rng) -> String {
    rig.is_standby = true;
    rig.restart(Vec::new());
    rig.is_standby = false;
    forget_unshown(rig, |_| true);
    let wait = random.i64(0..60_000);
    rig.run(wait);
    rig.step(Event::Leading { was_alone: false });
    format!("another instance takes over after {wait}")
}

/// While the owner of a contested target is paused, nothing records that it is the owner.
fn resume_rivals(rig: &mut Rig) {
    rig.cluster.put_namespace("default", Pause::default());
    let keys: Vec<ObjectKey> = rig.cluster.objects.keys().cloned().collect();
    for key in keys {
        // After steps of the clock an end may be far away.
        rig.annotate(&key, |object| {
            object.pause.until = None;
            object.is_shadow = false;
        });
        let target = rig.cluster.objects[&key].target.clone();
        let objects = rig.cluster.objects.values();
        if objects.filter(|object| object.target == target).count() > 1 {
            rig.annotate(&key, |object| {
                object.pause.paused = false;
                object.pause.replicas = None;
            });
            // Nor that an owner is one whose HPA cannot be made, since somebody's scales the target or has the name, or one
            // that an object which names another target by now has left behind.
            let objects = &rig.cluster.objects;
            let is_taken = |hpa: &&ObservedHpa| match &hpa.controller {
                None => hpa.name != FOREIGN || hpa.target.name == target.name,
                Some(owner) => {
                    objects.values().any(|object| object.uid == owner.uid && object.target.name != hpa.target.name)
                }
            };
            let taken = rig.cluster.hpas.values().filter(is_taken);
            for id in taken.map(|hpa| (hpa.namespace.clone(), hpa.name.clone())).collect::<Vec<_>>() {
                rig.cluster.remove_hpa(&id);
            }
            // Nor one whose namesake of the other group has that name, and keeps it.
            let object = &rig.cluster.objects[&key];
            let wanted = object.definition.as_ref().map(|definition| definition.hpa_name.clone()).unwrap_or_default();
            let hpa = rig.cluster.hpas.get(&("default".to_owned(), wanted));
            if hpa.and_then(|hpa| hpa.controller.as_ref()).is_some_and(|owner| owner.uid != object.uid) {
                rig.cluster.delete_object(&key);
            }
        }
    }
}

/// Nothing is left to do, and a fresh world finds nothing to do either.
fn check_rest(rig: &mut Rig) {
    let counts = rig.world.counts();
    assert_eq!(counts.writes_starved, 0);
    let before: BTreeMap<ObjectKey, Status> = statuses(rig);
    let replicas = TARGETS.map(|target| {
        let id = (kind_of_target(target), "default".to_owned(), target.to_owned());
        rig.cluster.workloads.get(&id).map(|found| found.replicas)
    });
    let hpas: Vec<_> = rig.cluster.hpas.keys().cloned().collect();
    check_one_hpa_each(&rig.cluster);
    rig.clear();
    restart(rig);
    rig.run(150_000);
    let surplus: Vec<_> = rig
        .writes
        .iter()
        .filter(|(_, write)| match &write.kind {
            WriteKind::Status(patch) => without_time(&patch.before) != without_time(&patch.after),
            _ => true,
        })
        .collect();
    assert!(surplus.is_empty(), "a fresh world writes {surplus:#?}");
    assert_eq!(statuses(rig), before);
    assert_eq!(hpas, rig.cluster.hpas.keys().cloned().collect::<Vec<_>>());
    for (target, before) in TARGETS.iter().zip(replicas) {
        let id = (kind_of_target(target), "default".to_owned(), (*target).to_owned());
        let now = rig.cluster.workloads.get(&id).map(|found| found.replicas);
        assert_eq!(now, before, "{target}");
    }
    for object in rig.cluster.objects.values() {
        assert!(!object.deletion_requested, "{} hangs", object.key);
        assert!(!object.status.conditions.is_empty(), "{} has no status", object.key);
    }
}

/// Two HPAs on one target disable each other.
fn check_one_hpa_each(cluster: &Cluster) {
    let mut scaled = BTreeMap::new();
    for hpa in cluster.hpas.values() {
        let owner = hpa.controller.as_ref().map(|owner| &owner.uid);
        // Whoever names another target since, which cannot be scaled, keeps the HPA of the old one.
        let mut owners = cluster.objects.values().filter(|object| Some(&object.uid) == owner);
        if owners.any(|object| object.target == hpa.target) {
            let target = (&hpa.target.kind, &hpa.target.name);
            let other = scaled.insert(target, &hpa.name);
            assert!(other.is_none(), "{target:?} has the HPAs {} and {other:?}", hpa.name);
        }
    }
}

fn statuses(rig: &Rig) -> BTreeMap<ObjectKey, Status> {
    let objects = rig.cluster.objects.iter();
    objects.map(|(key, object)| (key.clone(), without_time(&object.status))).collect()
}

fn without_time(status: &Status) -> Status {
    Status { last_active_at: None, ..status.clone() }
}
