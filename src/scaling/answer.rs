//! The result of a poll: a number, a reason why there is none, or an error.

use std::fmt;

use super::source::OnMissing;
use super::time::UnixMillis;

/// Names of what a poll gave, in the history's `sample.outcome`, in metrics and in logs: a value, then each [`Missing`],
/// then each [`ErrorClass`], in their order.
pub const OUTCOMES: [&str; 16] = [
    "value",
    "empty",
    "null",
    "nan",
    "infinite",
    "authentication",
    "connect",
    "tls",
    "timeout",
    "status",
    "response",
    "query",
    "partial",
    "missing",
    "configuration",
    "formula",
];

/// A server's answer, before any policy for missing values.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Finite.
    Value(f64),
    Missing(Missing),
    Failed(PollError),
}

impl Answer {
    /// Returns one of [`OUTCOMES`].
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Value(_) => OUTCOMES[0],
            Self::Missing(missing) => missing.class(),
            Self::Failed(error) => error.class.id(),
        }
    }
}

/// A successful answer without a usable number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No series matched.
    Empty,
    /// The value is `null`.
    Null,
    NaN,
    /// `+Inf` or `-Inf`.
    Infinite {
        positive: bool,
    },
}

impl Missing {
    /// Returns one of [`OUTCOMES`]: `empty`, `null`, `nan` or `infinite`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        let at = match self {
            Self::Empty => 1,
            Self::Null => 2,
            Self::NaN => 3,
            Self::Infinite { .. } => 4,
        };
        OUTCOMES[at]
    }
}

/// Answers without a number that the trigger's policy treats as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    pub missing: Missing,
    pub policy: OnMissing,
    /// When the first of these consecutive answers was received.
    pub since: UnixMillis,
}

impl Absence {
    /// Returns how a policy treats an answer without a number, which is one of [`OUTCOMES`]; `None` if it is an error.
    #[must_use]
    pub fn of(outcome: &str, policy: OnMissing, since: UnixMillis) -> Option<Self> {
        let missing = [Missing::Empty, Missing::Null, Missing::NaN, Missing::Infinite { positive: true }];
        let missing = missing.into_iter().find(|missing| missing.class() == outcome)?;
        let is_number = match policy {
            OnMissing::EmptyIsZero => missing == Missing::Empty,
            OnMissing::Zero | OnMissing::Hold(_) => true,
            OnMissing::Error => false,
        };
        is_number.then_some(Self { missing, policy, since })
    }
}

/// `no series, which reads as 0 (ignoreNullValues)`.
impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.missing {
            Missing::Empty => "no series",
            Missing::Null => "null",
            Missing::NaN => "NaN",
            Missing::Infinite { positive: true } => "+Inf",
            Missing::Infinite { positive: false } => "-Inf",
        };
        write!(f, "{what}, {}", self.policy.reads())
    }
}

/// Upper bound on the bytes of an error's message, which may contain an address, a path or other texts of any length: what
/// the history keeps of a text.
pub const MESSAGE_MAX: usize = 2_048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollError {
    pub class: ErrorClass,
    /// Names the server, the status and the first line of its own error text. Equal faults have equal texts, without
    /// times, ids or secrets, since the text appears in conditions and Events of HPAs.
    pub message: String,
}

impl PollError {
    /// Cuts the message to what the history keeps of one.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_MAX));
            message.push('…');
        }
        Self { class, message }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Credentials could not be fetched or are incomplete.
    Authentication,
    Connect,
    Tls,
    Timeout,
    /// The server answered with an error status.
    Status,
    /// The answer does not follow the API.
    Response,
    /// Several series or a matrix: the query itself must change.
    Query,
    /// The server says that its answer is incomplete.
    Partial,
    /// A value is missing, and the trigger's policy makes that an error.
    Missing,
    /// Not polled: the definition or the trigger authentication is unusable.
    Configuration,
    /// All triggers have values, but the formula does not yield a number.
    Formula,
}

impl ErrorClass {
    /// Returns one of [`OUTCOMES`], the variant's name in lower case.
    #[must_use]
    pub fn id(self) -> &'static str {
        OUTCOMES[5 + self as usize]
    }

    /// Returns true for faults of the server itself, for which it gets fewer workers.
    #[must_use]
    pub fn is_server_trouble(self) -> bool {
        matches!(self, Self::Connect | Self::Tls | Self::Timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters() {
        let message = |text: String| PollError::new(ErrorClass::Status, text).message;
        for short in ["x".repeat(MESSAGE_MAX), "ä".repeat(MESSAGE_MAX / 2)] {
            assert!(message(short.clone()) == short);
        }
        assert!(message("x".repeat(60_000)) == "x".repeat(MESSAGE_MAX) + "…");
        let odd = message("x".to_owned() + &"ä".repeat(60_000));
        assert_eq!((odd.len(), odd.chars().last()), (MESSAGE_MAX - 1 + "…".len(), Some('…')));
        assert_eq!(message(odd.clone()).len(), odd.len(), "cutting again takes nothing");
    }

    #[test]
    fn outcomes_are_named_after_their_variants() {
        use ErrorClass::{Authentication, Formula, Missing as Absent, Timeout};
        for class in [Authentication, Timeout, Absent, Formula] {
            assert_eq!(class.id(), format!("{class:?}").to_lowercase());
        }
        let missing = [Missing::Empty, Missing::Null, Missing::NaN, Missing::Infinite { positive: true }];
        assert_eq!(missing.map(|missing| missing.class()), ["empty", "null", "nan", "infinite"]);
    }
}
