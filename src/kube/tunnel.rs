//! A connection to the API server that becomes a WebSocket, for `exec` and `port-forward`.
//!
//! Owns the socket, its TLS and every time limit; [`super::websocket`] knows the frames. The HTTP library cannot hand a
//! connection over, and both directions are used at once here, so this connects by itself, as the kubeconfig says.
//! Must not know what is sent over it, or log headers.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::ClientConnection;
use ureq::http::{HeaderValue, Uri};

use super::client::Client;
use super::config::ClusterConfig;
use super::error::{Error, Status};
use super::websocket::{self, Decoder, Frame, Message};
use crate::encode::base64_encode;
use crate::outbound::connect::place;
use crate::outbound::names::Names;
use crate::outbound::tls::server_name;

/// For each address of the API server, or of its proxy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// For TLS, the request and the head of the answer together. The API server asks the kubelet before it answers.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// A silent server is asked whether it is still there, and given up when it has been silent for twice as long.
const PING_EVERY: Duration = Duration::from_secs(20);

/// For what the other side does not take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's head, and the body of a refusal.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

/// The largest TLS record.
const READ_BYTES: usize = 16 * 1024;

/// One end of a WebSocket that sends; clones send over the same.
#[derive(Clone)]
pub struct Sender {
    link: Arc<Link>,
}

/// The end of it that receives, of which there is one.
pub struct Receiver {
    sender: Sender,
    decoder: Decoder,
}

impl Client {
    /// Opens a WebSocket that speaks `protocol`, with the credential renewed once if it is refused. Blocks for up to
    /// 35 s, and as long again for a renewal.
    ///
    /// # Errors
    /// What the server answered instead, such as 403 with its reason, or why it could not be asked.
    pub fn upgrade(&self, path_and_query: &str, protocol: &str) -> Result<(Sender, Receiver), Error> {
        let config = self.config();
        let sent = config.credential.header(Instant::now());
        let result = upgrade(config, path_and_query, protocol, sent.as_ref());
        let is_refused = result.as_ref().is_err_and(|error| error.status().is_some_and(|status| status.code == 401));
        if !is_refused || !config.credential.renew(sent.as_ref(), Instant::now()) {
            return result;
        }
        let renewed = config.credential.header(Instant::now());
        upgrade(config, path_and_query, protocol, renewed.as_ref())
    }
}

impl Sender {
    /// Sends a message; blocks while the other side does not take it, for at most 30 s.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, content: &[u8]) -> Result<(), Error> {
        self.frame(Frame::Binary(content))
    }

    /// Ends the connection for both ends, which the receiver notices at once.
    pub fn close(&self) {
        let _ = self.frame(Frame::Close);
        let _ = self.link.socket.shutdown(Shutdown::Both);
    }

    fn frame(&self, frame: Frame<'_>) -> Result<(), Error> {
        let bytes = websocket::encode(frame, random()?);
        self.link.send(&bytes).map_err(|error| Error::from_io("websocket", error))
    }
}

impl Receiver {
    /// Returns the next message; `None` after the server has ended the connection. Blocks for as long as the server is
    /// there.
    ///
    /// # Errors
    /// When the connection broke, the server breaks the protocol, or it sends a message beyond the limit of 1 MB.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut silent = 0;
        loop {
            match self.decoder.next().map_err(broken)? {
                Some(Message::Data(content)) => return Ok(Some(content)),
                Some(Message::Ping(content)) => {
                    self.sender.frame(Frame::Pong(&content))?;
                    continue;
                }
                Some(Message::Pong) => continue,
                Some(Message::Close(_)) => return Ok(None),
                None => {}
            }
            match self.sender.link.receive() {
                // Kubelets of some versions end without a close.
                Ok(bytes) if bytes.is_empty() => return Ok(None),
                Ok(bytes) => {
                    silent = 0;
                    self.decoder.push(&bytes);
                }
                Err(error) if is_timeout(&error) && silent == 0 => {
                    silent += 1;
                    self.sender.frame(Frame::Ping)?;
                }
                Err(error) => return Err(Error::from_io("websocket", error)),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn broken(what: impl Into<super::error::Cause>) -> Error {
    Error::Protocol { source: what.into() }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| broken("this system gives no random numbers"))?;
    Ok(bytes)
}

/// A socket that is read and written at the same time, with TLS or without.
struct Link {
    socket: TcpStream,
    /// Locked only while bytes are translated, never while the socket is waited for.
    tls: Option<Mutex<ClientConnection>>,
    /// Held while bytes are sent, so that they arrive in the order in which they were encrypted.
    turn: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let _turn = lock(&self.turn);
        let mut socket = &self.socket;
        let Some(tls) = &self.tls else { return socket.write_all(bytes) };
        let mut encrypted = Vec::new();
        {
            let mut tls = lock(tls);
            tls.writer().write_all(bytes)?;
            while tls.wants_write() {
                tls.write_tls(&mut encrypted)?;
            }
        }
        socket.write_all(&encrypted)
    }

    /// Returns what has arrived; nothing at the end.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut raw = [0; READ_BYTES];
        let mut socket = &self.socket;
        let Some(tls) = &self.tls else {
            let amount = socket.read(&mut raw)?;
            return Ok(raw[..amount].to_vec());
        };
        // The handshake may have brought the first bytes.
        let mut plain = decrypt(&mut lock(tls), &[])?;
        while plain.is_empty() {
            let amount = socket.read(&mut raw)?;
            if amount == 0 {
                break;
            }
            let (has_closed, wants_write) = {
                let mut tls = lock(tls);
                plain = decrypt(&mut tls, &raw[..amount])?;
                (tls.process_new_packets().is_ok_and(|state| state.peer_has_closed()), tls.wants_write())
            };
            if wants_write {
                self.send(&[])?;
            }
            if has_closed {
                break;
            }
        }
        Ok(plain)
    }
}

