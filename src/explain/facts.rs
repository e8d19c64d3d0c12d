//! Derives from the evidence what was known at a moment.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::{Metric, MetricState, time_text};
use crate::scaling::composite;
use crate::scaling::event::Absence;
use crate::scaling::model::MetricTarget;
use crate::scaling::model::{Definition, FallbackBehavior, MetricType, ShownUnit, Source, Trigger, UnixMillis};
use crate::scaling::quantity;
use crate::scaling::recommend::{self, Proposal};
use crate::store::SampleValue;
use crate::store::read::{DecidedRow, DecisionRow, Evidence, HpaRow};
use crate::store::read::{DefinitionRow, ErrorRow, NEWEST_WITHIN_MS, SeriesRow};
use crate::wire::scaled_object;

struct ParsedTriggers {
    decision: *const DecisionRow,
    triggers: Rc<Vec<DecidedRow>>,
}

pub(super) struct Facts<'e> {
    pub(super) evidence: &'e Evidence,
    /// Parsed from the rows with the same index; `None` for an invalid one. Cached, because many moments need them.
    definitions: Vec<Option<Arc<Definition>>>,
    /// The triggers of the decision that was looked at last.
    triggers: RefCell<Option<ParsedTriggers>>,
    /// What may still be done, in steps of a few nanoseconds. Once it is spent, lists end early and nothing follows from them.
    effort: Cell<u64>,
}

/// Returns the newest row until a moment; rows are oldest first.
pub(super) fn newest<T>(rows: &[T], at: i64, time: impl Fn(&T) -> i64) -> Option<&T> {
    rows[..rows.partition_point(|row| time(row) <= at)].last()
}

impl<'e> Facts<'e> {
    pub(super) fn new(evidence: &'e Evidence, namespace: &str, name: &str, effort: u64) -> Self {
        let read = |row: &DefinitionRow| scaled_object::recorded(evidence.group?, namespace, name, &row.spec_json);
        let definitions = evidence.definitions.iter().map(read).collect();
        Self { evidence, definitions, triggers: RefCell::default(), effort: Cell::new(effort) }
    }

    pub(super) fn spend(&self, steps: usize) {
        self.effort.set(self.effort.get().saturating_sub(u64::try_from(steps).unwrap_or(u64::MAX)));
    }

    pub(super) fn is_spent(&self) -> bool {
        self.effort.get() == 0
    }

    pub(super) fn effort_left(&self) -> u64 {
        self.effort.get()
    }

    /// Counts the work of reading an HPA's status a few times.
    pub(super) fn spend_on(&self, row: Option<&HpaRow>) {
        self.spend(row.map_or(0, |row| 8 * (row.conditions_json.len() + row.metrics_json.len())));
    }

    /// Returns what a decision has of each trigger.
    pub(super) fn triggers_of(&self, row: &DecisionRow) -> Rc<Vec<DecidedRow>> {
        let decision = std::ptr::from_ref(row);
        if let Some(parsed) = &*self.triggers.borrow()
            && parsed.decision == decision
        {
            return Rc::clone(&parsed.triggers);
        }
        self.spend(row.triggers_json.len());
        let triggers = Rc::new(row.triggers());
        *self.triggers.borrow_mut() = Some(ParsedTriggers { decision, triggers: Rc::clone(&triggers) });
        triggers
    }

