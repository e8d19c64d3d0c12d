//! HPAs that ask for external metrics by annotations, in the form of kube-metrics-adapter:
//!
//! ```text
//! metric-config.external.<metric>.prometheus/<key>: <value>
//! ```
//!
//! Owns that form, and what is wrong with it. Such an HPA becomes the ScaledObject that would ask for the same, read by
//! the rules of ScaledObjects, so that everything behind it is the same for both.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::fields::{Diagnostics, quoted};
use super::super::quantity::parse_milli;
use super::super::scaled_object::{self, ParsedObject};
use super::super::time::parse_go_duration;
use super::super::{Servers, Warning};
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::{ApiGroup, Asked, Behavior, Invalid, MetricTarget, Problem, ScalingRules, Step};
use crate::scaling::quantity;
use crate::spelling::nearest;

const PREFIX: &str = "metric-config.";
const COLLECTOR: &str = "prometheus";
/// The label of a metric's selector that names its collector.
const TYPE_LABEL: &str = "type";
/// The metric that names its query by a label, in the older form.
const LEGACY_METRIC: &str = "prometheus-query";
const QUERY_NAME: &str = "query-name";

const QUERY: &str = "query";
const SERVER: &str = "prometheus-server";
const SERVER_ALIAS: &str = "prometheus-server-alias";
const INTERVAL: &str = "interval";
/// Those of kube-metrics-adapter for other metrics, which mean nothing for an external one.
const WITHOUT_EFFECT: [&str; 2] = ["per-replica", "min-pod-ready-age"];
const AUTHENTICATION: &str = "authentication";

/// hpalite's own keys, with the parameter of a prometheus trigger that each is.
const PARAMETERS: [(&str, &str); 5] = [
    ("auth-modes", "authModes"),
    ("timeout", "timeout"),
    ("activation-threshold", "activationThreshold"),
    ("custom-headers", "customHeaders"),
    ("unsafe-ssl", "unsafeSsl"),
];

const SCALE_TO_ZERO: &str = "hpalite.dev/scale-to-zero";
const COOLDOWN: &str = "hpalite.dev/cooldown";

/// kube-metrics-adapter's `--default-collection-interval`.
const INTERVAL_DEFAULT_SECONDS: i64 = 60;
const COOLDOWN_DEFAULT_SECONDS: i64 = 300;

/// Metrics of one HPA, each of which is compared with all others whenever the HPA's status changes.
const METRICS_MAX: usize = 100;

/// The annotations of one metric: by key, the annotation's name and its value.
type Config<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

/// Returns what an HPA asks for; `None` if it asks nothing of hpalite, or a ScaledObject owns it.
#[must_use]
pub fn read(hpa: &ObservedHpa, servers: &Servers) -> Option<ParsedObject> {
    if hpa.controller.as_ref().is_some_and(|owner| owner.is_scaled_object()) {
        return None;
    }
    let configs = configs(hpa);
    let mut metrics: Vec<Metric<'_>> = Vec::new();
    // The same metric may stand there twice, with two targets.
    for metric in hpa.metrics.iter().filter_map(|metric| Metric::of(metric, &configs)).take(METRICS_MAX + 1) {
        if !metrics.iter().any(|known| known.asked == metric.asked) {
            metrics.push(metric);
        }
    }
    let of_objects = |name: &&String| kind_of(name) == Some(("object", COLLECTOR));
    let of_objects: Vec<&String> = hpa.annotations.keys().filter(of_objects).collect();
    let scales_to_zero = hpa.annotations.get(SCALE_TO_ZERO);
    if configs.is_empty() && metrics.is_empty() && of_objects.is_empty() && scales_to_zero.is_none() {
        return None;
    }
    let mut report = Diagnostics::default();
    let has_objects = hpa.metrics.iter().any(|metric| *metric == HpaMetric::Other("Object".to_owned()));
    for name in of_objects {
        let message = "Object metrics are not served by hpalite";
        let fix = "ask for an External metric, by metric-config.external.<metric>.prometheus/query";
        if has_objects {
            report.problem(Step::BuildScalers, annotation(name), message, fix);
        } else {
            report.warn(annotation(name), message, fix);
        }
    }
    if metrics.len() > METRICS_MAX {
        metrics.truncate(METRICS_MAX);
        let message = format!("more than {METRICS_MAX} External metrics");
        report.problem(Step::Triggers, "spec.metrics", message, "ask for fewer");
    }
    unmatched(&configs, &metrics, &mut report);
    if metrics.is_empty() && report.problems.is_empty() {
        report.problem(
            Step::Triggers,
            scales_to_zero.map_or_else(|| "spec.metrics".to_owned(), |_| annotation(SCALE_TO_ZERO)),
            "no External metric of this HPA is read by hpalite, so that nothing could tell when to run again",
            "ask for one by metric-config.external.<metric>.prometheus/query, or remove the annotation",
        );
    }
    let interval = interval(&metrics, &mut report);
    let asked: Vec<Asked> = metrics.iter().map(|metric| metric.asked.clone()).collect();
    let triggers: Vec<Value> = metrics
        .iter()
        .map(|metric| metric.trigger(&asked, servers, &mut report))
        .chain(hpa.metrics.iter().filter_map(resource))
        .collect();
    let mut spec = json!({
        "scaleTargetRef": {"apiVersion": hpa.target.api_version, "kind": hpa.target.kind, "name": hpa.target.name},
        "minReplicaCount": hpa.min_replicas.unwrap_or(1),
        "maxReplicaCount": hpa.max_replicas.max(1),
        "pollingInterval": interval,
        "triggers": triggers,
    });
    if let Some(behavior) = &hpa.behavior {
        spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = self::behavior(behavior);
    }
    let scales_to_zero = zero(hpa, &mut spec, &mut report);
    Some(finish(hpa, &metrics, spec, scales_to_zero, asked, report))
}

