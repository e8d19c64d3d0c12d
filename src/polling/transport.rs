//! The interface of the engine: sends a request, and returns its response or passes it to a callback.
//!
//! Does not interpret responses. Must not log header values.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::engine::{Engine, Inbox, Message, PendingRequest, Setup};
use super::failed;
use super::permit::{LARGE_BYTES, LARGE_READS};
use super::proxy::ProxySettings;
use super::request::{Request, TlsMaterial};
use super::stream::{Reach, Stream, Target};
use super::tls::Roots;
use crate::outbound::names::Names;
use crate::outbound::networks::Rules;
use crate::scaling::event::{ErrorClass, PollError};
use crate::tls::Version;
use crate::workers::{Closure, Pool, Workers};

pub use super::engine::Reply;
pub use super::exchange::BODY_MAX;

/// Bodies up to this size are parsed on the engine's thread, which takes some 20 us for JSON; larger ones on a worker.
const SHORT: usize = 8 << 10;

/// For parts of polls that block, which most polls do not have. Eight that ask all endpoints of a Service through a proxy,
/// with six threads each, can go on at once; the others wait, within their time limit.
const POOL: Pool = Pool { name: "poll", threads_max: 48 };

pub struct TransportConfig {
    pub roots: Roots,
    pub proxy: ProxySettings,
    /// For sources without a timeout of their own.
    pub default_timeout: Duration,
    /// As in `hpalite/1.2.3`.
    pub user_agent: String,
    pub names: Arc<Names>,
    /// Which addresses may be contacted.
    pub rules: Arc<Rules>,
    /// The oldest version that servers may speak.
    pub tls_min: Version,
    /// Whether connections are used again.
    pub keep_alive: bool,
}

/// The client for all metric servers, shared by threads. Its own threads end when it is dropped.
pub struct Transport {
    inbox: Arc<Inbox>,
    workers: Workers,
    default_timeout: Duration,
    reach: Reach,
}

impl Transport {
    /// # Errors
    /// If its thread cannot be started.
    pub fn new(config: TransportConfig) -> io::Result<Self> {
        let TransportConfig { roots, proxy, default_timeout, user_agent, names, rules, tls_min, keep_alive } = config;
        let provider = crate::tls::provider_from(tls_min);
        let workers = Workers::new(POOL);
        let reach = Reach {
            names: Arc::clone(&names),
            rules: Arc::clone(&rules),
            roots: roots.clone(),
            provider: Arc::clone(&provider),
        };
        let inbox =
            Engine::start(Setup { roots, proxy, user_agent, names, rules, provider, keep_alive }, workers.clone())?;
        Ok(Self { inbox, workers, default_timeout, reach })
    }

    /// Runs a closure on the engine's thread after this time; it must not block.
    pub fn after(&self, time: Duration, work: Closure) {
        self.inbox.push(Message::Run(Instant::now() + time, work));
    }

    /// Runs a closure on a worker, where it may block.
    pub(crate) fn apart(&self, work: Closure) {
        self.workers.run(work);
    }

    /// Sends the request without blocking, parses the response with `read`, and passes the result to `done`, all within
    /// `timeout` or the default. This includes the wait for the permit to parse a large body.
    pub fn ask<T: Send + 'static>(
        &self,
        request: Request,
        timeout: Option<Duration>,
        read: impl FnOnce(Reply) -> T + Send + 'static,
        done: impl FnOnce(Result<T, PollError>) + Send + 'static,
    ) {
        let timeout = self.limit(timeout);
        let deadline = Instant::now() + timeout;
        let workers = self.workers.clone();
        let done = Box::new(move |result: Result<Reply, PollError>| match result {
            Ok(reply) if reply.body.len() <= SHORT => done(Ok(read(reply))),
            Ok(reply) => workers.run(Box::new(move || done(read_with_permit(reply, deadline, read)))),
            Err(error) => done(Err(error)),
        });
        self.inbox.push(Message::Ask(Box::new(PendingRequest { request, timeout, deadline, done })));
    }

    /// As [`Self::ask`], but blocks, until a deadline that several requests share; `timeout` is their time limit in all.
    ///
    /// # Errors
    /// If there was no response, or other large bodies were parsed until the deadline.
    pub fn exchange<T>(
        &self,
        request: Request,
        timeout: Duration,
        deadline: Instant,
        read: impl FnOnce(Reply) -> T,
    ) -> Result<T, PollError> {
        // The engine responds by the deadline, and ends only with the process.
        let gone = failed(ErrorClass::Connect, format!("{} is not asked any more", request.server));
        let (sender, answer) = mpsc::sync_channel(1);
        let done = Box::new(move |result| drop(sender.send(result)));
        self.inbox.push(Message::Ask(Box::new(PendingRequest { request, timeout, deadline, done })));
        read_with_permit(answer.recv().map_err(|_| gone)??, deadline, read)
    }

    /// Connects for a protocol that is not HTTP. Blocks until the target's deadline at most.
    pub(crate) fn connect<'a>(&self, target: Target<'a>) -> Result<Stream<'a>, PollError> {
        self.reach.connect(target)
    }

    /// Uses TLS from now on.
    pub(crate) fn secure<'a>(&self, stream: Stream<'a>, material: &TlsMaterial) -> Result<Stream<'a>, PollError> {
        self.reach.secure(stream, material)
    }

    /// Returns the number of worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.threads()
    }

    /// Returns a source's own time limit, or else the default.
    #[must_use]
    pub fn limit(&self, timeout: Option<Duration>) -> Duration {
        timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(self.default_timeout)
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.inbox.push(Message::Stop);
    }
}

fn read_with_permit<T>(reply: Reply, deadline: Instant, read: impl FnOnce(Reply) -> T) -> Result<T, PollError> {
    let Some(_permit) = LARGE_READS.acquire(reply.body.len(), deadline) else {
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
