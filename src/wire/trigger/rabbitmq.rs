//! The `rabbitmq` trigger: messages and rates of a queue.

use super::super::fields::{Diagnostics, quoted};
use super::super::mask;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::encode::escape;
use crate::formats::url::Url;
use crate::scaling::model::{
    Exact, OnMissing, Query, QueueMeasure, QueueOperation, QueueRegex, RabbitMqSource, Source,
};
use crate::scaling::queue::RABBITMQ_SCHEMES;

pub(super) const TYPE: TriggerType = TriggerType {
    name: "rabbitmq",
    reference: &[
        Row {
            parameters: &["host", "hostFromEnv"],
            default: "required",
            meaning: "URL of the management API, `http://rabbitmq.shop:15672/vhost`, or of AMQP, `amqp://rabbitmq.shop:5672/vhost`, \
                      with the virtual host at its end; here, in a variable of the workload, or as parameter `host` of the \
                      `authenticationRef`",
        },
        Row { parameters: &["queueName"], default: "required", meaning: "the queue" },
        Row {
            parameters: &["mode"],
            default: "`QueueLength`",
            meaning: "`QueueLength`, `MessageRate`, `DeliverGetRate`, `PublishedToDeliveredRatio` or \
                      `ExpectedQueueConsumptionTime`",
        },
        Row {
            parameters: &["value"],
            default: "20",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row {
            parameters: &["queueLength"],
            default: "–",
            meaning: "the same for mode `QueueLength`, as older objects have it",
        },
        Row {
            parameters: &["activationValue"],
            default: "0",
            meaning: "above this the trigger is active; with `MessageRate` also while so many messages wait",
        },
        Row { parameters: &["vhostName"], default: "–", meaning: "virtual host, in place of that of `host`" },
        Row { parameters: &["protocol"], default: "`auto`", meaning: "that of `host`: `auto`, `http` or `amqp`" },
        Row { parameters: &["useRegex"], default: "false", meaning: "`queueName` is a regular expression" },
        Row {
            parameters: &["operation"],
            default: "sum",
            meaning: "what is made of all queues that match: `sum`, `avg` or `max`",
        },
        Row { parameters: &["pageSize"], default: "100", meaning: "as many queues may match" },
        Row {
            parameters: &["excludeUnacknowledged"],
            default: "false",
            meaning: "do not count messages that were delivered and not acknowledged",
        },
        Row {
            parameters: &["timeout"],
            default: "`--query-timeout`, 3 s",
            meaning: "a duration, or milliseconds; at most 30 s",
        },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["usernameFromEnv", "passwordFromEnv"],
            default: "–",
            meaning: "variables of the workload with the credentials, which parameters `username` and `password` replace",
        },
    ],
    without_effect: &["username", "password", "tls", "ca", "cert", "key", "keyPassword", "metricName"],
    can_be_cached: true,
    from_env: &["host", "username", "password"],
    parse,
};

const MODES: &[(&str, QueueMeasure)] = &[
    ("QueueLength", QueueMeasure::Length),
    ("MessageRate", QueueMeasure::MessageRate),
    ("DeliverGetRate", QueueMeasure::DeliverGetRate),
    ("PublishedToDeliveredRatio", QueueMeasure::PublishedToDeliveredRatio),
    ("ExpectedQueueConsumptionTime", QueueMeasure::ExpectedConsumptionTime),
];

const OPERATIONS: &[(&str, QueueOperation)] =
    &[("sum", QueueOperation::Sum), ("avg", QueueOperation::Average), ("max", QueueOperation::Max)];

