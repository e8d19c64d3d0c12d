//! The time that ages are measured by when rows are deleted.
//!
//! A wall clock that is months ahead for a minute, because of a bad answer of a time server, would make all of the
//! history expire. Deleting it some hours late costs nothing but space, of which the size cap is the limit.

use std::fmt;
use std::time::{Duration, Instant};

use super::rows::millis;

/// A wall clock that is no more than this ahead of what it should show is believed at once.
const AHEAD_MAX: Duration = Duration::from_hours(1);

/// A wall clock that is further ahead is believed after this time without another step.
const BELIEVED_AFTER: Duration = Duration::from_hours(6);

/// What the history keeps of the clock, in milliseconds since 1970: rows that were written while the wall clock was ahead
/// must not convince the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) believed_unix_ms: i64,
    /// What the wall clock showed when it was first seen to be too far ahead, if it is.
    pub(crate) ahead_since_unix_ms: Option<i64>,
}

impl Kept {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::parse);
        let believed_unix_ms = words.next()?.ok()?;
        Some(Self { believed_unix_ms, ahead_since_unix_ms: words.next().and_then(Result::ok) })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.believed_unix_ms)?;
        self.ahead_since_unix_ms.map_or(Ok(()), |since| write!(f, " {since}"))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AgeClock {
    begun: Instant,
    /// What the believed time has more than the monotonic clock since `begun`.
    believed_ms: i64,
    /// The same of a wall clock that is too far ahead, and what it showed when it was first seen there.
    ahead: Option<(i64, i64)>,
}

impl AgeClock {
    /// Believes the wall clock's time, unless it is far ahead of what an earlier process believed: at the start of a
    /// machine a clock is wrong most often.
    pub(crate) fn new(wall_unix_ms: i64, kept: Option<Kept>, now: Instant) -> Self {
        // Whether it was stepped between two processes cannot be seen. One that is not behind has stayed ahead.
        let since = kept.and_then(|kept| kept.ahead_since_unix_ms).filter(|since| *since <= wall_unix_ms);
        let mut clock = Self {
            begun: now,
            believed_ms: kept.map_or(wall_unix_ms, |kept| kept.believed_unix_ms),
            ahead: since.map(|since| (wall_unix_ms, since)),
        };
        clock.at(wall_unix_ms, now);
        clock
    }

    /// Returns the time, in milliseconds since 1970, which is never later than the wall clock's.
    pub(crate) fn at(&mut self, wall_unix_ms: i64, now: Instant) -> i64 {
        let elapsed_ms = millis(now.duration_since(self.begun));
        let shown_ms = wall_unix_ms.saturating_sub(elapsed_ms);
        if shown_ms <= self.believed_ms.saturating_add(millis(AHEAD_MAX)) {
            (self.believed_ms, self.ahead) = (shown_ms, None);
        } else {
            let is_same = |seen: i64| shown_ms.abs_diff(seen) <= millis(AHEAD_MAX).unsigned_abs();
            match self.ahead {
                Some((seen_ms, since)) if is_same(seen_ms) => {
                    if wall_unix_ms.saturating_sub(since) >= millis(BELIEVED_AFTER) {
                        (self.believed_ms, self.ahead) = (shown_ms, None);
                    }
                }
                _ => self.ahead = Some((shown_ms, wall_unix_ms)),
            }
        }
        self.believed_ms.saturating_add(elapsed_ms)
    }

