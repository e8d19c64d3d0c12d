//! What the evidence says of one moment.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Metric;
use crate::scaling::composite;
use crate::scaling::hpa::MetricTarget;
use crate::scaling::model::{ApiGroup, Definition, MetricType};
use crate::scaling::quantity;
use crate::scaling::recommend::{self, Proposal};
use crate::store::SampleValue;
use crate::store::evidence::{DecisionRow, Evidence, HpaRow};
use crate::store::past::{DefinitionRow, SeriesRow};

pub(super) struct Facts<'e> {
    pub(super) evidence: &'e Evidence,
    /// Of the rows with the same index; `None` for an invalid one. Read once: many moments ask for them.
    definitions: Vec<Option<Arc<Definition>>>,
}

/// Rows are oldest first.
fn newest<T>(rows: &[T], at: i64, time: impl Fn(&T) -> i64) -> Option<&T> {
    rows[..rows.partition_point(|row| time(row) <= at)].last()
}

impl<'e> Facts<'e> {
    pub(super) fn new(evidence: &'e Evidence, namespace: &str, name: &str) -> Self {
        let definitions = evidence.definitions.iter().map(|row| definition(&evidence.api_group, namespace, name, row));
        Self { evidence, definitions: definitions.collect() }
    }

    pub(super) fn definition_row(&self, at: i64) -> Option<&'e DefinitionRow> {
        newest(&self.evidence.definitions, at, |row| row.at)
    }

    /// The definition in force; `None` when it is invalid.
    pub(super) fn definition(&self, at: i64) -> Option<&Definition> {
        let index = self.evidence.definitions.iter().rposition(|row| row.at <= at)?;
        self.definitions[index].as_deref()
    }

    pub(super) fn decision(&self, at: i64) -> Option<&'e DecisionRow> {
        newest(&self.evidence.decisions, at, |row| row.at)
    }

    pub(super) fn hpa(&self, at: i64) -> Option<&'e HpaRow> {
        newest(&self.evidence.hpa, at, |row| row.at)
    }

    pub(super) fn replicas_at(&self, at: i64) -> Option<u32> {
        newest(&self.evidence.changes, at, |row| row.at).map(|row| row.to)
    }

    pub(super) fn series_at(&self, at: i64) -> impl Iterator<Item = &'e SeriesRow> {
        self.evidence.series.iter().filter(move |one| one.from <= at && one.until.is_none_or(|end| end > at))
    }

    /// What each metric said while `replicas` ran.
    pub(super) fn metrics_at(&self, at: i64, replicas: u32) -> Vec<Metric> {
        let definition = self.definition(at);
        let metrics =
            self.series_at(at).map(|series| {
                let sample = self.evidence.samples.get(&series.id).and_then(|list| newest(list, at, |(time, _)| *time));
                let value = sample.and_then(|(_, value)| match value {
                    SampleValue::Number(number) => Some(*number),
                    SampleValue::Outcome(_) => None,
                });
                let proposal = definition.zip(value).and_then(|(one, value)| asks(one, series, value, replicas));
                let error =
                    self.evidence.errors.iter().rev().find(|(of, error)| {
                        *of == series.id && error.from <= at && error.until.is_none_or(|end| end > at)
                    });
                Metric {
                    metric: series.metric_name.clone(),
                    value,
                    sample_age_ms: sample.map(|(time, _)| at - time),
                    target: series.threshold,
                    metric_type: definition.and_then(|one| metric_type_of(one, series)).map(MetricType::name),
                    activation_threshold: series.activation_threshold,
                    proposal: proposal.map(|proposal| proposal.replicas),
                    exact: proposal.map(|proposal| proposal.exact),
                    error: error.map(|(_, error)| format!("{} {}", error.outcome, error.message).trim().to_owned()),
                }
            });
        metrics.collect()
    }
}

/// As the daemon reads it.
fn definition(api_group: &str, namespace: &str, name: &str, row: &DefinitionRow) -> Option<Arc<Definition>> {
    let spec: Value = serde_json::from_str(&row.spec_json).ok()?;
    let group = [ApiGroup::KedaSh, ApiGroup::KedaK8sIo].into_iter().find(|group| group.name() == api_group)?;
    let object = json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec });
    crate::wire::scaled_object::from_value(group, object).ok()?.object.definition.ok()
}

