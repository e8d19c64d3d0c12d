//! The `nats-jetstream` trigger: messages that a consumer has not acknowledged.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::formats::url::Url;
use crate::scaling::model::{NatsSource, OnMissing, Query, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "nats-jetstream",
    reference: &[
        Row {
            parameters: &["natsServerMonitoringEndpoint"],
            default: "required",
            meaning: "`host:port` of the monitoring endpoint, usually port 8222, here or as a parameter of the \
                      `authenticationRef`",
        },
        Row {
            parameters: &["account", "accountID"],
            default: "required",
            meaning: "name or id of the account, `$G` where there are no others; here or as a parameter",
        },
        Row { parameters: &["stream"], default: "required", meaning: "the stream" },
        Row {
            parameters: &["consumer"],
            default: "required",
            meaning: "the consumer, whose messages that are pending or not acknowledged are counted, by its leader in a \
                      cluster",
        },
        Row {
            parameters: &["lagThreshold"],
            default: "10",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationLagThreshold"], default: "0", meaning: "above this the trigger is active" },
        Row { parameters: &["useHttps"], default: "false", meaning: "ask over TLS" },
    ],
    without_effect: &[],
    can_be_cached: true,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    const FIX: &str = "write host:port such as \"nats.shop:8222\"";
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let https = parameters.boolean("useHttps", report);
    let scheme = if https == Ok(Some(true)) { "https" } else { "http" };
    let endpoint = context.placed("natsServerMonitoringEndpoint", FIX, report).and_then(|endpoint| {
        let url = endpoint.as_ref().map(|endpoint| format!("{scheme}://{endpoint}"));
        let wrong = match url.as_deref().map(Url::parse_base) {
            Some(Err(why)) => Some(why),
            Some(Ok(url)) if url.path != "/" || url.user.is_some() => Some("is not of the form host:port".to_owned()),
            _ => None,
        };
        match (wrong, &endpoint) {
            (Some(wrong), Some(text)) => {
                let message = format!("{} {wrong}", quoted(text));
                parameters.problem("natsServerMonitoringEndpoint", message, FIX, report);
                Err(())
            }
            _ => Ok(endpoint),
        }
    });
    let account = match parameters.get("accountID") {
        Some(id) => Ok(Some(id.to_owned())),
        None => context.placed("account", "write \"$G\", or the name of the account", report),
    };
    let stream = parameters.required("stream", "write the name of the stream", report);
    let consumer = parameters.required("consumer", "write the name of the consumer", report);
    let fix = "write the wanted lag per replica, e.g. \"10\"";
    let threshold = target::read_or(context, "lagThreshold", 10.0, fix, report);
    let activation_threshold = parameters.number("activationLagThreshold", report);
    let metric_type = external_metric_type(context, report);
    let (endpoint, stream) = (endpoint.ok()?, stream?);
    let source = NatsSource {
        server: context.server("nats", endpoint.as_ref().map(|endpoint| format!("{scheme}://{endpoint}"))),
        endpoint,
        https: https.ok()?.unwrap_or(false),
        account: account.ok()?,
        stream: stream.to_owned(),
        consumer: consumer?.to_owned(),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("nats-jetstream-{stream}"))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Nats(source.into())),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{problems, trigger};
    use super::*;

    #[test]
    fn a_consumer() {
        let written = json!({"type": "nats-jetstream", "metadata": {"natsServerMonitoringEndpoint": "nats:8222",
            "account": "$G", "stream": "orders", "consumer": "pull", "useHttps": "true"}});
        let read = trigger(&written);
        assert_eq!((&*read.metric_name, read.threshold), ("s0-nats-jetstream-orders", 10.0));
        let Source::Query(query @ Query::Nats(_)) = &read.source else { panic!("{read:?}") };
        assert_eq!(query.shown(), ("https://nats:8222".to_owned(), "orders/pull".to_owned()));
        for (endpoint, words) in [
            ("http://nats:8222", "natsServerMonitoringEndpoint: \"http://nats:8222\" has no valid port"),
            ("nats:8222/jsz", "natsServerMonitoringEndpoint: \"nats:8222/jsz\" is not of the form host:port"),
            ("", "natsServerMonitoringEndpoint: missing required parameter"),
        ] {
            let mut bad = written.clone();
            bad["metadata"]["natsServerMonitoringEndpoint"] = endpoint.into();
            let found = problems(&bad);
            assert!(found.len() == 1 && found[0].contains(words), "{endpoint}: {found:?}");
        }
        let empty = problems(&json!({"type": "nats-jetstream", "metadata": {"stream": "a"}}));
        assert_eq!(empty.len(), 3, "{empty:?}");
    }
}
