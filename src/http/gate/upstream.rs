//! A worker's own connection to the backend: one request out, one whole answer back.
//!
//! Owns a kept-alive Unix socket and the worker's slot, where it leaves what only the gate may say about a request
//! (its peer). A request that carries the token and the slot's number is the gate's; nothing else is.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::backend::{Backend, GATE_HEADER};
use super::head::{Head, is_remote};
use super::limits::{ANSWER_MAX, HANDLER_ANSWER};
use crate::http::Peer;

pub(super) struct Upstream {
    backend: Arc<Backend>,
    slot: usize,
    /// The socket, and the generation of the backend's server that it leads to.
    connection: Option<(UnixStream, u64)>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum UpstreamError {
    Connect(io::Error),
    Send(io::Error),
    Receive(io::Error),
    /// The handler took longer than [`HANDLER_ANSWER`].
    Late,
    /// What came back is no answer of ours.
    Malformed,
    TooLarge,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamError::Connect(error) => write!(f, "cannot connect to the backend: {error}"),
            UpstreamError::Send(error) => write!(f, "cannot send to the backend: {error}"),
            UpstreamError::Receive(error) => write!(f, "cannot receive from the backend: {error}"),
            UpstreamError::Late => f.write_str("handler did not answer in time"),
            UpstreamError::Malformed => f.write_str("backend sent a malformed answer"),
            UpstreamError::TooLarge => f.write_str("answer is larger than the limit"),
        }
    }
}

impl Upstream {
    /// Connects at once, so that a gate that cannot reach its backend does not start.
    pub(super) fn new(backend: &Arc<Backend>, slot: usize) -> Result<Upstream, UpstreamError> {
        let mut upstream = Upstream {
            backend: Arc::clone(backend),
            slot,
            connection: None,
            request: Vec::with_capacity(2048),
            answer: vec![0; 16 * 1024],
        };
        upstream.connect()?;
        Ok(upstream)
    }

    /// Has the backend answer; the answer is appended to `out`. `hides` says which headers handlers must not see.
    pub(super) fn exchange(
        &mut self,
        head: &Head<'_>,
        peer: Peer,
        hides: impl Fn(&str) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), UpstreamError> {
        if self.connection.as_ref().is_none_or(|(_, generation)| *generation != self.backend.generation()) {
            self.connect()?;
        }
        self.write_request(head, hides);
        self.backend.leave(self.slot, peer);
        let exchanged = self.send_and_receive(head.method == "HEAD", out);
        if exchanged.is_err() {
            // Half an answer may be on its way; the next request gets a connection without one.
            self.connection = None;
            self.backend.clear(self.slot);
        }
        exchanged
    }

    fn connect(&mut self) -> Result<(), UpstreamError> {
        self.connection = None;
        // One at a time and each proved before the next: tiny_http loses some of a burst of connections, which
        // would show only when a request hangs on one of them.
        let backend = Arc::clone(&self.backend);
        let _turn = backend.connect_turn();
        let (path, generation) = backend.address();
        let stream = UnixStream::connect(path).map_err(UpstreamError::Connect)?;
        stream.set_read_timeout(Some(HANDLER_ANSWER)).map_err(UpstreamError::Connect)?;
        stream.set_write_timeout(Some(HANDLER_ANSWER)).map_err(UpstreamError::Connect)?;
        self.connection = Some((stream, generation));
        self.request.clear();
        self.request.extend_from_slice(b"GET / HTTP/1.1\r\n");
        self.write_gate_header();
        // With nothing in the slot the backend knows that this is no client's request.
        self.backend.clear(self.slot);
        let proved = self.send_and_receive(false, &mut Vec::new());
        if proved.is_err() {
            self.connection = None;
        }
        proved
    }

    fn write_request(&mut self, head: &Head<'_>, hides: impl Fn(&str) -> bool) {
        let out = &mut self.request;
        out.clear();
        for part in [head.method, " ", head.path] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = head.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        for (name, value) in &head.headers {
            if is_remote(name) || hides(name) {
                continue;
            }
            for part in [*name, ": ", *value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        self.write_gate_header();
    }

    fn write_gate_header(&mut self) {
        let (token, slot) = (self.backend.token(), self.slot);
        // Writing to a Vec cannot fail.
        let _ = write!(self.request, "{GATE_HEADER}: {token} {slot}\r\n\r\n");
    }

    fn send_and_receive(&mut self, head_only: bool, out: &mut Vec<u8>) -> Result<(), UpstreamError> {
        let Some((stream, _)) = &mut self.connection else {
            return Err(UpstreamError::Malformed);
        };
        stream.write_all(&self.request).map_err(UpstreamError::Send)?;
        let mut have = 0;
        let length = loop {
            if have == self.answer.len() {
                return Err(UpstreamError::Malformed);
            }
            have += match stream.read(&mut self.answer[have..]) {
                Ok(0) => return Err(UpstreamError::Receive(ErrorKind::UnexpectedEof.into())),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(receive_error(error)),
            };
            if let Some(length) = answer_length(&self.answer[..have], head_only)? {
                break length;
            }
        };
        if length > ANSWER_MAX {
            return Err(UpstreamError::TooLarge);
        }
        let missing = length.checked_sub(have).ok_or(UpstreamError::Malformed)?;
        out.reserve_exact(length);
        out.extend_from_slice(&self.answer[..have]);
        let mut rest = stream.take(u64::try_from(missing).unwrap_or(u64::MAX));
        match rest.read_to_end(out) {
            Ok(n) if n == missing => Ok(()),
            Ok(_) => Err(UpstreamError::Receive(ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(receive_error(error)),
        }
        .inspect_err(|_| out.clear())
    }
}

fn receive_error(error: io::Error) -> UpstreamError {
    // A read timeout shows as either, depending on the platform.
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => UpstreamError::Late,
        _ => UpstreamError::Receive(error),
    }
}

/// The length of the answer that `bytes` begin, as soon as its head is complete.
fn answer_length(bytes: &[u8], head_only: bool) -> Result<Option<usize>, UpstreamError> {
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut slots);
    let head_len = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(UpstreamError::Malformed),
    };
    if head_only || matches!(answer.code, Some(100..=199 | 204 | 304)) {
        return Ok(Some(head_len));
    }
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    length.and_then(|length| head_len.checked_add(length)).map(Some).ok_or(UpstreamError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_answers() {
        let length = |bytes: &str, head_only| answer_length(bytes.as_bytes(), head_only).ok();
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Le", false), Some(None));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false), Some(Some(41)));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true), Some(Some(38)));
        assert_eq!(length("HTTP/1.1 304 Not Modified\r\n\r\n", false), Some(Some(29)));
        assert_eq!(length("HTTP/1.1 200 OK\r\n\r\n", false), None);
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", false), None);
        assert_eq!(length("nonsense\r\n\r\n", false), None);
    }
}
