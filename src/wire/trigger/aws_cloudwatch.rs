//! The `aws-cloudwatch` trigger: a metric or an expression of Amazon's.

use super::super::fields::{Diagnostics, quoted};
use super::parameters::Parameters;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, identity, target};
use crate::scaling::model::{CloudWatchMetric, CloudWatchSource, Exact, OnMissing, Query, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "aws-cloudwatch",
    reference: &[
        Row {
            parameters: &["awsRegion"],
            default: "required",
            meaning: "its region, such as `eu-west-1`, here or as a parameter of the `authenticationRef`",
        },
        Row {
            parameters: &["namespace", "metricName", "dimensionName", "dimensionValue"],
            default: "required",
            meaning: "the metric; several dimensions are separated by `;`, their values in the same order",
        },
        Row {
            parameters: &["expression"],
            default: "–",
            meaning: "in their place: metric math, or a query of Metrics Insights",
        },
        Row {
            parameters: &["targetMetricValue"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationTargetMetricValue"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["minMetricValue", "ignoreNullValues"],
            default: "0, true",
            meaning: "the value of an answer without any; with `ignoreNullValues: \"false\"` that is an error",
        },
        Row { parameters: &["metricStat"], default: "Average", meaning: "the statistic, such as `Sum` or `p95`" },
        Row { parameters: &["metricUnit"], default: "–", meaning: "only values of this unit" },
        Row {
            parameters: &["metricStatPeriod"],
            default: "300",
            meaning: "seconds that a value stands for: 1, 5, 10, 30, or a multiple of 60",
        },
        Row { parameters: &["metricCollectionTime"], default: "300", meaning: "how far back to look, in seconds" },
        Row {
            parameters: &["metricEndTimeOffset"],
            default: "0",
            meaning: "leave out the last so many seconds, which may not be complete",
        },
        Row { parameters: &["awsAccountId"], default: "–", meaning: "the account, where one observes several" },
        Row { parameters: &["awsEndpoint"], default: "–", meaning: "URL of the service, in place of Amazon's" },
    ],
    without_effect: &["identityOwner"],
    can_be_cached: true,
    from_env: &[],
    parse,
};

/// Two weeks.
const SECONDS_MAX: u32 = 1_209_600;

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let service = identity::aws_service(context, "monitoring", report);
    let metric = metric(parameters, report);
    let fix = "write the wanted value per replica, e.g. \"2.1\"";
    let threshold = target::read(context, "targetMetricValue", fix, report);
    let activation_threshold = parameters.number("activationTargetMetricValue", report);
    let metric_type = external_metric_type(context, report);
    let min_value = parameters.number("minMetricValue", report);
    let ignore_null_values = parameters.boolean("ignoreNullValues", report);
    let period = period(parameters, report);
    let collection_time = parameters.whole("metricCollectionTime", 1..=SECONDS_MAX, report);
    let end_offset = parameters.whole("metricEndTimeOffset", 0..=SECONDS_MAX, report);
    let service = service?;
    let source = CloudWatchSource {
        server: service.server,
        endpoint: service.endpoint,
        region: service.region,
        account: parameters.get("awsAccountId").map(str::to_owned),
        metric: metric?,
        period: period.ok()?,
        collection_time: collection_time.ok()?.unwrap_or(300),
        end_offset: end_offset.ok()?.unwrap_or(0),
        ignores_nothing: ignore_null_values.ok()?.unwrap_or(true),
        min_value: Exact(min_value.ok()?.unwrap_or(0.0)),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-aws-cloudwatch", context.index).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::CloudWatch(source.into())),
    }))
}

fn period(parameters: &Parameters, report: &mut Diagnostics) -> Result<u32, ()> {
    let period = parameters.whole("metricStatPeriod", 1..=SECONDS_MAX, report)?.unwrap_or(300);
    if matches!(period, 1 | 5 | 10 | 30) || period.is_multiple_of(60) {
        return Ok(period);
    }
    let message = format!("{period} is no period of CloudWatch's");
    parameters.problem("metricStatPeriod", message, "write 1, 5, 10, 30, or a multiple of 60", report);
    Err(())
}

fn metric(parameters: &Parameters, report: &mut Diagnostics) -> Option<CloudWatchMetric> {
    if let Some(text) = parameters.get("expression") {
        return Some(CloudWatchMetric::Expression(text.to_owned()));
    }
    const FIX: &str = "write it, or an expression instead of all four";
    let mut required = |name: &str| parameters.required(name, FIX, report).map(str::to_owned);
    let (namespace, name) = (required("namespace"), required("metricName"));
    let (names, values) = (required("dimensionName"), required("dimensionValue"));
    let (names, values) = (names?, values?);
    let split = |text: &str| text.split(';').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let (names, values) = (split(&names), split(&values));
    if names.len() != values.len() {
        let message = format!("{} dimensions have {} values", names.len(), values.len());
        parameters.problem("dimensionValue", message, "write a value for each name, separated by ;", report);
        return None;
    }
    let statistic = parameters.get("metricStat").unwrap_or("Average");
    if !statistic.chars().all(|c| c.is_ascii_alphanumeric() || "().:%".contains(c)) {
        parameters.problem(
            "metricStat",
            format!("{} is no statistic", quoted(statistic)),
            "write Average or p95",
            report,
        );
        return None;
    }
    Some(CloudWatchMetric::Metric {
        namespace: namespace?,
        name: name?,
        dimensions: names.into_iter().zip(values).collect(),
        statistic: statistic.to_owned(),
        unit: parameters.get("metricUnit").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger};
    use super::*;

    fn cloudwatch(change: Value) -> Value {
        let mut metadata = json!({"awsRegion": "eu-west-1", "namespace": "AWS/SQS", "metricName": "Visible",
            "dimensionName": "QueueName;B", "dimensionValue": "orders;c", "targetMetricValue": "2.1"});
        for (key, value) in change.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        json!({"type": "aws-cloudwatch", "metadata": metadata, "authenticationRef": {"name": "aws"}})
    }

    #[test]
    fn metrics() {
        let read = trigger(&cloudwatch(json!({"minMetricValue": "1.5"})));
        assert_eq!((&*read.metric_name, read.threshold), ("s0-aws-cloudwatch", 2.1));
        let Source::Query(Query::CloudWatch(source)) = &read.source else { panic!("{read:?}") };
        assert_eq!((source.period, source.min_value), (300, Exact(1.5)));
        let CloudWatchMetric::Metric { dimensions, .. } = &source.metric else { panic!("{source:?}") };
        assert_eq!(dimensions.len(), 2);
        for (change, words) in [
            (json!({"namespace": ""}), "metadata.namespace: missing required parameter"),
            (json!({"dimensionValue": "orders"}), "metadata.dimensionValue: 2 dimensions have 1 values"),
            (json!({"metricStatPeriod": "45"}), "metadata.metricStatPeriod: 45 is no period"),
            (json!({"metricStat": "a b"}), "metadata.metricStat: \"a b\" is no statistic"),
            (json!({"awsRegion": ""}), ""),
        ] {
            let found = problems(&cloudwatch(change.clone()));
            assert!(
                found.len() == usize::from(!words.is_empty()) && found.iter().all(|text| text.contains(words)),
                "{change}: {found:?}"
            );
        }
    }
}
