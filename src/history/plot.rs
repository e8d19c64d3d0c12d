//! Renders a [`History`] as text for a terminal: each trigger's value and threshold, then replicas, events and time.
//!
//! Pure: data, width and style in, lines out. What is unknown stays blank, and failures are marked.

mod canvas;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{History, PeriodKind, ReplicaStep, TriggerHistory};
use crate::scaling::model::UnixMillis;
use crate::store::read::{DecisionRow, Range};
use crate::wire::time::format_seconds;
use canvas::{Canvas, Ink, paint};

/// Bounds on the width, in columns, outside of which a plot is unreadable.
pub const WIDTH_MIN: usize = 40;
pub const WIDTH_MAX: usize = 300;

/// Columns left of the plot: seven characters of a number, a space and the axis.
const GUTTER: usize = 9;
/// Rows of a trigger's plot and of the replicas' plot.
const VALUE_ROWS: usize = 8;
const REPLICA_ROWS: usize = 4;
/// A threshold this many times above all values is left off the scale, because it would flatten them.
const OFF_SCALE: f64 = 10.0;
/// Number of events listed as text below the plot.
const LISTED: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Width of the whole plot in columns, clamped to [`WIDTH_MIN`] and [`WIDTH_MAX`].
    pub width: usize,
    /// Use only ASCII characters.
    pub ascii: bool,
    /// Use ANSI colours.
    pub colour: bool,
}

impl Style {
    fn columns(self) -> usize {
        self.width.clamp(WIDTH_MIN, WIDTH_MAX) - GUTTER
    }

    /// Returns the number of points that the plot can show: two per column.
    #[must_use]
    pub fn points(self) -> usize {
        self.columns() * 2
    }
}

/// A mark for an event: its character in Unicode and in ASCII, and its text in the legend.
struct Mark {
    glyph: char,
    ascii: char,
    ink: Ink,
    legend: &'static str,
}

const UP: Mark = Mark { glyph: '▲', ascii: '^', ink: Ink::Good, legend: "scaled up" };
const DOWN: Mark = Mark { glyph: '▼', ascii: 'v', ink: Ink::Good, legend: "scaled down" };
const FAILED: Mark = Mark { glyph: '✗', ascii: 'x', ink: Ink::Bad, legend: "error" };
const SILENT: Mark = Mark { glyph: '░', ascii: '.', ink: Ink::Dim, legend: "no number" };
const DEFINED: Mark = Mark { glyph: '◆', ascii: 'D', ink: Ink::Note, legend: "definition" };
const STARTED: Mark = Mark { glyph: '┃', ascii: '|', ink: Ink::Note, legend: "hpalite started" };
const PAUSED: Mark = Mark { glyph: '═', ascii: '=', ink: Ink::Note, legend: "paused" };
const FALLBACK: Mark = Mark { glyph: '≈', ascii: '~', ink: Ink::Bad, legend: "fallback" };
const VALUE: Mark = Mark { glyph: '⣀', ascii: '*', ink: Ink::Value, legend: "value" };
const THRESHOLD: Mark = Mark { glyph: '╌', ascii: '-', ink: Ink::Threshold, legend: "threshold" };
const REPLICAS: Mark = Mark { glyph: '█', ascii: '#', ink: Ink::Plain, legend: "replicas" };

/// Renders the plot; lines end with a newline.
#[must_use]
pub fn render(history: &History, style: Style) -> String {
    let mut plot = Plot { history, style, columns: style.columns(), legend: Vec::new(), text: String::new() };
    let group = if history.group == "keda.sh" { String::new() } else { format!(" ({})", history.group) };
    plot.line(&format!("{}/{}{group}", history.namespace, history.name));
    if history.triggers.is_empty() {
        plot.line("no trigger was measured in this time");
    }
    for trigger in &history.triggers {
        plot.trigger(trigger);
    }
    plot.replicas();
    plot.marks();
    plot.axis();
    plot.legend();
    plot.events();
    plot.text
}

