//! Parses the bytes of a request head into a [`Head`], or refuses them with a reason.
//!
//! Pure. It owns the rules for what reaches a handler and must stay the only place that interprets bytes from the
//! network as HTTP. It is stricter than RFC 9112 wherever two readers of the same bytes could see different requests:
//! there it refuses instead of repairing.

use super::limits::{BODY_MAX, HEAD_MAX, HEADERS_MAX};

/// The result of parsing the bytes received so far.
#[derive(Debug, PartialEq)]
pub enum Parsed<'b> {
    /// No error so far, and no end of the head.
    Incomplete,
    Complete(Head<'b>),
}

/// A head that a handler may see, borrowed from the connection's buffer.
#[derive(Debug, PartialEq)]
pub struct Head<'b> {
    pub method: &'b str,
    pub path: &'b str,
    pub query: Option<&'b str>,
    /// Headers for handlers, without hop-by-hop and internal ones. Values are ASCII, except those of identity headers,
    /// where user names may be UTF-8.
    pub headers: Vec<(&'b str, &'b str)>,
    /// Bytes of the head, the empty line included.
    pub head_len: usize,
    pub body_len: usize,
    /// False for HTTP/1.0 and for `Connection: close`.
    pub keep_alive: bool,
    pub expects_continue: bool,
}

/// Why a head is refused. The connection is closed after each refusal, since the end of the request is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP/1: a TLS hello on a plain port, the preface of HTTP/2, noise.
    NotHttp,
    /// A line feed without a carriage return before it, a carriage return alone, or another control byte.
    ControlByte,
    RequestLine,
    /// The target is not a path: absolute form, `*`, a fragment, bytes outside ASCII.
    Target,
    TargetTooLong,
    HeaderSyntax,
    HeaderNotAscii,
    HeadTooLarge,
    TooManyHeaders,
    HostMissing,
    HostRepeated,
    HostSyntax,
    LengthSyntax,
    LengthRepeated,
    BodyTooLarge,
    /// Chunked bodies are not read; no legitimate client sends one.
    TransferEncoding,
    Expectation,
}

impl Refusal {
    pub const ALL: [Refusal; 17] = [
        Refusal::NotHttp,
        Refusal::ControlByte,
        Refusal::RequestLine,
        Refusal::Target,
        Refusal::TargetTooLong,
        Refusal::HeaderSyntax,
        Refusal::HeaderNotAscii,
        Refusal::HeadTooLarge,
        Refusal::TooManyHeaders,
        Refusal::HostMissing,
        Refusal::HostRepeated,
        Refusal::HostSyntax,
        Refusal::LengthSyntax,
        Refusal::LengthRepeated,
        Refusal::BodyTooLarge,
        Refusal::TransferEncoding,
        Refusal::Expectation,
    ];

    pub fn code(self) -> u16 {
        match self {
            Refusal::TransferEncoding => 411,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::HeadTooLarge | Refusal::TooManyHeaders => 431,
            _ => 400,
        }
    }

    /// The metric label, and the end of the message to the client.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NotHttp => "not http",
            Refusal::ControlByte => "control byte in head",
            Refusal::RequestLine => "malformed request line",
            Refusal::Target => "request target is not a path",
            Refusal::TargetTooLong => "request target too long",
            Refusal::HeaderSyntax => "malformed header",
            Refusal::HeaderNotAscii => "header outside ascii",
            Refusal::HeadTooLarge => "head too large",
            Refusal::TooManyHeaders => "too many headers",
            Refusal::HostMissing => "host missing",
            Refusal::HostRepeated => "host repeated",
            Refusal::HostSyntax => "malformed host",
            Refusal::LengthSyntax => "malformed content length",
            Refusal::LengthRepeated => "content length repeated",
            Refusal::BodyTooLarge => "body too large",
            Refusal::TransferEncoding => "transfer encoding",
            Refusal::Expectation => "unknown expectation",
        }
    }
}

