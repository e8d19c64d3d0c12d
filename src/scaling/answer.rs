//! The result of a poll: a number, a reason why there is none, or an error.

use std::fmt;

use super::model::{OnMissing, UnixMillis};

/// A server's answer, before any policy for missing values.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Finite.
    Value(f64),
    Missing(Missing),
    Failed(PollError),
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
    /// Value in the history: `empty`, `null`, `nan`, `infinite`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Null => "null",
            Self::NaN => "nan",
            Self::Infinite { .. } => "infinite",
        }
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollError {
    pub class: ErrorClass,
    /// Names the server, the status and the first line of its own error text. Equal faults have equal texts, without
    /// times, ids or secrets, since the text appears in conditions and Events of HPAs.
    pub message: String,
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
    /// Value of column `sample.outcome` and of log key `class`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Response => "response",
            Self::Query => "query",
            Self::Partial => "partial",
            Self::Missing => "missing",
            Self::Configuration => "configuration",
            Self::Formula => "formula",
        }
    }

    /// Returns true for faults of the server itself, for which it gets fewer workers.
    #[must_use]
    pub fn is_server_trouble(self) -> bool {
        matches!(self, Self::Connect | Self::Tls | Self::Timeout)
    }
}
