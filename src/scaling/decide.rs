//! The decision about an object's replicas: one pure function of all that is known.
//!
//! Owns the rules for scaling to zero, from zero, to the idle count and up to the minimum. The HPA decides everything
//! between minimum and maximum. Executes nothing.

use super::model::{Condition, ConditionKind, ConditionStatus, Definition, Pause, UnixMillis};
use super::reason::Reason;

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub definition: &'a Definition,
    pub pause: &'a Pause,
    pub force_activation: bool,
    pub created_at: UnixMillis,
    /// When a trigger was last active, in milliseconds.
    pub last_active_at: Option<UnixMillis>,
    /// `spec.replicas` of the target, or why it cannot be read.
    pub current: Result<u32, &'a str>,
    /// Some trigger is active.
    pub is_active: bool,
    /// Some trigger is in error after its fallback was considered.
    pub is_error: bool,
    /// Some trigger in error has a fallback that may still take effect; a failing formula has none.
    pub awaits_fallback: bool,
    /// Metric names of the active triggers.
    pub active_metrics: &'a [String],
}

/// What to do, and what to report about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub reason: Reason,
    /// Write this count to the target.
    pub scale_to: Option<u32>,
    /// The object counts as active now; with `scale_to`, only once that write has succeeded.
    pub touch_last_active: bool,
    pub ready: Condition,
    /// `None` leaves the condition as it is.
    pub active: Option<Condition>,
    /// When the cooldown ends or ended, if the decision depends on it.
    pub cooldown_until: Option<UnixMillis>,
}

/// Reason of the Ready condition if all is well, which tools for KEDA match on.
pub const READY_REASON: &str = "ScaledObjectReady";
pub const READY_MESSAGE: &str = "ScaledObject is defined correctly and is ready for scaling";

/// Decides about one object. The cases are in the order of KEDA's own table; the two places where hpalite is more
/// careful have a comment.
#[must_use]
pub fn decide(situation: &Situation<'_>, now: UnixMillis) -> Decision {
    let current = match situation.current {
        Ok(current) => current,
        Err(error) => return unreadable(error),
    };
    if situation.pause.is_full() {
        return paused(situation.pause, current);
    }
    if situation.is_active || situation.force_activation {
        return active(situation, current);
    }
    inactive(situation, current, now)
}

fn unreadable(error: &str) -> Decision {
    let message = format!("Error getting current replicas count for ScaleTarget: {error}");
    Decision {
        reason: Reason::TargetUnreadable { error: error.to_owned() },
        scale_to: None,
        touch_last_active: false,
        ready: ready(ConditionStatus::False, "ErrorGettingCurrentReplicas", &message),
        active: None,
        cooldown_until: None,
    }
}

fn paused(pause: &Pause, current: u32) -> Decision {
    let scale_to = match pause.replicas {
        Some(Ok(wanted)) if wanted != current => Some(wanted),
        _ => None,
    };
    let reason = if scale_to.is_some() { Reason::PausedAtReplicas } else { Reason::Paused };
    Decision {
        reason,
        scale_to,
        touch_last_active: false,
        ready: ready(ConditionStatus::True, READY_REASON, "ScaledObject is paused"),
        active: None,
        cooldown_until: None,
    }
}