/// Reads a head from the start of `buffer`. An earlier call has found no end in the bytes before `checked`; pass 0 when
/// in doubt.
pub fn parse(buffer: &[u8], checked: usize) -> Result<Parsed<'_>, Refusal> {
    let Some(head_len) = find_end(buffer, checked)? else {
        return Ok(Parsed::Incomplete);
    };
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut slots);
    match raw.parse(&buffer[..head_len]) {
        Ok(httparse::Status::Complete(n)) if n == head_len => {}
        // httparse and find_end must agree on where the head ends.
        Ok(_) => return Err(Refusal::HeaderSyntax),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine) => {
            return Err(Refusal::HeaderSyntax);
        }
        Err(_) => return Err(Refusal::RequestLine),
    }
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(Refusal::RequestLine);
    };
    if method.len() > 16 || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(Refusal::RequestLine);
    }
    let (path, query) = split_target(target)?;
    let mut framing = Framing::default();
    let mut headers = Vec::with_capacity(raw.headers.len());
    for header in raw.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| Refusal::HeaderNotAscii)?;
        if !value.is_ascii() && !is_remote(header.name) {
            return Err(Refusal::HeaderNotAscii);
        }
        if framing.take(header.name, value)? {
            headers.push((header.name, value));
        }
    }
    if framing.host.is_none() && minor == 1 {
        return Err(Refusal::HostMissing);
    }
    Ok(Parsed::Complete(Head {
        method,
        path,
        query,
        headers,
        head_len,
        body_len: framing.length.unwrap_or(0),
        keep_alive: minor == 1 && !framing.close,
        expects_continue: minor == 1 && framing.expects_continue,
    }))
}

/// How much a [`parse`] that returned `Incomplete` has checked; the head's end can begin three bytes before that.
pub fn checked(buffer: &[u8]) -> usize {
    buffer.len().saturating_sub(3)
}

/// Returns the length of the head if its end is there; refuses early what can be refused without it.
fn find_end(buffer: &[u8], checked: usize) -> Result<Option<usize>, Refusal> {
    // Every method of HTTP/1 is a word in upper case; a TLS ClientHello begins with 0x16.
    if buffer.first().is_some_and(|b| !b.is_ascii_uppercase()) {
        return Err(Refusal::NotHttp);
    }
    let window = &buffer[..buffer.len().min(HEAD_MAX)];
    let mut at = checked.min(window.len());
    while let Some(step) = window[at..].iter().position(|b| *b < 0x20 && *b != b'\t' || *b == 0x7f) {
        let found = at + step;
        match (window[found], window.get(found + 1)) {
            (b'\r', Some(b'\n')) => {
                if window[..found].ends_with(b"\r\n") {
                    return Ok(Some(found + 2));
                }
                at = found + 2;
            }
            (b'\r', None) => break,
            // A line feed right behind `checked` belongs to a carriage return that was checked before.
            (b'\n', _) if found == checked && found > 0 && window[found - 1] == b'\r' => {
                if window[..found - 1].ends_with(b"\r\n") {
                    return Ok(Some(found + 1));
                }
                at = found + 1;
            }
            _ => return Err(Refusal::ControlByte),
        }
    }
    if buffer.len() < HEAD_MAX {
        return Ok(None);
    }
    Err(if window.contains(&b'\n') { Refusal::HeadTooLarge } else { Refusal::TargetTooLong })
}

fn split_target(target: &str) -> Result<(&str, Option<&str>), Refusal> {
    if !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Refusal::Target);
    }
    match target.split_once('?') {
        Some((path, query)) => Ok((path, Some(query))),
        None => Ok((target, None)),
    }
}

/// Headers that decide where a request ends and what becomes of its connection.
#[derive(Default)]
struct Framing<'b> {
    host: Option<&'b str>,
    length: Option<usize>,
    close: bool,
    expects_continue: bool,
}

