//! A scripted API server on loopback, plain HTTP.
//!
//! Owns a listener on a port that the system chooses, scripted replies in order, and a record of every request. Replies
//! can be cut, dripped, silent or missing.
//! Must not behave like a real API server: each test scripts its answers, if necessary byte by byte.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hpalite::kube::ClusterConfig;

use super::deaf::deafen;

/// Longer than anything that works takes, so only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// By names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// The connection on which it arrived, counted from 0.
    pub(crate) connection: usize,
}

impl Recorded {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.split('&').any(|part| part == "watch=true")
    }

    /// Returns a parameter as it was sent, still encoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.split('&').filter_map(|part| part.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A complete answer with a length.
    Full { code: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// 200 and a chunked body, piece by piece.
    Stream(Vec<Piece>),
    /// Reads the request and closes the connection without an answer.
    Close,
    /// Reads the request and does not answer.
    Silent,
    /// A head that announces more body than follows.
    Short(Vec<u8>),
}

#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Send(Vec<u8>),
    /// Every byte in a chunk and packet of its own.
    Drip(Vec<u8>),
    /// Nothing more until the server stops.
    Silence,
    /// Closes the connection without the end of the body.
    Cut,
}

impl Reply {
    pub(crate) fn json(code: u16, body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Reply::Full { code, headers, body: body.into().into_bytes() }
    }

    pub(crate) fn status(code: u16, reason: &str) -> Self {
        Self::json(
            code,
            format!(
                r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"{reason}","message":"scripted","code":{code}}}"#
            ),
        )
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Reply::Full { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }

    /// A stream of lines that stays open.
    pub(crate) fn lines(lines: &[String]) -> Self {
        let mut pieces: Vec<_> = lines.iter().map(|l| Piece::Send(format!("{l}\n").into_bytes())).collect();
        pieces.push(Piece::Silence);
        Reply::Stream(pieces)
    }
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, VecDeque<Reply>>,
    requests: Vec<Recorded>,
    connections: Vec<TcpStream>,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub(crate) struct FakeKube {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl FakeKube {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&server);
                let connection = {
                    let mut state = shared.state.lock().expect("lock");
                    if state.stopped {
                        return;
                    }
                    state.connections.push(stream.try_clone().expect("a socket"));
                    state.connections.len() - 1
                };
                thread::spawn(move || {
                    serve(&stream, connection, &shared);
                    // Another handle of it is kept, so that it would stay open.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        FakeKube { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns a configuration for this server, with the user entry given in YAML.
    pub(crate) fn config(&self, folder: &Path, user: &str) -> ClusterConfig {
        let path = folder.join("kubeconfig");
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: '{}'}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n",
            self.url()
        );
        std::fs::write(&path, text).expect("a kubeconfig");
        ClusterConfig::from_kubeconfig(&path).expect("a valid kubeconfig")
    }

    /// Adds an answer to `GET path`, `WATCH path`, `POST path` and so on. Without a script a watch opens and stays
    /// silent, and anything else is 404.
    pub(crate) fn script(&self, route: &str, reply: Reply) {
        let mut state = self.shared.state.lock().expect("lock");
        state.scripts.entry(route.to_owned()).or_default().push_back(reply);
    }

    /// Makes all connections of before die without a word; new ones work.
    pub(crate) fn forget_connections(&self) {
        let state = self.shared.state.lock().expect("lock");
        deafen(state.connections.iter().map(|stream| stream.try_clone().expect("a socket")));
    }

    /// Closes all connections of before.
    pub(crate) fn close_connections(&self) {
        let state = self.shared.state.lock().expect("lock");
        for connection in &state.connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.state.lock().expect("lock").requests.clone()
    }

    pub(crate) fn watches(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(Recorded::is_watch).collect()
    }

    /// Waits until the requests satisfy the condition.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&[Recorded]) -> bool) {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock().expect("lock");
        while !condition(&state.requests) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; got {:#?}", state.requests);
            state = self.shared.changed.wait_timeout(state, left).expect("lock").0;
        }
    }
}

impl Drop for FakeKube {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.stopped = true;
        }
        self.shared.changed.notify_all();
        // Wakes the accept loop.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, connection: usize, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, connection) {
        let method = if request.is_watch() { "WATCH" } else { &request.method };
        let route = format!("{method} {}", request.path);
        let watch = request.is_watch();
        let reply = {
            let mut state = shared.state.lock().expect("lock");
            state.requests.push(request);
            let scripted = state.scripts.get_mut(&route).and_then(VecDeque::pop_front);
            scripted.unwrap_or_else(|| if watch { Reply::lines(&[]) } else { Reply::status(404, "NotFound") })
        };
        shared.changed.notify_all();
        if answer(stream, reply, shared).is_none() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>, connection: usize) -> Option<Recorded> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    Some(Recorded { method, path, query, headers, body, connection })
}

/// Returns None if the connection must be closed.
fn answer(mut stream: &TcpStream, reply: Reply, shared: &Shared) -> Option<()> {
    match reply {
        Reply::Close => None,
        Reply::Silent => silence(shared),
        Reply::Short(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 10);
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&body).ok()?;
            None
        }
        Reply::Full { code, headers, body } => {
            let mut head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            stream.write_all(&[head.as_bytes(), &body].concat()).ok()
        }
        Reply::Stream(pieces) => {
            stream.set_nodelay(true).ok()?;
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).ok()?;
            for piece in pieces {
                match piece {
                    Piece::Send(bytes) => chunk(stream, &bytes)?,
                    Piece::Drip(bytes) => {
                        for byte in bytes {
                            chunk(stream, &[byte])?;
                        }
                    }
                    Piece::Silence => return silence(shared),
                    Piece::Cut => return None,
                }
            }
            stream.write_all(b"0\r\n\r\n").ok()
        }
    }
}

/// Waits until the server stops.
fn silence(shared: &Shared) -> Option<()> {
    let state = shared.state.lock().expect("lock");
    let _state = shared.changed.wait_while(state, |s| !s.stopped).expect("lock");
    None
}

fn chunk(mut stream: &TcpStream, bytes: &[u8]) -> Option<()> {
    let head = format!("{:x}\r\n", bytes.len());
    stream.write_all(&[head.as_bytes(), bytes, b"\r\n"].concat()).ok()
}
