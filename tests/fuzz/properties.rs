//! Properties that hold for any bytes. Each function panics if they do not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hpalite::check::{self, Check};
use hpalite::formats::exposition::Selector as SampleSelector;
use hpalite::formats::json::Raw;
use hpalite::formats::json_path::JsonPath;
use hpalite::formats::kafka;
use hpalite::formats::path::Path;
use hpalite::formats::pattern::Pattern;
use hpalite::formats::url::Url;
use hpalite::formats::xml;
use hpalite::http::front_proxy::FrontProxyTrust;
use hpalite::http::gate::head::{self, Parsed};
use hpalite::http::gate::limits::{BODY_MAX, HEAD_MAX, HEADERS_MAX};
use hpalite::http::negotiate::{self, Form};
use hpalite::http::reviews::{AccessVerdict, TokenVerdict, read_access_review, read_token_review};
use hpalite::http::{Identity, Peer, Request, der, tls, uri};
use hpalite::kube::config::ClusterConfig;
use hpalite::kube::error::Status;
use hpalite::kube::tunnel::{self, Sent};
use hpalite::kube::watch::{HasMeta, Line, LineError, Lines, ObjectRef, decode_line};
use hpalite::metrics_api::answer;
use hpalite::prometheus;
use hpalite::prometheus::vector::Sample;
use hpalite::queues::received::{self, Asked};
use hpalite::scaling::cron::Expression;
use hpalite::scaling::event::{Answer, Group, Missing, Split, WatchEvent};
use hpalite::scaling::formula::{Error, Formula};
use hpalite::scaling::model::{ApiGroup, AuthenticationKind, BodyFormat, Source, UnixMillis};
use hpalite::wire;
use hpalite::wire::adapter;
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

/// Names in certificates are text without NUL, all of it the certificate's, and what follows a certificate changes nothing of it.
pub(crate) fn certificate(bytes: &[u8]) {
    if let Ok(subject) = der::subject(bytes) {
        assert!(!subject.common_name.contains('\0'));
        assert!(subject.organisations.iter().all(|name| !name.contains('\0')));
        let names = subject.organisations.iter().chain([&subject.common_name]);
        assert!(names.map(String::len).sum::<usize>() <= bytes.len());
        assert_eq!(der::subject(&[bytes, b"x"].concat()), Ok(subject));
    }
    if let Ok(validity) = der::validity(bytes) {
        assert_eq!(der::validity(&[bytes, b"x"].concat()), Ok(validity));
    }
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
        assert!(!decoded.contains('\0') && decoded.len() <= text.len());
    }
    if let Ok(segments) = uri::segments(text) {
        assert_eq!(segments.len(), text.strip_prefix('/').unwrap_or(text).split('/').count());
    }
    if let Ok(pairs) = uri::query_pairs(text) {
        let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let again: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        assert_eq!(uri::query_pairs(&again.join("&")).as_ref(), Ok(&pairs));
    }
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(uri::decode(&encoded).ok(), (!text.contains('\0')).then(|| text.to_owned()));
}

