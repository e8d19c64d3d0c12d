//! HTTP/1.1 for one request and its response, as bytes without a socket.
//!
//! Pure. Bounds what a server may send: the head, chunk headers, and the body, compressed and decompressed. The caller
//! bounds the time.

use std::io::{self, Write};
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use ureq::Error;
use ureq::http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, RETRY_AFTER, USER_AGENT,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response};
use ureq_proto::BodyMode;
use ureq_proto::client::state::{Prepare, RecvBody, RecvResponse};
use ureq_proto::client::{Await100Result, Call, RecvBodyResult, RecvResponseResult, SendRequestResult};

use super::redirect::is_redirect;
use super::request::{Hop, Request, head};

/// Bodies up to this size need no permit: all polls in flight together parse them into a few megabytes.
pub(super) const LARGE_BYTES: usize = 64 << 10;

/// Bytes of a body that are read. One sample is 200 bytes, and a label set may reach some kilobytes; a larger body holds
/// thousands of series and is an error anyway.
pub const BODY_MAX: usize = 1 << 20;

/// Upper bound on the bytes of a response's head, including the interim responses (1xx) before it.
pub(super) const HEAD_MAX: usize = 8 << 10;

/// Bytes that are read or written at once. An incomplete line must fit, such as a header with a bearer token of 8 KiB.
pub(super) const BUFFER: usize = 16 << 10;

/// Bytes of a redirect's body that are read to keep the connection. Servers write a line or two.
pub(super) const REDIRECT_BODY_MAX: usize = 4 << 10;

/// How long to pause after a 429 without `Retry-After`.
const REST: Duration = Duration::from_secs(5);

/// A complete response, with its body not yet interpreted.
pub(super) struct RawResponse {
    pub(super) status: u16,
    pub(super) location: Option<HeaderValue>,
    /// How long an overloaded server asks not to be queried: `Retry-After`, or [`REST`].
    pub(super) rest: Option<Duration>,
    /// Decompressed, and cut after [`BODY_MAX`] + 1 bytes.
    pub(super) body: Vec<u8>,
    /// Whether the connection can be used for another request.
    pub(super) reusable: bool,
}

/// A request in flight, and the response so far.
pub(super) struct Exchange {
    state: State,
    /// Received bytes of an incomplete line.
    input: Vec<u8>,
    /// Bytes of interim responses so far.
    interim: usize,
    status: u16,
    location: Option<HeaderValue>,
    rest: Option<Duration>,
    body: Sink,
}

enum State {
    Head(Box<Call<RecvResponse>>),
    Body(Box<Call<RecvBody>>),
    Ended { reusable: bool },
}

