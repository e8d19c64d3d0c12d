//! Triggers: the rules for their list, what all types share, and the interface of a type.
//!
//! A type is one file below and one row in `SUPPORTED`. Its file turns metadata into the HPA's metric and
//! the query, and has the rows of `k8s/triggers.md`. Everything that does not depend on the type is read here.

mod auth_modes;
mod aws_cloudwatch;
mod aws_sqs;
mod azure_servicebus;
mod catalog;
mod cron;
mod expression;
pub(crate) mod identity;
mod json_path;
mod kafka;
mod kubernetes_resource;
mod loki;
mod metrics_api;
mod nats_jetstream;
mod parameters;
mod postgresql;
pub(super) mod prometheus;
mod rabbitmq;
mod redis;
mod resource;
mod series;
pub(crate) mod shown;
mod target;
#[cfg(test)]
mod testing;
mod workload;
mod zone_names;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::parameters::Parameters;
use super::fields::{Diagnostics, Fields, describe, quoted, scalar_text};
use super::metadata::Metadata;
use crate::scaling::model::MetricTarget;
use crate::scaling::model::{
    ApiGroup, AuthenticationKind, AuthenticationRef, MetricType, OnMissing, ParameterSource, Query, ResourceTrigger,
    Server, Source, Step, Trigger,
};
use crate::spelling::nearest;

/// One trigger type.
#[derive(Clone, Copy)]
pub(crate) struct TriggerType {
    /// `type` in the trigger.
    name: &'static str,
    /// The metadata that have a meaning, as documented in `k8s/triggers.md` (a test compares).
    reference: &'static [Row],
    /// Other known keys, which `parse` reports on. Unknown ones cause a warning.
    without_effect: &'static [&'static str],
    /// Whether `useCachedMetrics` has a meaning.
    can_be_cached: bool,
    /// Parameters that `<name>FromEnv` may take from the environment of the workload.
    from_env: &'static [&'static str],
    /// Reads what is specific to the type; `None` if a problem was reported.
    parse: fn(&Context<'_>, &mut Diagnostics) -> Option<Parsed>,
}

/// A row of `k8s/triggers.md` with related parameters.
pub(crate) struct Row {
    parameters: &'static [&'static str],
    /// `–` if absence needs no explanation.
    #[cfg_attr(not(test), expect(dead_code, reason = "for k8s/triggers.md"))]
    default: &'static str,
    /// Markdown.
    #[cfg_attr(not(test), expect(dead_code, reason = "for k8s/triggers.md"))]
    meaning: &'static str,
}

/// Bytes of text of all triggers of an object, since the text lives as long as the object. A query has a few hundred.
const TEXT_BYTES_MAX: usize = 256 << 10;

/// All supported types, in the order of `k8s/triggers.md`. A new type needs a row here.
const SUPPORTED: &[TriggerType] = &[
    prometheus::TYPE,
    resource::CPU,
    resource::MEMORY,
    cron::TYPE,
    workload::TYPE,
    metrics_api::TYPE,
    loki::TYPE,
    REDIS[0],
    REDIS[1],
    REDIS[2],
    REDIS[3],
    REDIS[4],
    REDIS[5],
    rabbitmq::TYPE,
    nats_jetstream::TYPE,
    postgresql::TYPE,
    aws_sqs::TYPE,
    aws_cloudwatch::TYPE,
    kafka::KAFKA,
    kafka::APACHE_KAFKA,
    azure_servicebus::TYPE,
    series::GRAPHITE,
    series::INFLUXDB,
    kubernetes_resource::TYPE,
];

const REDIS: [TriggerType; 6] = redis::TYPES;

/// The types of what HPAs ask for, which no ScaledObject can have.
const OF_HPAS: &[TriggerType] =
    &[json_path::TYPE, shown::TYPES[0], shown::TYPES[1], shown::TYPES[2], shown::TYPES[3], shown::TYPES[4]];

impl TriggerType {
    /// All known keys.
    fn parameters(&self) -> Vec<&'static str> {
        let meant = self.reference.iter().flat_map(|row| row.parameters);
        meant.chain(self.without_effect).copied().collect()
    }
}

/// What is the same for all triggers of an object.
#[derive(Clone, Copy)]
struct Common<'a> {
    group: ApiGroup,
    namespace: &'a str,
    /// The name of the object.
    object: &'a str,
    /// The object has a formula, whose target replaces those of the triggers.
    feeds_formula: bool,
}

