//! A worker of the gate: takes connections that are ready and drives them.
//!
//! Owns the buffer that it lends to connections. Quick workers wait on the epoll instance of their lane themselves,
//! because a thread in between would cost each request two more context switches.

use rustix::event::epoll::{self, EventFlags};

use super::conn::{Conn, Next, State, Tools};
use super::poller::STOP;
use super::{Lane, Shared};

/// Bytes of one read from a socket; a TLS record has 16 KB at most.
const SCRATCH: usize = 16 * 1024;

/// Drives the connections of the lane that are ready, until the gate stops. Requests that are not answered from memory
/// go to the patient workers, if there are any.
pub(super) fn run_quick(shared: &Shared, lane: Lane) {
    let mut scratch = vec![0; SCRATCH];
    // One at a time: a second event would wait here while another worker is idle.
    let mut events = Vec::with_capacity(1);
    while !shared.is_stopping() {
        events.clear();
        match epoll::wait(shared.epoll(lane), rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Only an invalid descriptor can cause this.
            Err(error) => panic!("epoll_wait failed: {error}"),
        }
        for event in &events {
            let id = event.data.u64();
            // A connection that was shed after its event is no longer there.
            let conn = if id == STOP { None } else { shared.parked.lock().remove(&id) };
            if let Some(conn) = conn {
                drive(conn, Tools { shared, scratch: &mut scratch, patient: false, lane });
            }
        }
    }
}

/// Drives the connections that are handed over, until the gate stops.
pub(super) fn run_patient(shared: &Shared) {
    let mut scratch = vec![0; SCRATCH];
    while let Some((conn, stranger)) = shared.patient.pop() {
        let lane = conn.lane;
        drive(conn, Tools { shared, scratch: &mut scratch, patient: true, lane });
        if let Some(address) = stranger {
            shared.patient.done(address);
        }
    }
}

fn drive(mut conn: Box<Conn>, mut tools: Tools<'_>) {
    let shared = tools.shared;
    match conn.drive(&mut tools) {
        Next::Park if conn.session().wants_write() => park(shared, conn, EventFlags::OUT),
        Next::Park => park(shared, conn, EventFlags::IN | EventFlags::RDHUP),
        // The socket is writable, so this puts it at the back of the kernel's queue of ready sockets.
        Next::Again => park(shared, conn, EventFlags::IN | EventFlags::OUT),
        Next::HandOver => shared.patient.push(conn),
        Next::Close => drop(conn),
    }
}

fn park(shared: &Shared, mut conn: Box<Conn>, until: EventFlags) {
    if shared.is_draining() && conn.state == State::Idle && conn.served > 0 {
        conn.close_between_requests();
        return;
    }
    let lane = shared.lane_of(&conn);
    // Armed under the lock, so that no worker sees the event before the connection is inserted.
    let mut parked = shared.parked.lock();
    let watched = if lane == conn.lane { shared.arm(&conn, until) } else { shared.move_to(&mut conn, lane, until) };
    if watched && !shared.is_stopping() {
        parked.insert(conn.id, conn);
    }
}
