//! The `prometheus` trigger: its parameters, checked as far as possible without querying the server.

use std::sync::Arc;
use std::time::Duration;

use super::super::fields::{Diagnostics, quoted};
use super::super::mask;
use super::super::time::parse_go_duration;
use super::parameters::Parameters;
use super::{Context, External, Parsed, Row, TriggerType, auth_modes, external_metric_type, identity, target};
use crate::formats::url::Url;
use crate::scaling::model::{
    ApiGroup, AuthMode, AuthenticationKey, ObjectKey, OnMissing, PrometheusSource, Query, Source,
};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "prometheus",
    reference: &[
        Row {
            parameters: &["serverAddress"],
            default: "the authentication's, `--prometheus-server`",
            meaning: "http(s) URL of the server; else that of parameter `serverAddress` of the `authenticationRef`, else that \
                      of the flag; one of them is required",
        },
        Row {
            parameters: &["query"],
            default: "required",
            meaning: "an instant query whose answer is one number: a vector of one element, or a scalar",
        },
        Row {
            parameters: &["threshold"],
            default: "required",
            meaning: "the HPA's target: per replica (`metricType: AverageValue`, the default) or in all (`Value`)",
        },
        Row {
            parameters: &["activationThreshold"],
            default: "0",
            meaning: "above this the trigger is active: scaled from zero, kept from going to zero",
        },
        Row {
            parameters: &["ignoreNullValues"],
            default: "true",
            meaning: "an answer without any series is 0; `false`: it is an error",
        },
        Row {
            parameters: &["onMissing", "holdFor"],
            default: "–",
            meaning: "`zero`, `error` or `hold` (the last good value up to the duration `holdFor`, also over a restart) for an answer without a number",
        },
        Row {
            parameters: &["onPartial"],
            default: "`error`",
            meaning: "`accept`: an answer that the server calls incomplete counts; else it is an error, which holds",
        },
        Row {
            parameters: &["namespace"],
            default: "–",
            meaning: "sent as a query parameter, for multi-tenant servers",
        },
        Row { parameters: &["queryParameters", "customHeaders"], default: "–", meaning: "`k=v,k2=v2`" },
        Row {
            parameters: &["timeout"],
            default: "`--query-timeout`, 3 s",
            meaning: "a duration, or milliseconds; at most 30 s",
        },
        Row { parameters: &["unsafeSsl"], default: "false", meaning: "accept any certificate" },
        Row {
            parameters: &["authModes"],
            default: "–",
            meaning: "`bearer`, `basic`, `tls`, `custom`, `oauth` and combinations; parameters come from the `authenticationRef`",
        },
        Row {
            parameters: &["awsRegion"],
            default: "–",
            meaning: "for Amazon Managed Service for Prometheus: its region; requests are signed, see [identities](#identities)",
        },
        Row {
            parameters: &["cloud"],
            default: "`AzurePublicCloud`",
            meaning: "for Azure Monitor: `AzurePublicCloud`, `AzureUSGovernmentCloud` or `AzureChinaCloud`",
        },
    ],
    without_effect: &[
        DEFAULT_ADDRESS,
        "authMode",
        "metricName",
        "identityOwner",
        "azureManagedPrometheusResourceURL",
        "bearerToken",
        "token",
        "username",
        "password",
        "cert",
        "key",
        "ca",
        "customAuthHeader",
        "customAuthValue",
    ],
    can_be_cached: true,
    from_env: &[],
    parse,
};

/// Where an address is written that is meant for those who have none, since an authentication may give one.
pub(in crate::wire) const DEFAULT_ADDRESS: &str = "defaultServerAddress";

/// What to write for an address.
pub(super) const URL_FIX: &str = "write a URL such as \"http://prometheus.monitoring:9090\"";

