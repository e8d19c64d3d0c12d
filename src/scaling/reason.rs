//! Why something was or was not done: one typed value for the condition, the Kubernetes Event, the log line and the
//! SQLite row alike.

use std::fmt;
use std::time::Duration;

/// The result of one decision about an object's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Triggers became active: from zero or idle up to `max(min, 1)`.
    Activated { metrics: Vec<String> },
    /// The same, by the `force-activation` annotation.
    ActivatedByAnnotation,
    /// Triggers are active and the target runs: the HPA decides the count.
    Active,
    /// Forced by annotation, and the target runs.
    ActiveByAnnotation,
    /// Active, but some trigger is in error.
    ActiveWithErrors,
    /// Would activate, but scaling out is paused.
    ScaleOutPaused,
    /// Would scale in, but scaling in is paused.
    ScaleInPaused,
    /// Fully paused by annotation.
    Paused,
    /// Set to the count of the `paused-replicas` annotation.
    PausedAtReplicas,
    /// No trigger is active, and every failing one waits for its fallback threshold.
    WaitingForFallback,
    /// No trigger is active and some trigger is in error: the count is held.
    HeldOnError,
    /// Inactive, with the time left until the cooldown ends.
    CoolingDown { left: Duration },
    /// Inactive since its creation, with the time left of `initialCooldownPeriod`.
    InitialCooldown { left: Duration },
    /// Scaled to zero or to the idle count.
    Deactivated,
    /// Was below `minReplicaCount` and is raised to it.
    LiftedToMin,
    /// Inactive, and already at the right count.
    Inactive,
    /// The target's replicas cannot be read.
    TargetUnreadable { error: String },
    /// An annotated HPA that is not scaled to zero any more gets its minimum, from which it scales by itself.
    GivenBack,
    /// Set back to the target's original count at deletion.
    Restored,
}

impl Reason {
    /// Stable identifier: value of column `decision.reason` and of log key `reason`.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Activated { .. } => "Activated",
            Self::ActivatedByAnnotation => "ActivatedByAnnotation",
            Self::Active => "Active",
            Self::ActiveByAnnotation => "ActiveByAnnotation",
            Self::ActiveWithErrors => "ActiveWithErrors",
            Self::ScaleOutPaused => "ScaleOutPaused",
            Self::ScaleInPaused => "ScaleInPaused",
            Self::Paused => "Paused",
            Self::PausedAtReplicas => "PausedAtReplicas",
            Self::WaitingForFallback => "WaitingForFallback",
            Self::HeldOnError => "HeldOnError",
            Self::CoolingDown { .. } => "CoolingDown",
            Self::InitialCooldown { .. } => "InitialCooldown",
            Self::Deactivated => "Deactivated",
            Self::LiftedToMin => "LiftedToMin",
            Self::Inactive => "Inactive",
            Self::TargetUnreadable { .. } => "TargetUnreadable",
            Self::GivenBack => "GivenBack",
            Self::Restored => "Restored",
        }
    }
}

/// A sentence for people.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activated { metrics } => write!(f, "activated by {}", metrics.join(", ")),
            Self::ActivatedByAnnotation => f.write_str("activated by the force-activation annotation"),
            Self::Active => f.write_str("triggers are active, the HPA decides the count"),
            Self::ActiveByAnnotation => f.write_str("kept active by the force-activation annotation"),
            Self::ActiveWithErrors => f.write_str("triggers are active, but some are in error"),
            Self::ScaleOutPaused => f.write_str("scale-out is paused by annotation"),
            Self::ScaleInPaused => f.write_str("scale-in is paused by annotation"),
            Self::Paused => f.write_str("paused by annotation"),
            Self::PausedAtReplicas => f.write_str("set to the paused replica count"),
            Self::WaitingForFallback => f.write_str("triggers are in error, waiting for the fallback threshold"),
            Self::HeldOnError => f.write_str("triggers are in error, nothing moves"),
            Self::CoolingDown { left } => write!(f, "cooling down, {} s left", left.as_secs()),
            Self::InitialCooldown { left } => {
                write!(f, "initial cooldown, {} s left", left.as_secs())
            }
            Self::Deactivated => f.write_str("no trigger is active, cooldown over"),
            Self::LiftedToMin => f.write_str("lifted to minReplicaCount"),
            Self::Inactive => f.write_str("no trigger is active"),
            Self::TargetUnreadable { error } => {
                write!(f, "replicas of the target cannot be read: {error}")
            }
            Self::GivenBack => f.write_str("not scaled to zero any more, so that the HPA begins at its minimum"),
            Self::Restored => f.write_str("restored to the original replica count"),
        }
    }
}
