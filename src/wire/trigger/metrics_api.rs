//! The `metrics-api` trigger: a number in the answer of any HTTP API.

use super::super::fields::{Diagnostics, quoted};
use super::super::mask;
use super::parameters::Parameters;
use super::{Context, External, Parsed, Row, TriggerType, auth_modes, external_metric_type, normalized, target};
use crate::formats::exposition::Selector;
use crate::formats::path::{self, Path};
use crate::formats::url::Url;
use crate::scaling::model::{
    AggregationFunction, ApiKey, ApiKeyPlace, AuthMode, BodyFormat, MetricsApiSource, OnMissing, Query,
    ServiceAggregation, Source,
};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "metrics-api",
    reference: &[
        Row {
            parameters: &["url"],
            default: "required",
            meaning: "http(s) URL that a GET is sent to; only status 200 will do",
        },
        Row {
            parameters: &["valueLocation"],
            default: "required",
            meaning: "where the number, or a quantity such as `1500m`, is: for `json` a GJSON path such as `queues.0.size`, \
                      `jobs.#` or `jobs.#(state==\"waiting\")#\\|#` (no modifiers); for `yaml` and `xml` names and indices \
                      between dots; for `prometheus` a name with labels, such as `queue_size{name=\"a\"}`",
        },
        Row {
            parameters: &["targetValue"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row { parameters: &["activationTargetValue"], default: "0", meaning: "above this the trigger is active" },
        Row {
            parameters: &["format"],
            default: "json",
            meaning: "of the answer, of up to 1 MiB: `json`, `prometheus`, `xml` or `yaml` (without anchors and aliases)",
        },
        Row {
            parameters: &["timeout"],
            default: "`--query-timeout`, 3 s",
            meaning: "a duration, or milliseconds; at most 30 s",
        },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["aggregateFromKubeServiceEndpoints"],
            default: "false",
            meaning: "ask every ready endpoint of the Service that the URL's host names, `<service>.<namespace>`, of the \
                      object's own namespace; one that does not answer is an error, of an `average` more than one in five",
        },
        Row {
            parameters: &["aggregationType"],
            default: "average",
            meaning: "what is made of their numbers: `average`, `sum`, `max` or `min`",
        },
        Row {
            parameters: &["authMode"],
            default: "–",
            meaning: "`apiKey`, `basic`, `bearer`, `tls`, or several (`authModes`); parameters come from the \
                      `authenticationRef`",
        },
        Row {
            parameters: &["apiKey", "method", "keyParamName"],
            default: "–",
            meaning: "for `apiKey`, here or in the authentication: the key, whether it goes into a `header` (the default) or \
                      the `query`, and its name there (`X-API-KEY`, `api_key`)",
        },
    ],
    without_effect: &["authModes", "token", "bearerToken", "username", "password", "cert", "key", "ca"],
    can_be_cached: true,
    from_env: &[],
    parse,
};

/// Secret parameters and those that belong to them, which are read only from an authentication.
const AUTHENTICATION_ONLY: &[&str] = &["token", "bearerToken", "username", "password", "cert", "key", "ca"];

const FORMATS: &[(&str, BodyFormat)] = &[
    ("json", BodyFormat::Json),
    ("prometheus", BodyFormat::Prometheus),
    ("xml", BodyFormat::Xml),
    ("yaml", BodyFormat::Yaml),
];

const FUNCTIONS: &[(&str, AggregationFunction)] = &[
    ("average", AggregationFunction::Average),
    ("sum", AggregationFunction::Sum),
    ("max", AggregationFunction::Max),
    ("min", AggregationFunction::Min),
];

const PLACES: &[(&str, ApiKeyPlace)] = &[("header", ApiKeyPlace::Header), ("query", ApiKeyPlace::Query)];

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    use AuthMode::{Basic, Bearer, Tls};
    let parameters = &context.parameters;
    context.refuse_keda_1(report)?;
    // Everything is read before returning, so that all problems are reported at once.
    let url = url(parameters, report);
    let format = parameters.one_of("format", FORMATS, report);
    let value_location = value_location(parameters, format.ok().flatten().unwrap_or(BodyFormat::Json), report);
    let threshold = target::read(context, "targetValue", "write the wanted value per replica, e.g. \"10\"", report);
    let activation_threshold = parameters.number("activationTargetValue", report);
    let metric_type = external_metric_type(context, report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    let timeout = parameters.timeout("timeout", report);
    let auth_modes = auth_modes::read(context, &[AuthMode::ApiKey, Basic, Tls, Bearer], report);
    let api_key = api_key(context, auth_modes.as_deref().unwrap_or_default(), report);
    let aggregation = aggregation(parameters, url.as_ref(), report);
    warn_without_effect(context, report);
    let (text, url) = url?;
    let value_location = value_location?;
    let metric_name = format!("s{}-{}", context.index, normalized(&format!("metric-api-{value_location}")));
    let source = MetricsApiSource {
        server: url.server(),
        url: text,
        format: format.ok()?.unwrap_or(BodyFormat::Json),
        value_location,
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
        timeout: timeout.ok()?,
        auth_modes: auth_modes?,
        api_key: api_key?,
        aggregation: aggregation.ok()?,
    };
    Some(Parsed::External(External {
        metric_name: metric_name.into(),
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::MetricsApi(source.into())),
    }))
}

