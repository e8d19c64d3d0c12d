//! Sends one request and brings the answer: connections, TLS, proxies, redirects, time limits.
//!
//! Owns all HTTP clients and their connections, shared by all poll threads. Decides nothing about the
//! answer; those who ask do. Must not log header values.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use ureq::http::{self, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector};
use ureq::{Agent, Proxy};

use super::connector::TlsConnector;
use super::failed;
use super::fault::{Asked, explain, not_asked};
use super::proxy::ProxySettings;
use super::request::{Header, Method, Request, TlsMaterial};
use super::tls::{self, Roots};
use super::turn::{LARGE_BYTES, TURNS};
use crate::outbound::MARK;
use crate::outbound::connect::{Direct, Guard};
use crate::outbound::names::Names;
use crate::outbound::networks::Rules;
use crate::scaling::event::{ErrorClass, PollError};

/// Clients kept, one for each TLS identity and proxy; a client keeps connections to many servers.
/// Most clusters need one. A client with a `ca` of its own holds a copy of the roots, about 150 of
/// 1 KiB, so that 64 hold at most 10 MiB.
const CLIENTS_MAX: usize = 64;

/// Idle connections of the client without parameters: descriptors. With two buffers of 16 KiB each, 8 MiB.
const IDLE_MAX: usize = 256;

/// Idle connections of a client with parameters of somebody, which ask few servers: whoever makes up identities must
/// not hold descriptors and memory by that. With four buffers of 16 KiB, 64 clients hold 32 MiB at most.
const IDLE_MAX_OF_ONE: usize = 8;

/// Idle connections to one server; as many as poll threads usually are.
const IDLE_PER_SERVER_MAX: usize = 16;

/// Bytes of a body that are read. One sample is 200 bytes; a label set may reach some kilobytes; what
/// is larger than this holds thousands of series and is an error anyway.
pub const BODY_MAX: usize = 1 << 20;

/// Longer than the usual polling interval of 30 s, so that a connection lives from poll to poll; below
/// the five minutes after which Prometheus closes it.
const IDLE_AGE_MAX: Duration = Duration::from_secs(240);

/// Holds a header line: a bearer token of 8 KiB and the name before it.
const BUFFER: usize = 16 << 10;

/// As many as KEDA follows.
const REDIRECTS_MAX: usize = 10;

/// Bytes of host and port that a redirect may name, since error texts repeat them: a name has at most 253.
const AUTHORITY_MAX: usize = 260;

/// Bytes read of a redirect's body, which nobody wants; servers write a line or two.
const REDIRECT_BODY_MAX: u64 = 4 << 10;

pub struct TransportConfig {
    pub roots: Roots,
    pub proxy: ProxySettings,
    /// For sources without a timeout of their own.
    pub default_timeout: Duration,
    /// `hpalite/1.2.3`
    pub user_agent: String,
    pub names: Arc<Names>,
    /// Which addresses may be asked.
    pub rules: Arc<Rules>,
}

/// All HTTP clients. Shared by threads.
pub struct Transport {
    config: TransportConfig,
    provider: Arc<CryptoProvider>,
    /// Locked to look up or insert, never while a request is under way.
    clients: Mutex<HashMap<ClientKey, Client>>,
    uses: AtomicU64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    tls: TlsMaterial,
    proxy: Option<String>,
}

struct Client {
    agent: Agent,
    used: u64,
}

/// Where a request goes next: the first address or a redirect's.
struct Hop {
    method: Method,
    uri: Uri,
    /// Credentials go to the origin alone to which they were given.
    with_secrets: bool,
}

/// What a server answered, unread.
pub struct Reply {
    /// `scheme://host:port` that it came from, after redirects.
    pub server: String,
    pub status: u16,
    /// Decompressed; ends after [`BODY_MAX`] + 1 bytes.
    pub body: Vec<u8>,
}

enum Step {
    Done(Reply),
    Redirect(Hop),
}

