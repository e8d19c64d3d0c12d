//! The workload that an object scales: its identity, what is known of it, and who else scales it.

use std::sync::Arc;

use super::model::{Gvkr, TargetRef, Workload};

/// Identity of a target, whatever version of its API names it: namespace, group, kind and name, with what no name of
/// Kubernetes contains between them. There are several for each object, so each is one short text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TargetId(Arc<str>);

impl TargetId {
    pub(super) fn of(namespace: &str, target: &TargetRef) -> Self {
        let group = target.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        Self::new(namespace, group, &target.kind, &target.name)
    }

    pub(super) fn of_workload(gvkr: &Gvkr, namespace: &str, name: &str) -> Self {
        Self::new(namespace, &gvkr.group, &gvkr.kind, name)
    }

    pub(super) fn namespace(&self) -> &str {
        self.0.split('\0').next().unwrap_or_default()
    }

    fn new(namespace: &str, group: &str, kind: &str, name: &str) -> Self {
        Self(format!("{namespace}\0{group}\0{kind}\0{name}").into())
    }
}

/// The scale target as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    Unknown,
    /// A read is under way.
    Reading,
    Found {
        gvkr: Arc<Gvkr>,
        workload: Arc<Workload>,
    },
    Failed {
        gvkr: Option<Arc<Gvkr>>,
        message: String,
        note: Option<&'static str>,
    },
}

impl Target {
    pub(super) fn gvkr(&self) -> Option<&Arc<Gvkr>> {
        match self {
            Self::Found { gvkr, .. } => Some(gvkr),
            Self::Failed { gvkr, .. } => gvkr.as_ref(),
            Self::Unknown | Self::Reading => None,
        }
    }

    pub(super) fn replicas(&self) -> Option<u32> {
        match self {
            Self::Found { workload, .. } => Some(workload.replicas),
            _ => None,
        }
    }

    pub(super) fn version(&self) -> Option<u64> {
        match self {
            Self::Found { workload, .. } => workload.version,
            _ => None,
        }
    }
}

/// The message of an object whose target belongs to another ScaledObject. [`target_taken_by`] parses it.
pub(super) fn target_is_taken(workload: &str, kind: &str, owner: &str) -> String {
    format!("the workload '{workload}' of type '{kind}' is already managed by the ScaledObject '{owner}'")
}

/// The name of the ScaledObject that owns this target, from a message that ends with the one of [`target_is_taken`].
pub(super) fn target_taken_by<'a>(message: &'a str, target: &TargetRef) -> Option<&'a str> {
    let (_, about) = message.split_once("the workload '")?;
    let (workload, about) = about.split_once("' of type '")?;
    let (kind, owner) = about.split_once("' is already managed by the ScaledObject '")?;
    let same_kind = kind.rsplit_once('.').map_or(kind, |(_, kind)| kind) == target.kind;
    (workload == target.name && same_kind).then(|| owner.strip_suffix('\''))?
}
