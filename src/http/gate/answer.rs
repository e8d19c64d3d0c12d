//! Encodes a [`Response`] as an HTTP/1.1 answer.
//!
//! Pure. The only writer of status lines, of `Date`, and of the headers that delimit an answer.

use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::limits::OUT_PIECE;
use crate::http::{Body, Response};
use crate::logfmt;

/// Appends the whole answer, except a large body that is shared: that one is returned, and follows. `head_only` omits the
/// body but not its length, as for HEAD. `Date` is mandatory for a server that has a clock (RFC 9110, 6.6.1).
pub(super) fn encode(response: &Response, head_only: bool, now: SystemTime, out: &mut Vec<u8>) -> Option<Arc<Vec<u8>>> {
    let body = response.body.as_bytes();
    // Answers with these statuses end with the head by definition, so they must not announce a body.
    let bodiless = matches!(response.status, 100..=199 | 204 | 304);
    let follows = match &response.body {
        Body::Shared(body) if body.len() > OUT_PIECE && !head_only && !bodiless => Some(Arc::clone(body)),
        _ => None,
    };
    let appended: &[u8] = if head_only || bodiless || follows.is_some() { &[] } else { body };
    out.reserve(256 + appended.len());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", response.status, phrase(response.status));
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    header(out, "Date", &logfmt::http_date(seconds));
    if !bodiless {
        header(out, "Content-Type", &response.content_type);
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
    }
    for (name, value) in &response.headers {
        header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(appended);
    follows
}

/// Announces that no further request will be read; `answer` begins with the status line.
pub(super) fn announce_close(answer: &mut Vec<u8>) {
    if let Some(end) = answer.windows(2).position(|pair| pair == b"\r\n") {
        answer.splice(end + 2..end + 2, *b"Connection: close\r\n");
    }
}

/// A handler may build a value from parts of the request, and one with a line break would be a second header, so
/// values with control characters are omitted.
fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    if value.bytes().all(|b| b >= 0x20 && b != 0x7f) {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        // The reason phrase may be empty; clients use the number.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(response: &Response, head_only: bool) -> String {
        let mut out = Vec::new();
        let follows = encode(response, head_only, UNIX_EPOCH + Duration::from_secs(784_111_777), &mut out);
        assert_eq!(follows, None);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn large_shared_bodies_follow_and_are_not_copied() {
        let body = Arc::new(vec![b'a'; OUT_PIECE + 1]);
        let response = Response::new(200, "text/plain", Arc::clone(&body));
        let mut out = Vec::new();
        let follows = encode(&response, false, UNIX_EPOCH, &mut out).unwrap();
        assert!(Arc::ptr_eq(&follows, &body));
        assert!(out.ends_with(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()));
        assert_eq!(encode(&response, true, UNIX_EPOCH, &mut out), None, "a HEAD has no body");
    }

    #[test]
    fn answers() {
        let response = Response::text(200, "ok").with_header("ETag", "\"a\"").with_header("X", "a\r\nSet-Cookie: b");
        // The date is the example of RFC 9110.
        let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        let head = format!(
            "HTTP/1.1 200 OK\r\n{date}Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nETag: \"a\"\r\n\r\n"
        );
        assert_eq!(text(&response, false), format!("{head}ok"));
        assert_eq!(text(&response, true), head);
        let not_modified = Response::json(304, "").with_header("ETag", "\"a\"");
        assert_eq!(text(&not_modified, false), format!("HTTP/1.1 304 Not Modified\r\n{date}ETag: \"a\"\r\n\r\n"));
        let mut out = text(&Response::text(299, "ok"), false).into_bytes();
        announce_close(&mut out);
        assert!(out.starts_with(b"HTTP/1.1 299 \r\nConnection: close\r\nDate"));
    }
}
