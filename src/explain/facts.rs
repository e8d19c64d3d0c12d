//! What the evidence says of one moment.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Metric;
use crate::scaling::model::{ApiGroup, Definition, MetricType};
use crate::scaling::recommend;
use crate::store::SampleValue;
use crate::store::evidence::{DecisionRow, DefinitionRow, Evidence, HpaRow, SeriesRow};

pub(super) struct Facts<'e> {
    pub(super) evidence: &'e Evidence,
    pub(super) namespace: &'e str,
    pub(super) name: &'e str,
}

fn newest<T>(rows: &[T], at: i64, time: impl Fn(&T) -> i64) -> Option<&T> {
    rows.iter().rev().find(|row| time(row) <= at)
}

impl<'e> Facts<'e> {
    pub(super) fn definition_row(&self, at: i64) -> Option<&'e DefinitionRow> {
        newest(&self.evidence.definitions, at, |row| row.from)
    }

    /// The definition in force, read as the daemon reads it; `None` when it is invalid.
    pub(super) fn definition(&self, at: i64) -> Option<Arc<Definition>> {
        let spec: Value = serde_json::from_str(&self.definition_row(at)?.spec_json).ok()?;
        let group =
            [ApiGroup::KedaSh, ApiGroup::KedaK8sIo].into_iter().find(|g| g.name() == self.evidence.api_group)?;
        let object = json!({ "metadata": { "namespace": self.namespace, "name": self.name }, "spec": spec });
        crate::wire::scaled_object::from_value(group, object).ok()?.object.definition.ok()
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
        let metrics = self.series_at(at).map(|series| {
            let sample = self.evidence.samples.get(&series.id).and_then(|list| newest(list, at, |(time, _)| *time));
            let value = sample.and_then(|(_, value)| match value {
                SampleValue::Number(number) => Some(*number),
                SampleValue::Outcome(_) => None,
            });
            let triggers = definition.iter().flat_map(|definition| &definition.triggers);
            let metric_type = triggers.filter(|trigger| *trigger.metric_name == *series.metric_name);
            let metric_type = metric_type.map(|trigger| trigger.metric_type).next().unwrap_or(MetricType::AverageValue);
            let behavior = definition.as_ref().and_then(|definition| definition.behavior.as_ref());
            let proposal =
                value.map(|value| recommend::proposal(metric_type, value, series.threshold, replicas, behavior));
            let error =
                self.evidence.errors.iter().rev().find(|error| {
                    error.series == series.id && error.from <= at && error.until.is_none_or(|end| end > at)
                });
            Metric {
                metric: series.metric_name.clone(),
                value,
                sample_age_ms: sample.map(|(time, _)| at - time),
                target: series.threshold,
                metric_type: metric_type.name(),
                activation_threshold: series.activation_threshold,
                proposal: proposal.map(|proposal| proposal.replicas),
                exact: proposal.map(|proposal| proposal.exact),
                error: error.map(|error| format!("{} {}", error.outcome, error.message).trim().to_owned()),
            }
        });
        metrics.collect()
    }
}

/// `s0-prometheus 500 / 75 per replica → 7`.
pub(super) fn metric_text(metric: &Metric) -> String {
    let Some(value) = metric.value else {
        let error = metric.error.as_deref().unwrap_or("no sample yet");
        return format!("{}: {error}", metric.metric);
    };
    let how = if metric.metric_type == "Value" { "in all" } else { "per replica" };
    let mut text = format!("{} {value} / {} {how} → {}", metric.metric, metric.target, metric.exact.unwrap_or(0));
    if metric.proposal != metric.exact {
        text.push_str(&format!(", within tolerance of {}", metric.proposal.unwrap_or(0)));
    }
    text
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
