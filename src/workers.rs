//! Pools of threads for closures that may block. Threads are started on demand, and end when idle.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::warn;

/// An idle thread ends after this time. It is longer than the shortest usual polling interval, so that not every poll
/// starts a thread.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Something to run once, on whichever thread takes it.
pub type Closure = Box<dyn FnOnce() + Send>;

/// Name and size of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Threads are called `<name>-<n>`.
    pub name: &'static str,
    pub threads_max: usize,
}

/// Handle to a pool; clones share it.
#[derive(Clone)]
pub struct Workers(Arc<Shared>);

struct Shared {
    pool: Pool,
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
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self::with(pool, IDLE_MAX)
    }

    fn with(pool: Pool, idle_max: Duration) -> Self {
        Self(Arc::new(Shared { pool, idle_max, state: Mutex::default(), queued: Condvar::new() }))
    }

    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.lock().threads
    }

    /// Runs a closure on an idle or a new thread, or else as soon as a thread is idle. While the system grants the pool no
    /// thread at all, closures wait for the next call.
    pub fn run(&self, work: Closure) {
        let mut state = self.0.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            self.0.queued.notify_one();
            return;
        }
        let Pool { name, threads_max } = self.0.pool;
        if state.threads >= threads_max {
            return;
        }
        let shared = Arc::clone(&self.0);
        match thread::Builder::new().name(format!("{name}-{}", state.threads)).spawn(move || shared.work()) {
            Ok(_) => state.threads += 1,
            Err(error) => warn!(error:% = error, pool = name, threads = state.threads; "a thread cannot be started"),
        }
    }
}

/// Calls `one` with each of the items, so many at the same time, and returns the results in any order. Blocks; the calling
/// thread does its share, and that of threads that the system does not grant.
pub fn each<I: Sync, T: Send>(items: &[I], at_once: usize, one: &(impl Fn(&I) -> T + Sync)) -> Vec<T> {
    each_on(thread::Builder::new, items, at_once, one)
}

fn each_on<I: Sync, T: Send>(
    thread: impl Fn() -> thread::Builder,
    items: &[I],
    at_once: usize,
    one: &(impl Fn(&I) -> T + Sync),
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push(one(item));
        }
        results
    };
    thread::scope(|scope| {
        let start = |_| thread().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..at_once.min(items.len())).map_while(start).collect();
        let mut results = work();
        results.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
        results
    })
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

    const POOL: Pool = Pool { name: "test", threads_max: 12 };

    #[test]
    fn as_many_threads_as_there_is_work_and_no_more_than_there_may_be() {
        let workers = Workers::new(POOL);
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
        assert_eq!(workers.threads(), POOL.threads_max);
        drop(release);
    }

    #[test]
    fn what_no_thread_can_be_started_for_is_done_nevertheless() {
        let items: Vec<u32> = (0..100).collect();
        // No address space has room for such a stack.
        for thread in [thread::Builder::new, || thread::Builder::new().stack_size(1 << 60)] {
            let mut results = each_on(thread, &items, 8, &|item| item + 1);
            results.sort_unstable();
            assert_eq!(results, (1..=100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn without_work_they_end() {
        let workers = Workers::with(POOL, Duration::from_millis(10));
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
