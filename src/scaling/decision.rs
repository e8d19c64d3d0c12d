//! What the core concludes from an object's samples. The write to the target, the object's status, the log and the
//! history all follow from this one value.

use std::sync::Arc;

use super::answer::Absence;
use super::model::{Condition, ConditionKind, ConditionStatus, MetricType, Pause, UnixMillis};
use super::reason::Reason;
use super::recommend::{Limit, Proposal};

/// Reason of the Ready condition if all is well, which tools for KEDA match on.
pub const READY_REASON: &str = "ScaledObjectReady";
pub const READY_MESSAGE: &str = "ScaledObject is defined correctly and is ready for scaling";
/// KEDA's words for objects in trouble, which do not say which trigger has which error.
pub const TRIGGERS_FAIL: &str = "Triggers defined in ScaledObject are not working correctly";
pub const FALLING_BACK: &str = "At least one trigger is falling back on this scaled object";

/// How the detail of a decision begins that is only recorded.
pub const WOULD_HAVE: &str = "would have: ";

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub reason: Reason,
    /// `spec.replicas` of the target; 0 if it cannot be read.
    pub from: u32,
    /// Equal to `from` if nothing moves.
    pub to: u32,
    pub triggers: Vec<DecidedTrigger>,
    pub min: u32,
    /// `None` while the spec is invalid, so that only its pause counts.
    pub max: Option<u32>,
    pub idle: Option<u32>,
    pub pause: Pause,
    /// It is only recorded: `to` is then the count that the object would have.
    pub is_shadow: bool,
    pub force_activation: bool,
    /// When the cooldown ends, or ended, if the decision depended on it.
    pub cooldown_until: Option<UnixMillis>,
}

/// What one trigger contributed to a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecidedTrigger {
    pub metric_name: Arc<str>,
    /// After the policy for missing values and the fallback.
    pub value: Option<f64>,
    pub active: bool,
    pub error: Option<String>,
    pub metric_type: MetricType,
    /// The HPA's target for this metric.
    pub target: f64,
    /// The replicas that the HPA derives from it.
    pub proposal: Option<Proposal>,
    /// The value is the fallback's, because of an error.
    pub fallback: bool,
    /// The newest answer had no number, and the value follows from the trigger's policy.
    pub absence: Option<Absence>,
    /// For the composite metric only: the formula with the triggers' values and its result.
    pub formula: Option<String>,
}

impl Decision {
    /// A decision of an object without triggers and bounds.
    #[must_use]
    pub fn new(reason: Reason, from: u32, to: u32) -> Self {
        Self {
            reason,
            from,
            to,
            triggers: Vec::new(),
            min: 0,
            max: None,
            idle: None,
            pause: Pause::default(),
            is_shadow: false,
            force_activation: false,
            cooldown_until: None,
        }
    }

