//! What holds replicas where they are.

use std::collections::BTreeMap;

use super::facts::{Facts, asks, condition, driver, metric_text, resources};
use super::{Entry, Held, Metric, when};
use crate::logfmt::iso;
use crate::scaling::recommend::{self, Limit};
use crate::store::SampleValue;
use crate::store::evidence::{DecisionRow, LossRow};

fn held(by: &str, text: String) -> Held {
    Held { by: by.to_owned(), allows: None, seconds_left: None, since: None, text }
}

/// Everything that holds at a moment, the strongest first.
pub(super) fn held_at(facts: &Facts<'_>, at: i64) -> Vec<Held> {
    let mut found = Vec::new();
    if let Some(removed) = facts.evidence.removed_at.filter(|removed| *removed <= at) {
        return vec![held(
            "removed",
            format!("its removal: the ScaledObject is gone since {}", when::short(removed, at)),
        )];
    }
    let run = facts.evidence.runs.iter().rev().find(|run| run.started_at <= at);
    match run {
        None => found.push(held("daemon-down", "the daemon, which had not been started yet".to_owned())),
        Some(run) => {
            if let Some(stopped) = run.stopped_at.filter(|stopped| *stopped <= at) {
                found.push(held("daemon-down", format!("the daemon, stopped since {}", when::short(stopped, at))));
            }
        }
    }
    if let Some(problem) = facts.definition_row(at).and_then(|row| row.invalid.as_deref()) {
        found.push(held("invalid", format!("its definition, which is invalid: {problem}")));
    }
    let decision = facts.decision(at);
    let ready = facts.evidence.ready.iter().rev().find(|row| row.at <= at);
    if let Some(row) = ready.filter(|row| row.status == "False" && row.reason == "ScaledObjectCheckFailed")
        && found.iter().all(|held| held.by != "invalid")
    {
        let since = when::short(row.at, at);
        found.push(held("not-ready", format!("a failed check since {since}: {}", row.message)));
    }
    let full_pause = decision.and_then(|row| paused(facts, row, at));
    let is_full = full_pause.as_ref().is_some_and(|(is_full, _)| *is_full);
    found.extend(full_pause.map(|(_, held)| held));
    if is_full {
        return found;
    }
    errors(facts, decision, at, &mut found);
    if let Some(row) = decision.filter(|row| matches!(row.reason.as_str(), "CoolingDown" | "InitialCooldown")) {
        let left = (row.cooldown_until.unwrap_or(at) - at).max(0).saturating_add(999) / 1000;
        let name = if row.reason == "CoolingDown" { Limit::Cooldown } else { Limit::InitialCooldown };
        let text = format!("{}, {left} s left: no trigger is active", name.id().replace('-', " "));
        found.push(Held { seconds_left: Some(left), ..held(name.id(), text) });
    }
    let replicas = facts.replicas_at(at).unwrap_or(0);
    let metrics = facts.metrics_at(at, replicas);
    if metrics.iter().any(|metric| metric.value.is_none() && metric.error.is_none()) {
        found.push(held("no-samples", "missing samples: a trigger has none in the last hour".to_owned()));
    }
    // A daemon that was killed cannot say so: its silence does.
    if let Some(interval) = facts.definition(at).map(|definition| definition.polling_interval)
        && let Some(age) = metrics.iter().filter_map(|metric| metric.sample_age_ms).min()
        && u128::try_from(age).is_ok_and(|age| age > 3 * interval.as_millis() + 10_000)
    {
        let (age, interval) = (age / 1000, interval.as_secs());
        let text = format!("silence: the newest sample is {age} s old, though polled every {interval} s");
        found.push(held("no-samples", text));
    }
    if replicas > 0 {
        hpa(facts, at, replicas, &metrics, &mut found);
    }
    found
}

/// A pause, and whether it is a full one.
fn paused(facts: &Facts<'_>, row: &DecisionRow, at: i64) -> Option<(bool, Held)> {
    let pause = row.pause.as_deref()?;
    let same = facts.evidence.decisions.iter().rev().skip_while(|other| other.at > row.at);
    let since = same.take_while(|other| other.pause.as_deref() == Some(pause)).last().map_or(row.at, |first| first.at);
    let annotations: Vec<String> = pause.split(',').map(|name| format!("autoscaling.keda.sh/{name}")).collect();
    let is_full = pause.split(',').any(|name| name == "paused" || name.starts_with("paused-replicas"));
    let text = format!("a pause since {} by {}", when::short(since, at), annotations.join(", "));
    Some((is_full, Held { since: Some(iso(since)), ..held(Limit::Pause.id(), text) }))
}