/// Renders several courses of replicas over one time range and on one scale, each under its title.
#[must_use]
pub fn courses(range: Range, courses: &[(String, Vec<ReplicaStep>)], style: Style) -> String {
    let history = History { from: range.from, to: range.to, ..History::default() };
    let mut plot = Plot { history: &history, style, columns: style.columns(), legend: Vec::new(), text: String::new() };
    let highest = courses.iter().flat_map(|(_, steps)| steps).map(|step| step.max).max().unwrap_or(0);
    for (title, steps) in courses {
        plot.course(title, steps, highest.max(1));
    }
    plot.axis();
    plot.text
}

struct Plot<'h> {
    history: &'h History,
    style: Style,
    columns: usize,
    legend: Vec<&'static Mark>,
    text: String,
}

impl Plot<'_> {
    /// Appends a line of text, cut to the width.
    fn line(&mut self, text: &str) {
        let width = self.style.width.clamp(WIDTH_MIN, WIDTH_MAX);
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let shown: Vec<char> = plain.collect();
        if shown.len() > width {
            self.text.extend(&shown[..width - 1]);
            self.text.push(if self.style.ascii { '~' } else { '…' });
        } else {
            self.text.extend(shown);
        }
        self.text.push('\n');
    }

    /// Appends a row of the plot after its label.
    fn row(&mut self, label: &str, cells: &[(char, Ink)]) {
        let axis = if self.style.ascii { '|' } else { '│' };
        let used = cells.iter().rposition(|(glyph, _)| *glyph != ' ').map_or(0, |last| last + 1);
        let text = format!("{label:>7} {axis}{}", paint(&cells[..used], self.style.colour));
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn glyph(&mut self, mark: &'static Mark) -> (char, Ink) {
        if !self.legend.iter().any(|known| std::ptr::eq(*known, mark)) {
            self.legend.push(mark);
        }
        (if self.style.ascii { mark.ascii } else { mark.glyph }, mark.ink)
    }

    /// Returns the half column of a time.
    fn half_column(&self, at: i64) -> usize {
        let span = (self.history.to - self.history.from).max(1);
        let halves = i64::try_from(self.columns * 2).unwrap_or(i64::MAX);
        let offset = (at.clamp(self.history.from, self.history.to) - self.history.from).min(span);
        usize::try_from(i128::from(offset) * i128::from(halves - 1) / i128::from(span)).unwrap_or(0)
    }

    fn column(&self, at: i64) -> usize {
        self.half_column(at) / 2
    }

    /// The columns of a time span. One that ends before it begins, since the wall clock was set back meanwhile, has the
    /// column in which it begins.
    fn columns_of(&self, from: i64, until: i64) -> RangeInclusive<usize> {
        let first = self.column(from);
        first..=self.column(until).max(first)
    }

    fn is_shown(&self, at: i64) -> bool {
        (self.history.from..=self.history.to).contains(&at)
    }

    fn trigger(&mut self, trigger: &TriggerHistory) {
        let threshold = trigger.thresholds.last();
        let points = trigger.stretches.iter().flatten();
        let (low, high) = points
            .fold((0.0_f64, f64::NEG_INFINITY), |(low, high), bucket| (low.min(bucket.min), high.max(bucket.max)));
        let has_points = high.is_finite();
        let highest_threshold = trigger.thresholds.iter().map(|t| t.threshold).fold(0.0, f64::max);
        let off_scale = has_points && high > 0.0 && highest_threshold > high * OFF_SCALE;
        let high = if off_scale || !has_points { high } else { high.max(highest_threshold) };
        let high = if has_points { high } else { highest_threshold };
        let high = if high > low { high } else { low + 1.0 };

        let mut head = format!("{}  ", trigger.name.as_deref().unwrap_or(&trigger.metric));
        head += &trigger.last().map_or("no value".to_owned(), |last| format!("last {}", short(last.last)));
        if let Some(threshold) = threshold {
            head += &format!("  threshold {}", short(threshold.threshold));
            head += if trigger.target == "Value" { "" } else { " per replica" };
            head += if off_scale { " (above the plot)" } else { "" };
        }
        self.text.push('\n');
        self.line(&head);

        let mut canvas = Canvas::new(self.columns, VALUE_ROWS, self.style.ascii);
        let steps = canvas.height() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of the height")]
        let level = |value: f64| -> usize {
            // Halved before subtracting, because the difference of the largest numbers is infinite.
            let part = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
            (part.clamp(0.0, 1.0) * steps as f64).round() as usize
        };
        for stretch in &trigger.stretches {
            let mut before: Option<(usize, usize)> = None;
            for bucket in stretch {
                let x = self.half_column(bucket.last_at);
                canvas.vertical(x, level(bucket.min), level(bucket.max));
                if let Some((x0, y0)) = before {
                    canvas.line((x0, y0), (x, level(bucket.last)));
                }
                before = Some((x, level(bucket.last)));
            }
        }
        let value = self.glyph(&VALUE);
        let mut rows = canvas.rows(value);
        if !off_scale && !trigger.thresholds.is_empty() {
            let glyph = self.glyph(&THRESHOLD);
            for threshold in &trigger.thresholds {
                let row = VALUE_ROWS - 1 - level(threshold.threshold) * VALUE_ROWS / (steps + 1);
                let until = threshold.until.unwrap_or(self.history.to);
                for cell in &mut rows[row][self.columns_of(threshold.from, until)] {
                    if cell.0 == ' ' {
                        *cell = glyph;
                    }
                }
            }
        }
        for (i, row) in rows.iter().enumerate() {
            let label = match i {
                0 => short(high),
                _ if i == VALUE_ROWS - 1 => short(low),
                _ => String::new(),
            };
            self.row(&label, row);
        }
        self.failures(trigger);
    }

    /// A lane of what had no number, if anything.
    fn failures(&mut self, trigger: &TriggerHistory) {
        if trigger.silences.is_empty() && trigger.errors.is_empty() {
            return;
        }
        let mut cells = vec![(' ', Ink::Plain); self.columns];
        let silences: Vec<_> = trigger.silences.iter().map(|silence| (silence.from, silence.until)).collect();
        let errors: Vec<_> =
            trigger.errors.iter().map(|error| (error.from, error.until.unwrap_or(self.history.to))).collect();
        for (spans, mark) in [(silences, &SILENT), (errors, &FAILED)] {
            for (from, until) in
                spans.into_iter().filter(|(from, until)| *until >= self.history.from && *from <= self.history.to)
            {
                let glyph = self.glyph(mark);
                cells[self.columns_of(from, until)].fill(glyph);
            }
        }
        self.row("gaps", &cells);
    }

    fn replicas(&mut self) {
        let steps = &self.history.replicas;
        let known = steps.iter().filter(|step| step.last.is_some());
        let Some(highest) = known.clone().map(|step| step.max).max() else { return };
        let last = steps.last().and_then(|step| step.last);
        let last = last.map_or("the object is gone".to_owned(), |last| format!("last {last}"));
        self.course(&format!("replicas  {last}  most {highest}"), steps, highest.max(1));
    }

    fn course(&mut self, title: &str, steps: &[ReplicaStep], high: u32) {
        self.text.push('\n');
        self.line(title);
        let glyph = self.glyph(&REPLICAS);
        let levels = self.replica_levels(steps);
        for row in (0..REPLICA_ROWS).rev() {
            let cells: Vec<(char, Ink)> = levels
                .iter()
                .map(|level| {
                    let Some(level) = level else { return (' ', Ink::Plain) };
                    self.bar(*level, high, row, glyph)
                })
                .collect();
            let label = match row {
                0 => "0".to_owned(),
                _ if row == REPLICA_ROWS - 1 => short(f64::from(high)),
                _ => String::new(),
            };
            self.row(&label, &cells);
        }
    }

    /// The most replicas in each column; `None` before the first is known and where the object was gone.
    fn replica_levels(&self, steps: &[ReplicaStep]) -> Vec<Option<u32>> {
        let mut levels: Vec<Option<u32>> = vec![None; self.columns];
        for (i, step) in steps.iter().enumerate() {
            let first = self.column(step.at);
            let next = steps.get(i + 1).map_or(self.columns, |next| self.column(next.at));
            if let Some(last) = step.last {
                levels[first] = Some(levels[first].unwrap_or(0).max(step.max));
                for level in levels.iter_mut().take(next).skip(first + 1) {
                    *level = Some(last);
                }
                if let Some(level) = levels.get_mut(next) {
                    *level = Some(last);
                }
            } else {
                levels[first..].fill(None);
            }
        }
        levels
    }

    /// Returns the part of a bar in one row: eighths in Unicode, whole characters in ASCII.
    fn bar(&self, level: u32, high: u32, row: usize, glyph: (char, Ink)) -> (char, Ink) {
        const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let rows = REPLICA_ROWS as u64;
        let eighths = (u64::from(level) * rows * 8).div_ceil(u64::from(high));
        let here = eighths.saturating_sub(row as u64 * 8).min(8);
        match here {
            // Zero is a known value, so it is drawn as a line; a gap is not.
            0 if level == 0 && row == 0 => (if self.style.ascii { '_' } else { '▁' }, Ink::Dim),
            0 => (' ', Ink::Plain),
            _ if self.style.ascii => glyph,
            _ => (EIGHTHS[usize::try_from(here - 1).unwrap_or(7)], glyph.1),
        }
    }

    /// Appends the lanes of events.
    fn marks(&mut self) {
        let history = self.history;
        let mut lane = vec![(' ', Ink::Plain); self.columns];
        let mut put = |plot: &mut Self, at: i64, mark: &'static Mark| {
            if plot.is_shown(at) {
                lane[plot.column(at)] = plot.glyph(mark);
            }
        };
        // Later marks cover earlier ones.
        for run in history.runs.iter().rev() {
            put(self, run.started_at, &STARTED);
        }
        for definition in history.definitions.iter().rev() {
            put(self, definition.at, &DEFINED);
        }
        for change in history.replica_changes.iter().rev() {
            if let Some(from) = change.from.filter(|from| *from != change.to) {
                put(self, change.at, if change.to > from { &UP } else { &DOWN });
            }
        }
        for decision in history.decisions.iter().rev().filter(|decision| decision.outcome.starts_with("failed")) {
            put(self, decision.at, &FAILED);
        }
        if lane.iter().any(|(glyph, _)| *glyph != ' ') {
            self.row("events", &lane);
        }
        let mut states = vec![(' ', Ink::Plain); self.columns];
        let mut any = false;
        for period in &history.periods {
            let mark = match period.kind {
                PeriodKind::Paused => &PAUSED,
                PeriodKind::Fallback => &FALLBACK,
                PeriodKind::NotReady => continue,
            };
            let glyph = self.glyph(mark);
            states[self.columns_of(period.from, period.until.unwrap_or(history.to))].fill(glyph);
            any = true;
        }
        if any {
            self.row("state", &states);
        }
    }

    fn axis(&mut self) {
        const LABEL_EVERY: usize = 16;
        let (corner, dash, tick) = if self.style.ascii { ('+', '-', '+') } else { ('└', '─', '┬') };
        let span = self.history.to - self.history.from;
        let mut line: Vec<char> = vec![dash; self.columns];
        let mut labels: Vec<char> = vec![' '; self.columns + GUTTER];
        let count = (self.columns / LABEL_EVERY).max(2);
        for i in 0..=count {
            let at = self.history.from + span / i64::try_from(count).unwrap_or(1) * i64::try_from(i).unwrap_or(0);
            let column = if i == count { self.columns - 1 } else { self.column(at) };
            line[column] = tick;
            let text = clock(at, span);
            let centre = GUTTER + column;
            let start = (centre.saturating_sub(text.len() / 2)).min(labels.len() - text.len());
            for (slot, c) in labels[start..].iter_mut().zip(text.chars()) {
                *slot = c;
            }
        }
        self.text.push_str(&format!("{:>7} {corner}{}\n", "UTC", line.iter().collect::<String>()));
        self.text.push_str(labels.iter().collect::<String>().trim_end());
        self.text.push('\n');
    }

    fn legend(&mut self) {
        if self.legend.is_empty() {
            return;
        }
        let names: Vec<String> = self
            .legend
            .iter()
            .map(|mark| format!("{} {}", if self.style.ascii { mark.ascii } else { mark.glyph }, mark.legend))
            .collect();
        let width = self.style.width.clamp(WIDTH_MIN, WIDTH_MAX);
        let mut line = String::new();
        self.text.push('\n');
        for name in names {
            if !line.is_empty() && line.chars().count() + 2 + name.chars().count() > width {
                self.line(&std::mem::take(&mut line));
            }
            line += if line.is_empty() { "" } else { "  " };
            line += &name;
        }
        self.line(&line);
    }

    /// Lists the newest events as text, newest last, as in a log.
    fn events(&mut self) {
        let history = self.history;
        let mut events: Vec<(i64, String)> = Vec::new();
        for change in &history.replica_changes {
            events.push(match change.from {
                Some(from) => (change.at, format!("replicas {from} -> {} by {}", change.to, change.by)),
                None => (change.at, format!("replicas {} first seen", change.to)),
            });
        }
        for decision in history.decisions.iter().filter(|decision| decision.from != decision.to) {
            let how = if decision.outcome == "done" { String::new() } else { format!(" ({})", decision.outcome) };
            events.push((decision.at, format!("{} -> {}: {}{how}", decision.from, decision.to, decision.detail)));
        }
        events.extend(absences(history));
        for definition in history.definitions.iter().filter(|definition| self.is_shown(definition.at)) {
            let what = match &definition.invalid {
                Some(invalid) => format!("is invalid: {invalid}"),
                None if definition.first => "applied".to_owned(),
                None => definition.changes.join(", "),
            };
            events.push((definition.at, format!("generation {} {what}", definition.generation)));
        }
        for (trigger, error) in
            history.triggers.iter().flat_map(|trigger| trigger.errors.iter().map(move |error| (trigger, error)))
        {
            events.push((error.from, format!("{} {}: {}", trigger.metric, error.outcome, error.message)));
        }
        for period in history.periods.iter().filter(|period| period.kind == PeriodKind::Paused) {
            events.push((period.from, format!("paused: {}", period.message)));
        }
        events.retain(|(at, _)| self.is_shown(*at));
        events.sort_by_key(|(at, _)| *at);
        let left_out = events.len().saturating_sub(LISTED);
        if !events.is_empty() {
            self.text.push('\n');
        }
        if left_out > 0 {
            self.line(&format!("({left_out} earlier events)"));
        }
        for (at, text) in &events[left_out..] {
            self.line(&format!("{} {text}", format_seconds(UnixMillis(*at))));
        }
        if !history.cut.is_empty() {
            self.line(&format!("only the newest are shown of: {}", history.cut.join(", ")));
        }
    }
}

/// Returns when metrics began to have no number, and how that is interpreted, from the decisions.
fn absences(history: &History) -> BTreeSet<(i64, String)> {
    let triggers = history.decisions.iter().flat_map(DecisionRow::triggers);
    triggers
        .filter_map(|trigger| Some((trigger.absent_since?, format!("{} has {}", trigger.metric, trigger.absence?))))
        .collect()
}

/// Formats a time as short as the span allows.
fn clock(at: i64, span: i64) -> String {
    let text = format_seconds(UnixMillis(at));
    match span {
        ..=600_000 => text[11..19].to_owned(),
        600_001..=172_800_000 => text[11..16].to_owned(),
        _ => text[5..10].to_owned(),
    }
}

/// Formats a number in at most seven characters.
fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e15).contains(&size) {
        let text = format!("{value:.1e}");
        return if text.len() <= 7 { text } else { format!("{value:.0e}") };
    }
    let (scaled, unit) =
        UNITS.iter().find(|(least, _)| size >= *least).map_or((value, ""), |(least, unit)| (value / least, *unit));
    let digits = match scaled.abs() {
        ..10.0 => 3,
        10.0..100.0 => 2,
        _ => 1,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests;
