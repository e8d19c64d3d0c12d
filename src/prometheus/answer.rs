//! Parses status and body of an instant query into an [`Answer`].
//!
//! Owns the parsing of Prometheus' JSON and the texts of its errors. Pure and safe on any bytes. The same fault gives
//! the same text, since texts end up in conditions and Events: no times, no ids, no ephemeral ports.
//!
//! The author of a ScaledObject chooses the server and reads these texts. So only the error text of a genuine
//! Prometheus answer is quoted: any other body may be a page that the author has no access to.

use super::wire::{Body, Cell, Element, JsonObject, Series, Value};
use crate::encode::cut;
use crate::polling::failed;
use crate::polling::transport::BODY_MAX;
use crate::scaling::event::{Answer, ErrorClass, Missing, PollError};

/// Upper bound on the bytes of a server's own error text.
const TEXT_MAX: usize = 200;

/// Parses a response. `server` is named in errors; `body` is decompressed and may end after [`BODY_MAX`] + 1 bytes.
/// With `accepts_partial`, answers that the server reports as incomplete are accepted.
#[must_use]
pub fn parse(server: &str, status: u16, body: &[u8], accepts_partial: bool) -> Answer {
    if !(200..=299).contains(&status) {
        return Answer::Failed(error_status(server, status, body));
    }
    if body.len() > BODY_MAX {
        let message = format!(
            "{server} answered more than {} KiB: the query returns far too many series, aggregate it to one \
             (for example with sum(...))",
            BODY_MAX >> 10
        );
        return Answer::Failed(failed(ErrorClass::Query, message));
    }
    match serde_json::from_slice::<Option<JsonObject<Body>>>(body) {
        Ok(Some(JsonObject(body))) => match partial(server, &body).filter(|_| !accepts_partial) {
            Some(mut error) => {
                error.message.push_str(" (onPartial: \"accept\" takes such answers)");
                Answer::Failed(error)
            }
            None => result(server, body).unwrap_or_else(Answer::Failed),
        },
        Ok(None) => Answer::Missing(Missing::Empty),
        Err(_) => {
            let message = format!("{server} answered {}", instead_of("the Prometheus API's JSON", body));
            Answer::Failed(failed(ErrorClass::Response, message))
        }
    }
}

/// Returns an error if the server itself reports missing data. A sum over a part of the series is too low, and an empty
/// result means nothing.
pub(super) fn partial(server: &str, body: &Body) -> Option<PollError> {
    if body.status.as_deref() == Some("error") {
        return None;
    }
    let why = match &body.warnings.of_data {
        Some(warning) => first_line(warning).unwrap_or_else(|| "it says no more".to_owned()),
        None if body.is_partial.0 => "isPartial, some of its storage did not answer".to_owned(),
        None => return None,
    };
    let message = format!("{server} answered with a part of the data: {why}");
    Some(failed(ErrorClass::Partial, message))
}

fn result(server: &str, body: Body) -> Result<Answer, PollError> {
    if body.status.as_deref() == Some("error") {
        return Err(failed(ErrorClass::Status, format!("{server} answered an error: {}", error_text(&body))));
    }
    let query = |what: &str| failed(ErrorClass::Query, format!("prometheus query returned {what}"));
    let data = body.data.map(|JsonObject(data)| data).unwrap_or_default();
    match data.result_type.as_deref() {
        Some("matrix") => {
            return Err(query(
                "a range vector (matrix): wrap it in a function such as rate(...) or avg_over_time(...)",
            ));
        }
        Some("string") => return Err(query("a string: it must return one number")),
        _ => {}
    }
    let series = data.result.unwrap_or_default();
    let value = match (series.first, series.count) {
        (_, 0) => return Ok(Answer::Missing(Missing::Empty)),
        // For a scalar, the result is the pair itself.
        (Some(Element::Cell(time)), 2) if data.result_type.as_deref() == Some("scalar") => {
            Value { cells: vec![time, series.second.map_or(Cell::Other, Element::into_cell)], count: 2 }
        }
        (_, count @ 2..) => {
            return Err(query(&format!("{count} series, aggregate it to one (for example with sum(...))")));
        }
        (Some(Element::Series(series)), _) if series.value.count > 0 => series.value,
        (Some(Element::Series(Series { histogram: true, .. })), _) => {
            return Err(query("a native histogram: take a number from it, for example with histogram_quantile(...)"));
        }
        (Some(Element::Series(Series { values: true, .. })), _) => {
            return Err(query(
                "a range vector (matrix): wrap it in a function such as rate(...) or avg_over_time(...)",
            ));
        }
        (Some(Element::Series(_) | Element::Cell(Cell::Null)) | None, _) => Value::default(),
        (Some(Element::Cell(_)), _) => return Err(unexpected(server, "its result is not a list of series")),
    };
    match value.count {
        0 => Ok(Answer::Missing(Missing::Empty)),
        1 => Err(unexpected(server, "a series has a time and no value")),
        _ => number(server, value.cells.get(1)),
    }
}

