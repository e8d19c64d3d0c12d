//! The state that a ScaledObject causes in a cluster, in the format of the recorded cases, and the comparison of two
//! such pictures.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::support::cluster::Cluster;

/// Pictures by the ScaledObject's name.
pub(super) type Pictures = BTreeMap<String, Value>;
/// A picture as pairs of a place and a text, for the comparison.
pub(super) type Places = BTreeMap<String, String>;

/// One place at which two pictures differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Diff {
    pub(super) case: String,
    pub(super) place: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// An intended difference, with its place and texts.
#[derive(Debug)]
pub(super) struct Allowed {
    /// The id of a row in `k8s/keda.md`.
    pub(super) id: &'static str,
    /// Patterns where `*` stands for any text. Several cases are separated by blanks, several places by `|`.
    pub(super) case: &'static str,
    pub(super) place: &'static str,
    pub(super) keda: &'static str,
    pub(super) hpalite: &'static str,
}

const ABSENT: &str = "absent";

/// Takes the pictures of all ScaledObjects of a namespace.
pub(super) fn take(cluster: &Cluster, namespace: &str) -> Pictures {
    let list = |kind: &str| -> Vec<Value> {
        let text = cluster.kubectl(&["get", kind, "-n", namespace, "-o", "json"]);
        let mut list: Value = serde_json::from_str(&text).unwrap();
        std::mem::take(list["items"].as_array_mut().unwrap())
    };
    let objects = list("scaledobjects.keda.sh");
    let hpas = list("horizontalpodautoscalers");
    let workloads = list("deployments,statefulsets,replicasets,daemonsets");
    let events = cluster.raw(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")).unwrap();
    let mut pictures = Pictures::new();
    for object in objects {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut picture = json!({
            "labels": object["metadata"]["labels"],
            "annotations": without_last_applied(&object["metadata"]["annotations"]),
            "finalizers": object["metadata"]["finalizers"],
            "status": status(&object["status"]),
        });
        let owned = |hpa: &&Value| hpa["metadata"]["ownerReferences"][0]["uid"] == object["metadata"]["uid"];
        if let Some(hpa) = hpas.iter().find(owned) {
            let conditions = hpa["status"]["conditions"].as_array().into_iter().flatten().cloned();
            picture["hpa"] = json!({
                "name": hpa["metadata"]["name"],
                "labels": hpa["metadata"]["labels"],
                "annotations": without_last_applied(&hpa["metadata"]["annotations"]),
                "spec": hpa["spec"],
                "conditions": conditions.map(without_times).collect::<Value>(),
            });
        }
        let target = &object["spec"]["scaleTargetRef"];
        let kind = target["kind"].as_str().unwrap_or("Deployment");
        let is_target = |workload: &&Value| workload["kind"] == kind && workload["metadata"]["name"] == target["name"];
        if let Some(workload) = workloads.iter().find(is_target) {
            picture["replicas"] = workload["spec"]["replicas"].clone();
        }
        let about = events["items"].as_array().into_iter().flatten();
        let about =
            about.filter(|event| event["regarding"]["kind"] == "ScaledObject" && event["regarding"]["name"] == *name);
        picture["events"] = about.map(|event| json!([event["type"], event["reason"], event["note"]])).collect();
        pictures.insert(name, picture);
    }
    pictures
}

/// Adds the answers of `kubectl get --raw` for the metrics of an expected picture.
pub(super) fn read_metrics(
    cluster: &Cluster,
    namespace: &str,
    expected: &BTreeMap<String, Places>,
    pictures: &mut Pictures,
) {
    for (name, picture) in pictures {
        let Some(places) = expected.get(name) else { continue };
        let metrics: Vec<&str> = places.keys().filter_map(|place| place.strip_prefix("metrics.")).collect();
        let answers = metrics.into_iter().map(|metric| {
            let path = format!(
                "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}\
                 ?labelSelector=scaledobject.keda.sh%2Fname%3D{name}"
            );
            (metric.to_owned(), cluster.raw(&path).unwrap_or_else(Value::String))
        });
        picture["metrics"] = Value::Object(answers.collect::<Map<_, _>>());
    }
}

fn without_last_applied(annotations: &Value) -> Value {
    let mut annotations = annotations.clone();
    if let Some(map) = annotations.as_object_mut() {
        map.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    annotations
}

fn without_times(mut condition: Value) -> Value {
    if let Some(map) = condition.as_object_mut() {
        map.remove("lastTransitionTime");
    }
    condition
}

/// Removes times and counts, which vary between runs.
fn status(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(map) = status.as_object_mut() {
        map.remove("lastActiveTime");
    }
    for health in status.get_mut("health").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        health["numberOfFailures"] = json!("some");
    }
    status
}

/// An empty field is equal to a missing one.
pub(super) fn places(picture: &Value) -> Places {
    let mut places = Places::new();
    let mut put = |place: String, value: &Value| {
        let is_empty = value.is_null()
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if !is_empty {
            places.insert(place, value.as_str().map_or_else(|| value.to_string(), |text| text.trim_end().to_owned()));
        }
    };
    for name in ["labels", "annotations", "finalizers", "replicas"] {
        put(name.to_owned(), &picture[name]);
    }
    for (name, value) in picture["status"].as_object().into_iter().flatten() {
        if name != "conditions" {
            put(format!("status.{name}"), value);
        }
    }
    for (prefix, conditions) in [("status", &picture["status"]["conditions"]), ("hpa", &picture["hpa"]["conditions"])] {
        let items = || conditions.as_array().into_iter().flatten();
        let types: Vec<&str> = items().filter_map(|condition| condition["type"].as_str()).collect();
        if !types.is_empty() {
            put(format!("{prefix}.conditions"), &json!(types.join(" ")));
        }
        for condition in items() {
            let text = |name: &str| condition[name].as_str().unwrap_or_default();
            let line = format!("{} {}: {}", text("status"), text("reason"), text("message"));
            put(format!("{prefix}.conditions.{}", text("type")), &json!(line));
        }
    }
    for name in ["name", "labels", "annotations"] {
        put(format!("hpa.{name}"), &picture["hpa"][name]);
    }
    for (name, value) in picture["hpa"]["spec"].as_object().into_iter().flatten() {
        put(format!("hpa.spec.{name}"), value);
    }
    for (name, answer) in picture["metrics"].as_object().into_iter().flatten() {
        let mut answer = answer.clone();
        for item in answer.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            item.as_object_mut().unwrap().remove("timestamp");
        }
        put(format!("metrics.{name}"), &answer);
    }
    for event in picture["events"].as_array().into_iter().flatten() {
        let text = |index: usize| event[index].as_str().unwrap_or_default().trim_end();
        put(format!("events: {} {}: {}", text(0), text(1), text(2)), &json!("seen"));
    }
    places
}

