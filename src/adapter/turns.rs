//! Turns to ask Prometheus, where `--prometheus-max-qps` or `--prometheus-max-concurrency` limit that: the core counts
//! what reads by rules ask with what triggers ask.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::scaling::event::{Conduct, ErrorClass, Event, PollError};
use crate::scaling::model::{ApiGroup, ObjectKey};

pub struct Turns {
    inbox: SyncSender<Event>,
    /// By number, whether it has come; at most as many as there are reads, and the list of series.
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    has_come: HashMap<u64, bool>,
}

/// The right to ask once. Whoever has it says with [`Turn::conduct`] how the server behaved.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    number: u64,
    pub(super) conduct: Cell<Conduct>,
}

impl Turns {
    #[must_use]
    pub fn new(inbox: SyncSender<Event>) -> Self {
        Self { inbox, waiting: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for a turn on behalf of a namespace and what is asked for it.
    ///
    /// # Errors
    /// If none came until the deadline.
    pub(super) fn wait(
        &self,
        (namespace, metric): (&str, &str),
        server: &str,
        deadline: Instant,
    ) -> Result<Turn<'_>, PollError> {
        let number = {
            let mut waiting = self.lock();
            waiting.last += 1;
            let number = waiting.last;
            waiting.has_come.insert(number, false);
            number
        };
        // Ends the turn, had or not, wherever this returns.
        let turn = Turn { turns: self, number, conduct: Cell::new(Conduct::Unasked) };
        let object = ObjectKey::new(ApiGroup::Autoscaling, namespace, metric);
        let wanted = Event::TurnWanted { number, object, server: server.into() };
        let is_sent = self.inbox.send(wanted).is_ok();
        let left = deadline.saturating_duration_since(Instant::now());
        let is_waiting = |waiting: &mut Waiting| waiting.has_come.get(&number) == Some(&false);
        let waited = self.changed.wait_timeout_while(self.lock(), left, is_waiting);
        let has_come = waited.unwrap_or_else(PoisonError::into_inner).0.has_come.get(&number) == Some(&true);
        if is_sent && has_come {
            return Ok(turn);
        }
        let message = "Prometheus was not asked in time: it is asked as much as --prometheus-max-qps, \
                       --prometheus-max-concurrency and the namespace's share allow";
        Err(PollError::new(ErrorClass::Timeout, message))
    }

    /// Passes on that a turn has come.
    pub fn come(&self, number: u64) {
        if let Some(has_come) = self.lock().has_come.get_mut(&number) {
            *has_come = true;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().has_come.remove(&self.number);
        // Without a core there is nobody to count.
        let _ = self.turns.inbox.send(Event::TurnEnded { number: self.number, conduct: self.conduct.get() });
    }
}

/// What a request shows about the server that it was sent to.
pub(super) fn conduct<T>(result: &Result<T, PollError>, rest: Option<std::time::Duration>, asked: Instant) -> Conduct {
    match (rest, result) {
        (Some(rest), _) => Conduct::Overloaded(rest),
        (None, Err(error)) if error.class.is_server_trouble() => Conduct::Troubled,
        _ => Conduct::Answered(asked.elapsed()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_turn_is_waited_for_and_given_back_with_what_it_showed() {
        let (inbox, events) = std::sync::mpsc::sync_channel(8);
        let turns = Turns::new(inbox);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let deadline = Instant::now() + Duration::from_secs(60);
                let turn = turns.wait(("shop", "lag"), "http://p", deadline).map(|turn| {
                    turn.conduct.set(Conduct::Troubled);
                    drop(turn);
                });
                assert!(turn.is_ok());
            });
            let Ok(Event::TurnWanted { number, object, server }) = events.recv() else { panic!("nothing is wanted") };
            assert_eq!((object.to_string().as_str(), &*server), ("hpa/shop/lag", "http://p"));
            turns.come(number);
            let ended = events.recv();
            assert!(matches!(ended, Ok(Event::TurnEnded { conduct: Conduct::Troubled, .. })), "{ended:?}");
        });
        // One that does not come is given back, too, so that nothing is left behind in the core.
        let late = turns.wait(("shop", "lag"), "http://p", Instant::now()).map(drop).unwrap_err();
        assert!(late.message.contains("--prometheus-max-qps"), "{late:?}");
        assert!(matches!(events.recv(), Ok(Event::TurnWanted { .. })));
        assert!(matches!(events.recv(), Ok(Event::TurnEnded { conduct: Conduct::Unasked, .. })));
        assert!(turns.lock().has_come.is_empty());
    }
}