/// KEDA accepts any text and fails at each poll; here a broken URL is reported immediately.
fn url(parameters: &Parameters, report: &mut Diagnostics) -> Option<(String, Url)> {
    const FIX: &str = "write a URL such as \"http://api.shop:8080/stats\"";
    let text = parameters.required("url", FIX, report)?;
    match Url::parse(text) {
        Ok(url) => Some((text.to_owned(), url)),
        Err(reason) => {
            parameters.problem("url", format!("{} {reason}", quoted(&mask::address(text))), FIX, report);
            None
        }
    }
}

pub(super) fn value_location(parameters: &Parameters, format: BodyFormat, report: &mut Diagnostics) -> Option<String> {
    const FIX: &str = "write where the number is in the answer, e.g. \"stats.tasks\"";
    let text = parameters.required("valueLocation", FIX, report)?;
    let result = match format {
        BodyFormat::Json => Path::parse(text).map(|_| ()),
        BodyFormat::Prometheus => Selector::parse(text).map(|_| ()),
        BodyFormat::Xml | BodyFormat::Yaml if text.len() > path::BYTES_MAX => {
            Err(format!("is longer than {} bytes", path::BYTES_MAX))
        }
        BodyFormat::Xml | BodyFormat::Yaml => Ok(()),
    };
    let fix =
        if format == BodyFormat::Prometheus { "write a metric such as \"queue_size{name=\\\"a\\\"}\"" } else { FIX };
    if format == BodyFormat::Json && text.starts_with("$.") {
        report.warn(
            parameters.path("valueLocation"),
            "begins with $, which is the name of a field here and not the root, as in JSONPath",
            format!("write {:?}", &text[2..]),
        );
    }
    match result {
        Ok(()) => Some(text.to_owned()),
        Err(reason) => {
            parameters.problem("valueLocation", format!("{} {reason}", quoted(text)), fix, report);
            None
        }
    }
}

fn api_key(context: &Context<'_>, modes: &[AuthMode], report: &mut Diagnostics) -> Option<ApiKey> {
    let parameters = &context.parameters;
    let place = parameters.one_of("method", PLACES, report);
    let given = |name| parameters.get(name).map(str::to_owned);
    let api_key = ApiKey { key: given("apiKey"), place: place.ok()?, name: given("keyParamName") };
    let is_meant = modes.contains(&AuthMode::ApiKey);
    if is_meant && api_key.key.is_none() && !context.fields.has("authenticationRef") {
        let fix = "name a TriggerAuthentication that gives it in authenticationRef";
        parameters.problem("apiKey", "is missing; authMode \"apiKey\" needs it", fix, report);
        return None;
    }
    // The mode itself may come from the authentication.
    if api_key.key.is_some() {
        let message = "is a secret that everybody who reads the object sees";
        report.warn(parameters.path("apiKey"), message, "move it to the Secret of a TriggerAuthentication");
    }
    Some(api_key)
}

fn aggregation(
    parameters: &Parameters,
    url: Option<&(String, Url)>,
    report: &mut Diagnostics,
) -> Result<Option<ServiceAggregation>, ()> {
    let is_wanted = parameters.boolean("aggregateFromKubeServiceEndpoints", report);
    let function = parameters.one_of("aggregationType", FUNCTIONS, report);
    if is_wanted? != Some(true) {
        if parameters.get("aggregationType").is_some() {
            let fix = "write aggregateFromKubeServiceEndpoints: \"true\", or remove aggregationType";
            report.warn(parameters.path("aggregationType"), "has no effect without aggregation", fix);
        }
        return function.map(|_| None);
    }
    let function = function?.unwrap_or(AggregationFunction::Average);
    let Some((text, url)) = url else {
        return Err(());
    };
    let is_label =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let mut labels = url.host.split('.');
    match (labels.next(), labels.next()) {
        (Some(service), Some(namespace))
            if is_label(service) && is_label(namespace) && url.host.parse::<std::net::Ipv4Addr>().is_err() =>
        {
            Ok(Some(ServiceAggregation { namespace: namespace.to_owned(), service: service.to_owned(), function }))
        }
        _ => {
            let message =
                format!("{} does not name a Service and its namespace, whose endpoints are to be asked", quoted(text));
            parameters.problem("url", message, "write a host such as \"api.shop\" or \"api.shop.svc\"", report);
            Err(())
        }
    }
}

