//! The result of a replay, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::measures::{Measures, ModelError};
use super::record::HOLES_MAX;
use super::suggest::Suggestion;
use crate::history::ReplicaStep;
use crate::history::plot::{self, Style};
use crate::history::units::{at, duration, hours, percent};
use crate::store::read::Range;

/// Fields that are named of each candidate.
const CHANGES_MAX: usize = 8;

/// Times are milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub namespace: String,
    pub name: String,
    pub group: &'static str,
    pub from: i64,
    pub to: i64,
    /// Of today's settings.
    pub generation: i64,
    /// Polls of a run with today's settings.
    pub polls: u64,
    pub today: Variant,
    pub candidates: Vec<Variant>,
    /// Replicas as they were, from each time on.
    pub recorded: Vec<(i64, u32)>,
    /// `None` if no replicas were recorded while today's settings were in force.
    pub model_error: Option<ModelError>,
    pub assumptions: Vec<String>,
    /// Stretches without answers, in which the last one stands.
    pub holes: Vec<(i64, i64)>,
    pub suggestion: Option<Suggestion>,
}

/// One set of settings.
#[derive(Clone, Debug, Serialize)]
pub struct Variant {
    pub title: String,
    /// Differences from today's settings.
    pub changes: Vec<String>,
    pub measures: Measures,
    /// Replicas from each time on.
    pub replicas: Vec<(i64, u32)>,
}

impl Report {
    /// Returns the report for people; lines end with a newline.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        let group = if self.group == "keda.sh" { String::new() } else { format!(" ({})", self.group) };
        let _ = writeln!(
            text,
            "{}/{}{group}: {} of load, {} to {}",
            self.namespace,
            self.name,
            duration((self.to - self.from) / 1000),
            at(self.from),
            at(self.to)
        );
        for candidate in &self.candidates {
            let _ = writeln!(text, "  {}: {}", candidate.title, summary(&candidate.changes));
        }
        text.push('\n');
        self.table(&mut text);
        text.push_str(&plot::courses(Range { from: self.from, to: self.to }, &self.courses(), style));
        if let Some(suggestion) = &self.suggestion {
            suggestion.write(&mut text);
        }
        self.notes(&mut text);
        text
    }

    fn variants(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.today).chain(&self.candidates)
    }

    fn courses(&self) -> Vec<(String, Vec<ReplicaStep>)> {
        let steps = |course: &[(i64, u32)]| -> Vec<ReplicaStep> {
            course
                .iter()
                .map(|(at, count)| ReplicaStep { at: *at, min: *count, max: *count, last: Some(*count) })
                .collect()
        };
        let recorded = (!self.recorded.is_empty()).then(|| ("recorded".to_owned(), steps(&self.recorded)));
        let replayed =
            self.variants().map(|variant| (format!("replayed: {}", variant.title), steps(&variant.replicas)));
        recorded.into_iter().chain(replayed).collect()
    }

    fn table(&self, text: &mut String) {
        type Cell = fn(&Measures) -> String;
        let rows: [(&str, Cell); 11] = [
            ("pod-hours", |m| format!("{:.1}", m.pod_hours)),
            ("changes of replicas", |m| m.changes.to_string()),
            ("turns within 10 min", |m| m.turns.to_string()),
            ("most replicas", |m| m.peak.to_string()),
            ("time at the maximum", |m| hours(m.hours_at_max)),
            ("time above today's target", |m| hours(m.hours_above_target)),
            ("  share of all time", |m| percent(m.share_above_target)),
            ("  missing pod-hours", |m| format!("{:.2}", m.missing_pod_hours)),
            ("starts from zero", |m| m.starts_from_zero.to_string()),
            ("  until ready, mean", |m| seconds(m, m.start_seconds_mean)),
            ("  until ready, longest", |m| seconds(m, m.start_seconds_max)),
        ];
        let line = |text: &mut String, head: &str, cells: &mut dyn Iterator<Item = String>| {
            let mut line = format!("{head:<26}");
            for cell in cells {
                let _ = write!(line, "{cell:>15}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line(text, "", &mut self.variants().map(|variant| variant.title.clone()));
        for (head, cell) in rows {
            line(text, head, &mut self.variants().map(|variant| cell(&variant.measures)));
        }
    }

    fn notes(&self, text: &mut String) {
        text.push_str("\nmodel\n");
        match &self.model_error {
            Some(error) => model(error, text),
            None => text.push_str("  no replicas were recorded under today's settings, so the model is not checked\n"),
        }
        text.push_str("\nassumptions\n");
        for assumption in &self.assumptions {
            let _ = writeln!(text, "  {assumption}");
        }
        if self.holes.is_empty() {
            return;
        }
        let missing: i64 = self.holes.iter().map(|(from, until)| until - from).sum();
        let _ = writeln!(text, "\nholes in the record, {} in all: the last answer stands", duration(missing / 1000));
        let mut longest = self.holes.clone();
        longest.sort_by_key(|(from, until)| from - until);
        let left_out = longest.len().saturating_sub(HOLES_MAX);
        longest.truncate(HOLES_MAX);
        longest.sort_unstable();
        for (from, until) in longest {
            let _ = writeln!(text, "  {} to {}, {}", at(from), at(until), duration((until - from) / 1000));
        }
        if left_out > 0 {
            let _ = writeln!(text, "  and {left_out} shorter ones");
        }
    }
}

fn model(error: &ModelError, text: &mut String) {
    let _ = writeln!(
        text,
        "  replaying today's settings from {} gives {} of {} recorded changes within {:.1} s, and {} changes in all",
        at(error.from),
        error.matched_changes,
        error.recorded_changes,
        Duration::from_millis(u64::try_from(error.within_ms).unwrap_or(0)).as_secs_f64(),
        error.replayed_changes
    );
    let _ = writeln!(
        text,
        "  pod-hours {:.1} instead of {:.1}; the counts differ for {}, by {:.2} replicas on average",
        error.replayed_pod_hours,
        error.recorded_pod_hours,
        hours(error.hours_different),
        error.replicas_different_mean
    );
    for (when, from, to) in &error.unmatched {
        let _ = writeln!(text, "  not replayed: {} {from} -> {to}", at(*when));
    }
}

/// Returns the differences in one line.
fn summary(changes: &[String]) -> String {
    if changes.is_empty() {
        return "the same as today".to_owned();
    }
    let left_out = changes.len().saturating_sub(CHANGES_MAX);
    let mut line = changes[..changes.len() - left_out].join(", ");
    if left_out > 0 {
        let _ = write!(line, ", and {left_out} more");
    }
    line
}

fn seconds(measures: &Measures, seconds: f64) -> String {
    if measures.starts_from_zero == 0 { "-".to_owned() } else { format!("{seconds:.0} s") }
}