    pub(super) fn definition_row(&self, at: i64) -> Option<&'e DefinitionRow> {
        newest(&self.evidence.definitions, at, |row| row.at)
    }

    /// Returns the definition in force, or `None` if it is invalid.
    pub(super) fn definition(&self, at: i64) -> Option<&Definition> {
        let until = self.evidence.definitions.partition_point(|row| row.at <= at);
        self.definitions[until.checked_sub(1)?].as_deref()
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
        self.spend(self.evidence.series.len());
        self.evidence.series.iter().filter(move |one| one.from <= at && one.until.is_none_or(|end| end > at))
    }

    /// Returns the beginning of the span that was read around this moment.
    pub(super) fn read_since(&self, at: i64) -> i64 {
        let spans = &self.evidence.spans;
        spans.iter().rfind(|span| span.from <= at).map_or(i64::MIN, |span| span.from)
    }

    /// Returns the samples of a series until a moment, newest first, back to the beginning of the span.
    pub(super) fn samples_until(&self, series: i64, at: i64) -> impl Iterator<Item = &'e (i64, SampleValue)> {
        let since = self.read_since(at);
        let list = self.evidence.samples.get(&series).map_or(&[][..], Vec::as_slice);
        let until = list[..list.partition_point(|(time, _)| *time <= at)].iter().rev();
        until.inspect(|_| self.spend(10)).take_while(move |(time, _)| *time >= since && !self.is_spent())
    }

    /// Returns the newest sample of a series until a moment, which may be from before the span.
    pub(super) fn newest_sample(&self, series: i64, at: i64) -> Option<&'e (i64, SampleValue)> {
        self.spend(10);
        let oldest = self.read_since(at).saturating_sub(NEWEST_WITHIN_MS);
        let list = self.evidence.samples.get(&series).filter(|_| !self.is_spent())?;
        newest(list, at, |(time, _)| *time).filter(|(time, _)| *time >= oldest)
    }

    /// Returns each metric's state while there were `replicas`.
    pub(super) fn metrics_at(&self, at: i64, replicas: u32) -> Vec<Metric> {
        let series = self.series_at(at).take_while(|_| !self.is_spent());
        series.map(|series| self.metric_at(series, at, replicas)).collect()
    }

    fn metric_at(&self, series: &SeriesRow, at: i64, replicas: u32) -> Metric {
        self.spend(200);
        let definition = self.definition(at);
        let sample = self.newest_sample(series.id, at);
        let reading = self.reading(series, sample, at);
        let value = match (&reading, sample) {
            (MetricState::Number, Some((_, SampleValue::Number(number)))) => Some(*number),
            (MetricState::Absent { value, .. } | MetricState::Fallback { value, .. }, _) => *value,
            _ => None,
        };
        // What an HPA shows was measured with the replicas that it shows.
        let shown = definition.filter(|one| one.is_observed()).and_then(|_| self.hpa(at));
        let replicas = shown.and_then(|row| u32::try_from(row.current).ok()).unwrap_or(replicas);
        let proposal = definition.zip(value).and_then(|(one, value)| asks(one, series, value, replicas));
        let mut metric = Metric {
            metric: series.metric_name.clone(),
            value,
            sample_age_ms: sample.map(|(time, _)| at - time),
            target: series.threshold,
            metric_type: definition.and_then(|one| type_name_of(one, series)),
            activation_threshold: series.activation_threshold,
            proposal: proposal.map(|proposal| proposal.replicas),
            exact: proposal.map(|proposal| proposal.exact),
            error: None,
            note: None,
            reading,
        };
        match &metric.reading {
            MetricState::Failed { outcome, message, .. } | MetricState::Fallback { outcome, message, .. } => {
                metric.error = Some(format!("{outcome} {message}").trim().to_owned());
            }
            MetricState::Number | MetricState::Absent { .. } | MetricState::None { .. } => {}
        }
        if metric.reading != MetricState::Number {
            let text = metric_text(&metric, at);
            metric.note = text.strip_prefix(&format!("{}: ", metric.metric)).map(str::to_owned).or(Some(text));
        }
        metric
    }

    /// What the newest sample counts as.
    fn reading(&self, series: &SeriesRow, sample: Option<&(i64, SampleValue)>, at: i64) -> MetricState {
        let decided = self.decided(&series.metric_name, at);
        let Some((sample_at, value)) = sample else {
            let since = self.read_since(at).max(series.from);
            return MetricState::None { since, ever: series.from < since };
        };
        let is_in_force = |error: &ErrorRow| error.from <= at && error.until.is_none_or(|end| end > at);
        let errors = self.evidence.errors.iter().rev().inspect(|_| self.spend(1)).filter(|(of, _)| *of == series.id);
        let error = errors.map(|(_, error)| error).find(|error| is_in_force(error));
        let falls_back = decided.as_ref().is_some_and(|one| one.fallback);
        let message = error.map_or(String::new(), |error| error.message.clone());
        let outcome = match value {
            SampleValue::Outcome(outcome) => outcome.to_string(),
            // A formula's result from a fallback is a number too.
            SampleValue::Number(_) if falls_back => String::new(),
            SampleValue::Number(_) => return MetricState::Number,
        };
        if falls_back {
            let value = decided.and_then(|one| one.value);
            let fallback = self.definition(at).and_then(|definition| definition.fallback.as_ref());
            return MetricState::Fallback {
                value,
                replicas: fallback.filter(|one| one.behavior == FallbackBehavior::Static).map(|one| one.replicas),
                since: error.map(|error| error.from),
                failures: error.and_then(|error| self.polls_until(series.id, error, at)),
                outcome,
                message,
            };
        }
        if let Some(error) = error {
            return MetricState::Failed { since: error.from, outcome, message };
        }
        let trigger = self.definition(at).and_then(|one| trigger_of(one, series));
        let policy = trigger.map(|trigger| trigger.on_missing.clone());
        let absence = policy.and_then(|policy| Absence::of(&outcome, policy, UnixMillis(*sample_at)));
        let Some(absence) = absence else {
            // Of a kind that is no error, and that no policy of ours explains.
            return MetricState::Failed { since: *sample_at, outcome, message };
        };
        let (answer, is_zero) = (absence.to_string(), absence.policy.is_zero());
        // The decision that noticed the absence has its beginning; otherwise the samples show it, as far back as they
        // were read.
        let noticed = decided.filter(|one| one.absence.as_ref() == Some(&answer)).and_then(|one| one.absent_since);
        let run = self.samples_until(series.id, at).take_while(|(_, other)| other == value);
        let since = run.last().map_or(*sample_at, |(time, _)| *time);
        let since = noticed.filter(|noticed| *noticed <= since).unwrap_or(since);
        let held = || {
            self.samples_until(series.id, at).find_map(|(_, value)| match value {
                SampleValue::Number(value) => Some(*value),
                SampleValue::Outcome(_) => None,
            })
        };
        MetricState::Absent { value: if is_zero { Some(0.0) } else { held() }, since, answer }
    }

    /// Returns what the newest decision recorded about a metric.
    fn decided(&self, metric: &str, at: i64) -> Option<DecidedRow> {
        self.triggers_of(self.decision(at)?).iter().find(|row| row.metric == metric).cloned()
    }

    /// Returns whether a round of samples came between two others, which means that less was asked for then.
    pub(super) fn samples_between(&self, from: i64, to: i64) -> bool {
        self.spend(20 * self.evidence.samples.len());
        // All triggers of a round are polled within a second.
        let after = |list: &Vec<(i64, SampleValue)>| {
            list.get(list.partition_point(|(at, _)| *at <= from + 1_000)).map(|(at, _)| *at)
        };
        self.evidence.samples.values().filter_map(after).any(|at| at < to - 1_000)
    }

    /// Returns the polls of an error period until a moment. Its row covers all polls, and its count and time lag
    /// behind.
    pub(super) fn polls_until(&self, series: i64, error: &ErrorRow, at: i64) -> Option<u64> {
        if error.from >= self.read_since(at) {
            let count = self.samples_until(series, at).take_while(|(time, _)| *time >= error.from).count();
            return u64::try_from(count).ok().filter(|count| *count > 0);
        }
        (error.last_at <= at).then(|| u64::try_from(error.polls).unwrap_or(0))
    }

    /// Returns the newest sample before a moment that asked for at least `least`, with what it asked for, and the time
    /// since when everything is known. The HPA computes with the replicas of that time.
    pub(super) fn last_asked_for(&self, at: i64, least: u32) -> (Option<Asked>, i64) {
        let since = self.read_since(at);
        let mut found: Option<Asked> = None;
        for series in self.evidence.series.iter().filter(|one| one.from <= at) {
            for (time, value) in self.samples_until(series.id, at) {
                if found.as_ref().is_some_and(|found| found.at >= *time) {
                    break;
                }
                let Some(definition) = self.definition(*time) else { continue };
                let replicas = self.replicas_at(*time).unwrap_or(0);
                let value = match value {
                    SampleValue::Number(value) => Some(*value),
                    // The decision has the value of a fallback.
                    SampleValue::Outcome(outcome) => {
                        // If a missing number counts as a value it is no error, so there is no fallback.
                        let policy = trigger_of(definition, series).map(|trigger| trigger.on_missing.clone());
                        if policy.and_then(|policy| Absence::of(outcome, policy, UnixMillis(*time))).is_some() {
                            continue;
                        }
                        let decided = self.decided(&series.metric_name, *time);
                        decided.filter(|one| one.fallback).and_then(|one| one.value)
                    }
                };
                let proposal = value.and_then(|value| asks(definition, series, value, replicas));
                // Tolerance is a flag of the controller, so the most that it may have asked for counts.
                let most = proposal.map(|proposal| proposal.replicas.max(proposal.exact));
                if let Some(replicas) = most.filter(|most| *most >= least) {
                    found = Some(Asked { metric: series.metric_name.clone(), at: *time, replicas });
                    break;
                }
            }
        }
        (found, since.max(self.evidence.added_at))
    }
}

