//! A model of the HPA controller, by its own rules (Kubernetes: pkg/controller/podautoscaler/horizontal.go).
//!
//! Owns its memory: past recommendations and past changes. The arithmetic of a single metric and of a policy is
//! [`recommend`]'s.

use std::collections::VecDeque;
use std::time::Duration;

use super::track::SourceId;
use crate::scaling::hpa::{HpaMetric, ObservedHpa};
use crate::scaling::model::{Behavior, MetricTarget, MetricType, ScalingRules, UnixMillis};
use crate::scaling::quantity;
use crate::scaling::recommend::{self, SCALE_DOWN_WINDOW_SECONDS};
use crate::scaling::view::{ObjectView, Reading};

/// What nothing in the history says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// From a scale-out until its pods are ready; `None`: as the history shows it.
    pub pod_start: Option<Duration>,
    /// The controller's flag `--horizontal-pod-autoscaler-sync-period`: how often it looks at each HPA.
    pub sync_period: Duration,
    /// Its flag `--horizontal-pod-autoscaler-downscale-stabilization`, where a behavior has no window.
    pub downscale_stabilization: Duration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            pod_start: None,
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(SCALE_DOWN_WINDOW_SECONDS.unsigned_abs().into()),
        }
    }
}

/// The API server allows no longer window and no longer period of a policy.
const MEMORY: Duration = Duration::from_hours(1);

/// The target's pods, as the controller sees them.
#[derive(Clone, Copy, Debug)]
pub struct Pods {
    /// `spec.replicas`.
    pub wanted: u32,
    /// Pods that are ready; a metric of type `Value` is multiplied by them.
    pub ready: u32,
}

/// What an HPA asks for.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'h> {
    pub min: u32,
    pub max: u32,
    pub behavior: Option<&'h Behavior>,
}

impl<'h> Bounds<'h> {
    pub fn of(hpa: &'h ObservedHpa) -> Self {
        Self { min: hpa.min_replicas.unwrap_or(1), max: hpa.max_replicas, behavior: hpa.behavior.as_ref() }
    }
}

/// An external metric's target and value; without a value if reading it failed.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub metric_type: MetricType,
    pub target: f64,
    pub value: Option<f64>,
}

impl Metric {
    /// Returns the metric with the value that the API serves; `None` for a metric that is not external.
    pub fn read(metric: &HpaMetric, view: &ObjectView, now: UnixMillis) -> Option<Self> {
        let HpaMetric::External { name, target, .. } = metric else { return None };
        let (metric_type, target) = match target {
            MetricTarget::AverageValue(milli) => (MetricType::AverageValue, *milli),
            MetricTarget::Value(milli) => (MetricType::Value, *milli),
            MetricTarget::Utilization(_) => return None,
        };
        #[expect(clippy::cast_precision_loss, reason = "a ratio of two such numbers is what is asked for")]
        let units = |milli: i128| milli as f64 / 1000.0;
        let served =
            view.metrics.iter().find(|metric| *metric.name == **name).and_then(|metric| match metric.reading {
                Reading::Value { value, at } if metric.age_limit.is_none_or(|limit| now.since(at) <= limit) => {
                    Some(value)
                }
                _ => None,
            });
        let value = served.map(|value| units(quantity::milli(value).into()));
        Some(Self { metric_type, target: units(target), value })
    }

    /// Returns the metric of a resource of which all ready pods together use this much; `None` for others.
    pub fn of_resource(metric: &HpaMetric, pods: Pods, used: impl FnOnce(SourceId) -> Option<f64>) -> Option<Self> {
        let (name, container, target) = match metric {
            HpaMetric::Resource { name, target } => (name, None, target),
            HpaMetric::ContainerResource { container, name, target } => (name, Some(container.as_str()), target),
            HpaMetric::External { .. }
            | HpaMetric::Object { .. }
            | HpaMetric::Pods { .. }
            | HpaMetric::Other { .. } => {
                return None;
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "a ratio of two such numbers is what is asked for")]
        let (target, is_utilization) = match target {
            MetricTarget::Utilization(percent) => (f64::from(*percent), true),
            MetricTarget::AverageValue(milli) | MetricTarget::Value(milli) => (*milli as f64 / 1000.0, false),
        };
        let all = used(SourceId::of_resource(name, container, is_utilization))?;
        let value = (pods.ready > 0).then(|| all / f64::from(pods.ready));
        // As for a total, the ready pods are multiplied by the ratio.
        Some(Self { metric_type: MetricType::Value, target, value })
    }

    /// Returns the count that the metric proposes.
    fn proposal(&self, pods: Pods, behavior: Option<&Behavior>) -> Option<u32> {
        let value = self.value?;
        Some(match self.metric_type {
            MetricType::AverageValue => {
                recommend::proposal(self.metric_type, value, self.target, pods.wanted, behavior).replicas
            }
            MetricType::Value => recommend::proposal_of_total(value, self.target, pods.wanted, pods.ready, behavior),
        })
    }
}

