//! The threads that look up names for all connections.
//!
//! The C library's `getaddrinfo` takes as long as name servers do and cannot be interrupted, so it runs on a few
//! threads of its own, started with the first name: a request waits as long as it can, and a later result is kept for
//! the next one. [`super::book`] decides.

use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::book::{Addresses, Book};

pub use super::book::Failure;
pub(crate) use super::book::{Look, PATIENCE};

/// Threads for the names of metric servers: a domain has two at most, a slow one has one, and one is reserved for names
/// that can be trusted to be answered quickly, see [`super::book`]. With working name servers one is enough for a thousand
/// names a second.
pub const THREADS: usize = 4;

/// Bytes of a thread's stack: `getaddrinfo` of glibc and of musl needs about 20 KiB.
const STACK: usize = 256 << 10;

/// Where the search list is from which the domain of the cluster is read.
const RESOLVER_SETTINGS: &str = "/etc/resolv.conf";

/// The domain of nearly every cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The longest possible name; a longer one would only take memory.
const NAME_MAX: usize = 255;

type LookUp = dyn Fn(&str) -> Result<Vec<IpAddr>, Failure> + Send + Sync;

/// Names and their addresses. The threads end when it is dropped.
pub struct Names {
    shared: Arc<Shared>,
}

struct Shared {
    look_up: Box<LookUp>,
    threads_max: usize,
    // Locked only to read and write the book, never during a look-up.
    state: Mutex<State>,
    /// A look-up has ended.
    ended: Condvar,
    /// A name is queued, or may start now, or the threads must end.
    work: Condvar,
}

/// Called on the thread that has looked a name up.
type Listener = dyn Fn() + Send + Sync;

struct State {
    book: Book,
    listeners: Vec<Arc<Listener>>,
    threads: usize,
    closed: bool,
}

impl Names {
    /// Looks names up with the system's resolver, on at most `threads` threads.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let settings = std::fs::read_to_string(RESOLVER_SETTINGS).unwrap_or_default();
        Self::within(&cluster_domain(&settings), threads, ask_the_system)
    }

    /// Looks names up with `look_up`, which may block.
    #[must_use]
    pub fn with(
        threads: usize,
        look_up: impl Fn(&str) -> Result<Vec<IpAddr>, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::within(CLUSTER_DOMAIN, threads, look_up)
    }

    fn within(
        cluster: &str,
        threads: usize,
        look_up: impl Fn(&str) -> Result<Vec<IpAddr>, Failure> + Send + Sync + 'static,
    ) -> Self {
        let state =
            State { book: Book::new(threads.max(1), cluster), listeners: Vec::new(), threads: 0, closed: false };
        let shared = Shared {
            look_up: Box::new(look_up),
            threads_max: threads.max(1),
            state: Mutex::new(state),
            ended: Condvar::new(),
            work: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the addresses of a name in the order in which they are to be tried; never empty. Waits up to `within`.
    ///
    /// # Errors
    /// Why there are none.
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
                self.shared.join(&mut state, &name, now);
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

    /// Looks without blocking. A caller that gets [`Look::Wanted`] counts as waiting until it calls [`Self::leave`];
    /// `waits` says that it does already.
    pub(crate) fn look(&self, name: &str, waits: bool) -> Look {
        if name.is_empty() || name.len() > NAME_MAX {
            return Look::Failed(Failure::NoSuchHost);
        }
        let name = name.to_ascii_lowercase();
        let mut state = self.shared.lock();
        let now = Instant::now();
        let look = state.book.look(&name, now);
        if matches!(look, Look::Wanted(_)) && !waits {
            self.shared.join(&mut state, &name, now);
        }
        look
    }

    /// Ends the wait for a name that began with [`Self::look`].
    pub(crate) fn leave(&self, name: &str) {
        self.shared.lock().book.leave(&name.to_ascii_lowercase());
    }

    /// Registers a listener that is called after each look-up.
    pub(crate) fn on_end(&self, listener: Arc<dyn Fn() + Send + Sync>) {
        self.shared.lock().listeners.push(listener);
    }

    /// Records that a connection to an address of this name failed. Returns whether a new look-up may find others.
    pub(crate) fn suspect(&self, name: &str) -> bool {
        self.shared.lock().book.suspect(&name.to_ascii_lowercase(), Instant::now())
    }

    /// Number of threads that run.
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

    /// Records that a request waits for the name.
    fn join(self: &Arc<Self>, state: &mut State, name: &str, now: Instant) {
        state.book.join(name, now);
        self.staff(state);
        self.work.notify_one();
    }

    /// Starts one more thread if there is a name for it and the maximum allows it. If that fails, requests time out.
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
            // Names that could not run beside this one may start now.
            self.work.notify_all();
            if !state.listeners.is_empty() {
                let listeners = state.listeners.clone();
                drop(state);
                listeners.iter().for_each(|listener| listener());
                state = self.lock();
            }
        }
        state.threads -= 1;
    }
}

fn ask_the_system(name: &str) -> Result<Vec<IpAddr>, Failure> {
    // A port is required, but not used.
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

/// Returns the domain of the cluster, for which the kubelet writes `search shop.svc.cluster.local svc.cluster.local …`.
fn cluster_domain(settings: &str) -> String {
    let searches = settings.lines().filter_map(|line| line.trim_start().strip_prefix("search"));
    let domain = searches.flat_map(str::split_whitespace).find_map(|domain| domain.strip_prefix("svc."));
    domain.unwrap_or(CLUSTER_DOMAIN).trim_end_matches('.').to_ascii_lowercase()
}

/// The standard library has no error kind for it, and the text is the C library's.
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

    /// Regression: each look-up once had a thread, which outlived the request.
    #[test]
    fn thousands_of_slow_names_take_no_more_threads_and_hold_up_nobody() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::with(4, move |name| {
            if name.ends_with("slow.example") {
                // Blocks until the test ends.
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
        // Waits until its thread has started.
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
    fn the_search_list_says_the_domain_of_the_cluster() {
        for (settings, expected) in [
            (
                "nameserver 10.0.0.10\nsearch shop.svc.k8s.corp svc.k8s.corp k8s.corp corp\noptions ndots:5\n",
                "k8s.corp",
            ),
            ("search shop.svc.cluster.local. svc.Cluster.Local. cluster.local.\n", "cluster.local"),
            ("search corp\n", "cluster.local"),
            ("", "cluster.local"),
        ] {
            assert_eq!(cluster_domain(settings), expected, "{settings}");
        }
    }

    #[test]
    fn names_that_are_none() {
        let names = Names::new(1);
        assert_eq!(names.addresses(&"a".repeat(256), GENEROUS), Err(Failure::NoSuchHost));
        assert_eq!(names.addresses("", GENEROUS), Err(Failure::NoSuchHost));
        assert_eq!(names.threads(), 0);
        assert!(names.addresses("localhost", GENEROUS).unwrap().iter().all(IpAddr::is_loopback));
        // Notations that only the C library understands yield the addresses that they are.
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
