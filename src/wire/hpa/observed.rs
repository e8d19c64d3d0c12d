//! HPAs that ask nothing by annotations: what is remembered of them, and what their status shows.
//!
//! Such an HPA, too, becomes a ScaledObject's definition, with a trigger for each of its metrics, whose values are those
//! that the HPA controller shows. Everything comes from the HPA as it was read, so that those that are not remembered cost
//! nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::super::quantity::parse_milli;
use super::super::trigger::shown;
use super::super::{Servers, scaled_object};
use super::annotated::{behavior, decimal, number, sorted};
use crate::scaling::event::{Answer, ErrorClass, PollError};
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::{ApiGroup, Asked, AskedOf, MetricTarget, Observed, Remember, ScaledObject};

/// Metrics of one HPA that are remembered, the first ones.
const METRICS_MAX: usize = 100;
/// Bytes of a metric's name. The API server allows any number, and a name is in each sample's series.
const NAME_MAX: usize = 200;
/// Bytes of what says in full which metric it is.
const WHICH_MAX: usize = 500;
/// Bytes of why a metric has no value.
const MESSAGE_MAX: usize = 500;

/// Why a metric has no value, if others have: the HPA goes on by those, and says only in an Event what is wrong.
const NOT_SHOWN: &str = "the HPA shows no value of it";

/// Returns whether it asks for a metric of the APIs that adapters serve.
#[must_use]
pub fn asks_adapter(hpa: &ObservedHpa) -> bool {
    let is_own = |metric: &HpaMetric| match metric {
        HpaMetric::Resource { .. } | HpaMetric::ContainerResource { .. } => true,
        HpaMetric::Other { kind, .. } => matches!(kind.as_str(), "Resource" | "ContainerResource"),
        HpaMetric::External { .. } | HpaMetric::Object { .. } | HpaMetric::Pods { .. } => false,
    };
    !hpa.metrics.iter().all(is_own)
}

/// Returns what is remembered of an HPA; `None` if a ScaledObject owns it, by which it is known, or it has no metrics.
#[must_use]
pub fn read(hpa: &ObservedHpa, remember: Remember) -> Option<ScaledObject> {
    if hpa.controller.as_ref().is_some_and(|owner| owner.is_scaled_object()) {
        return None;
    }
    let numbered = hpa.metrics.iter().take(METRICS_MAX).enumerate();
    let metrics: Vec<Metric<'_>> = numbered.filter_map(|(position, metric)| Metric::of(position, metric)).collect();
    if metrics.is_empty() {
        return None;
    }
    let names = names(&metrics);
    let triggers: Vec<Value> = metrics.iter().zip(&names).map(|(metric, name)| metric.trigger(name)).collect();
    let mut spec = json!({
        "scaleTargetRef": {"apiVersion": hpa.target.api_version, "kind": hpa.target.kind, "name": hpa.target.name},
        "minReplicaCount": hpa.min_replicas.unwrap_or(1),
        "maxReplicaCount": hpa.max_replicas.max(1),
        "triggers": triggers,
    });
    if let Some(rules) = &hpa.behavior {
        spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = behavior(rules);
    }
    let object = json!({"metadata": {"name": hpa.name, "namespace": hpa.namespace}, "spec": spec});
    let mut object = scaled_object::from_value(ApiGroup::Autoscaling, object, &Servers::default()).ok()?.object;
    object.uid.clone_from(&hpa.uid);
    object.resource_version.clone_from(&hpa.resource_version);
    object.created_at = hpa.created_at;
    object.generation = number(&object.spec_json);
    object.observed = Some(Box::new(Observed::new(remember, readings(hpa, &metrics))));
    Some(object)
}

/// A metric of an HPA.
struct Metric<'a> {
    /// As in `type`.
    kind: &'a str,
    /// Its position among the HPA's metrics.
    position: usize,
    name: &'a str,
    /// The same with what distinguishes it from others of that name.
    which: String,
    target: MetricTarget,
}