fn decrypt(tls: &mut ClientConnection, mut raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    loop {
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut plain[start..])?;
        if raw.is_empty() || state.peer_has_closed() {
            return Ok(plain);
        }
        tls.read_tls(&mut raw)?;
    }
}

fn upgrade(
    config: &ClusterConfig,
    path_and_query: &str,
    protocol: &str,
    authorization: Option<&HeaderValue>,
) -> Result<(Sender, Receiver), Error> {
    let uri: Uri = config.server.parse().map_err(|error: ureq::http::uri::InvalidUri| broken(error))?;
    let deadline = Instant::now() + CONNECT_TIMEOUT + UPGRADE_TIMEOUT;
    let link = connect(config, &uri)?;
    let key = base64_encode(&random::<16>()?);
    let base = uri.path().trim_end_matches('/');
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let mut head = format!(
        "GET {base}{path_and_query} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: hpalite/{}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n",
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    if let Some(value) = authorization {
        head.extend(b"Authorization: ");
        head.extend(value.as_bytes());
        head.extend(b"\r\n");
    }
    head.extend(b"\r\n");
    let failed = |error: io::Error| Error::from_io("upgrade", error);
    link.send(&head).map_err(failed)?;
    let mut received = Vec::new();
    let answer = loop {
        if let Some(answer) = Answer::parse(&received)? {
            break answer;
        }
        more(&link, &mut received, deadline)?;
    };
    if answer.code != 101 {
        return Err(answer.refusal(&link, received, deadline));
    }
    if !answer.upgrade.eq_ignore_ascii_case("websocket") || answer.accept != websocket::accept(&key) {
        return Err(broken("it answers 101, but not as a WebSocket"));
    }
    if answer.protocol != protocol {
        return Err(broken(format!("it speaks {:?} instead of {protocol}", answer.protocol)));
    }
    link.socket.set_read_timeout(Some(PING_EVERY)).map_err(failed)?;
    let mut decoder = Decoder::default();
    decoder.push(&received[answer.head_bytes..]);
    let sender = Sender { link: Arc::new(link) };
    Ok((sender.clone(), Receiver { sender, decoder }))
}

/// What a server has sent after an upgrade; see [`read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Data(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(String),
}

/// Reads an answer to an upgrade and the messages behind it from memory, of which so many bytes arrive at once, as fuzzing
/// needs it: returns the status, the messages before the first close or mistake, and whether there was a mistake.
///
/// # Errors
/// When the head is wrong, too large, or not all there.
pub fn read(bytes: &[u8], piece: usize) -> Result<(u16, Vec<Sent>, bool), Error> {
    let mut pieces = bytes.chunks(piece.max(1));
    let mut received = Vec::new();
    let answer = loop {
        if let Some(answer) = Answer::parse(&received)? {
            break answer;
        }
        if received.len() > HEAD_BYTES_MAX {
            return Err(Error::TooLarge { limit_bytes: HEAD_BYTES_MAX as u64 });
        }
        let next = pieces.next().ok_or_else(|| Error::from_io("upgrade", io::ErrorKind::UnexpectedEof.into()))?;
        received.extend(next);
    };
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    let mut arrived = &received[answer.head_bytes..];
    loop {
        decoder.push(arrived);
        loop {
            match decoder.next() {
                Ok(Some(Message::Data(content))) => found.push(Sent::Data(content)),
                Ok(Some(Message::Ping(content))) => found.push(Sent::Ping(content)),
                Ok(Some(Message::Pong)) => found.push(Sent::Pong),
                Ok(Some(Message::Close(reason))) => {
                    found.push(Sent::Close(reason));
                    return Ok((answer.code, found, false));
                }
                Ok(None) => break,
                Err(_) => return Ok((answer.code, found, true)),
            }
        }
        let Some(next) = pieces.next() else { return Ok((answer.code, found, false)) };
        arrived = next;
    }
}

