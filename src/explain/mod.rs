//! `hpalite why`: explains what changed an object's replicas, and what held them.
//!
//! Owns the words and the arithmetic of explanations. Pure but for [`why`], which reads the rows: evidence of the
//! history in, an [`Explanation`] out, which is printed as text or JSON (`sql/why.md`).

mod change;
pub mod claim;
mod facts;
mod learn;
#[cfg(test)]
mod shown_tests;
mod state;
#[cfg(test)]
mod tests;
pub mod time_text;

use std::path::Path;

use serde::Serialize;

use crate::encode::printable;
use crate::logfmt::iso;
use crate::scaling::model::{ApiGroup, UnixMillis};
use crate::spelling::nearest;
use crate::store::read::{Evidence, InterruptionRow};
use crate::store::{self, Reader};
use claim::Claim;
use facts::Facts;

/// Rows are read from this long before a moment, which covers the longest stabilization window and policy period.
const AROUND_MS: i64 = 3_600_000;

/// What was held up by an interruption happens this long after it at most.
const AFTER_INTERRUPTION_MS: i64 = 60_000;

/// Work for one answer, in steps of a few nanoseconds: about a second.
const EFFORT_MAX: u64 = 200_000_000;

/// How often less is read, a quarter of the time each, until it is little enough: from a day to a second.
const TRIES_MAX: u32 = 9;

/// Earlier objects of the name that are explained.
const LIVES_MAX: usize = 50;

/// What to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The state at a time, and the change before it.
    At(UnixMillis),
    /// Everything between two times, and the state at the second.
    Between(UnixMillis, UnixMillis),
}

#[derive(Debug, Serialize)]
pub struct Explanation {
    pub namespace: String,
    pub name: String,
    /// RFC 3339, UTC.
    pub at: String,
    pub replicas: Option<u32>,
    /// Changes and what held in between, oldest first.
    pub entries: Vec<Entry>,
    /// What holds the count at `at`, the strongest first; empty if it is what the metrics ask for.
    pub held_by: Vec<Held>,
    pub metrics: Vec<Metric>,
    /// If nothing holds the count, a text that says so and why; otherwise empty.
    pub rest: String,
    /// RFC 3339. The history has too much to explain all of it: what was until then may be missing.
    pub cut: Option<String>,
    #[serde(skip)]
    now: i64,
}

#[derive(Debug, Serialize)]
pub struct Entry {
    pub at: String,
    /// `replicas`, `held`, `definition`, `error`, `daemon`, `interruption` or `loss`.
    pub kind: &'static str,
    /// Set for `replicas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Set for `held`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    pub text: String,
    /// The facts in the text.
    #[serde(skip)]
    pub claims: Vec<Claim>,
    #[serde(skip)]
    time: i64,
}

#[derive(Debug, Serialize)]
pub struct Change {
    pub from: Option<u32>,
    pub to: u32,
    /// `hpalite`, `hpa` or `other`.
    pub by: String,
    /// `observed` from the field manager, or `inferred` from what was done or wanted at that time.
    pub source: String,
    pub manager: Option<String>,
    /// Reason of hpalite's decision, if hpalite made the change.
    pub reason: Option<String>,
    pub metrics: Vec<Metric>,
    /// Name of the metric that asked for the most.
    pub driven_by: Option<String>,
    pub limits: Vec<Held>,
}

/// One metric's state at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    pub metric: String,
    pub value: Option<f64>,
    pub sample_age_ms: Option<i64>,
    pub target: f64,
    /// `AverageValue` or `Value`, or of an observed HPA `Utilization`; `None` if the HPA does not see the metric, because a
    /// formula reads it or the definition is invalid.
    pub metric_type: Option<&'static str>,
    pub activation_threshold: f64,
    /// Replicas that the HPA computes from it.
    pub proposal: Option<u32>,
    /// The same without the tolerance.
    pub exact: Option<u32>,
    pub error: Option<String>,
    /// The newest sample and its interpretation, if it was not a number.
    pub note: Option<String>,
    #[serde(skip)]
    pub reading: MetricState,
}

/// How the newest sample of a metric is interpreted. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricState {
    Number,
    /// No number, which the trigger's policy interprets as 0 or as the last number instead of an error.
    Absent {
        value: Option<f64>,
        since: i64,
        /// The text of [`crate::scaling::event::Absence`].
        answer: String,
    },
    Fallback {
        value: Option<f64>,
        /// The replicas of a static fallback.
        replicas: Option<u32>,
        since: Option<i64>,
        failures: Option<u64>,
        outcome: String,
        message: String,
    },
    Failed {
        since: i64,
        outcome: String,
        message: String,
    },
    /// There is no sample since that time; with `ever` there may have been some before.
    None {
        since: i64,
        ever: bool,
    },
}

