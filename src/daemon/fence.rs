//! The fence that every write to the API server passes: it is sent only while this instance holds the Lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::kube::error::Error;

/// Field manager of everything we write.
pub(super) const FIELD_MANAGER: &str = "hpalite";
/// Upper bound on the duration of a write when no Lease limits it.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Whether this instance may write: open until the current renewal expires, judged by this host's clock alone.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// Milliseconds of [`clock::since_boot`]; 0 means closed.
    until: AtomicU64,
    /// Counts writes to the Lease itself, which do not pass the fence.
    renewals: AtomicU64,
}

impl Fence {
    /// Returns a fence that never closes, for an instance without a Lease.
    pub(super) fn open() -> Self {
        Self { until: AtomicU64::new(u64::MAX), ..Self::default() }
    }

    /// Returns the time limit for a write that starts now.
    ///
    /// # Errors
    /// [`Error::LeaseNotHeld`].
    pub(super) fn pass(&self) -> Result<Duration, Error> {
        let left = Duration::from_millis(self.until.load(Ordering::Acquire)).saturating_sub(clock::since_boot());
        if left.is_zero() { Err(Error::LeaseNotHeld) } else { Ok(left.min(WRITE_MAX)) }
    }

    pub(super) fn renewed(&self) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often the Lease was acquired or renewed.
    pub(super) fn renewals(&self) -> u64 {
        self.renewals.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, until: Option<Duration>) {
        let until = until.map_or(0, |until| u64::try_from(until.as_millis()).unwrap_or(u64::MAX));
        self.until.store(until, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_opens_and_closes_by_itself() {
        let fence = Fence::default();
        assert!(fence.pass().is_err());
        fence.set(Some(clock::since_boot() + Duration::from_secs(60)));
        assert!(fence.pass().unwrap() <= WRITE_MAX);
        fence.set(Some(clock::since_boot() + Duration::from_secs(5)));
        assert!(fence.pass().unwrap() <= Duration::from_secs(5), "a write ends before its permission");
        fence.set(Some(clock::since_boot().saturating_sub(Duration::from_millis(1))));
        assert!(matches!(fence.pass(), Err(Error::LeaseNotHeld)));
        assert_eq!(Fence::open().pass().unwrap(), WRITE_MAX);
    }
}
