//! A TCP link between the daemon and a server, which can be made to fail in the ways that networks do.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::deaf::deafen;

/// What the link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// Connections are refused, and those that exist are reset.
    Refusing,
    /// Connections exist and are accepted, and no byte passes.
    Silent,
    /// No connection completes, as if its packets were dropped; those that exist pass nothing.
    Unreachable,
    /// Every connection is reset after these many bytes of an answer.
    Cutting(usize),
    /// Each piece of an answer takes this long.
    Slow(Duration),
}

pub(crate) struct Link {
    address: SocketAddr,
    server: SocketAddr,
    shared: Arc<Shared>,
    /// Keeps the queue of connections full while the link is unreachable.
    hung: Mutex<Option<(OwnedFd, Vec<TcpStream>)>>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    mode: Mode,
    /// Rises with each change of the mode, and ends the accepting thread of before.
    epoch: u64,
    /// Those to the client, each followed by that to the server.
    sockets: Vec<TcpStream>,
    connections: usize,
    /// Rises when connections are forgotten.
    forgotten: u64,
}

impl Link {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        Self::at(address, server)
    }

    /// The same on an address that is known before.
    pub(crate) fn at(address: SocketAddr, server: SocketAddr) -> Self {
        let state = State { mode: Mode::Open, epoch: 0, sockets: Vec::new(), connections: 0, forgotten: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let link = Self { address, server, shared, hung: Mutex::default() };
        link.accept();
        link
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.hung.lock().unwrap() = None;
        let before = {
            let mut state = self.shared.state.lock().unwrap();
            state.epoch += 1;
            std::mem::replace(&mut state.mode, mode)
        };
        if before != Mode::Refusing && before != Mode::Unreachable {
            // Wakes the accepting thread, which then closes its listener.
            drop(TcpStream::connect(self.address));
        }
        // What failed once does not come back to life: connections of before stay dead or are closed.
        if matches!(mode, Mode::Refusing | Mode::Cutting(_)) || before == Mode::Unreachable {
            self.reset_all();
        }
        match mode {
            Mode::Refusing => {}
            Mode::Unreachable => *self.hung.lock().unwrap() = Some(hang(self.address)),
            _ => self.accept(),
        }
    }

    /// Makes those connections dead that exist now, without a word; new ones work.
    pub(crate) fn forget(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.forgotten += 1;
        let clients = state.sockets.iter().step_by(2).filter(|socket| socket.peer_addr().is_ok());
        deafen(clients.map(|socket| socket.try_clone().expect("a socket")));
    }

    /// Returns how many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state.lock().unwrap().connections
    }

    fn reset_all(&self) {
        for socket in self.shared.state.lock().unwrap().sockets.drain(..) {
            reset(&socket);
        }
    }

    fn accept(&self) {
        let listener = bind(self.address, 128);
        let epoch = self.shared.state.lock().unwrap().epoch;
        let (shared, server) = (Arc::clone(&self.shared), self.server);
        thread::spawn(move || {
            for socket in TcpListener::from(listener).incoming() {
                let mut state = shared.state.lock().unwrap();
                if state.epoch != epoch {
                    return;
                }
                let (Ok(client), Ok(server)) = (socket, TcpStream::connect(server)) else { continue };
                for end in [&client, &server] {
                    state.sockets.push(end.try_clone().expect("a socket"));
                }
                state.connections += 1;
                let born = state.forgotten;
                drop(state);
                let back = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
                let (there, here) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || there.carry(client, server, born, false));
                thread::spawn(move || here.carry(back.0, back.1, born, true));
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.set(Mode::Refusing);
    }
}

impl Shared {
    /// Carries bytes in one direction until an end closes. A connection that was silent once stays so, like one whose
    /// state a firewall has forgotten.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, born: u64, is_answer: bool) {
        let mut buffer = vec![0; 16 * 1024];
        let (mut passed, mut is_dead) = (0, false);
        while let Ok(amount) = from.read(&mut buffer) {
            if amount == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            let (mode, forgotten) = {
                let state = self.state.lock().unwrap();
                (state.mode, state.forgotten)
            };
            is_dead |= matches!(mode, Mode::Silent | Mode::Unreachable) || forgotten != born;
            if is_dead {
                continue;
            }
            match mode {
                Mode::Slow(time) if is_answer => thread::park_timeout(time),
                Mode::Cutting(most) if is_answer && passed + amount > most => {
                    let _ = to.write_all(&buffer[..most.saturating_sub(passed)]);
                    reset(&from);
                    return reset(&to);
                }
                _ => {}
            }
            passed += amount;
            if to.write_all(&buffer[..amount]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// Closes a connection by a reset instead of an orderly end.
fn reset(socket: &TcpStream) {
    // Closing sends a reset only once every clone is closed; this does at once.
    let _ = rustix::net::connect_unspec(socket);
}

/// Binds an address that was just in use, with a queue of this length.
fn bind(address: SocketAddr, queue: i32) -> OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let IpAddr::V4(_) = address.ip() else { panic!("links are of IPv4") };
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    sockopt::set_socket_reuseaddr(&socket, true).expect("an option");
    let mut tries = 0;
    // The thread that had it closes it within a moment.
    while let Err(error) = bind(&socket, &address) {
        tries += 1;
        assert!(tries < 500, "{address}: {error}");
        thread::park_timeout(Duration::from_millis(10));
    }
    listen(&socket, queue).expect("it listens");
    socket
}

/// Listens without accepting, with a full queue: further connections do not complete.
fn hang(address: SocketAddr) -> (OwnedFd, Vec<TcpStream>) {
    let socket = bind(address, 0);
    let full = (0..4).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()).collect();
    (socket, full)
}
