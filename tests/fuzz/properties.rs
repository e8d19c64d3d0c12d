//! Properties that hold for any bytes. Each function panics if they do not.

use std::collections::BTreeMap;
use std::fmt::Write;

use hpalite::check::{self, Check};
use hpalite::formats::exposition::Selector as SampleSelector;
use hpalite::formats::path::Path;
use hpalite::formats::url::Url;
use hpalite::formats::xml;
use hpalite::http::front_proxy::FrontProxyTrust;
use hpalite::http::gate::head::{self, Parsed};
use hpalite::http::gate::limits::{BODY_MAX, HEAD_MAX, HEADERS_MAX};
use hpalite::http::reviews::{AccessVerdict, TokenVerdict, read_access_review, read_token_review};
use hpalite::http::{der, tls, uri};
use hpalite::kube::config::ClusterConfig;
use hpalite::kube::error::Status;
use hpalite::kube::watch::{HasMeta, Line, Lines, ObjectRef, decode_line};
use hpalite::metrics_api::answer;
use hpalite::prometheus;
use hpalite::scaling::event::{Answer, WatchEvent};
use hpalite::scaling::formula::{Error, Formula};
use hpalite::scaling::model::{ApiGroup, AuthenticationKind, BodyFormat, Source, UnixMillis};
use hpalite::wire;
use hpalite::wire::labels::{Selector, Test};

/// An accepted head is within the limits, contains nothing that could be read as a second one, means the same when
/// written again, and does not depend on how it is split.
pub(crate) fn head(bytes: &[u8]) {
    let whole = head::parse(bytes, 0);
    let mut checked = 0;
    let mut piecemeal = None;
    for end in 1..=bytes.len().min(HEAD_MAX + 1) {
        match head::parse(&bytes[..end], checked) {
            Ok(Parsed::Incomplete) => checked = head::checked(&bytes[..end]),
            other => {
                piecemeal = Some(other);
                break;
            }
        }
    }
    match (&whole, piecemeal) {
        (Ok(Parsed::Incomplete), None) => {}
        (whole, Some(piecemeal)) => assert_eq!(*whole, piecemeal),
        (whole, None) => assert!(bytes.is_empty(), "{whole:?}"),
    }
    let Ok(Parsed::Complete(head)) = whole else {
        return;
    };
    assert!(head.head_len <= HEAD_MAX && head.body_len <= BODY_MAX);
    assert!(head.headers.len() <= HEADERS_MAX);
    assert!(head.path.starts_with('/') && !head.path.contains(['?', '#', ' ']));
    let mut again = format!("{} {}", head.method, head.path);
    if let Some(query) = head.query {
        write!(again, "?{query}").unwrap();
    }
    again += " HTTP/1.1\r\n";
    for (name, value) in &head.headers {
        assert!(!value.contains(['\r', '\n', '\0']));
        assert!(value.is_ascii() || head::is_remote(name));
        write!(again, "{name}: {value}\r\n").unwrap();
    }
    if !head.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        again += "Host: x\r\n";
    }
    write!(again, "Content-Length: {}\r\n\r\n", head.body_len).unwrap();
    match head::parse(again.as_bytes(), 0) {
        Ok(Parsed::Complete(second)) => {
            assert_eq!((second.method, second.path, second.query), (head.method, head.path, head.query));
            assert_eq!(second.headers[..head.headers.len()], head.headers[..]);
            assert_eq!(second.body_len, head.body_len);
        }
        // The added lines may exceed the limit.
        Err(head::Refusal::TooManyHeaders | head::Refusal::HeadTooLarge) => {}
        other => panic!("{other:?}"),
    }
}

/// Names in certificates are text without NUL.
pub(crate) fn certificate(bytes: &[u8]) {
    if let Ok(subject) = der::subject(bytes) {
        assert!(!subject.common_name.contains('\0'));
        assert!(subject.organisations.iter().all(|name| !name.contains('\0')));
    }
    let _ = der::validity(bytes);
}

/// A valid selector can be written and parsed again with the same result; an invalid one has a short explanation.
pub(crate) fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let selector = match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => {
            assert!(error.to_string().len() < 500);
            return;
        }
    };
    let written: Vec<String> = selector
        .requirements
        .iter()
        .map(|requirement| {
            let key = &requirement.key;
            match &requirement.test {
                Test::Exists => key.clone(),
                Test::Absent => format!("!{key}"),
                Test::In(values) if values.len() == 1 => format!("{key}={}", values[0]),
                Test::NotIn(values) if values.len() == 1 => format!("{key}!={}", values[0]),
                // Only in front can every list have an empty value.
                Test::In(values) => format!("{key} in ({})", empty_first(values)),
                Test::NotIn(values) => format!("{key} notin ({})", empty_first(values)),
                Test::GreaterThan(limit) => format!("{key}>{limit}"),
                Test::LessThan(limit) => format!("{key}<{limit}"),
            }
        })
        .collect();
    let again = Selector::parse(&written.join(",")).unwrap();
    assert_eq!(again.requirements.len(), selector.requirements.len());
    for label in ["", "a", "b", "5"] {
        assert_eq!(again.matches(|_| Some(label)), selector.matches(|_| Some(label)));
    }
    assert_eq!(again.matches(|_| None), selector.matches(|_| None));
}

