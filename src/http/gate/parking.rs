//! Keeps connections that wait: parked until their socket is ready, or queued for a patient worker.
//!
//! Owns every connection that no worker is driving. [`rank`] is the order in which they are shed when there is no room.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::conn::{Conn, State};
use super::limits::{ADDRESS_MAX, PATIENT_QUEUE_MAX, STRANGERS_QUEUE_MAX};

/// Connections that wait for their socket to become ready, by id.
#[derive(Default)]
pub(super) struct Parked {
    // Workers insert and the poller removes; the lock is held for one operation, except in a sweep.
    conns: Mutex<HashMap<u64, Box<Conn>>>,
}

impl Parked {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<u64, Box<Conn>>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes connections until they release `bytes`: those for which `rank` returns a rank and the bytes held, the
    /// smallest rank first. The caller drops them after the lock is released.
    #[expect(clippy::vec_box, reason = "they are boxed where they are parked")]
    pub(super) fn take<R: Ord>(&self, bytes: usize, rank: impl Fn(&Conn) -> Option<(R, usize)>) -> Vec<Box<Conn>> {
        let mut conns = self.lock();
        let ranked = conns.iter().filter_map(|(id, conn)| rank(conn).map(|(rank, held)| (rank, *id, held)));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_unstable();
        let mut left = bytes;
        let mut taken = Vec::new();
        for (_, id, held) in ranked {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(held);
            taken.extend(conns.remove(&id));
        }
        taken
    }
}

/// The place of a connection in the order of shedding, the smallest first: strangers before the front proxy; among
/// each, those in the middle of something before idle ones, and those that have taken the longest first. `since` is
/// when the state began and not the last byte, so that a client gains nothing by sending single bytes.
pub(super) type Rank = (bool, bool, Instant);

pub(super) fn rank(is_verified: bool, state: State, since: Instant) -> Rank {
    (is_verified, state == State::Idle, since)
}

/// Connections in the order in which they are shed. Ranking looks at all of them, so it selects many at a time: under
/// a flood each accepted connection costs another one.
#[derive(Default)]
pub(super) struct Victims {
    ranked: VecDeque<(Rank, u64)>,
}

/// Victims selected at a time. With 4,096 parked connections that is one ranking per 64 accepted ones.
const VICTIMS: usize = 64;

impl Victims {
    /// Removes the connection that is shed next.
    pub(super) fn take(&mut self, parked: &Parked) -> Option<Box<Conn>> {
        let mut conns = parked.lock();
        for attempt in 0..2 {
            while let Some((rank, id)) = self.ranked.pop_front() {
                // A connection that was driven since the ranking is no longer a victim.
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

/// Connections that wait for a patient worker, in order of arrival, but verified front proxies before all others. Where
/// there can be a front proxy, others get a share of the workers and of the places.
pub(super) struct Queue {
    // std has no channel from which several workers can receive, so this is a mutex with a condition.
    state: Mutex<QueueState>,
    ready: Condvar,
    /// Workers that strangers may occupy at once; None where every client is a stranger.
    strangers_at_once: Option<usize>,
}

#[derive(Default)]
struct QueueState {
    verified: VecDeque<Box<Conn>>,
    strangers: VecDeque<Box<Conn>>,
    /// Strangers that patient workers are serving.
    served: usize,
    /// Strangers that wait or are being served, by their address.
    by_address: HashMap<IpAddr, usize>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(strangers_at_once: Option<usize>) -> Queue {
        Queue { state: Mutex::default(), ready: Condvar::new(), strangers_at_once }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_full(&self, conn: &Conn) -> bool {
        let state = self.lock();
        if conn.is_verified() {
            return state.verified.len() >= PATIENT_QUEUE_MAX;
        }
        match self.strangers_at_once {
            None => state.strangers.len() >= PATIENT_QUEUE_MAX,
            Some(_) => {
                let of_address = state.by_address.get(&conn.address().ip()).copied().unwrap_or(0);
                state.strangers.len() >= STRANGERS_QUEUE_MAX || of_address >= ADDRESS_MAX
            }
        }
    }

    /// Drops the connection if the queue is closed. Two workers may see the last free place at once, so the queue can
    /// exceed its limit by the number of workers.
    pub(super) fn push(&self, conn: Box<Conn>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if conn.is_verified() {
            state.verified.push_back(conn);
        } else {
            *state.by_address.entry(conn.address().ip()).or_default() += 1;
            state.strangers.push_back(conn);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for a connection; None once the queue is closed. For a stranger the address is returned as well, with
    /// which [`Queue::done`] must be called after serving it.
    pub(super) fn pop(&self) -> Option<(Box<Conn>, Option<IpAddr>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(conn) = state.verified.pop_front() {
                return Some((conn, None));
            }
            if self.strangers_at_once.is_none_or(|limit| state.served < limit)
                && let Some(conn) = state.strangers.pop_front()
            {
                state.served += 1;
                let address = conn.address().ip();
                return Some((conn, Some(address)));
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Records that a stranger from this address has been served.
    pub(super) fn done(&self, address: IpAddr) {
        let mut state = self.lock();
        state.served -= 1;
        if let Some(count) = state.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&address);
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Wakes all waiting workers and drops the connections that are left.
    pub(super) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            (std::mem::take(&mut state.verified), std::mem::take(&mut state.strangers))
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
