//! HPAs that ask for metrics by annotations, in the form of kube-metrics-adapter:
//!
//! ```text
//! metric-config.external.<metric>.prometheus/<key>: <value>
//! metric-config.object.<metric>.prometheus/<key>: <value>
//! metric-config.pods.<metric>.json-path/<key>: <value>
//! ```
//!
//! Owns that form, and what is wrong with it. Such an HPA becomes the ScaledObject that would ask for the same, read by
//! the rules of ScaledObjects, so that everything behind it is the same for both.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::BTreeMap;

use litemap::LiteMap;
use serde_json::{Map, Value, json};

use super::super::fields::{Diagnostics, quoted};
use super::super::quantity::parse_milli;
use super::super::scaled_object::{self, ParsedObject};
use super::super::time::parse_go_duration;
use super::super::trigger::prometheus::DEFAULT_ADDRESS;
use super::super::{Servers, Warning};
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::{
    ApiGroup, Asked, AskedOf, Behavior, Described, Invalid, MetricTarget, Problem, PrometheusSource, ScalingRules,
    Step, TargetRef,
};
use crate::scaling::quantity;
use crate::spelling::nearest;

const PREFIX: &str = "metric-config.";
const COLLECTOR: &str = "prometheus";
/// The collector that asks the pods themselves.
const JSON_PATH: &str = "json-path";
/// The label of a metric's selector that names its collector.
const TYPE_LABEL: &str = "type";
/// The metric that names its query by a label, in the older form.
const LEGACY_METRIC: &str = "prometheus-query";
const QUERY_NAME: &str = "query-name";

/// Where a spec has its triggers.
const TRIGGERS: &str = "spec.triggers";

const QUERY: &str = "query";
const SERVER: &str = "prometheus-server";
const SERVER_ALIAS: &str = "prometheus-server-alias";
const INTERVAL: &str = "interval";
/// Of an Object metric: it is read as what one replica has of it, whatever the value says.
const PER_REPLICA: &str = "per-replica";
/// Those of kube-metrics-adapter for other metrics, which mean nothing for an External one, or for one of an object.
const WITHOUT_EFFECT: [&str; 2] = [PER_REPLICA, "min-pod-ready-age"];
const AUTHENTICATION: &str = "authentication";

/// hpalite's own keys, with the parameter of a prometheus trigger that each is.
const PARAMETERS: [(&str, &str); 5] = [
    ("auth-modes", "authModes"),
    ("timeout", "timeout"),
    ("activation-threshold", "activationThreshold"),
    ("custom-headers", "customHeaders"),
    ("unsafe-ssl", "unsafeSsl"),
];

/// The keys of a metric of pods, with the parameter of the trigger that each is.
const OF_PODS: [(&str, &str); 9] = [
    ("json-key", "jsonKey"),
    ("path", "path"),
    ("port", "port"),
    ("scheme", "scheme"),
    ("aggregator", "aggregator"),
    ("raw-query", "rawQuery"),
    ("request-timeout", "requestTimeout"),
    ("min-pod-ready-age", "minPodReadyAge"),
    ("activation-threshold", "activationThreshold"),
];
/// Those that must be there.
const OF_PODS_REQUIRED: [(&str, &str); 3] = [
    ("json-key", "write a JSONPath such as \"$.http_server.rps\""),
    ("path", "write the path of the JSON document, e.g. \"/metrics\""),
    ("port", "write the port that serves it, e.g. \"9090\""),
];
const JSON_EVAL: &str = "json-eval";
/// The whole of a request is bounded by `request-timeout`.
const CONNECT_TIMEOUT: &str = "connect-timeout";

const SCALE_TO_ZERO: &str = "hpalite.dev/scale-to-zero";
const COOLDOWN: &str = "hpalite.dev/cooldown";

/// kube-metrics-adapter's `--default-collection-interval`.
const INTERVAL_DEFAULT_SECONDS: i64 = 60;
const COOLDOWN_DEFAULT_SECONDS: i64 = 300;

/// Metrics of one HPA, each of which is compared with all others whenever the HPA's status changes.
const METRICS_MAX: usize = 100;

/// The annotations of one metric: by key, the annotation's name and its value.
type Config<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

/// The annotations of an HPA: by form and metric.
type Configs<'a> = BTreeMap<(Form, &'a str), Config<'a>>;

/// Which metrics of an HPA an annotation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    External,
    Object,
    Pods,
}

impl Form {
    const ALL: [Self; 3] = [Self::External, Self::Object, Self::Pods];

