//! Converts the core's values to columns.
//!
//! Owns the conversions, all pure. Must not know connections or row ids.

use std::time::Duration;

use serde_json::json;

use super::chunk::SampleValue;
use crate::scaling::decision::DecidedTrigger;
use crate::scaling::event::{Answer, MESSAGE_MAX, Missing};
use crate::scaling::model::{Pause, TargetRef};

/// Returns the sample's value, and the message for its error period.
pub(crate) fn sample_value(answer: &Answer) -> (SampleValue, &str) {
    match answer {
        Answer::Value(value) => (SampleValue::Number(*value), ""),
        Answer::Missing(missing) => {
            let message = match missing {
                Missing::Infinite { positive: true } => "+Inf",
                Missing::Infinite { positive: false } => "-Inf",
                Missing::Empty | Missing::Null | Missing::NaN => "",
            };
            (SampleValue::Outcome(missing.class().into()), message)
        }
        Answer::Failed(error) => (SampleValue::Outcome(error.class.id().into()), &error.message),
    }
}

/// Returns the target that a recorded definition names.
pub(crate) fn target(spec_json: &str) -> Option<TargetRef> {
    let spec: serde_json::Value = serde_json::from_str(spec_json).ok()?;
    let text = |field: &str| Some(spec["scaleTargetRef"][field].as_str()?.to_owned());
    let (api_version, kind, name) = (text("apiVersion")?, text("kind")?, text("name")?);
    Some(TargetRef { api_version, kind, name, env_source_container: None })
}

/// Upper bound on the bytes of a stored text, since texts of servers and users are unbounded.
const TEXT_MAX: usize = MESSAGE_MAX;

/// Upper bound on JSON from the API server, in bytes; beyond it nothing is stored, or even read.
const JSON_MAX: usize = 64 << 10;

/// Upper bound on the bytes of an HPA's metrics, of which 30 fit, and on those of its conditions, of which there are three.
/// Of one object 4,096 observations may be kept, which take tens of megabytes, not hundreds.
const OBSERVED_MAX: usize = 8 << 10;

/// A decision names no more triggers once they take this many bytes: 20 of them at 250 bytes each.
const TRIGGERS_MAX: usize = 5_120;

/// Returns the text, cut to the limit.
pub(crate) fn bounded(text: &str) -> std::borrow::Cow<'_, str> {
    let short = crate::encode::cut(text, TEXT_MAX);
    if short.len() < text.len() { format!("{short}…").into() } else { text.into() }
}

/// Returns an HPA's metrics as its status has them: of many, those that the HPA reads itself before those that samples show,
/// in their order, and how many more there are.
pub(crate) fn metrics_json(json: &str) -> std::borrow::Cow<'_, str> {
    if json.len() <= OBSERVED_MAX {
        return json.into();
    }
    let is_read = json.len() <= JSON_MAX;
    let Some(metrics) = is_read.then(|| serde_json::from_str::<Vec<serde_json::Value>>(json).ok()).flatten() else {
        return "[]".into();
    };
    let mut by_weight: Vec<(usize, &serde_json::Value)> = metrics.iter().enumerate().collect();
    by_weight.sort_by_key(|(_, metric)| metric["type"] == "External");
    let texts = by_weight.into_iter().map(|(place, metric)| (place, metric.to_string()));
    let mut rows = fitting(texts);
    let more = metrics.len() - rows.len();
    rows.sort_by_key(|(place, _)| *place);
    let mut rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
    rows.push(json!({ "more": more }).to_string());
    format!("[{}]", rows.join(",")).into()
}