/// Reads the spec, and says what is wrong with it in the terms of the HPA.
fn finish(
    hpa: &ObservedHpa,
    metrics: &[Metric<'_>],
    spec: Value,
    scales_to_zero: bool,
    asked: Vec<Asked>,
    report: Diagnostics,
) -> ParsedObject {
    let object = json!({"metadata": {"name": hpa.name, "namespace": hpa.namespace}, "spec": spec});
    let mut read =
        scaled_object::from_value(ApiGroup::Autoscaling, object, &Servers::default()).expect("it has a name");
    let Diagnostics { mut problems, warnings, .. } = report;
    let found = read.object.definition.as_ref().err().map(|invalid| invalid.problems.clone()).unwrap_or_default();
    // What is missing has been reported by its annotation's name.
    let found = found.into_iter().filter(|problem| !problem.message.contains("missing required parameter"));
    let found = found.filter(|problem| problems.is_empty() || !problem.message.starts_with("no triggers defined"));
    let found: Vec<Problem> =
        found.map(|problem| Problem { field: place(&problem.field, metrics), ..problem }).collect();
    problems.extend(found);
    if !problems.is_empty() {
        read.object.definition = Err(Invalid { problems });
    }
    let own = std::mem::take(&mut read.warnings);
    let own = own.into_iter().filter(|warning| warning.field.starts_with("spec.triggers["));
    read.warnings = own.map(|warning| Warning { field: place(&warning.field, metrics), ..warning }).collect();
    read.warnings.extend(warnings);
    // An excerpt belongs to a field of the spec.
    for (field, _) in &mut read.excerpts {
        *field = place(field, metrics);
    }
    read.object.uid.clone_from(&hpa.uid);
    read.object.resource_version.clone_from(&hpa.resource_version);
    read.object.created_at = hpa.created_at;
    read.object.generation = number(&read.object.spec_json);
    read.object.asked = asked.into();
    read.object.scales_to_zero = scales_to_zero;
    read
}

/// A number for a version of the annotations, since the API server counts none of them: FNV-1a, cut to 31 bits.
fn number(spec_json: &str) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = spec_json.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    i64::from(u32::try_from(hash >> 33).unwrap_or(0))
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// Returns the type and the collector of an annotation `metric-config.<type>.<metric>.<collector>/<key>`.
fn kind_of(name: &str) -> Option<(&str, &str)> {
    let (path, _) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let (kind, rest) = path.split_once('.')?;
    rest.rsplit_once('.').map(|(_, collector)| (kind, collector))
}

/// Returns the annotations of external metrics from Prometheus, by metric.
fn configs(hpa: &ObservedHpa) -> BTreeMap<&str, Config<'_>> {
    let mut configs: BTreeMap<&str, Config<'_>> = BTreeMap::new();
    for (name, value) in hpa.annotations.iter() {
        let Some((path, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')) else { continue };
        let metric = path.strip_prefix("external.").and_then(|rest| rest.rsplit_once('.'));
        if let Some((metric, _)) = metric.filter(|(_, collector)| *collector == COLLECTOR) {
            configs.entry(metric).or_default().insert(key, (name, value.trim()));
        }
    }
    configs
}

/// An External metric that is to be read from a Prometheus.
struct Metric<'a> {
    asked: Asked,
    target: MetricTarget,
    config: Option<&'a Config<'a>>,
    /// The name of the query in the older form, where a label of the selector has it.
    query_name: Option<&'a str>,
    alias_label: Option<&'a str>,
}

impl<'a> Metric<'a> {
    fn of(metric: &'a HpaMetric, configs: &'a BTreeMap<&str, Config<'a>>) -> Option<Self> {
        let HpaMetric::External { name, match_labels, target } = metric else { return None };
        let config = configs.get(name.as_str());
        let label = |key: &str| match_labels.get(key).map(String::as_str);
        let is_of_prometheus = match label(TYPE_LABEL) {
            Some(collector) => collector == COLLECTOR || collector == LEGACY_METRIC,
            None => config.is_some() || name == LEGACY_METRIC,
        };
        let mut labels: Vec<(String, String)> = match_labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        labels.sort_unstable();
        is_of_prometheus.then(|| Self {
            asked: Asked { metric: name.clone(), labels },
            target: *target,
            config,
            query_name: label(QUERY_NAME),
            alias_label: label(SERVER_ALIAS),
        })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.config?.get(key).map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    /// The field of the annotation with this key, whether it is there or not.
    fn field(&self, key: &str) -> String {
        annotation(&format!("{PREFIX}external.{}.{COLLECTOR}/{key}", self.asked.metric))
    }

    /// The key of the query's annotation.
    fn query_key(&self) -> &'a str {
        match self.query_name {
            Some(name) if self.get(QUERY).is_none() => name,
            _ => QUERY,
        }
    }

    /// Returns the trigger that asks for the metric.
    fn trigger(&self, all: &[Asked], servers: &Servers, report: &mut Diagnostics) -> Value {
        let mut metadata = json!({ "metricName": self.name(all), "ignoreNullValues": "false" });
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                metadata[name] = json!(value);
            }
        };
        set("serverAddress", self.server(servers, report).as_deref());
        let key = self.query_key();
        if self.get(key).is_none() {
            let fix = "write the PromQL query whose result is the metric";
            report.problem(Step::BuildScalers, self.field(key), "is missing", fix);
        }
        set("query", self.get(key));
        for (key, parameter) in PARAMETERS {
            set(parameter, self.get(key));
        }
        let (metric_type, milli) = match self.target {
            MetricTarget::AverageValue(milli) => ("AverageValue", milli),
            MetricTarget::Value(milli) => ("Value", milli),
            // The API server refuses it for an External metric.
            MetricTarget::Utilization(percent) => ("Utilization", i128::from(percent) * 1000),
        };
        set("threshold", Some(&decimal(milli)));
        let labels: BTreeMap<&str, &str> =
            self.asked.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut trigger = json!({
            "type": COLLECTOR, "metricType": metric_type, "useCachedMetrics": true, "metadata": metadata,
            "selector": labels,
        });
        if let Some(name) = self.get(AUTHENTICATION) {
            trigger["authenticationRef"] = json!({ "name": name });
        }
        trigger
    }

    /// The metric's name in the history: its own, or with the labels of its selector if the HPA has another of that
    /// name.
    fn name(&self, all: &[Asked]) -> String {
        let is_shared = all.iter().filter(|other| other.metric.eq_ignore_ascii_case(&self.asked.metric)).count() > 1;
        // The name is shown, and '/' and '%' cannot stand in one.
        if is_shared { self.asked.to_string().replace(['/', '%'], "_") } else { self.asked.metric.clone() }
    }

    fn server(&self, servers: &Servers, report: &mut Diagnostics) -> Option<String> {
        if let Some(url) = self.get(SERVER) {
            return Some(url.to_owned());
        }
        let Some(alias) = self.get(SERVER_ALIAS).or(self.alias_label) else {
            if servers.default_url().is_none() {
                let fix = "write the URL of a Prometheus, or name one for all with --prometheus-server";
                report.problem(Step::BuildScalers, self.field(SERVER), "is missing", fix);
            }
            return servers.default_url().map(str::to_owned);
        };
        let found = servers.of_alias(alias);
        if found.is_none() {
            let known = servers.aliases();
            let known = if known.is_empty() { "none is known".to_owned() } else { format!("known are {known}") };
            let message = format!("no server has the alias {}", quoted(alias));
            let fix = format!("{known}; --additional-prometheus-servers {alias}=URL names one");
            report.problem(Step::BuildScalers, self.field(SERVER_ALIAS), message, fix);
        }
        found.map(str::to_owned)
    }
}

