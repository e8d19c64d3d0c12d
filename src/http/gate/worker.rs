//! A worker of the gate: takes ready connections from its queue and drives them.
//!
//! Owns its upstream connection and the buffers it lends to connections.

use rustix::event::epoll::{self, EventData, EventFlags};

use super::Shared;
use super::conn::{Conn, Next, State, Tools};
use super::upstream::Upstream;

/// One read from a socket; a TLS record is 16 KB at most.
const SCRATCH: usize = 16 * 1024;

/// Runs until the gate stops.
pub(super) fn run(shared: &Shared, mut upstream: Upstream, patient: bool) {
    let mut scratch = vec![0; SCRATCH];
    let queue = if patient {
        &shared.patient
    } else {
        &shared.quick
    };
    while let Some(mut conn) = queue.pop() {
        let mut tools = Tools {
            shared,
            upstream: &mut upstream,
            scratch: &mut scratch,
            patient,
        };
        match conn.drive(&mut tools) {
            Next::Park => park(shared, conn),
            Next::Again => shared.quick.push(conn),
            Next::HandOver => shared.patient.push(conn),
            Next::Close => drop(conn),
        }
    }
}

fn park(shared: &Shared, mut conn: Box<Conn>) {
    if shared.is_draining() && conn.state == State::Idle && conn.served > 0 {
        conn.say_goodbye();
        return;
    }
    let ready = if conn.session().wants_write() {
        EventFlags::OUT
    } else {
        EventFlags::IN | EventFlags::RDHUP
    };
    let data = EventData::new_u64(conn.id);
    // Armed under the lock, so that the poller cannot see the event before the entry.
    let mut parked = shared.parked.lock();
    let armed = epoll::modify(
        &shared.epoll,
        conn.session().descriptor(),
        data,
        ready | EventFlags::ONESHOT,
    );
    if armed.is_ok() && !shared.is_stopping() {
        parked.insert(conn.id, conn);
    }
}
