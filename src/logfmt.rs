//! Formats log lines: `time level target msg="…" key=value …`, quoted so that any logfmt parser can read them, or a JSON
//! object each, with the keys that KEDA's lines have: `level`, `ts`, `logger` and `msg` before those of the line.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use log::kv::{self, Key, Value, VisitSource};

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub is_json: bool,
    pub time: Time,
}

/// How a line writes its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// As [`iso`].
    #[default]
    Rfc3339,
    /// Seconds since 1970, with a fraction.
    Epoch,
    /// Milliseconds since 1970.
    Millis,
    /// Nanoseconds since 1970.
    Nano,
}

impl Time {
    /// Returns the encoding of one of zap's names; those that write a date are one.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "epoch" => Self::Epoch,
            "millis" => Self::Millis,
            "nano" => Self::Nano,
            _ => Self::Rfc3339,
        }
    }

    /// Appends a time; as JSON a date needs quotes, and a number has none.
    fn write(self, unix_millis: i64, mark: &str, line: &mut String) {
        let _ = match self {
            Self::Rfc3339 => write!(line, "{mark}{}{mark}", iso(unix_millis)),
            Self::Epoch => write!(line, "{}.{:03}", unix_millis.div_euclid(1_000), unix_millis.rem_euclid(1_000)),
            Self::Millis => write!(line, "{unix_millis}"),
            Self::Nano => write!(line, "{}", i128::from(unix_millis) * 1_000_000),
        };
    }
}

/// Starts logging to standard error. `RUST_LOG` sets levels; `level` is the default.
///
/// # Panics
/// If a logger is already set, which is a programming error.
pub fn init(level: &str, style: Style) {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        // These modules log whole URLs, including keys in them, whatever level is requested.
        .filter_module("ureq", log::LevelFilter::Warn)
        .filter_module("ureq_proto", log::LevelFilter::Warn)
        .format(move |out, record| out.write_all(line(style, wall_millis(), record).as_bytes()))
        .init();
    die_of_panics(style);
}

#[expect(clippy::disallowed_methods, reason = "lines of the log have the time of day")]
fn wall_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Characters of a panic's message that are logged: it may quote what came from outside.
const PANIC_CHARS_MAX: usize = 500;

/// Makes every panic end the process with one line that names its place, in builds that would unwind too: a process
/// without one of its threads looks healthy and is not.
fn die_of_panics(style: Style) {
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let message: String = text.chars().take(PANIC_CHARS_MAX).collect();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let pairs = [("error", message.as_str()), ("place", place.as_str()), ("thread", thread.as_str())];
        let pairs = pairs.as_slice();
        let record = log::Record::builder()
            .level(log::Level::Error)
            .target("panic")
            .args(format_args!("hpalite ends, since it cannot go on"))
            .key_values(&pairs)
            .build();
        // Not through the logger, which the panicking thread may hold.
        let _ = std::io::stderr().write_all(line(style, wall_millis(), &record).as_bytes());
        std::process::abort();
    }));
}

fn line(style: Style, unix_millis: i64, record: &log::Record<'_>) -> String {
    let mut line = String::with_capacity(200);
    let target = record.target().strip_prefix("hpalite::").unwrap_or(record.target());
    let (level, message) = (record.level().as_str(), record.args().to_string());
    if style.is_json {
        let _ = write!(line, "{{\"level\":\"{}\",\"ts\":", level.to_ascii_lowercase());
        style.time.write(unix_millis, "\"", &mut line);
        for (key, text) in [("logger", target), ("msg", &message)] {
            let _ = write!(line, ",\"{key}\":");
            escape(&mut line, text);
        }
    } else {
        style.time.write(unix_millis, "", &mut line);
        let _ = write!(line, " {level:<5} {target} msg=");
        quote(&mut line, &message);
    }
    let _ = record.key_values().visit(&mut Pairs { line: &mut line, is_json: style.is_json });
    line.push_str(if style.is_json { "}\n" } else { "\n" });
    line
}