/// What the parser of a type can read.
pub(crate) struct Context<'a> {
    group: ApiGroup,
    /// The namespace of the object.
    namespace: &'a str,
    /// Its name.
    object: &'a str,
    index: u16,
    /// The trigger itself.
    fields: &'a Fields<'a>,
    parameters: Parameters,
    authentication: Option<&'a AuthenticationRef>,
    /// A formula replaces the trigger in the HPA.
    feeds_formula: bool,
}

impl Context<'_> {
    /// For types that KEDA 1 does not have: returns `None` for an object of its API.
    fn refuse_keda_1(&self, report: &mut Diagnostics) -> Option<()> {
        if self.group != ApiGroup::KedaK8sIo {
            return Some(());
        }
        let message = "KEDA 1 has no such trigger";
        report.problem(Step::BuildScalers, self.fields.path("type"), message, "move the object to keda.sh");
        None
    }

    /// Returns where the value of a parameter comes from, if the metadata name a variable of the workload for it.
    fn env_source(&self, parameter: &str) -> Option<ParameterSource> {
        let name = self.parameters.get(&format!("{parameter}FromEnv"))?.to_owned();
        Some(ParameterSource::Env { parameter: parameter.to_owned(), name, container: None })
    }

    /// Returns whether a parameter can come from elsewhere than the metadata themselves.
    fn is_given_elsewhere(&self, parameter: &str) -> bool {
        self.fields.has("authenticationRef") || self.env_source(parameter).is_some()
    }

    /// Reads a required parameter that may come from elsewhere; `Err` if it comes from nowhere.
    fn placed(&self, name: &str, fix: &str, report: &mut Diagnostics) -> Result<Option<String>, ()> {
        match self.parameters.get(name) {
            Some(text) => Ok(Some(text.to_owned())),
            None if self.is_given_elsewhere(name) => Ok(None),
            None => self.parameters.required(name, fix, report).map(|text| Some(text.to_owned())).ok_or(()),
        }
    }

    /// Warns of parameters that are secret, and read only from an authentication.
    fn warn_secrets(&self, names: &[&str], report: &mut Diagnostics) {
        for name in names.iter().filter(|name| self.parameters.get(name).is_some()) {
            let message = "has no effect here: credentials come from a TriggerAuthentication only";
            report.warn(self.parameters.path(name), message, "move it to the Secret of a TriggerAuthentication");
        }
    }

    /// Returns the server at an address of the metadata, or where else its address is.
    fn server(&self, kind: &str, address: Option<String>) -> Server {
        match (address, self.authentication) {
            (Some(address), _) => Server::Written(address),
            (None, Some(reference)) => {
                let AuthenticationRef { kind: of, name } = reference;
                Server::Elsewhere(format!("{kind} of {} {}/{name}", of.name(), self.namespace))
            }
            (None, None) => Server::Elsewhere(format!("{kind} of the environment in {}", self.namespace)),
        }
    }

    /// For types without authentication.
    fn warn_authentication_unused(&self, report: &mut Diagnostics) {
        if self.fields.has("authenticationRef") {
            report.warn(self.fields.path("authenticationRef"), "has no effect on a trigger of this type", "remove it");
        }
    }
}

/// The result of a type's parser: the trigger's part in the HPA, and the source of its value.
pub(crate) enum Parsed {
    External(External),
    /// A metric that the HPA controller measures, named like the type.
    Resource {
        container: Option<String>,
        target: MetricTarget,
    },
}

/// An External metric.
pub(crate) struct External {
    metric_name: Arc<str>,
    metric_type: MetricType,
    threshold: f64,
    activation_threshold: f64,
    on_missing: OnMissing,
    source: Source,
}

/// All triggers of one object.
pub(crate) struct Triggers<'a> {
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) resource_triggers: Vec<ResourceTrigger>,
    /// All types as written, in order, including unsupported ones.
    pub(crate) kinds: Vec<&'a str>,
    /// The distinct types, comma-joined.
    pub(crate) types_text: String,
    /// Distinct names of referenced authentications, comma-joined.
    pub(crate) authentications_text: String,
}

impl Triggers<'_> {
    /// Returns true if there are no triggers of other types.
    pub(crate) fn are_of_resources_only(&self) -> bool {
        self.kinds.iter().all(|kind| [resource::CPU.name, resource::MEMORY.name].contains(kind))
    }
}

