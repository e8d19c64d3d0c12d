//! Time windows that cron expressions open and close: whether one is open, and when that changes next.
//!
//! Owns the conversion between instants and local time. Reads no clock; the syntax of expressions and the list of time
//! zones belong to the wire.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

use super::time::UnixMillis;

const MINUTES_PER_DAY: i64 = 24 * 60;
/// As in KEDA, nothing later than the end of the fifth year from now is found. That includes leap days.
const HORIZON_MINUTES: i64 = 6 * 366 * MINUTES_PER_DAY;
const EVERY_HOUR: u64 = (1 << 24) - 1;

/// Asks for `desired_replicas` from each start to the next end, and for nothing otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub start: Recurrence,
    pub end: Recurrence,
    /// Above 0.
    pub desired_replicas: u32,
}

/// A cron expression in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    pub expression: Expression,
    pub zone: Arc<Zone>,
}

/// The state of a window at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    pub is_open: bool,
    /// When that changes; `None` if it never does.
    pub until: Option<UnixMillis>,
}

/// The five fields as sets; bit n stands for the value n. None of them is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days_of_month: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 (Sunday) to 6.
    pub days_of_week: u64,
    /// Both kinds of day are restricted, in which case a day needs to match only one of them.
    pub is_either_day: bool,
}

/// The offsets of a place from UTC, and when they change.
#[derive(Clone)]
pub struct Zone {
    /// Identifies the zone, since all zones come from one database.
    pub name: String,
    /// Before `rule` applies: pairs of the Unix second until which an offset holds, ascending, and seconds east of UTC.
    pub periods: Vec<(i64, i32)>,
    pub rule: TimeZone,
}

/// Compares names only: comparing or printing jiff's own zones would link 60 kB of names into the binary.
impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A moment at which an expression matches. Ordered by time, then by local time: when clocks are put forward, all the
/// minutes that they skip match at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    unix_seconds: i64,
    /// Minutes since 1970-01-01T00:00 in local time.
    local_minute: i64,
}

impl Window {
    /// As in KEDA, it is open if the next end comes no later than the next start. So it may span midnight, and of
    /// several starts before an end the last one counts. Without any start it is open, without any end closed.
    #[must_use]
    pub fn at(&self, now: UnixMillis) -> WindowState {
        let (start, end) = (self.start.next(now), self.end.next(now));
        let is_open = match (start, end) {
            (Some(start), Some(end)) => end <= start,
            (None, _) => true,
            (Some(_), None) => false,
        };
        let until = [start, end].into_iter().flatten().map(|found| found.unix_seconds).min();
        WindowState { is_open, until: until.map(|seconds| UnixMillis(seconds.saturating_mul(1000))) }
    }

    /// The value of the trigger's metric.
    #[must_use]
    pub fn value(&self, now: UnixMillis) -> f64 {
        if self.at(now).is_open { f64::from(self.desired_replicas) } else { 0.0 }
    }
}

impl Recurrence {
    /// Returns the first match after `now`. Unlike in KEDA, a time of day matches exactly once a day: if clocks skip
    /// it, at the change, and if they repeat it, the first time. If every hour matches, each repetition does.
    fn next(&self, now: UnixMillis) -> Option<Match> {
        let now = now.0.div_euclid(1000);
        let first = (now.div_euclid(60) + 1) * 60;
        let local_minute = |unix_seconds: i64, offset: i32| (unix_seconds + i64::from(offset)).div_euclid(60);
        // Begins a day earlier to know which local times clocks have already shown.
        let mut begin = now - 86_400;
        let (mut offset, mut until) = self.zone.offset_at(begin);
        let mut shown = i64::MIN;
        let horizon = local_minute(first, offset) + HORIZON_MINUTES;
        loop {
            let start = local_minute(begin.max(first), offset);
            let start = if self.expression.hours == EVERY_HOUR { start } else { start.max(shown) };
            let end = until.map_or(horizon, |until| local_minute(until, offset)).min(horizon);
            if let Some(local_minute) = self.expression.next_minute(start, end) {
                return Some(Match { unix_seconds: local_minute * 60 - i64::from(offset), local_minute });
            }
            begin = until.filter(|_| end < horizon)?;
            (offset, until) = self.zone.offset_at(begin);
            if begin > now
                && let Some(local_minute) = self.expression.next_minute(end.max(shown), local_minute(begin, offset))
            {
                return Some(Match { unix_seconds: begin, local_minute });
            }
            shown = shown.max(end);
        }
    }

    /// Returns false for the 30th of February and the like: the years after any moment have all existing days.
    #[must_use]
    pub fn ever_comes(&self) -> bool {
        self.next(UnixMillis(0)).is_some()
    }
}