struct Pairs<'a> {
    line: &'a mut String,
    is_json: bool,
}

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let text = value.to_string();
        if self.is_json {
            self.line.push(',');
            escape(self.line, key.as_str());
            self.line.push(':');
            // As JSON writes them: whole numbers and truths, and nothing that merely looks like one.
            let is_bare = value.to_i64().is_some() || value.to_u64().is_some() || value.to_bool().is_some();
            if is_bare { self.line.push_str(&text) } else { escape(self.line, &text) }
        } else {
            let _ = write!(self.line, " {key}=");
            quote(self.line, &text);
        }
        Ok(())
    }
}

/// Appends a value, quoted and escaped if necessary, so that it never breaks the line.
fn quote(line: &mut String, text: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        line.push_str(text);
    } else {
        escape(line, text);
    }
}

/// Appends a text in quotes, escaped as in JSON.
fn escape(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Formats as `2026-01-02T03:04:05.678Z`.
#[must_use]
pub fn iso(unix_millis: i64) -> String {
    format!("{:.3}Z", utc(Timestamp::from_millisecond(unix_millis)))
}

/// Formats as `Fri, 02 Jan 2026 03:04:05 GMT`, HTTP's `Date` (RFC 9110, 5.6.7).
#[must_use]
pub fn http_date(unix_seconds: i64) -> String {
    utc(Timestamp::from_second(unix_seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Converts to UTC; a time beyond the year 9999 becomes 1970.
fn utc(at: Result<Timestamp, jiff::Error>) -> DateTime {
    TimeZone::UTC.to_datetime(at.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_never_contains_a_line_break() {
        let record = log::Record::builder()
            .level(log::Level::Warn)
            .target("hpalite::kube::client")
            .args(format_args!("request failed"))
            .key_values(&[("object", "a/b"), ("error", "no \"such\"\nhost=x"), ("empty", "")])
            .build();
        assert_eq!(
            line(Style::default(), 1_767_323_045_678, &record),
            "2026-01-02T03:04:05.678Z WARN  kube::client msg=\"request failed\" object=a/b \
             error=\"no \\\"such\\\"\\nhost=x\" empty=\"\"\n"
        );
    }

    #[test]
    fn a_line_may_be_json_and_its_time_a_number() {
        let pairs = [("error", Value::from("a \"b\"\n{")), ("n", Value::from(-3)), ("yes", Value::from(true))];
        let record = log::Record::builder()
            .level(log::Level::Info)
            .target("hpalite::daemon")
            .args(format_args!("started"))
            .key_values(&pairs)
            .build();
        let of = |is_json, time| line(Style { is_json, time: Time::named(time) }, 1_767_323_045_678, &record);
        let json = of(true, "iso8601");
        let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let wanted = serde_json::json!({
            "level": "info", "ts": "2026-01-02T03:04:05.678Z", "logger": "daemon", "msg": "started",
            "error": "a \"b\"\n{", "n": -3, "yes": true,
        });
        assert_eq!((read, json.matches('\n').count()), (wanted, 1));
        for (time, wanted) in
            [("epoch", "1767323045.678"), ("millis", "1767323045678"), ("nano", "1767323045678000000")]
        {
            assert!(of(true, time).starts_with(&format!("{{\"level\":\"info\",\"ts\":{wanted},")), "{time}");
            assert!(of(false, time).starts_with(&format!("{wanted} INFO  daemon msg=started error=")), "{time}");
        }
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(millis), expected);
        }
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            assert_eq!(http_date(seconds), expected);
        }
    }

    /// Run by the test below in a process of its own.
    #[test]
    fn child_that_panics() {
        if std::env::var_os("HPALITE_TEST_PANICS").is_some() {
            init("info", Style::default());
            let part = std::thread::Builder::new().name("part".to_owned());
            let _ = part.spawn(|| panic!("a \"quoted\"\nline {}", "x".repeat(1_000))).expect("a thread").join();
            // Where the process went on, the test harness reports success.
        }
    }

    #[test]
    fn a_panic_of_any_thread_ends_the_process_and_names_its_place() {
        let child = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["logfmt::tests::child_that_panics", "--exact", "--nocapture"])
            .env("HPALITE_TEST_PANICS", "1")
            .output()
            .expect("it runs");
        let log = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success(), "{log}");
        let line = log.lines().find(|line| line.contains("ERROR panic")).unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains(r#"error="a \"quoted\"\nline xxx"#) && line.len() < 800, "{line}");
        assert!(line.contains(" place=src/logfmt.rs:") && line.ends_with(" thread=part"), "{line}");
    }
}
