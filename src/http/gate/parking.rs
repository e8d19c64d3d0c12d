//! Where connections wait: parked until their socket is ready, or queued for a patient worker.
//!
//! Owns every connection that no worker is driving. The order in which they give way when there is no room is
//! decided here, in [`rank`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::conn::{Conn, State};

/// Connections whose socket has to become ready first, by id.
#[derive(Default)]
pub(super) struct Parked {
    // Workers park, the poller takes: a lock, held for one insertion or removal except in a sweep.
    conns: Mutex<HashMap<u64, Box<Conn>>>,
}

impl Parked {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Box<Conn>>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a connection stands in the order of giving way, the first to go smallest: strangers before the front
/// proxy, among each those that keep us waiting for something half done before idle ones, the longest waiting
/// first. A client that drips bytes cannot look young: `since` is when its state began, not its last byte.
pub(super) type Rank = (bool, bool, Instant);

pub(super) fn rank(is_verified: bool, state: State, since: Instant) -> Rank {
    (is_verified, state == State::Idle, since)
}

/// Connections in the order in which they shall give way. Made by looking at all of them, so it is made for many
/// at a time: under a flood each accepted connection costs one that goes.
#[derive(Default)]
pub(super) struct Victims {
    ranked: VecDeque<(Rank, u64)>,
}

/// Victims found in one look. With 4,096 parked connections, one look per 64 accepted ones.
const VICTIMS: usize = 64;

impl Victims {
    /// Takes out the connection that shall give way next.
    pub(super) fn take(&mut self, parked: &Parked) -> Option<Box<Conn>> {
        let mut conns = parked.lock();
        for attempt in 0..2 {
            while let Some((rank, id)) = self.ranked.pop_front() {
                // Those that moved on since the look are not victims any more.
                if conns.get(&id).is_some_and(|conn| current_rank(conn) == rank) {
                    return conns.remove(&id);
                }
            }
            if attempt == 0 {
                let mut all: Vec<_> = conns.iter().map(|(id, conn)| (current_rank(conn), *id)).collect();
                if all.len() > VICTIMS {
                    all.select_nth_unstable(VICTIMS);
                    all.truncate(VICTIMS);
                }
                all.sort_unstable();
                self.ranked = all.into();
            }
        }
        None
    }
}

fn current_rank(conn: &Conn) -> Rank {
    rank(conn.is_verified(), conn.state, conn.since)
}

/// Connections that wait for a patient worker, in the order in which they were handed over.
pub(super) struct Queue {
    // Several workers take from one queue: a mutex with a condition is std's only way to do that.
    state: Mutex<QueueState>,
    ready: Condvar,
    limit: usize,
}

#[derive(Default)]
struct QueueState {
    conns: VecDeque<Box<Conn>>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { state: Mutex::default(), ready: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().conns.len() >= self.limit
    }

    /// Dropped if the queue is closed. Two workers may see the last free place at once, so the queue can grow
    /// past its limit by the number of workers.
    pub(super) fn push(&self, conn: Box<Conn>) {
        let mut state = self.lock();
        if !state.closed {
            state.conns.push_back(conn);
            drop(state);
            self.ready.notify_one();
        }
    }

    /// Waits for a connection; None once the queue is closed.
    pub(super) fn pop(&self) -> Option<Box<Conn>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(conn) = state.conns.pop_front() {
                return Some(conn);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes all who wait and drops what is left.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.conns)
        };
        self.ready.notify_all();
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_gives_way_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let in_order = [
            rank(false, State::Handshake, at(0)),
            rank(false, State::Reading, at(1)),
            rank(false, State::Handshake, at(2)),
            rank(false, State::Idle, at(0)),
            rank(false, State::Idle, at(5)),
            rank(true, State::Writing { then_close: false }, at(0)),
            rank(true, State::Idle, at(0)),
        ];
        assert!(in_order.is_sorted());
    }
}
