//! Parses times as people type them, and formats them for explanations: always UTC, no time zone database.

use crate::scaling::model::UnixMillis;
use crate::wire::time::{format_seconds, parse_age, parse_rfc3339};

const DAY_MS: i64 = 86_400_000;

/// Parses `14:03`, `14:03:15` (today, or yesterday if that is in the future), RFC 3339, or `-5m` from now.
///
/// # Errors
/// A message that says what may be written instead.
pub fn parse_at(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    if let Some(ago) = text.strip_prefix('-').and_then(parse_age) {
        return Ok(UnixMillis(now.0 - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)));
    }
    if let Some(at) = parse_rfc3339(text) {
        return Ok(at);
    }
    let today = format_seconds(now)[..10].to_owned();
    let seconds = if text.len() == 5 { ":00Z" } else { "Z" };
    match parse_rfc3339(&format!("{today}T{}{seconds}", text.trim_end_matches('Z'))) {
        Some(at) if at > now => Ok(UnixMillis(at.0 - DAY_MS)),
        Some(at) => Ok(at),
        None => Err(format!("--at: \"{text}\" is no time: write 14:03, 14:03:15, 2026-01-31T14:03:15Z or -5m (UTC)")),
    }
}

/// Formats as `14:03:15`, with the date if it is not that of `reference`.
#[must_use]
pub fn short(at: i64, reference: i64) -> String {
    let text = format_seconds(UnixMillis(at));
    let clock = &text[11..19];
    if at.div_euclid(DAY_MS) == reference.div_euclid(DAY_MS) {
        clock.to_owned()
    } else {
        format!("{} {clock}", &text[..10])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logfmt::iso;

    #[test]
    fn times_are_read_as_typed() {
        let now = parse_rfc3339("2026-01-02T14:00:00Z").expect("a time");
        for (text, expected) in [
            ("13:03", "2026-01-02T13:03:00.000Z"),
            ("13:03:15", "2026-01-02T13:03:15.000Z"),
            ("14:03", "2026-01-01T14:03:00.000Z"),
            ("-5m", "2026-01-02T13:55:00.000Z"),
            ("-2d", "2025-12-31T14:00:00.000Z"),
            ("2025-06-01T00:00:00+02:00", "2025-05-31T22:00:00.000Z"),
        ] {
            assert_eq!(parse_at(text, now).map(|at| iso(at.0)), Ok(expected.to_owned()), "{text}");
        }
        assert!(parse_at("noon", now).is_err_and(|error| error.contains("\"noon\"")));
        assert_eq!((short(now.0, now.0), short(now.0, 0)), ("14:00:00".to_owned(), "2026-01-02 14:00:00".to_owned()));
    }
}
