//! What other adapters answer, checked and written anew.
//!
//! Pure. Nothing of an answer is passed on as it came: a list becomes one of ours, whose values an HPA can work with,
//! and of an error only its code, its reason and a bounded part of its message remain.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::encode::cut;
use crate::http::others::{LOOP, Names};
use crate::scaling::model::UnixMillis;
use crate::scaling::quantity;
use crate::wire::quantity::parse_milli;
use crate::wire::time::{format_seconds, parse_rfc3339};

/// Bytes of an answer that are read. An item takes some 200, and an HPA adds all items up.
const ANSWER_MAX: usize = 256 << 10;
/// Bytes of another adapter's message that are repeated.
const MESSAGE_MAX: usize = 300;
/// Names of one adapter that are listed in discovery.
const NAMES_MAX: usize = 1_000;
/// Bytes of a name.
const NAME_MAX: usize = 253;
/// What an HPA's arithmetic in thousandths can hold; it would wrap beyond.
const MILLI_MAX: i128 = (i64::MAX / 1000 * 1000) as i128;

/// The answer to one read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An `ExternalMetricValueList` with at least one item.
    Values(String),
    /// It does not have the metric.
    NotFound,
    /// It says why it has no value.
    Refused { code: u16, reason: String, message: String },
    /// It does not accept our credentials.
    Forbidden(String),
    /// It is this very process.
    Ourselves,
    /// It cannot be used, and why.
    Unusable(String),
}

#[derive(Deserialize)]
struct List {
    kind: String,
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    metric_name: String,
    #[serde(default)]
    metric_labels: Option<BTreeMap<String, String>>,
    /// Null where it is not known.
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    value: Amount,
}

/// A quantity, which may be written as a number.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
}

pub(super) fn parse(status: u16, body: &[u8]) -> Answer {
    if body.len() > ANSWER_MAX {
        return Answer::Unusable(format!("its answer has more than {} KiB", ANSWER_MAX >> 10));
    }
    match status {
        200 => values(body).unwrap_or_else(Answer::Unusable),
        404 => Answer::NotFound,
        401 | 403 => Answer::Forbidden(message_of(status, body).1),
        400..=599 => {
            let (reason, message) = message_of(status, body);
            if status == 508 && reason == LOOP {
                return Answer::Ourselves;
            }
            Answer::Refused { code: status, reason, message }
        }
        _ => Answer::Unusable(format!("it answered status {status}")),
    }
}

fn values(body: &[u8]) -> Result<Answer, String> {
    let list: List = serde_json::from_slice(body).map_err(|_| NO_LIST.to_owned())?;
    if list.kind != "ExternalMetricValueList" {
        return Err(NO_LIST.to_owned());
    }
    let mut items = list.items.unwrap_or_default();
    if items.is_empty() {
        // As kube-metrics-adapter says that it does not know a metric.
        return Ok(Answer::NotFound);
    }
    for item in &mut items {
        let milli = match &item.value {
            Amount::Text(text) => parse_milli(text),
            Amount::Number(number) => parse_milli(&number.to_string()),
        };
        let milli = milli.ok_or("a value of its answer is not a quantity")?;
        item.value = Amount::Text(quantity::text(milli.clamp(0, MILLI_MAX)));
        let at = item.timestamp.as_deref().and_then(parse_rfc3339);
        item.timestamp = at.map(|at: UnixMillis| format_seconds(at).to_string());
    }
    let items = serde_json::to_string(&items).map_err(|error| error.to_string())?;
    Ok(Answer::Values(format!(
        r#"{{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{{}},"items":{items}}}"#
    )))
}

const NO_LIST: &str = "its answer is not an ExternalMetricValueList in JSON";

/// Returns reason and message of an error.
fn message_of(code: u16, body: &[u8]) -> (String, String) {
    let status: Option<Status> = serde_json::from_slice(body).ok();
    let status = status.filter(|status| !status.message.is_empty());
    let Some(Status { message, reason }) = status else {
        return ("InternalError".to_owned(), format!("status {code}"));
    };
    let is_word = reason.len() <= 64 && reason.bytes().all(|b| b.is_ascii_alphanumeric());
    let reason = if reason.is_empty() || !is_word { "InternalError".to_owned() } else { reason };
    let clean: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    (reason, cut(clean.trim(), MESSAGE_MAX).to_owned())
}

#[derive(Deserialize)]
struct ResourceList {
    kind: String,
    #[serde(default)]
    resources: Option<Vec<Resource>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    name: String,
}

/// Reads an `APIResourceList`: names of metrics, in order and each once.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn names(status: u16, body: &[u8]) -> Result<Names, Refusal> {
    match parse(status, if status == 200 { b"{}" } else { body }) {
        Answer::Ourselves => return Err(Refusal::Ourselves),
        Answer::Forbidden(message) => return Err(Refusal::Forbidden(message)),
        Answer::NotFound => {
            return Err(Refusal::Other("it does not serve external.metrics.k8s.io/v1beta1".to_owned()));
        }
        Answer::Refused { message, .. } => return Err(Refusal::Other(message)),
        Answer::Unusable(message) if status != 200 => return Err(Refusal::Other(message)),
        Answer::Unusable(_) | Answer::Values(_) => {}
    }
    let list = serde_json::from_slice::<ResourceList>(body).ok().filter(|list| list.kind == "APIResourceList");
    let list = list.ok_or_else(|| Refusal::Other("its discovery is not an APIResourceList in JSON".to_owned()))?;
    let is_name = |name: &String| {
        // What is listed by those that list no metric, as hpalite and KEDA.
        let is_stand_in = name == "externalmetrics";
        !name.is_empty()
            && name.len() <= NAME_MAX
            && !is_stand_in
            && !name.contains(|c: char| c == '/' || c.is_control())
    };
    let named = list.resources.unwrap_or_default().into_iter().map(|resource| resource.name).filter(is_name);
    let names: BTreeSet<String> = named.take(NAMES_MAX).collect();
    Ok(names.into_iter().collect())
}