/// The management API allows no larger pages.
const PAGE_MAX: u32 = 500;

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    protocol(context, report)?;
    let host = host(context, report);
    let queue = parameters.required("queueName", "write the name of the queue", report);
    let (measure, threshold) = measure(context, report);
    let activation = parameters.number("activationValue", report);
    let metric_type = external_metric_type(context, report);
    let uses_regex = parameters.boolean("useRegex", report);
    let operation = parameters.one_of("operation", OPERATIONS, report);
    let page_size = parameters.whole("pageSize", 1..=PAGE_MAX, report);
    let excludes_unacknowledged = parameters.boolean("excludeUnacknowledged", report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    let timeout = parameters.timeout("timeout", report);
    context.warn_secrets(&["username", "password", "tls", "ca", "cert", "key", "keyPassword"], report);
    if uses_regex != Ok(Some(true)) && parameters.get("operation").is_some() {
        let fix = "write useRegex: \"true\", or remove operation";
        report.warn(parameters.path("operation"), "has no effect without useRegex", fix);
    }
    let (host, queue) = (host.ok()?, queue?);
    let regex = QueueRegex {
        operation: operation.ok()?.unwrap_or(QueueOperation::Sum),
        page_size: page_size.ok()?.unwrap_or(100),
    };
    let activation = activation.ok()?.unwrap_or(0.0);
    let url = host.as_deref().and_then(|host| Url::parse_of(&RABBITMQ_SCHEMES, host).ok());
    let source = RabbitMqSource {
        server: context.server("rabbitmq", url.as_ref().map(Url::server)),
        host,
        vhost: parameters.get("vhostName").map(str::to_owned),
        queue: queue.to_owned(),
        measure: measure?,
        regex: uses_regex.ok()?.unwrap_or(false).then_some(regex),
        excludes_unacknowledged: excludes_unacknowledged.ok()?.unwrap_or(false),
        activation: Exact(activation),
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
        timeout: timeout.ok()?,
    };
    if source.needs_management_api() && url.is_some_and(|url| url.scheme.starts_with("amqp")) {
        let message = "is of AMQP, by which only QueueLength is known, of one queue and without excludeUnacknowledged";
        parameters.problem("host", message, "write the URL of the management API", report);
        return None;
    }
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("rabbitmq-{}", escape(queue)))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation,
        on_missing: OnMissing::Error,
        source: Source::Query(Query::RabbitMq(source.into())),
    }))
}

fn host(context: &Context<'_>, report: &mut Diagnostics) -> Result<Option<String>, ()> {
    const FIX: &str = "write the URL of the management API or of AMQP, such as \"http://rabbitmq.shop:15672/vhost\"";
    let parameters = &context.parameters;
    let Some(text) = context.placed("host", FIX, report)? else {
        return Ok(None);
    };
    let reason = match Url::parse_of(&RABBITMQ_SCHEMES, &text) {
        Ok(url) => {
            let protocol = parameters.get("protocol").filter(|protocol| *protocol != "auto");
            if let Some(protocol) = protocol.filter(|protocol| !url.scheme.starts_with(protocol)) {
                let message = format!("is {}, and host has the scheme {}", quoted(protocol), url.scheme);
                parameters.problem("protocol", message, "remove it: the scheme of host says what is spoken", report);
                return Err(());
            }
            if url.user.is_some() {
                let message = "contains credentials, which everybody who reads the object sees";
                report.warn(parameters.path("host"), message, "give username and password by a TriggerAuthentication");
            }
            return Ok(Some(text));
        }
        Err(reason) => reason,
    };
    parameters.problem("host", format!("{} {reason}", quoted(&mask::address(&text))), FIX, report);
    Err(())
}

fn protocol(context: &Context<'_>, report: &mut Diagnostics) -> Option<()> {
    let parameters = &context.parameters;
    match parameters.get("protocol") {
        None | Some("auto" | "http" | "amqp") => Some(()),
        Some(other) => {
            parameters.problem("protocol", format!("{} is no protocol", quoted(other)), "write http or amqp", report);
            None
        }
    }
}