impl<'b> Framing<'b> {
    /// Records one header; returns true if handlers may see it.
    fn take(&mut self, name: &'b str, value: &'b str) -> Result<bool, Refusal> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        // The first letter excludes nearly all headers of nearly all requests.
        match name.as_bytes().first().map_or(0, u8::to_ascii_lowercase) {
            b'h' if is("host") => {
                if self.host.is_some() {
                    return Err(Refusal::HostRepeated);
                }
                if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_[]%".contains(&b)) {
                    return Err(Refusal::HostSyntax);
                }
                self.host = Some(value);
            }
            b'c' if is("content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::LengthRepeated);
                }
                self.length = Some(content_length(value)?);
                return Ok(false);
            }
            b'c' if is("connection") => {
                // Other tokens name headers that a proxy would remove. This is no proxy: obeying them would let a
                // client remove headers that a proxy in between relies on.
                self.close |= value.split(',').any(|token| token.trim().eq_ignore_ascii_case("close"));
                return Ok(false);
            }
            b't' if is("transfer-encoding") => return Err(Refusal::TransferEncoding),
            b'e' if is("expect") => {
                if !value.eq_ignore_ascii_case("100-continue") {
                    return Err(Refusal::Expectation);
                }
                self.expects_continue = true;
                return Ok(false);
            }
            b't' if is("te") || is("trailer") => return Ok(false),
            b'u' if is("upgrade") => return Ok(false),
            b'k' if is("keep-alive") => return Ok(false),
            b'p' if is("proxy-connection") || is("proxy-authorization") => return Ok(false),
            // These are internal, so clients must not set them.
            b'x' if starts_with_ignore_case(name, "x-hpalite-") => return Ok(false),
            _ => {}
        }
        Ok(true)
    }
}

fn content_length(value: &str) -> Result<usize, Refusal> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::LengthSyntax);
    }
    match value.parse::<usize>() {
        Ok(length) if length <= BODY_MAX => Ok(length),
        // Digits only, so the one possible error is a number beyond usize.
        _ => Err(Refusal::BodyTooLarge),
    }
}

/// Returns true for a header whose name claims an identity, whoever sent it.
pub fn is_remote(name: &str) -> bool {
    starts_with_ignore_case(name, "x-remote-")
}

