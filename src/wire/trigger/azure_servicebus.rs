//! The `azure-servicebus` trigger: messages in a queue or a subscription.

use super::super::fields::{Diagnostics, quoted};
use super::identity::azure_cloud;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::scaling::model::{OnMissing, Query, ServiceBusEntity, ServiceBusSource, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "azure-servicebus",
    reference: &[
        Row { parameters: &["queueName"], default: "required", meaning: "the queue, whose active messages count" },
        Row {
            parameters: &["topicName", "subscriptionName"],
            default: "–",
            meaning: "in its place, the subscription of a topic",
        },
        Row {
            parameters: &["messageCount"],
            default: "5",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationMessageCount"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["connectionFromEnv"],
            default: "–",
            meaning: "a variable of the workload with the connection string, or parameter `connection` of the \
                      `authenticationRef`",
        },
        Row {
            parameters: &["namespace"],
            default: "–",
            meaning: "with `podIdentity: azure-workload` in place of that, the namespace of Service Bus",
        },
        Row {
            parameters: &["cloud"],
            default: "AzurePublicCloud",
            meaning: "or `AzureUSGovernmentCloud` or `AzureChinaCloud`, for that namespace",
        },
    ],
    without_effect: &["connection", "useRegex", "operation"],
    can_be_cached: true,
    from_env: &["connection"],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let entity = entity(context, report);
    let fix = "write the wanted number of messages per replica, e.g. \"5\"";
    let threshold = target::read_or(context, "messageCount", 5.0, fix, report);
    let activation_threshold = parameters.number("activationMessageCount", report);
    let cloud = azure_cloud(parameters, report);
    let metric_type = external_metric_type(context, report);
    if parameters.boolean("useRegex", report) == Ok(Some(true)) {
        parameters.problem("useRegex", "is not served", "write a trigger for each queue or subscription", report);
        return None;
    }
    context.warn_secrets(&["connection"], report);
    if !context.is_given_elsewhere("connection") {
        let fix = "name an authentication with parameter connection, or with podIdentity azure-workload";
        parameters.problem("connectionFromEnv", "is missing, and so is authenticationRef", fix, report);
        return None;
    }
    let namespace = parameters.get("namespace");
    // It becomes a part of a host's name.
    if let Some(text) = namespace.filter(|text| !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')) {
        let message = format!("{} is not the name of a namespace", quoted(text));
        parameters.problem("namespace", message, "write its first word alone, such as \"shop\"", report);
        return None;
    }
    let (entity, cloud) = (entity?, cloud?);
    let name = match &entity {
        ServiceBusEntity::Queue(name) | ServiceBusEntity::Subscription { topic: name, .. } => {
            normalized(&format!("azure-servicebus-{name}"))
        }
    };
    let source = ServiceBusSource {
        server: context.server(
            "azure-servicebus",
            namespace.map(|namespace| format!("https://{namespace}.{}", cloud.service_bus())),
        ),
        namespace: namespace.map(str::to_owned),
        cloud,
        entity,
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{name}", context.index).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::ServiceBus(source.into())),
    }))
}

fn entity(context: &Context<'_>, report: &mut Diagnostics) -> Option<ServiceBusEntity> {
    let parameters = &context.parameters;
    let get = |name| parameters.get(name).map(str::to_owned);
    match (get("queueName"), get("topicName"), get("subscriptionName")) {
        (Some(queue), None, None) => Some(ServiceBusEntity::Queue(queue)),
        (None, Some(topic), Some(subscription)) => Some(ServiceBusEntity::Subscription { topic, subscription }),
        (Some(_), ..) => {
            let fix = "remove it, or topicName and subscriptionName";
            parameters.problem("queueName", "excludes topicName and subscriptionName", fix, report);
            None
        }
        (None, None, None) => {
            parameters.required("queueName", "write the name of the queue, or topicName and subscriptionName", report);
            None
        }
        (None, topic, _) => {
            let missing = if topic.is_some() { "subscriptionName" } else { "topicName" };
            parameters.required(missing, "write topicName and subscriptionName, or queueName", report);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger};

    fn bus(change: Value) -> Value {
        let plain = json!({"type": "azure-servicebus", "metadata": {"queueName": "orders"},
            "authenticationRef": {"name": "a"}});
        changed(plain, &change)
    }

    #[test]
    fn queues_and_subscriptions() {
        for (change, name, server) in [
            (json!({}), "s0-azure-servicebus-orders", "azure-servicebus of TriggerAuthentication shop/a"),
            (json!({"namespace": "shop"}), "s0-azure-servicebus-orders", "https://shop.servicebus.windows.net"),
            (
                json!({"queueName": null, "topicName": "t", "subscriptionName": "s", "namespace": "n",
                    "cloud": "AzureChinaCloud"}),
                "s0-azure-servicebus-t",
                "https://n.servicebus.chinacloudapi.cn",
            ),
        ] {
            let read = trigger(&bus(change.clone()));
            assert_eq!((&*read.metric_name, read.threshold), (name, 5.0), "{change}");
            assert_eq!(read.source.query().expect("a query").server(), server);
        }
    }

    #[test]
    fn mistakes() {
        for (change, words) in [
            (json!({"queueName": null}), "metadata.queueName: missing required parameter"),
            (json!({"topicName": "t"}), "metadata.queueName: excludes topicName and subscriptionName"),
            (json!({"queueName": null, "topicName": "t"}), "metadata.subscriptionName: missing required parameter"),
            (json!({"useRegex": "true"}), "metadata.useRegex: is not served"),
            (json!({"namespace": "a.b/c"}), "metadata.namespace: \"a.b/c\" is not the name of a namespace"),
            (json!({"cloud": "Private"}), "metadata.cloud: \"Private\" is no cloud"),
        ] {
            let found = problems(&bus(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
        let alone = json!({"type": "azure-servicebus", "metadata": {"queueName": "orders"}});
        assert!(problems(&alone)[0].contains("is missing, and so is authenticationRef"));
    }
}
