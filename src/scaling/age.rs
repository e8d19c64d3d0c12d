//! How old a reading may become before it is an error.
//!
//! An answer that is healthy comes each interval, give or take a half (a first poll at once is followed by steady
//! ones), and takes up to the timeout: until the next one it grows 1.5 intervals and a timeout old. Once lost on
//! the way is an error of its own, so what is left is a question that waits for a worker, and a machine that is
//! slow: three intervals and the timeout leave 1.5 intervals for those, and short intervals have half a minute.

use std::time::Duration;

use super::model::{Definition, Source};

/// Also of a trigger that is asked every second: a machine may stand still for a while without harm.
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

/// What a trigger without an answer for that long says. Stable, since it ends up in conditions of HPAs.
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
