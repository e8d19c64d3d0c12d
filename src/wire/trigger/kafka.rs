//! The `kafka` and `apache-kafka` triggers: the lag of a consumer group. KEDA asks by one library or the other.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, is_host_port, normalized};
use crate::scaling::model::{KafkaSource, LagRules, OnMissing, Query, Sasl, Source};

pub(super) const KAFKA: TriggerType = TriggerType {
    name: "kafka",
    reference: REFERENCE,
    without_effect: WITHOUT_EFFECT,
    can_be_cached: true,
    from_env: FROM_ENV,
    parse: |context, report| parse("kafka", context, report),
};

pub(super) const APACHE_KAFKA: TriggerType = TriggerType {
    name: "apache-kafka",
    reference: REFERENCE,
    without_effect: WITHOUT_EFFECT,
    can_be_cached: true,
    from_env: FROM_ENV,
    parse: |context, report| parse("apache-kafka", context, report),
};

const FROM_ENV: &[&str] = &["bootstrapServers", "consumerGroup", "topic"];

const SECRETS: &[&str] =
    &["username", "password", "ca", "cert", "key", "keyPassword", "scopes", "oauthTokenEndpointUri"];

const WITHOUT_EFFECT: &[&str] = &[
    "username",
    "password",
    "ca",
    "cert",
    "key",
    "keyPassword",
    "scopes",
    "oauthTokenEndpointUri",
    "saslTokenProvider",
    "awsRegion",
];

const REFERENCE: &[Row] = &[
    Row {
        parameters: &["bootstrapServers", "bootstrapServersFromEnv"],
        default: "required",
        meaning: "`host:port` of brokers, comma-separated, here or in a variable of the workload",
    },
    Row {
        parameters: &["consumerGroup", "consumerGroupFromEnv"],
        default: "required",
        meaning: "the group whose lag counts",
    },
    Row {
        parameters: &["topic", "topicFromEnv"],
        default: "–",
        meaning: "the topic, or several, comma-separated; without one, all topics in which the group has committed an offset",
    },
    Row {
        parameters: &["lagThreshold"],
        default: "10",
        meaning: "the HPA's target in messages: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
    },
    Row { parameters: &["activationLagThreshold"], default: "0", meaning: "above this lag the trigger is active" },
    Row {
        parameters: &["partitionLimitation"],
        default: "–",
        meaning: "the only partitions that count, such as `1,3,5-7`; needs a `topic`",
    },
    Row {
        parameters: &["offsetResetPolicy"],
        default: "latest",
        meaning: "where the group begins without a committed offset: `latest` counts 1 for such a partition, `earliest` all \
                  of its messages",
    },
    Row { parameters: &["scaleToZeroOnInvalidOffset"], default: "false", meaning: "count 0 for such a partition" },
    Row {
        parameters: &["allowIdleConsumers"],
        default: "false",
        meaning: "let the lag ask for more replicas than there are partitions",
    },
    Row {
        parameters: &["limitToPartitionsWithLag"],
        default: "false",
        meaning: "for no more replicas than partitions that have a lag",
    },
    Row {
        parameters: &["ensureEvenDistributionOfPartitions"],
        default: "false",
        meaning: "only for as many replicas as divide the number of partitions",
    },
    Row {
        parameters: &["excludePersistentLag"],
        default: "false",
        meaning: "leave out partitions whose committed offset has not changed since the poll before",
    },
    Row {
        parameters: &["sasl"],
        default: "none",
        meaning: "`plaintext`, `scram_sha256`, `scram_sha512` or `oauthbearer`, here or as a parameter of the \
                  `authenticationRef`",
    },
    Row { parameters: &["tls"], default: "disable", meaning: "`enable`, here or as a parameter" },
    Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
    Row {
        parameters: &["version", "fullMetadata"],
        default: "–",
        meaning: "accepted: brokers say themselves what they speak, and only the topics that count are asked for",
    },
];

