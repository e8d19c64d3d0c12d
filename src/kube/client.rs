//! Sends requests to the API server and returns bytes or a typed error.
//!
//! Owns the connections, every time limit, the reaction to 401 and 429, the request counters, and the means to wake
//! every waiting thread when the process ends.
//! Must not know resources, throttle requests (the API server's priority and fairness does that better), or log headers
//! or bodies.
//!
//! Watches, and the lists that precede them, have an agent of their own, so that a shutdown can end them at once while
//! writes are still sent.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, Response, header};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, SocksConnector};
use ureq::{Agent, Body, http};

use super::config::ClusterConfig;
use super::error::{Error, Status};
use super::request::{Method, Request, Verb};
use crate::outbound::connect::{Direct, Guard};
use crate::outbound::names::Names;
use crate::outbound::tls::TlsConnector;
use crate::permit::{Permit, Semaphore};
use crate::scaling::model::UnixMillis;
use crate::wire::time::parse_http_date;

/// Resolving, TCP and TLS together get twice this; a healthy API server needs milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The API server's timeout for a webhook is 10 s by default; this leaves time for its answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// For a whole exchange, body included. A page of 500 objects over a slow link fits.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The API server closes idle connections after 90 s. Closing them earlier keeps requests from being sent on a
/// connection that is being closed.
const IDLE_AGE_MAX: Duration = Duration::from_secs(60);

/// Upper bound on idle connections: 8 threads write, and 8 polls read Secrets, at the same time.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Each TLS connection has two buffers of each kind (plain and encrypted): 2 × (16 + 16) KB = 64 KB per watch, while
/// the library's defaults take 512 KB. A request line or a single header must fit into the output buffer, and tokens of
/// identity providers reach 8 KB.
const BUFFER_BYTES: usize = 16 * 1024;

/// The API server stores no objects above 1.5 MiB, and writes a stored byte as up to six of JSON: `<` is `\u003c`. That
/// makes 9 MiB, and leaves room for the rest of a page of one object. Of a list whose page is larger, smaller pages are
/// asked for.
pub(super) const BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// For persons' commands, which list all objects of a kind at once.
const COMMAND_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bodies up to this size need no permit: some 30 threads that read at the same time take 30 MiB at most.
const LARGE_BYTES: usize = 1024 * 1024;

/// Larger bodies are read by two threads at a time, so that one that is delivered slowly does not stop all others: 20 MiB,
/// and what is decoded of them.
static LARGE_BODIES: Semaphore = Semaphore::new(2, LARGE_BYTES);

/// Error bodies are read only for their message.
const ERROR_BODY_BYTES_MAX: u64 = 64 * 1024;

/// The status has arrived by then. A watch has no time limit for the whole, so that a body that comes byte by byte would
/// hold its thread for hours.
const ERROR_BODY_WITHIN: Duration = Duration::from_secs(5);

/// If the server asks for a longer pause than this, the error is returned, so that the caller can do something else
/// meanwhile. A watch, which has nothing else to do, asks again after this time.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Threads that resolve the name of the API server, or of its proxy.
const NAME_THREADS: usize = 2;

/// Attempts at a request that the server asked to repeat, including the first.
const TRIES_MAX: u32 = 3;

/// Pause after a 429 without a time; the same as in the API server's own clients.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// A handle that is cheap to clone; clones share connections, credential and counters.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClusterConfig,
    requests: Lane,
    watches: Lane,
    // A lock of its own, held briefly once per request.
    counts: Mutex<BTreeMap<(Verb, u16), u64>>,
    /// When the first and the last request had no answer since one had.
    silence: Mutex<Option<(Instant, Instant)>>,
}

/// An agent, and the flag that shuts it down.
struct Lane {
    agent: Agent,
    stop: Stop,
    /// When a request last had no answer in time, or lost its connection. Connections that were idle then may be as dead
    /// as the one that it used, which a firewall or a failed node has forgotten without a word, so they are not used again.
    // A lock of its own, held briefly once per request.
    distrusted_at: Mutex<Option<Instant>>,
}

/// One value of the request counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    pub verb: Verb,
    /// The HTTP status; None if there was no answer.
    pub code: Option<u16>,
    pub count: u64,
}