impl Transport {
    #[must_use]
    pub fn new(config: TransportConfig) -> Self {
        Self {
            config,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            clients: Mutex::new(HashMap::new()),
            uses: AtomicU64::new(0),
        }
    }

    /// Sends the request and brings what came back within `timeout`, or the default.
    ///
    /// # Errors
    /// When nothing came back.
    pub fn exchange(&self, request: &Request, timeout: Option<Duration>) -> Result<Reply, PollError> {
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.config.default_timeout);
        let deadline = Instant::now() + timeout;
        self.follow(request, timeout, deadline)
    }

    /// As [`Self::exchange`], and reads what came back: one large answer at a time in the whole process, and that within
    /// `timeout`, too.
    ///
    /// # Errors
    /// When nothing came back, or other large answers were read all the time.
    pub fn exchange_and_read<T>(
        &self,
        request: &Request,
        timeout: Option<Duration>,
        read: impl FnOnce(Reply) -> T,
    ) -> Result<T, PollError> {
        let timeout = timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.config.default_timeout);
        self.exchange_and_read_by(request, timeout, Instant::now() + timeout, read)
    }

    /// The same until a moment that several requests share; `timeout` is what they had in all.
    ///
    /// # Errors
    /// When nothing came back, or other large answers were read all the time.
    pub fn exchange_and_read_by<T>(
        &self,
        request: &Request,
        timeout: Duration,
        deadline: Instant,
        read: impl FnOnce(Reply) -> T,
    ) -> Result<T, PollError> {
        let reply = self.follow(request, timeout, deadline)?;
        let Some(_turn) = TURNS.wait(reply.body.len(), deadline) else {
            let kib = reply.body.len() >> 10;
            let message = format!(
                "{} answered more than {} KiB, and other answers as large were being read until the time limit",
                reply.server,
                LARGE_BYTES >> 10
            );
            log::debug!(server:% = reply.server, kib = kib; "no turn to read a large answer");
            return Err(failed(ErrorClass::Timeout, message));
        };
        Ok(read(reply))
    }

    /// For sources without a timeout of their own.
    #[must_use]
    pub fn default_timeout(&self) -> Duration {
        self.config.default_timeout
    }

    /// Redirects are followed here, since each hop has its own proxy, a form must be sent again, and
    /// credentials must not reach another host.
    fn follow(&self, request: &Request, timeout: Duration, deadline: Instant) -> Result<Reply, PollError> {
        let unusable =
            || failed(ErrorClass::Configuration, format!("no valid request can be made for {}", request.server));
        let uri = request.url.parse().map_err(|_| unusable())?;
        let mut hop = Hop { method: request.method, uri, with_secrets: true };
        for _ in 0..=REDIRECTS_MAX {
            match self.step(request, &hop, timeout, deadline)? {
                Step::Done(reply)
                    if !hop.with_secrets && matches!(reply.status, 401 | 403) && request.has_secrets() =>
                {
                    let message = format!(
                        "{} redirects to {}, which answered status {}: credentials go to no other scheme, host or \
                         port than those of the address, so write that address",
                        request.server, reply.server, reply.status
                    );
                    return Err(failed(ErrorClass::Status, message));
                }
                Step::Done(reply) => return Ok(reply),
                Step::Redirect(next) => hop = next,
            }
        }
        let message = format!("{} redirects more than {REDIRECTS_MAX} times", request.server);
        Err(failed(ErrorClass::Response, message))
    }

    fn step(&self, request: &Request, hop: &Hop, timeout: Duration, deadline: Instant) -> Result<Step, PollError> {
        let host = hop.uri.host().unwrap_or_default();
        let https = hop.uri.scheme_str() == Some("https");
        let port = hop.uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let proxy = self.config.proxy.proxy_for(https, host, port);
        let server = server_of(&hop.uri);
        let asked = Asked { server: &server, timeout, through_proxy: proxy.is_some() };
        if proxy.is_some() {
            self.config.rules.judge_unresolved(host, port).map_err(|refused| not_asked(&server, &refused))?;
        }
        // Another server has no business with who we are to the first.
        let anonymous = TlsMaterial { client: None, ..request.tls.clone() };
        let agent = self.agent(if hop.with_secrets { &request.tls } else { &anonymous }, proxy, asked)?;

        let mut result = send(&agent, request, hop, deadline, IDLE_AGE_MAX);
        // A server may close a kept-alive connection in the very moment we use it. Asking again does no
        // harm, since a query changes nothing; on a new connection, so once is enough.
        if result.as_ref().is_err_and(was_cut) {
            result = send(&agent, request, hop, deadline, Duration::ZERO);
        }
        let mut response = result.map_err(|error| explain(&error, asked))?;
        let status = response.status().as_u16();
        if let Some(next) = redirect(hop, status, response.headers())? {
            // Read to its end, so that the connection can be used again; what is longer costs a new one.
            let mut rest = response.body_mut().as_reader().take(REDIRECT_BODY_MAX);
            let _ = io::copy(&mut rest, &mut io::sink());
            return Ok(Step::Redirect(next));
        }
        match read_body(response.body_mut().as_reader()) {
            Ok(body) => Ok(Step::Done(Reply { server, status, body })),
            Err(error) => Err(explain(&ureq::Error::Io(error), asked)),
        }
    }

    fn agent(&self, material: &TlsMaterial, proxy: Option<&str>, asked: Asked<'_>) -> Result<Agent, PollError> {
        let key = ClientKey { tls: material.clone(), proxy: proxy.map(str::to_owned) };
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        // A poisoned lock still guards a whole map: nothing panics between its changes.
        if let Some(client) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&key) {
            client.used = used;
            return Ok(client.agent.clone());
        }
        let tls = tls::client(material, &self.config.roots, &self.provider)
            .map_err(|why| failed(ErrorClass::Authentication, format!("cannot ask {}: {why}", asked.server)))?;
        let proxy = proxy.map(Proxy::new).transpose().map_err(|error| explain(&error, asked))?;
        let idle_max = if *material == TlsMaterial::default() { IDLE_MAX } else { IDLE_MAX_OF_ONE };
        let agent = self.build(Arc::new(tls), proxy, idle_max);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX
            && let Some(oldest) = clients.iter().min_by_key(|(_, client)| client.used).map(|(key, _)| key.clone())
        {
            clients.remove(&oldest);
        }
        // Another thread may have been faster; then its connections are kept.
        let client = clients.entry(key).or_insert(Client { agent, used });
        Ok(client.agent.clone())
    }

    fn build(&self, tls: Arc<rustls::ClientConfig>, proxy: Option<Proxy>, idle_max: usize) -> Agent {
        let guard = Guard::judging(Arc::clone(&self.config.names), Arc::clone(&self.config.rules), proxy.as_ref());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.config.user_agent.as_str())
            .accept("application/json")
            .accept_encoding("gzip")
            .max_idle_connections(idle_max)
            .max_idle_connections_per_host(IDLE_PER_SERVER_MAX.min(idle_max))
            .max_idle_age(IDLE_AGE_MAX)
            // Below the buffer: a head that fills it looks like a closed connection.
            .max_response_header_size(BUFFER / 2)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .no_delay(true)
            .build();
        let connector =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(Direct::new(guard.clone()))
                .chain(TlsConnector(tls));
        Agent::with_parts(config, connector, guard)
    }
}