const POLICIES: &[(&str, bool)] = &[("latest", false), ("earliest", true)];
const SWITCH: &[(&str, bool)] = &[("enable", true), ("disable", false)];

/// A broker has a few thousand partitions at most.
const RANGES_MAX: usize = 100;

fn parse(kind: &'static str, context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let here = |name: &str, fix: &str, report: &mut Diagnostics| match context.env_source(name) {
        Some(_) if parameters.get(name).is_none() => Ok(None),
        _ => parameters.required(name, fix, report).map(|text| Some(text.to_owned())).ok_or(()),
    };
    let servers = servers(context, here("bootstrapServers", SERVERS_FIX, report), report);
    let group = here("consumerGroup", "write the name of the consumer group", report);
    let topics = parameters.get("topic").map(list);
    let is_of_all = topics.is_none() && context.env_source("topic").is_none();
    let threshold = parameters.whole("lagThreshold", 1..=u32::MAX, report);
    let activation = parameters.whole("activationLagThreshold", 0..=u32::MAX, report);
    let partitions = partitions(context, report);
    let policy = parameters.one_of("offsetResetPolicy", POLICIES, report);
    let mut flag = |name| parameters.boolean(name, report).map(|flag| flag.unwrap_or(false));
    let (idle, limited) = (flag("allowIdleConsumers"), flag("limitToPartitionsWithLag"));
    let (even, persistent) = (flag("ensureEvenDistributionOfPartitions"), flag("excludePersistentLag"));
    let (zero, unsafe_ssl) = (flag("scaleToZeroOnInvalidOffset"), flag("unsafeSsl"));
    let _ = flag("fullMetadata");
    let sasl = sasl(context, report);
    let tls = parameters.one_of("tls", SWITCH, report);
    let metric_type = external_metric_type(context, report);
    context.warn_secrets(SECRETS, report);
    exclusions(context, [idle, limited, even], is_of_all, report)?;
    if is_of_all && parameters.get("partitionLimitation").is_some() {
        let fix = "name a topic, or remove partitionLimitation";
        report.warn(parameters.path("partitionLimitation"), "has no effect without a topic", fix);
    }
    let (servers, group) = (servers.ok()?, group.ok()?);
    let trigger = format!("{}/{}/{}/{}", context.group.name(), context.namespace, context.object, context.index);
    let (threshold, activation) = (threshold.ok()?.unwrap_or(10), activation.ok()?.unwrap_or(0));
    let source = KafkaSource {
        server: context.server("kafka", servers.as_ref().map(|servers| format!("kafka://{servers}"))),
        kind,
        bootstrap_servers: servers,
        topics: topics.clone(),
        partitions: partitions.ok()?.filter(|_| !is_of_all),
        rules: LagRules {
            threshold,
            activation,
            from_earliest: policy.ok()?.unwrap_or(false),
            allows_idle_consumers: idle.ok()?,
            excludes_persistent: persistent.ok()?.then_some(trigger),
            zero_on_invalid_offset: zero.ok()?,
            limits_to_partitions_with_lag: limited.ok()?,
            distributes_evenly: even.ok()?,
        },
        sasl: sasl.ok()?,
        tls: tls.ok()?,
        unsafe_ssl: unsafe_ssl.ok()?,
        group,
    };
    let name = match (&topics, &source.group) {
        (Some(topics), _) => topics.as_str(),
        (None, _) if !is_of_all => "topic",
        (None, group) => &format!("{}-topics", group.as_deref().unwrap_or("group")),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("kafka-{name}"))).into(),
        metric_type: metric_type?,
        threshold: f64::from(threshold),
        activation_threshold: f64::from(activation),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Kafka(source.into())),
    }))
}

/// Returns the elements of a list without the blanks around them.
fn list(text: &str) -> String {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.join(",")
}

const SERVERS_FIX: &str = "write host:port such as \"kafka.shop:9092\", several between commas";

