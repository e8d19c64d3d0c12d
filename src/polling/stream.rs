//! A connection for protocols that are not HTTP: blocks, so that it runs on a worker, and ends by its deadline.
//!
//! The address is judged like that of any request. What a server may send is bounded, and no read or write outlasts the
//! deadline, however slowly bytes come.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConnection, StreamOwned};
use ureq::{Error, Timeout};

use super::failed;
use super::fault::{Asked, explain};
use super::request::TlsMaterial;
use super::tls::{self, Roots};
use crate::outbound::connect::{judged, unresolved};
use crate::outbound::names::Names;
use crate::outbound::networks::Rules;
use crate::outbound::tls::server_name;
use crate::scaling::event::{ErrorClass, PollError};

/// Bytes that a server may send over one connection, unless its protocol needs more. Answers have some hundreds; a certificate
/// chain is not counted.
const BYTES_MAX: usize = 64 << 10;

/// Bytes that are read at once.
const BUFFER: usize = 4 << 10;

/// What connections need.
pub(super) struct Reach {
    pub(super) names: Arc<Names>,
    pub(super) rules: Arc<Rules>,
    pub(super) roots: Roots,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Where to connect, and until when.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Name or address, without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// For error texts.
    pub(crate) server: &'a str,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Instant,
}

pub(crate) struct Stream<'a> {
    target: Target<'a>,
    wire: Wire,
    /// Received and not yet taken.
    buffer: Vec<u8>,
    /// Bytes that the server may still send, of so many.
    left: usize,
    most: usize,
}

enum Wire {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
    /// What a server has sent, of which so many bytes arrive at once; what is written goes nowhere.
    Memory(io::Cursor<Vec<u8>>, usize),
}

/// A socket whose every operation ends by the deadline.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reach {
    /// Connects to the first address of the target that answers.
    pub(super) fn connect<'a>(&self, target: Target<'a>) -> Result<Stream<'a>, PollError> {
        let fault = |error: Error| target.fault(&error);
        let left = || target.deadline.saturating_duration_since(Instant::now());
        let addresses: Arc<[IpAddr]> = match target.host.parse() {
            Ok(address) => Arc::from([address]),
            Err(_) => {
                let found = self.names.addresses(target.host, left());
                found.map_err(|failure| fault(unresolved(failure, Timeout::Resolve)))?
            }
        };
        let mut addresses = judged(Some(&self.rules), &addresses, target.port).map_err(fault)?.into_iter().peekable();
        let mut last = Error::ConnectionFailed;
        while let Some(address) = addresses.next() {
            // Each gets half of the time that is left, and the last one all of it.
            let share = if addresses.peek().is_none() { left() } else { left() / 2 };
            if share.is_zero() {
                return Err(fault(Error::Timeout(Timeout::Global)));
            }
            match TcpStream::connect_timeout(&address, share) {
                Ok(socket) => {
                    let _ = socket.set_nodelay(true);
                    let wire = Wire::Plain(Timed { socket, deadline: target.deadline });
                    return Ok(Stream { target, wire, buffer: Vec::new(), left: BYTES_MAX, most: BYTES_MAX });
                }
                Err(error) => last = Error::Io(error),
            }
        }
        Err(fault(last))
    }

    /// Uses TLS from now on.
    pub(super) fn secure<'a>(&self, stream: Stream<'a>, material: &TlsMaterial) -> Result<Stream<'a>, PollError> {
        let Stream { target, wire, buffer, left, most } = stream;
        let config = tls::client(material, &self.roots, &self.provider)
            .map_err(|why| failed(ErrorClass::Authentication, format!("cannot ask {}: {why}", target.server)))?;
        let Wire::Plain(mut timed) = wire else {
            return Ok(Stream { target, wire, buffer, left, most });
        };
        // A server waits for the handshake, so anything else is of somebody on the way, and must not pass for the server's.
        if !buffer.is_empty() {
            let message = format!("{} sent something else before TLS began", target.server);
            return Err(failed(ErrorClass::Tls, message));
        }
        let shake = || -> Result<ClientConnection, Error> {
            let mut connection = ClientConnection::new(Arc::new(config), server_name(target.host)?)?;
            connection.complete_io(&mut timed)?;
            Ok(connection)
        };
        let connection = shake().map_err(|error| target.fault(&error))?;
        let wire = Wire::Tls(Box::new(StreamOwned::new(connection, timed)));
        Ok(Stream { target, wire, buffer, left, most })
    }
}

