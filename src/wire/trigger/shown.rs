//! What stands in the history for a metric that an HPA controller measures and shows in the status of an HPA. Only an HPA
//! that is observed has it: [`crate::wire::hpa::observed`] writes its parameters.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, target};
use crate::scaling::model::{MetricType, OnMissing, ShownMetric, ShownUnit, Source, Step};

/// One for each type of an HPA's metric, under its name.
pub(super) const TYPES: [TriggerType; 5] = [
    TriggerType { name: "Resource", ..TYPE },
    TriggerType { name: "ContainerResource", ..TYPE },
    TriggerType { name: "Pods", ..TYPE },
    TriggerType { name: SHARED[0], ..TYPE },
    TriggerType { name: SHARED[1], ..TYPE },
];

/// Those whose average is a share of the whole.
const SHARED: [&str; 2] = ["Object", "External"];

const TYPE: TriggerType = TriggerType {
    name: "",
    reference: &[Row { parameters: &["metricName", "metric", "threshold"], default: "–", meaning: "" }],
    without_effect: &[],
    can_be_cached: false,
    from_env: &[],
    parse,
};

/// Whether a trigger of this type is only shown by an HPA.
#[must_use]
pub(crate) fn is_type(name: &str) -> bool {
    TYPES.iter().any(|row| row.name == name)
}

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    let name = parameters.required("metricName", "write the name of the metric", report);
    let threshold = target::read(context, "threshold", "write the target of the metric", report);
    let is_shared = context.fields.filled("type", report).is_some_and(|kind| SHARED.contains(&kind));
    let (metric_type, unit) = match context.fields.filled("metricType", report) {
        Some("AverageValue") if is_shared => (MetricType::AverageValue, ShownUnit::Share),
        Some("AverageValue") => (MetricType::AverageValue, ShownUnit::Plain),
        Some("Value") => (MetricType::Value, ShownUnit::Plain),
        Some("Utilization") => (MetricType::Value, ShownUnit::Percent),
        other => {
            let message = format!("{} is no metric type", quoted(other.unwrap_or_default()));
            let fix = "write AverageValue, Value or Utilization";
            report.problem(Step::BuildScalers, context.fields.path("metricType"), message, fix);
            return None;
        }
    };
    Some(Parsed::External(External {
        metric_name: name?.into(),
        metric_type,
        threshold: threshold?,
        activation_threshold: 0.0,
        on_missing: OnMissing::Error,
        source: Source::Shown(ShownMetric { what: parameters.get("metric").unwrap_or_default().into(), unit }),
    }))
}