impl<'a> Metric<'a> {
    fn of(position: usize, metric: &'a HpaMetric) -> Option<Self> {
        let labelled = |name: &str, labels, of| {
            let asked = Asked { metric: name.to_owned(), labels: sorted(labels), of };
            let text = asked.to_string();
            if asked.labels.is_empty() { text.replacen("{}", "", 1) } else { text }
        };
        let (kind, name, which, target) = match metric {
            HpaMetric::External { name, match_labels, target } => {
                ("External", name, labelled(name, match_labels, AskedOf::External), *target)
            }
            HpaMetric::Pods { name, match_labels, target } => {
                ("Pods", name, labelled(name, match_labels, AskedOf::External), *target)
            }
            HpaMetric::Object { name, match_labels, described, target } => {
                ("Object", name, labelled(name, match_labels, AskedOf::Object(described.clone())), *target)
            }
            HpaMetric::Resource { name, target } => ("Resource", name, name.clone(), *target),
            HpaMetric::ContainerResource { container, name, target } => {
                ("ContainerResource", name, format!("{name} of container {container}"), *target)
            }
            HpaMetric::Other { kind, name, target } => {
                (kind.as_str(), name, format!("{name} by expressions"), (*target).filter(|_| shown::is_type(kind))?)
            }
        };
        Some(Self { kind, position, name, which: cut(&which, WHICH_MAX), target })
    }

    fn trigger(&self, name: &str) -> Value {
        let (metric_type, milli) = match self.target {
            MetricTarget::AverageValue(milli) => ("AverageValue", milli),
            MetricTarget::Value(milli) => ("Value", milli),
            MetricTarget::Utilization(percent) => ("Utilization", i128::from(percent) * 1000),
        };
        json!({
            "type": self.kind, "metricType": metric_type,
            "metadata": {"metricName": name, "metric": self.which, "threshold": decimal(milli)},
        })
    }

    /// Returns its value in a list of what the controller measured, which is in the order of the metrics.
    fn value(&self, current: &[Value]) -> Option<f64> {
        let shown = current.get(self.position)?;
        let source = match self.kind {
            "Resource" => &shown["resource"],
            "ContainerResource" => &shown["containerResource"],
            "Pods" => &shown["pods"],
            "Object" => &shown["object"],
            _ => &shown["external"],
        };
        // An older list may have another metric in this place.
        let name = source["name"].as_str().or_else(|| source["metric"]["name"].as_str());
        let values = Some(&source["current"]).filter(|_| name == Some(self.name))?;
        let quantity = |field: &str| values[field].as_str().and_then(parse_milli);
        let milli = match self.target {
            MetricTarget::AverageValue(_) => quantity("averageValue"),
            MetricTarget::Value(_) => quantity("value"),
            MetricTarget::Utilization(_) => {
                values["averageUtilization"].as_i64().map(|percent| i128::from(percent) * 1000)
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "the history has 64 bits for a number")]
        milli.map(|milli| milli as f64 / 1000.0)
    }
}

/// Returns their names in the history: a metric's own, or with what distinguishes it if the HPA has another of that name;
/// none twice, in any case.
fn names(metrics: &[Metric<'_>]) -> Vec<String> {
    let folded = |name: &str| cut(name, NAME_MAX).to_ascii_lowercase();
    let mut shared: HashMap<String, usize> = HashMap::new();
    for metric in metrics {
        *shared.entry(folded(metric.name)).or_default() += 1;
    }
    let mut taken: HashSet<String> = HashSet::new();
    let mut unused = |metric: &Metric<'_>| {
        let is_shared = shared.get(&folded(metric.name)).is_some_and(|count| *count > 1);
        let name = cut(if is_shared { &metric.which } else { metric.name }, NAME_MAX);
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        let mut candidates = std::iter::once(name.clone()).chain(numbered);
        candidates.find(|name| taken.insert(name.to_ascii_lowercase())).unwrap_or_default()
    };
    metrics.iter().map(&mut unused).collect()
}