    /// As in the annotation.
    fn id(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Object => "object",
            Self::Pods => "pods",
        }
    }

    fn collector(self) -> &'static str {
        match self {
            Self::External | Self::Object => COLLECTOR,
            Self::Pods => JSON_PATH,
        }
    }

    /// The keys that are parameters of the trigger, with those.
    fn parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::External | Self::Object => &PARAMETERS,
            Self::Pods => &OF_PODS,
        }
    }

    /// As in `type` of the HPA's metric.
    fn noun(self) -> &'static str {
        match self {
            Self::External => "External",
            Self::Object => "Object",
            Self::Pods => "Pods",
        }
    }
}

/// Returns what an HPA asks for; `None` if it asks nothing of hpalite, or a ScaledObject owns it.
#[must_use]
pub fn read(hpa: &ObservedHpa, servers: &Servers) -> Option<ParsedObject> {
    if hpa.controller.as_ref().is_some_and(|owner| owner.is_scaled_object()) {
        return None;
    }
    let configs = configs(hpa);
    let mut metrics: Vec<Metric<'_>> = Vec::new();
    // The same metric may stand there twice, with two targets.
    let asked = hpa.metrics.iter().filter_map(|metric| Metric::of(metric, &hpa.target, &configs));
    for metric in asked.take(METRICS_MAX + 1) {
        if !metrics.iter().any(|known| known.asked == metric.asked) {
            metrics.push(metric);
        }
    }
    let scales_to_zero = hpa.annotations.get(SCALE_TO_ZERO);
    if configs.is_empty() && metrics.is_empty() && scales_to_zero.is_none() {
        return None;
    }
    let mut report = Diagnostics::default();
    if metrics.len() > METRICS_MAX {
        metrics.truncate(METRICS_MAX);
        let message = format!("more than {METRICS_MAX} metrics by annotations");
        report.problem(Step::Triggers, "spec.metrics", message, "ask for fewer");
    }
    unmatched(&configs, &metrics, &mut report);
    if metrics.is_empty() && report.problems.is_empty() {
        report.problem(
            Step::Triggers,
            scales_to_zero.map_or_else(|| "spec.metrics".to_owned(), |_| annotation(SCALE_TO_ZERO)),
            "no metric of this HPA is read by hpalite, so that nothing could tell when to run again",
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
    let is_unread = |metric: &&HpaMetric| Metric::of(metric, &hpa.target, &configs).is_none();
    let unread = hpa.metrics.iter().filter(is_unread).find_map(measured_elsewhere).filter(|_| !metrics.is_empty());
    let of_pods = metrics.iter().find(|metric| matches!(metric.asked.of, AskedOf::Pods { .. }));
    let hindrance = match (unread, of_pods) {
        (Some(metric), _) => Some(format!("hpalite does not read {}, which may need replicas", quoted(metric))),
        // Nor does one pod that answers 0 say anything of another one that does not answer.
        (None, Some(metric)) => Some(format!("without pods nobody answers for {}", quoted(&metric.asked.metric))),
        (None, None) => None,
    };
    let mut unheeded = None;
    let scales_to_zero = match (cooldown_to_zero(hpa, &mut report), hindrance) {
        (Some(seconds), None) => {
            spec["idleReplicaCount"] = json!(0);
            spec["cooldownPeriod"] = json!(seconds);
            true
        }
        (Some(_), Some(hindrance)) => {
            let message = format!("has no effect: {hindrance}");
            let fix = match of_pods {
                Some(_) => "ask a server for every metric by annotations, or remove this one",
                None => "ask for every metric by annotations, or remove this one",
            };
            unheeded = Some(format!("{} {message} ({fix})", annotation(SCALE_TO_ZERO)).into());
            report.warn(annotation(SCALE_TO_ZERO), message, fix);
            false
        }
        (None, _) => false,
    };
    let mut read = finish(hpa, &metrics, spec, scales_to_zero, asked, report);
    read.object.unheeded = unheeded;
    Some(read)
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
    // A field that was reported already, as missing for example, is not reported once more in the words of a trigger; nor
    // is an empty list of triggers, which follows from what was reported.
    let found = found.into_iter().map(|problem| Problem { field: place(&problem.field, metrics), ..problem });
    let is_known = |one: &Problem| problems.iter().any(|known| known.field == one.field) || one.field == TRIGGERS;
    let found: Vec<Problem> = found.filter(|one| problems.is_empty() || !is_known(one)).collect();
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
    read.object.per_replica = metrics
        .iter()
        .enumerate()
        .filter(|(_, metric)| metric.is_per_replica())
        .map(|(position, _)| position)
        .collect();
    read.object.scales_to_zero = scales_to_zero;
    read
}

/// A number for a version of the annotations, since the API server counts none of them: FNV-1a, cut to 31 bits.
pub(super) fn number(spec_json: &str) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = spec_json.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    i64::from(u32::try_from(hash >> 33).unwrap_or(0))
}

fn annotation(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

/// Reads an annotation `metric-config.<type>.<metric>.<collector>/<key>` of one of the forms: that, the metric and the key.
fn parts(name: &str) -> Option<(Form, &str, &str)> {
    let (path, key) = name.strip_prefix(PREFIX)?.split_once('/')?;
    let (kind, rest) = path.split_once('.')?;
    let (metric, collector) = rest.rsplit_once('.')?;
    let form = Form::ALL.into_iter().find(|form| (form.id(), form.collector()) == (kind, collector))?;
    Some((form, metric, key))
}

/// Returns the annotations of the forms.
fn configs(hpa: &ObservedHpa) -> Configs<'_> {
    let mut configs = Configs::new();
    for (name, value) in hpa.annotations.iter() {
        if let Some((form, metric, key)) = parts(name) {
            configs.entry((form, metric)).or_default().insert(key, (name, value.trim()));
        }
    }
    configs
}

/// A metric that is to be read from a Prometheus, or from the pods.
struct Metric<'a> {
    form: Form,
    asked: Asked,
    target: MetricTarget,
    config: Option<&'a Config<'a>>,
    /// The name of the query in the older form, where a label of the selector has it.
    query_name: Option<&'a str>,
    alias_label: Option<&'a str>,
}

