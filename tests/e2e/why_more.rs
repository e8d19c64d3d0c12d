//! `hpalite why` for objects with unusual histories, as a user asks who knows nothing about them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::case::Case;
use super::{Exclusive, daemon};
use crate::support::cluster::{Daemon, bounded, wait_for, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

/// The answer to a query.
#[derive(Clone, Copy)]
enum Scripted {
    Number(f64),
    NoSeries,
    Error,
}

/// A scripted Prometheus with an answer for each query; the default is an error.
struct Queries {
    fake: FakePrometheus,
    answers: Arc<Mutex<HashMap<String, Scripted>>>,
}

impl Queries {
    fn start() -> Self {
        let answers: Arc<Mutex<HashMap<String, Scripted>>> = Arc::default();
        let shown = Arc::clone(&answers);
        let fake = FakePrometheus::start(move |request| {
            let answers = shown.lock().unwrap();
            let found = answers.iter().find(|(query, _)| request.target.contains(&format!("query={query}")));
            match found.map_or(Scripted::Error, |(_, says)| *says) {
                Scripted::Number(value) => Reply::value(&value.to_string()),
                Scripted::NoSeries => Reply::json(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#),
                Scripted::Error => Reply::status(503, "down"),
            }
        });
        Self { fake, answers }
    }

    fn set(&self, query: &str, says: Scripted) {
        self.answers.lock().unwrap().insert(query.to_owned(), says);
    }

    /// Returns an object `name` with the Deployment and the query of that name.
    fn object(&self, case: &Case<'_>, name: &str, replicas: u32, spec: Value) -> Value {
        case.cluster.deployment(&case.namespace, name, replicas);
        let mut spec = spec;
        spec["scaleTargetRef"] = json!({ "name": name });
        if spec["triggers"].is_null() {
            spec["triggers"] = json!([{ "type": "prometheus",
                "metadata": { "serverAddress": self.fake.url(), "query": name, "threshold": "10" } }]);
        }
        case.scaled_object(name, spec)
    }
}

fn ask(db: &Path, name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["why", name, "--db"])
        .arg(db)
        .args(arguments)
        .output()
        .expect("hpalite why can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Waits for a line of the answer with all these words.
fn wait_for_words(db: &Path, name: &str, arguments: &[&str], words: &[&str]) -> String {
    wait_seeing(&format!("why {name} to say {words:?}"), || {
        let text = ask(db, name, arguments)?;
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if found { Ok(text) } else { Err(text) }
    })
}

#[test]
fn a_newcomer_understands_odd_lives() {
    let case = Case::new("odd");
    let queries = Queries::start();
    let db = daemon().1.db();
    let why = |name: &str, words: &[&str]| {
        wait_for_words(&db, &format!("{}/{name}", case.namespace), &["--since", "1h"], words)
    };
    for (name, says) in [
        ("gone", Scripted::Number(45.0)),
        ("asleep", Scripted::Number(5.0)),
        ("quiet", Scripted::Number(15.0)),
        ("again", Scripted::Number(25.0)),
        ("renamed", Scripted::Number(25.0)),
        ("capped", Scripted::Number(900.0)),
        ("window", Scripted::Number(90.0)),
        ("moving", Scripted::Number(35.0)),
    ] {
        queries.set(name, says);
    }
    let fast = |spec: Value| {
        let mut spec = spec;
        spec["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } } } });
        spec
    };
    let held = |text: &str, by: &str| {
        assert!(text.lines().any(|line| line.contains(&format!("held by {by}"))), "{by}: {text}")
    };

    // All of them at the same time, since each takes long.
    case.apply(queries.object(&case, "gone", 1, fast(json!({ "minReplicaCount": 1, "maxReplicaCount": 8 }))));
    let mut asleep = queries.object(&case, "asleep", 2, json!({}));
    asleep["metadata"]["annotations"] = json!({ "autoscaling.keda.sh/paused": "true" });
    case.apply(asleep);
    case.apply(queries.object(&case, "quiet", 2, json!({ "minReplicaCount": 1 })));
    case.apply(queries.object(
        &case,
        "broken",
        1,
        json!({ "minReplicaCount": 1, "fallback": { "failureThreshold": 2, "replicas": 3 } }),
    ));
    case.apply(queries.object(&case, "failing", 0, json!({})));
    case.apply(queries.object(&case, "again", 1, json!({ "minReplicaCount": 1 })));
    case.apply(queries.object(&case, "renamed", 1, json!({ "minReplicaCount": 1 })));
    case.apply(queries.object(&case, "capped", 1, json!({ "minReplicaCount": 1, "maxReplicaCount": 4 })));
    case.apply(queries.object(&case, "window", 1, json!({ "minReplicaCount": 1, "maxReplicaCount": 12 })));
    case.apply(queries.object(&case, "moving", 1, json!({ "minReplicaCount": 1 })));
    let mut nowhere = queries.object(&case, "nowhere", 1, json!({}));
    nowhere["spec"]["scaleTargetRef"] = json!({ "name": "no-such-deployment" });
    case.apply(nowhere);
    let mut unknown = queries.object(&case, "unknown-kind", 1, json!({}));
    unknown["spec"]["scaleTargetRef"] = json!({ "apiVersion": "example.com/v1", "kind": "Thing", "name": "thing" });
    case.apply(unknown);
    let mut wrong = queries.object(&case, "wrong", 1, json!({}));
    wrong["spec"]["advanced"] = json!({ "scalingModifiers": { "formula": "a +", "target": "1" } });
    case.apply(wrong);

    // It never changed, but is known nevertheless.
    let text = why("quiet", &["2 first seen"]);
    assert!(text.contains("replicas 2"), "{text}");
    let text = wait_for_words(
        &db,
        &format!("{}/quiet", case.namespace),
        &[],
        &["nothing holds it: it is as many as the metrics ask for"],
    );
    assert!(text.contains("replicas 2") && !text.contains("unknown"), "{text}");
    // Paused from the beginning.
    let text = why("asleep", &["held by a pause since", "autoscaling.keda.sh/paused"]);
    assert!(text.contains("replicas 2") && !text.contains("missing samples"), "{text}");
    // A fallback is the cause.
    let text = why("broken", &["1→3 by the HPA", "fallback to 3 replicas since s0-prometheus failed", "times"]);
    assert!(!text.contains("scale-up policy"), "{text}");
    held(&text, "trigger s0-prometheus in error since");
    // At 0 with a failing trigger.
    held(&why("failing", &["held by trigger s0-prometheus in error", "503"]), "trigger");
    // No target, no kind, no formula.
    held(&why("nowhere", &["held by a failed check since", "no-such-deployment"]), "a failed check");
    held(&why("unknown-kind", &["held by a failed check since", "Thing"]), "a failed check");
    held(&why("wrong", &["held by its definition, which is invalid", "formula"]), "its definition");
    // At the maximum.
    why("capped", &["→4 by the HPA", "s0-prometheus 900 / 10 per replica → 90", "limited by maxReplicaCount 4"]);
    why("capped", &["held by maxReplicaCount 4"]);
    // Renaming the HPA.
    let text = why("renamed", &["→3 by the HPA", "s0-prometheus 25 / 10 per replica → 3"]);
    assert!(text.contains("replicas 3"), "{text}");
    let mut renamed = queries.object(&case, "renamed", 3, json!({ "minReplicaCount": 1 }));
    renamed["spec"]["advanced"] = json!({ "horizontalPodAutoscalerConfig": { "name": "my-own" } });
    case.apply(renamed);
    why("renamed", &["definition, generation 2", "my-own"]);
    queries.set("renamed", Scripted::Number(55.0));
    why("renamed", &["3→6 by the HPA", "s0-prometheus 55 / 10 per replica → 6"]);
    // Deleted and created again.
    why("again", &["→3 by the HPA"]);
    case.kubectl(&["delete", "scaledobject", "again"]);
    why("again", &["the ScaledObject is gone since"]);
    case.apply(queries.object(&case, "again", 3, json!({ "minReplicaCount": 1 })));
    let text = why("again", &["3 first seen"]);
    assert!(text.contains("the ScaledObject was removed") && text.contains("1→3 by the HPA"), "{text}");
    // Two objects with one target.
    why("moving", &["→4 by the HPA"]);
    let mut second = queries.object(&case, "second", 1, json!({}));
    second["spec"]["scaleTargetRef"] = json!({ "name": "moving" });
    case.apply(second);
    held(&why("second", &["held by a failed check since", "moving"]), "a failed check");
    // A manual change against the HPA.
    case.kubectl(&["scale", "deployment", "moving", "--replicas=2"]);
    why("moving", &["4→2 by kubectl", "neither the HPA nor hpalite"]);
    why("moving", &["2→4 by the HPA"]);
    // The window of the controller's flag, which no API shows: 5 s here.
    why("window", &["→9 by the HPA"]);
    // Long enough for the HPA to have read the value.
    let asked = || queries.fake.requests().iter().filter(|request| request.target.contains("query=window")).count();
    wait_for("25 polls", || (asked() >= 25).then_some(()));
    queries.set("window", Scripted::Number(20.0));
    let text =
        why("window", &["9→2 by the HPA", "no sample asked for more than 2 since", "when s0-prometheus asked for 9"]);
    assert!(!text.contains("within the last 300 s"), "{text}");
    // A scale-in shows how long the window is if the HPA said that it waits, which one of a late controller does not.
    let mut said = Vec::new();
    let learnt = (2..=6).any(|scale_ins| {
        queries.set("window", Scripted::Number(90.0));
        wait_for("9 again", || (case.cluster.replicas(&case.namespace, "window") == Some(9)).then_some(()));
        queries.set("window", Scripted::Number(20.0));
        // It holds for seconds only, so it is asked about afterwards.
        let before = wait_seeing("another scale-in", || {
            let found = daemon().1.sql(&format!(
                "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', (at_unix_ms - 2000) / 1000, 'unixepoch') AS before
                 FROM v_replica_change WHERE namespace = '{}' AND name = 'window' AND from_replicas = 9
                 ORDER BY at_unix_ms DESC",
                case.namespace
            ));
            let latest = found.first().filter(|_| found.len() == scale_ins).and_then(|row| row["before"].as_str());
            latest.map(str::to_owned).ok_or_else(|| format!("{found:?}"))
        });
        let text = ask(&db, &format!("{}/window", case.namespace), &["--at", &before]).unwrap();
        let is_learnt = text.contains("stabilization window, about") && text.contains("s as at the scale-in of");
        said.push(text);
        is_learnt
    });
    assert!(learnt, "{said:#?}");
    why("window", &["2→4 by the HPA"]);
    // Series disappear.
    why("gone", &["→5 by the HPA"]);
    queries.set("gone", Scripted::NoSeries);
    let text = why("gone", &["→1 by the HPA", "s0-prometheus: no series since", "which reads as 0 (ignoreNullValues)"]);
    let metric = text.lines().find(|line| line.starts_with("  metric ")).unwrap_or_default();
    assert!(metric.contains("no series since") && !text.contains("none in the last hour"), "{text}");
    let events = wait_seeing("an event of it", || {
        let events = case.cluster.events(&case.namespace, "gone");
        let found =
            events.iter().find(|(_, reason, _)| reason == "ScaledInWithoutSeries").map(|(.., note)| note.clone());
        found.ok_or_else(|| format!("{events:?}"))
    });
    assert!(events.contains("no series for s0-prometheus since"), "{events}");
    let timeline = daemon().1.sql(&format!(
        "SELECT text FROM v_timeline WHERE namespace = '{}' AND name = 'gone' AND what = 'replicas' AND text LIKE '% to 1 by the HPA%no series%'",
        case.namespace
    ));
    assert!(!timeline.is_empty());
    let log = daemon().1.log();
    let line = log
        .lines()
        .find(|line| line.contains("scaled in without a number") && line.contains("/gone"))
        .unwrap_or_default();
    assert!(line.contains("metric=s0-prometheus") && line.contains("no series, which reads as 0"), "{line:?}");
    assert!(!log.contains("Some(") && !log.contains("by=unknown"), "no value is written as Rust writes it");
    // An unknown name, and one that is nearly right.
    let error = ask(&db, &format!("{}/quitе", case.namespace), &[]).unwrap_err();
    assert!(error.contains("the history knows no ScaledObject"), "{error}");
    let error = ask(&db, &format!("{}/quie", case.namespace), &[]).unwrap_err();
    assert!(error.contains("did you mean") && error.contains("/quiet"), "{error}");
}

/// The API of external metrics belongs to another server, hpalite is stopped, and its file is read meanwhile.
#[test]
fn who_cannot_act_is_named() {
    let case = Case::exclusive(Exclusive::Others, "foreign");
    let cluster = case.cluster;
    let queries = Queries::start();
    queries.set("foreign", Scripted::Number(45.0));
    // It is started and serves metrics, but no requests are routed to it.
    let own = Daemon::start(cluster, &[]);
    let before = cluster.get("apiservice", "", "v1beta1.external.metrics.k8s.io").expect("the APIService");
    let apiservice = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": "v1beta1.external.metrics.k8s.io" },
        "spec": { "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": { "namespace": "default", "name": "somebody-else" }, "insecureSkipTLSVerify": true, "caBundle": null },
    });
    cluster.apply(&apiservice.to_string());
    case.apply(queries.object(&case, "foreign", 2, json!({ "minReplicaCount": 1 })));
    let name = format!("{}/foreign", case.namespace);
    let db = own.db();
    let text = wait_for_words(&db, &name, &[], &["held by the HPA, ScalingActive=False", "FailedGetExternalMetric"]);
    assert!(text.contains("replicas 2") && !text.contains("nothing"), "{text}");
    // Somebody scales during its absence, and it says that it may have missed when.
    let (_, folder) = own.stop();
    let db = folder.path().join("hpalite.db");
    let text = ask(&db, &name, &[]).unwrap();
    assert!(text.contains("held by the daemon, stopped since"), "{text}");
    case.kubectl(&["scale", "deployment", "foreign", "--replicas=5"]);
    let own = Daemon::start_in(cluster, &[], folder);
    let db = own.db();
    wait_for_words(&db, &name, &[], &["2→5 by kubectl", "seen when hpalite started at", "it may be older"]);
    // The change is seen before the lease is held; a process that is killed until then was a standby for all that is known.
    wait_seeing("the new process to lead", || {
        let text = ask(&db, &name, &[])?;
        if text.contains("another instance") { Err(text) } else { Ok(()) }
    });
    // If it is killed it cannot record that, but its silence shows it.
    let folder = own.kill();
    let db = folder.path().join("hpalite.db");
    wait_for_words(&db, &name, &[], &["held by silence: the newest sample is"]);
    cluster.kubectl(&["delete", "namespace", &case.namespace, "--wait=false"]);
    // Restores the APIService for the next test on this control plane.
    let spec =
        json!({ "spec": { "service": before["spec"]["service"], "insecureSkipTLSVerify": null, "caBundle": null } });
    let patch = spec.to_string();
    cluster.kubectl(&["patch", "apiservice", "v1beta1.external.metrics.k8s.io", "--type=merge", "-p", &patch]);
}