/// Secret parameters and those that belong to them, which are read only from an authentication.
const AUTHENTICATION_ONLY: &[&str] =
    &["bearerToken", "token", "username", "password", "cert", "key", "ca", "customAuthHeader", "customAuthValue"];

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    use AuthMode::{ApiKey, Basic, Bearer, Custom, OAuth, Tls};
    let parameters = &context.parameters;
    // Everything is read before returning, so that all problems are reported at once.
    let server = server(context, report);
    let query = parameters.required("query", "write a PromQL query that gives one number", report);
    let threshold = threshold(context, report);
    let activation_threshold = parameters.number("activationThreshold", report);
    let metric_type = external_metric_type(context, report);
    let metric_name = metric_name(context, report);
    let on_missing = on_missing(parameters, report);
    let accepts_partial = accepts_partial(parameters, report);
    let custom_headers = custom_headers(parameters, report);
    let query_parameters = parameters.pairs("queryParameters", report);
    let unsafe_ssl = parameters.boolean("unsafeSsl", report);
    let timeout = parameters.timeout("timeout", report);
    let auth_modes = auth_modes::read(context, &[ApiKey, Basic, Tls, Bearer, Custom, OAuth], report);
    let aws_region = identity::aws_region(parameters, report);
    let azure_cloud = identity::azure_cloud(parameters, report);
    warn_without_effect(context, report);
    let (server_address, authentication) = server?;
    let source = PrometheusSource {
        server_address,
        authentication,
        query: query?.to_owned(),
        namespace: parameters.get("namespace").map(str::to_owned),
        custom_headers: custom_headers.ok()?,
        query_parameters: query_parameters.ok()?,
        accepts_partial: accepts_partial?,
        unsafe_ssl: unsafe_ssl.ok()?.unwrap_or(false),
        timeout: timeout.ok()?,
        auth_modes: auth_modes?,
        api: "",
        aws_region: aws_region.ok()?,
        azure_cloud: azure_cloud?,
    };
    Some(Parsed::External(External {
        metric_name: metric_name?,
        metric_type: metric_type?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: on_missing?,
        source: Source::Query(Query::Prometheus(Arc::new(source))),
    }))
}

/// Returns the trigger's own address. Without one it is that of its authentication, which a poll asks for, or else the
/// one for all, and the authentication is returned, too.
fn server(context: &Context<'_>, report: &mut Diagnostics) -> Option<(String, Option<Box<str>>)> {
    const FIX: &str = "write a URL such as \"http://prometheus.monitoring:9090\", let an authenticationRef give it as parameter \
                       serverAddress, or name one for all with --prometheus-server";
    let parameters = &context.parameters;
    match context.authentication {
        Some(reference) if parameters.get(PrometheusSource::ADDRESS).is_none() => {
            let object = ObjectKey::new(context.group, context.namespace, context.object);
            let for_all = parameters.get(DEFAULT_ADDRESS).unwrap_or_default().trim_end_matches('/').to_owned();
            Some((for_all, Some(AuthenticationKey::of(&object, reference).to_string().into())))
        }
        _ => Some((server_address(parameters, FIX, report)?, None)),
    }
}

