//! Which metrics HPAs read, and whether they can be read now: what a takeover must not change.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::{Failure, Migration};
use crate::encode::escape_segment;
use crate::kube::resources::HPAS;
use crate::kube::untyped::{items, text};
use crate::kube::{Discovery, Request};

/// Metrics that are looked at. Each takes a request before and after.
const METRICS_MAX: usize = 1_000;

/// A metric that an HPA reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HpaMetric {
    /// As in `HPA shop/api, metric depth`.
    title: String,
    /// Whether it is of `custom.metrics.k8s.io`, or else of `external.metrics.k8s.io`.
    pub(super) custom: bool,
    /// What follows group and version in its path, with the query.
    rest: String,
}

impl HpaMetric {
    fn path(&self, version: &str) -> String {
        let group = if self.custom { "custom" } else { "external" };
        format!("/apis/{group}.metrics.k8s.io/{version}{}", self.rest)
    }
}

impl Migration<'_> {
    /// Returns the metrics of all HPAs that can be read now, of either API.
    pub(super) fn readable(&mut self, (external, custom): (bool, bool)) -> Result<Vec<HpaMetric>, Failure> {
        let (discovery, until) = (Discovery::default(), Instant::now() + self.plan.timeout);
        let mut found = Vec::new();
        let mut all = 0;
        for hpa in self.list(&HPAS, None, None)? {
            for metric in items(&hpa, "/spec/metrics") {
                let wanted = match text(metric, "/type") {
                    "External" => external,
                    "Pods" | "Object" => custom,
                    _ => false,
                };
                if !wanted {
                    continue;
                }
                all += 1;
                if all > METRICS_MAX || Instant::now() > until {
                    self.say(&format!("warning: only the first {} metrics of HPAs are looked at", all - 1))?;
                    return Ok(found);
                }
                // One that cannot be asked for cannot be read by the HPA controller either.
                let Some(asked) = self.asked(&discovery, &hpa, metric) else { continue };
                let versions: &[&str] = if asked.custom { &["v1beta2", "v1beta1"] } else { &["v1beta1"] };
                if versions.iter().any(|version| self.read(&asked, version).is_ok()) {
                    found.push(asked);
                }
            }
        }
        self.say(&format!("{} of {all} metrics of HPAs can be read now", found.len()))?;
        Ok(found)
    }

    /// Keeps those of these metrics that cannot be read by this version of their API, and returns the first of them, why,
    /// and how many more there are.
    pub(super) fn keep_lost(&self, metrics: &mut Vec<HpaMetric>, version: &str) -> Option<String> {
        let mut first = None;
        metrics.retain(|metric| {
            let error = self.read(metric, version).err();
            let is_lost = error.is_some();
            first = first.take().or_else(|| Some(format!("{}: {}", metric.title, error?)));
            is_lost
        });
        let more = metrics.len().saturating_sub(1);
        first.map(|first| if more == 0 { first } else { format!("{first}; and {more} more") })
    }

    fn read(&self, metric: &HpaMetric, version: &str) -> Result<(), String> {
        let list: Value =
            self.client.json(&Request::get_path(metric.path(version))).map_err(|error| error.to_string())?;
        if items(&list, "/items").is_empty() { Err("no value".to_owned()) } else { Ok(()) }
    }

    /// Returns what the HPA controller would ask for.
    fn asked(&self, discovery: &Discovery, hpa: &Value, metric: &Value) -> Option<HpaMetric> {
        let namespace = text(hpa, "/metadata/namespace");
        let resource = |reference: &Value| {
            let api = text(reference, "/apiVersion");
            let (group, version) = api.split_once('/').unwrap_or(("", api));
            Some(discovery.find(&self.client, group, version, text(reference, "/kind")).ok()?.resource)
        };
        let (custom, name, rest) = match text(metric, "/type") {
            "External" => (false, metric_of(metric, "external"), external(namespace, &metric["external"]["metric"])),
            "Pods" => {
                let target = &hpa["spec"]["scaleTargetRef"];
                let resource = resource(target)?;
                let request = resource.get_subresource(Some(namespace), text(target, "/name"), "scale").ok()?;
                let scale: Value = self.client.json(&request).ok()?;
                let pods = text(&scale, "/status/selector");
                let rest = pods_of(namespace, pods, &metric["pods"]["metric"]);
                (true, metric_of(metric, "pods"), rest)
            }
            "Object" => {
                let object = &metric["object"]["describedObject"];
                let resource = resource(object)?;
                let kind = if resource.group.is_empty() {
                    resource.plural.to_string()
                } else {
                    format!("{}.{}", resource.plural, resource.group)
                };
                let namespace = if resource.namespaced { namespace } else { "" };
                let rest = object_of(namespace, &kind, text(object, "/name"), &metric["object"]["metric"]);
                (true, metric_of(metric, "object"), rest)
            }
            _ => return None,
        };
        let title = format!("HPA {namespace}/{}, metric {name}", text(hpa, "/metadata/name"));
        Some(HpaMetric { title, custom, rest })
    }
}

