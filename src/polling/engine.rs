//! The thread that drives all requests to metric servers at once, with epoll, and blocks on none of them.
//!
//! Owns all connections to metric servers, in use and idle. A slow server costs the memory of its request and no thread;
//! from one that sends a lot, one buffer is read before the next connection is served. Requests that must block, such as
//! those through a proxy, run on a worker.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use ureq::{Error, Timeout};

use super::exchange::{BUFFER, Exchange, RawResponse};
use super::failed;
use super::fault::{Asked, explain, is_cut, not_asked, was_cut};
use super::link::{CLIENTS_MAX, IDLE_AGE_MAX, IDLE_MAX, IDLE_MAX_OF_ONE, IDLE_PER_SERVER_MAX, Input, Link};
use super::proxied::Proxied;
use super::proxy::ProxySettings;
use super::redirect::{redirect, server_of};
use super::request::{Hop, Request, TlsMaterial};
use super::tls::{self, Roots};
use crate::outbound::connect::{judged, place, unresolved};
use crate::outbound::names::{Look, Names, PATIENCE};
use crate::outbound::networks::Rules;
use crate::scaling::event::{ErrorClass, PollError};
use crate::workers::{Closure, Workers};

/// As many as KEDA follows.
const REDIRECTS_MAX: usize = 10;

/// Socket events that are handled before the inbox is read again.
const EVENTS: usize = 64;

/// Event data of the wake-up descriptor; the ids of connections follow it.
const WAKE: u64 = 0;

/// Minimum time for connecting to one of several addresses.
const CONNECT_MIN: Duration = Duration::from_millis(10);

/// A response after redirects, with its body not yet interpreted.
pub struct Reply {
    /// `scheme://host:port` of the server that sent it.
    pub server: String,
    pub status: u16,
    /// How long an overloaded server asks not to be queried.
    pub rest: Option<Duration>,
    /// Decompressed; ends after [`super::exchange::BODY_MAX`] + 1 bytes.
    pub body: Vec<u8>,
}

pub(super) type Done = Box<dyn FnOnce(Result<Reply, PollError>) + Send>;

/// A request, and what to do with its response.
pub(super) struct PendingRequest {
    pub(super) request: Request,
    /// The whole time limit, for error texts.
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// Called on the engine's thread, so it must not wait.
    pub(super) done: Done,
}

pub(super) enum Message {
    Ask(Box<PendingRequest>),
    /// To be run at this time; must not block.
    Run(Instant, Closure),
    /// The result of a request that a worker sent through a proxy.
    Asked(u64, Box<Result<RawResponse, Error>>),
    /// A name was looked up.
    Named,
    Stop,
}