/// Something that keeps the count from what is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Stable identifier, see `sql/why.md`.
    pub by: String,
    /// The count that it allows.
    pub allows: Option<u32>,
    pub seconds_left: Option<i64>,
    /// RFC 3339.
    pub since: Option<String>,
    pub text: String,
    /// The facts in the text.
    #[serde(skip)]
    pub claims: Vec<Claim>,
}

/// Why no explanation is possible.
#[derive(Debug)]
pub enum Error {
    Store(store::Error),
    /// The file's schema has another version, and could not be read.
    Version {
        found: i64,
        known: i64,
        source: store::Error,
    },
    /// There is no such object, here with its kind; `near` has similar names.
    Unknown {
        name: String,
        near: Vec<String>,
    },
    /// Even of a moment there is too much in the history.
    TooMuch,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Version { found: 0, source, .. } => write!(f, "this is no database of hpalite: {source}"),
            Self::Version { found, known, source } => {
                let who = if found > known { "a newer" } else { "an older" };
                write!(
                    f,
                    "the database was written by {who} hpalite (schema {found}, this one knows {known}), ask that one: {source}"
                )
            }
            Self::Unknown { name, near } if near.is_empty() => {
                write!(f, "the history knows no {name} at that time, and none of a similar name")
            }
            Self::TooMuch => f.write_str("the history has too much of this object to explain any of it"),
            Self::Unknown { name, near } => {
                write!(f, "the history knows no {name} at that time; did you mean {}?", near.join(", "))
            }
        }
    }
}

impl std::error::Error for Error {}

/// Reads and explains. Without a group, if several objects share the name, ScaledObjects come before HPAs, and then the
/// one that was first seen later.
///
/// # Errors
/// When the file cannot be read, or has no such object.
pub fn why(
    path: &Path,
    namespace: &str,
    name: &str,
    group: Option<ApiGroup>,
    question: Question,
) -> Result<Explanation, Error> {
    let mut reader = Reader::open(path).map_err(Error::Store)?.limited_together();
    let (since, until) = match question {
        Question::At(at) => (None, at.0),
        Question::Between(since, until) => (Some(since.0), until.0),
    };
    let mut effort = EFFORT_MAX;
    let mut tries = 0;
    let (mut report, group, added_at) = loop {
        let around = AROUND_MS >> (2 * tries);
        let from = since.map(|since| until - ((until - since) >> (2 * tries)));
        let found = reader.snapshot(|snapshot| snapshot.evidence(namespace, name, group, from, until, around));
        let Some(evidence) = found.map_err(|source| unreadable(&mut reader, source))? else {
            return Err(unknown(&mut reader, namespace, name, group).unwrap_or_else(Error::Store));
        };
        if !evidence.is_too_much
            && let Some((mut report, left)) = explain_within(namespace, name, &evidence, from, until, EFFORT_MAX)
        {
            effort = effort.min(left);
            if tries > 0 && report.cut.is_none() {
                report.cut = Some(iso(from.unwrap_or(until - around)));
            }
            break (report, evidence.group, evidence.added_at);
        }
        tries += 1;
        if tries > TRIES_MAX {
            return Err(Error::TooMuch);
        }
    };
    // Earlier objects of this name, newest first, as far as they lived within the time that is asked for.
    let mut born = added_at;
    let mut lives = 0;
    while let Some(since) = since.filter(|since| *since < born && report.cut.is_none()) {
        let found = reader
            .snapshot(|snapshot| snapshot.evidence(namespace, name, group, Some(since), born - 1, AROUND_MS))
            .map_err(Error::Store)?;
        let Some(earlier) = found.filter(|found| found.removed_at.is_none_or(|removed| removed >= since)) else {
            break;
        };
        lives += 1;
        let until = earlier.removed_at.unwrap_or(born - 1);
        let explained = (lives <= LIVES_MAX && !earlier.is_too_much)
            .then(|| explain_within(namespace, name, &earlier, Some(since), until, effort));
        let Some((Explanation { mut entries, cut, .. }, left)) = explained.flatten() else {
            report.cut = Some(iso(until));
            break;
        };
        effort = left;
        report.cut = cut;
        // These concern all objects, so the report already has them.
        entries.retain(|entry| !matches!(entry.kind, "loss" | "interruption" | "daemon"));
        entries.push(state::removed_entry(until, noun(&earlier)));
        report.entries.extend(entries);
        born = earlier.added_at;
    }
    report.entries.sort_by_key(|entry| entry.time);
    Ok(report)
}

