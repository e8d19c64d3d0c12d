//! The `kubernetes-workload` trigger: the number of pods of another workload.

use std::sync::Arc;

use super::super::fields::{Diagnostics, quoted};
use super::super::labels::Selector;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::scaling::model::{MetricType, OnMissing, PodSelection, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "kubernetes-workload",
    reference: &[
        Row {
            parameters: &["podSelector"],
            default: "required",
            meaning: "label selector, as `kubectl -l` takes it; pods of the object's namespace that neither succeeded nor \
                      failed are counted, from a watch: a change is acted on at once",
        },
        Row {
            parameters: &["value"],
            default: "required",
            meaning: "so many of these pods for each replica; the HPA's target",
        },
        Row {
            parameters: &["activationValue"],
            default: "0",
            meaning: "with more pods than this the trigger is active",
        },
        Row {
            parameters: &["groupByNode"],
            default: "false",
            meaning: "count the distinct nodes that run these pods instead",
        },
    ],
    without_effect: &[],
    can_be_cached: true,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let selector = selector(context, report);
    let threshold = target::read(context, "value", "write the wanted pods per replica, e.g. \"1\"", report);
    let activation_threshold = parameters.number("activationValue", report);
    let group_by_node = parameters.boolean("groupByNode", report);
    let metric_type = external_metric_type(context, report);
    if metric_type == Some(MetricType::Value) && !context.feeds_formula {
        report.warn(
            context.fields.path("metricType"),
            "Value makes the HPA multiply its replicas by pods / value at each look, so that they only stop rising once \
             fewer pods are counted",
            "remove it, or write AverageValue, for one replica per value pods",
        );
    }
    context.warn_authentication_unused(report);
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("workload-{}", context.namespace))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Pods(PodSelection { selector: selector?, group_by_node: group_by_node.ok()?.unwrap_or(false) }),
    }))
}

fn selector(context: &Context<'_>, report: &mut Diagnostics) -> Option<Arc<str>> {
    const FIX: &str = "write a label selector such as \"app=worker\" or \"app in (a,b)\"";
    let text = context.parameters.required("podSelector", FIX, report)?;
    match Selector::parse(text) {
        Ok(_) => Some(text.into()),
        Err(error) => {
            let message = format!("{} is no label selector: {error}", quoted(text));
            context.parameters.problem("podSelector", message, FIX, report);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger, warnings};
    use super::*;

    fn workload(change: Value) -> Value {
        let mut metadata = json!({"podSelector": "app=worker", "value": "2"});
        for (key, value) in change.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        json!({"type": "kubernetes-workload", "metadata": metadata})
    }

    #[test]
    fn selections() {
        let plain = trigger(&workload(json!({})));
        assert_eq!(&*plain.metric_name, "s0-workload-shop");
        assert!((plain.threshold - 2.0).abs() < f64::EPSILON && plain.activation_threshold == 0.0);
        let selection = PodSelection { selector: "app=worker".into(), group_by_node: false };
        assert_eq!(plain.source, Source::Pods(selection));
        let full = trigger(&workload(
            json!({"podSelector": " app in (a, b),!c ", "value": "0.5", "activationValue": "3", "groupByNode": "true"}),
        ));
        assert!((full.activation_threshold - 3.0).abs() < f64::EPSILON);
        let selection = PodSelection { selector: "app in (a, b),!c".into(), group_by_node: true };
        assert_eq!(full.source, Source::Pods(selection));
    }

    #[test]
    fn mistakes_are_reported_with_what_to_write() {
        for (change, words) in [
            (json!({"podSelector": ""}), "metadata.podSelector: missing required parameter \"podSelector\""),
            (json!({"podSelector": "app=a=b"}), "metadata.podSelector: \"app=a=b\" is no label selector: found '='"),
            (json!({"value": ""}), "metadata.value: missing required parameter \"value\""),
            (json!({"value": "0"}), "metadata.value: \"0\" is not above 0"),
            (json!({"value": "many"}), "metadata.value: \"many\" is not a number"),
            (json!({"groupByNode": "sometimes"}), "metadata.groupByNode: \"sometimes\" is not a boolean"),
        ] {
            let problems = problems(&workload(change.clone()));
            assert!(problems.len() == 1 && problems[0].contains(words), "{change}: {problems:?}");
        }
        let warnings = warnings(&workload(json!({"labelSelector": "app=a"})));
        assert!(warnings[0].contains("unknown parameter of the kubernetes-workload trigger"), "{warnings:?}");
    }
}