/// The controller's memory of one HPA.
#[derive(Clone, Debug)]
pub struct HpaController {
    model: Model,
    /// What the metrics asked for at each look, before it was stabilised and limited.
    recommendations: VecDeque<(UnixMillis, u32)>,
    /// Its changes: when, and by how many; negative for a scale-in. Kept only while there is a behavior.
    changes: VecDeque<(UnixMillis, i64)>,
}

impl HpaController {
    pub fn new(model: Model) -> Self {
        Self { model, recommendations: VecDeque::new(), changes: VecDeque::new() }
    }

    /// Looks at an HPA; returns the replicas that the target has from now on.
    pub fn sync(&mut self, now: UnixMillis, bounds: Bounds<'_>, pods: Pods, metrics: &[Metric]) -> u32 {
        self.forget(now);
        let current = pods.wanted;
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
        // At zero the controller is switched off.
        if current == 0 {
            return 0;
        }
        let desired = if current > bounds.max {
            bounds.max
        } else if current < bounds.min {
            bounds.min
        } else {
            match proposed(bounds, pods, metrics) {
                Some(proposed) => self.normalize(now, bounds, current, proposed),
                None => current,
            }
        };
        if desired != current && bounds.behavior.is_some() {
            self.changes.push_back((now, i64::from(desired) - i64::from(current)));
        }
        desired
    }

    fn normalize(&mut self, now: UnixMillis, bounds: Bounds<'_>, current: u32, proposed: u32) -> u32 {
        let stabilized = self.stabilize(now, bounds.behavior, current, proposed);
        self.recommendations.push_back((now, proposed));
        let net = |seconds: i32| {
            let since = UnixMillis(now.0 - i64::from(seconds) * 1000);
            self.changes.iter().filter(|(at, _)| *at > since).map(|(_, by)| by).sum::<i64>()
        };
        let Bounds { min, max, behavior } = bounds;
        if stabilized > current {
            let (limit, _) = recommend::policy_limit(behavior, true, current, net);
            stabilized.min(limit.max(current).min(max))
        } else if stabilized < current {
            let (limit, _) = recommend::policy_limit(behavior, false, current, |seconds| -net(seconds));
            stabilized.max(limit.min(current).max(min))
        } else {
            current
        }
    }

    /// Keeps the count between the lowest recommendation of the upward window and the highest of the downward one.
    fn stabilize(&self, now: UnixMillis, behavior: Option<&Behavior>, current: u32, proposed: u32) -> u32 {
        let flag = i64::try_from(self.model.downscale_stabilization.as_millis()).unwrap_or(i64::MAX);
        let since = |rules: Option<&ScalingRules>, otherwise: i64| {
            let own = rules.and_then(|rules| rules.stabilization_window_seconds).map(|own| i64::from(own) * 1000);
            UnixMillis(now.0.saturating_sub(own.unwrap_or(otherwise)))
        };
        let down_since = since(behavior.and_then(|behavior| behavior.scale_down.as_ref()), flag);
        let up_since = since(behavior.and_then(|behavior| behavior.scale_up.as_ref()), 0);
        let within = |since: UnixMillis| self.recommendations.iter().filter(move |(at, _)| *at > since);
        let down = within(down_since).map(|(_, count)| *count).max().unwrap_or(0).max(proposed);
        if behavior.is_none() {
            return down;
        }
        let up = within(up_since).map(|(_, count)| *count).min().unwrap_or(u32::MAX).min(proposed);
        current.max(up).min(down)
    }

    fn forget(&mut self, now: UnixMillis) {
        let is_old = |at: UnixMillis| at.plus(MEMORY) < now;
        while self.recommendations.front().is_some_and(|(at, _)| is_old(*at)) {
            self.recommendations.pop_front();
        }
        while self.changes.front().is_some_and(|(at, _)| is_old(*at)) {
            self.changes.pop_front();
        }
    }
}

