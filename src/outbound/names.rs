//! The threads that look names up, for all who connect.
//!
//! The C library's `getaddrinfo` waits as long as name servers let it and cannot be interrupted, so it runs on few
//! threads of its own, started when the first name comes: whoever asks waits as long as he has time, and what comes
//! later is there for the next one. [`super::book`] decides.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::book::{Addresses, Book, Look, PATIENCE};

pub use super::book::Failure;

/// Threads for the names of metric servers: one is left to names that have had addresses, another to other domains
/// than a slow one's, see [`super::book`]. Where name servers answer, one is enough for a thousand names a second.
pub const THREADS: usize = 4;

/// Stack of a thread: `getaddrinfo` of glibc and of musl takes some 20 KiB.
const STACK: usize = 256 << 10;

/// The longest name there is; a longer one would only take memory.
const NAME_MAX: usize = 255;

type LookUp = dyn Fn(&str) -> Result<Vec<IpAddr>, Failure> + Send + Sync;

/// Names and their addresses. Threads end with it.
pub struct Names {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    threads_max: usize,
    // Locked for looks and notes only, never during a look-up.
    state: Mutex<State>,
    /// A look-up ended.
    ended: Condvar,
    /// A name is queued, or may begin now, or all is over.
    work: Condvar,
}

struct State {
    book: Book,
    threads: usize,
    closed: bool,
}

impl Names {
    /// Asks the system, by `threads` threads at most.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with(threads, ask_the_system)
    }

    /// Asks `look_up`, which may take its time.
    #[must_use]
    pub fn with(
        threads: usize,
        look_up: impl Fn(&str) -> Result<Vec<IpAddr>, Failure> + Send + Sync + 'static,
    ) -> Self {
        let state = State { book: Book::new(threads.max(1)), threads: 0, closed: false };
        let shared = Shared {
            look_up: Box::new(look_up),
            threads_max: threads.max(1),
            state: Mutex::new(state),
            ended: Condvar::new(),
            work: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The addresses of a name, in the order in which they are to be tried; never empty. Waits up to `within`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn addresses(&self, name: &str, within: Duration) -> Result<Arc<[IpAddr]>, Failure> {
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Failure::NoSuchHost);
        }
        let name = name.to_ascii_lowercase();
        let started = Instant::now();
        let mut state = self.shared.lock();
        let mut waits = false;
        let result = loop {
            let now = Instant::now();
            let usable = match state.book.look(&name, now) {
                Look::Known(addresses) => break Ok(addresses),
                Look::Failed(failure) => break Err(failure),
                Look::Wanted(usable) => usable,
            };
            if !waits {
                waits = true;
                state.book.join(&name, now);
                self.shared.staff(&mut state);
                self.shared.work.notify_one();
            }
            let limit = if usable.is_some() { within.min(PATIENCE) } else { within };
            let left = limit.saturating_sub(now.saturating_duration_since(started));
            if left.is_zero() {
                break usable.ok_or(Failure::Late);
            }
            (state, _) = self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        };
        if waits {
            state.book.leave(&name);
        }
        result
    }

    /// Notes that a connection to an address of this name failed, and returns whether a new look-up may bring others.
    pub(crate) fn suspect(&self, name: &str) -> bool {
        self.shared.lock().book.suspect(&name.to_ascii_lowercase(), Instant::now())
    }

    /// Threads that there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one more thread for one more name, up to the limit. Where none can be started, whoever asks waits longer.
    fn staff(self: &Arc<Self>, state: &mut State) {
        if state.threads >= self.threads_max.min(state.book.wanted()) {
            return;
        }
        let shared = Arc::clone(self);
        let builder = thread::Builder::new().name(format!("name-{}", state.threads)).stack_size(STACK);
        if builder.spawn(move || shared.work()).is_ok() {
            state.threads += 1;
        }
    }

    fn work(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some(name) = state.book.begin(Instant::now()) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let found = (self.look_up)(&name).and_then(|addresses| {
                let addresses: Addresses = addresses.into();
                if addresses.is_empty() { Err(Failure::NoSuchHost) } else { Ok(addresses) }
            });
            state = self.lock();
            state.book.finish(&name, found, Instant::now());
            self.ended.notify_all();
            // What had to wait for this thread's name to end may begin on another one.
            self.work.notify_all();
        }
        state.threads -= 1;
    }
}