fn active(situation: &Situation<'_>, current: u32) -> Decision {
    let definition = situation.definition;
    let message = if situation.force_activation {
        "Scaling is performed because activation is being forced by annotation"
    } else {
        "Scaling is performed because triggers are active"
    };
    let mut decision = Decision {
        reason: Reason::Active,
        scale_to: None,
        touch_last_active: true,
        ready: all_well(),
        active: Some(active_condition(ConditionStatus::True, "ScalerActive", message)),
        cooldown_until: None,
    };
    let idle_below_min = definition.idle_replicas.is_some() && current < definition.min();
    if current == 0 || idle_below_min {
        if situation.pause.scale_out {
            decision.reason = Reason::ScaleOutPaused;
            decision.touch_last_active = false;
            return decision;
        }
        decision.scale_to = Some(definition.min().max(1));
        decision.reason = if situation.force_activation {
            Reason::ActivatedByAnnotation
        } else {
            Reason::Activated { metrics: situation.active_metrics.to_vec() }
        };
        return decision;
    }
    if situation.is_error {
        // KEDA does not update the time of last activity here, so that the cooldown may already be over when the last
        // active trigger becomes inactive. A trigger is active, so this counts as activity.
        decision.reason = Reason::ActiveWithErrors;
        decision.ready = ready(
            ConditionStatus::Unknown,
            "PartialTriggerError",
            "Some triggers defined in ScaledObject are not working correctly",
        );
    } else if situation.force_activation {
        decision.reason = Reason::ActiveByAnnotation;
    }
    decision
}

fn inactive(situation: &Situation<'_>, current: u32, now: UnixMillis) -> Decision {
    let definition = situation.definition;
    let mut decision = Decision {
        reason: Reason::Inactive,
        scale_to: None,
        touch_last_active: false,
        ready: all_well(),
        active: Some(active_condition(
            ConditionStatus::False,
            "ScalerNotActive",
            "Scaling is not performed because triggers are not active",
        )),
        cooldown_until: None,
    };
    if situation.is_error {
        // With `fallback.replicas: 0` KEDA treats the failing trigger as 0 and scales to zero while Prometheus is down.
        // Here an error never scales in, so the decision waits for the fallback's threshold.
        if situation.awaits_fallback {
            decision.reason = Reason::WaitingForFallback;
        } else {
            decision.reason = Reason::HeldOnError;
            decision.ready = ready(
                ConditionStatus::False,
                "TriggerError",
                "Triggers defined in ScaledObject are not working correctly",
            );
        }
        return decision;
    }
    let above_idle = definition.idle_replicas.is_some_and(|idle| current > idle);
    if above_idle || (current > 0 && definition.min() == 0) {
        scale_in(situation, now, &mut decision);
    } else if definition.idle_replicas.is_none() && current < definition.min() {
        decision.reason = Reason::LiftedToMin;
        decision.scale_to = Some(definition.min());
    }
    decision
}

/// Scales to zero or to the idle count once the cooldown is over.
fn scale_in(situation: &Situation<'_>, now: UnixMillis, decision: &mut Decision) {
    let definition = situation.definition;
    if situation.pause.scale_in {
        decision.reason = Reason::ScaleInPaused;
        return;
    }
    let (since, period) = match situation.last_active_at {
        Some(at) => (at, definition.cooldown_period),
        None => (situation.created_at, definition.initial_cooldown_period),
    };
    let over_at = since.plus(period);
    decision.cooldown_until = Some(over_at);
    if over_at >= now {
        let left = over_at.since(now);
        decision.reason = match situation.last_active_at {
            Some(_) => Reason::CoolingDown { left },
            None => Reason::InitialCooldown { left },
        };
        decision.active = Some(active_condition(
            ConditionStatus::False,
            "ScalerCooldown",
            "Scaler cooling down because triggers are not active",
        ));
        return;
    }
    decision.reason = Reason::Deactivated;
    decision.scale_to = Some(definition.idle_replicas.unwrap_or(definition.min()));
}

fn all_well() -> Condition {
    ready(ConditionStatus::True, READY_REASON, READY_MESSAGE)
}

fn ready(status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition { kind: ConditionKind::Ready, status, reason: reason.to_owned(), message: message.to_owned() }
}