/// Reads `spec.triggers` of an object, whose formula, if it `feeds_formula`, takes the triggers' place in the HPA.
pub(crate) fn read_all<'a>(
    group: ApiGroup,
    object: &Metadata,
    spec: &Fields<'a>,
    feeds_formula: bool,
    report: &mut Diagnostics,
) -> Triggers<'a> {
    let items = spec.objects("triggers", report);
    if items.is_empty() && spec.get("triggers").is_none_or(Value::is_array) {
        report.problem(
            Step::Triggers,
            spec.path("triggers"),
            "no triggers defined in the ScaledObject/ScaledJob",
            "add at least one trigger, e.g. of type prometheus",
        );
    }
    let text_bytes = spec.get("triggers").map_or(0, text_bytes);
    if text_bytes > TEXT_BYTES_MAX {
        report.problem(
            Step::Triggers,
            spec.path("triggers"),
            format!(
                "the triggers have {} KiB of text, more than {} KiB",
                text_bytes.div_ceil(1024),
                TEXT_BYTES_MAX >> 10
            ),
            "write shorter queries",
        );
    }
    // Of too much text nothing is kept.
    let items = if text_bytes > TEXT_BYTES_MAX { Vec::new() } else { items };
    let mut read = Triggers {
        triggers: Vec::new(),
        resource_triggers: Vec::new(),
        kinds: Vec::new(),
        types_text: String::new(),
        authentications_text: String::new(),
    };
    let common = Common { group, namespace: &object.namespace, object: &object.name, feeds_formula };
    let mut authentications = Vec::new();
    let mut names = Vec::new();
    for (index, fields) in items.iter().enumerate() {
        let Ok(index) = u16::try_from(index) else {
            report.problem(Step::Triggers, fields.here(), "too many triggers", "write at most 65536");
            break;
        };
        if let Some(name) = fields.filled("name", report) {
            if names.contains(&name) {
                report.problem(
                    Step::Triggers,
                    fields.path("name"),
                    format!(
                        "triggerName {} is defined multiple times in the ScaledObject/ScaledJob, but it must be unique",
                        quoted(name)
                    ),
                    "give each trigger its own name",
                );
            }
            names.push(name);
        }
        let authentication = authentication(group, fields, report);
        authentications.extend(authentication.as_ref().map(|reference| reference.name.clone()));
        if let Some(kind) = fields.text("type", report).filter(|kind| !kind.is_empty()) {
            read.kinds.push(kind);
            match read_one(common, index, kind, fields, authentication, report) {
                Some(One::Asked(trigger)) => read.triggers.push(trigger),
                Some(One::Resource(trigger)) => read.resource_triggers.push(trigger),
                None => {}
            }
        } else if fields.is_present() && fields.get("type").is_none_or(|kind| kind == "") {
            report.problem(Step::Triggers, fields.path("type"), "is missing", format!("write one of: {}", supported()));
        }
    }
    // They live as long as the object, and most objects have one.
    read.triggers.shrink_to_fit();
    read.resource_triggers.shrink_to_fit();
    report_shared_metric_names(group, &object.name, &read.triggers, report);
    read.types_text = distinct(read.kinds.iter().copied());
    read.authentications_text = distinct(authentications.iter().map(String::as_str));
    read
}

/// Returns how many bytes of text a value has, with the names of fields.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + text_bytes(member)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// One trigger, by what measures it.
enum One {
    Asked(Trigger),
    Resource(ResourceTrigger),
}

