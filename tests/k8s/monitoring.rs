//! Alerts, dashboard and monitors use existing metrics, and the alerts fire when they should.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{foreign_kinds, kustomize, objects, read, run};
use crate::e2e::case::{Case, Source};
use crate::e2e::{Exclusive, daemon, exclusive};
use crate::support::cluster::{cluster, http_get, wait_for};
use crate::support::prometheus::Prometheus;

fn rules() -> Value {
    let object: Value = serde_saphyr::from_str(&read("k8s/monitoring/prometheusrule.yaml")).unwrap();
    object["spec"].clone()
}

/// Returns words that begin with `hpalite_`, without the suffixes of a histogram's series.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c))
        .filter(|word| word.starts_with("hpalite_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn alerts_and_dashboard_use_metrics_that_are_exported() {
    let exported = http_get(&format!("{}/metrics", daemon().1.http));
    let families: BTreeSet<String> = exported
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let dashboard: Value = serde_json::from_str(&read("k8s/monitoring/dashboard.json")).unwrap();
    let used = metrics(&format!("{}{dashboard}", rules()));
    assert!(used.len() > 10, "{used:?}");
    let unknown: Vec<_> = used.difference(&families).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Queries of the dashboard in KEDA's chart, as far as they use KEDA's own metrics.
#[test]
fn keda_s_dashboard_finds_its_series() {
    let case = Case::new("keda-metrics").deployment(1);
    let daemon = daemon().1;
    let source = Source::new(25.0);
    case.scale("so", json!({ "minReplicaCount": 1, "triggers": [source.trigger("10")] }));
    case.wait_for_replicas(3);
    let prometheus = Prometheus::scraping(&[daemon.http.trim_start_matches("http://")]);
    let labels = format!(r#"{{namespace="{}",scaledObject="so"}}"#, case.namespace);
    let value = |query: &str| {
        let series = prometheus.series(query);
        assert_eq!(series.len(), 1, "{query}: {series:?}");
        series[0]["value"][1].as_str().unwrap_or_default().to_owned()
    };
    let trigger = prometheus.series(&format!("keda_scaler_metrics_value{labels}"));
    let expected = json!({
        "__name__": "keda_scaler_metrics_value", "exported_namespace": null, "namespace": case.namespace,
        "metric": "s0-prometheus", "scaledObject": "so", "scaler": "prometheusScaler", "triggerIndex": "0",
        "type": "scaledobject", "job": "targets",
    });
    for (label, expected) in expected.as_object().unwrap() {
        assert_eq!(&trigger[0]["metric"][label], expected, "{label}");
    }
    assert_eq!(value(&format!("sum by (scaledObject) (keda_scaler_metrics_value{labels})")), "25");
    assert_eq!(value(&format!("sum by (scaledObject) (keda_scaler_active{labels})")), "1");
    assert_eq!(value(&format!("keda_scaled_object_paused{labels}")), "0");
    assert_eq!(value(&format!("sum by (scaledObject) (keda_scaler_detail_errors_total{labels})")), "0");
    source.set(None);
    assert_ne!(value(&format!("keda_scaled_object_errors_total{labels} > 0")), "0");
    case.annotate(&["paused-replicas=2"]);
    assert_eq!(value(&format!("keda_scaled_object_paused{labels} == 1")), "1");
    case.kubectl(&["delete", "scaledobjects.keda.sh", "so", "--timeout=30s"]);
    let text = || http_get(&format!("{}/metrics", daemon.http));
    wait_for("its series to be gone", || (!text().contains(&case.namespace)).then_some(()));

    // The linter only warns about KEDA's own names.
    let warnings = run(cluster(), "promtool", &["check", "metrics"], &text()).err().unwrap_or_default();
    let foreign: Vec<_> = warnings.lines().filter(|line| !line.starts_with("keda_")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("rules.json"), rules().to_string()).unwrap();
    let series = |name: &str, values: &str| json!({ "series": name, "values": values });
    let pod = r#"namespace="hpalite",pod="hpalite-0""#;
    let healthy = |more: &[Value]| {
        let mut all = vec![series(&format!("hpalite_build_info{{{pod}}}"), "1x60")];
        all.extend_from_slice(more);
        all
    };
    let pair =
        |outcome: &str, values: &str| series(&format!(r#"hpalite_polls_total{{{pod},outcome="{outcome}"}}"#), values);
    let objects = |known: &str, ready: &str| {
        [series("hpalite_scaledobjects", known), series("hpalite_scaledobjects_ready", ready)]
    };
    let requests =
        |code: &str| series(&format!(r#"hpalite_apiserver_requests_total{{{pod},code="{code}"}}"#), "0+60x60");
    let lost = |values: &str| series(&format!(r#"hpalite_store_lost_total{{{pod},kind="sample"}}"#), values);
    let all = [
        "HpaliteAbsent",
        "HpaliteScaledObjectsNotReady",
        "HpalitePollsFail",
        "HpalitePollsWait",
        "HpaliteHistoryLost",
        "HpaliteAPIServerErrors",
    ];
    let mut tests = Vec::new();
    let mut case = |input: Vec<Value>, fires: &str| {
        let expressions: Vec<Value> = all
            .iter()
            .map(|name| {
                let count = i32::from(*name == fires);
                let expression = format!("count(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}) or vector(0)");
                json!({ "expr": expression, "eval_time": "50m", "exp_samples": [{ "labels": "{}", "value": count }] })
            })
            .collect();
        tests.push(json!({ "name": fires, "interval": "1m", "input_series": input, "promql_expr_test": expressions }));
    };
    case(vec![], "HpaliteAbsent");
    let quiet = [pair("value", "0+60x60"), pair("timeout", "0+3x60"), requests("200"), lost("0x60")];
    case(healthy(&[&quiet[..], &objects("5x60", "5x60")].concat()), "none");
    case(healthy(&objects("5x60", "4x60")), "HpaliteScaledObjectsNotReady");
    case(healthy(&[pair("value", "0+60x60"), pair("timeout", "0+60x60")]), "HpalitePollsFail");
    case(healthy(&[pair("value", "0+60x60"), pair("empty", "0+60x60")]), "none");
    case(healthy(&[series("hpalite_polls_waiting", "1x60")]), "HpalitePollsWait");
    case(healthy(&[series("hpalite_polls_waiting", "0 9 0 9 0x56")]), "none");
    case(healthy(&[lost("0x45 7x15")]), "HpaliteHistoryLost");
    case(healthy(&[requests("403")]), "HpaliteAPIServerErrors");
    case(healthy(&[requests("error")]), "HpaliteAPIServerErrors");
    case(healthy(&[requests("409")]), "none");
    let suite = json!({ "rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": tests });
    std::fs::write(file("tests.json"), suite.to_string()).unwrap();
    run(cluster(), "promtool", &["test", "rules", &file("tests.json")], "").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_component_and_the_other_monitor_are_accepted() {
    let (cluster, _lock) = exclusive(Exclusive::Others);
    foreign_kinds(cluster);
    let component = objects(&kustomize(cluster, "k8s/monitoring"));
    assert_eq!(
        component.keys().map(|(kind, ..)| kind.as_str()).collect::<Vec<_>>(),
        ["PrometheusRule", "ServiceMonitor"]
    );
    let text = format!("{}\n---\n{}", kustomize(cluster, "k8s/monitoring"), read("k8s/monitoring/podmonitor.yaml"));
    cluster.kubectl_with(&["apply", "--dry-run=server", "-f", "-"], &text).unwrap_or_else(|error| panic!("{error}"));
}
