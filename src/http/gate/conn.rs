//! One connection from handshake to close: a state machine that does all it can without waiting for the client.
//!
//! Owns the session, the bytes of the request that is arriving, and the deadline of the current state. It never waits
//! for a client; it does wait for a handler, which is why slow requests are passed to patient workers.
//!
//! No body is read. A request that announces one is answered after its head, and its connection is closed, since the
//! body cannot be distinguished from a next request without reading it.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use log::{debug, trace};

use super::answer;
use super::budget::Share;
use super::client_identity::ClientIdentity;
use super::counters::{Alive, Count, Counters};
use super::head::{self, Head, Parsed};
use super::limits::{
    ANSWER_MAX, HANDSHAKE, HEAD_MAX, IDLE, IN_FREE, IN_MAX, LINGER, LINGER_BYTES, OUT_FREE, OUT_MAX, PATIENT_WAIT,
    REQUEST, TURN_MAX, WRITE,
};
use super::session::{Received, Sent, Session, SessionError};
use super::{Lane, Shared};
use crate::http::tls::TlsState;
use crate::http::{Peer, Request, Response};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Handshake,
    /// Between requests.
    Idle,
    /// Part of a request has been received.
    Reading,
    /// A whole request has been received and waits for a patient worker.
    Waiting,
    /// An answer is being sent; `then_close` if it is the last.
    Writing {
        then_close: bool,
    },
    /// Everything has been sent; what the client still sends is dropped.
    Lingering,
}

/// What to do with a connection that cannot proceed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Park until the socket is ready.
    Park,
    /// It has used up its turn; other connections go first.
    Again,
    /// A patient worker must continue.
    HandOver,
    Close,
}

pub(super) struct Conn {
    pub(super) id: u64,
    pub(super) state: State,
    /// When `state` was entered, which shows how long the client has kept the gate waiting.
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    /// Requests answered.
    pub(super) served: u64,
    /// The lane in whose epoll instance the socket is.
    pub(super) lane: Lane,
    session: Session,
    address: SocketAddr,
    client: ClientIdentity,
    input: Vec<u8>,
    /// Length of the start of `input` that is known to hold no end of a head.
    checked: usize,
    lingered: usize,
    /// Bytes that the client has sent and that are not answered yet, as counted in the gate's sum.
    received: Share,
    /// Bytes of a larger answer that the client has not read, counted likewise.
    unread: Share,
    _alive: Alive,
}

/// What a worker lends to the connection that it drives.
pub(super) struct Tools<'w> {
    pub(super) shared: &'w Shared,
    pub(super) scratch: &'w mut [u8],
    pub(super) patient: bool,
    pub(super) lane: Lane,
}

/// The result of one attempt to serve a request from `input`.
enum Served {
    /// More bytes are needed.
    No,
    /// An answer is ready to be sent.
    Yes,
    HandOver,
    /// The last verification of the client no longer holds, and another worker must repeat it.
    Unverified,
}

