//! Threads for closures that may block. They are started on demand, and end when idle.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Closure;

/// For the usual eight polls at once, each of which takes six if it asks all endpoints of a Service through a proxy.
const THREADS_MAX: usize = 48;

/// An idle thread ends after this time. It is longer than the shortest usual polling interval, so that not every poll
/// starts a thread.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Handle to the threads; clones share them.
#[derive(Clone)]
pub(super) struct Workers(Arc<Shared>);

struct Shared {
    idle_max: Duration,
    state: Mutex<State>,
    queued: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Closure>,
    threads: usize,
    idle: usize,
}

impl Workers {
    pub(super) fn new() -> Self {
        Self::with(IDLE_MAX)
    }

    fn with(idle_max: Duration) -> Self {
        Self(Arc::new(Shared { idle_max, state: Mutex::default(), queued: Condvar::new() }))
    }

    pub(super) fn threads(&self) -> usize {
        self.0.lock().threads
    }

    /// Runs a closure on an idle or a new thread, or else as soon as a thread is idle.
    pub(super) fn run(&self, work: Closure) {
        let mut state = self.0.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            self.0.queued.notify_one();
            return;
        }
        if state.threads >= THREADS_MAX {
            return;
        }
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new().name(format!("poll-{}", state.threads)).spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            // Blocks the caller, but without a thread the closure would never run.
            Err(_) if state.threads == 0 => {
                let work = state.queue.pop_back();
                drop(state);
                work.into_iter().for_each(|work| work());
            }
            Err(_) => {}
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                work();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.queued.wait_timeout_while(state, self.idle_max, |state| state.queue.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, mpsc};

    use super::*;

    #[test]
    fn as_many_threads_as_there_is_work_and_no_more_than_there_may_be() {
        let workers = Workers::new();
        assert_eq!(workers.threads(), 0);
        let together = Arc::new(Barrier::new(9));
        for _ in 0..8 {
            let together = Arc::clone(&together);
            workers.run(Box::new(move || {
                together.wait();
            }));
        }
        together.wait();
        assert_eq!(workers.threads(), 8);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..100 {
            let held = Arc::clone(&held);
            workers.run(Box::new(move || assert!(held.lock().unwrap().recv().is_err())));
        }
        assert_eq!(workers.threads(), THREADS_MAX);
        drop(release);
    }

    #[test]
    fn without_work_they_end() {
        let workers = Workers::with(Duration::from_millis(10));
        let (sender, done) = mpsc::channel();
        for number in 0..3 {
            let sender = sender.clone();
            workers.run(Box::new(move || sender.send(number).unwrap()));
            assert_eq!(done.recv_timeout(Duration::from_secs(60)), Ok(number));
            let until = std::time::Instant::now() + Duration::from_secs(60);
            while workers.threads() > 0 {
                assert!(std::time::Instant::now() < until);
                thread::yield_now();
            }
        }
    }
}
