//! What stands in the history for a Pods metric of an HPA that asks the pods themselves, in kube-metrics-adapter's form.
//! Only an annotated HPA has it: [`crate::wire::hpa::annotated`] writes its parameters.

use std::sync::Arc;
use std::time::Duration;

use super::super::fields::{Diagnostics, quoted};
use super::super::time::parse_go_duration;
use super::{Context, External, Parsed, Row, TriggerType, external_metric_type, target};
use crate::formats::json_path::JsonPath;
use crate::scaling::model::{Aggregator, OnMissing, PodMetricSource, Query, Source, TIMEOUT_MAX};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "json-path",
    reference: &[Row {
        parameters: &[
            "metricName",
            "threshold",
            "activationThreshold",
            "kind",
            "name",
            "jsonKey",
            "aggregator",
            "scheme",
            "port",
            "path",
            "rawQuery",
            "requestTimeout",
            "minPodReadyAge",
        ],
        default: "–",
        meaning: "",
    }],
    without_effect: &[],
    can_be_cached: true,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    let text = |name: &str| parameters.get(name).unwrap_or_default().to_owned();
    let threshold = target::read(context, "threshold", "write a quantity above 0", report);
    let activation_threshold = parameters.number("activationThreshold", report);
    let json_key = json_key(context, report);
    let path = path(context, report);
    let port = parameters.required("port", "write the port that serves the document, e.g. \"9090\"", report);
    let port = port.and_then(|text| match text.parse::<u16>().ok().filter(|port| *port > 0) {
        None => {
            let message = format!("{} is not a port from 1 to 65535", quoted(text));
            parameters.problem("port", message, "write the number of a port, e.g. \"9090\"", report);
            None
        }
        found => found,
    });
    let schemes = [("http", false), ("https", true)];
    let https = choice(context, "scheme", &schemes, report).map(|found| found.unwrap_or(false));
    let known = [
        ("avg", Aggregator::Average),
        ("max", Aggregator::Maximum),
        ("min", Aggregator::Minimum),
        ("sum", Aggregator::Sum),
    ];
    let aggregator = choice(context, "aggregator", &known, report);
    let timeout = duration(context, "requestTimeout", report);
    let timeout = timeout.and_then(|found| match found {
        Some(timeout) if timeout > TIMEOUT_MAX => {
            let message = format!("is longer than {} s", TIMEOUT_MAX.as_secs());
            parameters.problem("requestTimeout", message, "write a shorter time", report);
            None
        }
        found => Some(found.filter(|timeout| !timeout.is_zero())),
    });
    let min_ready_age = duration(context, "minPodReadyAge", report);
    let (kind, name) = (text("kind"), text("name"));
    let source = PodMetricSource {
        whose: format!("pods of {}/{kind}/{name}", context.namespace),
        namespace: context.namespace.to_owned(),
        kind,
        name,
        https: https?,
        port: port?,
        path: path?,
        json_key: json_key?,
        aggregator: aggregator?,
        timeout: timeout?,
        min_ready_age: min_ready_age?.unwrap_or_default(),
    };
    Some(Parsed::External(External {
        metric_name: text("metricName").into(),
        metric_type: external_metric_type(context, report)?,
        threshold: threshold?,
        activation_threshold: activation_threshold.ok()?.unwrap_or(0.0),
        on_missing: OnMissing::Error,
        source: Source::Query(Query::PodMetric(Arc::new(source))),
    }))
}

fn json_key(context: &Context<'_>, report: &mut Diagnostics) -> Option<String> {
    const FIX: &str = "write a JSONPath such as \"$.http_server.rps\"";
    let text = context.parameters.required("jsonKey", FIX, report)?;
    match JsonPath::parse(text) {
        Ok(_) => Some(text.trim().to_owned()),
        Err(why) => {
            context.parameters.problem("jsonKey", format!("{} {why}", quoted(text)), FIX, report);
            None
        }
    }
}

/// Returns the path with the query, which is sent as it is.
fn path(context: &Context<'_>, report: &mut Diagnostics) -> Option<String> {
    const FIX: &str = "write the path of the document, e.g. \"/metrics\"";
    let path = context.parameters.required("path", FIX, report)?;
    let query = context.parameters.get("rawQuery").map(|query| format!("?{query}")).unwrap_or_default();
    let whole = format!("{}{path}{query}", if path.starts_with('/') { "" } else { "/" });
    let is_plain = |text: &str| text.len() <= 2_000 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !is_plain(&whole) || path.contains('?') {
        let name = if is_plain(path) && !path.contains('?') { "rawQuery" } else { "path" };
        let message = "has a space, a #, a ? or a character that is not ASCII, or is too long";
        context.parameters.problem(name, message, "write such characters as %20, and a query as raw-query", report);
        return None;
    }
    Some(whole)
}

/// Reads one of several words; `None` after reporting a problem.
fn choice<T: Copy>(
    context: &Context<'_>,
    name: &str,
    known: &[(&str, T)],
    report: &mut Diagnostics,
) -> Option<Option<T>> {
    let Some(text) = context.parameters.get(name) else { return Some(None) };
    let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        let fix = format!("write one of {}", words.join(", "));
        context.parameters.problem(name, format!("{} is not known", quoted(text)), fix, report);
        return None;
    }
    Some(found)
}

/// Reads a Go duration; `None` after reporting a problem.
fn duration(context: &Context<'_>, name: &str, report: &mut Diagnostics) -> Option<Option<Duration>> {
    let Some(text) = context.parameters.get(name) else { return Some(None) };
    let found = parse_go_duration(text).and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
    if found.is_none() {
        let message = format!("{} is not a duration", quoted(text));
        context.parameters.problem(name, message, "write a duration such as \"30s\"", report);
        return None;
    }
    Some(found)
}
