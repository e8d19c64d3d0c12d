//! A trigger's target, with which the HPA compares its metric. Knows no trigger type.

use super::super::fields::{Diagnostics, quoted};
use super::Context;
use crate::scaling::hpa::target_milli;
use crate::scaling::quantity;

/// Reads the parameter `name`, which must be positive in milli units. With a formula it is optional: the HPA gets the
/// formula's target, and an absent one is 0.
pub(super) fn read(context: &Context<'_>, name: &str, fix: &str, report: &mut Diagnostics) -> Option<f64> {
    let parameters = &context.parameters;
    if context.feeds_formula && parameters.get(name).is_none() {
        return Some(0.0);
    }
    let text = parameters.required(name, fix, report)?;
    let number = parameters.number(name, report).ok()??;
    check(context, name, text, number, report)
}

/// As [`read`], with a target for when the parameter is absent.
pub(super) fn read_or(
    context: &Context<'_>,
    name: &str,
    default: f64,
    fix: &str,
    report: &mut Diagnostics,
) -> Option<f64> {
    if context.parameters.get(name).is_none() {
        return Some(default);
    }
    read(context, name, fix, report)
}

/// Returns `number` if it can be a target; `text` is how it was written.
pub(super) fn check(
    context: &Context<'_>,
    name: &str,
    text: &str,
    number: f64,
    report: &mut Diagnostics,
) -> Option<f64> {
    let parameters = &context.parameters;
    if context.feeds_formula {
        return Some(number);
    }
    if number <= 0.0 {
        let message = format!("{} is not above 0", quoted(text));
        parameters.problem(name, message, "write a number of 0.001 or more", report);
        return None;
    }
    let milli = target_milli(number);
    if milli == 0 {
        let message = format!(
            "{} becomes the HPA target {:?}, which the API server refuses",
            quoted(text),
            quantity::text(milli)
        );
        parameters.problem(name, message, "write at least \"0.001\", or scale the query up", report);
        return None;
    }
    // As the HPA gets it: the fallback's value, proposals and explanations are about that.
    #[expect(clippy::cast_precision_loss, reason = "beyond 2^53 a target has no last digits either")]
    Some(milli as f64 / 1000.0)
}
