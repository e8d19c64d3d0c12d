//! Large bodies are parsed one at a time in the whole process, so that their memory is needed only once.
//!
//! Owns the one permit. A thread that holds it must not wait for another.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Bodies up to this size need no permit: all polls in flight together parse them into a few megabytes.
pub(crate) const LARGE_BYTES: usize = 64 << 10;

pub(crate) struct Semaphore {
    is_taken: Mutex<bool>,
    given_back: Condvar,
}

/// The permit of the process.
pub(crate) static LARGE_READS: Semaphore = Semaphore::new();

/// Holds the permit until it is dropped; `None` for a small body, which needs none.
#[must_use]
pub(crate) struct Permit<'t>(Option<&'t Semaphore>);

impl Semaphore {
    const fn new() -> Self {
        Self { is_taken: Mutex::new(false), given_back: Condvar::new() }
    }

    /// Waits until a body of so many bytes may be parsed. Returns `None` if the deadline passes before.
    pub(crate) fn acquire(&self, bytes: usize, deadline: Instant) -> Option<Permit<'_>> {
        if bytes <= LARGE_BYTES {
            return Some(Permit(None));
        }
        let taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.given_back.wait_timeout_while(taken, left, |taken| *taken);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut *taken, true)).then(|| Permit(Some(self)))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(semaphore) = self.0 {
            *semaphore.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
            semaphore.given_back.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn one_large_answer_at_a_time() {
        let semaphore = Semaphore::new();
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
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_small_ones_do_not_wait() {
        let semaphore = Semaphore::new();
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
        let semaphore = Semaphore::new();
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _permit = semaphore.acquire(LARGE_BYTES + 1, Instant::now());
            panic!("test");
        }));
        assert!(broken.is_err());
        assert!(semaphore.acquire(LARGE_BYTES + 1, Instant::now()).is_some());
    }
}
