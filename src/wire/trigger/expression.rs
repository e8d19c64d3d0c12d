//! Cron expressions as text, in the dialect of KEDA's parser (robfig/cron v3 without descriptors and seconds).
//!
//! Written here, since users' manifests are written in this dialect and the maintained crates read others: croner takes 7
//! for Sunday, `L`, `#` and `W`, and reads `*/2` in a day field as a restriction in one of two ways.

use super::super::fields::quoted;
use crate::scaling::cron::Expression;

/// One of the five fields.
struct Field {
    name: &'static str,
    min: u64,
    max: u64,
    /// Of the values from `min` on.
    names: &'static [&'static str],
    fix: &'static str,
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[], fix: "write 0 to 59, or *" },
    Field { name: "hour", min: 0, max: 23, names: &[], fix: "write 0 to 23, or *" },
    Field { name: "day of month", min: 1, max: 31, names: &[], fix: "write 1 to 31, or *" },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
        fix: "write 1 to 12, jan to dec, or *",
    },
    Field {
        name: "day of week",
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
        fix: "write 0 (Sunday) to 6, sun to sat, or *",
    },
];

/// What is wrong with an expression, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: String,
    pub(super) fix: String,
}

/// An expression, and the zone that a `TZ=` before it names.
pub(super) fn parse(text: &str) -> Result<(Option<&str>, Expression), Mistake> {
    const FIX: &str = "write minute, hour, day of month, month and day of week, e.g. \"0 8 * * mon-fri\"";
    let mistake = |what: &str| Mistake { message: format!("{} {what}", quoted(text)), fix: FIX.to_owned() };
    let (zone, fields) = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(rest) => {
            let (zone, fields) = rest.split_once(' ').ok_or_else(|| mistake("has nothing after its time zone"))?;
            (Some(zone), fields.trim())
        }
        None => (None, text),
    };
    if fields.starts_with('@') {
        return Err(mistake("is a descriptor, which only other crons know"));
    }
    let words: Vec<&str> = fields.split_whitespace().collect();
    let Ok(words) = <[&str; 5]>::try_from(words) else {
        return Err(mistake(&format!("has not exactly 5 fields, but {}", fields.split_whitespace().count())));
    };
    let mut sets = [(0, false); 5];
    for ((set, field), word) in sets.iter_mut().zip(&FIELDS).zip(words) {
        *set = field.parse(word).map_err(|what| Mistake {
            message: format!("{}: the {} {}: {what}", quoted(text), field.name, quoted(word)),
            fix: field.fix.to_owned(),
        })?;
    }
    let [(minutes, _), (hours, _), (days_of_month, any_day_of_month), (months, _), (days_of_week, any_day_of_week)] =
        sets;
    let is_either_day = !any_day_of_month && !any_day_of_week;
    Ok((zone, Expression { minutes, hours, days_of_month, months, days_of_week, is_either_day }))
}

impl Field {
    /// The values as bits, and whether a star says that any will do.
    fn parse(&self, word: &str) -> Result<(u64, bool), String> {
        let (mut set, mut is_any) = (0, false);
        // Empty items are skipped, as KEDA's parser does.
        for item in word.split(',').filter(|item| !item.is_empty()) {
            let (bits, star) = self.item(item)?;
            set |= bits;
            is_any |= star;
        }
        if set == 0 { Err("holds no value".to_owned()) } else { Ok((set, is_any)) }
    }

    /// `*`, `?`, a value or a range, each with a step if wanted.
    fn item(&self, item: &str) -> Result<(u64, bool), String> {
        let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
        let step = step.map_or(Ok(1), |step| self.number(step))?;
        if step == 0 {
            return Err("the step must not be 0".to_owned());
        }
        let is_star = matches!(range, "*" | "?");
        let (low, high) = match range.split_once('-') {
            _ if is_star => (self.min, self.max),
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            // A value with a step goes on to the end.
            None if item.contains('/') => (self.value(range)?, self.max),
            None => (self.value(range)?, self.value(range)?),
        };
        if low < self.min || high > self.max {
            let wrong = if low < self.min { low } else { high };
            return Err(format!("{wrong} is not within {} to {}", self.min, self.max));
        }
        if low > high {
            return Err(format!("{low} to {high} runs backwards"));
        }
        let mut bits = 0;
        let mut value = low;
        while value <= high {
            bits |= 1 << value;
            value = value.saturating_add(step);
        }
        // A star with a step restricts: every second day is not any day.
        Ok((bits, is_star && step == 1))
    }