/// What a sample asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) metric: String,
    pub(super) at: i64,
    pub(super) replicas: u32,
}

fn trigger_of<'d>(definition: &'d Definition, series: &SeriesRow) -> Option<&'d Trigger> {
    definition.triggers.iter().find(|trigger| *trigger.metric_name == *series.metric_name)
}

/// Returns the type of a series' metric if the HPA sees it: with a formula it only sees the result.
fn metric_type_of(definition: &Definition, series: &SeriesRow) -> Option<MetricType> {
    match &definition.modifiers {
        Some(modifiers) => (series.metric_name == composite::NAME).then_some(modifiers.metric_type),
        None => trigger_of(definition, series).map(|trigger| trigger.metric_type),
    }
}

/// Returns the name of that type, as in the HPA.
fn type_name_of(definition: &Definition, series: &SeriesRow) -> Option<&'static str> {
    if unit_of(definition, series) == Some(ShownUnit::Percent) {
        return Some(PERCENT);
    }
    metric_type_of(definition, series).map(MetricType::name)
}

/// Returns what a value means that an HPA showed.
fn unit_of(definition: &Definition, series: &SeriesRow) -> Option<ShownUnit> {
    match &trigger_of(definition, series)?.source {
        Source::Shown(metric) => Some(metric.unit),
        Source::Cron(_) | Source::Pods(_) | Source::Query(_) => None,
    }
}

