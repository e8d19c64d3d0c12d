//! `hpalite replay`: reads the history beside a running daemon, replays it, and writes the report.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::candidate::{self, Candidate, Choice};
use super::suggest::{self, Goal};
use super::{Model, Recorded, Replay, demo, record};
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
    match out.write_all(text.as_bytes()) {
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(vec![format!("cannot write: {error}")]),
        _ => Ok(()),
    }
}

fn read(subject: &Subject) -> Result<(ObjectKey, Recorded, Range), Vec<String>> {
    let Subject::Object { db, namespace, name, group, since, until } = subject else { return Ok(demo::recorded()) };
    let one = |error: crate::store::Error| vec![error.to_string()];
    let mut reader = Reader::open(db).map_err(one)?;
    let key = find(&mut reader, namespace, name, *group).map_err(|problem| vec![problem])?;
    let now = now_unix_ms();
    let to = match until {
        Some(text) => parse_at(text, UnixMillis(now)).map_err(|problem| vec![problem.replace("--at", "--until")])?.0,
        None => now,
    };
    let range = Range { from: to - i64::try_from(since.as_millis()).unwrap_or(to), to };
    let recorded = record::load(&mut reader, &key, range).map_err(one)?;
    let recorded = recorded.ok_or_else(|| {
        vec![format!(
            "the history has no definition of {key} before the end of this time: a later --until may have one"
        )]
    })?;
    Ok((key, recorded, range))
}