impl<'a> Metric<'a> {
    fn of(metric: &'a HpaMetric, workload: &TargetRef, configs: &'a Configs<'a>) -> Option<Self> {
        match metric {
            HpaMetric::External { name, match_labels, target } => {
                Self::external(name, match_labels, *target, configs.get(&(Form::External, name.as_str())))
            }
            // Without annotations it is another adapter's, or of the rules.
            HpaMetric::Object { name, match_labels, described, target } => {
                let config = configs.get(&(Form::Object, name.as_str()))?;
                let of = AskedOf::Object(described.clone());
                let asked = Asked { metric: name.clone(), labels: sorted(match_labels), of };
                Some(Self::new(Form::Object, asked, *target, Some(config), (None, None)))
            }
            HpaMetric::Pods { name, match_labels, target } => {
                let config = configs.get(&(Form::Pods, name.as_str()))?;
                let of = AskedOf::Pods { kind: workload.kind.clone(), name: workload.name.clone() };
                let asked = Asked { metric: name.clone(), labels: sorted(match_labels), of };
                Some(Self::new(Form::Pods, asked, *target, Some(config), (None, None)))
            }
            HpaMetric::Resource { .. } | HpaMetric::ContainerResource { .. } | HpaMetric::Other { .. } => None,
        }
    }

    fn external(
        name: &str,
        match_labels: &'a LiteMap<String, String>,
        target: MetricTarget,
        config: Option<&'a Config<'a>>,
    ) -> Option<Self> {
        let label = |key: &str| match_labels.get(key).map(String::as_str);
        let is_of_prometheus = match label(TYPE_LABEL) {
            Some(collector) => collector == COLLECTOR || collector == LEGACY_METRIC,
            None => config.is_some() || name == LEGACY_METRIC,
        };
        is_of_prometheus.then(|| {
            let asked = Asked { metric: name.to_owned(), labels: sorted(match_labels), of: AskedOf::External };
            Self::new(Form::External, asked, target, config, (label(QUERY_NAME), label(SERVER_ALIAS)))
        })
    }

    fn new(
        form: Form,
        asked: Asked,
        target: MetricTarget,
        config: Option<&'a Config<'a>>,
        (query_name, alias_label): (Option<&'a str>, Option<&'a str>),
    ) -> Self {
        Self { form, asked, target, config, query_name, alias_label }
    }

