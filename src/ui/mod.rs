//! The read-only page: the history in a browser.
//!
//! Owns a listener of its own with few workers, so that no read of the history can delay metrics or scaling; each
//! request opens the file read-only, reads within the reader's time limit and closes it. Must not know the core's live
//! state: the page shows the history and nothing else.
//!
//! A request that was sent for a trigger is refused, whatever its route, because a tenant chooses what its triggers
//! request. This is the second line of defence; the first is that [`crate::outbound`] does not connect to our own
//! ports.
//!
//! There is no login. The default address is reachable only through `kubectl port-forward`, which the API server
//! authorises; an administrator who sets another one must protect it. On a loopback address only requests for a
//! loopback name are answered, so that DNS rebinding cannot give a foreign page access.
//!
//! The page is plain modules and our own SVG: a plotting library would have to be vendored, and nothing fetched is
//! committed here. Its scripts insert text as text nodes only; the content security policy forbids everything else.

mod api;
mod assets;
mod replay;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::http::gate::{FromMemory, Gate, GateConfig};
use crate::http::{Handler, Request, Response, tiny};
use crate::outbound::MARK;

/// Threads that answer from memory, which includes the files of the page.
const WORKERS: usize = 1;
/// Concurrent reads of the database: each may take seconds, and there are two cores.
const READERS: usize = 2;
/// A browser opens six connections.
const CONNECTIONS_MAX: usize = 64;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Starts serving the page of a database.
///
/// # Errors
/// When threads or sockets cannot be created.
pub fn start(listener: TcpListener, db: &Path) -> io::Result<Gate> {
    let page = Arc::new(Page { db: db.to_owned(), loopback: listener.local_addr()?.ip().is_loopback() });
    let from_memory: FromMemory = {
        let page = Arc::clone(&page);
        Arc::new(move |request| page.at_once(request).map(guarded))
    };
    let reads = tiny::behind("ui", Arc::new(move |request: &Request| api::answer(&page.db, request)));
    let handler: Handler = Arc::new(move |request| {
        // The history may change at any moment.
        guarded(reads(request).with_header("Cache-Control", "no-store"))
    });
    Gate::start(GateConfig {
        name: "ui".to_owned(),
        listener,
        tls: None,
        workers: WORKERS,
        patient_workers: READERS,
        from_memory: Some(from_memory),
        max_connections: CONNECTIONS_MAX,
        handler,
    })
}

struct Page {
    db: PathBuf,
    /// Whether only loopback names are served.
    loopback: bool,
}

impl Page {
    /// Returns refusals and files; `None` for what needs the database.
    fn at_once(&self, request: &Request) -> Option<Response> {
        if request.header(MARK).is_some() {
            Some(problem(403, "no trigger is answered here"))
        } else if self.loopback && !is_loopback_name(request.header("host").unwrap_or("")) {
            Some(problem(403, "this page is served under localhost, 127.0.0.1 and [::1] alone: use one of them"))
        } else if !matches!(request.method.as_str(), "GET" | "HEAD") {
            Some(problem(405, "only GET is served here"))
        } else {
            assets::find(&request.path).map(|asset| asset.answer(request.header("if-none-match")))
        }
    }
}

/// Adds the headers that limit a browser to what the page needs.
fn guarded(response: Response) -> Response {
    response
        .with_header("Content-Security-Policy", POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cross-Origin-Resource-Policy", "same-origin")
}

/// Returns an error in the form that the page shows.
fn problem(status: u16, message: &str) -> Response {
    Response::json(status, serde_json::json!({ "error": message }).to_string())
}

/// Returns whether a Host header names this machine, whatever the port, which port-forwarding changes.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_accepted() {
        for host in ["localhost", "LOCALHOST:8081", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8081"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8081",
            "[::2]",
            "10.0.0.1",
            "localhost:a",
        ] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