fn empty_first(values: &[String]) -> String {
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.sort_unstable();
    values.join(",")
}

/// A formula is refused with a short explanation and a position in it, or evaluates within bounds to a finite number,
/// to nil if allowed, or to an error; in parentheses the result is the same.
pub(crate) fn formula(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let names = ["a", "b", "web_rps"].map(str::to_owned);
    let is_explained = |error: &Error| {
        let length = u32::try_from(text.chars().count()).unwrap();
        assert!((1..=length + 1).contains(&error.column), "{error}");
        assert!(error.to_string().len() < 500 && !error.message.contains('\n'), "{error}");
    };
    let formula = match Formula::compile(text, &names) {
        Ok(formula) => formula,
        Err(error) => return is_explained(&error),
    };
    let enclosed = Formula::compile(&format!("(\n{text}\n)"), &names);
    for values in [[Some(3.0), Some(2.5), None], [Some(0.0), Some(1e15), Some(0.001)], [None; 3]] {
        let result = formula.evaluate(&values);
        match &result {
            Ok(Some(number)) => assert!(number.is_finite()),
            Ok(None) => assert!(text.contains("??")),
            Err(error) => is_explained(error),
        }
        assert!(formula.with_numbers(&values).len() < text.len() * 20 + 500);
        match &enclosed {
            Ok(enclosed) => assert_eq!(enclosed.evaluate(&values).ok(), result.ok()),
            // The parentheses may exceed the depth, and a final semicolon is not allowed in them.
            Err(error) => {
                assert!(error.message.contains("too") || error.message.contains("longer") || text.contains(';'))
            }
        }
    }
}

/// Any text survives encoding and decoding; decoding never yields NUL.
pub(crate) fn uri(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for decoded in [uri::decode(text), uri::decode_query_part(text)].into_iter().flatten() {
        assert!(!decoded.contains('\0'));
    }
    if let Ok(segments) = uri::segments(text) {
        assert_eq!(segments.len(), text.strip_prefix('/').unwrap_or(text).split('/').count());
    }
    let _ = uri::query_pairs(text);
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(uri::decode(&encoded).ok(), (!text.contains('\0')).then(|| text.to_owned()));
}

/// Lines `key=value` become the ConfigMap.
pub(crate) fn config_map(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let data: BTreeMap<String, String> = text
        .split('\u{1}')
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if let Ok(Some(trust)) = FrontProxyTrust::from_config_map(&data, &tls::provider()) {
        assert!(trust.user(&[]).is_err());
        let _ = trust.user(&[("X-Remote-User", "u"), ("X-Remote-Extra-%zz", "v")]);
    }
}

/// Any answer of a metric server becomes a finite number, a known kind of missing value, or a short error.
pub(crate) fn prometheus_answer(bytes: &[u8]) {
    for status in [200, 400, 503] {
        match prometheus::answer::parse("http://prometheus:9090", status, bytes, bytes.len().is_multiple_of(2)) {
            Answer::Value(value) => assert!(value.is_finite() && status == 200),
            Answer::Missing(_) => assert_eq!(status, 200),
            Answer::Failed(error) => {
                assert!(!error.message.is_empty() && error.message.len() <= 2_000, "{}", error.message.len());
                assert!(!error.message.contains(|c: char| c.is_control()), "{:?}", error.message);
            }
        }
    }
}

/// Errors of any form can be read, and no review grants access without saying so.
pub(crate) fn api_answer(bytes: &[u8]) {
    let status = Status::parse(500, None, bytes);
    assert_eq!(status.code, 500);
    assert!(Status::parse_event(bytes).code != 0);
    let contains_true = bytes.windows(4).any(|word| word == b"true");
    if matches!(read_access_review(bytes), Ok(AccessVerdict::Allowed)) {
        assert!(contains_true);
    }
    if let Ok(TokenVerdict::Authenticated(user)) = read_token_review(bytes) {
        assert!(contains_true && !user.name.is_empty());
    }
}