/// Type of a series' metric, where the HPA knows it: beside a formula it knows the result alone.
fn metric_type_of(definition: &Definition, series: &SeriesRow) -> Option<MetricType> {
    match &definition.modifiers {
        Some(modifiers) => (series.metric_name == composite::NAME).then_some(modifiers.metric_type),
        None => {
            let trigger = definition.triggers.iter().find(|trigger| *trigger.metric_name == *series.metric_name);
            trigger.map(|trigger| trigger.metric_type)
        }
    }
}

/// What the HPA makes of a value of the series while `replicas` run; `None` when it never sees it.
pub(super) fn asks(definition: &Definition, series: &SeriesRow, value: f64, replicas: u32) -> Option<Proposal> {
    let behavior = definition.behavior.as_ref();
    let metric_type = metric_type_of(definition, series)?;
    Some(recommend::proposal(metric_type, value, series.threshold, replicas, behavior))
}

/// `s0-prometheus 500 / 75 per replica → 7`.
pub(super) fn metric_text(metric: &Metric) -> String {
    let Some(value) = metric.value else {
        let error = metric.error.as_deref().unwrap_or("no sample yet");
        return format!("{}: {error}", metric.metric);
    };
    let Some(exact) = metric.exact else {
        return format!("{} {value}, which the HPA does not see", metric.metric);
    };
    let how = if metric.metric_type == Some("Value") { "in all" } else { "per replica" };
    let mut text = format!("{} {value} / {} {how} → {exact}", metric.metric, metric.target);
    if metric.proposal != metric.exact {
        text.push_str(&format!(", within tolerance of {}", metric.proposal.unwrap_or(0)));
    }
    text
}

/// `cpu 85 % / 60 %, memory`: what the HPA reads without us, with what it read where it says so.
pub(super) fn resources(definition: &Definition, said: Option<&HpaRow>) -> Option<String> {
    if definition.resource_triggers.is_empty() {
        return None;
    }
    let current: Vec<Value> = said.and_then(|row| serde_json::from_str(&row.metrics_json).ok()).unwrap_or_default();
    let told: Vec<String> = definition
        .resource_triggers
        .iter()
        .map(|trigger| {
            let source = if trigger.container.is_some() { "containerResource" } else { "resource" };
            let read = current.iter().map(|metric| &metric[source]).find(|found| {
                found["name"] == *trigger.kind && found["container"].as_str() == trigger.container.as_deref()
            });
            let name = match &trigger.container {
                Some(container) => format!("{} of container {container}", trigger.kind),
                None => trigger.kind.clone(),
            };
            let text = |found: &Value, target: &MetricTarget| match target {
                MetricTarget::Utilization(target) => {
                    Some(format!("{name} {} % / {target} %", found["current"]["averageUtilization"].as_i64()?))
                }
                MetricTarget::AverageValue(target) => {
                    let read = found["current"]["averageValue"].as_str()?;
                    Some(format!("{name} {read} / {} per pod", amount(*target)))
                }
                MetricTarget::Value(_) => None,
            };
            read.and_then(|found| text(found, &trigger.target)).unwrap_or(name)
        })
        .collect();
    Some(told.join(", "))
}

/// A quantity in thousandths, as people write it: memory in binary units where those are whole.
fn amount(milli: i128) -> String {
    let units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let whole = units.iter().find(|(_, unit)| milli != 0 && milli % (unit * 1000) == 0);
    whole.map_or_else(|| quantity::text(milli), |(name, unit)| format!("{}{name}", milli / (unit * 1000)))
}

/// The metric that asks for most.
pub(super) fn driver(metrics: &[Metric]) -> Option<&Metric> {
    metrics.iter().filter(|metric| metric.proposal.is_some()).max_by_key(|metric| metric.proposal)
}

/// Status, reason and message of a condition of the HPA.
pub(super) fn condition(row: &HpaRow, kind: &str) -> Option<(String, String, String)> {
    let conditions: Vec<Value> = serde_json::from_str(&row.conditions_json).ok()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}
