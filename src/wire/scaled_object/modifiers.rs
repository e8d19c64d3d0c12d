//! `advanced.scalingModifiers`: the formula over the triggers' names, and the target for its result.

use serde_json::Value;

use super::super::fields::{Diagnostics, Fields, quoted};
use crate::scaling::formula::Formula;
use crate::scaling::hpa::composite_target_milli;
use crate::scaling::model::{MetricType, Modifiers, Step};

/// Returns whether there is a formula, valid or not, since other rules depend on it.
pub(super) fn has_formula(spec: &Fields<'_>) -> bool {
    let modifiers = spec.get("advanced").and_then(|advanced| advanced.get("scalingModifiers"));
    let formula = modifiers.and_then(|modifiers| modifiers.get("formula")).and_then(Value::as_str);
    formula.is_some_and(|formula| !formula.is_empty())
}

/// Returns `None` if nothing is set, as with `{}` and empty texts.
pub(super) fn read(spec: &Fields<'_>, advanced: &Fields<'_>, report: &mut Diagnostics) -> Option<Modifiers> {
    let fields = advanced.child("scalingModifiers", report);
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
    let target_number = target.and_then(number);
    match (target, target_number) {
        (None, _) => problem("target", "is missing".to_owned(), "write the wanted value per replica, e.g. \"10\""),
        (Some(text), Some(number)) if number > 0.0 => {
            if composite_target_milli(number) == 0 {
                let message = format!("{} becomes the HPA target \"0\", which the API server refuses", quoted(text));
                problem("target", message, "write at least \"0.001\", or scale the formula up");
            }
        }
        (Some(text), _) => {
            problem("target", format!("{} is not a number above 0", quoted(text)), "write a number such as \"10\"");
        }
    }
    let activation = activation_target.map_or(Some(0.0), number);
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
    if metric_type == Some(MetricType::Value) && counts_replicas_only(spec) {
        report.warn(
            fields.path("metricType"),
            "Value makes the HPA multiply its replicas by result / target at each look, and what the triggers give does not \
             fall as replicas come",
            "remove it, or write AverageValue",
        );
    }
    let formula = compile(spec, &fields, formula?, report);
    Some(Modifiers {
        formula: formula?,
        target: target_number?,
        activation_target: activation?,
        metric_type: metric_type?,
    })
}

/// Returns whether all triggers that a formula can read are counts independent of the number of replicas.
fn counts_replicas_only(spec: &Fields<'_>) -> bool {
    let triggers = spec.objects("triggers", &mut Diagnostics::default());
    let kinds = triggers.iter().filter_map(|trigger| trigger.get("type")?.as_str());
    let mut read = kinds.filter(|kind| !matches!(*kind, "cpu" | "memory")).peekable();
    read.peek().is_some() && read.all(|kind| matches!(kind, "cron" | "kubernetes-workload"))
}

/// Compiles the formula over the triggers that it can read: all except those that the HPA measures itself.
fn compile(spec: &Fields<'_>, fields: &Fields<'_>, text: &str, report: &mut Diagnostics) -> Option<Formula> {
    // Problems of the triggers themselves are reported where they are read.
    let mut reported = Diagnostics::default();
    let mut names = Vec::new();
    let mut paths = Vec::new();
    for trigger in spec.objects("triggers", &mut reported) {
        let kind = trigger.text("type", &mut reported).unwrap_or_default();
        if kind.is_empty() || matches!(kind, "cpu" | "memory") {
            continue;
        }
        if let Some(name) = trigger.filled("name", &mut reported) {
            names.push(name.to_owned());
            paths.push(trigger.path("name"));
        } else if trigger.get("name").is_none_or(|name| name == "") {
            report.problem(
                Step::BuildScalers,
                trigger.path("name"),
                "is missing, and a formula knows triggers by their names",
                "write a name of letters, digits and _",
            );
        }
    }
    match Formula::compile(text, &names) {
        Ok(formula) => {
            let unused = paths.iter().enumerate().filter(|(position, _)| !formula.uses(*position));
            for (_, path) in unused {
                report.warn(
                    path,
                    "the formula does not read this trigger",
                    "use the name in the formula, or remove it",
                );
            }
            Some(formula)
        }
        Err(error) => {
            report.excerpts.extend(error.excerpt(text).map(|excerpt| (fields.path("formula"), excerpt)));
            let fix = if error.message.contains("dates and times") {
                "a cron trigger gives a value by the clock".to_owned()
            } else if names.is_empty() || error.message.contains("not supported") {
                String::new()
            } else {
                format!("trigger names: {}", names.join(", "))
            };
            report.problem(Step::BuildScalers, fields.path("formula"), error.to_string(), fix);
            None
        }
    }
}

/// Reads these two numbers as KEDA does, in whose API they are texts.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
