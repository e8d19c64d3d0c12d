//! How old a sample may become before it is an error.
//!
//! A healthy trigger is answered once per interval, give or take half of one (a first poll at once is followed by
//! regular ones), after at most the timeout, so that a sample is up to 1.5 intervals and a timeout old. A lost answer
//! is an error by itself. What remains is a poll that waits for a worker, and a slow machine: three intervals and the
//! timeout leave 1.5 intervals for those, and the minimum leaves half a minute for short intervals.

use std::time::Duration;

use super::model::{Definition, Source};

/// The minimum, even for a trigger that is polled every second: a machine may pause for a while without harm.
const LEAST: Duration = Duration::from_secs(30);

/// For every trigger of an object, in whole seconds: a poll cycle goes on when the last of them was answered, so the
/// longest timeout counts for all. `default_timeout` is that of triggers without one.
#[must_use]
pub fn limit(definition: &Definition, default_timeout: Duration) -> Duration {
    let timeout = |source: &Source| source.query().map(|query| query.timeout().unwrap_or(default_timeout));
    let longest = definition.triggers.iter().filter_map(|trigger| timeout(&trigger.source)).max();
    let limit = definition.polling_interval.saturating_mul(3).saturating_add(longest.unwrap_or_default());
    Duration::from_secs(limit.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)).max(LEAST)
}

/// The error of a trigger that was not answered for that long. Stable, since it appears in conditions of HPAs.
#[must_use]
pub fn silence(limit: Duration) -> String {
    format!("no answer for more than {} s", limit.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scaling::model::Query;
    use crate::scaling::testing::{definition, prometheus, trigger};

    #[test]
    fn three_intervals_and_the_longest_timeout() {
        let mut definition = definition();
        definition.triggers.push(trigger(1, "down"));
        let of = |definition: &Definition| limit(definition, Duration::from_secs(3)).as_secs();
        assert_eq!(of(&definition), 93);
        let mut slow = prometheus("slow");
        slow.timeout = Some(Duration::from_millis(8_200));
        definition.triggers[1].source = Source::Query(Query::Prometheus(Arc::new(slow)));
        assert_eq!(of(&definition), 99);
        definition.polling_interval = Duration::from_secs(3);
        assert_eq!(of(&definition), 30);
        definition.polling_interval = Duration::MAX;
        assert!(limit(&definition, Duration::MAX) > Duration::from_secs(1 << 40));
    }
}