/// Up to [`BODY_MAX`] + 1 bytes. A large body gets all the room it may need at once: growing takes three times as much.
fn read_body(mut body: impl Read) -> io::Result<Vec<u8>> {
    let (small, limit) = (as_u64(LARGE_BYTES), as_u64(BODY_MAX + 1));
    let mut bytes = Vec::new();
    body.by_ref().take(small).read_to_end(&mut bytes)?;
    if as_u64(bytes.len()) == small {
        bytes.reserve_exact(BODY_MAX + 1 + PROBE - bytes.len());
        body.take(limit - small).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What reading to an end wants to have free to see that it is there.
const PROBE: usize = 32;

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn send(
    agent: &Agent,
    request: &Request,
    hop: &Hop,
    deadline: Instant,
    idle_age: Duration,
) -> Result<http::Response<ureq::Body>, ureq::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ureq::Error::Timeout(ureq::Timeout::Global));
    }
    let mut builder = http::Request::builder().uri(hop.uri.clone()).header(MARK, "1");
    for Header { name, value, secret } in &request.headers {
        if hop.with_secrets || !secret {
            builder = builder.header(name.as_str(), value.as_bytes());
        }
    }
    match (hop.method, &request.form) {
        (Method::Post, Some(form)) => {
            let request = builder
                .method(http::Method::POST)
                .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.as_str())
                .map_err(ureq::Error::Http)?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).max_idle_age(idle_age).build())
        }
        _ => {
            let request = builder.body(()).map_err(ureq::Error::Http)?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).max_idle_age(idle_age).build())
        }
    }
}