/// The type of an HPA's metric in percent of what its pods request.
const PERCENT: &str = "Utilization";

/// Returns what the HPA derives from a value of the series with `replicas`; `None` if it does not see the metric.
pub(super) fn asks(definition: &Definition, series: &SeriesRow, value: f64, replicas: u32) -> Option<Proposal> {
    let behavior = definition.behavior.as_ref();
    let metric_type = metric_type_of(definition, series)?;
    Some(match unit_of(definition, series) {
        Some(unit) => recommend::proposal_of_shown(unit, value, series.threshold, replicas, behavior),
        None => recommend::proposal(metric_type, value, series.threshold, replicas, behavior),
    })
}

/// Returns for example `s0-prometheus 500 / 75 per replica → 7`.
pub(super) fn metric_text(metric: &Metric, at: i64) -> String {
    let name = &metric.metric;
    let asks = |text: String| match metric.exact {
        Some(exact) => format!("{text} → {exact}"),
        None => text,
    };
    match &metric.reading {
        MetricState::None { since, ever } => {
            let (since, at) = (*since, at);
            return match ever {
                false => format!("{name}: no sample yet, measured since {}", time_text::short(since, at)),
                true => format!("{name}: no sample since {} at least", time_text::short(since, at)),
            };
        }
        MetricState::Failed { since, outcome, message } => {
            let what = if message.is_empty() { outcome } else { message };
            return format!("{name}: in error since {}: {what}", time_text::short(*since, at));
        }
        MetricState::Absent { since, answer, .. } => {
            let (what, reads) = answer.split_once(", ").unwrap_or((answer, ""));
            return asks(format!("{name}: {what} since {}, {reads}", time_text::short(*since, at)));
        }
        MetricState::Fallback { replicas, since, failures, .. } => {
            let stands = match replicas {
                Some(1) => "fallback to 1 replica".to_owned(),
                Some(replicas) => format!("fallback to {replicas} replicas"),
                None => "fallback".to_owned(),
            };
            let times = failures
                .map_or(String::new(), |times| format!(" {times} {}", if times == 1 { "time" } else { "times" }));
            return match since {
                Some(since) => {
                    format!("{stands} since {name} failed{times}, first at {}", time_text::short(*since, at))
                }
                None => asks(format!("{stands}, as a trigger of {name} failed")),
            };
        }
        MetricState::Number => {}
    }
    let Some(value) = metric.value else { return format!("{name}: no value") };
    let Some(exact) = metric.exact else {
        return format!("{name} {value}, which the HPA does not see");
    };
    if metric.metric_type == Some(PERCENT) {
        return format!("{name} {value} % / {} % → {exact}", metric.target);
    }
    let how = if metric.metric_type == Some("Value") { "in all" } else { "per replica" };
    format!("{name} {value} / {} {how} → {exact}", metric.target)
}

/// Returns for example `cpu 85 % / 60 %, memory`: the metrics that the HPA reads itself, with its values if known.
pub(super) fn resources(definition: &Definition, reported: Option<&HpaRow>) -> Option<String> {
    if definition.resource_triggers.is_empty() {
        return None;
    }
    let current: Vec<Value> = reported.and_then(|row| serde_json::from_str(&row.metrics_json).ok()).unwrap_or_default();
    let resources: Vec<String> = definition
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
    Some(resources.join(", "))
}

/// Formats thousandths as a quantity: in binary units if those are whole, as for memory.
fn amount(milli: i128) -> String {
    let units = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let whole = units.iter().find(|(_, unit)| milli != 0 && milli % (unit * 1000) == 0);
    whole.map_or_else(|| quantity::text(milli), |(name, unit)| format!("{}{name}", milli / (unit * 1000)))
}

/// Returns the metric that asks for the most replicas.
pub(super) fn driver(metrics: &[Metric]) -> Option<&Metric> {
    metrics.iter().filter(|metric| metric.proposal.is_some()).max_by_key(|metric| (metric.proposal, metric.exact))
}

/// Returns status, reason and message of a condition of the HPA.
pub(super) fn condition(row: &HpaRow, kind: &str) -> Option<(String, String, String)> {
    let conditions: Vec<Value> = serde_json::from_str(&row.conditions_json).ok()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}
