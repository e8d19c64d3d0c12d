//! The triggers of Redis: the length of a list or a stream, of a single server, a cluster, or a master behind sentinels.

use super::super::fields::{Diagnostics, quoted};
use super::parameters::Parameters;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, is_host_port, normalized, target};
use crate::scaling::model::{OnMissing, Query, RedisSetup, RedisSize, RedisSource, Source};

pub(super) const TYPES: [TriggerType; 6] = [
    of_lists("redis", |context, report| parse(RedisSetup::Single, collection, context, report)),
    of_lists("redis-cluster", |context, report| parse(RedisSetup::Cluster, collection, context, report)),
    of_lists("redis-sentinel", |context, report| parse(RedisSetup::Sentinel, collection, context, report)),
    of_streams("redis-streams", |context, report| parse(RedisSetup::Single, stream, context, report)),
    of_streams("redis-cluster-streams", |context, report| parse(RedisSetup::Cluster, stream, context, report)),
    of_streams("redis-sentinel-streams", |context, report| parse(RedisSetup::Sentinel, stream, context, report)),
];

type Parse = fn(&Context<'_>, &mut Diagnostics) -> Option<Parsed>;

const fn of_lists(name: &'static str, parse: Parse) -> TriggerType {
    TriggerType {
        name,
        reference: &[
            ADDRESS,
            PARTS,
            Row {
                parameters: &["listName"],
                default: "required",
                meaning: "the list; of a set, a sorted set or a hash the size counts, and what does not exist is empty",
            },
            Row {
                parameters: &["listLength"],
                default: "5",
                meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
            },
            Row { parameters: &["activationListLength"], default: "0", meaning: "above this the trigger is active" },
            DATABASE,
            MASTER,
            TLS,
            UNSAFE,
            CREDENTIALS,
        ],
        without_effect: SECRETS,
        can_be_cached: true,
        from_env: FROM_ENV,
        parse,
    }
}

const fn of_streams(name: &'static str, parse: Parse) -> TriggerType {
    TriggerType {
        name,
        reference: &[
            ADDRESS,
            PARTS,
            Row { parameters: &["stream"], default: "required", meaning: "the stream" },
            Row {
                parameters: &["consumerGroup"],
                default: "–",
                meaning: "the group of consumers; without one the entries of the stream count",
            },
            Row {
                parameters: &["pendingEntriesCount"],
                default: "5",
                meaning: "with a group, the HPA's target of entries that it got and has not acknowledged: per replica \
                          (`metricType: AverageValue`, the default) or in all (`Value`)",
            },
            Row {
                parameters: &["lagCount"],
                default: "–",
                meaning: "with a group, in place of that the target of entries that it has not got yet, which Redis says from \
                          7.0 on",
            },
            Row {
                parameters: &["streamLength"],
                default: "5",
                meaning: "without a group, the target of entries in the stream",
            },
            Row {
                parameters: &["activationLagCount"],
                default: "0",
                meaning: "above this, of whatever counts, the trigger is active",
            },
            DATABASE,
            MASTER,
            TLS,
            UNSAFE,
            CREDENTIALS,
        ],
        without_effect: SECRETS,
        can_be_cached: true,
        from_env: FROM_ENV,
        parse,
    }
}

const ADDRESS: Row = Row {
    parameters: &["address", "addressFromEnv", "addresses", "addressesFromEnv"],
    default: "required",
    meaning: "`host:port` of the server, of nodes of the cluster, or of the sentinels, comma-separated; here, in a variable of the \
              workload, or as parameter `address` or `addresses` of the `authenticationRef`",
};
const PARTS: Row = Row {
    parameters: &["host", "hostFromEnv", "port", "portFromEnv", "hosts", "hostsFromEnv", "ports", "portsFromEnv"],
    default: "–",
    meaning: "the same in two parts",
};
const DATABASE: Row = Row {
    parameters: &["databaseIndex"],
    default: "0",
    meaning: "the number of the database; a cluster has one alone",
};
const MASTER: Row = Row {
    parameters: &["sentinelMaster", "sentinelMasterFromEnv"],
    default: "required of sentinels",
    meaning: "the name that the sentinels have for the master; here, in a variable or as a parameter",
};
const TLS: Row = Row { parameters: &["enableTLS"], default: "false", meaning: "encrypt the connections" };
const UNSAFE: Row = Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" };
const CREDENTIALS: Row = Row {
    parameters: &["usernameFromEnv", "passwordFromEnv", "sentinelUsernameFromEnv", "sentinelPasswordFromEnv"],
    default: "–",
    meaning: "variables of the workload with the credentials, which parameters of these names replace",
};

const SECRETS: &[&str] =
    &["username", "password", "sentinelUsername", "sentinelPassword", "tls", "ca", "cert", "key", "keyPassword"];

const FROM_ENV: &[&str] = &[
    "address",
    "addresses",
    "host",
    "port",
    "hosts",
    "ports",
    "username",
    "password",
    "sentinelUsername",
    "sentinelPassword",
    "sentinelMaster",
];

/// The number of the last database that a server can be configured to have.
const DATABASE_MAX: u32 = i32::MAX as u32;

/// What is counted, its part of the metric's name, target and activation.
type Counted = (RedisSize, String, f64, f64);

fn parse(
    setup: RedisSetup,
    count: fn(&Context<'_>, &mut Diagnostics) -> Option<Counted>,
    context: &Context<'_>,
    report: &mut Diagnostics,
) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let address = address(context, report);
    let counted = count(context, report);
    let database = parameters.whole("databaseIndex", 0..=DATABASE_MAX, report);
    if setup == RedisSetup::Cluster && database.is_ok_and(|number| number.is_some_and(|number| number > 0)) {
        report.warn(parameters.path("databaseIndex"), "has no effect: a cluster has one database alone", "remove it");
    }
    let fix = "write the name that the sentinels have for the master, such as \"mymaster\"";
    let master = match setup {
        RedisSetup::Sentinel => context.placed("sentinelMaster", fix, report),
        RedisSetup::Single | RedisSetup::Cluster => Ok(None),
    };
    let metric_type = external_metric_type(context, report);
    let tls = parameters.boolean("enableTLS", report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    context.warn_secrets(SECRETS, report);
    let (size, name, threshold, activation_threshold) = counted?;
    let (address, tls) = (address.ok()?, tls.ok()?);
    let scheme = if tls == Some(true) { "rediss" } else { "redis" };
    let source = RedisSource {
        server: context.server("redis", address.as_ref().map(|address| format!("{scheme}://{address}"))),
        address,
        setup,
        sentinel_master: master.ok()?,
        size,
        database: database.ok()?.filter(|_| setup != RedisSetup::Cluster).unwrap_or(0),
        tls,
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&name)).into(),
        metric_type: metric_type?,
        threshold,
        activation_threshold,
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Redis(source.into())),
    }))
}

