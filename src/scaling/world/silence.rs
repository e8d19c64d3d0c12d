//! Missing answers, and a process that stood still.

use std::time::Duration;

use super::World;
use super::work::Work;
use crate::scaling::age;
use crate::scaling::event::{Answer, ErrorClass, Interruption, PollError, Record};
use crate::scaling::model::{ObjectKey, Source, UnixMillis};
use crate::scaling::object::Object;

/// A process that wakes up this much too late stood still: it was stopped, or its machine slept. A machine that
/// is merely slow is late by a second or two.
const STOOD_STILL: Duration = Duration::from_secs(10);

impl World {
    /// After the process stood still every reading is old, though no server is at fault. All triggers are polled at
    /// once, with the time limit of a first answer, and nothing is decided on older readings.
    pub(super) fn wake_up(&mut self, now: UnixMillis) {
        let before = std::mem::replace(&mut self.now, now);
        if self.next_deadline().is_none_or(|at| now.since(at) < STOOD_STILL) {
            return;
        }
        self.woke_at = Some(now);
        self.outbox.record(Record::Interrupted { kind: Interruption::Standstill, from: before, until: now });
        let running: Vec<ObjectKey> =
            self.objects.iter().filter(|(_, o)| o.polled_generation.is_some()).map(|(key, _)| key.clone()).collect();
        for key in running {
            self.with(&key, |object, work| {
                let by = now.plus(object.age_limit(work.settings.query_timeout));
                for at in object.triggers.iter_mut().filter_map(|state| state.silent_at.as_mut()) {
                    *at = by;
                }
                object.listen(work);
                work.schedule.plan(&key, now);
            });
        }
    }

    /// Turns missing answers into errors, one with each interval that they are missing for.
    pub(super) fn take_silence(&mut self, now: UnixMillis) {
        while let Some((key, _)) = self.outbox.silences.pop(now) {
            self.with(&key, |object, work| {
                object.expire_answers(work);
                object.listen(work);
            });
        }
    }
}

impl Object {
    /// Plans when the first missing answer of the object becomes an error.
    pub(super) fn listen(&mut self, work: &mut Work<'_>) {
        match self.triggers.iter().filter_map(|state| state.silent_at).min() {
            Some(at) => work.outbox.silences.set(&self.spec.key, at),
            None => {
                work.outbox.silences.clear(&self.spec.key);
            }
        }
    }

    fn expire_answers(&mut self, work: &mut Work<'_>) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let message = age::silence(age::limit(&definition, work.settings.query_timeout));
        let answer = Answer::Failed(PollError::new(ErrorClass::Timeout, message));
        for (position, trigger) in definition.triggers.iter().enumerate() {
            let silent_at = self.triggers.get(position).and_then(|state| state.silent_at);
            if silent_at.is_none_or(|at| at > work.now) {
                continue;
            }
            self.take_answer(trigger.index, &answer, work.now, Duration::ZERO, work);
            let again = work.now.plus(definition.polling_interval.max(Duration::from_secs(1)));
            if let Some(state) = self.triggers.get_mut(position) {
                state.silent_at = Some(again);
            }
        }
        // A poll cycle that waits for these answers goes on without them.
        self.answers_taken(work);
    }

    /// Repeats a poll whose answer is out of date.
    pub(super) fn poll_again(&mut self, index: u16, work: &mut Work<'_>) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        let Some(trigger) = definition.triggers.iter().find(|trigger| trigger.index == index) else {
            return;
        };
        if let Source::Query(query) = &trigger.source
            && let Err(error) = self.ask(trigger, query, work.now, work)
        {
            self.receive_answer(index, &Answer::Failed(error), work.now, Duration::ZERO, work);
        }
    }
}
