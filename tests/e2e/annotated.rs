//! HPAs that ask for metrics by annotations, in every form of kube-metrics-adapter, beside a ScaledObject, with the real
//! HPA controller and a real Prometheus.

use serde_json::{Value, json};

use super::Exclusive;
use super::adapter::Installed;
use super::case::{Case, Source};
use crate::support::cluster::{Daemon, bounded, condition, wait_seeing};
use crate::support::fake_prometheus::{FakePrometheus, Reply};

const EXTERNAL: &str = "metric-config.external";

/// Applies an HPA `name` for the Deployment of that name, which asks for `metric` with these labels, ten a replica.
pub(super) fn hpa(case: &Case<'_>, name: &str, metric: &str, labels: &Value, annotations: &[(String, String)]) {
    let mut all = json!({});
    for (key, value) in annotations {
        all[key] = json!(value);
    }
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": case.namespace, "annotations": all },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 9,
            "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } },
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": metric, "selector": { "matchLabels": labels } },
                "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    }));
}

/// Applies an HPA `name` for the Deployment of that name, whose metric is one of a Service that does not exist.
pub(super) fn hpa_of_object(case: &Case<'_>, name: &str, query: &str) {
    let key = |key: &str| format!("metric-config.object.{name}.prometheus/{key}");
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": case.namespace, "annotations": {
            key("query"): query, key("interval"): "1s",
        } },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 9,
            "metrics": [{ "type": "Object", "object": {
                "describedObject": { "apiVersion": "v1", "kind": "Service", "name": "none" },
                "metric": { "name": name }, "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    }));
}

/// Applies an HPA for the Deployment of that name, which asks its pods. Nobody runs the only one: it has the status of one
/// that is ready, at this address.
pub(super) fn hpa_of_pods(case: &Case<'_>, name: &str, address: &str, port: &str) {
    let key = |key: &str| format!("metric-config.pods.{name}.json-path/{key}");
    let namespace = &case.namespace;
    case.apply(json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name, "namespace": namespace, "annotations": {
            key("json-key"): "$.queues[*].length", key("aggregator"): "sum", key("path"): "/stats", key("port"): port,
            key("interval"): "1s",
        } },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "minReplicas": 1, "maxReplicas": 9,
            "metrics": [{ "type": "Pods", "pods": {
                "metric": { "name": name }, "target": { "type": "AverageValue", "averageValue": "10" },
            } }],
        },
    }));
    let selector = case.get("deployment", name).unwrap()["spec"]["selector"]["matchLabels"].clone();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("{name}-0"), "namespace": namespace, "labels": selector },
        "spec": { "containers": [{ "name": "c", "image": "x" }], "automountServiceAccountToken": false },
    });
    wait_seeing("the pod to be taken", || case.cluster.try_apply(&pod.to_string()));
    let status = json!({ "status": {
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "startTime": "2026-01-01T00:00:00Z",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    } });
    case.kubectl(&[
        "patch",
        "pod",
        &format!("{name}-0"),
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);
}

/// An annotation `metric-config.external.<metric>.prometheus/<key>`.
pub(super) fn of(metric: &str, key: &str, value: &str) -> (String, String) {
    (format!("{EXTERNAL}.{metric}.prometheus/{key}"), value.to_owned())
}

pub(super) fn wait_for_replicas(case: &Case<'_>, name: &str, wanted: i64) {
    wait_seeing(&format!("{name} at {wanted} replicas"), || match case.cluster.replicas(&case.namespace, name) {
        Some(seen) if seen == wanted => Ok(()),
        seen => Err(format!("{seen:?}, {}", case.get("hpa", name).unwrap_or_default()["status"])),
    });
}

