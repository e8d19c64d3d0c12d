//! Polls that nothing follows from, so that a month of them need not be decided one by one.
//!
//! While an object stays active, what a poll brings is only read: by the HPA controller at its next look, by which time a
//! later poll may have brought something newer. Such a poll is left out, and so is one that brings what is known already.

use std::time::Duration;

use super::track::Cursor;
use crate::scaling::age;
use crate::scaling::model::{Definition, MetricType, Query, UnixMillis};

/// As the daemon has it where a query has none of its own.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// What the polls of one object have brought, as far as that is needed to leave out some.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Of each trigger its query's place among the cursors, where it is active, and the target of which its value is a share.
    triggers: Vec<(usize, f64, Option<f64>)>,
    /// By place: the answer that was last taken in, its own place in the track and its number.
    taken: Vec<Option<(usize, f64)>>,
    /// When that was.
    at: i64,
    /// How long a poll may be missing at most.
    limit: i64,
    never_idles: bool,
}

impl Quiet {
    /// Returns `None` if more than the answers of queries decides: windows, pods, formulas, and what is forced.
    pub(super) fn of(definition: &Definition, queries: &[(Query, Cursor<'_>)]) -> Option<Self> {
        let place = |query: &Query| queries.iter().position(|(known, _)| known == query);
        let triggers = definition.triggers.iter().map(|trigger| {
            let share = (trigger.metric_type == MetricType::AverageValue).then_some(trigger.threshold);
            Some((place(trigger.source.query()?)?, trigger.activation_threshold, share))
        });
        let triggers: Vec<_> = triggers.collect::<Option<_>>()?;
        let is_plain = definition.modifiers.is_none() && !triggers.is_empty();
        is_plain.then(|| Self {
            triggers,
            taken: vec![None; queries.len()],
            at: i64::MIN,
            limit: i64::try_from(age::limit(definition, QUERY_TIMEOUT).as_millis()).unwrap_or(0),
            never_idles: definition.min() > 0 && definition.idle_replicas.is_none(),
        })
    }

    /// Notes what a poll has brought.
    pub(super) fn take(&mut self, place: usize, cursor: &Cursor<'_>, now: i64) {
        self.at = now;
        self.taken[place] = cursor.peek(now);
    }

    /// What was brought is not known any more.
    pub(super) fn forget(&mut self) {
        self.taken.fill(None);
    }

    /// Returns whether nothing follows from a poll at a time, if the one after it is at `next` and the HPA controller looks
    /// at `look`, when the target has so many replicas.
    pub(super) fn may_leave_out(
        &self,
        queries: &[(Query, Cursor<'_>)],
        replicas: u32,
        at: UnixMillis,
        next: UnixMillis,
        look: i64,
    ) -> bool {
        // The age of what is known must not begin to matter.
        if next.0.saturating_sub(self.at) >= self.limit {
            return false;
        }
        let mut is_active = false;
        for (place, activation, _) in &self.triggers {
            let Some((known, value)) = self.taken[*place] else { return false };
            let cursor = &queries[*place].1;
            let (Some((seen, value_now)), Some((_, value_then))) = (cursor.peek(at.0), cursor.peek(next.0)) else {
                return false;
            };
            let active = value > *activation;
            // The last poll before a change is when the object was last active.
            let is_alike = (value_now > *activation) == active && (value_then > *activation) == active;
            if !is_alike || (next.0 > look && seen != known) {
                return false;
            }
            is_active |= active;
        }
        // Without activity the cooldown runs, unless it is over or there is none.
        self.never_idles || is_active == (replicas > 0)
    }

    /// Returns the replicas that the answers of a time ask for, in fractions, and the number of polls that they take.
    pub(super) fn left_out(&self, queries: &[(Query, Cursor<'_>)], at: UnixMillis) -> (f64, u64) {
        let demands = self.triggers.iter().filter_map(|(place, activation, share)| {
            let (_, value) = queries[*place].1.peek(at.0)?;
            share.filter(|_| value > *activation).map(|share| value / share)
        });
        (demands.fold(0.0, f64::max), self.taken.iter().flatten().count() as u64)
    }
}