/// Returns why the file cannot be read.
fn unreadable(reader: &mut Reader, source: store::Error) -> Error {
    match reader.versions().ok().filter(|(found, known)| found != known) {
        Some((found, known)) => Error::Version { found, known, source },
        None => Error::Store(source),
    }
}

/// Returns that there is no such object, and what has a similar name.
fn unknown(reader: &mut Reader, namespace: &str, name: &str, group: Option<ApiGroup>) -> Result<Error, store::Error> {
    let names = reader.snapshot(|snapshot| snapshot.object_names())?;
    let wanted = format!("{namespace}/{name}");
    let mut near: Vec<String> = names.iter().filter(|other| other.ends_with(&format!("/{name}"))).cloned().collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    near.extend(nearest(&wanted, &all).map(str::to_owned));
    near.dedup();
    let noun = group.map_or("ScaledObject", ApiGroup::noun);
    Ok(Error::Unknown { name: format!("{noun} {wanted}"), near })
}

/// What the object is called.
fn noun(evidence: &Evidence) -> &'static str {
    evidence.group.map_or("ScaledObject", ApiGroup::noun)
}

/// Explains the evidence with limited effort, and returns what is left of it. What is oldest is left out if that is too little;
/// `None` if it does not even suffice for the end.
fn explain_within(
    namespace: &str,
    name: &str,
    evidence: &Evidence,
    since: Option<i64>,
    until: i64,
    effort: u64,
) -> Option<(Explanation, u64)> {
    let facts = Facts::new(evidence, namespace, name, effort);
    let replicas = facts.replicas_at(until);
    let held_by = state::held_at(&facts, until);
    let rest = if held_by.is_empty() { state::rest(&facts, until) } else { String::new() };
    let metrics = facts.metrics_at(until, replicas.unwrap_or(0));
    let mut changes = evidence.changes.iter().rev().filter(|change| change.at <= until);
    let last = changes.find(|change| since.is_none() && change.from.is_some());
    let mut entries: Vec<Entry> = last.map(|change| change::explain(&facts, change)).into_iter().collect();
    if facts.is_spent() {
        return None;
    }
    let mut cut = None;
    if let Some(since) = since {
        (entries, cut) = state::entries(&facts, since, until);
    }
    // A loss may have hidden the very cause in question.
    entries.extend(evidence.losses.iter().map(state::loss_entry));
    // Of a moment only what may have to do with it, or with the change before it.
    let moments: Vec<i64> = entries.iter().filter(|entry| entry.kind == "replicas").map(|entry| entry.time).collect();
    let matters = |row: &&InterruptionRow| {
        let mut moments = moments.iter().chain([&until]);
        since.is_some() || moments.any(|at| (row.from..=row.until + AFTER_INTERRUPTION_MS).contains(at))
    };
    entries.extend(evidence.interruptions.iter().filter(matters).map(|row| state::interruption_entry(row, until)));
    entries.sort_by_key(|entry: &Entry| entry.time);
    let entries = state::without_repetitions(entries, until);
    let report = Explanation {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        at: iso(until),
        replicas,
        entries,
        held_by,
        rest,
        cut: cut.map(iso),
        metrics,
        now: until,
    };
    Some((report, facts.effort_left()))
}

/// Explains all of the evidence.
#[cfg(test)]
fn explain(namespace: &str, name: &str, evidence: &Evidence, since: Option<i64>, until: i64) -> Explanation {
    explain_within(namespace, name, evidence, since, until, u64::MAX).expect("there is no limit").0
}

impl Explanation {
    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let count = self.replicas.map_or("unknown".to_owned(), |replicas| replicas.to_string());
        let mut out = format!("{}/{} at {}: replicas {count}\n", self.namespace, self.name, self.at);
        if let Some(cut) = &self.cut {
            out.push_str(&format!("  there is too much to explain all of it: what was until {cut} may be missing\n"));
        }
        for entry in &self.entries {
            out.push_str(&format!("  {} {}\n", time_text::short(entry.time, self.now), printable(&entry.text)));
        }
        for metric in &self.metrics {
            out.push_str(&format!("  metric {}\n", printable(&facts::metric_text(metric, self.now))));
        }
        for held in &self.held_by {
            out.push_str(&format!("  held by {}\n", printable(&held.text)));
        }
        if self.held_by.is_empty() {
            out.push_str(&format!("  {}\n", printable(&self.rest)));
        }
        out
    }
}
