//! Explains why replicas changed.

use super::claim::{Claim, sentence};
use super::facts::{Facts, condition, driver, resources};
use super::{Change, Entry, Held, Metric, MetricState};
use crate::logfmt::iso;
use crate::scaling::attribution::{Actor, Attribution};
use crate::scaling::model::Definition;
use crate::scaling::recommend::Limit;
use crate::store::read::ReplicaRow;
use crate::store::read::{CHANGE_SETTLES_MS, DecisionRow, HpaRow};

/// A change belongs to a decision at most this long before it.
const CARRY_OUT_MS: i64 = 300_000;

/// The first lists after a start have come within this time, so that a change which is seen later was seen live.
const START_MS: i64 = 30_000;

/// The HPA may have read the previous sample if the newest came this shortly before its write.
const READ_AHEAD_MS: i64 = 5_000;

pub(super) fn explain(facts: &Facts<'_>, row: &ReplicaRow) -> Entry {
    let from = row.from.unwrap_or(row.to);
    let by = Attribution::from_row(&row.actor, row.manager.as_deref());
    let mut limits = Vec::new();
    let mut reason = None;
    let mut driven_by = None;
    let mut metrics = facts.metrics_at(row.at, from);
    let mut claims = match row.from {
        None => vec![Claim::Seen { at: row.at, to: row.to }],
        Some(from) => vec![Claim::Moved { at: row.at, from, to: row.to, by: by.clone() }],
    };
    claims.extend(start_before(facts, row).map(|started| Claim::SeenAtStart { started, at: row.at }));
    claims.extend(unseen_since(facts, row).map(|since| Claim::Unseen { since, at: row.at }));
    let head = sentence(&claims, ", ");
    let mut parts = Vec::new();
    match by.actor {
        _ if row.from.is_none() => {}
        Actor::Hpa => {
            let cause = hpa(facts, row, from, &mut metrics);
            driven_by = cause.driven_by;
            limits = cause.limits;
            parts = cause.claims;
        }
        Actor::Hpalite => {
            let decision = decision_of(facts, row, from);
            reason = decision.map(|decision| decision.reason.clone());
            parts = hpalite(facts, row, decision);
        }
        Actor::Other => {}
    }
    let mut text = match (row.from, by.actor, &row.manager) {
        (Some(_), Actor::Other, Some(_)) => {
            format!("{head}, the field manager of spec.replicas: neither the HPA nor hpalite")
        }
        (Some(_), Actor::Other, None) => format!("{head}: neither hpalite nor the HPA is known to have wanted this"),
        _ => head,
    };
    if by.actor == Actor::Hpalite && row.from.is_some() && parts.is_empty() {
        text.push_str(": decision not recorded");
    }
    let why = sentence(&parts, "; ");
    if !why.is_empty() {
        text.push_str(&format!(": {why}"));
    }
    claims.extend(parts);
    Entry {
        at: iso(row.at),
        kind: "replicas",
        text,
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
        claims,
        time: row.at,
    }
}

/// Returns a start of hpalite between the previous change and this one, shortly before this one, if its first lists may have
/// shown this change.
fn start_before(facts: &Facts<'_>, row: &ReplicaRow) -> Option<i64> {
    let changes = &facts.evidence.changes;
    let before = changes[..changes.partition_point(|other| other.at < row.at)].last()?;
    facts.spend(facts.evidence.runs.len());
    let started = facts.evidence.runs.iter().map(|run| run.started_at);
    let started =
        started.filter(|started| *started > before.at && *started <= row.at && row.at - started <= START_MS).max()?;
    // Nothing is decided or polled before the target was seen. An HPA that is only observed shows its values before that.
    let is_observed = facts.definition(row.at).is_some_and(Definition::is_observed);
    let sample = facts.evidence.series.iter().filter_map(|one| facts.newest_sample(one.id, row.at - 1));
    let polled = sample.map(|(at, _)| *at).max().filter(|_| !is_observed);
    let decided = facts.decision(row.at - 1).map(|decision| decision.at);
    polled.max(decided).is_none_or(|live| live <= started).then_some(started)
}

