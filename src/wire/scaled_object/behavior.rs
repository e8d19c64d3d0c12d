//! `advanced.horizontalPodAutoscalerConfig`: the HPA's name and its behavior, with checks that the API server would
//! otherwise make only when the HPA is written.

use super::super::fields::{Diagnostics, Fields, quoted};
use super::super::quantity::canonical;
use crate::scaling::model::{Behavior, ScalingPolicy, ScalingRules, Step};

const STABILIZATION_SECONDS_MAX: i64 = 3600;
const POLICY_PERIOD_SECONDS_MAX: i64 = 1800;
const INT32_MAX: i64 = i32::MAX as i64;

/// Returns `None` for an absent or empty behavior.
pub(super) fn read(config: &Fields<'_>, report: &mut Diagnostics) -> Option<Behavior> {
    let behavior = config.child("behavior", report);
    let read = Behavior {
        scale_up: rules(&behavior.child("scaleUp", report), report),
        scale_down: rules(&behavior.child("scaleDown", report), report),
    };
    (read != Behavior::default()).then_some(read)
}

fn rules(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<ScalingRules> {
    if !fields.is_present() {
        return None;
    }
    let window = fields.integer("stabilizationWindowSeconds", 0..=STABILIZATION_SECONDS_MAX, report);
    let select_policy = fields.filled("selectPolicy", report);
    if let Some(text) = select_policy.filter(|text| !matches!(*text, "Max" | "Min" | "Disabled")) {
        report.problem(
            Step::BuildScalers,
            fields.path("selectPolicy"),
            format!("{} is no policy selection", quoted(text)),
            "write Max, Min or Disabled",
        );
    }
    let policies: Vec<ScalingPolicy> =
        fields.objects("policies", report).iter().filter_map(|policy| self::policy(policy, report)).collect();
    Some(ScalingRules {
        stabilization_window_seconds: window.and_then(|seconds| i32::try_from(seconds).ok()),
        select_policy: select_policy.map(str::to_owned),
        // The API server would refuse an empty list; KEDA drops it, and the API server then fills in the default
        // policies.
        policies: (!policies.is_empty()).then_some(policies),
        tolerance: tolerance(fields, report),
    })
}

fn policy(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<ScalingPolicy> {
    let kind = fields.text("type", report);
    if !matches!(kind, Some("Pods" | "Percent")) {
        let message = kind.map_or("is missing".to_owned(), |text| format!("{} is no policy type", quoted(text)));
        report.problem(Step::BuildScalers, fields.path("type"), message, "write Pods or Percent");
    }
    let mut required = |name: &str, max: i64| {
        if !fields.has(name) {
            report.problem(Step::BuildScalers, fields.path(name), "is missing", "write a number above 0");
        }
        fields.integer(name, 1..=max, report).and_then(|number| i32::try_from(number).ok())
    };
    let value = required("value", INT32_MAX);
    let period_seconds = required("periodSeconds", POLICY_PERIOD_SECONDS_MAX);
    Some(ScalingPolicy { kind: kind?.to_owned(), value: value?, period_seconds: period_seconds? })
}

/// Reads a quantity, given as text or as a plain number, in the API server's canonical form.
fn tolerance(fields: &Fields<'_>, report: &mut Diagnostics) -> Option<String> {
    let text = match fields.get("tolerance")? {
        serde_json::Value::Number(number) => number.to_string(),
        _ => fields.text("tolerance", report)?.to_owned(),
    };
    let canonical = canonical(&text).filter(|text| !text.starts_with('-'));
    if canonical.is_none() {
        report.problem(
            Step::BuildScalers,
            fields.path("tolerance"),
            format!("{} is no quantity of 0 or more", quoted(&text)),
            "write a fraction such as \"0.1\" or \"100m\"",
        );
    }
    canonical
}