/// KEDA accepts any text and fails at each poll; here a broken address is reported immediately.
pub(super) fn server_address(parameters: &Parameters, fix: &str, report: &mut Diagnostics) -> Option<String> {
    let text = parameters.required(PrometheusSource::ADDRESS, fix, report)?;
    if let Err(reason) = Url::parse_base(text) {
        let message = format!("{} {reason}", quoted(&mask::address(text)));
        parameters.problem(PrometheusSource::ADDRESS, message, URL_FIX, report);
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn threshold(context: &Context<'_>, report: &mut Diagnostics) -> Option<f64> {
    const FIX: &str = "write the wanted value per replica, a number such as \"75\" or \"0.5\"";
    if context.group != ApiGroup::KedaK8sIo {
        return target::read(context, "threshold", FIX, report);
    }
    let text = context.parameters.required("threshold", FIX, report)?;
    let Ok(number) = text.parse::<i64>() else {
        let message = format!("{} is not an integer", quoted(text));
        context.parameters.problem("threshold", message, "write an integer, or move the object to keda.sh", report);
        return None;
    };
    // Thresholds above 2^53 lose their last digits, as metrics do.
    #[expect(clippy::cast_precision_loss)]
    let number = number as f64;
    target::check(context, "threshold", text, number, report)
}

/// KEDA 2 generates the name, KEDA 1 reads it from the metadata unchanged, where an HPA's own names are put, too.
fn metric_name(context: &Context<'_>, report: &mut Diagnostics) -> Option<Arc<str>> {
    if context.group == ApiGroup::KedaSh {
        return Some(format!("s{}-prometheus", context.index).into());
    }
    let parameters = &context.parameters;
    let name = parameters.required("metricName", "write a name for the metric, e.g. \"http_requests\"", report)?;
    if name == "." || name == ".." || name.contains(['/', '%']) {
        let message = format!("{} cannot be part of a URL path", quoted(name));
        parameters.problem("metricName", message, "write a name without '/' and '%'", report);
        return None;
    }
    Some(name.into())
}

fn on_missing(parameters: &Parameters, report: &mut Diagnostics) -> Option<OnMissing> {
    let ignore_null_values = parameters.boolean("ignoreNullValues", report);
    let hold_for = hold_for(parameters, report);
    let mode = parameters.get("onMissing");
    if mode != Some("hold") && parameters.get("holdFor").is_some() {
        parameters.problem(
            "holdFor",
            "means something with onMissing \"hold\" only",
            "write onMissing: \"hold\", or remove holdFor",
            report,
        );
        return None;
    }
    let ignore_null_values = ignore_null_values.ok()?;
    let contradicts = match mode {
        Some("zero") => ignore_null_values == Some(false),
        Some("error" | "hold") => ignore_null_values == Some(true),
        _ => false,
    };
    if contradicts {
        let message = format!(
            "{:?} contradicts ignoreNullValues \"{}\"",
            mode.unwrap_or_default(),
            ignore_null_values.unwrap_or_default()
        );
        parameters.problem("onMissing", message, "remove ignoreNullValues", report);
        return None;
    }
    match mode {
        None if ignore_null_values == Some(false) => Some(OnMissing::Error),
        None => Some(OnMissing::EmptyIsZero),
        Some("zero") => Some(OnMissing::Zero),
        Some("error") => Some(OnMissing::Error),
        Some("hold") => {
            if parameters.get("holdFor").is_none() {
                let fix = "write how long the last good value holds, e.g. holdFor: \"5m\"";
                parameters.problem("holdFor", "is missing; onMissing \"hold\" needs it", fix, report);
            }
            hold_for.ok()?.map(OnMissing::Hold)
        }
        Some(other) => {
            let message = format!("{} is no policy for missing values", quoted(other));
            parameters.problem("onMissing", message, "write \"zero\", \"error\" or \"hold\"", report);
            None
        }
    }
}

fn accepts_partial(parameters: &Parameters, report: &mut Diagnostics) -> Option<bool> {
    match parameters.get("onPartial") {
        None | Some("error") => Some(false),
        Some("accept") => Some(true),
        Some(other) => {
            let message = format!("{} is no policy for incomplete answers", quoted(other));
            parameters.problem("onPartial", message, "write \"accept\" or \"error\"", report);
            None
        }
    }
}

fn hold_for(parameters: &Parameters, report: &mut Diagnostics) -> Result<Option<Duration>, ()> {
    let Some(text) = parameters.get("holdFor") else {
        return Ok(None);
    };
    match parse_go_duration(text).map(u64::try_from) {
        Some(Ok(nanos)) if nanos > 0 => Ok(Some(Duration::from_nanos(nanos))),
        _ => {
            let message = format!("{} is not a duration above 0", quoted(text));
            parameters.problem("holdFor", message, "write a duration such as \"5m\" or \"90s\"", report);
            Err(())
        }
    }
}

fn custom_headers(parameters: &Parameters, report: &mut Diagnostics) -> Result<Vec<(String, String)>, ()> {
    let headers = parameters.pairs("customHeaders", report)?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    for (name, value) in &headers {
        if !name.chars().all(is_token) {
            let message = format!("{} cannot name a header", quoted(name));
            parameters.problem("customHeaders", message, "write letters, digits and '-'", report);
            return Err(());
        }
        if value.chars().any(char::is_control) {
            let message = format!("the value of {} has a control character", quoted(name));
            parameters.problem("customHeaders", message, "write it on one line", report);
            return Err(());
        }
    }
    Ok(headers)
}

fn warn_without_effect(context: &Context<'_>, report: &mut Diagnostics) {
    let parameters = &context.parameters;
    let given = |name: &&&str| parameters.get(name).is_some();
    for name in AUTHENTICATION_ONLY.iter().filter(given) {
        let message = "has no effect here: credentials come from a TriggerAuthentication only";
        report.warn(parameters.path(name), message, "move it to the Secret of a TriggerAuthentication");
    }
    identity::warn_of_owner(context, report);
    if let Some(name) = Some("azureManagedPrometheusResourceURL").filter(|name| parameters.get(name).is_some()) {
        let message = "has no effect: a token is for the Prometheus of the cloud";
        report.warn(parameters.path(name), message, "write cloud, if it is not AzurePublicCloud, and remove it");
    }
    if context.group == ApiGroup::KedaSh && parameters.get("metricName").is_some() {
        let message = format!("has no effect since KEDA 2.10: the metric is called s{}-prometheus", context.index);
        report.warn(parameters.path("metricName"), message, "remove it");
    }
    if parameters.get("serverAddress").is_some_and(|text| text.split('/').nth(2).is_some_and(|host| host.contains('@')))
    {
        let fix = "use authModes basic with a TriggerAuthentication";
        report.warn(
            parameters.path("serverAddress"),
            "contains credentials, which everybody who reads the object sees",
            fix,
        );
    }
}
