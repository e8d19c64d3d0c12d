//! Replica counts and periods: the numbers that both API groups have.

use std::time::Duration;

use super::super::fields::{Diagnostics, Fields};
use crate::scaling::model::{ApiGroup, Definition, Step};

const INT32_MAX: i64 = i32::MAX as i64;
const MAX_REPLICAS_DEFAULT: u32 = 100;

/// Returns a definition with its numbers only, and warns about those that have no effect.
pub(super) fn read(group: ApiGroup, spec: &Fields<'_>, report: &mut Diagnostics) -> Definition {
    let mut definition = replicas(group, spec, report);
    let mut seconds = |name: &str, from: i64, default: u64| {
        let given = spec.integer(name, from..=INT32_MAX, report);
        Duration::from_secs(given.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(default))
    };
    definition.polling_interval = seconds("pollingInterval", 1, 30);
    definition.cooldown_period = seconds("cooldownPeriod", 0, 300);
    // Unknown to KEDA 1.
    if group == ApiGroup::KedaSh {
        definition.initial_cooldown_period = seconds("initialCooldownPeriod", 0, 0);
    }
    warn_useless(spec, &definition, report);
    definition
}

fn replicas(group: ApiGroup, spec: &Fields<'_>, report: &mut Diagnostics) -> Definition {
    let before = report.problems.len();
    let mut count = |name: &str, from: i64| {
        let given = spec.integer(name, from..=INT32_MAX, report);
        given.and_then(|count| u32::try_from(count).ok())
    };
    let definition = Definition {
        // Unknown to KEDA 1.
        idle_replicas: match group {
            ApiGroup::KedaSh | ApiGroup::Autoscaling => count("idleReplicaCount", 0),
            ApiGroup::KedaK8sIo => None,
        },
        min_replicas: count("minReplicaCount", 0),
        max_replicas: count("maxReplicaCount", 1).unwrap_or(MAX_REPLICAS_DEFAULT),
        ..Definition::default()
    };
    for problem in &mut report.problems[before..] {
        problem.step = Step::ReplicaBounds;
    }
    if report.problems.len() == before {
        compare(spec, &definition, report);
    }
    definition
}

/// Compares the counts, worded as by KEDA, where an absent minimum is 0 and a given one at least 1.
fn compare(spec: &Fields<'_>, definition: &Definition, report: &mut Diagnostics) {
    let min = definition.min_replicas.map_or(0, |min| min.max(1));
    let max = definition.max_replicas;
    if min > max {
        let (field, given) = if spec.has("maxReplicaCount") {
            ("minReplicaCount", format!("set minReplicaCount to at most {max} or maxReplicaCount to at least {min}"))
        } else {
            ("minReplicaCount", format!("set maxReplicaCount, which is {max} unless given, to at least {min}"))
        };
        report.problem(
            Step::ReplicaBounds,
            spec.path(field),
            format!("MinReplicaCount={min} must be less than MaxReplicaCount={max}"),
            given,
        );
    }
    if let Some(idle) = definition.idle_replicas.filter(|idle| *idle >= min) {
        let fix = if definition.min_replicas.is_none() {
            format!("set minReplicaCount to at least {}, or remove idleReplicaCount", idle.saturating_add(1))
        } else {
            format!("set idleReplicaCount below {min}, or remove it")
        };
        report.problem(
            Step::ReplicaBounds,
            spec.path("idleReplicaCount"),
            format!("IdleReplicaCount={idle} must be less than MinReplicaCount={min}"),
            fix,
        );
    }
}

/// Warns about settings that have no effect on this object.
fn warn_useless(spec: &Fields<'_>, definition: &Definition, report: &mut Diagnostics) {
    if definition.min() > 0 && definition.idle_replicas.is_none() {
        for name in ["cooldownPeriod", "initialCooldownPeriod"] {
            if spec.has(name) {
                report.warn(
                    spec.path(name),
                    "has no effect, since minReplicaCount is above 0 and idleReplicaCount is not set",
                    "use advanced.horizontalPodAutoscalerConfig.behavior to slow the HPA down, or remove it",
                );
            }
        }
    } else if definition.idle_replicas.is_some_and(|idle| idle > 0) {
        report.warn(
            spec.path("idleReplicaCount"),
            "above 0 fights the HPA, which lifts the target to minReplicaCount",
            "write idleReplicaCount: 0",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(spec: &Value) -> Vec<String> {
        let mut report = Diagnostics::default();
        let fields = Fields::new("spec", Some(spec), Step::BuildScalers, &mut report);
        replicas(ApiGroup::KedaSh, &fields, &mut report);
        assert!(report.problems.iter().all(|problem| problem.step == Step::ReplicaBounds));
        report.problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn replica_counts() {
        for (spec, expected) in [
            (json!({}), &[][..]),
            (json!({"minReplicaCount": 0, "maxReplicaCount": 1}), &[]),
            (json!({"minReplicaCount": 5, "maxReplicaCount": 5}), &[]),
            (json!({"idleReplicaCount": 0, "minReplicaCount": 0}), &[]),
            (json!({"idleReplicaCount": 0, "minReplicaCount": 1}), &[]),
            (json!({"idleReplicaCount": 0}), &["IdleReplicaCount=0 must be less than MinReplicaCount=0"]),
            (
                json!({"idleReplicaCount": 2, "minReplicaCount": 2}),
                &["IdleReplicaCount=2 must be less than MinReplicaCount=2"],
            ),
            (
                json!({"minReplicaCount": 9, "maxReplicaCount": 2}),
                &["MinReplicaCount=9 must be less than MaxReplicaCount=2"],
            ),
            (json!({"minReplicaCount": 101}), &["MinReplicaCount=101 must be less than MaxReplicaCount=100"]),
            (json!({"maxReplicaCount": 0}), &["0 is out of range"]),
            (json!({"minReplicaCount": -1}), &["-1 is out of range"]),
            (json!({"minReplicaCount": 1.5}), &["must be an integer, is the number 1.5"]),
        ] {
            assert_eq!(problems(&spec), expected, "{spec}");
        }
    }
}
