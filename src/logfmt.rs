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
#[expect(clippy::disallowed_methods, reason = "lines of the log have the time of day")]
pub fn init(level: &str) {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level))
        // These modules log whole URLs, including keys in them, whatever level is requested.
        .filter_module("ureq", log::LevelFilter::Warn)
        .filter_module("ureq_proto", log::LevelFilter::Warn)
        .format(|out, record| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
            out.write_all(line(millis, record).as_bytes())
        })
        .init();
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
}