fn active_condition(status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition { kind: ConditionKind::Active, status, reason: reason.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scaling::model::{Fallback, FallbackBehavior};
    use crate::scaling::testing::definition;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    /// One row of the table: the differences from "inactive, healthy, one replica, min 0, active long ago".
    struct Row {
        name: &'static str,
        change: fn(&mut Case),
        reason: &'static str,
        scale_to: Option<u32>,
        touch: bool,
        ready: (&'static str, &'static str),
        active: Option<(&'static str, &'static str)>,
    }

    struct Case {
        definition: Definition,
        pause: Pause,
        force: bool,
        created_at: UnixMillis,
        last_active_at: Option<UnixMillis>,
        current: Result<u32, &'static str>,
        is_active: bool,
        is_error: bool,
    }

    fn case() -> Case {
        Case {
            definition: definition(),
            pause: Pause::default(),
            force: false,
            created_at: UnixMillis(0),
            last_active_at: Some(UnixMillis(0)),
            current: Ok(1),
            is_active: false,
            is_error: false,
        }
    }

    const OK: (&str, &str) = ("True", "ScaledObjectReady");
    const ACTIVE: Option<(&str, &str)> = Some(("True", "ScalerActive"));
    const NOT_ACTIVE: Option<(&str, &str)> = Some(("False", "ScalerNotActive"));
    const COOLING: Option<(&str, &str)> = Some(("False", "ScalerCooldown"));

    fn fallback(replicas: u32) -> Option<Fallback> {
        Some(Fallback { failure_threshold: 3, replicas, behavior: FallbackBehavior::Static })
    }

    #[rustfmt::skip]
    const ROWS: &[Row] = &[
        Row { name: "unreadable target", change: |c| c.current = Err("no such host"), reason: "TargetUnreadable", scale_to: None, touch: false, ready: ("False", "ErrorGettingCurrentReplicas"), active: None },
        Row { name: "unreadable wins over paused", change: |c| { c.current = Err("x"); c.pause.paused = true }, reason: "TargetUnreadable", scale_to: None, touch: false, ready: ("False", "ErrorGettingCurrentReplicas"), active: None },
        Row { name: "paused holds an active object", change: |c| { c.pause.paused = true; c.is_active = true; c.current = Ok(0) }, reason: "Paused", scale_to: None, touch: false, ready: OK, active: None },
        Row { name: "paused-replicas moves", change: |c| c.pause.replicas = Some(Ok(5)), reason: "PausedAtReplicas", scale_to: Some(5), touch: false, ready: OK, active: None },
        Row { name: "paused-replicas 0 moves to 0", change: |c| { c.pause.replicas = Some(Ok(0)); c.is_active = true }, reason: "PausedAtReplicas", scale_to: Some(0), touch: false, ready: OK, active: None },
        Row { name: "paused-replicas already there", change: |c| c.pause.replicas = Some(Ok(1)), reason: "Paused", scale_to: None, touch: false, ready: OK, active: None },
        Row { name: "paused-replicas above max is obeyed", change: |c| { c.pause.replicas = Some(Ok(500)); c.definition.max_replicas = 10 }, reason: "PausedAtReplicas", scale_to: Some(500), touch: false, ready: OK, active: None },

        Row { name: "activation from zero", change: |c| { c.current = Ok(0); c.is_active = true }, reason: "Activated", scale_to: Some(1), touch: true, ready: OK, active: ACTIVE },
        Row { name: "activation goes to min", change: |c| { c.current = Ok(0); c.is_active = true; c.definition.min_replicas = Some(3) }, reason: "Activated", scale_to: Some(3), touch: true, ready: OK, active: ACTIVE },
        Row { name: "activation with errors elsewhere", change: |c| { c.current = Ok(0); c.is_active = true; c.is_error = true }, reason: "Activated", scale_to: Some(1), touch: true, ready: OK, active: ACTIVE },
        Row { name: "activation from idle", change: |c| { c.current = Ok(1); c.is_active = true; c.definition.min_replicas = Some(3); c.definition.idle_replicas = Some(1) }, reason: "Activated", scale_to: Some(3), touch: true, ready: OK, active: ACTIVE },
        Row { name: "no lift below min without idle while active", change: |c| { c.current = Ok(1); c.is_active = true; c.definition.min_replicas = Some(3) }, reason: "Active", scale_to: None, touch: true, ready: OK, active: ACTIVE },
        Row { name: "scale-out paused holds activation", change: |c| { c.current = Ok(0); c.is_active = true; c.pause.scale_out = true }, reason: "ScaleOutPaused", scale_to: None, touch: false, ready: OK, active: ACTIVE },
        Row { name: "scale-out paused and running", change: |c| { c.is_active = true; c.pause.scale_out = true }, reason: "Active", scale_to: None, touch: true, ready: OK, active: ACTIVE },
        Row { name: "running and active", change: |c| c.is_active = true, reason: "Active", scale_to: None, touch: true, ready: OK, active: ACTIVE },
        Row { name: "running, active, one in error", change: |c| { c.is_active = true; c.is_error = true }, reason: "ActiveWithErrors", scale_to: None, touch: true, ready: ("Unknown", "PartialTriggerError"), active: ACTIVE },
        Row { name: "above max is the HPA's", change: |c| { c.is_active = true; c.current = Ok(500) }, reason: "Active", scale_to: None, touch: true, ready: OK, active: ACTIVE },
        Row { name: "forced from zero", change: |c| { c.current = Ok(0); c.force = true }, reason: "ActivatedByAnnotation", scale_to: Some(1), touch: true, ready: OK, active: ACTIVE },
        Row { name: "forced from idle to min", change: |c| { c.current = Ok(0); c.force = true; c.definition.min_replicas = Some(2); c.definition.idle_replicas = Some(0) }, reason: "ActivatedByAnnotation", scale_to: Some(2), touch: true, ready: OK, active: ACTIVE },
        Row { name: "forced and running", change: |c| c.force = true, reason: "ActiveByAnnotation", scale_to: None, touch: true, ready: OK, active: ACTIVE },
        Row { name: "forced while triggers fail", change: |c| { c.force = true; c.is_error = true }, reason: "ActiveWithErrors", scale_to: None, touch: true, ready: ("Unknown", "PartialTriggerError"), active: ACTIVE },

        Row { name: "error holds", change: |c| c.is_error = true, reason: "HeldOnError", scale_to: None, touch: false, ready: ("False", "TriggerError"), active: NOT_ACTIVE },
        Row { name: "error holds at zero", change: |c| { c.is_error = true; c.current = Ok(0) }, reason: "HeldOnError", scale_to: None, touch: false, ready: ("False", "TriggerError"), active: NOT_ACTIVE },
        Row { name: "error below min does not lift", change: |c| { c.is_error = true; c.definition.min_replicas = Some(3) }, reason: "HeldOnError", scale_to: None, touch: false, ready: ("False", "TriggerError"), active: NOT_ACTIVE },
        Row { name: "error waits for the fallback", change: |c| { c.is_error = true; c.definition.fallback = fallback(4) }, reason: "WaitingForFallback", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "error waits for a fallback of 0 too", change: |c| { c.is_error = true; c.definition.fallback = fallback(0) }, reason: "WaitingForFallback", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },

        Row { name: "to zero after the cooldown", change: |_| (), reason: "Deactivated", scale_to: Some(0), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "cooldown not over", change: |c| c.last_active_at = Some(UnixMillis(NOW.0 - 299_999)), reason: "CoolingDown", scale_to: None, touch: false, ready: OK, active: COOLING },
        Row { name: "cooldown at its last millisecond", change: |c| c.last_active_at = Some(UnixMillis(NOW.0 - 300_000)), reason: "CoolingDown", scale_to: None, touch: false, ready: OK, active: COOLING },
        Row { name: "cooldown just over", change: |c| c.last_active_at = Some(UnixMillis(NOW.0 - 300_001)), reason: "Deactivated", scale_to: Some(0), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "never active, no initial cooldown", change: |c| c.last_active_at = None, reason: "Deactivated", scale_to: Some(0), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "never active, initial cooldown", change: |c| { c.last_active_at = None; c.created_at = UnixMillis(NOW.0 - 1000); c.definition.initial_cooldown_period = Duration::from_secs(600) }, reason: "InitialCooldown", scale_to: None, touch: false, ready: OK, active: COOLING },
        Row { name: "initial cooldown is over once active", change: |c| { c.created_at = UnixMillis(NOW.0 - 400_000); c.last_active_at = Some(UnixMillis(NOW.0 - 300_001)); c.definition.initial_cooldown_period = Duration::from_secs(600) }, reason: "Deactivated", scale_to: Some(0), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "scale-in paused", change: |c| c.pause.scale_in = true, reason: "ScaleInPaused", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "already zero", change: |c| c.current = Ok(0), reason: "Inactive", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "min 1 stays", change: |c| c.definition.min_replicas = Some(1), reason: "Inactive", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "above min is the HPA's", change: |c| { c.definition.min_replicas = Some(1); c.current = Ok(9) }, reason: "Inactive", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "below min is lifted", change: |c| { c.definition.min_replicas = Some(3); c.current = Ok(1) }, reason: "LiftedToMin", scale_to: Some(3), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "zero below min is lifted", change: |c| { c.definition.min_replicas = Some(3); c.current = Ok(0) }, reason: "LiftedToMin", scale_to: Some(3), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "lifting ignores paused scale-out", change: |c| { c.definition.min_replicas = Some(3); c.current = Ok(1); c.pause.scale_out = true }, reason: "LiftedToMin", scale_to: Some(3), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "to idle", change: |c| { c.definition.min_replicas = Some(3); c.definition.idle_replicas = Some(1); c.current = Ok(3) }, reason: "Deactivated", scale_to: Some(1), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "to idle 0", change: |c| { c.definition.min_replicas = Some(3); c.definition.idle_replicas = Some(0); c.current = Ok(1) }, reason: "Deactivated", scale_to: Some(0), touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "at idle, below min, stays", change: |c| { c.definition.min_replicas = Some(3); c.definition.idle_replicas = Some(1); c.current = Ok(1) }, reason: "Inactive", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
        Row { name: "below idle stays", change: |c| { c.definition.min_replicas = Some(3); c.definition.idle_replicas = Some(2); c.current = Ok(1) }, reason: "Inactive", scale_to: None, touch: false, ready: OK, active: NOT_ACTIVE },
    ];

    #[test]
    fn every_row_of_the_table() {
        for row in ROWS {
            let mut case = case();
            (row.change)(&mut case);
            let metrics = ["s0-prometheus".to_owned()];
            let decision = decide(
                &Situation {
                    definition: &case.definition,
                    pause: &case.pause,
                    force_activation: case.force,
                    created_at: case.created_at,
                    last_active_at: case.last_active_at,
                    current: case.current,
                    is_active: case.is_active,
                    is_error: case.is_error,
                    awaits_fallback: case.is_error && case.definition.fallback.is_some(),
                    active_metrics: &metrics,
                },
                NOW,
            );
            let seen = (
                decision.reason.id(),
                decision.scale_to,
                decision.touch_last_active,
                (decision.ready.status.name(), decision.ready.reason.as_str()),
                decision.active.as_ref().map(|c| (c.status.name(), c.reason.as_str())),
            );
            assert_eq!(seen, (row.reason, row.scale_to, row.touch, row.ready, row.active), "row: {}", row.name);
        }
    }

    #[test]
    fn the_cooldown_says_how_long_it_lasts() {
        let mut case = case();
        case.last_active_at = Some(UnixMillis(NOW.0 - 100_000));
        let situation = Situation {
            definition: &case.definition,
            pause: &case.pause,
            force_activation: false,
            created_at: case.created_at,
            last_active_at: case.last_active_at,
            current: Ok(1),
            is_active: false,
            is_error: false,
            awaits_fallback: false,
            active_metrics: &[],
        };
        let decision = decide(&situation, NOW);
        assert_eq!(decision.reason, Reason::CoolingDown { left: Duration::from_secs(200) });
        assert_eq!(decision.cooldown_until, Some(UnixMillis(NOW.0 + 200_000)));
    }
}
