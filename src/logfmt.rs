//! Formats log lines: `time level target msg="…" key=value …`, quoted so that any logfmt parser can read them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use log::kv::{self, Key, Value, VisitSource};

/// Starts logging to standard error. `RUST_LOG` sets levels; `level` is the default.
///
/// # Panics
/// If a logger is already set, which is a programming error.
pub fn init(level: &str) {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        // These modules log whole URLs, including keys in them, whatever level is requested.
        .filter_module("ureq", log::LevelFilter::Warn)
        .filter_module("ureq_proto", log::LevelFilter::Warn)
        .format(|out, record| out.write_all(line(wall_millis(), record).as_bytes()))
        .init();
    die_of_panics();
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
fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
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
        let _ = std::io::stderr().write_all(line(wall_millis(), &record).as_bytes());
        std::process::abort();
    }));
}

fn line(unix_millis: i64, record: &log::Record<'_>) -> String {
    let mut line = String::with_capacity(160);
    let _ = write!(
        line,
        "{} {:<5} {} msg=",
        iso(unix_millis),
        record.level().as_str(),
        record.target().strip_prefix("hpalite::").unwrap_or(record.target())
    );
    quote(&mut line, &record.args().to_string());
    let _ = record.key_values().visit(&mut Pairs(&mut line));
    line.push('\n');
    line
}

struct Pairs<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let _ = write!(self.0, " {key}=");
        quote(self.0, &value.to_string());
        Ok(())
    }
}

/// Appends a value, quoted and escaped if necessary, so that it never breaks the line.
fn quote(line: &mut String, text: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        line.push_str(text);
        return;
    }
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
            line(1_767_323_045_678, &record),
            "2026-01-02T03:04:05.678Z WARN  kube::client msg=\"request failed\" object=a/b \
             error=\"no \\\"such\\\"\\nhost=x\" empty=\"\"\n"
        );
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
            init("info");
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
