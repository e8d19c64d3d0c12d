//! Why replicas changed.

use super::facts::{Facts, condition, driver, metric_text, resources};
use super::{Change, Entry, Held, Metric, when};
use crate::logfmt::iso;
use crate::scaling::recommend::{self, Limit};
use crate::store::evidence::{CHANGE_SETTLES_MS, DecisionRow, HpaRow};
use crate::store::past::ReplicaRow;

/// A decision belongs to a change so long after it.
const CARRY_OUT_MS: i64 = 300_000;

pub(super) fn explain(facts: &Facts<'_>, row: &ReplicaRow) -> Entry {
    let from = row.from.unwrap_or(row.to);
    let metrics = facts.metrics_at(row.at, from);
    let mut limits = Vec::new();
    let mut reason = None;
    let mut driven_by = None;
    let inferred = if row.source == "inferred" { " (inferred)" } else { "" };
    let why = match row.actor.as_str() {
        _ if row.from.is_none() => "first seen".to_owned(),
        "hpa" => {
            let definition = facts.definition(row.at);
            let said = after_change(facts, row);
            limits = limits_of(facts, row, from, said);
            let resources = definition.and_then(|definition| resources(definition, said));
            let min = definition.map_or(1, |definition| definition.min().max(1));
            // Above the minimum, the count goes no higher than what the driving metric asks for.
            let is_beyond = |metric: &Metric| row.to > from.max(min) && metric.proposal < Some(row.to);
            let driving = driver(&metrics).filter(|metric| resources.is_none() || !is_beyond(metric));
            driven_by = driving.map(|metric| metric.metric.clone());
            let unseen = || resources.as_ref().map(|kinds| format!("for {kinds}, which it reads itself"));
            let mut parts: Vec<String> = driving.map(metric_text).or_else(unseen).into_iter().collect();
            parts.extend(limits.iter().map(|limit| limit.text.clone()));
            if let Some(age) = driving.and_then(|metric| metric.sample_age_ms) {
                parts.push(format!("{:.1} s after the sample", age as f64 / 1000.0));
            }
            format!("by the HPA{inferred}: {}", parts.join("; "))
        }
        "hpalite" => {
            let decision = decision_of(facts, row, from);
            reason = decision.map(|decision| decision.reason.clone());
            let mut text = decision.map_or("decision not recorded".to_owned(), |decision| decision.detail.clone());
            if let Some(pause) = decision.and_then(|decision| decision.pause.as_deref()) {
                text.push_str(&format!(" ({pause})"));
            }
            let values = metrics.iter().filter_map(|metric| {
                let value = metric.value?;
                let compared = if value > metric.activation_threshold { ">" } else { "≤" };
                Some(format!(
                    "{} {value} {compared} activation threshold {}",
                    metric.metric, metric.activation_threshold
                ))
            });
            let values: Vec<String> = values.collect();
            if !values.is_empty() {
                text.push_str(&format!("; {}", values.join(", ")));
            }
            if let Some(until) = decision.and_then(|decision| decision.cooldown_until).filter(|until| *until <= row.at)
            {
                let period = facts.definition(row.at).map(|definition| definition.cooldown_period.as_secs());
                let period = period.map_or(String::new(), |seconds| format!(" of {seconds} s"));
                text.push_str(&format!("; cooldown{period} over since {}", when::short(until, row.at)));
            }
            format!("by hpalite{inferred}: {text}")
        }
        _ => match &row.manager {
            Some(manager) => format!("by {manager}, the field manager of spec.replicas: neither the HPA nor hpalite"),
            None => "by someone else (inferred: neither hpalite nor the HPA wanted this)".to_owned(),
        },
    };
    let arrow = row.from.map_or(row.to.to_string(), |from| format!("{from}→{}", row.to));
    Entry {
        at: iso(row.at),
        kind: "replicas",
        text: format!("{arrow} {why}"),
        change: Some(Change {
            from: row.from,
            to: row.to,
            by: row.actor.clone(),
            source: row.source.clone(),
            manager: row.manager.clone(),
            reason,
            metrics,
            driven_by,
            limits,
        }),
        held: None,
        time: row.at,
    }
}

/// What the HPA said when it had made this change.
fn after_change<'a>(facts: &'a Facts<'_>, row: &ReplicaRow) -> Option<&'a HpaRow> {
    let rows = &facts.evidence.hpa;
    let first = rows.partition_point(|seen| seen.at < row.at - CHANGE_SETTLES_MS);
    let mut near = rows[first..].iter().take_while(|seen| seen.at <= row.at + CHANGE_SETTLES_MS);
    near.find(|seen| seen.desired == i64::from(row.to))
}

/// The decision that this change carried out.
fn decision_of<'a>(facts: &'a Facts<'_>, row: &ReplicaRow, from: u32) -> Option<&'a DecisionRow> {
    let rows = &facts.evidence.decisions;
    let end = rows.partition_point(|decision| decision.at <= row.at);
    let mut recent = rows[..end].iter().rev().take_while(|decision| decision.at >= row.at - CARRY_OUT_MS);
    recent.find(|decision| decision.to_replicas == row.to && decision.from_replicas == from)
}

/// What shaped a change of the HPA: as its own conditions of that time say, with our numbers.
fn limits_of(facts: &Facts<'_>, row: &ReplicaRow, from: u32, after: Option<&HpaRow>) -> Vec<Held> {
    let Some(definition) = facts.definition(row.at) else { return Vec::new() };
    let up = row.to > from;
    let limited = after.and_then(|seen| condition(seen, "ScalingLimited")).filter(|(status, ..)| status == "True");
    let behavior = definition.behavior.as_ref();
    let moved = |seconds: i32| {
        let since = row.at - i64::from(seconds) * 1000;
        let earlier = facts.evidence.changes.iter().filter(|c| c.actor == "hpa" && c.at > since && c.at < row.at);
        let steps = earlier.filter_map(|c| Some((c.from?, c.to)));
        steps.map(|(a, b)| if up { b.saturating_sub(a) } else { a.saturating_sub(b) }).sum()
    };
    let (policy, _) = recommend::policy_limit(behavior, up, from, moved);
    let held = |by: Limit, allows: u32, text: String| Held {
        by: by.id().to_owned(),
        allows: Some(allows),
        seconds_left: None,
        since: None,
        text,
    };
    match limited.as_ref().map(|(_, reason, _)| reason.as_str()) {
        Some("TooManyReplicas") => {
            vec![held(
                Limit::Max,
                definition.max_replicas,
                format!("limited by maxReplicaCount {}", definition.max_replicas),
            )]
        }
        Some("TooFewReplicas") => {
            let min = definition.min().max(1);
            vec![held(Limit::Min, min, format!("limited by the minimum {min}"))]
        }
        Some("ScaleUpLimit") => {
            vec![held(
                Limit::ScaleUpPolicy,
                row.to,
                format!("limited by the scale-up policy to +{}", row.to - from.min(row.to)),
            )]
        }
        Some("ScaleDownLimit") => {
            let text = format!("limited by the scale-down policy to -{}", from.saturating_sub(row.to));
            vec![held(Limit::ScaleDownPolicy, row.to, text)]
        }
        _ if up => vec![held(
            Limit::ScaleUpPolicy,
            policy,
            format!("scale-up policy allowed +{}", policy.saturating_sub(from)),
        )],
        _ => {
            let window = recommend::stabilization_seconds(behavior, false);
            vec![held(Limit::Stabilization, row.to, format!("no higher recommendation within the last {window} s"))]
        }
    }
}
