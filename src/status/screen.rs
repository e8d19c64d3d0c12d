//! The screen as text, and drawing it again and again.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::{Object, Server, Status};
use crate::encode::printable;
use crate::history::command::terminal_size;
use crate::history::units;

/// Objects that are listed besides those in trouble, before the rest is counted only.
const CALM_MAX: usize = 20;
/// Objects in trouble that are listed.
const TROUBLED_MAX: usize = 100;
const SERVERS_MAX: usize = 20;
/// A Lease that is older has no holder: the default duration.
const LEASE_MS: i64 = 15_000;
/// Clears the screen and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

impl Status {
    /// Returns the screen; lines end with a newline.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.instance(&mut text);
        text.push('\n');
        self.servers(&mut text);
        self.objects(&mut text);
        text
    }

    fn instance(&self, text: &mut String) {
        let age = |at: i64| units::duration((self.now - at).max(0) / 1_000);
        let instance = &self.instance;
        let _ = match &instance.run {
            Some(run) if run.state == "running" => {
                writeln!(text, "hpalite {} up for {}", run.version, age(run.started_at))
            }
            Some(run) => writeln!(text, "hpalite {} does NOT RUN on this history: {}", run.version, run.state),
            None => writeln!(text, "hpalite has NEVER RUN on this history"),
        };
        let leader = match (&instance.leader, instance.lease_renewed_at) {
            (None, _) => "not known".to_owned(),
            (Some(leader), _) if leader.is_empty() => "NONE".to_owned(),
            (Some(leader), Some(at)) if self.now - at > LEASE_MS => format!("NONE, {leader} was it {} ago", age(at)),
            (Some(leader), _) => leader.clone(),
        };
        let _ = writeln!(text, "leader      {leader}");
        let metrics = match instance.metrics_api {
            Some(true) => "available",
            Some(false) => "NOT AVAILABLE",
            None => "not known",
        };
        let version = instance.kubernetes.as_deref().unwrap_or("not known");
        let _ = writeln!(text, "kubernetes  {version}, metrics API {metrics}");
        if let Some(bytes) = instance.history_bytes {
            #[expect(clippy::cast_precision_loss, reason = "files are smaller")]
            let _ = writeln!(text, "history     {:.1} MB", bytes as f64 / 1e6);
        }
        for problem in &instance.problems {
            let _ = writeln!(text, "problem     {}", printable(problem));
        }
    }

    fn servers(&self, text: &mut String) {
        if self.servers.is_empty() {
            return;
        }
        let row = |server: &Server| {
            let late = server.late_ms.map_or("no answer".to_owned(), |late| units::duration(late / 1_000));
            vec![
                server.server.clone(),
                server.triggers.to_string(),
                server.failing.to_string(),
                late,
                server.cause.clone().unwrap_or_default(),
            ]
        };
        let rows: Vec<Vec<String>> = self.servers.iter().take(SERVERS_MAX).map(row).collect();
        table(text, &["METRIC SERVER", "TRIGGERS", "FAILING", "LATE", "CAUSE"], &rows);
        rest(text, self.servers.len().saturating_sub(SERVERS_MAX), "metric servers");
        text.push('\n');
    }

    fn objects(&self, text: &mut String) {
        let troubled = self.objects.iter().filter(|object| object.is_in_trouble).count();
        let _ = writeln!(text, "{} ScaledObjects, {troubled} in trouble", self.total);
        if self.objects.is_empty() {
            return;
        }
        let shown = troubled.min(TROUBLED_MAX) + self.objects.len().saturating_sub(troubled).min(CALM_MAX);
        let calm = self.objects.iter().filter(|object| !object.is_in_trouble).take(CALM_MAX);
        let rows: Vec<Vec<String>> =
            self.objects.iter().take(troubled.min(TROUBLED_MAX)).chain(calm).map(row).collect();
        table(text, &["OBJECT", "STATE", "REPLICAS", "VALUE/THRESHOLD", "CAUSE"], &rows);
        rest(text, self.total.saturating_sub(shown), "objects: -n NAMESPACE or -o json has them");
    }
}

fn row(object: &Object) -> Vec<String> {
    let overview = &object.overview;
    let group = if overview.group == "keda.sh" { String::new() } else { format!(" ({})", overview.group) };
    let values = overview.triggers.iter().map(|trigger| {
        let value = trigger.value.filter(|_| trigger.failure().is_none());
        format!("{}/{}", value.map_or("-".to_owned(), number), number(trigger.threshold))
    });
    let values: Vec<String> = values.collect();
    vec![
        format!("{}/{}{group}", overview.namespace, overview.name),
        overview.state.to_owned(),
        overview.replicas.map_or("-".to_owned(), |replicas| replicas.to_string()),
        values.join(" "),
        object.cause.clone(),
    ]
}

/// Four significant digits are enough to compare a value with its threshold.
fn number(value: f64) -> String {
    format!("{:.3e}", value).parse::<f64>().map_or_else(|_| value.to_string(), |rounded| rounded.to_string())
}

fn rest(text: &mut String, count: usize, what: &str) {
    if count > 0 {
        let _ = writeln!(text, "and {count} more {what}");
    }
}

/// Writes columns as wide as their widest cell.
fn table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        rows.iter().chain([&head]).map(|row| printable(&row[column]).chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in [&head].into_iter().chain(rows) {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", printable(cell))).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
}

/// Draws a text over the whole terminal, cut to its size, so that what comes first stays in sight.
///
/// # Errors
/// When it cannot be written.
pub fn draw(text: &str, size: Option<(usize, usize)>, out: &mut dyn Write) -> io::Result<()> {
    let (columns, rows) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut screen = CLEAR.to_owned();
    // The last line stays empty for the cursor.
    for line in text.lines().take(rows.saturating_sub(1)) {
        screen.extend(line.chars().take(columns));
        screen.push('\n');
    }
    out.write_all(screen.as_bytes())?;
    out.flush()
}

/// Draws what `load` returns again and again. Ends when it cannot be written any more; what could not be loaded is drawn
/// in its place.
pub fn watch(every: Duration, out: &mut dyn Write, mut load: impl FnMut() -> Result<String, String>) {
    loop {
        let text = load().unwrap_or_else(|problem| format!("hpalite: {problem}\n"));
        if draw(&text, terminal_size(), out).is_err() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "nothing is waited for but time, until Ctrl-C")]
        std::thread::sleep(every);
    }
}