/// The connection ended before an answer began.
fn was_cut(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else { return false };
    error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>())
        && matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        )
}

fn redirect(hop: &Hop, status: u16, headers: &http::HeaderMap) -> Result<Option<Hop>, PollError> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = headers.get(http::header::LOCATION) else { return Ok(None) };
    let server = server_of(&hop.uri);
    let uri = location.to_str().ok().and_then(|location| resolve(&hop.uri, location)).ok_or_else(|| {
        failed(ErrorClass::Response, format!("{server} redirects to an address that cannot be asked"))
    })?;
    let method = if matches!(status, 307 | 308) { hop.method } else { Method::Get };
    let with_secrets = hop.with_secrets && is_same_origin(&hop.uri, &uri);
    Ok(Some(Hop { method, uri, with_secrets }))
}

/// Scheme, host and port: on another port there may be another's server.
fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        (uri.scheme_str().map(str::to_owned), host, uri.port_u16().unwrap_or(usual))
    };
    origin(one) == origin(other)
}

fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else if location.contains("://") {
        return None;
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let is_usable = !authority.host().is_empty() && !authority.as_str().contains('@');
    (is_usable && authority.as_str().len() <= AUTHORITY_MAX).then_some(uri)
}

/// `scheme://host:port` as written.
fn server_of(uri: &Uri) -> String {
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations() {
        let base = uri("https://p:9090/a/api/v1/query?query=x");
        let rows = [
            ("http://q/b", Some("http://q/b")),
            ("//q:1/b?c#d", Some("https://q:1/b?c")),
            ("/b?c=d", Some("https://p:9090/b?c=d")),
            ("other", Some("https://p:9090/a/api/v1/other")),
            ("?y=1", Some("https://p:9090/a/api/v1/query?y=1")),
            ("ftp://q/", None),
            ("http://u:p@q/", None),
            ("http://", None),
        ];
        for (location, expected) in rows {
            assert_eq!(resolve(&base, location), expected.map(uri), "{location}");
        }
        assert!(resolve(&base, &format!("http://{}/", "q".repeat(260))).is_some());
        assert_eq!(resolve(&base, &format!("http://{}/", "q".repeat(261))), None);
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        let rows = [
            ("https://p/", "https://P:443/x", true),
            ("http://p:80/a", "http://p/b", true),
            ("https://p/", "https://p:1/x", false),
            ("http://p:9090/", "http://p:9091/", false),
            ("http://p/", "https://p/", false),
            ("https://p/", "http://p/", false),
            ("https://p/", "http://p:443/", false),
            ("https://a.b/", "https://x.a.b/", false),
            ("https://a.b/", "https://b/", false),
        ];
        for (from, to, expected) in rows {
            assert_eq!(is_same_origin(&uri(from), &uri(to)), expected, "{from} {to}");
        }
    }
}
