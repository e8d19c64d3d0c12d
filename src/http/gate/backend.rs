//! The far side of the hop: tiny_http behind a Unix socket, where handlers run.
//!
//! Owns the folder of the socket, the server and the threads that call the handler. tiny_http believes every byte
//! it is sent, so it must be reachable by the gate's workers alone: the folder is 0700, and every request shows the
//! token of this backend. What the gate knows about a request's peer does not travel in bytes at all but in the
//! worker's slot.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use log::{error, warn};

use super::answer;
use crate::http::{Handler, Peer, Request};

/// Names the token and the slot. The gate removes everything of this prefix from what clients send.
pub(super) const GATE_HEADER: &str = "X-Hpalite-Gate";

const FOLDER_PREFIX: &str = "hpalite-";

/// Far more than a process needs between making its folder and listening in it.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// A stay of execution for the threads of a server that cannot be replaced yet.
const REPLACE_RETRY: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) enum BackendError {
    Random,
    /// No folder that sockets may be made in; the last one tried.
    Folder(PathBuf, io::Error),
    Listen(io::Error),
    Server(String),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::Random => f.write_str("cannot get random bytes"),
            BackendError::Folder(path, error) => {
                write!(f, "cannot make folder {}: {error}", path.display())
            }
            BackendError::Listen(error) => write!(f, "cannot listen on a unix socket: {error}"),
            BackendError::Server(error) => write!(f, "cannot start the http server: {error}"),
        }
    }
}

pub(super) struct Backend {
    handler: Handler,
    folder: PathBuf,
    token: String,
    /// One per worker. A worker has one request under way at most, so its slot is never contended.
    slots: Vec<Mutex<Option<Peer>>>,
    // Locked to clone or swap; replaced only when tiny_http's accept thread has died.
    server: RwLock<Server>,
    /// The generation of `server`, for workers to compare without a lock.
    generation: AtomicU64,
    connecting: Mutex<()>,
    stopping: AtomicBool,
}

#[derive(Clone)]
struct Server {
    http: Arc<tiny_http::Server>,
    path: PathBuf,
    generation: u64,
}

