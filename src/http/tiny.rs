//! tiny_http, for the status page: it serves a handler on a Unix socket that only this process can reach.
//!
//! tiny_http serves well-behaved clients well but aborts the process when a hostile one announces a body of 4 TB, so it
//! must not face a network. It only receives heads that a gate has read: the socket has no name once it listens. The
//! API's requests do not come here, as each would be parsed, printed and parsed again.
//!
//! It starts with the first request, so that a daemon whose page nobody opens has none of its threads.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use log::warn;

use super::gate::limits::ANSWER_MAX;
use super::{Handler, Identity, Peer, Request, Response};

/// Handlers that run at the same time.
const THREADS: usize = 2;

/// Handlers have deadlines of their own; this frees a worker of the gate from one that missed its own.
const PATIENCE: Duration = Duration::from_secs(15);

/// Returns a handler that calls `handler` through tiny_http. It passes GET requests without their peer, and the status,
/// content type and body of responses.
#[must_use]
pub fn behind(name: &str, handler: Handler) -> Handler {
    let behind = Behind { name: name.to_owned(), handler, running: Mutex::new(None) };
    Arc::new(move |request| {
        behind.connect().and_then(|stream| exchange(stream, request)).unwrap_or_else(|error| {
            warn!(path = request.path.as_str(), error:% = error; "request unanswered");
            Response::status(500, "InternalError", "no answer")
        })
    })
}

struct Behind {
    name: String,
    handler: Handler,
    /// Locked to connect; replaced when tiny_http's accept thread has ended, as it does after one failed accept.
    running: Mutex<Option<Running>>,
}

struct Running {
    /// A descriptor of the socket, whose path is removed.
    socket: OwnedFd,
    server: Option<Arc<tiny_http::Server>>,
    threads: Vec<JoinHandle<()>>,
}

impl Behind {
    fn connect(&self) -> io::Result<UnixStream> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(stream)) = running.as_ref().map(Running::connect) {
            return Ok(stream);
        }
        // Stopped before the next one is started, so that there are never two.
        *running = None;
        running.insert(Running::start(&self.name, &self.handler)?).connect()
    }
}

impl Running {
    fn start(name: &str, handler: &Handler) -> io::Result<Running> {
        let (listener, socket) = listen()?;
        let server = Arc::new(tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?);
        let mut running = Running { socket, server: Some(Arc::clone(&server)), threads: Vec::new() };
        for n in 0..THREADS {
            let (server, handler) = (Arc::clone(&server), Arc::clone(handler));
            let thread = std::thread::Builder::new().name(format!("{name}-tiny-{n}"));
            // Ends when it is unblocked, or when tiny_http stops accepting.
            running.threads.push(thread.spawn(move || {
                while let Ok(request) = server.recv() {
                    answer(request, &handler);
                }
            })?);
        }
        Ok(running)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(format!("/proc/self/fd/{}", self.socket.as_raw_fd()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.threads.iter().for_each(|_| server.unblock());
            for thread in self.threads.drain(..) {
                // A panic has already been reported by the thread itself.
                let _ = thread.join();
            }
        }
        // Dropping sets a flag that tiny_http's accept thread checks with the next connection. tiny_http itself cannot
        // connect, since the path is removed.
        let _ = self.connect();
    }
}

/// Listens in a folder that only this user can enter, then removes the name, so that only the descriptor leads to it.
fn listen() -> io::Result<(UnixListener, OwnedFd)> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    // An image without /tmp still has the pod's shared memory.
    for parent in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let folder = parent.join(format!("hpalite-{:016x}", random()));
        if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            failed = error;
            continue;
        }
        let path = folder.join("sock");
        let flags = i32::try_from(rustix::fs::OFlags::PATH.bits()).map_err(io::Error::other)?;
        let listening = UnixListener::bind(&path).and_then(|listener| {
            let socket = std::fs::File::options().read(true).custom_flags(flags).open(&path)?;
            Ok((listener, socket.into()))
        });
        let _ = std::fs::remove_dir_all(&folder);
        return listening;
    }
    Err(failed)
}

fn random() -> u64 {
    use std::hash::BuildHasher;
    // The folder must not exist before, so guessing its name gains nothing.
    std::hash::RandomState::new().hash_one(std::process::id())
}

