//! Amazon CloudWatch: the newest value of a metric or an expression, by the service's query protocol.

use super::{Poll, amazon};
use crate::encode::escape;
use crate::formats::xml;
use crate::polling::failed;
use crate::polling::transport::Reply;
use crate::prometheus::answer::bare_status;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::{CloudWatchMetric, CloudWatchSource, UnixMillis};
use crate::wire::time::format_seconds;

const RESULTS: &str = "GetMetricDataResponse.GetMetricDataResult.MetricDataResults";

pub(super) fn ask(poll: &Poll<'_>, source: &CloudWatchSource) -> Result<f64, PollError> {
    let mut request = amazon(poll, "monitoring", source.endpoint.as_deref(), source.region.as_deref())?;
    request.form = Some(form(source, poll.at));
    let request = poll.sign(request, "monitoring", source.region.as_deref())?;
    let reply = poll.transport.exchange(request, poll.timeout, poll.deadline, |reply| reply)?;
    read(&reply, source)
}

fn form(source: &CloudWatchSource, now: UnixMillis) -> String {
    let seconds = now.0.div_euclid(1000) - i64::from(source.end_offset);
    let end = seconds - seconds.rem_euclid(i64::from(source.period));
    let time = |seconds: i64| format_seconds(UnixMillis(seconds * 1000));
    let mut pairs = vec![
        ("Action".to_owned(), "GetMetricData".to_owned()),
        ("Version".to_owned(), "2010-08-01".to_owned()),
        ("StartTime".to_owned(), time(end - i64::from(source.collection_time))),
        ("EndTime".to_owned(), time(end)),
        ("ScanBy".to_owned(), "TimestampDescending".to_owned()),
    ];
    let mut query = |name: &str, value: &str| {
        pairs.push((format!("MetricDataQueries.member.1.{name}"), value.to_owned()));
    };
    query("Id", "q1");
    let period = source.period.to_string();
    match &source.metric {
        CloudWatchMetric::Expression(text) => {
            query("Expression", text);
            query("Period", &period);
        }
        CloudWatchMetric::Metric { namespace, name, dimensions, statistic, unit } => {
            query("MetricStat.Metric.Namespace", namespace);
            query("MetricStat.Metric.MetricName", name);
            for (number, (dimension, value)) in (1..).zip(dimensions) {
                query(&format!("MetricStat.Metric.Dimensions.member.{number}.Name"), dimension);
                query(&format!("MetricStat.Metric.Dimensions.member.{number}.Value"), value);
            }
            query("MetricStat.Period", &period);
            query("MetricStat.Stat", statistic);
            if let Some(unit) = unit {
                query("MetricStat.Unit", unit);
            }
        }
    }
    if let Some(account) = &source.account {
        query("AccountId", account);
    }
    pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

pub(super) fn read(reply: &Reply, source: &CloudWatchSource) -> Result<f64, PollError> {
    let Reply { server, status, body, .. } = reply;
    let strange = || failed(ErrorClass::Response, format!("{server} answered something that is not CloudWatch's XML"));
    let text = std::str::from_utf8(body).map_err(|_| strange())?;
    let find = |path: &str| xml::find(text, path).map_err(|_| strange());
    if *status != 200 {
        let code = xml::find(text, "ErrorResponse.Error.Code").ok().flatten();
        let code = code.as_ref().and_then(|code| code.as_str());
        let is_code =
            |code: &&str| !code.is_empty() && code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric());
        return Err(match code.filter(is_code) {
            Some(code) => failed(ErrorClass::Status, format!("{server} answered status {status}: {code}")),
            None => bare_status(server, *status, body),
        });
    }
    find(RESULTS)?.ok_or_else(strange)?;
    // One element is itself, several are a list.
    for first in ["member", "member.0"] {
        if let Some(code) = find(&format!("{RESULTS}.{first}.StatusCode"))?
            && let Some(code @ ("Forbidden" | "InternalError")) = code.as_str()
        {
            return Err(failed(ErrorClass::Query, format!("{server} could not read the metric: {code}")));
        }
        for newest in ["member.0", "member"] {
            if let Some(value) = find(&format!("{RESULTS}.{first}.Values.{newest}"))?
                && let Some(number) = value.as_str()
            {
                return number.trim().parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(strange);
            }
        }
    }
    if source.ignores_nothing {
        return Ok(source.min_value.0);
    }
    Err(failed(ErrorClass::Missing, format!("{server} has no value of the metric, and ignoreNullValues is false")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::model::{Exact, Server};

    fn source(metric: CloudWatchMetric) -> CloudWatchSource {
        CloudWatchSource {
            server: Server::Written("https://monitoring.eu-west-1.amazonaws.com".to_owned()),
            endpoint: None,
            region: Some("eu-west-1".to_owned()),
            account: None,
            metric,
            period: 300,
            collection_time: 600,
            end_offset: 60,
            ignores_nothing: true,
            min_value: Exact(1.5),
        }
    }

    #[test]
    fn questions() {
        let asked =
            form(&source(CloudWatchMetric::Expression("SELECT MAX(x)".to_owned())), UnixMillis(1_700_000_000_000));
        assert_eq!(
            asked,
            "Action=GetMetricData&Version=2010-08-01&StartTime=2023-11-14T22%3A00%3A00Z&EndTime=2023-11-14T22%3A10%3A00Z&\
             ScanBy=TimestampDescending&MetricDataQueries.member.1.Id=q1&MetricDataQueries.member.1.Expression=SELECT+MAX%28x%29&\
             MetricDataQueries.member.1.Period=300"
        );
        let text = |text: &str| text.to_owned();
        let metric = CloudWatchMetric::Metric {
            namespace: text("AWS/SQS"),
            name: text("Visible"),
            dimensions: vec![(text("QueueName"), text("a")), (text("B"), text("c d"))],
            statistic: text("p95"),
            unit: Some(text("Count")),
        };
        let asked = form(&CloudWatchSource { account: Some(text("1")), ..source(metric) }, UnixMillis(0));
        for part in
            ["Metric.Namespace=AWS%2FSQS&", "Dimensions.member.2.Value=c+d&", "MetricStat.Unit=Count&", "1.AccountId=1"]
        {
            assert!(asked.contains(part), "{part}: {asked}");
        }
    }

    #[test]
    fn answers() {
        let of = |status: u16, results: &str, ignores_nothing: bool| {
            let body = match status {
                200 => format!(
                    "<GetMetricDataResponse xmlns=\"http://x/\"><GetMetricDataResult><MetricDataResults>{results}</MetricDataResults>\
                     </GetMetricDataResult></GetMetricDataResponse>"
                ),
                _ => results.to_owned(),
            };
            let reply = Reply { server: "https://cw".to_owned(), status, rest: None, body: body.into_bytes() };
            let expression = source(CloudWatchMetric::Expression(String::new()));
            read(&reply, &CloudWatchSource { ignores_nothing, ..expression }).map_err(|error| error.message)
        };
        let one = "<member><Id>q1</Id><Values><member>7.5</member></Values><StatusCode>Complete</StatusCode></member>";
        let two = "<member><Values><member>3.0</member><member>9.0</member></Values></member>";
        let none = "<member><Id>q1</Id><Values/><StatusCode>Complete</StatusCode></member>";
        for (results, expected) in [(one, 7.5), (two, 3.0), (&format!("{two}{one}"), 3.0), (none, 1.5), ("", 1.5)] {
            assert_eq!(of(200, results, true), Ok(expected), "{results}");
        }
        assert!(of(200, none, false).unwrap_err().contains("no value of the metric"));
        let refused = "<member><Values/><StatusCode>Forbidden</StatusCode></member>";
        assert_eq!(of(200, refused, true).unwrap_err(), "https://cw could not read the metric: Forbidden");
        let error = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>secret</Message></Error></ErrorResponse>";
        assert_eq!(of(403, error, true).unwrap_err(), "https://cw answered status 403: AccessDenied");
        assert_eq!(
            of(503, "<html>", true).unwrap_err(),
            "https://cw answered status 503: Service Unavailable, an HTML page"
        );
    }
}
