//! The recorded behaviour of KEDA 2.20.2: the same manifests give the same HPAs, and every status that it wrote is read
//! and written back unchanged.

use std::collections::BTreeMap;

use hpalite::scaling::event::StatusPatch;
use hpalite::scaling::hpa::{self, Drift};
use hpalite::scaling::model::{ApiGroup, Gvkr, Query, Status, Step};
use hpalite::wire::scaled_object::{self, ParsedObject};
use hpalite::wire::{hpa as wire_hpa, status};
use serde_json::{Value, json};

const MANIFESTS: &str = include_str!("../fixtures/compat/manifests.json");
const RECORD: &str = include_str!("../fixtures/compat/keda-2.20.2.json");

fn record() -> BTreeMap<String, Value> {
    serde_json::from_str(&RECORD.replace("__PROMETHEUS__", "http://prometheus:9090/")).unwrap()
}

fn readings() -> BTreeMap<String, ParsedObject> {
    let list: Value = serde_json::from_str(&MANIFESTS.replace("__PROMETHEUS__", "http://prometheus:9090/")).unwrap();
    let objects = list["items"].as_array().unwrap().iter().filter(|object| object["kind"] == "ScaledObject");
    objects
        .map(|object| {
            let reading =
                scaled_object::from_value(ApiGroup::KedaSh, object.clone(), &hpalite::wire::Servers::default())
                    .unwrap();
            (reading.object.key.name.to_string(), reading)
        })
        .collect()
}

/// Removes defaults of the API server, which are no difference, and normalises quantities.
fn normal(mut spec: Value) -> Value {
    for metric in spec["metrics"].as_array_mut().into_iter().flatten() {
        for name in ["averageValue", "value"] {
            let pointer = format!("/external/target/{name}");
            if let Some(text) = metric.pointer_mut(&pointer) {
                let milli = hpalite::wire::quantity::parse_milli(text.as_str().unwrap()).unwrap();
                *text = json!(hpalite::scaling::quantity::text(milli));
            }
        }
    }
    spec
}

#[test]
fn hpas_are_those_that_keda_made() {
    let mut compared = 0;
    let record = record();
    for (name, reading) in readings() {
        let object = reading.object;
        let Ok(definition) = &object.definition else {
            continue;
        };
        let Some(recorded) = record[&name].get("hpa") else {
            // It is paused, so there is no HPA.
            assert!(object.pause.is_full(), "{name}");
            continue;
        };
        let status = status::from_value(&record[&name]["status"]);
        let gvkr = status.scale_target_gvkr.clone().unwrap();
        let mut desired = hpa::desired(&object, definition, &gvkr, "main");
        // The label that KEDA, like the daemon, adds to the object before creating the HPA.
        desired.labels.insert("scaledobject.keda.sh/name".to_owned(), name.clone());
        let body = wire_hpa::to_apply(&desired);
        assert_eq!(body["metadata"]["name"], recorded["name"], "{name}");
        assert_eq!(normal(body["spec"].clone()), normal(recorded["spec"].clone()), "{name}");
        let mut labels = recorded["labels"].clone();
        labels["app.kubernetes.io/managed-by"] = json!("hpalite");
        assert_eq!(body["metadata"]["labels"], labels, "{name}");
        assert_eq!(status.hpa_name.as_deref(), Some(&*definition.hpa_name), "{name}");
        let metric_names: Vec<String> = definition.triggers.iter().map(|t| t.metric_name.to_string()).collect();
        assert_eq!(status.external_metric_names, metric_names, "{name}");
        let resources: Vec<String> = definition.resource_triggers.iter().map(|t| t.kind.clone()).collect();
        assert_eq!(status.resource_metric_names, resources, "{name}");
        compared += 1;
    }
    // 25 ScaledObjects, of which 5 are invalid and one is paused.
    assert_eq!(compared, 19);
}

#[test]
fn what_we_write_reads_back_without_drift() {
    for (name, reading) in readings() {
        let object = reading.object;
        let Ok(definition) = &object.definition else {
            continue;
        };
        let gvkr = Gvkr {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            kind: object.target.kind.clone(),
            resource: String::new(),
        };
        let desired = hpa::desired(&object, definition, &gvkr, "1");
        let mut body = wire_hpa::to_replace(&desired, "7");
        body["metadata"]["uid"] = json!("u");
        let observed = wire_hpa::from_slice(body.to_string().as_bytes()).unwrap();
        assert_eq!(observed.resource_version, "7");
        assert_eq!(hpa::drift(&desired, &observed), Drift::None, "{name}");
    }
}

