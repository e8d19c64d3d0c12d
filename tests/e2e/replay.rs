//! `hpalite replay` beside the real HPA controller: what it did is replayed, and what is replayed it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case::{Case, Source};
use super::daemon;
use crate::support::cluster::{bounded, deployment, wait_seeing, wait_until};

/// Loads, each until the controller has followed: it needs several looks where it may only double, and a lower count waits
/// for its window of 5 s.
const LOADS: [f64; 4] = [30.0, 80.0, 12.0, 55.0];

/// Queries for which a load stays once the controller has followed: two of its looks at least, since a replay may be one
/// look late.
const STAYS: usize = 8;

fn hpalite(arguments: &[&str]) -> Value {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(arguments)
        .arg("--db")
        .arg(daemon().1.folder.path().join("hpalite.db"))
        .output()
        .expect("hpalite can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Replays an object, with the flags of the control plane, and other settings.
fn replay(case: &Case<'_>, name: &str, set: &[&str]) -> Value {
    let object = format!("{}/{name}", case.namespace);
    let mut arguments = vec!["replay", &object, "--since", "15m", "--json"];
    arguments.extend(["--horizontal-pod-autoscaler-sync-period", "2s"]);
    arguments.extend(["--horizontal-pod-autoscaler-downscale-stabilization", "5s"]);
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    hpalite(&arguments)
}

/// One look of the controller, and a moment until the watch shows what it did.
const WITHIN: Duration = Duration::from_millis(2_500);

/// Returns why the replay of today's settings is not what was recorded: the same counts, each within one look of the
/// controller, or what the machine kept it from looking.
fn difference(report: &Value, delay: Duration) -> Result<(), String> {
    let (recorded, replayed) = (course(&report["recorded"]), course(&report["today"]["replicas"]));
    let within = i64::try_from((WITHIN + delay).as_millis()).expect("a short time");
    let same = recorded.iter().zip(&replayed).skip(1).all(|(a, b)| (a.0 - b.0).abs() <= within);
    if counts(&report["recorded"]) == counts(&report["today"]["replicas"]) && same {
        return Ok(());
    }
    Err(format!("recorded {recorded:?}, replayed {replayed:?}, within {within} ms, {}", report["model_error"]))
}

/// Times and counts.
fn course(course: &Value) -> Vec<(i64, u64)> {
    let steps = course.as_array().expect("a course").iter();
    steps.filter_map(|step| Some((step[0].as_i64()?, step[1].as_u64()?))).collect()
}

/// The counts that a course goes through.
fn counts(steps: &Value) -> Vec<u64> {
    course(steps).into_iter().map(|(_, count)| count).collect()
}

/// Does something, and returns the longest time that the API server took for an answer meanwhile: for as long the machine
/// kept the controller from looking, too.
fn while_watched<T>(case: &Case<'_>, action: impl FnOnce() -> T) -> (T, Duration) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                let started = Instant::now();
                case.cluster.list("hpa", &case.namespace);
                longest = longest.max(started.elapsed());
                std::thread::park_timeout(Duration::from_millis(100));
            }
            longest
        });
        // Also if it panics, so that the watcher ends.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(action));
        is_over.store(true, Ordering::SeqCst);
        let longest = watcher.join().expect("the watcher only reads");
        (done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), longest)
    })
}

/// Plays the loads, and returns the counts that the Deployment goes through.
fn play(case: &Case<'_>, source: &Source, threshold: f64) -> Vec<u64> {
    source.set(5.0);
    case.wait_for_replicas(1);
    let before = all_changes(case).len();
    for load in LOADS {
        source.set(load);
        #[expect(clippy::cast_possible_truncation, reason = "a handful of replicas")]
        case.wait_for_replicas((load / threshold).ceil() as i64);
        source.asked(STAYS);
    }
    all_changes(case).split_off(before)
}

/// The counts so far, once the last one is in the file.
fn all_changes(case: &Case<'_>) -> Vec<u64> {
    wait_seeing("the last change to be recorded", || {
        let (changes, now) = (changes(case, "so"), case.replicas());
        let is_there = changes.last().is_some_and(|last| i64::try_from(*last) == Ok(now));
        is_there.then_some(changes.clone()).ok_or_else(|| format!("{changes:?}, not {now}"))
    })
}

