//! Parses all series of an instant vector, and lists of names. Pure and safe on any bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{error_status, instead_of, partial};
use super::wire::{Body, Flag, JsonObject, Warnings};
use crate::polling::failed;
use crate::polling::transport::BODY_MAX;
use crate::scaling::event::{ErrorClass, PollError};

/// One series of an instant vector; without labels for a scalar. The value may be no number, or infinite.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(serde_json::Value, String)>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    status: String,
    data: Option<Vec<String>>,
    #[serde(default, rename = "isPartial")]
    is_partial: Flag,
    #[serde(default)]
    warnings: Warnings,
}

/// Parses the answer to an instant query.
///
/// # Errors
/// What is wrong with the answer; an answer of a part of the data is an error too.
pub fn parse(server: &str, status: u16, body: &[u8]) -> Result<Vec<Sample>, PollError> {
    check_size(server, status, body)?;
    let fault = |class, what: String| failed(class, format!("{server} answered {what}"));
    let not_json = || fault(ErrorClass::Response, instead_of("the Prometheus API's JSON", body));
    let JsonObject(head) = serde_json::from_slice::<JsonObject<Body>>(body).map_err(|_| not_json())?;
    if head.status.as_deref() == Some("error") {
        return Err(error_status(server, status, body));
    }
    if let Some(error) = partial(server, &head) {
        return Err(error);
    }
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| not_json())?;
    let result = answer.data.result.get();
    let number =
        |text: &str| text.parse::<f64>().map_err(|_| fault(ErrorClass::Response, "a value that is no number".into()));
    match answer.data.result_type.as_str() {
        "vector" => {
            let series: Vec<Series> = serde_json::from_str(result).map_err(|_| not_json())?;
            let sample = |series: Series| {
                let what = "a native histogram: take a number from it, for example with histogram_quantile(...)";
                let (_, value) = series.value.ok_or_else(|| fault(ErrorClass::Query, what.to_owned()))?;
                Ok(Sample { labels: series.metric, value: number(&value)? })
            };
            series.into_iter().map(sample).collect()
        }
        "scalar" => {
            let (_, value): (serde_json::Value, String) = serde_json::from_str(result).map_err(|_| not_json())?;
            Ok(vec![Sample { labels: BTreeMap::new(), value: number(&value)? }])
        }
        known @ ("matrix" | "string") => {
            Err(fault(ErrorClass::Query, format!("a {known}: the query must return an instant vector")))
        }
        // Not shown: it may be the word of any server.
        _ => Err(not_json()),
    }
}

/// Parses an answer that is a list of names, of metrics or labels.
///
/// # Errors
/// What is wrong with the answer; a list of a part of the names is an error too.
pub fn parse_names(server: &str, status: u16, body: &[u8]) -> Result<Vec<String>, PollError> {
    check_size(server, status, body)?;
    let fault = |what: String| failed(ErrorClass::Response, format!("{server} answered {what}"));
    match serde_json::from_slice::<List>(body) {
        Ok(list) if list.status == "error" => Err(error_status(server, status, body)),
        Ok(list) if list.is_partial.0 || list.warnings.of_data.is_some() => {
            Err(fault("a part of the names".to_owned()))
        }
        Ok(list) => Ok(list.data.unwrap_or_default()),
        Err(_) => Err(fault(instead_of("the Prometheus API's JSON", body))),
    }
}

fn check_size(server: &str, status: u16, body: &[u8]) -> Result<(), PollError> {
    if !(200..=299).contains(&status) {
        return Err(error_status(server, status, body));
    }
    if body.len() > BODY_MAX {
        return Err(failed(ErrorClass::Query, format!("{server} answered more than {} KiB", BODY_MAX >> 10)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(data: &str) -> Result<Vec<Sample>, String> {
        let body = format!(r#"{{"status":"success","data":{data}}}"#);
        parse("http://p", 200, body.as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn vectors_and_scalars_are_read() {
        let text = r#"{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1.5,"2"]},{"value":[1,"NaN"]}]}"#;
        let found = samples(text).unwrap();
        assert_eq!((found.len(), found[0].labels["pod"].as_str(), found[0].value), (2, "a", 2.0));
        assert!(found[1].value.is_nan() && found[1].labels.is_empty());
        assert_eq!(samples(r#"{"resultType":"scalar","result":[1,"5"]}"#).unwrap()[0].value, 5.0);
        assert_eq!(samples(r#"{"resultType":"vector","result":[]}"#), Ok(Vec::new()));
    }

    #[test]
    fn anything_else_says_what_it_is() {
        for (data, words) in [
            (r#"{"resultType":"matrix","result":[]}"#, "a matrix"),
            (r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}"#, "native histogram"),
            (r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}"#, "no number"),
            (r#"{"resultType":"vector","result":{}}"#, "not the Prometheus API's JSON"),
            // Regression: what a server calls the type of its result was shown, of any length.
            (r#"{"resultType":"secret\n","result":[]}"#, "not the Prometheus API's JSON"),
        ] {
            let message = samples(data).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
        for body in [&b""[..], b"null", b"[1]", b"{\"status\":5}", &[0xff; 9], b"{\"status\":\"success\"}"] {
            assert!(parse("http://p", 200, body).is_err());
        }
        let partial = br#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}"#;
        assert!(parse("http://p", 200, partial).is_err_and(|error| error.class == ErrorClass::Partial));
        assert!(parse("http://p", 502, b"<html>").is_err());
    }

    #[test]
    fn names_are_listed_whole_or_not() {
        let names = |body: &str| parse_names("http://p", 200, body.as_bytes()).map_err(|error| error.message);
        assert_eq!(names(r#"{"status":"success","data":["a","b"]}"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(r#"{"status":"success","data":null}"#), Ok(Vec::new()));
        for body in [
            r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#,
            r#"{"status":"success","data":["a"],"isPartial":true}"#,
            r#"{"status":"success","data":{}}"#,
            r#"{"status":"error","error":"bad selector"}"#,
        ] {
            assert!(names(body).is_err(), "{body}");
        }
        assert!(parse_names("http://p", 200, &vec![b' '; BODY_MAX + 1]).is_err());
    }
}