/// Returns the addresses of the metadata, `None` if they are elsewhere.
fn address(context: &Context<'_>, report: &mut Diagnostics) -> Result<Option<String>, ()> {
    const FIX: &str = "write host:port such as \"redis.shop:6379\", or name an authentication with parameter address";
    let parameters = &context.parameters;
    let either = |names: [&'static str; 2]| names.into_iter().find(|name| parameters.get(name).is_some());
    let text = |name: &str| parameters.get(name).unwrap_or_default();
    let is_elsewhere = |names: [&str; 2]| names.iter().any(|name| context.env_source(name).is_some());
    let (name, addresses) =
        match (either(["address", "addresses"]), either(["host", "hosts"]), either(["port", "ports"])) {
            (Some(name), ..) => (name, text(name).to_owned()),
            (None, Some(hosts), Some(ports)) => {
                let (listed, ports) = (list(text(hosts)), list(text(ports)));
                if listed.len() != ports.len() {
                    let message = format!("has {} elements, and the ports {}", listed.len(), ports.len());
                    parameters.problem(hosts, message, "write a port for each host", report);
                    return Err(());
                }
                let pairs = listed.iter().zip(ports).map(|(host, port)| format!("{host}:{port}"));
                (hosts, pairs.collect::<Vec<_>>().join(","))
            }
            (None, ..) if is_elsewhere(["addresses", "hosts"]) || is_elsewhere(["host", "address"]) => return Ok(None),
            (None, ..) => return context.placed("address", FIX, report),
        };
    let addresses = list(&addresses);
    if let Some(wrong) = addresses.iter().find(|address| !is_host_port(address)) {
        parameters.problem(name, format!("{} is not of the form host:port", quoted(wrong)), FIX, report);
        return Err(());
    }
    Ok(Some(addresses.join(",")))
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

/// Reads a name that goes into a command; `Err` if a problem was reported.
fn name<'a>(parameters: &'a Parameters, name: &str, report: &mut Diagnostics) -> Result<Option<&'a str>, ()> {
    let found = parameters.get(name);
    if found.is_some_and(|text| text.chars().any(char::is_control)) {
        parameters.problem(name, "has a control character", "write it on one line", report);
        return Err(());
    }
    Ok(found)
}

