//! One finding per cause, what HPAs report, what a takeover would leave behind, and whether suggested fixes work.

use serde_json::{Value, json};

use super::{findings, is_reported, report};
use crate::e2e::case::{Case, Source};
use crate::e2e::migration::{refused, route_to_keda};
use crate::e2e::{Exclusive, exclusive};
use crate::support::cluster::{APISERVICE, Cluster, Daemon, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

fn ids(found: &[Value]) -> Vec<String> {
    let ids = found.iter().map(|finding| finding["id"].as_str().unwrap_or_default().to_owned());
    // Some checks are impossible from outside the pod.
    ids.filter(|id| id != "not-checked").collect()
}

fn of(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    findings(&report(cluster.env("KUBECONFIG"), arguments).1)
}

/// Waits until this finding is reported and none with the ids in `not`, whatever else there is.
fn alone(cluster: &Cluster, id: &str, not: &[&str]) {
    wait_seeing(&format!("{id} alone"), || {
        let found = of(cluster, &[]);
        let ids = ids(&found);
        let is_alone = ids.iter().filter(|found| *found == id).count() == 1;
        let is_more = ids.iter().any(|found| found != id && not.iter().any(|start| found.starts_with(start)));
        if is_alone && !is_more { Ok(()) } else { Err(format!("{found:#?}")) }
    });
}

#[test]
fn one_cause_is_one_finding() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let delete = |arguments: &[&str]| drop(cluster.kubectl(&[&["delete"], arguments].concat()));
    let case = Case::within(cluster, "one-cause");
    let unreached = ["apiservice-unavailable", "api-unreachable", "service-", "ca-bundle", "hpa-"];

    delete(&["serviceaccount", "hpalite", "-n", "hpalite"]);
    alone(
        cluster,
        "service-account-missing",
        &[&["right-missing", "no-leader", "leader-gone"][..], &unreached].concat(),
    );
    cluster.install();
    delete(&["clusterrolebinding", "hpalite"]);
    alone(cluster, "right-missing", &unreached);
    cluster.install();
    route_to_keda(cluster);
    alone(cluster, "apiservice-foreign", &["apiservice-unavailable", "api-unreachable", "service-port", "ca-bundle"]);
    let (_, text) = report(cluster.env("KUBECONFIG"), &[]);
    let reach = text["checks"].as_array().unwrap().iter().find(|check| check["check"] == "API server reaches hpalite");
    assert_eq!(reach.unwrap()["outcome"], "follows", "{text}");
    assert_eq!(reach.unwrap()["follows_from"], json!(["apiservice-foreign"]), "{text}");
    cluster.kubectl(&["delete", "apiservice", APISERVICE]);
    alone(cluster, "apiservice-missing", &["api-unreachable", "service-port", "ca-bundle"]);
    cluster.install();
    cluster.deployment(&case.namespace, "api", 1);
    cluster.apply(&json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "left", "namespace": case.namespace, "labels": { "scaledobject.keda.sh/name": "so" } },
        "spec": { "maxReplicas": 2, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" } },
    }).to_string());
    // What earlier tests left has no daemon that would let it go.
    let names = r#"jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}"#;
    for left in cluster.kubectl(&["get", "scaledobjects.keda.sh", "-A", "-o", names]).lines() {
        let (namespace, name) = left.split_once(' ').unwrap();
        let released = r#"{"metadata":{"finalizers":null}}"#;
        cluster.kubectl(&["patch", "scaledobjects.keda.sh", name, "-n", namespace, "--type=merge", "-p", released]);
    }
    delete(&["crd", "scaledobjects.keda.sh", "--timeout=170s"]);
    alone(cluster, "crd-missing", &["hpa-orphaned"]);
    cluster.install();
    delete(&["hpa", "left", "-n", &case.namespace]);
}

/// A kind with a scale subresource without a selector of its pods.
fn without_selector(case: &Case<'_>) -> Value {
    let gang = json!({
        "apiVersion": "doctor.example/v1", "kind": "Gang", "metadata": { "name": "api", "namespace": case.namespace },
        "spec": { "replicas": 1 },
    });
    let paths = json!({ "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" });
    case.apply_with_kind(&gang, &json!({ "status": {}, "scale": paths }));
    let status = json!({ "status": { "replicas": 1 } }).to_string();
    case.kubectl(&["patch", "gangs.doctor.example", "api", "--subresource=status", "--type=merge", "-p", &status]);
    json!({ "apiVersion": "doctor.example/v1", "kind": "Gang", "name": "api" })
}