impl Client {
    pub fn new(config: ClusterConfig) -> Self {
        // These threads are separate, so that names of metric servers never delay this one. One is for the API server,
        // one for a proxy. The operator chose both addresses, so they are not judged.
        let guard = Guard::trusting(Arc::new(Names::new(NAME_THREADS)));
        let lane = |accept_encoding| {
            let agent = new_agent(&config, accept_encoding, &guard);
            Lane { agent, stop: Stop::default(), distrusted_at: Mutex::default() }
        };
        let requests = lane("gzip");
        // The API server never compresses a watch, and a proxy that compressed it would delay events.
        let watches = lane("identity");
        Client {
            inner: Arc::new(Inner { config, requests, watches, counts: Mutex::default(), silence: Mutex::default() }),
        }
    }

    pub fn config(&self) -> &ClusterConfig {
        &self.inner.config
    }

    /// Sends a request and reads the whole answer. Blocks for up to 30 s, and up to three times that plus 20 s if the
    /// server asks to retry later.
    pub fn send(&self, request: &Request) -> Result<Vec<u8>, Error> {
        self.send_in(&self.inner.requests, request, BODY_BYTES_MAX).map(|body| body.bytes)
    }

    /// Sends a request once, with a time limit, for callers that repeat it anyway. Nothing of it is sent after that time,
    /// not even on a new connection or with a new credential.
    pub fn send_within(&self, request: &Request, within: Duration) -> Result<Vec<u8>, Error> {
        self.send_until(request, now() + within).map(|body| body.bytes)
    }