fn measure(context: &Context<'_>, report: &mut Diagnostics) -> (Option<QueueMeasure>, Option<f64>) {
    const FIX: &str = "write the wanted value per replica, e.g. \"20\"";
    let parameters = &context.parameters;
    let mode = parameters.one_of("mode", MODES, report);
    if parameters.get("queueLength").is_some() {
        let others = ["mode", "value"].into_iter().filter(|name| parameters.get(name).is_some()).collect::<Vec<_>>();
        if !others.is_empty() {
            let message = format!("takes the place of {}", others.join(" and "));
            parameters.problem("queueLength", message, "remove it, and write mode and value", report);
            return (None, None);
        }
        return (Some(QueueMeasure::Length), target::read(context, "queueLength", FIX, report));
    }
    match (mode, parameters.get("value")) {
        (Ok(None), None) => (Some(QueueMeasure::Length), Some(20.0)),
        (Ok(None), Some(_)) => {
            parameters.required("mode", "write a mode such as \"QueueLength\"", report);
            (None, None)
        }
        (mode, _) => (mode.ok().flatten(), target::read(context, "value", FIX, report)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger, warnings};
    use super::*;
    use crate::scaling::model::Server;

    fn rabbit(change: Value) -> Value {
        let metadata = json!({"host": "http://rabbit:15672/shop", "queueName": "orders"});
        changed(json!({"type": "rabbitmq", "metadata": metadata}), &change)
    }

    #[test]
    fn modes_and_targets() {
        for (change, measure, threshold) in [
            (json!({}), QueueMeasure::Length, 20.0),
            (json!({"queueLength": "7"}), QueueMeasure::Length, 7.0),
            (json!({"mode": "QueueLength", "value": "2.5"}), QueueMeasure::Length, 2.5),
            (json!({"mode": "MessageRate", "value": "9", "activationValue": "3"}), QueueMeasure::MessageRate, 9.0),
        ] {
            let read = trigger(&rabbit(change.clone()));
            let Source::Query(Query::RabbitMq(source)) = &read.source else { panic!("{read:?}") };
            assert_eq!((source.measure, read.threshold), (measure, threshold), "{change}");
            assert_eq!(source.activation, Exact(read.activation_threshold));
            assert_eq!(source.server, Server::Written("http://rabbit:15672".to_owned()));
        }
        let regex = trigger(&rabbit(json!({"useRegex": "true", "operation": "max", "queueName": "^a b/c$"})));
        assert_eq!(&*regex.metric_name, "s0-rabbitmq--5Ea+b-2Fc-24");
        let Source::Query(Query::RabbitMq(source)) = &regex.source else { panic!("{regex:?}") };
        assert_eq!(source.regex, Some(QueueRegex { operation: QueueOperation::Max, page_size: 100 }));
        let elsewhere = trigger(&rabbit(json!({"host": null, "hostFromEnv": "RABBIT"})));
        let Source::Query(query) = &elsewhere.source else { panic!("{elsewhere:?}") };
        assert_eq!((query.server(), query.written_server()), ("rabbitmq of the environment in shop", None));
    }

    #[test]
    fn mistakes() {
        for (change, words) in [
            (json!({"host": null}), "metadata.host: missing required parameter \"host\""),
            (
                json!({"host": "ldap://u:secret@rabbit:5672/"}),
                "metadata.host: \"ldap://***@rabbit:5672/\" is not an http or",
            ),
            (json!({"protocol": "amqp"}), "metadata.protocol: is \"amqp\", and host has the scheme http"),
            (json!({"protocol": "mqtt"}), "metadata.protocol: \"mqtt\" is no protocol"),
            (json!({"host": "amqp://rabbit/", "protocol": "http"}), "metadata.protocol: is \"http\", and host has"),
            (
                json!({"host": "amqp://rabbit/", "useRegex": "true"}),
                "metadata.host: is of AMQP, by which only QueueLength",
            ),
            (json!({"queueName": null}), "metadata.queueName: missing required parameter"),
            (json!({"value": "7"}), "metadata.mode: missing required parameter \"mode\""),
            (
                json!({"mode": "QueueLenght", "value": "7"}),
                "metadata.mode: \"QueueLenght\" is no mode (write QueueLength)",
            ),
            (json!({"mode": "MessageRate"}), "metadata.value: missing required parameter \"value\""),
            (json!({"mode": "QueueLength", "queueLength": "7"}), "metadata.queueLength: takes the place of mode"),
            (json!({"pageSize": "0"}), "metadata.pageSize: \"0\" is no such number"),
        ] {
            let found = problems(&rabbit(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
        let seen = warnings(&rabbit(json!({"host": "http://u:p@rabbit:15672/", "operation": "max"})));
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
}
