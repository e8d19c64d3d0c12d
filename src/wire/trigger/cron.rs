//! The `cron` trigger: a number of replicas between a start and an end.

use std::sync::Arc;

use super::super::fields::{Diagnostics, quoted};
use super::parameters::Parameters;
use super::{
    Context, External, Parsed, Row, TriggerType, expression, external_metric_type, normalized, zone_names, zones,
};
use crate::scaling::cron::{Recurrence, Window, Zone};
use crate::scaling::model::{ApiGroup, MetricType, OnMissing, Source};

pub(super) const TYPE: TriggerType = TriggerType {
    name: "cron",
    reference: &[
        Row {
            parameters: &["timezone"],
            default: "required",
            meaning: "whose clocks count: a name of the IANA database, such as `Europe/Berlin` or `Etc/UTC`",
        },
        Row {
            parameters: &["start", "end"],
            default: "required",
            meaning: "cron expressions: minute, hour, day of month, month, day of week; `*` or `?`, lists, ranges, steps, \
                      names (`jan`, `mon`), Sunday is 0; a leading `TZ=<zone>` stands above `timezone`",
        },
        Row {
            parameters: &["desiredReplicas"],
            default: "required",
            meaning: "wanted from the start to the end; outside the trigger is not active",
        },
    ],
    without_effect: &[],
    can_be_cached: false,
    from_env: &[],
    parse,
};

fn parse(context: &Context<'_>, report: &mut Diagnostics) -> Option<Parsed> {
    let parameters = &context.parameters;
    let zone = timezone(parameters, report);
    let start = recurrence(parameters, "start", "always", zone.as_ref(), report);
    let end = recurrence(parameters, "end", "never", zone.as_ref(), report);
    let desired_replicas = desired_replicas(parameters, report);
    let metric_type = metric_type(context, report);
    context.warn_authentication_unused(report);
    let texts = (parameters.get("start")?, parameters.get("end")?);
    if texts.0 == texts.1 {
        let message = "start and end can not have exactly same time input";
        parameters.problem("end", message, "write when the window shuts again", report);
        return None;
    }
    Some(Parsed::External(External {
        metric_name: metric_name(context, parameters.get("timezone")?, texts.0, texts.1),
        metric_type: metric_type?,
        // The value is the number of replicas itself.
        threshold: 1.0,
        activation_threshold: 0.0,
        on_missing: OnMissing::Error,
        source: Source::Cron(Arc::new(Window { start: start?, end: end?, desired_replicas: desired_replicas? })),
    }))
}

/// The metric is always per replica: the wanted count does not fall as replicas are added, so an HPA that read it as a
/// Value would multiply its replicas at each sync, up to the maximum.
fn metric_type(context: &Context<'_>, report: &mut Diagnostics) -> Option<MetricType> {
    let written = external_metric_type(context, report)?;
    if written == MetricType::Value && !context.feeds_formula {
        report.warn(
            context.fields.path("metricType"),
            "Value has no effect on a cron trigger: the HPA gets AverageValue, by which it runs desiredReplicas",
            "remove it",
        );
    }
    Some(MetricType::AverageValue)
}

fn timezone(parameters: &Parameters, report: &mut Diagnostics) -> Option<Arc<Zone>> {
    let name = parameters.required("timezone", "write the name of a time zone, e.g. \"Europe/Berlin\"", report)?;
    find_zone(parameters, "timezone", name, report)
}

/// KEDA accepts any name and fails at each poll; here a wrong one is reported immediately.
fn find_zone(parameters: &Parameters, parameter: &str, name: &str, report: &mut Diagnostics) -> Option<Arc<Zone>> {
    let zone = zones::find(name);
    if zone.is_none() {
        let message = format!("{} is no time zone", quoted(name));
        parameters.problem(parameter, message, zone_names::advice(name), report);
    }
    zone
}

/// `active_if_never` says what happens to the trigger if the time never comes.
fn recurrence(
    parameters: &Parameters,
    name: &str,
    active_if_never: &str,
    zone: Option<&Arc<Zone>>,
    report: &mut Diagnostics,
) -> Option<Recurrence> {
    let text = parameters.required(name, "write a cron expression such as \"0 8 * * mon-fri\"", report)?;
    let (own_zone, expression) = match expression::parse(text) {
        Ok(parsed) => parsed,
        Err(mistake) => {
            parameters.problem(name, mistake.message, mistake.fix, report);
            return None;
        }
    };
    let zone = match own_zone {
        Some(own) => find_zone(parameters, name, own, report)?,
        None => Arc::clone(zone?),
    };
    let recurrence = Recurrence { expression, zone };
    if !recurrence.ever_comes() {
        let message = format!("never comes, so that the trigger is {active_if_never} active");
        report.warn(parameters.path(name), message, "write a day that exists");
    }
    Some(recurrence)
}

fn desired_replicas(parameters: &Parameters, report: &mut Diagnostics) -> Option<u32> {
    const FIX: &str = "write how many replicas to run from start to end, e.g. \"5\"";
    let text = parameters.required("desiredReplicas", FIX, report)?;
    let message = match text.parse::<u32>() {
        Ok(0) => "no desiredReplicas specified".to_owned(),
        Ok(count) if i32::try_from(count).is_ok() => return Some(count),
        _ => format!("{} is no count of replicas", quoted(text)),
    };
    parameters.problem("desiredReplicas", message, FIX, report);
    None
}

