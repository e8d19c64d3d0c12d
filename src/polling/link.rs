//! One non-blocking connection to a server, with or without TLS.
//!
//! Owns the socket; the engine waits for it with epoll.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustls::{ClientConfig, ClientConnection};
use ureq::Error;

use crate::outbound::tls::server_name;

/// Upper bound on TLS identities kept with their connections. Most clusters need one. An identity with its own `ca` holds
/// a copy of the roots, about 150 of 1 KiB, so 64 take at most 10 MiB.
pub(super) const CLIENTS_MAX: usize = 64;

/// Upper bound on idle connections without a client certificate, each a descriptor, and some 20 KiB with TLS.
pub(super) const IDLE_MAX: usize = 256;

/// Upper bound on idle connections of one other identity, which queries few servers: a tenant that makes up identities
/// must not hold many descriptors and much memory by them.
pub(super) const IDLE_MAX_OF_ONE: usize = 8;

/// Upper bound on idle connections to one server: the share of the default `--poll-threads` that one server may have. With
/// fewer, some of each burst of polls would connect anew.
pub(super) const IDLE_PER_SERVER_MAX: usize = 24;

/// Longer than the usual polling interval of 30 s, so that a connection is reused, and shorter than the five minutes
/// after which Prometheus closes it.
pub(super) const IDLE_AGE_MAX: Duration = Duration::from_secs(240);

/// Reads of a handshake before other connections are served: a whole handshake has some kilobytes.
const SHAKES: usize = 4;

pub(super) struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Bytes to be sent, and how many of them have been sent.
    bytes: Vec<u8>,
    sent: usize,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(usize),
    Nothing,
    End,
}

impl Link {
    /// Starts to connect. The socket becomes writable when the attempt has ended.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { socket: TcpStream::from(socket), tls: None, bytes: Vec::new(), sent: 0 })
    }

    /// Returns the result of the attempt to connect.
    pub(super) fn connected(&self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.socket.set_nodelay(true)
    }

    /// Uses TLS from now on.
    pub(super) fn secure(&mut self, config: &Arc<ClientConfig>, host: &str) -> Result<(), Error> {
        let connection = ClientConnection::new(Arc::clone(config), server_name(host)?)?;
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Continues the handshake with at most [`SHAKES`] reads. Returns whether it has ended.
    pub(super) fn shake(&mut self) -> Result<bool, Error> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        for _ in 0..SHAKES {
            if !tls.is_handshaking() {
                return Ok(true);
            }
            if !write_tls(tls, &mut self.socket)? || !read_tls(tls, &mut self.socket)? {
                break;
            }
        }
        Ok(!tls.is_handshaking())
    }

    /// Queues bytes to be sent.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.sent = 0;
    }

    /// Sends as much as the socket accepts.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        while self.sent < self.bytes.len() {
            let rest = &self.bytes[self.sent..];
            let more = match &mut self.tls {
                None => self.socket.write(rest),
                Some(tls) => tls.writer().write(rest),
            };
            match more {
                Ok(more) => self.sent += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if let Some(tls) = &mut self.tls
                && !write_tls(tls, &mut self.socket)?
            {
                return Ok(());
            }
        }
        self.bytes = Vec::new();
        self.sent = 0;
        match &mut self.tls {
            Some(tls) => write_tls(tls, &mut self.socket).map(drop),
            None => Ok(()),
        }
    }

    /// Returns whether bytes are left that the socket did not accept.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.bytes.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads once.
    pub(super) fn read(&mut self, room: &mut [u8]) -> Result<Input, Error> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(room) {
                Ok(0) => Ok(Input::End),
                Ok(count) => Ok(Input::Bytes(count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    Ok(Input::Nothing)
                }
                Err(error) => Err(error.into()),
            };
        };
        // Decrypted bytes are returned first, in several calls if needed, before more is read from the socket.
        if let Some(input) = unpacked(tls, room)? {
            return Ok(input);
        }
        if !read_tls(tls, &mut self.socket)? {
            return Ok(Input::Nothing);
        }
        Ok(unpacked(tls, room)?.unwrap_or(Input::Nothing))
    }

    /// Returns whether decrypted bytes are buffered, for which the socket gives no event.
    pub(super) fn has_more(&mut self) -> bool {
        self.tls
            .as_mut()
            .is_some_and(|tls| tls.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads decrypted bytes, if there are any.
fn unpacked(tls: &mut ClientConnection, room: &mut [u8]) -> Result<Option<Input>, Error> {
    match tls.reader().read(room) {
        Ok(0) => Ok(Some(Input::End)),
        Ok(count) => Ok(Some(Input::Bytes(count))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(Input::End)),
        Err(error) => Err(error.into()),
    }
}

/// Writes pending TLS records. Returns whether all were written.
fn write_tls(tls: &mut ClientConnection, socket: &mut TcpStream) -> Result<bool, Error> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Reads TLS records. Returns whether there were any; the end of the stream counts as one, except during a handshake.
fn read_tls(tls: &mut ClientConnection, socket: &mut TcpStream) -> Result<bool, Error> {
    let count = match tls.read_tls(socket) {
        Ok(count) => count,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = tls.process_new_packets() {
        // Sends the TLS alert with the reason, if the socket accepts it at once.
        let _ = tls.write_tls(socket);
        return Err(Error::Rustls(error));
    }
    if count == 0 && tls.is_handshaking() {
        return Err(Error::Io(ErrorKind::UnexpectedEof.into()));
    }
    Ok(true)
}