fn servers(
    context: &Context<'_>,
    servers: Result<Option<String>, ()>,
    report: &mut Diagnostics,
) -> Result<Option<String>, ()> {
    let Some(servers) = servers?.map(|text| list(&text)) else { return Ok(None) };
    if let Some(wrong) = servers.split(',').find(|server| !is_host_port(server)) {
        let message = format!("{} is not of the form host:port", quoted(wrong));
        context.parameters.problem("bootstrapServers", message, SERVERS_FIX, report);
        return Err(());
    }
    Ok(Some(servers))
}

fn partitions(context: &Context<'_>, report: &mut Diagnostics) -> Result<Option<Vec<(i32, i32)>>, ()> {
    let Some(text) = context.parameters.get("partitionLimitation") else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<i32>().ok().filter(|number| *number >= 0);
    let range = |part: &str| match part.split_once('-') {
        Some((low, high)) => Some((number(low)?, number(high)?)).filter(|(low, high)| low <= high),
        None => number(part).map(|one| (one, one)),
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let ranges = ranges.filter(|ranges| ranges.len() <= RANGES_MAX);
    if ranges.is_none() {
        let message = format!("{} is no list of partitions", quoted(text));
        let fix = format!("write numbers and ranges such as \"1,3,5-7\", at most {RANGES_MAX}");
        context.parameters.problem("partitionLimitation", message, fix, report);
    }
    ranges.map(Some).ok_or(())
}

fn sasl(context: &Context<'_>, report: &mut Diagnostics) -> Result<Option<Sasl>, ()> {
    let parameters = &context.parameters;
    let unserved = [("sasl", "gssapi"), ("sasl", "aws_msk_iam"), ("saslTokenProvider", "aws_msk_iam")];
    if let Some((name, word)) = unserved.into_iter().find(|(name, word)| parameters.get(name) == Some(word)) {
        let fix = "use scram_sha512, mutual TLS or oauthbearer, which the broker can offer beside it";
        parameters.problem(name, format!("{} is not served", quoted(word)), fix, report);
        return Err(());
    }
    parameters.one_of("sasl", Sasl::NAMES, report)
}

/// Reports parameters that exclude each other; `None` if there are some.
fn exclusions(
    context: &Context<'_>,
    [idle, limited, even]: [Result<bool, ()>; 3],
    is_of_all: bool,
    report: &mut Diagnostics,
) -> Option<()> {
    const LIMITED: &str = "limitToPartitionsWithLag";
    const EVEN: &str = "ensureEvenDistributionOfPartitions";
    let is = |flag| flag == Ok(true);
    let (name, message) = match () {
        () if is(limited) && is(idle) => (LIMITED, "and allowIdleConsumers exclude each other".to_owned()),
        () if is(limited) && is(even) => (LIMITED, format!("and {EVEN} exclude each other")),
        () if is(limited) && is_of_all => (LIMITED, "needs a topic".to_owned()),
        () if is(even) && is_of_all => (EVEN, "needs a topic".to_owned()),
        () => return Some(()),
    };
    let fix = if message.starts_with("needs") { "name the topic" } else { "remove one of them" };
    context.parameters.problem(name, message, fix, report);
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger, warnings};
    use super::*;
    use crate::scaling::model::Server;

    fn kafka(change: Value) -> Value {
        let metadata = json!({"bootstrapServers": "a:9092, b:9092", "consumerGroup": "shop", "topic": "orders"});
        changed(json!({"type": "kafka", "metadata": metadata}), &change)
    }

    fn source(change: Value) -> KafkaSource {
        let Source::Query(Query::Kafka(source)) = trigger(&kafka(change)).source else { panic!() };
        (*source).clone()
    }

    #[test]
    fn a_group_and_its_topics() {
        for (change, name, shown) in [
            (json!({}), "s0-kafka-orders", "shop/orders"),
            (json!({"topic": "a.b, c"}), "s0-kafka-a-b,c", "shop/a.b,c"),
            (json!({"topic": null}), "s0-kafka-shop-topics", "shop"),
            (json!({"topic": null, "topicFromEnv": "TOPIC"}), "s0-kafka-topic", "shop"),
        ] {
            let read = trigger(&kafka(change.clone()));
            assert_eq!((&*read.metric_name, read.threshold), (name, 10.0), "{change}");
            let query = read.source.query().expect("a query");
            assert_eq!(query.shown(), ("kafka://a:9092,b:9092".to_owned(), shown.to_owned()));
        }
        let env = json!({"bootstrapServers": null, "bootstrapServersFromEnv": "SERVERS", "consumerGroupFromEnv": "G",
            "consumerGroup": null});
        assert_eq!(trigger(&kafka(env.clone())).env.len(), 2);
        assert_eq!(source(env).server, Server::Elsewhere("kafka of the environment in shop".to_owned()));
        let apache = changed(kafka(json!({})), &json!({}));
        let apache = trigger(&json!({"type": "apache-kafka", "metadata": apache["metadata"]}));
        assert_eq!(
            (apache.source.query().expect("a query").kind(), &*apache.metric_name),
            ("apache-kafka", "s0-kafka-orders")
        );
    }

    #[test]
    fn rules() {
        let all = source(json!({"lagThreshold": "7", "activationLagThreshold": "3", "offsetResetPolicy": "earliest",
            "partitionLimitation": "1, 3,5-7", "excludePersistentLag": "true", "scaleToZeroOnInvalidOffset": "true",
            "limitToPartitionsWithLag": "true", "version": "2.5.0", "sasl": "scram_sha512", "tls": "enable"}));
        assert_eq!(all.partitions, Some(vec![(1, 1), (3, 3), (5, 7)]));
        assert_eq!((all.sasl, all.tls), (Some(Sasl::ScramSha512), Some(true)));
        let expected = LagRules {
            threshold: 7,
            activation: 3,
            from_earliest: true,
            allows_idle_consumers: false,
            excludes_persistent: Some("keda.sh/shop/so/0".to_owned()),
            zero_on_invalid_offset: true,
            limits_to_partitions_with_lag: true,
            distributes_evenly: false,
        };
        assert_eq!(all.rules, expected);
        assert_eq!(source(json!({})).rules, LagRules { threshold: 10, ..LagRules::default() });
    }

    #[test]
    fn mistakes() {
        for (change, words) in [
            (json!({"bootstrapServers": null}), "metadata.bootstrapServers: missing required parameter"),
            (json!({"bootstrapServers": "a:9092,b"}), "metadata.bootstrapServers: \"b\" is not of the form host:port"),
            (json!({"consumerGroup": null}), "metadata.consumerGroup: missing required parameter"),
            (json!({"lagThreshold": "0"}), "metadata.lagThreshold: \"0\" is no such number"),
            (json!({"activationLagThreshold": "-1"}), "metadata.activationLagThreshold: \"-1\" is no such number"),
            (json!({"offsetResetPolicy": "oldest"}), "metadata.offsetResetPolicy: \"oldest\" is no offsetResetPolicy"),
            (json!({"partitionLimitation": "7-5"}), "metadata.partitionLimitation: \"7-5\" is no list of partitions"),
            (json!({"sasl": "gssapi"}), "metadata.sasl: \"gssapi\" is not served"),
            (json!({"sasl": "scram"}), "metadata.sasl: \"scram\" is no sasl"),
            (json!({"tls": "true"}), "metadata.tls: \"true\" is no tls"),
            (
                json!({"limitToPartitionsWithLag": "true", "allowIdleConsumers": "true"}),
                "metadata.limitToPartitionsWithLag: and allowIdleConsumers exclude each other",
            ),
            (
                json!({"ensureEvenDistributionOfPartitions": "true", "topic": null}),
                "metadata.ensureEvenDistributionOfPartitions: needs a topic",
            ),
        ] {
            let found = problems(&kafka(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
        let seen = warnings(&kafka(json!({"password": "x", "topic": null, "partitionLimitation": "1"})));
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
}
