//! The gate: the only way in from a network.
//!
//! Every listener of the daemon is a gate. It accepts, terminates TLS, enforces every limit, reads the head of each
//! request with a parser that refuses what two readers could read differently, decides whom the request comes
//! from, and only then calls a handler: a function from `Request` to `Response`. What is known already is answered by
//! the worker that read the request; a handler that may wait is called by a patient worker.
//!
//! ```text
//!                                     ┌─▶ from memory
//! clients ── poller ──▶ parked ⇄ quick workers
//!                          ▲          │
//!                          └─ patient workers ──▶ handler
//! ```
//!
//! With TLS there are two lanes. A connection begins in the common one, where handshakes are made and certificates
//! verified; once it has proved to be the front proxy it moves to the kept one, whose workers serve nobody else and never
//! verify. Patient workers take the front proxy first and have a share only for all others. So what strangers ask for
//! costs them and each other; see [`limits`] for what they may hold.
//!
//! | thread | owns | waits for |
//! |---|---|---|
//! | `<name>-poll` | listener, deadlines | new connections, time |
//! | `<name>-quick-<n>` | the connection it drives | readiness of a socket of the common lane, handlers that answer from memory |
//! | `<name>-kept-<n>` | the connection it drives | the same of the kept lane |
//! | `<name>-slow-<n>` | the connection it drives | handlers that ask others |
//!
//! Invariants: no thread waits for a client; a connection is in exactly one place (parked, queued, or with a
//! worker); no header that claims an identity reaches a handler; a connection on which a request was refused
//! carries no second one.

mod answer;
mod budget;
mod client_identity;
mod conn;
mod counters;
pub mod head;
pub mod limits;
mod parking;
mod poller;
mod session;
mod worker;

pub use counters::Counters;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};

use super::tls::TlsState;
use super::{Handler, Request, Response};
use conn::Conn;
use counters::Count;
use limits::{BACKLOG, DESCRIPTORS_RESERVED, IN_FREE, IN_MAX, KERNEL_IN, KERNEL_OUT, OUT_MAX, SLOW_READER, STACK};
use parking::{Parked, Queue};
use poller::{Poller, STOP};

/// Called first for each request, on the worker that read it, so it must not wait for anything. None
/// sends the request to a patient worker and the handler.
pub type FromMemory = Arc<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

pub struct GateConfig {
    /// Short: it begins the names of the gate's threads, of which the kernel keeps 15 bytes.
    pub name: String,
    pub listener: TcpListener,
    /// None serves plain HTTP, on which nobody has an identity.
    pub tls: Option<Arc<TlsState>>,
    /// Threads for requests that are answered from memory; a few more than there are cores. With TLS so many serve
    /// the front proxy alone, and half as many everybody else.
    pub workers: usize,
    /// Threads for the others; 0 if there are none.
    pub patient_workers: usize,
    /// None if the handler answers every request without waiting.
    pub from_memory: Option<FromMemory>,
    /// Lowered if the process may not open as many descriptors.
    pub max_connections: usize,
    pub handler: Handler,
}

/// A running gate. Dropping it stops it.
pub struct Gate {
    shared: Arc<Shared>,
    address: SocketAddr,
    // Behind a lock only so that `stop` can be called through a shared reference.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads of one gate share.
struct Shared {
    name: String,
    tls: Option<Arc<TlsState>>,
    from_memory: Option<FromMemory>,
    handler: Handler,
    /// Whether there are patient workers to hand over to.
    hands_over: bool,
    counters: Arc<Counters>,
    /// The epoll instances of parked connections; quick workers wait on them.
    common: OwnedFd,
    /// None without TLS, as nobody is verified then.
    kept: Option<OwnedFd>,
    /// Readable once the gate stops.
    stop: OwnedFd,
    /// Wakes the poller.
    wake: OwnedFd,
    parked: Parked,
    patient: Queue,
    /// Bytes received and not answered yet.
    in_bytes: Arc<AtomicUsize>,
    /// Bytes of larger answers that wait for their readers.
    out_bytes: Arc<AtomicUsize>,
    draining: AtomicBool,
    stopping: AtomicBool,
    /// When the next warning of this gate may be logged.
    warned: Mutex<Option<Instant>>,
}

/// Which workers drive a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Common,
    /// Of verified front proxies.
    Kept,
}

/// One warning of a gate per this time: what hostile clients cause must not fill the log.
const WARN_EVERY: Duration = Duration::from_secs(30);

