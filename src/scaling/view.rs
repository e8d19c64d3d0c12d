//! What reads of the external metrics API are answered from: a finished picture of one object.

use std::sync::Arc;
use std::time::Duration;

use super::model::{ObjectKey, UnixMillis};

/// Published by the core whenever a sample or the definition changed; immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectView {
    pub key: ObjectKey,
    /// Label that selects this object's metrics: key and value.
    pub selector: (String, String),
    pub metrics: Vec<MetricView>,
    /// Set when the whole object is unusable, so that every metric of it answers with this text.
    pub error: Option<String>,
    /// When it was published, by the clock that the readings are stamped with.
    pub made_at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricView {
    /// Canonical name; reads match it case-insensitively.
    pub name: Arc<str>,
    pub reading: Reading,
    /// Reads must not see a value older than the poll rhythm (no useCachedMetrics).
    pub cached: bool,
    /// Older than this a value is no answer any more; `None` for what is computed from the clock or stands in.
    pub age_limit: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Nothing asked yet.
    Pending,
    /// Finite, and of a trigger zero or above. `at` is when the server was asked.
    Value { value: f64, at: UnixMillis },
    /// Stable text for HPA conditions, see [`super::answer::PollError`]; failing since `since`.
    Failed { message: String, since: UnixMillis },
}