fn metric_name(context: &Context<'_>, timezone: &str, start: &str, end: &str) -> Arc<str> {
    let compact = |text: &str| -> String {
        let words = text.split_whitespace().collect::<String>();
        words.replace('*', "x").replace('/', "Sl").replace('?', "Qm").replace(',', "Cm")
    };
    let base = format!("cron-{timezone}-{}-{}", compact(start), compact(end));
    let base = normalized(&base);
    match context.group {
        ApiGroup::KedaSh => format!("s{}-{base}", context.index).into(),
        ApiGroup::KedaK8sIo | ApiGroup::Autoscaling => base.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{problems, trigger, warnings};
    use super::*;
    use crate::scaling::model::UnixMillis;

    fn cron(change: Value) -> Value {
        let mut metadata = json!({"timezone": "Europe/Berlin", "start": "0 8 * * mon-fri", "end": "0 18 * * mon-fri", "desiredReplicas": "4"});
        for (key, value) in change.as_object().expect("an object") {
            metadata[key] = value.clone();
        }
        json!({"type": "cron", "metadata": metadata})
    }

    #[test]
    fn names_are_those_of_keda() {
        for (change, name) in [
            (json!({}), "s0-cron-Europe-Berlin-08xxmon-fri-018xxmon-fri"),
            (
                json!({"timezone": "Etc/UTC", "start": "0 0 * * *", "end": "59 23 * * *"}),
                "s0-cron-Etc-UTC-00xxx-5923xxx",
            ),
            (
                json!({"timezone": "Etc/GMT+5", "start": "*/5 1,2 ? * *", "end": "TZ=Asia/Tokyo  0 0 1 1 *"}),
                "s0-cron-Etc-GMT+5-xSl51Cm2Qmxx-TZ=AsiaSlTokyo0011x",
            ),
        ] {
            assert_eq!(&*trigger(&cron(change.clone())).metric_name, name, "{change}");
        }
    }

    #[test]
    fn the_value_is_the_count_and_zones_can_differ() {
        let trigger = trigger(&cron(json!({"end": "TZ=America/New_York 0 18 * * *"})));
        assert!((trigger.threshold - 1.0).abs() < f64::EPSILON && trigger.activation_threshold == 0.0);
        let Source::Cron(window) = trigger.source else { panic!("{:?}", trigger.source) };
        // A Wednesday in July: open from 06:00Z, 08:00 in Berlin, to 22:00Z, 18:00 in New York.
        let at = |text: &str| {
            let at: jiff::Timestamp = text.parse().expect("a time");
            window.value(UnixMillis(at.as_millisecond()))
        };
        let values = ["05:59:59", "06:00:00", "21:59:59", "22:00:00"].map(|time| at(&format!("2026-07-01T{time}Z")));
        assert_eq!(values, [0.0, 4.0, 4.0, 0.0]);
    }

    #[test]
    fn mistakes_are_reported_with_what_to_write() {
        let at = |parameter: &str, text: &str| vec![format!("spec.triggers[0].metadata.{parameter}: {text}")];
        for (change, expected) in [
            (
                json!({"timezone": "europe/berlin"}),
                at("timezone", "\"europe/berlin\" is no time zone (write \"Europe/Berlin\")"),
            ),
            (
                json!({"timezone": "Local"}),
                at(
                    "timezone",
                    "\"Local\" is no time zone (write a name of the IANA database, e.g. \"Europe/Berlin\" or \"Etc/UTC\")",
                ),
            ),
            (
                json!({"start": "TZ=Mars/Base 0 8 * * *"}),
                at(
                    "start",
                    "\"Mars/Base\" is no time zone (write a name of the IANA database, e.g. \"Europe/Berlin\" or \"Etc/UTC\")",
                ),
            ),
            (
                json!({"end": "0 18 * * 7"}),
                at(
                    "end",
                    "\"0 18 * * 7\": the day of week \"7\": 7 is not within 0 to 6 (write 0 (Sunday) to 6, sun to sat, or *)",
                ),
            ),
            (
                json!({"end": "0 8 * * mon-fri"}),
                at("end", "start and end can not have exactly same time input (write when the window shuts again)"),
            ),
            (
                json!({"desiredReplicas": "0"}),
                at(
                    "desiredReplicas",
                    "no desiredReplicas specified (write how many replicas to run from start to end, e.g. \"5\")",
                ),
            ),
            (
                json!({"desiredReplicas": "-2"}),
                at(
                    "desiredReplicas",
                    "\"-2\" is no count of replicas (write how many replicas to run from start to end, e.g. \"5\")",
                ),
            ),
        ] {
            assert_eq!(problems(&cron(change.clone())), expected, "{change}");
        }
        let nothing = problems(&json!({"type": "cron", "metadata": {}}));
        assert_eq!(nothing.len(), 4, "{nothing:?}");
    }

    #[test]
    fn a_day_that_never_comes_is_worth_a_word() {
        let warned = warnings(&cron(json!({"end": "0 0 30 feb *"})));
        assert_eq!(warned, ["spec.triggers[0].metadata.end: never comes, so that the trigger is never active"]);
        assert!(warnings(&cron(json!({"end": "0 0 29 feb *"}))).is_empty());
    }
}
