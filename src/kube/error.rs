//! Errors of requests to the API server, by the step that failed.
//!
//! Owns the error type of every call in this module, and the reading of `v1 Status` bodies.
//! Must not log, retry or sleep. It says whether a retry is sensible, and the caller decides.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::request::RequestError;
use crate::encode::cut;
use crate::outbound::connect::Unresolved;

/// A boxed cause, kept for `source()`.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Characters kept of an error body that is not JSON. One line is enough to recognise the error page of a proxy, and
/// fits into the log.
const PLAIN_BODY_CHARS_MAX: usize = 200;

/// Upper bound on the bytes of an error about what the API server sent. serde quotes the whole text that should have been
/// something else.
pub(super) const DECODE_ERROR_MAX: usize = 500;

#[derive(Debug)]
pub enum Error {
    /// The request could not be built, for example because a name is not a path segment.
    Request(RequestError),
    /// No connection: resolving the name failed, refused, unreachable, proxy.
    Connect { source: Cause },
    /// The TLS handshake or the certificate check failed.
    Tls { source: Cause },
    /// A deadline passed; `phase` names which one.
    Timeout { phase: Cow<'static, str> },
    /// The transport failed after connecting, during `step`.
    Io { step: &'static str, source: Cause },
    /// The server's answer is not valid HTTP.
    Protocol { source: Cause },
    /// The body exceeds the limit.
    TooLarge { limit_bytes: u64 },
    /// The client was shut down.
    Shutdown,
    /// Another instance may be acting, so nothing was sent.
    LeaseNotHeld,
    /// The server answered with an error status.
    Status(Box<Status>),
    /// The body is not a valid `what`.
    Decode { what: &'static str, source: Cause },
}

/// An error of the API server, from a `v1 Status` body if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    /// Machine-readable reason such as `NotFound`; empty if the server gave none.
    pub reason: String,
    pub message: String,
    /// The pause that the server asks for, from the header or the status details.
    pub retry_after: Option<Duration>,
    /// `details.kind` and `details.name`: the object concerned.
    pub kind: String,
    pub name: String,
    /// `details.causes`, one for each refused field.
    pub causes: Vec<StatusCause>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default)]
pub struct StatusCause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WireStatus {
    kind: String,
    code: u16,
    reason: String,
    message: String,
    details: WireDetails,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct WireDetails {
    kind: String,
    name: String,
    causes: Vec<StatusCause>,
    retry_after_seconds: u64,
}

impl Status {
    /// Reads an error. `http_code` takes precedence over the body's, since proxies answer without a `Status`.
    pub fn parse(http_code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        match serde_json::from_slice::<WireStatus>(body) {
            Ok(wire) if wire.kind == "Status" => Self::from_wire(http_code, retry_after, wire),
            _ => Status {
                code: http_code,
                reason: String::new(),
                message: plain_text(body),
                retry_after,
                kind: String::new(),
                name: String::new(),
                causes: Vec::new(),
            },
        }
    }

    /// Reads the object of a watch's `ERROR` event, where no HTTP code accompanies it.
    pub fn parse_event(object: &[u8]) -> Self {
        let mut status = Self::parse(0, None, object);
        if status.code == 0 {
            // A watch error without a code is still an error of the server.
            status.code = 500;
        }
        status
    }

    fn from_wire(http_code: u16, retry_after: Option<Duration>, wire: WireStatus) -> Self {
        let details = wire.details;
        let wished = (details.retry_after_seconds > 0).then(|| Duration::from_secs(details.retry_after_seconds));
        Status {
            code: if http_code == 0 { wire.code } else { http_code },
            reason: wire.reason,
            message: wire.message,
            retry_after: retry_after.or(wished),
            kind: details.kind,
            name: details.name,
            causes: details.causes,
        }
    }

    fn is_gone(&self) -> bool {
        self.code == 410 || self.reason == "Expired" || self.reason == "Gone"
    }
}

/// Returns the start of a body that is not a `Status`, as one printable line.
fn plain_text(body: &[u8]) -> String {
    let head = &body[..body.len().min(4 * PLAIN_BODY_CHARS_MAX)];
    String::from_utf8_lossy(head)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .take(PLAIN_BODY_CHARS_MAX)
        .collect()
}

impl Error {
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    fn has_code(&self, code: u16) -> bool {
        self.status().is_some_and(|s| s.code == code)
    }