#[test]
fn a_missing_right_on_a_target_and_then_its_hpas_conditions_are_reported() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let case = Case::within(cluster, "doctor-target");
    let source = Source::new(25.0);
    let _daemon = Daemon::serve(cluster, &[]);
    let target = without_selector(&case);
    case.scale("so", json!({ "scaleTargetRef": target, "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_for_condition("Ready", "False", "ScaledObjectCheckFailed");
    let within = ["--namespace", case.namespace.as_str()];
    let found = of(cluster, &within);
    assert_eq!(ids(&found), ["target-right-missing"], "{found:#?}");
    assert!(is_reported(
        &found,
        "target-right-missing",
        "get gangs.doctor.example and get, update gangs/scale.doctor.example"
    ));
    let fix = found.iter().find(|finding| finding["id"] == "target-right-missing").unwrap()["fix"].as_str().unwrap();
    assert!(fix.contains("hpalite.dev/aggregate-to-scale-targets: \"true\""), "{fix}");
    case.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "hpalite-scale-gangs", "labels": { "hpalite.dev/aggregate-to-scale-targets": "true" } },
        "rules": [
            { "apiGroups": ["doctor.example"], "resources": ["gangs"], "verbs": ["get"] },
            { "apiGroups": ["doctor.example"], "resources": ["gangs/scale"], "verbs": ["get", "update"] },
        ],
    }));
    case.wait_until_ready();
    case.wait_for_hpa_condition("False", "selector");
    let found = of(cluster, &within);
    assert_eq!(ids(&found), ["hpa-not-scaling"], "{found:#?}");
    assert!(is_reported(&found, "hpa-not-scaling", "InvalidSelector"), "{found:#?}");
    let finding = found.iter().find(|finding| finding["id"] == "hpa-not-scaling").unwrap();
    assert!(finding["fix"].as_str().unwrap().contains("labelSelectorPath"), "{finding}");
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=170s"]);
    cluster.kubectl(&["delete", "clusterrole", "hpalite-scale-gangs"]);
    cluster.kubectl(&["delete", "crd", "gangs.doctor.example", "--timeout=170s"]);
}

#[test]
fn a_trigger_s_error_is_one_finding_whoever_repeats_it() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let case = Case::within(cluster, "doctor-once");
    let partial = FakePrometheus::start(|_| {
        Reply::json(
            r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#,
        )
    });
    let _daemon = Daemon::serve(cluster, &[]);
    let bad = json!({ "type": "prometheus", "metadata": { "serverAddress": cluster.prometheus(), "query": "sum(", "threshold": "1" } });
    let mut part = bad.clone();
    part["metadata"] = json!({ "serverAddress": partial.url(), "query": "load", "threshold": "1" });
    let mut accepted = part.clone();
    accepted["metadata"]["onPartial"] = "accept".into();
    for (name, trigger) in [("bad", bad), ("part", part), ("taken", accepted)] {
        cluster.deployment(&case.namespace, name, 1);
        let target = json!({ "name": name });
        case.scale(name, json!({ "scaleTargetRef": target, "minReplicaCount": 1, "triggers": [trigger] }));
    }
    let message = case.wait_for_condition_of("bad", "TriggersHealthy", "False", "TriggerFailed");
    assert!(message.starts_with("s0-prometheus: ") && message.contains("parse error"), "{message}");
    let message = case.wait_for_condition_of("part", "TriggersHealthy", "False", "TriggerFailed");
    assert!(message.contains("isPartial"), "{message}");
    case.wait_for_condition_of("part", "Ready", "False", "TriggerError");
    case.wait_for_condition_of("taken", "Ready", "True", "ScaledObjectReady");
    wait_seeing("one finding for each", || {
        let found = of(cluster, &["--namespace", &case.namespace]);
        let mut ids = ids(&found);
        ids.sort_unstable();
        if ids == ["query-failed", "query-partial"] { Ok(()) } else { Err(format!("{found:#?}")) }
    });
    case.kubectl(&["delete", "scaledobjects.keda.sh", "--all", "--timeout=170s"]);
}

/// Returns the parts of a text between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_advice_on_what_is_no_number_makes_one_of_it() {
    let case = Case::exclusive(Exclusive::Installations, "doctor-nan");
    let cluster = case.cluster;
    let queries = [
        ("zero-by-zero", "vector(0)", Some("vector(0)")),
        ("one-by-zero", "vector(1)", Some("vector(0)")),
        ("below", "vector(-1)", Some("vector(0)")),
        ("sums", "sum(absent_metric or vector(0))", Some("sum(absent_metric or vector(0))")),
        ("quantile", "histogram_quantile(0.9, label_replace(vector(0), \"le\", \"+Inf\", \"\", \"\"))", None),
        ("root", "sqrt(vector(-1))", None),
        ("infinite", "exp(vector(1000))", None),
    ];
    let query = |a: &str, b: Option<&str>| b.map_or_else(|| a.to_owned(), |b| format!("{a} / {b}"));
    let trigger = |query: &str| json!({ "type": "prometheus", "metadata": { "serverAddress": cluster.prometheus(), "query": query, "threshold": "1" } });
    for (name, a, b) in queries {
        case.scale(name, json!({ "triggers": [trigger(&query(a, b))] }));
    }
    let found = of(cluster, &["--namespace", &case.namespace]);
    for (name, a, b) in queries {
        let of_it =
            |finding: &&Value| finding["subject"].as_str().is_some_and(|text| text.contains(&format!("/{name} ")));
        let finding = found.iter().find(of_it).unwrap_or_else(|| panic!("{name}: {found:#?}"));
        assert_eq!(finding["id"], "query-not-a-number", "{finding}");
        let advice = quoted(finding["fix"].as_str().unwrap());
        let for_divisions =
            advice[0].replace("a /", &format!("{a} /")).replace("(b ", &format!("({} ", b.unwrap_or("vector(1)")));
        let for_all = advice[1].replace("(query)", &format!("({})", query(a, b)));
        let mended = b.map(|_| for_divisions).into_iter().chain([for_all]);
        for (at, mended) in mended.enumerate() {
            case.scale(&format!("{name}-{at}"), json!({ "triggers": [trigger(&mended)] }));
        }
    }
    let found = of(cluster, &["--namespace", &case.namespace]);
    assert_eq!(
        found.iter().filter(|finding| finding["id"].as_str().unwrap().starts_with("query-")).count(),
        queries.len(),
        "{found:#?}"
    );
    case.kubectl(&["delete", "scaledobjects.keda.sh", "--all", "--timeout=170s"]);
}