fn changes(case: &Case<'_>, name: &str) -> Vec<u64> {
    let sql = format!(
        "SELECT to_replicas FROM v_replica_change WHERE namespace = '{}' AND name = '{name}' ORDER BY at_unix_ms",
        case.namespace
    );
    let rows = hpalite(&["sql", "--format", "json", &sql]);
    rows.as_array().expect("rows").iter().filter_map(|row| row["to_replicas"].as_u64()).collect()
}

#[test]
fn what_it_did_is_replayed_and_what_is_replayed_it_does() {
    let case = Case::new("replay").deployment(1);
    let source = Source::new(5.0);
    let spec = |threshold: &str| json!({ "minReplicaCount": 1, "maxReplicaCount": 20, "triggers": [source.trigger(threshold)] });
    case.scale("so", spec("10"));
    case.wait_until_ready();
    case.wait_for_hpa();
    let (first, delay) = while_watched(&case, || play(&case, &source, 10.0));
    assert_eq!(first.last(), Some(&6), "{first:?}");
    // The last changes are on their way to the file.
    let report = wait_seeing("every recorded change to be replayed", || {
        let report = replay(&case, "so", &["spec.triggers[0].metadata.threshold=20"]);
        let replayed = course(&report["today"]["replicas"]).len() - 1;
        difference(&report, delay)?;
        (replayed == first.len()).then_some(report).ok_or_else(|| format!("{replayed} changes, not {first:?}"))
    });
    let replayed = counts(&report["candidates"][0]["replicas"]).split_off(1);
    assert!(
        report["candidates"][0]["measures"]["share_above_target"].as_f64()
            > report["today"]["measures"]["share_above_target"].as_f64()
    );
    case.scale("so", spec("20"));
    wait_seeing("the HPA to have the other threshold", || {
        let target = case.wait_for_hpa()["spec"]["metrics"][0]["external"]["target"].clone();
        (target["averageValue"] == "20").then_some(()).ok_or_else(|| target.to_string())
    });
    let second = play(&case, &source, 20.0);
    assert_eq!(second, replayed, "with threshold 10 it was {first:?}");
}

/// One object with a Deployment of its name, what its sources answer in turn, and the replicas that follow. An answer
/// stays until they have, however long the machine takes.
struct Run {
    name: &'static str,
    spec: Value,
    sources: Vec<Source>,
    steps: Vec<(Vec<Option<f64>>, i64)>,
    /// Steps that are over, and the queries at which the running one is.
    done: usize,
    until: Option<usize>,
}

impl Run {
    /// `spec` may also have fields of the first trigger, and more triggers.
    fn new(name: &'static str, spec: Value, steps: &[(&[f64], i64)]) -> Self {
        let sources: Vec<Source> = steps[0].0.iter().map(|value| Source::new(*value)).collect();
        let steps = steps.iter().map(|(values, replicas)| {
            // No number is an outage.
            (values.iter().map(|value| Some(*value).filter(|value| !value.is_nan())).collect(), *replicas)
        });
        let steps = steps.collect();
        Self { name, spec, sources, steps, done: 0, until: None }
    }

    fn replicas_at_first(&self) -> u32 {
        u32::from(self.spec["minReplicaCount"] != 0)
    }

    fn scaled_object(&self, case: &Case<'_>) -> Value {
        let mut spec = json!({ "scaleTargetRef": { "name": self.name }, "minReplicaCount": 1 });
        let mut triggers: Vec<Value> = self.sources.iter().map(|source| source.trigger("10")).collect();
        for (key, value) in self.spec.as_object().expect("a spec") {
            match key.as_str() {
                "activationThreshold" => triggers[0]["metadata"][key] = value.clone(),
                "metricType" => triggers[0][key] = value.clone(),
                "triggers" => triggers.extend(value.as_array().expect("triggers").iter().cloned()),
                _ => spec[key] = value.clone(),
            }
        }
        spec["triggers"] = triggers.into();
        case.scaled_object(self.name, spec)
    }

    /// Returns the least number of counts that it goes through: those of its steps.
    fn changes_at_least(&self) -> usize {
        1 + self.steps.windows(2).filter(|pair| pair[0].1 != pair[1].1).count()
    }