pub(super) fn number(server: &str, cell: Option<&Cell>) -> Result<Answer, PollError> {
    match cell {
        Some(Cell::Null) => Ok(Answer::Missing(Missing::Null)),
        Some(Cell::Text(text)) => match text.parse::<f64>() {
            Ok(number) if number.is_nan() => Ok(Answer::Missing(Missing::NaN)),
            // Rust parses 1e999 as infinity, while Prometheus writes +Inf, so a digit means that it is out of range.
            Ok(number) if number.is_infinite() && !text.contains(|c: char| c.is_ascii_digit()) => {
                Ok(Answer::Missing(Missing::Infinite { positive: number > 0.0 }))
            }
            Ok(number) if number.is_finite() => Ok(Answer::Value(number)),
            Ok(_) => Err(unexpected(server, "a value is out of range")),
            Err(_) => Err(unexpected(server, "a value is not a number")),
        },
        Some(Cell::Number) => Err(unexpected(server, "a value is a bare JSON number instead of text in quotes")),
        Some(Cell::True | Cell::Other) | None => Err(unexpected(server, "a value is not text")),
    }
}

fn unexpected(server: &str, what: &str) -> PollError {
    failed(ErrorClass::Response, format!("{server} answered JSON that is not the Prometheus API's: {what}"))
}

/// Returns the error for a status, with Prometheus' own error text if the body is an answer of its API.
pub(super) fn error_status(server: &str, status: u16, body: &[u8]) -> PollError {
    match serde_json::from_slice::<JsonObject<Body>>(body) {
        Ok(JsonObject(body)) if body.status.as_deref() == Some("error") && body.error.is_some() => {
            let text = error_text(&body);
            failed(ErrorClass::Status, format!("{server} answered status {status}: {text}"))
        }
        _ => bare_status(server, status, body),
    }
}

/// Returns the error for a status, without any of the body.
pub(crate) fn bare_status(server: &str, status: u16, body: &[u8]) -> PollError {
    let text = match (reason_phrase(status), is_html(body)) {
        ("", false) => String::new(),
        ("", true) => ": an HTML page".to_owned(),
        (reason, false) => format!(": {reason}"),
        (reason, true) => format!(": {reason}, an HTML page"),
    };
    failed(ErrorClass::Status, format!("{server} answered status {status}{text}"))
}

fn reason_phrase(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// Describes a body that should be `wanted`, without any of it.
pub(crate) fn instead_of(wanted: &str, body: &[u8]) -> String {
    if body.is_empty() {
        format!("an empty body instead of {wanted}")
    } else if is_html(body) {
        format!("an HTML page instead of {wanted}")
    } else {
        format!("something that is not {wanted}")
    }
}

/// Such a body is mostly a proxy's login or error page.
fn is_html(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&body[..body.len().min(4_096)]).to_ascii_lowercase();
    text.contains("<html") || text.contains("<!doctype html")
}