/// Returns since when the change may have happened unseen: not before the previous one, which was seen.
fn unseen_since(facts: &Facts<'_>, row: &ReplicaRow) -> Option<i64> {
    let since = row.unseen_since?;
    let changes = &facts.evidence.changes;
    let before = changes[..changes.partition_point(|other| other.at < row.at)].last();
    Some(before.map_or(since, |before| before.at.max(since)))
}

struct Cause {
    claims: Vec<Claim>,
    limits: Vec<Held>,
    driven_by: Option<String>,
}

fn hpa(facts: &Facts<'_>, row: &ReplicaRow, from: u32, metrics: &mut Vec<Metric>) -> Cause {
    let reported = after_change(facts, row);
    facts.spend_on(reported);
    let by_itself = reported.filter(|_| row.to == 0).and_then(|reported| to_zero(reported, "its minReplicas is 0"));
    let Some(definition) = facts.definition(row.at) else {
        return Cause { claims: by_itself.into_iter().collect(), limits: Vec::new(), driven_by: None };
    };
    let limit = reported.and_then(|reported| limit(reported, definition, row, from));
    if definition.is_observed() {
        let by_itself = by_itself.into_iter().collect();
        return shown(facts, row, from, Shown { reported, limit, by_itself }, metrics);
    }
    let mut at = row.at;
    if !explains(metrics, definition, row, from)
        && let Some(before) = sample_before(facts, row.at)
    {
        let earlier = facts.metrics_at(before, from);
        if explains(&earlier, definition, row, from) {
            (at, *metrics) = (before, earlier);
        }
    }
    let own_resources = resources(definition, reported);
    let min = definition.min().max(1);
    // Above the minimum, the count cannot exceed what the driving metric asks for.
    let is_beyond = |metric: &Metric| row.to > from.max(min) && metric.exact < Some(row.to);
    let driving = driver(metrics).filter(|metric| own_resources.is_none() || !is_beyond(metric));
    let mut claims: Vec<Claim> = Vec::new();
    claims.extend(driving.map(|metric| Claim::MetricValue { at, replicas: from, metric: metric.clone() }));
    if driving.is_none() {
        claims.extend(own_resources.map(Claim::Resources));
    }
    // Metrics whose missing number counts as 0 allowed the scale-in.
    let others = metrics.iter().filter(|one| driving.is_none_or(|driving| driving.metric != one.metric));
    for metric in others.filter(|_| row.to < from) {
        if let MetricState::Absent { since, answer, .. } = &metric.reading {
            let (metric, since, answer) = (metric.metric.clone(), *since, answer.clone());
            claims.push(Claim::Absent { metric, at, since, answer });
        }
    }
    claims.extend(by_itself);
    let mut limits = Vec::new();
    if let Some((by, allows, claim)) = limit {
        limits.push(Held::new(by.id(), vec![claim.clone()]).allowing(allows));
        claims.push(claim);
    } else if row.to < from && driving.is_some() {
        let claim = last_higher(facts, row, driving.and_then(|metric| metric.exact));
        limits.push(Held::new(Limit::Stabilization.id(), vec![claim.clone()]).allowing(row.to));
        claims.push(claim);
    }
    let sample = driving.filter(|metric| metric.reading == MetricState::Number).and_then(|metric| {
        let sample_at = at - metric.sample_age_ms?;
        Some(Claim::After { metric: metric.metric.clone(), sample_at, at: row.at })
    });
    claims.extend(sample);
    Cause { claims, limits, driven_by: driving.map(|metric| metric.metric.clone()) }
}

/// What is known of a change of an HPA that is only observed.
struct Shown<'a> {
    reported: Option<&'a HpaRow>,
    limit: Option<(Limit, u32, Claim)>,
    by_itself: Vec<Claim>,
}

