//! A worker of the gate: takes ready connections and drives them.
//!
//! Owns its upstream connection and the buffers it lends to connections. Quick workers wait on the epoll instance
//! of their lane themselves, because a thread in between would cost each request two more switches.

use rustix::event::epoll::{self, EventFlags};

use super::conn::{Conn, Next, State, Tools};
use super::poller::STOP;
use super::{Lane, Shared};

/// One read from a socket; a TLS record is 16 KB at most.
const SCRATCH: usize = 16 * 1024;

/// Drives whichever connection of the lane is ready, until the gate stops. Where there are patient
/// workers, what is not answered from memory goes to them.
pub(super) fn run_quick(shared: &Shared, lane: Lane) {
    let mut scratch = vec![0; SCRATCH];
    // One at a time: a second event taken would wait here while another worker idles.
    let mut events = Vec::with_capacity(1);
    while !shared.is_stopping() {
        events.clear();
        match epoll::wait(shared.epoll(lane), rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Only a descriptor that is none of ours any more can cause this.
            Err(error) => panic!("epoll_wait failed: {error}"),
        }
        for event in &events {
            let id = event.data.u64();
            // What was evicted after its event was taken is not there any more.
            let conn = if id == STOP { None } else { shared.parked.lock().remove(&id) };
            if let Some(conn) = conn {
                drive(conn, Tools { shared, scratch: &mut scratch, patient: false, lane });
            }
        }
    }
}

/// Drives the connections handed over, until the gate stops.
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
        // There is room to write, so this is the back of the kernel's queue of ready sockets.
        Next::Again => park(shared, conn, EventFlags::IN | EventFlags::OUT),
        Next::HandOver => shared.patient.push(conn),
        Next::Close => drop(conn),
    }
}

fn park(shared: &Shared, mut conn: Box<Conn>, until: EventFlags) {
    if shared.is_draining() && conn.state == State::Idle && conn.served > 0 {
        conn.say_goodbye();
        return;
    }
    let lane = shared.lane_of(&conn);
    // Armed under the lock, so that no worker can see the event before the entry.
    let mut parked = shared.parked.lock();
    let watched = if lane == conn.lane { shared.arm(&conn, until) } else { shared.move_to(&mut conn, lane, until) };
    if watched && !shared.is_stopping() {
        parked.insert(conn.id, conn);
    }
}