fn errors(facts: &Facts<'_>, decision: Option<&DecisionRow>, at: i64, found: &mut Vec<Held>) {
    let reason = decision.map_or("", |row| row.reason.as_str());
    let falls_back = decision.is_some_and(|row| row.triggers_json.contains(r#""fallback":true"#));
    for (of, error) in facts.evidence.errors.iter().filter(|(_, e)| e.from <= at && e.until.is_none_or(|end| end > at))
    {
        let Some(series) = facts.series_at(at).find(|series| series.id == *of) else { continue };
        let (by, means) = match reason {
            _ if falls_back => {
                let replicas = facts.definition(at).and_then(|d| Some(d.fallback.as_ref()?.replicas));
                (
                    "fallback",
                    replicas.map_or(String::new(), |count| format!(", fallback to {count} replicas is active")),
                )
            }
            "WaitingForFallback" => {
                (Limit::FallbackThreshold.id(), ", waiting for the fallback's threshold".to_owned())
            }
            _ => (Limit::Error.id(), String::new()),
        };
        let since = when::short(error.from, at);
        let text = format!(
            "trigger {} in error since {since} ({} polls): {} {}{means}",
            series.metric_name, error.polls, error.outcome, error.message
        );
        found.push(Held { since: Some(iso(error.from)), ..held(by, text) });
    }
}

fn hpa(facts: &Facts<'_>, at: i64, replicas: u32, metrics: &[Metric], found: &mut Vec<Held>) {
    let Some(definition) = facts.definition(at) else { return };
    let seen = facts.hpa(at);
    for kind in ["AbleToScale", "ScalingActive"] {
        if let Some((status, reason, message)) = seen.and_then(|row| condition(row, kind))
            && status == "False"
            && reason != "ScalingDisabled"
        {
            found.push(held("hpa", format!("the HPA, {kind}=False {reason}: {message}")));
        }
    }
    let Some(driver) = driver(metrics) else { return };
    let proposal = driver.proposal.unwrap_or(0);
    let max = definition.max_replicas;
    let min = definition.min().max(1);
    let asks = metric_text(driver);
    if proposal > replicas && replicas >= max {
        found.push(Held { allows: Some(max), ..held(Limit::Max.id(), format!("maxReplicaCount {max}: {asks}")) });
    } else if driver.proposal != driver.exact {
        found.push(held(Limit::Tolerance.id(), asks));
    } else if proposal < replicas && replicas > min {
        let window = recommend::stabilization_seconds(definition.behavior.as_ref(), false);
        let observed = seen.and_then(|row| condition(row, "AbleToScale"));
        let is_observed = observed.is_some_and(|(_, reason, _)| reason == "ScaleDownStabilized");
        let last = last_asked_for(facts, at, replicas);
        let left = last.map(|last| (last + i64::from(window) * 1000 - at).max(0).saturating_add(999) / 1000);
        if is_observed || left.is_some_and(|left| left > 0) {
            let how = if is_observed { "the HPA says ScaleDownStabilized" } else { "computed from the samples" };
            let left_text = left.map_or(String::new(), |left| format!(", about {left} s left"));
            let text = format!("the stabilization window of {window} s{left_text} ({how}): {asks}");
            found.push(Held { seconds_left: left, ..held(Limit::Stabilization.id(), text) });
        } else if let Some(resources) = resources(definition, seen) {
            let text = format!("{resources} perhaps, which the HPA reads itself: {asks}");
            found.push(held("resource", text));
        }
    } else if proposal < min && replicas == min {
        found.push(Held { allows: Some(min), ..held(Limit::Min.id(), format!("the minimum of {min}: {asks}")) });
    }
}

/// When the samples last asked for as many as run, within the time that was read.
fn last_asked_for(facts: &Facts<'_>, at: i64, replicas: u32) -> Option<i64> {
    let definition = facts.definition(at)?;
    let times = facts.series_at(at).filter_map(|series| {
        let list = facts.evidence.samples.get(&series.id)?;
        let asked = |value: &SampleValue| match value {
            SampleValue::Number(value) => {
                asks(definition, series, *value, replicas).is_some_and(|proposal| proposal.replicas >= replicas)
            }
            SampleValue::Outcome(_) => false,
        };
        list.iter().rev().find(|(time, value)| *time <= at && asked(value)).map(|(time, _)| *time)
    });
    times.max()
}

/// What held in a stretch of time, and what else happened: definitions, errors, starts and stops.
pub(super) fn held_entries(facts: &Facts<'_>, since: i64, until: i64) -> Vec<Entry> {
    let within = |at: i64| (since..=until).contains(&at);
    let entry = |time: i64, kind, held: Option<Held>, text: String| Entry {
        at: iso(time),
        kind,
        change: None,
        held,
        text,
        time,
    };
    let mut entries = Vec::new();
    let mut before: Vec<String> = Vec::new();
    let decisions = facts.evidence.decisions.iter().map(|row| row.at);
    let mut moments: Vec<i64> =
        decisions.chain(facts.evidence.hpa.iter().map(|row| row.at)).filter(|at| within(*at)).collect();
    moments.sort_unstable();
    moments.dedup();
    // Only what newly holds is news.
    for at in moments {
        let now = held_at(facts, at);
        let names: Vec<String> = now.iter().map(|held| held.by.clone()).collect();
        for held in now.into_iter().filter(|held| !before.contains(&held.by)) {
            let text = format!("held by {}", held.text);
            entries.push(entry(at, "held", Some(held), text));
        }
        before = names;
    }
    for row in facts.evidence.definitions.iter().filter(|row| within(row.at)) {
        let previous = facts.evidence.definitions.iter().rev().find(|other| other.at < row.at);
        let what = previous.map_or("created".to_owned(), |previous| differences(&previous.spec_json, &row.spec_json));
        let invalid = row.invalid.as_ref().map_or(String::new(), |text| format!("; invalid: {text}"));
        entries.push(entry(
            row.at,
            "definition",
            None,
            format!("definition, generation {}: {what}{invalid}", row.generation),
        ));
    }
    for (of, error) in facts.evidence.errors.iter().filter(|(_, error)| error.until.is_some_and(within)) {
        let metric = facts.evidence.series.iter().find(|series| series.id == *of);
        let metric = metric.map_or("a trigger", |series| series.metric_name.as_str());
        entries.push(entry(error.until.unwrap_or(until), "error", None, format!("{metric} no longer in error")));
    }
    for run in &facts.evidence.runs {
        if within(run.started_at) {
            entries.push(entry(run.started_at, "daemon", None, "hpalite started".to_owned()));
        }
        if let Some(stopped) = run.stopped_at.filter(|stopped| within(*stopped)) {
            entries.push(entry(stopped, "daemon", None, "hpalite stopped".to_owned()));
        }
    }
    entries
}

/// What holds, lets go and holds again while nothing else happens is told once, with how often and until when.
pub(super) fn without_repetitions(entries: Vec<Entry>, now: i64) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    // By what holds: where its entry is, how often it came again, and when last.
    let mut runs: BTreeMap<String, (usize, u32, i64)> = BTreeMap::new();
    for entry in entries {
        let Some(held) = &entry.held else {
            tell(&mut kept, std::mem::take(&mut runs), now);
            kept.push(entry);
            continue;
        };
        match runs.get_mut(&held.by) {
            Some((_, again, last)) => {
                *again += 1;
                *last = entry.time;
            }
            None => {
                runs.insert(held.by.clone(), (kept.len(), 0, 0));
                kept.push(entry);
            }
        }
    }
    tell(&mut kept, runs, now);
    kept
}

fn tell(kept: &mut [Entry], runs: BTreeMap<String, (usize, u32, i64)>, now: i64) {
    for (at, again, last) in runs.into_values().filter(|(_, again, _)| *again > 0) {
        let times = if again == 1 { "once more".to_owned() } else { format!("{again} times more") };
        kept[at].text.push_str(&format!("; {times}, last {}", when::short(last, now)));
    }
}

/// The end of an object that another of its name came after.
pub(super) fn removed_entry(time: i64) -> Entry {
    let text = "the ScaledObject was removed".to_owned();
    Entry { at: iso(time), kind: "definition", change: None, held: None, text, time }
}

/// A stretch of which the history is incomplete.
pub(super) fn loss_entry(loss: &LossRow) -> Entry {
    let (from, until) = (iso(loss.from), iso(loss.until));
    let (samples, others) = (loss.samples, loss.others);
    let text = format!(
        "the history lost {samples} samples and {others} other records of all objects from {from} to {until}: {}",
        loss.cause
    );
    Entry { at: from, kind: "loss", change: None, held: None, text, time: loss.from }
}

/// The fields that differ between two specs.
fn differences(before: &str, after: &str) -> String {
    fn walk(path: &str, a: &serde_json::Value, b: &serde_json::Value, out: &mut Vec<String>) {
        use serde_json::Value::{Array, Null, Object};
        match (a, b) {
            _ if a == b => {}
            (Object(x), Object(y)) => {
                let keys: std::collections::BTreeSet<&String> = x.keys().chain(y.keys()).collect();
                for key in keys {
                    walk(&format!("{path}.{key}"), x.get(key).unwrap_or(&Null), y.get(key).unwrap_or(&Null), out);
                }
            }
            (Array(x), Array(y)) => {
                for i in 0..x.len().max(y.len()) {
                    walk(&format!("{path}[{i}]"), x.get(i).unwrap_or(&Null), y.get(i).unwrap_or(&Null), out);
                }
            }
            _ => out.push(format!("{path} {a} → {b}")),
        }
    }
    let read = |text: &str| serde_json::from_str(text).unwrap_or(serde_json::Value::Null);
    let mut out = Vec::new();
    walk("spec", &read(before), &read(after), &mut out);
    if out.is_empty() { "no field differs".to_owned() } else { out.join(", ") }
}