fn ask_the_system(name: &str) -> Result<Vec<IpAddr>, Failure> {
    // A port has to be named; what is given back for it is not used.
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Recognised by its text, which is the C library's, since std has no type for it.
fn failure(error: &io::Error) -> Failure {
    let text = error.to_string();
    let passing = text.contains("emporary") || text.contains("ry again") || !text.contains("lookup");
    if passing { Failure::Passing } else { Failure::NoSuchHost }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(60);

    #[test]
    fn many_askers_one_look_up() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let names = Names::with(4, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(vec![IpAddr::from([10, 0, 0, 1])])
        });
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(names.addresses("A.shop", GENEROUS).unwrap().len(), 1));
            }
        });
        assert_eq!(names.addresses("a.SHOP", GENEROUS).unwrap().len(), 1);
        assert_eq!((asked.load(Ordering::SeqCst), names.threads()), (1, 1));
    }

    /// The fault was a thread for each look-up, which outlived the asker.
    #[test]
    fn thousands_of_slow_names_take_no_more_threads_and_hold_up_nobody() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::with(4, move |name| {
            if name.ends_with("slow.example") {
                // Until the test ends.
                let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
                return Err(Failure::Passing);
            }
            Ok(vec![IpAddr::from([10, 0, 0, 1])])
        });
        for number in 0..5_000 {
            let found = names.addresses(&format!("n{number}.slow.example"), Duration::from_micros(10));
            assert_eq!(found, Err(Failure::Late));
        }
        assert!(names.threads() <= 4);
        for name in ["prometheus.monitoring", "prometheus.shop.svc", "api.example"] {
            assert_eq!(names.addresses(name, GENEROUS).unwrap().len(), 1, "{name}");
        }
        assert!(names.shared.lock().book.queued() == 0, "nobody waits");
        drop(release);
    }

    #[test]
    fn what_comes_too_late_is_there_for_the_next() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::with(1, move |_| {
            let _ = held.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Ok(vec![IpAddr::from([10, 0, 0, 1])])
        });
        // Long enough for its thread to begin.
        let mut begun = false;
        while !begun {
            assert_eq!(names.addresses("a", Duration::from_millis(5)), Err(Failure::Late));
            begun = names.shared.lock().book.running() == 1;
        }
        release.send(()).unwrap();
        assert_eq!(names.addresses("a", GENEROUS).unwrap().len(), 1);
        assert_eq!(names.addresses("a", Duration::ZERO).unwrap().len(), 1);
    }

    #[test]
    fn names_that_are_none() {
        let names = Names::new(1);
        assert_eq!(names.addresses(&"a".repeat(256), GENEROUS), Err(Failure::NoSuchHost));
        assert_eq!(names.addresses("", GENEROUS), Err(Failure::NoSuchHost));
        assert_eq!(names.threads(), 0);
        assert!(names.addresses("localhost", GENEROUS).unwrap().iter().all(IpAddr::is_loopback));
        // Spellings that only the C library knows come back as what they are.
        assert_eq!(names.addresses("0x7f.1", GENEROUS).unwrap()[..], [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn threads_end_with_their_owner() {
        let names = Names::with(2, |_| Ok(vec![IpAddr::from([10, 0, 0, 1])]));
        names.addresses("a", GENEROUS).unwrap();
        let shared = Arc::clone(&names.shared);
        drop(names);
        let until = Instant::now() + GENEROUS;
        while shared.lock().threads > 0 {
            assert!(Instant::now() < until);
            thread::yield_now();
        }
    }
}