impl Gate {
    pub fn start(config: GateConfig) -> io::Result<Gate> {
        let address = config.listener.local_addr()?;
        // Connections inherit both.
        rustix::net::sockopt::set_socket_recv_buffer_size(&config.listener, KERNEL_IN)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&config.listener, KERNEL_OUT)?;
        // std listens with a backlog of 128; listening again only changes that.
        rustix::net::listen(&config.listener, BACKLOG)?;
        let (common, kept) = match (config.workers.max(1), &config.tls) {
            (workers, Some(_)) => (workers.div_ceil(2), workers),
            (workers, None) => (workers, 0),
        };
        let patient = if config.from_memory.is_some() { config.patient_workers } else { 0 };
        let shared = Arc::new(Shared {
            name: config.name,
            tls: config.tls,
            from_memory: config.from_memory,
            handler: config.handler,
            hands_over: patient > 0,
            counters: Arc::new(Counters::default()),
            common: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            kept: if kept > 0 { Some(epoll::create(epoll::CreateFlags::CLOEXEC)?) } else { None },
            stop: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            parked: Parked::default(),
            patient: Queue::new((kept > 0).then(|| (patient / 4).max(1))),
            in_bytes: Arc::new(AtomicUsize::new(0)),
            out_bytes: Arc::new(AtomicUsize::new(0)),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            warned: Mutex::new(None),
        });
        for lane in std::iter::once(&shared.common).chain(&shared.kept) {
            epoll::add(lane, &shared.stop, EventData::new_u64(STOP), EventFlags::IN)?;
        }
        let max_connections = affordable(config.max_connections, &shared.name);
        let poller = Poller::new(Arc::clone(&shared), config.listener, max_connections)?;
        let quick = common + kept;
        let gate = Gate { shared, address, threads: Mutex::new(Vec::new()) };
        // From here on a failure drops the gate, which ends the threads that run.
        for n in 0..quick {
            let shared = Arc::clone(&gate.shared);
            let (role, lane) = if n < common { ("quick", Lane::Common) } else { ("kept", Lane::Kept) };
            gate.spawn(&format!("{role}-{n}"), move || worker::run_quick(&shared, lane))?;
        }
        for n in 0..patient {
            let shared = Arc::clone(&gate.shared);
            gate.spawn(&format!("slow-{n}"), move || worker::run_patient(&shared))?;
        }
        gate.spawn("poll", move || poller.run())?;
        info!(gate = gate.shared.name.as_str(), address:% = address, max_connections; "listening");
        Ok(gate)
    }

    fn spawn(&self, role: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = format!("{}-{role}", self.shared.name);
        let thread = std::thread::Builder::new().name(name).stack_size(STACK).spawn(body)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The address that clients connect to, with the port that the system chose if it was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Stops accepting, ends connections between requests, answers the others' requests with `Connection: close`,
    /// and waits for them. False if some still stood after `at_most`; [`Gate::stop`] ends those.
    pub fn drain(&self, at_most: Duration) -> bool {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.wake();
        let drained = self.shared.counters.wait_until_none(at_most);
        info!(gate = self.shared.name.as_str(), drained, left = self.shared.counters.active(); "drained");
        drained
    }

    /// Ends everything now and waits for the threads; a handler that is running is waited for.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake();
        signal(&self.shared.stop);
        self.shared.patient.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has been reported by the panic itself.
            let _ = thread.join();
        }
        debug!(gate = self.shared.name.as_str(); "stopped");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Makes the poller look at the flags.
    fn wake(&self) {
        signal(&self.wake);
    }

    fn clear_wake(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
    }

    fn epoll(&self, lane: Lane) -> &OwnedFd {
        match (lane, &self.kept) {
            (Lane::Kept, Some(kept)) => kept,
            _ => &self.common,
        }
    }

    /// Where a connection belongs. One whose client must be verified again goes to the common lane.
    fn lane_of(&self, conn: &Conn) -> Lane {
        match &self.tls {
            Some(tls) if conn.is_verified() && conn.is_client_current(tls) => Lane::Kept,
            _ => Lane::Common,
        }
    }

    /// Lets one worker have the connection once its socket is ready; the caller holds the lock on `parked`.
    fn arm(&self, conn: &Conn, until: EventFlags) -> bool {
        let socket = conn.session().descriptor();
        epoll::modify(self.epoll(conn.lane), socket, EventData::new_u64(conn.id), until | EventFlags::ONESHOT).is_ok()
    }

    /// The same in another lane, where the connection is from then on.
    fn move_to(&self, conn: &mut Conn, lane: Lane, until: EventFlags) -> bool {
        let old = self.epoll(std::mem::replace(&mut conn.lane, lane));
        let socket = conn.session().descriptor();
        let flags = until | EventFlags::ONESHOT;
        epoll::delete(old, socket).is_ok()
            && epoll::add(self.epoll(lane), socket, EventData::new_u64(conn.id), flags).is_ok()
    }

    /// Closes strangers that hold more of what was received than anybody needs to, until there is room again; false if
    /// there still is none.
    fn make_input_room(&self) -> bool {
        let excess = self.in_bytes.load(Ordering::Acquire).saturating_sub(IN_MAX - IN_MAX / 4);
        let taken = self.parked.take(excess, |conn| {
            let held = conn.held();
            (!conn.is_verified() && held > IN_FREE).then_some((std::cmp::Reverse(held), held))
        });
        taken.iter().for_each(|_| self.counters.count(Count::Shed));
        drop(taken);
        self.in_bytes.load(Ordering::Acquire) <= IN_MAX
    }

    /// Gives up the answers that have been on their way for longest, until there is room again; false if there still
    /// is none.
    fn make_output_room(&self, now: Instant) -> bool {
        let excess = self.out_bytes.load(Ordering::Acquire).saturating_sub(OUT_MAX - OUT_MAX / 4);
        let taken = self.parked.take(excess, |conn| {
            let is_slow = now.saturating_duration_since(conn.since) >= SLOW_READER;
            (is_slow && conn.unread() > 0).then_some((conn.since, conn.unread()))
        });
        taken.iter().for_each(|_| self.counters.count(Count::Shed));
        drop(taken);
        self.out_bytes.load(Ordering::Acquire) <= OUT_MAX
    }

    fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if may {
            *warned = Some(now);
        }
        may
    }
}

fn signal(eventfd: &OwnedFd) {
    // Fails only if the counter is at its maximum, and then it is readable already.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// How many connections the descriptors allow.
fn affordable(wanted: usize, name: &str) -> u64 {
    let wanted = u64::try_from(wanted.max(1)).unwrap_or(u64::MAX);
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let affordable = limit.saturating_sub(DESCRIPTORS_RESERVED).max(1);
    if affordable < wanted {
        warn!(gate = name, wanted, affordable, descriptors = limit; "fewer connections than configured");
    }
    wanted.min(affordable)
}
