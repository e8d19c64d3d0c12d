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
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};
use ureq::{Agent, Proxy};

use super::connector::TlsConnector;
use super::failed;
use super::fault::{Asked, explain};
use super::proxy::ProxySettings;
use super::request::{Header, Method, Request, TlsMaterial};
use super::tls::{self, Roots};
use crate::scaling::event::{ErrorClass, PollError};

/// Clients kept, one for each TLS identity and proxy; a client keeps connections to many servers.
/// Most clusters need one. A client with a `ca` of its own holds a copy of the roots, about 150 of
/// 1 KiB, so that 128 hold at most 20 MiB.
const CLIENTS_MAX: usize = 128;

/// Idle connections of one client: descriptors. With two buffers of 16 KiB each, 8 MiB.
const IDLE_MAX: usize = 256;

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

/// Bytes read of a redirect's body, which nobody wants; servers write a line or two.
const REDIRECT_BODY_MAX: u64 = 4 << 10;

pub struct TransportConfig {
    pub roots: Roots,
    pub proxy: ProxySettings,
    /// For sources without a timeout of their own.
    pub default_timeout: Duration,
    /// `hpalite/1.2.3`
    pub user_agent: String,
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

    /// The same until a moment that several requests share; `timeout` is what they had in all.
    ///
    /// # Errors
    /// When nothing came back.
    pub fn exchange_by(&self, request: &Request, timeout: Duration, deadline: Instant) -> Result<Reply, PollError> {
        self.follow(request, timeout, deadline)
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
        let agent = self.agent(&request.tls, proxy, asked)?;

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
        let mut body = Vec::new();
        let limit = u64::try_from(BODY_MAX + 1).unwrap_or(u64::MAX);
        match response.body_mut().as_reader().take(limit).read_to_end(&mut body) {
            Ok(_) => Ok(Step::Done(Reply { server, status, body })),
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
        let agent = self.build(Arc::new(tls), proxy);
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

    fn build(&self, tls: Arc<rustls::ClientConfig>, proxy: Option<Proxy>) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(proxy)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.config.user_agent.as_str())
            .accept("application/json")
            .accept_encoding("gzip")
            .max_idle_connections(IDLE_MAX)
            .max_idle_connections_per_host(IDLE_PER_SERVER_MAX)
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
                .chain(TcpConnector::default())
                .chain(TlsConnector(tls));
        Agent::with_parts(config, connector, DefaultResolver::default())
    }
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
    let mut builder = http::Request::builder().uri(hop.uri.clone());
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
    let with_secrets = hop.with_secrets && may_have_secrets(&hop.uri, &uri);
    Ok(Some(Hop { method, uri, with_secrets }))
}

/// Credentials go on to the same host and what is below it, and never from TLS to plain text.
fn may_have_secrets(from: &Uri, to: &Uri) -> bool {
    let (from_host, to_host) = (from.host().unwrap_or_default(), to.host().unwrap_or_default());
    let below = to_host.strip_suffix(from_host).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below && (from.scheme_str() != Some("https") || to.scheme_str() == Some("https"))
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
    (!authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
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
    }

    #[test]
    fn secrets_stay_with_their_host() {
        let rows = [
            ("https://p/", "https://p:1/x", true),
            ("http://p/", "https://p/", true),
            ("https://p/", "http://p/", false),
            ("https://a.b/", "https://x.a.b/", true),
            ("https://a.b/", "https://xa.b/", false),
            ("https://a.b/", "https://b/", false),
        ];
        for (from, to, expected) in rows {
            assert_eq!(may_have_secrets(&uri(from), &uri(to)), expected, "{from} {to}");
        }
    }
}