fn read_one(
    common: Common<'_>,
    index: u16,
    kind: &str,
    fields: &Fields<'_>,
    authentication: Option<AuthenticationRef>,
    report: &mut Diagnostics,
) -> Option<One> {
    let Common { group, namespace, object, feeds_formula } = common;
    let use_cached_metrics =
        group != ApiGroup::KedaK8sIo && fields.boolean("useCachedMetrics", report).unwrap_or(false);
    let parameters = read_parameters(group, fields, report);
    // What only HPAs ask for has no row in the documents of triggers.
    let of_hpas = || OF_HPAS.iter().find(|row| group == ApiGroup::Autoscaling && row.name == kind);
    let Some(trigger_type) = SUPPORTED.iter().find(|row| row.name == kind).or_else(of_hpas) else {
        report_unsupported(kind, fields, report);
        return None;
    };
    if use_cached_metrics && !trigger_type.can_be_cached {
        report.problem(
            Step::Triggers,
            fields.path("useCachedMetrics"),
            format!("property \"useCachedMetrics\" is not supported for {} scaler", quoted(kind)),
            "remove useCachedMetrics from this trigger",
        );
    }
    let known = trigger_type.parameters();
    for (key, _) in parameters.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        let fix = nearest(key, &known).map(|near| format!("did you mean {near}?")).unwrap_or_default();
        report.warn(parameters.path(key), format!("unknown parameter of the {kind} trigger, it has no effect"), fix);
    }
    let context = Context {
        group,
        namespace,
        object,
        index,
        fields,
        parameters,
        authentication: authentication.as_ref(),
        feeds_formula,
    };
    let env = trigger_type.from_env.iter().filter_map(|parameter| context.env_source(parameter));
    let parsed = (trigger_type.parse)(&context, report)?;
    let env = match &parsed {
        Parsed::External(External { source: Source::Query(Query::Resource(source)), .. }) => {
            vec![kubernetes_resource::parameter(source)]
        }
        _ => env.collect(),
    };
    let kind = kind.to_owned();
    let name = fields.filled("name", &mut Diagnostics::default()).map(str::to_owned);
    Some(match parsed {
        Parsed::External(external) => One::Asked(Trigger {
            index,
            kind,
            name,
            metric_name: external.metric_name,
            metric_type: external.metric_type,
            threshold: external.threshold,
            activation_threshold: external.activation_threshold,
            use_cached_metrics,
            authentication,
            env,
            on_missing: external.on_missing,
            source: external.source,
        }),
        Parsed::Resource { container, target } => {
            One::Resource(ResourceTrigger { index, kind, name, container, target, authentication })
        }
    })
}

/// Reads `metadata` as text. KEDA 1 accepted any scalar; the newer API requires strings.
fn read_parameters(group: ApiGroup, fields: &Fields<'_>, report: &mut Diagnostics) -> Parameters {
    if !fields.has("metadata") {
        report.problem(Step::BuildScalers, fields.path("metadata"), "is missing", "write the trigger's parameters");
    }
    let metadata = fields.child("metadata", report);
    let (mut values, mut broken) = (BTreeMap::new(), Vec::new());
    for (key, value) in metadata.entries() {
        // The API server drops it.
        if value.is_null() {
            continue;
        }
        let is_scalar = !matches!(value, Value::Array(_) | Value::Object(_));
        if !value.is_string() && (group == ApiGroup::KedaSh || !is_scalar) {
            let fix = if is_scalar { format!("write {key}: \"{}\"", scalar_text(value)) } else { String::new() };
            report.problem(
                Step::BuildScalers,
                metadata.path(key),
                format!("must be a quoted string, is {}", describe(value)),
                fix,
            );
        }
        if !is_scalar {
            broken.push(key.clone());
        }
        // Continues with the text that was meant, so that one mistake causes one problem.
        values.insert(key.clone(), if is_scalar { scalar_text(value) } else { String::new() });
    }
    Parameters::new(metadata.here(), values, broken)
}

fn report_unsupported(kind: &str, fields: &Fields<'_>, report: &mut Diagnostics) {
    let (message, fix) = if catalog::is_known(kind) {
        let instead = catalog::instead_of(kind);
        let fix = format!("{instead}; supported types: {}", supported());
        (format!("trigger type {} is not supported", quoted(kind)), fix)
    } else {
        let served: Vec<&str> = SUPPORTED.iter().map(|row| row.name).collect();
        let near = nearest(kind, &served).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        (format!("trigger type {} is unknown", quoted(kind)), format!("{near}supported types: {}", supported()))
    };
    report.problem(Step::BuildScalers, fields.path("type"), message, fix);
}

fn supported() -> String {
    let names: Vec<&str> = SUPPORTED.iter().map(|row| row.name).collect();
    names.join(", ")
}

