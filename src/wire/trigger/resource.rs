//! The `cpu` and `memory` triggers: targets that the HPA controller itself compares with the pods' usage.

use super::super::fields::{Diagnostics, quoted};
use super::super::quantity::parse_milli;
use super::{Context, Parsed, Row, TriggerType};
use crate::scaling::model::MetricTarget;
use crate::scaling::model::Step;

pub(super) const CPU: TriggerType = TriggerType { name: "cpu", ..TYPE };
pub(super) const MEMORY: TriggerType = TriggerType { name: "memory", ..TYPE };

const TYPE: TriggerType = TriggerType {
    name: "",
    reference: &[
        Row {
            parameters: &["value"],
            default: "required",
            meaning: "with `metricType: Utilization` percent of what the containers request, with `AverageValue` a quantity \
                      per pod, such as `500m` or `200Mi`",
        },
        Row {
            parameters: &["containerName"], default: "–", meaning: "this container alone instead of the whole pod"
        },
    ],
    without_effect: &["type"],
    can_be_cached: false,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    if parameters.get("type").is_some() {
        let message = "The 'type' setting is DEPRECATED and is removed in v2.18 - Use 'metricType' instead.";
        parameters.problem("type", message, "move it to metricType of the trigger", report);
    }
    let value = parameters.required("value", "write the target, e.g. \"60\"", report);
    let target = match context.fields.filled("metricType", report) {
        Some("Utilization") => value.and_then(|value| utilization(context, value, report)),
        Some("AverageValue") => value.and_then(|value| average_value(context, value, report)),
        other => {
            let message = format!(
                "unknown metric type: {}, allowed values are 'Utilization' or 'AverageValue'",
                other.unwrap_or_default()
            );
            let fix = "write metricType: Utilization for percent of the request, or AverageValue for a quantity";
            report.problem(Step::BuildScalers, context.fields.path("metricType"), message, fix);
            None
        }
    };
    context.warn_authentication_unused(report);
    Some(Parsed::Resource { container: parameters.get("containerName").map(str::to_owned), target: target? })
}

fn utilization(context: &Context<'_>, text: &str, report: &mut Diagnostics) -> Option<MetricTarget> {
    let percent = text.parse::<i32>().ok().filter(|percent| *percent > 0);
    if percent.is_none() {
        let message = format!("{} is not a whole number of percent above 0", quoted(text));
        context.parameters.problem("value", message, "write percent of the request, e.g. \"60\"", report);
    }
    percent.map(MetricTarget::Utilization)
}

fn average_value(context: &Context<'_>, text: &str, report: &mut Diagnostics) -> Option<MetricTarget> {
    let milli = parse_milli(text).filter(|milli| *milli > 0);
    if milli.is_none() {
        let message = format!("{} is not a quantity above 0", quoted(text));
        context.parameters.problem("value", message, "write a quantity such as \"500m\" or \"200Mi\"", report);
    }
    milli.map(MetricTarget::AverageValue)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, read};
    use super::*;
    use crate::scaling::model::ResourceTrigger;

    fn resource(metric_type: &str, metadata: Value) -> Value {
        json!({"type": "memory", "metricType": metric_type, "metadata": metadata})
    }

    fn only(trigger: &Value) -> ResourceTrigger {
        let read = read(trigger);
        assert!(read.triggers.is_empty(), "it is never asked");
        read.resource_triggers.into_iter().next().expect("one trigger")
    }

    #[test]
    fn targets() {
        for (metric_type, value, target) in [
            ("Utilization", "60", MetricTarget::Utilization(60)),
            ("Utilization", " 150 ", MetricTarget::Utilization(150)),
            ("AverageValue", "500m", MetricTarget::AverageValue(500)),
            ("AverageValue", "200Mi", MetricTarget::AverageValue(209_715_200_000)),
        ] {
            let trigger = only(&resource(metric_type, json!({"value": value})));
            assert_eq!((trigger.target, trigger.container), (target, None), "{metric_type} {value}");
        }
        let trigger = only(&resource("Utilization", json!({"value": "60", "containerName": "app"})));
        assert_eq!((trigger.kind.as_str(), trigger.container.as_deref()), ("memory", Some("app")));
    }

    #[test]
    fn refusals_are_those_of_keda() {
        for (trigger, words) in [
            (
                json!({"type": "cpu", "metadata": {"value": "60"}}),
                "spec.triggers[0].metricType: unknown metric type: , allowed values are 'Utilization' or 'AverageValue'",
            ),
            (
                resource("Value", json!({"value": "60"})),
                "unknown metric type: Value, allowed values are 'Utilization' or 'AverageValue'",
            ),
            (
                resource("Utilization", json!({"value": "60", "type": "Utilization"})),
                "spec.triggers[0].metadata.type: The 'type' setting is DEPRECATED and is removed in v2.18",
            ),
            (
                resource("Utilization", json!({})),
                "spec.triggers[0].metadata.value: missing required parameter \"value\"",
            ),
            (resource("Utilization", json!({"value": "60.5"})), "\"60.5\" is not a whole number of percent above 0"),
            (resource("Utilization", json!({"value": "0"})), "\"0\" is not a whole number of percent above 0"),
            (resource("AverageValue", json!({"value": "-5"})), "\"-5\" is not a quantity above 0"),
            (resource("AverageValue", json!({"value": "5 apples"})), "\"5 apples\" is not a quantity above 0"),
            (
                json!({"type": "cpu", "metricType": "Utilization", "useCachedMetrics": true, "metadata": {"value": "60"}}),
                "property \"useCachedMetrics\" is not supported for \"cpu\" scaler",
            ),
        ] {
            let problems = problems(&trigger);
            assert!(problems.len() == 1 && problems[0].contains(words), "{trigger}: {problems:?}");
        }
    }
}
