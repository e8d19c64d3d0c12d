//! An immutable snapshot of one object, from which reads of the external metrics API are answered.

use std::sync::Arc;
use std::time::Duration;

use super::model::{Asked, ObjectKey, PodValues, UnixMillis};

/// Published by the core whenever a sample or the definition has changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectView {
    pub key: ObjectKey,
    /// The label that selects this object's metrics: key and value.
    pub selector: (String, String),
    pub metrics: Vec<MetricView>,
    /// Of an annotated HPA: how each of the metrics is asked for, also if it is unusable and has none. Empty for a
    /// ScaledObject, whose metrics are asked for by their names and its selector.
    pub asked: Arc<[Asked]>,
    /// Set if the whole object is unusable, so that every metric of it is answered with this text.
    pub error: Option<String>,
    /// When it was published, by the clock of the readings.
    pub made_at: UnixMillis,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricView {
    /// The canonical name; reads match it in any case.
    pub name: Arc<str>,
    pub reading: Reading,
    /// The trigger has `useCachedMetrics`.
    pub cached: bool,
    /// A value older than this is an error; `None` if it is computed from the clock or comes from a fallback.
    pub age_limit: Option<Duration>,
    /// Of a Pods metric: what each pod answered. Its sum is the reading, in whose absence it does not count.
    pub pods: Option<Arc<PodValues>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Not yet answered.
    Pending,
    /// Finite, and not negative. `at` is when the server was queried.
    Value { value: f64, at: UnixMillis },
    /// A stable text for conditions of HPAs, see [`super::answer::PollError`]; failing since `since`.
    Failed { message: String, since: UnixMillis },
}
