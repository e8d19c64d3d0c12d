//! Clocks: the machine's, and the one of the core: wall time that never leaps under the core's feet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::scaling::model::UnixMillis;

/// A step of the wall clock larger than this is a correction, not drift.
const STEP: i64 = 1_000;

/// Wall time at the start plus what passed since, also while the machine slept: readings grow old meanwhile. Boards
/// without a battery start years in the past and leap when they hear from a time server; the core is told of the
/// leap instead of living through it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Since the machine was started.
    started: Duration,
    wall: i64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: since_boot(), wall: wall_millis() }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        let elapsed = i64::try_from(since_boot().saturating_sub(self.started).as_millis()).unwrap_or(i64::MAX);
        UnixMillis(self.wall.saturating_add(elapsed))
    }

    /// Follows the wall clock; returns by how many milliseconds it was stepped.
    pub(crate) fn follow(&mut self) -> Option<i64> {
        let step = wall_millis() - self.now().0;
        if step.abs() < STEP {
            return None;
        }
        self.wall += step;
        Some(step)
    }

    /// Time left until `deadline`, at most `at_most`.
    pub(crate) fn until(&self, deadline: Option<UnixMillis>, at_most: Duration) -> Duration {
        deadline.map_or(at_most, |deadline| deadline.since(self.now()).min(at_most))
    }
}

/// Time since the machine was started, suspended or not: a Lease runs out, and readings grow old, while their holder
/// sleeps.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Milliseconds of the wall clock.
#[expect(clippy::disallowed_methods, reason = "this is where the daemon reads it")]
pub(crate) fn wall_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds of the wall clock, for Kubernetes Events.
#[expect(clippy::disallowed_methods, reason = "this is where the daemon reads it")]
pub(crate) fn wall_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