    /// Sends a request and decodes the JSON of its answer, which may be that to a command's list of all objects.
    pub fn json<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        decode(&self.send_in(&self.inner.requests, request, COMMAND_BYTES_MAX)?.bytes)
    }

    /// Like [`Self::json`], but once and with a time limit.
    pub fn json_within<T: DeserializeOwned>(&self, request: &Request, within: Duration) -> Result<T, Error> {
        decode(&self.send_until(request, now() + within)?.bytes)
    }

    /// Sends a request once, until then.
    pub(super) fn send_until(&self, request: &Request, ends_at: Instant) -> Result<WholeBody, Error> {
        self.send_once(&self.inner.requests, request, ends_at, BODY_BYTES_MAX)
    }

    /// Sends a request, and repeats it while the server asks for that.
    pub(super) fn send_whole(&self, request: &Request) -> Result<WholeBody, Error> {
        self.send_in(&self.inner.requests, request, BODY_BYTES_MAX)
    }

    /// Returns the API server's time: the `Date` of its answer to `/version`, in whole seconds; None if it has none.
    pub fn server_time(&self) -> Result<Option<UnixMillis>, Error> {
        let lane = &self.inner.requests;
        let response = refuse_errors(self.open(lane, &Request::get_path("/version"), Limits::default())?)?;
        let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
        Ok(date.and_then(parse_http_date))
    }

    /// Like `send_whole`, but ended by `shutdown_watches`.
    pub(super) fn send_for_watch(&self, request: &Request) -> Result<WholeBody, Error> {
        self.send_in(&self.inner.watches, request, BODY_BYTES_MAX)
    }

    /// Opens an endless answer. A read fails if nothing has arrived for `read_timeout`, or immediately when
    /// `shutdown_watches` is called.
    pub fn stream(&self, request: &Request, read_timeout: Duration) -> Result<Stream, Error> {
        let response =
            self.open(&self.inner.watches, request, Limits { read: Some(read_timeout), ..Limits::default() })?;
        let response = refuse_errors(response)?;
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Stream { reader, client: self.clone() })
    }

    /// Ends every watch immediately and refuses new ones. Other requests continue.
    pub fn shutdown_watches(&self) {
        self.inner.watches.shutdown();
    }

    /// Ends all requests immediately.
    pub fn shutdown(&self) {
        self.inner.watches.shutdown();
        self.inner.requests.shutdown();
    }

    pub(super) fn watch_stop(&self) -> &Stop {
        &self.inner.watches.stop
    }

    /// Requests sent so far, including every retry, ordered by verb and code.
    pub fn request_counts(&self) -> Vec<RequestCount> {
        let counts = self.counts();
        let line = |(&(verb, code), &count): (&(Verb, u16), &u64)| RequestCount {
            verb,
            code: (code != 0).then_some(code),
            count,
        };
        counts.iter().map(line).collect()
    }

    /// Returns when the first and the last of the requests failed that had no answer since one had; None if the last one had.
    pub fn silence(&self) -> Option<(Instant, Instant)> {
        *self.inner.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a request went, or that more of a stream arrived. A proxy that answers in the API server's place is no
    /// answer.
    fn note_answer(&self, code: u16) {
        let mut silence = self.inner.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let is_answer = !matches!(code, 0 | 502..=504);
        *silence = (!is_answer).then(|| (silence.map_or_else(now, |(first, _)| first), now()));
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<(Verb, u16), u64>> {
        self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repeats a request while the server asks for it, within limits.
    fn send_in(&self, lane: &Lane, request: &Request, bytes_max: u64) -> Result<WholeBody, Error> {
        let mut tries = 1;
        loop {
            let error = match self.send_once(lane, request, now() + CALL_TIMEOUT, bytes_max) {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            let Some(wait) = wait_before_retry(&error, tries) else {
                return Err(error);
            };
            debug!(verb = request.verb.as_str(), wait_ms = wait.as_millis(); "api server asks to come back later");
            if lane.stop.wait(wait, || false) {
                return Err(Error::Shutdown);
            }
            tries += 1;
        }
    }

    fn send_once(&self, lane: &Lane, request: &Request, ends_at: Instant, bytes_max: u64) -> Result<WholeBody, Error> {
        let limits = Limits { ends_at: Some(ends_at), ..Limits::default() };
        let response = refuse_errors(self.open(lane, request, limits)?)?;
        read_body(response, bytes_max, &LARGE_BODIES, ends_at).map_err(|error| lane.explain(error))
    }

    /// Sends a request and waits for the response headers, renewing the credential once if it is refused.
    fn open(&self, lane: &Lane, request: &Request, limits: Limits) -> Result<Response<Body>, Error> {
        let credential = &self.inner.config.credential;
        let sent = credential.header(now());
        let response = self.exchange(lane, request, sent.as_ref(), limits)?;
        if response.status() != 401 || !credential.renew(sent.as_ref(), now()) {
            return Ok(response);
        }
        drop(response);
        let renewed = credential.header(now());
        self.exchange(lane, request, renewed.as_ref(), limits)
    }

    /// Sends a request and waits for the response headers. A kept-alive connection may be closed just when it is
    /// reused, or be dead without anybody knowing, which says nothing about the server, so one more attempt uses a fresh
    /// connection.
    fn exchange(
        &self,
        lane: &Lane,
        request: &Request,
        authorization: Option<&HeaderValue>,
        limits: Limits,
    ) -> Result<Response<Body>, Error> {
        let run = |idle| self.run(lane, request, authorization, Limits { idle, ..limits });
        let result = match run(lane.trusted_idle()) {
            Err(error) if request.idempotent && is_lost(&error) => {
                debug!(verb = request.verb.as_str(), error:%; "connection lost before an answer, trying again");
                lane.distrust_idle();
                // A new connection results from accepting no idle connection of any age.
                run(Some(Duration::ZERO))
            }
            result => result,
        };
        result.map_err(|error| lane.explain(Error::from_ureq("request", error)))
    }

    fn run(
        &self,
        lane: &Lane,
        request: &Request,
        authorization: Option<&HeaderValue>,
        limits: Limits,
    ) -> Result<Response<Body>, ureq::Error> {
        if limits.ends_at.is_some_and(|at| at <= now()) {
            return Err(ureq::Error::Timeout(ureq::Timeout::Global));
        }
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", self.inner.config.server, request.path_and_query))
            .header(header::ACCEPT, request.accept);
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if let Some(content_type) = request.content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        let bodyless = request.body.is_empty() && matches!(request.method, Method::Get | Method::Delete);
        let result = if bodyless {
            let request = with_limits(&lane.agent, builder.body(())?, limits);
            lane.agent.run(request)
        } else {
            let body = request.body.as_slice();
            let request = with_limits(&lane.agent, builder.body(body)?, limits);
            lane.agent.run(request)
        };
        let code = result.as_ref().map_or(0, |response| response.status().as_u16());
        *self.counts().entry((request.verb, code)).or_default() += 1;
        self.note_answer(code);
        result
    }
}

fn new_agent(config: &ClusterConfig, accept_encoding: &str, guard: &Guard) -> Agent {
    let settings = Agent::config_builder()
        .http_status_as_error(false)
        // Set explicitly, since the library would take a proxy from the environment, but only the kubeconfig says how
        // to reach this server.
        .proxy(config.proxy.clone())
        .max_redirects(0)
        .user_agent(concat!("hpalite/", env!("CARGO_PKG_VERSION")))
        .accept_encoding(accept_encoding)
        .max_idle_connections(IDLE_CONNECTIONS_MAX)
        .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
        .max_idle_age(IDLE_AGE_MAX)
        .input_buffer_size(BUFFER_BYTES)
        .output_buffer_size(BUFFER_BYTES)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_send_request(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_global(Some(CALL_TIMEOUT))
        .build();
    let connector =
        ().chain(SocksConnector::default())
            .chain(ConnectProxyConnector::default())
            .chain(Direct::new(guard.clone()))
            .chain(TlsConnector(config.tls.clone()));
    Agent::with_parts(settings, connector, guard.clone())
}

/// The limits of one request that differ from the agent's settings.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    /// For a stream, a limit per read replaces that for the whole.
    read: Option<Duration>,
    /// For a request and its repeats together, since a write must end before the Lease can.
    ends_at: Option<Instant>,
    /// Uses no connection that was idle for longer.
    idle: Option<Duration>,
}

fn with_limits<S: ureq::AsSendBody>(agent: &Agent, request: http::Request<S>, limits: Limits) -> http::Request<S> {
    if limits == Limits::default() {
        return request;
    }
    let mut settings = agent.configure_request(request);
    if let Some(read) = limits.read {
        settings = settings.timeout_global(None).timeout_per_read(Some(read));
    }
    if let Some(at) = limits.ends_at {
        settings = settings.timeout_global(Some(at.saturating_duration_since(now())));
    }
    if let Some(idle) = limits.idle {
        settings = settings.max_idle_age(idle);
    }
    settings.build()
}

/// Whether the connection failed, and not the server: closed, reset, or nothing of what was sent was acknowledged.
fn is_lost(error: &ureq::Error) -> bool {
    use io::ErrorKind as K;
    let ureq::Error::Io(error) = error else {
        return false;
    };
    matches!(error.kind(), K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::TimedOut)
}

/// Turns an answer other than 2xx into an error. That includes redirects: the API server needs none, and following one
/// would send the credential elsewhere.
fn refuse_errors(response: Response<Body>) -> Result<Response<Body>, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(Duration::from_secs);
    let code = status.as_u16();
    // The status alone is an answer: if the body is cut off, only its message is lost.
    let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let body = read_until(reader.take(ERROR_BODY_BYTES_MAX), now() + ERROR_BODY_WITHIN);
    Err(Status::parse(code, retry_after, &body).into())
}

/// Returns what arrives until then, or until the end. A read that waits then ends by the request's own limits.
fn read_until(mut reader: impl Read, until: Instant) -> Vec<u8> {
    let (mut body, mut part) = (Vec::new(), [0; 4096]);
    while now() < until {
        match reader.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(amount) => body.extend_from_slice(&part[..amount]),
        }
    }
    body
}

/// A body that was read to its end. One that is large keeps others from being read until it is dropped.
pub(super) struct WholeBody {
    pub(super) bytes: Vec<u8>,
    _permit: Permit<'static>,
}

/// Reads a body. From its second megabyte on that takes a permit, which is waited for until `ends_at`.
fn read_body(
    response: Response<Body>,
    bytes_max: u64,
    permits: &'static Semaphore,
    ends_at: Instant,
) -> Result<WholeBody, Error> {
    let broken = |error| Error::from_io("response body", error);
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_with_config().limit(bytes_max).reader();
    reader.by_ref().take(LARGE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(broken)?;
    let permit = permits.acquire(bytes.len(), ends_at);
    let permit = permit.ok_or(Error::Timeout { phase: "other large answers were read first".into() })?;
    reader.read_to_end(&mut bytes).map_err(broken)?;
    Ok(WholeBody { bytes, _permit: permit })
}

/// Returns the pause before a request is repeated, if it is. Only what the server itself asks to repeat is: 429, and
/// 5xx with a `Retry-After`.
fn wait_before_retry(error: &Error, tries: u32) -> Option<Duration> {
    let status = error.status()?;
    let wait = match (status.code, status.retry_after) {
        (429, None) => RETRY_AFTER_DEFAULT,
        (429 | 500..=599, Some(wait)) => wait,
        _ => return None,
    };
    (tries < TRIES_MAX && wait <= RETRY_AFTER_MAX).then_some(wait)
}

pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|source| Error::Decode { what: short_type_name::<T>(), source: Box::new(source) })
}

