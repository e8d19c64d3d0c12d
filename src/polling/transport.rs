//! The interface of the engine: sends a request, and returns its response or passes it to a callback.
//!
//! Does not interpret responses. Must not log header values.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::engine::{Engine, Inbox, Message, PendingRequest, Setup};
use super::exchange::LARGE_BYTES;
use super::failed;
use super::proxy::ProxySettings;
use super::request::{Request, TlsMaterial};
use super::stream::{Reach, Stream, Target};
use super::tls::Roots;
use crate::outbound::names::Names;
use crate::outbound::networks::Rules;
use crate::permit::Semaphore;
use crate::scaling::event::{ErrorClass, PollError};
use crate::tls::Version;
use crate::workers::{Closure, Pool, Workers};

pub use super::engine::Reply;
pub use super::exchange::BODY_MAX;

/// Larger bodies are parsed one at a time in the whole process.
static LARGE_READS: Semaphore = Semaphore::new(1, LARGE_BYTES);

/// Bodies up to this size are parsed on the engine's thread, which takes some 20 us for JSON; larger ones on a worker.
const SHORT: usize = 8 << 10;

/// Requests that one poll sends at the same time to the endpoints of a Service, as in KEDA, or to pods.
pub(crate) const AT_ONCE: usize = 5;

/// For parts of polls that block, which most polls do not have, and for large answers, also of those who ask without being
/// polls. There is a thread for each poll under way, so that the shares that tenants have of the polls are shares of these
/// threads, too.
fn pool(poll_threads: usize) -> Pool {
    Pool { name: "poll", threads_max: (poll_threads + poll_threads / 2).max(48) }
}

/// For requests through a proxy, as many as all polls under way can send at once. A poll that blocks waits for such a request,
/// so they must not wait for the end of polls.
fn proxy_pool(poll_threads: usize) -> Pool {
    Pool { name: "proxy", threads_max: poll_threads.saturating_mul(AT_ONCE).max(48) }
}

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
    /// Polls under way at once.
    pub poll_threads: usize,
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
        let TransportConfig {
            roots,
            proxy,
            default_timeout,
            user_agent,
            names,
            rules,
            tls_min,
            keep_alive,
            poll_threads,
        } = config;
        let provider = crate::tls::provider_from(tls_min);
        let (workers, proxy_workers) = (Workers::new(pool(poll_threads)), Workers::new(proxy_pool(poll_threads)));
        let reach = Reach {
            names: Arc::clone(&names),
            rules: Arc::clone(&rules),
            roots: roots.clone(),
            provider: Arc::clone(&provider),
        };
        let inbox =
            Engine::start(Setup { roots, proxy, user_agent, names, rules, provider, keep_alive }, proxy_workers)?;
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::*;
    use crate::outbound::names;

    /// Far more than anything here takes.
    const GENEROUS: Duration = Duration::from_secs(10);

    fn transport(proxy: Option<&str>, poll_threads: usize) -> Arc<Transport> {
        let config = TransportConfig {
            roots: Roots::load(None, &[]),
            proxy: ProxySettings::from_variables(|name| proxy.filter(|_| name == "HTTP_PROXY").map(str::to_owned)),
            default_timeout: GENEROUS,
            user_agent: "hpalite/test".to_owned(),
            names: Arc::new(Names::new(names::THREADS)),
            rules: Arc::new(Rules::default()),
            tls_min: Version::default(),
            keep_alive: true,
            poll_threads,
        };
        Arc::new(Transport::new(config).unwrap())
    }

    /// Opens a tunnel, and answers the request in it itself. Returns its address.
    fn proxy() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"] {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            let mut byte = [0];
                            if stream.read(&mut byte).unwrap_or(0) == 0 {
                                return;
                            }
                            head.push(byte[0]);
                        }
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        address
    }

    /// Regression: requests through a proxy queued behind polls that waited for them, until the time limits of all.
    #[test]
    fn polls_that_wait_for_a_proxy_leave_room_for_their_requests() {
        let transport = transport(Some(&proxy()), 32);
        let polls = pool(32).threads_max;
        let all_wait = Arc::new(Barrier::new(polls));
        let (sender, answers) = mpsc::channel();
        for _ in 0..polls {
            let (transport, all_wait, sender) = (Arc::clone(&transport), Arc::clone(&all_wait), sender.clone());
            transport.clone().apart(Box::new(move || {
                all_wait.wait();
                let request = Request::get("http://10.0.0.1:9090/".to_owned(), "http://10.0.0.1:9090".to_owned());
                let answer = transport.exchange(request, GENEROUS, Instant::now() + GENEROUS, |reply| reply.status);
                sender.send(answer).unwrap();
            }));
        }
        drop(sender);
        assert_eq!(answers.iter().collect::<Vec<_>>(), vec![Ok(200); polls]);
    }

    /// Regression: with more polls at once than the default, one tenant's share of them was all threads.
    #[test]
    fn each_poll_that_may_be_under_way_has_a_thread() {
        let transport = transport(None, 128);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        // A tenant has at most half of the polls.
        for _ in 0..64 {
            let held = Arc::clone(&held);
            transport.apart(Box::new(move || {
                let _ = held.lock().unwrap().recv();
            }));
        }
        let (sender, done) = mpsc::channel();
        transport.apart(Box::new(move || {
            let _ = sender.send(());
        }));
        assert_eq!(done.recv_timeout(GENEROUS), Ok(()));
        drop(release);
    }
}
