//! What one Prometheus may be asked, whoever asks: at most so often, and so much at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::scaling::model::UnixMillis;

/// Questions that a server which was left alone may be asked at once, in time at its rate.
const BURST: f64 = 1_000.0;

/// The limits of every Prometheus; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Queries a second.
    pub rate: Option<f64>,
    /// Queries under way.
    pub concurrency: Option<usize>,
}

/// Keeps to the rate by the generic cell rate algorithm: one time a server instead of a bucket to be filled.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) limits: Limits,
    /// When the next question would be due if each came in its time, in milliseconds. No server that owes nothing.
    owed: HashMap<Arc<str>, f64>,
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, owed: HashMap::new() }
    }

    /// When the server may be asked next. `None` if that is now.
    pub(super) fn free_at(&self, server: &str, now: UnixMillis) -> Option<UnixMillis> {
        let free = (self.owed.get(server)? - BURST).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        (free > now.0 as f64).then_some(UnixMillis(free as i64))
    }

    /// A question goes out.
    pub(super) fn spend(&mut self, server: &Arc<str>, now: UnixMillis) {
        let Some(rate) = self.limits.rate else { return };
        #[allow(clippy::cast_precision_loss)]
        let now = now.0 as f64;
        self.owed.retain(|_, owed| *owed > now);
        let owed = self.owed.entry(Arc::clone(server)).or_insert(now);
        *owed += 1_000.0 / rate;
    }

    pub(super) fn shift(&mut self, by: i64) {
        #[allow(clippy::cast_precision_loss)]
        self.owed.values_mut().for_each(|owed| *owed += by as f64);
    }
}

/// The longest that a server's word keeps its questions back. Prometheus and its proxies ask for seconds; after a minute
/// one question finds out whether it is over.
pub(super) const REST_MAX: Duration = Duration::from_mins(1);
