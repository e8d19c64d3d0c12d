//! The gate's only thread that serves no request: accepts connections, enforces deadlines, makes room.
//!
//! Owns the listener. It never reads or writes a client's bytes, so no client can delay it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::Shared;
use super::conn::{Conn, State};
use super::counters::Count;
use super::limits::{ACCEPT_BURST, SWEEP};
use super::parking::Victims;
use super::session::Session;

/// Event data of the listener and of the wake-up descriptor.
const LISTENER: u64 = 0;
const WAKE: u64 = 1;

/// Event data that stops quick workers; the ids of connections follow it.
pub(super) const STOP: u64 = 0;

pub(super) struct Poller {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    /// None once draining.
    listener: Option<TcpListener>,
    /// False while accepting is pointless because descriptors have run out.
    listening: bool,
    max_connections: u64,
    next_id: u64,
    victims: Victims,
    /// Closed for a moment to accept and close a connection when descriptors have run out.
    spare: Option<OwnedFd>,
}

impl Poller {
    pub(super) fn new(shared: Arc<Shared>, listener: TcpListener, max_connections: u64) -> io::Result<Poller> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &shared.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let spare = spare_descriptor();
        Ok(Poller {
            shared,
            epoll,
            listener: Some(listener),
            listening: true,
            max_connections,
            next_id: STOP + 1,
            victims: Victims::default(),
            spare,
        })
    }

    /// Runs until the gate stops.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(2);
        let mut swept = Instant::now();
        while !self.shared.is_stopping() {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), self.timeout().as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Only an invalid descriptor can cause this.
                Err(error) => panic!("epoll_wait failed: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    _ => self.shared.clear_wake(),
                }
            }
            if self.shared.is_draining() && self.listener.is_some() {
                self.stop_listening();
            }
            let now = Instant::now();
            if now.duration_since(swept) >= SWEEP {
                swept = now;
                self.sweep(now);
                self.resume_listening();
            }
        }
        self.shared.parked.lock().clear();
    }

    /// Without connections there is no deadline to check, so an idle gate sleeps.
    fn timeout(&self) -> Option<Timespec> {
        let needed = self.shared.counters.active() > 0 || !self.listening;
        needed.then(|| Timespec { tv_sec: 0, tv_nsec: i64::from(SWEEP.subsec_nanos()) })
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BURST {
            let Some(listener) = &self.listener else {
                return;
            };
            match listener.accept() {
                Ok((socket, address)) => {
                    self.shared.counters.count(Count::Accepted);
                    self.admit(socket, address);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_exhaustion(&error) => {
                    if !self.make_descriptor_room(&error) {
                        return;
                    }
                }
                // The connection was closed before it was accepted.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, socket: TcpStream, address: SocketAddr) {
        if self.shared.counters.active() >= self.max_connections {
            if self.victims.take(&self.shared.parked).is_none() {
                // All connections are being served at this moment.
                self.shared.counters.count(Count::TurnedAway);
                return;
            }
            self.shared.counters.count(Count::Shed);
        }
        let tls = self.shared.tls.as_ref().map(|tls| tls.config());
        let Ok(session) = Session::new(socket, tls) else {
            return;
        };
        let id = self.next_id;
        self.next_id += 1;
        let conn = Box::new(Conn::new(id, session, address, &self.shared, Instant::now()));
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        let mut parked = self.shared.parked.lock();
        if epoll::add(self.shared.epoll(conn.lane), conn.session().descriptor(), EventData::new_u64(id), flags).is_ok()
        {
            parked.insert(id, conn);
        }
    }

    /// Out of descriptors: sheds a waiting connection, or closes the new one so that its client need not wait in vain.
    /// Returns false if neither worked, and listening pauses until the next sweep.
    fn make_descriptor_room(&mut self, error: &io::Error) -> bool {
        self.shared.counters.count(Count::OutOfDescriptors);
        if self.shared.may_warn() {
            warn!(gate = self.shared.name.as_str(), error:% = error; "out of descriptors");
        }
        if self.victims.take(&self.shared.parked).is_some() {
            self.shared.counters.count(Count::Shed);
            return true;
        }
        if self.spare.take().is_some() {
            if let Some(listener) = &self.listener {
                drop(listener.accept());
            }
            self.spare = spare_descriptor();
            if self.spare.is_some() {
                return true;
            }
        }
        self.pause_listening();
        false
    }

    fn pause_listening(&mut self) {
        if let Some(listener) = &self.listener {
            let paused = epoll::modify(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::empty());
            self.listening = paused.is_err();
        }
    }

    fn resume_listening(&mut self) {
        if self.listening {
            return;
        }
        self.spare = self.spare.take().or_else(spare_descriptor);
        if let Some(listener) = &self.listener {
            let resumed = epoll::modify(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN);
            self.listening = resumed.is_ok();
        }
    }

    /// For draining: connections in the kernel's queue are still served, but none after that.
    fn stop_listening(&mut self) {
        self.accept();
        self.listener = None;
        self.listening = true;
        self.sweep(Instant::now());
    }

    /// Closes connections past their deadline, and when draining also those between requests.
    fn sweep(&self, now: Instant) {
        let draining = self.shared.is_draining();
        self.shared.parked.lock().retain(|_, conn| {
            let late = now >= conn.deadline;
            let idle = conn.state == State::Idle;
            // The first request of a new connection may be on its way.
            let over = draining && idle && (conn.served > 0 || now.duration_since(conn.since) >= DRAIN_FIRST_REQUEST);
            if late && conn.give_up(&self.shared.counters, now) {
                // A worker sends the remaining answer.
                return self.shared.arm(conn, EventFlags::OUT);
            }
            if (late || over) && idle {
                conn.close_between_requests();
            }
            !(late || over)
        });
    }
}

/// How long a draining gate waits for the first request of a connection.
const DRAIN_FIRST_REQUEST: Duration = Duration::from_secs(1);

fn spare_descriptor() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}