/// Runs a command on the daemon's live file.
fn hpalite(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(arguments)
        .arg("--db")
        .arg(daemon.db())
        .output()
        .expect("hpalite can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_form_of_annotation_scales_beside_a_scaled_object() {
    let case = Case::exclusive(Exclusive::Faults, "annotated").deployment(1);
    let (cluster, namespace) = (case.cluster, case.namespace.clone());
    let gauge = format!("annotated{{namespace=\"{namespace}\"}}");
    let (sum, twice) = (format!("sum({gauge})"), format!("2 * sum({gauge})"));
    cluster.set_gauge(&gauge, 0.0);
    let server = cluster.prometheus();
    let daemon = Daemon::serve(
        cluster,
        &[
            "--prometheus-server",
            server,
            "--additional-prometheus-servers",
            &format!("other={server}"),
            "--custom-metrics",
        ],
    );
    let _installed = Installed::at(cluster, &daemon);
    for name in ["newer", "older", "aliased", "own", "secret", "zero", "bad", "object", "pods"] {
        cluster.deployment(&namespace, name, 1);
    }
    let prometheus = json!({ "type": "prometheus" });
    let interval = |metric: &str| of(metric, "interval", "1s");
    hpa(&case, "newer", "events", &prometheus, &[of("events", "query", &sum), interval("events")]);
    // Two queries of one HPA, by their names; the larger counts.
    hpa(
        &case,
        "older",
        "prometheus-query",
        &json!({ "query-name": "twice" }),
        &[of("prometheus-query", "twice", &twice), interval("prometheus-query")],
    );
    let alias = of("aliased", "prometheus-server-alias", "other");
    hpa(&case, "aliased", "aliased", &prometheus, &[of("aliased", "query", &sum), alias, interval("aliased")]);
    let own = of("own", "prometheus-server", server);
    hpa(&case, "own", "own", &prometheus, &[of("own", "query", &sum), own, interval("own")]);
    // With a token of a TriggerAuthentication, asked of a server that shows what it was sent.
    let source = Source::new(20.0);
    case.apply(
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "credentials", "namespace": namespace },
        "stringData": { "token": "sesame" } }),
    );
    case.apply(json!({ "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "auth", "namespace": namespace },
        "spec": { "secretTargetRef": [{ "parameter": "bearerToken", "name": "credentials", "key": "token" }] } }));
    let secret = [
        of("secret", "query", "load"),
        of("secret", "prometheus-server", &source.url()),
        of("secret", "authentication", "auth"),
        of("secret", "auth-modes", "bearer"),
        interval("secret"),
    ];
    hpa(&case, "secret", "secret", &prometheus, &secret);
    let zero = [
        of("zero", "query", &sum),
        interval("zero"),
        ("hpalite.dev/scale-to-zero".to_owned(), "true".to_owned()),
        ("hpalite.dev/cooldown".to_owned(), "3s".to_owned()),
    ];
    hpa(&case, "zero", "zero", &prometheus, &zero);
    hpa(&case, "bad", "bad", &prometheus, &[of("bad", "interval", "soon"), of("bad", "query", &sum)]);
    hpa_of_object(&case, "object", &sum);
    let stats = FakePrometheus::start(|_| Reply::json(r#"{"queues": [{"length": 15}, {"length": 25.5}]}"#));
    hpa_of_pods(&case, "pods", "127.0.0.1", stats.url().rsplit_once(':').unwrap().1);
    // A ScaledObject that names no server.
    let trigger = json!({ "type": "prometheus", "metadata": { "query": sum, "threshold": "10" } });
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [trigger] }));
    case.wait_until_ready();

    // Without load, the one that asks for it goes to zero, and no other.
    wait_for_replicas(&case, "zero", 0);
    wait_for_replicas(&case, "secret", 2);
    let requests = source.requests();
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer sesame")), "{requests:?}");
    cluster.set_gauge(&gauge, 30.0);
    for (name, replicas) in
        [("newer", 3), ("older", 6), ("aliased", 3), ("own", 3), ("zero", 3), ("api", 3), ("object", 3), ("pods", 5)]
    {
        wait_for_replicas(&case, name, replicas);
    }
    for version in ["v1beta1", "v1beta2"] {
        let path = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/services/none/object");
        let metric = cluster.raw(&path).expect("the metric of an object can be read");
        assert_eq!(metric["items"][0]["value"], "30", "{metric}");
        assert_eq!(metric["items"][0]["describedObject"]["kind"], "Service", "{metric}");
    }
    let read = |metric: &str, selector: &str| {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}");
        cluster.raw(&format!("{path}?labelSelector={selector}")).expect("the metric can be read")
    };
    let metric = read("events", "type%3Dprometheus");
    assert_eq!(metric["items"].as_array().map(Vec::len), Some(1), "{metric}");
    assert_eq!(
        (&metric["items"][0]["value"], &metric["items"][0]["metricLabels"]["type"]),
        (&"30".into(), &"prometheus".into())
    );
    assert_eq!(read("prometheus-query", "query-name%3Dtwice")["items"][0]["value"], "60");

    let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/pods-0/pods");
    assert_eq!(cluster.raw(&path).expect("the metric of a pod can be read")["items"][0]["value"], "40500m");

    // The history knows them as it knows ScaledObjects.
    let object = |name: &str| format!("hpa/{namespace}/{name}");
    wait_seeing("why to explain the HPA", || {
        let text = hpalite(&daemon, &["why", &object("newer"), "--since", "1h"]);
        let is = |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        (is(&["→3 by the HPA", "events 30 / 10 per replica → 3"]) && !text.contains("LiftedToMin"))
            .then_some(())
            .ok_or(text)
    });
    wait_seeing("why to explain the way to zero and back", || {
        let text = hpalite(&daemon, &["why", &object("zero"), "--since", "1h"]);
        let is = |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        let is_told = is(&["→0 by hpalite", "cooldown of 3 s over"]) && is(&["0→1 by hpalite", "activated by zero"]);
        is_told.then_some(()).ok_or(text)
    });
    let plotted = hpalite(&daemon, &["history", &object("older"), "--since", "10m", "--json"]);
    let plotted: Value = serde_json::from_str(&plotted).unwrap();
    assert_eq!(plotted["group"], "autoscaling");
    let trigger = &plotted["triggers"][0];
    assert_eq!(
        (&trigger["metric"], &trigger["target"]),
        (&"prometheus-query".into(), &"AverageValue".into()),
        "{plotted}"
    );
    let set = "spec.triggers[0].metadata.threshold=5";
    let replayed = hpalite(&daemon, &["replay", &object("newer"), "--since", "2m", "--set", set, "--json"]);
    assert!(replayed.contains("spec.triggers[0].metadata.threshold"), "{replayed}");
    let rows = daemon.sql(&format!(
        "SELECT api_group, count(*) AS n FROM v_scaled_object WHERE namespace = '{namespace}' GROUP BY api_group ORDER BY 1"
    ));
    assert_eq!((&rows[0]["api_group"], &rows[0]["n"]), (&"autoscaling".into(), &9.into()), "{rows:?}");

    // What cannot be used says so everywhere, and harms no other.
    wait_seeing("the event about the bad annotation", || {
        let events = cluster.events(&namespace, "bad");
        let words = "Failed to create new metrics collector: metadata.annotations[metric-config.external.bad.prometheus/interval]";
        let is = |(_, reason, note): &(String, String, String)| {
            reason == "CreateNewMetricsCollector" && note.starts_with(words)
        };
        events.iter().any(is).then_some(()).ok_or_else(|| format!("{events:?}"))
    });
    wait_seeing("the HPA to repeat it", || {
        match case.get("hpa", "bad").and_then(|hpa| condition(&hpa, "ScalingActive")) {
            Some((status, _, message)) if status == "False" && message.contains("\"soon\" is not a duration") => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    });
    let why = hpalite(&daemon, &["why", &object("bad")]);
    assert!(why.contains("its definition, which is invalid") && why.contains("\"soon\""), "{why}");
    let doctor = bounded(env!("CARGO_BIN_EXE_hpalite"))
        .args(["doctor", "--json", "--kubeconfig", cluster.env("KUBECONFIG"), "--prometheus-server", server])
        .args(["--additional-prometheus-servers", &format!("other={server}"), "--allow-network=127.0.0.0/8"])
        .output()
        .expect("hpalite can be run");
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("a report");
    let found: Vec<&Value> =
        doctor["findings"].as_array().unwrap().iter().filter(|one| one["id"] == "hpa-annotations-invalid").collect();
    assert!(found.len() == 1 && found[0].to_string().contains("/bad"), "{found:?}");
    // Nothing of an HPA is written but the replicas that it asks for.
    for name in ["newer", "zero"] {
        let hpa = case.get("hpa", name).unwrap();
        let managers = hpa["metadata"]["managedFields"].to_string();
        assert!(!managers.contains("\"hpalite\""), "{managers}");
    }
    let deployment = |name: &str| case.get("deployment", name).unwrap()["metadata"]["managedFields"].to_string();
    assert!(!deployment("newer").contains("\"hpalite\""), "{}", deployment("newer"));
    daemon.stop();
}