    fn is_per_replica(&self) -> bool {
        self.form == Form::Object && self.config.is_some_and(|config| config.contains_key(PER_REPLICA))
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.config?.get(key).map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    /// The field of the annotation with this key, whether it is there or not.
    fn field(&self, key: &str) -> String {
        annotation(&format!("{PREFIX}{}.{}.{}/{key}", self.form.id(), self.asked.metric, self.form.collector()))
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
        let mut metadata = json!({ "metricName": self.name(all) });
        if self.form != Form::Pods {
            metadata["ignoreNullValues"] = json!("false");
        }
        let mut set = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                metadata[name] = json!(value);
            }
        };
        if let AskedOf::Pods { kind, name } = &self.asked.of {
            set("kind", Some(kind));
            set("name", Some(name));
            self.judge_pods(kind, report);
        } else {
            let (parameter, server) = self.server(servers, report);
            set(parameter, server.as_deref());
            let key = self.query_key();
            if self.get(key).is_none() {
                let fix = "write the PromQL query whose result is the metric";
                report.problem(Step::BuildScalers, self.field(key), "is missing", fix);
            }
            set("query", self.get(key));
        }
        for (key, parameter) in self.form.parameters() {
            set(parameter, self.get(key));
        }
        let (metric_type, milli) = match self.target {
            MetricTarget::AverageValue(milli) => ("AverageValue", milli),
            // The HPA multiplies what one replica has by the replicas, so that in all it is an average.
            MetricTarget::Value(milli) if self.is_per_replica() => ("AverageValue", milli),
            MetricTarget::Value(milli) => ("Value", milli),
            // The API server refuses it for an External metric.
            MetricTarget::Utilization(percent) => ("Utilization", i128::from(percent) * 1000),
        };
        set("threshold", Some(&decimal(milli)));
        let labels: BTreeMap<&str, &str> =
            self.asked.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut trigger = json!({
            "type": self.form.collector(), "metricType": metric_type, "useCachedMetrics": true, "metadata": metadata,
            "selector": labels,
        });
        if let AskedOf::Object(Described { api_version, kind, name }) = &self.asked.of {
            trigger["describedObject"] = json!({ "apiVersion": api_version, "kind": kind, "name": name });
        }
        if self.is_per_replica() {
            trigger["perReplica"] = json!(true);
            if let MetricTarget::AverageValue(_) = self.target {
                let message = "divides the metric by the replicas, and averageValue does so once more";
                report.warn(self.field(PER_REPLICA), message, "remove it, or write value instead of averageValue");
            }
        }
        if let Some(name) = self.get(AUTHENTICATION).filter(|_| self.form != Form::Pods) {
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

    /// Reports what a metric of pods lacks.
    fn judge_pods(&self, kind: &str, report: &mut Diagnostics) {
        for (key, fix) in OF_PODS_REQUIRED.iter().filter(|(key, _)| self.get(key).is_none()) {
            if *key == "json-key" && self.get(JSON_EVAL).is_some() {
                let message = "is not supported: hpalite evaluates no expressions";
                let fix = "let the pod compute the number, and write its JSONPath as json-key";
                report.problem(Step::BuildScalers, self.field(JSON_EVAL), message, fix);
            }
            report.problem(Step::BuildScalers, self.field(key), "is missing", *fix);
        }
        if !matches!(kind, "Deployment" | "StatefulSet") {
            let message = format!("pods of {} are not asked", quoted(kind));
            let fix = "scale a Deployment or StatefulSet, or ask for an External metric";
            report.problem(Step::BuildScalers, "spec.scaleTargetRef.kind", message, fix);
        }
    }

    fn alias(&self) -> Option<&'a str> {
        self.get(SERVER_ALIAS).or(self.alias_label)
    }

    /// Returns the server with the name of the parameter that it is: the metric's own, or one that stands aside for what
    /// its authentication may say.
    fn server(&self, servers: &Servers, report: &mut Diagnostics) -> (&'static str, Option<String>) {
        const OWN: &str = PrometheusSource::ADDRESS;
        if let Some(url) = self.get(SERVER) {
            return (OWN, Some(url.to_owned()));
        }
        let Some(alias) = self.alias() else {
            let default = servers.default_url().map(str::to_owned);
            if self.get(AUTHENTICATION).is_some() {
                return (DEFAULT_ADDRESS, default);
            }
            if default.is_none() {
                let fix = "write the URL of a Prometheus, let the authentication give it as parameter serverAddress, or name \
                           one for all with --prometheus-server";
                report.problem(Step::BuildScalers, self.field(SERVER), "is missing", fix);
            }
            return (OWN, default);
        };
        let found = servers.of_alias(alias);
        if found.is_none() {
            let known = servers.aliases();
            let known = if known.is_empty() { "none is known".to_owned() } else { format!("known are {known}") };
            let message = format!("no server has the alias {}", quoted(alias));
            let fix = format!("{known}; --additional-prometheus-servers {alias}=URL names one");
            report.problem(Step::BuildScalers, self.field(SERVER_ALIAS), message, fix);
        }
        (OWN, found.map(str::to_owned))
    }
}