fn collection(context: &Context<'_>, report: &mut Diagnostics) -> Option<Counted> {
    let parameters = &context.parameters;
    let list = parameters.required("listName", "write the name of the list", report);
    let is_fine = name(parameters, "listName", report);
    let fix = "write the wanted length per replica, e.g. \"5\"";
    let threshold = target::read_or(context, "listLength", 5.0, fix, report);
    let activation = parameters.number("activationListLength", report);
    let list = list.filter(|_| is_fine.is_ok())?.to_owned();
    let shown = format!("redis-{list}");
    Some((RedisSize::Collection(list), shown, threshold?, activation.ok()?.unwrap_or(0.0)))
}

fn stream(context: &Context<'_>, report: &mut Diagnostics) -> Option<Counted> {
    let parameters = &context.parameters;
    let stream = parameters.required("stream", "write the name of the stream", report);
    let (is_fine, group) = (name(parameters, "stream", report), name(parameters, "consumerGroup", report));
    let activation = parameters.number("activationLagCount", report);
    let has_lag = parameters.get("lagCount").is_some_and(|count| count != "0");
    let target = match group {
        Ok(Some(_)) if has_lag => "lagCount",
        Ok(Some(_)) => "pendingEntriesCount",
        _ => "streamLength",
    };
    for other in ["lagCount", "pendingEntriesCount", "streamLength"] {
        let is_idle = other != target && parameters.get(other).is_some_and(|count| count != "0");
        if is_idle && group.is_ok() {
            let message = format!("has no effect: {target} is what counts");
            report.warn(parameters.path(other), message, format!("remove {other}, or {target} and what goes with it"));
        }
    }
    let fix = "write the wanted number of entries per replica, e.g. \"5\"";
    let threshold = target::read_or(context, target, 5.0, fix, report);
    let stream = stream.filter(|_| is_fine.is_ok())?.to_owned();
    let shown = format!("redis-streams-{stream}");
    let size = match group.ok()?.map(str::to_owned) {
        None => RedisSize::Length { stream },
        Some(group) if has_lag => RedisSize::Lag { stream, group },
        Some(group) => RedisSize::Pending { stream, group },
    };
    Some((size, shown, threshold?, activation.ok()?.unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger, warnings};
    use super::*;
    use crate::scaling::model::{ParameterSource, Server};

    fn redis(change: Value) -> Value {
        let metadata = json!({"address": "redis:6379", "listName": "jobs"});
        changed(json!({"type": "redis", "metadata": metadata}), &change)
    }

    fn streams(kind: &str, change: Value) -> Value {
        let metadata = json!({"address": "a:1, b:2", "stream": "orders", "sentinelMaster": "main"});
        changed(json!({"type": kind, "metadata": metadata}), &change)
    }

    #[test]
    fn where_the_server_is() {
        let plain = trigger(&redis(json!({})));
        assert_eq!((&*plain.metric_name, plain.threshold), ("s0-redis-jobs", 5.0));
        for (change, server, env) in [
            (json!({}), Server::Written("redis://redis:6379".to_owned()), 0),
            (json!({"enableTLS": "true"}), Server::Written("rediss://redis:6379".to_owned()), 0),
            (json!({"address": null, "host": "r", "port": "1"}), Server::Written("redis://r:1".to_owned()), 0),
            (
                json!({"address": null, "hosts": "r, s", "ports": "1,2"}),
                Server::Written("redis://r:1,s:2".to_owned()),
                0,
            ),
            (
                json!({"address": null, "addressFromEnv": "REDIS", "passwordFromEnv": "PASSWORD"}),
                Server::Elsewhere("redis of the environment in shop".to_owned()),
                2,
            ),
            (
                json!({"address": null, "hostFromEnv": "REDIS", "portFromEnv": "PORT"}),
                Server::Elsewhere("redis of the environment in shop".to_owned()),
                2,
            ),
            (
                json!({"address": null, "authenticationRef": {"name": "r"}}),
                Server::Elsewhere("redis of TriggerAuthentication shop/r".to_owned()),
                0,
            ),
        ] {
            let read = trigger(&redis(change.clone()));
            let Source::Query(Query::Redis(source)) = &read.source else { panic!("{read:?}") };
            assert_eq!((&source.server, read.env.len()), (&server, env), "{change}");
        }
        let (parameter, name) = ("password".to_owned(), "PASSWORD".to_owned());
        let env = trigger(&redis(json!({"passwordFromEnv": "PASSWORD"}))).env;
        assert_eq!(env, [ParameterSource::Env { parameter, name, container: None }]);
    }

    #[test]
    fn streams_and_setups() {
        let (stream, group) = ("orders".to_owned(), "g".to_owned());
        let length = RedisSize::Length { stream: stream.clone() };
        let pending = RedisSize::Pending { stream: stream.clone(), group: group.clone() };
        let lag = RedisSize::Lag { stream, group };
        for (kind, change, setup, size, threshold) in [
            ("redis-streams", json!({"streamLength": "7"}), RedisSetup::Single, &length, 7.0),
            ("redis-streams", json!({"consumerGroup": "g"}), RedisSetup::Single, &pending, 5.0),
            ("redis-cluster-streams", json!({"consumerGroup": "g", "lagCount": "3"}), RedisSetup::Cluster, &lag, 3.0),
            ("redis-sentinel-streams", json!({}), RedisSetup::Sentinel, &length, 5.0),
        ] {
            let read = trigger(&streams(kind, change.clone()));
            let Source::Query(query @ Query::Redis(source)) = &read.source else { panic!("{read:?}") };
            assert_eq!((source.setup, &source.size, read.threshold), (setup, size, threshold), "{change}");
            assert_eq!((query.kind(), &*read.metric_name), (kind, "s0-redis-streams-orders"));
            assert_eq!(query.shown(), ("redis://a:1,b:2".to_owned(), "orders".to_owned()));
        }
        let idle = warnings(&streams("redis-streams", json!({"lagCount": "3"})));
        assert!(idle.len() == 1 && idle[0].contains("metadata.lagCount: has no effect: streamLength"), "{idle:?}");
        let missing = problems(&streams("redis-sentinel-streams", json!({"sentinelMaster": null})));
        assert!(missing.len() == 1 && missing[0].contains("metadata.sentinelMaster: missing"), "{missing:?}");
        let wrong = problems(&streams("redis-streams", json!({"consumerGroup": "a\nb", "stream": null})));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn mistakes() {
        for (change, words) in [
            (json!({"address": null}), "metadata.address: missing required parameter \"address\""),
            (json!({"address": "redis"}), "metadata.address: \"redis\" is not of the form host:port"),
            (json!({"address": "a:1,b"}), "metadata.address: \"b\" is not of the form host:port"),
            (json!({"address": null, "hosts": "a,b", "ports": "1"}), "metadata.hosts: has 2 elements, and the ports 1"),
            (json!({"listName": null}), "metadata.listName: missing required parameter"),
            (json!({"listName": "a\r\nFLUSHALL"}), "metadata.listName: has a control character"),
            (json!({"listLength": "0"}), "metadata.listLength: \"0\" is not above 0"),
            (json!({"databaseIndex": "x"}), "metadata.databaseIndex: \"x\" is no such number"),
            (json!({"enableTLS": "maybe"}), "metadata.enableTLS: \"maybe\" is not a boolean"),
        ] {
            let found = problems(&redis(change.clone()));
            assert!(found.len() == 1 && found[0].contains(words), "{change}: {found:?}");
        }
        assert!(warnings(&redis(json!({"password": "x"})))[0].contains("metadata.password: has no effect here"));
    }
}
