//! Bytes in and out of one socket, with TLS or without, never waiting.
//!
//! Owns the socket and what is on its way out. It knows nothing of HTTP, deadlines or who is on the other end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use super::limits::{HANDSHAKE_BYTES, OUT_PIECE};
use crate::http::Chain;

pub(super) struct Session {
    socket: TcpStream,
    /// Boxed: a TLS state is a kilobyte, and connections move between threads.
    tls: Option<Box<ServerConnection>>,
    out: Vec<u8>,
    /// How much of `out` has been handed to TLS or to the kernel.
    sent: usize,
    /// Bytes that TLS has been given and has made nothing of yet: a record or a handshake message without its end.
    pending: usize,
    /// Bytes of the handshake so far.
    handshake: usize,
}

/// What one attempt to read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// Something was appended, or the handshake moved on: try again.
    Some,
    /// Nothing to read now.
    Blocked,
    End,
}

/// What became of the bytes on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The client has to read first; `progress` if at least one piece has left since the last call.
    Blocked {
        progress: bool,
    },
}

#[derive(Debug)]
pub(super) enum SessionError {
    Socket(io::Error),
    Tls(rustls::Error),
    /// More than [`HANDSHAKE_BYTES`], and no end of the handshake.
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
                // Only one piece is ever given to it; the limit also bounds alerts and handshake answers.
                tls.set_buffer_limit(Some(2 * OUT_PIECE));
                Some(Box::new(tls))
            }
        };
        Ok(Session { socket, tls, out: Vec::new(), sent: 0, pending: 0, handshake: 0 })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The client's certificate chain, once the handshake is through.
    pub(super) fn client_chain(&self) -> Option<Chain> {
        self.tls.as_ref().and_then(|tls| tls.peer_certificates()).filter(|chain| !chain.is_empty()).map(Chain::from)
    }

    /// The buffer for the next answer; nothing of another one may be on its way.
    pub(super) fn out_mut(&mut self) -> &mut Vec<u8> {
        debug_assert_eq!(self.sent, 0);
        &mut self.out
    }

    pub(super) fn out_len(&self) -> usize {
        self.out.len()
    }

    /// What the answer on its way takes: TLS keeps a second copy of the piece that it is sending.
    pub(super) fn out_cost(&self) -> usize {
        let copied = if self.tls.is_some() { self.out.len().min(OUT_PIECE) } else { 0 };
        self.out.len() + copied
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn wants_write(&self) -> bool {
        self.sent < self.out.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Sends what the client takes. A piece of the answer at a time, so that TLS never holds a second copy of it.
    pub(super) fn flush(&mut self) -> Result<Sent, SessionError> {
        let mut progress = false;
        loop {
            if !self.flush_records()? {
                return Ok(Sent::Blocked { progress });
            }
            let piece = &self.out[self.sent..(self.sent + OUT_PIECE).min(self.out.len())];
            if piece.is_empty() {
                // Thousands of idle connections keep no buffers; an allocation a request is the cheaper half.
                self.out = Vec::new();
                self.sent = 0;
                return Ok(Sent::All);
            }
            match &mut self.tls {
                Some(tls) => self.sent += tls.writer().write(piece)?,
                None => match self.socket.write(piece) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                    Ok(n) => self.sent += n,
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

    /// True if TLS has nothing left to send.
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
                // The alert that says why; the connection ends whether it leaves or not.
                let _ = self.flush_records();
                Err(SessionError::Tls(error))
            }
        }
    }

    /// Reads and drops what comes; the number of bytes, or None at the end.
    pub(super) fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Option<usize>> {
        match self.socket.read(scratch)? {
            0 => Ok(None),
            n => Ok(Some(n)),
        }
    }

    /// Sends TLS's close notification, if there is TLS, and closes our direction.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush_records();
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
