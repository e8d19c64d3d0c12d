//! The `postgresql` trigger: the number that a query returns.

use super::super::fields::{Diagnostics, quoted};
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, target};
use crate::scaling::model::{OnMissing, PostgresSource, Query, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "postgresql",
    reference: &[
        Row {
            parameters: &["query"],
            default: "required",
            meaning: "SQL that returns one row, whose first column is the number",
        },
        Row {
            parameters: &["targetQueryValue"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationTargetQueryValue"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["connectionFromEnv"],
            default: "–",
            meaning: "a variable of the workload with `postgresql://user:password@host:port/database?sslmode=…`, or the same as \
                      words `host=… port=…`; or parameter `connection` of the `authenticationRef`",
        },
        Row {
            parameters: &["host", "port", "userName", "dbName"],
            default: "required",
            meaning: "the same in parts, unless there is a `connection`; here or as parameters, which come first",
        },
        Row {
            parameters: &["sslmode"],
            default: "required",
            meaning: "`disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full`, as for PostgreSQL's own clients",
        },
        Row {
            parameters: &["passwordFromEnv"],
            default: "–",
            meaning: "a variable of the workload with the password, which parameter `password` replaces",
        },
    ],
    without_effect: &["password", "connection", "ca", "cert", "key"],
    can_be_cached: true,
    from_env: &["connection", "password"],
    parse,
};

const MODES: &[(&str, ())] =
    &[("disable", ()), ("allow", ()), ("prefer", ()), ("require", ()), ("verify-ca", ()), ("verify-full", ())];

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let query = parameters.required("query", "write SQL that returns one number", report);
    let fix = "write the wanted value per replica, e.g. \"5\"";
    let threshold = target::read(context, "targetQueryValue", fix, report);
    let activation_threshold = parameters.number("activationTargetQueryValue", report);
    let metric_type = external_metric_type(context, report);
    let ssl_mode = parameters.one_of("sslmode", MODES, report);
    let is_elsewhere = context.is_given_elsewhere("connection");
    let mut is_complete = true;
    let mut part = |name: &str| {
        let text = parameters.get(name).map(str::to_owned);
        if text.is_none() && !is_elsewhere {
            let fix = "write it, or give parameter connection by an authentication";
            is_complete &= parameters.required(name, fix, report).is_some();
        }
        text
    };
    let (host, port, user) = (part("host"), part("port"), part("userName"));
    let (database, mode) = (part("dbName"), part("sslmode"));
    if let Some(text) = port.as_ref().filter(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        parameters.problem("port", format!("{} is no port", quoted(text)), "write a number such as \"5432\"", report);
        is_complete = false;
    }
    let is_name = |host: &String| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    if let Some(text) = host.as_ref().filter(|host| !is_name(host)) {
        parameters.problem("host", format!("{} is no host", quoted(text)), "write a name such as \"db.shop\"", report);
        is_complete = false;
    }
    context.warn_secrets(&["password", "connection", "ca", "cert", "key"], report);
    ssl_mode.ok()?;
    if !is_complete {
        return None;
    }
    let address = host.as_ref().zip(port.as_ref()).map(|(host, port)| {
        if host.contains(':') { format!("postgresql://[{host}]:{port}") } else { format!("postgresql://{host}:{port}") }
    });
    let source = PostgresSource {
        server: context.server("postgresql", address),
        query: query?.to_owned(),
        host,
        port,
        user,
        database,
        ssl_mode: mode,
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-postgresql", context.index).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::Postgres(source.into())),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger};
    use super::*;
    use crate::scaling::model::Server;

    fn postgres(metadata: &Value) -> Value {
        let mut written = json!({"query": "SELECT count(*) FROM jobs", "targetQueryValue": "2.5"});
        for (key, value) in metadata.as_object().expect("an object") {
            written[key] = value.clone();
        }
        json!({"type": "postgresql", "metadata": written})
    }

    #[test]
    fn where_the_database_is() {
        let parts = json!({"host": "db", "port": "5432", "userName": "me", "dbName": "shop", "sslmode": "disable"});
        let read = trigger(&postgres(&parts));
        assert_eq!((&*read.metric_name, read.threshold), ("s0-postgresql", 2.5));
        let Source::Query(query) = &read.source else { panic!("{read:?}") };
        assert_eq!(query.server(), "postgresql://db:5432");
        let read = trigger(&postgres(&json!({"connectionFromEnv": "DSN"})));
        let Source::Query(Query::Postgres(source)) = &read.source else { panic!("{read:?}") };
        assert_eq!(source.server, Server::Elsewhere("postgresql of the environment in shop".to_owned()));
        assert_eq!(problems(&postgres(&json!({}))).len(), 5);
        for (name, value, words) in [
            ("port", "x", "metadata.port: \"x\" is no port"),
            ("host", "a/b", "metadata.host: \"a/b\" is no host"),
            ("sslmode", "requir", "metadata.sslmode: \"requir\" is no sslmode (write require)"),
        ] {
            let mut bad = parts.clone();
            bad[name] = value.into();
            let found = problems(&postgres(&bad));
            assert!(found.len() == 1 && found[0].contains(words), "{name}: {found:?}");
        }
    }
}