/// Why an adapter's list of metrics is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be reached, or did not answer in time.
    Away(String),
    /// It does not accept our credentials, or there are none.
    Forbidden(String),
    /// It is this very process.
    Ourselves,
    Other(String),
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(status: u16, body: &Value) -> Answer {
        parse(status, body.to_string().as_bytes())
    }

    #[test]
    fn a_list_becomes_one_that_an_hpa_can_work_with() {
        let item = |value: Value| json!({ "metricName": "depth", "metricLabels": { "q": "a" }, "value": value, "timestamp": "2026-01-02T03:04:05.678Z", "window": 60, "more": 1 });
        let list = json!({
            "kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": { "selfLink": "x" },
            "items": [item("2500m".into()), item(7.into()), item("-3".into()), item("1k".into()), item("1e30".into())],
        });
        let Answer::Values(text) = read(200, &list) else { panic!("{list}") };
        let found: Value = serde_json::from_str(&text).unwrap();
        let values: Vec<&str> =
            found["items"].as_array().unwrap().iter().filter_map(|item| item["value"].as_str()).collect();
        assert_eq!(values, ["2500m", "7", "0", "1k", "9223372036854775"]);
        assert_eq!(
            found["items"][0],
            json!({ "metricName": "depth", "metricLabels": { "q": "a" }, "timestamp": "2026-01-02T03:04:05Z", "window": 60, "value": "2500m" })
        );
        let bare = json!({ "kind": "ExternalMetricValueList", "items": [{ "value": "1", "timestamp": null }] });
        let Answer::Values(text) = read(200, &bare) else { panic!("{bare}") };
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&found["items"][0]["timestamp"], &found["items"][0]["metricLabels"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn what_is_no_list_is_no_value() {
        for (body, words) in [
            (json!({ "kind": "ExternalMetricValueList", "items": [{ "value": "many" }] }), "not a quantity"),
            (json!({ "kind": "ExternalMetricValueList", "items": [{}] }), "not an ExternalMetricValueList"),
            (json!({ "kind": "MetricValueList", "items": [] }), "not an ExternalMetricValueList"),
            (json!([]), "not an ExternalMetricValueList"),
            (
                json!({ "kind": "ExternalMetricValueList", "items": [], "x": "x".repeat(ANSWER_MAX) }),
                "more than 256 KiB",
            ),
        ] {
            let Answer::Unusable(message) = read(200, &body) else { panic!("{body}") };
            assert!(message.contains(words), "{message}");
        }
        for items in [json!([]), json!(null)] {
            assert_eq!(read(200, &json!({ "kind": "ExternalMetricValueList", "items": items })), Answer::NotFound);
        }
        assert!(matches!(parse(302, b""), Answer::Unusable(_)));
    }

    #[test]
    fn of_an_error_code_reason_and_a_part_of_the_message_remain() {
        let status = |reason: &str, message: &str| json!({ "kind": "Status", "reason": reason, "message": message });
        let refused = |code, body: &Value| match read(code, body) {
            Answer::Refused { code, reason, message } => (code, reason, message),
            other => panic!("{other:?}"),
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(refused(500, &status("InternalError", "down\nnow")), (500, text("InternalError"), text("down now")));
        assert_eq!(refused(400, &status("BadRequest", "no")), (400, text("BadRequest"), text("no")));
        assert_eq!(refused(503, &status("a b", "")), (503, text("InternalError"), text("status 503")));
        assert_eq!(refused(503, &status("a b", "x")).1, "InternalError");
        assert_eq!(refused(500, &status("", &"ä".repeat(1_000))).2.len(), MESSAGE_MAX);
        assert_eq!(read(404, &json!({})), Answer::NotFound);
        assert_eq!(read(403, &status("Forbidden", "no")), Answer::Forbidden(text("no")));
        assert_eq!(read(508, &status(LOOP, "you")), Answer::Ourselves);
        assert!(matches!(read(508, &status("", "you")), Answer::Refused { .. }));
    }

    #[test]
    fn names_are_listed_in_order_and_bounded() {
        let list = |names: &[&str]| {
            let resources: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            json!({ "kind": "APIResourceList", "resources": resources }).to_string()
        };
        let found =
            names(200, list(&["b", "a", "b", "externalmetrics", "", "pods/x", "a\nb", &"x".repeat(254)]).as_bytes());
        assert_eq!(found.unwrap().to_vec(), ["a", "b"]);
        let many: Vec<String> = (0..NAMES_MAX * 2).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(names(200, list(&many).as_bytes()).unwrap().len(), NAMES_MAX);
        assert!(matches!(names(200, b"{}"), Err(Refusal::Other(text)) if text.contains("APIResourceList")));
        assert!(
            matches!(names(404, b"404 page not found"), Err(Refusal::Other(text)) if text.contains("does not serve"))
        );
        assert!(matches!(names(403, b"{}"), Err(Refusal::Forbidden(_))));
        assert!(matches!(names(502, b"x"), Err(Refusal::Other(text)) if text == "status 502"));
    }
}
