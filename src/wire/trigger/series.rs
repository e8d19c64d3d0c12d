//! The `graphite` and `influxdb` triggers: one number of a query.

use super::super::fields::{Diagnostics, quoted};
use super::prometheus::{URL_FIX, server_address};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, normalized, target};
use crate::formats::url::Url;
use crate::scaling::model::{GraphiteSource, InfluxApi, InfluxSource, OnMissing, Query, Source};

const TARGET: &str = "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)";

pub(super) const GRAPHITE: TriggerType = TriggerType {
    name: "graphite",
    reference: &[
        Row { parameters: &["serverAddress"], default: "required", meaning: "http(s) URL of the server" },
        Row {
            parameters: &["query"],
            default: "required",
            meaning: "a target of the render API with one series, whose newest value counts; no series is 0",
        },
        Row {
            parameters: &["queryTime"],
            default: "required",
            meaning: "how far back to look, such as `-10Minutes`, as `from` of the render API",
        },
        Row { parameters: &["threshold"], default: "100", meaning: TARGET },
        Row { parameters: &["activationThreshold"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["authMode"],
            default: "–",
            meaning: "`basic`, with `username` and `password` of the `authenticationRef`",
        },
    ],
    without_effect: &["metricName", "username", "password"],
    can_be_cached: true,
    from_env: &[],
    parse: graphite,
};

pub(super) const INFLUXDB: TriggerType = TriggerType {
    name: "influxdb",
    reference: &[
        Row {
            parameters: &["serverURL"],
            default: "required",
            meaning: "http(s) URL of the server, here or as a parameter of the `authenticationRef`",
        },
        Row {
            parameters: &["query"],
            default: "required",
            meaning: "Flux, of whose first record `_value` counts; with version 3, of whose last row `metricKey` counts",
        },
        Row { parameters: &["thresholdValue"], default: "required", meaning: TARGET },
        Row { parameters: &["activationThresholdValue"], default: "0", meaning: "above this the trigger is active" },
        Row { parameters: &["influxVersion"], default: "2", meaning: "`2` or `3`" },
        Row {
            parameters: &["organizationName", "organizationNameFromEnv"],
            default: "required by version 2",
            meaning: "the organisation; here, in a variable of the workload or as a parameter",
        },
        Row {
            parameters: &["database", "metricKey"],
            default: "required by version 3",
            meaning: "the database, here or as a parameter, and the column of the number",
        },
        Row {
            parameters: &["queryType"],
            default: "InfluxQL",
            meaning: "with version 3: `InfluxQL`, or `FlightSQL` for SQL; both are asked over HTTP, `/api/v3/query_…`",
        },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["authTokenFromEnv"],
            default: "–",
            meaning: "a variable of the workload with the token, or parameter `authToken`",
        },
    ],
    without_effect: &["authToken", "metricName"],
    can_be_cached: true,
    from_env: &["authToken", "organizationName"],
    parse: influxdb,
};

fn graphite(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let server_address = server_address(parameters, URL_FIX, report);
    let query = parameters.required("query", "write a target of the render API with one series", report);
    let from = parameters.required("queryTime", "write how far back to look, such as \"-10Minutes\"", report);
    let threshold =
        target::read_or(context, "threshold", 100.0, "write the wanted value per replica, e.g. \"100\"", report);
    let activation_threshold = parameters.number("activationThreshold", report);
    let is_basic = parameters.one_of("authMode", &[("basic", true)], report);
    let metric_type = external_metric_type(context, report);
    context.warn_secrets(&["username", "password"], report);
    let source = GraphiteSource {
        server_address: server_address?,
        query: query?.to_owned(),
        from: from?.to_owned(),
        is_basic: is_basic.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-graphite", context.index).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Graphite(source.into())),
    }))
}

