//! The facts in the sentences of an explanation, each a value of its own: they are turned into words last, and a test
//! checks every claim against the rows of the file.

use std::fmt;

use super::{Metric, time_text};
use crate::scaling::attribution::Attribution;
use crate::scaling::recommend::SCALE_DOWN_WINDOW_SECONDS;

/// One fact. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    Moved {
        at: i64,
        from: u32,
        to: u32,
        by: Attribution,
    },
    /// The count was seen for the first time.
    Seen {
        at: i64,
        to: u32,
    },
    /// The change was seen when a process began to watch, so it may be older.
    SeenAtStart {
        started: i64,
        at: i64,
    },
    /// The watch was interrupted until it showed the change, which may be as old as `since`.
    Unseen {
        since: i64,
        at: i64,
    },
    /// A metric's value while there were `replicas`.
    MetricValue {
        at: i64,
        replicas: u32,
        metric: Metric,
    },
    /// A metric had no number at that time.
    Absent {
        metric: String,
        at: i64,
        since: i64,
        answer: String,
    },
    /// The change came this long after the sample.
    After {
        metric: String,
        sample_at: i64,
        at: i64,
    },
    /// The HPA reads cpu or memory itself.
    Resources(String),
    /// A condition of the HPA, as recorded at that time.
    HpaCondition {
        at: i64,
        kind: &'static str,
        status: String,
        reason: String,
        /// Its meaning in our words, or else the HPA's message.
        words: String,
    },
    /// No sample after `sample_at` until `at` asked for more than `to`; the one at `sample_at` asked for `asked`.
    LastHigher {
        metric: String,
        sample_at: i64,
        asked: u32,
        to: u32,
        at: i64,
    },
    /// No sample from `since` to `at` asked for more than `to`.
    NoneHigher {
        since: i64,
        to: u32,
        at: i64,
    },
    /// A sample within the window asked for `to`, and none after it asked for more.
    Highest {
        metric: String,
        sample_at: i64,
        to: u32,
        at: i64,
    },
    /// hpalite's decision, as recorded at that time.
    Decided {
        at: i64,
        detail: String,
        pause: Option<String>,
    },
    /// The metric's value in a decision.
    Compared {
        decision_at: i64,
        metric: String,
        value: f64,
        activation: f64,
    },
    CooldownOver {
        decision_at: i64,
        until: i64,
        /// The period, if the definition has it.
        seconds: Option<u64>,
        at: i64,
    },
    /// The decision was only recorded, since the object is a shadow.
    Shadow {
        decision_at: i64,
        from: u32,
        to: u32,
    },
    /// A pause by these annotations; with `at_least` it may have begun earlier.
    Paused {
        since: i64,
        at_least: bool,
        annotations: String,
        /// What the condition says beyond that: until when, and the reason.
        message: Option<String>,
        at: i64,
    },
    /// The object's Paused condition is true, and no decision says by which annotation.
    PausedCondition {
        since: i64,
        message: String,
        at: i64,
    },
    Removed {
        since: i64,
        at: i64,
        noun: &'static str,
    },
    NotStarted,
    StoodBy {
        since: i64,
        at: i64,
    },
    Stopped {
        since: i64,
        at: i64,
    },
    Invalid {
        from: i64,
        problem: String,
    },
    CheckFailed {
        since: i64,
        message: String,
        at: i64,
    },
    InError {
        metric: String,
        since: i64,
        /// Number of polls until `at`, if they can be counted.
        polls: Option<u64>,
        outcome: String,
        message: String,
        means: String,
        at: i64,
    },
    Cooldown {
        decision_at: i64,
        name: &'static str,
        until: i64,
        at: i64,
    },
    NoSample {
        metric: String,
        /// When polling began; with `ever`, the time since which there is no sample.
        since: i64,
        ever: bool,
        at: i64,
    },
    Silence {
        sample_at: i64,
        interval_s: u64,
        at: i64,
    },
    /// Polls go on, but later than they are due.
    Late {
        sample_at: i64,
        interval_s: u64,
        at: i64,
    },
    AtMax(u32),
    AtMin(u32),
    /// `None`: the controller's own, which is set by a flag.
    Tolerance {
        percent: f64,
        is_own: bool,
    },
    Window(Window),
    /// Seconds until the window ends, as far as its length is known.
    Left(i64),
    /// The HPA reported ScaleDownStabilized at that time.
    ReportedStabilized {
        at: i64,
    },
}

