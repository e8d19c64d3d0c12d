//! Amazon SQS: messages in a queue, by the service's JSON protocol.

use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

use super::{Poll, amazon};
use crate::polling::failed;
use crate::polling::request::Header;
use crate::polling::transport::Reply;
use crate::prometheus::answer::bare_status;
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::SqsSource;

pub(super) const MESSAGES: &str = "ApproximateNumberOfMessages";
const IN_FLIGHT: &str = "ApproximateNumberOfMessagesNotVisible";
const DELAYED: &str = "ApproximateNumberOfMessagesDelayed";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
    #[serde(rename = "__type")]
    kind: String,
}

pub(super) fn ask(poll: &Poll<'_>, source: &SqsSource) -> Result<f64, PollError> {
    let queue = poll.given(source.queue.as_deref(), &["queueURL"]).ok_or_else(|| poll.missing("queueURL"))?;
    let mut request = amazon(poll, "sqs", source.endpoint.as_deref(), source.region.as_deref())?;
    let names = names(source);
    let header = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned(), secret: false };
    request.headers = vec![
        header("Content-Type", "application/x-amz-json-1.0"),
        header("X-Amz-Target", "AmazonSQS.GetQueueAttributes"),
    ];
    request.form = Some(json!({ "QueueUrl": queue, "AttributeNames": names }).to_string());
    let request = poll.sign(request, "sqs", source.region.as_deref())?;
    let reply = poll.transport.exchange(request, poll.timeout, poll.deadline, |reply| reply)?;
    read(&reply, &names, queue)
}

fn names(source: &SqsSource) -> Vec<&'static str> {
    let wanted = [(MESSAGES, true), (IN_FLIGHT, source.in_flight), (DELAYED, source.delayed)];
    wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect()
}

pub(super) fn read(reply: &Reply, names: &[&str], queue: &str) -> Result<f64, PollError> {
    let Reply { server, status, body, .. } = reply;
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    if *status != 200 {
        // For example com.amazonaws.sqs#QueueDoesNotExist.
        let code = answer.as_ref().and_then(|answer| answer.kind.rsplit('#').next());
        let is_code =
            |code: &&str| !code.is_empty() && code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric());
        return Err(match code.filter(is_code) {
            Some(code) => {
                failed(ErrorClass::Status, format!("{server} answered status {status} for queue {queue}: {code}"))
            }
            None => bare_status(server, *status, body),
        });
    }
    let strange = || failed(ErrorClass::Response, format!("{server} answered something that is not SQS' JSON"));
    let answer = answer.ok_or_else(strange)?;
    names
        .iter()
        .map(|name| answer.attributes.get(*name)?.parse::<u32>().ok().map(f64::from))
        .sum::<Option<f64>>()
        .ok_or_else(strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let of = |status: u16, body: &str| {
            let reply = Reply { server: "https://sqs".to_owned(), status, rest: None, body: body.as_bytes().to_vec() };
            read(&reply, &[MESSAGES, IN_FLIGHT], "orders").map_err(|error| error.message)
        };
        let good = format!(r#"{{"Attributes":{{"{MESSAGES}":"7","{IN_FLIGHT}":"2","Other":"x"}}}}"#);
        assert_eq!(of(200, &good), Ok(9.0));
        for body in ["{}", "<html>", &format!(r#"{{"Attributes":{{"{MESSAGES}":"-7","{IN_FLIGHT}":"2"}}}}"#)] {
            assert!(of(200, body).unwrap_err().contains("not SQS' JSON"), "{body}");
        }
        let gone = r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"secret"}"#;
        assert_eq!(of(400, gone).unwrap_err(), "https://sqs answered status 400 for queue orders: QueueDoesNotExist");
        assert_eq!(of(503, "down").unwrap_err(), "https://sqs answered status 503: Service Unavailable");
    }
}