/// For any answer and any location, the result is a finite number or a short explanation; the first line of the bytes
/// is the location. Invalid paths and selectors are refused before.
pub(crate) fn metrics_api(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let location = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default();
    for error in [Path::parse(&location).err(), SampleSelector::parse(&location).err()].into_iter().flatten() {
        assert!(!error.is_empty());
    }
    for format in [BodyFormat::Json, BodyFormat::Prometheus, BodyFormat::Xml, BodyFormat::Yaml] {
        for status in [200, 500] {
            match answer::parse("http://api/stats", status, body, format, &location) {
                Ok(number) => assert!(number.is_finite() && status == 200),
                // It may contain the location twice, with control characters written as `\u{12}`.
                Err(error) => assert!(error.message.len() < 1_000 + 20 * location.len(), "{}", error.message),
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(Some(found)) = xml::find(text, &location)
    {
        // Contains nothing that was not in the text.
        assert!(found.to_string().len() <= text.len() * 8 + 16);
    }
    if let Ok(url) = Url::parse(&location) {
        assert!(location.to_ascii_lowercase().contains(&url.host.to_ascii_lowercase()));
        let again = format!("{}{}", url.server(), url.path);
        assert_eq!(Url::parse(&again).map(|again| (again.host, again.path)), Ok((url.host, url.path)));
    }
}

/// Any JSON of the API server becomes an object or an explanation, whatever kind it is taken for. What is wrong in a
/// definition names its field, and a definition that is right can be used.
pub(crate) fn object(bytes: &[u8]) {
    for group in ApiGroup::ALL {
        if let Ok(object) = wire::scaled_object::from_slice(group, bytes, &wire::Servers::default()) {
            match &object.definition {
                Err(invalid) => {
                    assert!(!invalid.problems.is_empty());
                    for problem in &invalid.problems {
                        assert!(!problem.field.is_empty() && !problem.message.is_empty(), "{problem:?}");
                    }
                }
                Ok(definition) => {
                    assert!(definition.min() <= definition.max_replicas);
                    for trigger in &definition.triggers {
                        assert!(trigger.threshold.is_finite() && trigger.activation_threshold.is_finite());
                        if let Source::Cron(schedule) = &trigger.source {
                            assert!(schedule.value(UnixMillis(1_767_225_600_000)).is_finite());
                        }
                    }
                }
            }
        }
        let _ = wire::authentication::from_slice(group, AuthenticationKind::TriggerAuthentication, bytes);
    }
    let _ = wire::hpa::from_slice(bytes);
    let _ = wire::namespace::from_slice(bytes);
    let _ = wire::workload::from_slice(bytes);
    let _ = wire::workload::scale_from_slice(bytes);
}

/// A quantity means the same in the API server's form, and times and durations survive being written.
pub(crate) fn scalar(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let milli = wire::quantity::parse_milli(text);
    let canonical = wire::quantity::canonical(text);
    if let (Some(milli), Some(canonical)) = (milli, &canonical) {
        assert_eq!(wire::quantity::parse_milli(canonical), Some(milli), "{text} {canonical}");
        assert_eq!(wire::quantity::canonical(canonical).as_ref(), Some(canonical), "{text}");
    }
    if let Some(at) = wire::time::parse_rfc3339(text) {
        let again = wire::time::parse_rfc3339(&wire::time::format_seconds(at));
        assert!(again.is_none_or(|again| again.0 == at.0.div_euclid(1_000) * 1_000), "{text} {again:?}");
    }
    let _ = wire::time::parse_http_date(text);
    let _ = wire::time::parse_age(text);
    let _ = wire::time::parse_go_duration(text);
}

/// A kubeconfig is usable, or each of its problems is explained.
pub(crate) fn kubeconfig(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("hpalite-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    if let Err(error) = ClusterConfig::from_kubeconfig(&path) {
        assert!(!error.problems.is_empty());
        for problem in &error.problems {
            assert!(!problem.is_empty());
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[derive(serde::Deserialize)]
struct Anything {
    metadata: ObjectRef,
}

impl HasMeta for Anything {
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// The lines of a watch do not depend on how they were read; the first byte says how. Each is an event or an
/// explanation, and who was deleted has the name that is in the line.
pub(crate) fn watch_lines(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let read = |piece: usize| {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            lines.push(piece);
            while let Some(line) = lines.next_line().expect("an input is shorter than the longest line") {
                found.push(line.to_vec());
            }
        }
        found
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(usize::from(*first).max(1)));
    for line in whole {
        assert!(!line.contains(&b'\n') && !line.trim_ascii().is_empty());
        match decode_line::<Anything>(&line) {
            Ok(Line { event: Some(WatchEvent::Deleted { name, .. }), .. })
                if name.is_ascii() && !line.contains(&b'\\') =>
            {
                assert!(line.windows(name.len().max(1)).any(|part| part == name.as_bytes()) || name.is_empty());
            }
            Ok(Line { event: Some(WatchEvent::Unreadable(object)), .. }) => assert!(!object.error.is_empty()),
            Ok(_) => {}
            Err(error) => assert!(!format!("{error:?}").is_empty()),
        }
    }
}

/// Manifests are read, or refused with a line that exists; what is read can be checked, and every finding says what is
/// wrong.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = check::objects(text) {
        assert!(!error.is_empty());
    }
    let mut check = Check::default();
    check.file("input.yaml", text);
    let lines = text.lines().count() as u64;
    for finding in check.finish().findings {
        assert!(!finding.message.is_empty());
        assert!(
            finding.line.is_none_or(|line| (1..=lines + 1).contains(&line)),
            "{} of {lines}",
            finding.line.unwrap()
        );
    }
}
