//! `hpalite replay --all`: every object of the history, a line each, the worst first.
//!
//! Owns the sharing out over the machine's cores: each thread takes the next object with a reader of its own, so that only
//! as many histories are in memory as there are threads.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::candidate::{self, Choice};
use super::measures::{Measures, ModelError};
use super::{Model, Replay, record};
use crate::history::units::{at, duration, percent};
use crate::scaling::model::ObjectKey;
use crate::store::read::{Listing, Range};
use crate::store::{Error, Reader};

/// More than run at once on any machine that this is for; each holds a month of one object, some 10 MB.
const THREADS_MAX: usize = 8;
/// Objects that one history has, by far.
const OBJECTS_MAX: u32 = 100_000;
/// Objects without a replay that are named.
const LEFT_OUT_MAX: usize = 20;

/// Every object of a history. Times are milliseconds since 1970.
#[derive(Debug, Serialize)]
pub(super) struct All {
    pub(super) from: i64,
    pub(super) to: i64,
    /// The other settings, as typed.
    pub(super) candidate: Option<String>,
    /// The worst first.
    pub(super) objects: Vec<Line>,
    pub(super) left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) group: &'static str,
    pub(super) polls: u64,
    pub(super) today: Measures,
    pub(super) candidate: Option<Measures>,
    pub(super) model_error: Option<ModelError>,
}

/// An object that was not replayed, and why.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) group: &'static str,
    pub(super) problem: String,
}

/// Replays the objects of a namespace or of all.
///
/// # Errors
/// When the history cannot be read at all.
pub(super) fn replay(
    db: &Path,
    namespace: Option<&str>,
    range: Range,
    set: Option<&str>,
    model: Model,
) -> Result<All, Error> {
    let mut reader = Reader::open(db)?;
    let listing = Listing { text: "", removed: false, limit: OBJECTS_MAX, offset: 0 };
    let (rows, _) = reader.snapshot(|snapshot| snapshot.objects(&listing))?;
    drop(reader);
    let keys: Vec<ObjectKey> = rows
        .into_iter()
        .map(|row| row.key)
        .filter(|key| namespace.is_none_or(|only| *key.namespace == *only))
        .collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<(Vec<Line>, Vec<LeftOut>)> = Mutex::default();
    let work = || {
        let mut reader = Reader::open(db);
        while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = match &mut reader {
                Ok(reader) => one(reader, key, range, set, model),
                Err(error) => Err(error.to_string()),
            };
            let (namespace, name, group) = (key.namespace.to_string(), key.name.to_string(), key.group.name());
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok((polls, today, candidate, model_error)) => {
                    done.0.push(Line { namespace, name, group, polls, today, candidate, model_error });
                }
                Err(problem) => done.1.push(LeftOut { namespace, name, group, problem }),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, THREADS_MAX);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where no more threads can be made, this one does it all.
            let _ = std::thread::Builder::new().name("replay".to_owned()).spawn_scoped(scope, work);
        }
        work();
    });
    let (mut objects, mut left_out) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    objects.sort_by(worst_first);
    left_out.sort_by(|a, b| (&a.namespace, &a.name, a.group).cmp(&(&b.namespace, &b.name, b.group)));
    Ok(All { from: range.from, to: range.to, candidate: set.map(str::to_owned), objects, left_out })
}

/// Most time above the target, then most turns; equal ones by name, so that two runs are alike.
fn worst_first(a: &Line, b: &Line) -> std::cmp::Ordering {
    let share = b.today.share_above_target.total_cmp(&a.today.share_above_target);
    let turns = || b.today.turns.cmp(&a.today.turns);
    share.then_with(turns).then_with(|| (&a.namespace, &a.name, a.group).cmp(&(&b.namespace, &b.name, b.group)))
}

type Replayed = (u64, Measures, Option<Measures>, Option<ModelError>);

