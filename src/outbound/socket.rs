//! TCP connections for the HTTP library, which notice that their other end is gone without a word.
//!
//! The library's own connector is not used because it sets no such option of its sockets. A firewall that forgets a
//! connection, a node that dies and a load balancer that moves say nothing: without the option, a request waits for its
//! whole time limit, and a watch for two minutes, although no packet has been acknowledged since.
//!
//! Owns the socket and its options. Must not know names or judge addresses.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ureq::Error;
use ureq::config::Config;
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, ShutdownHandle, Transport};

/// What was sent must be acknowledged within this time, or the connection is lost. A kernel repeats a packet four times in
/// it, and acknowledges for a process that is busy or stopped, so a slow server loses no connection.
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

/// When nothing has arrived for so long, the other end is asked whether it is there, and again after the time above, by
/// when the connection is lost. That is one packet of some 60 bytes each way for each idle connection.
#[cfg(target_os = "linux")]
const ASKED_AFTER: Duration = Duration::from_secs(15);

/// Connects to the first address that answers within the time. Each may take half of what is left, the last all of it.
pub(super) fn connect(addresses: &[SocketAddr], within: Duration, late: ureq::Timeout) -> Result<TcpStream, Error> {
    let began = Instant::now();
    let mut last = Error::HostNotFound;
    for (index, address) in addresses.iter().enumerate() {
        let left = within.saturating_sub(began.elapsed());
        let part = if index + 1 == addresses.len() { left } else { left / 2 };
        if part.is_zero() {
            return Err(Error::Timeout(late));
        }
        match TcpStream::connect_timeout(address, part) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => last = Error::Timeout(late),
            Err(error) => last = Error::Io(error),
        }
    }
    Err(last)
}

/// A connection in the library's hands.
pub(crate) struct Socket {
    // Shared with whoever may shut it down.
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, config: &Config) -> Result<Self, Error> {
        if config.no_delay() {
            stream.set_nodelay(true)?;
        }
        #[cfg(target_os = "linux")]
        notice_silence(&stream)?;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Self { stream: Arc::new(stream), buffers })
    }

    pub(super) fn shutdown_handle(&self) -> Weak<dyn ShutdownHandle> {
        Arc::downgrade(&(Arc::clone(&self.stream) as Arc<dyn ShutdownHandle>))
    }
}

/// A lost connection fails with `ETIMEDOUT`, unlike a limit that passes, which is `EAGAIN`.
#[cfg(target_os = "linux")]
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, ACKNOWLEDGED_WITHIN)?;
    let milliseconds = u32::try_from(ACKNOWLEDGED_WITHIN.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Returns what is left of a time limit, for a socket's option; None without one.
fn left(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|left| *left))
}

fn failed(error: io::Error, timeout: NextTimeout) -> Error {
    // Windows has the other kind for a limit that passes, too.
    let is_late = error.kind() == ErrorKind::WouldBlock || cfg!(windows) && error.kind() == ErrorKind::TimedOut;
    if is_late { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(left(timeout)?)?;
        let output = &self.buffers.output()[..amount];
        (&*self.stream).write_all(output).map_err(|error| failed(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(left(timeout)?)?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match (&*self.stream).read(input) {
                // Linux does not go on by itself after a signal if there is a limit.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.map_err(|error| failed(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// Bytes that nobody asked for are no answer to the next request either.
    fn is_open(&mut self) -> bool {
        let probe = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        probe().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}
