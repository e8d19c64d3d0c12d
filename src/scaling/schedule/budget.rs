//! The budget of one metric server, over all objects: how often, and how much at the same time, it is queried.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::scaling::model::UnixMillis;

/// Queries that an idle server may get at once, as the time that they take at its rate, in milliseconds.
const BURST: f64 = 1_000.0;

/// The limits of every metric server; unlimited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Queries a second.
    pub rate: Option<f64>,
    /// Queries in flight.
    pub concurrency: Option<usize>,
}

/// Enforces the rate by the generic cell rate algorithm, with one time per server instead of a bucket to be filled.
#[derive(Debug)]
pub(super) struct Budgets {
    pub(super) limits: Limits,
    /// When the next query would be due at the plain rate, in milliseconds. Idle servers have no entry.
    owed: HashMap<Arc<str>, f64>,
}

impl Budgets {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, owed: HashMap::new() }
    }

    /// Returns when the server may be queried next; `None` if that is now.
    pub(super) fn free_at(&self, server: &str, now: UnixMillis) -> Option<UnixMillis> {
        let free = (self.owed.get(server)? - BURST).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        (free > now.0 as f64).then_some(UnixMillis(free as i64))
    }

    /// Records that a query is sent.
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

/// Upper bound on the pause that a server can ask for. Prometheus and its proxies ask for seconds; after a minute one
/// query finds out whether the overload is over.
pub(super) const REST_MAX: Duration = Duration::from_mins(1);