    fn value(&self, text: &str) -> Result<u64, String> {
        match self.names.iter().zip(self.min..).find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            Some((_, value)) => Ok(value),
            None => self.number(text),
        }
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        text.parse().map_err(|_| format!("{} is no number", quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(text: &str) -> Result<[u64; 5], String> {
        let (_, e) = parse(text).map_err(|mistake| mistake.message)?;
        Ok([e.minutes, e.hours, e.days_of_month, e.months, e.days_of_week])
    }

    fn bits(values: &[u64]) -> u64 {
        values.iter().map(|value| 1 << value).sum()
    }

    #[test]
    fn what_the_dialect_has() {
        let all = |from, to| bits(&(from..=to).collect::<Vec<u64>>());
        let any = [all(0, 59), all(0, 23), all(1, 31), all(1, 12), all(0, 6)];
        for (text, field, expected) in [
            ("* * * * *", 0, all(0, 59)),
            ("? ? ? ? ?", 2, all(1, 31)),
            ("  5  4 * * * ", 0, bits(&[5])),
            ("05 * * * *", 0, bits(&[5])),
            ("0,30 * * * *", 0, bits(&[0, 30])),
            ("0,,30, * * * *", 0, bits(&[0, 30])),
            ("10-12 * * * *", 0, bits(&[10, 11, 12])),
            ("*/20 * * * *", 0, bits(&[0, 20, 40])),
            ("50/4 * * * *", 0, bits(&[50, 54, 58])),
            ("10-20/5 * * * *", 0, bits(&[10, 15, 20])),
            ("*/99 * * * *", 0, bits(&[0])),
            ("* 0-23 * * *", 1, all(0, 23)),
            ("* * 31 * *", 2, bits(&[31])),
            ("* * * JAN,dec *", 3, bits(&[1, 12])),
            ("* * * mar-5 *", 3, bits(&[3, 4, 5])),
            ("* * * * Mon-Fri", 4, bits(&[1, 2, 3, 4, 5])),
            ("* * * * 0,sat", 4, bits(&[0, 6])),
        ] {
            let mut wanted = any;
            if let Ok(found) = sets(text) {
                wanted[field] = expected;
                assert_eq!(found[field], wanted[field], "{text}");
            } else {
                panic!("{text}: {:?}", sets(text));
            }
        }
        assert_eq!(parse("TZ=Europe/Berlin 0 8 * * *").map(|(zone, _)| zone), Ok(Some("Europe/Berlin")));
        assert_eq!(parse("CRON_TZ=UTC   0 8 * * *").map(|(zone, _)| zone), Ok(Some("UTC")));
        assert_eq!(parse("0 8 * * *").map(|(zone, _)| zone), Ok(None));
    }

    #[test]
    fn days_of_month_and_week_are_alternatives_once_both_are_restricted() {
        for (text, is_either) in [
            ("0 0 1 * *", false),
            ("0 0 * * 1", false),
            ("0 0 ? * 1", false),
            ("0 0 */1 * 1", false),
            ("0 0 1 * 1", true),
            ("0 0 */2 * 1", true),
            ("0 0 1-31 * 1", true),
            ("0 0 *,5 * 1", false),
        ] {
            assert_eq!(parse(text).map(|(_, expression)| expression.is_either_day), Ok(is_either), "{text}");
        }
    }

    #[test]
    fn what_it_has_not() {
        for (text, words) in [
            ("", "has not exactly 5 fields, but 0"),
            ("* * * *", "has not exactly 5 fields, but 4"),
            ("0 0 8 * * *", "has not exactly 5 fields, but 6"),
            ("@daily", "is a descriptor"),
            ("TZ=UTC", "has nothing after its time zone"),
            ("60 * * * *", "the minute \"60\": 60 is not within 0 to 59"),
            ("* 24 * * *", "24 is not within 0 to 23"),
            ("* * 0 * *", "0 is not within 1 to 31"),
            ("* * * 13 *", "13 is not within 1 to 12"),
            ("* * * * 7", "the day of week \"7\": 7 is not within 0 to 6"),
            ("* * * * sunday", "\"sunday\" is no number"),
            ("jan * * * *", "\"jan\" is no number"),
            ("5-3 * * * *", "5 to 3 runs backwards"),
            ("*/0 * * * *", "the step must not be 0"),
            ("*/-1 * * * *", "\"-1\" is no number"),
            ("1/2/3 * * * *", "\"2/3\" is no number"),
            ("1-2-3 * * * *", "\"2-3\" is no number"),
            ("*-5 * * * *", "\"*\" is no number"),
            (", * * * *", "holds no value"),
            ("0 0 L * *", "\"L\" is no number"),
            ("0 0 * * 1#2", "\"1#2\" is no number"),
        ] {
            let error = sets(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
        let sunday = parse("* * * * 7").map_err(|mistake| mistake.fix);
        assert_eq!(sunday, Err("write 0 (Sunday) to 6, sun to sat, or *".to_owned()));
    }
}
