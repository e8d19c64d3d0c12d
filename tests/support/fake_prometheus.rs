//! A scripted HTTP server on a loopback port, with or without TLS, that records its requests.
//!
//! Can also act as a proxy ([`Reply::Tunnel`]). It has a thread per connection; all end with the fake.
//! The port stays taken until the process ends; after the fake it closes every connection. What a test has defined in a
//! shared cluster is still polled after the test, and a server of another test on that port would get those requests.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub(crate) enum Reply {
    Full {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and stays silent.
    Stall(Vec<u8>),
    /// For a CONNECT: joins the client with this address.
    Tunnel(SocketAddr),
}

impl Reply {
    pub(crate) fn json(body: &str) -> Self {
        Self::status(200, body)
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Full { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::Full { status, headers: vec![("Location".into(), location.into())], body: b"moved".to_vec() }
    }

    /// One series with this value.
    pub(crate) fn value(value: &str) -> Self {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1700000000,"{value}"]}}]}}}}"#
        );
        Self::json(&body)
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    sockets: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    closing: AtomicBool,
}

pub(crate) struct FakePrometheus {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl FakePrometheus {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(IpAddr::V4(Ipv4Addr::LOCALHOST), None, handler)
    }

    /// Starts on another address of this host.
    pub(crate) fn start_at(address: IpAddr, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(address, None, handler)
    }

    pub(crate) fn start_tls(config: ServerConfig, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(IpAddr::V4(Ipv4Addr::LOCALHOST), Some(Arc::new(config)), handler)
    }

    fn start_with(
        address: IpAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            tls,
            requests: Mutex::default(),
            sockets: Mutex::default(),
            connections: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(socket) = socket else { continue };
                if for_thread.closing.load(Ordering::SeqCst) {
                    continue;
                }
                let shared = Arc::clone(&for_thread);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.sockets.lock().unwrap().push(socket.try_clone().unwrap());
                thread::spawn(move || shared.serve(socket));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:…` or `https://localhost:…`, which is the name in the certificates.
    pub(crate) fn url(&self) -> String {
        match self.shared.tls {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes all open connections.
    pub(crate) fn close_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for FakePrometheus {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.close_connections();
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Shared {
    fn serve(&self, socket: TcpStream) {
        let raw = socket.try_clone().unwrap();
        // Many tests want the connection to fail.
        let _ = match &self.tls {
            None => self.answer_all(&mut { socket }, &raw),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                self.answer_all(&mut StreamOwned::new(connection, socket), &raw)
            }
        };
        let _ = raw.shutdown(Shutdown::Both);
    }

    fn answer_all(&self, stream: &mut dyn Stream, raw: &TcpStream) -> io::Result<()> {
        while let Some(request) = read_request(stream)? {
            let reply = (self.handler)(&request);
            self.requests.lock().unwrap().push(request);
            match reply {
                Reply::Full { status, headers, body } => {
                    let mut head = format!("HTTP/1.1 {status} Text\r\nContent-Length: {}\r\n", body.len());
                    for (name, value) in headers {
                        head.push_str(&format!("{name}: {value}\r\n"));
                    }
                    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat())?;
                    stream.flush()?;
                }
                Reply::Raw(bytes) => {
                    stream.write_all(&bytes)?;
                    return stream.flush();
                }
                Reply::Stall(bytes) => {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                    // Until the client or the fake closes the connection.
                    while stream.read(&mut [0; 64])? > 0 {}
                    return Ok(());
                }
                Reply::Tunnel(address) => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                    return tunnel(raw, address);
                }
            }
        }
        Ok(())
    }
}

fn tunnel(client: &TcpStream, address: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(address)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let result = io::copy(&mut &*client, &mut &server).map(drop);
    let _ = server.shutdown(Shutdown::Both);
    result
}

fn read_request(stream: &mut dyn Stream) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut next = || first.next().unwrap_or_default().to_owned();
    let (method, target) = (next(), next());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    request.body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok(Some(request))
}
