//! The `loki` trigger: a LogQL query, by an API that is Prometheus' at another path.

use std::sync::Arc;

use super::super::fields::Diagnostics;
use super::prometheus::{URL_FIX, server_address};
use super::{Context, External, Parsed, Row, TriggerType, auth_modes, external_metric_type, target};
use crate::scaling::model::{AuthMode, OnMissing, PrometheusSource, Query, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "loki",
    reference: &[
        Row { parameters: &["serverAddress"], default: "required", meaning: "http(s) URL of the server" },
        Row {
            parameters: &["query"],
            default: "required",
            meaning: "a LogQL query whose answer is one number, such as `sum(rate({app=\"web\"}[1m]))`",
        },
        Row {
            parameters: &["threshold"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationThreshold"], default: "0", meaning: "above this the trigger is active" },
        Row { parameters: &["tenantName"], default: "–", meaning: "sent as the header `X-Scope-OrgID`" },
        Row {
            parameters: &["ignoreNullValues"],
            default: "true",
            meaning: "an answer without any series is 0; `false`: it is an error",
        },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["authModes"],
            default: "–",
            meaning: "`bearer`, `basic`, `tls`, `custom`, `oauth` and combinations; parameters come from the \
                      `authenticationRef`",
        },
    ],
    without_effect: &["authMode", "bearerToken", "username", "password", "cert", "key", "ca"],
    can_be_cached: true,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    use AuthMode::{Basic, Bearer, Custom, OAuth, Tls};
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    let server_address = server_address(parameters, URL_FIX, report);
    let query = parameters.required("query", "write a LogQL query that gives one number", report);
    let threshold = target::read(context, "threshold", "write the wanted value per replica, e.g. \"0.7\"", report);
    let activation_threshold = parameters.number("activationThreshold", report);
    let metric_type = external_metric_type(context, report);
    let ignore_null_values = parameters.boolean("ignoreNullValues", report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    let tenant = parameters.get("tenantName").map(str::to_owned);
    if tenant.as_ref().is_some_and(|tenant| tenant.chars().any(char::is_control)) {
        parameters.problem("tenantName", "has a control character", "write it on one line", report);
        return None;
    }
    let auth_modes = auth_modes::read(context, &[Basic, Tls, Bearer, Custom, OAuth], report);
    context.warn_secrets(&["bearerToken", "username", "password", "cert", "key", "ca"], report);
    let source = PrometheusSource {
        server_address: server_address?,
        query: query?.to_owned(),
        custom_headers: tenant.map(|tenant| ("X-Scope-OrgID".to_owned(), tenant)).into_iter().collect(),
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
        auth_modes: auth_modes?,
        api: "/loki",
        ..PrometheusSource::default()
    };
    Some(Parsed::External(External {
        metric_name: format!("s{}-loki", context.index).into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: if ignore_null_values.ok()? == Some(false) { OnMissing::Error } else { OnMissing::EmptyIsZero },
        source: Source::Query(Query::Loki(Arc::new(source))),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{problems, trigger};
    use super::*;

    #[test]
    fn a_query_of_a_tenant() {
        let written = json!({"type": "loki", "metadata": {
            "serverAddress": "http://loki:3100/", "query": "sum(rate({a=\"b\"}[1m]))", "threshold": "0.7", "tenantName": "t"}});
        let read = trigger(&written);
        assert_eq!(&*read.metric_name, "s0-loki");
        let Source::Query(Query::Loki(source)) = &read.source else { panic!("{read:?}") };
        assert_eq!((source.api, source.server_address.as_str()), ("/loki", "http://loki:3100"));
        assert_eq!(source.custom_headers, [("X-Scope-OrgID".to_owned(), "t".to_owned())]);
        assert_eq!(read.on_missing, OnMissing::EmptyIsZero);
        let bad = problems(&json!({"type": "loki", "metadata": {"serverAddress": "loki", "threshold": "0"}}));
        assert_eq!(bad.len(), 3, "{bad:?}");
    }
}