impl Exchange {
    /// Returns the exchange and the encoded request. Each header line must fit into `room`.
    pub(super) fn begin(
        request: &Request,
        hop: &Hop,
        user_agent: &str,
        room: &mut [u8],
    ) -> Result<(Self, Vec<u8>), Error> {
        let (mut head, form) = head(request, hop)?;
        let mut absent = |name: HeaderName, value: HeaderValue| {
            head.headers_mut().entry(name).or_insert(value);
        };
        absent(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        absent(ACCEPT, HeaderValue::from_static("application/json"));
        if let Ok(value) = HeaderValue::from_str(user_agent) {
            absent(USER_AGENT, value);
        }
        if let Some(form) = form {
            absent(CONTENT_LENGTH, HeaderValue::from(form.len()));
        }
        let call = Call::<Prepare>::new(head).map_err(Error::Protocol)?;
        let (call, bytes) = write(call, form.unwrap_or_default(), room).map_err(Error::Protocol)?;
        let state = State::Head(Box::new(call));
        Ok((
            Self {
                state,
                input: Vec::new(),
                interim: 0,
                status: 0,
                location: None,
                rest: None,
                body: Sink::Plain(Body::default()),
            },
            bytes,
        ))
    }

    /// Returns whether the response has not begun, so that the request can be sent again.
    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Takes received bytes, and returns the response once it is complete. `room` is a buffer for decompression.
    pub(super) fn push(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<Option<RawResponse>, Error> {
        let mut kept = std::mem::take(&mut self.input);
        let mut bytes = bytes;
        if !kept.is_empty() {
            kept.extend_from_slice(bytes);
            bytes = &kept;
        }
        let mut used = 0;
        if self.awaits_head() {
            used = self.read_head(bytes)?;
        }
        match self.read_body(&bytes[used..], room) {
            Ok(more) => used += more,
            // A redirect's body is not used.
            Err(_) if matches!(self.body, Sink::Nothing(_)) => self.state = State::Ended { reusable: false },
            Err(error) => return Err(error),
        }
        let rest = &bytes[used..];
        if let State::Ended { reusable } = self.state {
            return self.answer(reusable && rest.is_empty()).map(Some);
        }
        if rest.len() > BUFFER {
            return Err(Error::BodyStalled);
        }
        self.input = rest.to_vec();
        Ok(None)
    }

    /// Returns the response that ends with the closed connection.
    pub(super) fn end(&mut self) -> Result<RawResponse, Error> {
        let is_whole = match &self.state {
            State::Head(_) => false,
            // Servers often omit the empty line after the last chunk.
            State::Body(call) => call.body_mode() == BodyMode::CloseDelimited || call.is_ended_chunked(),
            State::Ended { .. } => true,
        };
        if is_whole || matches!(self.body, Sink::Nothing(_)) {
            return self.answer(false);
        }
        Err(Error::Io(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Parses the head and returns how many bytes belonged to it. The state then shows whether it is complete.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let State::Head(call) = &mut self.state else { return Ok(used) };
            let (more, response) = call.try_response(&bytes[used..], false).map_err(Error::Protocol)?;
            let size = self.interim + if response.is_some() { more } else { bytes.len() - used };
            if size > HEAD_MAX {
                return Err(Error::LargeResponseHeader(size, HEAD_MAX));
            }
            used += more;
            match response {
                Some(response) => {
                    self.take_head(&response);
                    return Ok(used);
                }
                None if more > 0 => self.interim += more,
                None => return Ok(used),
            }
        }
    }

    fn take_head(&mut self, response: &Response<()>) {
        self.status = response.status().as_u16();
        self.location = response.headers().get(LOCATION).cloned();
        self.rest = rest(self.status, response.headers());
        let packed = response.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        self.body = if is_redirect(self.status) && self.location.is_some() {
            Sink::Nothing(0)
        } else if packed {
            Sink::Gzip(Box::new(MultiGzDecoder::new(Body::default())))
        } else {
            Sink::Plain(Body::default())
        };
        let State::Head(call) = std::mem::replace(&mut self.state, State::Ended { reusable: false }) else { return };
        self.state = match call.proceed() {
            Some(RecvResponseResult::RecvBody(call)) => State::Body(Box::new(call)),
            other => {
                // Without a body there is nothing to decompress.
                if matches!(self.body, Sink::Gzip(_)) {
                    self.body = Sink::Plain(Body::default());
                }
                let closes = match other {
                    Some(RecvResponseResult::Redirect(call)) => call.must_close_connection(),
                    Some(RecvResponseResult::Cleanup(call)) => call.must_close_connection(),
                    _ => true,
                };
                State::Ended { reusable: !closes }
            }
        };
    }

    /// Returns how many bytes belonged to the body.
    fn read_body(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<usize, Error> {
        let mut used = 0;
        while let State::Body(call) = &mut self.state {
            let (more, made) = call.read(&bytes[used..], room).map_err(Error::Protocol)?;
            used += more;
            let wants_more = self.body.push(&room[..made])?;
            if !wants_more {
                self.state = State::Ended { reusable: false };
            } else if call.body_mode() != BodyMode::CloseDelimited && call.can_proceed() {
                let State::Body(call) = std::mem::replace(&mut self.state, State::Ended { reusable: false }) else {
                    break;
                };
                let closes = match call.proceed() {
                    Some(RecvBodyResult::Redirect(call)) => call.must_close_connection(),
                    Some(RecvBodyResult::Cleanup(call)) => call.must_close_connection(),
                    None => true,
                };
                self.state = State::Ended { reusable: !closes };
            } else if more == 0 && made == 0 {
                break;
            }
        }
        Ok(used)
    }

    fn answer(&mut self, reusable: bool) -> Result<RawResponse, Error> {
        let body = self.body.finish()?;
        Ok(RawResponse { status: self.status, location: self.location.take(), rest: self.rest, body, reusable })
    }
}

/// Encodes the head and the form.
fn write(call: Call<Prepare>, form: &str, room: &mut [u8]) -> Result<(Call<RecvResponse>, Vec<u8>), ureq_proto::Error> {
    let mut bytes = Vec::new();
    let mut call = call.proceed();
    while !call.can_proceed() {
        let made = call.write(room)?;
        bytes.extend_from_slice(&room[..made]);
    }
    let mut call = match call.proceed()? {
        Some(SendRequestResult::SendBody(call)) => call,
        Some(SendRequestResult::RecvResponse(call)) => return Ok((call, bytes)),
        // A configured `Expect: 100-continue` would only cause a round trip: forms are small, so they are sent at once.
        Some(SendRequestResult::Await100(call)) => match call.proceed()? {
            Await100Result::SendBody(call) => call,
            Await100Result::RecvResponse(call) => return Ok((call, bytes)),
        },
        None => return Err(ureq_proto::Error::OutputOverflow),
    };
    bytes.extend_from_slice(form.as_bytes());
    call.consume_direct_write(form.len())?;
    call.proceed().map(|call| (call, bytes)).ok_or(ureq_proto::Error::OutputOverflow)
}

/// The destination of a body.
enum Sink {
    Plain(Body),
    Gzip(Box<MultiGzDecoder<Body>>),
    /// Counts the bytes of a redirect's body.
    Nothing(usize),
}

impl Sink {
    /// Returns whether more bytes are wanted.
    fn push(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        match self {
            Self::Plain(body) => {
                body.push(bytes);
                Ok(!body.is_full())
            }
            Self::Gzip(decoder) => match decoder.write_all(bytes) {
                _ if decoder.get_ref().is_full() => Ok(false),
                result => result.map(|()| true).map_err(|error| Error::Decompress("gzip", error)),
            },
            Self::Nothing(count) => {
                *count += bytes.len();
                Ok(*count <= REDIRECT_BODY_MAX)
            }
        }
    }

    fn finish(&mut self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Plain(body) => Ok(std::mem::take(&mut body.0)),
            Self::Gzip(decoder) => {
                if !decoder.get_ref().is_full() {
                    decoder.try_finish().map_err(|error| Error::Decompress("gzip", error))?;
                }
                Ok(std::mem::take(&mut decoder.get_mut().0))
            }
            Self::Nothing(_) => Ok(Vec::new()),
        }
    }
}

/// Up to [`BODY_MAX`] + 1 bytes. A large body is allocated in full at once: growing step by step takes three times as
/// much memory.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn is_full(&self) -> bool {
        self.0.len() > BODY_MAX
    }

    /// Returns how many of the bytes fitted.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let left = BODY_MAX + 1 - self.0.len();
        let fitting = bytes.len().min(left);
        if self.0.len() + fitting > LARGE_BYTES {
            self.0.reserve_exact(left);
        }
        self.0.extend_from_slice(&bytes[..fitting]);
        fitting
    }
}

