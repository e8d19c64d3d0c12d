//! The HPA controller's arithmetic: the count that a metric proposes, and what may limit it.
//!
//! The HPA decides between minimum and maximum, not hpalite. These are its rules, with which decisions are recorded and
//! later explained (Kubernetes: pkg/controller/podautoscaler).

use super::model::{Behavior, MetricType, ScalingPolicy, ScalingRules, ShownUnit};

/// A metric this close to its target proposes no change: the controller's `--horizontal-pod-autoscaler-tolerance`.
pub const TOLERANCE: f64 = 0.1;

/// How long a higher recommendation delays a lower one: `--horizontal-pod-autoscaler-downscale-stabilization`.
pub const SCALE_DOWN_WINDOW_SECONDS: i32 = 300;

/// What kept a count from a proposal, or from changing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Min,
    Max,
    /// The metric is within the tolerance of its target.
    Tolerance,
    ScaleUpPolicy,
    ScaleDownPolicy,
    /// Other recommendations within the stabilization window.
    Stabilization,
    Cooldown,
    InitialCooldown,
    Pause,
    /// Triggers are in error, and there is no fallback.
    Error,
    /// Triggers are in error, but not yet as often in a row as the fallback requires.
    FallbackThreshold,
}

impl Limit {
    /// Stable identifier: value of column `decision.limited_by`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::Tolerance => "tolerance",
            Self::ScaleUpPolicy => "scale-up-policy",
            Self::ScaleDownPolicy => "scale-down-policy",
            Self::Stabilization => "stabilization",
            Self::Cooldown => "cooldown",
            Self::InitialCooldown => "initial-cooldown",
            Self::Pause => "pause",
            Self::Error => "error",
            Self::FallbackThreshold => "fallback-threshold",
        }
    }
}

/// The count that one metric proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: u32,
    /// The plain division, rounded up; within the tolerance, `replicas` is the current count instead.
    pub exact: u32,
}

impl Proposal {
    /// Returns true if only the tolerance keeps the count.
    #[must_use]
    pub fn is_tolerated(self) -> bool {
        self.replicas != self.exact
    }
}

/// Returns the count that a metric of this value proposes while `replicas` run, all of them ready.
#[must_use]
pub fn proposal(
    metric_type: MetricType,
    value: f64,
    target: f64,
    replicas: u32,
    behavior: Option<&Behavior>,
) -> Proposal {
    let value = value.max(0.0);
    let running = f64::from(replicas);
    let (ratio, wanted) = match metric_type {
        MetricType::AverageValue => (value / (target * running), value / target),
        MetricType::Value if replicas == 0 => (f64::INFINITY, value / target),
        MetricType::Value => (value / target, value / target * running),
    };
    let exact = whole(wanted.ceil());
    if replicas > 0 && is_tolerated(ratio, behavior) {
        return Proposal { replicas, exact };
    }
    Proposal { replicas: exact, exact }
}

/// Returns the count that a metric proposes whose value an HPA shows, measured while `replicas` ran. Every such value is
/// what the controller compared with the target, but that the share of a whole was rounded up.
#[must_use]
pub fn proposal_of_shown(
    unit: ShownUnit,
    value: f64,
    target: f64,
    replicas: u32,
    behavior: Option<&Behavior>,
) -> Proposal {
    if unit != ShownUnit::Share || replicas == 0 {
        return proposal(MetricType::Value, value, target, replicas, behavior);
    }
    // The least whole that has this share: of 100 for 3 replicas the HPA shows 33.334, which is not to count as 100.002.
    let milli = (value * 1000.0).round();
    let whole = if milli > 0.0 { ((milli - 1.0) * f64::from(replicas) + 1.0) / 1000.0 } else { 0.0 };
    proposal(MetricType::AverageValue, whole, target, replicas, behavior)
}

