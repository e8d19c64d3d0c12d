//! Which pods must be counted for kubernetes-workload triggers, and what follows from their counts.
//!
//! The daemon does the counting. A change is taken in at once, between the poll cycles of an object.

use std::collections::BTreeSet;
use std::time::Duration;

use super::World;
use super::selections::answer;
use super::work::Work;
use crate::scaling::event::{Answer, PollError};
use crate::scaling::model::{PodSelection, Source};
use crate::scaling::object::Object;

impl World {
    pub(super) fn pods_selected(&mut self, namespace: &str, selection: &PodSelection, count: Result<u32, PollError>) {
        let answer = answer(&count);
        for key in self.pods.counted(namespace, selection, count) {
            self.with(&key, |object, work| object.recounted(selection, &answer, work));
        }
    }
}

impl Object {
    /// Selects the pods that the triggers of this object need to have counted.
    pub(super) fn select_pods(&mut self, work: &mut Work<'_>) {
        let definition = self.polled_definition.clone();
        let triggers = definition.iter().flat_map(|definition| &definition.triggers);
        let wanted: BTreeSet<PodSelection> = triggers
            .filter_map(|trigger| match &trigger.source {
                Source::Pods(selection) => Some(selection.clone()),
                Source::Cron(_) | Source::Query(_) | Source::Shown(_) => None,
            })
            .collect();
        work.outbox.commands.extend(work.pods.want(&self.spec.key, &wanted));
    }

    /// Takes in a new count as the answer of the triggers that count these pods.
    fn recounted(&mut self, selection: &PodSelection, answer: &Answer, work: &mut Work<'_>) {
        let Some(definition) = self.polled_definition.clone() else {
            return;
        };
        for trigger in &definition.triggers {
            if matches!(&trigger.source, Source::Pods(counted) if counted == selection) {
                self.take_answer(trigger.index, answer, work.now, Duration::ZERO, work);
            }
        }
        self.answers_taken(work);
    }
}
