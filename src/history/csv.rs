//! Renders the points of a [`History`] as RFC 4180 text, a line for each point of each trigger.

use std::fmt::Write as _;

use super::{History, ReplicaStep, Threshold};
use crate::scaling::model::UnixMillis;
use crate::wire::time::format_seconds;

const HEAD: &str = "at,trigger,metric,min,max,last,samples,threshold,activation_threshold,replicas\r\n";

/// Lines end with CR LF. Cells without a number have no line, because absence is not zero.
#[must_use]
pub fn render(history: &History) -> String {
    let mut text = HEAD.to_owned();
    for trigger in &history.triggers {
        for bucket in trigger.stretches.iter().flatten() {
            let threshold = threshold_at(&trigger.thresholds, bucket.last_at);
            let replicas = replicas_at(&history.replicas, bucket.last_at);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{},{},{},{},{},{},{},{},{},{}\r\n",
                format_seconds(UnixMillis(bucket.last_at)),
                trigger.index,
                cell(&trigger.metric),
                bucket.min,
                bucket.max,
                bucket.last,
                bucket.count,
                threshold.map(|threshold| threshold.threshold.to_string()).unwrap_or_default(),
                threshold.map(|threshold| threshold.activation.to_string()).unwrap_or_default(),
                replicas.map(|replicas| replicas.to_string()).unwrap_or_default(),
            );
        }
    }
    text
}

/// Returns the threshold in force at a time.
pub(super) fn threshold_at(thresholds: &[Threshold], at: i64) -> Option<&Threshold> {
    thresholds.iter().rev().find(|threshold| threshold.from <= at && threshold.until.is_none_or(|until| at <= until))
}

pub(super) fn replicas_at(steps: &[ReplicaStep], at: i64) -> Option<u32> {
    steps.iter().rev().find(|step| step.at <= at).and_then(|step| step.last)
}

fn cell(text: &str) -> String {
    // Spreadsheets take a leading `=`, `+`, `-` or `@` for a formula, but metric names begin with `s`.
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