/// Returns those that have room in an observation, with their places.
fn fitting(texts: impl Iterator<Item = (usize, String)>) -> Vec<(usize, String)> {
    let mut left = OBSERVED_MAX;
    let mut fits = |text: &String| {
        let rest = left.checked_sub(text.len() + 1);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    texts.filter(|(_, text)| fits(text)).collect()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Returns what the triggers contributed, as JSON in their order: of many, those that decided, and how many more there
/// are.
pub(crate) fn triggers_json(triggers: &[DecidedTrigger]) -> String {
    let mut by_weight: Vec<(usize, &DecidedTrigger)> = triggers.iter().enumerate().collect();
    // The sort is stable: the first of those that matter alike are named.
    by_weight.sort_by_key(|(_, trigger)| {
        let asks_for = trigger.proposal.map(|proposal| proposal.replicas);
        let is_in_trouble = trigger.error.is_some() || trigger.absence.is_some();
        std::cmp::Reverse((trigger.formula.is_some(), trigger.fallback, asks_for, trigger.active, is_in_trouble))
    });
    let mut rows: Vec<(usize, String)> = Vec::new();
    let mut bytes = 0;
    for (place, trigger) in by_weight {
        if bytes >= TRIGGERS_MAX {
            break;
        }
        let row = trigger_json(trigger).to_string();
        bytes += row.len();
        rows.push((place, row));
    }
    rows.sort_by_key(|(place, _)| *place);
    let more = triggers.len() - rows.len();
    let mut rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
    if more > 0 {
        rows.push(json!({ "more": more }).to_string());
    }
    format!("[{}]", rows.join(","))
}

fn trigger_json(trigger: &DecidedTrigger) -> serde_json::Value {
    let mut row = json!({
        "metric": &*trigger.metric_name,
        "value": trigger.value,
        "active": trigger.active,
        "error": trigger.error.as_deref().map(bounded),
        "target": trigger.target,
        "metric_type": trigger.metric_type.name(),
        "proposal": trigger.proposal.map(|proposal| proposal.replicas),
        "exact": trigger.proposal.map(|proposal| proposal.exact),
        "fallback": trigger.fallback,
    });
    if let Some(absence) = &trigger.absence {
        row["absence"] = json!(absence.to_string());
        row["absent_since_unix_ms"] = json!(absence.since.0);
    }
    if let Some(formula) = &trigger.formula {
        row["formula"] = json!(bounded(formula));
    }
    row
}

/// Returns the annotations in force, comma-separated; `None` if there is none.
pub(crate) fn pause_text(pause: &Pause) -> Option<String> {
    let mut parts = Vec::new();
    match &pause.replicas {
        Some(Ok(replicas)) => parts.push(format!("paused-replicas={replicas}")),
        Some(Err(text)) => parts.push(format!("paused-replicas={text}")),
        None => {}
    }
    for (is_set, name) in
        [(pause.paused, "paused"), (pause.scale_in, "paused-scale-in"), (pause.scale_out, "paused-scale-out")]
    {
        if is_set {
            parts.push(name.to_owned());
        }
    }
    if let (false, Some(Ok(until))) = (parts.is_empty(), &pause.until) {
        parts.push(format!("paused-until={until}"));
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Returns the type, status, reason and message of each condition as JSON, as far as there is room.
pub(crate) fn conditions_json(conditions: &[(String, String, String, String)]) -> String {
    let text = |(kind, status, reason, message): &(String, String, String, String)| {
        json!({ "type": kind, "status": status, "reason": bounded(reason), "message": bounded(message) }).to_string()
    };
    let kept: Vec<String> =
        fitting(conditions.iter().map(text).enumerate()).into_iter().map(|(_, text)| text).collect();
    format!("[{}]", kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::event::{ErrorClass, PollError};

    #[test]
    fn answers_become_values() {
        let failed = Answer::Failed(PollError { class: ErrorClass::Timeout, message: "slow".into() });
        assert_eq!(sample_value(&Answer::Value(0.5)), (SampleValue::Number(0.5), ""));
        assert_eq!(sample_value(&failed), (SampleValue::Outcome("timeout".into()), "slow"));
        let infinite = Answer::Missing(Missing::Infinite { positive: false });
        assert_eq!(sample_value(&infinite), (SampleValue::Outcome("infinite".into()), "-Inf"));
    }

    #[test]
    fn a_value_that_json_cannot_write_is_null() {
        let trigger = DecidedTrigger {
            metric_name: "s0-x".into(),
            value: Some(f64::NAN),
            metric_type: crate::scaling::model::MetricType::Value,
            target: 2.0,
            ..DecidedTrigger::default()
        };
        let text = triggers_json(&[trigger]);
        assert!(
            text.contains(r#""metric":"s0-x","metric_type":"Value","proposal":null,"target":2.0,"value":null"#),
            "{text}"
        );
    }
    /// Regression: a decision about a hundred triggers took 25 KB each time.
    #[test]
    fn a_decision_names_the_triggers_that_matter_and_how_many_more_there_are() {
        let error = "server did not answer in time ".repeat(4);
        let trigger = |index: u32| DecidedTrigger {
            metric_name: format!("s{index}-prometheus").into(),
            value: Some(f64::from(index)),
            proposal: Some(crate::scaling::recommend::Proposal { replicas: u32::from(index == 60), exact: 1 }),
            error: (index % 10 == 5).then(|| error.clone()),
            fallback: index == 99,
            ..DecidedTrigger::default()
        };
        let triggers: Vec<DecidedTrigger> = (0..100).map(trigger).collect();
        let text = triggers_json(&triggers);
        assert!(text.len() < 6_000, "{}", text.len());
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
        let names: Vec<&str> = rows.iter().filter_map(|row| row["metric"].as_str()).collect();
        for name in ["s0-prometheus", "s5-prometheus", "s60-prometheus", "s95-prometheus", "s99-prometheus"] {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        let numbers: Vec<usize> = names
            .iter()
            .map(|name| name.trim_start_matches('s').trim_end_matches("-prometheus").parse().expect("a number"))
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert_eq!(rows[names.len()..], [json!({ "more": 100 - names.len() })]);
        assert!(names.len() >= 15, "{names:?}");
        assert!(!triggers_json(&triggers[..16]).contains("more"), "as few as that are all named");
        let long = DecidedTrigger { error: Some("x".repeat(10_000)), ..DecidedTrigger::default() };
        assert!(triggers_json(&vec![long; 100]).len() < 8_000);
    }
}
