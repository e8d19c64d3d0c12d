//! Reads and writes times and durations as the Kubernetes API and Go programs do. Reads no clock.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::scaling::model::UnixMillis;

/// Reads RFC 3339 with any offset and fraction; `None` if it is something else.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<UnixMillis> {
    // A date with a time of day is the minimum; extensions of RFC 9557, such as a time zone in brackets, are refused.
    let is_plain = text.len() >= 20 && !text.contains('[');
    let at: Timestamp = text.parse().ok().filter(|_| is_plain)?;
    Some(UnixMillis(at.as_millisecond()))
}

/// Reads the date of an HTTP header in today's format: `Fri, 02 Jan 2026 03:04:05 GMT`.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<UnixMillis> {
    let at = rfc2822::parse(text).ok().filter(|_| text.ends_with(" GMT"))?;
    Some(UnixMillis(at.timestamp().as_millisecond()))
}

/// Writes whole seconds, like `metav1.Time`: `2026-01-02T03:04:05Z`.
#[must_use]
pub fn format_seconds(at: UnixMillis) -> String {
    at.to_string()
}

/// Writes six decimals, like `metav1.MicroTime`.
#[must_use]
pub fn format_micros(unix_micros: i64) -> String {
    let mut text = format_seconds(UnixMillis(unix_micros.div_euclid(1000)));
    text.pop();
    format!("{text}.{:06}Z", unix_micros.rem_euclid(1_000_000))
}

/// Reads a Go duration such as `1h30m`, `1.5s`, `-2ms` or `0`, in nanoseconds.
#[must_use]
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        // 19 digits can represent every i64; more than 13 decimals are below a nanosecond (an hour is 3.6e12 ns).
        if whole.len() > 19 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(15)];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        total += whole * unit + part * unit / divisor;
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Reads a duration on the command line: a Go duration such as `1h30m`, or whole days such as `7d`, up to a century.
#[must_use]
pub fn parse_age(text: &str) -> Option<Duration> {
    match text.strip_suffix('d') {
        Some(days) => {
            let days = days.parse::<u32>().ok().filter(|days| *days <= 36_500)?;
            Some(Duration::from_secs(u64::from(days) * 86_400))
        }
        None => u64::try_from(parse_go_duration(text)?).ok().map(Duration::from_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-02T03:04:05Z", 1_767_323_045_000),
            ("2026-01-02T03:04:05.678901Z", 1_767_323_045_678),
            ("2026-01-02T05:04:05+02:00", 1_767_323_045_000),
            ("2026-01-02T02:34:05.5-00:30", 1_767_323_045_500),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("1969-12-31T23:59:59Z", -1000),
        ] {
            assert_eq!(parse_rfc3339(text), Some(UnixMillis(millis)), "{text}");
        }
        for text in [
            "",
            "2026-01-02",
            "2026-13-02T03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+2",
            "2026-01-02T03:04:05.Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn http_dates() {
        for (text, millis) in [
            ("Fri, 02 Jan 2026 03:04:05 GMT", Some(1_767_323_045_000)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199_000)),
            ("Fri, 02 Jan 2026 03:04:05 CET", None),
            ("Fri, 2 January 2026", None),
            ("", None),
        ] {
            assert_eq!(parse_http_date(text).map(|at| at.0), millis, "{text}");
        }
    }

    #[test]
    fn times_survive_the_round_trip() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let seconds = random.i64(-62_135_596_800..253_402_300_799);
            let text = format_seconds(UnixMillis(seconds * 1000 + 999));
            assert_eq!(parse_rfc3339(&text), Some(UnixMillis(seconds * 1000)), "{text}");
        }
        assert_eq!(format_micros(1_767_323_045_000_042), "2026-01-02T03:04:05.000042Z");
    }

    #[test]
    fn reads_go_durations() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("-2ms", Some(-2_000_000)),
            ("1us2ns", Some(1_002)),
            ("1µs", Some(1_000)),
            ("5", None),
            ("s", None),
            ("", None),
            ("-", None),
            ("1.2.3s", None),
            ("1d", None),
            ("5 s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse_go_duration(text), nanos, "{text}");
        }
    }
}