/// Warns about annotations that no metric of the HPA has to do with, and keys that mean nothing. It is a problem if the
/// HPA asks for no metric at all, since then the name is mistaken.
fn unmatched(configs: &BTreeMap<&str, Config<'_>>, metrics: &[Metric<'_>], report: &mut Diagnostics) {
    for (metric, config) in configs {
        let users: Vec<&Metric<'_>> = metrics.iter().filter(|one| one.asked.metric == *metric).collect();
        let (Some((first, _)), true) = (config.values().next(), users.is_empty()) else {
            for (key, (name, _)) in config {
                unknown_key(key, name, &users, report);
            }
            continue;
        };
        let message = format!("no External metric of this HPA, with matchLabels alone, is called {metric}");
        let fix = "name the metric as in spec.metrics, or remove the annotation";
        if metrics.is_empty() {
            report.problem(Step::BuildScalers, annotation(first), message, fix);
        } else {
            report.warn(annotation(first), message, fix);
        }
    }
}

fn unknown_key(key: &str, name: &str, users: &[&Metric<'_>], report: &mut Diagnostics) {
    let mut known = vec![QUERY, SERVER, SERVER_ALIAS, INTERVAL, AUTHENTICATION];
    known.extend(PARAMETERS.map(|(key, _)| key));
    if known.contains(&key) || users.iter().any(|metric| metric.query_name == Some(key)) {
        return;
    }
    if WITHOUT_EFFECT.contains(&key) {
        return report.warn(annotation(name), "has no effect on an External metric", "remove it");
    }
    let fix = nearest(key, &known).map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
    report.warn(annotation(name), "has no effect: neither a known key nor the query-name of a metric", fix);
}

/// Returns the shortest interval that a metric asks for, in seconds: an HPA is asked for as a whole.
fn interval(metrics: &[Metric<'_>], report: &mut Diagnostics) -> i64 {
    let mut shortest: Option<i64> = None;
    for metric in metrics {
        let seconds = match metric.get(INTERVAL) {
            Some(text) => match seconds(text, 1) {
                Some(seconds) => seconds,
                None => {
                    let message = format!("{} is not a duration above 0", quoted(text));
                    let fix = "write a duration such as \"30s\" or \"1m\"";
                    report.problem(Step::BuildScalers, metric.field(INTERVAL), message, fix);
                    continue;
                }
            },
            None => INTERVAL_DEFAULT_SECONDS,
        };
        shortest = Some(shortest.map_or(seconds, |shortest| shortest.min(seconds)));
    }
    shortest.unwrap_or(INTERVAL_DEFAULT_SECONDS)
}

/// Reads a Go duration in seconds, rounded up; `None` if it is none, or out of range.
fn seconds(text: &str, least: i64) -> Option<i64> {
    let nanos = parse_go_duration(text).filter(|nanos| *nanos >= 0)?;
    let seconds = nanos / 1_000_000_000 + i64::from(nanos % 1_000_000_000 > 0);
    (least..=i64::from(i32::MAX)).contains(&seconds).then_some(seconds)
}

/// Reads whether hpalite scales the target to zero, and puts that into the spec.
fn zero(hpa: &ObservedHpa, spec: &mut Value, report: &mut Diagnostics) -> bool {
    let cooldown = hpa.annotations.get(COOLDOWN);
    let Some(text) = hpa.annotations.get(SCALE_TO_ZERO) else {
        if cooldown.is_some() {
            let fix = format!("add {SCALE_TO_ZERO}: \"true\", or remove it");
            report.warn(annotation(COOLDOWN), format!("has no effect without {SCALE_TO_ZERO}"), fix);
        }
        return false;
    };
    let is_wanted = match text.as_str() {
        "true" => true,
        "false" => false,
        other => {
            let message = format!("{} is neither true nor false", quoted(other));
            report.problem(Step::BuildScalers, annotation(SCALE_TO_ZERO), message, "write \"true\" or \"false\"");
            false
        }
    };
    let seconds = match cooldown.map(|text| (text, seconds(text, 0))) {
        Some((text, None)) => {
            let message = format!("{} is not a duration", quoted(text));
            let fix = "write a duration such as \"5m\" or \"90s\"";
            report.problem(Step::BuildScalers, annotation(COOLDOWN), message, fix);
            COOLDOWN_DEFAULT_SECONDS
        }
        Some((_, Some(seconds))) => seconds,
        None => COOLDOWN_DEFAULT_SECONDS,
    };
    if hpa.min_replicas == Some(0) {
        let message = "the HPA has minReplicas: 0, and scales to zero by itself";
        report.warn(annotation(SCALE_TO_ZERO), message, "remove the annotation");
        return false;
    }
    if is_wanted {
        spec["idleReplicaCount"] = json!(0);
        spec["cooldownPeriod"] = json!(seconds);
    }
    is_wanted
}

/// Returns the trigger that stands for a metric that the HPA controller measures itself.
fn resource(metric: &HpaMetric) -> Option<Value> {
    let (container, name, target) = match metric {
        HpaMetric::Resource { name, target } => (None, name, target),
        HpaMetric::ContainerResource { container, name, target } => (Some(container), name, target),
        HpaMetric::External { .. } | HpaMetric::Other(_) => return None,
    };
    // Others, such as ephemeral-storage, are no triggers.
    if !matches!(name.as_str(), "cpu" | "memory") {
        return None;
    }
    let (metric_type, value) = match target {
        MetricTarget::Utilization(percent) => ("Utilization", percent.to_string()),
        MetricTarget::AverageValue(milli) => ("AverageValue", quantity::text(*milli)),
        MetricTarget::Value(_) => return None,
    };
    let mut metadata = json!({ "value": value });
    if let Some(container) = container {
        metadata["containerName"] = json!(container);
    }
    Some(json!({"type": name, "metricType": metric_type, "metadata": metadata}))
}

/// Formats thousandths as a number.
fn decimal(milli: i128) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{}.{:03}", milli / 1000, milli % 1000) }
}

fn behavior(behavior: &Behavior) -> Value {
    let rules = |rules: &Option<ScalingRules>| rules.as_ref().map(super::rules);
    json!({ "scaleUp": rules(&behavior.scale_up), "scaleDown": rules(&behavior.scale_down) })
}

/// Translates a field of the spec into the annotation that it comes from.
fn place(field: &str, metrics: &[Metric<'_>]) -> String {
    let within = field.strip_prefix("spec.triggers[").and_then(|rest| rest.split_once(']'));
    let Some((index, rest)) = within else { return field.to_owned() };
    let Some(metric) = index.parse::<usize>().ok().and_then(|index| metrics.get(index)) else {
        return "spec.metrics".to_owned();
    };
    let parameter = rest.strip_prefix(".metadata.").unwrap_or_default();
    match parameter {
        "query" => metric.field(metric.query_key()),
        "serverAddress" if metric.get(SERVER).is_none() => metric.field(SERVER_ALIAS),
        "serverAddress" => metric.field(SERVER),
        _ if rest.starts_with(".authenticationRef") => metric.field(AUTHENTICATION),
        _ => match PARAMETERS.iter().find(|(_, name)| *name == parameter) {
            Some((key, _)) => metric.field(key),
            None => "spec.metrics".to_owned(),
        },
    }
}

/// Reads an HPA of a manifest, where quantities may be numbers.
///
/// # Errors
/// If it is no HPA with a `metadata.name`.
pub fn from_value(mut object: Value, servers: &Servers) -> Result<Option<ParsedObject>, super::Unreadable> {
    let metrics = object.pointer_mut("/spec/metrics").and_then(Value::as_array_mut);
    for target in metrics.into_iter().flatten().filter_map(|metric| metric.pointer_mut("/external/target")) {
        for name in ["value", "averageValue"] {
            if let Some(number) = target.get_mut(name).filter(|value| value.is_number()) {
                let text = number.to_string();
                *number = json!(parse_milli(&text).map_or(text, quantity::text));
            }
        }
    }
    super::from_slice(object.to_string().as_bytes()).map(|hpa| read(&hpa, servers))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scaling::model::{OnMissing, Query};

    fn servers() -> Servers {
        Servers::parse("http://default:9090", &["long-term=http://thanos:9090".to_owned()]).unwrap()
    }

    /// An HPA with these annotations and External metrics of target 10 a replica.
    fn hpa(annotations: &[(&str, &str)], metrics: &[(&str, &[(&str, &str)])]) -> Value {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let metrics: Vec<Value> = metrics
            .iter()
            .map(|(name, labels)| {
                let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
                json!({"type": "External", "external": {
                    "metric": {"name": name, "selector": {"matchLabels": labels}},
                    "target": {"type": "AverageValue", "averageValue": "10"},
                }})
            })
            .collect();
        json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": {"minReplicas": 2, "maxReplicas": 9, "metrics": metrics,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
        })
    }

    fn read_one(object: Value) -> ParsedObject {
        from_value(object, &servers()).unwrap().expect("is annotated")
    }

    fn problems(object: Value) -> Vec<String> {
        let read = read_one(object).object.definition;
        read.err().map_or_else(Vec::new, |invalid| invalid.problems.iter().map(ToString::to_string).collect())
    }

    const TYPE: &[(&str, &str)] = &[("type", "prometheus")];

    /// Server and query of each trigger.
    fn asks(object: Value) -> Vec<(String, String)> {
        let read = read_one(object);
        let definition = read.object.definition.expect("is valid");
        assert_eq!(definition.triggers.len(), read.object.asked.len());
        definition.triggers.iter().map(|trigger| trigger.source.shown()).collect()
    }

    fn pair(server: &str, query: &str) -> (String, String) {
        (server.to_owned(), query.to_owned())
    }

    #[test]
    fn every_form_says_what_to_ask_whom() {
        let newer = "metric-config.external.rps.prometheus";
        let query = format!("{newer}/query");
        assert_eq!(asks(hpa(&[(&query, "sum(a)\n")], &[("rps", TYPE)])), [pair("http://default:9090", "sum(a)")]);
        // Without the label, the annotation says enough.
        assert_eq!(asks(hpa(&[(&query, "sum(a)")], &[("rps", &[])])), [pair("http://default:9090", "sum(a)")]);
        let (server, alias) = (format!("{newer}/prometheus-server"), format!("{newer}/prometheus-server-alias"));
        let own = [(query.as_str(), "a"), (&server, "http://own/"), (&alias, "long-term")];
        assert_eq!(asks(hpa(&own, &[("rps", TYPE)])), [pair("http://own", "a")]);
        assert_eq!(asks(hpa(&[own[0], own[2]], &[("rps", TYPE)])), [pair("http://thanos:9090", "a")]);
        let older = "metric-config.external.prometheus-query.prometheus";
        let (one, two) = (format!("{older}/one"), format!("{older}/two"));
        let metrics: &[(&str, &[(&str, &str)])] =
            &[("prometheus-query", &[("query-name", "one")]), ("prometheus-query", &[("query-name", "two")])];
        let read = asks(hpa(&[(&one, "a"), (&two, "b")], metrics));
        assert_eq!(read, [pair("http://default:9090", "a"), pair("http://default:9090", "b")]);
        let dotted = hpa(&[("metric-config.external.http.rps.prometheus/query", "a")], &[("http.rps", TYPE)]);
        assert_eq!(asks(dotted), [pair("http://default:9090", "a")]);
        // The older label and the newer one together, as kube-metrics-adapter takes them.
        let both: &[(&str, &[(&str, &str)])] = &[("rps", &[("type", "prometheus"), ("query-name", "one")])];
        let one = format!("{newer}/one");
        assert_eq!(asks(hpa(&[(&one, "a")], both)), [pair("http://default:9090", "a")]);
    }

    #[test]
    fn an_hpa_becomes_the_scaled_object_that_would_ask_for_the_same() {
        let annotations = [
            ("metric-config.external.rps.prometheus/query", "sum(a)"),
            ("metric-config.external.rps.prometheus/interval", "1m30s"),
            ("metric-config.external.rps.prometheus/authentication", "token"),
            ("metric-config.external.rps.prometheus/auth-modes", "bearer"),
            ("metric-config.external.queue.prometheus/query", "b"),
            ("metric-config.external.queue.prometheus/interval", "1500ms"),
        ];
        let mut object = hpa(&annotations, &[("rps", TYPE), ("queue", TYPE), ("sqs", &[("type", "sqs-queue-length")])]);
        let metrics = object["spec"]["metrics"].as_array_mut().unwrap();
        metrics[1]["external"]["target"] = json!({"type": "Value", "value": "2500m"});
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 60}}}));
        object["spec"]["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 60}});
        let read = read_one(object.clone());
        assert_eq!((read.warnings.as_slice(), read.object.key.to_string().as_str()), (&[][..], "hpa/shop/web"));
        let shown: Vec<String> = read.object.asked.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["rps{type=prometheus}", "queue{type=prometheus}"], "the third is another adapter's");
        let definition = read.object.definition.clone().expect("is valid");
        assert_eq!(definition.polling_interval, Duration::from_secs(2), "the shortest, rounded up");
        assert_eq!((definition.min(), definition.max_replicas, definition.hpa_name.as_str()), (2, 9, "web"));
        assert_eq!((definition.triggers[0].threshold, definition.triggers[1].threshold), (10.0, 2.5));
        assert_eq!(&*definition.triggers[0].metric_name, "rps");
        assert_eq!(definition.triggers[0].on_missing, OnMissing::Error, "no answer is no zero");
        assert_eq!(definition.triggers[0].authentication.as_ref().map(|found| found.name.as_str()), Some("token"));
        let Some(Query::Prometheus(source)) = definition.triggers[0].source.query() else { panic!("{definition:?}") };
        assert_eq!(source.auth_modes, [crate::scaling::model::AuthMode::Bearer]);
        assert_eq!(definition.resource_triggers[0].target, MetricTarget::Utilization(60));
        let window =
            definition.behavior.as_ref().and_then(|rules| rules.scale_down.as_ref()?.stabilization_window_seconds);
        assert_eq!(window, Some(60));
        // The recorded spec reads as the same, for those who explain it later.
        let again = json!({"metadata": {"name": "web", "namespace": "shop"},
            "spec": serde_json::from_str::<Value>(&read.object.spec_json).unwrap()});
        let again = scaled_object::from_value(ApiGroup::Autoscaling, again, &Servers::default()).unwrap().object;
        assert_eq!(again.definition, Ok(definition));
        // The number stays with the same content, and changes with it.
        assert_eq!(read_one(object.clone()).object.generation, read.object.generation);
        object["spec"]["metrics"][0]["external"]["metric"]["selector"]["matchLabels"]["x"] = json!("y");
        assert_ne!(read_one(object).object.generation, read.object.generation);
    }

    #[test]
    fn what_is_wrong_is_said_of_its_annotation() {
        let of = |key: &str| format!("metric-config.external.rps.prometheus/{key}");
        for (annotations, field, words) in [
            (vec![], "query", "is missing (write the PromQL query"),
            (vec![("query", "")], "query", "is missing"),
            (vec![("query", "a"), ("prometheus-server", "prometheus:9090")], "prometheus-server", "is not a URL"),
            (vec![("query", "a"), ("prometheus-server-alias", "x")], "prometheus-server-alias", "known are long-term"),
            (vec![("query", "a"), ("interval", "soon")], "interval", "\"soon\" is not a duration above 0"),
            (vec![("query", "a"), ("interval", "0s")], "interval", "is not a duration above 0"),
            (vec![("query", "a"), ("auth-modes", "bearer")], "authentication", "is missing"),
            (vec![("query", "a"), ("auth-modes", "barer")], "auth-modes", "write bearer"),
            (vec![("query", "a"), ("timeout", "1h")], "timeout", "is longer than"),
            (vec![("query", "a"), ("activation-threshold", "x")], "activation-threshold", "is not a number"),
        ] {
            let named: Vec<(String, &str)> = annotations.iter().map(|(key, value)| (of(key), *value)).collect();
            let named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let found = problems(hpa(&named, &[("rps", TYPE)]));
            let expected = format!("metadata.annotations[{}]: ", of(field));
            assert_eq!(found.len(), 1, "{annotations:?}: {found:?}");
            assert!(found[0].starts_with(&expected) && found[0].contains(words), "{annotations:?}: {found:?}");
        }
        let none = from_value(hpa(&[(&of("query"), "a")], &[("rps", TYPE)]), &Servers::default()).unwrap().unwrap();
        let none = none.object.definition.unwrap_err().all();
        assert!(none.contains("/prometheus-server]: is missing") && none.contains("--prometheus-server"), "{none}");
        let legacy = problems(hpa(&[], &[("prometheus-query", &[("query-name", "one")])]));
        assert_eq!(legacy.len(), 1);
        assert!(
            legacy[0].contains("metric-config.external.prometheus-query.prometheus/query]: is missing")
                || legacy[0].contains("prometheus-query.prometheus/one]: is missing"),
            "{legacy:?}"
        );
        let misnamed = problems(hpa(&[(&of("query"), "a")], &[("rsp", &[])]));
        assert!(misnamed.len() == 1 && misnamed[0].contains("no External metric of this HPA"), "{misnamed:?}");
    }

    #[test]
    fn an_object_metric_is_refused_and_leftovers_are_warned_about() {
        let object_form = ("metric-config.object.rps.prometheus/query", "a");
        let mut only = hpa(&[object_form], &[]);
        only["spec"]["metrics"] = json!([{"type": "Object", "object": {"metric": {"name": "rps"}}}]);
        assert!(problems(only)[0].contains("Object metrics are not served by hpalite"));
        let read = read_one(hpa(
            &[
                object_form,
                ("metric-config.external.rps.prometheus/query", "a"),
                ("metric-config.external.rps.prometheus/qeury", "b"),
                ("metric-config.external.rps.prometheus/per-replica", "true"),
                ("metric-config.external.gone.prometheus/query", "c"),
                ("metric-config.pods.rps.json-path/path", "/metrics"),
                ("hpalite.dev/cooldown", "1m"),
            ],
            &[("rps", TYPE)],
        ));
        assert!(read.object.definition.is_ok());
        let warnings: Vec<String> = read.warnings.iter().map(|one| format!("{} {}", one.message, one.fix)).collect();
        assert_eq!(warnings.len(), 5, "{warnings:#?}");
        for words in
            ["Object metrics", "did you mean query?", "no effect on an External", "is called gone", "without hpalite"]
        {
            assert!(warnings.iter().any(|warning| warning.contains(words)), "{words}: {warnings:#?}");
        }
    }

    #[test]
    fn a_metric_that_stands_twice_is_one_and_too_many_are_refused() {
        let query = ("metric-config.external.rps.prometheus/query", "a");
        assert_eq!(asks(hpa(&[query], &[("rps", TYPE), ("rps", TYPE)])).len(), 1);
        let values: Vec<String> = (0..150).map(|n| n.to_string()).collect();
        let labels: Vec<[(&str, &str); 1]> = values.iter().map(|value| [("n", value.as_str())]).collect();
        let metrics: Vec<(&str, &[(&str, &str)])> = labels.iter().map(|labels| ("rps", labels.as_slice())).collect();
        let found = problems(hpa(&[query], &metrics));
        assert_eq!(found, ["spec.metrics: more than 100 External metrics (ask for fewer)"]);
        assert_eq!(asks(hpa(&[query], &metrics[..100])).len(), 100);
    }

    #[test]
    fn others_are_left_alone() {
        let none = |object: Value| from_value(object, &servers()).unwrap().is_none();
        assert!(none(hpa(&[], &[])));
        assert!(none(hpa(&[], &[("s0-prometheus", &[("scaledobject.keda.sh/name", "web")])])));
        assert!(none(hpa(&[("metric-config.pods.rps.json-path/path", "/")], &[])));
        assert!(none(hpa(
            &[("metric-config.external.sqs.sqs-queue-length/region", "x")],
            &[("sqs", &[("type", "sqs")])]
        )));
        let mut owned = hpa(&[("metric-config.external.rps.prometheus/query", "a")], &[("rps", TYPE)]);
        owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "s", "uid": "2", "controller": true}]);
        assert!(none(owned), "a ScaledObject copies its annotations");
    }

    #[test]
    fn scaling_to_zero_is_asked_for_by_name() {
        let query = ("metric-config.external.rps.prometheus/query", "a");
        let with = |own: &[(&'static str, &'static str)]| hpa(&[&[query], own].concat(), &[("rps", TYPE)]);
        let read = read_one(with(&[("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "90s")])).object;
        let definition = read.definition.expect("is valid");
        assert!(read.scales_to_zero);
        assert_eq!((definition.idle_replicas, definition.min_replicas), (Some(0), Some(2)));
        assert_eq!(definition.cooldown_period, Duration::from_secs(90));
        assert!(!read_one(with(&[("hpalite.dev/scale-to-zero", "false")])).object.scales_to_zero);
        assert!(!read_one(with(&[])).object.scales_to_zero);
        assert!(problems(with(&[("hpalite.dev/scale-to-zero", "yes")]))[0].contains("neither true nor false"));
        let bad = with(&[("hpalite.dev/scale-to-zero", "true"), ("hpalite.dev/cooldown", "-1s")]);
        assert!(problems(bad)[0].contains("\"-1s\" is not a duration"));
        let mut native = with(&[("hpalite.dev/scale-to-zero", "true")]);
        native["spec"]["minReplicas"] = json!(0);
        let native = read_one(native);
        assert!(!native.object.scales_to_zero && native.warnings[0].message.contains("by itself"));
        let blind = problems(hpa(&[("hpalite.dev/scale-to-zero", "true")], &[]));
        assert!(blind[0].contains("nothing could tell when to run again"), "{blind:?}");
    }
}