/// Returns what the status shows of each metric: a value, or why there is none in the HPA's words; `None` before the
/// controller has looked, and while it does not.
fn readings(hpa: &ObservedHpa, metrics: &[Metric<'_>]) -> Vec<Option<Answer>> {
    let current: Vec<Value> = serde_json::from_str(&hpa.current_metrics_json).unwrap_or_default();
    let cause = hpa
        .conditions
        .iter()
        .find(|(kind, status, reason, _)| kind == "ScalingActive" && status == "False" && reason != "ScalingDisabled");
    let cause = cause.map(|(.., message)| message.as_str()).or((!current.is_empty()).then_some(NOT_SHOWN));
    let failed = |message: &str| Answer::Failed(PollError::new(ErrorClass::Missing, cut(message, MESSAGE_MAX)));
    metrics.iter().map(|metric| metric.value(&current).map(Answer::Value).or_else(|| cause.map(failed))).collect()
}

/// Returns the text, or the beginning of a longer one.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::{Definition, ShownUnit, Source};

    fn hpa(metrics: &Value, status: &Value) -> ObservedHpa {
        let body = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"minReplicas": 2, "maxReplicas": 9, "metrics": metrics,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
            "status": status,
        });
        super::super::from_slice(body.to_string().as_bytes()).unwrap()
    }

    fn cpu(percent: i32) -> Value {
        json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}})
    }

    fn of_pods(name: &str, selector: &Value) -> Value {
        json!({"type": "Pods", "pods": {"metric": {"name": name, "selector": selector},
            "target": {"type": "AverageValue", "averageValue": "1500m"}}})
    }

    fn definition(object: &ScaledObject) -> &Definition {
        object.definition.as_deref().unwrap()
    }

    fn triggers(object: &ScaledObject) -> Vec<(u16, String, String, String, f64, ShownUnit)> {
        let row = |trigger: &crate::scaling::model::Trigger| {
            let Source::Shown(metric) = &trigger.source else { panic!("{trigger:?}") };
            let (name, what) = (trigger.metric_name.to_string(), metric.what.to_string());
            (trigger.index, trigger.kind.clone(), name, what, trigger.threshold, metric.unit)
        };
        definition(object).triggers.iter().map(row).collect()
    }

    #[test]
    fn each_metric_is_a_trigger_under_its_own_name() {
        let container = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "app",
            "target": {"type": "AverageValue", "averageValue": "200m"}}});
        let object = json!({"type": "Object", "object": {"metric": {"name": "rps"},
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"},
            "target": {"type": "Value", "value": "2k"}}});
        let external = json!({"type": "External", "external": {
            "metric": {"name": "depth", "selector": {"matchLabels": {"queue": "a"}}},
            "target": {"type": "AverageValue", "averageValue": "30"}}});
        let expressions = json!({"matchExpressions": [{"key": "verb", "operator": "Exists"}]});
        let metrics = json!([
            cpu(60),
            container,
            of_pods("rps", &json!({"matchLabels": {"verb": "get"}})),
            object,
            external,
            of_pods("late", &expressions),
        ]);
        let read = read(&hpa(&metrics, &json!({})), Remember::Yes).unwrap();
        let text = |kind: &str, name: &str, what: &str| (kind.to_owned(), name.to_owned(), what.to_owned());
        let expected = [
            (text("Resource", "cpu", "cpu"), 60.0, ShownUnit::Percent),
            (text("ContainerResource", "cpu of container app", "cpu of container app"), 0.2, ShownUnit::Plain),
            (text("Pods", "rps{verb=get}", "rps{verb=get}"), 1.5, ShownUnit::Plain),
            (text("Object", "rps of Service front", "rps of Service front"), 2000.0, ShownUnit::Plain),
            (text("External", "depth", "depth{queue=a}"), 30.0, ShownUnit::Share),
            (text("Pods", "late", "late by expressions"), 1.5, ShownUnit::Plain),
        ];
        let found = triggers(&read);
        let found: Vec<_> =
            found.into_iter().map(|(_, kind, name, what, target, unit)| ((kind, name, what), target, unit)).collect();
        assert_eq!(found, expected);
        let definition = definition(&read);
        assert!(definition.is_observed() && definition.resource_triggers.is_empty());
        assert_eq!((definition.min(), definition.max_replicas), (2, 9));
        assert!(read.asked.is_empty() && read.target.name == "web" && read.uid == "u");
        // The history reads it back as it was.
        let spec: Value = serde_json::from_str(&read.spec_json).unwrap();
        let again = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        let again = scaled_object::from_value(ApiGroup::Autoscaling, again, &Servers::default()).unwrap();
        assert_eq!(again.object.definition, read.definition);
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    }

    #[test]
    fn what_the_status_shows_is_a_value_or_the_hpa_s_own_words() {
        let metrics = json!([cpu(60), of_pods("rps", &json!(null))]);
        let shown = |status: Value| read(&hpa(&metrics, &status), Remember::Yes).unwrap().observed.unwrap().shown;
        let failed =
            |message: &str| Some(Answer::Failed(PollError { class: ErrorClass::Missing, message: message.to_owned() }));
        let current = |cpu: Value, rps: Value| {
            json!([
                {"type": "Resource", "resource": {"name": "cpu", "current": cpu}},
                {"type": "Pods", "pods": {"metric": {"name": "rps"}, "current": rps}},
            ])
        };
        let condition = |reason: &str, message: &str| {
            json!([
            {"type": "ScalingActive", "status": "False", "reason": reason, "message": message}])
        };
        assert_eq!(shown(json!({})), [None, None], "the controller has not looked yet");
        let both =
            current(json!({"averageUtilization": 85, "averageValue": "170m"}), json!({"averageValue": "33334m"}));
        let values = [Some(Answer::Value(85.0)), Some(Answer::Value(33.334))];
        assert_eq!(shown(json!({ "currentMetrics": both })), values);
        let unread = json!({"conditions": condition("FailedGetResourceMetric", "no metrics returned")});
        assert_eq!(shown(unread), [failed("no metrics returned"), failed("no metrics returned")]);
        // One that cannot be read stands empty in its place, beside others that can.
        let mut one = both.clone();
        one[0] = json!({"type": ""});
        assert_eq!(shown(json!({ "currentMetrics": one })), [failed(NOT_SHOWN), values[1].clone()]);
        // At zero the controller does not look.
        assert_eq!(shown(json!({"conditions": condition("ScalingDisabled", "zero")})), [None, None]);
        // A status of before the metrics were exchanged.
        let mut other = both;
        other[1]["pods"]["metric"]["name"] = json!("old");
        assert_eq!(shown(json!({ "currentMetrics": other }))[1], failed(NOT_SHOWN));
    }

    #[test]
    fn a_hostile_hpa_is_cut() {
        let long = "ä".repeat(5_000);
        let metrics: Vec<Value> = (0..500).map(|_| of_pods(&long, &json!({"matchLabels": {"a": long}}))).collect();
        let message = "x".repeat(100_000);
        let status = json!({"conditions": [
            {"type": "ScalingActive", "status": "False", "reason": "R", "message": message}]});
        let read = read(&hpa(&json!(metrics), &status), Remember::Yes).unwrap();
        let names: Vec<String> = triggers(&read).into_iter().map(|(_, _, name, ..)| name).collect();
        assert_eq!(names.len(), METRICS_MAX);
        assert!(names.iter().all(|name| name.len() < NAME_MAX + 20), "{names:?}");
        assert!(read.spec_json.len() < METRICS_MAX * (NAME_MAX + WHICH_MAX + 200), "{}", read.spec_json.len());
        let shown = read.observed.unwrap().shown;
        assert!(shown.iter().flatten().all(|one| format!("{one:?}").len() < MESSAGE_MAX + 100));
    }

    #[test]
    fn others_are_left_alone() {
        let owned = |kind: &str| {
            let mut hpa = hpa(&json!([cpu(60)]), &json!({}));
            hpa.controller = Some(crate::scaling::hpa::OwnerRef {
                api_version: "keda.sh/v1alpha1".to_owned(),
                kind: kind.to_owned(),
                name: "so".to_owned(),
                uid: "x".to_owned(),
            });
            read(&hpa, Remember::Yes)
        };
        assert!(owned("ScaledObject").is_none() && owned("Application").is_some());
        assert!(read(&hpa(&json!([]), &json!({})), Remember::Yes).is_none());
        assert!(!asks_adapter(&hpa(&json!([cpu(60)]), &json!({}))));
        assert!(asks_adapter(&hpa(&json!([cpu(60), of_pods("rps", &json!(null))]), &json!({}))));
    }
}
