//! The pods of one namespace that count, and the count of each selection.
//!
//! Pure. Counts are incremental, so that a pod's change costs a look at each selection and at no other pod.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use crate::kube::watch::HasMeta;
use crate::scaling::model::PodSelection;
use crate::wire::labels::Selector;

/// The fields of a pod that are read; the others are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: PodMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodMeta {
    name: String,
    resource_version: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
}

impl HasMeta for Pod {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// What is kept of a pod: some hundred bytes.
#[derive(Debug)]
struct Kept {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Empty until the pod is scheduled.
    node: Box<str>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pods: HashMap<Box<str>, Kept>,
    /// The list that is being received; the previous pods count until it is complete.
    listing: Option<HashMap<Box<str>, Kept>>,
    is_listed: bool,
    selections: BTreeMap<PodSelection, Selected>,
}

#[derive(Debug)]
struct Selected {
    selector: Selector,
    pods: u32,
    /// The nodes, and how many of the selected pods each runs.
    nodes: HashMap<Box<str>, u32>,
}

impl Index {
    /// Counts these selections and no others.
    pub(super) fn select(&mut self, wanted: BTreeSet<PodSelection>) {
        self.selections.retain(|selection, _| wanted.contains(selection));
        for selection in wanted {
            if self.selections.contains_key(&selection) {
                continue;
            }
            // The selector was validated with the object.
            let Ok(selector) = Selector::parse(&selection.selector) else { continue };
            let mut selected = Selected { selector, pods: 0, nodes: HashMap::new() };
            self.pods.values().for_each(|pod| selected.add(pod));
            self.selections.insert(selection, selected);
        }
    }

    pub(super) fn begin_list(&mut self) {
        self.listing = Some(HashMap::new());
    }

    pub(super) fn listed(&mut self, pod: Pod) {
        if let (Some((name, pod)), Some(listing)) = (keep(pod), &mut self.listing) {
            listing.insert(name, pod);
        }
    }

    pub(super) fn end_list(&mut self) {
        let Some(listing) = self.listing.take() else { return };
        self.pods = listing;
        self.is_listed = true;
        for selected in self.selections.values_mut() {
            (selected.pods, selected.nodes) = (0, HashMap::new());
            self.pods.values().for_each(|pod| selected.add(pod));
        }
    }

    pub(super) fn apply(&mut self, pod: Pod) {
        let name = pod.metadata.name.clone();
        match keep(pod) {
            None => self.delete(&name),
            Some((name, pod)) => {
                self.selections.values_mut().for_each(|selected| selected.add(&pod));
                if let Some(before) = self.pods.insert(name, pod) {
                    self.selections.values_mut().for_each(|selected| selected.remove(&before));
                }
            }
        }
    }

    pub(super) fn delete(&mut self, name: &str) {
        if let Some(before) = self.pods.remove(name) {
            self.selections.values_mut().for_each(|selected| selected.remove(&before));
        }
    }

    /// Returns each selection with its count; `None` before the first list.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&PodSelection, Option<u32>)> {
        self.selections.iter().map(|(selection, selected)| {
            let nodes = u32::try_from(selected.nodes.len()).unwrap_or(u32::MAX);
            let count = if selection.group_by_node { nodes } else { selected.pods };
            (selection, self.is_listed.then_some(count))
        })
    }
}

impl Selected {
    fn matches(&self, pod: &Kept) -> bool {
        self.selector.matches(|key| pod.labels.iter().find(|(name, _)| &**name == key).map(|(_, value)| &**value))
    }

    fn add(&mut self, pod: &Kept) {
        if self.matches(pod) {
            self.pods += 1;
            if !pod.node.is_empty() {
                *self.nodes.entry(pod.node.clone()).or_default() += 1;
            }
        }
    }

    fn remove(&mut self, pod: &Kept) {
        if self.matches(pod) {
            self.pods -= 1;
            if let Some(pods) = self.nodes.get_mut(&pod.node) {
                *pods -= 1;
                if *pods == 0 {
                    self.nodes.remove(&pod.node);
                }
            }
        }
    }
}