/// Messages to the engine, and the descriptor that wakes it.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Queue {
    messages: Vec<Message>,
    /// The engine blocks in `epoll_wait` and must be woken.
    is_asleep: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, message: Message) {
        let mut queue = self.lock();
        queue.messages.push(message);
        if std::mem::take(&mut queue.is_asleep) {
            drop(queue);
            // Cannot fail: the descriptor's counter never fills, since it counts at most one for each message.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

/// The settings of the engine.
pub(super) struct Setup {
    pub(super) roots: Roots,
    pub(super) proxy: ProxySettings,
    pub(super) user_agent: String,
    pub(super) names: Arc<Names>,
    pub(super) rules: Arc<Rules>,
    pub(super) provider: Arc<CryptoProvider>,
    /// Whether connections are used again.
    pub(super) keep_alive: bool,
}

pub(super) struct Engine {
    setup: Setup,
    proxied: Arc<Proxied>,
    workers: Workers,
    inbox: Arc<Inbox>,
    epoll: OwnedFd,
    tasks: HashMap<u64, Box<Task>>,
    /// The task of each connection in use.
    owners: HashMap<u64, u64>,
    clients: Vec<Client>,
    last_id: u64,
    /// Closures to run, with their time.
    planned: Vec<(Instant, Closure)>,
    /// Buffers that all requests share: for bytes of a socket, and for decompression.
    room: Vec<u8>,
    scratch: Vec<u8>,
}

/// A TLS identity and its idle connections.
struct Client {
    id: u64,
    material: TlsMaterial,
    tls: Arc<ClientConfig>,
    /// The most recently used one is last.
    idle: VecDeque<Idle>,
    used: Instant,
}

struct Idle {
    wire: Wire,
    server: String,
    since: Instant,
}

struct Wire {
    id: u64,
    link: Link,
    interest: EventFlags,
}

/// A request in flight.
struct Task {
    id: u64,
    pending: PendingRequest,
    hop: Hop,
    redirects: usize,
    server: String,
    /// The request is sent for the second time, on a new connection, since the first was closed before a response began.
    is_second: bool,
    client: u64,
    stage: Stage,
    /// Deadline of this stage.
    until: Instant,
    /// The name whose look-up this request waits for.
    name: Option<String>,
    /// Addresses still to be tried.
    addresses: VecDeque<SocketAddr>,
    tried: Vec<SocketAddr>,
    /// The name was looked up again because no address answered.
    looked_again: bool,
    failure: Option<Error>,
    wire: Option<Wire>,
    exchange: Option<Exchange>,
    /// The encoded request, until there is a connection.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Naming,
    Connecting,
    Shaking,
    Talking,
    /// A worker sends the request through a proxy.
    Away,
}

enum Next {
    Wait,
    Response(RawResponse),
}

enum Fault {
    Http(Error),
    Poll(PollError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Http(error)
    }
}

impl From<PollError> for Fault {
    fn from(error: PollError) -> Self {
        Self::Poll(error)
    }
}

type Progress = Result<Next, Fault>;

impl Engine {
    /// Starts the thread. It ends with [`Message::Stop`].
    pub(super) fn start(setup: Setup, workers: Workers) -> io::Result<Arc<Inbox>> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let inbox = Arc::new(Inbox { queue: Mutex::default(), wake });
        let listener = Arc::downgrade(&inbox);
        setup.names.on_end(Arc::new(move || {
            if let Some(inbox) = listener.upgrade() {
                inbox.push(Message::Named);
            }
        }));
        let proxied = Arc::new(Proxied {
            user_agent: setup.user_agent.clone(),
            names: Arc::clone(&setup.names),
            rules: Arc::clone(&setup.rules),
            keep_alive: setup.keep_alive,
            clients: Mutex::default(),
        });
        let engine = Self {
            setup,
            proxied,
            workers,
            inbox: Arc::clone(&inbox),
            epoll,
            tasks: HashMap::new(),
            owners: HashMap::new(),
            clients: Vec::new(),
            last_id: WAKE,
            planned: Vec::new(),
            room: vec![0; BUFFER],
            scratch: vec![0; BUFFER],
        };
        thread::Builder::new().name("poll".to_owned()).spawn(move || engine.run())?;
        Ok(inbox)
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let messages = std::mem::take(&mut self.inbox.lock().messages);
            for message in messages {
                match message {
                    Message::Ask(pending) => self.ask(*pending),
                    Message::Run(at, work) => self.planned.push((at, work)),
                    Message::Asked(id, result) => {
                        if let Some(task) = self.tasks.remove(&id) {
                            self.drive(task, |_, _| Ok(Next::Response((*result)?)));
                        }
                    }
                    Message::Named => self.each(|task| task.stage == Stage::Naming, Self::resolve),
                    Message::Stop => return,
                }
            }
            let timeout = {
                let mut queue = self.inbox.lock();
                queue.is_asleep = queue.messages.is_empty();
                if queue.is_asleep { self.timeout() } else { Some(Duration::ZERO) }
            };
            let timeout = timeout.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // Only a closed descriptor can cause this, which would be a bug.
                Err(error) => panic!("epoll_wait failed: {error}"),
            }
            self.inbox.lock().is_asleep = false;
            for event in &events {
                match event.data.u64() {
                    WAKE => drop(rustix::io::read(&self.inbox.wake, &mut [0; 8])),
                    id => self.ready(id),
                }
            }
            self.expire(Instant::now());
        }
    }

    /// Returns the time until the next deadline, of a stage or of an idle connection.
    fn timeout(&self) -> Option<Duration> {
        let oldest = self.clients.iter().filter_map(|client| client.idle.front());
        let ends = oldest.map(|idle| idle.since + IDLE_AGE_MAX);
        let planned = self.planned.iter().map(|(at, _)| *at);
        let first = self.tasks.values().map(|task| task.until).chain(ends).chain(planned).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn expire(&mut self, now: Instant) {
        for (_, work) in self.planned.extract_if(.., |(at, _)| *at <= now) {
            work();
        }
        for client in &mut self.clients {
            while client.idle.front().is_some_and(|idle| now >= idle.since + IDLE_AGE_MAX) {
                client.idle.pop_front();
            }
        }
        self.each(
            |task| now >= task.until,
            |engine, task| match task.stage {
                Stage::Naming => engine.resolve(task),
                Stage::Connecting if now < task.pending.deadline => {
                    task.failure = Some(late());
                    engine.connect(task)
                }
                _ => {
                    // Nobody may be left at the address: a packet to a pod that is gone is not even refused.
                    engine.suspect(task);
                    Err(late().into())
                }
            },
        );
    }

    fn each(&mut self, which: impl Fn(&Task) -> bool, turn: impl Fn(&mut Self, &mut Task) -> Progress) {
        let ids: Vec<u64> = self.tasks.values().filter(|task| which(task)).map(|task| task.id).collect();
        for id in ids {
            if let Some(task) = self.tasks.remove(&id) {
                self.drive(task, &turn);
            }
        }
    }

    /// Continues the task whose socket has become readable or writable.
    fn ready(&mut self, id: u64) {
        let Some(owner) = self.owners.get(&id) else { return self.look_at_idle(id) };
        let Some(task) = self.tasks.remove(owner) else { return };
        self.drive(task, |engine, task| match task.stage {
            Stage::Connecting => engine.connected(task),
            Stage::Shaking => engine.shake(task),
            Stage::Talking => engine.talk(task),
            Stage::Naming | Stage::Away => Ok(Next::Wait),
        });
    }

    fn ask(&mut self, pending: PendingRequest) {
        let Ok(uri) = pending.request.url.parse() else {
            let message = format!("no valid request can be made for {}", pending.request.server);
            return (pending.done)(Err(failed(ErrorClass::Configuration, message)));
        };
        let hop = Hop { method: pending.request.method, uri, with_secrets: true };
        self.last_id += 1;
        let task = Task {
            id: self.last_id,
            until: pending.deadline,
            pending,
            hop,
            redirects: 0,
            server: String::new(),
            is_second: false,
            client: 0,
            stage: Stage::Naming,
            name: None,
            addresses: VecDeque::new(),
            tried: Vec::new(),
            looked_again: false,
            failure: None,
            wire: None,
            exchange: None,
            bytes: Vec::new(),
        };
        self.drive(Box::new(task), Self::begin);
    }

    /// Runs one step of a task and those that follow from it, until the task has to wait or has ended.
    fn drive(&mut self, mut task: Box<Task>, turn: impl FnOnce(&mut Self, &mut Task) -> Progress) {
        let mut result = turn(self, &mut task);
        loop {
            result = match result {
                Ok(Next::Wait) => {
                    self.tasks.insert(task.id, task);
                    return;
                }
                Ok(Next::Response(answer)) => match self.follow_or_reply(&mut task, answer) {
                    Ok(Some(reply)) => return self.finish(*task, Ok(reply)),
                    Ok(None) => self.begin(&mut task),
                    Err(error) => return self.finish(*task, Err(error)),
                },
                // A server may close an idle connection just as it is used. Sending the request again is harmless, since
                // a query changes nothing, and happens at most once, since it uses a new connection.
                Err(Fault::Http(error)) if task.may_ask_again(&error) => {
                    self.hang_up(&mut task);
                    task.is_second = true;
                    self.begin(&mut task)
                }
                Err(Fault::Http(error)) => {
                    let asked = Asked {
                        server: &task.server,
                        timeout: task.pending.timeout,
                        through_proxy: task.stage == Stage::Away,
                    };
                    let error = explain(&error, asked);
                    return self.finish(*task, Err(error));
                }
                Err(Fault::Poll(error)) => return self.finish(*task, Err(error)),
            };
        }
    }

    fn finish(&mut self, mut task: Task, result: Result<Reply, PollError>) {
        self.hang_up(&mut task);
        self.stop_waiting(&mut task);
        (task.pending.done)(result);
    }

    /// Starts a hop: the first request or a redirect.
    fn begin(&mut self, task: &mut Task) -> Progress {
        task.server = server_of(&task.hop.uri);
        (task.stage, task.until) = (Stage::Naming, task.pending.deadline);
        (task.looked_again, task.failure, task.exchange) = (false, None, None);
        task.tried.clear();
        let uri = &task.hop.uri;
        let host = uri.host().unwrap_or_default();
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let is_trusted = task.is_trusted();
        let proxy = self.setup.proxy.proxy_for(https, host, port).map(str::to_owned);
        // No proxy leads to a metadata service, which the operator may choose by its address.
        let proxy = proxy.filter(|_| !is_trusted || host.parse::<IpAddr>().is_err());
        let proxy = proxy.filter(|_| !task.pending.request.direct);
        if proxy.is_some() && !is_trusted {
            self.setup.rules.judge_unresolved(host, port).map_err(|refused| not_asked(&task.server, &refused))?;
        }
        let tls = self.client(task)?;
        match proxy {
            Some(proxy) => {
                task.stage = Stage::Away;
                self.send_away(task, proxy, tls);
                Ok(Next::Wait)
            }
            None => self.resolve(task),
        }
    }

    fn send_away(&self, task: &Task, proxy: String, tls: Arc<ClientConfig>) {
        let (id, inbox, proxied) = (task.id, Arc::clone(&self.inbox), Arc::clone(&self.proxied));
        let (request, hop, deadline) = (task.pending.request.clone(), task.hop.clone(), task.pending.deadline);
        self.workers.run(Box::new(move || {
            let result = proxied.ask(&request, &hop, (&proxy, &tls), deadline);
            inbox.push(Message::Asked(id, Box::new(result)));
        }));
    }

    /// Returns the TLS settings for the identity that this hop presents, and creates them if they are new.
    fn client(&mut self, task: &mut Task) -> Result<Arc<ClientConfig>, PollError> {
        let now = Instant::now();
        let material = task.hop.identity(&task.pending.request);
        if let Some(client) = self.clients.iter_mut().find(|client| client.material == material) {
            client.used = now;
            task.client = client.id;
            return Ok(Arc::clone(&client.tls));
        }
        let tls = tls::client(&material, &self.setup.roots, &self.setup.provider)
            .map_err(|why| failed(ErrorClass::Authentication, format!("cannot ask {}: {why}", task.server)))?;
        if self.clients.len() >= CLIENTS_MAX
            && let Some(oldest) = (0..self.clients.len()).min_by_key(|at| self.clients[*at].used)
        {
            self.clients.swap_remove(oldest);
        }
        self.last_id += 1;
        let (id, tls) = (self.last_id, Arc::new(tls));
        task.client = id;
        self.clients.push(Client { id, material, tls: Arc::clone(&tls), idle: VecDeque::new(), used: now });
        Ok(tls)
    }

    /// Resolves the host to addresses that may be contacted. If outdated addresses are known, waits only [`PATIENCE`].
    fn resolve(&mut self, task: &mut Task) -> Progress {
        let uri = &task.hop.uri;
        let (host, port) = place(uri).ok_or_else(|| Error::BadUri("it names no host and port".to_owned()))?;
        let addresses: Arc<[IpAddr]> = match host.parse() {
            Ok(address) => Arc::from([address]),
            Err(_) => match self.setup.names.look(host, task.name.is_some()) {
                Look::Known(addresses) => addresses,
                Look::Failed(failure) => return self.unresolved(task, unresolved(failure, Timeout::Resolve)),
                Look::Wanted(usable) => {
                    let now = Instant::now();
                    if task.name.is_none() {
                        task.name = Some(host.to_owned());
                        task.stage = Stage::Naming;
                        task.until = task.pending.deadline;
                        if usable.is_some() {
                            task.until = task.until.min(now + PATIENCE);
                        }
                    }
                    match usable {
                        Some(usable) if now >= task.until && now < task.pending.deadline => usable,
                        _ if now >= task.until => return self.unresolved(task, late()),
                        _ => return Ok(Next::Wait),
                    }
                }
            },
        };
        self.stop_waiting(task);
        task.until = task.pending.deadline;
        let rules = (!task.is_trusted()).then_some(&*self.setup.rules);
        let addresses = match judged(rules, &addresses, port) {
            Ok(addresses) => addresses,
            Err(error) => return self.unresolved(task, error),
        };
        if task.looked_again {
            if addresses.iter().all(|address| task.tried.contains(address)) {
                return Err(task.failure.take().unwrap_or(Error::ConnectionFailed).into());
            }
        } else {
            let (exchange, bytes) =
                Exchange::begin(&task.pending.request, &task.hop, &self.setup.user_agent, &mut self.room)?;
            task.exchange = Some(exchange);
            let kept = if task.is_second { None } else { self.take_idle(task) };
            if let Some(mut wire) = kept {
                self.owners.insert(wire.id, task.id);
                wire.link.send(bytes);
                task.wire = Some(wire);
                return self.talk(task);
            }
            task.bytes = bytes;
        }
        task.addresses = addresses.into();
        self.connect(task)
    }

    /// Fails with the error of the addresses that were tried before, if any, since it says more than that of a look-up.
    fn unresolved(&mut self, task: &mut Task, error: Error) -> Progress {
        self.stop_waiting(task);
        Err(task.failure.take().unwrap_or(error).into())
    }

    fn stop_waiting(&self, task: &mut Task) {
        if let Some(name) = task.name.take() {
            self.setup.names.leave(&name);
        }
    }

    /// Connects to the next address. Each gets half of the time that is left, and the last one all of it.
    fn connect(&mut self, task: &mut Task) -> Progress {
        self.hang_up(task);
        while let Some(address) = task.addresses.pop_front() {
            task.tried.push(address);
            match Link::connect(address) {
                Ok(link) => {
                    self.last_id += 1;
                    let wire = Wire { id: self.last_id, link, interest: EventFlags::OUT };
                    epoll::add(&self.epoll, &wire.link, EventData::new_u64(wire.id), wire.interest)
                        .map_err(|error| Error::Io(error.into()))?;
                    self.owners.insert(wire.id, task.id);
                    task.wire = Some(wire);
                    task.stage = Stage::Connecting;
                    let now = Instant::now();
                    let left = task.pending.deadline.saturating_duration_since(now);
                    let share = if task.addresses.is_empty() { left } else { (left / 2).max(CONNECT_MIN) };
                    task.until = now + share;
                    return Ok(Next::Wait);
                }
                Err(error) if is_of_one_address(&error) => task.failure = Some(error.into()),
                Err(error) => return Err(Error::Io(error).into()),
            }
        }
        if !std::mem::replace(&mut task.looked_again, true) && self.suspect(task) {
            return self.resolve(task);
        }
        Err(task.failure.take().unwrap_or(Error::ConnectionFailed).into())
    }

    /// Has the name of the server looked up before it is used again. Returns whether that may find other addresses now.
    fn suspect(&self, task: &Task) -> bool {
        let named = place(&task.hop.uri).map(|(host, _)| host).filter(|host| host.parse::<IpAddr>().is_err());
        named.is_some_and(|host| self.setup.names.suspect(host))
    }

    fn connected(&mut self, task: &mut Task) -> Progress {
        let Some(wire) = &mut task.wire else { return Err(Error::ConnectionFailed.into()) };
        match wire.link.connected() {
            Ok(()) => {}
            Err(error) if is_of_one_address(&error) => {
                task.failure = Some(error.into());
                return self.connect(task);
            }
            Err(error) => return Err(Error::Io(error).into()),
        }
        task.until = task.pending.deadline;
        if task.hop.uri.scheme_str() == Some("https") {
            let client = self.clients.iter().find(|client| client.id == task.client);
            let tls = client.map(|client| &client.tls).ok_or(Error::TlsRequired)?;
            wire.link.secure(tls, task.hop.uri.host().unwrap_or_default())?;
            return self.shake(task);
        }
        wire.link.send(std::mem::take(&mut task.bytes));
        self.talk(task)
    }

    fn shake(&mut self, task: &mut Task) -> Progress {
        task.stage = Stage::Shaking;
        let Some(wire) = &mut task.wire else { return Err(Error::ConnectionFailed.into()) };
        if wire.link.shake()? {
            wire.link.send(std::mem::take(&mut task.bytes));
            return self.talk(task);
        }
        self.arm(task)
    }

    /// Sends pending bytes, and reads up to one buffer.
    fn talk(&mut self, task: &mut Task) -> Progress {
        let (Some(wire), Some(exchange)) = (&mut task.wire, &mut task.exchange) else {
            return Err(Error::ConnectionFailed.into());
        };
        // There cannot be a response to a request that has just been sent.
        let begins = task.stage != Stage::Talking;
        task.stage = Stage::Talking;
        if wire.link.wants_to_write()
            && let Err(error) = wire.link.flush()
        {
            // A server that closed the connection may have sent a TLS alert with the reason.
            return match wire.link.read(&mut self.room) {
                Err(error @ Error::Rustls(_)) => Err(error.into()),
                _ => Err(error.into()),
            };
        }
        if begins {
            return self.arm(task);
        }
        loop {
            match wire.link.read(&mut self.room) {
                Ok(Input::Bytes(count)) => {
                    if let Some(answer) = exchange.push(&self.room[..count], &mut self.scratch)? {
                        return Ok(Next::Response(answer));
                    }
                    if !wire.link.has_more() {
                        break;
                    }
                }
                Ok(Input::Nothing) => break,
                Ok(Input::End) => return Ok(Next::Response(exchange.end()?)),
                // A server may end a body without a length by closing the connection, even abruptly.
                Err(Error::Io(error)) if !exchange.awaits_head() && is_cut(error.kind()) => {
                    return Ok(Next::Response(exchange.end()?));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.arm(task)
    }

    /// Registers the socket events that the connection waits for.
    fn arm(&self, task: &mut Task) -> Progress {
        let Some(wire) = &mut task.wire else { return Err(Error::ConnectionFailed.into()) };
        let out = if wire.link.wants_to_write() { EventFlags::OUT } else { EventFlags::empty() };
        let interest = EventFlags::IN | out;
        if wire.interest != interest {
            epoll::modify(&self.epoll, &wire.link, EventData::new_u64(wire.id), interest)
                .map_err(|error| Error::Io(error.into()))?;
            wire.interest = interest;
        }
        Ok(Next::Wait)
    }

    /// Returns the reply, or `None` if the response is a redirect, which becomes the task's next hop.
    fn follow_or_reply(&mut self, task: &mut Task, answer: RawResponse) -> Result<Option<Reply>, PollError> {
        if answer.reusable {
            self.keep(task);
        }
        self.hang_up(task);
        let RawResponse { status, location, rest, body, .. } = answer;
        let server = std::mem::take(&mut task.server);
        let location = location.filter(|_| !task.pending.request.direct);
        if let Some(next) = redirect(&task.hop, status, location.as_ref())? {
            task.redirects += 1;
            if task.redirects > REDIRECTS_MAX {
                let message = format!("{} redirects more than {REDIRECTS_MAX} times", task.pending.request.server);
                return Err(failed(ErrorClass::Response, message));
            }
            task.hop = next;
            task.is_second = false;
            return Ok(None);
        }
        let request = &task.pending.request;
        if !task.hop.with_secrets && matches!(status, 401 | 403) && request.has_secrets() {
            let message = format!(
                "{} redirects to {server}, which answered status {status}: credentials go to no other scheme, host or \
                 port than those of the address, so write that address",
                request.server
            );
            return Err(failed(ErrorClass::Status, message));
        }
        Ok(Some(Reply { server, status, rest, body }))
    }

    fn hang_up(&mut self, task: &mut Task) {
        if let Some(wire) = task.wire.take() {
            self.owners.remove(&wire.id);
        }
    }

    fn take_idle(&mut self, task: &Task) -> Option<Wire> {
        let client = self.clients.iter_mut().find(|client| client.id == task.client)?;
        let at = client.idle.iter().rposition(|idle| idle.server == task.server)?;
        client.idle.remove(at).map(|idle| idle.wire)
    }

    /// Keeps the connection of a task whose response is complete.
    fn keep(&mut self, task: &mut Task) {
        let client = self.clients.iter_mut().find(|client| client.id == task.client);
        let (Some(client), Some(wire)) = (client, task.wire.take()) else { return };
        self.owners.remove(&wire.id);
        if !self.setup.keep_alive || wire.interest != EventFlags::IN || wire.link.wants_to_write() {
            return;
        }
        let max = if client.material == TlsMaterial::default() { IDLE_MAX } else { IDLE_MAX_OF_ONE };
        let same = |idle: &Idle| idle.server == task.server;
        let oldest = if client.idle.iter().filter(|idle| same(idle)).count() >= IDLE_PER_SERVER_MAX.min(max) {
            client.idle.iter().position(same)
        } else {
            (client.idle.len() >= max).then_some(0)
        };
        if let Some(oldest) = oldest {
            client.idle.remove(oldest);
        }
        client.idle.push_back(Idle { wire, server: task.server.clone(), since: Instant::now() });
    }

    /// Handles an event of an idle connection: removes it unless it is still usable. Usually the server has closed it.
    fn look_at_idle(&mut self, id: u64) {
        for client in &mut self.clients {
            if let Some(at) = client.idle.iter().position(|idle| idle.wire.id == id) {
                let is_fine = matches!(client.idle[at].wire.link.read(&mut self.room), Ok(Input::Nothing));
                if !is_fine {
                    client.idle.remove(at);
                }
                return;
            }
        }
    }
}

impl Task {
    /// Returns whether the operator chose the server of this hop.
    fn is_trusted(&self) -> bool {
        self.pending.request.trusted && self.redirects == 0
    }

    fn may_ask_again(&self, error: &Error) -> bool {
        let lost = self.exchange.as_ref().is_none_or(Exchange::awaits_head);
        lost && !self.is_second && self.stage != Stage::Away && was_cut(error)
    }
}

fn late() -> Error {
    Error::Timeout(Timeout::Global)
}

/// Returns whether connecting to another address may succeed after this error.
fn is_of_one_address(error: &io::Error) -> bool {
    use ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable)
}