/// Explains a change from what the HPA showed right after it: it scales first, and writes its status then.
fn shown(facts: &Facts<'_>, row: &ReplicaRow, from: u32, known: Shown<'_>, metrics: &mut Vec<Metric>) -> Cause {
    let Shown { reported, limit, by_itself: mut claims } = known;
    let at = reported.map_or(row.at, |reported| reported.at.max(row.at));
    *metrics = facts.metrics_at(at, from);
    // Outside of its bounds it does not look at metrics. From Kubernetes 1.37 on it acts on an edit at once, so that the change
    // may be seen before the edit that caused it.
    let definitions = [row.at, row.at + CHANGE_SETTLES_MS].into_iter().filter_map(|at| facts.definition(at));
    let bound = definitions.map(|one| (one.min(), one.max_replicas)).find_map(|(min, max)| match row.to {
        to if from < min && to == min => Some((Limit::Min, Claim::AtMin(min))),
        to if from > max && to == max => Some((Limit::Max, Claim::AtMax(max))),
        _ => None,
    });
    let driving = driver(metrics).filter(|_| bound.is_none() && claims.is_empty() && reported.is_some());
    claims.extend(driving.map(|metric| Claim::MetricValue { at, replicas: from, metric: metric.clone() }));
    let limit = limit.filter(|_| bound.is_none()).map(|(by, _, claim)| (by, claim));
    let mut limits = Vec::new();
    for (by, claim) in bound.into_iter().chain(limit) {
        limits.push(Held::new(by.id(), vec![claim.clone()]).allowing(row.to));
        claims.push(claim);
    }
    Cause { driven_by: driving.map(|metric| metric.metric.clone()), claims, limits }
}

/// Returns whether the driving metric asks for this change, within the bounds.
fn explains(metrics: &[Metric], definition: &Definition, row: &ReplicaRow, from: u32) -> bool {
    let min = definition.min().max(1);
    let asked = driver(metrics).and_then(|metric| metric.exact);
    let wanted = asked.map(|asked| asked.clamp(min, definition.max_replicas.max(min)));
    wanted.is_some_and(|wanted| if row.to > from { wanted >= row.to } else { wanted <= row.to })
}

/// Returns the moment before the newest sample, if that came shortly before.
fn sample_before(facts: &Facts<'_>, at: i64) -> Option<i64> {
    let newest = facts.series_at(at).filter_map(|series| Some(facts.samples_until(series.id, at).next()?.0)).max()?;
    (at - newest <= READ_AHEAD_MS).then_some(newest - 1)
}

/// Explains a scale-in that no condition of the HPA explains, from the samples.
fn last_higher(facts: &Facts<'_>, row: &ReplicaRow, asked_now: Option<u32>) -> Claim {
    let (to, at) = (row.to, row.at);
    // The metric asks for less now, so this count was asked for within the stabilization window.
    if asked_now.is_some_and(|asked| asked < to)
        && let (Some(asked), _) = facts.last_asked_for(at, to)
        && asked.replicas == to
    {
        return Claim::Highest { metric: asked.metric, sample_at: asked.at, to, at };
    }
    match facts.last_asked_for(at, to.saturating_add(1)) {
        (Some(asked), _) => {
            Claim::LastHigher { metric: asked.metric, sample_at: asked.at, asked: asked.replicas, to, at }
        }
        (None, since) => Claim::NoneHigher { since, to, at },
    }
}

