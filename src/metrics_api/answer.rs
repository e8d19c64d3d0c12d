//! Parses a response body into a number, or into what is wrong with it.
//!
//! Pure and safe on any bytes. The same fault gives the same text, and no text quotes the body: see
//! [`crate::prometheus::answer`].

use serde_json::Value;

use crate::encode::cut;
use crate::formats::exposition::Selector;
use crate::formats::json::{Kind, Raw};
use crate::formats::path::{Found, Path, TooMuch};
use crate::formats::{xml, yaml};
use crate::polling::failed;
use crate::polling::transport::BODY_MAX;
use crate::prometheus::answer::{bare_status, instead_of};
use crate::scaling::event::{ErrorClass, PollError};
use crate::scaling::model::BodyFormat;
use crate::wire::quantity::parse_milli;

/// Upper bound on the bytes of a location that are quoted.
const LOCATION_MAX: usize = 200;

/// Upper bound on the bytes of a text that may be a number.
const NUMBER_MAX: usize = 400;

/// Parses a response. `asked` names server and path in errors; `body` is decompressed and may end after [`BODY_MAX`] +
/// 1 bytes.
///
/// # Errors
/// `Status` if it is not 200, `Response` if the body does not have the format, `Query` if `location` does not lead to a
/// number.
pub fn parse(asked: &str, status: u16, body: &[u8], format: BodyFormat, location: &str) -> Result<f64, PollError> {
    if status != 200 {
        return Err(bare_status(asked, status, body));
    }
    if body.len() > BODY_MAX {
        let message = format!("{asked} answered more than {} KiB", BODY_MAX >> 10);
        return Err(failed(ErrorClass::Response, message));
    }
    let no_format = |name: &str, why: &str| {
        failed(ErrorClass::Response, format!("{asked} answered {}{why}", instead_of(name, body)))
    };
    let place = cut(location, LOCATION_MAX);
    let more = if place.len() < location.len() { "…" } else { "" };
    let astray = |why: &str| failed(ErrorClass::Query, format!("valueLocation {place:?}{more} of {asked}: {why}"));
    let text = || std::str::from_utf8(body).map_err(|_| no_format("text", ""));
    let number = match format {
        BodyFormat::Json => {
            let path = Path::parse(location).map_err(|why| astray(&format!("it {why}")))?;
            let value = Raw::parse(body).ok_or_else(|| no_format("JSON", ""))?;
            match path.find(value) {
                Ok(Found::Value(value)) => json_number(value),
                // A body has far fewer elements than 2^53.
                #[expect(clippy::cast_precision_loss)]
                Ok(Found::Count(count)) => Ok(count as f64),
                Ok(Found::List(_)) => Err("a list is there, not a number".to_owned()),
                Ok(Found::Nothing) => Err("nothing is there".to_owned()),
                Err(TooMuch) => {
                    Err("in an answer of this size it costs too much to follow; make it simpler".to_owned())
                }
            }
        }
        BodyFormat::Yaml => {
            let value = yaml::find(text()?, location).map_err(|fault| match fault {
                yaml::Fault::Format => no_format("YAML", ""),
                yaml::Fault::References => no_format("YAML", " (anchors, aliases and merge keys are not read)"),
            })?;
            value.map_or_else(|| Err("nothing is there".to_owned()), |value| number(&value))
        }
        BodyFormat::Xml => {
            let value = xml::find(text()?, location).map_err(|why| no_format("XML", &format!(" ({why})")))?;
            value.map_or_else(|| Err("nothing is there".to_owned()), |value| number(&value))
        }
        BodyFormat::Prometheus => {
            let selector = Selector::parse(location).map_err(|why| astray(&format!("it {why}")))?;
            selector.find(text()?).map_err(str::to_owned)
        }
    };
    match number {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(number) if number.is_nan() => Err(astray("NaN is there, not a number")),
        Ok(_) => Err(astray("an infinite number is there")),
        Err(why) => Err(astray(&why)),
    }
}

fn json_number(value: Raw<'_>) -> Result<f64, String> {
    number(&match value.kind() {
        Kind::Number(number) => return Ok(number),
        Kind::Text(text) => Value::String(text.into_owned()),
        Kind::Broken => return Err("broken text is there, not a number".to_owned()),
        Kind::Null => Value::Null,
        Kind::Bool(flag) => Value::Bool(flag),
        Kind::List => Value::Array(Vec::new()),
        Kind::Object => Value::Object(serde_json::Map::new()),
    })
}

/// Reads a text that is a number or a quantity, and finite.
pub(super) fn text_number(text: &str) -> Result<f64, String> {
    let number = number(&Value::String(text.to_owned()))?;
    if number.is_finite() { Ok(number) } else { Err("an infinite number is there".to_owned()) }
}

