//! Which lists are complete, and which objects disappeared while a watch was interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::watched_workloads;
use crate::scaling::event::UnreadableObject;
use crate::scaling::model::{ApiGroup, AuthenticationKind, Gvkr, UnixMillis};

/// Bookkeeping for one watched kind: `(namespace, name)` per scope.
#[derive(Debug)]
pub(super) struct ListTracker {
    /// Scopes that have not been listed completely yet; the empty string is the whole cluster.
    missing: BTreeSet<String>,
    listing: BTreeMap<String, Listing>,
    /// The last interruption of each scope's watch.
    gaps: BTreeMap<String, Gap>,
}

#[derive(Debug)]
struct Gap {
    since: UnixMillis,
    /// Until then the watch shows what it has missed; `None` as long as it is interrupted.
    until: Option<UnixMillis>,
}

/// A watch shows what it has missed within this time.
const CATCHES_UP: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Listing {
    seen: BTreeSet<(String, String)>,
    /// An object in the list has no readable name, so no known object can be called missing.
    has_nameless: bool,
}

impl ListTracker {
    pub(super) fn new(namespaces: &[String]) -> Self {
        let missing =
            if namespaces.is_empty() { BTreeSet::from([String::new()]) } else { namespaces.iter().cloned().collect() };
        Self { missing, listing: BTreeMap::new(), gaps: BTreeMap::new() }
    }

    /// For cluster-scoped kinds, which have one scope whatever namespaces are watched.
    pub(super) fn cluster_scoped() -> Self {
        Self::new(&[])
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    pub(super) fn start(&mut self, scope: String) {
        self.listing.insert(scope, Listing::default());
    }

    /// Notes that the watch of a scope was interrupted.
    pub(super) fn interrupted(&mut self, scope: String, since: UnixMillis) {
        let last = self.gaps.get(&scope).filter(|last| last.until.is_none_or(|until| until >= since));
        let since = last.map_or(since, |last| last.since.min(since));
        self.gaps.insert(scope, Gap { since, until: None });
    }

    pub(super) fn resumed(&mut self, scope: &str, now: UnixMillis) {
        if let Some(gap) = self.gaps.get_mut(scope) {
            gap.until = Some(now.plus(CATCHES_UP));
        }
    }

    fn unseen_since(&self, namespace: &str, now: UnixMillis) -> Option<UnixMillis> {
        let gap = self.gaps.get("").or_else(|| self.gaps.get(namespace))?;
        gap.until.is_none_or(|until| now <= until).then_some(gap.since)
    }

    /// Goes on without a list that cannot be had.
    pub(super) fn give_up(&mut self) {
        self.missing.clear();
    }

    /// Notes that an object exists: a list that is under way shows it, or something newer. Returns true if that is the first
    /// which is known of it since the list began.
    pub(super) fn listed(&mut self, namespace: &str, name: &str) -> bool {
        let mut is_first = false;
        for (scope, listing) in &mut self.listing {
            if scope.is_empty() || scope == namespace {
                is_first |= listing.seen.insert((namespace.to_owned(), name.to_owned()));
            }
        }
        is_first
    }

    pub(super) fn unreadable(&mut self, object: &UnreadableObject) {
        if object.name.is_empty() {
            self.listing.values_mut().for_each(|listing| listing.has_nameless = true);
        } else {
            self.listed(&object.namespace, &object.name);
        }
    }

    /// Ends a list, and returns which of the `known` objects were not in it.
    pub(super) fn end<'a>(
        &mut self,
        scope: &str,
        known: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Vec<(String, String)> {
        let Some(Listing { seen, has_nameless }) = self.listing.remove(scope) else {
            return Vec::new();
        };
        self.missing.remove(scope);
        if has_nameless {
            return Vec::new();
        }
        known
            .filter(|(namespace, _)| scope.is_empty() || scope == *namespace)
            .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
            .filter(|id| !seen.contains(id))
            .collect()
    }
}

/// The lists of each watched kind.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) objects: BTreeMap<ApiGroup, ListTracker>,
    pub(super) hpas: ListTracker,
    pub(super) workloads: BTreeMap<Gvkr, ListTracker>,
    pub(super) authentications: BTreeMap<(ApiGroup, AuthenticationKind), ListTracker>,
    pub(super) namespaces: ListTracker,
}