fn hpalite(facts: &Facts<'_>, row: &ReplicaRow, decision: Option<&DecisionRow>) -> Vec<Claim> {
    let Some(decision) = decision else { return Vec::new() };
    let triggers = facts.triggers_of(decision);
    // The metrics without a number follow as claims of their own, with their time.
    let mut detail = decision.detail.clone();
    for trigger in &*triggers {
        if let Some(answer) = &trigger.absence {
            detail = detail.replace(&format!("; {} has {answer}", trigger.metric), "");
        }
    }
    let mut claims = vec![Claim::Decided { at: decision.at, detail, pause: decision.pause.clone() }];
    // During a full pause the metrics do not matter.
    if decision.pause.as_deref().is_some_and(is_full) {
        return claims;
    }
    for trigger in &*triggers {
        let metric = trigger.metric.clone();
        let Some(series) = facts.series_at(decision.at).find(|series| series.metric_name == metric) else { continue };
        if let (Some(since), Some(answer)) = (trigger.absent_since, trigger.absence.clone()) {
            claims.push(Claim::Absent { metric, at: decision.at, since, answer });
        } else if let Some(value) = trigger.value {
            let activation = series.activation_threshold;
            claims.push(Claim::Compared { decision_at: decision.at, metric, value, activation });
        }
    }
    if let Some(until) = decision.cooldown_until.filter(|until| *until <= row.at) {
        // For an object that was never active, the initial cooldown applies instead.
        let periods = facts.definition(decision.at).map(|one| (one.cooldown_period, one.initial_cooldown_period));
        let seconds = periods.filter(|(_, initial)| initial.is_zero()).map(|(period, _)| period.as_secs());
        claims.push(Claim::CooldownOver { decision_at: decision.at, until, seconds, at: row.at });
    }
    claims
}

/// Returns what the HPA says of having scaled to zero, if it has.
pub(super) fn to_zero(row: &HpaRow, words: &str) -> Option<Claim> {
    let kind = "ScaledToZero";
    let (status, reason, _) = condition(row, kind).filter(|(status, ..)| status == "True")?;
    Some(Claim::HpaCondition { at: row.at, kind, status, reason, words: words.to_owned() })
}

/// Returns whether these annotations make a full pause.
pub(super) fn is_full(pause: &str) -> bool {
    pause.split(',').any(|name| name == "paused" || name.starts_with("paused-replicas"))
}

/// Returns the HPA's status right after it had made this change.
fn after_change<'a>(facts: &'a Facts<'_>, row: &ReplicaRow) -> Option<&'a HpaRow> {
    let rows = &facts.evidence.hpa;
    let first = rows.partition_point(|seen| seen.at < row.at - CHANGE_SETTLES_MS);
    let mut near = rows[first..].iter().take_while(|seen| seen.at <= row.at + CHANGE_SETTLES_MS);
    near.find(|seen| seen.desired == i64::from(row.to))
}

/// Returns the decision that this change carried out.
fn decision_of<'a>(facts: &'a Facts<'_>, row: &ReplicaRow, from: u32) -> Option<&'a DecisionRow> {
    let rows = &facts.evidence.decisions;
    let end = rows.partition_point(|decision| decision.at <= row.at);
    let mut recent = rows[..end].iter().rev().take_while(|decision| decision.at >= row.at - CARRY_OUT_MS);
    recent.find(|decision| decision.to == row.to && decision.from == from)
}

/// Returns what limited a change by the HPA, from its own condition at that time.
fn limit(reported: &HpaRow, definition: &Definition, row: &ReplicaRow, from: u32) -> Option<(Limit, u32, Claim)> {
    let (status, reason, _) = condition(reported, "ScalingLimited").filter(|(status, ..)| status == "True")?;
    let min = definition.min().max(1);
    let (limit, words) = match reason.as_str() {
        "TooManyReplicas" if row.to == definition.max_replicas => {
            (Limit::Max, format!("limited by maxReplicaCount {}", row.to))
        }
        "TooManyReplicas" => (Limit::Max, "limited by its maximum".to_owned()),
        "TooFewReplicas" if row.to == min => (Limit::Min, format!("limited by the minimum {min}")),
        "TooFewReplicas" => (Limit::Min, "limited by its minimum".to_owned()),
        "ScaleUpLimit" if row.to > from => {
            (Limit::ScaleUpPolicy, format!("limited by the scale-up policy to +{}", row.to - from))
        }
        "ScaleDownLimit" if row.to < from => {
            (Limit::ScaleDownPolicy, format!("limited by the scale-down policy to -{}", from - row.to))
        }
        _ => return None,
    };
    Some((limit, row.to, Claim::HpaCondition { at: reported.at, kind: "ScalingLimited", status, reason, words }))
}