fn one(
    reader: &mut Reader,
    key: &ObjectKey,
    range: Range,
    set: Option<&str>,
    model: Model,
) -> Result<Replayed, String> {
    let recorded = record::load(reader, key, range).map_err(|error| error.to_string())?;
    let recorded = recorded.ok_or("the history has no definition of it before the end of this time")?;
    let joined = |problems: Vec<String>| problems.join("; ");
    let today = candidate::today(key.group, &recorded.manifest).map_err(joined)?;
    let other = match set {
        Some(text) => {
            let choice = Choice::Set(text.to_owned());
            Some(candidate::candidate(key.group, "candidate", &choice, &recorded.manifest).map_err(joined)?)
        }
        None => None,
    };
    let unknown: Vec<String> =
        std::iter::once(&today).chain(&other).flat_map(|settings| settings.unknown(&recorded.tracks)).collect();
    if !unknown.is_empty() {
        return Err(joined(unknown));
    }
    let replay = Replay::new(&recorded, &today, range, model)?;
    let other = other.map(|other| replay.figures(&other));
    let report = replay.report(&[]);
    Ok((report.polls, report.today.measures, other, report.model_error))
}

impl All {
    /// Returns the table for people; lines end with a newline.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} objects: {} of load, {} to {}\n",
            self.objects.len(),
            duration((self.to - self.from) / 1000),
            at(self.from),
            at(self.to)
        );
        if let Some(candidate) = &self.candidate {
            let _ = writeln!(text, "today's settings -> {candidate}");
        }
        let both = |line: &Line, cell: fn(&Measures) -> String| match &line.candidate {
            Some(other) => format!("{} -> {}", cell(&line.today), cell(other)),
            None => cell(&line.today),
        };
        let row = |line: &Line| {
            let group = if line.group == "keda.sh" { String::new() } else { format!(" ({})", line.group) };
            let matched = line
                .model_error
                .as_ref()
                .map_or("-".to_owned(), |error| format!("{}/{}", error.matched_changes, error.recorded_changes));
            [
                format!("{}/{}{group}", line.namespace, line.name),
                both(line, |m| percent(m.share_above_target)),
                both(line, |m| format!("{:.1}", m.pod_hours)),
                both(line, |m| m.changes.to_string()),
                both(line, |m| m.turns.to_string()),
                both(line, |m| m.peak.to_string()),
                both(line, |m| format!("{:.1}", m.hours_at_max)),
                matched,
            ]
        };
        let head =
            ["OBJECT", "ABOVE TARGET", "POD-HOURS", "CHANGES", "TURNS", "PEAK", "HOURS AT MAX", "REPLAYED AS RECORDED"];
        let rows: Vec<[String; 8]> =
            std::iter::once(head.map(str::to_owned)).chain(self.objects.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "\nnot replayed: {}", self.left_out.len());
        }
        for one in self.left_out.iter().take(LEFT_OUT_MAX) {
            let _ = writeln!(text, "  {}/{}: {}", one.namespace, one.name, one.problem);
        }
        if self.left_out.len() > LEFT_OUT_MAX {
            let _ = writeln!(text, "  and {} more: --json has them", self.left_out.len() - LEFT_OUT_MAX);
        }
        text.push_str("\nhpalite replay NAMESPACE/NAME shows what is assumed, and how far the model is off\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, share: f64, turns: usize) -> Line {
        let today = Measures { share_above_target: share, turns, pod_hours: 12.0, ..Measures::default() };
        let candidate = Some(Measures { pod_hours: 9.5, ..Measures::default() });
        let (namespace, name, group) = ("shop".to_owned(), name.to_owned(), "keda.sh");
        Line { namespace, name, group, polls: 1, today, candidate, model_error: None }
    }

    #[test]
    fn the_worst_comes_first() {
        let mut objects = vec![line("b", 0.0, 0), line("a", 0.0, 0), line("turns", 0.0, 3), line("above", 0.02, 0)];
        objects.sort_by(worst_first);
        let names: Vec<&str> = objects.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["above", "turns", "a", "b"]);
        let left_out = vec![LeftOut {
            namespace: "shop".to_owned(),
            name: "new".to_owned(),
            group: "keda.sh",
            problem: "no answers".to_owned(),
        }];
        let candidate = Some("spec.cooldownPeriod=60".to_owned());
        let text = All { from: 0, to: 3_600_000, candidate, objects, left_out }.text();
        for part in [
            "4 objects: 1 h of load",
            "-> spec.cooldownPeriod=60",
            "12.0 -> 9.5",
            "2.00 % -> 0.00 %",
            "shop/new: no answers",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let above = text.find("shop/above").expect("a line");
        assert!(above < text.find("shop/turns").expect("a line"), "{text}");
    }
}
