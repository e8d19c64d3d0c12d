//! `hpalite replay`: reads the history beside a running daemon, replays it, and writes the report.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::candidate::{self, Candidate, Choice};
use super::suggest::{self, Goal};
use super::{Model, Recorded, Replay, Report, demo, record};
use crate::explain::time_text::parse_at;
use crate::history::command::{find, style};
use crate::scaling::model::{ApiGroup, ObjectKey, UnixMillis};
use crate::store::read::Range;
use crate::store::{Reader, now_unix_ms};

/// Longer than the hours of the history are kept by default.
pub const SINCE_MAX: Duration = Duration::from_hours(24 * 100);

/// Arguments of `hpalite replay`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    pub subject: Subject,
    pub choices: Vec<Choice>,
    pub goal: Option<Goal>,
    pub model: Model,
    /// Where to ask what the history lacks.
    pub from_prometheus: Option<String>,
    pub json: bool,
    pub ascii: bool,
    pub width: Option<usize>,
}

/// What is replayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    Object {
        db: PathBuf,
        namespace: String,
        name: String,
        group: Option<ApiGroup>,
        since: Duration,
        /// As typed, because its meaning depends on the clock.
        until: Option<String>,
    },
    /// Every object, of a namespace or of all.
    All {
        db: PathBuf,
        namespace: Option<String>,
        since: Duration,
        /// As typed, because its meaning depends on the clock.
        until: Option<String>,
    },
    /// The bundled week.
    Demo,
}

/// Replays and writes the report.
///
/// # Errors
/// Every problem at once: what is wrong, and what to do about it.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Vec<String>> {
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "what it lacks is not fetched there"))]
    let (key, mut recorded, range) = match &arguments.subject {
        Subject::Demo => demo::recorded(),
        Subject::All { .. } => return replay_all(arguments, out),
        Subject::Object { .. } => read(&arguments.subject)?,
    };
    let demo_choices = demo::choices();
    let is_demo = arguments.subject == Subject::Demo;
    let given = candidate::with_standard_input(&arguments.choices, std::io::stdin().lock());
    let given = given.map_err(|problem| vec![problem])?;
    let choices = if is_demo && given.is_empty() { &demo_choices } else { &given };
    let manifest = recorded.manifest.clone();
    let today = candidate::today(key.group, &manifest)?;
    let apply = |title: &str, choice: &Choice| candidate::candidate(key.group, title, choice, &manifest);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut problems = Vec::new();
    for (number, choice) in choices.iter().enumerate() {
        match apply(&format!("candidate {}", number + 1), choice) {
            Ok(candidate) => candidates.push(candidate),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let settings: Vec<&Candidate> = std::iter::once(&today).chain(&candidates).collect();
    if let Some(url) = &arguments.from_prometheus {
        #[cfg(target_os = "linux")]
        super::fetch::fill(&mut recorded, &settings, url, range).map_err(|problem| vec![problem])?;
        #[cfg(not(target_os = "linux"))]
        return Err(vec![format!(
            "--from-prometheus {url}: only Linux asks; kubectl hpalite replay does so in the pod"
        )]);
    }
    let unknown: Vec<String> = settings.iter().flat_map(|candidate| candidate.unknown(&recorded.tracks)).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let replay = Replay::new(&recorded, &today, range, arguments.model).map_err(|problem| vec![problem])?;
    let suggestion = match arguments.goal {
        Some(goal) => {
            let apply = |text: &str| apply("suggested", &Choice::Set(text.to_owned()));
            Some(suggest::suggest(&replay, goal, &apply)?)
        }
        None => None,
    };
    if let Some(suggestion) = suggestion.as_ref().filter(|suggestion| !suggestion.set.is_empty()) {
        candidates.push(apply("suggested", &Choice::Set(suggestion.set.clone()))?);
    }
    let mut report = replay.report(&candidates);
    report.suggestion = suggestion;
    let mut text = if arguments.json {
        serde_json::to_string(&report).map_err(|error| vec![error.to_string()])? + "\n"
    } else {
        report.text(style(arguments.width, arguments.ascii))
    };
    if is_demo && !arguments.json {
        text = demo::around(&text, &replay);
    }
    write(&text, out)
}

fn write(text: &str, out: &mut dyn Write) -> Result<(), Vec<String>> {
    match out.write_all(text.as_bytes()) {
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(vec![format!("cannot write: {error}")]),
        _ => Ok(()),
    }
}

/// Replays today's settings and others over a range, for those who have no command line.
///
/// # Errors
/// Every problem at once: what is wrong, and what to do about it.
pub fn what_if(
    reader: &mut Reader,
    key: &ObjectKey,
    range: Range,
    choices: &[Choice],
    model: Model,
) -> Result<Report, Vec<String>> {
    let recorded = record::load(reader, key, range).map_err(|error| vec![error.to_string()])?;
    let recorded =
        recorded.ok_or_else(|| vec![format!("the history has no definition of {key} before this time ends")])?;
    let today = candidate::today(key.group, &recorded.manifest)?;
    let mut candidates = Vec::new();
    for choice in choices {
        candidates.push(candidate::candidate(key.group, "candidate", choice, &recorded.manifest)?);
    }
    let unknown: Vec<String> =
        std::iter::once(&today).chain(&candidates).flat_map(|settings| settings.unknown(&recorded.tracks)).collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let replay = Replay::new(&recorded, &today, range, model).map_err(|problem| vec![problem])?;
    Ok(replay.report(&candidates))
}

fn replay_all(arguments: &Arguments, out: &mut dyn Write) -> Result<(), Vec<String>> {
    let Subject::All { db, namespace, since, until } = &arguments.subject else { return Ok(()) };
    let range = range(*since, until.as_deref())?;
    let set = arguments.choices.iter().find_map(|choice| match choice {
        Choice::Set(text) => Some(text.as_str()),
        _ => None,
    });
    let all = super::all::replay(db, namespace.as_deref(), range, set, arguments.model);
    let all = all.map_err(|error| vec![error.to_string()])?;
    if all.objects.is_empty() && all.left_out.is_empty() {
        return Err(vec!["the history has no ScaledObject here".to_owned()]);
    }
    let text = if arguments.json {
        serde_json::to_string(&all).map_err(|error| vec![error.to_string()])? + "\n"
    } else {
        all.text()
    };
    write(&text, out)
}

/// Returns the time up to its end, which is now unless one is given.
fn range(since: Duration, until: Option<&str>) -> Result<Range, Vec<String>> {
    let now = now_unix_ms();
    let to = match until {
        Some(text) => parse_at(text, UnixMillis(now)).map_err(|problem| vec![problem.replace("--at", "--until")])?.0,
        None => now,
    };
    Ok(Range { from: to - i64::try_from(since.as_millis()).unwrap_or(to), to })
}

fn read(subject: &Subject) -> Result<(ObjectKey, Recorded, Range), Vec<String>> {
    let Subject::Object { db, namespace, name, group, since, until } = subject else { return Ok(demo::recorded()) };
    let one = |error: crate::store::Error| vec![error.to_string()];
    let mut reader = Reader::open(db).map_err(one)?;
    let key = find(&mut reader, namespace, name, *group).map_err(|problem| vec![problem])?;
    let range = range(*since, until.as_deref())?;
    let recorded = record::load(&mut reader, &key, range).map_err(one)?;
    let recorded = recorded.ok_or_else(|| {
        vec![format!(
            "the history has no definition of {key} before the end of this time: a later --until may have one"
        )]
    })?;
    Ok((key, recorded, range))
}