fn authentication(group: ApiGroup, fields: &Fields<'_>, report: &mut Diagnostics) -> Option<AuthenticationRef> {
    let reference = fields.child("authenticationRef", report);
    if !reference.is_present() {
        return None;
    }
    let is_current = group == ApiGroup::KedaSh;
    let name = reference.filled("name", report);
    if name.is_none() && reference.get("name").is_none_or(Value::is_string) {
        report.problem(
            Step::BuildScalers,
            reference.path("name"),
            "is missing",
            "write the name of a TriggerAuthentication, or remove authenticationRef",
        );
    }
    let kind = if is_current { reference.filled("kind", report) } else { None };
    let kind = match kind {
        None | Some("TriggerAuthentication") => AuthenticationKind::TriggerAuthentication,
        Some("ClusterTriggerAuthentication") => AuthenticationKind::ClusterTriggerAuthentication,
        Some(other) => {
            report.problem(
                Step::BuildScalers,
                reference.path("kind"),
                format!("{} is no kind of authentication", quoted(other)),
                "write TriggerAuthentication or ClusterTriggerAuthentication",
            );
            return None;
        }
    };
    Some(AuthenticationRef { kind, name: name?.to_owned() })
}

/// The metric type of a trigger that becomes an External metric.
fn external_metric_type(context: &Context<'_>, report: &mut Diagnostics) -> Option<MetricType> {
    if context.group == ApiGroup::KedaK8sIo {
        return Some(MetricType::AverageValue);
    }
    let (message, fix) = match context.fields.filled("metricType", report) {
        None | Some("AverageValue") => return Some(MetricType::AverageValue),
        Some("Value") => return Some(MetricType::Value),
        Some("Utilization") => (
            "'Utilization' metric type is unsupported for external metrics, allowed values are 'Value' or 'AverageValue'"
                .to_owned(),
            "write AverageValue, or remove metricType",
        ),
        Some(other) => (format!("{} is no metric type", quoted(other)), "write AverageValue or Value"),
    };
    report.problem(Step::BuildScalers, context.fields.path("metricType"), message, fix);
    None
}

/// Returns whether a text has the form `host:port`.
fn is_host_port(text: &str) -> bool {
    let is_name =
        |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_[]:".contains(c));
    text.rsplit_once(':').is_some_and(|(host, port)| is_name(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Replaces characters as KEDA does for the name of a trigger's metric.
fn normalized(name: &str) -> String {
    name.replace(['/', '.', ':', '%', '(', ')'], "-")
}

/// Reads match a metric's name in any case, so names that differ only in case are the same.
fn report_shared_metric_names(group: ApiGroup, object_name: &str, triggers: &[Trigger], report: &mut Diagnostics) {
    for (position, trigger) in triggers.iter().enumerate() {
        let name = &trigger.metric_name;
        if triggers[..position].iter().any(|earlier| earlier.metric_name.eq_ignore_ascii_case(name)) {
            let field = match group {
                ApiGroup::KedaSh | ApiGroup::Autoscaling => format!("spec.triggers[{}]", trigger.index),
                ApiGroup::KedaK8sIo => {
                    format!("spec.triggers[{}].metadata.metricName", trigger.index)
                }
            };
            report.problem(
                Step::BuildScalers,
                field,
                format!("metricName {name} defined multiple times in ScaledObject {object_name}"),
                "give each trigger its own metricName",
            );
        }
    }
}

/// Joins distinct names with commas, in order of first appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen.join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const REFERENCE: &str = include_str!("../../../k8s/triggers.md");
    const HEAD: &str = "| metadata | default | meaning |\n|---|---|---|\n";

    /// `k8s/triggers.md` has exactly one table for each type, with the same text.
    #[test]
    fn the_document_has_the_reference_of_every_type() {
        let mut tables = BTreeSet::new();
        for kind in SUPPORTED {
            let rows = kind.reference.iter().map(|row| {
                let names: Vec<String> = row.parameters.iter().map(|name| format!("`{name}`")).collect();
                format!("| {} | {} | {} |\n", names.join(", "), row.default, row.meaning)
            });
            let table = format!("{HEAD}{}\n", rows.collect::<String>());
            let before = REFERENCE.find(&table).map(|at| &REFERENCE[..at]);
            let heading = before.and_then(|text| text.rsplit("\n## ").next()?.lines().next());
            assert!(
                heading.is_some_and(|heading| heading.split([' ', ',']).any(|word| word == kind.name)),
                "k8s/triggers.md lacks, under a heading with {}:\n{table}",
                kind.name
            );
            tables.insert(table);
        }
        assert_eq!(REFERENCE.matches(HEAD).count(), tables.len(), "k8s/triggers.md has a table of no type");
    }

    #[test]
    fn a_type_that_is_served_is_one_that_keda_has() {
        for kind in SUPPORTED {
            assert!(catalog::is_known(kind.name), "{}", kind.name);
            assert!(catalog::instead_of(kind.name).is_empty(), "{} is served", kind.name);
        }
    }
}