fn answer(incoming: tiny_http::Request, handler: &Handler) {
    let (path, query) = match incoming.url().split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (incoming.url(), None),
    };
    let headers =
        incoming.headers().iter().map(|header| (header.field.to_string(), header.value.to_string())).collect();
    let peer = Peer { address: ([0, 0, 0, 0], 0).into(), identity: Identity::None };
    let request = Request { method: incoming.method().to_string(), path: path.to_owned(), query, headers, peer };
    let response = handler(&request);
    let mut outgoing = tiny_http::Response::from_data(response.body.as_bytes())
        .with_status_code(response.status)
        .with_chunked_threshold(usize::MAX);
    if let Ok(header) = tiny_http::Header::from_bytes("Content-Type", response.content_type.as_bytes()) {
        outgoing.add_header(header);
    }
    // Fails if the gate's worker has stopped waiting, when nobody needs the answer.
    let _ = incoming.respond(outgoing);
}

/// Sends one request and reads the whole answer.
fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Response> {
    let mut head = format!("GET {}", request.path);
    if let Some(query) = &request.query {
        head.push('?');
        head.push_str(query);
    }
    head.push_str(" HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in &request.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(ANSWER_MAX).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut answer)?;
    read(&answer).ok_or_else(|| io::Error::other("malformed answer, or one above the limit"))
}

/// Returns None unless the bytes are exactly one complete answer.
fn read(bytes: &[u8]) -> Option<Response> {
    let mut slots = [httparse::EMPTY_HEADER; 16];
    let mut answer = httparse::Response::new(&mut slots);
    let Ok(httparse::Status::Complete(head_len)) = answer.parse(bytes) else { return None };
    let header = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body = &bytes[head_len..];
    (header("content-length")?.parse() == Ok(body.len())).then(|| {
        Response::new(answer.code.unwrap_or(500), header("content-type").unwrap_or("").to_owned(), body.to_vec())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn request(path: &str) -> Request {
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: Identity::None };
        let headers = vec![("If-None-Match".to_owned(), "x".to_owned())];
        Request { method: "GET".to_owned(), path: path.to_owned(), query: Some("a=%20".to_owned()), headers, peer }
    }

    fn echo() -> Handler {
        Arc::new(|request| {
            let query = request.query.as_deref().unwrap_or("");
            let header = request.header("if-none-match").unwrap_or("");
            Response::new(404, "text/x", format!("{}|{query}|{header}|{}", request.path, "y".repeat(1 << 20)))
        })
    }

    #[test]
    fn a_handler_is_reached_through_it_and_large_answers_come_whole() {
        let handler = behind("t", echo());
        for _ in 0..3 {
            let response = handler(&request("/some"));
            assert_eq!((response.status, response.content_type.as_ref()), (404, "text/x"));
            assert!(response.body.as_bytes().starts_with(b"/some|a=%20|x|yyy"));
            assert_eq!(response.body.as_bytes().len(), "/some|a=%20|x|".len() + (1 << 20));
        }
    }

    #[test]
    fn it_starts_when_it_is_needed_again_when_it_has_ended_and_leaves_nothing_behind() {
        let behind = Behind { name: "again".to_owned(), handler: echo(), running: Mutex::new(None) };
        let threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.starts_with("again-")).count()
        };
        // The kernel lists a thread for a moment after it was joined, and names it a moment after it began.
        let wait_for_threads = |expected: usize| {
            let until = Instant::now() + Duration::from_secs(60);
            while threads() != expected {
                assert!(Instant::now() < until, "{} threads, not {expected}", threads());
                std::thread::yield_now();
            }
        };
        wait_for_threads(0);
        let ask = || exchange(behind.connect().unwrap(), &request("/")).unwrap().status;
        assert_eq!(ask(), 404);
        wait_for_threads(THREADS);
        // The state after a failed accept: nothing listens on the socket.
        let gone = listen().unwrap().1;
        behind.running.lock().unwrap().as_mut().unwrap().socket = gone;
        assert_eq!(ask(), 404);
        wait_for_threads(THREADS);
        drop(behind);
        wait_for_threads(0);
    }

    #[test]
    fn half_an_answer_is_none() {
        let status = |bytes: &str| read(bytes.as_bytes()).map(|response| response.status);
        assert_eq!(status("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some(200));
        assert_eq!(status("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"), None);
        assert_eq!(status("HTTP/1.1 200 OK\r\nContent-Le"), None);
        assert_eq!(status("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(status("nonsense\r\n\r\n"), None);
    }
}