impl Write for Body {
    /// Writes no bytes once the body is full, which ends the decompression.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.push(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns how long an overloaded server asks not to be queried. A 503 without `Retry-After` does not count: Prometheus
/// sends it for a query that took too long.
pub(super) fn rest(status: u16, headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match status {
        429 => Some(seconds.map_or(REST, Duration::from_secs)),
        503 => seconds.map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Method;
    use super::*;

    fn begun() -> (Exchange, String) {
        let request = Request::get("http://p:9090/q".into(), "http://p:9090".into());
        let hop = Hop { method: Method::Get, uri: request.url.parse().unwrap(), with_secrets: true };
        let (exchange, bytes) = Exchange::begin(&request, &hop, "hpalite/test", &mut vec![0; BUFFER]).unwrap();
        (exchange, String::from_utf8(bytes).unwrap())
    }

    /// Feeds the bytes in parts of a size, then ends the connection. Returns status, body, and whether it is reusable.
    fn exchanged(bytes: &[u8], at_once: usize) -> Result<(u16, Vec<u8>, bool), Error> {
        let (mut exchange, mut room) = (begun().0, vec![0; BUFFER]);
        for part in bytes.chunks(at_once) {
            if let Some(RawResponse { status, body, reusable, .. }) = exchange.push(part, &mut room)? {
                return Ok((status, body, reusable));
            }
        }
        exchange.end().map(|RawResponse { status, body, reusable, .. }| (status, body, reusable))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn with_length(head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{head}\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn a_request() {
        let (_, text) = begun();
        assert!(text.starts_with("GET /q HTTP/1.1\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        for line in ["host: p:9090", "hpalite-poll: 1", "accept-encoding: gzip", "user-agent: hpalite/test"] {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{text}");
        }
    }

    #[test]
    fn answers_in_parts_of_any_size() {
        let packed = with_length("Content-Encoding: gzip\r\n", &gzip(b"hello"));
        let twice = with_length("Content-Encoding: gzip\r\n", &[gzip(b"hel"), gzip(b"lo")].concat());
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n";
        let (plain, trailed) = (with_length("", b"hello"), format!("{chunks}A: b\r\n\r\n"));
        let rows: [(&[u8], u16, &[u8], bool); 9] = [
            (&plain, 200, b"hello", true),
            (&packed, 200, b"hello", true),
            (&twice, 200, b"hello", true),
            (trailed.as_bytes(), 200, b"hello", true),
            // Without the empty line after the last chunk.
            (chunks.as_bytes(), 200, b"hello", false),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204, b"", true),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 200, b"", false),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", false),
            (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 5\r\n\r\nmoved", 302, b"", true),
        ];
        for (bytes, status, body, reusable) in rows {
            for at_once in [1, 2, 7, bytes.len()] {
                let found = exchanged(bytes, at_once).unwrap();
                let text = String::from_utf8_lossy(bytes);
                assert_eq!(found, (status, body.to_vec(), reusable), "{at_once} at once: {text}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_no_answer() {
        let mut cut = gzip(b"hello");
        cut.truncate(20);
        let cut = with_length("Content-Encoding: gzip\r\n", &cut);
        assert!(matches!(exchanged(&cut, cut.len()), Err(Error::Decompress(..))));
        let whole = with_length("", b"hello");
        for length in 0..whole.len() {
            let error = exchanged(&whole[..length], 3).unwrap_err();
            assert!(matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof), "{error}");
        }
        // The server sends bytes after the response.
        assert!(!exchanged(&[&whole[..], b"x"].concat(), 1_000).unwrap().2);
    }

    #[test]
    fn what_never_ends_is_cut() {
        let head = |end: &str| format!("HTTP/1.1 200 OK\r\n{end}").into_bytes();
        let endless = |head: &[u8], more: &[u8]| {
            let (mut exchange, mut room) = (begun().0, vec![0; BUFFER]);
            let mut result = exchange.push(head, &mut room);
            let (mut pushed, more) = (0, more.repeat(1_000));
            while let Ok(None) = result {
                result = exchange.push(&more, &mut room);
                pushed += more.len();
                assert!(pushed < 4 * BODY_MAX && exchange.input.len() <= BUFFER);
            }
            result.map(|answer| answer.unwrap().body.len())
        };
        assert!(matches!(endless(&head(""), b"X: x\r\n"), Err(Error::LargeResponseHeader(..) | Error::Protocol(_))));
        assert!(matches!(endless(&head("X: "), b"x"), Err(Error::LargeResponseHeader(..))));
        assert!(matches!(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), Err(Error::LargeResponseHeader(..))));
        let chunked = head("Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(endless(&chunked, b"5\r\nhello\r\n").unwrap(), BODY_MAX + 1);
        assert!(matches!(endless(&[&chunked[..], b"1;"].concat(), b"a"), Err(Error::BodyStalled)));
        assert_eq!(endless(&head("\r\n"), b"hello").unwrap(), BODY_MAX + 1);
        let bomb = gzip(&vec![b' '; 100 * BODY_MAX]);
        let packed = head("Content-Encoding: gzip\r\n\r\n");
        assert_eq!(endless(&[packed, bomb].concat(), b"").unwrap(), BODY_MAX + 1);
        assert_eq!(endless(&head("\r\n"), &[0; 50]).unwrap(), BODY_MAX + 1);
    }
}