/// A spec as the API server stores it, with normalised quantities.
#[test]
fn resource_metrics_read_back_without_drift() {
    let trigger = |value: &str, container: &str| json!({"type": "memory", "metricType": "AverageValue", "metadata": {"value": value, "containerName": container}});
    let object = json!({
        "metadata": {"name": "so", "namespace": "compat", "uid": "u"},
        "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [trigger("0.5Gi", ""), trigger("1500e3", "app")]},
    });
    let object =
        scaled_object::from_slice(ApiGroup::KedaSh, object.to_string().as_bytes(), &hpalite::wire::Servers::default())
            .unwrap();
    let gvkr = Gvkr {
        group: "apps".to_owned(),
        version: "v1".to_owned(),
        kind: "Deployment".to_owned(),
        resource: String::new(),
    };
    let desired = hpa::desired(&object, object.definition.as_ref().unwrap(), &gvkr, "1");
    let mut body = wire_hpa::to_apply(&desired);
    assert_eq!(body["spec"]["metrics"][1]["resource"]["target"]["averageValue"], "512Mi");
    let mut reads_back = |first: &str, second: &str, container: &str| {
        body["spec"]["metrics"][0]["containerResource"]["target"]["averageValue"] = json!(first);
        body["spec"]["metrics"][0]["containerResource"]["container"] = json!(container);
        body["spec"]["metrics"][1]["resource"]["target"]["averageValue"] = json!(second);
        hpa::drift(&desired, &wire_hpa::from_slice(body.to_string().as_bytes()).unwrap())
    };
    assert_eq!(reads_back("1500e3", "536870912", "app"), Drift::None);
    assert_eq!(reads_back("1500001", "536870912", "app"), Drift::Apply);
    assert_eq!(reads_back("1500e3", "500Mi", "app"), Drift::Apply);
    assert_eq!(reads_back("1500e3", "512Mi", "other"), Drift::Apply);
}

#[test]
fn every_recorded_status_is_written_back_unchanged() {
    for (name, case) in record() {
        let recorded = &case["status"];
        let read = status::from_value(recorded);
        assert_eq!(&status::to_value(&read), recorded, "{name}");
        let patch = StatusPatch { before: Status::default(), after: read.clone() };
        assert_eq!(&status::merge_patch(&patch).unwrap()["status"], recorded, "{name}");
        assert_eq!(status::merge_patch(&StatusPatch { before: read.clone(), after: read }), None, "{name}");
    }
}

#[test]
fn recorded_columns_agree() {
    let record = record();
    for (name, reading) in readings() {
        let Some(case) = record.get(&name) else {
            continue;
        };
        // Only written once an object has a target and is not paused.
        for (column, ours) in [
            ("triggersTypes", &reading.object.triggers_types),
            ("authenticationsTypes", &reading.object.authentications_types),
        ] {
            if let Some(text) = case["status"].get(column) {
                assert_eq!(text, ours, "{name}");
            }
        }
        // Stored objects are read like the manifests, whatever the API server and KEDA have added.
        let stored =
            json!({"metadata": {"name": name, "namespace": "compat"}, "spec": case["spec"], "status": case["status"]});
        let stored = scaled_object::from_slice(
            ApiGroup::KedaSh,
            stored.to_string().as_bytes(),
            &hpalite::wire::Servers::default(),
        )
        .unwrap();
        assert_eq!(stored.definition, reading.object.definition, "{name}");
        assert_eq!(&*stored.spec_json, case["spec"].to_string(), "{name}: canonical");
    }
}

#[test]
fn only_the_expected_cases_are_invalid() {
    for (name, reading) in readings() {
        let Err(invalid) = reading.object.definition else {
            continue;
        };
        let text = format!("{}: {}", invalid.step().phrase(), invalid.message());
        let expected = match &*name {
            "c17-minmax-bad" => (Step::ReplicaBounds, "MinReplicaCount=9 must be less than MaxReplicaCount=2"),
            "c19-badthreshold" => (Step::BuildScalers, "\"abc\" is not a number"),
            "c29-tiny" => (Step::BuildScalers, "\"0.0001\" becomes the HPA target \"0\""),
            "c45-formula-bad" => (
                Step::BuildScalers,
                "spec.advanced.scalingModifiers.formula: formula, column 6: unexpected end (trigger names: rps)",
            ),
            "c49-notriggers" => (Step::Triggers, "no triggers defined"),
            other => panic!("{other}: {text}"),
        };
        assert_eq!(invalid.step(), expected.0, "{name}");
        assert!(text.contains(expected.1), "{name}: {text}");
    }
}

#[test]
fn parameters_arrive_in_the_source() {
    let readings = readings();
    let source = |name: &str| {
        let definition = readings[name].object.definition.clone().unwrap();
        let Some(Query::Prometheus(source)) = definition.triggers[0].source.query().cloned() else {
            panic!("{name} asks no Prometheus")
        };
        (definition, source)
    };
    let (definition, headers) = source("c41-headers");
    assert_eq!(headers.server_address, "http://prometheus:9090");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(headers.custom_headers, [pair("X-A", "b"), pair("X-C", "d")]);
    assert_eq!(headers.query_parameters, [pair("timeout", "2s")]);
    assert_eq!(definition.polling_interval.as_secs(), 3);
    assert_eq!(definition.selector, pair("scaledobject.keda.sh/name", "c41-headers"));
    assert_eq!(source("c39-init-cooldown").0.initial_cooldown_period.as_secs(), 600);
    let activation = source("c27-activation").0.triggers[0].activation_threshold;
    assert!((activation - 50.0).abs() < f64::EPSILON);
    assert!(readings["c47-restore"].object.restore_to_original);
    assert_eq!(readings["c13-pausedrep"].object.pause.replicas, Some(Ok(3)));
}
