//! `hpalite history`: finds the object, reads its history beside a running daemon, and writes it in the requested form.

use std::io::{ErrorKind, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::plot::{self, Style};
use super::{Grid, csv, load};
use crate::scaling::model::{ApiGroup, ObjectKey};
use crate::store::read::Range;
use crate::store::{Error, Reader, now_unix_ms};

/// Default number of points for CSV and JSON.
const POINTS: usize = 500;
/// Columns of a plot if the terminal's are unknown.
const WIDTH: usize = 80;

/// Arguments of `hpalite history`.
#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub db: PathBuf,
    pub namespace: String,
    pub name: String,
    pub group: Option<ApiGroup>,
    pub since: Duration,
    /// Columns of a plot, or points of the other forms.
    pub width: Option<usize>,
    pub ascii: bool,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plot,
    Csv,
    Json,
}

/// Writes the history in the requested form.
///
/// # Errors
/// A message that says what is wrong, and what to do about it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let mut reader = Reader::open(&arguments.db).map_err(text)?;
    let Arguments { namespace, name, .. } = arguments;
    let key = find(&mut reader, namespace, name, arguments.group)?;
    let to = now_unix_ms();
    let since = i64::try_from(arguments.since.as_millis()).unwrap_or(to);
    let range = Range { from: to - since, to };
    let style = style(arguments.width, arguments.ascii);
    let points = arguments.width.unwrap_or(POINTS);
    let history = load(&mut reader, &key, range, |points_max| match arguments.form {
        Form::Plot => Grid::exact(range, style.points()),
        Form::Csv | Form::Json => Grid::aligned(range, points.min(points_max)),
    });
    let history = history.map_err(text)?.ok_or_else(|| unknown(namespace, name, arguments.group))?;
    let written = match arguments.form {
        Form::Plot => plot::render(&history, style),
        Form::Csv => csv::render(&history),
        Form::Json => serde_json::to_string(&history).map_err(|error| error.to_string())? + "\n",
    };
    match out.write_all(written.as_bytes()) {
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| Error::Output { source }.to_string()),
    }
}

/// Returns the object in the requested group, or in the only one that has it.
///
/// # Errors
/// A message that says what is wrong, and what to do about it.
pub(crate) fn find(
    reader: &mut Reader,
    namespace: &str,
    name: &str,
    group: Option<ApiGroup>,
) -> Result<ObjectKey, String> {
    let groups = reader.snapshot(|snapshot| snapshot.groups(namespace, name)).map_err(|error| error.to_string())?;
    match (group, groups.as_slice()) {
        (Some(group), _) if groups.contains(&group) => Ok(ObjectKey::new(group, namespace, name)),
        (None, [only]) => Ok(ObjectKey::new(*only, namespace, name)),
        (_, []) | (Some(_), _) => Err(unknown(namespace, name, group)),
        (None, _) => {
            let all = ApiGroup::ALL.into_iter().chain([ApiGroup::Autoscaling]).filter(|group| groups.contains(group));
            let choices: Vec<String> = all.map(|group| format!("--group {}", group.name())).collect();
            Err(format!("{namespace}/{name} exists in several API groups: add {}", choices.join(" or ")))
        }
    }
}

pub(super) fn unknown(namespace: &str, name: &str, group: Option<ApiGroup>) -> String {
    let noun = group.map_or("ScaledObject", ApiGroup::noun);
    let group = group.map_or(String::new(), |group| format!(" in {}", group.name()));
    format!(
        "the history knows no {noun} {namespace}/{name}{group}: hpalite sql \"SELECT namespace, name FROM v_scaled_object\" lists them"
    )
}

/// Returns columns and rows of the terminal that standard output is, if it is one and its system says so.
#[must_use]
pub fn terminal_size() -> Option<(usize, usize)> {
    #[cfg(unix)]
    return of_terminal();
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
fn of_terminal() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Returns the style for standard output, of this width if it is given.
pub(crate) fn style(width: Option<usize>, ascii: bool) -> Style {
    let stdout = std::io::stdout();
    let is_terminal = stdout.is_terminal();
    let columns = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = width.or_else(columns).or_else(|| terminal_size().map(|(columns, _)| columns));
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    // Values that say that the terminal cannot show Unicode. The absence of a locale, as in a scratch container, says
    // nothing about the terminal at the other end.
    let plain = env("TERM") == "dumb" || matches!(env("LC_ALL").as_str(), "C" | "POSIX");
    Style {
        width: width.unwrap_or(WIDTH),
        ascii: ascii || plain,
        colour: is_terminal && env("NO_COLOR").is_empty() && env("TERM") != "dumb",
    }
}