/// Returns the count that a metric in total, of type `Value`, proposes while only `ready` of the replicas are ready.
#[must_use]
pub fn proposal_of_total(value: f64, target: f64, replicas: u32, ready: u32, behavior: Option<&Behavior>) -> u32 {
    let ratio = value.max(0.0) / target;
    if replicas > 0 && is_tolerated(ratio, behavior) {
        return replicas;
    }
    whole((ratio * f64::from(if replicas == 0 { 1 } else { ready })).ceil())
}

/// Returns whether the ratio of a value to its target is too near to 1 for a change. A target of 0 or no running
/// replica has no ratio; NaN is never within the tolerance.
fn is_tolerated(ratio: f64, behavior: Option<&Behavior>) -> bool {
    ratio <= 1.0 + tolerance(behavior, true) && ratio >= 1.0 - tolerance(behavior, false)
}

/// Returns the tolerance upwards or downwards.
#[must_use]
pub fn tolerance(behavior: Option<&Behavior>, up: bool) -> f64 {
    let text = rules(behavior, up).and_then(|rules| rules.tolerance.as_deref());
    text.and_then(tolerance_from_text).unwrap_or(TOLERANCE)
}

/// Reads the quantities in which fractions are written: `0.05`, `50m`.
fn tolerance_from_text(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().ok().map(|milli| milli / 1000.0),
        None => text.parse().ok(),
    }
}

fn rules(behavior: Option<&Behavior>, up: bool) -> Option<&ScalingRules> {
    let behavior = behavior?;
    if up { behavior.scale_up.as_ref() } else { behavior.scale_down.as_ref() }
}

/// Returns the farthest count that the policies allow from `current`, upwards or downwards, and the policy that allows
/// it. `moved` returns how many more replicas were added than removed (or removed than added) within that many last
/// seconds.
#[must_use]
pub fn policy_limit(
    behavior: Option<&Behavior>,
    up: bool,
    current: u32,
    moved: impl Fn(i32) -> i64,
) -> (u32, Option<ScalingPolicy>) {
    let Some(behavior) = behavior else {
        // Without a behavior the controller has one rule: at most double, but always 4.
        return (if up { current.saturating_mul(2).max(4) } else { 0 }, None);
    };
    let filled = super::hpa::with_defaults(behavior);
    let rules = if up { filled.scale_up } else { filled.scale_down }.unwrap_or_default();
    if rules.select_policy.as_deref() == Some("Disabled") {
        return (current, None);
    }
    let allowed = rules.policies.unwrap_or_default().into_iter().map(|policy| {
        let moved = if up { -moved(policy.period_seconds) } else { moved(policy.period_seconds) };
        let start = u32::try_from((i64::from(current) + moved).max(0)).unwrap_or(u32::MAX);
        let amount = u32::try_from(policy.value).unwrap_or(0);
        let allowed = if up {
            match policy.kind.as_str() {
                "Percent" => whole((f64::from(start) * (1.0 + f64::from(amount) / 100.0)).ceil()),
                _ => start.saturating_add(amount),
            }
            .max(current)
        } else {
            match policy.kind.as_str() {
                "Percent" => whole((f64::from(start) * (1.0 - f64::from(amount) / 100.0)).floor()),
                _ => start.saturating_sub(amount),
            }
            .min(current)
        };
        (allowed, Some(policy))
    });
    // `Max` selects the policy that changes most.
    let farthest = (rules.select_policy.as_deref() != Some("Min")) == up;
    let best = if farthest {
        allowed.max_by_key(|(allowed, _)| *allowed)
    } else {
        allowed.min_by_key(|(allowed, _)| *allowed)
    };
    best.unwrap_or((current, None))
}

