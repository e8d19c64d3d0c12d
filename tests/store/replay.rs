//! `hpalite replay` on a real file: samples, roll-ups of expired ones, and what only a Prometheus has.

use std::process::{Command, Output};

use hpalite::scaling::event::{Answer, Record};
use hpalite::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use serde_json::{Value, json};

use super::{Place, START, sample, stop, trigger, web};
use crate::support::fake_prometheus::{FakePrometheus, Reply, Request};

const HOUR_MS: i64 = 3_600_000;

/// Samples from the sixth to the twelfth hour, and only roll-ups of the hours before.
fn recorded() -> Place {
    let place = Place::new();
    let store = place.start();
    let spec = json!({
        "scaleTargetRef": { "name": "web" }, "minReplicaCount": 1, "maxReplicaCount": 30, "pollingInterval": 15,
        "triggers": [{ "type": "prometheus", "metadata":
            { "serverAddress": "http://prometheus:9090", "query": "sum(up)", "threshold": "10" } }],
    });
    store.send(vec![Record::Definition {
        at: UnixMillis(START),
        object: web(),
        uid: "u1".into(),
        generation: 1,
        spec_json: spec.to_string().as_str().into(),
        invalid: None,
        resource_triggers: Vec::new(),
        triggers: vec![trigger(0, 10.0)],
    }]);
    let times = (START + 6 * HOUR_MS..START + 12 * HOUR_MS).step_by(15_000);
    store.send(times.map(|at| sample(at, &web(), Answer::Value(45.0))).collect());
    stop(store);
    let file = place.open();
    for hour in 0..6 {
        let at = START + hour * HOUR_MS;
        file.execute("INSERT INTO rolled_hour VALUES (?1)", [at]).unwrap();
        let insert = "INSERT INTO sample_hour VALUES (?1, (SELECT id FROM series), 240, 0, 80, 90, 20400, 85, ?2)";
        file.execute(insert, [at, at + HOUR_MS - 15_000]).unwrap();
    }
    place
}

fn replay(place: &Place, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hpalite"))
        .args(["replay", "shop/web", "--until", "2026-01-01T12:00:00Z", "--since", "12h", "--db"])
        .arg(place.path())
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn expired_samples_are_replayed_by_the_hour() {
    let place = recorded();
    let output = replay(&place, &["--json", "--set", "spec.maxReplicaCount=5"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts: Vec<u64> =
        report["today"]["replicas"].as_array().unwrap().iter().filter_map(|step| step[1].as_u64()).collect();
    // 85 is within the tolerance of eight, but nine were asked for before, within the window.
    assert_eq!(counts, [4, 8, 9, 5], "{report}");
    assert_eq!(report["candidates"][0]["measures"]["peak"], 5, "{report}");
    let output = replay(&place, &[]);
    let text = text(&output.stdout);
    for part in [
        "until 2026-01-01T05:59:45Z samples have expired: each hour counts as its last one",
        "no replicas were recorded under today's settings",
        "pod-hours",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn every_object_is_replayed_the_worst_first() {
    let place = Place::new();
    let store = place.start();
    let object = |name: &str| ObjectKey::new(ApiGroup::KedaSh, "shop", name);
    let (from, to) = (START + 6 * HOUR_MS, START + 12 * HOUR_MS);
    // Every five minutes the load of `jumpy` is higher than what its replicas were for, and `new` was not asked yet.
    let load = |name: &str, at: i64| match name {
        "jumpy" if at / 300_000 % 2 == 0 => 290.0,
        _ => 15.0,
    };
    for name in ["calm", "jumpy", "new"] {
        let spec = json!({
            "scaleTargetRef": { "name": name }, "minReplicaCount": 1, "maxReplicaCount": 30, "pollingInterval": 15,
            "advanced": { "horizontalPodAutoscalerConfig": { "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } } } },
            "triggers": [{ "type": "prometheus", "metadata":
                { "serverAddress": "http://prometheus:9090", "query": "sum(up)", "threshold": "10" } }],
        });
        store.send(vec![Record::Definition {
            at: UnixMillis(from),
            object: object(name),
            uid: name.into(),
            generation: 1,
            spec_json: spec.to_string().as_str().into(),
            invalid: None,
            resource_triggers: Vec::new(),
            triggers: vec![trigger(0, 10.0)],
        }]);
        let times = (from..to).step_by(15_000).filter(|_| name != "new");
        store.send(times.map(|at| sample(at, &object(name), Answer::Value(load(name, at)))).collect());
    }
    stop(store);
    let all = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_hpalite"))
            .args(["replay", "--all", "--until", "2026-01-01T12:00:00Z", "--since", "6h", "--db"])
            .arg(place.path())
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = all(&["--json", "--set", "spec.maxReplicaCount=5"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        report["objects"].as_array().unwrap().iter().filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names, ["jumpy", "calm"], "{report}");
    let jumpy = &report["objects"][0];
    assert_eq!((&jumpy["today"]["peak"], &jumpy["candidate"]["peak"]), (&json!(29), &json!(5)), "{jumpy}");
    assert!(jumpy["today"]["share_above_target"].as_f64() > Some(0.0), "{jumpy}");
    assert_eq!(report["left_out"][0]["name"], "new", "{report}");
    let shown = text(&all(&["-n", "shop"]).stdout);
    assert!(shown.contains("2 objects: 6 h of load") && shown.contains("shop/new: today: spec.triggers[0]"), "{shown}");
    let none = all(&["-n", "other"]);
    assert!(none.status.code() == Some(2) && text(&none.stderr).contains("no ScaledObject here"), "{none:?}");
}

#[test]
fn what_the_history_lacks_is_asked_for() {
    let place = recorded();
    let other = "spec.triggers[0].metadata.query=sum(rate(requests[1m]))";
    let output = replay(&place, &["--set", other]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("spec.triggers[0].metadata: the history has no answer"), "{output:?}");
    let prometheus = FakePrometheus::start(|request| Reply::json(&range(request)));
    let output = replay(&place, &["--set", other, "--json", "--from-prometheus", &prometheus.url()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["candidates"][0]["measures"]["peak"], 12, "{report}");
    let assumptions = report["assumptions"].to_string();
    assert!(assumptions.contains("what --from-prometheus has of that time"), "{assumptions}");
    let requests = prometheus.requests();
    assert!(requests.iter().all(|request| request.target.starts_with("/api/v1/query_range")), "{requests:?}");
    assert!((1..20).contains(&requests.len()), "{}", requests.len());
    let refusing = FakePrometheus::start(|_| Reply::status(503, "down"));
    let output = replay(&place, &["--set", other, "--from-prometheus", &refusing.url()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--from-prometheus: ") && text(&output.stderr).contains("503"), "{output:?}");
}

/// Always 120, at each step that is asked for.
fn range(request: &Request) -> String {
    let parameter = |name: &str| -> f64 {
        let (_, rest) = request.target.split_once(&format!("&{name}=")).expect(name);
        rest.split('&').next().unwrap().parse().unwrap()
    };
    let (start, end, step) = (parameter("start"), parameter("end"), parameter("step"));
    let mut values = Vec::new();
    let mut at = start;
    while at <= end {
        values.push(json!([at, "120"]));
        at += step;
    }
    json!({ "status": "success", "data": { "resultType": "matrix", "result": [{ "metric": {}, "values": values }] } })
        .to_string()
}