/// The most that a metric proposes; `None` if that cannot be known, or not whether something may be removed.
fn proposed(bounds: Bounds<'_>, pods: Pods, metrics: &[Metric]) -> Option<u32> {
    let proposals = metrics.iter().map(|metric| metric.proposal(pods, bounds.behavior));
    let has_failed = metrics.iter().any(|metric| metric.value.is_none());
    proposals.flatten().max().filter(|most| !has_failed || *most >= pods.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::ScalingPolicy;

    const BOUNDS: Bounds<'static> = Bounds { min: 1, max: 100, behavior: None };

    fn average(value: f64) -> Metric {
        Metric { metric_type: MetricType::AverageValue, target: 10.0, value: Some(value) }
    }

    /// Runs one look each 15 s with these values, and returns the counts.
    fn looks(bounds: Bounds<'_>, start: u32, values: &[f64]) -> Vec<u32> {
        let (mut controller, mut count, mut now) = (HpaController::new(Model::default()), start, 0);
        let look = |value: &f64| {
            now += 15_000;
            let pods = Pods { wanted: count, ready: count };
            count = controller.sync(UnixMillis(now), bounds, pods, &[average(*value)]);
            count
        };
        values.iter().map(look).collect()
    }

    fn rules(window: Option<i32>, select: &str, policies: &[(&str, i32, i32)]) -> Option<ScalingRules> {
        let policy = |(kind, value, period): &(&str, i32, i32)| ScalingPolicy {
            kind: (*kind).to_owned(),
            value: *value,
            period_seconds: *period,
        };
        Some(ScalingRules {
            stabilization_window_seconds: window,
            select_policy: Some(select.to_owned()),
            policies: Some(policies.iter().map(policy).collect()),
            tolerance: None,
        })
    }

    #[test]
    fn without_behavior_it_doubles_at_most_and_waits_five_minutes_to_scale_in() {
        assert_eq!(looks(BOUNDS, 1, &[900.0, 900.0, 900.0, 900.0, 900.0, 900.0]), [4, 8, 16, 32, 64, 90]);
        // The high recommendation of before holds for 300 s: 20 looks.
        let mut values = vec![100.0];
        values.extend([10.0; 22]);
        let counts = looks(BOUNDS, 10, &values);
        assert_eq!(counts.iter().position(|count| *count == 1), Some(20), "{counts:?}");
        assert!(counts[..20].iter().all(|count| *count == 10), "{counts:?}");
    }

    #[test]
    fn within_the_tolerance_nothing_changes() {
        for (value, expected) in [(109.0, 10), (111.0, 12), (91.0, 10), (100.0, 10)] {
            assert_eq!(looks(BOUNDS, 10, &[value]), [expected], "{value}");
        }
    }

    #[test]
    fn the_bounds_come_before_the_metrics() {
        let bounds = Bounds { min: 3, max: 5, behavior: None };
        assert_eq!(looks(bounds, 9, &[1_000.0]), [5]);
        assert_eq!(looks(bounds, 1, &[1_000.0]), [3]);
        assert_eq!(looks(bounds, 4, &[1_000.0]), [5]);
        assert_eq!(looks(bounds, 0, &[1_000.0]), [0], "at zero it is switched off");
    }

    #[test]
    fn policies_and_windows_of_each_direction() {
        let up = |select: &str| Behavior {
            scale_up: rules(Some(0), select, &[("Pods", 2, 60), ("Percent", 50, 60)]),
            scale_down: rules(Some(0), "Max", &[("Pods", 3, 30)]),
        };
        let with = |behavior: &Behavior, start, values: &[f64]| {
            looks(Bounds { behavior: Some(behavior), ..BOUNDS }, start, values)
        };
        // Max: 50 % of 10. What was added within the last 60 s counts; after that it may grow again.
        assert_eq!(with(&up("Max"), 10, &[900.0; 6]), [15, 15, 15, 15, 23, 23]);
        assert_eq!(with(&up("Min"), 10, &[900.0; 6]), [12, 12, 12, 12, 14, 14]);
        assert_eq!(with(&up("Disabled"), 10, &[900.0; 2]), [10, 10]);
        // Three pods in each 30 s.
        assert_eq!(with(&up("Max"), 10, &[10.0; 5]), [7, 7, 4, 4, 1]);
        // What was removed within the period may come back on top of what may be added.
        assert_eq!(with(&up("Min"), 10, &[10.0, 900.0]), [7, 12]);
        let waits = Behavior { scale_up: rules(Some(60), "Max", &[("Percent", 900, 15)]), scale_down: None };
        // The lowest recommendation of the last 60 s counts, and the first one is what it found.
        assert_eq!(with(&waits, 2, &[50.0; 5]), [2, 2, 2, 2, 5]);
    }

    #[test]
    fn a_failing_metric_holds_but_does_not_keep_from_scaling_out() {
        let failing = Metric { value: None, ..average(0.0) };
        let once = |metrics: &[Metric]| {
            HpaController::new(Model::default()).sync(UnixMillis(0), BOUNDS, Pods { wanted: 4, ready: 4 }, metrics)
        };
        assert_eq!(once(&[failing]), 4);
        assert_eq!(once(&[failing, average(10.0)]), 4);
        assert_eq!(once(&[failing, average(60.0)]), 6);
    }

    #[test]
    fn a_total_is_multiplied_by_the_ready_pods() {
        let total = Metric { metric_type: MetricType::Value, target: 10.0, value: Some(20.0) };
        for (ready, expected) in [(4, 8), (2, 4), (3, 6)] {
            let pods = Pods { wanted: 4, ready };
            assert_eq!(
                HpaController::new(Model::default()).sync(UnixMillis(0), BOUNDS, pods, &[total]),
                expected,
                "{ready}"
            );
        }
    }
}