impl Backend {
    /// `slots` is the number of workers that will call, and the number of threads that must run [`Backend::serve`].
    pub(super) fn new(handler: Handler, slots: usize) -> Result<Backend, BackendError> {
        let token = random_hex()?;
        let folder = make_folder()?;
        let server = start_server(&folder, 0).inspect_err(|_| remove_folder(&folder))?;
        Ok(Backend {
            handler,
            folder,
            token,
            slots: (0..slots).map(|_| Mutex::new(None)).collect(),
            server: RwLock::new(server),
            generation: AtomicU64::new(0),
            connecting: Mutex::new(()),
            stopping: AtomicBool::new(false),
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Where to connect, and the generation that is there.
    pub(super) fn address(&self) -> (PathBuf, u64) {
        let server = self.server();
        (server.path, server.generation)
    }

    pub(super) fn connect_turn(&self) -> MutexGuard<'_, ()> {
        self.connecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves the peer of the next request that will name this slot.
    pub(super) fn leave(&self, slot: usize, peer: Peer) {
        *self.slot(slot) = Some(peer);
    }

    pub(super) fn clear(&self, slot: usize) {
        *self.slot(slot) = None;
    }

    fn slot(&self, slot: usize) -> MutexGuard<'_, Option<Peer>> {
        self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> Server {
        self.server.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers requests until [`Backend::stop`]; the body of each backend thread.
    pub(super) fn serve(&self) {
        let mut server = self.server();
        let mut out = Vec::new();
        while !self.is_stopping() {
            match server.http.recv() {
                Ok(request) => self.answer(request, &mut out),
                // Woken to leave this server, or told that it will accept nothing any more.
                Err(error) => {
                    if self.is_stopping() {
                        break;
                    }
                    if server.generation == self.generation() && !self.replace(&server, &error) {
                        continue;
                    }
                    // What was sent to the old server before its workers saw the new one.
                    while let Ok(Some(request)) = server.http.try_recv() {
                        self.answer(request, &mut out);
                    }
                    server.http.unblock();
                    server = self.server();
                }
            }
        }
        // Whoever leaves wakes the next: a wake-up reaches one thread only, and the loop above may eat some.
        server.http.unblock();
    }

    /// A failed accept ends tiny_http's accept thread for good, so another server takes over at another path.
    /// False if it cannot, and has to be tried again.
    fn replace(&self, failed: &Server, cause: &io::Error) -> bool {
        let mut server = self.server.write().unwrap_or_else(PoisonError::into_inner);
        if server.generation != failed.generation {
            return true;
        }
        match start_server(&self.folder, failed.generation + 1) {
            Ok(new) => {
                warn!(error:% = cause; "backend replaced");
                self.generation.store(new.generation, Ordering::Release);
                *server = new;
                failed.http.unblock();
                true
            }
            Err(problem) => {
                error!(error:% = problem; "cannot replace backend");
                drop(server);
                // Connections that stand are still served by the old one, so there is time; nothing signals that
                // the process may open files again.
                std::thread::park_timeout(REPLACE_RETRY);
                failed.http.unblock();
                false
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn answer(&self, incoming: tiny_http::Request, out: &mut Vec<u8>) {
        out.clear();
        let head_only = *incoming.method() == tiny_http::Method::Head;
        match self.peer(&incoming) {
            None => out.extend_from_slice(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
            // A worker's proof that its new connection works.
            Some(None) => out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n"),
            Some(Some(peer)) => {
                answer::encode(&(self.handler)(&build(&incoming, peer)), head_only, SystemTime::now(), out);
            }
        }
        let mut writer = incoming.into_writer();
        // A worker that has given up waiting is gone, and with it the reason to answer.
        let _ = writer.write_all(out).and_then(|()| writer.flush());
        // Large answers are rare; their buffer must not stay with every thread that once wrote one.
        out.shrink_to(64 * 1024);
    }

    /// None for a request that is not the gate's; Some(None) for one that no client sent.
    fn peer(&self, incoming: &tiny_http::Request) -> Option<Option<Peer>> {
        let header = incoming.headers().iter().find(|header| header.field.equiv(GATE_HEADER))?;
        let (token, slot) = header.value.as_str().split_once(' ')?;
        let slot: usize = slot.parse().ok()?;
        (equal_in_constant_time(token, &self.token) && slot < self.slots.len()).then(|| self.slot(slot).take())
    }

    /// Ends all threads in [`Backend::serve`] once their handlers return.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.server().http.unblock();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        remove_folder(&self.folder);
    }
}

fn build(incoming: &tiny_http::Request, peer: Peer) -> Request {
    let (path, query) = match incoming.url().split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (incoming.url(), None),
    };
    let headers = incoming
        .headers()
        .iter()
        .filter(|header| !header.field.equiv(GATE_HEADER))
        .map(|header| (header.field.as_str().to_string(), header.value.to_string()))
        .collect();
    Request { method: incoming.method().to_string(), path: path.to_owned(), query, headers, peer }
}

fn start_server(folder: &Path, generation: u64) -> Result<Server, BackendError> {
    let path = folder.join(format!("{generation}.sock"));
    let listener = UnixListener::bind(&path).map_err(BackendError::Listen)?;
    let http =
        tiny_http::Server::from_listener(listener, None).map_err(|error| BackendError::Server(error.to_string()))?;
    Ok(Server { http: Arc::new(http), path, generation })
}

/// A new folder that only this user can enter, its name unknown to others before it exists.
fn make_folder() -> Result<PathBuf, BackendError> {
    // An image without /tmp still has the pod's shared memory.
    let candidates = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    let name = format!("{FOLDER_PREFIX}{}-{}", std::process::id(), &random_hex()?[..16]);
    let mut result = Err(BackendError::Random);
    for parent in candidates {
        remove_abandoned(&parent, ABANDONED_AFTER);
        let folder = parent.join(&name);
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => result = Err(BackendError::Folder(folder, error)),
        }
    }
    result
}

fn remove_folder(folder: &Path) {
    // What stays behind then is removed by the next process, see below.
    let _ = std::fs::remove_dir_all(folder);
}

/// Removes folders of processes that were killed: a temporary volume outlives the container, so they would add up
/// with every restart. A socket that refuses connections has no process any more.
fn remove_abandoned(parent: &Path, after: Duration) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let ours = entries.flatten().filter(|entry| is_folder_name(&entry.file_name().to_string_lossy()));
    for folder in ours.map(|entry| entry.path()) {
        let age = std::fs::metadata(&folder).and_then(|data| data.modified()).map(|at| at.elapsed());
        let Ok(sockets) = std::fs::read_dir(&folder) else { continue };
        let sockets: Vec<PathBuf> = sockets.flatten().map(|entry| entry.path()).collect();
        // A connection to what is no socket is refused as well, and nothing but sockets may ever be removed.
        let is_dead = |path: &PathBuf| {
            std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket())
                && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        // A young one may belong to a process that is just about to listen.
        if matches!(age, Ok(Ok(age)) if age >= after) && !sockets.is_empty() && sockets.iter().all(is_dead) {
            remove_folder(&folder);
        }
    }
}

/// Exactly what [`make_folder`] makes: others may well begin with our name, too.
fn is_folder_name(name: &str) -> bool {
    let parts = name.strip_prefix(FOLDER_PREFIX).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(pid, random)| {
        !pid.is_empty()
            && pid.bytes().all(|byte| byte.is_ascii_digit())
            && random.len() == 16
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn random_hex() -> Result<String, BackendError> {
    let mut bytes = [0; 16];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| BackendError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// So that the time of the answer does not tell how much of a guess was right.
fn equal_in_constant_time(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Response;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_is_private_and_vanishes() {
        let backend = Backend::new(Arc::new(|_: &Request| Response::text(200, "")), 1).unwrap();
        let folder = backend.folder.clone();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(backend.address().0.starts_with(&folder));
        drop(backend);
        assert!(!folder.exists());
    }

    #[test]
    fn folders_of_killed_processes_are_removed_and_others_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let [dead, live, empty, files, mixed, other, stranger] = [
            "hpalite-1-0123456789abcdef",
            "hpalite-2-0123456789abcdef",
            "hpalite-3-0123456789abcdef",
            "hpalite-4-0123456789abcdef",
            "hpalite-5-0123456789abcdef",
            "hpalite-cluster-a",
            "other",
        ]
        .map(folder);
        for folder in [&dead, &mixed, &other, &stranger] {
            drop(UnixListener::bind(folder.join("0.sock")).unwrap());
        }
        for folder in [&files, &mixed] {
            std::fs::write(folder.join("kept"), "precious").unwrap();
        }
        let _listening = UnixListener::bind(live.join("0.sock")).unwrap();
        remove_abandoned(parent.path(), Duration::from_secs(60));
        assert!(dead.exists(), "too young to tell");
        remove_abandoned(parent.path(), Duration::ZERO);
        assert!(!dead.exists());
        for kept in [live, empty, files, mixed, other, stranger] {
            assert!(kept.exists(), "{}", kept.display());
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(equal_in_constant_time("abc", "abc"));
        for other in ["", "ab", "abd", "abcd", "bbc"] {
            assert!(!equal_in_constant_time("abc", other));
        }
    }

    #[test]
    fn another_server_takes_over_and_the_threads_follow_it() {
        use super::super::head;
        use super::super::upstream::Upstream;
        use crate::http::Identity;
        let backend = Arc::new(Backend::new(Arc::new(|_: &Request| Response::text(200, "ok")), 2).unwrap());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let backend = Arc::clone(&backend);
                std::thread::spawn(move || backend.serve())
            })
            .collect();
        let mut upstreams = [0, 1].map(|slot| Upstream::new(&backend, slot).unwrap());
        let ask = |upstream: &mut Upstream| {
            let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            let Ok(head::Parsed::Complete(head)) = head::parse(bytes, 0) else { panic!() };
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), identity: Identity::None };
            let mut out = Vec::new();
            upstream.exchange(&head, peer, |_| false, &mut out).unwrap();
            assert!(out.ends_with(b"\r\n\r\nok"));
        };
        upstreams.iter_mut().for_each(ask);
        // What a thread does when tiny_http reports that accepting failed.
        assert!(backend.replace(&backend.server(), &io::Error::other("accept failed")));
        assert_eq!(backend.generation(), 1);
        for _ in 0..3 {
            // Both threads still wait on the old server; a wake-up there sends them over one by one.
            upstreams.iter_mut().for_each(ask);
        }
        backend.stop();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
