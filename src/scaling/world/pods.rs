//! Which pods must be counted for kubernetes-workload triggers, and what their counts lead to.
//!
//! The counting itself happens outside. A change is taken in at once, between the rounds of an object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::World;
use super::work::{Outbox, Work};
use crate::scaling::event::{Answer, Command, PollError};
use crate::scaling::model::{ObjectKey, PodSelection, Source};
use crate::scaling::object::Object;

/// All selections, by namespace.
#[derive(Debug, Default)]
pub(super) struct Pods {
    namespaces: BTreeMap<Arc<str>, BTreeMap<PodSelection, Selected>>,
}

/// One selection, for all objects that want it.
#[derive(Debug, Default)]
struct Selected {
    /// `None` until it was counted.
    count: Option<Result<u32, PollError>>,
    objects: BTreeSet<ObjectKey>,
}

impl Pods {
    /// The last count; `None` when there is none yet.
    pub(super) fn answer(&self, namespace: &str, selection: &PodSelection) -> Option<Answer> {
        let selected = self.namespaces.get(namespace)?.get(selection)?;
        selected.count.as_ref().map(answer)
    }

    /// Has these counted for an object, and nothing else for its sake.
    pub(super) fn want(&mut self, key: &ObjectKey, wanted: &BTreeSet<PodSelection>, outbox: &mut Outbox) {
        if self.select(key, wanted) {
            let selections = self.namespaces.get(&key.namespace);
            let selections = selections.map_or_else(Vec::new, |selections| selections.keys().cloned().collect());
            outbox.push(Command::WatchPods { namespace: Arc::clone(&key.namespace), selections });
        }
    }

    /// Makes these the object's selections; true when others must be counted because of it.
    fn select(&mut self, key: &ObjectKey, wanted: &BTreeSet<PodSelection>) -> bool {
        let selections = self.namespaces.entry(Arc::clone(&key.namespace)).or_default();
        let mut changed = false;
        for selection in wanted {
            if !selections.contains_key(selection) {
                selections.insert(selection.clone(), Selected::default());
                changed = true;
            }
        }
        selections.retain(|selection, selected| {
            if wanted.contains(selection) {
                selected.objects.insert(key.clone());
            } else {
                selected.objects.remove(key);
            }
            changed |= selected.objects.is_empty();
            !selected.objects.is_empty()
        });
        if selections.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
        changed
    }
}

fn answer(count: &Result<u32, PollError>) -> Answer {
    match count {
        Ok(count) => Answer::Value(f64::from(*count)),
        Err(error) => Answer::Failed(error.clone()),
    }
}

impl World {
    pub(super) fn pods_selected(&mut self, namespace: &str, selection: &PodSelection, count: Result<u32, PollError>) {
        let selected = self.pods.namespaces.get_mut(namespace).and_then(|selections| selections.get_mut(selection));
        // Nobody wants it any more.
        let Some(selected) = selected else { return };
        let answer = answer(&count);
        if selected.count.replace(count.clone()) == Some(count) {
            return;
        }
        for key in selected.objects.clone() {
            self.with(&key, |object, work| object.recounted(selection, &answer, work));
        }
    }
}

impl Object {
    /// Has what the object's loop needs counted, and nothing else for its sake.
    pub(super) fn select_pods(&mut self, work: &mut Work<'_>) {
        let definition = self.loop_definition.clone();
        let triggers = definition.iter().flat_map(|definition| &definition.triggers);
        let wanted: BTreeSet<PodSelection> = triggers
            .filter_map(|trigger| match &trigger.source {
                Source::Pods(selection) => Some(selection.clone()),
                Source::Cron(_) | Source::Query(_) => None,
            })
            .collect();
        work.pods.want(&self.spec.key, &wanted, work.outbox);
    }

    /// Another count is an answer to the round that waits for it, and news to an object without one.
    fn recounted(&mut self, selection: &PodSelection, answer: &Answer, work: &mut Work<'_>) {
        let Some(definition) = self.loop_definition.clone() else {
            return;
        };
        for trigger in &definition.triggers {
            if matches!(&trigger.source, Source::Pods(counted) if counted == selection) {
                self.answered(trigger.index, answer, work.now, Duration::ZERO, work);
            }
        }
    }
}
