//! The `redis` trigger: the length of a list.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, is_host_port, normalized, target};
use crate::scaling::model::{OnMissing, Query, RedisSource, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "redis",
    reference: &[
        Row {
            parameters: &["address", "addressFromEnv"],
            default: "required",
            meaning: "`host:port` of the server, here, in a variable of the workload, or as parameter `address` of the \
                      `authenticationRef`",
        },
        Row {
            parameters: &["host", "hostFromEnv", "port", "portFromEnv"],
            default: "–",
            meaning: "the same in two parts",
        },
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
        Row { parameters: &["databaseIndex"], default: "0", meaning: "the number of the database" },
        Row { parameters: &["enableTLS"], default: "false", meaning: "encrypt the connection" },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["usernameFromEnv", "passwordFromEnv"],
            default: "–",
            meaning: "variables of the workload with the credentials, which parameters `username` and `password` replace",
        },
    ],
    without_effect: &["username", "password", "tls", "ca", "cert", "key", "keyPassword"],
    can_be_cached: true,
    from_env: &["address", "host", "port", "username", "password"],
    parse,
};

/// The number of the last database that a server can be configured to have.
const DATABASE_MAX: u32 = i32::MAX as u32;

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    const FIX: &str = "write host:port such as \"redis.shop:6379\", or name an authentication with parameter address";
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let in_parts = match (parameters.get("host"), parameters.get("port")) {
        (Some(host), Some(port)) => Some(format!("{host}:{port}")),
        _ => None,
    };
    let address = match (in_parts, context.is_given_elsewhere("host")) {
        (Some(address), _) if parameters.get("address").is_none() => Ok(Some(address)),
        (None, true) if parameters.get("address").is_none() => Ok(None),
        _ => context.placed("address", FIX, report),
    };
    let address = address.and_then(|address| match address {
        Some(text) if !is_host_port(&text) => {
            parameters.problem("address", format!("{} is not of the form host:port", quoted(&text)), FIX, report);
            Err(())
        }
        address => Ok(address),
    });
    let list_name = parameters.required("listName", "write the name of the list", report);
    if list_name.is_some_and(|name| name.chars().any(char::is_control)) {
        parameters.problem("listName", "has a control character", "write it on one line", report);
        return None;
    }
    let fix = "write the wanted length per replica, e.g. \"5\"";
    let threshold = target::read_or(context, "listLength", 5.0, fix, report);
    let activation_threshold = parameters.number("activationListLength", report);
    let database = parameters.whole("databaseIndex", 0..=DATABASE_MAX, report);
    let metric_type = external_metric_type(context, report);
    let tls = parameters.boolean("enableTLS", report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    context.warn_secrets(&["username", "password", "tls", "ca", "cert", "key", "keyPassword"], report);
    let (list_name, address, tls) = (list_name?, address.ok()?, tls.ok()?);
    let scheme = if tls == Some(true) { "rediss" } else { "redis" };
    let source = RedisSource {
        server: context.server("redis", address.as_ref().map(|address| format!("{scheme}://{address}"))),
        address,
        list_name: list_name.to_owned(),
        database: database.ok()?.unwrap_or(0),
        tls,
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-{}", context.index, normalized(&format!("redis-{list_name}"))).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Redis(source.into())),
    }))
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

    #[test]
    fn where_the_server_is() {
        let plain = trigger(&redis(json!({})));
        assert_eq!((&*plain.metric_name, plain.threshold), ("s0-redis-jobs", 5.0));
        for (change, server, env) in [
            (json!({}), Server::Written("redis://redis:6379".to_owned()), 0),
            (json!({"enableTLS": "true"}), Server::Written("rediss://redis:6379".to_owned()), 0),
            (json!({"address": null, "host": "r", "port": "1"}), Server::Written("redis://r:1".to_owned()), 0),
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
    fn mistakes() {
        for (change, words) in [
            (json!({"address": null}), "metadata.address: missing required parameter \"address\""),
            (json!({"address": "redis"}), "metadata.address: \"redis\" is not of the form host:port"),
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