impl Lists {
    /// Since when the watch of these workloads may have missed what it shows now; `None` if it shows things as they happen.
    pub(super) fn unseen_since(&self, gvkr: &Gvkr, namespace: &str, now: UnixMillis) -> Option<UnixMillis> {
        self.workloads.get(gvkr)?.unseen_since(namespace, now)
    }

    /// Moves all times along with a step of the wall clock.
    pub(super) fn shift(&mut self, shift: impl Fn(UnixMillis) -> UnixMillis) {
        for gap in self.workloads.values_mut().flat_map(|list| list.gaps.values_mut()) {
            (gap.since, gap.until) = (shift(gap.since), gap.until.map(&shift));
        }
    }

    pub(super) fn new(namespaces: &[String]) -> Self {
        let new = || ListTracker::new(namespaces);
        let kind = AuthenticationKind::TriggerAuthentication;
        let mut authentications: BTreeMap<_, _> =
            ApiGroup::ALL.into_iter().map(|group| ((group, kind), new())).collect();
        let cluster = (ApiGroup::KedaSh, AuthenticationKind::ClusterTriggerAuthentication);
        authentications.insert(cluster, ListTracker::cluster_scoped());
        Self {
            objects: ApiGroup::ALL.into_iter().chain([ApiGroup::Autoscaling]).map(|group| (group, new())).collect(),
            hpas: new(),
            workloads: watched_workloads().into_iter().map(|gvkr| (gvkr, new())).collect(),
            authentications,
            namespaces: ListTracker::cluster_scoped(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relist_does_not_show_is_gone() {
        let mut tracker = ListTracker::new(&[]);
        assert!(!tracker.is_complete());
        tracker.start(String::new());
        tracker.listed("a", "1");
        let gone = tracker.end("", [("a", "1"), ("a", "2"), ("b", "1")].into_iter());
        assert_eq!(gone, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "1".to_owned())]);
        assert!(tracker.is_complete());
    }

    #[test]
    fn scopes_are_complete_one_by_one_and_judge_only_themselves() {
        let mut tracker = ListTracker::new(&["a".to_owned(), "b".to_owned()]);
        tracker.start("a".to_owned());
        tracker.listed("b", "1");
        assert_eq!(tracker.end("a", [("b", "1")].into_iter()), []);
        assert!(!tracker.is_complete());
        tracker.start("b".to_owned());
        assert_eq!(tracker.end("b", [("b", "1")].into_iter()).len(), 1);
        assert!(tracker.is_complete());
    }

    #[test]
    fn what_a_list_shows_and_nobody_can_read_is_not_gone() {
        let known = || [("a", "1"), ("a", "2")].into_iter();
        let unreadable = |namespace: &str, name: &str| UnreadableObject {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            error: String::new(),
        };
        let mut tracker = ListTracker::new(&[]);
        tracker.start(String::new());
        tracker.unreadable(&unreadable("a", "1"));
        assert_eq!(tracker.end("", known()), [("a".to_owned(), "2".to_owned())]);
        tracker.start(String::new());
        tracker.unreadable(&unreadable("", ""));
        assert_eq!(tracker.end("", known()), [], "it may be any of them");
        assert!(tracker.is_complete());
        tracker.start(String::new());
        assert_eq!(tracker.end("", known()).len(), 2);
    }

    #[test]
    fn a_list_that_never_ends_removes_nothing() {
        let mut tracker = ListTracker::new(&[]);
        tracker.start(String::new());
        tracker.start(String::new());
        tracker.listed("a", "1");
        assert_eq!(tracker.end("", [("a", "1")].into_iter()), []);
    }
}
