//! Who changed a target's replicas: one rule and one wording for the log, the history, `why` and the page.

use std::fmt;

/// Field manager under which hpalite writes; equal to that of the API client.
const OWN_MANAGER: &str = "hpalite";

/// Field manager under which the HPA controller writes `/scale`.
const HPA_MANAGER: &str = "kube-controller-manager";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Hpalite,
    Hpa,
    Other,
}

impl Actor {
    /// Value of column `replica_change.actor`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Hpalite => "hpalite",
            Self::Hpa => "hpa",
            Self::Other => "other",
        }
    }
}

/// Who made a change, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    pub actor: Actor,
    /// Field manager of `spec.replicas`; if there is none, the actor is inferred.
    pub manager: Option<String>,
}

impl Attribution {
    /// From the field manager that the API server names; a subresource may follow in brackets, as in `hpalite (scale)`.
    #[must_use]
    pub fn observed(manager: impl Into<String>) -> Self {
        let manager = manager.into();
        let actor = match manager.split_once(' ').map_or(&*manager, |(name, _)| name) {
            OWN_MANAGER => Actor::Hpalite,
            HPA_MANAGER => Actor::Hpa,
            _ => Actor::Other,
        };
        Self { actor, manager: Some(manager) }
    }

    /// From what was done or wanted at the time.
    #[must_use]
    pub fn inferred(actor: Actor) -> Self {
        Self { actor, manager: None }
    }

    /// From columns of `replica_change`.
    #[must_use]
    pub fn from_row(actor: &str, manager: Option<&str>) -> Self {
        let actor = match actor {
            "hpalite" => Actor::Hpalite,
            "hpa" => Actor::Hpa,
            _ => Actor::Other,
        };
        Self { actor, manager: manager.map(str::to_owned) }
    }

    /// Value of column `replica_change.source`.
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.manager.is_some() { "observed" } else { "inferred" }
    }
}

/// `the HPA (inferred)`, `hpalite`, `kubectl-scale`.
impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.actor, &self.manager) {
            (Actor::Hpalite, _) => f.write_str("hpalite")?,
            (Actor::Hpa, _) => f.write_str("the HPA")?,
            (Actor::Other, Some(manager)) => f.write_str(manager)?,
            (Actor::Other, None) => f.write_str("someone else")?,
        }
        if self.manager.is_none() { f.write_str(" (inferred)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wording_for_all() {
        for (attribution, words, source) in [
            (Attribution::observed("hpalite (scale)"), "hpalite", "observed"),
            (Attribution::observed("kube-controller-manager (scale)"), "the HPA", "observed"),
            (Attribution::observed("kubectl (scale)"), "kubectl (scale)", "observed"),
            (Attribution::inferred(Actor::Hpa), "the HPA (inferred)", "inferred"),
            (Attribution::inferred(Actor::Hpalite), "hpalite (inferred)", "inferred"),
            (Attribution::inferred(Actor::Other), "someone else (inferred)", "inferred"),
        ] {
            assert_eq!((&*attribution.to_string(), attribution.source()), (words, source));
            let read = Attribution::from_row(attribution.actor.id(), attribution.manager.as_deref());
            assert_eq!(read, attribution);
        }
    }
}