/// Returns a number, also from text that is a number or a quantity.
fn number(value: &Value) -> Result<f64, String> {
    let what = match value {
        Value::Number(number) => return number.as_f64().ok_or_else(|| "a number out of range is there".to_owned()),
        Value::String(text) if text.len() <= NUMBER_MAX => {
            let text = text.trim();
            let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            if let Some(number) = text.parse::<f64>().ok().filter(|_| is_plain) {
                return Ok(number);
            }
            // A metric needs no more than 15 significant digits of a quantity.
            #[expect(clippy::cast_precision_loss)]
            if let Some(milli) = parse_milli(text) {
                return Ok(milli as f64 / 1000.0);
            }
            "text that is no number"
        }
        Value::String(_) => "text that is no number",
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Err(format!("{what} is there, not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "http://api:80/stats";

    fn read(format: BodyFormat, location: &str, body: &str) -> Result<f64, String> {
        parse(ASKED, 200, body.as_bytes(), format, location).map_err(|error| error.message)
    }

    #[test]
    fn numbers() {
        for (format, location, body, number) in [
            (BodyFormat::Json, "components.worker.tasks", r#"{"components":{"worker":{"tasks":12}}}"#, 12.0),
            (BodyFormat::Json, "count", r#"{"count":"1500m"}"#, 1.5),
            (BodyFormat::Json, "count", r#"{"count":"1Ki"}"#, 1024.0),
            (BodyFormat::Json, "count", r#"{"count":"-0.00025"}"#, -0.00025),
            (BodyFormat::Json, "count", r#"{"count":1e3}"#, 1000.0),
            (
                BodyFormat::Json,
                "jobs.#(state==\"waiting\")#|#",
                r#"{"jobs":[{"state":"waiting"},{"state":"done"}]}"#,
                1.0,
            ),
            (BodyFormat::Yaml, "components.0.tasks", "components:\n- tasks: 7.5\n", 7.5),
            (BodyFormat::Yaml, "size", "size: 2Ki\n", 2048.0),
            (BodyFormat::Xml, "stats.tasks", "<stats><tasks> 9 </tasks></stats>", 9.0),
            (BodyFormat::Xml, "stats.-size", "<stats size='2k'/>", 2000.0),
            (BodyFormat::Prometheus, "queue{name=\"a\"}", "queue{name=\"b\"} 1\nqueue{name=\"a\"} 2\n", 2.0),
        ] {
            assert_eq!(read(format, location, body), Ok(number), "{location} {body}");
        }
    }

    #[test]
    fn faults_say_where_and_what() {
        for (format, location, body, expected) in [
            (BodyFormat::Json, "a", "{}", "valueLocation \"a\" of http://api:80/stats: nothing is there"),
            (
                BodyFormat::Json,
                "a",
                r#"{"a":null}"#,
                "valueLocation \"a\" of http://api:80/stats: null is there, not a number",
            ),
            (
                BodyFormat::Json,
                "a",
                r#"{"a":"many"}"#,
                "valueLocation \"a\" of http://api:80/stats: text that is no number is there, not a number",
            ),
            (
                BodyFormat::Json,
                "a",
                r#"{"a":[1]}"#,
                "valueLocation \"a\" of http://api:80/stats: a list is there, not a number",
            ),
            (
                BodyFormat::Json,
                "a.#.b",
                r#"{"a":[{"b":1}]}"#,
                "valueLocation \"a.#.b\" of http://api:80/stats: a list is there, not a number",
            ),
            (BodyFormat::Json, "a", "<p>no", "http://api:80/stats answered something that is not JSON"),
            (BodyFormat::Json, "a", "", "http://api:80/stats answered an empty body instead of JSON"),
            (BodyFormat::Yaml, "a", "a: [", "http://api:80/stats answered something that is not YAML"),
            (
                BodyFormat::Xml,
                "a",
                "{}",
                "http://api:80/stats answered something that is not XML (it is not well-formed)",
            ),
            (BodyFormat::Prometheus, "a", "b 1", "valueLocation \"a\" of http://api:80/stats: it has no such metric"),
            (
                BodyFormat::Prometheus,
                "a",
                "a NaN",
                "valueLocation \"a\" of http://api:80/stats: NaN is there, not a number",
            ),
            (
                BodyFormat::Prometheus,
                "a",
                "a +Inf",
                "valueLocation \"a\" of http://api:80/stats: an infinite number is there",
            ),
        ] {
            assert_eq!(read(format, location, body), Err(expected.to_owned()), "{location} {body}");
        }
        for (status, expected) in [(404, "404: Not Found"), (204, "204: No Content"), (201, "201: Created")] {
            let error = parse(ASKED, status, b"", BodyFormat::Json, "a").unwrap_err();
            assert_eq!(
                (error.class, error.message),
                (ErrorClass::Status, format!("{ASKED} answered status {expected}"))
            );
        }
        let error = parse(ASKED, 200, &vec![b' '; BODY_MAX + 1], BodyFormat::Json, "a").unwrap_err();
        assert_eq!(error.message, "http://api:80/stats answered more than 1024 KiB");
        let error = parse(ASKED, 200, b"\xff", BodyFormat::Xml, "a").unwrap_err();
        assert!(
            error.message.starts_with("http://api:80/stats answered something that is not text"),
            "{}",
            error.message
        );
    }
}
