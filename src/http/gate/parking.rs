//! Where connections wait: parked until their socket is ready, or queued for a patient worker.
//!
//! Owns every connection that no worker is driving. The order in which they give way when there is no room is
//! decided here, in [`rank`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::conn::{Conn, State};
use super::limits::{ADDRESS_MAX, PATIENT_QUEUE_MAX, STRANGERS_QUEUE_MAX};

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

    /// Takes out connections until they give `bytes` back: those for which `rank` says what they hold, the smallest
    /// rank first. Whoever calls this drops them after the lock is free again.
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

/// Connections that wait for a patient worker, in the order in which they were handed over; verified front proxies
/// before all others. Where there can be one, others get a share of the workers and of the places.
pub(super) struct Queue {
    // Several workers take from one queue: a mutex with a condition is std's only way to do that.
    state: Mutex<QueueState>,
    ready: Condvar,
    /// Workers that strangers may have at once; None where everybody is one.
    strangers_at_once: Option<usize>,
}

#[derive(Default)]
struct QueueState {
    verified: VecDeque<Box<Conn>>,
    strangers: VecDeque<Box<Conn>>,
    /// Strangers that are with workers.
    served: usize,
    /// Strangers that wait or are with workers, by where they come from.
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

    /// Dropped if the queue is closed. Two workers may see the last free place at once, so the queue can grow
    /// past its limit by the number of workers.
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

    /// Waits for a connection; None once the queue is closed. Of a stranger the address: [`Queue::done`] is called
    /// with it when it has been served.
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

    /// A stranger from there has been served.
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

    /// Wakes all who wait and drops what is left.
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
