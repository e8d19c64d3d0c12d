//! Large bodies are read and parsed a few at a time in the whole process, so that their memory is needed only so often.
//!
//! A thread that holds a permit must not wait for another permit of the same semaphore.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

pub(crate) struct Semaphore {
    /// Bodies up to this size need no permit.
    free_bytes: usize,
    /// Permits that nobody holds.
    left: Mutex<usize>,
    given_back: Condvar,
}

/// Holds a permit until it is dropped; `None` for a small body, which needs none.
#[must_use]
pub(crate) struct Permit<'t>(Option<&'t Semaphore>);

impl Semaphore {
    pub(crate) const fn new(permits: usize, free_bytes: usize) -> Self {
        Self { free_bytes, left: Mutex::new(permits), given_back: Condvar::new() }
    }

    /// Waits until a body of so many bytes may be read and parsed. Returns `None` if the deadline passes before.
    pub(crate) fn acquire(&self, bytes: usize, deadline: Instant) -> Option<Permit<'_>> {
        if bytes <= self.free_bytes {
            return Some(Permit(None));
        }
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.given_back.wait_timeout_while(left, patience, |left| *left == 0);
        let (mut left, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(1)?;
        Some(Permit(Some(self)))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(semaphore) = self.0 {
            *semaphore.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            semaphore.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const LARGE_BYTES: usize = 64 << 10;

    #[test]
    fn as_many_large_answers_as_there_are_permits() {
        for permits in [1, 2] {
            assert!(most_at_once(permits) <= permits);
        }
    }

    fn most_at_once(permits: usize) -> usize {
        let semaphore = Semaphore::new(permits, LARGE_BYTES);
        let deadline = Instant::now() + Duration::from_secs(60);
        let (reading, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let permit = semaphore.acquire(LARGE_BYTES + 1, deadline);
                        assert!(permit.is_some());
                        most.fetch_max(reading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        reading.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_small_ones_do_not_wait() {
        let semaphore = Semaphore::new(1, LARGE_BYTES);
        let now = Instant::now();
        let first = semaphore.acquire(LARGE_BYTES + 1, now);
        assert!(first.is_some(), "a deadline that has passed does not matter while nobody reads");
        assert!(semaphore.acquire(LARGE_BYTES + 1, now + Duration::from_millis(20)).is_none());
        assert!(semaphore.acquire(LARGE_BYTES, now).is_some());
        drop(first);
        assert!(semaphore.acquire(LARGE_BYTES + 1, now).is_some());
    }

    #[test]
    fn a_panic_gives_the_permit_back() {
        let semaphore = Semaphore::new(1, LARGE_BYTES);
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _permit = semaphore.acquire(LARGE_BYTES + 1, Instant::now());
            panic!("test");
        }));
        assert!(broken.is_err());
        assert!(semaphore.acquire(LARGE_BYTES + 1, Instant::now()).is_some());
    }
}
