//! The `aws-sqs-queue` trigger: messages in a queue of Amazon's.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, identity, normalized, target};
use crate::formats::url::Url;
use crate::scaling::model::{OnMissing, Query, Source, SqsSource};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "aws-sqs-queue",
    reference: &[
        Row {
            parameters: &["queueURL", "queueURLFromEnv"],
            default: "required",
            meaning: "URL or name of the queue, here or in a variable of the workload",
        },
        Row {
            parameters: &["awsRegion"],
            default: "required",
            meaning: "its region, such as `eu-west-1`, here or as a parameter of the `authenticationRef`",
        },
        Row {
            parameters: &["queueLength"],
            default: "5",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationQueueLength"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["scaleOnInFlight"],
            default: "true",
            meaning: "count messages that were received and not deleted",
        },
        Row { parameters: &["scaleOnDelayed"], default: "false", meaning: "count messages that are delayed" },
        Row { parameters: &["awsEndpoint"], default: "–", meaning: "URL of the service, in place of Amazon's" },
    ],
    without_effect: &["identityOwner"],
    can_be_cached: true,
    from_env: &["queueURL"],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let queue = match parameters.get("queueURL") {
        Some(text) => Ok(Some(text.to_owned())),
        None if context.env_source("queueURL").is_some() => Ok(None),
        None => {
            parameters.required("queueURL", "write the URL or the name of the queue", report).map(|_| None).ok_or(())
        }
    };
    let name = queue.as_ref().ok().and_then(Option::as_deref).map(|text| queue_name(text).ok_or(text.to_owned()));
    if let Some(Err(text)) = &name {
        let fix = "write a URL such as \"https://sqs.eu-west-1.amazonaws.com/123456789012/orders\"";
        parameters.problem("queueURL", format!("{} has no name of a queue in it", quoted(text)), fix, report);
        return None;
    }
    let service = identity::aws_service(context, "sqs", report);
    let fix = "write the wanted length per replica, e.g. \"5\"";
    let threshold = target::read_or(context, "queueLength", 5.0, fix, report);
    let activation_threshold = parameters.number("activationQueueLength", report);
    let metric_type = external_metric_type(context, report);
    let in_flight = parameters.boolean("scaleOnInFlight", report);
    let delayed = parameters.boolean("scaleOnDelayed", report);
    let name = name.and_then(Result::ok).unwrap_or_else(|| "queue".to_owned());
    let service = service?;
    let source = SqsSource {
        server: service.server,
        endpoint: service.endpoint,
        queue: queue.ok()?,
        region: service.region,
        in_flight: in_flight.ok()?.unwrap_or(true),
        delayed: delayed.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("aws-sqs-{name}"))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Sqs(source.into())),
    }))
}

/// Returns the name at the end of a URL, or the text itself if it is none.
fn queue_name(text: &str) -> Option<String> {
    match Url::parse(text) {
        Err(_) => Some(text.to_owned()),
        Ok(url) => match url.path.split('/').collect::<Vec<_>>()[..] {
            ["", _, name] if !name.is_empty() => Some(name.to_owned()),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger};
    use super::*;

    fn sqs(change: Value) -> Value {
        let mut metadata =
            json!({"queueURL": "https://sqs.eu-west-1.amazonaws.com/1/orders", "awsRegion": "eu-west-1"});
        for (key, value) in change.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        json!({"type": "aws-sqs-queue", "metadata": metadata, "authenticationRef": {"name": "aws"}})
    }

    #[test]
    fn queues() {
        for (queue, name) in
            [("https://sqs.eu-west-1.amazonaws.com/1/orders", "s0-aws-sqs-orders"), ("orders", "s0-aws-sqs-orders")]
        {
            let read = trigger(&sqs(json!({"queueURL": queue})));
            assert_eq!((&*read.metric_name, read.threshold), (name, 5.0));
            let Source::Query(query) = &read.source else { panic!("{read:?}") };
            assert_eq!(query.server(), "https://sqs.eu-west-1.amazonaws.com");
        }
        for (change, words) in [
            (json!({"queueURL": ""}), "metadata.queueURL: missing required parameter"),
            (
                json!({"queueURL": "https://sqs/orders"}),
                "metadata.queueURL: \"https://sqs/orders\" has no name of a queue",
            ),
            (json!({"awsRegion": "Ireland"}), "metadata.awsRegion: \"Ireland\" is not the name of a region"),
            (json!({"awsEndpoint": "localhost"}), "metadata.awsEndpoint: \"localhost\" is not a URL"),
        ] {
            let found = problems(&sqs(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
        let mut alone = sqs(json!({}));
        alone["authenticationRef"] = Value::Null;
        assert!(problems(&alone)[0].contains("authenticationRef: is missing; requests to Amazon are signed"));
    }
}
