//! What follows from answers that do not come, and from having stood still.

use std::time::Duration;

use super::super::age;
use super::super::event::{Answer, ErrorClass, PollError};
use super::super::model::{ObjectKey, Source, UnixMillis};
use super::World;

/// Woken so much later than it asked for, the process stood still: it was stopped, or its machine slept. A machine that is
/// merely slow is late by a second or two.
const STOOD_STILL: Duration = Duration::from_secs(10);

impl World {
    /// After having stood still every reading is old, and nothing is wrong with any server: all are asked at once, and
    /// have the time of a first answer. Until then nothing follows from what was read before.
    pub(super) fn wake_up(&mut self, now: UnixMillis) {
        self.now = now;
        if self.next_deadline().is_none_or(|at| now.since(at) < STOOD_STILL) {
            return;
        }
        self.woke_at = Some(now);
        let running: Vec<ObjectKey> =
            self.objects.iter().filter(|(_, o)| o.loop_generation.is_some()).map(|(key, _)| key.clone()).collect();
        for key in running {
            let Some(object) = self.objects.get_mut(&key) else { continue };
            let by = now.plus(object.age_limit(self.settings.query_timeout));
            for at in object.triggers.iter_mut().filter_map(|state| state.silent_at.as_mut()) {
                *at = by;
            }
            self.listen(&key);
            self.schedule.plan(&key, now);
        }
    }

    /// Notes when the first of the object's triggers is to be called silent.
    pub(super) fn listen(&mut self, key: &ObjectKey) {
        let object = self.objects.get(key);
        match object.and_then(|object| object.triggers.iter().filter_map(|state| state.silent_at).min()) {
            Some(at) => self.silences.set(key, at),
            None => {
                self.silences.clear(key);
            }
        }
    }

    /// Silence is an answer in the end: an error, and another one with each interval that it lasts.
    pub(super) fn take_silence(&mut self, now: UnixMillis) {
        while let Some((key, _)) = self.silences.pop(now) {
            self.fall_silent(&key, now);
            self.listen(&key);
        }
    }

    fn fall_silent(&mut self, key: &ObjectKey, now: UnixMillis) {
        let Some(definition) = self.objects.get(key).and_then(|object| object.loop_definition.clone()) else {
            return;
        };
        let message = age::silence(age::limit(&definition, self.settings.query_timeout));
        let answer = Answer::Failed(PollError { class: ErrorClass::Timeout, message });
        for (position, trigger) in definition.triggers.iter().enumerate() {
            let state = |world: &Self| world.objects.get(key)?.triggers.get(position)?.silent_at;
            if state(self).is_none_or(|at| at > now) {
                continue;
            }
            // A round that waits for it goes on without it.
            self.answered(key, trigger.index, &answer, now, Duration::ZERO, now);
            let again = now.plus(definition.polling_interval.max(Duration::from_secs(1)));
            if let Some(state) = self.objects.get_mut(key).and_then(|object| object.triggers.get_mut(position)) {
                state.silent_at = Some(again);
            }
        }
    }

    /// Puts a question into the queue again whose answer is of no use.
    pub(super) fn ask_anew(&mut self, key: &ObjectKey, index: u16, now: UnixMillis) {
        let Some(definition) = self.objects.get(key).and_then(|object| object.loop_definition.clone()) else {
            return;
        };
        let Some(trigger) = definition.triggers.iter().find(|trigger| trigger.index == index) else {
            return;
        };
        if let Source::Query(query) = &trigger.source
            && let Err(error) = self.ask(key, trigger, query, now)
        {
            self.answered(key, index, &Answer::Failed(error), now, Duration::ZERO, now);
        }
    }
}