/// Returns the first non-empty line without unprintable characters and ephemeral ports, cut to the limit.
fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let line: String = line.chars().map(|c| if does_print(c) { c } else { ' ' }).collect();
    let line = mask_ports(&line);
    let short = cut(&line, TEXT_MAX);
    Some(if short.len() < line.len() { format!("{short}…") } else { line })
}

/// Also excludes invisible and bidirectional characters, which can change how the following text is displayed.
fn does_print(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Masks ports above 32767 after an address, `10.0.0.1:41234` as `10.0.0.1:*`: they are ephemeral and differ each time.
/// Servers that forward errors of their own connections include them.
fn mask_ports(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(':') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let address = before[..at].chars().next_back().is_some_and(|c| c.is_ascii_digit() || c == ']');
        let ephemeral = after[..digits].parse::<u32>().is_ok_and(|port| (32_768..=65_535).contains(&port));
        out.push_str(if address && ephemeral { "*" } else { &after[..digits] });
        rest = &after[digits..];
    }
    out.push_str(rest);
    out
}

/// Returns for example `bad_data: invalid parameter "query": …`.
fn error_text(body: &Body) -> String {
    let error = body.error.as_deref().and_then(first_line);
    let kind = body.error_type.as_deref().and_then(first_line);
    match (kind, error) {
        (Some(kind), Some(error)) => format!("{kind}: {error}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => "no error text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://p:9090";

    fn ok(body: &str) -> Answer {
        parse(SERVER, 200, body.as_bytes(), false)
    }

    fn error(status: u16, body: &str) -> PollError {
        match parse(SERVER, status, body.as_bytes(), false) {
            Answer::Failed(error) => error,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn vector(value: &str) -> String {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{"a":"b"}},"value":{value}}}]}}}}"#
        )
    }

    #[test]
    fn numbers() {
        for (text, number) in
            [("1", 1.0), ("-3.5", -3.5), ("1e3", 1000.0), ("0", 0.0), ("1.7976931348623157e308", f64::MAX)]
        {
            assert_eq!(ok(&vector(&format!(r#"[1700000000.1,"{text}"]"#))), Answer::Value(number));
        }
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1700000000,"42"]}}"#;
        assert_eq!(ok(scalar), Answer::Value(42.0));
        // Unknown fields are ignored.
        let unknown = r#"{"infos":["i"],"stats":{"a":[1]},"data":{"result":[{"value":[1,"2"],"metric":{}}]}}"#;
        assert_eq!(ok(unknown), Answer::Value(2.0));
        // Regression: found by fuzzing. A series with a value was refused for what stands beside it, and not in a list.
        for beside in ["values", "histogram"] {
            let both = format!(r#"{{"data":{{"result":[{{"value":[1,"2"],"{beside}":[]}}]}}}}"#);
            assert_eq!(ok(&both), Answer::Value(2.0));
        }
    }

    #[test]
    fn partial_data_is_an_error_unless_accepted() {
        let with = |fields: &str, result: &str| {
            format!(r#"{{"status":"success",{fields},"data":{{"resultType":"vector","result":[{result}]}}}}"#)
        };
        let series = r#"{"metric":{},"value":[1,"2"]}"#;
        for (fields, words) in [
            (r#""isPartial":true"#, "isPartial"),
            (r#""warnings":["No StoreAPIs matched for this query"]"#, "No StoreAPIs matched for this query"),
            (
                r#""warnings":["PromQL warning: x","receive series from Addr: s:10901: rpc error\nmore"]"#,
                "receive series from Addr: s:10901: rpc error (",
            ),
            (r#""warnings":["remote_read: 502"],"isPartial":false"#, "remote_read: 502"),
        ] {
            for result in [series, ""] {
                let error = error(200, &with(fields, result));
                assert_eq!(error.class, ErrorClass::Partial, "{fields}");
                assert!(error.message.contains(words) && error.message.contains("onPartial"), "{}", error.message);
            }
            assert_eq!(parse(SERVER, 200, with(fields, series).as_bytes(), true), Answer::Value(2.0), "{fields}");
        }
        // PromQL's annotations come with complete answers, and other values are not warnings.
        for fields in [
            r#""warnings":["PromQL warning: encountered a mix of histograms and floats (1:2)"]"#,
            r#""warnings":["PromQL info: metric might not be a counter, name does not end in _total: \"load\" (1:6)"]"#,
            r#""warnings":["PromQL info: a","3 more info annotations omitted"],"infos":["7 more"]"#,
            r#""warnings":[]"#,
            r#""warnings":null,"isPartial":null"#,
            r#""warnings":[1,null,{"a":"b"}],"isPartial":"true""#,
            r#""isPartial":false"#,
            r#""warnings":{"a":1},"isPartial":[true]"#,
            r#""warnings":"","isPartial":1"#,
        ] {
            assert_eq!(ok(&with(fields, series)), Answer::Value(2.0), "{fields}");
        }
        let own = r#"{"status":"error","warnings":["w"],"errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(error(400, own).class, ErrorClass::Status);
        assert_eq!(error(200, own).class, ErrorClass::Status);
    }

    #[test]
    fn missing() {
        let rows = [
            (vector(r#"[1,null]"#), Missing::Null),
            (vector(r#"[1,"NaN"]"#), Missing::NaN),
            (vector(r#"[1,"+Inf"]"#), Missing::Infinite { positive: true }),
            (vector(r#"[1,"-Inf"]"#), Missing::Infinite { positive: false }),
            (vector("[]"), Missing::Empty),
            (vector("null"), Missing::Empty),
            (r#"{"data":{"resultType":"vector","result":[]}}"#.into(), Missing::Empty),
            (r#"{"data":{"resultType":"vector","result":null}}"#.into(), Missing::Empty),
            (r#"{"data":{"result":[null]}}"#.into(), Missing::Empty),
            (r#"{"data":{"result":[{"metric":{}}]}}"#.into(), Missing::Empty),
            (r#"{"data":null}"#.into(), Missing::Empty),
            (r#"{"data":{}}"#.into(), Missing::Empty),
            ("{}".into(), Missing::Empty),
            (" null\n".into(), Missing::Empty),
        ];
        for (body, missing) in rows {
            assert_eq!(ok(&body), Answer::Missing(missing), "{body}");
        }
    }

    #[test]
    fn queries_that_must_change() {
        let many =
            r#"{"data":{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]},{"value":[1,"3"]}]}}"#;
        assert_eq!(
            error(200, many).message,
            "prometheus query returned 3 series, aggregate it to one (for example with sum(...))"
        );
        let rows = [
            many.to_owned(),
            r#"{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}]}}"#.into(),
            r#"{"data":{"resultType":"matrix","result":[]}}"#.into(),
            r#"{"data":{"result":[{"metric":{},"values":[[1,"1"]]}]}}"#.into(),
            r#"{"data":{"resultType":"string","result":[1,"text"]}}"#.into(),
            r#"{"data":{"result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}}"#.into(),
        ];
        for body in rows {
            let error = error(200, &body);
            assert_eq!(error.class, ErrorClass::Query, "{body}");
            assert!(error.message.starts_with("prometheus query returned "), "{}", error.message);
        }
        let huge = format!(r#"{{"data":{{"result":[{}]}}}}"#, vec!["1"; BODY_MAX / 2].join(","));
        assert_eq!(error(200, &huge).class, ErrorClass::Query);
    }

    #[test]
    fn answers_that_are_not_the_api() {
        let rows = [
            vector("[1,2]"),
            vector("[1,2.5]"),
            vector("[1,-2]"),
            vector("[1]"),
            vector(r#"[1,"abc"]"#),
            vector(r#"[1,""]"#),
            vector(r#"[1,"1e999"]"#),
            vector("[1,true]"),
            vector("[1,[]]"),
            vector(r#"[1,{}]"#),
            vector(r#"{"a":1}"#),
            r#"{"data":{"resultType":"scalar","result":[1]}}"#.into(),
            r#"{"data":{"resultType":"scalar","result":[1,2]}}"#.into(),
            r#"{"data":{"result":{}}}"#.into(),
            r#"{"data":[]}"#.into(),
            "[]".into(),
            "[[[".into(),
            String::new(),
            "ok".into(),
            "1".into(),
            "[".repeat(10_000),
            format!("{}null", r#"{"data":"#.repeat(10_000)),
        ];
        for body in rows {
            assert_eq!(error(200, &body).class, ErrorClass::Response, "{}", cut(&body, 80));
        }
    }

    #[test]
    fn errors_of_the_server_are_quoted() {
        let own = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error\nmore"}"#;
        let text = r#"bad_data: invalid parameter "query": 1:5: parse error"#;
        assert_eq!(error(200, own).message, format!("http://p:9090 answered an error: {text}"));
        assert_eq!(error(400, own).message, format!("http://p:9090 answered status 400: {text}"));
        let rows = [
            (503, "", "503: Service Unavailable"),
            (401, "Unauthorized\n", "401: Unauthorized"),
            (
                502,
                "<html><head><title>502 Bad Gateway</title></head><body>x</body></html>",
                "502: Bad Gateway, an HTML page",
            ),
            (404, "<!DOCTYPE html><p>x", "404: Not Found, an HTML page"),
            (599, "", "599"),
            (599, "<html>", "599: an HTML page"),
            (302, "", "302: Found"),
        ];
        for (status, body, expected) in rows {
            let error = error(status, body);
            assert_eq!(error.class, ErrorClass::Status);
            assert_eq!(error.message, format!("http://p:9090 answered status {expected}"));
        }
        let of = |text: &str| {
            let body = serde_json::json!({"status": "error", "errorType": "internal", "error": text});
            error(500, &body.to_string()).message
        };
        for (text, expected) in [
            ("\n  first\u{7}line \nsecond", "first line"),
            ("a\u{202e}b\u{200b}c", "a b c"),
            ("read tcp 10.0.0.1:41234->10.0.0.2:9090: reset", "read tcp 10.0.0.1:*->10.0.0.2:9090: reset"),
            ("from [::1]:60000 at 12:45", "from [::1]:* at 12:45"),
        ] {
            assert_eq!(of(text), format!("http://p:9090 answered status 500: internal: {expected}"));
        }
        let long = of(&"ü".repeat(4_000));
        assert!(long.ends_with("ü…") && long.len() < 300, "{long}");
    }

    /// Otherwise a trigger could read pages, piece by piece, that only this process can reach.
    #[test]
    fn nothing_else_is_quoted() {
        for body in [
            "geheim",
            "geheim\n<html>",
            "<html><title>geheim</title>",
            "\"geheim\"",
            r#"{"error":"geheim"}"#,
            r#"{"status":"geheim","error":"geheim"}"#,
            r#"{"status":"success","error":"geheim"}"#,
            r#"{"status":"error","message":"geheim"}"#,
            r#"[{"status":"error","error":"geheim"}]"#,
            r#"{"data":{"resultType":"geheim","result":["geheim"]}}"#,
            r#"{"data":{"result":[{"value":[1,"geheim"]}]}}"#,
        ] {
            for status in [200, 400, 404, 503] {
                let answer = format!("{:?}", parse(SERVER, status, body.as_bytes(), false));
                assert!(!answer.contains("geheim"), "{answer}");
            }
        }
    }

    #[test]
    fn no_bytes_break_it() {
        let valid = vector(r#"[1700000000.1,"4\u0031"]"#);
        assert_eq!(ok(&valid), Answer::Value(41.0));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut bytes = valid.clone().into_bytes();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.truncate(at + 1),
                    _ => bytes[at] = b"[]{}\",:0n"[random.usize(..9)],
                }
            }
            let status = *random.choice(&[200, 400, 0, 65_535]).unwrap_or(&200);
            if let Answer::Value(number) = parse(SERVER, status, &bytes, random.bool()) {
                assert!(number.is_finite());
            }
        }
    }
}
