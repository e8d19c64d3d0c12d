//! The pods that kubernetes-workload triggers count: each selection once, shared by all objects that want it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::scaling::event::{Answer, Command, PollError};
use crate::scaling::model::{ObjectKey, PodSelection};

/// All selections, by namespace.
#[derive(Debug, Default)]
pub(super) struct Selections {
    namespaces: BTreeMap<Arc<str>, BTreeMap<PodSelection, Selected>>,
}

/// One selection, shared by all objects that want it.
#[derive(Debug, Default)]
struct Selected {
    /// `None` before the first count.
    count: Option<Result<u32, PollError>>,
    objects: BTreeSet<ObjectKey>,
}

impl Selections {
    /// Returns the last count; `None` if there is none yet.
    pub(super) fn answer(&self, namespace: &str, selection: &PodSelection) -> Option<Answer> {
        let selected = self.namespaces.get(namespace)?.get(selection)?;
        selected.count.as_ref().map(answer)
    }

    /// Sets the object's selections, and returns a command if the set of pods to be counted changes.
    pub(super) fn want(&mut self, key: &ObjectKey, wanted: &BTreeSet<PodSelection>) -> Option<Command> {
        self.select(key, wanted).then(|| {
            let selections = self.namespaces.get(&key.namespace);
            let selections = selections.map_or_else(Vec::new, |selections| selections.keys().cloned().collect());
            Command::WatchPods { namespace: Arc::clone(&key.namespace), selections }
        })
    }

    /// Takes in a new count, and returns the objects for which it is new.
    pub(super) fn counted(
        &mut self,
        namespace: &str,
        selection: &PodSelection,
        count: Result<u32, PollError>,
    ) -> BTreeSet<ObjectKey> {
        let selected = self.namespaces.get_mut(namespace).and_then(|selections| selections.get_mut(selection));
        match selected {
            Some(selected) if selected.count.as_ref() != Some(&count) => {
                selected.count = Some(count);
                selected.objects.clone()
            }
            _ => BTreeSet::new(),
        }
    }

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

pub(super) fn answer(count: &Result<u32, PollError>) -> Answer {
    match count {
        Ok(count) => Answer::Value(f64::from(*count)),
        Err(error) => Answer::Failed(error.clone()),
    }
}