    /// Returns the reason as a sentence; if replicas are removed, with the metrics that had no number.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut text = if self.is_shadow { format!("{WOULD_HAVE}{}", self.reason) } else { self.reason.to_string() };
        if matches!(self.reason, Reason::Deactivated | Reason::CoolingDown { .. } | Reason::InitialCooldown { .. }) {
            for (trigger, absence) in self.triggers.iter().filter_map(|one| Some((one, one.absence.as_ref()?))) {
                text.push_str(&format!("; {} has {absence}", trigger.metric_name));
            }
        }
        text
    }

    /// Returns the decision as one that is only recorded: `to` is the count that the object would have, with what its
    /// HPA would make of the metrics, before policies and stabilization.
    #[must_use]
    pub fn shadowed(self) -> Self {
        let is_of_hpa = match self.reason {
            Reason::Inactive => self.to > 0 && self.idle.is_none(),
            Reason::TargetUnreadable { .. }
            | Reason::Paused
            | Reason::PausedAtReplicas
            | Reason::Restored
            | Reason::GivenBack
            | Reason::Deactivated
            | Reason::HeldOnError
            | Reason::WaitingForFallback
            | Reason::ScaleOutPaused => false,
            _ => true,
        };
        let mut to = self.to;
        if let Some(proposal) = self.proposal().filter(|_| is_of_hpa) {
            to = proposal.replicas.max(self.min.max(1)).min(self.max.unwrap_or(u32::MAX));
            to = if self.pause.scale_in { to.max(self.from) } else { to };
            to = if self.pause.scale_out { to.min(self.from) } else { to };
        }
        Self { to, is_shadow: true, ..self }
    }

    /// The highest count that a trigger asks for, before any limit.
    #[must_use]
    pub fn proposal(&self) -> Option<Proposal> {
        let proposals = self.triggers.iter().filter_map(|trigger| trigger.proposal);
        // Triggers are not polled during a full pause, so their old values propose nothing.
        proposals.max_by_key(|proposal| proposal.replicas).filter(|_| !self.pause.is_full())
    }

    /// What keeps the count from the proposal, as far as hpalite knows.
    #[must_use]
    pub fn limited_by(&self) -> Option<Limit> {
        match &self.reason {
            Reason::CoolingDown { .. } => Some(Limit::Cooldown),
            Reason::InitialCooldown { .. } => Some(Limit::InitialCooldown),
            Reason::Paused | Reason::PausedAtReplicas | Reason::ScaleInPaused | Reason::ScaleOutPaused => {
                Some(Limit::Pause)
            }
            Reason::HeldOnError => Some(Limit::Error),
            Reason::WaitingForFallback => Some(Limit::FallbackThreshold),
            Reason::Active | Reason::ActiveByAnnotation | Reason::ActiveWithErrors => match self.proposal()? {
                highest if self.max.is_some_and(|max| highest.replicas > max) => Some(Limit::Max),
                highest if highest.replicas < self.min.max(1) => Some(Limit::Min),
                highest if highest.is_tolerated() => Some(Limit::Tolerance),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the object is active; `None` if the decision says nothing of that.
    #[must_use]
    pub fn is_active(&self) -> Option<bool> {
        match self.reason {
            Reason::TargetUnreadable { .. }
            | Reason::Paused
            | Reason::PausedAtReplicas
            | Reason::Restored
            | Reason::GivenBack => None,
            Reason::Activated { .. }
            | Reason::ActivatedByAnnotation
            | Reason::Active
            | Reason::ActiveByAnnotation
            | Reason::ActiveWithErrors
            | Reason::ScaleOutPaused => Some(true),
            Reason::ScaleInPaused
            | Reason::WaitingForFallback
            | Reason::HeldOnError
            | Reason::CoolingDown { .. }
            | Reason::InitialCooldown { .. }
            | Reason::Deactivated
            | Reason::LiftedToMin
            | Reason::Inactive => Some(false),
        }
    }

    /// Errors leave open whether it is active, and nothing is scaled in.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.reason, Reason::WaitingForFallback | Reason::HeldOnError)
    }

    /// Returns true if the cooldown restarts with this decision, or once the replicas that it asks for are written.
    #[must_use]
    pub fn renews_cooldown(&self) -> bool {
        self.is_active() == Some(true) && self.reason != Reason::ScaleOutPaused
    }

    #[must_use]
    pub fn ready(&self) -> Condition {
        let (status, reason, message) = match &self.reason {
            Reason::TargetUnreadable { error } => {
                let message = format!("Error getting current replicas count for ScaleTarget: {error}");
                return Condition::new(
                    ConditionKind::Ready,
                    ConditionStatus::False,
                    "ErrorGettingCurrentReplicas",
                    message,
                );
            }
            Reason::Paused | Reason::PausedAtReplicas => {
                (ConditionStatus::True, READY_REASON, "ScaledObject is paused")
            }
            Reason::ActiveWithErrors => (
                ConditionStatus::Unknown,
                "PartialTriggerError",
                "Some triggers defined in ScaledObject are not working correctly",
            ),
            Reason::HeldOnError => (ConditionStatus::False, "TriggerError", TRIGGERS_FAIL),
            _ => (ConditionStatus::True, READY_REASON, READY_MESSAGE),
        };
        Condition::new(ConditionKind::Ready, status, reason, message)
    }

    /// `None` leaves the condition as it is.
    #[must_use]
    pub fn active(&self) -> Option<Condition> {
        let (status, reason, message) = match (self.is_active()?, &self.reason) {
            (true, _) if self.force_activation => (
                ConditionStatus::True,
                "ScalerActive",
                "Scaling is performed because activation is being forced by annotation",
            ),
            (true, _) => (ConditionStatus::True, "ScalerActive", "Scaling is performed because triggers are active"),
            (false, Reason::CoolingDown { .. } | Reason::InitialCooldown { .. }) => {
                (ConditionStatus::False, "ScalerCooldown", "Scaler cooling down because triggers are not active")
            }
            (false, _) => {
                (ConditionStatus::False, "ScalerNotActive", "Scaling is not performed because triggers are not active")
            }
        };
        Some(Condition::new(ConditionKind::Active, status, reason, message))
    }

    /// Returns which triggers are active, without the composite metric.
    pub fn activity(&self) -> impl Iterator<Item = (&str, bool)> {
        let of_triggers = self.triggers.iter().filter(|trigger| trigger.formula.is_none());
        of_triggers.map(|trigger| (&*trigger.metric_name, trigger.active))
    }

    /// Returns true if the object's status is the same for both.
    #[must_use]
    pub fn has_status_of(&self, other: &Self) -> bool {
        (self.ready(), self.active()) == (other.ready(), other.active()) && self.activity().eq(other.activity())
    }

    /// The same is concluded as in the decision before, whatever the triggers contributed.
    #[must_use]
    pub fn concludes_as(&self, before: &Self) -> bool {
        let lasting = |one: &Self| (one.reason.id(), one.from, one.to, one.force_activation, one.cooldown_until);
        lasting(self) == lasting(before) && self.pause == before.pause
    }

    /// Nothing differs from the decision before but what differs with every poll: values, errors, the time that is
    /// left.
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        let stand_ins = |one: &'_ Self| -> Vec<_> {
            let missing = |trigger: &DecidedTrigger| trigger.absence.as_ref().map(|absence| absence.missing.clone());
            one.triggers.iter().map(|trigger| (trigger.fallback, missing(trigger))).collect()
        };
        self.concludes_as(before) && stand_ins(self) == stand_ins(before)
    }
}
