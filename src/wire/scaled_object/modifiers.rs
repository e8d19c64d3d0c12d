//! `advanced.scalingModifiers`: read and judged in form; formulas are not evaluated yet, so any use
//! of one is a problem for now.

use super::super::fields::{Fields, Report, quoted};
use super::super::trigger::json_number;
use crate::scaling::model::{MetricType, Modifiers, Step};

/// `None` when nothing is set, which `{}` and empty texts count as.
pub(super) fn read(advanced: &Fields<'_>, report: &mut Report) -> Option<Modifiers> {
    let fields = advanced.child("scalingModifiers", report);
    fields.warn_unknown(&["formula", "target", "activationTarget", "metricType"], report);
    let formula = fields.filled("formula", report);
    let target = fields.filled("target", report);
    let activation_target = fields.filled("activationTarget", report);
    let metric_type = fields.filled("metricType", report);
    if formula.is_none() && target.is_none() && activation_target.is_none() && metric_type.is_none() {
        return None;
    }
    let mut problem = |name: &str, message: String, fix: &str| {
        report.problem(Step::BuildScalers, fields.path(name), message, fix);
    };
    if formula.is_none() {
        problem("formula", "is missing".to_owned(), "write a formula over trigger names, or remove scalingModifiers");
    }
    let target_number = target.and_then(json_number);
    match (target, target_number) {
        (None, _) => problem("target", "is missing".to_owned(), "write the wanted value per replica, e.g. \"10\""),
        (Some(_), Some(number)) if number > 0.0 => {}
        (Some(text), _) => {
            problem("target", format!("{} is not a number above 0", quoted(text)), "write a number such as \"10\"");
        }
    }
    let activation = activation_target.map_or(Some(0.0), json_number);
    if let (Some(text), None) = (activation_target, activation) {
        problem("activationTarget", format!("{} is not a number", quoted(text)), "write a number such as \"1\"");
    }
    let metric_type = match metric_type {
        None | Some("AverageValue") => Some(MetricType::AverageValue),
        Some("Value") => Some(MetricType::Value),
        Some(other) => {
            problem(
                "metricType",
                format!("{} is no metric type for a formula", quoted(other)),
                "write AverageValue or Value",
            );
            None
        }
    };
    report.problem(
        Step::BuildScalers,
        fields.here(),
        "advanced.scalingModifiers is not supported yet",
        "remove scalingModifiers and let each trigger count for itself, or join the queries in PromQL",
    );
    Some(Modifiers {
        formula: formula?.to_owned(),
        target: target_number?,
        activation_target: activation?,
        metric_type: metric_type?,
    })
}
