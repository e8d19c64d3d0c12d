//! Times and amounts for people.

use crate::scaling::model::UnixMillis;
use crate::wire::time::format_seconds;

pub(crate) fn at(unix_ms: i64) -> String {
    format_seconds(UnixMillis(unix_ms))
}

/// Two units at most: `6 d 23 h`, `3 h 5 min`, `40 s`.
pub(crate) fn duration(seconds: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(3);
    let (length, unit) = UNITS[first];
    let head = format!("{} {unit}", seconds / length);
    match UNITS.get(first + 1) {
        Some((next, unit)) if seconds % length / next > 0 => format!("{head} {} {unit}", seconds % length / next),
        _ => head,
    }
}

pub(crate) fn hours(hours: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "far below the largest")]
    duration((hours * 3600.0).round() as i64)
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_661, "1 h 1 min"), (604_800, "7 d"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