    /// Goes on to the next step if the controller has followed this one and had time for more. Returns false at the end.
    fn goes_on(&mut self, replicas: i64) -> bool {
        let Some((_, wanted)) = self.steps.get(self.done) else { return false };
        let asked = self.sources[0].requests().len();
        match self.until {
            None if replicas == *wanted => self.until = Some(asked + STAYS),
            Some(until) if asked >= until => {
                self.until = None;
                self.done += 1;
                let next = self.steps.get(self.done).map_or(&[][..], |(values, _)| values);
                self.sources.iter().zip(next).for_each(|(source, value)| source.set(*value));
            }
            _ => {}
        }
        true
    }
}

fn rules(up: Value, down: Value) -> Value {
    json!({ "horizontalPodAutoscalerConfig": { "behavior": { "scaleUp": up, "scaleDown": down } } })
}

/// A cron trigger between two minutes of a day.
fn window(from: i64, until: i64, replicas: &str) -> Value {
    let at = |minute: i64| format!("{} {} * * *", minute.rem_euclid(60), minute.div_euclid(60).rem_euclid(24));
    json!({ "type": "cron", "metadata": {
        "timezone": "UTC", "start": at(from), "end": at(until), "desiredReplicas": replicas,
    } })
}

/// Ten shapes of load and of settings. Windows and periods are no multiples of the 2 s between two looks, so that it does
/// not depend on a millisecond whether a look is still in one.
fn runs(next_minute: i64) -> Vec<Run> {
    const DOWN: f64 = f64::NAN;
    let none = json!({});
    vec![
        Run::new(
            "ramp",
            none.clone(),
            &[(&[5.0], 1), (&[20.0], 2), (&[31.0], 4), (&[46.0], 5), (&[62.0], 7), (&[35.0], 4)],
        ),
        Run::new("spikes", none, &[(&[5.0], 1), (&[50.0], 5), (&[8.0], 1), (&[73.0], 8), (&[9.0], 1)]),
        Run::new(
            "window",
            json!({ "advanced": rules(json!({}), json!({ "stabilizationWindowSeconds": 11 })) }),
            // The low load is too short, and the middle one delays the way down.
            &[(&[5.0], 1), (&[78.0], 8), (&[12.0], 8), (&[58.0], 6), (&[12.0], 2)],
        ),
        Run::new(
            "policies",
            json!({ "advanced": rules(
                json!({ "stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
                    { "type": "Pods", "value": 2, "periodSeconds": 5 }, { "type": "Percent", "value": 50, "periodSeconds": 5 },
                ] }),
                json!({ "stabilizationWindowSeconds": 0, "policies": [{ "type": "Percent", "value": 50, "periodSeconds": 3 }] }),
            ) }),
            &[(&[5.0], 1), (&[66.0], 7), (&[5.0], 1)],
        ),
        Run::new(
            "tolerance",
            json!({ "advanced": rules(
                json!({ "tolerance": "0.5" }),
                json!({ "tolerance": "0.3", "stabilizationWindowSeconds": 3 }),
            ) }),
            &[(&[100.0], 10), (&[140.0], 10), (&[160.0], 16), (&[120.0], 16), (&[100.0], 10)],
        ),
        Run::new(
            // One at a time, since the controller may look between two.
            "several",
            json!({}),
            &[(&[5.0, 5.0], 1), (&[40.0, 5.0], 4), (&[40.0, 70.0], 7), (&[10.0, 70.0], 7), (&[10.0, 28.0], 3)],
        ),
        Run::new(
            "zero",
            json!({ "minReplicaCount": 0, "cooldownPeriod": 12, "activationThreshold": "3" }),
            &[(&[0.0], 0), (&[2.0], 0), (&[30.0], 3), (&[1.0], 0), (&[15.0], 2)],
        ),
        Run::new(
            "outage",
            json!({ "fallback": { "failureThreshold": 3, "replicas": 6 } }),
            &[(&[5.0], 1), (&[28.0], 3), (&[DOWN], 6), (&[28.0], 3)],
        ),
        // Six replicas from a minute on, whether the load was followed by then or not.
        Run::new(
            "hours",
            json!({ "triggers": [window(next_minute, next_minute + 10, "6")] }),
            &[(&[31.0], 6), (&[75.0], 8)],
        ),
        // The replicas of a total depend on the pods that are ready.
        Run::new(
            "total",
            json!({ "metricType": "Value", "maxReplicaCount": 4 }),
            &[(&[10.0], 1), (&[20.0], 4), (&[10.0], 4), (&[5.0], 1)],
        ),
    ]
}