    /// Returns what a later process has to know.
    pub(crate) fn kept(&mut self, wall_unix_ms: i64, now: Instant) -> Kept {
        let believed_unix_ms = self.at(wall_unix_ms, now);
        Kept { believed_unix_ms, ahead_since_unix_ms: self.ahead.map(|(_, since)| since) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock;
    use super::*;

    const HOUR: i64 = 3_600_000;
    const START: i64 = 1_767_225_600_000;

    fn known(believed_unix_ms: i64) -> Option<Kept> {
        Some(Kept { believed_unix_ms, ahead_since_unix_ms: None })
    }

    /// Regression: a process that started while the clock was months ahead believed it, and the history expired.
    #[test]
    fn at_a_start_the_newest_row_counts_against_a_clock_that_is_ahead() {
        let begun = clock::now();
        let ahead = START + 1_440 * HOUR;
        let mut clock = AgeClock::new(ahead, known(START), begun);
        assert_eq!(clock.at(ahead, begun), START);
        let minute = begun + Duration::from_secs(60);
        assert_eq!(clock.at(START + 120_000, minute), START + 120_000, "it was set right");
        // After a long pause the clock is right, which shows in that it stays.
        let mut clock = AgeClock::new(ahead, known(START), begun);
        let later = begun + Duration::from_hours(6);
        assert_eq!(clock.at(ahead + 6 * HOUR, later), ahead + 6 * HOUR);
        assert_eq!(AgeClock::new(ahead, None, begun).at(ahead, begun), ahead);
        let mut behind = AgeClock::new(START, known(ahead), begun);
        assert_eq!(behind.at(START, begun), START);
    }

    /// A machine that runs for some hours a day, or a process that starts often, believes a clock that is right all the same.
    #[test]
    fn the_six_hours_go_on_through_a_start() {
        let begun = clock::now();
        let ahead = START + 1_440 * HOUR;
        let mut first = AgeClock::new(ahead, known(START), begun);
        let kept = first.kept(ahead + 5 * HOUR, begun + Duration::from_hours(5));
        assert_eq!(kept, Kept { believed_unix_ms: START + 5 * HOUR, ahead_since_unix_ms: Some(ahead) });
        assert_eq!(Kept::parse(&kept.to_string()), Some(kept));
        let mut second = AgeClock::new(ahead + 5 * HOUR, Some(kept), begun);
        assert_eq!(second.at(ahead + 5 * HOUR, begun), START + 5 * HOUR);
        assert_eq!(second.at(ahead + 6 * HOUR, begun + Duration::from_hours(1)), ahead + 6 * HOUR);
        let known = second.kept(ahead + 6 * HOUR, begun + Duration::from_hours(1));
        assert_eq!((Kept::parse(&known.to_string()), known.ahead_since_unix_ms), (Some(known), None));
        // One that is behind where it was ahead was set right, and what it shows is judged anew.
        let mut right = AgeClock::new(START + 30 * HOUR, Some(kept), begun);
        assert_eq!(right.kept(START + 30 * HOUR, begun).ahead_since_unix_ms, Some(START + 30 * HOUR));
        assert_eq!(["", "x", "1 x"].map(|text| Kept::parse(text).is_some()), [false, false, true]);
    }

    #[test]
    fn a_step_forward_counts_once_it_has_lasted() {
        let begun = clock::now();
        // Hours on the monotonic clock, hours by which the wall clock is ahead of it, and those that are believed.
        for steps in [
            [(1, 2_000, 0), (2, 0, 0), (8, 2_000, 0), (9, 0, 0)].as_slice(),
            &[(1, 2_000, 0), (6, 2_000, 0), (7, 2_000, 2_000), (8, 2_000, 2_000)],
            // Another step begins anew, a small one and any backward count at once.
            &[(1, 2_000, 0), (6, 3_000, 0), (7, 3_000, 0), (12, 3_000, 3_000)],
            &[(1, 1, 1), (2, 2, 2), (3, -50, -50), (4, 0, -50), (10, 0, 0)],
        ] {
            let mut clock = AgeClock::new(START, None, begun);
            for (hours, ahead, believed) in steps {
                let now = begun + Duration::from_hours(u64::try_from(*hours).expect("hours"));
                let at = START + hours * HOUR;
                assert_eq!(clock.at(at + ahead * HOUR, now), at + believed * HOUR, "{steps:?}, {hours} h");
            }
        }
    }
}
