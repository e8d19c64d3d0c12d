use serde_json::{Value, json};

use super::suggest::{Suggestion, suggest};
use super::*;
use crate::history::plot::Style;
use crate::scaling::model::{ApiGroup, Pause};
use crate::store::SampleValue;

const STYLE: Style = Style { width: 100, ascii: false, colour: false };
const POLL_MS: i64 = 15_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000;

fn spec() -> Value {
    json!({
        "scaleTargetRef": { "name": "web" }, "pollingInterval": 15, "minReplicaCount": 1, "maxReplicaCount": 40,
        "triggers": [{ "type": "prometheus", "metadata":
            { "serverAddress": "http://p", "query": "load", "threshold": "10" } }],
    })
}

fn with_cpu(spec: &mut Value) {
    let trigger = json!({ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "50" } });
    spec["triggers"].as_array_mut().expect("a list").push(trigger);
}

/// An object whose query was answered so for some hours, by the poll's number.
fn recorded(spec: Value, hours: i64, answer: impl Fn(i64) -> Option<f64>) -> (Recorded, Range) {
    let mut track = Track::default();
    let range = Range { from: START, to: START + hours * HOUR_MS };
    for number in 0..(range.to - range.from) / POLL_MS {
        if let Some(value) = answer(number) {
            track.push(START + number * POLL_MS, &SampleValue::Number(value));
        }
    }
    let recorded = Recorded {
        manifest: json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": { "namespace": "shop", "name": "web", "uid": "u" }, "spec": spec,
        }),
        tracks: [(SourceId::new("prometheus", "", "load"), track)].into(),
        ..Recorded::default()
    };
    (recorded, range)
}

fn report(recorded: &Recorded, range: Range, sets: &[&str]) -> Report {
    let today = today(ApiGroup::KedaSh, &recorded.manifest).expect("is valid");
    let candidates: Vec<Candidate> = sets.iter().map(|set| made(recorded, set)).collect();
    Replay::new(recorded, &today, range, Model::default()).expect("has answers").report(&candidates)
}

fn made(recorded: &Recorded, set: &str) -> Candidate {
    let choice = Choice::Set(set.to_owned());
    candidate(ApiGroup::KedaSh, "candidate 1", &choice, &recorded.manifest).expect(set)
}

/// Sawteeth of 40 minutes.
fn sawtooth(number: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let value = (number % 160) as f64 * 2.0 + 20.0;
    Some(value)
}

#[test]
fn the_bundled_week_shows_what_there_is_to_see() {
    let (key, recorded, range) = demo::recorded();
    let today = candidate::today(key.group, &recorded.manifest).expect("is valid");
    let replay = Replay::new(&recorded, &today, range, Model::default()).expect("has answers");
    let measures = replay.report(&[]).today.measures;
    assert!(measures.starts_from_zero > 5 && measures.peak == 12 && measures.hours_at_max > 0.2, "{measures:?}");
    assert!((150.0..1_000.0).contains(&measures.pod_hours), "{measures:?}");
    let text = demo::around("", &replay);
    assert!(text.contains("activated by s0-prometheus") && text.contains("cooldown over"), "{text}");
}

#[test]
fn holes_are_listed_and_the_last_answer_stands() {
    let (recorded, range) = recorded(spec(), 4, |number| (!(200..400).contains(&number)).then_some(55.0));
    let mut recorded = recorded;
    recorded.holes = record::holes(&recorded.tracks, range);
    let report = report(&recorded, range, &[]);
    assert_eq!(report.holes, [(START + 199 * POLL_MS, START + 400 * POLL_MS)]);
    assert_eq!(report.today.replicas.last().map(|(_, count)| *count), Some(6));
    let text = report.text(STYLE);
    assert!(text.contains("holes in the record, 50 min 15 s in all"), "{text}");
    assert!(text.contains("2026-01-01T00:49:45Z to 2026-01-01T01:40:00Z, 50 min 15 s"), "{text}");
}