/// Returns how long the slowest pods took to start, where replicas depend on that: a replay has the median.
fn slowest_start(case: &Case<'_>, name: &str) -> Duration {
    let sql = format!(
        "SELECT max(ready_after_s) AS longest FROM v_replica_change WHERE namespace = '{}' AND name = '{name}'",
        case.namespace
    );
    let rows = hpalite(&["sql", "--format", "json", &sql]);
    Duration::from_secs_f64(rows[0]["longest"].as_f64().unwrap_or(0.0))
}

/// Does what a kubelet would: makes every pod of the namespace ready.
fn start_pods(case: &Case<'_>) {
    let pods = case.cluster.list("pod", &case.namespace);
    let waiting = pods.iter().filter(|pod| pod["status"]["phase"] == "Pending");
    let names: Vec<&str> = waiting.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    if names.is_empty() {
        return;
    }
    let patch =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } }).to_string();
    let arguments = ["--subresource=status", "--type=merge", "-p", &patch];
    // One that is gone by now is no failure.
    let _ = case.cluster.try_kubectl(&[&["-n", &case.namespace, "patch", "pod"], &names[..], &arguments].concat());
}

/// Returns the first minute of the day that begins in 20 s or more.
fn next_minute() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from((now + 20).div_ceil(60) % 1_440).expect("a minute")
}

#[test]
fn ten_recorded_runs_are_replayed_as_they_were() {
    let case = Case::new("ten");
    let mut runs = runs(next_minute());
    let manifests = runs.iter().flat_map(|run| {
        let target = serde_json::from_str(&deployment(&case.namespace, run.name, run.replicas_at_first()));
        [target.expect("JSON"), run.scaled_object(&case)]
    });
    let items: Vec<Value> = manifests.collect();
    case.apply(json!({ "apiVersion": "v1", "kind": "List", "items": items }));
    for run in &runs {
        case.wait_for_condition_of(run.name, "Ready", "True", "ScaledObjectReady");
    }
    let ((), delay) = while_watched(&case, || {
        wait_until("every load to be played", Duration::from_secs(300), || {
            start_pods(&case);
            let found = case.cluster.list("deployment", &case.namespace);
            let replicas = |name: &str| {
                let target = found.iter().find(|target| target["metadata"]["name"] == name);
                target.and_then(|target| target["spec"]["replicas"].as_i64()).expect("the Deployment exists")
            };
            let going = runs.iter_mut().filter_map(|run| run.goes_on(replicas(run.name)).then_some(run.name));
            let going: Vec<&str> = going.collect();
            going.is_empty().then_some(())
        });
    });
    for run in &runs {
        // The last changes are on their way to the file.
        let last = run.steps.last().expect("a step").1;
        let report = wait_seeing("the recorded run to be replayed", || {
            let (report, recorded) = (replay(&case, run.name, &[]), changes(&case, run.name));
            let is_there = recorded.last().is_some_and(|seen| i64::try_from(*seen) == Ok(last));
            let all = recorded.ends_with(&counts(&report["recorded"])) && is_there;
            let unknown =
                if run.spec["metricType"] == "Value" { slowest_start(&case, run.name) } else { Duration::ZERO };
            difference(&report, delay + unknown)
                .and_then(|()| if all { Ok(report) } else { Err(format!("of {recorded:?}")) })
                .map_err(|seen| format!("{}: {seen}", run.name))
        });
        assert!(counts(&report["recorded"]).len() >= run.changes_at_least(), "{}: {report:#}", run.name);
    }
    let report = replay(&case, "total", &[]);
    let learnt =
        |text: &Value| text.as_str().is_some_and(|text| text.contains("s, the median of ") && text.contains("pod"));
    assert!(report["assumptions"].as_array().is_some_and(|list| list.iter().any(learnt)), "{report:#}");
}