/// Returns all differences; an HPA that only one side has is one difference.
pub(super) fn compare(case: &str, expected: &Places, found: &Places) -> Vec<Diff> {
    let has_hpa = |places: &Places| places.keys().any(|place| place.starts_with("hpa."));
    let one_sided = has_hpa(expected) != has_hpa(found);
    let mut diffs = Vec::new();
    let mut push = |place: &str, expected: &str, found: &str| {
        diffs.push(Diff {
            case: case.to_owned(),
            place: place.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    };
    if found.is_empty() {
        push("object", "there", ABSENT);
        return diffs;
    }
    if one_sided {
        let is = |places| if has_hpa(places) { "there" } else { ABSENT };
        push("hpa", is(expected), is(found));
    }
    let all: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for place in all.into_iter().filter(|place| !(one_sided && place.starts_with("hpa."))) {
        let (expected, found) =
            (expected.get(place).map_or(ABSENT, String::as_str), found.get(place).map_or(ABSENT, String::as_str));
        if expected != found {
            push(place, expected, found);
        }
    }
    diffs
}

/// Returns all differences that are not intended, and the intended ones that were not found.
pub(super) fn unexpected<'a>(
    expected: &BTreeMap<String, Places>,
    found: &BTreeMap<String, Places>,
    allowed: &'a [Allowed],
) -> (Vec<Diff>, Vec<&'a Allowed>) {
    let mut unseen: Vec<&Allowed> = allowed.iter().collect();
    let mut left = Vec::new();
    let nothing = Places::new();
    for (case, places) in expected {
        for diff in compare(case, places, found.get(case).unwrap_or(&nothing)) {
            let fits = |allowed: &Allowed| {
                allowed.case.split(' ').any(|pattern| matches(pattern, &diff.case))
                    && allowed.place.split('|').any(|pattern| matches(pattern, &diff.place))
                    && matches(allowed.keda, &diff.expected)
                    && matches(allowed.hpalite, &diff.found)
            };
            if allowed.iter().any(fits) {
                unseen.retain(|allowed| !fits(allowed));
            } else {
                left.push(diff);
            }
        }
    }
    (left, unseen)
}

/// Formats differences for the message of a failing test.
pub(super) fn explain(diffs: &[Diff], unseen: &[&Allowed]) -> String {
    let mut text = String::new();
    for diff in diffs {
        text.push_str(&format!(
            "{} {}\n  KEDA    {}\n  hpalite {}\n",
            diff.case, diff.place, diff.expected, diff.found
        ));
    }
    for allowed in unseen {
        text.push_str(&format!("listed as a difference, but no longer one: {allowed:?}\n"));
    }
    text
}

/// `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

#[test]
fn patterns_and_differences() {
    assert!(matches("a*c*", "abcd") && matches("*", "") && matches("a", "a"));
    assert!(!matches("a*c", "abcd") && !matches("a", "ab") && !matches("ab*b", "ab"));
    let picture = |status: &str| places(&json!({"status": {"conditions": [{"type": "Ready", "status": status}]}}));
    assert_eq!(compare("c", &picture("True"), &picture("True")), []);
    let diffs = compare("c", &picture("True"), &picture("False"));
    assert_eq!((diffs.len(), diffs[0].place.as_str()), (1, "status.conditions.Ready"));
    assert!(explain(&diffs, &[]).contains("False"));
}
