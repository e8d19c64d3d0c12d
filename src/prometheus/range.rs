//! Parses the answer to a query over a range of time. Pure and safe on any bytes.

use serde_json::Value;

use super::answer::{error_status, instead_of};
use crate::polling::failed;
use crate::polling::transport::BODY_MAX;
use crate::scaling::event::{ErrorClass, PollError};

/// Parses a response into times, in milliseconds since 1970, and finite values; times without one are left out.
///
/// # Errors
/// What is wrong with the answer; `Query` for more than one series.
pub fn parse(server: &str, status: u16, body: &[u8]) -> Result<Vec<(i64, f64)>, PollError> {
    if !(200..=299).contains(&status) {
        return Err(error_status(server, status, body));
    }
    let fault = |class, what: String| Err(failed(class, format!("{server} answered {what}")));
    if body.len() > BODY_MAX {
        return fault(ErrorClass::Query, format!("more than {} KiB", BODY_MAX >> 10));
    }
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let series = match (answer["status"].as_str(), answer["data"]["result"].as_array()) {
        (Some("success"), Some(series)) => series,
        (Some("error"), _) => return Err(error_status(server, status, body)),
        _ => return fault(ErrorClass::Response, instead_of("the Prometheus API's JSON", body)),
    };
    let values = match series.as_slice() {
        [] => return Ok(Vec::new()),
        [one] => one["values"].as_array(),
        more => return fault(ErrorClass::Query, format!("{} series, aggregate them to one", more.len())),
    };
    let Some(values) = values else {
        return fault(ErrorClass::Response, "a series without values".to_owned());
    };
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and such a time is outside of any range")]
    let at = |seconds: f64| (seconds * 1000.0).round() as i64;
    let points = values.iter().filter_map(|pair| {
        let value: f64 = pair[1].as_str()?.parse().ok()?;
        value.is_finite().then_some((at(pair[0].as_f64()?), value))
    });
    Ok(points.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(result: &str) -> Result<Vec<(i64, f64)>, String> {
        let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":{result}}}}}"#);
        parse("http://p", 200, body.as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn one_series_is_read() {
        let values = parsed(r#"[{"metric":{},"values":[[1700000000.5,"3"],[1700000015,"NaN"],[1700000030,"0.5"]]}]"#);
        assert_eq!(values, Ok(vec![(1_700_000_000_500, 3.0), (1_700_000_030_000, 0.5)]));
        assert_eq!(parsed("[]"), Ok(vec![]));
    }

    #[test]
    fn anything_else_says_what_it_is() {
        for (result, words) in [
            (r#"[{"values":[]},{"values":[]}]"#, "2 series"),
            (r#"[{"value":[1,"2"]}]"#, "without values"),
            (r#"{"a":1}"#, "that is not the Prometheus API's JSON"),
        ] {
            assert!(parsed(result).is_err_and(|message| message.contains(words)), "{result}");
        }
        let refused = br#"{"status":"error","errorType":"bad_data","error":"exceeded maximum resolution"}"#;
        for status in [200, 400] {
            let message = parse("http://p", status, refused).map_err(|error| error.message);
            assert!(message.is_err_and(|message| message.contains("exceeded maximum resolution")));
        }
        assert!(parse("http://p", 502, b"<html>").is_err());
        for body in [&b""[..], b"null", b"[1]", b"{\"status\":5}", &[0xff; 9]] {
            assert!(parse("http://p", 200, body).is_err());
        }
    }
}
