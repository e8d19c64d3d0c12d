//! Turns of requests that others send to the same servers: they are counted with the polls, and wait as these do.

use std::sync::Arc;

use super::Schedule;
use crate::scaling::allowed::origin;
use crate::scaling::event::Conduct;
use crate::scaling::model::{ObjectKey, UnixMillis};

/// A request of somebody else, from its wish until its end.
#[derive(Debug)]
pub(super) struct Turn {
    /// Its place among the jobs.
    id: u64,
    /// By which whoever sends it knows it.
    number: u64,
    object: ObjectKey,
    server: Arc<str>,
    has_begun: bool,
}

impl Schedule {
    /// Adds a request to the queue. It may be sent once [`Schedule::take_turns`] returns its number.
    pub fn line_up(&mut self, number: u64, object: ObjectKey, server: Arc<str>) {
        let id = self.next_id;
        self.next_id += 1;
        let server: Arc<str> = origin(&server).into();
        self.shares.wait(&object, &server, id);
        self.turns.push(Turn { id, number, object, server, has_begun: false });
    }

    /// Begins the turn that has this id among the jobs; returns false if that is a poll.
    pub(super) fn begin_turn(&mut self, id: u64) -> bool {
        let turn = self.turns.iter_mut().find(|turn| turn.id == id);
        turn.is_some_and(|turn| {
            turn.has_begun = true;
            self.granted.push(turn.number);
            true
        })
    }

    /// Removes and returns the turns that have begun with the last dispatch.
    pub fn take_turns(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.granted)
    }

    /// Records that a request has ended, or is not to be sent any more.
    pub fn end_turn(&mut self, number: u64, conduct: Conduct, now: UnixMillis) {
        let Some(at) = self.turns.iter().position(|turn| turn.number == number) else { return };
        let turn = self.turns.swap_remove(at);
        if turn.has_begun {
            self.shares.end(turn.id, conduct, now);
        } else {
            self.shares.wait_no_more(&turn.object, &turn.server, turn.id);
        }
    }

    /// Returns how many are in flight.
    pub(super) fn turns_in_flight(&self) -> usize {
        self.turns.iter().filter(|turn| turn.has_begun).count()
    }
}