fn influxdb(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    const FIX: &str = "write a URL such as \"http://influxdb.monitoring:8086\"";
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let server_url =
        context.placed("serverURL", FIX, report).and_then(|url| match url.as_deref().map(Url::parse_base) {
            Some(Err(why)) => {
                parameters.problem(
                    "serverURL",
                    format!("{} {why}", quoted(url.as_deref().unwrap_or_default())),
                    FIX,
                    report,
                );
                Err(())
            }
            _ => Ok(url),
        });
    let query = parameters.required("query", "write a query that gives one number", report);
    let fix = "write the wanted value per replica, e.g. \"4.4\"";
    let threshold = target::read(context, "thresholdValue", fix, report);
    let activation_threshold = parameters.number("activationThresholdValue", report);
    let api = api(context, report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    let metric_type = external_metric_type(context, report);
    context.warn_secrets(&["authToken"], report);
    let (server_url, api) = (server_url.ok()?, api?);
    let name = match &api {
        InfluxApi::Flux { organization: name } | InfluxApi::Version3 { database: name, .. } => {
            name.as_deref().unwrap_or("query")
        }
    };
    let metric_name = format!("s{}-{}", context.index, normalized(&format!("influxdb-{name}"))).into();
    let server = server_url.as_deref().and_then(|url| Url::parse(url).ok()).map(|url| url.server());
    let source = InfluxSource {
        server: context.server("influxdb", server),
        server_url,
        query: query?.to_owned(),
        api,
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
    };
    Some(Parsed::External(External {
        metric_name,
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Influx(source.into())),
    }))
}

fn api(context: &Context<'_>, report: &mut Diagnostics) -> Option<InfluxApi> {
    let parameters = &context.parameters;
    let is_3 = parameters.one_of("influxVersion", &[("2", false), ("3", true)], report).ok()?.unwrap_or(false);
    if !is_3 {
        let organization = context.placed("organizationName", "write the name of the organisation", report).ok()?;
        return Some(InfluxApi::Flux { organization });
    }
    let database = context.placed("database", "write the name of the database", report);
    let metric_key = parameters.required("metricKey", "write the name of the column with the number", report);
    let is_sql = match parameters.get("queryType").map(str::to_ascii_lowercase).as_deref() {
        None | Some("influxql") => Some(false),
        Some("flightsql") => Some(true),
        Some(other) => {
            let message = format!("{} is no queryType", quoted(other));
            parameters.problem("queryType", message, "write InfluxQL or FlightSQL", report);
            None
        }
    };
    Some(InfluxApi::Version3 { database: database.ok()?, metric_key: metric_key?.to_owned(), is_sql: is_sql? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{changed, problems, trigger};

    fn influx(change: Value) -> Value {
        let metadata = json!({"serverURL": "http://influx:8086", "organizationName": "shop", "query": "from(bucket: \"a\")",
            "thresholdValue": "4.5"});
        changed(json!({"type": "influxdb", "metadata": metadata}), &change)
    }

    fn graphite(change: Value) -> Value {
        let metadata = json!({"serverAddress": "http://g/", "query": "stats.a", "queryTime": "-10Minutes"});
        changed(json!({"type": "graphite", "metadata": metadata}), &change)
    }

    #[test]
    fn queries() {
        let read = trigger(&graphite(json!({"authMode": "basic"})));
        assert_eq!((&*read.metric_name, read.threshold), ("s0-graphite", 100.0));
        assert_eq!(read.source.shown(), ("http://g".to_owned(), "stats.a".to_owned()));
        for (change, name) in [
            (json!({}), "s0-influxdb-shop"),
            (json!({"influxVersion": "3", "database": "db", "metricKey": "n"}), "s0-influxdb-db"),
            (json!({"organizationName": null, "organizationNameFromEnv": "ORG"}), "s0-influxdb-query"),
        ] {
            let read = trigger(&influx(change.clone()));
            assert_eq!((&*read.metric_name, read.threshold), (name, 4.5), "{change}");
            assert_eq!(read.source.query().expect("a query").server(), "http://influx:8086");
        }
    }

    #[test]
    fn mistakes() {
        for (trigger, words) in [
            (graphite(json!({"queryTime": null})), "metadata.queryTime: missing required parameter"),
            (graphite(json!({"authMode": "bearer"})), "metadata.authMode: \"bearer\" is no authMode"),
            (influx(json!({"serverURL": "influx"})), "metadata.serverURL: \"influx\""),
            (influx(json!({"organizationName": null})), "metadata.organizationName: missing required parameter"),
            (influx(json!({"thresholdValue": null})), "metadata.thresholdValue: missing required parameter"),
            (influx(json!({"influxVersion": "1"})), "metadata.influxVersion: \"1\" is no influxVersion"),
            (influx(json!({"influxVersion": "3", "metricKey": "n"})), "metadata.database: missing required parameter"),
        ] {
            let found = problems(&trigger);
            assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
        }
    }
}