impl Expression {
    /// Returns the first matching minute of local time in `from..end`.
    fn next_minute(&self, from: i64, end: i64) -> Option<i64> {
        let mut day = from.div_euclid(MINUTES_PER_DAY);
        let mut date = date(day)?;
        let mut minute = from.rem_euclid(MINUTES_PER_DAY);
        while day * MINUTES_PER_DAY < end {
            // What never comes is looked for through years, at each poll.
            if self.months >> date.month() & 1 == 0 {
                let rest = date.days_in_month() - date.day() + 1;
                day += i64::from(rest);
                date = date.last_of_month().tomorrow().ok()?;
                minute = 0;
                continue;
            }
            if self.matches_day(date)
                && let Some(found) = self.next_minute_of_day(minute)
            {
                let found = day * MINUTES_PER_DAY + found;
                return (found < end).then_some(found);
            }
            day += 1;
            date = date.tomorrow().ok()?;
            minute = 0;
        }
        None
    }

    fn matches_day(&self, date: Date) -> bool {
        let has = |set: u64, value: i8| set >> value & 1 == 1;
        let in_month = has(self.days_of_month, date.day());
        let in_week = has(self.days_of_week, date.weekday().to_sunday_zero_offset());
        if self.is_either_day { in_month || in_week } else { in_month && in_week }
    }

    fn next_minute_of_day(&self, from: i64) -> Option<i64> {
        (from / 60..24).find_map(|hour| {
            let first = if hour == from / 60 { from % 60 } else { 0 };
            let minutes = self.minutes >> first;
            let is_match = self.hours >> hour & 1 == 1 && minutes != 0;
            is_match.then(|| hour * 60 + first + i64::from(minutes.trailing_zeros()))
        })
    }
}

/// Returns `None` beyond the year 9999.
fn date(days_since_1970: i64) -> Option<Date> {
    let midnight = Timestamp::from_second(days_since_1970.checked_mul(86_400)?).ok()?;
    Some(Offset::UTC.to_datetime(midnight).date())
}