fn whole(number: f64) -> u32 {
    // Saturates in both directions; NaN becomes 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = number as u32;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_the_controllers() {
        use MetricType::{AverageValue, Value};
        for (metric_type, value, target, replicas, expected, exact) in [
            (AverageValue, 500.0, 75.0, 4, 7, 7),
            (AverageValue, 500.0, 75.0, 0, 7, 7),
            (AverageValue, 329.0, 75.0, 4, 4, 5),
            (AverageValue, 331.0, 75.0, 4, 5, 5),
            (AverageValue, 550.0, 75.0, 8, 8, 8),
            (AverageValue, 541.0, 75.0, 8, 8, 8),
            (AverageValue, 675.0, 75.0, 10, 10, 9),
            (AverageValue, 674.0, 75.0, 10, 9, 9),
            (AverageValue, 0.0, 75.0, 4, 0, 0),
            (AverageValue, -5.0, 75.0, 4, 0, 0),
            (Value, 200.0, 100.0, 4, 8, 8),
            (Value, 105.0, 100.0, 4, 4, 5),
            (Value, 250.0, 100.0, 0, 3, 3),
        ] {
            let seen = proposal(metric_type, value, target, replicas, None);
            assert_eq!((seen.replicas, seen.exact), (expected, exact), "{metric_type:?} {value} {replicas}");
            assert_eq!(seen.is_tolerated(), expected != exact);
        }
    }

    #[test]
    fn behavior_sets_the_tolerance_of_each_direction() {
        let rules = |text: &str| Some(ScalingRules { tolerance: Some(text.to_owned()), ..ScalingRules::default() });
        let behavior = Behavior { scale_up: rules("50m"), scale_down: rules("0.5") };
        let at = |value| proposal(MetricType::AverageValue, value, 10.0, 10, Some(&behavior));
        assert_eq!([at(106.0).replicas, at(104.0).replicas], [11, 10]);
        assert_eq!([at(51.0).replicas, at(49.0).replicas], [10, 5]);
    }

    fn behavior(scale_up: Option<ScalingRules>, scale_down: Option<ScalingRules>) -> Behavior {
        Behavior { scale_up, scale_down }
    }

    fn policy(kind: &str, value: i32) -> ScalingPolicy {
        ScalingPolicy { kind: kind.to_owned(), value, period_seconds: 60 }
    }

    #[test]
    fn policies_limit_as_the_controller_does() {
        let none = |_| 0;
        assert_eq!(policy_limit(None, true, 1, none).0, 4);
        assert_eq!(policy_limit(None, true, 9, none).0, 18);
        assert_eq!(policy_limit(None, false, 9, none).0, 0);
        let defaults = Behavior::default();
        assert_eq!(policy_limit(Some(&defaults), true, 1, none).0, 5);
        assert_eq!(policy_limit(Some(&defaults), true, 10, none).0, 20);
        assert_eq!(policy_limit(Some(&defaults), false, 10, none).0, 0);
        let rules = |select: Option<&str>, policies| ScalingRules {
            select_policy: select.map(str::to_owned),
            policies: Some(policies),
            ..ScalingRules::default()
        };
        let both = vec![policy("Pods", 2), policy("Percent", 50)];
        let most = behavior(Some(rules(None, both.clone())), Some(rules(None, both.clone())));
        let least = behavior(Some(rules(Some("Min"), both.clone())), Some(rules(Some("Min"), both.clone())));
        assert_eq!(
            (policy_limit(Some(&most), true, 10, none).0, policy_limit(Some(&most), false, 10, none).0),
            (15, 5)
        );
        assert_eq!(
            (policy_limit(Some(&least), true, 10, none).0, policy_limit(Some(&least), false, 10, none).0),
            (12, 8)
        );
        // Replicas that were moved within the period count.
        assert_eq!(policy_limit(Some(&least), true, 12, |_| 2).0, 12);
        assert_eq!(policy_limit(Some(&least), false, 8, |_| 2).0, 8);
        let disabled = behavior(Some(rules(Some("Disabled"), both)), None);
        assert_eq!(policy_limit(Some(&disabled), true, 10, none).0, 10);
    }
}