impl Conn {
    pub(super) fn new(id: u64, session: Session, address: SocketAddr, shared: &Shared, now: Instant) -> Conn {
        let (state, limit) = if session.is_handshaking() { (State::Handshake, HANDSHAKE) } else { (State::Idle, IDLE) };
        Conn {
            id,
            state,
            since: now,
            deadline: now + limit,
            served: 0,
            lane: Lane::Common,
            session,
            address,
            client: ClientIdentity::default(),
            input: Vec::new(),
            checked: 0,
            lingered: 0,
            received: Share::none(&shared.in_bytes),
            unread: Share::none(&shared.out_bytes),
            _alive: Alive::new(&shared.counters),
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Returns true if the client has proved to be the front proxy, whose connections are shed last.
    pub(super) fn is_verified(&self) -> bool {
        self.client.is_front_proxy()
    }

    /// True while the last verification of the client holds.
    pub(super) fn is_client_current(&self, tls: &TlsState) -> bool {
        self.client.holds(tls)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes received and not yet answered.
    pub(super) fn held(&self) -> usize {
        self.received.size()
    }

    /// Bytes of a larger answer that the client has not read.
    pub(super) fn unread(&self) -> usize {
        self.unread.size()
    }

    /// Closes a connection that is between requests.
    pub(super) fn close_between_requests(&mut self) {
        self.session.finish();
    }

    /// Handles a missed deadline. Returns true if the connection must stay until an answer is sent: a client in the
    /// middle of a request gets a 408. Others get none, since an answer without a request is an error to clients.
    pub(super) fn give_up(&mut self, counters: &Counters, now: Instant) -> bool {
        match self.state {
            State::Idle | State::Lingering => return false,
            _ => counters.count(Count::TimedOut),
        }
        let answers = self.state == State::Reading && !self.session.wants_write();
        if answers {
            self.input = Vec::new();
            self.answer_and_close(&Response::status(408, "Timeout", "the request took too long to arrive"), now);
        }
        answers
    }

    /// Does everything that is possible without waiting for the client.
    pub(super) fn drive(&mut self, tools: &mut Tools<'_>) -> Next {
        match self.try_drive(tools) {
            Ok(Next::Close) => Next::Close,
            Ok(next) if self.has_room(tools.shared) => next,
            Ok(_) => {
                tools.shared.counters.count(Count::Overloaded);
                Next::Close
            }
            Err(SessionError::HandshakeTooLong) => {
                tools.shared.counters.count(Count::TlsFailed);
                debug!(peer:% = self.address; "handshake too long");
                Next::Close
            }
            Err(SessionError::Tls(error)) => {
                tools.shared.counters.count(Count::TlsFailed);
                debug!(peer:% = self.address, error:% = error; "tls failed");
                Next::Close
            }
            // Clients disconnect at any time, and nobody is left to answer.
            Err(SessionError::Socket(error)) => {
                trace!(peer:% = self.address, error:% = error; "connection lost");
                Next::Close
            }
        }
    }

    /// Counts the bytes that are held for this client. Returns false if there is no room for them.
    fn has_room(&mut self, shared: &Shared) -> bool {
        let held = self.input.len() + self.session.pending() + self.client.chain_bytes();
        if held == self.received.size() {
            return true;
        }
        self.received.set(held) <= IN_MAX || self.is_verified() || held <= IN_FREE || shared.make_input_room()
    }

    fn try_drive(&mut self, tools: &mut Tools<'_>) -> Result<Next, SessionError> {
        let now = Instant::now();
        if now >= self.deadline && self.state != State::Waiting && !self.give_up(&tools.shared.counters, now) {
            return Ok(Next::Close);
        }
        for _ in 0..TURN_MAX {
            if self.state == State::Lingering {
                return self.linger(tools.scratch);
            }
            if let Sent::Blocked { progress } = self.session.flush()? {
                self.wait_for_reader(progress, now);
                return Ok(Next::Park);
            }
            if self.unread.size() > 0 {
                self.unread.set(0);
            }
            match self.state {
                State::Writing { then_close: true } => {
                    self.session.finish();
                    self.enter(State::Lingering, now);
                    continue;
                }
                State::Writing { then_close: false } => self.enter(State::Idle, now),
                _ => {}
            }
            if !self.input.is_empty() {
                match self.serve(tools, now) {
                    Served::Yes => continue,
                    Served::HandOver => return Ok(Next::HandOver),
                    Served::Unverified => return Ok(Next::Again),
                    Served::No => {}
                }
                if self.state == State::Idle {
                    self.enter(State::Reading, now);
                }
            }
            debug_assert!(self.input.len() < HEAD_MAX + tools.scratch.len());
            match self.session.receive(&mut self.input, tools.scratch)? {
                Received::Some if self.state == State::Handshake && !self.session.is_handshaking() => {
                    self.client = ClientIdentity::new(self.session.client_chain());
                    self.enter(State::Idle, now);
                    if let Some(tls) = &tools.shared.tls {
                        // Judged before the first request, so that an idle front proxy is not shed as a stranger.
                        self.client.refresh(tls);
                    }
                }
                Received::Some => {}
                Received::Blocked => return Ok(Next::Park),
                Received::End => return Ok(Next::Close),
            }
        }
        Ok(Next::Again)
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.since = now;
        self.state = state;
        self.deadline = now
            + match state {
                State::Handshake => HANDSHAKE,
                State::Idle => IDLE,
                State::Reading => REQUEST,
                State::Waiting => PATIENT_WAIT,
                State::Writing { .. } => WRITE,
                State::Lingering => LINGER,
            };
    }

    fn wait_for_reader(&mut self, progress: bool, now: Instant) {
        match self.state {
            // The deadline of a handshake includes its answers.
            State::Handshake => {}
            State::Writing { .. } if progress => self.deadline = now + WRITE,
            State::Writing { .. } => {}
            // A TLS alert or the answer to a key update has the same time to be sent.
            _ => self.enter(State::Writing { then_close: false }, now),
        }
    }

    fn linger(&mut self, scratch: &mut [u8]) -> Result<Next, SessionError> {
        loop {
            match self.session.discard(scratch) {
                Ok(Some(n)) if self.lingered + n <= LINGER_BYTES => self.lingered += n,
                Ok(_) => return Ok(Next::Close),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Next::Park);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Serves one request if it is complete. Must not be called while an answer is being sent.
    fn serve(&mut self, tools: &mut Tools<'_>, now: Instant) -> Served {
        let input = std::mem::take(&mut self.input);
        let (served, used) = self.serve_from(&input, tools, now);
        self.input = input;
        if used == self.input.len() {
            // Idle connections, of which there may be thousands, keep no buffers.
            self.input = Vec::new();
        } else {
            self.input.drain(..used);
        }
        served
    }

    /// Also returns how many bytes of `input` are consumed.
    fn serve_from(&mut self, input: &[u8], tools: &mut Tools<'_>, now: Instant) -> (Served, usize) {
        let head = match head::parse(input, self.checked) {
            Ok(Parsed::Complete(head)) => head,
            Ok(Parsed::Incomplete) => {
                self.checked = head::checked(input);
                return (Served::No, 0);
            }
            Err(refusal) => {
                tools.shared.counters.count(Count::Refused(refusal));
                debug!(peer:% = self.address, reason = refusal.as_str(); "request refused");
                let reason = if refusal.code() == 400 { "BadRequest" } else { "" };
                self.answer_and_close(&Response::status(refusal.code(), reason, refusal.as_str()), now);
                return (Served::Yes, input.len());
            }
        };
        if let Some(tls) = &tools.shared.tls {
            if tools.lane == Lane::Kept && !tools.patient && !self.client.holds(tls) {
                return (Served::Unverified, 0);
            }
            self.client.refresh(tls);
        }
        if !self.dispatch(&head, tools, now) {
            self.enter(State::Waiting, now);
            return (Served::HandOver, 0);
        }
        self.checked = 0;
        let ends = self.state == State::Writing { then_close: true };
        (Served::Yes, if ends { input.len() } else { head.head_len })
    }

    /// Prepares the answer to a complete request; returns false if a patient worker has to do so.
    fn dispatch(&mut self, head: &Head<'_>, tools: &mut Tools<'_>, now: Instant) -> bool {
        let shared = tools.shared;
        let peer = Peer { address: self.address, identity: self.client.identity(&head.headers) };
        let request = self.request(head, peer);
        let known = match &shared.from_memory {
            Some(from_memory) if !tools.patient => from_memory(&request),
            _ => None,
        };
        let slow = known.is_none() && !tools.patient && shared.hands_over;
        let too_late = self.state == State::Waiting && now >= self.deadline;
        if too_late || slow && shared.patient.is_full(self) {
            shared.counters.count(Count::Overloaded);
            self.answer(&Response::status(503, "ServiceUnavailable", "too many slow requests"), head.method == "HEAD");
        } else if slow {
            return false;
        } else {
            shared.counters.count(Count::Requests);
            let response = known.unwrap_or_else(|| (shared.handler)(&request));
            self.answer(&response, head.method == "HEAD");
        }
        self.served += 1;
        // Checked after the handler has answered, since draining may have begun meanwhile.
        let keep_alive = head.keep_alive && head.body_len == 0 && !shared.is_draining();
        self.reserve(shared, head.method == "HEAD", now);
        if !keep_alive {
            answer::announce_close(self.session.out_mut());
        }
        self.enter(State::Writing { then_close: !keep_alive }, now);
        true
    }

    /// Builds the request for the handlers, without headers that claim an identity.
    fn request(&self, head: &Head<'_>, peer: Peer) -> Request {
        let shown =
            head.headers.iter().filter(|(name, _)| !head::is_remote(name) && !self.client.is_identity_header(name));
        Request {
            method: head.method.to_owned(),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
            headers: shown.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            peer,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the Date header")]
    fn answer(&mut self, response: &Response, head_only: bool) {
        if response.body.as_bytes().len() > ANSWER_MAX {
            return self
                .answer(&Response::status(500, "InternalError", "the answer is larger than the limit"), head_only);
        }
        let body = answer::encode(response, head_only, SystemTime::now(), self.session.out_mut());
        self.session.set_body(body);
    }

    /// After a refusal the bytes that follow cannot be interpreted, so they are not read.
    fn answer_and_close(&mut self, response: &Response, now: Instant) {
        self.answer(response, false);
        answer::announce_close(self.session.out_mut());
        self.enter(State::Writing { then_close: true }, now);
    }

    /// Counts a larger answer, or replaces it with a 503 if too many wait for slow readers.
    fn reserve(&mut self, shared: &Shared, head_only: bool, now: Instant) {
        if self.session.out_len() <= OUT_FREE {
            return;
        }
        if self.unread.set(self.session.out_cost()) > OUT_MAX && !shared.make_output_room(now) {
            self.unread.set(0);
            shared.counters.count(Count::Overloaded);
            *self.session.out_mut() = Vec::new();
            self.answer(&Response::status(503, "ServiceUnavailable", "too many large answers under way"), head_only);
        }
    }
}