/// Reads once; what was received stays below a limit, and the time before the deadline.
fn more(link: &Link, received: &mut Vec<u8>, deadline: Instant) -> Result<(), Error> {
    if received.len() > HEAD_BYTES_MAX {
        return Err(Error::TooLarge { limit_bytes: HEAD_BYTES_MAX as u64 });
    }
    if Instant::now() > deadline {
        return Err(Error::Timeout { phase: "upgrade".into() });
    }
    let bytes = link.receive().map_err(|error| Error::from_io("upgrade", error))?;
    if bytes.is_empty() {
        return Err(Error::from_io("upgrade", io::ErrorKind::UnexpectedEof.into()));
    }
    received.extend(bytes);
    Ok(())
}

/// The head of the answer to an upgrade.
#[derive(Debug, Default)]
struct Answer {
    code: u16,
    head_bytes: usize,
    upgrade: String,
    accept: String,
    protocol: String,
    /// Of the body of a refusal.
    content_length: usize,
}

impl Answer {
    /// `None` if more bytes are needed.
    fn parse(received: &[u8]) -> Result<Option<Self>, Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = response.parse(received).map_err(broken)? else { return Ok(None) };
        let value = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map_or_else(String::new, |header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        Ok(Some(Self {
            code: response.code.unwrap_or(0),
            head_bytes,
            upgrade: value("upgrade"),
            accept: value("sec-websocket-accept"),
            protocol: value("sec-websocket-protocol"),
            content_length: value("content-length").parse().unwrap_or(0),
        }))
    }

    /// The status alone is an answer: if the body is cut off, only its message is lost.
    fn refusal(&self, link: &Link, mut received: Vec<u8>, deadline: Instant) -> Error {
        let wanted = self.head_bytes.saturating_add(self.content_length);
        while received.len() < wanted && more(link, &mut received, deadline).is_ok() {}
        Status::parse(self.code, None, &received[self.head_bytes..]).into()
    }
}

fn connect(config: &ClusterConfig, uri: &Uri) -> Result<Link, Error> {
    let (host, port) = place(uri).ok_or_else(|| broken("its address has no host and port"))?;
    let socket = match &config.proxy {
        None => dial(host, port)?,
        Some(proxy) if proxy.protocol() == ureq::ProxyProtocol::Http => {
            let socket = dial(proxy.host(), proxy.port())?;
            through(&socket, proxy, &format!("{}:{port}", uri.host().unwrap_or(host)))?;
            socket
        }
        Some(_) => {
            let what = "its proxy-url is neither direct nor http://, and others are not supported for exec";
            return Err(Error::Connect { source: what.into() });
        }
    };
    let failed = |error: io::Error| Error::from_io("handshake", error);
    socket.set_nodelay(true).map_err(failed)?;
    socket.set_read_timeout(Some(UPGRADE_TIMEOUT)).map_err(failed)?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed)?;
    let tls = match &config.tls {
        None => None,
        Some(cell) => {
            let settings = cell.get();
            let name = match settings.server_name {
                Some(name) => name,
                None => server_name(host).map_err(|error| Error::from_ureq("handshake", error))?,
            };
            let refused = |error| Error::Tls { source: Box::new(error) };
            let mut tls = ClientConnection::new(settings.config, name).map_err(refused)?;
            // Messages are encrypted whole before they are sent.
            tls.set_buffer_limit(None);
            while tls.is_handshaking() {
                tls.complete_io(&mut &socket).map_err(failed)?;
            }
            Some(Mutex::new(tls))
        }
    };
    Ok(Link { socket, tls, turn: Mutex::new(()) })
}

fn dial(host: &str, port: u16) -> Result<TcpStream, Error> {
    let addresses = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = Names::new(1).addresses(host, CONNECT_TIMEOUT);
            let unknown = |_| Error::Connect { source: format!("the name {host} cannot be resolved").into() };
            found.map_err(unknown)?.to_vec()
        }
    };
    let mut last = Error::Connect { source: format!("{host} has no address").into() };
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Error::from_io("connect", error),
        }
    }
    Err(last)
}

/// Asks an HTTP proxy for a connection to the API server.
fn through(socket: &TcpStream, proxy: &ureq::Proxy, target: &str) -> Result<(), Error> {
    let failed = |error: io::Error| Error::from_io("proxy", error);
    socket.set_read_timeout(Some(CONNECT_TIMEOUT)).map_err(failed)?;
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(name) = proxy.username() {
        let pair = format!("{name}:{}", proxy.password().unwrap_or_default());
        head += &format!("Proxy-Authorization: Basic {}\r\n", base64_encode(pair.as_bytes()));
    }
    head += "\r\n";
    let mut socket = socket;
    socket.write_all(head.as_bytes()).map_err(failed)?;
    // One byte at a time: what follows the head belongs to the API server.
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).map_err(failed)?;
        received.push(byte[0]);
        if received.len() > HEAD_BYTES_MAX {
            return Err(Error::TooLarge { limit_bytes: HEAD_BYTES_MAX as u64 });
        }
    }
    match Answer::parse(&received)? {
        Some(answer) if (200..300).contains(&answer.code) => Ok(()),
        answer => {
            let code = answer.map_or(0, |answer| answer.code);
            Err(Error::Connect { source: format!("the proxy answered {code}").into() })
        }
    }
}