/// Lines `key=value` become the ConfigMap, which is trusted or has a short explanation.
pub(crate) fn config_map(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let data: BTreeMap<String, String> = text
        .split('\u{1}')
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match FrontProxyTrust::from_config_map(&data, &tls::provider()) {
        Ok(Some(trust)) => {
            assert!(trust.user(&[]).is_err());
            let _ = trust.user(&[("X-Remote-User", "u"), ("X-Remote-Extra-%zz", "v")]);
        }
        Ok(None) => assert!(!data.contains_key("requestheader-client-ca-file")),
        Err(error) => is_readable(&error.to_string(), 500),
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
    // Bytes that are no text become characters of three.
    let causes = status.causes.iter().map(|cause| cause.reason.len() + cause.message.len() + cause.field.len());
    let texts = [&status.reason, &status.message, &status.kind, &status.name].map(String::len);
    assert!(texts.into_iter().chain(causes).sum::<usize>() <= 3 * bytes.len() + 100);
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
        is_readable(&error, 500 + 20 * location.len());
    }
    for format in [BodyFormat::Json, BodyFormat::Prometheus, BodyFormat::Xml, BodyFormat::Yaml] {
        for status in [200, 500] {
            match answer::parse("http://api/stats", status, body, format, &location) {
                Ok(number) => assert!(number.is_finite() && status == 200),
                // It may contain the location twice, with control characters written as `\u{12}`.
                Err(error) => is_readable(&error.message, 1_000 + 20 * location.len()),
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
                        assert!(!problem.message.contains(|c: char| c.is_control()), "{:?}", problem.message);
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

/// No answer of a broker makes more of itself than its bytes, and its names can be shown. An answer that is read is whole: none
/// with a byte more or less means the same.
pub(crate) fn kafka(bytes: &[u8]) {
    let shown = |name: &str| assert!(name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic()));
    let cut = &bytes[..bytes.len().saturating_sub(1)];
    let longer = [bytes, &[0]].concat();
    if kafka::read_versions(bytes).is_some() {
        assert!(kafka::read_versions(cut).is_none() && kafka::read_versions(&longer).is_none());
    }
    if kafka::read_authenticate(bytes).is_some() {
        assert_eq!((kafka::read_authenticate(cut), kafka::read_authenticate(&longer)), (None, None));
    }
    if let Some((_, names)) = kafka::read_handshake(bytes) {
        names.iter().for_each(|name| shown(name));
        assert!(names.len() * 2 <= bytes.len());
    }
    if let Some(Ok(address)) = kafka::read_coordinator(bytes) {
        shown(&address.host);
    }
    if let Some(metadata) = kafka::read_metadata(bytes) {
        metadata.brokers.iter().for_each(|(_, address)| shown(&address.host));
        metadata.topics.iter().for_each(|(_, topic)| shown(&topic.name));
        assert!(metadata.topics.iter().map(|(_, topic)| topic.partitions.len()).sum::<usize>() * 18 <= bytes.len());
        assert_eq!((kafka::read_metadata(cut), kafka::read_metadata(&longer)), (None, None));
    }
    if let Some(topics) = kafka::read_list_offsets(bytes) {
        assert!(topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() * 22 <= bytes.len());
        assert_eq!((kafka::read_list_offsets(cut), kafka::read_list_offsets(&longer)), (None, None));
    }
    if let Some(Ok(topics)) = kafka::read_offset_fetch(bytes) {
        assert!(topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() * 16 <= bytes.len());
        assert_eq!((kafka::read_offset_fetch(cut), kafka::read_offset_fetch(&longer)), (None, None));
    }
}

/// A kubeconfig is usable, or each of its problems is explained.
pub(crate) fn kubeconfig(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("hpalite-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    if let Err(error) = ClusterConfig::from_kubeconfig(&path) {
        assert!(!error.problems.is_empty());
        for problem in &error.problems {
            assert!(!problem.is_empty() && problem.len() <= 2_000 + 8 * bytes.len(), "{problem}");
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
/// short explanation, and who was deleted has the name that is in the line.
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
            Ok(Line { event: Some(WatchEvent::Unreadable(object)), .. }) => is_readable(&object.error, 500),
            Ok(_) => {}
            Err(LineError::Malformed(problem)) => is_readable(&problem, 500),
            Err(LineError::Failed(status)) => assert_ne!(status.code, 0),
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
    // YAML breaks a line at each of the two.
    let lines = text.split(['\n', '\r']).count() as u64;
    for finding in check.finish().findings {
        assert!(!finding.message.is_empty());
        // It may quote some of the text, with control characters written as `\u{12}`.
        assert!(finding.message.len() <= 2_000 + 20 * text.len(), "{}", finding.message.len());
        assert!(finding.line.is_none_or(|line| (1..=lines).contains(&line)), "{} of {lines}", finding.line.unwrap());
    }
}

/// An error is short and fits on a line.
fn is_readable(message: &str, most: usize) {
    assert!(!message.is_empty() && message.len() <= most, "{} bytes: {message}", message.len());
    assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
}

/// What a server sends is a finite number, or an explanation that quotes nothing of it but codes, however it arrives; the
/// first byte says of whom it is. What is counted is not negative. By SCRAM, only who knows the password is taken for the server.
pub(crate) fn queues(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let Some(asked) = Asked::ALL.get(usize::from(*first) % (Asked::ALL.len() + 1)) else { return scram(bytes) };
    let whole = received::read(*asked, bytes, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(received::read(*asked, bytes, piece), whole, "{asked:?}");
    }
    match whole {
        Ok(number) => {
            assert!(number.is_finite());
            match asked {
                Asked::RedisMoved => assert!((0.0..=65_535.0).contains(&number)),
                Asked::RedisMaster => assert!((1.0..=65_535.0).contains(&number)),
                Asked::NatsServers => assert!(number <= 0.0, "a server is asked at another port"),
                Asked::Amqp | Asked::ServiceBus | Asked::ServiceBusSubscription | Asked::Sqs => {
                    assert!((0.0..=f64::from(u32::MAX)).contains(&number));
                }
                Asked::SqsError | Asked::CloudWatchError => panic!("an error is no number"),
                Asked::RedisCollection
                | Asked::RedisLength
                | Asked::RedisPending
                | Asked::RedisLag
                | Asked::Nats
                | Asked::RabbitMq => assert!(number >= 0.0, "{asked:?}: nobody has {number} messages"),
                _ => {}
            }
        }
        Err(error) => {
            is_readable(&error.message, 300);
            assert!(!error.message.contains(SECRET), "{}", error.message);
        }
    }
}

/// A word that corpora have where a server may send what it should not show. It has a plus sign, which no code has: codes are
/// shown, and fuzzing puts the word in their place, too.
const SECRET: &str = "s3cr+t";

fn scram(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (first, last) = text.split_once('\n').unwrap_or((text, ""));
    // More iterations only take longer.
    let iterations = first.split(',').find_map(|part| part.strip_prefix("i=")?.parse::<u32>().ok());
    if iterations.is_some_and(|iterations| (5_000..=100_000).contains(&iterations)) {
        return;
    }
    match received::scram(first, last) {
        Ok((answer, problem)) => {
            let nonce = answer.strip_prefix("c=biws,r=").and_then(|rest| rest.split(',').next()).unwrap();
            assert!(nonce.starts_with(received::NONCE) && nonce.len() > received::NONCE.len());
            assert!(answer.len() < first.len() + 100 && iterations.is_some());
            // No signature but the one belongs to a first message.
            assert!(problem.is_some() || received::scram(first, "v=").is_ok_and(|(_, problem)| problem.is_some()));
            assert!(
                problem.is_some() || received::scram(&format!("{first},x=y"), last).is_ok_and(|(_, p)| p.is_some())
            );
        }
        Err(error) => is_readable(error, 100),
    }
}

/// Lists of Prometheus hold no more than their bytes. A list of one series is what the answer to a single query is, and what
/// is split among members is what the whole list has for each.
pub(crate) fn prometheus_lists(bytes: &[u8]) {
    const SERVER: &str = "http://prometheus:9090";
    for status in [200, 400, 503] {
        if let Err(error) = prometheus::range::parse(SERVER, status, bytes) {
            is_readable(&error.message, 500);
        }
        match prometheus::vector::parse_names(SERVER, status, bytes) {
            Ok(names) => {
                assert!(status == 200 && names.iter().map(|name| name.len() + 2).sum::<usize>() <= bytes.len());
            }
            Err(error) => is_readable(&error.message, 500),
        }
        match prometheus::vector::parse(SERVER, status, bytes) {
            Ok(_) => assert_eq!(status, 200),
            Err(error) => is_readable(&error.message, 500),
        }
    }
    if let Ok(points) = prometheus::range::parse(SERVER, 200, bytes) {
        assert!(points.iter().all(|(_, value)| value.is_finite()));
        assert!(points.len() * r#"[1,"2"]"#.len() <= bytes.len());
    }
    let vector = prometheus::vector::parse(SERVER, 200, bytes);
    if let Ok(samples) = &vector {
        let of =
            |sample: &Sample| sample.labels.iter().map(|(name, value)| name.len() + value.len() + 5).sum::<usize>();
        assert!(samples.iter().map(|sample| of(sample) + 8).sum::<usize>() <= bytes.len());
        if let [sample] = &samples[..]
            && sample.value.is_finite()
        {
            assert_eq!(prometheus::answer::parse(SERVER, 200, bytes, false), Answer::Value(sample.value));
        }
    }
    let members = [(1, "a"), (2, "b"), (3, "c")].map(|(id, value)| (id, value.to_owned())).to_vec();
    let group = Group { family: 0, query: String::new(), label: "service".to_owned(), members };
    for status in [200, 422, 429, 503] {
        let (answer, split) = prometheus::split::split(SERVER, status, bytes, false, &group);
        match split {
            None => assert!(status >= 429 && matches!(answer, Answer::Failed(_))),
            Some(Split::Singly) => assert!(status < 429),
            Some(Split::Each(each)) => {
                assert!(status == 200 && each.iter().map(|(id, _)| *id).eq(1..=3));
                // A list with one value that is no number is refused, of which the others keep their own.
                let Ok(samples) = &vector else {
                    assert!(each.iter().any(|(_, answer)| matches!(answer, Answer::Failed(_))));
                    continue;
                };
                for ((_, answer), (_, value)) in each.iter().zip(&group.members) {
                    let sample = samples.iter().find(|sample| sample.labels.get("service") == Some(value));
                    match (answer, sample) {
                        (Answer::Value(value), Some(sample)) => assert!((value - sample.value).abs() <= 0.0),
                        (Answer::Missing(Missing::Empty), sample) => assert_eq!(sample, None),
                        (Answer::Missing(_) | Answer::Failed(_), Some(sample)) => assert!(!sample.value.is_finite()),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}

/// What a person or a client writes in a language of its own; the first byte says in which.
pub(crate) fn text(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match first % 6 {
        0 => json_path(text),
        1 => rules(text),
        2 => cron(text),
        3 => accept(text),
        4 => pattern(text),
        _ => duration(text),
    }
}

/// The first line is a path, the rest is JSON. No two values that a path leads to share a byte.
fn json_path(text: &str) {
    let (path, body) = text.split_once('\n').unwrap_or((text, "[]"));
    let parsed = match JsonPath::parse(path) {
        Ok(parsed) => parsed,
        Err(error) => return is_readable(&error, 200),
    };
    assert_eq!(JsonPath::parse(&format!(" {path} ")).as_ref().ok(), Some(&parsed).filter(|_| path.len() + 2 <= 1_024));
    let Some(root) = Raw::parse(body.as_bytes()) else { return };
    if let Ok(found) = parsed.find(root) {
        assert!(found.len() <= 10_000 && found.iter().map(|value| value.len()).sum::<usize>() <= body.len());
        for value in found {
            let _ = value.kind();
        }
    }
}

/// A mistake quotes up to three times 80 characters, of which each control character takes some bytes.
const PROBLEM_MAX: usize = 3_000;

/// Rules of prometheus-adapter: each mistake names its field, and a rule without any gives queries.
fn rules(text: &str) {
    let reading = match adapter::parse(text) {
        Ok(reading) => reading,
        Err(error) => return assert!(!error.is_empty() && error.len() < 2_000, "{error}"),
    };
    for problem in &reading.problems {
        is_readable(&problem.message, PROBLEM_MAX);
    }
    let pods = adapter::Named { group: "", plural: "pods", singular: "pod" };
    for (rule, is_external) in reading
        .rules
        .custom
        .iter()
        .map(|rule| (rule, false))
        .chain(reading.rules.external.iter().map(|rule| (rule, true)))
    {
        assert!(!rule.place.is_empty() && !rule.series.as_str().is_empty());
        assert!(rule.series.with_label("pod").ends_with("pod!=\"\"}"));
        assert!(rule.metric("http_requests_total").is_none_or(|name| !name.is_empty()));
        assert!(is_external || rule.has_template() || !rule.overrides().is_empty());
        match rule.objects_query("http_requests_total", pods, "shop", &["a", "b"], &[]) {
            Ok((query, label)) => assert!(!query.trim().is_empty() && rule.label_of(pods) == Some(label)),
            Err(error) => assert!(error.contains(&rule.place), "{error}"),
        }
        if let Err(error) = rule.external_query("http_requests_total", "shop", &[]) {
            assert!(error.contains(&rule.place), "{error}");
        }
    }
}

/// The lines are a time in seconds since 1970, when to start, when to end, and a time zone. A window changes at the time
/// that it says, and not before; without a time zone's changes, minutes that are counted one by one say the same.
fn cron(text: &str) {
    let mut lines = text.split('\n');
    let seconds = lines.next().and_then(|line| line.parse::<u32>().ok()).unwrap_or(1_767_225_600);
    let now = UnixMillis(i64::from(seconds) * 1_000);
    let [start, end, zone] = std::array::from_fn(|_| lines.next().unwrap_or("0 8 * * *"));
    let object = serde_json::json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1", "generation": 1},
        "spec": {"scaleTargetRef": {"name": "a"}, "triggers": [{"type": "cron", "metadata":
            {"timezone": zone, "start": start, "end": end, "desiredReplicas": "4"}}]},
    });
    let object = object.to_string();
    let object =
        wire::scaled_object::from_slice(ApiGroup::KedaSh, object.as_bytes(), &wire::Servers::default()).unwrap();
    let definition = match object.definition {
        Ok(definition) => definition,
        Err(invalid) => {
            for problem in &invalid.problems {
                is_readable(&problem.message, PROBLEM_MAX);
            }
            return;
        }
    };
    let Source::Cron(window) = &definition.triggers[0].source else { panic!("{:?}", definition.triggers[0].source) };
    let state = window.at(now);
    assert!((window.value(now) - if state.is_open { 4.0 } else { 0.0 }).abs() <= 0.0);
    if let Some(until) = state.until {
        assert!(until > now);
        for between in [until.0 - 1, now.0.midpoint(until.0)] {
            assert_eq!(window.at(UnixMillis(between)), state, "{between}");
        }
    }
    let is_utc = |zone: &str| matches!(zone, "Etc/UTC" | "UTC");
    if is_utc(&window.start.zone.name) && is_utc(&window.end.zone.name) {
        let next = |expression: &Expression| {
            let first = i64::from(seconds) / 60 + 1;
            (first..first + 3 * 1_440).find(|minute| comes(expression, *minute))
        };
        let (start, end) = (next(&window.start.expression), next(&window.end.expression));
        if let Some(minute) = [start, end].into_iter().flatten().min() {
            assert_eq!(state.until, Some(UnixMillis(minute * 60_000)));
        }
        if let (Some(start), Some(end)) = (start, end) {
            assert_eq!(state.is_open, end <= start);
        }
    }
}

/// Returns whether an expression is met at a minute since 1970, in UTC. The days are counted as by Howard Hinnant.
fn comes(expression: &Expression, minute: i64) -> bool {
    let day = minute / 1_440;
    let shifted = day + 719_468;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let has = |set: u64, value: i64| set >> value & 1 == 1;
    let (in_month, in_week) =
        (has(expression.days_of_month, day_of_month), has(expression.days_of_week, (day + 4) % 7));
    let is_day = if expression.is_either_day { in_month || in_week } else { in_month && in_week };
    let time = minute % 1_440;
    is_day && has(expression.months, month) && has(expression.hours, time / 60) && has(expression.minutes, time % 60)
}

/// A header means the same in one line and in several, and who accepts anything gets something.
fn accept(text: &str) {
    let request = |values: &[&str]| Request {
        method: "GET".to_owned(),
        path: "/".to_owned(),
        query: None,
        headers: values.iter().map(|value| ("Accept".to_owned(), (*value).to_owned())).collect(),
        peer: Peer { address: ([127, 0, 0, 1], 1).into(), identity: Identity::None },
    };
    for is_aggregated in [false, true] {
        let form = negotiate::choose(&request(&[text]), is_aggregated);
        let lines: Vec<&str> = text.split(',').collect();
        assert_eq!(negotiate::choose(&request(&lines), is_aggregated), form);
        assert!(form != Some(Form::AggregatedDiscovery) || is_aggregated && text.contains("APIGroupDiscoveryList"));
        let anything = format!("{text},*/*");
        let with_anything = negotiate::choose(&request(&[&anything]), is_aggregated);
        assert!(with_anything.is_some());
    }
}

/// The lines are an expression, a template, and a text. What is expanded has nothing but what is in both.
fn pattern(text: &str) {
    let mut lines = text.split('\n');
    let [pattern, template, text] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let parsed = match Pattern::parse(pattern) {
        Ok(parsed) => parsed,
        Err(error) => return is_readable(&error, 200),
    };
    let found = parsed.expand(template, text);
    assert_eq!(found.is_some(), parsed.matches(text));
    if let Some(found) = found {
        assert!(found.len() <= template.len() * (text.len() + 1));
        assert!(template.contains('$') || found == template);
    }
    assert!(parsed.missing_group(template).is_none_or(|name| template.contains(name)));
    assert_eq!(parsed.missing_group("$0${0}$$9"), None);
}

/// A duration means the same in nanoseconds, with its sign turned, and with nothing added.
fn duration(text: &str) {
    let Some(nanos) = wire::time::parse_go_duration(text) else { return };
    assert_eq!(wire::time::parse_go_duration(&format!("{nanos}ns")), Some(nanos));
    if let Some(unsigned) = text.strip_prefix('-').filter(|_| nanos != i64::MIN) {
        assert_eq!(wire::time::parse_go_duration(unsigned), Some(-nanos));
    }
    if text.ends_with(|c: char| c.is_alphabetic()) {
        assert_eq!(wire::time::parse_go_duration(&format!("{text}0s")), Some(nanos));
    }
    if let Ok(nanos) = u64::try_from(nanos) {
        assert_eq!(wire::time::parse_age(text), Some(Duration::from_nanos(nanos)));
    }
}

/// What a server sends after an upgrade does not depend on how it arrives, and holds no more than its bytes; messages that are
/// written again are read again.
pub(crate) fn tunnel(bytes: &[u8]) {
    let read = |piece| tunnel::read(bytes, piece).map_err(|error| error.to_string());
    let whole = read(usize::MAX);
    for piece in [1, 5] {
        match (read(piece), &whole) {
            (Ok(found), whole) => assert_eq!(Ok(&found), whole.as_ref()),
            (Err(_), whole) => assert!(whole.is_err()),
        }
    }
    let Ok((status, messages, is_wrong)) = whole else { return };
    let size = |message: &Sent| match message {
        Sent::Data(content) | Sent::Ping(content) => content.len() + 2,
        // Bytes that are no text become characters of three.
        Sent::Close(reason) => reason.len() / 3 + 2,
        Sent::Pong => 2,
    };
    assert!(messages.iter().map(size).sum::<usize>() <= bytes.len() && status < 1_000);
    assert!(!is_wrong || !matches!(messages.last(), Some(Sent::Close(_))));
    let mut again = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
    for message in &messages {
        let (opcode, content) = match message {
            Sent::Data(content) => (0x82, content.clone()),
            Sent::Ping(content) => (0x89, content.clone()),
            Sent::Pong => (0x8A, Vec::new()),
            // Characters in place of what was no text may be too many for a frame.
            Sent::Close(reason) if reason.len() > 123 => return,
            Sent::Close(reason) if reason.is_empty() => (0x88, Vec::new()),
            Sent::Close(reason) => (0x88, [b"\x03\xE8", reason.as_bytes()].concat()),
        };
        again.push(opcode);
        match u8::try_from(content.len()) {
            Ok(length @ ..=125) => again.push(length),
            _ => again.extend([&[127][..], &(content.len() as u64).to_be_bytes()].concat()),
        }
        again.extend(content);
    }
    assert_eq!(tunnel::read(&again, usize::MAX).map_err(|error| error.to_string()), Ok((101, messages, false)));
}