fn starts_with_ignore_case(name: &str, prefix: &str) -> bool {
    name.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: impl AsRef<[u8]>) -> Option<Refusal> {
        parse(bytes.as_ref(), 0).err()
    }

    fn complete(bytes: &[u8]) -> Head<'_> {
        match parse(bytes, 0) {
            Ok(Parsed::Complete(head)) => head,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_head() {
        let bytes = b"GET /apis/x?a=b&c HTTP/1.1\r\nHost: 10.0.0.1:443\r\nAccept: application/json\r\nx-remote-user: \xc3\xbc\r\n\r\nrest";
        let head = complete(bytes);
        assert_eq!((head.method, head.path, head.query), ("GET", "/apis/x", Some("a=b&c")));
        assert_eq!(head.headers, [("Host", "10.0.0.1:443"), ("Accept", "application/json"), ("x-remote-user", "ü")]);
        assert_eq!(head.head_len, bytes.len() - 4);
        assert!(head.keep_alive && !head.expects_continue && head.body_len == 0);
    }

    /// Regression: users in 48 or more groups were refused.
    #[test]
    fn a_user_may_be_in_hundreds_of_groups() {
        let groups: String = (0..200).map(|number| format!("X-Remote-Group: oidc:team-{number}\r\n")).collect();
        let text = format!("GET /apis HTTP/1.1\r\nHost: a\r\n{}{groups}\r\n", "A: b\r\n".repeat(14));
        assert_eq!(complete(text.as_bytes()).headers.len(), 215);
    }

    #[test]
    #[rustfmt::skip] // one case a line
    fn hostile_heads() {
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX));
        let fits = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX - 1));
        assert_eq!(refusal(&fits), None);
        let cases: &[(&[u8], Option<Refusal>)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Some(Refusal::TransferEncoding)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", Some(Refusal::TransferEncoding)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", Some(Refusal::TransferEncoding)),
            (b"GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tchunked\r\n\r\n", Some(Refusal::TransferEncoding)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Some(Refusal::LengthRepeated)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", Some(Refusal::LengthRepeated)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Some(Refusal::LengthSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000000000\r\n\r\n", Some(Refusal::BodyTooLarge)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", Some(Refusal::BodyTooLarge)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", Some(Refusal::BodyTooLarge)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", Some(Refusal::BodyTooLarge)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n", None),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\tc\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\nHost: a\n\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA\0: b\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x7f\r\n\r\n", Some(Refusal::ControlByte)),
            (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::Target)),
            (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET /\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Refusal::RequestLine)),
            (b"G3T / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"Get / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"AAAAAAAAAAAAAAAAA / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::RequestLine)),
            (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::NotHttp)),
            (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Refusal::NotHttp)),
            (b"\x16\x03\x01\x02\x00", Some(Refusal::NotHttp)),
            (b" GET / HTTP/1.1\r\n", Some(Refusal::NotHttp)),
            (b"GET / HTTP/1.1\r\n\r\n", Some(Refusal::HostMissing)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Some(Refusal::HostRepeated)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", Some(Refusal::HostRepeated)),
            (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(Refusal::HostSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Some(Refusal::HostSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA b: c\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA\xc3\xbc: c\r\n\r\n", Some(Refusal::HeaderSyntax)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: \xc3\xbc\r\n\r\n", Some(Refusal::HeaderNotAscii)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-Remote-User: \xff\r\n\r\n", Some(Refusal::HeaderNotAscii)),
            (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", Some(Refusal::Expectation)),
            (many.as_bytes(), Some(Refusal::TooManyHeaders)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(refusal(bytes), *expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn sizes() {
        let million = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(1 << 20));
        assert_eq!(refusal(&million), Some(Refusal::HeadTooLarge));
        assert_eq!(refusal(&million[..HEAD_MAX]), Some(Refusal::HeadTooLarge));
        assert_eq!(parse(&million.as_bytes()[..HEAD_MAX - 1], 0), Ok(Parsed::Incomplete));
        let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(HEAD_MAX));
        assert_eq!(refusal(&target), Some(Refusal::TargetTooLong));
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        let exact = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(HEAD_MAX - frame));
        assert_eq!(complete(exact.as_bytes()).head_len, HEAD_MAX);
    }

    #[test]
    fn versions_and_connection_tokens() {
        for (head, keep_alive) in [
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive , close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed, keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(complete(head.as_bytes()).keep_alive, keep_alive, "{head}");
        }
    }

    #[test]
    fn hop_by_hop_and_internal_headers_end_here_and_connection_removes_nothing() {
        let head = complete(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: authorization, x-remote-user, upgrade\r\nUpgrade: h2c\r\nTE: trailers\r\n\
              Keep-Alive: 5\r\nTrailer: x\r\nProxy-Connection: y\r\nX-HPAlite-Gate: z\r\nExpect: 100-Continue\r\nContent-Length: 007\r\n\
              Authorization: b\r\nX-Remote-User: u\r\nX_Remote_User: v\r\n\r\n",
        );
        assert_eq!(
            head.headers,
            [("Host", "a"), ("Authorization", "b"), ("X-Remote-User", "u"), ("X_Remote_User", "v")]
        );
        assert!(head.expects_continue && head.body_len == 7 && head.keep_alive);
    }

    #[test]
    fn arriving_byte_by_byte_changes_nothing() {
        let heads: [&[u8]; 4] = [
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        ];
        for bytes in heads {
            let whole = parse(bytes, 0);
            let mut checked_to = 0;
            for end in 1..=bytes.len() {
                match parse(&bytes[..end], checked_to) {
                    Ok(Parsed::Incomplete) => checked_to = checked(&bytes[..end]),
                    other => {
                        assert_eq!(other, whole, "at {end}");
                        break;
                    }
                }
                assert!(end < bytes.len(), "no end found");
            }
        }
    }
}