/// The downscale stabilization window, and how it is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// From `behavior.scaleDown.stabilizationWindowSeconds`.
    Own(i64),
    /// The HPA scaled in at that time, this many seconds after a sample that asked for more.
    Learnt { seconds: i64, at: i64, sample_at: i64, now: i64 },
    /// The default of the controller's flag; nothing seen contradicts it.
    Default,
    /// What was seen contradicts the default, and does not show what the window is instead.
    Unknown,
}

impl Window {
    pub(super) fn seconds(&self) -> Option<i64> {
        match self {
            Self::Own(seconds) | Self::Learnt { seconds, .. } => Some(*seconds),
            Self::Default => Some(i64::from(SCALE_DOWN_WINDOW_SECONDS)),
            Self::Unknown => None,
        }
    }
}

/// Joins claims into one sentence.
pub(super) fn sentence(claims: &[Claim], separator: &str) -> String {
    claims.iter().map(ToString::to_string).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(separator)
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moved { from, to, by, .. } => write!(f, "{from}→{to} by {by}"),
            Self::Seen { to, .. } => write!(f, "{to} first seen"),
            Self::SeenAtStart { started, at } => {
                write!(f, "seen when hpalite started at {}, it may be older", time_text::short(*started, *at))
            }
            Self::Unseen { since, at } => write!(
                f,
                "seen when the API server answered again, it may have been any time since {}",
                time_text::short(*since, *at)
            ),
            Self::MetricValue { at, metric, .. } => f.write_str(&super::facts::metric_text(metric, *at)),
            Self::Absent { metric, at, since, answer } => {
                // In `no series, which reads as 0 (ignoreNullValues)` the time belongs after the first half.
                let (what, reads) = answer.split_once(", ").unwrap_or((answer, ""));
                write!(f, "{metric}: {what} since {}, {reads}", time_text::short(*since, *at))
            }
            Self::After { sample_at, at, .. } => write!(f, "{:.1} s after the sample", millis(at - sample_at)),
            Self::Resources(text) => write!(f, "for {text}, which it reads itself"),
            Self::HpaCondition { words, .. } => f.write_str(words),
            Self::LastHigher { metric, sample_at, asked, to, at } => write!(
                f,
                "no sample asked for more than {to} since {}, when {metric} asked for {asked}, {} s before",
                time_text::short(*sample_at, *at),
                (at - sample_at) / 1000
            ),
            Self::NoneHigher { since, to, at } => {
                write!(f, "no sample asked for more than {to} since {} at least", time_text::short(*since, *at))
            }
            Self::Highest { metric, sample_at, to, at } => write!(
                f,
                "{to} is what {metric} asked for at {}, and no sample after it asked for more (stabilization)",
                time_text::short(*sample_at, *at)
            ),
            Self::Decided { detail, pause, .. } => match pause {
                Some(pause) => write!(f, "{detail} ({pause})"),
                None => f.write_str(detail),
            },
            Self::Compared { metric, value, activation, .. } => {
                let compared = if value > activation { ">" } else { "≤" };
                write!(f, "{metric} {value} {compared} activation threshold {activation}")
            }
            Self::CooldownOver { until, seconds, at, .. } => {
                let period = seconds.map_or(String::new(), |seconds| format!(" of {seconds} s"));
                write!(f, "cooldown{period} over since {}", time_text::short(*until, *at))
            }
            Self::Shadow { from, to, .. } => {
                write!(f, "a shadow, which writes nothing: it has {from} replicas and would have {to}")
            }
            Self::Paused { since, at_least, annotations, message, at } => {
                let since = time_text::short(*since, *at);
                write!(f, "a pause since {since}{} by {annotations}", if *at_least { " at least" } else { "" })?;
                message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
            }
            Self::PausedCondition { since, message, at } => {
                write!(f, "a pause since {}: {message}", time_text::short(*since, *at))
            }
            Self::Removed { since, at, noun } => {
                write!(f, "its removal: the {noun} is gone since {}", time_text::short(*since, *at))
            }
            Self::NotStarted => f.write_str("the daemon, which had not been started yet"),
            Self::StoodBy { since, at } => write!(
                f,
                "another instance, if there was one, whose history has what it did: this one stood by since {}",
                time_text::short(*since, *at)
            ),
            Self::Stopped { since, at } => write!(f, "the daemon, stopped since {}", time_text::short(*since, *at)),
            Self::Invalid { problem, .. } => write!(f, "its definition, which is invalid: {problem}"),
            Self::CheckFailed { since, message, at } => {
                write!(f, "a failed check since {}: {message}", time_text::short(*since, *at))
            }
            Self::InError { metric, since, polls, outcome, message, means, at } => {
                let since = time_text::short(*since, *at);
                let polls = polls
                    .map_or(String::new(), |polls| format!(" ({polls} {})", if polls == 1 { "poll" } else { "polls" }));
                // A message is more specific than its class.
                let what = if message.is_empty() { outcome.clone() } else { format!("{message} ({outcome})") };
                write!(f, "trigger {metric} in error since {since}{polls}: {what}{means}")
            }
            Self::Cooldown { name, until, at, .. } => {
                let name = name.replace('-', " ");
                match (until - at).max(0).saturating_add(999) / 1000 {
                    0 => write!(f, "the next poll: no trigger is active, the {name} is over"),
                    left => write!(f, "{name}, {left} s left: no trigger is active"),
                }
            }
            Self::NoSample { metric, since, ever: false, at } => {
                write!(f, "{metric} has no sample yet, measured since {}", time_text::short(*since, *at))
            }
            Self::NoSample { metric, since, at, .. } => {
                write!(f, "{metric} has no sample since {} at least", time_text::short(*since, *at))
            }
            Self::Silence { sample_at, interval_s, at } => write!(
                f,
                "silence: the newest sample is {} s old, though polled every {interval_s} s",
                (at - sample_at) / 1000
            ),
            Self::Late { sample_at, interval_s, at } => write!(
                f,
                "late: the newest sample is {} s old, though polled every {interval_s} s (its server is slow or asked for \
                 a rest, or --prometheus-max-qps, --prometheus-max-concurrency or --poll-threads is too low)",
                (at - sample_at) / 1000
            ),
            Self::AtMax(max) => write!(f, "maxReplicaCount {max}"),
            Self::AtMin(min) => write!(f, "the minimum of {min}"),
            Self::Tolerance { percent, is_own: true } => write!(f, "the tolerance of {percent} % in its behavior"),
            Self::Tolerance { percent, .. } => {
                write!(f, "the HPA controller's tolerance, about {percent} % unless its flag says otherwise")
            }
            Self::Window(Window::Own(seconds)) => write!(f, "the stabilization window of {seconds} s in its behavior"),
            Self::Window(Window::Learnt { seconds, at, now, .. }) => write!(
                f,
                "the HPA controller's stabilization window, about {seconds} s as at the scale-in of {}",
                time_text::short(*at, *now)
            ),
            Self::Window(Window::Default) => write!(
                f,
                "the HPA controller's stabilization window, about {SCALE_DOWN_WINDOW_SECONDS} s unless its flag says \
                 otherwise"
            ),
            Self::Window(Window::Unknown) => f.write_str("the HPA controller's stabilization window"),
            Self::Left(seconds) => write!(f, "about {seconds} s left"),
            Self::ReportedStabilized { .. } => f.write_str("the HPA says ScaleDownStabilized"),
        }
    }
}

fn millis(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
