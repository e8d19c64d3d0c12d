//! The decision about an object's replicas: one pure function of all that is known.
//!
//! Owns the rules for scaling to zero, from zero, to the idle count and up to the minimum. The HPA decides everything
//! between minimum and maximum. Executes nothing.

use super::decision::{DecidedTrigger, Decision};
use super::model::{Definition, ScaledObject, UnixMillis};
use super::reason::Reason;

/// Decides about one object, whose target has `current` replicas unless they cannot be read. `last_active_at` is when a
/// trigger was last active. The cases are in the order of KEDA's own table; the two places where hpalite is more
/// careful have a comment.
#[must_use]
pub fn decide(
    spec: &ScaledObject,
    triggers: Vec<DecidedTrigger>,
    current: Result<u32, &str>,
    last_active_at: Option<UnixMillis>,
    now: UnixMillis,
) -> Decision {
    let definition = spec.definition.as_deref().ok();
    let from = current.unwrap_or(0);
    let mut decision = Decision {
        triggers,
        min: definition.map_or(0, Definition::min),
        max: definition.map(|definition| definition.max_replicas),
        idle: definition.and_then(|definition| definition.idle_replicas),
        pause: spec.pause.clone(),
        force_activation: spec.force_activation,
        ..Decision::new(Reason::Inactive, from, from)
    };
    if let Err(error) = current {
        decision.reason = Reason::TargetUnreadable { error: error.to_owned() };
        return decision;
    }
    if spec.leaves_replicas() {
        left_to_hpa(&mut decision);
        return decision;
    }
    // Pausing at a count works even with an invalid spec, of which nothing else is used.
    let Some(definition) = definition.filter(|_| !spec.pause.is_full()) else {
        paused(&mut decision);
        return decision;
    };
    let active_metrics: Vec<String> = if definition.is_resource_only() {
        // They are always active, since nothing could report that they are active again.
        definition.resource_triggers.iter().map(|trigger| trigger.kind.clone()).collect()
    } else {
        let active = decision.triggers.iter().filter(|trigger| trigger.active);
        active.map(|trigger| trigger.metric_name.to_string()).collect()
    };
    if !active_metrics.is_empty() || spec.force_activation {
        active(active_metrics, &mut decision);
    } else {
        let (since, cooldown) = match last_active_at {
            Some(at) => (at, definition.cooldown_period),
            None => (spec.created_at, definition.initial_cooldown_period),
        };
        inactive(definition, since.plus(cooldown), last_active_at.is_some(), now, &mut decision);
    }
    decision
}

/// The HPA scales its target alone, to zero and from zero too where it can, and what is recorded is what the metrics say.
fn left_to_hpa(decision: &mut Decision) {
    let is_active = decision.triggers.iter().any(|trigger| trigger.active);
    let has_error = decision.triggers.iter().any(|trigger| trigger.error.is_some());
    decision.reason = match (is_active, has_error) {
        (true, true) => Reason::ActiveWithErrors,
        (true, false) => Reason::Active,
        (false, true) => Reason::HeldOnError,
        (false, false) => Reason::Inactive,
    };
}

/// Decides for the minimum of an HPA that is not scaled to zero any more, and whose target hpalite has put there: at 0
/// replicas the HPA does nothing, whatever the load, unless its own minimum is 0.
pub fn give_back(decision: &mut Decision) {
    if decision.min > 0 {
        decision.to = decision.min;
        decision.reason = Reason::GivenBack;
    }
}

fn paused(decision: &mut Decision) {
    decision.reason = Reason::Paused;
    if let Some(Ok(wanted)) = decision.pause.replicas
        && wanted != decision.from
    {
        decision.reason = Reason::PausedAtReplicas;
        decision.to = wanted;
    }
}

