//! Clocks: the machine's, and the core's, which is wall time that only steps when the core is notified. The latter needs
//! Linux, where the daemon runs; commands need the former alone.

#[cfg(target_os = "linux")]
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
use crate::scaling::model::UnixMillis;

/// A step of the wall clock larger than this is a correction, not drift.
#[cfg(target_os = "linux")]
const STEP: i64 = 1_000;

/// Wall time at the start plus the time since, including suspended time, because readings age meanwhile. Boards without
/// a battery start years in the past and step when a time server answers; the core is notified of the step instead of
/// its clock jumping.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Time since the machine's boot.
    started: Duration,
    wall: i64,
}

#[cfg(target_os = "linux")]
impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: since_boot(), wall: wall_millis() }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        let elapsed = i64::try_from(since_boot().saturating_sub(self.started).as_millis()).unwrap_or(i64::MAX);
        UnixMillis(self.wall.saturating_add(elapsed))
    }

    /// Adjusts to the wall clock; returns the step in milliseconds, if there was one.
    pub(crate) fn follow(&mut self) -> Option<i64> {
        let step = wall_millis() - self.now().0;
        if step.abs() < STEP {
            return None;
        }
        self.wall += step;
        Some(step)
    }

    /// Returns the time left until `deadline`, at most `at_most`.
    pub(crate) fn until(&self, deadline: Option<UnixMillis>, at_most: Duration) -> Duration {
        deadline.map_or(at_most, |deadline| deadline.since(self.now()).min(at_most))
    }
}

/// Returns the time since the machine's boot, including suspended time: a Lease expires and readings age while their
/// holder sleeps.
#[cfg(target_os = "linux")]
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