#[test]
fn what_nobody_would_run_after_a_takeover_is_named_and_stops_it() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let case = Case::within(cluster, "unserved");
    let kinds = [
        ("keda.sh", "ScaledJob", "scaledjobs"),
        ("eventing.keda.sh", "CloudEventSource", "cloudeventsources"),
        ("http.keda.sh", "HTTPScaledObject", "httpscaledobjects"),
    ];
    for (group, kind, _) in kinds {
        let object = json!({
            "apiVersion": format!("{group}/v1alpha1"), "kind": kind,
            "metadata": { "name": "import", "namespace": case.namespace }, "spec": {},
        });
        case.apply_with_kind(&object, &json!({}));
    }
    cluster.deployment(&case.namespace, "api", 1);
    let pulsar =
        json!({ "type": "pulsar", "metadata": { "topic": "orders", "subscription": "s", "adminURL": "http://p" } });
    case.scale("queue", json!({ "triggers": [pulsar] }));
    let before = route_to_keda(cluster);
    let daemon = Daemon::start(cluster, &["--namespace", &case.namespace]);
    daemon.route_service(cluster);
    wait_seeing("each kind to be told", || {
        let found = of(cluster, &["--namespace", &case.namespace]);
        let is_there = kinds.iter().all(|(group, kind, plural)| {
            is_reported(&found, "kind-unserved", &format!("{plural}.{group}"))
                && is_reported(&found, "kind-unserved", &format!("{kind} {}/import", case.namespace))
        });
        let is_once = is_reported(&found, "scaled-object-invalid", "pulsar")
            && !ids(&found).contains(&"scaled-object-not-ready".to_owned());
        if is_there && is_once { Ok(()) } else { Err(format!("{found:#?}")) }
    });
    for words in [
        "scaledjobs.keda.sh",
        "cloudeventsources.eventing.keda.sh",
        "httpscaledobjects.http.keda.sh",
        "pulsar",
        "--leave-unserved",
    ] {
        refused(cluster, &["takeover"], words);
    }
    assert_eq!(cluster.get("apiservice", "", APISERVICE).unwrap()["spec"], before, "nothing was touched");
    let text = crate::e2e::migration::done(cluster, &["takeover", "--leave-unserved"]);
    assert!(text.contains("warning: hpalite does not serve scaledjobs.keda.sh"), "{text}");
    assert!(text.contains("metrics are read from hpalite"), "{text}");
    case.kubectl(&["delete", "scaledobjects.keda.sh", "--all", "--timeout=170s"]);
    for (group, _, plural) in kinds {
        cluster.kubectl(&["delete", "crd", &format!("{plural}.{group}"), "--timeout=170s"]);
    }
    drop(daemon);
    cluster.install();
}

#[test]
fn an_object_that_the_daemon_leaves_out_is_reported() {
    let (cluster, _lock) = exclusive(Exclusive::Installations);
    cluster.install();
    let (watched, case) = (cluster.namespace("watched"), Case::within(cluster, "left-out"));
    let source = Source::new(25.0);
    let _daemon = Daemon::serve(cluster, &["--namespace", &watched]);
    cluster.deployment(&case.namespace, "api", 1);
    case.scale("so", json!({ "triggers": [source.trigger("10")] }));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(150);
    loop {
        let found = of(cluster, &["--namespace", &case.namespace]);
        if is_reported(&found, "scaled-object-untouched", &format!("{}/so", case.namespace)) {
            let finding = found.iter().find(|finding| finding["id"] == "scaled-object-untouched").unwrap();
            assert!(finding["fix"].as_str().unwrap().contains("--namespace"), "{finding}");
            break;
        }
        assert!(std::time::Instant::now() < until, "{found:#?}");
        // The pause between two attempts: it is reported one minute after the object's creation.
        std::thread::park_timeout(std::time::Duration::from_secs(1));
    }
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=170s"]);
}