/// Returns `None` for a pod that has terminated, which does not count.
fn keep(pod: Pod) -> Option<(Box<str>, Kept)> {
    if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let labels = pod.metadata.labels.unwrap_or_default().into_iter();
    let labels = labels.map(|(key, value)| (key.into_boxed_str(), value.into_boxed_str())).collect();
    let node = pod.spec.node_name.unwrap_or_default().into_boxed_str();
    Some((pod.metadata.name.into_boxed_str(), Kept { labels, node }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, app: &str, node: &str, phase: &str) -> Pod {
        let pod = json!({
            "metadata": { "name": name, "labels": { "app": app }, "resourceVersion": "1" },
            "spec": { "nodeName": node, "containers": [{ "name": "c" }] }, "status": { "phase": phase },
        });
        serde_json::from_value(pod).unwrap()
    }

    fn selection(selector: &str, group_by_node: bool) -> PodSelection {
        PodSelection { selector: selector.into(), group_by_node }
    }

    fn counts(index: &Index) -> Vec<Option<u32>> {
        index.counts().map(|(_, count)| count).collect()
    }

    #[test]
    fn counts_follow_the_pods() {
        let mut index = Index::default();
        index.select(BTreeSet::from([selection("app=a", false), selection("app=a", true), selection("app!=a", false)]));
        assert_eq!(counts(&index), [None, None, None]);
        index.begin_list();
        index.listed(pod("a1", "a", "n1", "Running"));
        index.listed(pod("a2", "a", "n1", "Pending"));
        index.listed(pod("b1", "b", "n2", "Running"));
        index.listed(pod("a3", "a", "n3", "Succeeded"));
        assert_eq!(counts(&index), [None, None, None]);
        index.end_list();
        // In the order app!=a, app=a, app=a by node.
        assert_eq!(counts(&index), [Some(1), Some(2), Some(1)]);
        index.apply(pod("a4", "a", "", "Pending"));
        assert_eq!(counts(&index), [Some(1), Some(3), Some(1)]);
        index.apply(pod("a4", "a", "n2", "Running"));
        assert_eq!(counts(&index), [Some(1), Some(3), Some(2)]);
        index.apply(pod("a4", "b", "n2", "Running"));
        assert_eq!(counts(&index), [Some(2), Some(2), Some(1)]);
        index.apply(pod("a1", "a", "n1", "Failed"));
        assert_eq!(counts(&index), [Some(2), Some(1), Some(1)]);
        index.delete("a2");
        index.delete("a2");
        assert_eq!(counts(&index), [Some(2), Some(0), Some(0)]);
        // A pod that vanished between two lists is gone; a list that was interrupted changes nothing.
        index.begin_list();
        index.listed(pod("a9", "a", "n1", "Running"));
        index.begin_list();
        assert_eq!(counts(&index), [Some(2), Some(0), Some(0)]);
        index.listed(pod("b1", "b", "n2", "Running"));
        index.end_list();
        assert_eq!(counts(&index), [Some(1), Some(0), Some(0)]);
        index.select(BTreeSet::from([selection("app", true)]));
        assert_eq!(counts(&index), [Some(1)]);
    }

    /// Compares with counting from scratch, over random changes.
    #[test]
    fn counts_equal_a_recount() {
        let mut random = fastrand::Rng::with_seed(5);
        let wanted = BTreeSet::from([selection("app=a", false), selection("app in (a,b)", true)]);
        let mut index = Index::default();
        index.select(wanted.clone());
        index.begin_list();
        index.end_list();
        let mut pods: BTreeMap<String, (String, String, String)> = BTreeMap::new();
        for _ in 0..5_000 {
            let name = format!("p{}", random.u8(..20));
            if random.u8(..4) == 0 {
                index.delete(&name);
                pods.remove(&name);
            } else {
                let mut pick = |from: &[&str]| from[random.usize(..from.len())].to_owned();
                let (app, node) = (pick(&["a", "b", "c"]), pick(&["", "n1", "n2", "n3"]));
                let phase = pick(&["Pending", "Running", "Succeeded", "Failed", "Unknown"]);
                index.apply(pod(&name, &app, &node, &phase));
                pods.insert(name, (app, node, phase));
            }
            let counting = || pods.values().filter(|(_, _, phase)| phase != "Succeeded" && phase != "Failed");
            let plain = counting().filter(|(app, ..)| app == "a").count();
            let nodes: BTreeSet<&String> =
                counting().filter(|(app, node, _)| app != "c" && !node.is_empty()).map(|(_, node, _)| node).collect();
            // In the order of the selector texts.
            let expected = [nodes.len(), plain].map(|count| u32::try_from(count).ok());
            assert_eq!(counts(&index), expected);
        }
    }
}