fn active(metrics: Vec<String>, decision: &mut Decision) {
    let is_below_min = decision.idle.is_some() && decision.from < decision.min;
    if decision.from == 0 || is_below_min {
        if decision.pause.scale_out {
            decision.reason = Reason::ScaleOutPaused;
            return;
        }
        decision.to = decision.min.max(1);
        decision.reason =
            if decision.force_activation { Reason::ActivatedByAnnotation } else { Reason::Activated { metrics } };
    } else if decision.triggers.iter().any(|trigger| trigger.error.is_some()) {
        // KEDA does not update the time of last activity here, so that the cooldown may already be over when the last
        // active trigger becomes inactive. A trigger is active, so this counts as activity.
        decision.reason = Reason::ActiveWithErrors;
    } else {
        decision.reason = if decision.force_activation { Reason::ActiveByAnnotation } else { Reason::Active };
    }
}

fn inactive(
    definition: &Definition,
    cooldown_until: UnixMillis,
    was_active: bool,
    now: UnixMillis,
    decision: &mut Decision,
) {
    // A formula that fails has no fallback of its own.
    let is_failing = |trigger: &DecidedTrigger| trigger.error.is_some() && trigger.formula.is_none();
    if decision.triggers.iter().any(|trigger| trigger.error.is_some()) {
        // With `fallback.replicas: 0` KEDA treats the failing trigger as 0 and scales to zero while Prometheus is down.
        // Here an error never scales in, so the decision waits for the fallback's threshold.
        let awaits_fallback = definition.fallback.is_some() && decision.triggers.iter().any(is_failing);
        decision.reason = if awaits_fallback { Reason::WaitingForFallback } else { Reason::HeldOnError };
        return;
    }
    let is_above_idle = decision.idle.is_some_and(|idle| decision.from > idle);
    if is_above_idle || (decision.from > 0 && decision.min == 0) {
        scale_in(cooldown_until, was_active, now, decision);
    } else if decision.idle.is_none() && decision.from < decision.min {
        decision.reason = Reason::LiftedToMin;
        decision.to = decision.min;
    }
}

/// Decides for the idle count, or for zero, once the cooldown is over.
fn scale_in(cooldown_until: UnixMillis, was_active: bool, now: UnixMillis, decision: &mut Decision) {
    if decision.pause.scale_in {
        decision.reason = Reason::ScaleInPaused;
        return;
    }
    decision.cooldown_until = Some(cooldown_until);
    let left = cooldown_until.since(now);
    decision.reason = match was_active {
        _ if cooldown_until < now => Reason::Deactivated,
        true => Reason::CoolingDown { left },
        false => Reason::InitialCooldown { left },
    };
    if decision.reason == Reason::Deactivated {
        decision.to = decision.idle.unwrap_or(decision.min);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scaling::model::{Fallback, FallbackBehavior, Pause};
    use crate::scaling::testing::{definition, scaled_object};

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

    impl Case {
        fn decide(self) -> Decision {
            let spec = ScaledObject {
                pause: self.pause,
                force_activation: self.force,
                created_at: self.created_at,
                ..scaled_object(self.definition)
            };
            let trigger = DecidedTrigger {
                metric_name: "s0-prometheus".into(),
                active: self.is_active,
                error: self.is_error.then(|| "refused".to_owned()),
                ..DecidedTrigger::default()
            };
            decide(&spec, vec![trigger], self.current, self.last_active_at, NOW)
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
            let decision = case.decide();
            let (ready, active) = (decision.ready(), decision.active());
            let seen = (
                decision.reason.id(),
                (decision.to != decision.from).then_some(decision.to),
                decision.renews_cooldown(),
                (ready.status.name(), &*ready.reason),
                active.as_ref().map(|c| (c.status.name(), &*c.reason)),
            );
            assert_eq!(seen, (row.reason, row.scale_to, row.touch, row.ready, row.active), "row: {}", row.name);
        }
    }

    #[test]
    fn the_cooldown_says_how_long_it_lasts() {
        let mut case = case();
        case.last_active_at = Some(UnixMillis(NOW.0 - 100_000));
        let decision = case.decide();
        assert_eq!(decision.reason, Reason::CoolingDown { left: Duration::from_secs(200) });
        assert_eq!(decision.cooldown_until, Some(UnixMillis(NOW.0 + 200_000)));
    }
}