/// Returns the last segment of a type's path, for messages.
fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let end = name.find('<').unwrap_or(name.len());
    let start = name[..end].rfind("::").map_or(0, |at| at + 2);
    &name[start..end]
}

fn now() -> Instant {
    Instant::now()
}

/// An open watch that returns bytes as they arrive.
pub struct Stream {
    reader: ureq::BodyReader<'static>,
    client: Client,
}

impl Stream {
    /// Like `Read::read`, with this module's error type.
    pub fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let lane = &self.client.inner.watches;
        match self.reader.read(buffer) {
            // A socket that was shut down can look like an orderly end.
            Ok(0) if lane.stop.is_set() => Err(Error::Shutdown),
            Ok(amount) => {
                if amount > 0 {
                    self.client.note_answer(200);
                }
                Ok(amount)
            }
            Err(error) => Err(lane.explain(Error::from_io("stream", error))),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl Lane {
    fn shutdown(&self) {
        self.stop.set();
        self.agent.clone().shutdown();
    }

    /// Returns how long a connection may have been idle to be used again, if less than usual.
    fn trusted_idle(&self) -> Option<Duration> {
        let distrusted_at = *self.distrusted_at.lock().unwrap_or_else(PoisonError::into_inner);
        distrusted_at.map(|at| at.elapsed()).filter(|idle| *idle < IDLE_AGE_MAX)
    }

    /// Uses no connection again that is idle now.
    fn distrust_idle(&self) {
        *self.distrusted_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Notes a silence. After a shutdown, that is the cause of every failure.
    fn explain(&self, error: Error) -> Error {
        if matches!(error, Error::Timeout { .. }) {
            self.distrust_idle();
        }
        if self.stop.is_set() { Error::Shutdown } else { error }
    }
}

/// A flag that threads can wait for.
#[derive(Default)]
pub(super) struct Stop {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.flag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Makes every waiting thread check its own reason to stop.
    pub(super) fn notify(&self) {
        // Locked so that no thread is between its check and its wait.
        drop(self.lock());
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.lock()
    }

    /// Waits; returns true if it ended early because of the flag or `also`.
    pub(super) fn wait(&self, timeout: Duration, also: impl Fn() -> bool) -> bool {
        let (stopped, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |stopped| !*stopped && !also())
            .unwrap_or_else(PoisonError::into_inner);
        *stopped || also()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.inner.config).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, seconds: Option<u64>) -> Error {
        Status::parse(code, seconds.map(Duration::from_secs), b"").into()
    }

    #[test]
    fn only_what_the_server_asks_for_is_repeated() {
        let second = Duration::from_secs(1);
        let table = [
            (refusal(429, None), 1, Some(second)),
            (refusal(429, Some(10)), 2, Some(10 * second)),
            (refusal(429, Some(11)), 1, None),
            (refusal(429, Some(1)), TRIES_MAX, None),
            (refusal(503, Some(1)), 1, Some(second)),
            (refusal(503, None), 1, None),
            (refusal(409, Some(1)), 1, None),
            (Error::Shutdown, 1, None),
        ];
        for (error, tries, expected) in table {
            assert_eq!(wait_before_retry(&error, tries), expected, "{error} {tries}");
        }
    }

    #[test]
    fn the_api_server_is_silent_from_the_first_failure_until_an_answer() {
        let mut codes = vec![404, 503, 502, 200].into_iter();
        let client = super::super::fake::client(move |_, _| (codes.next().expect("so many"), String::new()));
        let mut silences = Vec::new();
        for _ in 0..4 {
            let _ = client.send(&Request::get_path("/livez"));
            silences.push(client.silence());
        }
        let [None, Some((first, once)), Some((again, twice)), None] = silences[..] else { panic!("{silences:?}") };
        assert!(first == again && first <= once && once <= twice, "{silences:?}");
    }

    /// Regression: a proxy that sent the body of an error byte by byte held a watch's thread for hours.
    #[test]
    fn a_body_of_an_error_that_does_not_end_is_cut_off() {
        // The time is over before the first byte.
        let mut body = io::repeat(b'.').take(3);
        assert_eq!(read_until(&mut body, now()), b"");
        assert_eq!(body.limit(), 3, "the rest is not waited for");
        let later = now() + Duration::from_secs(60);
        assert_eq!(read_until(&b"no such watch"[..], later), b"no such watch");
    }

    #[test]
    fn types_have_short_names_in_messages() {
        assert_eq!(short_type_name::<Status>(), "Status");
        assert_eq!(short_type_name::<Vec<Status>>(), "Vec");
        let error = decode::<u8>(b"x").expect_err("not a number");
        assert!(error.to_string().starts_with("cannot read u8: "), "{error}");
    }
}