impl Target<'_> {
    fn fault(&self, error: &Error) -> PollError {
        explain(error, Asked { server: self.server, timeout: self.timeout, through_proxy: false })
    }
}

impl<'a> Stream<'a> {
    /// A connection on which a server has sent these bytes before it ended it, as fuzzing needs them.
    pub(crate) fn of(target: Target<'a>, sent: &[u8], piece: usize) -> Self {
        let wire = Wire::Memory(io::Cursor::new(sent.to_vec()), piece.max(1));
        Self { target, wire, buffer: Vec::new(), left: BYTES_MAX, most: BYTES_MAX }
    }

    /// Lets the server send so many bytes in all.
    pub(crate) fn allow(&mut self, most: usize) {
        (self.left, self.most) = (most.saturating_sub(self.most - self.left), most);
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), PollError> {
        let result = match &mut self.wire {
            Wire::Plain(timed) => timed.write_all(bytes),
            Wire::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Wire::Memory(..) => Ok(()),
        };
        result.map_err(|error| self.target.fault(&Error::Io(error)))
    }

    /// Returns the next line without its end.
    pub(crate) fn line(&mut self) -> Result<Vec<u8>, PollError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.truncate(line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 });
                return Ok(line);
            }
            self.fill()?;
        }
    }

    /// Returns the next bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, PollError> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> Result<(), PollError> {
        let mut room = [0; BUFFER];
        let most = BUFFER.min(self.left);
        if most == 0 {
            let (server, kib) = (self.target.server, self.most >> 10);
            return Err(failed(ErrorClass::Response, format!("{server} answered more than {kib} KiB")));
        }
        let read = match &mut self.wire {
            Wire::Plain(timed) => timed.read(&mut room[..most]),
            Wire::Tls(tls) => tls.read(&mut room[..most]),
            Wire::Memory(sent, piece) => sent.read(&mut room[..most.min(*piece)]),
        };
        let count = match read {
            Ok(0) => Err(io::Error::from(ErrorKind::UnexpectedEof)),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other,
        };
        let count = count.map_err(|error| self.target.fault(&Error::Io(error)))?;
        self.left -= count;
        self.buffer.extend_from_slice(&room[..count]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::tls::Version;

    /// Regression: what somebody on the way sent before TLS began was read as if it had come through TLS.
    #[test]
    fn nothing_that_came_before_tls_is_read_after_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let reach = Reach {
            names: Arc::new(Names::new(1)),
            rules: Arc::new(Rules { allowed: vec!["127.0.0.0/8".parse().unwrap()], own: Vec::new() }),
            roots: Roots::load(None, &[]),
            provider: crate::tls::provider_from(Version::default()),
        };
        let timeout = Duration::from_secs(20);
        let deadline = Instant::now() + timeout;
        let target = Target { host: "127.0.0.1", port, server: "postgresql://127.0.0.1", timeout, deadline };
        let mut stream = reach.connect(target).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"Sforged").unwrap();
        drop(server);
        assert_eq!(stream.take(1).unwrap(), b"S");
        let Err(error) = reach.secure(stream, &TlsMaterial { unsafe_ssl: true, ..TlsMaterial::default() }) else {
            panic!("TLS began after other bytes");
        };
        assert_eq!(error.class, ErrorClass::Tls);
        assert_eq!(error.message, "postgresql://127.0.0.1 sent something else before TLS began");
    }
}