fn metric_of(metric: &Value, kind: &str) -> String {
    text(metric, &format!("/{kind}/metric/name")).to_owned()
}

fn external(namespace: &str, metric: &Value) -> String {
    let name = escape_segment(text(metric, "/name"));
    format!("/namespaces/{namespace}/{name}{}", query(&[("labelSelector", &selector(&metric["selector"]))]))
}

fn pods_of(namespace: &str, pods: &str, metric: &Value) -> String {
    let name = escape_segment(text(metric, "/name"));
    let query = query(&[("labelSelector", pods), ("metricLabelSelector", &selector(&metric["selector"]))]);
    format!("/namespaces/{namespace}/pods/*/{name}{query}")
}

/// A namespace's own metrics have a path of their own. `namespace` is empty for an object without one.
fn object_of(namespace: &str, kind: &str, object: &str, metric: &Value) -> String {
    let (name, object) = (escape_segment(text(metric, "/name")), escape_segment(object));
    let query = query(&[("metricLabelSelector", &selector(&metric["selector"]))]);
    match (kind, namespace) {
        ("namespaces", _) => format!("/namespaces/{object}/metrics/{name}{query}"),
        (_, "") => format!("/{kind}/{object}/{name}{query}"),
        _ => format!("/namespaces/{namespace}/{kind}/{object}/{name}{query}"),
    }
}

fn query(parameters: &[(&str, &str)]) -> String {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = given.map(|(name, value)| format!("{name}={}", escape_segment(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Writes a `LabelSelector` as the HPA controller sends it.
fn selector(selector: &Value) -> String {
    let labels: BTreeMap<&str, &str> = selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let mut terms: Vec<(String, String)> =
        labels.into_iter().map(|(key, value)| (key.to_owned(), format!("{key}={value}"))).collect();
    for expression in items(selector, "/matchExpressions") {
        let key = text(expression, "/key");
        let mut values: Vec<&str> = items(expression, "/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_the_hpa_controller() {
        let metric = json!({ "name": "depth|all", "selector": {
            "matchLabels": { "queue": "orders", "a": "b" },
            "matchExpressions": [
                { "key": "tier", "operator": "In", "values": ["b", "a"] }, { "key": "x", "operator": "Exists" },
                { "key": "y", "operator": "DoesNotExist" }, { "key": "z", "operator": "NotIn", "values": ["c"] },
            ],
        } });
        assert_eq!(selector(&metric["selector"]), "a=b,queue=orders,tier in (a,b),x,!y,z notin (c)");
        let bare = json!({ "name": "depth" });
        assert_eq!(external("shop", &bare), "/namespaces/shop/depth");
        let of_labels = json!({ "name": "depth|all", "selector": { "matchLabels": { "queue": "orders" } } });
        assert_eq!(external("shop", &of_labels), "/namespaces/shop/depth%7Call?labelSelector=queue%3Dorders");
        assert_eq!(
            pods_of("shop", "app=web", &of_labels),
            "/namespaces/shop/pods/*/depth%7Call?labelSelector=app%3Dweb&metricLabelSelector=queue%3Dorders"
        );
        for (namespace, kind, expected) in [
            ("shop", "services", "/namespaces/shop/services/front/depth"),
            ("shop", "ingresses.networking.k8s.io", "/namespaces/shop/ingresses.networking.k8s.io/front/depth"),
            ("", "nodes", "/nodes/front/depth"),
            ("", "namespaces", "/namespaces/front/metrics/depth"),
        ] {
            assert_eq!(object_of(namespace, kind, "front", &bare), expected);
        }
        let found = HpaMetric { title: String::new(), custom: true, rest: "/nodes/a/b".to_owned() };
        assert_eq!(found.path("v1beta2"), "/apis/custom.metrics.k8s.io/v1beta2/nodes/a/b");
    }
}