/// Warns about annotations that no metric of the HPA has to do with, and keys that mean nothing. It is a problem if the
/// HPA asks for no metric at all, since then the name is mistaken.
fn unmatched(configs: &Configs<'_>, metrics: &[Metric<'_>], report: &mut Diagnostics) {
    for ((form, metric), config) in configs {
        let is_user = |one: &&Metric<'_>| (one.form, one.asked.metric.as_str()) == (*form, *metric);
        let users: Vec<&Metric<'_>> = metrics.iter().filter(is_user).collect();
        let (Some((first, _)), true) = (config.values().next(), users.is_empty()) else {
            for (key, (name, _)) in config {
                unknown_key((*form, key), name, &users, report);
            }
            continue;
        };
        let noun = form.noun();
        let message = format!("no {noun} metric of this HPA, with matchLabels alone, is called {metric}");
        let fix = "name the metric as in spec.metrics, or remove the annotation";
        if metrics.is_empty() {
            report.problem(Step::BuildScalers, annotation(first), message, fix);
        } else {
            report.warn(annotation(first), message, fix);
        }
    }
}

fn unknown_key((form, key): (Form, &str), name: &str, users: &[&Metric<'_>], report: &mut Diagnostics) {
    let mut known = match form {
        Form::External => vec![QUERY, SERVER, SERVER_ALIAS, AUTHENTICATION],
        Form::Object => vec![QUERY, SERVER, SERVER_ALIAS, AUTHENTICATION, PER_REPLICA],
        Form::Pods => vec![JSON_EVAL, CONNECT_TIMEOUT],
    };
    known.push(INTERVAL);
    known.extend(form.parameters().iter().map(|(key, _)| *key));
    if known.contains(&key) || users.iter().any(|metric| metric.query_name == Some(key)) {
        return;
    }
    if WITHOUT_EFFECT.contains(&key) {
        let message = format!("has no effect on an {} metric", form.noun());
        return report.warn(annotation(name), message, "remove it");
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

/// Returns after how many seconds hpalite is to scale the target to zero; `None` if never.
fn cooldown_to_zero(hpa: &ObservedHpa, report: &mut Diagnostics) -> Option<i64> {
    let cooldown = hpa.annotations.get(COOLDOWN);
    let Some(text) = hpa.annotations.get(SCALE_TO_ZERO) else {
        if cooldown.is_some() {
            let fix = format!("add {SCALE_TO_ZERO}: \"true\", or remove it");
            report.warn(annotation(COOLDOWN), format!("has no effect without {SCALE_TO_ZERO}"), fix);
        }
        return None;
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
        return None;
    }
    is_wanted.then_some(seconds)
}

/// Returns the name of a metric that neither the HPA controller measures nor, without annotations, hpalite.
fn measured_elsewhere(metric: &HpaMetric) -> Option<&str> {
    match metric {
        HpaMetric::Resource { .. } | HpaMetric::ContainerResource { .. } => None,
        HpaMetric::External { name, .. }
        | HpaMetric::Object { name, .. }
        | HpaMetric::Pods { name, .. }
        | HpaMetric::Other { name, .. } => Some(name),
    }
}

/// Returns the trigger that stands for a metric that the HPA controller measures itself.
fn resource(metric: &HpaMetric) -> Option<Value> {
    let (container, name, target) = match metric {
        HpaMetric::Resource { name, target } => (None, name, target),
        HpaMetric::ContainerResource { container, name, target } => (Some(container), name, target),
        HpaMetric::External { .. } | HpaMetric::Object { .. } | HpaMetric::Pods { .. } | HpaMetric::Other { .. } => {
            return None;
        }
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

/// Returns labels by key.
pub(super) fn sorted(labels: &LiteMap<String, String>) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.sort_unstable();
    labels
}

/// Formats thousandths as a number.
pub(super) fn decimal(milli: i128) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{}.{:03}", milli / 1000, milli % 1000) }
}

pub(super) fn behavior(behavior: &Behavior) -> Value {
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
        "serverAddress" if metric.get(SERVER).is_none() && metric.alias().is_some() => metric.field(SERVER_ALIAS),
        "serverAddress" => metric.field(SERVER),
        _ if rest.starts_with(".authenticationRef") => metric.field(AUTHENTICATION),
        _ => match metric.form.parameters().iter().find(|(_, name)| *name == parameter) {
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
    let sources = metrics.into_iter().flatten().filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    for target in sources.filter_map(|source| source.get_mut("target")) {
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
mod tests;
