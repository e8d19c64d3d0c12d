//! The HPA controller's arithmetic: the count that a metric proposes, and what may limit it.
//!
//! The HPA decides between minimum and maximum, not hpalite. These are its rules, with which decisions are recorded and
//! later explained (Kubernetes: pkg/controller/podautoscaler).

use super::model::{Behavior, MetricType, ScalingRules};

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
    // A target of 0 or no running replica has no ratio; NaN is never within the tolerance.
    if replicas > 0 && ratio <= 1.0 + tolerance(behavior, true) && ratio >= 1.0 - tolerance(behavior, false) {
        return Proposal { replicas, exact };
    }
    Proposal { replicas: exact, exact }
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
}