#[test]
fn what_cannot_be_trusted_is_said() {
    let mut spec = spec();
    spec["triggers"][0]["metricType"] = json!("Value");
    with_cpu(&mut spec);
    let (mut recorded, range) = recorded(spec, 2, |_| Some(10.0));
    (recorded.minutes_until, recorded.by_others) = (Some(START + HOUR_MS), 3);
    let text = report(&recorded, range, &[]).text(STYLE);
    for part in [
        "s0-prometheus is of type Value",
        "cpu is not replayed",
        "until 2026-01-01T01:00:00Z samples have expired: each minute counts as its last one",
        "3 changes of replicas by others",
        "so the model is not checked",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_resource_is_shared_by_the_pods() {
    let mut spec = spec();
    with_cpu(&mut spec);
    let (mut recorded, range) = recorded(spec, 2, |_| Some(5.0));
    let mut used = Track::default();
    // Four pods at 90 percent, then two at 40.
    used.push(START, &SampleValue::Number(360.0));
    used.push(START + HOUR_MS, &SampleValue::Number(80.0));
    recorded.tracks.insert(SourceId::of_resource("cpu", None, true), used);
    let report = report(&recorded, range, &["spec.triggers[1].metadata.value=90"]);
    let last =
        |variant: &Variant, at: i64| variant.replicas.iter().rfind(|(when, _)| *when < at).map(|(_, count)| *count);
    assert_eq!(last(&report.today, START + HOUR_MS), Some(8), "{report:?}");
    assert_eq!(last(&report.today, range.to), Some(2), "{report:?}");
    assert_eq!(last(&report.candidates[0], START + HOUR_MS), Some(4), "{report:?}");
    assert!(report.assumptions.iter().any(|line| line.starts_with("cpu: what the HPA showed")), "{report:?}");
}

#[test]
fn a_pause_lasts_as_long_as_it_did() {
    let (mut recorded, range) = recorded(spec(), 4, sawtooth);
    let paused = Pause { paused: true, ..Pause::default() };
    recorded.pauses = vec![(START + HOUR_MS, paused), (START + 3 * HOUR_MS, Pause::default())];
    let report = report(&recorded, range, &["spec.triggers[0].metadata.threshold=20"]);
    for variant in [&report.today, &report.candidates[0]] {
        let during = |at: &i64| (START + HOUR_MS + 1..START + 3 * HOUR_MS).contains(at);
        assert!(variant.replicas.iter().all(|(at, _)| !during(at)), "{variant:?}");
        assert!(variant.replicas.iter().any(|(at, _)| *at > START + 3 * HOUR_MS), "{variant:?}");
    }
}

#[test]
fn a_suggestion_meets_its_goal_as_cheaply_as_it_can() {
    let (recorded, range) = recorded(spec(), 2, sawtooth);
    let today = today(ApiGroup::KedaSh, &recorded.manifest).expect("is valid");
    let replay = Replay::new(&recorded, &today, range, Model::default()).expect("has answers");
    let of = |at_most_above_target: f64| -> Suggestion {
        let goal = Goal { at_most_above_target };
        suggest(&replay, goal, &|set| Ok(made(&recorded, set))).expect("candidates are valid")
    };
    let (strict, lax) = (of(0.01), of(1.0));
    assert!(strict.today.share_above_target > 0.05, "{strict:?}");
    assert!(strict.meets_goal && strict.measures.share_above_target <= 0.01, "{strict:?}");
    assert!(strict.set.contains("spec.triggers[0].metadata.threshold="), "{strict:?}");
    assert!(strict.measures.pod_hours > lax.measures.pod_hours, "{strict:?} {lax:?}");
    assert!(lax.meets_goal && lax.measures.pod_hours < lax.today.pod_hours, "{lax:?}");
    let again = replay.figures(&made(&recorded, &strict.set));
    assert_eq!(again, strict.measures, "the text says how to get there");
    let mut text = String::new();
    strict.write(&mut text);
    assert!(text.contains("--set 'spec.") && text.contains("above target"), "{text}");
}

/// What is left out changes nothing: a run that decides on every poll goes the same way.
#[test]
fn polls_are_left_out_without_a_trace() {
    let calm = |number: i64| (number % 300 < 150).then_some(if number % 40 < 30 { 25.0 } else { 3.0 });
    let zero = json!({ "minReplicaCount": 0, "cooldownPeriod": 120, "pollingInterval": 5 });
    let idle = json!({ "minReplicaCount": 2, "idleReplicaCount": 1, "cooldownPeriod": 60 });
    let slow = json!({ "pollingInterval": 70, "minReplicaCount": 0 });
    let often = json!({ "pollingInterval": 4, "maxReplicaCount": 5 });
    let paused = vec![
        (START + 40 * MINUTE_MS, Pause { paused: true, ..Pause::default() }),
        (START + 47 * MINUTE_MS, Pause::default()),
    ];
    let mut left_out = 0;
    let mut compare = |name: &str, recorded: &Recorded, range: Range| {
        let today = today(ApiGroup::KedaSh, &recorded.manifest).expect("is valid");
        let replay = Replay::new(recorded, &today, range, Model::default()).expect("has answers");
        let mut input = replay.input(&today);
        let some = play(&input, &today.object);
        input.decides_all = true;
        let all = play(&input, &today.object);
        assert_eq!(some.replicas, all.replicas, "{name}");
        assert_eq!(some.ready, all.ready, "{name}");
        assert_eq!(some.demand, all.demand, "{name}");
        assert_eq!(some.polls, all.polls, "{name}");
        left_out += all.decided - some.decided;
    };
    for (name, change) in [("zero", zero), ("idle", idle), ("slow", slow), ("often", often), ("today", json!({}))] {
        let mut spec = spec();
        for (key, value) in change.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        spec["triggers"][0]["metadata"]["activationThreshold"] = json!("4");
        for pauses in [Vec::new(), paused.clone()] {
            for answer in [sawtooth as fn(i64) -> Option<f64>, calm] {
                let (mut recorded, range) = recorded(spec.clone(), 2, answer);
                recorded.pauses.clone_from(&pauses);
                compare(name, &recorded, range);
            }
        }
    }
    let (_, week, range) = demo::recorded();
    compare("the bundled week", &week, Range { to: range.from + 18 * HOUR_MS, ..range });
    assert!(left_out > 1_000, "{left_out}");
}

#[test]
fn nothing_recorded_is_an_error() {
    let (recorded, range) = recorded(spec(), 1, sawtooth);
    let today = today(ApiGroup::KedaSh, &recorded.manifest).expect("is valid");
    let later = Range { from: range.to + 24 * HOUR_MS, to: range.to + 25 * HOUR_MS };
    assert!(Replay::new(&recorded, &today, later, Model::default()).is_err_and(|error| error.contains("--since")));
}

#[test]
fn json_has_every_figure() {
    let (recorded, range) = recorded(spec(), 1, sawtooth);
    let report = report(&recorded, range, &["spec.maxReplicaCount=5"]);
    let json = serde_json::to_value(&report).expect("plain data is JSON");
    assert_eq!(json["candidates"][0]["changes"][0], "spec.maxReplicaCount: 40 -> 5");
    assert_eq!(json["candidates"][0]["measures"]["peak"], 5);
    assert!(json["candidates"][0]["measures"]["hours_at_max"].as_f64() > Some(0.1));
    for name in ["pod_hours", "changes", "turns", "missing_pod_hours", "share_above_target", "starts_from_zero"] {
        assert!(json["today"]["measures"][name].is_number(), "{name}: {json}");
    }
}
