//! `spec.fallback`: what to do while triggers fail.

use super::super::fields::{Diagnostics, Fields, quoted};
use super::super::trigger::Triggers;
use crate::scaling::model::{Fallback, FallbackBehavior, Step};
use crate::spelling::nearest;

const INT32_MAX: i64 = i32::MAX as i64;

const BEHAVIORS: &[(&str, FallbackBehavior)] = &[
    ("static", FallbackBehavior::Static),
    ("currentReplicas", FallbackBehavior::CurrentReplicas),
    ("currentReplicasIfHigher", FallbackBehavior::CurrentReplicasIfHigher),
    ("currentReplicasIfLower", FallbackBehavior::CurrentReplicasIfLower),
    ("scalingModifiers", FallbackBehavior::ScalingModifiers),
];

/// `triggers` say whether any of them can fall back.
pub(super) fn read(
    spec: &Fields<'_>,
    triggers: &Triggers<'_>,
    has_formula: bool,
    report: &mut Diagnostics,
) -> Option<Fallback> {
    let fallback = spec.child("fallback", report);
    if !fallback.is_present() {
        return None;
    }
    let mut required = |name: &str, fix: &str| {
        if !fallback.has(name) {
            report.problem(Step::BuildScalers, fallback.path(name), "is missing", fix);
        }
        let given = fallback.integer(name, 0..=INT32_MAX, report);
        given.and_then(|number| u32::try_from(number).ok())
    };
    let failure_threshold = required("failureThreshold", "write how many failures in a row to tolerate, e.g. 3");
    let replicas = required("replicas", "write how many replicas to run while triggers fail");
    let behavior = behavior(&fallback, has_formula, report);
    if !triggers.kinds.is_empty() && triggers.are_of_resources_only() && !has_formula {
        report.problem(
            Step::BuildScalers,
            fallback.here(),
            "fallback is not supported for cpu and memory triggers, and there is no other",
            "remove fallback, or add a trigger such as prometheus",
        );
    }
    Some(Fallback { failure_threshold: failure_threshold?, replicas: replicas?, behavior: behavior? })
}

fn behavior(fallback: &Fields<'_>, has_formula: bool, report: &mut Diagnostics) -> Option<FallbackBehavior> {
    let Some(text) = fallback.text("behavior", report) else {
        return Some(FallbackBehavior::Static);
    };
    let Some((_, behavior)) = BEHAVIORS.iter().find(|(name, _)| *name == text) else {
        let names: Vec<&str> = BEHAVIORS.iter().map(|(name, _)| *name).collect();
        let fix = nearest(text, &names)
            .map_or_else(|| format!("write one of {}", names.join(", ")), |near| format!("write {near}"));
        report.problem(
            Step::BuildScalers,
            fallback.path("behavior"),
            format!("{} is no fallback behavior", quoted(text)),
            fix,
        );
        return None;
    };
    if *behavior == FallbackBehavior::ScalingModifiers && !has_formula {
        report.problem(
            Step::BuildScalers,
            fallback.path("behavior"),
            "scalingModifiers needs advanced.scalingModifiers.formula, which is not set",
            "write static, or set the formula",
        );
        return None;
    }
    Some(*behavior)
}