    /// No API server has answered: none was reached, or none in time.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::Io { .. })
    }

    pub fn is_forbidden(&self) -> bool {
        self.has_code(403)
    }

    pub fn is_not_found(&self) -> bool {
        self.has_code(404)
    }

    /// Returns true for 409 because of a concurrent write, but not for 409 `AlreadyExists`.
    pub fn is_conflict(&self) -> bool {
        self.has_code(409) && !self.is_already_exists()
    }

    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|s| s.code == 409 && s.reason == "AlreadyExists")
    }

    /// Returns true if the resource version or continue token is too old, so that a new list is needed.
    pub fn is_gone(&self) -> bool {
        self.status().is_some_and(Status::is_gone)
    }

    /// Returns whether the same request may succeed later although nobody changes anything. That excludes a conflict,
    /// after which the caller has to read again first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Tls { .. }
            | Error::Timeout { .. }
            | Error::Io { .. }
            | Error::Protocol { .. }
            | Error::LeaseNotHeld => true,
            Error::Status(status) => matches!(status.code, 401 | 408 | 429 | 500..=599),
            Error::Request(_) | Error::TooLarge { .. } | Error::Shutdown | Error::Decode { .. } => false,
        }
    }

    /// Returns the pause that the server asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status().and_then(|s| s.retry_after)
    }

    /// Converts a failure of the HTTP library, by the step at which it happened.
    pub(super) fn from_ureq(step: &'static str, error: ureq::Error) -> Self {
        use ureq::Error as U;
        match error {
            U::Timeout(phase) => Error::Timeout { phase: phase.to_string().into() },
            U::BodyExceedsLimit(limit_bytes) => Error::TooLarge { limit_bytes },
            U::Tls(_) | U::Pem(_) | U::Rustls(_) | U::TlsRequired => Error::Tls { source: Box::new(error) },
            U::HostNotFound | U::ConnectionFailed | U::ConnectProxyFailed(_) | U::InvalidProxyUrl | U::BadUri(_) => {
                Error::Connect { source: Box::new(error) }
            }
            U::Io(source) => Self::from_io(step, source),
            U::Other(source) if source.is::<Unresolved>() => Error::Connect { source },
            other => Error::Protocol { source: Box::new(other) },
        }
    }

    /// Converts an I/O error; the library hides its own errors, including timeouts, inside some.
    pub(super) fn from_io(step: &'static str, error: io::Error) -> Self {
        use io::ErrorKind as K;
        let inner = error.get_ref();
        if inner.is_some_and(|e| e.is::<ureq::Error>()) {
            return match ureq::Error::from(error) {
                // `From` unwraps one level, so a plain `Io` cannot recurse endlessly.
                ureq::Error::Io(source) => Error::Io { step, source: Box::new(source) },
                other => Self::from_ureq(step, other),
            };
        }
        if inner.is_some_and(|e| e.is::<rustls::Error>()) {
            return Error::Tls { source: Box::new(error) };
        }
        match error.kind() {
            K::TimedOut | K::WouldBlock => Error::Timeout { phase: step.into() },
            K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable => {
                Error::Connect { source: Box::new(error) }
            }
            _ => Error::Io { step, source: Box::new(error) },
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Error::Request(error)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error::Status(Box::new(status))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Request(error) => write!(f, "cannot build the request: {error}"),
            Error::Connect { source } => write!(f, "cannot connect to the api server: {source}"),
            Error::Tls { source } => write!(f, "tls with the api server failed: {source}"),
            Error::Timeout { phase } => write!(f, "the api server was too slow: {phase}"),
            Error::Io { step, source } => {
                write!(f, "connection to the api server broke at {step}: {source}")
            }
            Error::Protocol { source } => write!(f, "the api server broke http: {source}"),
            Error::TooLarge { limit_bytes } => {
                write!(f, "the answer is larger than {limit_bytes} bytes")
            }
            Error::Shutdown => f.write_str("the client is shut down"),
            Error::LeaseNotHeld => f.write_str("not written: the lease is not held, another instance may be acting"),
            Error::Status(status) => status.fmt(f),
            Error::Decode { what, source } => {
                write!(f, "cannot read {what}: {}", cut(&source.to_string(), DECODE_ERROR_MAX))
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the api server answered {}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Request(error) => Some(error),
            Error::Connect { source }
            | Error::Tls { source }
            | Error::Io { source, .. }
            | Error::Protocol { source }
            | Error::Decode { source, .. } => Some(&**source),
            Error::Timeout { .. }
            | Error::TooLarge { .. }
            | Error::Shutdown
            | Error::LeaseNotHeld
            | Error::Status(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, body: &str) -> Error {
        Status::parse(code, None, body.as_bytes()).into()
    }

    #[test]
    fn status_bodies_are_read() {
        let error = refusal(
            409,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",
               "message":"leases \"a\" already exists","reason":"AlreadyExists",
               "details":{"name":"a","kind":"leases","causes":[{"field":"spec.x"}]},"code":409}"#,
        );
        assert!(error.is_already_exists() && !error.is_conflict() && !error.is_retryable());
        let status = error.status().expect("a status");
        assert_eq!((status.kind.as_str(), status.name.as_str()), ("leases", "a"));
        assert_eq!(status.causes[0].field, "spec.x");
        assert_eq!(error.to_string(), "the api server answered 409 AlreadyExists: leases \"a\" already exists");
    }

    #[test]
    fn helpers_follow_code_and_reason() {
        type Check = fn(&Error) -> bool;
        let table: &[(u16, &str, Check, bool)] = &[
            (404, "{}", Error::is_not_found, true),
            (403, "no", Error::is_forbidden, true),
            (409, r#"{"kind":"Status","reason":"Conflict"}"#, Error::is_conflict, true),
            (410, "", Error::is_gone, true),
            (400, r#"{"kind":"Status","reason":"Expired"}"#, Error::is_gone, true),
            (429, "", Error::is_retryable, true),
            (503, "", Error::is_retryable, true),
            (422, "", Error::is_retryable, false),
            (404, "", Error::is_retryable, false),
        ];
        for (code, body, check, expected) in table {
            assert_eq!(check(&refusal(*code, body)), *expected, "{code} {body}");
        }
    }

    #[test]
    fn a_proxys_page_becomes_one_short_line() {
        let page = format!("<html>\n<h1>Bad\x1b[31m Gateway</h1>\r\n{}", "x".repeat(5_000));
        let error = refusal(502, &page);
        let message = &error.status().expect("a status").message;
        assert!(message.starts_with("<html> <h1>Bad[31m Gateway</h1> xxx"), "{message}");
        assert_eq!(message.chars().count(), PLAIN_BODY_CHARS_MAX);
    }

    #[test]
    fn an_error_quotes_little_of_an_answer() {
        let answer = format!(r#"{{"code":"{}"}}"#, "x".repeat(1 << 20));
        let source = serde_json::from_str::<WireStatus>(&answer).map(|_| ()).expect_err("no number");
        let text = Error::Decode { what: "Status", source: Box::new(source) }.to_string();
        assert!(text.starts_with("cannot read Status: invalid type: string \"xxx"), "{text}");
        assert!(text.len() < DECODE_ERROR_MAX + 30, "{}", text.len());
    }

    #[test]
    fn retry_after_comes_from_header_or_details() {
        let body = br#"{"kind":"Status","details":{"retryAfterSeconds":7}}"#;
        let header = Some(Duration::from_secs(2));
        assert_eq!(Status::parse(429, None, body).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(Status::parse(429, header, body).retry_after, header);
    }

    #[test]
    fn watch_errors_take_the_code_of_the_body() {
        let status = Status::parse_event(br#"{"kind":"Status","code":410,"reason":"Expired"}"#);
        assert_eq!(status.code, 410);
        assert!(Error::from(status).is_gone());
        assert_eq!(Status::parse_event(b"[1]").code, 500);
    }

    #[test]
    fn hidden_timeouts_are_found() {
        let hidden = ureq::Error::Timeout(ureq::Timeout::PerRead).into_io();
        assert!(matches!(Error::from_io("read", hidden), Error::Timeout { .. }));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(Error::from_io("connect", refused), Error::Connect { .. }));
    }

    #[test]
    fn sources_are_kept() {
        let error = Error::from_io("read", io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(error.source().is_some());
    }
}
