//! Reads and writes one socket, with TLS or without, never waiting.
//!
//! Owns the socket and the bytes to be sent. It knows nothing of HTTP, deadlines or the client's identity.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::limits::{HANDSHAKE_BYTES, OUT_PIECE};
use crate::http::Chain;

pub(super) struct Session {
    socket: TcpStream,
    /// Boxed, since a TLS state has a kilobyte and connections move between threads.
    tls: Option<Box<ServerConnection>>,
    outgoing: Outgoing,
    /// Bytes passed to TLS that are not processed yet: an incomplete record or handshake message.
    pending: usize,
    /// Bytes received in the handshake so far.
    handshake: usize,
}

/// The answer that is being sent.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Follows `bytes`; other connections may be sending it as well.
    body: Option<Arc<Vec<u8>>>,
    /// How much of both has been passed to TLS or to the kernel.
    sent: usize,
}

impl Outgoing {
    fn len(&self) -> usize {
        self.bytes.len() + self.body.as_ref().map_or(0, |body| body.len())
    }

    /// What is next, [`OUT_PIECE`] at most; empty at the end.
    fn piece(&self) -> &[u8] {
        let (bytes, sent) = match (&self.body, self.sent.checked_sub(self.bytes.len())) {
            (Some(body), Some(sent)) => (body.as_slice(), sent),
            _ => (self.bytes.as_slice(), self.sent),
        };
        &bytes[sent..(sent + OUT_PIECE).min(bytes.len())]
    }
}

/// The result of one attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Bytes were appended, or the handshake progressed: try again.
    Some,
    /// There is nothing to read now.
    Blocked,
    End,
}

/// How much of the bytes to be sent has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The client must read first; `progress` if at least one piece has left since the last call.
    Blocked {
        progress: bool,
    },
}

#[derive(Debug)]
pub(super) enum SessionError {
    Socket(io::Error),
    Tls(rustls::Error),
    /// More than [`HANDSHAKE_BYTES`] without completing the handshake.
    HandshakeTooLong,
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        SessionError::Socket(error)
    }
}

impl Session {
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<Session, SessionError> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let mut tls = ServerConnection::new(config).map_err(SessionError::Tls)?;
                // TLS is given one piece at a time; the limit also bounds alerts and handshake answers.
                tls.set_buffer_limit(Some(2 * OUT_PIECE));
                Some(Box::new(tls))
            }
        };
        Ok(Session { socket, tls, outgoing: Outgoing::default(), pending: 0, handshake: 0 })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Returns the client's certificate chain once the handshake is complete.
    pub(super) fn client_chain(&self) -> Option<Chain> {
        self.tls.as_ref().and_then(|tls| tls.peer_certificates()).filter(|chain| !chain.is_empty()).map(Chain::from)
    }

    /// The buffer for the next answer; no other answer may be on its way.
    pub(super) fn out_mut(&mut self) -> &mut Vec<u8> {
        debug_assert_eq!(self.outgoing.sent, 0);
        &mut self.outgoing.bytes
    }

    /// What follows the bytes of [`Self::out_mut`].
    pub(super) fn set_body(&mut self, body: Option<Arc<Vec<u8>>>) {
        self.outgoing.body = body;
    }

    pub(super) fn out_len(&self) -> usize {
        self.outgoing.len()
    }

    /// Memory of the answer that is being sent: TLS keeps a second copy of the current piece.
    pub(super) fn out_cost(&self) -> usize {
        let copied = if self.tls.is_some() { self.out_len().min(OUT_PIECE) } else { 0 };
        self.out_len() + copied
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn wants_write(&self) -> bool {
        self.outgoing.sent < self.outgoing.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends as much as the client takes, one piece at a time, so that TLS never holds a second copy of all.
    pub(super) fn flush(&mut self) -> Result<Sent, SessionError> {
        let mut progress = false;
        loop {
            if !self.flush_records()? {
                return Ok(Sent::Blocked { progress });
            }
            let piece = self.outgoing.piece();
            if piece.is_empty() {
                // Idle connections, of which there may be thousands, keep no buffers; an allocation per request is cheaper.
                self.outgoing = Outgoing::default();
                return Ok(Sent::All);
            }
            match &mut self.tls {
                Some(tls) => self.outgoing.sent += tls.writer().write(piece)?,
                None => match self.socket.write(piece) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                    Ok(n) => self.outgoing.sent += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Sent::Blocked { progress });
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error.into()),
                },
            }
            progress = true;
        }
    }

    /// Returns true if TLS has nothing left to send.
    fn flush_records(&mut self) -> Result<bool, SessionError> {
        let Some(tls) = &mut self.tls else {
            return Ok(true);
        };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads once, appending to `input`.
    pub(super) fn receive(&mut self, input: &mut Vec<u8>, scratch: &mut [u8]) -> Result<Received, SessionError> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(scratch) {
                Ok(0) => Ok(Received::End),
                Ok(n) => {
                    input.extend_from_slice(&scratch[..n]);
                    Ok(Received::Some)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Received::Some),
                Err(error) => Err(error.into()),
            };
        };
        match tls.reader().read(scratch) {
            Ok(0) => return Ok(Received::End),
            Ok(n) => {
                input.extend_from_slice(&scratch[..n]);
                return Ok(Received::Some);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let handshaking = tls.is_handshaking();
        match tls.read_tls(&mut self.socket) {
            Ok(0) => return Ok(Received::End),
            Ok(n) => {
                self.pending += n;
                self.handshake += if handshaking { n } else { 0 };
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Blocked),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Received::Some),
            Err(error) => return Err(error.into()),
        }
        match tls.process_new_packets() {
            Ok(state) => {
                let got_somewhere = state.plaintext_bytes_to_read() > 0 || state.tls_bytes_to_write() > 0;
                if got_somewhere || handshaking && !tls.is_handshaking() {
                    self.pending = 0;
                } else if handshaking && self.handshake > HANDSHAKE_BYTES {
                    return Err(SessionError::HandshakeTooLong);
                }
                Ok(Received::Some)
            }
            Err(error) => {
                // Tries to send the alert with the reason; the connection ends in either case.
                let _ = self.flush_records();
                Err(SessionError::Tls(error))
            }
        }
    }

    /// Reads and drops bytes; returns their number, or None at the end.
    pub(super) fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.read(scratch)? {
            0 => Ok(None),
            n => Ok(Some(n)),
        }
    }

    /// Sends close_notify with TLS, and shuts down the sending direction.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush_records();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