impl Zone {
    /// Returns seconds east of UTC at a moment, and the Unix second at which the offset changes next.
    #[must_use]
    pub fn offset_at(&self, unix_seconds: i64) -> (i32, Option<i64>) {
        if let Some((until, offset)) = self.periods.iter().find(|(until, _)| unix_seconds < *until) {
            return (*offset, Some(*until));
        }
        let at = Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::MAX);
        let until = self.rule.following(at).next().map(|change| change.timestamp().as_second());
        (self.rule.to_offset(at).seconds(), until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
    /// Has half an hour of daylight saving time.
    const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
    const KOLKATA: &str = "IST-5:30";
    const ALL: [u64; 5] = [(1 << 60) - 1, EVERY_HOUR, (1 << 32) - 2, (1 << 13) - 2, (1 << 7) - 1];

    fn zone(rule: &str) -> Arc<Zone> {
        Arc::new(Zone { name: rule.to_owned(), periods: Vec::new(), rule: TimeZone::posix(rule).unwrap() })
    }

    fn expression(sets: [u64; 5], is_either_day: bool) -> Expression {
        let [minutes, hours, days_of_month, months, days_of_week] = sets;
        Expression { minutes, hours, days_of_month, months, days_of_week, is_either_day }
    }

    /// Every day at this time; every hour if `hour` is `None`.
    fn at(rule: &str, hour: Option<u64>, minute: u64) -> Recurrence {
        let hours = hour.map_or(EVERY_HOUR, |hour| 1 << hour);
        let sets = [1 << minute, hours, ALL[2], ALL[3], ALL[4]];
        Recurrence { expression: expression(sets, false), zone: zone(rule) }
    }

    fn daily(rule: &str, start: (u64, u64), end: (u64, u64)) -> Window {
        let (start, end) = (at(rule, Some(start.0), start.1), at(rule, Some(end.0), end.1));
        Window { start, end, desired_replicas: 4 }
    }

    fn time(text: &str) -> UnixMillis {
        UnixMillis(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    /// When the window opens and closes, found by following its own deadlines.
    fn edges(window: &Window, from: &str, until: &str) -> Vec<String> {
        let (mut now, until) = (time(from), time(until));
        let mut is_open = window.at(now).is_open;
        let mut edges = vec![if is_open { "open".to_owned() } else { "shut".to_owned() }];
        while let Some(next) = window.at(now).until.filter(|next| *next <= until) {
            assert_eq!(window.at(UnixMillis(next.0 - 1)).is_open, is_open, "nothing changes before {next:?}");
            now = next;
            let after = window.at(now).is_open;
            if after != is_open {
                let at = Timestamp::from_millisecond(now.0).unwrap();
                edges.push(format!("{} {}", if after { "opens" } else { "shuts" }, at.strftime("%d %H:%M")));
            }
            is_open = after;
        }
        edges
    }

    #[test]
    fn windows_open_and_shut_on_the_clocks_of_the_place() {
        for (name, window, from, until, expected) in [
            (
                "utc",
                daily("UTC0", (8, 0), (18, 30)),
                "2026-07-01T00:00:00Z",
                "2026-07-02T00:00:00Z",
                &["shut", "opens 01 08:00", "shuts 01 18:30"][..],
            ),
            (
                "across midnight",
                daily("UTC0", (22, 0), (6, 0)),
                "2026-07-01T00:00:00Z",
                "2026-07-02T00:00:00Z",
                &["open", "shuts 01 06:00", "opens 01 22:00"],
            ),
            (
                "a zone without daylight saving time",
                daily(KOLKATA, (9, 0), (17, 0)),
                "2026-03-29T00:00:00Z",
                "2026-03-30T00:00:00Z",
                &["shut", "opens 29 03:30", "shuts 29 11:30"],
            ),
            (
                "Berlin over the start of summer time",
                daily(BERLIN, (8, 0), (18, 0)),
                "2026-03-28T00:00:00Z",
                "2026-03-30T00:00:00Z",
                &["shut", "opens 28 07:00", "shuts 28 17:00", "opens 29 06:00", "shuts 29 16:00"],
            ),
            (
                "New York over its end",
                daily(NEW_YORK, (8, 0), (18, 0)),
                "2026-10-31T12:30:00Z",
                "2026-11-02T00:00:00Z",
                &["open", "shuts 31 22:00", "opens 01 13:00", "shuts 01 23:00"],
            ),
            (
                "a start that is skipped comes as it is skipped, and not the day before",
                daily(BERLIN, (2, 30), (6, 0)),
                "2026-03-28T04:30:00Z",
                "2026-03-30T04:00:00Z",
                &["open", "shuts 28 05:00", "opens 29 01:00", "shuts 29 04:00", "opens 30 00:30", "shuts 30 04:00"],
            ),
            (
                "an end that is skipped",
                daily(BERLIN, (22, 0), (2, 15)),
                "2026-03-28T22:00:00Z",
                "2026-03-29T21:00:00Z",
                &["open", "shuts 29 01:00", "opens 29 20:00"],
            ),
            (
                "a window that is skipped",
                daily(BERLIN, (2, 10), (2, 50)),
                "2026-03-28T12:00:00Z",
                "2026-03-30T12:00:00Z",
                &["shut", "opens 30 00:10", "shuts 30 00:50"],
            ),
            (
                "a start that is repeated counts once",
                daily(BERLIN, (2, 30), (6, 0)),
                "2026-10-24T12:00:00Z",
                "2026-10-25T12:00:00Z",
                &["shut", "opens 25 00:30", "shuts 25 05:00"],
            ),
            (
                "an end that is repeated counts once",
                daily(BERLIN, (22, 0), (2, 30)),
                "2026-10-24T21:00:00Z",
                "2026-10-25T12:00:00Z",
                &["open", "shuts 25 00:30"],
            ),
            (
                "a window around the repeated hour lasts two",
                daily(BERLIN, (2, 0), (3, 0)),
                "2026-10-24T12:00:00Z",
                "2026-10-25T12:00:00Z",
                &["shut", "opens 25 00:00", "shuts 25 02:00"],
            ),
            (
                "half an hour is skipped on Lord Howe",
                daily(LORD_HOWE, (2, 10), (4, 0)),
                "2026-10-03T00:00:00Z",
                "2026-10-03T20:00:00Z",
                &["shut", "opens 03 15:30", "shuts 03 17:00"],
            ),
            (
                "and repeated",
                daily(LORD_HOWE, (1, 45), (4, 0)),
                "2026-04-04T00:00:00Z",
                "2026-04-04T20:00:00Z",
                &["shut", "opens 04 14:45", "shuts 04 17:30"],
            ),
            (
                "an end on a start's own minute",
                Window { start: at("UTC0", None, 0), end: at("UTC0", Some(0), 0), desired_replicas: 1 },
                "2026-07-01T21:30:00Z",
                "2026-07-02T12:00:00Z",
                &["shut", "opens 01 23:00", "shuts 02 00:00"],
            ),
            (
                "every hour means every hour",
                Window { start: at(BERLIN, None, 0), end: at(BERLIN, None, 30), desired_replicas: 1 },
                "2026-10-24T23:45:00Z",
                "2026-10-25T01:45:00Z",
                &["shut", "opens 25 00:00", "shuts 25 00:30", "opens 25 01:00", "shuts 25 01:30"],
            ),
        ] {
            assert_eq!(edges(&window, from, until), expected, "{name}");
        }
    }

    #[test]
    fn what_never_comes() {
        let never =
            || Recurrence { expression: expression([1, 1, 1 << 30, 1 << 2, ALL[4]], false), zone: zone("UTC0") };
        let noon = || at("UTC0", Some(12), 0);
        let state = |start, end| Window { start, end, desired_replicas: 1 }.at(time("2026-07-01T00:00:00Z"));
        let at_noon = Some(time("2026-07-01T12:00:00Z"));
        assert_eq!(state(never(), noon()), WindowState { is_open: true, until: at_noon });
        assert_eq!(state(noon(), never()), WindowState { is_open: false, until: at_noon });
        assert_eq!(state(never(), never()), WindowState { is_open: true, until: None });
        assert!(!never().ever_comes() && noon().ever_comes());
    }

    #[test]
    fn periods_come_before_the_rule() {
        let change = time("2026-06-01T10:00:00Z").0 / 1000;
        let moved =
            Zone { name: "Moved".to_owned(), periods: vec![(change, 7_200)], rule: TimeZone::posix("XXX-3").unwrap() };
        let mut window = daily("UTC0", (13, 0), (14, 0));
        (window.start.zone, window.end.zone) = (Arc::new(moved.clone()), Arc::new(moved));
        let expected = ["shut", "opens 31 11:00", "shuts 31 12:00", "opens 01 10:00", "shuts 01 11:00"];
        assert_eq!(edges(&window, "2026-05-31T00:00:00Z", "2026-06-01T12:00:00Z"), expected);
    }

    /// The same minute by minute, by what clocks show, skip and repeat.
    fn next_by_walking(recurrence: &Recurrence, now: i64, minutes: i64) -> Option<i64> {
        let shows = |at: i64| (at + i64::from(recurrence.zone.offset_at(at).0)).div_euclid(60);
        let wanted = |local: i64| {
            let at = Offset::UTC.to_datetime(Timestamp::from_second(local * 60).unwrap());
            let e = &recurrence.expression;
            let is_in = |set: u64, value: i8| set & (1 << value) != 0;
            let (month_day, week_day) =
                (is_in(e.days_of_month, at.day()), is_in(e.days_of_week, at.weekday().to_sunday_zero_offset()));
            let is_day = if e.is_either_day { month_day || week_day } else { month_day && week_day };
            is_in(e.minutes, at.minute()) && is_in(e.hours, at.hour()) && is_in(e.months, at.month()) && is_day
        };
        let mut at = now.div_euclid(60) * 60 - 86_400;
        let mut newest = shows(at);
        while at <= now + minutes * 60 {
            at += 60;
            let local = shows(at);
            let is_repeated = local <= newest && recurrence.expression.hours != EVERY_HOUR;
            let comes = (newest + 1..=local).any(wanted) || !is_repeated && wanted(local);
            if at > now && comes {
                return Some(at);
            }
            newest = newest.max(local);
        }
        None
    }

    #[test]
    fn the_next_match_is_the_first_that_clocks_show() {
        let mut random = fastrand::Rng::with_seed(11);
        // Around the changes of clocks in 2026, and where there are none.
        let places = [
            (BERLIN, "03-29T01:00"),
            (BERLIN, "10-25T01:00"),
            (NEW_YORK, "03-08T07:00"),
            (NEW_YORK, "11-01T06:00"),
            (LORD_HOWE, "10-03T15:30"),
            (LORD_HOWE, "04-04T15:00"),
            (KOLKATA, "03-29T01:00"),
        ];
        let mut found = 0;
        for round in 0..700 {
            let (rule, change) = places[round % places.len()];
            let mut some = |all: u64, is_dense: bool| {
                let bits = all & random.u64(..);
                let bits = if is_dense { bits } else { bits & random.u64(..) & random.u64(..) };
                if bits == 0 || random.u8(0..3) == 0 { all } else { bits }
            };
            let mut sets =
                [some(ALL[0], false), some(ALL[1], false), some(ALL[2], true), some(ALL[3], true), some(ALL[4], true)];
            if random.bool() {
                // The hours that are skipped or repeated.
                sets[1] = 1 << random.u64(0..4);
                sets[2..].copy_from_slice(&ALL[2..]);
            }
            let recurrence = Recurrence { expression: expression(sets, random.bool()), zone: zone(rule) };
            let near = time(&format!("2026-{change}:00Z")).0 / 1000;
            let now = near + if random.bool() { random.i64(-9_000..9_000) } else { random.i64(-100_000..10_000) };
            let (walked, next) = (next_by_walking(&recurrence, now, 3_000), recurrence.next(UnixMillis(now * 1000)));
            let next = next.map(|found| found.unix_seconds);
            match walked {
                Some(_) => assert_eq!(next, walked, "round {round}: {recurrence:?} after {now}"),
                None => assert!(
                    next.is_none_or(|next| next > now + 3_000 * 60),
                    "round {round}: {recurrence:?} after {now}"
                ),
            }
            found += usize::from(walked.is_some());
        }
        assert!(found > 400, "{found}");
    }
}