fn warn_without_effect(context: &Context<'_>, report: &mut Diagnostics) {
    let parameters = &context.parameters;
    for name in AUTHENTICATION_ONLY.iter().filter(|name| parameters.get(name).is_some()) {
        let message = "has no effect here: credentials come from a TriggerAuthentication only";
        report.warn(parameters.path(name), message, "move it to the Secret of a TriggerAuthentication");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger, warnings};
    use super::*;

    fn api(change: Value) -> Value {
        let mut metadata =
            json!({"url": "http://api.shop:8080/stats?a=b", "valueLocation": "stats.tasks", "targetValue": "8"});
        for (key, value) in change.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        json!({"type": "metrics-api", "metadata": metadata})
    }

    fn source(change: Value) -> Arc<MetricsApiSource> {
        match trigger(&api(change)).source {
            Source::Query(Query::MetricsApi(source)) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions() {
        let plain = trigger(&api(json!({})));
        assert_eq!(&*plain.metric_name, "s0-metric-api-stats-tasks");
        assert!((plain.threshold - 8.0).abs() < f64::EPSILON && plain.activation_threshold == 0.0);
        let plain = source(json!({}));
        assert_eq!(
            (plain.server.as_str(), plain.url.as_str()),
            ("http://api.shop:8080", "http://api.shop:8080/stats?a=b")
        );
        assert_eq!((plain.format, &plain.aggregation, plain.unsafe_ssl), (BodyFormat::Json, &None, false));
        let full = source(json!({
            "format": "prometheus", "valueLocation": "queue{a=\"b\"}", "unsafeSsl": "true", "timeout": "5s", "authMode": "apiKey",
            "apiKey": "k", "method": "query", "keyParamName": "key", "aggregateFromKubeServiceEndpoints": "true",
            "aggregationType": "max",
        }));
        assert_eq!((full.format, full.unsafe_ssl), (BodyFormat::Prometheus, true));
        assert_eq!((full.timeout, &full.auth_modes[..]), (Some(Duration::from_secs(5)), &[AuthMode::ApiKey][..]));
        let key = ApiKey { key: Some("k".into()), place: Some(ApiKeyPlace::Query), name: Some("key".into()) };
        assert_eq!(full.api_key, key);
        let (namespace, service) = ("shop".to_owned(), "api".to_owned());
        let function = AggregationFunction::Max;
        assert_eq!(full.aggregation, Some(ServiceAggregation { namespace, service, function }));
    }

    #[test]
    fn mistakes_are_reported_with_what_to_write() {
        for (change, words) in [
            (json!({"url": ""}), "metadata.url: missing required parameter \"url\""),
            (json!({"url": "api:8080/stats"}), "metadata.url: \"api:8080/stats\" is not a URL"),
            (json!({"url": "http://api/stats?a b"}), "metadata.url: \"http://api/stats?a b\" contains a blank"),
            (json!({"valueLocation": ""}), "metadata.valueLocation: missing required parameter"),
            (json!({"valueLocation": "a|@reverse"}), "\"a|@reverse\" uses a modifier (@…), which is not supported"),
            (
                json!({"valueLocation": "a{b=~\"c\"}", "format": "prometheus"}),
                "compares label b with =~; only = is supported",
            ),
            (json!({"targetValue": ""}), "metadata.targetValue: missing required parameter \"targetValue\""),
            (json!({"targetValue": "0"}), "metadata.targetValue: \"0\" is not above 0"),
            (json!({"format": "jsn"}), "metadata.format: \"jsn\" is no format (write json)"),
            (json!({"aggregationType": "median"}), "\"median\" is no aggregationType (write average, sum, max, min)"),
            (json!({"authMode": "custom"}), "metadata.authMode: \"custom\" is no authentication mode"),
            (json!({"authMode": "bearer"}), "authenticationRef: is missing; authMode \"bearer\" takes its credentials"),
            (json!({"authMode": "apiKey"}), "metadata.apiKey: is missing; authMode \"apiKey\" needs it"),
            (json!({"method": "body"}), "metadata.method: \"body\" is no method (write header, query)"),
            (
                json!({"aggregateFromKubeServiceEndpoints": "true", "url": "http://10.0.0.1/stats"}),
                "\"http://10.0.0.1/stats\" does not name a Service and its namespace",
            ),
            (
                json!({"aggregateFromKubeServiceEndpoints": "true", "url": "http://api/stats"}),
                "\"http://api/stats\" does not name a Service and its namespace",
            ),
        ] {
            let problems = problems(&api(change.clone()));
            assert!(problems.len() == 1 && problems[0].contains(words), "{change}: {problems:?}");
        }
        for (change, words) in [
            (json!({"token": "t"}), "metadata.token: has no effect here"),
            (json!({"authMode": "apiKey", "apiKey": "k"}), "metadata.apiKey: is a secret that everybody"),
            (json!({"aggregationType": "sum"}), "metadata.aggregationType: has no effect without aggregation"),
        ] {
            let warnings = warnings(&api(change.clone()));
            assert!(warnings.len() == 1 && warnings[0].contains(words), "{change}: {warnings:?}");
        }
    }
}
